"""Cases in the EMIDEC challenge's layout: finding, reading and writing them.

    <root>/<case>/Images/<any name>.nii.gz      the image
    <root>/<case>/Contours/<any name>.nii.gz    its labels, absent in the challenge's test set

Only this module knows that files hold their voxels as (x, y, slice), and that the voxel size has to come from
the header's pixdim: the challenge's affines carry 1 mm voxels whatever the true size is.
"""

import contextlib
import dataclasses
import gzip
import io
import math
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from cascade_jax.data import orientation
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import replacing
from cascade_jax.data.labels import EMIDEC, LabelTable

IMAGES, CONTOURS = "Images", "Contours"
# Maps of where not to believe the labels: 1 minus the highest mean probability, and the share of folds that disagree.
DOUBT, DISAGREEMENT = "Doubt", "Disagreement"
SUFFIXES = (".nii", ".nii.gz")
_CHANNEL = "_0000"


@dataclasses.dataclass(frozen=True)
class CaseFiles:
    """Where one case lies: its name, its image, and its labels or None where it has none."""

    name: str
    image: Path
    contour: Path | None


def from_file_axes(array: np.ndarray) -> np.ndarray:
    """The (x, y, slice) of files to the library's (depth, height, width); a view."""
    return array.transpose(2, 1, 0)


def to_file_axes(array: np.ndarray) -> np.ndarray:
    """The library's (depth, height, width) to the (x, y, slice) of files; a view."""
    return array.transpose(2, 1, 0)


def find_cases(root, *, labelled: bool = False, faults: dict[str, str] | None = None) -> list[CaseFiles]:
    """The cases of a cohort in the challenge's layout, sorted by name.

    A case is a folder of any name with an `Images` folder in it; the folder's name is the case's. Everything
    else in the root, such as the challenge's text files with clinical facts, is passed over.

    Args:
        root: the cohort's folder.
        labelled: whether every case must have labels.
        faults: where given, takes what is wrong with single cases, by name, and they are left out; else it is raised.

    Raises:
        CaseError: the root is missing, no folder or holds no case; a case has no image or several; it has
            several contours, or none although `labelled`; two names differ only in upper and lower case.
    """
    root = Path(root)
    folders = _folders_with(root, IMAGES)
    if not folders:
        raise CaseError(root, f"holds no case: expected <case>/{IMAGES}/*.nii.gz")
    cases = []
    for folder in folders:
        with _collecting(faults, folder.name):
            cases.append(_case_in(folder, labelled))
    _refuse_duplicates(root, ((case.name, case.image) for case in cases))
    return cases


def _case_in(folder: Path, labelled: bool) -> CaseFiles:
    contours = _nifti_files(folder / CONTOURS) if os.path.isdir(folder / CONTOURS) else []
    if len(contours) > 1:
        raise CaseError(folder / CONTOURS, _several(contours))
    if labelled and not contours:
        raise CaseError(folder, f"has no contour: expected a NIfTI file in its {CONTOURS} folder")
    return CaseFiles(folder.name, _only_nifti_file(folder / IMAGES), contours[0] if contours else None)


@contextlib.contextmanager
def _collecting(faults: dict[str, str] | None, name: str):
    """Puts what is wrong with one case into `faults`, if there is such a thing."""
    try:
        yield
    except CaseError as error:
        if faults is None:
            raise
        faults[name] = str(error)


def find_contours(root, *, faults: dict[str, str] | None = None) -> dict[str, Path]:
    """The labels of a cohort by case name, sorted, whether or not its images are there too.

    Args:
        root: a folder of `<case>/Contours/*.nii.gz`: predictions, or the challenge's own truth; or a folder of
            NIfTI files, each named like its case, as other programs write them.
        faults: as for `find_cases`.

    Raises:
        CaseError: the root is missing, no folder or holds no contours, or holds both files and cases; a `Contours`
            folder holds no file or several; two names differ only in upper and lower case.
    """
    root = Path(root)
    folders, files = _folders_with(root, CONTOURS), _nifti_files(root)
    if not folders and not files:
        raise CaseError(root, f"holds no contours: expected <case>/{CONTOURS}/*.nii.gz or <case>.nii.gz")
    _refuse_mixture(root, files, folders)
    contours = {_stem(path): path for path in files}
    if files:
        _refuse_duplicates(root, ((_stem(path), path) for path in files))
        return dict(sorted(contours.items()))
    for folder in folders:
        with _collecting(faults, folder.name):
            contours[folder.name] = _only_nifti_file(folder / CONTOURS)
    _refuse_duplicates(root, contours.items())
    return contours


def find_inputs(path, *, faults: dict[str, str] | None = None) -> list[CaseFiles]:
    """The images to be segmented, sorted by name.

    Args:
        path: one NIfTI file, a folder of NIfTI files (each a case named like its file, without nnU-Net's `_0000` if
            all have it), or a cohort in the challenge's layout.
        faults: as for `find_cases`.

    Raises:
        CaseError: the path is missing or holds nothing to read; a folder holds both files and cases; two
            cases would have one name, such as `a.nii` beside `a.nii.gz`; and as `find_cases`.
    """
    path = Path(path)
    with _reading(path):
        is_file = path.is_file()
    if is_file:
        if not _has_nifti_name(path):
            raise CaseError(path, "is not a NIfTI file: expected a name that ends in .nii or .nii.gz")
        return [CaseFiles(_stem(path), path, None)]
    images = _nifti_files(path)
    folders = _folders_with(path, IMAGES)
    _refuse_mixture(path, images, folders)
    if folders:
        return find_cases(path, faults=faults)
    if not images:
        raise CaseError(path, f"holds neither NIfTI files nor cases as <case>/{IMAGES}/*.nii.gz")
    stems = [_stem(image) for image in images]
    if all(stem.endswith(_CHANNEL) for stem in stems):  # nnU-Net's images, whose cases are named without
        stems = [stem.removesuffix(_CHANNEL) for stem in stems]
    _refuse_duplicates(path, zip(stems, images, strict=True))
    named = [CaseFiles(stem, image, None) for stem, image in zip(stems, images, strict=True)]
    return sorted(named, key=lambda case: case.name)


def _refuse_mixture(root: Path, files: list[Path], folders: list[Path]) -> None:
    if files and folders:
        raise CaseError(
            root, f"holds NIfTI files ({files[0].name}) beside case folders ({folders[0].name}): which are meant?"
        )


@contextlib.contextmanager
def _reading(path: Path):
    """What the operating system says against reading a path, said as a CaseError."""
    try:
        yield
    except FileNotFoundError:
        raise CaseError(path, "no such file or folder") from None
    except NotADirectoryError:
        raise CaseError(path, "is not a folder") from None
    except OSError as error:
        raise CaseError(path, f"cannot be read: {error.strerror}") from None


def _folders_with(root: Path, subfolder: str) -> list[Path]:
    with _reading(root):
        return [folder for folder in sorted(root.iterdir()) if (folder / subfolder).is_dir()]


def _has_nifti_name(path: Path) -> bool:
    # Hidden files are other programs' leavings, such as the "._" twins that macOS adds to archives.
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def _stem(path: Path) -> str:
    name = path.name
    for suffix in reversed(SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _nifti_files(folder: Path) -> list[Path]:
    with _reading(folder):
        return [path for path in sorted(folder.iterdir()) if _has_nifti_name(path) and path.is_file()]


def _only_nifti_file(folder: Path) -> Path:
    files = _nifti_files(folder)
    if not files:
        raise CaseError(folder, "holds no NIfTI file (.nii or .nii.gz)")
    if len(files) > 1:
        raise CaseError(folder, _several(files))
    return files[0]


def _several(files: list[Path]) -> str:
    return f"holds {len(files)} NIfTI files where one is expected: {', '.join(file.name for file in files)}"


def _refuse_duplicates(root: Path, named_paths: Iterable[tuple[str, Path]]) -> None:
    """Upper and lower case are the same here, as they are to some file systems when results are written."""
    seen: dict[str, Path] = {}
    for name, path in named_paths:
        other = seen.setdefault(name.casefold(), path)
        if other != path:
            raise CaseError(
                root,
                f"holds two cases named {name}: {other.relative_to(root)} and {path.relative_to(root)}",
            )


def read_case(files: CaseFiles, table: LabelTable = EMIDEC) -> Case:
    """Reads and validates one case.

    Args:
        files: of the case.
        table: which labels there are.

    Returns:
        The case with its image as float32 and its labels, where the files have any, as uint8, both
        (depth, height, width), the spacing in mm from pixdim, and a copy of the image's header.

    Raises:
        CaseError: a file is missing, truncated or no NIfTI file; it does not hold three non-empty dimensions
            of real numbers with a positive voxel size; the image has a voxel that is not finite, or one value
            throughout; the labels are not whole numbers of the table (0 to 4), or not of the image's shape.
    """
    header, voxels = _read_nifti(files.image)
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(from_file_axes(voxels), np.float32)
    unusable = np.count_nonzero(~np.isfinite(image))
    if unusable:
        raise CaseError(files.image, f"{unusable} of {image.size} voxels are NaN or infinite")
    if image.min() == image.max():
        raise CaseError(files.image, f"is constant: every voxel has the value {image.flat[0]:g}")
    labels = None
    if files.contour is not None:
        labels, _ = read_labels(files.contour, table)
        if labels.shape != image.shape:
            raise CaseError(
                files.contour,
                f"is {_size(to_file_axes(labels).shape)} voxels, but its image {files.image.name} is "
                f"{_size(to_file_axes(image).shape)}",
            )
    return Case(files.name, image, labels, _spacing(header), header)


def read_labels(path, table: LabelTable = EMIDEC) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Reads and validates a label file.

    Args:
        path: the file.
        table: which labels there are.

    Returns:
        The labels, uint8 (depth, height, width), and their spacing in mm along the same axes.

    Raises:
        CaseError: as `read_case` does for labels.
    """
    path = Path(path)
    header, voxels = _read_nifti(path)
    voxels = from_file_axes(voxels)
    with np.errstate(invalid="ignore"):
        labels = np.rint(voxels)
        # Programs that store labels as scaled integers give them back as, say, 2.99998.
        wrong = ~(np.abs(voxels - labels) < 1e-3) | (labels < 0) | (labels >= len(table.names))
    if wrong.any():
        raise CaseError(
            path,
            f"holds the value {voxels[wrong][0]:g} where labels are whole numbers from 0 to "
            f"{len(table.names) - 1} ({np.count_nonzero(wrong)} of {wrong.size} voxels are wrong)",
        )
    return np.ascontiguousarray(labels, np.uint8), _spacing(header)


def read_right_handed(path) -> bool | None:
    """Whether a file's axes (x, y, slice) are right-handed in the patient; None where it does not say so credibly.

    Raises:
        CaseError: the file cannot be read.
    """
    path = Path(path)
    return orientation.right_handed(_parse_header(path, _read_bytes(path)))


def read_voxels(path) -> np.ndarray:
    """A file's voxels as they are, (depth, height, width).

    Raises:
        CaseError: it is no stack of real numbers.
    """
    return from_file_axes(_read_nifti(Path(path))[1])


def _spacing(header: nib.Nifti1Header) -> tuple[float, float, float]:
    x, y, slice_distance = (float(zoom) for zoom in header["pixdim"][1:4])
    # A single slice in two dimensions has no distance to another.
    return slice_distance if header["dim"][0] > 2 else 1.0, y, x


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(int(length)) for length in shape)


def _read_nifti(path: Path) -> tuple[nib.Nifti1Header, np.ndarray]:
    """The header as it stands in the file, and the voxels (x, y, slice), scaled as it says."""
    content = _read_bytes(path)
    header = _parse_header(path, content)
    shape, dtype, offset = _check_header(path, header)
    count = math.prod(shape)
    found, expected = max(len(content) - offset, 0), count * dtype.itemsize
    if found < expected:
        raise CaseError(path, f"is truncated: {found} bytes of voxels where {expected} are expected")
    voxels = np.frombuffer(content, dtype, count, offset).reshape(shape, order="F")
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise CaseError(path, f"has a corrupt header: {error}") from None
    # What overflows becomes infinite, which the callers refuse.
    with np.errstate(over="ignore", invalid="ignore"):
        return header, apply_read_scaling(voxels, slope, inter)


def _read_bytes(path: Path) -> bytes:
    with _reading(path):
        content = path.read_bytes()
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CaseError(path, f"is truncated or damaged: {error}") from None


def _parse_header(path: Path, content: bytes) -> nib.Nifti1Header:
    if content[344:348] == b"n+1\0":
        header_class = nib.Nifti1Header
    elif content[4:8] == b"n+2\0":
        header_class = nib.Nifti2Header
    else:
        raise CaseError(path, "is not a NIfTI file" if content else "is empty")
    try:
        # Unchecked, because nibabel's check repairs what must be reported here, such as a negative pixdim.
        return header_class.from_fileobj(io.BytesIO(content), check=False)
    except Exception as error:  # nibabel documents none, and a damaged header can make it raise many kinds
        raise CaseError(path, f"has a corrupt header: {type(error).__name__}") from None


def _check_header(path: Path, header: nib.Nifti1Header) -> tuple[tuple[int, ...], np.dtype, int]:
    """The shape, data type and offset in the file of what the header says is a stack of slices."""
    dimensions = int(header["dim"][0])
    # One slice may come in two dimensions, one point in time in four.
    if not 2 <= dimensions <= 7 or (header["dim"][4 : dimensions + 1] != 1).any():
        raise CaseError(path, f"has {dimensions} dimensions where 3 are expected (x, y, slice)")
    shape = tuple(int(length) for length in header["dim"][1 : min(dimensions, 3) + 1])
    shape += (1,) * (3 - len(shape))
    if min(shape) < 1:
        raise CaseError(path, f"has an empty dimension: {_size(shape)} voxels")
    size = header["pixdim"][1 : min(dimensions, 3) + 1]
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise CaseError(path, f"has no valid voxel size: {' x '.join(f'{length:g}' for length in size)} mm in pixdim")
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        raise CaseError(path, f"has the unknown data type {int(header['datatype'])}") from None
    if dtype.kind not in "iuf":
        raise CaseError(path, f"has the data type {header.get_value_label('datatype')}, not real numbers")
    if not np.isfinite(header["vox_offset"]):
        raise CaseError(path, f"has a corrupt header: vox_offset is {header['vox_offset']}")
    # Files with a vox_offset of 0 exist; like nibabel, take their voxels to follow the header.
    return shape, dtype, max(int(header["vox_offset"]), header.single_vox_offset)


def write_case(root, case: Case) -> None:
    """Writes a case in the challenge's layout, image and labels as float64 like the challenge's files.

    The case's own header is used where it has one. Otherwise the header is like the challenge's: an affine of
    1 mm voxels, and the true voxel size in pixdim only. The same case gives the same bytes every time.

    Args:
        root: the cohort's folder, made where it is missing. What is written there is
            `<case.name>/Images/<case.name>.nii.gz` and, where the case has labels, the same under `Contours`.

    Raises:
        CaseError: the folder cannot be written to.
    """
    _write_nifti(_path(root, IMAGES, case.name), case.image, case, np.float64)
    if case.labels is not None:
        _write_nifti(_path(root, CONTOURS, case.name), case.labels, case, np.float64)


def write_labels(root, labels: np.ndarray, case: Case) -> Path:
    """Writes labels for a case with the case's own header, in which only data type and scaling change.

    Args:
        root: the output folder, made where it is missing.
        labels: uint8 (depth, height, width), 0 to 4, in the case's own grid.
        case: the case that the labels are for.

    Returns:
        The file written, `<root>/<case.name>/Contours/<case.name>.nii.gz`, which holds uint8. It appears
        under that name only when complete.

    Raises:
        CaseError: the folder cannot be written to.
        ValueError: the labels are not on the case's grid.
    """
    if labels.shape != case.image.shape:
        raise ValueError(f"labels of shape {labels.shape} for an image of shape {case.image.shape}")
    path = _path(root, CONTOURS, case.name)
    _write_nifti(path, labels, case, np.uint8)
    return path


def write_map(root, kind: str, values: np.ndarray, case: Case) -> None:
    """Writes a map, float (depth, height, width) in the case's own grid, as float32 where `map_path` says.

    Args:
        root: the output folder, made where it is missing.
        kind: DOUBT or DISAGREEMENT.
        values: the map.
        case: the case that it is for.

    Raises:
        CaseError: the folder cannot be written to.
    """
    _write_nifti(map_path(root, kind, case.name), values, case, np.float32)


def map_path(root, kind: str, name: str) -> Path:
    """Where `write_map` puts the map of the case of that name."""
    return _path(root, kind, name)


def contour_path(root, name: str) -> Path:
    """Where `write_labels` puts the labels of the case of that name."""
    return _path(root, CONTOURS, name)


def _path(root, kind: str, name: str) -> Path:
    return Path(root) / name / kind / f"{name}.nii.gz"


def _challenge_header(case: Case) -> nib.Nifti1Header:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    header = nib.Nifti1Header()
    header.set_data_shape(to_file_axes(case.image).shape)
    header.set_qform(affine, code=0)
    header.set_sform(affine, code=2)
    # Last, because set_qform overwrites pixdim with the affine's voxel size.
    header.set_zooms(case.spacing[::-1])
    return header


def _write_nifti(path: Path, array: np.ndarray, case: Case, dtype) -> None:
    header = _challenge_header(case) if case.header is None else case.header.copy()
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    # nibabel then puts the voxels right behind the header and its extensions.
    header["vox_offset"] = 0
    content = io.BytesIO()
    header.write_to(content)
    content.write(to_file_axes(array).astype(header.get_data_dtype()).tobytes(order="F"))

    with replacing(path) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(partial, "wb") as file,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed,
        ):
            compressed.write(content.getbuffer())
