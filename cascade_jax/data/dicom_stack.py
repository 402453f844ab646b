"""Slices that make a stack, and why some are none."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cascade_jax.data.dicom_slice import Slice, mm, same_spacing, series_number, text
from cascade_jax.data.geometry import BETWEEN_SLICES_MM, IN_PLANE_MM, MOST_VOXELS

_SAME_DIRECTION = 0.999  # cosine between slices of one stack
_LARGEST_UNEVENNESS = 0.1  # of a slice distance, as a share of the median
_LARGEST_SHEAR_MM = 2.0  # of a slice in its own plane, against the first
_SAME_DISTANCE = 0.01  # a share, beyond which a nominal slice distance contradicts the positions
_MULTIPLE = 0.05  # by what share of it a distance may miss a multiple of another
_WIDEST_GAP = (
    2.25  # slice distance by slice thickness; gaps as wide as slices are usual, wider ones are slices left out
)


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
    def remarks(self) -> list[str]:
        """Its notes, each with its name."""
        return [f"{self.name} {note}" for note in self.notes]

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


def same_direction(one: Slice, other: Slice) -> bool:
    return min(one.normal @ other.normal, one.across @ other.across) >= _SAME_DIRECTION


def _same_size(one: Slice, other: Slice) -> bool:
    return _shape(one) == _shape(other) and same_spacing(one.spacing, other.spacing)


def _shape(one: Slice) -> tuple[int, int]:
    return int(one.dataset.Rows), int(one.dataset.Columns)


def clusters(items: Iterable, same: Callable) -> list[list]:
    """Items together with the first one that they are like."""
    found: list[list] = []
    for item in items:
        like = next((cluster for cluster in found if same(cluster[0], item)), None)
        if like is None:
            found.append([item])
        else:
            like.append(item)
    return found


def stacks_of(slices: Sequence[Slice]) -> list[Series]:
    """The stacks of one series, by size: one, unless the smaller ones lie elsewhere or where the largest lies too.

    A stack from which slices of the same series are left out is not the whole heart, so that all have a fault then.
    """
    groups = sorted(clusters(slices, _same_size), key=len, reverse=True)
    largest, *others = groups
    heights = _heights(largest)

    def is_another(group: Sequence[Slice]) -> bool:
        if not same_direction(largest[0], group[0]):
            return True
        return all(np.abs(heights - one.position @ largest[0].normal).min() < 1 for one in group)

    if all(map(is_another, others)):
        return [series_of(group) for group in groups]
    sizes = len({_shape(group[0]) for group in groups}) > 1
    stated = ", ".join(
        f"{len(group)} of " + ("{} x {}".format(*_shape(group[0])) if sizes else mm(group[0].spacing))
        for group in groups
    )
    fault = f"has slices of several {'sizes' if sizes else 'PixelSpacings'}: {stated}"
    return [series_of(list(itertools.chain.from_iterable(groups)), fault)]


def series_of(slices: Sequence[Slice], fault: str | None = None) -> Series:
    numbers = {number for one in slices for number in series_number(one.dataset)}
    ordered = tuple(slices[index] for index in np.argsort(_heights(slices), kind="stable"))
    fault = fault or fault_of(ordered)
    return Series(tuple(sorted(numbers)), ordered, fault, () if fault else _notes(ordered))


def fault_of(slices: Sequence[Slice]) -> str | None:
    """Why slices, sorted by height, are no stack to segment, if so."""
    if len(slices) * math.prod(_shape(slices[0])) > MOST_VOXELS:
        return f"has {len(slices)} images of {'{} x {}'.format(*_shape(slices[0]))} pixels, more than a stack has"
    normal, distance = slices[0].normal, _slice_distance(slices)
    if any(one.normal @ normal < _SAME_DIRECTION for one in slices):
        return "has slices that are not parallel"
    if not all(same_direction(one, slices[0]) for one in slices):
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


def _header_distances(slices: Sequence[Slice]) -> dict[str, list[float]]:
    """Slice distances as the files have them, mm: {attribute: those that differ}."""
    between = [one.between for one in slices if one.between]
    stated = {"SpacingBetweenSlices": [cluster[0] for cluster in clusters(between, _same_length)]}
    locations = [one.location for one in slices]
    if len(slices) > 1 and None not in locations:
        steps = np.abs(np.diff(locations))
        if steps.min() > 1e-3:
            stated["SliceLocation"] = [float(np.median(steps))]
    return stated


def _same_length(one: float, other: float) -> bool:
    return abs(one / other - 1) <= _SAME_DISTANCE


def _is_multiple(distance: float, step: float) -> bool:
    """Whether a distance is twice another, or three times, and so on."""
    count = round(distance / step)
    return count > 1 and abs(distance / step - count) <= _MULTIPLE * count


def _is_gap(slices: Sequence[Slice], distance: float, stated: float) -> bool:
    """Whether SpacingBetweenSlices has what lies between the slices' faces, as some scanners write."""
    thickness = slices[0].thickness
    return bool(thickness) and stated <= thickness / 2 and _same_length(thickness + stated, distance)


def _gap(slices: Sequence[Slice], distance: float) -> str | None:
    """Why slices of even distance are not all of their stack, if so: every other one is missing, say."""
    if len(slices) < 2:
        return None
    for name, values in _header_distances(slices).items():
        for stated in values:
            as_gap = name == "SpacingBetweenSlices" and _is_gap(slices, distance, stated)
            if _is_multiple(distance, stated) and not as_gap:
                return f"lacks slices: positions are {distance:.4g} mm apart, and by {name} {stated:.4g} mm"
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
        return f"has a PixelSpacing of {mm(spacing)}, outside {low:g} to {high:g} mm"
    if not near <= round(distance, 3) <= far:
        return f"has a slice distance of {distance:.4g} mm, outside {near:g} to {far:g} mm"
    return None


def _several_identities(slices: Sequence[Slice]) -> str | None:
    if any(not text(one.dataset, "SeriesInstanceUID") for one in slices):
        return "has an image without SeriesInstanceUID"
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        if len({text(one.dataset, name) for one in slices}) > 1:
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
    for name, values in _header_distances(slices).items():
        for stated in values:
            if len(slices) > 1 and not _same_length(distance, stated):
                notes.append(f"has positions {distance:.4g} mm apart, by which it is read, and {name} {stated:.4g} mm")
    return tuple(notes)
