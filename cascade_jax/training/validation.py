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


def overlap_with_truth(
    stage: int, network: UNet, size: tuple[int, int, int]
) -> Callable[[Any, Cohort, jax.Array], tuple[jax.Array, jax.Array]]:
    """A function (params, cohort, case) -> int32 (foreground label,) twice: in the window that has the case's heart in
    its middle, the voxels that both prediction and truth have, and the sum of those that each has.

    Args:
        stage: 0 or 1.
        network: of that stage.
        size: (depth, height, width) of a window.
    """

    def overlap(params, cohort, case):
        start = middle_start(cohort.image.shape[1:], cohort.extent[case], cohort.heart[case], size)
        image, of_case = (take_window(volumes, case, start, size) for volumes in (cohort.image, cohort.labels))
        prior = None if cohort.prior is None else take_window(cohort.prior, case, start, size)
        predicted = most_probable(predict_one(stage, network, params, image, prior, mirror=False))
        valid = augment.inside_extent(size, cut_extent(cohort.extent[case], start, size))
        labels = jnp.arange(1, network.num_classes)[:, None, None, None]
        predicted, truth = (predicted == labels) & valid, (of_case == labels) & valid
        return (predicted & truth).sum((1, 2, 3)), predicted.sum((1, 2, 3)) + truth.sum((1, 2, 3))

    return overlap


def dice_of(overlap: jax.Array, total: jax.Array) -> jax.Array:
    """float32 Dice of sums as `overlap_with_truth` returns them; 1 where neither has a voxel."""
    return jnp.where(total > 0, 2 * overlap / jnp.maximum(total, 1), 1.0)


def dice_over_voxels(
    stage: int, network: UNet, size: tuple[int, int, int]
) -> Callable[[Any, Cohort, CaseSelection], jax.Array]:
    """A function (params, cohort, cases) -> float32 (foreground label,), Dice over all voxels of the windows that have
    the cases' hearts in their middle.

    Arguments as for `overlap_with_truth`.
    """
    overlap = overlap_with_truth(stage, network, size)

    def validate(params, cohort, cases):
        def sums(position):
            of_case = overlap(params, cohort, cases.index[position])
            return jax.tree.map(lambda voxels: voxels * (position < cases.count), of_case)

        return dice_of(*jax.tree.map(lambda s: s.sum(0), jax.lax.map(sums, jnp.arange(cases.index.size))))

    return validate
