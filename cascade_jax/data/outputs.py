"""Which files of a folder this library has made, so that it never replaces another.

A hidden file in the folder holds the digest of each. A file that is not among them, or has been changed since (contours
corrected by hand, say), stays as it is and the command that would have replaced it ends before it has begun.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from cascade_jax.data.files import file_checksum, make_writable_folder, read_json, reading, write_text
from cascade_jax.errors import CaseError

_RECORD = ".cascade_jax.json"


def was_made_here(path: Path) -> bool:
    """Whether the folder of a file says that this library has made it, whatever has become of it since."""
    return path.name in _read_record(path.parent)


def has_outputs(folder: Path) -> bool:
    """Whether this library has written files into the folder."""
    return (folder / _RECORD).exists()


def refuse_full_folder(folder: Path) -> None:
    """Raises CaseError where a folder that is to hold one thing alone holds something already."""
    folder = Path(folder)
    with reading(folder):
        if folder.exists() and any(folder.iterdir()):
            raise CaseError(folder, "is not empty, and what is in it would be mixed with what comes: choose another")


def refuse_to_replace(folder: Path, names: Iterable[str]) -> None:
    """Raises CaseError where one of the files is there and was not made by this library, or has been changed since; or
    where it would lie outside the folder, behind a link, say; or where its name is too long for the disk.

    Args:
        folder: in which files are to be written.
        names: their paths in it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise CaseError(folder, "is not a folder")
    made = _read_record(folder)
    for name in names:
        path = folder / name
        with _writable(path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.parent.stat()  # links that lead to each other: `resolve` is silent about them since Python 3.13
            if not path.parent.resolve().is_relative_to(folder.resolve()):
                raise CaseError(path, "lies outside the output, by a link or by its name: choose another output")
            if path.is_dir():
                raise CaseError(path, "is a folder where a file is to be written: choose another output")
            if (path.exists() or path.is_symlink()) and not _is_ours(path, made.get(name, "")):
                raise CaseError(
                    path,
                    "is there already and was not made by this command, or was changed since: choose another output",
                )


@contextlib.contextmanager
def recording_outputs(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Remembers files that are written while the context lasts as this library's, also if it ends with an error.

    Raises:
        CaseError: as `refuse_to_replace`, or the folder cannot be written to.
    """
    folder, names = Path(folder), list(names)
    make_writable_folder(folder)
    with locked(folder):
        refuse_to_replace(folder, names)
        _update(folder, dict.fromkeys(names))  # so that a command that is killed finds its own files again
    try:
        yield
    finally:
        with locked(folder):
            _update(folder, {name: file_checksum(folder / name) if (folder / name).is_file() else "" for name in names})


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes this process the only one on this machine that changes the folder's tables, while the context lasts."""
    name = hashlib.sha256(os.fsencode(Path(folder).resolve())).hexdigest()[:32]
    with FileLock(Path(tempfile.gettempdir()) / f"cascade_jax-{name}.lock", mode=0o666):
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """What the operating system says against the name of a file, such as its length."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the second where links lead to each other
        raise CaseError(path, f"cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _is_ours(path: Path, digest: str | None) -> bool:
    return path.is_file() and not path.is_symlink() and (digest is None or file_checksum(path) == digest)


def _read_record(folder: Path) -> dict[str, str | None]:
    """{file: digest}; None for one that was being written when its command was killed."""
    path = folder / _RECORD
    if not path.exists():
        return {}
    try:
        return {str(name): digest for name, digest in read_json(path)["made"].items()}
    except (CaseError, KeyError, TypeError, AttributeError):
        raise CaseError(path, "is damaged: which files may be replaced is unknown") from None


def _update(folder: Path, digests: dict[str, str | None]) -> None:
    made = {name: digest for name, digest in (_read_record(folder) | digests).items() if digest != ""}
    if made:
        write_text(folder / _RECORD, json.dumps({"made": made}, indent=1))
    else:
        (folder / _RECORD).unlink(missing_ok=True)
