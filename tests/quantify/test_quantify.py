"""Quantities of shapes whose answers are known in closed form."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax.bundle import MODEL_FILE, PRETRAINED, folder_of
from cascade_jax.commands.quantify import quantify_folder
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import LabelTable
from cascade_jax.phantoms import anatomy, simulated
from cascade_jax.quantify import aha, thresholds
from cascade_jax.quantify.orientations import Orientation, read_orientations
from cascade_jax.quantify.plausibility import unlike_a_heart
from cascade_jax.quantify.quantities import endocardial_extent, quantify, volumes
from cascade_jax.quantify.wall import spokes, wall_of
from cascade_jax.report.expected_dice import write_expected_dice

REAL = Path(__file__).parents[3] / "shared" / "data" / "emidec"
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


def test_muscle_that_is_not_of_the_wall_does_not_thicken_it():
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


def test_beyond_the_cavity_the_largest_piece_of_muscle_is_the_wall():
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


@pytest.mark.parametrize("septum", [120.0, 300.0, 10.0])
def test_the_right_ventricles_insertion_is_found_in_the_image(septum):
    labels = ring(0)
    radius, angle = grid()
    image = np.where(labels == 1, 200.0, np.where(labels == 2, 40.0, 90.0))
    image[(radius >= OUTER) & (radius < OUTER + 18) & ((angle - septum) % 360 < 110)] = 205.0
    image += np.random.default_rng(0).normal(0, 5, image.shape)
    found = aha.find_insertions(image, labels, SPACING, aha.rings(labels), spokes(labels, SPACING))
    assert abs((found.anterior - septum + 180) % 360 - 180) < 6
    assert quantify(labels, SPACING, image).case["segments_from"] == "right ventricle"


def with_septum(image, labels, start, stop, slices=slice(None), level=205.0, depth=18.0):
    """The image with blood outside the muscle from one angle to another, counter-clockwise, in some slices."""
    radius, angle = grid(labels.shape)
    beside = (radius >= OUTER) & (radius < OUTER + depth) & ((angle - start) % 360 < (stop - start) % 360)
    image = image.copy()
    image[:, :, slices][beside[:, :, slices]] = level
    return image


def plain_image(labels, surroundings=0.0):
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    return np.where(labels == 1, 200.0, np.where(labels == 2, 40.0, surroundings)) + noise


def find_insertions(image, labels, spacing=SPACING):
    return aha.find_insertions(image, labels, spacing, aha.rings(labels), spokes(labels, spacing))


def apart(angle, other):
    """Degrees between two angles."""
    return abs((angle - other + 180) % 360 - 180)


def test_both_insertions_are_found_and_say_so_in_the_tables():
    labels = ring(0)
    figures = quantify(labels, SPACING, with_septum(plain_image(labels), labels, 120, 240))
    assert apart(figures.case["insertion_degrees"], 120) < 6
    assert apart(figures.case["inferior_insertion_degrees"], 240) < 6
    assert (figures.case["segments_from"], figures.case["right_ventricle"]) == ("right ventricle", "found")
    assert {row["segments_from"] for row in figures.segments} == {"right ventricle"}


def test_insertions_turn_and_mirror_with_the_heart():
    case = simulated.simulate_case(0, 3, field_of_view_mm=115)
    image, labels, spacing = emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1]
    found = find_insertions(image, labels, spacing)
    turned = find_insertions(np.rot90(image), np.rot90(labels), spacing)
    assert apart(turned.anterior, found.anterior - 90) < 3
    assert apart(turned.inferior, found.inferior - 90) < 3
    mirrored = find_insertions(image[::-1], labels[::-1], spacing)
    # Counter-clockwise, the septum of a mirrored slice begins at the inferior insertion.
    assert apart(mirrored.anterior, 180 - found.inferior) < 5
    assert apart(mirrored.inferior, 180 - found.anterior) < 5


@pytest.mark.parametrize("index", range(6))
def test_the_phantoms_insertions_are_found(index):
    random = np.random.default_rng([4, index])
    infarct = anatomy.draw_infarct(random) if simulated.is_pathological(4, index) else None
    heart = anatomy.Heart(random, infarct)
    # Where the right ventricle's blood, an ellipse, crosses the left one's outline, a circle.
    size, height, _ = heart._right
    around = np.linspace(0, np.pi, 1801)
    inside = np.hypot((np.cos(around) - 0.75) / size, np.sin(around) / (0.85 * height)) < 1
    half, middle = np.rad2deg(around[inside].max()), -np.rad2deg(heart._septum)
    case = simulated.simulate_case(4, index, field_of_view_mm=115)
    found = find_insertions(emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1])
    assert apart(found.anterior, middle - half) < 22
    assert apart(found.inferior, middle + half) < 22


def test_slices_that_do_not_agree_give_no_insertion():
    labels = ring(0)
    image = plain_image(labels)
    for index in range(4):  # base and middle
        image = with_septum(image, labels, 90 * index, 90 * index + 100, slice(index, index + 1))
    assert find_insertions(image, labels) is None
    assert find_insertions(with_septum(plain_image(labels), labels, 120, 240, slice(0, 1)), labels) is None


def test_an_organ_that_bulges_towards_the_heart_is_no_right_ventricle():
    labels = ring(0)
    radius, angle = grid()
    x, y = radius * np.cos(np.deg2rad(angle)), radius * np.sin(np.deg2rad(angle))
    organ = np.where(np.hypot(x - 40, y + 50) < 33, 190.0, 0.0)
    image = np.where(organ * (labels == 0) > 0, organ, plain_image(labels))
    assert find_insertions(image, labels) is None
    # Beside the right ventricle it does not mislead.
    found = find_insertions(with_septum(image, labels, 120, 240), labels)
    assert apart(found.anterior, 120) < 6
    assert apart(found.inferior, 240) < 6


@pytest.mark.parametrize(("start", "stop"), [(120, 150), (120, 310)])
def test_a_septum_too_short_or_too_long_is_none(start, stop):
    labels = ring(0)
    assert find_insertions(with_septum(plain_image(labels), labels, start, stop), labels) is None


def test_two_that_look_alike_are_not_told_apart():
    labels = ring(0)
    image = with_septum(with_septum(plain_image(labels), labels, 120, 240), labels, 300, 30)
    assert find_insertions(image, labels) is None


@pytest.mark.parametrize("level", [20.0, 900.0])
def test_lung_and_fat_along_the_wall_are_not_blood(level):
    labels = ring(0)
    assert find_insertions(with_septum(plain_image(labels), labels, 120, 240, level=level), labels) is None


@pytest.mark.skipif(not REAL.exists(), reason="the real cases are not beside the project")
def test_of_the_real_cases_none_is_found_on_the_wrong_side():
    found = {}
    for files in folders.find_cases(REAL, labelled=True):
        case = emidec.read_case(files)
        insertions = find_insertions(
            emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1]
        )
        if insertions is not None:
            found[case.name] = insertions
    assert len(found) >= 59, "of 70"
    # The right ventricle lies on the left of these pictures, in some at the upper left.
    for anterior, inferior in found.values():
        assert 90 < (anterior + (inferior - anterior) % 360 / 2) % 360 < 240
        assert 30 < anterior < 190
        assert 140 < inferior < 290


@pytest.mark.skipif(not REAL.exists(), reason="the real cases are not beside the project")
@pytest.mark.parametrize("name", ["Case_N016", "Case_P066"])
def test_a_real_case_turned_or_mirrored_has_its_insertions_turned_or_mirrored(name):
    case = emidec.read_case(next(file for file in folders.find_cases(REAL) if file.name == name))
    image, labels, spacing = emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1]
    found = find_insertions(image, labels, spacing)
    turned = find_insertions(np.rot90(image), np.rot90(labels), spacing)
    assert apart(turned.anterior, found.anterior - 90) < 5
    assert apart(turned.inferior, found.inferior - 90) < 5
    mirrored = find_insertions(image[:, ::-1], labels[:, ::-1], spacing)
    assert apart(mirrored.anterior, -found.inferior) < 5
    assert apart(mirrored.inferior, -found.anterior) < 5


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
    assert volumes(labels > 0, SPACING)["muscle_ml"] == 0


def ramp():
    """Muscle whose intensity rises by one a degree around the wall, from 100 at 0 to 460 at 360."""
    labels = ring(0)
    return np.where(labels == 2, 100 + grid()[1], 1000.0), labels


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_on_a_ramp_deviations_cut_where_they_should(count):
    image, labels = ramp()
    remote = thresholds.remote_muscle(image, labels)
    # The remote region is the first 60 degrees: mean 130, and the standard deviation of an even distribution.
    share = (330 - count * 60 / np.sqrt(12)) / 360
    mask = thresholds.above_deviations(image, labels, remote, count)
    assert mask.sum() / (labels == 2).sum() == pytest.approx(share, abs=0.004)
    muscle = np.pi * (OUTER**2 - INNER**2) * 60 / 1000
    assert quantify(labels, SPACING, image).case[f"infarct_{count}sd_ml"] == pytest.approx(share * muscle, rel=0.015)


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (-2048, 1), (0, 7)])
def test_on_a_ramp_half_the_maximum_cuts_half_way_from_remote_muscle(offset, scale):
    image, labels = ramp()
    image = image * scale + offset
    mask = thresholds.above_half_maximum(image, labels, thresholds.remote_muscle(image, labels))
    share = (460 - (130 + 460) / 2) / 360
    assert mask.sum() / (labels == 2).sum() == pytest.approx(share, abs=0.006)


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


@pytest.fixture(scope="module")
def phantoms():
    """[(true infarct in ml, the case's quantities with the true outline)] of 12 phantoms."""
    measured = []
    for index in range(12):
        case = simulated.simulate_case(1, index, field_of_view_mm=115)
        labels, spacing = emidec.to_file_axes(case.labels), case.spacing[::-1]
        true_ml = np.count_nonzero(labels >= 3) * np.prod(spacing) / 1000
        measured.append((true_ml, quantify(labels, spacing, emidec.to_file_axes(case.image)).case))
    return measured


def test_half_maximum_is_near_a_phantoms_infarct_or_empty_with_the_reason(phantoms):
    values = [(true_ml, case["infarct_fwhm_ml"], case["infarct_fwhm_reason"]) for true_ml, case in phantoms]
    assert sum(true_ml > 3 for true_ml, *_ in values) >= 6
    known = [(true_ml, value) for true_ml, value, reason in values if not reason]
    assert len(known) >= 3
    for true_ml, value in known:
        assert true_ml / 1.4 < value < 1.2 * true_ml
    for true_ml, value, reason in values:
        assert np.isnan(value) == bool(reason)
        if reason:
            assert "SD above remote muscle" in reason
        if not true_ml:
            assert reason, "a normal heart has no half maximum"


def test_deviations_count_an_infarct_or_say_why_not(phantoms):
    for true_ml, case in phantoms:
        assert case["infarct_2sd_ml"] > 0.3 * true_ml
        # Noise puts five standard deviations above everything, the infarct too.
        assert np.isnan(case["infarct_5sd_ml"])
        reason = "5 and 6 SD above remote muscle is brighter than blood and than the bright muscle"
        assert case["infarct_sd_reason"].endswith(reason)


def test_the_remote_region_is_named_beside_the_numbers():
    image, labels = ramp()
    case = quantify(labels, SPACING, image).case
    assert (case["remote_from_degrees"], case["remote_to_degrees"]) == (0, 60)
    assert (case["remote_slices"], case["remote_statistics"]) == ("1-6", "pooled over slices")
    assert case["remote_mean"] == pytest.approx(130, abs=1)
    assert case["remote_sd"] == pytest.approx(60 / np.sqrt(12), rel=0.02)
    assert case["remote_voxels"] == np.count_nonzero((labels == 2) & (grid()[1] < 60))
    assert case["infarct_sd_reason"] == case["infarct_fwhm_reason"] == ""


def test_a_sliver_beside_an_open_wall_is_no_remote_region():
    image, labels = ramp()
    labels = np.where((grid()[1] > 5) & (grid()[1] < 120) & (labels == 2), 0, labels)
    case = quantify(labels, SPACING, image).case
    assert case["remote_from_degrees"] == 90, "half of its sixty degrees are muscle"
    labels = np.where((labels == 2) & (np.arange(160)[:, None] != 80), 0, labels)[:, :, :1]
    case = quantify(labels, SPACING, image[:, :, :1]).case
    assert case["remote_voxels"] < 20 or case["infarct_sd_reason"] == ""


def test_without_a_remote_region_no_threshold_has_a_value():
    labels = np.where(ring(0) == 1, 2, ring(0))
    case = quantify(labels, SPACING, np.ones(labels.shape)).case
    for name in ("infarct_2sd_ml", "infarct_6sd_ml", "infarct_fwhm_ml", "remote_mean", "remote_sd"):
        assert np.isnan(case[name])
    assert case["infarct_sd_reason"] == case["infarct_fwhm_reason"]
    assert case["infarct_sd_reason"].startswith("no remote region")
    assert case["remote_voxels"] == 0


def test_dark_blood_does_not_empty_the_deviations():
    labels = ring(10.0)
    image = np.where(labels == 3, 180.0, np.where(labels == 2, 50.0, 0.0))
    image += np.random.default_rng(1).normal(0, 6, labels.shape)
    case = quantify(np.where(labels == 3, 2, labels), SPACING, image).case
    assert case["infarct_5sd_ml"] == pytest.approx((labels == 3).sum() * 2.5 / 1000, rel=0.01)


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


def test_half_maximum_finds_nothing_where_blood_reaches_into_the_rim_of_the_contour():
    labels = ring(0)
    image = np.where(labels == 2, 50.0, 150.0) + np.random.default_rng(1).normal(0, 6, labels.shape)
    image[(labels == 2) & ~thresholds.inner_muscle(labels) & (grid()[1] > 120)] = 150
    assert not thresholds.above_half_maximum(image, labels, thresholds.remote_muscle(image, labels)).any()


def test_half_maximum_finds_an_infarct_of_four_thousandths_of_the_muscle():
    labels = ring(0)
    radius, angle = grid()
    infarct = (radius > 22) & (radius < 27) & (angle < 17.6) & (np.arange(6) == 3)
    assert infarct.sum() / (labels == 2).sum() == pytest.approx(0.004, rel=0.03)
    image = np.where(infarct, 180.0, np.where(labels == 2, 50.0, 150.0))
    image += np.random.default_rng(1).normal(0, 6, labels.shape)
    mask = thresholds.above_half_maximum(image, labels, thresholds.remote_muscle(image, labels))
    np.testing.assert_array_equal(mask, infarct)


def test_the_maximum_is_not_a_few_odd_voxels_nor_the_noise_of_a_large_infarct():
    labels = ring(10.0)
    noise = np.random.default_rng(1).normal(0, 40, labels.shape)
    image = np.where(labels == 3, 180.0, np.where(labels == 2, 50.0, 150.0)) + np.where(labels == 3, noise, noise / 8)
    assert thresholds.inner_muscle(labels)[24, 80].all()
    image[24, 80] = 4000
    mask = thresholds.above_half_maximum(image, labels, thresholds.remote_muscle(image, labels))
    # Medians of nine have 0.41 of a voxel's deviation, and the highest of thousands lies 3.7 of theirs above 180: half
    # way from 50 to 241 finds 81 % of the infarct. The highest voxel, about 330, would find 40 %.
    assert np.mean(mask[labels == 3]) == pytest.approx(0.81, abs=0.03)
    assert np.mean(mask[labels == 2]) < 0.001


def test_half_maximum_is_not_known_where_the_wall_is_two_voxels_thick():
    radius, _ = grid()
    labels = np.where(radius < INNER, 1, np.where(radius < INNER + 0.6, 2, 0)).astype(np.uint8)
    image = np.where(labels == 2, 50.0, 150.0)
    case = quantify(labels, SPACING, image).case
    assert np.isnan(case["infarct_fwhm_ml"])
    assert case["infarct_5sd_ml"] == 0
    with pytest.raises(ValueError, match="three voxels"):
        thresholds.above_half_maximum(image, labels, labels == 2)


def test_nothing_at_all_gives_nan_and_no_rows():
    figures = quantify(np.zeros((8, 8, 3), np.uint8), SPACING, np.zeros((8, 8, 3)))
    assert figures.slices == figures.segments == []
    assert np.isnan(figures.case["wall_thickness_mm"])
    assert np.isnan(figures.case["infarct_fwhm_ml"])
    with pytest.raises(ValueError, match="shape"):
        quantify(np.zeros((8, 8)), SPACING)


def test_a_table_says_how_cases_lie(tmp_path):
    path = tmp_path / "insertions.csv"
    path.write_text("\ufeffcase,insertion_degrees,reader,mirrored,base_first\nA,120.5,x,no,Yes\nB,,,,\nC,-10\n")
    assert read_orientations(path) == {
        "A": Orientation(120.5, True, False),
        "B": Orientation(),
        "C": Orientation(-10.0),
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "has no column case"),
        ("case,angle\nA,1\n", "has no column insertion_degrees"),
        ("case,insertion_degrees\nA,left\n", "'left' for A; a number"),
        ("case,insertion_degrees\nA,nan\n", "'nan' for A; a number"),
        ("case,insertion_degrees\nA,1\nA,2\n", "line 3 has A again"),
        ("case,insertion_degrees\n,2\n", "line 2 has no case"),
        ("case,insertion_degrees,mirrored\nA,2,perhaps\n", "'perhaps' for A; yes, no"),
        (b"case,insertion_degrees\n\xff\xfe", "is not a text file"),
        (None, "cannot be read: No such file"),
    ],
)
def test_an_unusable_table_of_insertions_is_refused(tmp_path, content, fault):
    path = tmp_path / "insertions.csv"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CaseError, match=fault) as caught:
        read_orientations(path)
    assert str(caught.value).startswith(f"{path}: ")


def run_command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "launch.quantify", *flags],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_a_row_for_each_case_slice_and_segment_and_goes_on_past_a_bad_one(tmp_path):
    simulated.write_cohort(tmp_path / "cohort", 3, 0, field_of_view_mm=115)
    names = [file.name for file in folders.find_cases(tmp_path / "cohort")]
    emidec.contour_path(tmp_path / "cohort", names[1]).write_bytes(b"no labels")
    flags = [f"--labels={tmp_path / 'cohort'}", f"--images={tmp_path / 'cohort'}", f"--output={tmp_path / 'out'}"]
    result = run_command(*flags)
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


def test_the_command_takes_an_insertion_for_each_case(tmp_path):
    simulated.write_cohort(tmp_path / "cohort", 3, 0, field_of_view_mm=90)
    names = [file.name for file in folders.find_cases(tmp_path / "cohort")]
    table = tmp_path / "insertions.csv"
    table.write_text(f"case,insertion_degrees,mirrored\n{names[0]},100,yes\n{names[1]},,no\n")
    flags = [f"--labels={tmp_path / 'cohort'}", f"--output={tmp_path / 'out'}", f"--insertions={table}"]
    assert run_command(*flags, "--insertion=30").returncode == 0
    rows = read_rows(tmp_path / "out" / "cases.csv")
    assert [row["insertion_degrees"] for row in rows] == ["100", "30", "30"]
    assert [row["mirrored"] for row in rows] == ["yes", "no", "unknown"]
    table.write_text("case\n")
    result = run_command(*flags)
    assert result.returncode == 1
    assert result.stderr.strip() == f"error: {table}: has no column insertion_degrees"


def write_stack(folder, labels, spacing=SPACING, name="heart"):
    labels = np.ascontiguousarray(emidec.from_file_axes(labels)).astype(np.uint8)
    case = emidec.Case(name, np.ones(labels.shape, np.float32), labels, spacing[::-1])
    return emidec.write_labels(folder, labels, case)


def of_another_table():
    """{what they are: labels (x, y, slice)} by other tables than the challenge's, of a heart of 60 mm."""
    labels = ring(0)
    radius, angle = grid()
    beside = (labels == 0) & (radius < 55) & ((angle > 120) & (angle < 240))
    return {
        "muscle 1, cavity 2": np.choose(labels, [0, 2, 1]),
        "muscle 1, cavity 2, wall open": np.where(angle < 60, 0, np.choose(labels, [0, 2, 1])),
        "muscle alone": (labels == 2).astype(int),
        "right ventricle 1, muscle 2, cavity 3": np.where(beside, 1, np.choose(labels, [0, 3, 2])),
        "cavity 1, muscle 2, right ventricle 3": np.where(beside, 3, labels),
    }


@pytest.mark.parametrize("kind", of_another_table())
def test_labels_that_cannot_be_the_challenges_are_refused(tmp_path, kind):
    path = write_stack(tmp_path / "labels", of_another_table()[kind])
    failed = quantify_folder(tmp_path / "labels", None, tmp_path / "out", None, lambda iterable, _: iterable)
    assert list(failed) == ["heart"]
    assert failed["heart"].startswith(f"{path}: is not labelled as the challenge is: ")
    assert "\n" not in failed["heart"]


@pytest.mark.parametrize("gap", [0, 90, 180, 270])
@pytest.mark.parametrize("infarct", [0.0, 10.0])
def test_a_wall_open_on_one_side_is_a_heart(gap, infarct):
    labels = ring(infarct, gap, 360)
    labels[(grid()[1] < gap) & (labels >= 2)] = 0
    for stack in (labels, labels[25:125, 30:130], labels[:, :, :1]):
        assert unlike_a_heart(emidec.from_file_axes(stack)) is None
    muscle = np.where(labels == 1, 3, labels)  # beyond the cavity
    assert unlike_a_heart(emidec.from_file_axes(muscle)) is None
    assert unlike_a_heart(emidec.from_file_axes(0 * labels)) is None


@pytest.mark.skipif(not REAL.exists(), reason="the real cases are not beside the project")
def test_every_real_heart_and_every_slice_of_it_is_a_heart():
    for path in folders.find_contours(REAL).values():
        labels, _ = emidec.read_labels(path)
        assert unlike_a_heart(labels) is None
        for index in range(len(labels)):
            assert unlike_a_heart(labels[index : index + 1]) is None
        other = np.choose(labels, [0, 2, 1, 1, 1])
        assert "surrounds" in unlike_a_heart(other)


def test_the_command_follows_labels_of(tmp_path):
    write_stack(tmp_path / "labels", ring())
    model = json.loads((folder_of(PRETRAINED) / MODEL_FILE).read_text())
    (tmp_path / "challenge").mkdir()
    (tmp_path / "challenge" / MODEL_FILE).write_text(json.dumps(model))
    flags = [f"--labels={tmp_path / 'labels'}", f"--output={tmp_path / 'out'}"]
    assert run_command(*flags, f"--labels_of={tmp_path / 'challenge'}").returncode == 0
    table = LabelTable(("background", "muscle", "cavity"), {"heart": (1, 2)})
    model["plan"]["labels"] = table.to_json()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MODEL_FILE).write_text(json.dumps(model))
    result = run_command(*flags[:1], f"--output={tmp_path / 'none'}", f"--labels_of={tmp_path / 'other'}")
    assert result.returncode == 1
    expected = "has the labels background, muscle, cavity; only background, cavity, myocardium, infarction, no-reflow"
    assert result.stderr.strip() == f"error: {tmp_path / 'other'}: {expected} can be measured"
    assert not (tmp_path / "none").exists()


def test_a_table_beside_the_labels_tells_whose_they_are(tmp_path):
    write_stack(tmp_path / "labels", ring())
    write_expected_dice(
        tmp_path / "labels", {"heart": {"heart": 0.9}}, LabelTable(("background", "a"), {"heart": (1,)})
    )
    with pytest.raises(CaseError, match=r"expected_dice\.csv: is no table of expected Dice of these labels"):
        quantify_folder(tmp_path / "labels", None, tmp_path / "out", None, lambda iterable, _: iterable)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "modules", ["cascade_jax.metrics, cascade_jax.quantify", "launch.quantify", "launch.evaluate", "launch.nnunet"]
)
def test_masks_are_measured_without_what_trains_networks(modules):
    program = f"import sys, {modules}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert "cascade_jax" in loaded
    assert not loaded & {"flax", "jax", "optax", "orbax", "tensorstore"}


def test_the_packages_public_names_are_there_when_asked_for():
    program = """
import cascade_jax
assert set(cascade_jax.__all__) <= set(dir(cascade_jax))
for name in cascade_jax.__all__:
    getattr(cascade_jax, name)
from cascade_jax import cascade
from cascade_jax.data.case import CaseError
assert CaseError is cascade_jax.CaseError
assert cascade_jax.plan.Plan and cascade_jax.load is cascade.load
assert not hasattr(cascade_jax, "nothing")
from cascade_jax import *
assert UNet is models.UNet and metrics.dice and segment is models.segment
"""
    subprocess.run([sys.executable, "-c", program], check=True)
