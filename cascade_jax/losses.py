"""The training loss: cross-entropy plus soft Dice at every decoder resolution.

All of it is a function of sums over the voxels of the whole batch, wherever these lie: on several devices, or in parts
of the batch that are computed one after another.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

_SMOOTHING = 1e-5


class LossSums(NamedTuple):
    """What the loss at one resolution is made of; the sums of two parts of a batch add up to those of both.

    Attributes:
        voxels: float32 scalar, how many are valid.
        log_likelihood: float32 scalar, the sum of log p of the true class.
        overlap: float32 (class,), sum(p t).
        total: float32 (class,), sum(p) + sum(t).
    """

    voxels: jax.Array
    log_likelihood: jax.Array
    overlap: jax.Array
    total: jax.Array


def loss_sums(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> LossSums:
    """The sums of a batch, or of a part of it.

    Args:
        logits: float32 (batch, *spatial, class).
        labels: integer (batch, *spatial).
        valid: bool (batch, *spatial); voxels of padding do not count.
    """
    mask = valid[..., None].astype(jnp.float32)
    log_probabilities = jax.nn.log_softmax(logits)
    truth = jax.nn.one_hot(labels, logits.shape[-1]) * mask
    probabilities = jnp.exp(log_probabilities) * mask
    axes = tuple(range(logits.ndim - 1))
    return LossSums(
        jnp.sum(mask),
        jnp.sum(truth * log_probabilities),
        jnp.sum(probabilities * truth, axes),
        jnp.sum(probabilities, axes) + jnp.sum(truth, axes),
    )


def cross_entropy_and_dice_of(sums: LossSums) -> tuple[jax.Array, jax.Array]:
    """Mean cross-entropy, and one minus the mean soft Dice of the foreground classes: two scalars.

    The Dice sums run over the whole batch (nnU-Net's "batch Dice"), so that a class absent from one sample says
    nothing by itself. Dice is (2 sum(p t) + e) / (sum(p) + sum(t) + e), Milletari et al. 2016 without squares.
    """
    dice = (2.0 * sums.overlap + _SMOOTHING) / (sums.total + _SMOOTHING)
    return -sums.log_likelihood / jnp.maximum(sums.voxels, 1.0), 1.0 - jnp.mean(dice[1:])


def cross_entropy_and_dice(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`cross_entropy_and_dice_of` the `loss_sums` of a whole batch."""
    return cross_entropy_and_dice_of(loss_sums(logits, labels, valid))


def deep_supervision_sums(logits: Sequence[jax.Array], labels: jax.Array, valid: jax.Array) -> tuple[LossSums, ...]:
    """The `loss_sums` at every resolution.

    Args:
        logits: from full resolution to the coarsest, float32 (batch, *spatial, class) each.
        labels: integer (batch, *spatial) at full resolution; a coarse voxel takes the label at its first corner.
        valid: bool (batch, *spatial) at full resolution.
    """
    sums = []
    for level_logits in logits:
        steps = tuple(
            slice(None, None, full // size)
            for full, size in zip(labels.shape[1:], level_logits.shape[1:-1], strict=True)
        )
        level = (slice(None), *steps)
        sums.append(loss_sums(level_logits, labels[level], valid[level]))
    return tuple(sums)


def deep_supervision_loss_of(sums: Sequence[LossSums]) -> jax.Array:
    """`cross_entropy_and_dice_of`, summed, at every resolution: a scalar.

    Args:
        sums: of the whole batch, from full resolution to the coarsest; weights halve with each resolution and sum to
            one.
    """
    weights = [0.5**level for level in range(len(sums))]
    loss = jnp.zeros(())
    for weight, level in zip(weights, sums, strict=True):
        cross_entropy, dice = cross_entropy_and_dice_of(level)
        loss += weight / sum(weights) * (cross_entropy + dice)
    return loss


def deep_supervision_loss(logits: Sequence[jax.Array], labels: jax.Array, valid: jax.Array) -> jax.Array:
    """`deep_supervision_loss_of` the `deep_supervision_sums` of a whole batch: a scalar."""
    return deep_supervision_loss_of(deep_supervision_sums(logits, labels, valid))
