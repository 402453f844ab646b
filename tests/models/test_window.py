"""The windows lie where stage one has found the heart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.models import UNet, segment, segment_volume
from cascade_jax.models.graph import predict_prior
from cascade_jax.models.window import cut_window, find_window, paste_window

SLICES = UNet((2, 3), ((3, 3), (3, 3)), ((1, 1), (2, 2)))
VOLUMES = UNet((2, 3), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))
SHAPE, SIZE = (3, 16, 20), (8, 6)


def heart_at(row, column, shape=SHAPE, size=(4, 4)):
    labels = np.zeros(shape, np.uint8)
    labels[:, row : row + size[0], column : column + size[1]] = 2
    return labels


WHOLE = np.ones(SHAPE, bool)


def held_in_windows(labelled):
    """How many voxels each window holds, by its first row and column."""
    rows, columns = (whole - size + 1 for whole, size in zip(SHAPE[1:], SIZE, strict=True))
    return np.array(
        [[labelled[:, r : r + SIZE[0], c : c + SIZE[1]].sum() for c in range(columns)] for r in range(rows)]
    )


@pytest.mark.parametrize(("row", "column"), [(6, 8), (3, 11), (0, 0), (12, 16)])
def test_the_heart_is_in_the_middle_as_far_as_there_is_room(row, column):
    start = np.asarray(find_window(heart_at(row, column), WHOLE, SIZE))
    middle = np.array([row + 2, column + 2]) - np.array(SIZE) // 2
    np.testing.assert_allclose(start, np.clip(middle, 0, np.subtract(SHAPE[1:], SIZE)), atol=1)


def test_no_window_holds_more():
    random = np.random.default_rng(0)
    for _ in range(20):
        prior = (random.random(SHAPE) < 0.1).astype(np.uint8) * random.integers(1, 5, SHAPE).astype(np.uint8)
        held = held_in_windows(prior > 0)
        assert held[tuple(np.asarray(find_window(prior, WHOLE, SIZE)))] == held.max()


def test_of_two_spots_far_from_each_other_it_holds_one():
    two = heart_at(0, 0) | heart_at(12, 16)
    assert held_in_windows(two > 0)[tuple(np.asarray(find_window(two, WHOLE, SIZE)))] == 3 * 4 * 4


def test_a_spot_far_away_moves_nothing():
    heart = heart_at(2, 2)
    spotted = heart.copy()
    spotted[0, 15, 19] = 1
    np.testing.assert_array_equal(find_window(heart, WHOLE, SIZE), find_window(spotted, WHOLE, SIZE))


def test_padding_is_left_out_as_far_as_the_heart_is_in_it():
    valid = WHOLE.copy()
    valid[:, :5] = False
    assert find_window(heart_at(5, 8), valid, SIZE)[0] == 5, "the middle would be 3"
    assert find_window(heart_at(3, 8), valid, SIZE)[0] == 3, "a part of the heart lies in the padding"


def test_without_any_label_it_is_the_middle_of_the_field_of_view():
    nothing = np.zeros(SHAPE, np.uint8)
    np.testing.assert_array_equal(find_window(nothing, WHOLE, SIZE), [4, 7])
    valid = WHOLE.copy()
    valid[:, :4] = False
    np.testing.assert_array_equal(find_window(nothing, valid, SIZE), [6, 7])


def test_what_is_cut_and_pasted_is_where_it_was():
    volume = jnp.arange(np.prod(SHAPE)).reshape(SHAPE)
    start = jnp.array([5, 9])
    pasted = paste_window(cut_window(volume, start, SIZE)[..., None], start, jnp.full((*SHAPE, 1), -1))[..., 0]
    expected = np.full(SHAPE, -1)
    expected[:, 5:13, 9:15] = volume[:, 5:13, 9:15]
    np.testing.assert_array_equal(pasted, expected)


@pytest.fixture(scope="module")
def cascade():
    image = jax.random.normal(jax.random.key(0), SHAPE)
    slices = SLICES.init(jax.random.key(1), jnp.zeros((1, *SHAPE[1:], 1)))["params"]
    volumes = VOLUMES.init(jax.random.key(2), jnp.zeros((1, *SHAPE, 5)))["params"]
    return image, (slices, volumes)


def test_stage_two_sees_the_window_alone_and_the_rest_is_background(cascade):
    image, params = cascade
    valid = jnp.ones(SHAPE, bool).at[:, :2].set(False)
    folds = jax.tree.map(lambda leaf: leaf[None], params)
    vote = jax.jit(functools.partial(segment, (SLICES, VOLUMES), windows=(SHAPE[1:], SIZE)))(folds, image, valid)
    prior = predict_prior(SLICES, params[0], image, valid)
    start = find_window(prior, valid, SIZE)
    seen = segment_volume(VOLUMES, params[1], *(cut_window(volume, start, SIZE) for volume in (image, prior)))
    expected = np.zeros((*SHAPE, 5), np.float32)
    expected[..., 0] = 1
    inside = tuple(slice(first, first + size) for first, size in zip(start.tolist(), SIZE, strict=True))
    expected[(slice(None), *inside)] = seen
    expected[~np.asarray(valid)] = [1, 0, 0, 0, 0]
    np.testing.assert_allclose(vote.probabilities, expected, atol=1e-5)
    assert (expected[..., 0] < 1).any()


def test_stage_one_looks_again_at_the_window_around_what_it_has_found(cascade):
    image, params = cascade
    valid = jnp.ones(SHAPE, bool).at[:, :2].set(False)
    first = predict_prior(SLICES, params[0], image, valid)
    start = find_window(first, valid, (8, 10))
    again = predict_prior(SLICES, params[0], *(cut_window(volume, start, (8, 10)) for volume in (image, valid)))
    expected = np.zeros(SHAPE, np.uint8)
    rows, columns = (slice(first, first + size) for first, size in zip(start.tolist(), (8, 10), strict=True))
    expected[:, rows, columns] = again
    twice = jax.jit(functools.partial(predict_prior, SLICES, window=(8, 10)))(params[0], image, valid)
    np.testing.assert_array_equal(twice, expected)
    assert (expected[:, rows, columns] != np.asarray(first)[:, rows, columns]).any(), "it sees less of the body"
    folds = jax.tree.map(lambda leaf: leaf[None], params)
    vote = jax.jit(functools.partial(segment, (SLICES, VOLUMES), windows=((8, 10), SIZE)))(folds, image, valid)
    np.testing.assert_array_equal(vote.fold_priors[0], expected)


def test_each_fold_has_a_window_of_its_own_and_one_as_large_as_the_plane_is_none(cascade):
    image, params = cascade
    valid = jnp.ones(SHAPE, bool)
    folds = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), params)
    run = functools.partial(segment, (SLICES, VOLUMES))
    together = jax.jit(functools.partial(run, windows=(SHAPE[1:], SIZE)))(folds, image, valid)
    for fold in range(2):
        one = jax.tree.map(lambda leaf, fold=fold: leaf[fold : fold + 1], folds)
        alone = jax.jit(functools.partial(run, windows=(SHAPE[1:], SIZE)))(one, image, valid)
        np.testing.assert_array_equal(together.fold_labels[fold], alone.fold_labels[0])
    whole = jax.jit(run)(folds, image, valid)
    np.testing.assert_allclose(
        jax.jit(functools.partial(run, windows=(SHAPE[1:], SHAPE[1:])))(folds, image, valid).probabilities,
        whole.probabilities,
        atol=1e-5,
    )


def test_windows_are_cut_and_pasted_where_jax_counts_in_64_bits():
    with jax.enable_x64(True):
        whole, start = jnp.arange(2 * 5 * 6.0).reshape(2, 5, 6), jnp.array([1, 2], jnp.int32)
        window = cut_window(whole, start, (3, 4))
        np.testing.assert_array_equal(window, whole[:, 1:4, 2:6])
        pasted = paste_window(window[..., None], start, jnp.zeros((*whole.shape, 1)))
        np.testing.assert_array_equal(pasted[:, 1:4, 2:6, 0], window)
