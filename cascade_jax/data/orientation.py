"""How slices lie in the patient, where a file says it and can be believed."""

import dataclasses

import nibabel as nib
import numpy as np

from cascade_jax.data.case import Case
from cascade_jax.data.geometry import Geometry, geometry_of_array, geometry_of_header, true_affine

_OBLIQUE = 0.966  # cosine of 15 degrees


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
    if geometry.affine is None:
        return None
    axes = geometry.affine[:3, list(geometry.axes)]
    if not is_oblique(axes[:, 2] / np.linalg.norm(axes[:, 2])):
        return None
    return bool(np.linalg.det(axes) > 0)


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
