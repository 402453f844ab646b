"""A calibration learnt from a cohort is true for cases that it has not seen; what cannot be learnt is not claimed."""

import dataclasses

import numpy as np
import pytest

from cascade_jax.data.labels import EMIDEC, make_label_table
from cascade_jax.report import judgement
from cascade_jax.training.calibrating import (
    LEAST_CASES,
    Known,
    fit_logistic,
    fit_ridge,
    learn,
    mean_expected,
    mean_true,
    outcome,
    split,
)
from cascade_jax.training.judging import judge, learn_and_judge, learn_without_each
from tests.accounts import folds, simulated_cases


@pytest.fixture(scope="module")
def learnt():
    return learn_and_judge(simulated_cases(70), folds(70), EMIDEC)


def test_on_further_cases_intervals_hold_the_volume_in_nine_of_ten_and_dice_is_as_expected(learnt):
    cases = simulated_cases(1500, seed=1)
    result = judge(cases, [learnt.calibration] * len(cases), EMIDEC)
    for target, of in result["targets"].items():
        assert of["coverage"] == pytest.approx(0.92, abs=0.06), target
        assert of["expected"] == pytest.approx(of["true"], abs=0.06), target
    assert result["targets"]["infarction"]["area_under_curve"] > 0.9


def test_probabilities_are_frequencies(learnt):
    cases = simulated_cases(1500, seed=2)
    said = np.array([learnt.calibration.decide(case.account)["infarction"].probability for case in cases])
    there = np.array([case.truth_ml["infarction"] > 0 for case in cases])
    assert said.mean() == pytest.approx(there.mean(), abs=0.05)
    for low, high in ((0.0, 0.4), (0.8, 1.01)):
        chosen = (low <= said) & (said < high)
        assert chosen.sum() > 100
        assert said[chosen].mean() == pytest.approx(there[chosen].mean(), abs=0.1)


def test_the_judgement_on_folds_left_out_is_about_that_on_further_cases(learnt):
    further = simulated_cases(1500, seed=3)
    later = judge(further, [learnt.calibration] * len(further), EMIDEC)
    assert learnt.judgement["mean"]["true"] == pytest.approx(later["mean"]["true"], abs=0.07)
    assert learnt.judgement["mean"]["expected"] == pytest.approx(later["mean"]["expected"], abs=0.05)
    assert learnt.judgement["doubtful"]["worst_fifth"] == pytest.approx(later["doubtful"]["worst_fifth"], abs=0.3)
    assert learnt.judgement["doubtful"]["best_half"] <= 0.2


def test_the_judgement_can_fail():
    """Where networks are as sure of good results as of bad ones, doubt finds no more of the bad ones."""
    for informative in (True, False):
        cases = simulated_cases(200, seed=4, informative=informative)
        result = learn_and_judge(cases, folds(200), EMIDEC).judgement
        shares, tables = result["doubtful"], judgement.make_tables(result)
        assert tables[2].note.endswith(" not reached.") == (shares["worst_fifth"] < 2 / 3 or shares["best_half"] > 0.1)
        if informative:
            first = shares["worst_fifth"] - shares["best_half"]
    assert shares["worst_fifth"] - shares["best_half"] < first - 0.1


def test_a_judgement_is_made_without_the_cases_own_fold():
    """A fold of cases whose volume is told ten times too large is not forgiven by having been learnt from."""
    cases = simulated_cases(100)
    odd = set(folds(100)[0])
    cases = [_scaled(case, 0.1) if position in odd else case for position, case in enumerate(cases)]
    without = learn_without_each(cases, folds(100), EMIDEC)
    result = judge([cases[position] for position in odd], [without[position] for position in odd], EMIDEC)
    assert result["targets"]["myocardium"]["coverage"] < 0.1
    everything = learn(cases, folds(100), EMIDEC)
    result = judge([cases[position] for position in odd], [everything] * len(odd), EMIDEC)
    assert result["targets"]["myocardium"]["coverage"] > 0.5


def _scaled(case, factor):
    return case._replace(truth_ml={target: factor * ml for target, ml in case.truth_ml.items()})


def test_the_decision_by_probability_does_the_mean_dice_good_where_small_infarcts_are_mostly_false(learnt):
    of = learnt.judgement["targets"]["infarction"]
    assert of["true"] >= of["before"] - 0.01
    cases = simulated_cases(1500, seed=5)
    result = judge(cases, [learnt.calibration] * len(cases), EMIDEC)["targets"]["infarction"]
    assert result["true"] > result["before"]


def test_phantoms_are_chosen_on_sparingly():
    cases = simulated_cases(100)
    most, least = (learn(cases, folds(100), EMIDEC, sparing=sparing) for sparing in (False, True))
    assert least.targets["infarction"].threshold <= most.targets["infarction"].threshold


def test_few_cases_teach_nothing():
    assert learn(simulated_cases(LEAST_CASES - 1), folds(LEAST_CASES - 1), EMIDEC) is None
    assert learn_and_judge(simulated_cases(LEAST_CASES), folds(LEAST_CASES), EMIDEC) is None
    assert learn_and_judge(simulated_cases(30), folds(30), EMIDEC) is not None


def test_a_target_that_every_case_has_is_probable_and_never_left_out():
    cases = [case for case in simulated_cases(120) if case.truth_ml["infarction"] > 0]
    learnt = learn(cases, folds(len(cases)), EMIDEC).targets["infarction"]
    assert learnt.threshold is None
    assert learnt.presence.weights == (0.0,) * 2 and learnt.presence.intercept > 4


def test_another_table_has_the_same_logic():
    table = make_label_table(("background", "a", "b"), [("organ", ("a", "b")), ("tumour", ("b",))])
    cases = [
        Known(
            dataclasses.replace(case.account, targets=_renamed(case.account.targets)),
            _renamed(case.dice),
            _renamed(case.truth_ml),
        )
        for case in simulated_cases(80)
    ]
    learnt = learn_and_judge(cases, folds(80), table)
    assert set(learnt.judgement["targets"]) == {"organ", "tumour"}
    assert learnt.calibration.targets["organ"].presence is None
    assert learnt.calibration.targets["tumour"].threshold is not None


def _renamed(values):
    return {"organ": values["myocardium"], "tumour": values["infarction"]}


def test_what_is_not_drawn_scores_1_only_where_nothing_is_there():
    case = next(case for case in simulated_cases(50) if case.truth_ml["infarction"] > 1)
    assert outcome(case, "infarction", True).dice == case.dice["infarction"] > 0
    assert outcome(case, "infarction", False) == (0.0, 0.0)
    normal = _scaled(case, 0)
    assert outcome(normal, "infarction", False) == (1.0, 0.0)


def test_models_find_what_they_are_fitted_to_and_no_weight_against_its_sense():
    random = np.random.default_rng(0)
    values = random.normal(size=(400, 2)) * (1.0, 50.0)
    line = fit_ridge(values, 0.3 + 0.2 * values[:, 0] - 0.001 * values[:, 1])
    assert line.weights[0] == pytest.approx(0.2, rel=0.05)
    assert line.weights[1] == 0.0
    assert line.intercept == pytest.approx(0.3, abs=0.02)
    there = random.random(400) < 1 / (1 + np.exp(-2 * values[:, 0]))
    curve = fit_logistic(values, there)
    assert curve.weights[0] == pytest.approx(2.0, abs=0.5)
    assert 0 <= curve.weights[1] < 0.01


def test_without_folds_cases_are_dealt_into_five_groups():
    groups = split(23, [list(range(23))])
    assert sorted(position for group in groups for position in group) == list(range(23))
    assert len(groups) == 5
    assert split(6, [[0, 1], [2, 3], [4, 5]]) == [[0, 1], [2, 3], [4, 5]]


def test_the_worst_cases_are_expected_to_be_worse(learnt):
    cases = simulated_cases(500, seed=6)
    decided = [learnt.calibration.decide(case.account) for case in cases]
    expected = [mean_expected(one) for one in decided]
    true = [mean_true(case, one) for case, one in zip(cases, decided, strict=True)]
    assert np.corrcoef(expected, true)[0, 1] > 0.3
