"""The right ventricle's insertions, as the network finds them in simulated hearts and in real ones."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from cascade_jax.data import emidec, folders
from cascade_jax.phantoms import anatomy, simulated
from cascade_jax.quantify import aha, septum, wall
from cascade_jax.quantify.quantities import quantify
from cascade_jax.quantify.wall import spokes
from tests.quantify.hearts import OUTER, SPACING, grid, ring

REAL = Path(__file__).parents[3] / "shared" / "data" / "emidec"
real = pytest.mark.skipif(not REAL.exists(), reason="the real cases are not beside the project")


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
    return septum.find_insertions(image, labels, spacing, aha.rings(labels), spokes(labels, spacing))


def simulated_case(seed, index):
    case = simulated.simulate_case(seed, index, field_of_view_mm=140)
    return emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1]


def apart(angle, other):
    """Degrees between two angles."""
    return abs((angle - other + 180) % 360 - 180)


def test_the_shipped_network_is_small_and_cannot_run_code():
    assert septum.FILE.stat().st_size < 100_000
    with zipfile.ZipFile(septum.FILE) as file:
        for name in file.namelist():
            array = np.lib.format.read_array(file.open(name), allow_pickle=False)
            assert array.dtype == np.float16
    assert sum(array.size for array in septum.network().values()) < 50_000


def test_the_network_is_that_which_is_trained():
    from cascade_jax.training.septum import SeptumNetwork

    weights = septum.network()
    layers = len(weights) // 2
    params = {f"Conv_{i}": {part: weights[f"{part}_{i}"] for part in ("kernel", "bias")} for i in range(layers)}
    views = np.random.default_rng(0).normal(size=(3, septum.DIRECTIONS, septum.CHANNELS)).astype(np.float32)
    for ours, trained in zip(
        septum.evaluate(weights, views), SeptumNetwork().apply({"params": params}, views), strict=True
    ):
        np.testing.assert_allclose(ours, trained, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("spacing", [(1.0, 2.0), (2.0, 1.0)])
def test_a_slice_looks_alike_whatever_the_size_of_its_pixels(spacing):
    def view(spacing):
        x, y = ((np.arange(round(120 / size)) + 0.5) * size - 60 for size in spacing)
        across, up = np.meshgrid(x, -y, indexing="ij")
        radius, angle = np.hypot(across, up), np.arctan2(up, across)
        labels = np.where(radius < 20, 1, np.where(radius < 30, 2, 0))
        image = np.where(labels == 1, 200.0, np.where(labels == 2, 40.0, 120.0 + 80.0 * np.cos(angle - 1)))
        return septum.view_of(image, labels, spacing, np.full(wall.SPOKES, 30.0))

    same = view((1.0, 1.0))
    assert same.std() > 0.3
    assert np.abs(view(spacing) - same).mean() < 0.04


def test_a_slice_looks_alike_in_any_unit_also_where_blood_is_as_dark_as_myocardium():
    labels, image = np.zeros((60, 60), int), np.random.default_rng(0).normal(50, 20, (60, 60))
    labels[12:48, 12:48], labels[20:40, 20:40] = 2, 1
    image[labels > 0] = 50

    def view(unit):
        return septum.view_of(unit * image, labels, (1.5, 1.5), np.full(wall.SPOKES, 26.0))

    assert np.abs(view(1.0)).max() > 0.5
    np.testing.assert_allclose(view(1000.0), view(1.0), rtol=1e-4, atol=1e-4)


def test_the_network_knows_no_direction_from_another():
    weights = septum.network()
    views = np.random.default_rng(0).normal(size=(2, septum.DIRECTIONS, septum.CHANNELS)).astype(np.float32)
    directions, seen = septum.evaluate(weights, views)
    turned, still = septum.evaluate(weights, np.roll(views, 17, axis=1))
    np.testing.assert_allclose(turned, np.roll(directions, 17, axis=1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(still, seen, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("start", [120.0, 300.0, 10.0])
def test_both_insertions_are_found_and_say_so_in_the_tables(start):
    labels = ring(0)
    figures = quantify(labels, SPACING, with_septum(plain_image(labels), labels, start, start + 120))
    assert apart(figures.case["insertion_degrees"], start) < 12
    assert apart(figures.case["inferior_insertion_degrees"], start + 120) < 12
    assert (figures.case["segments_from"], figures.case["right_ventricle"]) == ("right ventricle", "found")
    assert {row["segments_from"] for row in figures.segments} == {"right ventricle"}


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
    found = find_insertions(*simulated_case(4, index))
    assert apart(found.anterior, middle - half) < 22
    assert apart(found.inferior, middle + half) < 22


def test_insertions_turn_and_mirror_with_the_heart():
    image, labels, spacing = simulated_case(0, 3)
    found = find_insertions(image, labels, spacing)
    turned = find_insertions(np.rot90(image), np.rot90(labels), spacing)
    assert apart(turned.anterior, found.anterior - 90) < 3
    assert apart(turned.inferior, found.inferior - 90) < 3
    mirrored = find_insertions(image[::-1], labels[::-1], spacing)
    # Counter-clockwise, the septum of a mirrored slice begins at the inferior insertion.
    assert apart(mirrored.anterior, 180 - found.inferior) < 10
    assert apart(mirrored.inferior, 180 - found.anterior) < 10


@pytest.mark.parametrize("surroundings", [0.0, 20.0, 90.0])
def test_a_heart_without_a_right_ventricle_has_no_insertions(surroundings):
    labels = ring(0)
    assert find_insertions(plain_image(labels, surroundings), labels) is None


def test_labels_without_a_cavity_have_no_insertions():
    labels = np.where(ring(0) > 0, 2, 0).astype(np.uint8)
    assert find_insertions(plain_image(labels), labels) is None


@pytest.mark.parametrize("odds", [5.0, -5.0, 0.1])
def test_directions_that_are_all_alike_are_no_septum(odds):
    assert septum.septum_in(np.full((3, septum.DIRECTIONS), odds), np.full(3, 5.0)) is None


def test_the_slices_that_see_a_right_ventricle_say_where_it_is():
    angle = np.arange(septum.DIRECTIONS) * (360 / septum.DIRECTIONS)
    here = np.where((angle >= 99) & (angle <= 201), 4.0, -4.0)
    there = np.where((angle >= 249) & (angle <= 339), 4.0, -4.0)
    stack = np.array([here, here, there, there])
    found = septum.septum_in(stack, np.array([3.0, 3.0, -9.0, -9.0]))
    assert apart(found.anterior, 97.5) < 1
    assert apart(found.inferior, 202.5) < 1
    assert septum.septum_in(stack, np.array([3.0, -9.0, -9.0, -9.0])) is None, "one slice is not enough"
    assert septum.septum_in(stack, np.full(4, 3.0)) is None, "slices that do not agree"


@real
def test_of_the_real_cases_none_is_found_on_the_wrong_side():
    found = {}
    for files in folders.find_cases(REAL, labelled=True):
        case = emidec.read_case(files)
        insertions = find_insertions(
            emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1]
        )
        if insertions is not None:
            found[case.name] = insertions
    assert len(found) >= 65, "of 70"
    # The right ventricle lies on the left of these pictures, in some at the upper left.
    for anterior, inferior in found.values():
        assert 90 < (anterior + (inferior - anterior) % 360 / 2) % 360 < 240
        assert 30 < anterior < 190
        assert 140 < inferior < 290


@real
@pytest.mark.parametrize("name", ["Case_N016", "Case_P066"])
def test_a_real_case_turned_or_mirrored_has_its_insertions_turned_or_mirrored(name):
    case = emidec.read_case(next(file for file in folders.find_cases(REAL) if file.name == name))
    image, labels, spacing = emidec.to_file_axes(case.image), emidec.to_file_axes(case.labels), case.spacing[::-1]
    found = find_insertions(image, labels, spacing)
    turned = find_insertions(np.rot90(image), np.rot90(labels), spacing)
    assert apart(turned.anterior, found.anterior - 90) < 5
    assert apart(turned.inferior, found.inferior - 90) < 5
    mirrored = find_insertions(image[:, ::-1], labels[:, ::-1], spacing)
    assert apart(mirrored.anterior, -found.inferior) < 10
    assert apart(mirrored.inferior, -found.anterior) < 10
