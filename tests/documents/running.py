"""A command as it is typed, without the seconds that a new interpreter takes to load what it computes with.

A server that has loaded it forks for each command. It computes nothing itself: JAX may not be forked once it has.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_LOADED = (
    "jax",
    "cascade_jax.commands.train",
    "cascade_jax.commands.predict",
    "cascade_jax.commands.review",
    "cascade_jax.commands.study",
    "cascade_jax.report.page",
    "highdicom",
    "orbax.checkpoint",
)
_SECONDS = 900


def words_of(typed: str, folder: Path, **variables: str) -> list[str]:
    """What a shell that stands in a folder makes of a line: quotes, variables and patterns."""
    shell = ["bash", "-c", f"for word in {typed}; do printf '%s\\0' \"$word\"; done"]
    result = subprocess.run(shell, cwd=folder, env=os.environ | variables, capture_output=True, check=True)
    return result.stdout.decode().split("\0")[:-1]


def run(module: str, words: list[str], folder: Path, until: Callable[[Path], bool] | None = None) -> tuple[int, str]:
    """Runs a module with a folder as the working one.

    Args:
        module: its name.
        words: its arguments.
        folder: where it works.
        until: of a command that goes on until Ctrl-C: whether it is time for that, by the file of what it has said.

    Returns:
        The exit status and all that it said.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    said = folder / ".said"
    said.unlink(missing_ok=True)
    process = context.Process(target=_start, args=(module, words, folder, said))
    process.start()
    deadline = time.monotonic() + _SECONDS
    while until and process.is_alive() and time.monotonic() < deadline:
        if said.exists() and until(said):
            os.kill(process.pid, signal.SIGINT)
            break
        time.sleep(0.05)
    process.join(max(0.0, deadline - time.monotonic()))
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode, said.read_text(errors="replace")


def _start(module: str, words: list[str], folder: Path, said: Path) -> None:
    os.chdir(folder)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # for the processes that it starts
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
