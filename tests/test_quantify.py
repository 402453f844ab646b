"""Quantities of shapes whose answers are known in closed form."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax import aha, thresholds
from cascade_jax.data import emidec, phantom
from cascade_jax.quantify import endocardial_extent, quantify, volumes
from cascade_jax.wall import spokes

SPACING = (0.5, 0.5, 10.0)
INNER, OUTER = 20.0, 30.0  # mm


def grid(shape=(150, 160, 6)):
    """Radius (mm) and angle (degrees, counter-clockwise, y down) about the middle of each slice."""
    x, y = np.indices(shape[:2], np.float64)
    x, y = (x - (shape[0] - 1) / 2) * SPACING[0], -(y - (shape[1] - 1) / 2) * SPACING[1]
    full = np.ones(shape)
    return np.hypot(x, y)[..., None] * full, (np.rad2deg(np.arctan2(y, x)) % 360)[..., None] * full


def ring(infarct_depth=5.0, start=0.0, stop=90.0):
    """A cylinder with a wall of 10 mm and, in a sector, an infarct from the endocardium outwards."""
    radius, angle = grid()
    labels = np.where(radius < INNER, 1, np.where(radius < OUTER, 2, 0)).astype(np.uint8)
    labels[(labels == 2) & (angle >= start) & (angle < stop) & (radius < INNER + infarct_depth)] = 3
    return labels


def test_volumes_of_a_cylinder_with_a_sector_of_infarct():
    figures = volumes(ring(), SPACING)
    height = 60.0
    assert figures["cavity_ml"] == pytest.approx(np.pi * INNER**2 * height / 1000, rel=0.01)
    muscle = np.pi * (OUTER**2 - INNER**2) * height / 1000
    infarct = np.pi * (25.0**2 - INNER**2) * height / 4000
    assert figures["muscle_ml"] == pytest.approx(muscle, rel=0.01)
    assert figures["muscle_g"] == pytest.approx(1.05 * muscle, rel=0.01)
    assert figures["infarct_ml"] == pytest.approx(infarct, rel=0.02)
    assert figures["infarct_percent"] == pytest.approx(100 * infarct / muscle, rel=0.02)
    assert figures["no_reflow_ml"] == figures["no_reflow_percent"] == 0


def test_no_reflow_is_infarct_and_muscle_too():
    labels = ring()
    as_no_reflow = np.where(labels == 3, 4, labels)
    one, other = volumes(labels, SPACING), volumes(as_no_reflow, SPACING)
    assert (one["muscle_g"], one["infarct_ml"]) == (other["muscle_g"], other["infarct_ml"])
    assert other["no_reflow_ml"] == other["infarct_ml"]
    assert np.isnan(volumes(np.zeros_like(labels), SPACING)["infarct_percent"])


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


def test_the_endocardium_of_an_ellipse_is_as_long_as_its_perimeter():
    x, y = np.mgrid[-49.75:50:0.5, -49.75:50:0.5]
    around = [np.hypot(x / (30 + wall), y / (15 + wall)) for wall in (0, 10)]
    labels = np.where(around[0] < 1, 1, np.where(around[1] < 1, 2, 0)).astype(np.uint8)[:, :, None]
    extent = endocardial_extent(spokes(labels, (0.5, 0.5, 10.0)), 10.0)
    assert extent["endocardium_cm2"] == pytest.approx(14.53, rel=0.02)  # 4 a E(1 - b^2 / a^2) = 145.3 mm


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


def test_every_muscle_voxel_has_one_segment_and_segments_are_even():
    labels = ring()
    figures = quantify(labels, SPACING, insertion=120.0)
    assert [row["segment"] for row in figures.segments] == list(range(1, 17))
    total = sum(row["muscle_ml"] for row in figures.segments)
    assert total == pytest.approx(figures.case["muscle_ml"])
    per_slice = figures.case["muscle_ml"] / 6
    for row in figures.segments:
        share = 2 * per_slice / (6 if row["segment"] <= 12 else 4)
        assert row["muscle_ml"] == pytest.approx(share, rel=0.03)
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


@pytest.mark.parametrize("septum", [120.0, 300.0, 10.0])
def test_the_right_ventricles_insertion_is_found_in_the_image(septum):
    labels = ring(0)
    radius, angle = grid()
    image = np.where(labels == 1, 200.0, np.where(labels == 2, 40.0, 90.0))
    image[(radius >= OUTER) & (radius < OUTER + 18) & ((angle - septum) % 360 < 110)] = 205.0
    image += np.random.default_rng(0).normal(0, 5, image.shape)
    found = aha.find_insertion(image, labels, SPACING, aha.rings(labels), spokes(labels, SPACING))
    assert abs((found - septum + 180) % 360 - 180) < 6
    assert quantify(labels, SPACING, image).case["segments_from"] == "right ventricle"


def test_without_a_right_ventricle_segments_start_at_the_x_axis_and_it_is_said():
    labels = ring(0)
    image = np.where(labels == 1, 200.0, 40.0)
    case = quantify(labels, SPACING, image).case
    assert case["segments_from"] == "x axis"
    assert np.isnan(case["insertion_degrees"])
    assert quantify(labels, SPACING, insertion=30.0).case["segments_from"] == "given"


def test_mirrored_slices_give_the_same_segments_where_the_axes_are_known():
    radius, angle = grid()
    labels = ring()
    image = np.where(labels == 1, 200.0, np.where(labels == 2, 40.0, 90.0))
    image[(radius >= OUTER) & (radius < OUTER + 18) & ((angle - 100) % 360 < 110)] = 205.0
    # From base to apex, the third axis leads away from the base: left-handed, unless mirrored.
    shown = quantify(labels, SPACING, image, base_first=True, right_handed=False)
    flipped = quantify(labels[:, ::-1], SPACING, image[:, ::-1], base_first=True, right_handed=True)
    assert (shown.case["mirrored"], flipped.case["mirrored"]) == ("no", "yes")
    assert flipped.segments == shown.segments
    assert flipped.slices == shown.slices
    turned = (shown.case["insertion_degrees"] + flipped.case["insertion_degrees"]) % 360
    assert min(turned, 360 - turned) < 1e-6
    given = quantify(labels[:, ::-1], SPACING, base_first=True, right_handed=True, insertion=-100.0)
    assert given.segments == quantify(labels, SPACING, base_first=True, right_handed=False, insertion=100.0).segments
    unknown = quantify(labels[:, ::-1], SPACING, image[:, ::-1], base_first=True)
    assert unknown.case["mirrored"] == "unknown"
    assert unknown.segments != shown.segments


def test_masks_that_are_none_are_refused():
    with pytest.raises(ValueError, match="0 to 4"):
        quantify(np.full((4, 4, 2), 7), SPACING)
    for spacing in ((1.0, 1.0), (1.0, 0.0, 10.0), (1.0, 1.0, np.nan)):
        with pytest.raises(ValueError, match="three positive numbers"):
            quantify(ring(), spacing)


def test_thresholds_find_the_bright_sector():
    labels = ring(10.0)
    random = np.random.default_rng(1)
    image = np.where(labels == 3, 180.0, np.where(labels == 2, 50.0, 150.0)) + random.normal(0, 6, labels.shape)
    contour = np.where(labels == 3, 2, labels)  # the reader gives the muscle alone
    remote = thresholds.remote_muscle(image, contour)
    assert not (remote & (labels == 3)).any()
    assert image[remote].mean() == pytest.approx(50, abs=1)
    truth = labels == 3
    for mask in (
        thresholds.above_deviations(image, contour, remote, 5),
        thresholds.above_half_maximum(image, contour, remote),
    ):
        assert np.mean(mask == truth) > 0.999
    case = quantify(contour, SPACING, image).case
    assert case["infarct_2sd_ml"] > case["infarct_5sd_ml"] == pytest.approx(truth.sum() * 2.5 / 1000, rel=0.01)


def test_half_maximum_finds_nothing_in_a_normal_heart():
    labels = ring(0)
    image = np.where(labels == 2, 50.0, 150.0) + np.random.default_rng(1).normal(0, 6, labels.shape)
    remote = thresholds.remote_muscle(image, labels)
    assert not thresholds.above_half_maximum(image, labels, remote).any()
    with pytest.raises(ValueError, match="remote"):
        thresholds.above_deviations(image, labels, np.zeros_like(remote), 5)


def test_nothing_at_all_gives_nan_and_no_rows():
    figures = quantify(np.zeros((8, 8, 3), np.uint8), SPACING, np.zeros((8, 8, 3)))
    assert figures.slices == figures.segments == []
    assert np.isnan(figures.case["wall_thickness_mm"])
    assert np.isnan(figures.case["infarct_fwhm_ml"])
    with pytest.raises(ValueError, match="shape"):
        quantify(np.zeros((8, 8)), SPACING)


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_a_row_for_each_case_slice_and_segment_and_goes_on_past_a_bad_one(tmp_path):
    phantom.write_cohort(tmp_path / "cohort", 3, 0, field_of_view_mm=115)
    names = [file.name for file in emidec.find_cases(tmp_path / "cohort")]
    emidec.contour_path(tmp_path / "cohort", names[1]).write_bytes(b"no labels")
    flags = [f"--labels={tmp_path / 'cohort'}", f"--images={tmp_path / 'cohort'}", f"--output={tmp_path / 'out'}"]
    result = subprocess.run(
        [sys.executable, "-m", "launch.quantify", *flags],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("failed")]
    assert names[1] in line
    cases = read_rows(tmp_path / "out" / "cases.csv")
    assert [row["case"] for row in cases] == [names[0], names[2]]
    for row in cases:
        labels, spacing = emidec.read_labels(emidec.contour_path(tmp_path / "cohort", row["case"]))
        muscle = (labels >= 2).sum() * np.prod(spacing) / 1000
        assert float(row["muscle_ml"]) == pytest.approx(muscle, rel=1e-3)
        assert float(row["muscle_g"]) == pytest.approx(1.05 * muscle, rel=1e-3)
        segments = [s for s in read_rows(tmp_path / "out" / "segments.csv") if s["case"] == row["case"]]
        assert sum(float(segment["muscle_ml"]) for segment in segments) == pytest.approx(muscle, rel=0.01)
        slices = [s for s in read_rows(tmp_path / "out" / "slices.csv") if s["case"] == row["case"]]
        assert len(slices) == (labels >= 2).any((1, 2)).sum()
