"""A short-axis stack out of DICOM files, and labels back as a DICOM segmentation beside them.

Needs the `dicom` extra. Patients' names, dates and numbers are read by no one here; the segmentation carries those of
its source series, as the standard demands.
"""

import dataclasses
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import replacing
from cascade_jax.data.orientation import is_oblique

_SAME_DIRECTION = 0.999  # cosine between slices of one stack
_LARGEST_UNEVENNESS = 0.1  # of a slice distance, as a share of the median
_LARGEST_SHEAR_MM = 2.0  # of a slice in its own plane, against the first

# What the standard wants in every image, empty if unknown, and what programs that remove identities leave out.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclasses.dataclass(frozen=True)
class Slice:
    """One image of a series.

    Attributes:
        dataset: the file it is from.
        frame: its number in a multi-frame file, from 0; None in a classic one.
        position: of the first voxel's centre, mm in the patient's coordinates (LPS).
        across, down: unit vectors along a row and along a column.
        spacing: mm between rows and between columns.
    """

    dataset: pydicom.Dataset
    frame: int | None
    position: np.ndarray
    across: np.ndarray
    down: np.ndarray
    spacing: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.across, self.down)

    @property
    def height(self) -> float:
        """mm along the normal."""
        return float(self.position @ self.normal)

    def pixels(self) -> np.ndarray:
        """float32 (height, width) after the rescale slope."""
        array = self.dataset.pixel_array
        if self.frame is not None:  # pydicom drops the axis of a single frame
            array = array.reshape(-1, *array.shape[-2:])[self.frame]
        holder = self.dataset
        if self.frame is not None and (groups := _group(self.dataset, self.frame, "PixelValueTransformationSequence")):
            holder = groups
        slope, intercept = (float(holder.get(name, neutral)) for name, neutral in _RESCALING)
        return np.asarray(array, np.float32) * slope + intercept


_RESCALING = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))


@dataclasses.dataclass(frozen=True)
class Series:
    """The slices of one stack, sorted along their normal.

    Attributes:
        description: "series 5 (PSIR)", the series' number and description.
        slices: of distinct positions.
    """

    description: str
    slices: tuple[Slice, ...]

    @property
    def slice_distance(self) -> float:
        """mm between neighbouring slices' centres, by their positions; for one slice, its thickness or 1."""
        if len(self.slices) > 1:
            return float(np.median(np.diff([one.height for one in self.slices])))
        return float(self.slices[0].dataset.get("SliceThickness") or 1.0)


def _contents(source: Path) -> Iterator[bytes]:
    """The content of every file of a folder, at any depth, or of a zip archive."""
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            yield path.read_bytes()
    elif zipfile.is_zipfile(source):
        try:
            with zipfile.ZipFile(source) as archive:
                for name in sorted(name for name in archive.namelist() if not name.endswith("/")):
                    yield archive.read(name)
        except (RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # encrypted, damaged
            raise CaseError(source, f"cannot be read: {error}") from None
    else:
        raise CaseError(source, "is neither a folder nor a zip archive of DICOM files")


def _group(dataset: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset | None:
    """A functional group of one frame, its own or the shared one."""
    own = dataset.PerFrameFunctionalGroupsSequence[frame]
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for groups in (own, shared[0] if shared else None):
        if groups is not None and groups.get(name):
            return groups[name].value[0]
    return None


def _slice(dataset: pydicom.Dataset, frame: int | None) -> Slice | None:
    """One image's geometry, or None where the file gives none."""
    if frame is None:
        position = orientation = measures = dataset
    else:
        position, orientation, measures = (
            _group(dataset, frame, name)
            for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
        )
    if position is None or orientation is None or measures is None:
        return None
    values = [
        holder.get(name)
        for holder, name in (
            (position, "ImagePositionPatient"),
            (orientation, "ImageOrientationPatient"),
            (measures, "PixelSpacing"),
        )
    ]
    if any(value is None for value in values):
        return None
    where, directions, spacing = (np.array(value, np.float64) for value in values)
    return Slice(dataset, frame, where, directions[:3], directions[3:], (float(spacing[0]), float(spacing[1])))


def _slices(source: Path) -> Iterator[Slice]:
    for content in _contents(source):
        try:
            dataset = pydicom.dcmread(io.BytesIO(content))
        except InvalidDicomError:
            continue  # a README, a DICOMDIR's neighbour
        if "Rows" not in dataset or "PixelData" not in dataset or dataset.get("Modality", "MR") != "MR":
            continue  # a report, an earlier segmentation
        if "LOCALIZER" in [str(word).upper() for word in dataset.get("ImageType", ())]:
            continue
        for name in _MAY_BE_EMPTY:
            if name not in dataset:
                setattr(dataset, name, "")
        frames = range(int(dataset.NumberOfFrames)) if "PerFrameFunctionalGroupsSequence" in dataset else [None]
        for frame in frames:
            if (one := _slice(dataset, frame)) is not None:
                yield one


def find_series(source) -> list[Series]:
    """Every stack of parallel slices in a folder or zip archive: oblique ones first, as a short axis is, and of those
    the one with the most slices.

    Files may lie in any order and several series together. What is no DICOM image, and localisers, are passed over; so
    are series whose slices are not parallel, and objects that are no MR images, such as an earlier segmentation.

    Raises:
        CaseError: there is no stack, or a file cannot be read.
    """
    source = Path(source)
    if not source.exists():
        raise CaseError(source, "no such file or folder")
    groups: dict[tuple, list[Slice]] = {}
    for one in _slices(source):
        dataset = one.dataset
        key = (dataset.get("SeriesInstanceUID"), dataset.Rows, dataset.Columns, tuple(np.round(one.spacing, 4)))
        groups.setdefault(key, []).append(one)
    found = []
    for slices in groups.values():
        if any(one.normal @ slices[0].normal < _SAME_DIRECTION for one in slices):
            continue
        first = slices[0].dataset
        text = str(first.get("SeriesDescription", "")).strip()
        description = f"series {first.get('SeriesNumber', '?')}" + (f" ({text})" if text else "")
        found.append(Series(description, tuple(sorted(slices, key=lambda one: one.height))))
    if not found:
        raise CaseError(source, "holds no DICOM stack of parallel slices (localisers do not count)")
    return sorted(found, key=lambda series: (not is_oblique(series.slices[0].normal), -len(series.slices)))


def choose_series(source, number: int | None = None) -> Series:
    """The series to segment.

    Args:
        source: the folder or zip archive.
        number: its series number; None takes the one that `find_series` has first among those that are evenly spaced
            stacks of one image at each position.

    Raises:
        CaseError: two have as many, there is none of that number, or no series is such a stack.
    """
    found = find_series(source)
    listed = "; ".join(f"{series.description}: {len(series.slices)} slices" for series in found)
    if number is not None:
        found = [series for series in found if series.slices[0].dataset.get("SeriesNumber") == number]
        if not found:
            raise CaseError(source, f"has no stack in series {number}; it has {listed}")
    usable = [series for series in found if _fault(series) is None]
    if not usable:
        raise CaseError(source, f"{found[0].description} {_fault(found[0])}")
    ranks = [(is_oblique(series.slices[0].normal), len(series.slices)) for series in usable]
    if number is None and ranks.count(ranks[0]) > 1:
        raise CaseError(source, f"has several series that could be meant, give a number: {listed}")
    return usable[0]


def _fault(series: Series) -> str | None:
    """Why a series is no stack to segment, if so."""
    positions = np.array([one.position for one in series.slices])
    normal, distance = series.slices[0].normal, series.slice_distance
    distances = np.diff(positions @ normal)
    if (distances < 1e-3).any():
        return "has several images at one position (phases, or two contrasts)"
    if distances.size and np.abs(distances - distance).max() > _LARGEST_UNEVENNESS * distance:
        return f"lacks a slice: distances are {distances.min():.3g} to {distances.max():.3g} mm"
    beside = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    if (shift := np.linalg.norm(beside, axis=1).max()) > _LARGEST_SHEAR_MM:
        return f"has slices that do not lie over one another: up to {shift:.3g} mm beside"
    missing = [name for name in _NEEDED if any(not one.dataset.get(name) for one in series.slices)]
    return f"has an image without {missing[0]}" if missing else None


def read_series(source, series: Series, name: str) -> Case:
    """A series as a case, with the patient's coordinates in its header.

    Args:
        source: where it came from, for messages.
        series: as `choose_series` gives it.
        name: the case's.

    Raises:
        CaseError: pixels cannot be decoded, or are all alike.
    """
    try:
        image = np.stack([one.pixels() for one in series.slices])
    except Exception as error:  # pydicom's decoders raise many kinds
        raise CaseError(source, f"{series.description} cannot be decoded: {str(error).splitlines()[0]}") from None
    if image.ndim != 3 or not np.isfinite(image).all() or image.min() == image.max():
        raise CaseError(source, f"{series.description} is no grey image with contrast")
    first, distance = series.slices[0], series.slice_distance
    rows, columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.across * columns, first.down * rows
    affine[:3, 2], affine[:3, 3] = first.normal * distance, first.position
    affine[:2] *= -1  # LPS to NIfTI's RAS
    header = nib.Nifti1Header()
    header.set_data_shape(image.shape[::-1])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    return Case(name, image, None, (distance, rows, columns), header)


def source_order(series: Series, labels: np.ndarray) -> tuple[Sequence[pydicom.Dataset], np.ndarray]:
    """The source images, and labels (frame, height, width) in the order in which those hold their frames."""
    if series.slices[0].frame is None:
        return [one.dataset for one in series.slices], labels
    dataset = series.slices[0].dataset
    ordered = np.zeros((int(dataset.NumberOfFrames), *labels.shape[1:]), np.uint8)
    for one, plane in zip(series.slices, labels, strict=True):
        ordered[one.frame] = plane
    return [dataset], ordered


def write_dataset(path: Path, dataset: pydicom.Dataset) -> None:
    """Writes a DICOM object as a file.

    Raises:
        CaseError: the file cannot be written.
    """
    with replacing(path) as partial:
        dataset.save_as(partial)
