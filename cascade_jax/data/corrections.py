"""Labels that a reader has corrected, beside the prediction that they were made from.

<folder>/<case>/Corrected/<any name>.nii.gz    the labels, whichever program saved them
<folder>/<case>/Corrected/<case>.json          who corrected what and when, where `cascade-jax review` saved them
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case, CaseError, number_of_cases
from cascade_jax.data.files import file_checksum, read_json, reading, write_text
from cascade_jax.data.folders import CORRECTED
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.data.outputs import recording_outputs

_ANGLES = ("insertion_degrees", "inferior_insertion_degrees")


@dataclasses.dataclass(frozen=True)
class Correction:
    """A file of corrected labels, and what is known of it.

    Attributes:
        path: of the labels.
        reader, time: who saved them and when (ISO 8601, UTC); None for a file of another program, also where it took
            the place of one that `cascade-jax review` had saved.
        prediction: SHA-256 of the file of labels that the reader began with, or None.
        insertion, inferior_insertion: where the reader put the right ventricle's insertions, degrees counter-clockwise
            from the right of a slice as it is looked at; None where they were left alone.
    """

    path: Path
    reader: str | None = None
    time: str | None = None
    prediction: str | None = None
    insertion: float | None = None
    inferior_insertion: float | None = None

    def __str__(self) -> str:
        if self.reader is None or self.time is None:
            return f"another program ({self.path.name})"
        return f"{self.reader}, {self.time[:16].replace('T', ' ')} UTC"


def find_corrections(folder: Path, *, faults: dict[str, str] | None = None) -> dict[str, Correction]:
    """The corrections in a folder of predictions, by case name, sorted.

    Args:
        folder: of predictions.
        faults: where given, takes what is wrong with single cases, by name, and they are left out; else it is raised.

    Raises:
        CaseError: the folder cannot be read; a case's `Corrected` holds several files of labels, or its record is
            damaged.
    """
    found = {}
    with reading(folder):
        names = sorted(path.name for path in Path(folder).iterdir())
    for name in names:
        try:
            if correction := find_correction(folder, name):
                found[name] = correction
        except CaseError as error:
            if faults is None:
                raise
            faults[name] = str(error)
    return found


def find_correction(folder: Path, name: str) -> Correction | None:
    """The correction of one case, or None; raises CaseError as `find_corrections` does."""
    path = folders.corrected_file(Path(folder) / name)
    return _read_record(path, name) if path else None


def corrected_labels(folder: Path, name: str, table: LabelTable = EMIDEC) -> tuple[np.ndarray, Correction | None]:
    """A case's labels as a reader corrected them, or as they were predicted where none did.

    Args:
        folder: of predictions.
        name: of the case.
        table: which labels there are.

    Returns:
        The labels, uint8 (depth, height, width) on the prediction's grid, and the correction or None.

    Raises:
        CaseError: there is no such case; a file cannot be read; the correction is not on the prediction's grid.
    """
    contours = folders.find_contours(folder)
    if name not in contours:
        raise CaseError(folder, f"holds no labels of case {name}")
    correction = find_correction(folder, name)
    path = correction.path if correction else contours[name]
    grid = emidec.read_geometry(contours[name])
    return emidec.read_labels(path, table, like=grid, name=f"the prediction {contours[name].name}")[0], correction


def save_correction(
    folder: Path,
    case: Case,
    labels: np.ndarray,
    prediction: np.ndarray,
    contour: Path,
    *,
    reader: str,
    insertion: float | None = None,
    inferior_insertion: float | None = None,
) -> Correction:
    """Writes corrected labels, and who corrected what and when; what is recorded of earlier saves is kept.

    Args:
        folder: of predictions.
        case: with the header that the labels get; its grid is theirs.
        labels: uint8 (depth, height, width).
        prediction: what the reader began with, the same shape.
        contour: the file that it is from.
        reader: who corrects.
        insertion, inferior_insertion: as `Correction` has them.

    Raises:
        CaseError: the folder cannot be written to, or holds corrected labels of another program.
    """
    path = emidec.path_in(folder, CORRECTED, case.name)
    record = path.with_name(f"{case.name}.json")
    if path.parent.is_symlink():
        raise CaseError(path.parent, "is a link, and corrections are written beside their prediction only")
    _refuse_other_programs(path, case.name)
    saves = _read_saves(record) if record.exists() else []
    with recording_outputs(folder, [str(file.relative_to(folder)) for file in (path, record)]):
        emidec.write_labels(folder, labels, case, CORRECTED)
        saves.append(
            {
                "reader": reader,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "prediction": contour.name,
                "prediction_sha256": file_checksum(contour),
                "labels_sha256": file_checksum(path),
                "changed_voxels": changed_voxels(labels, prediction),
                "insertion_degrees": _rounded(insertion),
                "inferior_insertion_degrees": _rounded(inferior_insertion),
            }
        )
        write_text(record, json.dumps({"case": case.name, "saves": saves}, indent=1, ensure_ascii=False) + "\n")
    return _read_record(path, case.name)


def changed_voxels(labels: np.ndarray, prediction: np.ndarray, table: LabelTable = EMIDEC) -> dict[str, dict]:
    """How many voxels a label gained and lost against the prediction, {label: {slice, from 1: {"added", "removed"}}}.

    Args:
        labels, prediction: (depth, height, width). What did not change is left out.
        table: of the labels' names.
    """
    changes: dict[str, dict] = {}
    for value, name in enumerate(table.names[1:], start=1):
        after, before = labels == value, prediction == value
        for index in np.flatnonzero((after != before).any(axis=(1, 2))):
            added, removed = (int(mask[index].sum()) for mask in (after & ~before, before & ~after))
            changes.setdefault(name, {})[str(index + 1)] = {"added": added, "removed": removed}
    return changes


def describe(corrections: Mapping[str, Correction], contours: Mapping[str, Path]) -> list[str]:
    """What a user is told where labels are taken from corrections: a line, and one for each that is out of date.

    Args:
        corrections: by case.
        contours: the predictions' files.
    """
    used = {name: correction for name, correction in corrections.items() if name in contours}
    lines = []
    if used:
        lines.append(f"{number_of_cases(len(used))} as corrected by a reader (--nocorrected takes the predictions)")
    for name, correction in used.items():
        if correction.prediction and correction.prediction != file_checksum(contours[name]):
            lines.append(f"{name}: was predicted anew since it was corrected ({correction})")
    return lines


def _rounded(angle: float | None) -> float | None:
    return None if angle is None else round(angle, 1)


def _refuse_other_programs(path: Path, name: str) -> None:
    """Raises CaseError where what lies in the folder of `path` is not what `save_correction` wrote there."""
    found = folders.corrected_file(path.parents[1])
    if found is not None and (found.name != path.name or _read_record(found, name).reader is None):
        raise CaseError(found, "was saved by another program: move it away to correct this case here")


def _read_record(path: Path, name: str) -> Correction:
    """What stands beside corrected labels about them."""
    record = path.with_name(f"{name}.json")
    if not os.path.exists(record):  # a `Path` raises where the name is too long
        return Correction(path)
    last = _read_saves(record)[-1]
    angles = [last[key] for key in _ANGLES]
    if last["labels_sha256"] != file_checksum(path):
        return Correction(path, None, None, None, *angles)
    return Correction(path, last["reader"], last["time"], last["prediction_sha256"], *angles)


def _read_saves(record: Path) -> list[dict]:
    """All that a record says, the last save last; there is one at least."""
    values = read_json(record)
    try:
        saves = list(values["saves"])
        for name in ("reader", "time", "prediction_sha256", "labels_sha256"):
            if not isinstance(saves[-1][name], str) or not saves[-1][name].isprintable():
                raise ValueError(f"{name} is words")
        for name in _ANGLES:
            if (angle := saves[-1][name]) is not None and not (type(angle) in (int, float) and abs(angle) <= 360):
                raise ValueError(f"{name} is degrees")
    except (KeyError, IndexError, TypeError, ValueError):
        raise CaseError(record, "is damaged: who corrected these labels is unknown") from None
    return saves
