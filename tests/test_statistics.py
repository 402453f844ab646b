"""Intervals, agreement and detection against published examples, closed forms and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from cascade_jax.statistics import (
    area_under_curve,
    bootstrap_interval,
    intraclass_correlation,
    intraclass_interval,
    kappa,
    kappa_interval,
    limits_intervals,
    limits_of_agreement,
    observed_agreement,
    reproducibility_coefficient,
    wilson_interval,
)

# Shrout and Fleiss 1979, table 2: four judges rate six targets.
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_the_intraclass_correlation_is_that_of_the_paper_which_named_it():
    assert round(intraclass_correlation(RATINGS), 2) == 0.29
    assert intraclass_correlation(RATINGS) == pytest.approx(0.2897638)


def test_a_reader_who_is_always_higher_agrees_less_and_the_same_reader_wholly():
    sizes = np.array([4.0, 11.0, 20.0, 33.0])
    assert intraclass_correlation(np.stack([sizes, sizes], axis=1)) == pytest.approx(1)
    assert intraclass_correlation(np.stack([sizes, sizes + 10], axis=1)) < 0.8


@pytest.mark.parametrize("ratings", [np.zeros((0, 2)), [[1, 2]], [[1], [2]], np.full((3, 2), 0.1), [[0, 1], [1, 0]]])
def test_ratings_that_do_not_vary_between_cases_have_no_intraclass_correlation(ratings):
    assert math.isnan(intraclass_correlation(ratings))


def test_the_interval_of_the_intraclass_correlation_is_that_of_r():
    """psych's ICC() for Shrout and Fleiss' example: ICC2 0.29, from 0.019 to 0.761."""
    assert intraclass_interval(RATINGS) == pytest.approx((0.019, 0.761), abs=5e-4)


def test_the_interval_of_the_intraclass_correlation_holds_it_in_95_percent_of_studies():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(1000):  # six judges of 15 targets: variances 4 between targets, 1/4 between judges, 1 of the rest
        targets, judges, rest = rng.normal(0, 2, (15, 1)), rng.normal(0, 0.5, 6), rng.normal(0, 1, (15, 6))
        lower, upper = intraclass_interval(targets + judges + rest)
        held += lower <= 4 / 5.25 <= upper
    assert 930 <= held <= 975


def test_judges_who_agree_wholly_have_no_doubt_and_targets_alike_no_interval():
    sizes = np.array([4.0, 11.0, 20.0, 33.0])
    assert intraclass_interval(np.stack([sizes, sizes], axis=1)) == pytest.approx((1, 1))
    assert np.isnan(intraclass_interval(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0]]))).all()
    assert np.isnan(intraclass_interval(np.full((3, 2), 0.1))).all()


# Bland and Altman 1986, table 1: peak expiratory flow (l/min), a large meter and a mini one.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_limits_and_their_intervals_are_those_of_the_paper_which_proposed_them():
    """Which takes 2 standard deviations for 1.96, and 3 / n for the variance of a limit."""
    bias, lower, upper = limits_of_agreement(LARGE, MINI)
    assert round(bias, 1) == -2.1
    assert (lower, upper) == pytest.approx((-79.7, 75.5), abs=2)
    of_bias, of_lower, of_upper = limits_intervals(LARGE, MINI)
    assert of_bias == pytest.approx((-22.0, 17.8), abs=0.3)
    assert of_lower == pytest.approx((-114.3, -45.1), abs=2)
    assert of_upper == pytest.approx((40.9, 110.1), abs=2)


def test_the_interval_of_the_bias_is_that_of_a_paired_t_test():
    expected = stats.ttest_rel(LARGE, MINI).confidence_interval(0.95)
    assert limits_intervals(LARGE, MINI)[0] == pytest.approx((expected.low, expected.high))
    assert np.isnan(limits_intervals([1.0], [2.0])).all()


def test_two_readings_lie_within_the_reproducibility_coefficient_in_95_percent():
    rng = np.random.default_rng(5)
    readings = rng.normal(50, 10, (20_000, 1)) + rng.normal(0, 3, (20_000, 2))
    within = np.abs(readings[:, 0] - readings[:, 1]) <= reproducibility_coefficient(readings)
    assert within.mean() == pytest.approx(0.95, abs=0.005)
    assert reproducibility_coefficient(readings + np.array([0, 10])) > reproducibility_coefficient(readings)
    assert math.isnan(reproducibility_coefficient(np.zeros((0, 2))))


def judged(both, first, second, neither):
    """Yes or no by two judges from a table of how often."""
    return np.repeat(np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool), (both, first, second, neither), axis=0)


def test_cohens_kappa_is_its_closed_form():
    # 50 grant applications: 35 alike; by chance 0.5 x 0.6 + 0.5 x 0.4.
    ratings = judged(20, 5, 10, 15)
    assert observed_agreement(ratings) == pytest.approx(0.7)
    assert kappa(ratings) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    # Each judge has a chance of its own: one who always says no agrees by chance alone.
    assert kappa(judged(0, 7, 0, 3)) == pytest.approx(0)
    assert kappa(judged(3, 0, 0, 4)) == 1
    assert kappa(judged(0, 5, 5, 0)) == -1


def test_fleiss_kappa_is_its_closed_form():
    # Three judges, four targets with 3, 2, 1 and 0 times yes: agreement (1 + 1/3 + 1/3 + 1) / 4, chance 1/2.
    ratings = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    assert kappa(ratings) == pytest.approx((2 / 3 - 1 / 2) / (1 - 1 / 2))
    assert kappa(np.array([[1, 1, 1], [0, 0, 0]], bool)) == 1


@pytest.mark.parametrize("ratings", [np.zeros((0, 2)), np.zeros((5, 2)), np.ones((5, 3)), [[1], [0]]])
def test_judges_who_say_the_same_of_everything_have_no_kappa(ratings):
    assert math.isnan(kappa(np.asarray(ratings, bool)))
    assert np.isnan(kappa_interval([np.asarray(ratings, bool)] * 3)).all()


def test_the_interval_of_kappa_is_as_wide_as_its_standard_error_says():
    ratings = judged(80, 20, 40, 60)
    observed, chance = 0.7, 0.5 * 0.6 + 0.5 * 0.4
    half = 1.96 * math.sqrt(observed * (1 - observed) / 200) / (1 - chance)  # Cohen 1960
    lower, upper = kappa_interval(ratings[:, None])
    assert (lower, upper) == pytest.approx((kappa(ratings) - half, kappa(ratings) + half), abs=0.03)


def test_the_segments_of_a_heart_count_as_one_in_the_interval_of_kappa():
    hearts = judged(8, 2, 4, 6)[:, None]
    lower, upper = kappa_interval(hearts)
    repeated = kappa_interval([np.repeat(heart, 16, axis=0) for heart in hearts])
    assert repeated == pytest.approx((lower, upper))
    assert np.isnan(kappa_interval([np.concatenate(hearts)])).all(), "one heart has none"


def test_limits_of_agreement_are_the_bias_and_1_96_standard_deviations():
    bias, lower, upper = limits_of_agreement([3.0, 5.0, 10.0], [2.0, 2.0, 5.0])
    assert bias == 3
    assert (lower, upper) == pytest.approx((3 - 1.96 * 2, 3 + 1.96 * 2), abs=1e-3)
    assert limits_of_agreement([3.0], [2.0])[0] == 1
    assert np.isnan(limits_of_agreement([3.0], [2.0])[1:]).all()
    assert np.isnan(limits_of_agreement([], [])).all()


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 3), (33, 35), (64, 67)])
def test_the_interval_of_a_proportion_is_wilsons(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_proportion_of_nothing_has_no_interval():
    assert np.isnan(wilson_interval(0, 0)).all()


def test_the_area_under_the_curve_is_the_mann_whitney_statistic_with_ties_a_half():
    rng = np.random.default_rng(0)
    scores, present = rng.integers(0, 6, 60), rng.random(60) < 0.4
    statistic = stats.mannwhitneyu(scores[present], scores[~present]).statistic
    assert area_under_curve(scores, present) == pytest.approx(statistic / (present.sum() * (~present).sum()))
    assert area_under_curve([0, 0, 3, 5], [False, False, True, True]) == 1
    assert area_under_curve([1, 1], [True, False]) == 0.5
    assert math.isnan(area_under_curve([1, 2], [True, True]))
    assert math.isnan(area_under_curve([], []))


def test_the_bootstrap_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    half = 1.96 * values.std() / 20
    assert bootstrap_interval([values]) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_cases_are_drawn_within_folds_so_that_a_difference_between_folds_widens_nothing():
    rng = np.random.default_rng(2)
    folds = [rng.normal(centre, 0.05, 50) for centre in (0.1, 0.9)]
    half = 1.96 * math.sqrt(sum(fold.var() / 50 for fold in folds)) / 2
    mean = np.mean([fold.mean() for fold in folds])
    assert bootstrap_interval(folds) == pytest.approx((mean - half, mean + half), abs=0.1 * half)


def test_small_folds_have_scipys_interval():
    folds = [np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.4, 0.8, 0.7])]
    expected = stats.bootstrap(
        folds,
        lambda *groups, axis: np.mean([group.mean(axis=axis) for group in groups], axis=0),
        n_resamples=20_000,
        method="percentile",
        vectorized=True,
        random_state=3,
    ).confidence_interval
    assert bootstrap_interval(folds) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_the_bootstrap_is_the_same_each_time_and_leaves_out_what_is_unknown():
    values = [0.2, 0.5, 0.9, 0.4]
    assert bootstrap_interval([values]) == bootstrap_interval([[*values, math.nan]])
    assert bootstrap_interval([[0.5, 0.5]]) == (0.5, 0.5)


@pytest.mark.parametrize("groups", [[], [[]], [[0.5]], [[0.5, math.nan]], [[0.2, 0.5], [0.3]]])
def test_fewer_than_two_cases_in_a_fold_have_no_interval(groups):
    assert np.isnan(bootstrap_interval(groups)).all()
