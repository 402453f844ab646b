"""Tables of texts, for Markdown and for a terminal, and numbers as texts."""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """A table of texts.

    Attributes:
        title: what it shows.
        header: of the columns, the first one empty.
        rows: a name and the cells.
        note: how it is meant.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def percent(value: float) -> str:
    """A fraction in percent, with two decimals."""
    return f"{100 * value:.2f}"


def plain(value: float) -> str:
    """With two decimals."""
    return f"{value:.2f}"


def number(value: float | None, form: Callable[[float], str] = plain) -> str:
    """A number, or "-" if it is undefined: NaN, which is None where it was read from JSON."""
    return "-" if value is None or math.isnan(value) else form(value)


def interval_text(interval: Sequence[float | None], form: Callable[[float], str] = plain) -> str:
    """An interval from its two ends; "-" if it is undefined."""
    ends = [number(end, form) for end in interval]
    return "-" if "-" in ends else " to ".join(ends)


def estimate_text(value: float | None, interval: Sequence[float | None], form: Callable[[float], str] = plain) -> str:
    """A number with its interval in brackets; without where that is undefined."""
    text, ends = number(value, form), interval_text(interval, form)
    return text if ends == "-" else f"{text} ({ends})"


def in_markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.header)} |".replace("|  |", "| |")]
    lines.append("|---" * len(table.header) + "|")
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join([*lines, "", table.note]) + "\n"


def aligned(table: Table) -> str:
    """A table for a terminal: the columns are as wide as their widest cell, the note is wrapped."""
    columns = list(zip(table.header, *table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [table.title]
    for first, *cells in (table.header, *table.rows):
        rest = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(f"{first:<{widths[0]}}{rest}")
    return "\n".join([*lines, textwrap.fill(table.note, 100)])
