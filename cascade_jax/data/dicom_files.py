"""The files of a folder or a zip archive that are DICOM, told by their first bytes, without a DICOM library.

What a file announces of itself is held against `LARGEST_FILE` and `LARGEST_TOTAL` before anything is read.
"""

import dataclasses
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cascade_jax.data.case import CaseError
from cascade_jax.data.formats import SUFFIXES

LARGEST_FILE, LARGEST_TOTAL = 2**31, 2**33  # bytes; a whole study of the heart has less than a tenth of the second
# What is packed may hold that many bytes, or so many times as many as it has: images of a heart pack to a fifth.
_UNPACKED_BYTES, _UNPACKED_TIMES = 2**28, 50

_HEAD = 1024  # bytes, in which a file has said what it is
_MAGIC_AT, _MAGIC = 128, b"DICM"
# What a file without the prefix begins with: the number of an element of group 2 or 8, and its kind or its size.
_FIRST_ELEMENT = re.compile(rb"[\x02\x08]\x00[\x00-\x18]\x00(?:[A-Z]{2}|[\x02-\xff][\x00-\x03]\x00\x00)", re.DOTALL)
UIDS = b"1.2.840.10008."  # what the standard's own identifiers begin with
DEFLATED = UIDS + b"1.2.1.99"
_DERIVED = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?:66\.[47]|88\.\d+)(?![\d.])")  # segmentations, reports
_MOST_NUMBERS_LISTED = 6


@dataclasses.dataclass
class SkippedFiles:
    """Files that are not used: by number, in the order of their names, since a name may be a patient's.

    Attributes:
        total: how many files there are.
        numbers: {reason: the files' numbers, from 1}.
    """

    total: int = 0
    numbers: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    def add(self, number: int, reason: str) -> None:
        self.numbers.setdefault(reason, []).append(number)

    def lines(self) -> list[str]:
        """A line for each reason."""
        result = []
        for reason, numbers in self.numbers.items():
            listed = ", ".join(map(str, numbers[:_MOST_NUMBERS_LISTED]))
            listed += ", ..." if len(numbers) > _MOST_NUMBERS_LISTED else ""
            files = "1 file" if self.total == 1 else f"{self.total} files"
            result.append(f"skipped {len(numbers)} of {files}: {reason} (by order of name: {listed})")
        return result


def dicom_start(head: bytes) -> int | None:
    """Where in a file its preamble or, if it has none, its first element lies; None if it is not DICOM.

    Args:
        head: its first bytes, 140 or more where it has them.
    """
    if head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC:
        return 0
    after = _MAGIC_AT + len(_MAGIC)
    return next((start for start in (0, _MAGIC_AT, after) if _FIRST_ELEMENT.match(head, start)), None)


def dicom_contents(
    source: Path, skipped: SkippedFiles, files: Sequence[Path] | None = None
) -> Iterator[tuple[Path, int, bytes, bool]]:
    """Every DICOM file of a folder, at any depth, or of a zip archive; or the one that `source` is.

    Files in an archive go by number, in the order of their names, which may be a patient's.

    Args:
        source: the folder or file.
        skipped: takes note of the files that are not DICOM.
        files: those of a folder that are meant; None means all.

    Yields:
        Where it lies, its number, what it holds from its preamble or first element on, and whether it has the prefix.

    Raises:
        CaseError: the source is missing or none of these; something in it cannot be read or announces a size that
            cannot be.
    """
    total, packed = 0, source.stat().st_size if source.is_file() else 0
    for path, number, size, read in _files(source, skipped, files):
        if read is None:
            skipped.add(number, "no ordinary file")
            continue
        head = read(_HEAD)
        start = dicom_start(head)
        if start is None:
            if source == path:
                raise CaseError(source, "is neither a folder nor a zip archive of DICOM files")
            archive = head.startswith(b"PK\x03\x04")
            skipped.add(number, "an archive, to be unpacked or given alone" if archive else "not DICOM")
            continue
        if size > LARGEST_FILE:
            raise CaseError(path, f"announces {_gigabytes(size)}, more than a scan of a heart has")
        packed += 0 if source.is_file() else size
        most = min(LARGEST_TOTAL, max(_UNPACKED_BYTES, _UNPACKED_TIMES * packed))
        total += size
        _check_total(source, total, most)
        content = read(size)[start:]
        total += check_deflated(path, content, most - total)
        yield path, number, content, head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC


def holds_dicom_and_other_images(source: Path) -> tuple[bool, bool]:
    """Whether a folder, at any depth, or a zip archive has DICOM images, and whether it has image files of
    another format (`formats.SUFFIXES`).

    Segmentations and reports in DICOM are no images. What cannot be read counts as neither; an archive that cannot be
    read counts as one of DICOM, for its reader to say what is wrong with it.
    """
    source = Path(source)
    images = others = is_archive = False
    try:
        is_archive = source.is_file() and zipfile.is_zipfile(source)
        if is_archive:
            with zipfile.ZipFile(source) as archive:
                for info in archive.infolist():
                    if info.filename.lower().endswith(SUFFIXES):
                        others = True
                    elif not images and _is_file(info):
                        with archive.open(info) as file:
                            images = is_image(file.read(_HEAD))
            return images, others
        if source.is_file():
            with source.open("rb") as file:
                return is_image(file.read(_HEAD)), False
    except Exception:  # zipfile raises many kinds
        return is_archive, False
    for folder, _, names in os.walk(source):
        for name in names:
            if name.lower().endswith(SUFFIXES):
                others = others or not name.startswith(".")
            elif not images:
                try:
                    path = os.path.join(folder, name)
                    if stat.S_ISREG(os.stat(path).st_mode):
                        with open(path, "rb") as file:
                            images = is_image(file.read(_HEAD))
                except OSError:
                    continue
    return images, others


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this (1024 bytes or more, where it has them) is an image in DICOM.

    Also of a file without the prefix, if it has one of DICOM's identifiers: other files may begin like one."""
    start = dicom_start(head)
    named = head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC or UIDS in head
    return start is not None and named and not _DERIVED.search(head)


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.3g} GB"


def _files(source: Path, skipped: SkippedFiles, files: Sequence[Path] | None = None):
    """Path, number, size, and what reads its first bytes (None where it is no ordinary file), of every file."""
    try:
        mode = os.stat(source).st_mode
    except FileNotFoundError:
        raise CaseError(source, "no such file or folder") from None
    except OSError as error:
        raise CaseError(source, f"cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        paths = sorted(_walk(source) if files is None else files)
        skipped.total = len(paths)
        for number, path in enumerate(paths, 1):
            try:
                state = path.stat()
            except OSError as error:  # a slice may be missing
                broken = isinstance(error, FileNotFoundError)
                fault = "is a link without a target" if broken else f"cannot be read: {error.strerror}"
                raise CaseError(path, fault) from None
            ordinary = stat.S_ISREG(state.st_mode)
            yield path, number, state.st_size, _reader(path) if ordinary else None
    elif not stat.S_ISREG(mode):
        raise CaseError(source, "is neither a folder nor a zip archive of DICOM files")
    elif _is_archive(source):
        yield from _members(source, skipped)
    else:
        skipped.total = 1
        yield source, 1, os.path.getsize(source), _reader(source)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file, also behind links to folders, each folder once.

    Raises:
        CaseError: a folder cannot be read; files of the stack might be in it.
    """

    def refuse(error: OSError) -> None:
        raise CaseError(error.filename, f"cannot be read: {error.strerror}") from None

    seen = set()
    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        state = os.stat(here)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        yield from (Path(here, name) for name in names)


def _reader(path: Path):
    def read(count: int) -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(count)
        except OSError as error:
            raise CaseError(path, f"cannot be read: {error.strerror}") from None

    return read


def _is_archive(source: Path) -> bool:
    try:
        return zipfile.is_zipfile(source)
    except OSError as error:
        raise CaseError(source, f"cannot be read: {error.strerror}") from None


def _is_file(info: zipfile.ZipInfo) -> bool:
    """Whether an archive's member is a file; one without a name is none."""
    return bool(info.filename) and not info.is_dir()


def _members(source: Path, skipped: SkippedFiles):
    """As `_files`, of a zip archive, whose members may be named like their patient and say any size."""

    def damaged() -> CaseError:
        return CaseError(source, "cannot be read: it is encrypted or damaged")

    try:
        archive = zipfile.ZipFile(source)
    except Exception:  # zipfile raises many kinds
        raise damaged() from None
    with archive:
        members = sorted(filter(_is_file, archive.infolist()), key=lambda info: info.filename)
        skipped.total = len(members)

        def reader(info: zipfile.ZipInfo):
            def read(count: int) -> bytes:
                try:
                    with archive.open(info) as file:
                        return file.read(count)
                except Exception:  # as above
                    raise damaged() from None

            return read

        for number, info in enumerate(members, 1):
            yield source / f"file {number} of {len(members)}", number, info.file_size, reader(info)


def _check_total(source: Path, total: int, most: int) -> None:
    if total > LARGEST_TOTAL:
        limit = _gigabytes(LARGEST_TOTAL)
        raise CaseError(source, f"holds more than {limit} of DICOM files: give it one study at a time")
    if total > most:
        raise CaseError(source, f"unpacks to {_gigabytes(total)} or more, which no scan of a heart of its size does")


def check_deflated(path: Path, content: bytes, most: int = _UNPACKED_BYTES) -> int:
    """How many bytes a file of deflated DICOM holds when it is inflated, 0 where it is not deflated.

    Args:
        path: of the file.
        content: from its preamble or first element on.
        most: how many bytes it may hold, `LARGEST_FILE` at most.

    Raises:
        CaseError: it holds more, or it is damaged.
    """
    if DEFLATED not in content:
        return 0
    start = _deflated_from(path, content)
    if start is None:
        return 0
    most = min(most, LARGEST_FILE)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left, size = content[start:], 0
    try:
        while left and not inflater.eof:
            size += len(inflater.decompress(left, 2**24))
            left = inflater.unconsumed_tail
            if size > most:
                raise CaseError(path, f"inflates to more than {_gigabytes(most)}")
    except zlib.error:
        raise CaseError(path, "is damaged: it cannot be inflated") from None
    return size


def _deflated_from(path: Path, content: bytes) -> int | None:
    """Where what is deflated begins, behind the elements of group 2, which are not; None where nothing is deflated.

    Raises:
        CaseError: those elements are not as the standard has them, so that the place is in doubt.
    """
    place = _MAGIC_AT + len(_MAGIC) if content[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC else 0
    deflated = False
    while content[place : place + 2] == b"\x02\x00":
        kind = content[place + 4 : place + 6]
        if kind in (b"OB", b"UR"):
            first, length = place + 12, int.from_bytes(content[place + 8 : place + 12], "little")
        elif kind in (b"UL", b"UI", b"SH", b"AE"):
            first, length = place + 8, int.from_bytes(content[place + 6 : place + 8], "little")
        else:
            raise CaseError(path, "is damaged: how its content is written is in doubt")
        if content[place + 2 : place + 4] == b"\x10\x00":
            deflated = deflated or DEFLATED in content[first : first + length]
        place = first + length
    return place if deflated else None
