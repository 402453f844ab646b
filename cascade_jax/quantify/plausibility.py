"""Whether labels can be a heart by the challenge's table."""

import numpy as np

from cascade_jax.data.case import BACKGROUND, CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW

_LEAST_OUTSIDE = 0.3  # of myocardium's border with background and cavity; where myocardium surrounds, more than half
_LARGE_INFARCT = 0.3  # of the myocardium
_LEAST_CONTACT = 0.01  # of the infarct's border


def implausibility(labels: np.ndarray) -> str | None:
    """Why labels, read by the challenge's table, can be no heart with myocardium around its cavity; None if they can.

    Files do not say by which table they are labelled. The limits are far from any heart: in the 70 real cases that were
    tried, more than half of the myocardium's border is with the background, and an infarct of more than a fifth of the
    myocardium touches the cavity with 30 % of its border.

    Args:
        labels: (depth, height, width).

    Returns:
        In words, that there is a cavity but no myocardium, that the cavity surrounds the myocardium, or that a large
        infarct nowhere reaches the cavity.
    """
    labels = np.pad(labels, ((0, 0), (1, 1), (1, 1)))  # a heart may touch the edge
    if CAVITY in labels and not (labels >= MYOCARDIUM).any():
        return f"it holds a cavity ({CAVITY}) and no myocardium"
    labels = labels[(labels == CAVITY).any((1, 2)) & (labels >= MYOCARDIUM).any((1, 2))]
    cavity, myocardium, infarct = labels == CAVITY, labels >= MYOCARDIUM, labels >= INFARCTION
    outside, inside = _touching(myocardium, labels == BACKGROUND), _touching(myocardium, cavity)
    if outside < _LEAST_OUTSIDE * (outside + inside):
        return f"the cavity ({CAVITY}) surrounds the myocardium ({MYOCARDIUM} to {NO_REFLOW})"
    large = infarct.sum() > _LARGE_INFARCT * myocardium.sum()
    if large and _touching(infarct, cavity) < _LEAST_CONTACT * _touching(infarct, ~infarct):
        return f"a large infarct ({INFARCTION} and {NO_REFLOW}) lies away from the cavity ({CAVITY})"
    return None


def _touching(one: np.ndarray, other: np.ndarray) -> int:
    """How many sides the voxels of two masks (depth, height, width) share in the plane."""
    rows = np.count_nonzero(one[:, 1:] & other[:, :-1]) + np.count_nonzero(one[:, :-1] & other[:, 1:])
    columns = np.count_nonzero(one[:, :, 1:] & other[:, :, :-1]) + np.count_nonzero(one[:, :, :-1] & other[:, :, 1:])
    return int(rows + columns)
