"""The loss: cross-entropy and batch Dice over what is not padding, at every resolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.losses import cross_entropy_and_dice, deep_supervision_loss, loss_sums


def sample(shape=(2, 6, 4), classes=5):
    keys = jax.random.split(jax.random.key(0), 3)
    logits = 3 * jax.random.normal(keys[0], (*shape, classes))
    labels = jax.random.randint(keys[1], shape, 0, classes)
    return logits, labels, jax.random.bernoulli(keys[2], 0.7, shape)


def test_it_is_the_textbook_formula_over_valid_voxels():
    logits, labels, valid = (np.asarray(array, np.float64) for array in sample())
    valid, labels = valid.astype(bool), labels.astype(int)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.take_along_axis(probabilities, labels[..., None], -1)[..., 0]
    expected_entropy = -np.log(chosen[valid]).mean()
    dice = [
        2 * probabilities[..., c][valid & (labels == c)].sum()
        / (probabilities[..., c][valid].sum() + (valid & (labels == c)).sum())
        for c in range(1, 5)
    ]  # fmt: skip
    entropy, dice_loss = cross_entropy_and_dice(*sample())
    assert float(entropy) == pytest.approx(expected_entropy, rel=1e-5)
    assert float(dice_loss) == pytest.approx(1 - np.mean(dice), rel=1e-4)


def test_padding_changes_neither_loss_nor_gradient():
    logits, labels, valid = sample()

    def loss(logits, labels):
        return sum(cross_entropy_and_dice(logits, labels, valid))

    value, gradient = jax.value_and_grad(loss)(logits, labels)
    other = jnp.where(valid[..., None], logits, logits + 7), jnp.where(valid, labels, 2)
    assert float(loss(*other)) == pytest.approx(float(value))
    assert not np.asarray(gradient)[~np.asarray(valid)].any()


def test_a_perfect_answer_costs_nothing_also_where_a_class_is_absent():
    labels = jnp.array([[[0, 1], [2, 3]]])
    entropy, dice = cross_entropy_and_dice(100 * jax.nn.one_hot(labels, 5), labels, jnp.ones(labels.shape, bool))
    assert float(entropy) == pytest.approx(0, abs=1e-6)
    assert float(dice) == pytest.approx(0, abs=1e-4)


def test_deep_supervision_halves_the_weight_with_each_resolution():
    logits, labels, valid = sample((2, 8, 4))
    coarse = logits[:, ::2, ::2]
    full = sum(cross_entropy_and_dice(logits, labels, valid))
    half = sum(cross_entropy_and_dice(coarse, labels[:, ::2, ::2], valid[:, ::2, ::2]))
    together = deep_supervision_loss((logits, coarse), labels, valid)
    assert float(together) == pytest.approx(float(2 * full + half) / 3, rel=1e-6)


def test_the_sums_of_two_parts_of_a_batch_are_those_of_the_whole():
    whole = loss_sums(*sample((4, 6, 4)))
    parts = [loss_sums(*(array[part] for array in sample((4, 6, 4)))) for part in (slice(0, 1), slice(1, 4))]
    for one, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_allclose(one, first + second, rtol=1e-6)
