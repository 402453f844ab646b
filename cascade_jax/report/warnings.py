"""What the pictures of a report do not show."""

from collections.abc import Mapping

import numpy as np

from cascade_jax.case_warnings import OUTSIDE_PICTURES, CaseWarning


def hidden_warnings(
    layers: Mapping[str, np.ndarray], shown: tuple[slice, slice], spacing: tuple[float, float, float]
) -> list[CaseWarning]:
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
            far = f"{volume:.2g} ml of the {layer} lie far from the rest, outside the pictures"
            warnings.append(CaseWarning(OUTSIDE_PICTURES, far))
    return warnings
