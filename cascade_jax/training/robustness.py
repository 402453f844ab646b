"""How much a result depends on what says nothing about the heart: intensities' scale, orientation, field of view, grid.

A change is made to the scan and, alike, to labels. What is compared is the Dice of the changed scan's result and that
of the unchanged scan's result, changed like a reader's labels, both against the reader's labels changed so.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cascade_jax.cascade import Cascade
from cascade_jax.data.case import BACKGROUND, Case
from cascade_jax.data.labels import LabelTable, display_name
from cascade_jax.metrics import dice
from cascade_jax.report.text_tables import Table

_MARGIN_MM = 30.0  # left around a heart that is cropped


class Change(NamedTuple):
    """How a scan is changed.

    Attributes:
        image: (image, labels, spacing) -> the changed image; arrays are (depth, height, width), float32 and uint8.
        labels: (array, labels, spacing) -> labels changed alike, of the same grid as the changed image.
        spacing: spacing, mm along (depth, height, width) -> that of the changed scan.
    """

    image: Callable[[np.ndarray, np.ndarray, Sequence[float]], np.ndarray]
    labels: Callable[[np.ndarray, np.ndarray, Sequence[float]], np.ndarray]
    spacing: Callable[[Sequence[float]], tuple[float, ...]] = tuple


def _moved(move: Callable[[np.ndarray], np.ndarray], spacing: Callable = tuple) -> Change:
    """Voxels elsewhere, their values as they were."""
    return Change(lambda image, *_: move(image), lambda array, *_: move(array), spacing)


def _scaled(scale: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Other values, the voxels where they were."""
    return Change(lambda image, *_: scale(image), lambda array, *_: array)


def _eight_bits(image: np.ndarray) -> np.ndarray:
    low, high = image.min(), image.max()
    return np.round((image - low) / (high - low) * 255).astype(np.float32)


def _resampled(pixel: float) -> Change:
    """Square pixels of another size, mm: the image linearly, labels by their nearest voxel."""

    def zoom(array, spacing, order):
        factors = (1.0, spacing[1] / pixel, spacing[2] / pixel)
        return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)

    return Change(
        lambda image, _, spacing: zoom(image, spacing, 1),
        lambda array, _, spacing: zoom(array, spacing, 0),
        lambda spacing: (spacing[0], pixel, pixel),
    )


def _around_heart(array: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The plane cut to the heart and some millimetres around it."""
    rows, columns = (np.flatnonzero((labels != BACKGROUND).any((0, axis))) for axis in (2, 1))
    box = []
    for occupied, pixel in ((rows, spacing[1]), (columns, spacing[2])):
        margin = round(_MARGIN_MM / pixel)
        box.append(slice(max(0, occupied[0] - margin), occupied[-1] + 1 + margin))
    return array[:, box[0], box[1]]


def _without_slice(array: np.ndarray, labels: np.ndarray, _) -> np.ndarray:
    """Without one of the slices between the heart's first and last, drawn by the labels' own checksum."""
    slices = np.flatnonzero((labels != BACKGROUND).any((1, 2)))
    inner = slices[1:-1] if len(slices) > 2 else slices
    left_out = inner[zlib.crc32(labels.tobytes()) % len(inner)]
    return np.delete(array, left_out, axis=0)


CHANGES: Mapping[str, Change] = {
    "3 x image + 100": _scaled(lambda image: 3 * image + 100),
    "image / 50 - 7": _scaled(lambda image: image / 50 - 7),
    "8 bits": _scaled(_eight_bits),
    "mirrored": _moved(lambda array: array[:, :, ::-1]),
    "upside down": _moved(lambda array: array[:, ::-1]),
    "turned by 90 degrees": _moved(
        lambda array: np.rot90(array, axes=(1, 2)), lambda spacing: (spacing[0], spacing[2], spacing[1])
    ),
    "slices reversed": _moved(lambda array: array[::-1]),
    "cropped around the heart": Change(_around_heart, _around_heart),
    "pixels of 1 mm": _resampled(1.0),
    "pixels of 1.5 mm": _resampled(1.5),
    "pixels of 2.2 mm": _resampled(2.2),
    "one slice less": Change(_without_slice, _without_slice),
}


def change_case(change: Change, case: Case) -> Case:
    """The labelled case, changed; its header no longer fits and is left out."""
    image = np.ascontiguousarray(change.image(case.image, case.labels, case.spacing), np.float32)
    labels = np.ascontiguousarray(change.labels(case.labels, case.labels, case.spacing))
    return Case(case.name, image, labels, change.spacing(case.spacing))


def compare(cascade: Cascade, case: Case, names: Sequence[str] = tuple(CHANGES)) -> dict[str, dict[str, np.ndarray]]:
    """What each change does to a case.

    Args:
        cascade: the trained cascade.
        case: a labelled case.
        names: of `CHANGES`.

    Returns:
        {change: {target: (Dice of the unchanged scan's result, Dice of the changed scan's)}}.

    Raises:
        CaseError: the image has no contrast.
    """
    targets = cascade.plan.labels.targets
    result = cascade.segment_case(case).labels
    compared = {}
    for name in names:
        changed = change_case(CHANGES[name], case)
        expected = CHANGES[name].labels(result, case.labels, case.spacing)
        found = cascade.segment_case(changed).labels
        compared[name] = {
            target: np.array([_dice(labels, changed.labels, members) for labels in (expected, found)])
            for target, members in targets.items()
        }
    return compared


def _dice(labels: np.ndarray, truth: np.ndarray, members: Sequence[int]) -> float:
    return dice(np.isin(labels, members), np.isin(truth, members))


def differences(compared: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, dict[str, float]]:
    """{change: {target: by how much it changes the mean Dice over cases}}, of what `compare` returned for each case."""
    return {
        name: {
            target: float(np.mean([case[name][target][1] - case[name][target][0] for case in compared]))
            for target in of_targets
        }
        for name, of_targets in compared[0].items()
    }


def table_of(compared: Sequence[Mapping[str, Mapping[str, np.ndarray]]], labels: LabelTable) -> Table:
    """The mean Dice before and after each change, and the difference."""
    header = ["", *(f"{display_name(target)} Dice %" for target in labels.targets)]
    of_changes, rows = differences(compared), []
    for name, of_targets in of_changes.items():
        cells = []
        for target, difference in of_targets.items():
            before, after = np.mean([case[name][target] for case in compared], axis=0)
            cells.append(f"{100 * before:.1f} to {100 * after:.1f} ({100 * difference:+.1f})")
        rows.append([name, *cells])
    title = f"What changes of the scan do to the result: mean over {len(compared)} cases"
    return Table(title, header, rows, "Before and after the change; labels and the unchanged result are changed alike.")
