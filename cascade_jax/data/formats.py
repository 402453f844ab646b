"""Files of images and labels, whatever their format: NIfTI, and by a library NRRD, MetaImage and pairs of files."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import reading
from cascade_jax.data.geometry import Geometry, GeometryError, geometry_of_header
from cascade_jax.data.nifti import SUFFIXES as NIFTI
from cascade_jax.data.nifti import read_nifti, read_nifti_geometry
from cascade_jax.extras import missing

_BY_SIMPLEITK = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (*NIFTI, ".hdr", *_BY_SIMPLEITK)
_MOST_AFFINE_BYTES = 2**16
# What other programs keep images in, to be named where it is skipped.
OTHER_FORMATS = (
    ".dcm",
    ".ima",
    ".hdr.gz",
    ".img.gz",
    ".nii.bz2",
    ".nii.xz",
    ".nii.zst",
    ".mgz",
    ".mgh",
    ".mnc",
    ".vtk",
)


def stem_of(path: Path) -> str | None:
    """The name of a file of an image or of labels without its ending; None where it is no such file.

    Hidden files are other programs' leavings, such as the "._" twins that macOS adds to archives.
    """
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and not path.name.startswith("."):
            return path.name[: -len(suffix)]
    return None


def is_nifti(path: Path) -> bool:
    """Whether a file has the name of a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def read_stack(path: Path) -> tuple[nib.Nifti1Header, Geometry, np.ndarray]:
    """A file's header, its grid, and its voxels along the file's axes.

    Other formats than NIfTI get the NIfTI header of the same grid.

    Raises:
        CaseError: the file is missing, damaged or of another kind, or not a stack of slices of real numbers.
    """
    return read_nifti(path) if is_nifti(path) else _read_other(path)


def read_stack_geometry(path: Path) -> tuple[nib.Nifti1Header, Geometry]:
    """A file's header and its grid; raises CaseError as `read_stack` does."""
    return read_nifti_geometry(path) if is_nifti(path) else _read_other(path)[:2]


def _read_other(path: Path) -> tuple[nib.Nifti1Header, Geometry, np.ndarray]:
    with reading(path), open(path, "rb"):
        pass
    read = _read_by_simpleitk if path.name.lower().endswith(_BY_SIMPLEITK) else _read_pair
    header, load = read(path)
    if len(header.get_data_shape()) < 2 or any(length != 1 for length in header.get_data_shape()[3:]):
        raise CaseError(path, f"has {len(header.get_data_shape())} dimensions where 3 are expected (x, y, slice)")
    try:
        geometry = geometry_of_header(header)
    except GeometryError as error:
        raise CaseError(path, str(error)) from None
    try:
        voxels = np.asarray(load())
    except Exception as error:  # of a damaged file; either library raises many kinds
        raise CaseError(path, f"is truncated or damaged ({type(error).__name__})") from None
    if voxels.dtype.kind not in "iuf":
        raise CaseError(path, f"has the data type {voxels.dtype}, not real numbers")
    return header, geometry, voxels.reshape(geometry.shape)


def _read_pair(path: Path):
    """The header of a `.hdr` beside its `.img` (NIfTI or Analyze), and what loads its voxels."""
    beside = path.with_suffix(".mat")
    if beside.exists() and beside.stat().st_size > _MOST_AFFINE_BYTES:  # nibabel unpacks it whatever it holds
        raise CaseError(beside, "is no affine, which would have a few hundred bytes")
    try:
        with LoggingOutputSuppressor():  # what is wrong with a header is said here, in a line
            image = nib.load(path)
            header = nib.Nifti1Header.from_header(image.header, check=False)
    except FileNotFoundError:
        raise CaseError(path, "has no .img beside it") from None
    except Exception as error:
        raise CaseError(path, f"is no header of an image ({type(error).__name__})") from None
    header["vox_offset"] = 0
    return header, image.get_fdata  # type: ignore[attr-defined]  # a pair of files has it


def _read_by_simpleitk(path: Path):
    if install := missing("formats"):
        raise CaseError(path, f"needs {install} to be read ({path.suffix})")
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in (".mha", ".mhd") else "NrrdImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise CaseError(path, f"is no {path.suffix} file, or is damaged") from None
    count, size = reader.GetDimension(), reader.GetSize()
    if not count:
        raise CaseError(path, "has no dimensions")
    if reader.GetNumberOfComponents() != 1:
        raise CaseError(path, f"has {reader.GetNumberOfComponents()} values a voxel where 1 is expected")
    affine, spacing = np.eye(4), np.ones(3)
    plane = min(count, 3)
    spacing[:plane] = reader.GetSpacing()[:plane]
    affine[:plane, :plane] = np.reshape(reader.GetDirection(), (count, count))[:plane, :plane]
    affine[:plane, 3] = reader.GetOrigin()[:plane]
    affine[:3, :3] *= spacing
    affine[:2] *= -1  # LPS to NIfTI's RAS
    if max(size) > np.iinfo(np.int16).max:
        raise CaseError(path, f"announces {' x '.join(map(str, size))} voxels, more than a stack of slices has")
    header = nib.Nifti1Header()
    try:
        header.set_data_shape(size)
        header.set_sform(affine, code=1)
        header.set_qform(affine, code=1)
    except Exception as error:  # of a place that cannot be; NumPy and nibabel raise many kinds
        raise CaseError(path, f"has a corrupt header ({type(error).__name__})") from None
    header.set_xyzt_units("mm")
    return header, lambda: SimpleITK.GetArrayFromImage(reader.Execute()).T
