"""What a NIfTI header says of its voxels' size and place, checked against itself, and how one file's grid lies in
another's."""

import dataclasses
import math
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

# What a short-axis stack of the heart has. Anything else is a header that says the wrong thing.
IN_PLANE_MM = (0.4, 4.0)
BETWEEN_SLICES_MM = (2.0, 25.0)
_LONGEST_STACK_MM, _WIDEST_SLICE_MM = 500.0, 1000.0
MOST_VOXELS = 2**25  # 128 slices of 512 x 512; read and checked, such a file takes a gigabyte

_MM_OF_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's codes: unknown, metre, millimetre, micron
_SAME_SIZE = 1e-2  # between pixdim and affine of one file, which programs round differently
_SAME_GRID = 2e-3  # between two files, for voxel sizes and directions
_RIGHT_ANGLES = 1e-3  # by how much the products of an affine's axes may miss 0, and 1 with themselves


class GeometryError(ValueError):
    """What is wrong with a grid, or with two; words to follow a file's name."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The grid of a file; all but `spacing` in the order of the file's axes.

    Attributes:
        shape: voxels along each axis.
        size_mm: of a voxel along each axis; along the slices NaN for a single slice whose file does not say how thick
            it is.
        axes: which of the file's axes is x, y and slice: (0, 1, 2) but for files that have their slices first.
        affine: float (4, 4), mm, from voxels to the patient's coordinates (RAS), or None where the file does not say it
            credibly, as the challenge's files do not (1 mm whatever the size is).
    """

    shape: tuple[int, int, int]
    size_mm: tuple[float, float, float]
    axes: tuple[int, int, int]
    affine: np.ndarray | None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm along (depth, height, width)."""
        x, y, depth = (self.size_mm[axis] for axis in self.axes)
        return depth, y, x

    def from_file(self, array: np.ndarray) -> np.ndarray:
        """An array along the file's axes as (depth, height, width); a view."""
        return array.transpose(self.axes[::-1])

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """An array (depth, height, width) along the file's axes; a view."""
        return array.transpose(np.argsort(self.axes[::-1]))


def geometry_of_header(header: nib.Nifti1Header) -> Geometry:
    """The grid of a file's header.

    The voxels' size stands in pixdim and in the affine's columns. Where the two differ, that one counts with which the
    file can be a short-axis stack; an affine of 1 mm voxels, as the challenge's files have, never can.

    Args:
        header: with 2 dimensions or more, of which only the first three are longer than 1.

    Raises:
        GeometryError: a size is not positive, a unit unknown, two credible sizes contradict each other, or the size is
            none that a short-axis stack has.
    """
    dimensions = min(int(header["dim"][0]), 3)
    shape = (*(int(length) for length in header["dim"][1 : dimensions + 1]), 1, 1)[:3]
    if min(shape) < 1:
        raise GeometryError(f"has an empty dimension: {_counts(shape[:dimensions])} voxels")
    if math.prod(shape) > MOST_VOXELS:
        raise GeometryError(f"announces {_counts(shape)} voxels, more than a stack of slices has")
    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM_OF_UNITS:
        raise GeometryError(f"has voxels in an unknown unit (code {unit} in xyzt_units)")
    pixdim = header["pixdim"][1 : dimensions + 1].astype(np.float64)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise GeometryError(f"has no valid voxel size: {_sizes(pixdim)} mm in pixdim")
    pixdim = _three(pixdim * _MM_OF_UNITS[unit])
    affine = _affine_of(header, _MM_OF_UNITS[unit])
    candidates = [pixdim]
    if affine is not None and _has_right_angles(affine):
        # All ones is what programs write that know no size.
        candidates = [size for size in (pixdim, _lengths(affine)) if not np.allclose(size, 1)] or candidates
    if len(candidates) == 2:
        for axis in (axis for axis in range(3) if shape[axis] == 1):  # a single slice's thickness may stand in either
            candidates[0][axis] = candidates[1][axis] = next(
                (size[axis] for size in candidates if _is_thickness(size[axis])), 1.0
            )
        if np.allclose(candidates[0], candidates[1], rtol=_SAME_SIZE):
            candidates.pop()
    fitting = [(size, axes) for size in candidates if (axes := _stack_axes(shape, size)) is not None]
    if not fitting:
        raise GeometryError(_not_a_stack(shape, candidates[0]))
    if len(fitting) > 1:
        raise GeometryError(
            f"contradicts itself: voxels of {_sizes(fitting[0][0])} mm by pixdim, {_sizes(fitting[1][0])} mm by its "
            "affine"
        )
    size, axes = fitting[0]
    credible = affine is not None and _is_credible(affine, shape, size)
    if shape[axes[2]] == 1 and not _is_thickness(size[axes[2]]):
        size[axes[2]] = np.nan
    return Geometry(shape, tuple(map(float, size)), axes, affine if credible else None)


def geometry_of_array(shape: Sequence[int], spacing: Sequence[float]) -> Geometry:
    """The grid of an array that never was a file.

    Args:
        shape, spacing: voxels, and mm, along (depth, height, width).
    """
    return Geometry(tuple(shape[::-1]), tuple(spacing[::-1]), (0, 1, 2), None)


def check_spacing(shape: Sequence[int], spacing: Sequence[float]) -> None:
    """Raises GeometryError where an array cannot be a short-axis stack.

    Args:
        shape, spacing: voxels, and mm, along (x, y, slice). A single slice may have any thickness, or NaN.
    """
    if not _is_stack(shape, spacing, (0, 1, 2)):
        raise GeometryError(_not_a_stack(shape, spacing))


def onto(voxels: np.ndarray, own: Geometry, reference: Geometry, name: str) -> np.ndarray:
    """Voxels of one file on the grid of another.

    Where both files say credibly how they lie in the patient, axes are permuted and mirrored as need be, which changes
    no voxel. Where one does not, both must have the same shape and voxel size, and the voxels stay as they are.

    Args:
        voxels: along the axes of the file that they are from.
        own: its grid.
        reference: the grid of the other file.
        name: what the other file is called, such as "its image a.nii.gz".

    Returns:
        A view of the voxels, (depth, height, width) of the other file.

    Raises:
        GeometryError: the two do not have the same voxels.
    """
    if own.affine is None or reference.affine is None:
        _compare(_in_order(own), _in_order(reference), name)
        return own.from_file(voxels)
    between = np.linalg.inv(reference.affine) @ own.affine  # from the one's voxels to the other's
    turn = np.rint(between[:3, :3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        _compare(_in_order(own), _in_order(reference), name)
        raise GeometryError(f"lies at an angle to {name}")
    source = np.argmax(np.abs(turn), axis=1)  # of each of the other's axes, which of its own it is
    mirrored = turn[np.arange(3), source] < 0
    shape = tuple(own.shape[axis] for axis in source)
    _compare((shape, tuple(own.size_mm[axis] for axis in source)), (reference.shape, reference.size_mm), name)
    if np.abs(between[:3, :3] - turn).max() > _SAME_GRID:
        raise GeometryError(f"lies at an angle to {name}")
    first = np.where(mirrored, np.array(reference.shape) - 1, 0)
    beside = between[:3, 3] - first
    if np.abs(beside).max() > 0.5:
        millimetres = np.linalg.norm(reference.affine[:3, :3] @ beside)
        raise GeometryError(f"lies {millimetres:.3g} mm beside {name}")
    turned = np.flip(voxels.transpose(source), tuple(np.flatnonzero(mirrored)))
    return reference.from_file(turned)


def true_affine(geometry: Geometry, header: nib.Nifti1Header | None) -> np.ndarray:
    """An affine of the voxels' true size, float (4, 4) along the file's axes, mm.

    The file's own if it is credible. Else one with its directions and its first voxel's place, of which only the size
    is put right; or with no direction at all where it has none at right angles.
    """
    if geometry.affine is not None:
        return geometry.affine
    size = np.nan_to_num(geometry.size_mm, nan=1.0)
    affine = None if header is None else _affine_of(header, _MM_OF_UNITS[int(header["xyzt_units"]) & 7])
    if affine is None or not _has_right_angles(affine):
        return np.diag([*size, 1.0])
    result = affine.copy()
    result[:3, :3] *= size / _lengths(affine)
    return result


def _affine_of(header: nib.Nifti1Header, millimetres: float) -> np.ndarray | None:
    """The header's affine in mm, where it has one whose axes are not finite or 0."""
    if not (header["sform_code"] > 0 or header["qform_code"] > 0):
        return None
    try:
        with np.errstate(all="ignore"):
            affine = header.get_best_affine() * np.array([[millimetres]] * 3 + [[1.0]])
    except (ValueError, HeaderDataError):  # a quaternion that is none
        return None
    usable = np.isfinite(affine).all() and (np.abs(affine[:3, :3]) < 1e6).all()
    return affine if usable and abs(np.linalg.det(affine[:3, :3])) > 1e-9 else None


def _lengths(affine: np.ndarray) -> np.ndarray:
    """mm of a voxel along each axis, float (3,)."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def _has_right_angles(affine: np.ndarray) -> bool:
    directions = affine[:3, :3] / _lengths(affine)
    return np.allclose(directions.T @ directions, np.eye(3), atol=_RIGHT_ANGLES)


def _is_credible(affine: np.ndarray, shape: Sequence[int], size: np.ndarray) -> bool:
    """Whether an affine's axes are at right angles and of the voxels' size; along a single slice any will do."""
    several = np.array(shape) > 1
    return _has_right_angles(affine) and np.allclose(_lengths(affine)[several], size[several], rtol=_RIGHT_ANGLES)


def _stack_axes(shape: Sequence[int], size: Sequence[float]) -> tuple[int, int, int] | None:
    """Which axes are x, y and slice, or None where they cannot be.

    Slices are the third axis, unless the file can only be, or is rather, a stack along another one: there the voxels
    are longest and fewest.
    """
    fitting = [axes for axes in ((0, 1, 2), (1, 2, 0), (0, 2, 1)) if _is_stack(shape, size, axes)]
    others = [
        axes
        for axes in fitting
        if axes[2] != 2 and size[axes[2]] == max(size) and shape[axes[2]] < min(shape[axes[0]], shape[axes[1]])
    ]
    if (0, 1, 2) in fitting and not (others and size[others[0][2]] > size[2]):
        return 0, 1, 2
    return others[0] if others else None


def _is_stack(shape: Sequence[int], size: Sequence[float], axes: tuple[int, int, int]) -> bool:
    *plane, depth = axes
    in_plane = all(_inside(size[axis], IN_PLANE_MM) and size[axis] * shape[axis] <= _WIDEST_SLICE_MM for axis in plane)
    if shape[depth] == 1:
        return in_plane
    return in_plane and _inside(size[depth], BETWEEN_SLICES_MM) and size[depth] * shape[depth] <= _LONGEST_STACK_MM


def _is_thickness(value: float) -> bool:
    return _inside(value, BETWEEN_SLICES_MM)


def _inside(value: float, limits: tuple[float, float]) -> bool:
    # Headers hold float32, in which 0.4 is a little less.
    return limits[0] * (1 - 1e-6) <= value <= limits[1] * (1 + 1e-6)


def _not_a_stack(shape: Sequence[int], size: Sequence[float]) -> str:
    return (
        f"has {_counts(shape)} voxels of {_sizes(size)} mm, which is no short-axis stack: those are "
        f"{IN_PLANE_MM[0]:g} to {IN_PLANE_MM[1]:g} mm in the plane, {BETWEEN_SLICES_MM[0]:g} to "
        f"{BETWEEN_SLICES_MM[1]:g} mm between slices, up to {_WIDEST_SLICE_MM / 1000:g} m wide and "
        f"{_LONGEST_STACK_MM / 1000:g} m long"
    )


def _in_order(geometry: Geometry) -> tuple[tuple, tuple]:
    """Shape and voxel size along (x, y, slice)."""
    shape, size = (tuple(values[axis] for axis in geometry.axes) for values in (geometry.shape, geometry.size_mm))
    return shape, size


def _compare(own: tuple[tuple, tuple], other: tuple[tuple, tuple], name: str) -> None:
    (shape, size), (other_shape, other_size) = own, other
    if shape != other_shape:
        raise GeometryError(f"is {_counts(shape)} voxels, but {name} is {_counts(other_shape)}")
    known = ~(np.isnan(size) | np.isnan(other_size))
    if not np.allclose(np.array(size)[known], np.array(other_size)[known], rtol=_SAME_GRID, atol=0):
        raise GeometryError(f"has voxels of {_sizes(size)} mm, but {name} of {_sizes(other_size)} mm")


def _three(size: np.ndarray) -> np.ndarray:
    return np.array([*size, 1.0, 1.0])[:3]


def _sizes(size: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in size)


def _counts(shape: Sequence[int]) -> str:
    return " x ".join(str(int(length)) for length in shape)
