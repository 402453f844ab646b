"""The border around a field of view: no tissue, and not to be counted as any."""

import numpy as np
from scipy import ndimage

_RUN = 3  # equal pixels side by side on a slice's edge, which in tissue and noise are rare


def outside_field_of_view(image: np.ndarray) -> np.ndarray:
    """Which voxels are border: plateaus of one constant value that reach a slice's edge.

    Registration, distortion correction and padding leave them, each with a value of its own. Only that they are
    constant counts, so the image's unit and offset do not matter, and tissue of a border's value is still tissue.
    What is smaller than half a slice's shorter side is left alone.

    Args:
        image: (depth, height, width).

    Returns:
        bool, same shape.
    """
    outside = np.zeros(image.shape, bool)
    for plane, result in zip(image, outside, strict=True):
        edge = np.ones(plane.shape, bool)
        edge[1:-1, 1:-1] = False
        for value in _values_in_a_run(plane):
            regions, _ = ndimage.label(plane == value)
            sizes = np.bincount(regions.ravel())
            reaching = np.unique(regions[edge & (regions > 0)])
            result |= np.isin(regions, reaching[sizes[reaching] >= min(plane.shape) / 2])
    return outside


def _values_in_a_run(plane: np.ndarray) -> np.ndarray:
    """The values that some equal pixels side by side on the edge of a slice have."""
    values = []
    for side in (plane[0], plane[-1], plane[:, 0], plane[:, -1]):
        run = min(_RUN, len(side))
        windows = np.lib.stride_tricks.sliding_window_view(side, run)
        values.append(windows[(windows == windows[:, :1]).all(axis=1), 0])
    return np.unique(np.concatenate(values))
