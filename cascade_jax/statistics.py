"""What a cohort's figures allow to say: intervals, agreement of two measurements, detection.

Pure functions of arrays. What is undefined is NaN.
"""

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
_DEVIATIONS = 1.959964  # standard deviations around the mean that hold 95 % of a normal distribution


def bootstrap_interval(groups: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of several groups' means.

    Values are drawn again within each group (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13
    and 8: the percentile interval, and samples of several strata), 10,000 times.

    Args:
        groups: values of each group, such as a fold's cases; NaN is left out.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN if a group has fewer than two values.
    """
    known = [values[~np.isnan(values)] for values in (np.asarray(group, np.float64) for group in groups)]
    if not known or min(map(len, known)) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.mean([rng.choice(values, (RESAMPLES, len(values))).mean(axis=1) for values in known], axis=0)
    lower, upper = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(lower), float(upper)


def limits_of_agreement(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """The mean of the differences first - second, and the limits within which 95 % of them lie if they are normal.

    The mean -/+ 1.96 sample standard deviations (Bland and Altman 1986, Lancet 327:307-310).

    Args:
        first: measurements of n cases, without NaN.
        second: of the same cases by the other method.

    Returns:
        Bias, lower and upper limit; the bias is NaN without a case, the limits with fewer than two.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    bias = float(difference.mean()) if len(difference) else float("nan")
    spread = _DEVIATIONS * float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    return bias, bias - spread, bias + spread


def intraclass_correlation(ratings: np.ndarray) -> float:
    """ICC(2,1): two-way random effects, absolute agreement, a single measurement.

    (BMS - EMS) / (BMS + (k - 1) EMS + k (JMS - EMS) / n), with the mean squares between targets (BMS), between judges
    (JMS) and of the rest (EMS): Shrout and Fleiss 1979, Psychol Bull 86:420-428, where it is ICC(2,1); McGraw and Wong
    1996, Psychol Methods 1:30-46, call it ICC(A,1).

    Args:
        ratings: (n targets, k judges), without NaN.

    Returns:
        At most 1; NaN with fewer than two targets or judges, or if all ratings are the same.
    """
    ratings = np.asarray(ratings, np.float64)
    n, k = ratings.shape
    if min(n, k) < 2 or np.ptp(ratings) == 0:
        return float("nan")
    mean = ratings.mean()
    of_targets, of_judges = ratings.mean(axis=1, keepdims=True) - mean, ratings.mean(axis=0, keepdims=True) - mean
    between_targets = k * (of_targets**2).sum() / (n - 1)
    between_judges = n * (of_judges**2).sum() / (k - 1)
    error = ((ratings - mean - of_targets - of_judges) ** 2).sum() / ((n - 1) * (k - 1))
    total = between_targets + (k - 1) * error + k * (between_judges - error) / n
    return float((between_targets - error) / total) if total > 0 else float("nan")


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927, J Am Stat Assoc 22:209-212); NaN without a trial."""
    if not trials:
        return float("nan"), float("nan")
    share, square = successes / trials, _DEVIATIONS**2 / trials
    half = _DEVIATIONS * np.sqrt((share * (1 - share) + square / 4) / trials)
    lower, upper = ((share + square / 2 + sign * half) / (1 + square) for sign in (-1, 1))
    return max(0.0, float(lower)), min(1.0, float(upper))


def area_under_curve(scores: Sequence[float], present: Sequence[bool]) -> float:
    """The area under the receiver operating characteristic curve.

    The share of pairs, one with and one without the finding, in which the one with it has the higher score; ties count
    a half: the Mann-Whitney statistic (Hanley and McNeil 1982, Radiology 143:29-36).

    Args:
        scores: of n cases, without NaN.
        present: whether each has the finding.

    Returns:
        A fraction; NaN if all cases have the finding, or none.
    """
    scores, present = np.asarray(scores, np.float64), np.asarray(present, bool)
    difference = scores[present][:, None] - scores[~present]
    return float(((difference > 0) + (difference == 0) / 2).mean()) if difference.size else float("nan")
