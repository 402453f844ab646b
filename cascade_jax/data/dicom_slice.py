"""One image of a DICOM series: where it lies, and its pixels."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import scipy.ndimage
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cascade_jax.data.case import CaseError
from cascade_jax.data.geometry import MOST_VOXELS

_LARGEST_SKEW = 0.01  # of the scalar products of an image's two directions, which are 1 and 0
_SAME_SPACING, _SAME_SPACING_MM = 1e-4, 5.01e-4  # a share; or what rounding to three decimals leaves
_PIXELS = 2048  # a side: at 0.4 mm more than a magnet is wide
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
        interpretation = text(self.dataset, "PhotometricInterpretation")
        return interpretation == "MONOCHROME1" or text(self.dataset, "PresentationLUTShape") == "INVERSE"

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


def set_transfer_syntax(dataset: pydicom.Dataset) -> None:
    """Puts in what a file without the prefix often lacks: how its numbers are written, as it was read."""
    pixels = dataset.get("PixelData") is not None and dataset["PixelData"]
    if "TransferSyntaxUID" not in dataset.file_meta and not (pixels and pixels.is_undefined_length):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def check_complete(path: Path, dataset: pydicom.Dataset) -> None:
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


def size_fault(dataset: pydicom.Dataset) -> str | None:
    """Why an image is too large to be of a heart, before anything of its size is made."""
    if "Rows" not in dataset or "Columns" not in dataset:
        return None
    sides = [_numbers(dataset, name) for name in ("Rows", "Columns")]
    if any(side.size != 1 or not 1 <= side[0] <= _PIXELS for side in sides):
        said = " x ".join(f"{side[0]:g}" if side.size == 1 else "?" for side in sides)
        return f"has an image of {said} pixels; 1 to {_PIXELS} a side are read"
    frames = _numbers(dataset, "NumberOfFrames")
    if frames.size and not (frames.size == 1 and 0 <= frames[0] * sides[0][0] * sides[1][0] <= MOST_VOXELS):
        said = f"{frames[0]:g}" if frames.size == 1 else "several numbers of"
        return f"has {said} frames of {sides[0][0]:g} x {sides[1][0]:g} pixels, more than a stack of slices has"
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


def text(dataset: pydicom.Dataset, name: str) -> str:
    """An attribute as text to compare, empty where it is missing or cannot be read."""
    try:
        return str(dataset.get(name) or "")
    except Exception:  # as above
        return ""


def series_number(dataset: pydicom.Dataset) -> tuple[int, ...]:
    """Its SeriesNumber, or nothing where it has none."""
    number = _number([dataset], "SeriesNumber")
    return () if number is None else (int(number),)


def is_localizer(dataset: pydicom.Dataset) -> bool:
    return "LOCALIZER" in text(dataset, "ImageType").upper()


def slice_of(path: Path, dataset: pydicom.Dataset, frame: int | None) -> Slice | None:
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
        if other.size == 2 and np.isfinite(other).all() and not same_spacing(spacing, other):
            raise CaseError(path, f"has a PixelSpacing of {mm(spacing)} in one place, of {mm(other)} in another")
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


def slices_of(path: Path, dataset: pydicom.Dataset) -> list[Slice]:
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
        slices = [slice_of(path, dataset, frame) for frame in frames]
    except CaseError:
        raise
    except Exception as error:  # of a damaged sequence; pydicom's words may quote it
        raise CaseError(path, f"does not say how its images lie ({type(error).__name__})") from None
    return [] if any(one is None for one in slices) else slices


def mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{value:.5g}" for value in spacing) + " mm"


def same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two voxel sizes differ by no more than rounding."""
    return all(abs(a - b) <= max(_SAME_SPACING * a, _SAME_SPACING_MM) for a, b in zip(one, other, strict=True))
