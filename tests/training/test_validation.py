"""The Dice in a training's log is the evaluator's."""

import jax
import numpy as np
import pytest

from cascade_jax import metrics
from cascade_jax.data.preprocess import heart_box
from cascade_jax.models import UNet
from cascade_jax.training.batches import CaseSelection, Cohort
from cascade_jax.training.validation import dice_over_voxels, predict_one
from cascade_jax.training.windows import middle_start

NETWORKS = (
    UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))),
    UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2))),
)
SHAPE, SIZE = (4, 16, 16), (4, 8, 8)
EXTENTS = np.array([((0, 4), (0, 16), (0, 16)), ((1, 4), (2, 14), (3, 16)), ((0, 3), (0, 9), (5, 16))], np.int32)
HEARTS = ((6, 5), (8, 8), (2, 9))  # first row and column


def cohort(stage):
    random = np.random.default_rng(11)
    labels = np.zeros((3, *SHAPE), np.uint8)
    for case, (row, column) in enumerate(HEARTS):
        heart = labels[case, 1:3, row : row + 4, column : column + 4]
        heart[:] = random.integers(1, 5, heart.shape)
    prior = random.integers(0, 5, labels.shape).astype(np.uint8) if stage else None
    hearts = np.array([heart_box(*pair) for pair in zip(labels, EXTENTS, strict=True)])
    return Cohort(random.normal(size=labels.shape).astype(np.float32), labels, prior, EXTENTS, hearts)


@pytest.mark.parametrize("stage", [0, 1])
def test_it_is_the_evaluators_on_the_same_windows(stage):
    network, known = NETWORKS[stage], cohort(stage)
    inputs = np.zeros((1, *SIZE[1:], 1) if stage == 0 else (1, *SIZE, 5), np.float32)
    params = jax.tree.map(lambda leaf: 3 * leaf, network.init(jax.random.key(0), inputs)["params"])
    # The last is a filler, as folds have them that are smaller than others.
    selected = CaseSelection(np.array([2, 0, 1, 1], np.int32), np.int32(3))
    logged = jax.jit(dice_over_voxels(stage, network, SIZE))(params, known, selected)

    predict = jax.jit(lambda image, prior: predict_one(stage, network, params, image, prior, mirror=False))
    predicted, truth = [], []
    for case in range(3):
        start = np.asarray(middle_start(SHAPE, EXTENTS[case], known.heart[case], SIZE))
        window = tuple(slice(first, first + size) for first, size in zip(start, SIZE, strict=True))
        prior = None if known.prior is None else known.prior[case][window]
        inside = np.zeros(SHAPE, bool)
        inside[tuple(slice(*limits) for limits in EXTENTS[case])] = True
        labels = np.asarray(predict(known.image[case][window], prior)).argmax(-1)
        predicted.append(np.where(inside[window], labels, 0))
        truth.append(np.where(inside[window], known.labels[case][window], 0))
    both = np.concatenate(predicted), np.concatenate(truth)
    expected = [metrics.dice(*(array == label for array in both)) for label in range(1, 5)]
    assert 0 < max(expected) < 1
    np.testing.assert_allclose(logged, expected, rtol=1e-6)
