"""A short-axis stack out of DICOM files.

Needs the `dicom` extra. Patients' names, dates and numbers are read by no one here, nor is any free text, which may
hold them; the segmentation and the report carry those of their source series, as the standard demands.
"""

import dataclasses
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import scipy.ndimage
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.dicom_files import UIDS, PassedOver, dicom_contents
from cascade_jax.data.files import replacing
from cascade_jax.data.geometry import BETWEEN_SLICES_MM, IN_PLANE_MM
from cascade_jax.data.orientation import is_oblique

_SAME_DIRECTION = 0.999  # cosine between slices of one stack
_LARGEST_SKEW = 0.01  # of the scalar products of an image's two directions, which are 1 and 0
_LARGEST_UNEVENNESS = 0.1  # of a slice distance, as a share of the median
_LARGEST_SHEAR_MM = 2.0  # of a slice in its own plane, against the first
_SAME_SPACING, _SAME_SPACING_MM = 1e-4, 5.01e-4  # a share; or what rounding to three decimals leaves
_PIXELS = 2048  # a side: at 0.4 mm more than a magnet is wide
_SAME_DISTANCE = 0.01  # a share, beyond which a nominal slice distance contradicts the positions
_MULTIPLE = 0.05  # by what share of it a distance may miss a multiple of another
_WIDEST_GAP = (
    2.25  # slice distance by slice thickness; gaps as wide as slices are usual, wider ones are slices left out
)

_MR_IMAGES = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
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
        between: mm to the next slice as the file has it (SpacingBetweenSlices), or None.
        thickness: mm, or None.
        location: mm along the normal from where the scanner counts (SliceLocation), or None.
        number: its number in the series (InstanceNumber, of a frame InStackPositionNumber), or None.
    """

    path: Path
    dataset: pydicom.Dataset
    frame: int | None
    position: np.ndarray
    across: np.ndarray
    down: np.ndarray
    spacing: tuple[float, float]
    between: float | None
    thickness: float | None
    location: float | None
    number: int | None

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.across, self.down)

    @property
    def nominal_distance(self) -> float | None:
        """mm to the next slice as the file has it, else the slice's thickness; None if it has neither."""
        return self.between or self.thickness

    @property
    def inverted(self) -> bool:
        """Whether its high values are meant to be dark: MONOCHROME1, or a presentation that is INVERSE."""
        interpretation = _text(self.dataset, "PhotometricInterpretation")
        return interpretation == "MONOCHROME1" or _text(self.dataset, "PresentationLUTShape") == "INVERSE"

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 (height, width) after the rescale slope, high values bright; and bool, where the file has padding.

        An inverted image is mirrored in the middle of the range that its BitsStored give it. Padding is what has the
        padding's value (PixelPaddingValue, PixelPaddingRangeLimit) and is connected to the image's edge; inside, where
        the signal of a signed image goes through 0, say, it is tissue.

        Raises:
            CaseError: they cannot be decoded, are no grey image, or contradict the file's own BitsStored.
        """
        try:
            frames = int(self.dataset.get("NumberOfFrames") or 1)
            array, place = self.dataset.pixel_array, self.frame or 0
            array = array[place] if frames > 1 else array
            raw = _raw(self.dataset, place)
            holder = self.dataset
            if self.frame is not None:
                holder = _group(self.dataset, self.frame, "PixelValueTransformationSequence") or holder
            slope, intercept = _numbers(holder, "RescaleSlope"), _numbers(holder, "RescaleIntercept")
            stored = int(self.dataset.BitsStored)
            lowest = -(2 ** (stored - 1)) if self.dataset.PixelRepresentation else 0
            padding = _padding(self.dataset, array, raw, lowest, lowest + 2**stored - 1)
        except Exception as error:  # pydicom's decoders raise many kinds, whose words may quote the file
            raise CaseError(self.path, f"cannot be decoded ({type(error).__name__})") from None
        if array.shape != (self.dataset.Rows, self.dataset.Columns):
            raise CaseError(self.path, "is no grey image")
        if raw is not None and (raw[~padding] >> stored).any():
            raise CaseError(self.path, f"has pixels that need more than its BitsStored, {stored}")
        slope, intercept = (slope if slope.size else np.ones(1)), (intercept if intercept.size else np.zeros(1))
        if slope.size > 1 or intercept.size > 1 or not np.isfinite([*slope, *intercept]).all() or not slope[0]:
            raise CaseError(self.path, "has a RescaleSlope of 0, or one or a RescaleIntercept that is no number")
        if "ModalityLUTSequence" in self.dataset:
            raise CaseError(self.path, "has a ModalityLUTSequence, which is not read")
        values = array.astype(np.float64)
        if self.inverted:
            values = 2 * lowest + 2**stored - 1 - values
        edge = np.ones(padding.shape, bool)
        edge[1:-1, 1:-1] = False
        outside = scipy.ndimage.binary_propagation(edge & padding, mask=padding)
        return (values * slope[0] + intercept[0]).astype(np.float32), outside


def _raw(dataset: pydicom.Dataset, frame: int) -> np.ndarray | None:
    """Unsigned pixels with the bits above BitsStored, (height, width), where those are to be looked at.

    None where there are none, where pixels are compressed or signed, and where overlays lie in those bits.
    """
    stored, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    syntax = dataset.file_meta.TransferSyntaxUID
    if allocated != 16 or stored >= allocated or dataset.PixelRepresentation or syntax.is_encapsulated:
        return None
    if any(int(dataset[group, 0x0102].value or 0) for group in range(0x6000, 0x6020, 2) if (group, 0x0102) in dataset):
        return None
    kind = "<u2" if syntax.is_little_endian else ">u2"
    shape = int(dataset.Rows), int(dataset.Columns)
    count = shape[0] * shape[1]
    return np.frombuffer(dataset.PixelData, kind, count, 2 * frame * count).reshape(shape)


def _padding(
    dataset: pydicom.Dataset, array: np.ndarray, raw: np.ndarray | None, lowest: int, highest: int
) -> np.ndarray:
    """bool, of the array's shape: where pixels have the padding's value.

    Args:
        dataset: the file.
        array: stored values.
        raw: the same with all bits, or None.
        lowest, highest: what BitsStored hold.
    """
    value, limit = (_numbers(dataset, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if value.size != 1:
        return np.zeros(array.shape, bool)
    span, signed = 2 ** int(dataset.BitsAllocated), lowest < 0
    # The value's own representation is often mistaken: 63536 for -2000.
    first, last = (
        int((number + span // 2) % span - span // 2 if signed else number % span)
        for number in (value[0], (limit if limit.size == 1 else value)[0])
    )
    first, last = min(first, last), max(first, last)
    if raw is not None and last > highest:
        return (raw >= first) & (raw <= last)
    return (array >= first) & (array <= last)


@dataclasses.dataclass(frozen=True)
class Series:
    """The slices of one stack, sorted along their normal.

    Attributes:
        numbers: of the series that it is from, ascending: several where each breath-hold is a series of its own, none
            where the files have none.
        slices: the images.
        fault: why it is no stack to segment, to be read after its name: "is a localiser"; None if it is one.
        notes: what a user must know of how it is read, to be read after its name.
    """

    numbers: tuple[int, ...]
    slices: tuple[Slice, ...]
    fault: str | None
    notes: tuple[str, ...] = ()

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
        return float(np.median(np.diff(_heights(slices))))
    return slices[0].nominal_distance


def _heights(slices: Sequence[Slice]) -> np.ndarray:
    """mm along the first slice's normal: each one's own differs by rounding, and their origin is far away."""
    return np.array([one.position for one in slices]) @ slices[0].normal


def _images(source: Path, passed_over: PassedOver) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """The MR images among the files; a report or an earlier segmentation is not one of them.

    A file that breaks off before it has said what it is counts as one, for its end to be missed.
    """
    for path, number, content, has_prefix in dicom_contents(source, passed_over):
        try:
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
            kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
            modality = dataset.get("Modality") or "MR"
            if modality == "MR":
                _set_transfer_syntax(dataset)
        except Exception as error:  # of a damaged file; pydicom's words quote it
            if has_prefix or UIDS in content[:1024]:
                raise CaseError(path, f"cannot be read as DICOM ({type(error).__name__})") from None
            passed_over.add(number, "not DICOM")
            continue
        if not has_prefix and not kind:
            passed_over.add(number, "not DICOM")
            continue
        like_an_image = kind in _MR_IMAGES or ("Rows" in dataset and "PixelData" in dataset)
        if modality == "MR" and (like_an_image or not len(dataset)):
            yield path, dataset
        else:
            passed_over.add(number, "no MR image")


def _set_transfer_syntax(dataset: pydicom.Dataset) -> None:
    """Puts in what a file without the prefix often lacks: how its numbers are written, as it was read."""
    pixels = dataset.get("PixelData") is not None and dataset["PixelData"]
    if "TransferSyntaxUID" not in dataset.file_meta and not (pixels and pixels.is_undefined_length):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _check_complete(path: Path, dataset: pydicom.Dataset) -> None:
    """Raises CaseError where a file breaks off, which pydicom passes over in silence."""
    if any(name not in dataset for name in ("Rows", "Columns", "PixelData")):
        raise CaseError(path, "is cut off: it has no pixels")
    try:
        # Where pixels are compressed a file that breaks off has none at all, since their end is marked.
        compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
        missing = not compressed and len(dataset.PixelData) < get_expected_length(dataset)
    except Exception:
        raise CaseError(path, "does not say how its pixels are stored") from None
    if missing:
        raise CaseError(path, "is cut off: pixels are missing")


def _size_fault(dataset: pydicom.Dataset) -> str | None:
    """Why an image is too large to be of a heart, before anything of its size is made."""
    if "Rows" not in dataset or "Columns" not in dataset:
        return None
    sides = [_numbers(dataset, name) for name in ("Rows", "Columns")]
    if any(side.size != 1 or not 1 <= side[0] <= _PIXELS for side in sides):
        said = " x ".join(f"{side[0]:g}" if side.size == 1 else "?" for side in sides)
        return f"has an image of {said} pixels; 1 to {_PIXELS} a side are read"
    return None


def _group(dataset: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset | None:
    """A functional group of one frame, its own or the shared one."""
    return next(iter(_groups(dataset, frame, name)), None)


def _groups(dataset: pydicom.Dataset, frame: int, name: str) -> list[pydicom.Dataset]:
    own = dataset.PerFrameFunctionalGroupsSequence[frame]
    shared = dataset.get("SharedFunctionalGroupsSequence")
    both = [own, *(shared or [])[:1]]
    return [groups[name].value[0] for groups in both if groups.get(name)]


def _numbers(holder: pydicom.Dataset | None, name: str) -> np.ndarray:
    """An attribute's numbers, float64 (count,): none where it is missing, one NaN where it has others."""
    try:
        value = None if holder is None else holder.get(name)
        return np.array([] if value is None else value, np.float64).ravel()
    except Exception:  # pydicom's converters raise many kinds, whose words quote the value
        return np.full(1, np.nan)


def _number(holders: Iterable[pydicom.Dataset], name: str) -> float | None:
    """An attribute's one finite number in the first of the holders that has such."""
    values = (_numbers(holder, name) for holder in holders)
    return next((float(value[0]) for value in values if value.size == 1 and np.isfinite(value[0])), None)


def _text(dataset: pydicom.Dataset, name: str) -> str:
    """An attribute as text to compare, empty where it is missing or cannot be read."""
    try:
        return str(dataset.get(name) or "")
    except Exception:  # as above
        return ""


def series_number(dataset: pydicom.Dataset) -> tuple[int, ...]:
    """Its SeriesNumber, or nothing where it has none."""
    number = _number([dataset], "SeriesNumber")
    return () if number is None else (int(number),)


def _is_localizer(dataset: pydicom.Dataset) -> bool:
    return "LOCALIZER" in _text(dataset, "ImageType").upper()


def _slice(path: Path, dataset: pydicom.Dataset, frame: int | None) -> Slice | None:
    """One image's geometry, or None where the file gives none.

    Raises:
        CaseError: it gives one that cannot be, or two that contradict each other.
    """
    holders = [[dataset] if frame is None else _groups(dataset, frame, group) for _, _, group in _GEOMETRY]
    geometry = [_numbers(next(iter(held), None), name) for held, (name, _, _) in zip(holders, _GEOMETRY, strict=True)]
    if not all(numbers.size for numbers in geometry):
        return None
    for numbers, (name, count, _) in zip(geometry, _GEOMETRY, strict=True):
        if numbers.size != count or not np.isfinite(numbers).all():
            raise CaseError(path, f"its {name} is not {count} finite numbers")
    position, directions, spacing = geometry
    if spacing.min() <= 0:
        raise CaseError(path, "its PixelSpacing is not positive")
    for holder in (*holders[2][1:], dataset):
        other = _numbers(holder, "PixelSpacing")
        if other.size == 2 and np.isfinite(other).all() and not _same_spacing(spacing, other):
            raise CaseError(path, f"has a PixelSpacing of {_mm(spacing)} in one place, of {_mm(other)} in another")
    across, down = axes = directions.reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > _LARGEST_SKEW:
        raise CaseError(path, "its ImageOrientationPatient is not two perpendicular unit vectors")
    across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    measures = (*holders[2], dataset)
    between = _number(measures, "SpacingBetweenSlices")
    thickness = _number(measures, "SliceThickness")
    if frame is None:
        number = _number([dataset], "InstanceNumber")
    else:
        number = _number(_groups(dataset, frame, "FrameContentSequence"), "InStackPositionNumber")
    return Slice(
        path,
        dataset,
        frame,
        position,
        across,
        down,
        (float(spacing[0]), float(spacing[1])),
        abs(between) if between else None,
        thickness if thickness and thickness > 0 else None,
        _number([dataset], "SliceLocation") if frame is None else None,
        None if number is None else int(number),
    )


def _slices(path: Path, dataset: pydicom.Dataset) -> list[Slice]:
    """The images of one file, or none where one of them has no geometry.

    Raises:
        CaseError: a geometry cannot be, or there is not one for every frame.
    """
    frames: Iterable[int | None] = [None]
    try:
        count = _number([dataset], "NumberOfFrames")
        if "PerFrameFunctionalGroupsSequence" in dataset:
            frames = range(len(dataset.PerFrameFunctionalGroupsSequence))
            if count != len(frames):
                raise CaseError(path, "has not one functional group for every frame")
        elif (count or 1) > 1:
            return []
        slices = [_slice(path, dataset, frame) for frame in frames]
    except CaseError:
        raise
    except Exception as error:  # of a damaged sequence; pydicom's words may quote it
        raise CaseError(path, f"does not say how its images lie ({type(error).__name__})") from None
    return [] if any(one is None for one in slices) else slices


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{value:.5g}" for value in spacing) + " mm"


def _same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two voxel sizes differ by no more than rounding."""
    return all(abs(a - b) <= max(_SAME_SPACING * a, _SAME_SPACING_MM) for a, b in zip(one, other, strict=True))


def _same_direction(one: Slice, other: Slice) -> bool:
    return min(one.normal @ other.normal, one.across @ other.across) >= _SAME_DIRECTION


def _same_size(one: Slice, other: Slice) -> bool:
    return _shape(one) == _shape(other) and _same_spacing(one.spacing, other.spacing)


def _shape(one: Slice) -> tuple[int, int]:
    return int(one.dataset.Rows), int(one.dataset.Columns)


def _clusters(items: Iterable, same: Callable) -> list[list]:
    """Items together with the first one that they are like."""
    found: list[list] = []
    for item in items:
        like = next((cluster for cluster in found if same(cluster[0], item)), None)
        if like is None:
            found.append([item])
        else:
            like.append(item)
    return found


def find_series(source) -> tuple[list[Series], PassedOver]:
    """Every series of MR images in a folder or zip archive, and of each whether it is a stack to segment.

    Files may lie in any order and several series together, with or without DICOM's prefix; a file that is there twice
    counts once. Single slices of one direction and description are joined to one stack: a series for every
    breath-hold.

    Returns:
        The series, and the files that are none of theirs.

    Raises:
        CaseError: there is none, or a file of one cannot be read, breaks off, or says where it lies in a way that
            cannot be.
    """
    source, passed_over = Path(source), PassedOver()
    files: list[list[Slice]] = []
    without_slices: dict[str, Series] = {}
    for path, dataset in _images(source, passed_over):
        fault = "is a localiser" if _is_localizer(dataset) else _size_fault(dataset)
        if fault is None:
            _check_complete(path, dataset)
            if slices := _slices(path, dataset):
                files.append(slices)
                continue
            fault = "has an image without a place in the patient"
            if "PixelSpacing" not in dataset and "ImagePositionPatient" in dataset:
                fault = "has an image without a PixelSpacing"
        without_slices[_text(dataset, "SeriesInstanceUID")] = Series(series_number(dataset), (), fault)
    series: dict[str, list[Slice]] = {}
    for one in itertools.chain.from_iterable(_without_copies(files)):
        identity = _text(one.dataset, "SeriesInstanceUID")
        if identity not in without_slices:  # what is left of a stack must not pass for the whole of it
            series.setdefault(identity, []).append(one)
    found = [stack for slices in _join_breath_holds(series.values()) for stack in _stacks(slices)]
    found += without_slices.values()
    if not found:
        reasons = "; ".join(passed_over.lines())
        raise CaseError(source, "holds no MR images in DICOM files" + (f": {reasons}" if reasons else ""))
    return sorted(found, key=lambda stack: stack.numbers), passed_over


def _without_copies(files: Iterable[list[Slice]]) -> list[list[Slice]]:
    """Each file's images once, also where a folder has it twice.

    Raises:
        CaseError: two files have one identity and are not the same.
    """
    kept: dict[str | int, list[Slice]] = {}
    for index, slices in enumerate(files):
        before = kept.setdefault(_text(slices[0].dataset, "SOPInstanceUID") or index, slices)
        places = [[one.position for one in some] for some in (before, slices)]
        if len(before) != len(slices) or not np.allclose(*places) or not _same_pixels(before[0], slices[0]):
            raise CaseError(slices[0].path, f"has the SOPInstanceUID of another image, {before[0].path.name}")
    return list(kept.values())


def _same_pixels(one: Slice, other: Slice) -> bool:
    """Whether two files hold the same; if they hold it in different ways, that is not looked into."""
    syntaxes = {each.dataset.file_meta.TransferSyntaxUID for each in (one, other)}
    return len(syntaxes) > 1 or one.dataset.PixelData == other.dataset.PixelData


def _join_breath_holds(series: Iterable[list[Slice]]) -> list[list[Slice]]:
    """A series' slices, or those of several series of one slice each that belong together."""
    names = ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesDescription")

    def belong_together(some: list[Slice], others: list[Slice]) -> bool:
        one, other = some[0], others[0]
        return (
            len(some) == len(others) == 1
            and bool(_text(one.dataset, "FrameOfReferenceUID"))
            and all(_text(one.dataset, name) == _text(other.dataset, name) for name in names)
            and _same_direction(one, other)
        )

    return [list(itertools.chain.from_iterable(joined)) for joined in _clusters(series, belong_together)]


def _stacks(slices: Sequence[Slice]) -> list[Series]:
    """The stacks of one series, by size: one, unless the smaller ones lie elsewhere or where the largest lies too.

    A stack from which slices of the same series are left out is not the whole heart, so that all have a fault then.
    """
    groups = sorted(_clusters(slices, _same_size), key=len, reverse=True)
    largest, *others = groups
    heights = _heights(largest)

    def is_another(group: Sequence[Slice]) -> bool:
        if not _same_direction(largest[0], group[0]):
            return True
        return all(np.abs(heights - one.position @ largest[0].normal).min() < 1 for one in group)

    if all(map(is_another, others)):
        return [_series(group) for group in groups]
    sizes = len({_shape(group[0]) for group in groups}) > 1
    said = ", ".join(
        f"{len(group)} of " + ("{} x {}".format(*_shape(group[0])) if sizes else _mm(group[0].spacing))
        for group in groups
    )
    fault = f"has slices of several {'sizes' if sizes else 'PixelSpacings'}: {said}"
    return [_series(list(itertools.chain.from_iterable(groups)), fault)]


def _series(slices: Sequence[Slice], fault: str | None = None) -> Series:
    numbers = {number for one in slices for number in series_number(one.dataset)}
    ordered = tuple(slices[index] for index in np.argsort(_heights(slices), kind="stable"))
    fault = fault or _fault(ordered)
    return Series(tuple(sorted(numbers)), ordered, fault, () if fault else _notes(ordered))


def _fault(slices: Sequence[Slice]) -> str | None:
    """Why slices, sorted by height, are no stack to segment, if so."""
    normal, distance = slices[0].normal, _slice_distance(slices)
    if any(one.normal @ normal < _SAME_DIRECTION for one in slices):
        return "has slices that are not parallel"
    if not all(_same_direction(one, slices[0]) for one in slices):
        return "has slices that are turned against each other in their plane"
    if distance is None:
        return "is one slice without SpacingBetweenSlices or SliceThickness"
    if len(slices) == 1 and slices[0].between and slices[0].thickness:
        between, thickness = slices[0].between, slices[0].thickness
        if not 0.9 <= between / thickness <= _WIDEST_GAP:
            return f"is one slice with SliceThickness {thickness:.4g} mm and SpacingBetweenSlices {between:.4g} mm"
    positions = np.array([one.position for one in slices])
    distances = np.diff(positions @ normal)
    if (distances < 1e-3).any():
        return "has several images at one position (phases, two contrasts, or repeats)"
    if distances.size and np.abs(distances - distance).max() > _LARGEST_UNEVENNESS * distance:
        return f"lacks a slice: distances are {distances.min():.3g} to {distances.max():.3g} mm"
    beside = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    if (shift := np.linalg.norm(beside, axis=1).max()) > _LARGEST_SHEAR_MM:
        return f"has slices that do not lie over one another: up to {shift:.3g} mm beside"
    return _gap(slices, distance) or _absurd_size(slices[0].spacing, distance) or _several_identities(slices)


def _said_distances(slices: Sequence[Slice]) -> dict[str, list[float]]:
    """Slice distances as the files have them, mm: {attribute: those that differ}."""
    between = [one.between for one in slices if one.between]
    said = {"SpacingBetweenSlices": [cluster[0] for cluster in _clusters(between, _same_length)]}
    locations = [one.location for one in slices]
    if len(slices) > 1 and None not in locations:
        steps = np.abs(np.diff(locations))
        if steps.min() > 1e-3:
            said["SliceLocation"] = [float(np.median(steps))]
    return said


def _same_length(one: float, other: float) -> bool:
    return abs(one / other - 1) <= _SAME_DISTANCE


def _is_multiple(distance: float, step: float) -> bool:
    """Whether a distance is twice another, or three times, and so on."""
    count = round(distance / step)
    return count > 1 and abs(distance / step - count) <= _MULTIPLE * count


def _is_gap(slices: Sequence[Slice], distance: float, said: float) -> bool:
    """Whether SpacingBetweenSlices has what lies between the slices' faces, as some scanners write."""
    thickness = slices[0].thickness
    return bool(thickness) and said <= thickness / 2 and _same_length(thickness + said, distance)


def _gap(slices: Sequence[Slice], distance: float) -> str | None:
    """Why slices of even distance are not all of their stack, if so: every other one is missing, say."""
    if len(slices) < 2:
        return None
    for name, values in _said_distances(slices).items():
        for said in values:
            as_gap = name == "SpacingBetweenSlices" and _is_gap(slices, distance, said)
            if _is_multiple(distance, said) and not as_gap:
                return f"lacks slices: positions are {distance:.4g} mm apart, and by {name} {said:.4g} mm"
    thickness, between = slices[0].thickness, slices[0].between
    if not thickness or (between and _same_length(distance, between)):
        return None
    numbers = sorted({one.number for one in slices if one.number is not None})
    if len(numbers) == len(slices) > 2:
        step = (numbers[-1] - numbers[0]) / (len(numbers) - 1)
        # Two contrasts may share the numbers; then no slices as thick as these would fit between them.
        if round(step, 1) > 1.8 and distance / round(step) >= 0.95 * thickness:
            return (
                f"lacks slices: positions are {distance:.4g} mm apart, and images of {thickness:.4g} mm that are "
                f"numbered in between are missing"
            )
    if distance > _WIDEST_GAP * thickness:
        return f"lacks slices: positions are {distance:.4g} mm apart for slices of {thickness:.4g} mm"
    return None


def _absurd_size(spacing: Sequence[float], distance: float) -> str | None:
    """Why voxels are not those of a heart's image, if so."""
    (low, high), (near, far) = IN_PLANE_MM, BETWEEN_SLICES_MM
    if not all(low <= round(value, 4) <= high for value in spacing):
        return f"has a PixelSpacing of {_mm(spacing)}, outside {low:g} to {high:g} mm"
    if not near <= round(distance, 3) <= far:
        return f"has a slice distance of {distance:.4g} mm, outside {near:g} to {far:g} mm"
    return None


def _several_identities(slices: Sequence[Slice]) -> str | None:
    if any(not _text(one.dataset, "SeriesInstanceUID") for one in slices):
        return "has an image without SeriesInstanceUID"
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        if len({_text(one.dataset, name) for one in slices}) > 1:
            return f"has images that differ in {name}"
    return None


def _notes(slices: Sequence[Slice]) -> tuple[str, ...]:
    """How slices without a fault are read where their files may be read in two ways."""
    notes = []
    inverted = sum(one.inverted for one in slices)
    if inverted:
        some = "is" if inverted == len(slices) else f"has {inverted} slices that are"
        notes.append(f"{some} stored with bright and dark exchanged (MONOCHROME1 or INVERSE), which is turned back")
    distance = _slice_distance(slices)
    for name, values in _said_distances(slices).items():
        for said in values:
            if len(slices) > 1 and not _same_length(distance, said):
                notes.append(f"has positions {distance:.4g} mm apart, by which it is read, and {name} {said:.4g} mm")
    return tuple(notes)


def choose_series(source, number: int | None = None) -> tuple[Series, list[str]]:
    """The series to segment.

    Args:
        source: the folder or zip archive.
        number: its series number; None takes the oblique stack (as a short axis is one) with the most slices.

    Returns:
        The series, and lines for the user: for each kind of file and each series that was passed over, why, and what
        is to be known of the chosen one.

    Raises:
        CaseError: as `find_series`; or no series, or more than one, is such a stack.
    """
    found, files = find_series(source)
    considered = [series for series in found if number is None or number in series.numbers]
    if not considered:
        names = ", ".join(dict.fromkeys(series.name for series in found))
        raise CaseError(source, f"has no MR images in series {number}; it has {names}")
    reasons = [series.fault or _unlike_a_short_axis(series, number) for series in considered]
    stacks = [series for series, reason in zip(considered, reasons, strict=True) if reason is None]
    if not stacks:
        listed = "; ".join(dict.fromkeys(f"{one.name} {why}" for one, why in zip(considered, reasons, strict=True)))
        hint = "; give the number of the one that is meant" if any(one.fault is None for one in considered) else ""
        also = "".join(f"; {line}" for line in files.lines())
        raise CaseError(source, f"holds no stack to segment: {listed}{hint}{also}")
    most = max(len(series.slices) for series in stacks)
    best = [series for series in stacks if len(series.slices) == most]
    if len(best) > 1:
        listed = ", ".join(f"{series.name} ({len(series.slices)} slices)" for series in best)
        wanted = "give a number" if number is None else "keep one of them"
        raise CaseError(source, f"has several stacks that could be meant, {wanted}: {listed}")
    chosen = best[0]
    passed_over = []
    for series, reason in zip(considered, reasons, strict=True):
        if series is not chosen:
            name = f"another stack of {series.name}" if series.numbers == chosen.numbers else series.name
            passed_over.append(f"passed over {name}, which {reason or 'has fewer slices'}")
    notes = [f"{chosen.name} {note}" for note in chosen.notes]
    return chosen, [*files.lines(), *dict.fromkeys(passed_over), *notes]


def _unlike_a_short_axis(series: Series, number: int | None) -> str | None:
    """Why a stack is not taken unless its number is given, if so."""
    if number is not None or is_oblique(series.slices[0].normal):
        return None
    return "is not oblique, as a short axis is"


def read_series(source, series: Series, name: str) -> Case:
    """A series as a case, with the patient's coordinates in its header.

    Padding gets one value in all slices, a thousandth of the image's range below its lowest, so that it is a constant
    border that no tissue shares.

    Args:
        source: where it came from, for messages.
        series: as `choose_series` gives it.
        name: the case's.

    Raises:
        CaseError: pixels cannot be decoded, or are all alike.
    """
    planes = [one.pixels() for one in series.slices]
    image, padding = (np.stack(part) for part in zip(*planes, strict=True))
    tissue = image[~padding]
    if not tissue.size or not np.isfinite(tissue).all() or tissue.min() == tissue.max():
        raise CaseError(source, f"{series.name} is no image with contrast")
    image[padding] = tissue.min() - (tissue.max() - tissue.min()) / 1000
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
