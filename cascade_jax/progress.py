"""What a command shows while it runs: a bar on a terminal, plain lines where it is piped."""

import sys
from collections.abc import Callable, Iterable

from tqdm import tqdm

# What wraps a loop: (what is looped over, its description) -> the same, with a bar.
Progress = Callable[[Iterable, str], Iterable]


def bar(iterable: Iterable, description: str, total: int | None = None) -> Iterable:
    """Iterates with a progress bar on a terminal, and with one line at the start when piped."""
    if sys.stderr.isatty():
        return tqdm(iterable, desc=description, total=total, dynamic_ncols=True)
    print(description, file=sys.stderr, flush=True)
    return iterable


def say(line: str) -> None:
    """Prints a line, above the bar if one is shown."""
    tqdm.write(line)
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as short as they can be read: 3:05:09 or 4:07."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
