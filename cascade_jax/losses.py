"""The training loss: cross-entropy plus soft Dice at every decoder resolution."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def _global_sum(values: jax.Array, axis_name: str | None) -> jax.Array:
    return values if axis_name is None else jax.lax.psum(values, axis_name)


def cross_entropy_and_dice(
    logits: jax.Array, labels: jax.Array, valid: jax.Array, *, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean cross-entropy, and one minus the mean soft Dice of the foreground classes.

    The Dice sums run over the whole batch (nnU-Net's "batch Dice"), so that a class absent from one sample says
    nothing by itself. Under `pmap` all sums run over the devices of `axis_name`: the loss is that of the global batch.

    Args:
        logits: float32 (batch, *spatial, class).
        labels: integer (batch, *spatial).
        valid: bool (batch, *spatial); voxels of padding do not count.
        axis_name: the mapped axis of devices, if there is one.

    Returns:
        Two scalars. Dice is (2 sum(p t) + e) / (sum(p) + sum(t) + e), Milletari et al. 2016 without squares.
    """
    mask = valid[..., None].astype(jnp.float32)
    log_probabilities = jax.nn.log_softmax(logits)
    truth = jax.nn.one_hot(labels, logits.shape[-1]) * mask
    voxels = _global_sum(jnp.sum(mask), axis_name)
    cross_entropy = -_global_sum(jnp.sum(truth * log_probabilities), axis_name) / jnp.maximum(voxels, 1.0)

    probabilities = jnp.exp(log_probabilities) * mask
    axes = tuple(range(logits.ndim - 1))
    overlap = _global_sum(jnp.sum(probabilities * truth, axes), axis_name)
    total = _global_sum(jnp.sum(probabilities, axes) + jnp.sum(truth, axes), axis_name)
    smoothing = 1e-5
    dice = (2.0 * overlap + smoothing) / (total + smoothing)
    return cross_entropy, 1.0 - jnp.mean(dice[1:])


def deep_supervision_loss(
    logits: Sequence[jax.Array], labels: jax.Array, valid: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """`cross_entropy_and_dice`, summed, at every resolution; weights halve with each resolution and sum to one.

    Args:
        logits: from full resolution to the coarsest, float32 (batch, *spatial, class) each.
        labels: integer (batch, *spatial) at full resolution; a coarse voxel takes the label at its first corner.
        valid: bool (batch, *spatial) at full resolution.
        axis_name: the mapped axis of devices, if there is one.

    Returns:
        A scalar.
    """
    weights = [0.5**level for level in range(len(logits))]
    loss: Any = 0.0
    for weight, level_logits in zip(weights, logits, strict=True):
        steps = tuple(
            slice(None, None, full // size)
            for full, size in zip(labels.shape[1:], level_logits.shape[1:-1], strict=True)
        )
        level = (slice(None), *steps)
        loss += (
            weight
            / sum(weights)
            * sum(cross_entropy_and_dice(level_logits, labels[level], valid[level], axis_name=axis_name))
        )
    return loss
