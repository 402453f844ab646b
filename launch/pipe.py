"""What a command prints may be read by a program that soon has enough, as `head` does."""

import contextlib
import os
import sys
from collections.abc import Iterator

_PIPE_CLOSED = 141  # what a shell says of a program that a closed pipe has ended


@contextlib.contextmanager
def reader_may_leave(status: int = _PIPE_CLOSED) -> Iterator[None]:
    """Ends the process with that status, and without a word, where nobody reads any more what it prints."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left must not be tried again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(status)
