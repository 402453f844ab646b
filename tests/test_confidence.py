"""The Dice that a cascade expects of itself."""

import numpy as np
import pytest

from cascade_jax import metrics
from cascade_jax.confidence import disagreement, doubt, expected_dice
from cascade_jax.data.labels import EMIDEC


def test_certainty_expects_a_dice_of_1_and_nothing_of_what_is_not_there():
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[:, 2:6, 2:6] = 2
    labels[:, 3:5, 3:5] = 1
    expected = expected_dice(np.eye(5, dtype=np.float32)[labels], labels)
    assert expected["myocardium"] == 1
    assert np.isnan(expected["infarction"])
    assert np.isnan(expected["no_reflow"])


def test_a_heart_that_was_not_found_is_as_doubtful_as_can_be():
    labels = np.zeros((2, 8, 8), np.uint8)
    assert expected_dice(np.eye(5, dtype=np.float32)[labels], labels)["myocardium"] == 0


def test_folds_disagree_where_they_vote_for_other_labels_than_the_majority():
    counts = np.array([[5, 0, 0], [3, 1, 1], [0, 2, 3]], np.uint8)
    np.testing.assert_allclose(disagreement(counts), [0, 0.4, 0.4], atol=1e-6)
    assert not disagreement(np.eye(5, dtype=np.uint8)).any(), "one fold cannot disagree"


def test_networks_doubt_where_no_label_is_certain():
    np.testing.assert_allclose(doubt(np.array([[1.0, 0.0], [0.3, 0.7]])), [0, 0.3])


def test_it_is_the_mean_dice_over_truths_drawn_from_the_probabilities():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet((2, 1, 1, 0.5, 0.5), (4, 24, 24)).astype(np.float32)
    labels = probabilities.argmax(-1)
    expected = expected_dice(probabilities, labels)
    draws = [(random.random((*labels.shape, 1)) > probabilities.cumsum(-1)).sum(-1).clip(0, 4) for _ in range(60)]
    for target, members in EMIDEC.targets.items():
        dice = np.mean([metrics.dice(np.isin(labels, members), np.isin(truth, members)) for truth in draws])
        assert expected[target] == pytest.approx(dice, abs=0.01)
