"""The Dice that a training's log shows: over the windows around the hearts of a selection of cases, on the device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cascade_jax.data import augment
from cascade_jax.models.graph import most_probable, segment_slices, segment_volume
from cascade_jax.models.unet import UNet
from cascade_jax.training.batches import CaseSelection, Cohort
from cascade_jax.training.windows import cut_extent, middle_start, take_window


def predict_one(
    stage: int, network: UNet, params: Any, image: jax.Array, prior: jax.Array | None, *, mirror: bool
) -> jax.Array:
    """float32 probabilities (depth, height, width, class) of one stage (0 or 1) for one volume."""
    if stage == 0:
        return segment_slices(network, params, image, mirror=mirror)
    return segment_volume(network, params, image, prior, mirror=mirror)


def dice_over_voxels(
    stage: int, network: UNet, size: tuple[int, int, int]
) -> Callable[[Any, Cohort, CaseSelection], jax.Array]:
    """A function (params, cohort, cases) -> float32 (foreground label,), Dice over all voxels of the windows that have
    the cases' hearts in their middle.

    Args:
        stage: 0 or 1.
        network: of that stage.
        size: (depth, height, width) of a window.
    """

    def validate(params, cohort, cases):
        def sums(position):
            case = cases.index[position]
            start = middle_start(cohort.image.shape[1:], cohort.extent[case], cohort.heart[case], size)
            image, of_case = (take_window(volumes, case, start, size) for volumes in (cohort.image, cohort.labels))
            prior = None if cohort.prior is None else take_window(cohort.prior, case, start, size)
            predicted = most_probable(predict_one(stage, network, params, image, prior, mirror=False))
            extent = cut_extent(cohort.extent[case], start, size)
            valid = augment.inside_extent(size, extent) & (position < cases.count)
            labels = jnp.arange(1, network.num_classes)[:, None, None, None]
            predicted, truth = (predicted == labels) & valid, (of_case == labels) & valid
            return (predicted & truth).sum((1, 2, 3)), predicted.sum((1, 2, 3)) + truth.sum((1, 2, 3))

        overlap, total = jax.tree.map(lambda s: s.sum(0), jax.lax.map(sums, jnp.arange(cases.index.size)))
        return jnp.where(total > 0, 2 * overlap / jnp.maximum(total, 1), 1.0)

    return validate
