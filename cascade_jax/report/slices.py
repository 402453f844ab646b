"""A case's slices for the page: grey images, outlines of the labels, and where the folds disagree."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import contourpy
import numpy as np
from PIL import Image

from cascade_jax.data.case import CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
from cascade_jax.data.labels import EMIDEC, LabelTable, spoken

_MARGIN_MM = 25.0
# Colours and dashes, which the colour-blind tell apart.
_STYLES = (
    ("#2fd39b", "none"),
    ("#56b4e9", "none"),
    ("#ff9d2e", "6 3"),
    ("#f3e04a", "2 3"),
    ("#d98cc0", "8 2 2 2"),
    ("#ff6f4d", "10 4"),
)


class Outline(NamedTuple):
    """A line around some labels.

    Attributes:
        title: what it is called.
        inside: the labels within.
        colour: of the line.
        dashes: as SVG has them.
    """

    title: str
    inside: tuple[int, ...]
    colour: str
    dashes: str


def outlines_of(table: LabelTable) -> tuple[Outline, ...]:
    """The outlines to draw: the heart's as a reader draws them, or those of every label."""
    if table == EMIDEC:
        around = {
            "epicardium": (CAVITY, MYOCARDIUM, INFARCTION, NO_REFLOW),
            "cavity": (CAVITY,),
            "infarction": (INFARCTION, NO_REFLOW),
            "no-reflow": (NO_REFLOW,),
        }
    else:
        around = {spoken(name): (label,) for label, name in enumerate(table.names) if label}
    return tuple(
        Outline(title, inside, *_STYLES[index % len(_STYLES)]) for index, (title, inside) in enumerate(around.items())
    )


def window(panels: list[np.ndarray], spacing: tuple[float, float, float]) -> tuple[slice, slice]:
    """Rows and columns around whatever any panel labels, with a margin; everything where nothing is labelled.

    Args:
        panels: labels (depth, height, width).
        spacing: mm along the same axes.
    """
    labelled = np.any([(labels > 0).any(axis=0) for labels in panels], axis=0)
    limits = []
    for axis in (0, 1):
        found = np.flatnonzero(labelled.any(axis=1 - axis))
        margin = round(_MARGIN_MM / spacing[axis + 1])
        size = labelled.shape[axis]
        limits.append(
            slice(max(0, found[0] - margin), min(size, found[-1] + 1 + margin)) if found.size else slice(0, size)
        )
    return limits[0], limits[1]


def _data_uri(array: np.ndarray) -> str:
    """uint8 (height, width) or (height, width, 4) as a PNG in a URI."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def grey_images(image: np.ndarray) -> list[str]:
    """Each slice as a PNG URI; black and white are the 1st and the 99.5th percentile of the tissue in the stack."""
    tissue = image[image != 0]
    low, high = np.percentile(tissue, (1, 99.5)) if tissue.size else (0.0, 1.0)
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return [_data_uri(np.round(255 * plane).astype(np.uint8)) for plane in scaled]


def heat_images(disagreement: np.ndarray) -> list[str]:
    """Disagreement 0 to 1 as orange of that opacity, each slice a PNG URI."""
    colour = np.array([230, 159, 0], np.uint8)
    planes = []
    for plane in disagreement:
        coloured = np.empty((*plane.shape, 4), np.uint8)
        coloured[..., :3] = colour
        # In 16 steps, which the eye does not tell from 256 and which take a fraction of the room.
        coloured[..., 3] = 17 * np.round(15 * np.clip(plane, 0, 1)).astype(np.uint8)
        planes.append(_data_uri(coloured))
    return planes


def _corners(line: np.ndarray) -> np.ndarray:
    """A closed line (point, 2) without the points between its corners, which take room and show nothing."""
    steps = np.diff(line, axis=0)
    turns = np.any(np.abs(steps - np.roll(steps, 1, axis=0)) > 1e-3, axis=1)
    return line[:-1][turns]


def outlines(plane: np.ndarray, spacing: tuple[float, float], around: Sequence[Outline]) -> list[str]:
    """SVG path data, in mm, of each outline; empty where the slice has none of its labels.

    Args:
        plane: labels (height, width).
        spacing: mm along (height, width).
        around: what is outlined.
    """
    paths = []
    for outline in around:
        mask = np.pad(np.isin(plane, outline.inside), 1).astype(np.float32)
        parts = []
        for line in contourpy.contour_generator(z=mask).lines(0.5):
            # A voxel's centre lies half a voxel from its corner, and one voxel was put around.
            points = (_corners(line) - 0.5) * (spacing[1], spacing[0])
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
        paths.append("".join(parts))
    return paths
