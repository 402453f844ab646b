"""Quantities of shapes whose answers are known in closed form."""

import numpy as np
import pytest

from cascade_jax.quantify.quantities import endocardial_extent, quantify, volumes
from cascade_jax.quantify.wall import spokes
from tests.quantify.hearts import INNER, OUTER, SPACING, grid, ring


def test_volumes_of_a_cylinder_with_a_sector_of_infarct():
    figures = volumes(ring(), SPACING)
    height = 60.0
    assert figures["cavity_ml"] == pytest.approx(np.pi * INNER**2 * height / 1000, rel=0.01)
    myocardium = np.pi * (OUTER**2 - INNER**2) * height / 1000
    infarct = np.pi * (25.0**2 - INNER**2) * height / 4000
    assert figures["myocardium_ml"] == pytest.approx(myocardium, rel=0.01)
    assert figures["myocardium_g"] == pytest.approx(1.05 * myocardium, rel=0.01)
    assert figures["infarct_ml"] == pytest.approx(infarct, rel=0.02)
    assert figures["infarct_percent"] == pytest.approx(100 * infarct / myocardium, rel=0.02)
    assert figures["no_reflow_ml"] == figures["no_reflow_percent"] == 0


def test_what_the_slices_have_is_what_the_heart_has():
    labels = ring()
    labels[:, :, 1:4][labels[:, :, 1:4] == 3] = 2  # an infarct in some slices only
    figures = quantify(labels, SPACING)
    assert [row["slice"] for row in figures.slices if row["infarct_ml"]] == [1, 5, 6]
    for name in ("cavity_ml", "myocardium_ml", "infarct_ml"):
        assert sum(row[name] for row in figures.slices) == pytest.approx(figures.case[name])


def test_no_reflow_is_infarct_and_myocardium_too():
    labels = ring()
    as_no_reflow = np.where(labels == 3, 4, labels)
    one, other = volumes(labels, SPACING), volumes(as_no_reflow, SPACING)
    assert (one["myocardium_g"], one["infarct_ml"]) == (other["myocardium_g"], other["infarct_ml"])
    assert other["no_reflow_ml"] == other["infarct_ml"]
    assert np.isnan(volumes(np.zeros_like(labels), SPACING)["infarct_percent"])


def test_the_endocardium_of_an_ellipse_is_as_long_as_its_perimeter():
    x, y = np.mgrid[-49.75:50:0.5, -49.75:50:0.5]
    around = [np.hypot(x / (30 + wall), y / (15 + wall)) for wall in (0, 10)]
    labels = np.where(around[0] < 1, 1, np.where(around[1] < 1, 2, 0)).astype(np.uint8)[:, :, None]
    extent = endocardial_extent(spokes(labels, (0.5, 0.5, 10.0)), 10.0)
    assert extent["endocardium_cm2"] == pytest.approx(14.53, rel=0.02)  # 4 a E(1 - b^2 / a^2) = 145.3 mm


def test_every_myocardium_voxel_has_one_segment_and_segments_are_even():
    labels = ring()
    figures = quantify(labels, SPACING, insertion=120.0)
    assert [row["segment"] for row in figures.segments] == list(range(1, 17))
    total = sum(row["myocardium_ml"] for row in figures.segments)
    assert total == pytest.approx(figures.case["myocardium_ml"])
    per_slice = figures.case["myocardium_ml"] / 6
    for row in figures.segments:
        share = 2 * per_slice / (6 if row["segment"] <= 12 else 4)
        assert row["myocardium_ml"] == pytest.approx(share, rel=0.03)
    # The infarct from 0 to 90 degrees: segments 6 and 1 (0 to 60, 60 to 120), and at the apex 16 and 13.
    infarcted = {row["segment"]: row for row in figures.segments if row["infarct_ml"] > 0.05}
    assert set(infarcted) == {6, 1, 12, 7, 16, 13}
    share = (25.0**2 - INNER**2) / (OUTER**2 - INNER**2)
    assert infarcted[6]["infarct_percent"] == pytest.approx(100 * share, abs=2)
    assert infarcted[6]["transmurality_mean_percent"] == pytest.approx(50, abs=2)
    assert infarcted[1]["infarct_percent"] == pytest.approx(50 * share, abs=2)
    assert len(figures.slices) == 6
    # The infarct lies on a quarter of the endocardium: 30 degrees of segments 1 and 6 each in the two basal slices.
    for rows in (figures.slices, figures.segments):
        for name in ("endocardium_cm2", "infarct_endocardium_cm2"):
            assert sum(row[name] for row in rows) == pytest.approx(figures.case[name])
    assert figures.slices[0]["infarct_endocardium_percent"] == pytest.approx(25, abs=1.5)
    sector = 2 * np.pi * INNER * 2 * SPACING[2] / 6 / 100
    assert infarcted[6]["endocardium_cm2"] == pytest.approx(sector, rel=0.03)
    assert infarcted[6]["infarct_endocardium_percent"] == pytest.approx(100, abs=1)


def test_a_slice_without_a_cavity_has_no_wall():
    radius, angle = grid()
    size = np.linspace(1.0, 0.5, 6)
    labels = np.where(radius < INNER * size, 1, np.where(radius < OUTER * size, 2, 0)).astype(np.uint8)
    labels[:, :, 5][labels[:, :, 5] == 1] = 2
    labels[:, :, 5][(labels[:, :, 5] == 2) & (angle[:, :, 5] < 90)] = 3
    figures = quantify(labels, SPACING)
    names = ["wall_thickness_mm", "transmurality_mean_percent", "transmurality_max_percent"]
    names += ["endocardium_cm2", "infarct_endocardium_cm2", "infarct_endocardium_percent"]
    for row in (figures.slices[5], figures.segments[-1]):
        assert row["infarct_percent"] == pytest.approx(25, abs=0.5)
        assert all(np.isnan(row[name]) for name in names)
    # Nor does it thin the others' mean.
    assert figures.case["wall_thickness_mm"] == pytest.approx(np.mean(10 * size[:5]), abs=0.1)


def test_where_there_is_no_infarct_its_mean_transmurality_is_empty():
    case = quantify(ring(0), SPACING).case
    assert np.isnan(case["transmurality_mean_percent"])
    assert case["transmurality_max_percent"] == 0


def test_two_slices_are_no_base_middle_and_apex():
    labels = ring()[:, :, :2]
    figures = quantify(labels, SPACING, insertion=120.0)
    assert figures.segments == []
    assert [row["ring"] for row in figures.slices] == [None, None]
    assert (figures.case["segments_from"], figures.case["base_first"]) == ("none", "unknown")
    assert figures.case["transmurality_max_percent"] == pytest.approx(50, abs=6)
    assert quantify(ring(), SPACING, base_first=False).case["base_first"] == "no"


def test_nothing_at_all_gives_nan_and_no_rows():
    figures = quantify(np.zeros((8, 8, 3), np.uint8), SPACING, np.zeros((8, 8, 3)))
    assert figures.slices == figures.segments == []
    assert np.isnan(figures.case["wall_thickness_mm"])
    assert np.isnan(figures.case["infarct_fwhm_ml"])
    with pytest.raises(ValueError, match="shape"):
        quantify(np.zeros((8, 8)), SPACING)


def test_masks_that_are_none_are_refused():
    with pytest.raises(ValueError, match="0 to 4"):
        quantify(np.full((4, 4, 2), 7), SPACING)
    for wrong in (5, -1, 2.5, np.nan):
        labels = ring().astype(np.float64)
        labels[0, 0, 0] = wrong
        for measure in (volumes, quantify):
            with pytest.raises(ValueError, match="0 to 4"):
                measure(labels, SPACING)
    for spacing in ((1.0, 1.0), (1.0, 0.0, 10.0), (1.0, 1.0, np.nan)):
        with pytest.raises(ValueError, match="three positive numbers"):
            quantify(ring(), spacing)


def test_labels_stored_as_scaled_integers_are_whole_again():
    labels = ring()
    scaled = np.where(labels > 0, labels - 1e-5, 0)
    assert volumes(scaled, SPACING) == volumes(labels, SPACING)
    assert quantify(scaled, SPACING, insertion=0.0) == quantify(labels, SPACING, insertion=0.0)
    assert volumes(labels > 0, SPACING)["myocardium_ml"] == 0


TURNING = {"insertion_degrees"}


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_heart_turned_by_quarters_has_the_same_quantities(turns):
    labels = ring(infarct_depth=6.0, start=25.0, stop=140.0)[::3, ::3]
    labels[(labels == 3) & (ring(infarct_depth=3.0, start=60.0, stop=90.0)[::3, ::3] == 3)] = 4
    labels[:, :, 0][labels[:, :, 0] > 2] = 2
    spacing = (1.5, 1.5, 10.0)
    straight = quantify(labels, spacing, insertion=120.0, base_first=True)
    turned = quantify(np.rot90(labels, turns), spacing, insertion=(120.0 - 90 * turns) % 360, base_first=True)
    assert straight.case["infarct_percent"] > 5
    for before, after in ((straight.case, turned.case), *zip(straight.segments, turned.segments, strict=True)):
        for name in before.keys() - TURNING:
            value = before[name]
            assert after[name] == (pytest.approx(value, rel=0.01, nan_ok=True) if isinstance(value, float) else value)
