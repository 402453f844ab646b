"""A case to the networks' grid and back to its own."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.preprocess import (
    bounding_box,
    heart_box,
    preprocess,
    resampled_shape,
    restore_labels,
    restore_scores,
)
from cascade_jax.phantoms import simulated


@pytest.fixture(scope="module")
def case():
    return simulated.simulate_case(3, 1, field_of_view_mm=110)


def one_hot(labels):
    return np.eye(5, dtype=np.float32)[labels]


def make(shape=(4, 30, 26), spacing=(10.0, 1.5, 1.5), border=2):
    random = np.random.default_rng(0)
    image = np.zeros(shape, np.float32)
    inside = (slice(None), slice(border, -border), slice(border, -border))
    image[inside] = random.uniform(100, 4000, image[inside].shape)
    labels = np.zeros(shape, np.uint8)
    labels[inside] = random.integers(0, 5, image[inside].shape)
    return Case("made", image, labels, spacing)


def test_without_resampling_the_way_there_and_back_changes_no_label():
    case = make()
    example = preprocess(case, (1.5, 1.5), (6, 32, 32))
    np.testing.assert_array_equal(restore_labels(one_hot(example.labels), example.grid), case.labels)


def test_resampling_there_and_back_keeps_the_contours(case):
    example = preprocess(case, (1.3, 1.3), (12, 112, 112))
    restored = restore_labels(one_hot(example.labels), example.grid)
    assert restored.shape == case.image.shape
    for label in (1, 2):
        there, back = case.labels == label, restored == label
        assert 2 * (there & back).sum() / (there.sum() + back.sum()) > 0.95


def test_tissue_has_mean_0_and_deviation_1_and_the_border_does_not_count():
    case = make()
    image = preprocess(case, (1.5, 1.5), (4, 26, 22)).image
    assert image.mean() == pytest.approx(0, abs=1e-4)
    assert image.std() == pytest.approx(1, abs=1e-4)
    wider = Case("wider", np.pad(case.image, ((0, 0), (9, 3), (0, 5))), None, case.spacing)
    np.testing.assert_allclose(preprocess(wider, (1.5, 1.5), (4, 26, 22)).image, image, atol=1e-5)


def test_a_border_that_differs_from_slice_to_slice_is_0_and_not_dark():
    case = make()
    image = case.image.copy()
    image[0, :, :9] = 0
    example = preprocess(Case("uneven", image, None, case.spacing), (1.5, 1.5), (4, 26, 22))
    assert not example.image[0, :, :7].any()
    assert example.image[1:, :, :7].all()


def test_padding_is_outside_the_extent_and_empty(case):
    example = preprocess(case, (1.8, 1.8), (12, 96, 96))
    outside = np.ones(example.image.shape, bool)
    outside[tuple(slice(*limits) for limits in example.grid.extent)] = False
    assert outside.any()
    assert not example.image[outside].any()
    assert not example.labels[outside].any()


def test_what_does_not_fit_is_cut_off_evenly_and_comes_back_as_background():
    case = make(shape=(4, 40, 30), border=0 + 1)
    example = preprocess(case, (1.5, 1.5), (4, 20, 28))
    restored = restore_labels(one_hot(example.labels), example.grid)
    np.testing.assert_array_equal(restored[:, 10:30], case.labels[:, 10:30])
    assert not restored[:, :10].any()
    assert not restored[:, 30:].any()
    np.testing.assert_array_equal(restore_scores(one_hot(example.labels), example.grid), one_hot(restored))


def test_tissue_of_one_intensity_is_refused():
    image = np.zeros((3, 10, 10), np.float32)
    image[:, 2:8, 2:8] = 7
    with pytest.raises(CaseError, match="flat: all tissue has the same intensity"):
        preprocess(Case("flat", image, None, (10, 1, 1)), (1, 1), (3, 10, 10))


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(9, 40), st.integers(9, 40)),
    st.floats(0.8, 2.5),
    st.floats(0.8, 2.5),
    st.tuples(st.integers(1, 6), st.integers(8, 60), st.integers(8, 60)),
)
def test_any_case_comes_back_on_its_own_grid(shape, spacing, target, example_shape):
    case = make(shape, (10.0, spacing, spacing), border=1)
    example = preprocess(case, (target, target), example_shape)
    assert example.image.shape == example.labels.shape == example_shape
    assert np.isfinite(example.image).all()
    restored = restore_labels(one_hot(example.labels), example.grid)
    assert restored.shape == shape
    assert not restored[case.image == 0].any()
    box = bounding_box(case.image)
    inner = tuple(stop - start for start, stop in box)
    assert example.grid.resampled_shape == resampled_shape(inner, case.spacing, (target, target))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(5, 24), st.integers(5, 24)),
    spacing=st.tuples(st.floats(2, 20), st.floats(0.5, 4), st.floats(0.5, 4)),
    finer=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    room=st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)),
    border=st.integers(0, 2),
)
def test_the_way_there_and_back_is_exact_on_any_grid_that_is_a_whole_number_of_times_finer(
    shape, spacing, finer, room, border
):
    random = np.random.default_rng(sum(shape))
    inside = (slice(None), *(slice(border, size - border) for size in shape[1:]))
    image, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    assume(image[inside].size > 1)  # one voxel has no contrast
    image[inside] = random.uniform(100, 4000, image[inside].shape)
    labels[inside] = random.integers(0, 5, image[inside].shape)
    case = Case("made", image, labels, spacing)
    target = tuple(size / times for size, times in zip(spacing[1:], finer, strict=True))
    fitting = [size * times for size, times in zip(shape, (1, *finer), strict=True)]
    example = preprocess(case, target, tuple(np.add(fitting, room)))
    np.testing.assert_array_equal(restore_labels(one_hot(example.labels), example.grid), labels)


def test_a_heart_is_as_large_as_all_that_is_labelled():
    labels, view = np.zeros((5, 20, 30), np.uint8), np.array([[0, 5], [1, 19], [2, 28]])
    np.testing.assert_array_equal(heart_box(labels, view), view)
    labels[2:4, 8:11, 12:20] = 2
    labels[1, 6, 22] = 1  # cavity alone
    np.testing.assert_array_equal(heart_box(labels, view), [[1, 4], [6, 11], [12, 23]])
