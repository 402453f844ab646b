"""From a case to the grid the networks see, and back to the case's own grid."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from cascade_jax.data.border import outside_field_of_view
from cascade_jax.data.case import Case, CaseError


@dataclasses.dataclass(frozen=True)
class Grid:
    """How an example's voxels lie in the case it was made from; all in (depth, height, width).

    Attributes:
        case_shape: the case's own shape.
        box: first and one-past-last voxel of the case's field of view along each axis, as ((start, stop), ...).
        resampled_shape: the field of view's shape after resampling.
        extent: ((start, stop), ...) where the resampled field of view stands in the example; the rest is padding.
        offset: how many resampled voxels were cut off at the start of each axis where the example is smaller.
    """

    case_shape: tuple[int, int, int]
    box: tuple[tuple[int, int], ...]
    resampled_shape: tuple[int, int, int]
    extent: tuple[tuple[int, int], ...]
    offset: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Example:
    """A case as the networks see it.

    Attributes:
        name: the case's name.
        image: float32 (depth, height, width); tissue has mean 0 and standard deviation 1, all else is 0.
        labels: uint8 (depth, height, width), or None.
        grid: the way back.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray | None
    grid: Grid

    @property
    def valid(self) -> np.ndarray:
        """bool (depth, height, width): True in the field of view, False where there is padding."""
        valid = np.zeros(self.image.shape, bool)
        valid[inside(self.grid)] = True
        return valid


def inside(grid: Grid) -> tuple[slice, ...]:
    """Where in an example its field of view stands."""
    return tuple(slice(*limits) for limits in grid.extent)


def bounding_box(image: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The bounding box of tissue (all but the border, `border.outside_field_of_view`) in the plane, over all slices;
    every slice is kept.

    Args:
        image: (depth, height, width).

    Returns:
        ((start, stop), ...) for each axis; the whole image where there is no tissue.
    """
    return _bounding_box(~outside_field_of_view(image))


def _bounding_box(tissue: np.ndarray) -> tuple[tuple[int, int], ...]:
    depth, *plane = tissue.shape
    tissue = np.asarray(tissue.any(axis=0))
    if not tissue.any():
        return ((0, depth), *((0, size) for size in plane))
    rows, columns = np.flatnonzero(tissue.any(axis=1)), np.flatnonzero(tissue.any(axis=0))
    return ((0, depth), (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1))


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], target_spacing: Sequence[float]
) -> tuple[int, int, int]:
    """The shape of a volume after resampling in the plane from `spacing` (depth, height, width) to `target_spacing`
    (height, width), all in mm."""
    depth, *plane = shape
    sizes = zip(plane, spacing[1:], target_spacing, strict=True)
    height, width = (max(1, round(size * old / new)) for size, old, new in sizes)
    return depth, height, width


def _resample_plane(plane: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    """Resamples (height, width) to `shape`; voxels are areas, so the outer edges coincide."""
    if plane.shape == tuple(shape):
        return plane
    zoom = [new / old for new, old in zip(shape, plane.shape, strict=True)]
    return scipy.ndimage.zoom(plane, zoom, order=order, mode="nearest", grid_mode=True)


def _resample_labels(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resamples integer labels (height, width): each label's indicator linearly, and the largest wins."""
    if plane.shape == tuple(shape):
        return plane
    present = np.unique(plane)
    indicators = [_resample_plane((plane == label).astype(np.float32), shape, order=1) for label in present]
    return present[np.argmax(indicators, axis=0)].astype(plane.dtype)


def _placement(size: int, available: int) -> tuple[int, int, int]:
    """Centres `size` voxels in `available`: where they start and stop there, and how many are cut off in front."""
    if size <= available:
        start = (available - size) // 2
        return start, start + size, 0
    return 0, available, (size - available) // 2


def _mean_and_deviation(case: Case, tissue: np.ndarray) -> tuple[float, float]:
    # Of no voxel at all there is no mean.
    mean, deviation = (f(case.image[tissue], dtype=np.float64) if tissue.any() else 0.0 for f in (np.mean, np.std))
    if not deviation > 0:
        raise CaseError(case.name, "all tissue has the same intensity")
    return mean, deviation


def field_of_view(case: Case) -> tuple[int, int, int]:
    """The shape of what `preprocess` cuts out of a case, (depth, height, width); raises CaseError as that does."""
    tissue = ~outside_field_of_view(case.image)
    _mean_and_deviation(case, tissue)
    depth, height, width = (stop - start for start, stop in _bounding_box(tissue))
    return depth, height, width


def preprocess(case: Case, target_spacing: tuple[float, float], shape: tuple[int, int, int]) -> Example:
    """Brings a case to the networks' grid.

    The field of view is cut out, resampled in the plane (image: cubic; labels: linear on each label's indicator),
    normalised by mean and standard deviation of its tissue, and centred in `shape`. Slices are never resampled.

    Args:
        case: the case.
        target_spacing: mm along (height, width).
        shape: of the example, (depth, height, width); what does not fit is cut off evenly on both sides.

    Returns:
        The example.

    Raises:
        CaseError: the image has no contrast to normalise by.
    """
    tissue = ~outside_field_of_view(case.image)
    mean, deviation = _mean_and_deviation(case, tissue)
    box = _bounding_box(tissue)
    cut_out = tuple(slice(*limits) for limits in box)
    image, tissue = case.image[cut_out], tissue[cut_out]
    # The border takes the tissue's mean, so that it is 0 afterwards and cubic interpolation does not ring at its edge.
    image = np.where(tissue, (image - mean) / deviation, 0.0).astype(np.float32)

    full_shape = resampled_shape(image.shape, case.spacing, target_spacing)
    placements = [_placement(size, available) for size, available in zip(full_shape, shape, strict=True)]
    extent = tuple((start, stop) for start, stop, _ in placements)
    offset = tuple(cut for _, _, cut in placements)
    source = tuple(slice(cut, cut + stop - start) for start, stop, cut in placements)
    target = tuple(slice(start, stop) for start, stop, _ in placements)

    padded_image = np.zeros(shape, np.float32)
    padded_image[target] = np.stack([_resample_plane(plane, full_shape[1:], order=3) for plane in image])[source]
    padded_labels = None
    if case.labels is not None:
        padded_labels = np.zeros(shape, np.uint8)
        padded_labels[target] = np.stack([_resample_labels(plane, full_shape[1:]) for plane in case.labels[cut_out]])[
            source
        ]
    grid = Grid(case.image.shape, box, full_shape, extent, offset)
    return Example(case.name, padded_image, padded_labels, grid)


def heart_box(labels: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """The bounding box of all that is labelled, or the field of view where nothing is.

    Args:
        labels: integer (depth, height, width).
        extent: integer (3, 2), where along each axis the field of view starts and stops.

    Returns:
        int32 (3, 2).
    """
    if not labels.any():
        return np.asarray(extent, np.int32)
    occupied = [np.flatnonzero((labels > 0).any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return np.array([(indices[0], indices[-1] + 1) for indices in occupied], np.int32)


def restore_scores(scores: np.ndarray, grid: Grid) -> np.ndarray:
    """Brings the networks' result back to the case's own grid.

    Args:
        scores: float (depth, height, width, class) on the example's grid: probabilities, or votes with the mean
            probabilities as fractions. They are resampled linearly.
        grid: the example's.

    Returns:
        float32 (*case's own shape, class); 1 for background wherever the networks did not look.
    """
    restored = np.zeros((*grid.case_shape, scores.shape[-1]), np.float32)
    restored[..., 0] = 1.0
    _, height, width = grid.resampled_shape
    box_shape = [stop - start for start, stop in grid.box[1:]]
    (first, _), rows, columns = grid.extent
    for index in range(grid.extent[0][1] - first):
        full = np.zeros((height, width, scores.shape[-1]), np.float32)
        full[..., 0] = 1.0
        here = scores[first + index, slice(*rows), slice(*columns)]
        full[grid.offset[1] : grid.offset[1] + here.shape[0], grid.offset[2] : grid.offset[2] + here.shape[1]] = here
        for label in range(scores.shape[-1]):
            restored[grid.offset[0] + index, slice(*grid.box[1]), slice(*grid.box[2]), label] = _resample_plane(
                full[..., label], box_shape, order=1
            )
    return restored


def restore_labels(scores: np.ndarray, grid: Grid) -> np.ndarray:
    """uint8 labels in the case's own shape: the largest of `restore_scores`."""
    return np.argmax(restore_scores(scores, grid), axis=-1).astype(np.uint8)
