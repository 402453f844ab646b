"""Cases in the EMIDEC challenge's layout: reading and writing them. `folders` finds where they lie.

Files hold their voxels as (x, y, slice), the library as (depth, height, width).
"""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from cascade_jax.data import formats, orientation
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.folders import CONTOURS, IMAGES, CaseFiles
from cascade_jax.data.geometry import Geometry, GeometryError, onto
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.data.nifti import write_nifti


def from_file_axes(array: np.ndarray) -> np.ndarray:
    """The (x, y, slice) of files to the library's (depth, height, width); a view."""
    return array.transpose(2, 1, 0)


def to_file_axes(array: np.ndarray) -> np.ndarray:
    """The library's (depth, height, width) to the (x, y, slice) of files; a view."""
    return array.transpose(2, 1, 0)


def read_case(files: CaseFiles, table: LabelTable = EMIDEC) -> Case:
    """Reads and validates one case.

    Args:
        files: of the case.
        table: which labels there are.

    Returns:
        The case with its image as float32 and its labels, where the files have any, as uint8, both
        (depth, height, width), the spacing in mm, and a copy of the image's header. Labels are brought to the image's
        grid where both files say credibly how they lie (`geometry.onto`). The spacing along the depth is NaN for a
        single slice whose file does not say how thick it is.

    Raises:
        CaseError: a file is missing, truncated or of another kind; it does not hold three non-empty dimensions
            of real numbers with a voxel size that a short-axis stack has; the image has a voxel that is not finite, or
            one value throughout; the labels are not whole numbers of the table (0 to 4), or not on the image's grid.
    """
    header, geometry, voxels = formats.read_stack(files.image)
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(geometry.from_file(voxels), np.float32)
    unusable = np.count_nonzero(~np.isfinite(image))
    if unusable:
        raise CaseError(files.image, f"{unusable} of {image.size} voxels are NaN or infinite")
    if image.min() == image.max():
        raise CaseError(files.image, f"is constant: every voxel has the value {image.flat[0]:g}")
    labels = None
    if files.contour is not None:
        labels, _ = read_labels(files.contour, table, like=geometry, name=f"its image {files.image.name}")
    return Case(files.name, image, labels, geometry.spacing, header)


def read_geometry(path) -> Geometry:
    """The grid of a file of an image or of labels.

    Raises:
        CaseError: the file cannot be read, or its header says nothing credible.
    """
    return formats.read_stack_geometry(Path(path))[1]


def read_labels(
    path, table: LabelTable = EMIDEC, *, like: Geometry | None = None, name: str = ""
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Reads and validates a label file.

    Args:
        path: the file.
        table: which labels there are.
        like: the grid that the labels are brought to; None leaves them on their own.
        name: what is of that grid, such as "the truth".

    Returns:
        The labels, uint8 (depth, height, width), and their spacing in mm along the same axes.

    Raises:
        CaseError: as `read_case` does for labels.
    """
    path = Path(path)
    voxels, spacing = _read_voxels(path, like, name)
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
    return np.ascontiguousarray(labels, np.uint8), spacing


def read_voxels(path, *, like: Geometry | None = None, name: str = "") -> np.ndarray:
    """A file's voxels as they are, (depth, height, width), brought to another grid as for `read_labels`.

    Raises:
        CaseError: it is no stack of real numbers, or not on that grid.
    """
    return _read_voxels(Path(path), like, name)[0]


def _read_voxels(path: Path, like: Geometry | None, name: str) -> tuple[np.ndarray, tuple[float, float, float]]:
    _, geometry, voxels = formats.read_stack(path)
    if like is None:
        return geometry.from_file(voxels), geometry.spacing
    try:
        return onto(voxels, geometry, like, name), like.spacing
    except GeometryError as error:
        raise CaseError(path, str(error)) from None


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
    _write(path_in(root, IMAGES, case.name), case.image, case, np.float64)
    if case.labels is not None:
        _write(path_in(root, CONTOURS, case.name), case.labels, case, np.float64)


def write_labels(root, labels: np.ndarray, case: Case, kind: str = CONTOURS) -> Path:
    """Writes labels for a case with the case's own header, in which only data type and scaling change.

    Args:
        root: the output folder, made where it is missing.
        labels: uint8 (depth, height, width), 0 to 4, in the case's own grid.
        case: the case that the labels are for.
        kind: CONTOURS, or `folders.CORRECTED` for those that a reader has corrected.

    Returns:
        The file written, `<root>/<case.name>/Contours/<case.name>.nii.gz`, which holds uint8. It appears
        under that name only when complete.

    Raises:
        CaseError: the folder cannot be written to.
        ValueError: the labels are not on the case's grid.
    """
    path = path_in(root, kind, case.name)
    write_labels_as(path, labels, case)
    return path


def write_labels_as(path: Path, labels: np.ndarray, case: Case) -> None:
    """As `write_labels`, to a file that ends in .nii.gz."""
    if labels.shape != case.image.shape:
        raise ValueError(f"labels of shape {labels.shape} for an image of shape {case.image.shape}")
    _write(path, labels, case, np.uint8)


def write_maps(root, maps: Mapping[str, np.ndarray | None], case: Case) -> None:
    """Writes maps as float32 where `path_in` says, and removes those that an earlier prediction left.

    Args:
        root: the output folder, made where it is missing.
        maps: {DOUBT or DISAGREEMENT: float (depth, height, width) in the case's own grid, or None for no such map}.
        case: the case that they are for.

    Raises:
        CaseError: the folder cannot be written to.
    """
    for kind, values in maps.items():
        path = path_in(root, kind, case.name)
        if values is None:
            path.unlink(missing_ok=True)
        else:
            _write(path, values, case, np.float32)


def contour_path(root, name: str) -> Path:
    """Where `write_labels` puts the labels of the case of that name."""
    return path_in(root, CONTOURS, name)


def path_in(root, kind: str, name: str) -> Path:
    """Where what is known of a case of that name lies in a folder: IMAGES, CONTOURS, DOUBT, DISAGREEMENT or
    CORRECTED."""
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


def _write(path: Path, array: np.ndarray, case: Case, dtype) -> None:
    header = _challenge_header(case) if case.header is None else case.header
    write_nifti(path, array, header, orientation.geometry_of_case(case), dtype)
