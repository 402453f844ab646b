"""Where a picture shows the insertions of the right ventricle."""

from collections.abc import Mapping

import numpy as np

from cascade_jax.data import emidec
from cascade_jax.quantify.wall import SPOKES, centre_of, spokes


def known_insertions(figures: Mapping) -> dict[str, float]:
    """Of a case's quantities: {"A" or "I" (anterior, inferior): degrees} of those that are known."""
    angles = {"A": figures["insertion_degrees"], "I": figures["inferior_insertion_degrees"]}
    return {letter: angle for letter, angle in angles.items() if not np.isnan(angle)}


def insertion_marks(
    labels: np.ndarray, spacing: tuple[float, float, float], insertions: Mapping[str, float]
) -> list[list[tuple]]:
    """Short lines outward from the myocardium, where the right ventricle's insertions lie, in mm from the stack's
    corner.

    Args:
        labels: (depth, height, width), the outline with which they were found.
        spacing: mm along the same axes.
        insertions: {letter: degrees}.

    Returns:
        For each slice (letter, x and y of the line's beginning, x and y of its end); none where it has no wall there.
    """
    stack, size = emidec.to_file_axes(labels), spacing[::-1]
    epicardium = spokes(stack, size).epicardium
    marks = []
    for plane, radii in zip(labels, epicardium, strict=True):
        here = []
        for letter, angle in insertions.items():
            radius = radii[int(angle % 360 / 360 * SPOKES)]
            if np.isfinite(radius):
                column, row = centre_of(plane.T)
                along = np.cos(np.deg2rad(angle)), -np.sin(np.deg2rad(angle))
                ends = [
                    round(float((middle + 0.5) * scale + reach * part), 1)
                    for reach in (radius + 1, radius + 8)
                    for middle, scale, part in zip((column, row), size, along, strict=False)
                ]
                here.append((letter, *ends))
        marks.append(here)
    return marks


def marks_in_picture(
    labels: np.ndarray,
    spacing: tuple[float, float, float],
    insertions: Mapping[str, float],
    shown: tuple[slice, slice],
) -> list[list[tuple]]:
    """What `insertion_marks` gives, in mm from the corner of pictures that show these rows and columns."""
    down, across = (part.start * size for part, size in zip(shown, spacing[1:], strict=True))
    return [
        [
            (letter, *(round(value, 1) for value in (x - across, y - down, end_x - across, end_y - down)))
            for letter, x, y, end_x, end_y in marks
        ]
        for marks in insertion_marks(labels, spacing, insertions)
    ]


def bullseye_note(case: Mapping) -> str:
    """Of a case's quantities a sentence below the bullseyes: what the marks on them are, or that there are none."""
    return {
        "right ventricle": "A, I: anterior and inferior insertion of the right ventricle.",
        "given": "A: anterior insertion of the right ventricle, as given.",
        "x axis": f"Right ventricle {case['right_ventricle']}: counted from the x axis.",
    }.get(case["segments_from"], "No segments.")
