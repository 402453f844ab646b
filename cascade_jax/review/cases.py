"""What the page is told of cases, and what it has saved; no networking here."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cascade_jax.confidence import most_doubtful_first
from cascade_jax.data import emidec, folders, orientation
from cascade_jax.data.case import LABEL_NAMES, Case, CaseError
from cascade_jax.data.corrections import Correction, find_correction, save_correction
from cascade_jax.data.files import file_checksum, reading
from cascade_jax.data.geometry import Geometry
from cascade_jax.data.labels import EMIDEC, display_name
from cascade_jax.quantify import aha
from cascade_jax.quantify.quantities import Quantities, quantify, volumes
from cascade_jax.quantify.wall import centre_of, spokes
from cascade_jax.report.account import Account
from cascade_jax.report.confidence import read_confidence
from cascade_jax.report.quantities import case_rows

_KEPT = 4  # opened cases


@dataclasses.dataclass(frozen=True)
class Found:
    """Where a case to be reviewed lies: its name, its image, and the prediction's labels."""

    name: str
    image: Path
    contour: Path


@dataclasses.dataclass(frozen=True)
class Opened:
    """A case as it is corrected; arrays are (depth, height, width) on the image's grid.

    Attributes:
        case: its image and the header that corrections get.
        prediction: uint8.
        measured: the prediction's quantities, with the right ventricle looked for in the image.
        geometry: the image's grid.
    """

    case: Case
    prediction: np.ndarray
    measured: Quantities
    geometry: Geometry


@dataclasses.dataclass(frozen=True)
class Insertions:
    """Where the right ventricle's insertions lie, degrees; None is unknown.

    Attributes:
        anterior, inferior: counter-clockwise from the right of a slice as it is looked at.
        dragged: whether the reader put them there.
    """

    anterior: float | None = None
    inferior: float | None = None
    dragged: bool = False


class OutOfDate(Exception):
    """What is to be saved was made from labels that are no longer the newest."""


def find_cases(predictions: Path, images: Path) -> tuple[list[Found], dict[str, str]]:
    """The cases to be reviewed, the most doubtful first, and {case: what is wrong with it} of the others.

    Raises:
        CaseError: there are no predictions or no images, or the predictions are of other labels than the challenge's.
    """
    faults: dict[str, str] = {}
    contours = folders.find_contours(predictions, faults=faults)
    files = {file.name: file.image for file in folders.find_inputs(images, faults=faults)}
    found = []
    for name, contour in contours.items():
        try:
            if name not in files:
                raise CaseError(images, f"holds no image of case {name}")
            for path, root in ((contour, predictions), (files[name], images)):
                _refuse_outside(path, root)
            found.append(Found(name, files[name], contour))
        except CaseError as error:
            faults[name] = str(error)
    said = most_doubtful_first(read_confidence(predictions, EMIDEC))
    ranks = {name: rank for rank, name in enumerate(said)}
    return sorted(found, key=lambda case: (ranks.get(case.name, len(ranks)), case.name)), faults


def listed(predictions: Path, cases: Sequence[Found]) -> list[dict]:
    """A row for each case: its doubt, who corrected it, and the figures of its labels as they are now."""
    said = read_confidence(predictions, EMIDEC)
    rows = []
    for case in cases:
        confidence = said.get(case.name)
        expected = {} if confidence is None else confidence.expected_dice
        row: dict = {
            "name": case.name,
            "expected_dice": [_number(expected.get(target)) for target in EMIDEC.targets],
            "doubtful": None if confidence is None else confidence.doubtful,
            "warnings": [] if confidence is None else [str(warning) for warning in confidence.warnings],
            "corrected": None,
            "fault": None,
        }
        try:
            correction = find_correction(predictions, case.name)
            row["corrected"] = None if correction is None else str(correction)
            labels, spacing = _current_labels(case, correction, predictions)
            row |= {name: _number(value) for name, value in volumes(emidec.to_file_axes(labels), spacing[::-1]).items()}
        except CaseError as error:
            row["fault"] = str(error)
        rows.append(row)
    return rows


def open_case(case: Found) -> Opened:
    """Reads a case and measures its prediction.

    Raises:
        CaseError: its files cannot be read or do not lie on one grid, or a single slice has no known thickness.
    """
    with reading(case.image):
        written = [path.stat().st_mtime_ns for path in (case.image, case.contour)]
    return _opened(case, *written)


@functools.lru_cache(maxsize=_KEPT)
def _opened(case: Found, *_: int) -> Opened:
    """The case; the times at which its files were written tell an older one from it."""
    geometry = emidec.read_geometry(case.image)
    read = emidec.read_case(folders.CaseFiles(case.name, case.image, None))
    prediction, spacing = _read(case.contour, geometry, case)
    if np.isnan(spacing[0]):
        raise CaseError(case.image, "is a single slice of unknown thickness, which has no volumes")
    measured = quantify(
        emidec.to_file_axes(prediction),
        spacing[::-1],
        emidec.to_file_axes(read.image),
        right_handed=orientation.right_handed(geometry),
    )
    return Opened(read, prediction, measured, geometry)


def described(opened: Opened, labels: np.ndarray, correction: Correction | None, version: str) -> dict:
    """What the page needs to show a case.

    Args:
        opened: the case.
        labels: as they are now.
        correction: that they are from, or None.
        version: of the labels, as `labels_now` gives it.
    """
    figures = opened.measured.case
    found = Insertions(figures["insertion_degrees"], figures["inferior_insertion_degrees"])
    if correction is not None and (correction.insertion, correction.inferior_insertion) != (None, None):
        found = Insertions(correction.insertion, correction.inferior_insertion, True)
    return {
        "name": opened.case.name,
        "shape": opened.case.image.shape,
        "spacing": opened.case.spacing,
        "labels": [display_name(name) for name in LABEL_NAMES],
        "version": version,
        "corrected": None if correction is None else str(correction),
        "mirrored": figures["mirrored"] == "yes",
        "insertions": {
            "anterior": _number(found.anterior),
            "inferior": _number(found.inferior),
            "dragged": found.dragged,
        },
    } | measured_again(opened, labels, _number(found.anterior))


def labels_now(predictions: Path, case: Found, opened: Opened) -> tuple[np.ndarray, Correction | None, str]:
    """The labels as a reader corrected them, else the prediction; the correction; and what tells them from others.

    Raises:
        CaseError: there are several corrections, or one is not on the image's grid.
    """
    correction = find_correction(predictions, case.name)
    if correction is None:
        return opened.prediction, None, file_checksum(case.contour)
    _refuse_outside(correction.path, predictions)
    return _read(correction.path, opened.geometry, case)[0], correction, file_checksum(correction.path)


def measured_again(opened: Opened, labels: np.ndarray, anterior: float | None) -> dict:
    """Figures of corrected labels beside the prediction's, and where the marks of the insertions belong.

    Args:
        opened: the case.
        labels: uint8 (depth, height, width).
        anterior: insertion of the right ventricle, degrees, or None.
    """
    stack, size = emidec.to_file_axes(labels), opened.case.spacing[::-1]
    before = opened.measured
    after = quantify(
        stack,
        size,
        insertion=anterior,
        base_first=aha.base_comes_first(emidec.to_file_axes(opened.prediction)),
        right_handed=orientation.right_handed(opened.geometry),
    )
    # Only outlines are compared, not the threshold methods, which no stroke of a pen is meant to follow.
    rows = case_rows([Quantities({key: before.case[key] for key in after.case}, [], []), after], Account())
    return {
        "rows": [[row.title, row.unit, *row.values] for row in rows],
        "segments": [
            {
                "number": row["segment"],
                "name": row["name"],
                "transmurality": _number(row["transmurality_max_percent"]),
                "infarct": _number(row["infarct_percent"]),
            }
            for row in after.segments
        ],
        "centres": [_centre(plane) for plane in labels],
        "radii": [[_number(radius, 1) for radius in radii] for radii in spokes(stack, size).epicardium],
    }


def save(
    predictions: Path,
    case: Found,
    opened: Opened,
    labels: np.ndarray,
    insertions: Insertions,
    reader: str,
    version: str,
) -> tuple[Correction, str]:
    """Writes a correction.

    Args:
        predictions: the folder of predictions.
        case, opened: the case.
        labels: uint8 (depth, height, width).
        insertions: of which those that were dragged are recorded.
        reader: who corrects.
        version: of the labels that the reader began with.

    Returns:
        The correction, and the version of what was written.

    Raises:
        CaseError: as `save_correction`.
        OutOfDate: someone else has saved since.
    """
    _refuse_outside(emidec.path_in(predictions, folders.CORRECTED, case.name).parent, predictions)
    if labels_now(predictions, case, opened)[2] != version:
        raise OutOfDate(f"{case.name} was saved from elsewhere meanwhile: reload the page to see it")
    put = insertions if insertions.dragged else Insertions()
    correction = save_correction(
        predictions,
        opened.case,
        labels,
        opened.prediction,
        case.contour,
        reader=reader,
        insertion=put.anterior,
        inferior_insertion=put.inferior,
    )
    return correction, file_checksum(correction.path)


def _current_labels(case: Found, correction: Correction | None, predictions: Path):
    """Labels and spacing of a case on its image's grid."""
    geometry = emidec.read_geometry(case.image)
    if correction is None:
        return _read(case.contour, geometry, case)
    _refuse_outside(correction.path, predictions)
    return _read(correction.path, geometry, case)


def _read(path: Path, geometry: Geometry, case: Found) -> tuple[np.ndarray, tuple[float, float, float]]:
    return emidec.read_labels(path, like=geometry, name=f"its image {case.image.name}")


def _refuse_outside(path: Path, root: Path) -> None:
    """Raises CaseError where a path, its links followed, is not in a folder."""
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise CaseError(path, f"leads out of {root}, and only what lies there is shown")


def _centre(plane: np.ndarray) -> list[float] | None:
    """x and y of the ventricle's centre in a slice (height, width), in voxels."""
    return [round(value, 2) for value in centre_of(plane.T)] if plane.any() else None


def _number(value: float | None, digits: int = 4) -> float | None:
    """A number that JSON can hold."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)
