"""The threshold methods that readers compare with: infarct by the image's intensities within a given myocardium
contour.

They take the contour at its word. Blood or fat within it is as bright as infarct and counts as such in every method
here; a reader would take it away by hand.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cascade_jax.data.case import CAVITY, MYOCARDIUM
from cascade_jax.quantify.wall import voxel_angles

_REMOTE_DEGREES = 60
_FEWEST_VOXELS = 20  # of a remote region, for a mean and a deviation
LEAST_DEVIATIONS = 2  # by which half the maximum has to exceed the remote mean


@dataclasses.dataclass(frozen=True)
class RemoteRegion:
    """Myocardium that is taken for normal, and its signal.

    Attributes:
        mask: bool (x, y, slice).
        start: degrees counter-clockwise as a slice is looked at, where the sector begins; it is 60 degrees wide.
        slices: those that it lies in, from 1.
        mean, deviation: of the image in all of its voxels together, whatever their slice.
    """

    mask: np.ndarray
    start: float
    slices: list[int]
    mean: float
    deviation: float

    @property
    def stop(self) -> float:
        """Degrees, where the sector ends."""
        return (self.start + _REMOTE_DEGREES) % 360

    @property
    def voxels(self) -> int:
        """How many there are."""
        return int(self.mask.sum())


def remote_region(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> RemoteRegion | None:
    """The remote region: of all 60 degree sectors of the myocardium through the whole stack, the one with the lowest
    mean.

    This library's own rule in the place of a reader's choice of a normal region. Sectors of which most lies where the
    wall is open are not looked at, nor are slices without a cavity.

    Args:
        image: (x, y, slice), myocardium dark and infarct bright.
        labels: same shape; everything from 2 on is myocardium.
        spacing: mm along (x, y), or their ratio; by default pixels are square.

    Returns:
        The region; None without myocardium around a cavity, or where no sector has twenty voxels.
    """
    myocardium = labels >= MYOCARDIUM
    angle = np.full(labels.shape, np.nan)
    # Sectors mean something where the wall is a ring.
    for index in np.flatnonzero(myocardium.any(axis=(0, 1)) & (labels == CAVITY).any(axis=(0, 1))):
        angle[:, :, index] = voxel_angles(labels[:, :, index], spacing) % 360
    around = myocardium & np.isfinite(angle)
    signal, angles = image[around].astype(np.float64), angle[around]
    least = max(_FEWEST_VOXELS, 0.5 * len(angles) * _REMOTE_DEGREES / 360)
    best, lowest = None, np.inf
    for start in range(0, 360, 10):
        sector = (angles - start) % 360 < _REMOTE_DEGREES
        if sector.sum() >= least and signal[sector].mean() < lowest:
            best, lowest = start, signal[sector].mean()
    if best is None:
        return None
    mask = around & ((angle - best) % 360 < _REMOTE_DEGREES)
    slices = [int(index) + 1 for index in np.flatnonzero(mask.any(axis=(0, 1)))]
    return RemoteRegion(mask, float(best), slices, *_remote_signal(image, mask))


def remote_myocardium(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> np.ndarray:
    """The mask of `remote_region`: bool of the image's shape, empty where there is no such region."""
    region = remote_region(image, labels, spacing)
    return np.zeros(labels.shape, bool) if region is None else region.mask


def _remote_signal(image: np.ndarray, remote: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the remote region."""
    if not remote.any():
        raise ValueError("the remote region is empty")
    signal = image[remote].astype(np.float64)
    return float(signal.mean()), float(signal.std())


def above_deviations(image: np.ndarray, labels: np.ndarray, remote: np.ndarray, count: float) -> np.ndarray:
    """Myocardium brighter than the remote region's mean by more than `count` of its standard deviations (n-SD).

    Dark no-reflow inside an infarct is not in it; readers who want it add it by hand.

    Args:
        image: (x, y, slice).
        labels: same shape.
        remote: bool, same shape, e.g. `remote_myocardium`.
        count: 2 to 6 in the literature; 5 is usual (Bondarenko et al. 2005, J Cardiovasc Magn
            Reson 7:481-485).

    Returns:
        bool, same shape.

    Raises:
        ValueError: the remote region is empty.
    """
    mean, deviation = _remote_signal(image, remote)
    return (labels >= MYOCARDIUM) & (image > mean + count * deviation)


def inner_myocardium(labels: np.ndarray) -> np.ndarray:
    """Myocardium without its rim: the voxels whose four neighbours in the plane are myocardium too.

    A voxel on the border of the contour is partly blood, on the endocardium and at the septum, or fat.

    Args:
        labels: (x, y, slice).

    Returns:
        bool, same shape.
    """
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    return ndimage.binary_erosion(labels >= MYOCARDIUM, cross)


def _inner_maximum(image: np.ndarray, inner: np.ndarray) -> float:
    """The highest median, over inner voxels, of one and its neighbours in the plane (eight) that are inner too."""
    padded = np.pad(np.where(inner, image.astype(np.float64), np.nan), ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))[inner]
    return float(np.nanmedian(around, axis=(1, 2)).max())


def above_half_maximum(image: np.ndarray, labels: np.ndarray, remote: np.ndarray) -> np.ndarray:
    """Myocardium brighter than half way between the remote region's mean and the myocardium's maximum (full width at
    half maximum).

    A variant of Amado et al. 2004 (J Am Coll Cardiol 44:2383-2389), whose threshold is half the maximum of a region
    that a reader has drawn in the infarct. Without a reader, three rules are this library's own:

    - Zero is the remote region's mean, so that the offset of the image does not matter.
    - The maximum is of `inner_myocardium`, for blood touches the rim, and of medians over three by three voxels in the
      plane. So neither a few odd voxels nor the noise of a large infarct set it, and it does not depend on how much of
      the myocardium is infarct, as a percentile of the myocardium would.
    - Where half the maximum lies within two remote standard deviations of the remote mean, the lowest threshold of the
      n-SD methods, it does not tell infarct from noise (at one and a half, a fifteenth of all normal myocardium would
      count), and no voxel is infarct. That says nothing of the heart: `half_maximum` tells it from an infarct of none.

    What remains: a contour that takes in blood or fat two voxels deep or more sets the maximum by it, and a normal
    heart then has an infarct: in the one real normal heart tried, with the contour that its reader drew, 6.9 ml of
    99 ml of myocardium. The method measures an infarct that is known to be there and does not tell whether there is
    one. Where there is an infarct, bright voxels of the rim count with it, whatever they are. Infarct that nowhere
    fills most of three by three inner voxels, such as a layer on the endocardium thinner than three voxels or a scar in
    a wall of two, lowers the maximum or is not found. An intensity that changes across the heart, by the coils, is
    taken for contrast.

    Args:
        image: (x, y, slice).
        labels: same shape.
        remote: bool, same shape.

    Returns:
        bool, same shape.

    Raises:
        ValueError: the remote region is empty, or the wall nowhere three voxels thick.
    """
    half, deviations = half_maximum(image, labels, remote)
    if deviations <= LEAST_DEVIATIONS:
        return np.zeros(labels.shape, bool)
    return (labels >= MYOCARDIUM) & (image > half)


def half_maximum(image: np.ndarray, labels: np.ndarray, remote: np.ndarray) -> tuple[float, float]:
    """The threshold of `above_half_maximum`, and by how many remote standard deviations it exceeds the remote mean.

    Up to two (`LEAST_DEVIATIONS`) the method measures nothing: there may be no infarct, or one that the noise hides.
    Arguments and errors are those of `above_half_maximum`.
    """
    mean, deviation = _remote_signal(image, remote)
    inner = inner_myocardium(labels)
    if not inner.any():
        raise ValueError("the wall is nowhere three voxels thick")
    half = (mean + _inner_maximum(image, inner)) / 2
    if half <= mean:
        return half, 0.0
    return half, (half - mean) / deviation if deviation else np.inf
