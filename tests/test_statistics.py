"""Intervals, agreement and detection against published examples, closed forms and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from cascade_jax.statistics import (
    area_under_curve,
    bootstrap_interval,
    intraclass_correlation,
    limits_of_agreement,
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
