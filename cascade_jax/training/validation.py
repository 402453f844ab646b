"""The Dice that a training's log shows: over all voxels of a selection of cases, on the device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cascade_jax.data import augment
from cascade_jax.models.graph import most_probable, segment_slices, segment_volume
from cascade_jax.models.unet import UNet
from cascade_jax.training.batches import CaseSelection, Cohort


def predict_one(
    stage: int, network: UNet, params: Any, image: jax.Array, prior: jax.Array | None, *, mirror: bool
) -> jax.Array:
    """float32 probabilities (depth, height, width, class) of one stage (0 or 1) for one volume."""
    if stage == 0:
        return segment_slices(network, params, image, mirror=mirror)
    return segment_volume(network, params, image, prior, mirror=mirror)


def dice_over_voxels(stage: int, network: UNet) -> Callable[[Any, Cohort, CaseSelection], jax.Array]:
    """A function (params, cohort, cases) -> float32 (foreground label,), Dice over all voxels of the cases.

    Args:
        stage: 0 or 1.
        network: of that stage.
    """

    def validate(params, cohort, cases):
        def sums(position):
            case = cases.index[position]
            prior = None if cohort.prior is None else cohort.prior[case]
            predicted = most_probable(predict_one(stage, network, params, cohort.image[case], prior, mirror=False))
            valid = augment.inside_extent(predicted.shape, cohort.extent[case]) & (position < cases.count)
            labels = jnp.arange(1, network.num_classes)[:, None, None, None]
            predicted, truth = (predicted == labels) & valid, (cohort.labels[case] == labels) & valid
            return (predicted & truth).sum((1, 2, 3)), predicted.sum((1, 2, 3)) + truth.sum((1, 2, 3))

        overlap, total = jax.tree.map(lambda s: s.sum(0), jax.lax.map(sums, jnp.arange(cases.index.size)))
        return jnp.where(total > 0, 2 * overlap / jnp.maximum(total, 1), 1.0)

    return validate
