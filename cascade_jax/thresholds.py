"""The threshold methods that readers compare with: infarct by the image's intensities within a given muscle contour."""

from collections.abc import Sequence

import numpy as np

from cascade_jax.data.case import CAVITY, MYOCARDIUM
from cascade_jax.wall import voxel_angles

_REMOTE_DEGREES = 60


def remote_muscle(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> np.ndarray:
    """The remote region: of all 60 degree sectors of the muscle through the whole stack, the one with the lowest mean.

    This library's own rule in the place of a reader's choice of a normal region.

    Args:
        image: (x, y, slice), muscle dark and infarct bright.
        labels: same shape; everything from 2 on is muscle.
        spacing: mm along (x, y), or their ratio; by default pixels are square.

    Returns:
        bool, same shape; empty without muscle.
    """
    muscle = labels >= MYOCARDIUM
    angle = np.full(labels.shape, np.nan)
    # Sectors mean something where the wall is a ring.
    for index in np.flatnonzero(muscle.any(axis=(0, 1)) & (labels == CAVITY).any(axis=(0, 1))):
        angle[:, :, index] = voxel_angles(labels[:, :, index], spacing) % 360
    best = np.zeros(labels.shape, bool)
    lowest = np.inf
    for start in range(0, 360, 10):
        sector = muscle & ((angle - start) % 360 < _REMOTE_DEGREES)
        if sector.any() and image[sector].mean() < lowest:
            best, lowest = sector, image[sector].mean()
    return best


def _remote_signal(image: np.ndarray, remote: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the remote region."""
    if not remote.any():
        raise ValueError("the remote region is empty")
    signal = image[remote].astype(np.float64)
    return signal.mean(), signal.std()


def above_deviations(image: np.ndarray, labels: np.ndarray, remote: np.ndarray, count: float) -> np.ndarray:
    """Muscle brighter than the remote region's mean by more than `count` of its standard deviations (n-SD).

    Dark no-reflow inside an infarct is not in it; readers who want it add it by hand.

    Args:
        image: (x, y, slice).
        labels: same shape.
        remote: bool, same shape, e.g. `remote_muscle`.
        count: 2 to 6 in the literature; 5 is usual (Bondarenko et al. 2005, J Cardiovasc Magn
            Reson 7:481-485).

    Returns:
        bool, same shape.

    Raises:
        ValueError: the remote region is empty.
    """
    mean, deviation = _remote_signal(image, remote)
    return (labels >= MYOCARDIUM) & (image > mean + count * deviation)


def above_half_maximum(image: np.ndarray, labels: np.ndarray, remote: np.ndarray) -> np.ndarray:
    """Muscle brighter than half way between the remote region's mean and the muscle's maximum (full width at half
    maximum).

    A variant of Amado et al. 2004 (J Am Coll Cardiol 44:2383-2389), whose threshold is half the maximum of a region
    that a reader has drawn: here zero is the remote region's mean, so that the offset of the image does not matter.

    The maximum is the 99.5th percentile, so that a single voxel of blood in the contour does not set it. Unless it lies
    more than five remote standard deviations above the remote mean, nothing is infarct.

    Args:
        image: (x, y, slice).
        labels: same shape.
        remote: bool, same shape.

    Returns:
        bool, same shape.

    Raises:
        ValueError: the remote region is empty.
    """
    mean, deviation = _remote_signal(image, remote)
    muscle = labels >= MYOCARDIUM
    highest = np.percentile(image[muscle], 99.5)
    if highest <= mean + 5 * deviation:
        return np.zeros(labels.shape, bool)
    return muscle & (image > (mean + highest) / 2)
