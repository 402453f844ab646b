"""A contestant in a process of its own.

    python -m launch.benchmarks.worker MODULE FUNCTION JSON

calls `launch.benchmarks.MODULE.FUNCTION(**JSON)`, which gets everything ready and returns a function that does the
work once, waits for its end, and returns how many units it did (None is one). For every line on the standard input it
does the work again, for five seconds at least, and answers with the seconds that one unit took; at the end of the
input it tells the most memory it held. Answers are JSON lines on the standard output; whatever else is printed goes to
the standard error.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from launch.console import command

_SHORTEST_TURN_SECONDS = 5.0  # a single step of a second or two says too little


def _seconds_of_a_unit(work: Callable[[], int | None]) -> float:
    start, units = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < _SHORTEST_TURN_SECONDS:
        units += work() or 1
    return passed / units


def _peak_bytes() -> int:
    """The most memory held so far: of the accelerator if this process used one, else of the process."""
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        return sys.modules["torch"].cuda.max_memory_allocated()
    if "jax" in sys.modules:
        statistics = sys.modules["jax"].local_devices()[0].memory_stats()
        if statistics:
            return statistics["peak_bytes_in_use"]
    return _host_bytes()


def _host_bytes() -> int:
    """The most memory of the machine that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get between the answers
    module, function, arguments = sys.argv[1:]
    work = getattr(importlib.import_module(f"launch.benchmarks.{module}"), function)(**json.loads(arguments))
    work()  # compiles, warms caches up
    print(json.dumps({"ready": True}), file=answers)
    for _ in sys.stdin:
        print(json.dumps({"seconds": _seconds_of_a_unit(work)}), file=answers)
    print(json.dumps({"peak_bytes": _peak_bytes(), "host_bytes": _host_bytes()}), file=answers)
    answers.close()


class Contestant:
    """The other side: starts a worker and talks to it.

    Args:
        target: "module.function".
        arguments: of the function.
        environment: added to this process's own.
        log: a file for what the worker prints.

    Raises:
        RuntimeError: the worker ended; the text is the last line it printed.
    """

    def __init__(self, target: str, arguments: dict, environment: dict[str, str], log):
        module, function = target.split(".")
        self._log = Path(log).open("w+")  # noqa: SIM115 closed in `close`
        self._process = subprocess.Popen(
            [*command("benchmarks.worker"), module, function, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        )
        self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            self._end()
            self._log.seek(0)
            printed = self._log.read().strip().splitlines()
            raise RuntimeError(printed[-1] if printed else "ended without a word")
        return json.loads(line)

    def run(self) -> float:
        """Seconds of one unit of work."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()["seconds"]

    def close(self) -> int:
        """Ends the worker; the most bytes it held."""
        self._process.stdin.close()
        answer = self._answer()
        self.host_bytes = answer["host_bytes"]  # the same of the machine's memory
        self._end()
        self._log.close()
        return answer["peak_bytes"]

    def _end(self) -> None:
        """Ends the worker and what it started, such as data loaders' processes, which would take time of the others."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


if __name__ == "__main__":
    main()
