"""Which DICOM files are of one study, and in which folder a study lies.

Only what is at the beginning of a file is read.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cascade_jax.data.case import CaseError
from cascade_jax.data.dicom_files import (
    DEFLATED,
    LARGEST_FILE,
    SkippedFiles,
    check_deflated,
    dicom_contents,
    dicom_start,
    is_image,
)
from cascade_jax.extras import missing

_HEAD = 1024  # bytes
_BEGINNING = 2**20  # bytes, in which a file has said of which study it is
IDENTIFIERS = ("PatientName", "PatientID", "PatientBirthDate")
_SHORTEST_WORD = 3  # of a name or number that a folder is searched for


@dataclasses.dataclass(frozen=True)
class Study:
    """The images of one study.

    Attributes:
        key: by which it is known again; nothing of the patient's.
        folder: the highest one below the root that has no other study's images, else the lowest that has all of its.
        files: sorted.
        number: from 1, where its folder has other studies' images too; else 0.
    """

    key: str
    folder: Path
    files: tuple[Path, ...]
    number: int = 0


def study_of(path: Path) -> str | None:
    """What the study of a DICOM image is known by; None where the file is none.

    Files that do not say of which study they are belong to that of their folder.

    Raises:
        CaseError: the file cannot be read, or the library for DICOM is not installed.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if not is_image(head):
                return None
            if install := missing("dicom"):
                raise CaseError(path, f"is DICOM, which needs {install}")
            file.seek(0)
            content = file.read(_BEGINNING)
            if DEFLATED in content:  # which can only be read whole
                content += file.read(LARGEST_FILE)
            uid = _first_words(path, content[dicom_start(head) :]).get("StudyInstanceUID")
    except OSError as error:
        raise CaseError(path, f"cannot be read: {error.strerror}") from None
    return str(uid or f"folder {path.parent}")


def _first_words(path: Path, content: bytes) -> Mapping:
    """Study and patient, as a DICOM file has them; nothing where it is damaged, which its reader will say."""
    try:
        import pydicom

        check_deflated(path, content)
        file = io.BytesIO(content)
        tags = ["StudyInstanceUID", *IDENTIFIERS]
        dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=tags)
        return {name: str(dataset.get(name) or "") for name in tags}
    except Exception:  # pydicom raises many kinds
        return {}


def group_studies(studies: Mapping[str, Sequence[Path]], root: Path) -> list[Study]:
    """Studies with their folders.

    Args:
        studies: {what a study is known by: its files}.
        root: the folder that all lie in, or the one file.
    """
    below: dict[Path, set[str]] = {}
    for uid, files in studies.items():
        for folder in {folder for path in files for folder in path.parents}:
            below.setdefault(folder, set()).add(uid)
    found = []
    for uid, files in studies.items():
        folder = Path(os.path.commonpath([path.parent for path in files]))
        while (
            len(below[folder]) == 1
            and root in folder.parents
            and folder.parent != root
            and len(below[folder.parent]) == 1
        ):
            folder = folder.parent
        found.append((folder, sorted(files), uid))
    shared = Counter(folder for folder, _, _ in found)
    taken: Counter[Path] = Counter()
    result = []
    for folder, files, uid in sorted(found):
        several = shared[folder] > 1
        taken[folder] += 1
        key = hashlib.sha256(uid.encode(errors="surrogateescape")).hexdigest()[:16]
        result.append(Study(key, folder, tuple(files), taken[folder] if several else 0))
    return result


def read_patient(source: Path, files: Sequence[Path]) -> dict[str, str]:
    """{`IDENTIFIERS`: what the study has}, of its first image; empty words where that has none or cannot be read."""
    only = files[:1] if source.is_dir() else None
    words: Mapping[str, str] = {}
    with contextlib.suppress(CaseError):  # whoever reads the images will meet it
        for _, _, content, _ in dicom_contents(source, SkippedFiles(), only):
            if is_image(content[:_HEAD]):
                words = _first_words(source, content)
                break
    return {name: words.get(name, "") for name in IDENTIFIERS}


def names_patient(text: str, patient: Mapping[str, str]) -> bool:
    """Whether a folder's name, say, has a part of a patient's name, number or date of birth in it."""
    words = [word for value in patient.values() for word in value.replace("^", " ").replace(",", " ").split()]
    return any(word.casefold() in text.casefold() for word in words if len(word) >= _SHORTEST_WORD)
