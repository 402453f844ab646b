"""What a reader should be warned of before believing a stack's labels."""

import numpy as np

_SHIFT_MM = 6.0


def stack_warnings(labels: np.ndarray, spacing: tuple[float, float, float]) -> list[str]:
    """Slices out of place, slices without muscle between others, no heart at all.

    A slice counts as shifted if its ventricle's centre lies more than 6 mm from the middle between its neighbours'.

    Args:
        labels: (depth, height, width).
        spacing: mm along the same axes.
    """
    present = (labels >= 2).any(axis=(1, 2))
    if not present.any():
        return ["no muscle was found"]
    warnings = []
    first, last = np.flatnonzero(present)[[0, -1]]
    missing = [index + 1 for index in range(first, last + 1) if not present[index]]
    if missing:
        warnings.append(f"no muscle in slice {', '.join(map(str, missing))}, between slices that have some")
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
