"""What a case's account holds, against the same counted voxel by voxel."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from cascade_jax import metrics
from cascade_jax.account import (
    APPEARANCE,
    VoteSummary,
    make_account,
    measure_appearance,
    summarise_vote,
    voxel_volume_ml,
)
from cascade_jax.confidence import expected_dice
from cascade_jax.data.case import Case
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.preprocess import preprocess
from cascade_jax.models.graph import sums_over_labels
from cascade_jax.phantoms import simulated

SPACING = (10.0, 1.5, 1.5)
VOXEL_ML = float(np.prod(SPACING)) / 1000


def vote_of(probabilities, priors):
    """A vote as the graph would return it: float (fold, depth, height, width, class), and stage one's labels."""
    labels = probabilities.argmax(-1).astype(np.uint8)
    return SimpleNamespace(
        fold_priors=priors,
        fold_labels=labels,
        fold_sums=np.asarray(sums_over_labels(labels, probabilities)),
        fold_highest=probabilities.max(axis=(1, 2, 3)),
    )


@pytest.fixture(scope="module")
def two_folds():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet((3, 1, 1, 0.6, 0.4), (2, 3, 12, 12)).astype(np.float32)
    return probabilities, random.integers(0, 5, probabilities.shape[:-1]).astype(np.uint8)


def account_of(probabilities, priors, labels=None):
    labels = np.zeros(probabilities.shape[1:-1], np.uint8) if labels is None else labels
    case = Case("case", np.random.default_rng(1).normal(size=labels.shape), None, SPACING)
    return make_account(summarise_vote(vote_of(probabilities, priors), VOXEL_ML), labels, case, EMIDEC)


def test_an_account_of_one_fold_is_what_its_voxels_say(two_folds):
    probabilities, priors = (array[:1] for array in two_folds)
    final = np.roll(probabilities[0].argmax(-1).astype(np.uint8), 1, axis=-1)
    account = account_of(probabilities, priors, final)
    labels, expected = probabilities[0].argmax(-1), expected_dice(probabilities[0], probabilities[0].argmax(-1))
    for target, members in EMIDEC.targets.items():
        of, mask = account.targets[target], np.isin(labels, members)
        soft = probabilities[0][..., list(members)].sum(-1)
        assert of.soft_dice == pytest.approx(expected[target], abs=6e-4)
        assert of.soft_ml == pytest.approx(VOXEL_ML * soft.sum(), rel=1e-5)
        assert of.raw_ml == pytest.approx(VOXEL_ML * mask.sum(), rel=1e-5)
        assert of.volume_ml == pytest.approx(VOXEL_ML * np.isin(final, members).sum())
        assert of.mean == pytest.approx(soft[mask].mean(), rel=1e-5)
        assert of.highest == pytest.approx(probabilities[0][..., list(members)].max())
        assert of.stages_dice == pytest.approx(metrics.dice(np.isin(priors[0], members), mask))


def test_several_folds_have_the_mean_of_what_each_says_on_its_own(two_folds):
    probabilities, priors = two_folds
    both = account_of(probabilities, priors)
    each = [account_of(probabilities[fold : fold + 1], priors[fold : fold + 1]) for fold in range(2)]
    for target, of in both.targets.items():
        values = [dataclasses.astuple(one.targets[target]) for one in each]
        assert dataclasses.astuple(of) == pytest.approx(np.mean(values, axis=0), rel=1e-5)
    # Folds that differ are no less sure for it, while their mean probabilities are.
    softer = account_of(probabilities.mean(0, keepdims=True), priors[:1])
    assert softer.targets["myocardium"].soft_dice < both.targets["myocardium"].soft_dice
    summary = summarise_vote(vote_of(probabilities, priors), VOXEL_ML)
    np.testing.assert_array_equal(summary.of_fold(1).sums_ml[0], summary.sums_ml[1])


def test_a_summary_is_read_as_it_was_written_and_no_other(two_folds):
    summary = summarise_vote(vote_of(*two_folds), VOXEL_ML)
    read = VoteSummary.from_json(summary.to_json())
    for name in ("sums_ml", "stages_ml", "highest"):
        np.testing.assert_array_equal(getattr(read, name), getattr(summary, name))
    with pytest.raises(ValueError, match="belong together"):
        VoteSummary.from_json(summary.to_json() | {"highest": [[0.5]]})


@pytest.fixture(scope="module")
def heart():
    return simulated.simulate_case(0, 1, field_of_view_mm=115)


def appearance(case, image=None, labels=None):
    image, labels = (case.image if image is None else image), (case.labels if labels is None else labels)
    return measure_appearance(image, labels, case.spacing, EMIDEC)


def test_the_unit_of_an_image_does_not_change_its_appearance(heart):
    usual = appearance(heart)
    assert tuple(usual) == APPEARANCE
    assert appearance(heart, 0.25 * heart.image + 300) == pytest.approx(usual, abs=1e-3)


@pytest.mark.parametrize("name", ["contrast", "spread", "noise", "surroundings", "size", "hollow", "jump"])
def test_each_number_tells_what_it_is_called_for(heart, name):
    image, labels = heart.image.astype(np.float64), heart.labels.copy()
    sd = image[image != 0].std()
    random = np.random.default_rng(0)
    if name == "contrast":
        image[labels == 1] += sd
    elif name == "surroundings":
        image[labels == 0] += sd * (image[labels == 0] != 0)
    elif name == "spread":
        image[labels == 2] += sd * random.choice((-2.0, 2.0), (labels == 2).sum())
    elif name == "noise":
        image += sd * random.normal(size=image.shape)
    elif name == "size":
        labels = np.maximum(labels, 2 * (np.roll(labels, 6, axis=1) > 0)).astype(np.uint8)
    elif name == "hollow":
        labels[labels == 2] = (random.random((labels == 2).sum()) < 0.5) + 1
    else:
        labels = np.stack([np.roll(plane, 8 * (index % 2), axis=0) for index, plane in enumerate(labels)])
    assert appearance(heart, image, labels)[name] > appearance(heart)[name] + 0.05


def test_without_a_myocardium_there_is_no_appearance_and_a_lone_slice_has_no_jump(heart):
    assert appearance(heart, labels=np.minimum(heart.labels, 1)) == {}
    fullest = int((heart.labels > 0).sum((1, 2)).argmax())
    one = measure_appearance(heart.image[fullest][None], heart.labels[fullest][None], heart.spacing, EMIDEC)
    assert one["jump"] == 0
    assert np.isfinite(list(one.values())).all()


def test_a_voxel_of_the_networks_grid_has_the_volume_that_it_takes_of_the_case(heart):
    grid = preprocess(heart, (2.0, 2.0), (8, 64, 64)).grid
    assert voxel_volume_ml(grid, heart.spacing) == pytest.approx(heart.spacing[0] * 4 / 1000, rel=0.03)
    assert voxel_volume_ml(grid, (np.nan, *heart.spacing[1:])) == pytest.approx(10 * 4 / 1000, rel=0.03)
