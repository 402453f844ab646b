"""Files that are complete or not there."""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_jax.errors import CaseError

# Far more than any text or table here has. In memory JSON takes up to 25 times as much.
_LARGEST_TEXT = 2**25
_DEEPEST_JSON = 64
_MOST_COLUMNS = 2000  # a row that is short takes as much memory as a full one


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the operating system says against reading a path, said as a CaseError."""
    try:
        yield
    except FileNotFoundError:
        raise CaseError(path, "no such file or folder") from None
    except NotADirectoryError:
        raise CaseError(path, "is not a folder") from None
    except OSError as error:
        raise CaseError(path, f"cannot be read: {error.strerror or error}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the context ends without an error.

    Raises:
        CaseError: the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            partial.unlink(missing_ok=True)  # what a killed process left, or a link to somewhere else
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise CaseError(path, f"cannot be written: {error.strerror or error}") from None


def make_writable_folder(folder: Path) -> None:
    """Makes a folder where it is missing, and finds out now, not after hours, whether it can be written to.

    Raises:
        CaseError: it cannot.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CaseError(folder, f"cannot be written to: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file.

    Raises:
        CaseError: the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping]) -> None:
    """Writes rows of the same columns as CSV, numbers with four digits; NaN and None become empty fields.

    Raises:
        CaseError: the file cannot be written.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(list(rows[0]) if rows else ["case"])
        for row in rows:
            writer.writerow([_field(value) for value in row.values()])


def _field(value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8, with or without a byte order mark, whose lines end as they may.

    Raises:
        CaseError: the file cannot be read, is no text, or is larger than any that is read here.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_TEXT + 1)
    except OSError as error:
        raise CaseError(path, f"cannot be read: {error.strerror or error}") from None
    if len(content) > _LARGEST_TEXT:
        raise CaseError(path, f"is larger than {_LARGEST_TEXT >> 20} MB, which no file of its kind is")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise CaseError(path, "is not a text file, or is damaged") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        CaseError: the file cannot be read, is no JSON, or is nested deeper than any that is read here.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise CaseError(path, f"is not JSON: {error}" if text.strip() else "is empty") from None


def parse_json(text: str) -> Any:
    """What a JSON file says; raises ValueError where it is none, or nested deeper than any that is read here."""
    too_deep = ValueError(f"it is nested deeper than {_DEEPEST_JSON} levels")
    try:
        value = json.loads(text)
    except RecursionError:
        raise too_deep from None
    depth, level = 0, [value]
    while level := [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]:
        depth += 1
        if depth > _DEEPEST_JSON:
            raise too_deep
    return value


def _inside(value: dict | list) -> Iterable:
    return value.values() if isinstance(value, dict) else value


def read_table(path: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a CSV file.

    Args:
        path: the file.
        needed: columns that it must have.

    Yields:
        The number of the last line of each row, from 1, and {column: field}, where a row is short with empty fields.

    Raises:
        CaseError: the file cannot be read, is no CSV, has more columns than any that is read here, or lacks one.
    """
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
    try:
        columns = rows.fieldnames or ()
        if len(columns) > _MOST_COLUMNS:
            raise CaseError(path, f"has {len(columns)} columns, more than {_MOST_COLUMNS}")
        for column in needed:
            if column not in columns:
                raise CaseError(path, f"has no column {column}")
        for row in rows:
            yield rows.line_num, {name: field for name, field in row.items() if name is not None}
    except csv.Error as error:
        raise CaseError(path, f"is not a CSV file: {error}") from None


def file_checksum(path: Path) -> str:
    """The SHA-256 of what stands in a file; raises CaseError if it cannot be read."""
    with reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
