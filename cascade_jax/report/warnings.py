"""What a reader should be warned of before believing a stack's labels."""

import numpy as np

from cascade_jax.data.labels import EMIDEC, LabelTable, spoken

_SHIFT_MM = 6.0


def stack_warnings(labels: np.ndarray, spacing: tuple[float, float, float], table: LabelTable = EMIDEC) -> list[str]:
    """Slices out of place, slices without the main target (the myocardium) between others, none of it at all.

    A slice counts as shifted if the centre of its labels lies more than 6 mm from the middle between its neighbours'.

    Args:
        labels: (depth, height, width).
        spacing: mm along the same axes.
        table: of the labels.
    """
    wanted = spoken(table.main)
    present = np.isin(labels, table.targets[table.main]).any(axis=(1, 2))
    if not present.any():
        return [f"no {wanted} was found"]
    warnings = []
    first, last = np.flatnonzero(present)[[0, -1]]
    missing = [index + 1 for index in range(first, last + 1) if not present[index]]
    if missing:
        warnings.append(f"no {wanted} in slice {', '.join(map(str, missing))}, between slices that have some")
    centres = {}
    for index in np.flatnonzero(present):
        rows, columns = np.nonzero(labels[index])
        centres[int(index)] = np.array([rows.mean() * spacing[1], columns.mean() * spacing[2]])
    for index, centre in centres.items():
        if index - 1 in centres and index + 1 in centres:
            shift = np.linalg.norm(centre - (centres[index - 1] + centres[index + 1]) / 2)
            if shift > _SHIFT_MM:
                warnings.append(f"slice {index + 1} lies {shift:.0f} mm off the line of its neighbours")
    return warnings
