"""The challenge's metrics, against medpy and against shapes whose answers are known."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from medpy.metric import binary
from scipy import ndimage, spatial

from cascade_jax import metrics
from cascade_jax.data.labels import EMIDEC

SimpleITK = pytest.importorskip("SimpleITK")
SPACING = (1.458, 1.458, 10.0)
labels = hnp.arrays(
    np.uint8, st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4)), elements=st.integers(0, 4)
)


@st.composite
def pairs(draw):
    truth = draw(labels)
    return draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 4))), truth


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_dice_and_hausdorff_are_medpys(pair):
    prediction, truth = pair
    result = metrics.evaluate_case(prediction, truth, SPACING)
    for target, members in EMIDEC.targets.items():
        predicted, true = np.isin(prediction, members), np.isin(truth, members)
        if not (predicted.any() or true.any()):
            assert result[target]["dice"] == 1
        else:
            assert result[target]["dice"] == binary.dc(predicted, true)
    predicted, true = (np.isin(array, (2, 3, 4)) for array in pair)
    if predicted.any() and true.any():
        assert result["myocardium"]["hausdorff_mm"] == pytest.approx(binary.hd(predicted, true, SPACING), rel=1e-12)
        wrong_axes = binary.hd(predicted, true, SPACING[::-1])
        assert result["myocardium"]["hausdorff_emidec_mm"] == pytest.approx(wrong_axes, rel=1e-12)
    else:
        assert math.isnan(result["myocardium"]["hausdorff_mm"])
        assert math.isnan(result["myocardium"]["hausdorff_emidec_mm"])


def test_a_thousand_random_masks_measure_as_medpy_scipy_and_simpleitk_measure_them():
    random = np.random.default_rng(7)
    measured = 0
    for number in range(1000):
        shape = tuple(random.integers(1, 7, 3))
        masks = random.random((2, *shape)) < random.uniform(0.05, 0.9)
        spacing = tuple(random.uniform(0.5, 12, 3))
        dice, distance = metrics.dice(*masks), metrics.hausdorff(*masks, spacing)
        if not (masks[0].any() and masks[1].any()):
            assert dice == (not masks.any())
            assert math.isnan(distance)
            continue
        measured += 1
        assert dice == pytest.approx(binary.dc(*masks), rel=1e-12), number
        assert dice == pytest.approx(1 - spatial.distance.dice(*(mask.ravel() for mask in masks)), rel=1e-12)
        assert distance == pytest.approx(binary.hd(*masks, spacing), rel=1e-12)
        points = [np.argwhere(border_by_neighbours(mask)) * spacing for mask in masks]
        both_ways = [spatial.distance.directed_hausdorff(*pair)[0] for pair in (points, points[::-1])]
        assert distance == pytest.approx(max(both_ways), rel=1e-12)
        of_itk = measured_by_simpleitk(*masks, spacing)
        assert (dice, distance) == pytest.approx(of_itk, rel=1e-5, abs=1e-4), number  # in float32
    assert measured > 900


def border_by_neighbours(mask):
    """Voxels of which one of the six neighbours is outside, without morphology."""
    padded = np.pad(mask, 1)
    inside = [np.roll(padded, step, axis) for axis in range(3) for step in (-1, 1)]
    return mask & ~np.logical_and.reduce(inside)[1:-1, 1:-1, 1:-1]


def measured_by_simpleitk(first, second, spacing):
    """Dice, and Hausdorff distance of the borders, of two masks (x, y, slice)."""
    images = [SimpleITK.GetImageFromArray(np.pad(mask, 1).T.astype(np.uint8)) for mask in (first, second)]
    for image in images:
        image.SetSpacing(spacing)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    borders = [SimpleITK.BinaryContour(image, fullyConnected=False) for image in images]
    maps = [SimpleITK.SignedMaurerDistanceMap(one, squaredDistance=False, useImageSpacing=True) for one in borders]
    arrays = [[np.abs(SimpleITK.GetArrayFromImage(one)) for one in some] for some in (borders, maps)]
    distances = [arrays[1][1 - index][arrays[0][index] > 0].max() for index in (0, 1)]
    return overlap.GetDiceCoefficient(), max(distances)


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_the_mean_surface_distance_is_medpys(pair):
    first, second = (np.isin(array, (2, 3, 4)) for array in pair)
    distance = metrics.mean_surface_distance(first, second, SPACING)
    if first.any() and second.any():
        assert distance == pytest.approx(binary.assd(first, second, SPACING), rel=1e-12)
        assert distance <= metrics.hausdorff(first, second, SPACING)
    else:
        assert math.isnan(distance)


def test_a_plate_that_is_moved_lies_its_move_away_in_the_axis_of_its_move():
    plate = np.zeros((7, 7, 7), bool)
    plate[2, 1:6, 1:6] = True
    for axis, size in enumerate((1.5, 1.25, 10.0)):
        first = np.moveaxis(plate, 0, axis)
        moved = np.roll(first, 2, axis=axis)
        assert metrics.mean_surface_distance(first, moved, (1.5, 1.25, 10.0)) == pytest.approx(2 * size)
        assert metrics.hausdorff(first, moved, (1.5, 1.25, 10.0)) == pytest.approx(2 * size)


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_volumes_are_the_challenges_formulas(pair):
    prediction, truth = pair
    result = metrics.evaluate_case(prediction, truth, SPACING)
    voxel = np.prod(SPACING)
    myocardium = np.isin(truth, (2, 3, 4)).sum() * voxel
    for target, members in (("infarction", (3, 4)), ("no_reflow", (4,))):
        difference = abs(np.isin(prediction, members).sum() * voxel - np.isin(truth, members).sum() * voxel)
        assert result[target]["volume_difference_mm3"] == np.round(difference, 2)
        ratio = result[target]["volume_ratio_difference"]
        assert ratio == difference / myocardium if myocardium else math.isnan(ratio)


def challenge_surface_distances(result, reference, spacing):
    cross = ndimage.generate_binary_structure(3, 1)
    borders = [mask ^ ndimage.binary_erosion(mask, cross) for mask in (result, reference)]
    return ndimage.distance_transform_edt(~borders[1], sampling=spacing)[borders[0]]


def test_the_challenges_hausdorff_is_met_to_the_last_bit():
    spacing = tuple(float(np.float32(size)) for size in (1.406, 1.667, 8.0))
    random = np.random.default_rng(0)
    for _ in range(300):  # the order of a sum of squares shows in the last bit of about one pair in a hundred
        pair = 2 * (random.random((2, 12, 10, 4)) < 0.02).astype(np.uint8)
        prediction, truth = (array.T > 0 for array in pair)  # (slice, y, x), as SimpleITK reads them
        if prediction.any() and truth.any():
            one_way = challenge_surface_distances(prediction, truth, spacing).max()
            other_way = challenge_surface_distances(truth, prediction, spacing).max()
            result = metrics.evaluate_case(*pair, spacing)["myocardium"]["hausdorff_emidec_mm"]
            assert result == max(one_way, other_way)


def test_the_challenges_hausdorff_takes_the_slice_distance_for_x():
    truth, prediction = np.zeros((12, 12, 5), np.uint8), np.zeros((12, 12, 5), np.uint8)
    truth[3:6, 3:6, 1:4] = 2
    prediction[6:9, 3:6, 1:4] = 2
    result = metrics.evaluate_case(prediction, truth, (1.5, 1.5, 10.0))["myocardium"]
    assert result["hausdorff_mm"] == pytest.approx(4.5)
    assert result["hausdorff_emidec_mm"] == pytest.approx(30.0)


def test_infarction_includes_no_reflow_and_myocardium_both():
    truth = np.array([0, 1, 2, 2, 3, 3, 4, 4], np.uint8).reshape(2, 2, 2)
    prediction = np.array([0, 1, 2, 3, 3, 4, 4, 0], np.uint8).reshape(2, 2, 2)
    result = metrics.evaluate_case(prediction, truth, (1, 1, 2))
    assert result["myocardium"]["dice"] == pytest.approx(2 * 5 / 11)
    assert result["infarction"]["dice"] == pytest.approx(2 * 3 / 8)
    assert result["no_reflow"]["dice"] == pytest.approx(2 * 1 / 4)
    assert result["myocardium"]["volume_difference_mm3"] == 2.0
    assert result["infarction"]["volume_ratio_difference"] == 0


def test_an_empty_target_is_1_when_found_empty_and_0_when_not():
    normal, scarred = np.full((4, 4, 2), 2, np.uint8), np.full((4, 4, 2), 2, np.uint8)
    scarred[1, 1, 1] = 3
    assert metrics.evaluate_case(normal, normal, SPACING)["infarction"]["dice"] == 1
    assert metrics.evaluate_case(scarred, normal, SPACING)["infarction"]["dice"] == 0
    assert metrics.evaluate_case(normal, scarred, SPACING)["infarction"]["dice"] == 0


@pytest.mark.parametrize(
    ("prediction", "spacing", "fault"),
    [
        (np.zeros((4, 4, 3)), SPACING, "shape"),
        (np.full((4, 4, 2), 5), SPACING, "labels other than"),
        (np.full((4, 4, 2), 0.5), SPACING, "labels other than"),
        (np.zeros((4, 4, 2)), (1, 0, 1), "positive"),
        (np.zeros((4, 4, 2)), (1, 1), "positive"),
    ],
)
def test_bad_input_is_refused(prediction, spacing, fault):
    with pytest.raises(ValueError, match=fault):
        metrics.evaluate_case(prediction, np.zeros((4, 4, 2)), spacing)


def test_a_mean_leaves_out_what_is_undefined_and_says_so():
    myocardium, empty = np.full((3, 3, 2), 2), np.zeros((3, 3, 2))
    cases = {
        "whole": metrics.evaluate_case(myocardium, myocardium, SPACING),
        "missed": metrics.evaluate_case(empty, myocardium, SPACING),
    }
    mean = metrics.summarise(cases)
    assert mean["myocardium"]["dice"] == 0.5
    assert mean["myocardium"]["hausdorff_mm"] == 0
    assert metrics.undefined(cases, "myocardium", "hausdorff_mm") == ["missed"]
