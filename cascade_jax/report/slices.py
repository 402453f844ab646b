"""A case's slices for the page: grey images, outlines of the labels, and where the networks doubt or disagree."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import contourpy
import numpy as np
from PIL import Image
from scipy import ndimage

from cascade_jax.data import folders
from cascade_jax.data.border import outside_field_of_view
from cascade_jax.data.case import CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name

_MARGIN_MM = 25.0
# A labelled region below this share of the largest one is stray, and the pictures do not reach out for it.
_STRAY = 0.1
# What a case's pictures may hold, so that a hundred cases stay below 20 MB: nine slices of 128 x 128.
_MOST_PIXELS = 150_000
_THUMBNAIL_PIXELS = 128
# Percentiles of the tissue: what a picture holds, for window and level to choose from, and what is shown at first.
_HELD, _SHOWN = (0.1, 99.9), (1.0, 99.5)
# Colours, and dashes for those who do not tell the colours apart: each is another.
_STYLES = (
    ("#2fd39b", "none"),
    ("#56b4e9", "9 4"),
    ("#ff9d2e", "3 3"),
    ("#f3e04a", "1 4"),
    ("#b9a7ff", "9 3 2 3"),
    ("#ff6f4d", "14 3"),
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
        around = {display_name(name): (label,) for label, name in enumerate(table.names) if label}
    return tuple(
        Outline(title, inside, *_STYLES[index % len(_STYLES)]) for index, (title, inside) in enumerate(around.items())
    )


def window(panels: Sequence[np.ndarray], spacing: tuple[float, float, float]) -> tuple[slice, slice]:
    """Rows and columns around the large labelled regions of any panel, with a margin; everything where there are none.

    Args:
        panels: labels (depth, height, width).
        spacing: mm along the same axes.
    """
    labelled = np.any([_large_regions(labels > 0).any(axis=0) for labels in panels], axis=0)
    limits = []
    for axis in (0, 1):
        found = np.flatnonzero(labelled.any(axis=1 - axis))
        margin = round(_MARGIN_MM / spacing[axis + 1])
        size = labelled.shape[axis]
        limits.append(
            slice(max(0, int(found[0]) - margin), min(size, int(found[-1]) + 1 + margin))
            if found.size
            else slice(0, size)
        )
    return limits[0], limits[1]


def _large_regions(mask: np.ndarray) -> np.ndarray:
    """The mask without stray regions."""
    regions, _ = ndimage.label(mask)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return (sizes >= max(1.0, _STRAY * sizes.max()))[regions]


def _uri(picture: Image.Image, form: str, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, optimize=True, **options)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


def _pictures(stack: np.ndarray) -> list[Image.Image]:
    """Each slice of a uint8 stack (depth, height, width) as a picture, made smaller if the stack is a large one."""
    scale = min(1.0, (_MOST_PIXELS / stack.size) ** 0.5)
    size = tuple(max(1, int(scale * length)) for length in stack.shape[:0:-1])
    pictures = [Image.fromarray(plane) for plane in stack]
    return pictures if scale == 1 else [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]


class GreyStack(NamedTuple):
    """The slices of an image, and what their greys stand for.

    Attributes:
        images: each slice as the URI of a JPEG.
        held: intensities of black and white in the pictures.
        shown: intensities of black and white as they are to be shown at first, within `held`.
        thumbnail: the URI of one slice, small, as it is shown at first.
    """

    images: list[str]
    held: tuple[float, float]
    shown: tuple[float, float]
    thumbnail: str


def grey_images(image: np.ndarray, front: int) -> GreyStack:
    """Pictures of an image.

    Args:
        image: float (depth, height, width).
        front: the slice of the thumbnail.
    """
    held, shown = grey_limits(image)
    # These are for looking at: at this quality the eye finds no fault, and they take a third of what PNG does.
    images = [_uri(picture, "JPEG", quality=90) for picture in _pictures(_grey(image, held))]
    small = Image.fromarray(_grey(image[front], shown))
    small.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    return GreyStack(images, held, shown, _uri(small, "JPEG", quality=80))


def grey_limits(image: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Intensities of black and white: of what a picture holds, and of what is shown at first."""
    tissue = image[~outside_field_of_view(image)]
    held, shown = (
        tuple(float(level) for level in np.percentile(tissue, levels)) if tissue.size else (0.0, 1.0)
        for levels in (_HELD, _SHOWN)
    )
    if held[0] == held[1]:  # so that window and level have a range
        held = shown = (held[0], held[0] + 1.0)
    return held, shown


def _grey(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """uint8 of the same shape, black and white at the limits."""
    low, high = limits
    return np.round(255 * np.clip((image - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


class HeatMap(NamedTuple):
    """How a map is called: its title, the key that shows it, and what it means in a sentence."""

    title: str
    key: str
    meaning: str


HEAT_COLOUR = (214, 60, 170)  # unlike that of any outline; only one map is shown at a time
HEAT_MAPS = {
    folders.DOUBT: HeatMap(
        "doubt of the networks",
        "d",
        "1 minus the highest mean probability: high where the networks are unsure, or sure of different labels",
    ),
    folders.DISAGREEMENT: HeatMap(
        "folds that disagree",
        "v",
        "the share of the folds that vote for another label than the majority",
    ),
}


def heat_images(values: np.ndarray) -> list[str]:
    """Values 0 to 1, (depth, height, width), as a colour of that opacity, each slice the URI of a PNG."""
    uris = []
    for picture in _pictures(np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)):
        # In 16 steps, which the eye does not tell from 256 and which take a fraction of the room.
        steps = Image.fromarray(np.round(np.asarray(picture) / 17).astype(np.uint8))
        steps.putpalette(HEAT_COLOUR * 16)
        uris.append(_uri(steps, "PNG", bits=4, transparency=bytes(range(0, 256, 17))))
    return uris


def _corners(line: np.ndarray) -> np.ndarray:
    """A closed line (point, 2) without the points between its corners, which take room and show nothing."""
    steps = np.diff(line, axis=0)
    turns = np.any(np.abs(steps - np.roll(steps, 1, axis=0)) > 1e-3, axis=1)
    return line[:-1][turns]


def outline_lines(plane: np.ndarray, spacing: tuple[float, float], outline: Outline) -> list[np.ndarray]:
    """The closed lines of an outline, each float (corner, 2): x and y in mm from the corner of the plane.

    Args:
        plane: labels (height, width).
        spacing: mm along (height, width).
        outline: what is outlined.
    """
    mask = np.pad(np.isin(plane, outline.inside), 1).astype(np.float32)
    # A voxel's centre lies half a voxel from its corner, and one voxel was put around.
    return [
        (_corners(line) - 0.5) * (spacing[1], spacing[0]) for line in contourpy.contour_generator(z=mask).lines(0.5)
    ]


def outlines(plane: np.ndarray, spacing: tuple[float, float], around: Sequence[Outline]) -> list[str]:
    """SVG path data, in mm, of each outline; empty where the slice has none of its labels.

    Arguments are those of `outline_lines`.
    """
    return [
        "".join(
            "M" + "L".join(f"{round(x, 1):g} {round(y, 1):g}" for x, y in points) + "Z"
            for points in outline_lines(plane, spacing, outline)
        )
        for outline in around
    ]
