"""One run as several processes, on one host or many: their flags, and how each of them starts and ends.

When another process dies, JAX's runtime ends this one from a thread of its own, with a log of many lines and no word to
Python. What trains is therefore a child process; its parent passes on what it prints, and puts one line in the place of
that log.
"""

import atexit
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import IO

from absl import flags

from cascade_jax.errors import ConfigError, LostError
from cascade_jax.stopping import Stopped

_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "One run as several processes: host:port of process 0, the same for all."
)
_COUNT = flags.DEFINE_integer("num_processes", None, "How many processes there are.", lower_bound=1)
_INDEX = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Ask the cluster for these three: SLURM, Open MPI, Kubernetes, TPU pods."
)

# Asks the process that trains to stop. Clusters send SIGTERM to parent and child, a terminal SIGINT, and two of one
# kind would mean: at once.
_STOP = getattr(signal, "SIGUSR2", None)
_OF_RUNTIME = re.compile(rb"([IWEF])\d{4} [\d:.]+ +\d+ (?:coordination_service\w*|client|service|grpc_\w+)\.(?:cc|h):")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG; see prctl(2)


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Makes this process one of those that the flags ask for, while the context lasts; without flags, of one.

    Raises:
        ConfigError: the flags do not fit together, there is no cluster, or the others do not come.
    """
    if not _asked_for():
        yield
        return
    _become_child()
    try:
        from cascade_jax import processes

        processes.join(_COORDINATOR.value, _COUNT.value, _INDEX.value)
        with processes.naming_a_loss():
            yield
    except BaseException as error:
        if not isinstance(error, Stopped):  # which all have agreed on
            # JAX would wait at the exit for the others, which wait for this process.
            atexit.register(_leave, 1)
        raise


def _asked_for() -> bool:
    """Whether the flags ask for several processes."""
    given = {flag.name: flag.value is not None for flag in (_COORDINATOR, _COUNT, _INDEX)}
    if _DISTRIBUTED.value:
        if any(given.values()):
            raise ConfigError(
                "distributed asks the cluster for coordinator, num_processes and process_id: leave these out"
            )
        return True
    if not any(given.values()):
        return False
    if missing := [name for name, there in given.items() if not there]:
        raise ConfigError(f"one run as several processes needs --{' and --'.join(missing)} too")
    if _INDEX.value >= _COUNT.value:
        raise ConfigError(f"process_id is {_INDEX.value}; of {_COUNT.value} processes the last is {_COUNT.value - 1}")
    if not re.fullmatch(r".+:\d+", _COORDINATOR.value):
        raise ConfigError(f"coordinator is {_COORDINATOR.value!r}; it is host:port")
    return _COUNT.value > 1


def _leave(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def _become_child() -> None:
    """Returns in a child process; the parent passes on what that prints on standard error, and ends with its status."""
    if not hasattr(os, "fork"):
        raise ConfigError("one run as several processes needs Linux or macOS")
    read, write = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child:
        os.close(write)
        _leave(_watch(child, read))
    os.close(read)
    os.dup2(write, 2)
    os.close(write)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    stop = signal.getsignal(signal.SIGTERM)
    signal.signal(_STOP, lambda _, frame: stop(signal.SIGTERM, frame))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _watch(child: int, read: int) -> int:
    """Passes on what a child prints on standard error, and signals to it; its exit status."""
    asked = []

    def stop(number, _):
        os.kill(child, signal.SIGKILL if asked else _STOP)
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with os.fdopen(read, "rb") as lines:
        said, lost = relay(lines, sys.stderr.buffer)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status and not said:
        ended = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        what = LostError(_INDEX.value, _COUNT.value) if lost else ended
        print(f"error: {what}", file=sys.stderr)
    if asked and status:
        return 128 + asked[0]
    return status if status >= 0 and not lost else 1


def relay(lines: Iterable[bytes], to: IO[bytes]) -> tuple[bool, bool]:
    """Passes lines on, but for what JAX's runtime logs of the processes' connections.

    Returns:
        Whether the last lines were an error in plain words, and whether the runtime has lost another process.
    """
    said = lost = False
    for line in lines:
        if match := _OF_RUNTIME.match(line):
            lost = lost or match[1] in b"EF"
            continue
        said = said or line.startswith(b"error: ")
        if not lost or line.startswith(b"error: "):  # its messages go on over several lines
            to.write(line)
            to.flush()
    return said, lost
