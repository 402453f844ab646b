"""A case's slices for the page: grey images, outlines of the labels, and where the folds disagree."""

import base64
import io
from collections.abc import Mapping

import contourpy
import numpy as np
from PIL import Image

from cascade_jax.data.case import CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW

_MARGIN_MM = 25.0
# What each outline goes around: a name for the style sheet, and the labels inside.
OUTLINES: Mapping[str, tuple[int, ...]] = {
    "epicardium": (CAVITY, MYOCARDIUM, INFARCTION, NO_REFLOW),
    "cavity": (CAVITY,),
    "infarction": (INFARCTION, NO_REFLOW),
    "no-reflow": (NO_REFLOW,),
}


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


def outlines(plane: np.ndarray, spacing: tuple[float, float]) -> dict[str, str]:
    """SVG path data, in mm, of each of `OUTLINES` that the slice has.

    Args:
        plane: labels (height, width).
        spacing: mm along (height, width).
    """
    paths = {}
    for name, inside in OUTLINES.items():
        mask = np.pad(np.isin(plane, inside), 1).astype(np.float32)
        if not mask.any():
            continue
        lines = contourpy.contour_generator(z=mask).lines(0.5)
        parts = []
        for line in lines:
            # A voxel's centre lies half a voxel from its corner, and one voxel was put around.
            points = (line - 0.5) * (spacing[1], spacing[0])
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
        paths[name] = "".join(parts)
    return paths
