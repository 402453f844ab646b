"""NIfTI files with any header, valid or not, and what is said of them."""

import gzip

import nibabel as nib
import numpy as np

from cascade_jax.data.emidec import read_case
from cascade_jax.data.folders import CaseFiles

PIXDIM = (1.25, 1.5, 10.0)  # x, y, slice
IMAGE_CLASS = {nib.Nifti1Header: nib.Nifti1Image, nib.Nifti2Header: nib.Nifti2Image}


def voxels(shape=(6, 5, 3)):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


def save(path, array, *, pixdim=PIXDIM, header_class=nib.Nifti1Header, gap=0, **fields):
    """Writes (x, y, slice) voxels as they are below a header with any field set to anything, valid or not.

    The gap is the number of bytes left unused between header and voxels.
    """
    header = header_class()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["pixdim"][1:4] = pixdim
    header["vox_offset"] = header.single_vox_offset + gap
    for field, value in fields.items():
        header[field] = value
    content = header.binaryblock + bytes(4 + gap) + array.tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def save_case(root, name, suffix=".nii.gz", labelled=True):
    save(root / name / "Images" / f"{name}{suffix}", voxels())
    if labelled:
        save(root / name / "Contours" / f"{name}{suffix}", np.zeros((6, 5, 3)))


def read_image(path):
    return read_case(CaseFiles("case", path, None))


def fault_of(error, path):
    """What a CaseError says of a path, once it is sure to be one line that begins with that path."""
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")
