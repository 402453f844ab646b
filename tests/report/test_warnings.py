"""What the page warns of."""

import re

import numpy as np
import pytest

from cascade_jax.report.warnings import hidden_warnings, stack_warnings


def cylinder(depth=8, tilt=0):
    """A heart of one shape in every slice, moved on by `tilt` pixels a slice."""
    labels = np.zeros((depth, 60, 80), np.uint8)
    for index in range(depth):
        labels[index, 20:30, 15 + tilt * index : 25 + tilt * index] = 2
    return labels


def shifted_slices(labels):
    """The slices, from 1, that warnings say are out of place."""
    found = (re.match(r"slice (\d+) lies", warning) for warning in stack_warnings(labels, (10.0, 1.5, 1.5)))
    return [int(match[1]) for match in found if match]


@pytest.mark.parametrize("tilt", [0, 3])
@pytest.mark.parametrize("moved", [[1], [4], [8], [2, 7], []])
@pytest.mark.parametrize("stray", [False, True])
def test_warnings_name_the_slices_out_of_place_and_no_others(moved, tilt, stray):
    labels = cylinder(tilt=tilt)
    for number in moved:
        labels[number - 1] = np.roll(labels[number - 1], 9, axis=0)  # 13.5 mm
    labels[5, 50:53, 70:73] = 2 * stray
    assert shifted_slices(labels) == moved


def test_warnings_are_in_words():
    labels = cylinder(depth=5)
    assert stack_warnings(labels, (10.0, 1.5, 1.5)) == []
    labels[0] = np.roll(labels[0], 9, axis=0)
    expected = ["slice 1 lies 14 mm off the line through the other slices"]
    assert stack_warnings(labels, (10.0, 1.5, 1.5)) == expected
    assert stack_warnings(labels[:4], (10.0, 1.5, 1.5)) == [], "four slices do not tell which of them is out of place"
    labels[1] = 0
    assert stack_warnings(labels, (10.0, 1.5, 1.5)) == ["no myocardium in slice 2, between slices that have some"]
    assert stack_warnings(np.zeros_like(labels), (10.0, 1.5, 1.5)) == ["no myocardium was found"]
    shown = slice(0, 40), slice(0, 40)
    labels[2, 50, 60] = 3
    assert hidden_warnings({"prediction": labels}, shown, (10.0, 10.0, 10.0)) == [
        "1 ml of the prediction lie far from the rest, outside the pictures"
    ]
