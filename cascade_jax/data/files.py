"""Files that are complete or not there."""

import contextlib
import csv
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_jax.errors import CaseError


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
    """Reads a text file.

    Raises:
        CaseError: the file cannot be read, or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise CaseError(path, f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CaseError(path, "is damaged: it is no text") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        CaseError: the file cannot be read, or is no JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise CaseError(path, f"is not JSON: {error}" if text.strip() else "is empty") from None


def file_checksum(path: Path) -> str:
    """The SHA-256 of what stands in a file; raises CaseError if it cannot be read."""
    with reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
