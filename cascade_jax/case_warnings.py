"""What a reader should be warned of before believing a case's labels: each with a short code that stays the same."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cascade_jax.data.case import Case
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name
from cascade_jax.data.orientation import geometry_of_case, lies_along_the_body

NO_HEART = "no-heart"
NO_MYOCARDIUM = "no-myocardium"
FEW_SLICES = "few-slices"
SLICE_GAP = "slice-gap"
SLICE_OUT_OF_PLACE = "slice-out-of-place"
NO_THICKNESS = "no-thickness"
SPACING = "spacing"
NOT_SHORT_AXIS = "not-short-axis"
UNLIKE_TRAINING = "unlike-training"
LOW_CONFIDENCE = "low-confidence"
SERIES = "series"
# Of a report's page alone.
OUTSIDE_PICTURES = "outside-pictures"
OTHER_LABELS = "other-labels"
CORRECTED = "corrected"
NO_IMAGE = "no-image"
NO_TRUTH = "no-truth"

# Those that follow from the labels, whoever drew them.
OF_LABELS = frozenset({NO_HEART, NO_MYOCARDIUM, FEW_SLICES, SLICE_GAP, SLICE_OUT_OF_PLACE, NO_THICKNESS})

_FEWEST_SLICES = 4  # of a stack; the real cases that the weights in the box are trained on have 4 to 10
_FEWEST_WITH_TARGET = 3  # base, middle and apex
_SHIFT_MM = 6.0
# A line through four centres can be tilted by one that is out of place, so that another seems to be.
_FEWEST_TO_PLACE = 5
# By how much a spacing may differ from the training cohort's median. One cohort's cases do so among themselves: the
# challenge's are 1.25 to 2 mm in the plane, and slices of 10 mm in the middle 8 to 13 mm apart.
_IN_PLANE = (0.5, 1.5)
_BETWEEN_SLICES = (0.75, 1.35)


class CaseWarning(NamedTuple):
    """One thing to look at.

    Attributes:
        code: one of those above.
        text: in words, without "; ".
    """

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def in_one_line(warnings: Iterable[CaseWarning]) -> str:
    """All of them as a table's cell has them; empty without any."""
    return "; ".join(map(str, warnings))


def from_one_line(text: str) -> tuple[CaseWarning, ...]:
    """What `in_one_line` was given."""
    return tuple(CaseWarning(*part.partition(": ")[::2]) for part in text.split("; ") if part)


def codes(warnings: Iterable[CaseWarning]) -> str:
    """The codes in one line, each once."""
    return ", ".join(dict.fromkeys(warning.code for warning in warnings))


def warnings_of_labels(
    labels: np.ndarray, spacing: Sequence[float], table: LabelTable = EMIDEC
) -> tuple[CaseWarning, ...]:
    """What is wrong with a stack's labels; `OF_LABELS` has the codes.

    Args:
        labels: (depth, height, width).
        spacing: mm along the same axes; NaN for an unknown thickness.
        table: of the labels.
    """
    wanted = display_name(table.main)
    present = np.flatnonzero(np.isin(labels, table.targets[table.main]).any(axis=(1, 2)))
    warnings = []
    if not labels.any():
        warnings.append(CaseWarning(NO_HEART, "nothing is outlined in any slice"))
    elif not present.size:
        warnings.append(CaseWarning(NO_MYOCARDIUM, f"no {wanted} was found"))
    if len(labels) < _FEWEST_SLICES:
        warnings.append(CaseWarning(FEW_SLICES, f"the stack has {_slices(len(labels))}, fewer than {_FEWEST_SLICES}"))
    elif 0 < present.size < _FEWEST_WITH_TARGET:
        fewer = f"{wanted} in {_slices(present.size)} of {len(labels)}, fewer than {_FEWEST_WITH_TARGET}"
        warnings.append(CaseWarning(FEW_SLICES, fewer))
    missing = np.setdiff1d(np.arange(present[0], present[-1]), present) + 1 if present.size else ()
    if len(missing):
        where = f"slice {', '.join(map(str, missing))}, between slices that have some"
        warnings.append(CaseWarning(SLICE_GAP, f"no {wanted} in {where}"))
    for index, distance in _distances_from_axis(labels, present, spacing).items():
        if distance > _SHIFT_MM:
            off = f"slice {index + 1} lies {distance:.0f} mm off the line through the other slices"
            warnings.append(CaseWarning(SLICE_OUT_OF_PLACE, off))
    if np.isnan(spacing[0]):
        warnings.append(CaseWarning(NO_THICKNESS, "a single slice of unknown thickness, which has no volumes"))
    return tuple(warnings)


def warnings_of_input(case: Case, trained: Sequence[float]) -> tuple[CaseWarning, ...]:
    """What is unusual in how a case was scanned.

    Args:
        case: the case; its image is not looked at.
        trained: mm along (depth, height, width), the median of the cohort that the networks were trained on.
    """
    return (*_warnings_of_spacing(len(case.image), case.spacing, trained), *_warnings_of_orientation(case))


def warnings_of_series(remarks: Iterable[str]) -> tuple[CaseWarning, ...]:
    """What is to be known of how a DICOM series is read (`Series.remarks`)."""
    return tuple(CaseWarning(SERIES, remark) for remark in remarks)


def _warnings_of_spacing(slices: int, spacing: Sequence[float], trained: Sequence[float]) -> Iterable[CaseWarning]:
    depth, *plane = spacing
    checked = [("voxels", plane, trained[1:], _IN_PLANE)]
    if slices > 1:
        checked.append(("a slice distance", [depth], trained[:1], _BETWEEN_SLICES))
    for what, sizes, usual, (low, high) in checked:
        if min(sizes) < low * min(usual) or max(sizes) > high * max(usual):
            stated, known = (" x ".join(f"{size:.3g}" for size in dict.fromkeys(values)) for values in (sizes, usual))
            yield CaseWarning(SPACING, f"{what} of {stated} mm, and the networks were trained on about {known} mm")


def _warnings_of_orientation(case: Case) -> Iterable[CaseWarning]:
    plane = lies_along_the_body(geometry_of_case(case))
    if plane is not None:
        yield CaseWarning(NOT_SHORT_AXIS, f"the slices are {plane} by their file, and a short axis is oblique")


def _slices(count: int) -> str:
    return "1 slice" if count == 1 else f"{count} slices"


def _distances_from_axis(labels: np.ndarray, chosen: np.ndarray, spacing: Sequence[float]) -> dict[int, float]:
    """How far each slice's centre lies from the straight line through all of them, mm.

    The line is Theil and Sen's (Sen 1968, J Am Stat Assoc 63:1379-1389), the median of the slopes between all pairs,
    for rows and columns each: slices out of place do not pull it, and the tilt of the heart's axis is no shift.

    Args:
        labels: (depth, height, width).
        chosen: the slices to look at.
        spacing: mm along the axes of labels.

    Returns:
        {slice, from 0: mm}; empty for fewer than five slices, which do not tell which of them is out of place.
    """
    if len(chosen) < _FEWEST_TO_PLACE:
        return {}
    from scipy import stats  # takes a second, which every command would wait for

    # Medians, because single stray voxels far away would move a mean.
    centres = np.array([[np.median(axis) for axis in np.nonzero(labels[index])] for index in chosen]) * spacing[1:]
    distances = []
    for axis in centres.T:
        line = stats.theilslopes(axis, chosen, method="joint")
        distances.append(axis - (line.intercept + line.slope * chosen))
    return {int(index): float(distance) for index, distance in zip(chosen, np.hypot(*distances), strict=True)}
