"""How slices lie in the patient, where a file says it and can be believed."""

import nibabel as nib
import numpy as np

_OBLIQUE = 0.966  # cosine of 15 degrees


def is_oblique(normal: np.ndarray) -> bool:
    """Whether slices of that unit normal, (3,) in the patient's axes, are more than 15 degrees from axial, coronal and
    sagittal, as a short axis is."""
    return bool(np.abs(normal).max() < _OBLIQUE)


def right_handed(header: nib.Nifti1Header) -> bool | None:
    """Whether the axes (x, y, slice) of a file are right-handed in the patient.

    Returns:
        None where the header does not say so credibly: it has no affine, one whose voxels are not of pixdim's size
        (the challenge's), or one that is not oblique (put in by a program that knew nothing better).
    """
    if not (header["sform_code"] > 0 or header["qform_code"] > 0):
        return None
    axes = header.get_best_affine()[:3, :3] / np.abs(header["pixdim"][1:4])
    if not np.allclose(np.linalg.norm(axes, axis=0), 1, atol=0.01) or not is_oblique(axes[:, 2]):
        return None
    return bool(np.linalg.det(axes) > 0)
