"""Folders that belong to one run at a time: a whole working folder, or one fold of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock
from absl import logging

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import make_writable_folder

_POLL_SECONDS = 1.0


class FolderInUse(CaseError):
    """A folder that another run has claimed."""


class Claim:
    """A folder that is this run's alone, until it is let go.

    The lock is the operating system's, which takes it from a process that dies. Runs on several machines see each
    other's where their shared file system has locks that reach all of them.
    """

    def __init__(self, folder: Path, wait: bool):
        make_writable_folder(folder)
        self._folder, self._wait = folder, wait
        self._lock = filelock.FileLock(folder / ".lock")
        self._acquire()

    def _acquire(self) -> None:
        try:
            try:
                self._lock.acquire(blocking=False)
            except filelock.Timeout:
                if not self._wait:
                    raise
                logging.warning("waiting for another run, which has %s in use", self._folder)
                self._lock.acquire(poll_interval=_POLL_SECONDS)
        except filelock.Timeout:  # which is an OSError too
            raise FolderInUse(self._folder, "is in use by another run") from None
        except (OSError, NotImplementedError) as error:
            raise CaseError(self._folder, f"cannot be locked: {error}") from None

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Lets others have the folder while the context lasts. An error in it leaves the folder to them."""
        self._lock.release()
        yield
        self._acquire()

    def release(self) -> None:
        self._lock.release()


@contextlib.contextmanager
def claim(folder: Path, *, wait: bool = False) -> Iterator[Claim]:
    """Makes the folder this run's alone, for as long as the context lasts.

    Args:
        folder: which is made if it is not there.
        wait: until a run that has it lets it go, with a line that says so.

    Raises:
        FolderInUse: another run has it and `wait` is not set.
        CaseError: the folder cannot be written to, or not be locked.
    """
    claimed = Claim(folder, wait)
    try:
        yield claimed
    finally:
        claimed.release()
