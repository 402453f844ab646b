"""Where the septum is: both insertions of the right ventricle, by a small network that was trained on simulated hearts
(`python -m launch.septum` makes its file).

Conventions are those of `cascade_jax.quantify.wall`. The network itself is a few matrix products in numpy, so that
measuring a heart waits for no compiler.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cascade_jax.data.case import CAVITY, MYOCARDIUM
from cascade_jax.quantify.wall import Spokes, centre_of, spoke_angles

DIRECTIONS = 120  # around the ventricle, every 3 degrees
DISTANCES = np.arange(-12.0, 40.0, 2.0)  # mm from the myocardium's outer border
CHANNELS = 2 * DISTANCES.size
DILATIONS = (1, 2, 4, 8, 16)  # of the network's layers, in directions
FILE = Path(__file__).parent / "septum.npz"

_LEAST_CONTRAST = 0.3  # of blood and myocardium, in standard deviations of the surroundings
_SURE = 6.0  # log odds beyond which a slice counts no more
_ARC = (40, 210)  # degrees that a septum takes
_LEAST_SEEN = 1.5  # slices
_LEAST_CLEAR = 0.5
_RINGS = ("base", "middle")


class Insertions(NamedTuple):
    """Where the right ventricle's wall meets the left's: angles in degrees, 0 to 360. The septum runs counter-clockwise
    from the anterior insertion to the inferior one, provided that the slices are not shown mirrored."""

    anterior: float
    inferior: float


def find_insertions(
    image: np.ndarray, labels: np.ndarray, spacing: Sequence[float], ring: Sequence[str | None], measured: Spokes
) -> Insertions | None:
    """The insertions of the right ventricle; None where it is not found for sure.

    For each slice of the base and the middle the network says whether it sees a right ventricle, and for each direction
    how likely the septum lies there (log odds). The mean of the log odds over the slices, each weighted by whether one
    is seen, gives one septum for the heart: the arc whose log odds sum to the most.

    Args:
        image: (x, y, slice).
        labels: same shape.
        spacing: mm along (x, y, slice).
        ring: of each slice, as `aha.rings` gives them.
        measured: the spokes of these labels.
    """
    views = [
        view_of(image[:, :, index], labels[:, :, index], spacing, measured.epicardium[index])
        for index, name in enumerate(ring)
        if name in _RINGS
    ]
    views = [view for view in views if view is not None]
    if len(views) < _LEAST_SEEN:
        return None
    return septum_in(*_seen_both_ways(np.stack(views)))


def view_of(
    image: np.ndarray, plane: np.ndarray, spacing: Sequence[float], epicardium: np.ndarray
) -> np.ndarray | None:
    """What the network sees of a slice, unrolled about the ventricle's centre along its outer border.

    Args:
        image, plane: a slice and its labels (x, y).
        spacing: mm along (x, y).
        epicardium: float (spoke,), mm from the centre, NaN where the wall is open.

    Returns:
        float32 (direction, distance and channel): the signal, 0 as dark as myocardium and 1 as bright as the cavity's
        blood, and where the labels have myocardium; None where there is no wall or no blood to compare with. Direction
        i is 3 i degrees. What lies outside the image is 0.
    """
    known = np.isfinite(epicardium)
    blood, muscle = plane == CAVITY, plane == MYOCARDIUM
    if not (known.any() and blood.any() and muscle.any()):
        return None
    angles = np.arange(DIRECTIONS) * (360 / DIRECTIONS)
    border = np.interp(angles, spoke_angles()[known], epicardium[known], period=360)
    radius = np.maximum(border[:, None] + DISTANCES, 0.0)
    x, y = centre_of(plane)
    along = np.deg2rad(angles)[:, None]
    places = x + radius * np.cos(along) / spacing[0], y - radius * np.sin(along) / spacing[1]

    signal = image.astype(np.float64)
    level = np.median(signal[muscle])
    smooth = ndimage.gaussian_filter(signal - level, [1 / size for size in spacing[:2]], mode="nearest")
    values = ndimage.map_coordinates(smooth, places, order=1, cval=0.0)
    contrast = max(abs(np.median(signal[blood]) - level), _LEAST_CONTRAST * float(values.std()), 1e-6)
    wall = ndimage.map_coordinates((plane >= MYOCARDIUM).astype(np.float32), places, order=1)
    return np.concatenate([np.clip(values / contrast, -1.5, 3.0), wall], axis=1).astype(np.float32)


@functools.cache
def network() -> dict[str, np.ndarray]:
    """The shipped network's weights, float32: `kernel_i` (tap, channel, feature) and `bias_i` of layer i."""
    with np.load(FILE, allow_pickle=False) as file:
        return {name: file[name].astype(np.float32) for name in file.files}


def evaluate(weights: Mapping[str, np.ndarray], views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network: convolutions around the circle, rectified, and a linear layer.

    Args:
        weights: as `network` gives them.
        views: (slice, direction, channel).

    Returns:
        Log odds that the septum lies in a direction, (slice, direction), and that there is one, (slice,).
    """
    values = views
    for layer, dilation in enumerate((*DILATIONS, 1)):
        kernel, bias = weights[f"kernel_{layer}"], weights[f"bias_{layer}"]
        shifts = dilation * (np.arange(len(kernel)) - len(kernel) // 2)
        outputs = bias + sum(np.roll(values, -shift, axis=1) @ tap for shift, tap in zip(shifts, kernel, strict=True))
        values = outputs if layer == len(DILATIONS) else np.maximum(outputs, 0)
    return values[:, :, 0], values[:, :, 1].mean(axis=1)


def mirror(values: np.ndarray) -> np.ndarray:
    """Views or log odds (slice, direction, ...) of slices that are turned over: direction i becomes -i."""
    return np.roll(values[:, ::-1], 1, axis=1)


def _seen_both_ways(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `evaluate` gives, the mean over slices as they are and turned over, so that neither way is preferred."""
    directions, seen = evaluate(network(), views)
    turned, still = evaluate(network(), mirror(views))
    return (directions + mirror(turned)) / 2, (seen + still) / 2


def septum_in(directions: np.ndarray, seen: np.ndarray) -> Insertions | None:
    """The septum that the slices agree on; None where too few see one or their mean is not clear.

    Args:
        directions, seen: log odds, as `evaluate` gives them.
    """
    weight = 1 / (1 + np.exp(-seen))
    if weight.sum() < _LEAST_SEEN:
        return None
    odds = weight @ np.clip(directions, -_SURE, _SURE) / weight.sum()
    step = 360 // DIRECTIONS
    lengths = np.arange(_ARC[0] // step, _ARC[1] // step + 1)
    sums = np.concatenate([[0.0], np.cumsum(np.tile(odds, 2))])
    starts = np.arange(DIRECTIONS)[:, None]
    start, length = np.unravel_index(np.argmax(sums[starts + lengths] - sums[starts]), (DIRECTIONS, lengths.size))
    inside = (np.arange(DIRECTIONS) - start) % DIRECTIONS < lengths[length]
    probability = 1 / (1 + np.exp(-odds))
    if probability[inside].mean() - probability[~inside].mean() < _LEAST_CLEAR:
        return None
    last = start + lengths[length] - 1
    return Insertions(step * _crossing(odds, int(start), -1) % 360, step * _crossing(odds, last, 1) % 360)


def _crossing(odds: np.ndarray, end: int, outward: int) -> float:
    """Where between the last direction inside an arc and the next one the odds are even, in directions."""
    inside, outside = odds[end % DIRECTIONS], odds[(end + outward) % DIRECTIONS]
    share = np.clip(inside / (inside - outside), 0, 1) if inside > outside else 0.5
    return float(end + outward * share)
