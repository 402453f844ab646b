"""The segments of the American Heart Association's 17-segment model (Cerqueira et al. 2002, Circulation
105:539-542) in a short-axis stack.

Conventions are those of `cascade_jax.quantify.wall`.
"""

from collections.abc import Sequence

import numpy as np

from cascade_jax.data.case import CAVITY, MYOCARDIUM
from cascade_jax.quantify.wall import voxel_angles

_RINGS = ("base", "middle", "apex")
# Counter-clockwise from the anterior insertion of the right ventricle (Cerqueira et al. 2002, figure 4): the numbers of
# the segments and how far the first begins behind the insertion.
_SEGMENTS = {
    "base": ((2, 3, 4, 5, 6, 1), 0.0),
    "middle": ((8, 9, 10, 11, 12, 7), 0.0),
    "apex": ((14, 15, 16, 13), 15.0),
}
SEGMENT_NAMES = {
    1: "basal anterior",
    2: "basal anteroseptal",
    3: "basal inferoseptal",
    4: "basal inferior",
    5: "basal inferolateral",
    6: "basal anterolateral",
    7: "mid anterior",
    8: "mid anteroseptal",
    9: "mid inferoseptal",
    10: "mid inferior",
    11: "mid inferolateral",
    12: "mid anterolateral",
    13: "apical anterior",
    14: "apical septal",
    15: "apical inferior",
    16: "apical lateral",
    17: "apical cap",
}


def base_comes_first(labels: np.ndarray) -> bool:
    """Whether the stack runs from the base to the apex: the end with the larger ventricle is the base (this library's
    own rule, where the file does not say it)."""
    areas = (labels > 0).sum(axis=(0, 1))
    present = areas[areas > 0]
    third = max(1, len(present) // 3)
    return bool(present[:third].sum() >= present[-third:].sum()) if len(present) else True


def rings(labels: np.ndarray, *, base_first: bool | None = None) -> list[str | None]:
    """The ring of each slice: "base", "middle" or "apex" by thirds of the slices with a cavity, "cap" for those beyond
    the cavity's apical end that still have myocardium, None without myocardium.

    Equal thirds perpendicular to the long axis, and the cap as the myocardium beyond the end of the cavity, are those
    of Cerqueira et al. 2002 (Circulation 105:539-542). Where thirds do not come out even, the base has the slice more,
    then the middle. Two things are this library's own: basal slices with an open wall are not left out, and a slice
    with myocardium but no cavity is of the base beyond the cavity's basal end, and within the stack of the ring of the
    nearest slice that has one (of two equally near, the more basal).

    Args:
        labels: (x, y, slice).
        base_first: the stack's direction; None finds it by `base_comes_first`.

    Returns:
        A name for each slice; None for all where fewer than three have a cavity, which are no thirds of a ventricle.
    """
    myocardium = (labels >= MYOCARDIUM).any(axis=(0, 1))
    cavity = np.flatnonzero(myocardium & (labels == CAVITY).any(axis=(0, 1)))
    result: list[str | None] = [None] * labels.shape[2]
    if cavity.size < len(_RINGS):
        return result
    base_first = base_comes_first(labels) if base_first is None else base_first
    ordered = cavity if base_first else cavity[::-1]
    for ring, part in zip(_RINGS, np.array_split(ordered, 3), strict=True):
        for index in part:
            result[index] = ring
    for index in np.flatnonzero(myocardium):
        if result[index] is None:
            beyond = index > ordered[-1] if base_first else index < ordered[-1]
            result[index] = "cap" if beyond else result[ordered[np.argmin(np.abs(ordered - index))]]
    return result


def segment_of(
    labels: np.ndarray, ring: Sequence[str | None], insertion: float, spacing: Sequence[float]
) -> np.ndarray:
    """The AHA segment of every myocardium voxel.

    Args:
        labels: (x, y, slice).
        ring: of each slice, as `rings` gives them.
        insertion: angle of the right ventricle's anterior insertion, degrees.
        spacing: mm along (x, y, slice).

    Returns:
        uint8 (x, y, slice), 1 to 17, and 0 outside the myocardium.
    """
    result = np.zeros(labels.shape, np.uint8)
    for index, name in enumerate(ring):
        plane = labels[:, :, index]
        if name is not None:
            segments = segment_at(voxel_angles(plane, spacing), name, insertion)
            result[:, :, index] = np.where(plane >= MYOCARDIUM, segments, 0)
    return result


def segment_at(angle: np.ndarray, ring: str, insertion: float) -> np.ndarray:
    """uint8 AHA segments of angles (degrees) in one ring."""
    if ring == "cap":
        return np.full(np.shape(angle), 17, np.uint8)
    numbers, offset = _SEGMENTS[ring]
    sector = ((np.asarray(angle) - insertion - offset) % 360 // (360 / len(numbers))).astype(int)
    return np.asarray(numbers, np.uint8)[sector.clip(0, len(numbers) - 1)]
