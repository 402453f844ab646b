"""What a reader should be warned of before believing a stack's labels."""

from collections.abc import Mapping

import numpy as np

from cascade_jax.data.labels import EMIDEC, LabelTable, display_name

_SHIFT_MM = 6.0
# A line through four centres can be tilted by one that is out of place, so that another seems to be.
_FEWEST_SLICES = 5


def stack_warnings(labels: np.ndarray, spacing: tuple[float, float, float], table: LabelTable = EMIDEC) -> list[str]:
    """Slices out of place, slices without the main target (the myocardium) between others, none of it at all.

    Args:
        labels: (depth, height, width).
        spacing: mm along the same axes.
        table: of the labels.
    """
    wanted = display_name(table.main)
    present = np.isin(labels, table.targets[table.main]).any(axis=(1, 2))
    if not present.any():
        return [f"no {wanted} was found"]
    warnings = []
    first, last = np.flatnonzero(present)[[0, -1]]
    missing = [index + 1 for index in range(first, last + 1) if not present[index]]
    if missing:
        warnings.append(f"no {wanted} in slice {', '.join(map(str, missing))}, between slices that have some")
    for index, distance in _distances_from_axis(labels, np.flatnonzero(present), spacing).items():
        if distance > _SHIFT_MM:
            warnings.append(f"slice {index + 1} lies {distance:.0f} mm off the line through the other slices")
    return warnings


def _distances_from_axis(labels: np.ndarray, chosen: np.ndarray, spacing: tuple[float, float, float]) -> dict:
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
    if len(chosen) < _FEWEST_SLICES:
        return {}
    from scipy import stats  # takes a second, which every command would wait for

    # Medians, because single stray voxels far away would move a mean.
    centres = np.array([[np.median(axis) for axis in np.nonzero(labels[index])] for index in chosen]) * spacing[1:]
    distances = []
    for axis in centres.T:
        line = stats.theilslopes(axis, chosen, method="joint")
        distances.append(axis - (line.intercept + line.slope * chosen))
    return {int(index): float(distance) for index, distance in zip(chosen, np.hypot(*distances), strict=True)}


def hidden_warnings(
    layers: Mapping[str, np.ndarray], shown: tuple[slice, slice], spacing: tuple[float, float, float]
) -> list[str]:
    """What is labelled outside the pictures.

    Args:
        layers: labels (depth, height, width).
        shown: rows and columns of the pictures.
        spacing: mm along the axes of labels.
    """
    warnings = []
    for layer, labels in layers.items():
        hidden = np.count_nonzero(labels) - np.count_nonzero(labels[:, shown[0], shown[1]])
        if hidden:
            volume = hidden * np.prod(spacing) / 1000
            warnings.append(f"{volume:.2g} ml of the {layer} lie far from the rest, outside the pictures")
    return warnings
