"""NIfTI files as stacks of slices: checked before they are believed, and written so that they are complete or not
there."""

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from cascade_jax.data.case import CaseError
from cascade_jax.data.files import reading, replacing
from cascade_jax.data.geometry import Geometry, GeometryError, geometry_of_header

SUFFIXES = (".nii", ".nii.gz")
_MOST_EXTENSION_BYTES = 64 << 20


def read_nifti(path: Path) -> tuple[nib.Nifti1Header, Geometry, np.ndarray]:
    """The header as it stands in the file, its grid, and the voxels along the file's axes, scaled as it says.

    No more is read, or unpacked, than the header announces, and that only once it is credible.

    Raises:
        CaseError: the file is missing, truncated or no NIfTI file, or not a stack of slices of real numbers.
    """
    with _opened(path) as file:
        header, geometry, content = _read_header(path, file)
        dtype, offset = _storage(path, header)
        expected = math.prod(geometry.shape) * dtype.itemsize
        content += _read_bytes(path, file, offset + expected - len(content))
        _read_bytes(path, file, 1)  # at the end of what was packed its checksum is looked at
    if (found := max(len(content) - offset, 0)) < expected:
        raise CaseError(path, f"is truncated: {found} bytes of voxels where {expected} are expected")
    header = _parsed(path, content, lambda kind: kind.from_fileobj(io.BytesIO(content[:offset]), check=False))
    voxels = np.frombuffer(content, dtype, math.prod(geometry.shape), offset).reshape(geometry.shape, order="F")
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise CaseError(path, f"has a corrupt header: {error}") from None
    # What overflows becomes infinite, which the callers refuse.
    with np.errstate(over="ignore", invalid="ignore"):
        return header, geometry, apply_read_scaling(voxels, slope, inter)


def read_nifti_geometry(path: Path) -> tuple[nib.Nifti1Header, Geometry]:
    """The header without its extensions, and its grid; raises CaseError as `read_nifti` does."""
    with _opened(path) as file:
        return _read_header(path, file)[:2]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[gzip.GzipFile | BinaryIO]:
    with reading(path):
        if path.exists() and not path.is_file():  # a pipe never ends
            raise CaseError(path, "is no ordinary file")
        file = open(path, "rb")  # noqa: SIM115 closed below
    with reading(path), file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield gzip.GzipFile(fileobj=file) if packed else file


def _read_bytes(path: Path, file: BinaryIO, count: int) -> bytes:
    try:
        return file.read(max(count, 0))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CaseError(path, f"is truncated or damaged: {error}") from None


def _parsed(path: Path, content: bytes, parse: Callable) -> nib.Nifti1Header:
    """What `parse` makes of the class of header that the file has."""
    if content[344:348] == b"n+1\0":
        kind = nib.Nifti1Header
    elif content[4:8] == b"n+2\0":
        kind = nib.Nifti2Header
    else:
        raise CaseError(path, "is not a NIfTI file" if content else "is empty")
    try:
        return parse(kind)
    except Exception as error:  # nibabel documents none, and a damaged header can make it raise many kinds
        raise CaseError(path, f"has a corrupt header: {type(error).__name__}") from None


def _read_header(path: Path, file: BinaryIO) -> tuple[nib.Nifti1Header, Geometry, bytes]:
    """The header without its extensions, its grid, and all that was read so far."""
    content = _read_bytes(path, file, nib.Nifti2Header.sizeof_hdr)
    # Unchecked, because nibabel's check repairs what must be reported here, such as a negative pixdim.
    header = _parsed(path, content, lambda kind: kind(content[: kind.sizeof_hdr], check=False))
    dimensions = int(header["dim"][0])
    # One slice may come in two dimensions, one point in time in four.
    if not 2 <= dimensions <= 7 or (header["dim"][4 : dimensions + 1] != 1).any():
        raise CaseError(path, f"has {dimensions} dimensions where 3 are expected (x, y, slice)")
    try:
        return header, geometry_of_header(header), content
    except GeometryError as error:
        raise CaseError(path, str(error)) from None


def _storage(path: Path, header: nib.Nifti1Header) -> tuple[np.dtype, int]:
    """The voxels' data type, and their offset in the file."""
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        raise CaseError(path, f"has the unknown data type {int(header['datatype'])}") from None
    if dtype.kind not in "iuf":
        raise CaseError(path, f"has the data type {header.get_value_label('datatype')}, not real numbers")
    # Files with a vox_offset of 0 exist; like nibabel, take their voxels to follow the header.
    offset, first = float(header["vox_offset"]), header.single_vox_offset
    if not np.isfinite(offset) or offset > first + _MOST_EXTENSION_BYTES:
        raise CaseError(path, f"has a corrupt header: vox_offset is {offset:g}")
    return dtype, max(int(offset), first)


def write_nifti(path: Path, array: np.ndarray, header: nib.Nifti1Header, geometry: Geometry, dtype) -> None:
    """Writes voxels below a header of which only data type and scaling change; the same bytes every time.

    Args:
        path: the file, which ends in .nii.gz; its folder is made where it is missing.
        array: (depth, height, width).
        header: of the file that the voxels belong to.
        geometry: its grid.
        dtype: in which they are stored.

    Raises:
        CaseError: the file cannot be written.
    """
    header = header.copy()
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    # nibabel then puts the voxels right behind the header and its extensions.
    header["vox_offset"] = 0
    content = io.BytesIO()
    header.write_to(content)
    content.write(geometry.to_file(array).astype(header.get_data_dtype()).tobytes(order="F"))

    with replacing(path) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(partial, "wb") as file,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed,
        ):
            compressed.write(content.getbuffer())
