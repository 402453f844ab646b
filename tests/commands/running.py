"""A command as it is typed, without the seconds that a new interpreter takes to load what it computes with.

A server that has loaded it forks for each command. It computes nothing itself: JAX may not be forked once it has.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
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


def run(
    module: str, words: list[str], folder: Path, until: Callable[[str], bool] | None = None
) -> subprocess.CompletedProcess:
    """Runs a module with a folder as the working one.

    Args:
        module: its name.
        words: its arguments.
        folder: where it works.
        until: of a command that goes on until Ctrl-C: whether it is time for that, by what it has said.

    Returns:
        As of `subprocess.run`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    with tempfile.TemporaryDirectory() as said:
        output, error = Path(said) / "output", Path(said) / "error"
        arguments = (module, words, folder, (output, error), dict(os.environ))
        process = context.Process(target=_start, args=arguments)
        process.start()
        deadline = time.monotonic() + _SECONDS
        while until and process.is_alive() and time.monotonic() < deadline:
            if until("".join(path.read_text() for path in (output, error) if path.exists())):
                os.kill(process.pid, signal.SIGINT)
                break
            time.sleep(0.05)
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        texts = (file.read_text(errors="replace") for file in (output, error))
        return subprocess.CompletedProcess([module, *words], process.exitcode, *texts)


def _start(module: str, words: list[str], folder: Path, said: tuple[Path, Path], environment: dict[str, str]) -> None:
    os.chdir(folder)
    for stream, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.clear()
    # Its path too, for the processes that it starts.
    os.environ.update(environment, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
