"""Segments of the American Heart Association, and what they are counted from."""

import numpy as np
import pytest

from cascade_jax.quantify import aha
from cascade_jax.quantify.quantities import quantify
from tests.quantify.hearts import INNER, OUTER, SPACING, grid, ring


def test_segments_are_numbered_counter_clockwise_from_the_anterior_insertion():
    # As a reader sees a short-axis slice: septum to the left, so the anterior insertion is at the upper left.
    insertion = 120.0
    at = {
        name: int(aha.segment_at(angle, "base", insertion))
        for name, angle in {
            "top": 90.0,
            "upper left": 150.0,
            "lower left": 210.0,
            "bottom": 270.0,
            "lower right": 330.0,
            "upper right": 30.0,
        }.items()
    }
    assert at == {"top": 1, "upper left": 2, "lower left": 3, "bottom": 4, "lower right": 5, "upper right": 6}
    apex = [int(aha.segment_at(angle, "apex", insertion)) for angle in (90.0, 180.0, 270.0, 0.0)]
    assert apex == [13, 14, 15, 16]
    middle = aha.segment_at(np.arange(0, 360, 1.0), "middle", insertion)
    assert np.bincount(middle)[7:].tolist() == [60] * 6


def test_segments_are_even_on_anisotropic_pixels_too():
    labels = ring()[:, ::3]
    spacing = (SPACING[0], 3 * SPACING[1], SPACING[2])
    segment = aha.segment_of(labels, aha.rings(labels), 0.0, spacing)
    counts = np.bincount(segment[segment > 0])
    for numbers in (range(1, 7), range(7, 13)):
        share = counts[list(numbers)] / counts[list(numbers)].sum()
        np.testing.assert_allclose(share, 1 / 6, rtol=0.05)


def test_the_base_is_the_larger_end_whichever_way_the_stack_runs():
    radius, _ = grid()
    size = np.linspace(1.0, 0.5, 6)
    labels = np.where(radius < INNER * size, 1, np.where(radius < OUTER * size, 2, 0)).astype(np.uint8)
    labels[:, :, 5][labels[:, :, 5] == 1] = 2
    assert aha.rings(labels) == ["base", "base", "middle", "middle", "apex", "cap"]
    assert aha.rings(labels[:, :, ::-1]) == ["cap", "apex", "middle", "middle", "base", "base"]
    assert aha.rings(labels, base_first=False) == ["apex", "middle", "middle", "base", "base", "base"]
    assert quantify(labels, SPACING).segments[-1]["name"] == "apical cap"


def test_the_larger_end_is_that_of_the_larger_ventricle_however_thick_its_wall():
    radius, _ = grid()
    cavity, wall = np.linspace(30.0, 10.0, 6), np.linspace(2.0, 15.0, 6)
    labels = np.where(radius < cavity, 1, np.where(radius < cavity + wall, 2, 0)).astype(np.uint8)
    assert (labels[:, :, 0] == 2).sum() < (labels[:, :, 5] == 2).sum()
    assert aha.base_comes_first(labels) and not aha.base_comes_first(labels[:, :, ::-1])


def test_a_slice_without_cavity_amid_the_stack_is_of_its_neighbours_ring():
    radius, _ = grid((150, 160, 9))
    labels = np.where(radius < INNER, 1, np.where(radius < OUTER, 2, 0)).astype(np.uint8)
    for index in (0, 4, 8):  # beyond the base, amid the middle, beyond the apex
        labels[:, :, index][labels[:, :, index] == 1] = 2
    expected = ["base", "base", "base", "middle", "middle", "middle", "apex", "apex", "cap"]
    assert aha.rings(labels, base_first=True) == expected
    assert aha.rings(labels[:, :, ::-1], base_first=False) == expected[::-1]
    labels[:, :, 3] = 0
    assert aha.rings(labels, base_first=True)[3:5] == [None, "middle"]


def test_without_a_right_ventricle_segments_start_at_the_x_axis_and_it_is_said():
    labels = ring(0)
    image = np.where(labels == 1, 200.0, 40.0)
    figures = quantify(labels, SPACING, image)
    assert figures.case["segments_from"] == "x axis"
    assert figures.case["right_ventricle"] == "not found"
    assert {row["segments_from"] for row in figures.segments} == {"x axis"}
    assert np.isnan(figures.case["insertion_degrees"])
    assert np.isnan(figures.case["inferior_insertion_degrees"])
    given = quantify(labels, SPACING, insertion=30.0).case
    assert (given["segments_from"], given["right_ventricle"]) == ("given", "not looked for")
    assert quantify(labels, SPACING).case["right_ventricle"] == "not looked for"


def test_mirrored_slices_give_the_same_segments_where_the_axes_are_known():
    radius, angle = grid()
    labels = ring()
    image = np.where(labels == 1, 200.0, np.where(labels == 2, 40.0, 0.0))
    image[(radius >= OUTER) & (radius < OUTER + 18) & ((angle - 100) % 360 < 110)] = 205.0
    # From base to apex, the third axis leads away from the base: left-handed, unless mirrored.
    shown = quantify(labels, SPACING, image, base_first=True, right_handed=False)
    flipped = quantify(labels[:, ::-1], SPACING, image[:, ::-1], base_first=True, right_handed=True)
    assert (shown.case["mirrored"], flipped.case["mirrored"]) == ("no", "yes")
    assert flipped.segments == shown.segments
    assert flipped.slices == shown.slices
    turned = (shown.case["insertion_degrees"] + flipped.case["insertion_degrees"]) % 360
    assert min(turned, 360 - turned) < 1e-6
    inferior = (shown.case["inferior_insertion_degrees"] + flipped.case["inferior_insertion_degrees"]) % 360
    assert min(inferior, 360 - inferior) < 1e-6
    remote = [figures.case["remote_from_degrees"] + figures.case["remote_to_degrees"] for figures in (shown, flipped)]
    assert sum(remote) % 360 == pytest.approx(0, abs=1e-6)
    given = quantify(labels[:, ::-1], SPACING, base_first=True, right_handed=True, insertion=-100.0)
    assert given.segments == quantify(labels, SPACING, base_first=True, right_handed=False, insertion=100.0).segments
    unknown = quantify(labels[:, ::-1], SPACING, image[:, ::-1], base_first=True)
    assert unknown.case["mirrored"] == "unknown"
    assert unknown.segments != shown.segments
    told = quantify(labels[:, ::-1], SPACING, image[:, ::-1], base_first=True, mirrored=True, right_handed=False)
    assert (told.segments, told.case["mirrored"]) == (shown.segments, "yes")
