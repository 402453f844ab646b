"""The wall of the left ventricle along spokes: thickness, infarct, endocardium.

Labels are (x, y, slice), 0 background, 1 cavity, 2 normal myocardium, 3 infarction, 4 no-reflow; "myocardium" is 2 to 4
and "infarct" 3 and 4. Angles are degrees counter-clockwise as a slice is looked at, x to the right and y downwards.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cascade_jax.data.case import BACKGROUND, CAVITY, INFARCTION, MYOCARDIUM

SPOKES = 180  # around the ventricle, every 2 degrees
_STEP = 0.1  # along a spoke, mm
_SLOPE_SPOKES = 4.0  # standard deviation of the smoothing for the endocardium's slope


@dataclasses.dataclass(frozen=True)
class Spokes:
    """Radial profiles of every slice: 180 spokes from the ventricle's centre, spoke i at 2 i + 1 degrees.

    Attributes:
        thickness: float (slice, spoke), length of the spoke in the wall's myocardium, mm; NaN where it meets none and
            in slices without a cavity.
        infarct: float (slice, spoke), its length in infarct, mm; NaN like `thickness`.
        endocardium: float (slice, spoke), where it enters the myocardium, mm from the centre; NaN like `thickness`.
        at_endocardium: bool (slice, spoke), whether it enters infarct there.
    """

    thickness: np.ndarray
    infarct: np.ndarray
    endocardium: np.ndarray
    at_endocardium: np.ndarray

    @property
    def epicardium(self) -> np.ndarray:
        """float (slice, spoke), where the spoke leaves the myocardium, mm from the centre; NaN without myocardium."""
        return self.endocardium + self.thickness

    @property
    def transmurality(self) -> np.ndarray:
        """float (slice, spoke), the infarct's percentage of the wall; NaN without myocardium."""
        return 100 * self.infarct / self.thickness


def centre_of(plane: np.ndarray) -> tuple[float, float]:
    """The ventricle's centre in a slice (x, y), in voxels: of the cavity, or of everything where there is none."""
    inside = plane == CAVITY
    x, y = ndimage.center_of_mass(inside if inside.any() else plane > 0)
    return float(x), float(y)


def spoke_angles() -> np.ndarray:
    """float (180,), degrees."""
    return (np.arange(SPOKES) + 0.5) * (360 / SPOKES)


def voxel_angles(plane: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The angle of every voxel of a slice (x, y) about the ventricle's centre, degrees in -180 to 180.

    Args:
        plane: labels (x, y).
        spacing: mm along (x, y).
    """
    x, y = np.indices(plane.shape)
    centre_x, centre_y = centre_of(plane)
    return np.rad2deg(np.arctan2(-(y - centre_y) * spacing[1], (x - centre_x) * spacing[0]))


def spoke_positions(
    plane: np.ndarray, distances: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Where points on the spokes of a slice lie, x and y in voxels.

    Args:
        plane: labels (x, y).
        distances: from the centre, mm; broadcast to (spoke, point).
        spacing: mm along (x, y).

    Returns:
        Two arrays float (spoke, point).
    """
    x, y = centre_of(plane)
    angles = np.deg2rad(spoke_angles())[:, None]
    return x + np.cos(angles) * distances / spacing[0], y - np.sin(angles) * distances / spacing[1]


def wall_of(plane: np.ndarray) -> np.ndarray:
    """The myocardium of a slice that is its wall: connected pieces, by sides or corners, between cavity and background.

    Myocardium amid the cavity (a papillary muscle) or away from it (an island that a network left) is not. Where no
    piece lies between the two, as beyond the cavity's end, the largest is the wall.

    Args:
        plane: labels (x, y).

    Returns:
        bool, same shape.
    """
    corners = np.ones((3, 3), bool)
    pieces, count = ndimage.label(plane >= MYOCARDIUM, corners)
    if not count:
        return pieces > 0
    beside_cavity = np.unique(pieces[ndimage.binary_dilation(plane == CAVITY, corners)])
    beside_background = np.unique(pieces[ndimage.binary_dilation(plane < CAVITY, corners, border_value=1)])
    between = np.intersect1d(beside_cavity, beside_background)
    between = between[between > 0]
    return np.isin(pieces, between if between.size else 1 + np.argmax(np.bincount(pieces.ravel())[1:]))


def spokes(labels: np.ndarray, spacing: Sequence[float]) -> Spokes:
    """Measures the wall along spokes.

    A spoke runs straight from the centre outwards through the wall of a slice (`wall_of`), and the length of it that
    is myocardium is the thickness. This is the library's own definition: chords of the centreline method (Sheehan et
    al. 1986, Circulation 74:293-305) stand perpendicular to the middle of the wall, whereas a spoke that crosses the
    wall at an angle is longer than the wall is thick.

    The infarct's share of a spoke's myocardium is the local transmurality: the transmural extent of infarction (Kim et
    al. 2000, N Engl J Med 343:1445-1453), on radial chords.

    A slice without a cavity has no wall to be measured, its myocardium being no ring, and NaN throughout.

    Args:
        labels: (x, y, slice).
        spacing: mm along (x, y, slice).
    """
    slices = labels.shape[2]
    thickness, infarct, endocardium = np.full((3, slices, SPOKES), np.nan)
    at_endocardium = np.zeros((slices, SPOKES), bool)
    reach = np.hypot(labels.shape[0] * spacing[0], labels.shape[1] * spacing[1])
    distances = np.arange(0, reach, _STEP) + _STEP / 2
    for index in range(slices):
        plane = labels[:, :, index]
        if not ((plane >= MYOCARDIUM).any() and (plane == CAVITY).any()):
            continue
        wall = np.where(wall_of(plane), plane, BACKGROUND)
        columns, rows = (np.rint(place).astype(int) for place in spoke_positions(plane, distances, spacing))
        inside = (columns >= 0) & (columns < plane.shape[0]) & (rows >= 0) & (rows < plane.shape[1])
        values = np.where(inside, wall[columns.clip(0, plane.shape[0] - 1), rows.clip(0, plane.shape[1] - 1)], 0)
        myocardium = values >= MYOCARDIUM
        hit = myocardium.any(axis=1)
        first = myocardium.argmax(axis=1)
        thickness[index, hit] = myocardium.sum(axis=1)[hit] * _STEP
        infarct[index, hit] = (values >= INFARCTION).sum(axis=1)[hit] * _STEP
        endocardium[index, hit] = distances[first][hit] - _STEP / 2
        at_endocardium[index] = hit & (values[np.arange(SPOKES), first] >= INFARCTION)
    return Spokes(thickness, infarct, endocardium, at_endocardium)


def endocardial_lengths(measured: Spokes) -> np.ndarray:
    """The length of the endocardium that each spoke stands for, mm: float (slice, spoke), 0 without myocardium.

    The length element sqrt(r^2 + (dr/da)^2) da of the border r(a) in polar coordinates. Its slope is taken from a
    radius smoothed over neighbouring spokes, since the steps between voxels would make any border longer.
    """
    radius = measured.endocardium
    present = np.isfinite(radius)
    weight = ndimage.gaussian_filter1d(present.astype(float), _SLOPE_SPOKES, axis=1, mode="wrap")
    smooth = ndimage.gaussian_filter1d(np.nan_to_num(radius), _SLOPE_SPOKES, axis=1, mode="wrap") / weight.clip(1e-9)
    step = np.deg2rad(360 / SPOKES)
    slope = (np.roll(smooth, -1, axis=1) - np.roll(smooth, 1, axis=1)) / (2 * step)
    inside = present & np.roll(present, 1, axis=1) & np.roll(present, -1, axis=1)
    return np.where(present, np.hypot(np.nan_to_num(radius), np.where(inside, slope, 0)) * step, 0)
