"""How slices lie in the patient, where a file says it and can be believed."""

import dataclasses

import nibabel as nib
import numpy as np

from cascade_jax.data.case import Case
from cascade_jax.data.geometry import Geometry, geometry_of_array, geometry_of_header, true_affine

_OBLIQUE = 0.966  # cosine of 15 degrees
_PLANES = ("sagittal", "coronal", "axial")  # by the axis (RAS) that their normal lies along
_EXACTLY = 1e-6
_POSITIVE, _NEGATIVE = "RAH", "LPF"  # along the patient's axes (RAS)
_SECOND_LETTER = 0.5  # cosine of 60 degrees


def is_oblique(normal: np.ndarray) -> bool:
    """Whether slices of that unit normal, (3,) in the patient's axes, are more than 15 degrees from axial, coronal and
    sagittal, as a short axis is."""
    return bool(np.abs(normal).max() < _OBLIQUE)


def geometry_of_case(case: Case) -> Geometry:
    """The grid of a case, along the axes of its file."""
    if case.header is None:
        return geometry_of_array(case.image.shape, case.spacing)
    return geometry_of_header(case.header)


def right_handed(geometry: Geometry) -> bool | None:
    """Whether the axes (x, y, slice) of a file are right-handed in the patient.

    Returns:
        None where the file does not say so credibly, or says that the slices are not oblique, which a program put in
        that knew nothing better.
    """
    axes = _directions(geometry)
    return None if axes is None else bool(np.linalg.det(axes) > 0)


def sides_of_picture(geometry: Geometry) -> dict[str, str] | None:
    """Which sides of the body the edges of a slice's picture are towards, x to the right and y downwards.

    Returns:
        {"left", "right", "top", "bottom": letters} as DICOM has them: R and L right and left, A and P anterior and
        posterior, H and F head and feet; the nearest direction first and a second one where it is not far behind, as on
        an oblique slice. None where the file does not say so credibly, as `right_handed`.
    """
    axes = _directions(geometry)
    if axes is None:
        return None
    x, y = axes[:, 0], axes[:, 1]
    return {"left": _letters(-x), "right": _letters(x), "top": _letters(-y), "bottom": _letters(y)}


def lies_along_the_body(geometry: Geometry) -> str | None:
    """Whether slices are "axial", "coronal" or "sagittal", within 15 degrees; None where they are oblique, as a short
    axis is, or where the file does not say it credibly.

    Not credible, beside what `Geometry` calls so, is an affine that is exactly along the axes from the origin: programs
    put it in that know the size alone. A scanner's slices do not begin at its centre.
    """
    if geometry.affine is None:
        return None
    axes = geometry.affine[:3, list(geometry.axes)]
    normal = np.abs(axes[:, 2] / np.linalg.norm(axes[:, 2]))
    if is_oblique(normal):
        return None
    straight = (np.abs(axes) > _EXACTLY * np.linalg.norm(axes, axis=0)).sum() == 3
    if straight and not geometry.affine[:3, 3].any():
        return None
    return _PLANES[int(normal.argmax())]


def _directions(geometry: Geometry) -> np.ndarray | None:
    """Unit directions of (x, y, slice) in the patient's axes (RAS), float (3, 3) in columns; None as `right_handed`."""
    if geometry.affine is None:
        return None
    axes = geometry.affine[:3, list(geometry.axes)]
    axes = axes / np.linalg.norm(axes, axis=0)
    return axes if is_oblique(axes[:, 2]) else None


def _letters(direction: np.ndarray) -> str:
    """The one or two letters of a unit direction in the patient's axes (RAS)."""
    order = np.argsort(-np.abs(direction), kind="stable")[:2]
    letters = [(_POSITIVE if direction[axis] > 0 else _NEGATIVE)[axis] for axis in order]
    return letters[0] + (letters[1] if abs(direction[order[1]]) > _SECOND_LETTER else "")


def with_true_affine(case: Case) -> Case:
    """The case with a header that programs may measure by: its own if that is credible, else one of the voxels' true
    size, with the directions of its own (`geometry.true_affine`)."""
    geometry = geometry_of_case(case)
    if geometry.affine is not None:
        return case
    affine = true_affine(geometry, case.header)
    header = nib.Nifti1Header()
    header.set_data_shape(geometry.shape)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    return dataclasses.replace(case, header=header)
