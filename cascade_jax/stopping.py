"""Leaving a training when the system or the user asks for it: at once, or after the step that runs, with it saved."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Raised where a signal asked to stop; its text says where, `status` is the exit status that shells expect."""

    def __init__(self, number: int, where: str = ""):
        super().__init__(f"{signal.Signals(number).name}: stopped{where}; run the same command again to go on")
        self.status = 128 + number


class _Requests:
    """For how many trainings a stop waits for the end of a step, and which signal has asked for one."""

    def __init__(self):
        self.deferring, self.number, self.lock = 0, None, threading.Lock()

    def handle(self, number: int, _frame) -> None:
        if self.deferring and self.number is None:
            self.number = number
            print("stopping after this step; once more stops at once", file=sys.stderr, flush=True)
        else:
            raise Stopped(number)


_requests = _Requests()


@contextlib.contextmanager
def handling_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped`; only in the main thread, which alone may handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _requests.handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def after_the_step() -> Iterator[Callable[[Callable[[], str]], None]]:
    """Signals wait until the function that this gives is called.

    That calls what it is given, which saves and returns where training stands, and raises `Stopped`, if a signal has
    come; else it does nothing. A second signal raises at once. Where several threads train, each stops after its step.
    """

    def check(save: Callable[[], str]) -> None:
        if _requests.number is not None:
            raise Stopped(_requests.number, save())

    with _requests.lock:
        _requests.deferring += 1
    ended_well = False
    try:
        yield check
        ended_well = True
    finally:
        with _requests.lock:
            _requests.deferring -= 1
            if not ended_well and not _requests.deferring:
                _requests.number = None


def is_asked() -> bool:
    """Whether a signal has come that waits for the end of a step."""
    return _requests.number is not None


def stop_if_asked(where: str) -> None:
    """Raises `Stopped` where a signal came during a step that was the last."""
    number = _requests.number
    if number is not None:
        if not _requests.deferring:
            _requests.number = None
        raise Stopped(number, where)


def ask() -> None:
    """Asks this process's trainings to stop after their step, as a signal does: of other threads, or where another
    process has got the signal. Until `forget`."""
    _requests.number = _requests.number or signal.SIGTERM


def forget() -> None:
    """Takes back what `ask` or a signal asked for, when no training is left that could stop."""
    _requests.number = None
