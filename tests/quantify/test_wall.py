"""The wall and its spokes, on shapes whose answers are known in closed form."""

import numpy as np
import pytest

from cascade_jax.quantify.quantities import endocardial_extent, wall_figures
from cascade_jax.quantify.wall import spokes, wall_of
from tests.quantify.hearts import INNER, SPACING, grid, ring


@pytest.mark.parametrize("spacing", [SPACING, (0.5, 0.5, 4.0)])
def test_spokes_measure_thickness_transmurality_and_endocardium(spacing):
    measured = spokes(ring(), spacing)
    assert np.nanmean(measured.thickness) == pytest.approx(10, abs=0.1)
    inside = np.arange(180) < 44
    assert np.nanmean(measured.transmurality[:, inside]) == pytest.approx(50, abs=2)
    assert not measured.infarct[:, 46:].any()
    extent = endocardial_extent(measured, spacing[2])
    total = 2 * np.pi * INNER * 6 * spacing[2] / 100
    assert extent["endocardium_cm2"] == pytest.approx(total, rel=0.02)
    assert extent["infarct_endocardium_cm2"] == pytest.approx(total / 4, rel=0.03)
    assert extent["infarct_endocardium_percent"] == pytest.approx(25, abs=0.7)


def test_myocardium_that_is_not_of_the_wall_does_not_thicken_it():
    radius, angle = grid()
    labels = ring()
    plain = spokes(labels, SPACING)
    labels[(radius > 34) & (radius < 36.1) & (angle < 40)] = 3  # an island beyond the wall
    labels[(radius > 8) & (radius < 14) & (angle > 180) & (angle < 220)] = 2  # a papillary muscle
    measured = spokes(labels, SPACING)
    # The papillary muscle is out of the cavity, whose centre moves a little.
    np.testing.assert_allclose(measured.thickness, plain.thickness, atol=1.0)
    assert np.nanmean(measured.thickness) == pytest.approx(10, abs=0.1)
    assert np.nanmin(measured.endocardium) > INNER - 2
    assert np.nanmean(measured.transmurality[:, :18]) == pytest.approx(50, abs=2)


def test_beyond_the_cavity_the_largest_piece_of_myocardium_is_the_wall():
    plane = np.zeros((20, 20), np.uint8)
    plane[5:12, 5:12] = 2
    island = plane.copy()
    island[16:18, 16:18] = 3
    np.testing.assert_array_equal(wall_of(island), plane > 0)
    assert not wall_of(np.zeros((4, 4))).any()


def test_an_open_wall_of_two_pieces_is_a_wall():
    _, angle = grid()
    plane = ring(0)[:, :, 0]
    plane[(plane == 2) & ((angle[:, :, 0] % 180) < 20)] = 0
    np.testing.assert_array_equal(wall_of(plane), plane == 2)


def test_anisotropic_pixels_do_not_distort_the_wall():
    labels = ring()[:, ::2]
    measured = spokes(labels, (0.5, 1.0, 10.0))
    assert np.nanmean(measured.thickness) == pytest.approx(10, abs=0.2)
    assert np.nanmax(np.abs(measured.thickness - 10)) < 1.5


def test_an_epicardial_infarct_does_not_touch_the_endocardium():
    radius, angle = grid()
    labels = ring(0)
    labels[(labels == 2) & (angle < 90) & (radius > 25)] = 3
    measured = spokes(labels, SPACING)
    assert not measured.at_endocardium.any()
    assert np.nanmean(measured.transmurality[:, :44]) == pytest.approx(50, abs=2)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("far", [False, True])
def test_a_wall_cut_off_by_the_edge_of_the_image_ends_there(axis, far):
    cut = [slice(None)] * 3
    cut[axis] = slice(0, 130) if far else slice(20, None)
    labels = ring()[tuple(cut)]
    assert (np.take(labels, -1 if far else 0, axis) >= 2).any()
    within = np.pad(labels, ((9, 9), (9, 9), (0, 0)))
    np.testing.assert_allclose(spokes(labels, SPACING).thickness, spokes(within, SPACING).thickness, atol=0.2)


def test_the_endocardium_of_an_open_wall_is_as_long_as_the_wall_that_is_there():
    labels = ring(0)
    labels[(grid()[1] < 90) & (labels == 2)] = 0
    extent = endocardial_extent(spokes(labels, SPACING), SPACING[2])
    assert extent["endocardium_cm2"] == pytest.approx(0.75 * 2 * np.pi * INNER * 6 * SPACING[2] / 100, rel=0.03)
    assert extent["infarct_endocardium_percent"] == 0


def test_the_mean_transmurality_is_of_the_spokes_that_meet_infarct():
    figures = wall_figures(spokes(ring(), SPACING))  # half of the wall, on a quarter of it
    assert figures["transmurality_mean_percent"] == pytest.approx(50, abs=2)
    assert figures["transmurality_max_percent"] == pytest.approx(50, abs=6)
    assert np.isnan(wall_figures(spokes(ring(0), SPACING))["transmurality_mean_percent"])
    assert wall_figures(spokes(ring(0), SPACING))["wall_thickness_mm"] == pytest.approx(10, abs=0.1)
