"""What a calibrated cascade says of its result: consistent with itself, with its labels and with its file."""

import dataclasses
import json

import numpy as np
import pytest

from cascade_jax.calibration import CONFIDENCE_FILE, PRESENCE_FEATURES, read_calibration, write_calibration
from cascade_jax.case_warnings import codes
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC, make_label_table
from cascade_jax.training.calibrating import learn
from tests.accounts import account, folds, simulated_cases, target_account

SPACING = (10.0, 1.5, 1.5)


@pytest.fixture(scope="module")
def calibration():
    return learn(simulated_cases(100), folds(100), EMIDEC)


def random_case(seed):
    """Labels of a ring with or without an infarct and no-reflow, and an account that says anything of them."""
    random = np.random.default_rng(seed)
    labels = np.zeros((4, 40, 40), np.uint8)
    labels[:, 8:32, 8:32], labels[:, 14:26, 14:26] = 2, 1
    if random.random() < 0.7:
        labels[1:3, 8:14, 8 : random.integers(10, 32)] = 3
        if random.random() < 0.5:
            labels[1:3, 10:12, 9 : random.integers(10, 32)] = 4
    voxel = np.prod(SPACING) / 1000
    targets = {}
    for target, members in EMIDEC.targets.items():
        ml = float(np.isin(labels, members).sum() * voxel)
        removed = random.exponential(20.0) * (random.random() < 0.3)  # by postprocessing
        soft = ml * random.uniform(0.2, 1.5) + removed
        one = target_account(random.random(), ml, random.random(), soft_ml=soft, raw_ml=ml + removed)
        targets[target] = one
    return account(**targets), labels


def test_labels_agree_with_the_probability_in_every_case(calibration):
    drawn, removed = 0, 0
    for seed in range(300):
        of, before = random_case(seed)
        labels, confidence = calibration.settle(of, before, SPACING)
        for target in ("infarction", "no_reflow"):
            there = np.isin(labels, EMIDEC.targets[target]).any()
            assert there == (confidence.probability[target] >= calibration.targets[target].threshold)
            drawn += there
            removed += np.isin(before, EMIDEC.targets[target]).any() and not there
        assert confidence.probability["no_reflow"] <= confidence.probability["infarction"]
        np.testing.assert_array_equal(labels > 1, before > 1, "the myocardium stays")
        changed = labels != before
        assert set(zip(before[changed], labels[changed], strict=True)) <= {(3, 2), (4, 2), (4, 3)}
    assert drawn > 50 and removed > 20


def test_no_reflow_that_is_improbable_becomes_infarction_and_an_improbable_infarct_myocardium(calibration):
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, 0] = (1, 2, 3, 4)
    improbable, sure = target_account(0.1, 0.1, 0.01), target_account(0.99, 30.0)
    settled, confidence = calibration.settle(account(infarction=sure, no_reflow=improbable), labels, SPACING)
    assert settled[0, 0].tolist() == [1, 2, 3, 3]
    assert confidence.volume_ml["no_reflow"] == 0
    settled, confidence = calibration.settle(account(infarction=improbable, no_reflow=improbable), labels, SPACING)
    assert settled[0, 0].tolist() == [1, 2, 2, 2]
    assert confidence.expected_dice["infarction"] == pytest.approx(1 - confidence.probability["infarction"])


@pytest.mark.parametrize("name", PRESENCE_FEATURES)
def test_more_of_anything_never_makes_an_infarct_less_probable(calibration, name):
    little = target_account(ml=2.0, highest=0.5)
    values = [dataclasses.replace(little, **{name: getattr(little, name) * factor}) for factor in (0.5, 1, 1.5, 2)]
    said = [calibration.decide(account(infarction=one))["infarction"].probability for one in values]
    assert said == sorted(said)
    whole = [calibration.decide(account(infarction=target_account(0.5, ml, 0.5)))["infarction"] for ml in (0.5, 5, 50)]
    assert whole[0].probability < whole[1].probability <= whole[2].probability


def test_surer_networks_expect_a_higher_dice_and_none_outside_0_to_1(calibration):
    said = [
        calibration.decide(account(infarction=target_account(dice, 20.0)))["infarction"].expected_dice
        for dice in (0.0, 0.3, 0.6, 0.9, 1.0)
    ]
    assert said == sorted(said) and said[0] < said[-1]
    for seed in range(100):
        for decision in calibration.decide(random_case(seed)[0]).values():
            assert 0 <= decision.expected_dice <= 1


def test_an_interval_contains_the_volume_and_grows_with_it(calibration):
    for known in calibration.targets.values():
        for interval in (known.drawn, known.left_out):
            ends = [interval.around(ml) for ml in (0.0, 1.0, 10.0, 100.0)]
            for ml, (low, high) in zip((0.0, 1.0, 10.0, 100.0), ends, strict=True):
                assert 0 <= low <= ml <= high
            assert ends == sorted(ends)


def test_a_heart_that_was_not_found_is_doubtful_for_that_reason(calibration):
    nothing = target_account(0.0, 0.0, 0.1)
    of = dataclasses.replace(account(nothing, nothing, nothing), appearance={})
    labels, confidence = calibration.settle(of, np.zeros((2, 8, 8), np.uint8), SPACING)
    assert not labels.any()
    assert confidence.doubtful == "no myocardium was found"
    assert confidence.expected_dice["myocardium"] == 0
    assert np.isnan(confidence.distance)


def test_an_image_that_looks_like_none_that_is_known_is_doubtful_however_sure_the_networks_are(calibration):
    labels, trusting = random_case(0)[1], dataclasses.replace(calibration, doubtful_below=0.0)
    usual = trusting.settle(account(appearance=0.1), labels, SPACING)[1]
    unlike = trusting.settle(account(appearance=9.0), labels, SPACING)[1]
    assert usual.doubtful is None
    assert unlike.doubtful.startswith("image and outline look unlike")
    assert codes(unlike.warnings) == "unlike-training" and not usual.warnings
    both = dataclasses.replace(calibration, doubtful_below=0.99).settle(account(appearance=9.0), labels, SPACING)[1]
    assert codes(both.warnings) == "unlike-training, low-confidence"
    assert both.doubtful == unlike.doubtful
    assert unlike.distance > calibration.appearance.limit > usual.distance


def test_a_low_expected_dice_is_a_reason_that_names_the_worst_target(calibration):
    doubting = dataclasses.replace(calibration, doubtful_below=0.99)
    confidence = doubting.settle(account(), random_case(1)[1], SPACING)[1]
    worst = min(confidence.expected_dice, key=confidence.expected_dice.get)
    assert confidence.doubtful.startswith("the cascade expects a mean Dice of ")
    assert confidence.doubtful.endswith(f"for the {worst.replace('_', '-')}")


def test_a_single_slice_of_unknown_thickness_has_no_volume(calibration):
    confidence = calibration.settle(account(), random_case(0)[1][:1], (np.nan, 1.5, 1.5))[1]
    assert confidence.interval_ml == {}
    assert np.isnan(list(confidence.volume_ml.values())).all()
    assert 0 < confidence.expected_dice["myocardium"] <= 1


def test_a_calibration_is_read_as_it_was_written(calibration, tmp_path):
    write_calibration(tmp_path / CONFIDENCE_FILE, calibration)
    read = read_calibration(tmp_path / CONFIDENCE_FILE, EMIDEC)
    assert read == calibration
    for seed in range(20):
        of, _ = random_case(seed)
        assert read.decide(of) == calibration.decide(of)


def without(*path):
    def change(values):
        for name in path[:-1]:
            values = values[name]
        del values[path[-1]]

    return change


def setting(value, *path):
    def change(values):
        for name in path[:-1]:
            values = values[name]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        without("targets", "infarction"),
        without("appearance"),
        setting("0.5", "doubtful_below"),
        setting(None, "targets", "infarction", "presence"),
        setting(-1.0, "targets", "infarction", "presence", "weights", 0),
        setting([1.0], "targets", "myocardium", "dice", "weights"),
        setting(float("nan"), "targets", "myocardium", "dice", "intercept"),
        setting(2.0, "targets", "infarction", "threshold"),
        setting(-9.0, "targets", "infarction", "drawn", "high"),
        setting(0.0, "appearance", "scale", 0),
        setting(-1.0, "appearance", "precision", 0, 0),
        setting([], "targets"),
    ],
)
def test_a_damaged_file_is_refused_with_one_line(calibration, tmp_path, change):
    path = tmp_path / CONFIDENCE_FILE
    write_calibration(path, calibration)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(CaseError, match=r"confidence\.json: is damaged") as caught:
        read_calibration(path, EMIDEC)
    assert "\n" not in str(caught.value)


def test_a_cut_off_file_and_one_of_other_labels_are_refused(calibration, tmp_path):
    path = tmp_path / CONFIDENCE_FILE
    write_calibration(path, calibration)
    other = make_label_table(("background", "a"), [("a", ("a",))])
    with pytest.raises(CaseError, match="is of other labels"):
        read_calibration(path, other)
    path.write_text(path.read_text()[:-100])
    with pytest.raises(CaseError, match="is not JSON"):
        read_calibration(path, EMIDEC)
    path.write_text("[]")
    with pytest.raises(CaseError, match="is damaged"):
        read_calibration(path, EMIDEC)
