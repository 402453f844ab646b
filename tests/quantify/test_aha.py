"""Segments of the American Heart Association, and the right ventricle's insertions that they are counted from."""

from pathlib import Path

import numpy as np
import pytest

from cascade_jax.data import emidec, folders
from cascade_jax.phantoms import anatomy, simulated
from cascade_jax.quantify import aha
from cascade_jax.quantify.quantities import quantify
from cascade_jax.quantify.wall import spokes
from tests.quantify.hearts import INNER, OUTER, SPACING, grid, ring

REAL = Path(__file__).parents[3] / "shared" / "data" / "emidec"


def with_septum(image, labels, start, stop, slices=slice(None), level=205.0, depth=18.0):
    """The image with blood outside the myocardium from one angle to another, counter-clockwise, in some slices."""
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
