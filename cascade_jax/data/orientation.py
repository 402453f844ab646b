"""How slices lie in the patient, where a file says it and can be believed."""

import dataclasses
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from cascade_jax.data.case import Case

_OBLIQUE = 0.966  # cosine of 15 degrees
_RIGHT_ANGLES = 1e-3  # by how much the products of an affine's axes may miss 0, and 1 with themselves


def is_oblique(normal: np.ndarray) -> bool:
    """Whether slices of that unit normal, (3,) in the patient's axes, are more than 15 degrees from axial, coronal and
    sagittal, as a short axis is."""
    return bool(np.abs(normal).max() < _OBLIQUE)


def credible_affine(header: nib.Nifti1Header | None, spacing: Sequence[float]) -> np.ndarray | None:
    """How voxels (x, y, slice) lie in the patient, mm: float (4, 4).

    Args:
        header: of the file, or None.
        spacing: the voxels' true size along (x, y, slice), mm.

    Returns:
        None where the header does not say it credibly: it has no affine, or one whose axes are not of the voxels' size
        (the challenge's say 1 mm), not at right angles, or not finite.
    """
    if header is None or not (header["sform_code"] > 0 or header["qform_code"] > 0):
        return None
    try:
        affine = header.get_best_affine()
    except (ValueError, HeaderDataError):  # a quaternion that is none
        return None
    axes = affine[:3, :3] / np.asarray(spacing)
    credible = np.isfinite(affine).all() and np.allclose(axes.T @ axes, np.eye(3), atol=_RIGHT_ANGLES)
    return affine if credible else None


def right_handed(header: nib.Nifti1Header) -> bool | None:
    """Whether the axes (x, y, slice) of a file are right-handed in the patient.

    Returns:
        None where the header does not say so credibly (`credible_affine`), or says that the slices are not oblique,
        which a program put in that knew nothing better.
    """
    spacing = np.abs(header["pixdim"][1:4])
    affine = credible_affine(header, spacing)
    if affine is None or not is_oblique(affine[:3, 2] / spacing[2]):
        return None
    return bool(np.linalg.det(affine[:3, :3]) > 0)


def with_credible_affine(case: Case) -> Case:
    """The case with a header that programs may measure by: its own if credible, else one of the voxels' size."""
    spacing = case.spacing[::-1]
    if credible_affine(case.header, spacing) is not None:
        return case
    header = nib.Nifti1Header()
    header.set_data_shape(case.image.shape[::-1])
    header.set_sform(np.diag([*spacing, 1.0]), code=1)
    header.set_qform(np.diag([*spacing, 1.0]), code=1)
    header.set_xyzt_units("mm")
    return dataclasses.replace(case, header=header)
