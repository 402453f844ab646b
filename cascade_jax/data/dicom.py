"""A short-axis stack out of DICOM files.

Needs the `dicom` extra. Patients' names, dates and numbers are read by no one here, nor is any free text, which may
hold them; the segmentation and the report carry those of their source series, as the standard demands.
"""

import dataclasses
import io
import itertools
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, MRImageStorage

from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import replacing
from cascade_jax.data.orientation import is_oblique

_SAME_DIRECTION = 0.999  # cosine between slices of one stack
_LARGEST_SKEW = 0.01  # of the scalar products of an image's two directions, which are 1 and 0
_LARGEST_UNEVENNESS = 0.1  # of a slice distance, as a share of the median
_LARGEST_SHEAR_MM = 2.0  # of a slice in its own plane, against the first

_MR_IMAGES = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
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
_RESCALING = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
_GEOMETRY = (  # the attribute, how many numbers it has, and the group that holds it in a multi-frame file
    ("ImagePositionPatient", 3, "PlanePositionSequence"),
    ("ImageOrientationPatient", 6, "PlaneOrientationSequence"),
    ("PixelSpacing", 2, "PixelMeasuresSequence"),
)


@dataclasses.dataclass(frozen=True)
class Slice:
    """One image of a series.

    Attributes:
        path: of the file it is from, in its folder or archive.
        dataset: that file's content.
        frame: its number in a multi-frame file, from 0; None in a classic one.
        position: of the first voxel's centre, mm in the patient's coordinates (LPS).
        across, down: unit vectors along a row and along a column.
        spacing: mm between rows and between columns.
        nominal_distance: mm to the next slice as the file has it, else the slice's thickness; None if it has neither.
    """

    path: Path
    dataset: pydicom.Dataset
    frame: int | None
    position: np.ndarray
    across: np.ndarray
    down: np.ndarray
    spacing: tuple[float, float]
    nominal_distance: float | None

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.across, self.down)

    @property
    def height(self) -> float:
        """mm along the normal."""
        return float(self.position @ self.normal)

    def pixels(self) -> np.ndarray:
        """float32 (height, width) after the rescale slope.

        Raises:
            CaseError: they cannot be decoded, or are no grey image.
        """
        try:
            array = self.dataset.pixel_array
            holder = self.dataset
            if self.frame is not None:
                array = array[self.frame] if int(self.dataset.NumberOfFrames) > 1 else array
                holder = _group(self.dataset, self.frame, "PixelValueTransformationSequence") or holder
            slope, intercept = (float(holder.get(name, neutral)) for name, neutral in _RESCALING)
        except Exception as error:  # pydicom's decoders raise many kinds, whose words may quote the file
            raise CaseError(self.path, f"cannot be decoded ({type(error).__name__})") from None
        if array.shape != (self.dataset.Rows, self.dataset.Columns):
            raise CaseError(self.path, "is no grey image")
        return np.asarray(array, np.float32) * slope + intercept


@dataclasses.dataclass(frozen=True)
class Series:
    """The slices of one stack, sorted along their normal.

    Attributes:
        numbers: of the series that it is from, ascending: several where each breath-hold is a series of its own, none
            where the files have none.
        slices: the images.
        fault: why it is no stack to segment, to be read after its name: "is a localiser"; None if it is one.
    """

    numbers: tuple[int, ...]
    slices: tuple[Slice, ...]
    fault: str | None

    @property
    def name(self) -> str:
        """Its number, as "series 5", and nothing of its description, in which people write patients' names."""
        if not self.numbers:
            return "a series without a number"
        first, last = self.numbers[0], self.numbers[-1]
        return f"series {first}" if first == last else f"series {first} to {last}"

    @property
    def slice_distance(self) -> float:
        """mm between neighbouring slices' centres, by their positions; of one slice, as its file has it."""
        return _slice_distance(self.slices)


def _slice_distance(slices: Sequence[Slice]) -> float | None:
    if len(slices) > 1:
        return float(np.median(np.diff([one.height for one in slices])))
    return slices[0].nominal_distance


def _contents(source: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file of a folder, at any depth, or of a zip archive: where it lies, and what it holds.

    Files in an archive go by number, in the order of their names, which may be a patient's.
    """
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            try:
                yield path, path.read_bytes()
            except OSError as error:
                raise CaseError(path, f"cannot be read: {error.strerror}") from None
    elif zipfile.is_zipfile(source):
        try:
            with zipfile.ZipFile(source) as archive:
                names = sorted(name for name in archive.namelist() if not name.endswith("/"))
                for number, name in enumerate(names, 1):
                    yield source / f"file {number} of {len(names)}", archive.read(name)
        except (RuntimeError, zipfile.BadZipFile, zlib.error, EOFError):
            raise CaseError(source, "cannot be read: it is encrypted or damaged") from None
    else:
        raise CaseError(source, "is neither a folder nor a zip archive of DICOM files")


def _images(source: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """The MR images among the files; a README, a report or an earlier segmentation is not one of them.

    A file that breaks off before it has said what it is counts as one, for its end to be missed.
    """
    for path, content in _contents(source):
        try:
            dataset = pydicom.dcmread(io.BytesIO(content))
        except InvalidDicomError:
            continue
        except Exception as error:  # of a damaged file; pydicom's words quote it
            raise CaseError(path, f"cannot be read as DICOM ({type(error).__name__})") from None
        kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
        like_an_image = kind in _MR_IMAGES or ("Rows" in dataset and "PixelData" in dataset)
        if (dataset.get("Modality") or "MR") == "MR" and (like_an_image or not len(dataset)):
            yield path, dataset


def _check_complete(path: Path, dataset: pydicom.Dataset) -> None:
    """Raises CaseError where a file breaks off, which pydicom passes over in silence."""
    if any(name not in dataset for name in ("Rows", "Columns", "PixelData")):
        raise CaseError(path, "is cut off: it has no pixels")
    try:
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        # Where pixels are compressed a file that breaks off has none at all, since their end is marked.
        expected = 0 if syntax and syntax.is_encapsulated else get_expected_length(dataset)
    except Exception:
        raise CaseError(path, "does not say how its pixels are stored") from None
    if len(dataset.PixelData) < expected:
        raise CaseError(path, "is cut off: pixels are missing")


def _group(dataset: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset | None:
    """A functional group of one frame, its own or the shared one."""
    own = dataset.PerFrameFunctionalGroupsSequence[frame]
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for groups in (own, shared[0] if shared else None):
        if groups is not None and groups.get(name):
            return groups[name].value[0]
    return None


def _numbers(holder: pydicom.Dataset | None, name: str) -> np.ndarray:
    """An attribute's numbers, float64 (count,): none where it is missing, one NaN where it has others."""
    try:
        value = None if holder is None else holder.get(name)
        return np.array([] if value is None else value, np.float64).ravel()
    except Exception:  # pydicom's converters raise many kinds, whose words quote the value
        return np.full(1, np.nan)


def _text(dataset: pydicom.Dataset, name: str) -> str:
    """An attribute as text to compare, empty where it is missing."""
    return str(dataset.get(name) or "")


def _series_number(dataset: pydicom.Dataset) -> tuple[int, ...]:
    numbers = _numbers(dataset, "SeriesNumber")
    return (int(numbers[0]),) if numbers.size == 1 and np.isfinite(numbers[0]) else ()


def _is_localizer(dataset: pydicom.Dataset) -> bool:
    kind = dataset.get("ImageType") or ()
    return "LOCALIZER" in [str(word).upper() for word in ([kind] if isinstance(kind, str) else kind)]


def _slice(path: Path, dataset: pydicom.Dataset, frame: int | None) -> Slice | None:
    """One image's geometry, or None where the file gives none.

    Raises:
        CaseError: it gives one that cannot be.
    """
    holders = [dataset if frame is None else _group(dataset, frame, group) for _, _, group in _GEOMETRY]
    geometry = [_numbers(holder, name) for holder, (name, _, _) in zip(holders, _GEOMETRY, strict=True)]
    if not all(numbers.size for numbers in geometry):
        return None
    for numbers, (name, count, _) in zip(geometry, _GEOMETRY, strict=True):
        if numbers.size != count or not np.isfinite(numbers).all():
            raise CaseError(path, f"its {name} is not {count} finite numbers")
    position, directions, spacing = geometry
    if spacing.min() <= 0:
        raise CaseError(path, "its PixelSpacing is not positive")
    across, down = axes = directions.reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > _LARGEST_SKEW:
        raise CaseError(path, "its ImageOrientationPatient is not two perpendicular unit vectors")
    across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    nominal = (
        _numbers(holder, name)
        for name in ("SpacingBetweenSlices", "SliceThickness")
        for holder in (holders[2], dataset)
    )
    distance = next((float(value[0]) for value in nominal if value.size == 1 and 0 < value[0] < np.inf), None)
    return Slice(path, dataset, frame, position, across, down, (float(spacing[0]), float(spacing[1])), distance)


def _slices(path: Path, dataset: pydicom.Dataset) -> list[Slice]:
    """The images of one file, or none where one of them has no geometry.

    Raises:
        CaseError: a geometry cannot be, or there is not one for every frame.
    """
    frames: Iterable[int | None] = [None]
    if "PerFrameFunctionalGroupsSequence" in dataset:
        frames = range(len(dataset.PerFrameFunctionalGroupsSequence))
        if list(_numbers(dataset, "NumberOfFrames")) != [len(frames)]:
            raise CaseError(path, "has not one functional group for every frame")
    slices = [_slice(path, dataset, frame) for frame in frames]
    return [] if any(one is None for one in slices) else slices


def find_series(source) -> list[Series]:
    """Every series of MR images in a folder or zip archive, and of each whether it is a stack to segment.

    Files may lie in any order and several series together; a file that is there twice counts once. Single slices of
    one direction, size and description are joined to one stack: a series for every breath-hold.

    Raises:
        CaseError: there is none, or a file of one cannot be read, breaks off, or says where it lies in a way that
            cannot be.
    """
    source = Path(source)
    if not source.exists():
        raise CaseError(source, "no such file or folder")
    files: list[list[Slice]] = []
    without_slices: dict[str, Series] = {}
    for path, dataset in _images(source):
        if _is_localizer(dataset):
            fault = "is a localiser"
        else:
            _check_complete(path, dataset)
            for name in _MAY_BE_EMPTY:
                if name not in dataset:
                    setattr(dataset, name, "")
            if slices := _slices(path, dataset):
                files.append(slices)
                continue
            fault = "has an image without a place in the patient"
        without_slices[_text(dataset, "SeriesInstanceUID")] = Series(_series_number(dataset), (), fault)
    groups: dict[tuple, list[Slice]] = {}
    for one in itertools.chain.from_iterable(_without_copies(files)):
        dataset, series = one.dataset, _text(one.dataset, "SeriesInstanceUID")
        if series not in without_slices:  # what is left of a stack must not pass for the whole of it
            key = (series, dataset.Rows, dataset.Columns, tuple(np.round(one.spacing, 4)))
            groups.setdefault(key, []).append(one)
    found = [_series(slices) for slices in _join_breath_holds(groups.values())] + list(without_slices.values())
    if not found:
        raise CaseError(source, "holds no MR images in DICOM files")
    return sorted(found, key=lambda series: series.numbers)


def _without_copies(files: Iterable[list[Slice]]) -> list[list[Slice]]:
    """Each file's images once, also where a folder has it twice.

    Raises:
        CaseError: two files have one identity and are not the same.
    """
    kept: dict[str | int, list[Slice]] = {}
    for index, slices in enumerate(files):
        before = kept.setdefault(_text(slices[0].dataset, "SOPInstanceUID") or index, slices)
        places = [[one.position for one in some] for some in (before, slices)]
        if len(before) != len(slices) or not np.allclose(*places):
            raise CaseError(slices[0].path, f"has the SOPInstanceUID of another image, {before[0].path.name}")
    return list(kept.values())


def _join_breath_holds(groups: Iterable[list[Slice]]) -> list[list[Slice]]:
    """The slices of each stack: a series', or those of several series of one slice each that belong together."""
    joined: dict[tuple, list[Slice]] = {}
    for index, slices in enumerate(groups):
        first, dataset = slices[0], slices[0].dataset
        key: tuple = (index,)
        if len(slices) == 1 and _text(dataset, "FrameOfReferenceUID"):
            direction = tuple(np.round([*first.across, *first.down], 3))
            size = (dataset.Rows, dataset.Columns, *np.round(first.spacing, 4))
            names = ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesDescription")
            key = (*(_text(dataset, name) for name in names), direction, size)
        joined.setdefault(key, []).extend(slices)
    return list(joined.values())


def _series(slices: Sequence[Slice]) -> Series:
    numbers = {number for one in slices for number in _series_number(one.dataset)}
    ordered = tuple(sorted(slices, key=lambda one: one.height))
    return Series(tuple(sorted(numbers)), ordered, _fault(ordered))


def _fault(slices: Sequence[Slice]) -> str | None:
    """Why slices, sorted by height, are no stack to segment, if so."""
    normal, distance = slices[0].normal, _slice_distance(slices)
    if any(one.normal @ normal < _SAME_DIRECTION for one in slices):
        return "has slices that are not parallel"
    if distance is None:
        return "is one slice without SpacingBetweenSlices or SliceThickness"
    positions = np.array([one.position for one in slices])
    distances = np.diff(positions @ normal)
    if (distances < 1e-3).any():
        return "has several images at one position (phases, two contrasts, or repeats)"
    if distances.size and np.abs(distances - distance).max() > _LARGEST_UNEVENNESS * distance:
        return f"lacks a slice: distances are {distances.min():.3g} to {distances.max():.3g} mm"
    beside = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    if (shift := np.linalg.norm(beside, axis=1).max()) > _LARGEST_SHEAR_MM:
        return f"has slices that do not lie over one another: up to {shift:.3g} mm beside"
    missing = [name for name in _NEEDED if any(not one.dataset.get(name) for one in slices)]
    if missing:
        return f"has an image without {missing[0]}"
    if slices[0].frame is not None and any(one.dataset is not slices[0].dataset for one in slices):
        return "is spread over several multi-frame files"  # of which a segmentation can refer to one only
    return None


def choose_series(source, number: int | None = None) -> tuple[Series, list[str]]:
    """The series to segment.

    Args:
        source: the folder or zip archive.
        number: its series number; None takes the oblique stack (as a short axis is one) with the most slices.

    Returns:
        The series, and a line for each of the others that were considered: why it was passed over.

    Raises:
        CaseError: as `find_series`; or no series, or more than one, is such a stack.
    """
    found = find_series(source)
    considered = [series for series in found if number is None or number in series.numbers]
    if not considered:
        names = ", ".join(dict.fromkeys(series.name for series in found))
        raise CaseError(source, f"has no MR images in series {number}; it has {names}")
    reasons = [series.fault or _unlike_a_short_axis(series, number) for series in considered]
    stacks = [series for series, reason in zip(considered, reasons, strict=True) if reason is None]
    if not stacks:
        listed = "; ".join(dict.fromkeys(f"{one.name} {why}" for one, why in zip(considered, reasons, strict=True)))
        hint = "; give the number of the one that is meant" if any(one.fault is None for one in considered) else ""
        raise CaseError(source, f"holds no stack to segment: {listed}{hint}")
    most = max(len(series.slices) for series in stacks)
    best = [series for series in stacks if len(series.slices) == most]
    if len(best) > 1:
        listed = ", ".join(f"{series.name} ({len(series.slices)} slices)" for series in best)
        wanted = "give a number" if number is None else "keep one of them"
        raise CaseError(source, f"has several stacks that could be meant, {wanted}: {listed}")
    passed_over = [
        f"passed over {series.name}, which {reason or 'has fewer slices'}"
        for series, reason in zip(considered, reasons, strict=True)
        if series is not best[0]
    ]
    return best[0], list(dict.fromkeys(passed_over))


def _unlike_a_short_axis(series: Series, number: int | None) -> str | None:
    """Why a stack is not taken unless its number is given, if so."""
    if number is not None or is_oblique(series.slices[0].normal):
        return None
    return "is not oblique, as a short axis is"


def read_series(source, series: Series, name: str) -> Case:
    """A series as a case, with the patient's coordinates in its header.

    Args:
        source: where it came from, for messages.
        series: as `choose_series` gives it.
        name: the case's.

    Raises:
        CaseError: pixels cannot be decoded, or are all alike.
    """
    image = np.stack([one.pixels() for one in series.slices])
    if not np.isfinite(image).all() or image.min() == image.max():
        raise CaseError(source, f"{series.name} is no image with contrast")
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


def write_dataset(path: Path, dataset: pydicom.Dataset) -> None:
    """Writes a DICOM object as a file.

    Raises:
        CaseError: the file cannot be written.
    """
    with replacing(path) as partial:
        dataset.save_as(partial)
