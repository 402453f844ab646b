"""What a cohort's figures allow to say: intervals, agreement of measurements and of readers, detection.

Pure functions of arrays. What is undefined is NaN.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

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


def limits_intervals(first: Sequence[float], second: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The 95 % intervals of what `limits_of_agreement` returns.

    The bias has the standard error s / sqrt(n), a limit s sqrt(1 / n + 1.96^2 / (2 (n - 1))), with s the standard
    deviation of the differences, and both Student's t of n - 1 degrees of freedom (Bland and Altman 1999, Stat Methods
    Med Res 8:135-160, section 2).

    Args:
        first: measurements of n cases, without NaN.
        second: of the same cases by the other method.

    Returns:
        Those of the bias, the lower and the upper limit, each as (lower, upper); NaN with fewer than two cases.
    """
    found = limits_of_agreement(first, second)
    n = len(first)
    if n < 2:
        return ((float("nan"), float("nan")),) * 3
    deviation = float(np.std(np.asarray(first, np.float64) - np.asarray(second, np.float64), ddof=1))
    times = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation
    halves = [times / np.sqrt(n)] + [times * np.sqrt(1 / n + _DEVIATIONS**2 / (2 * (n - 1)))] * 2
    return tuple((float(value - half), float(value + half)) for value, half in zip(found, halves, strict=True))


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
    between_targets, between_judges, error = _mean_squares(ratings)
    total = between_targets + (k - 1) * error + k * (between_judges - error) / n
    return float((between_targets - error) / total) if total > 0 else float("nan")


def intraclass_interval(ratings: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of `intraclass_correlation`, by the F distribution.

    McGraw and Wong 1996, Psychol Methods 1:30-46, table 7, case 2 and 2A, ICC(A,1), with Satterthwaite's degrees of
    freedom.

    Args:
        ratings: (n targets, k judges), without NaN.

    Returns:
        Lower and upper end; both 1 if the judges agree wholly, NaN where the correlation is, or where the targets'
        means are all the same.
    """
    ratings = np.asarray(ratings, np.float64)
    correlation = intraclass_correlation(ratings)
    if np.isnan(correlation) or correlation == 1:
        return correlation, correlation
    n, k = ratings.shape
    targets, judges, error = _mean_squares(ratings)
    if targets <= 1e-12 * (judges + error):
        return float("nan"), float("nan")
    a = k * correlation / (n * (1 - correlation)) * judges
    b = (1 + k * correlation * (n - 1) / (n * (1 - correlation))) * error
    freedom = (a + b) ** 2 / (a**2 / (k - 1) + b**2 / ((n - 1) * (k - 1)))
    rest = k * judges + (k * n - k - n) * error
    below, above = stats.f.ppf((1 + CONFIDENCE) / 2, [n - 1, freedom], [freedom, n - 1])
    lower = n * (targets - below * error) / (below * rest + n * targets)
    upper = n * (above * targets - error) / (rest + n * above * targets)
    return float(lower), float(upper)


def _mean_squares(ratings: np.ndarray) -> tuple[float, float, float]:
    """Of a two-way analysis of variance of (n targets, k judges): between targets, between judges, and of the rest."""
    n, k = ratings.shape
    mean = ratings.mean()
    of_targets, of_judges = ratings.mean(axis=1, keepdims=True) - mean, ratings.mean(axis=0, keepdims=True) - mean
    between_targets = k * (of_targets**2).sum() / (n - 1)
    between_judges = n * (of_judges**2).sum() / (k - 1)
    error = ((ratings - mean - of_targets - of_judges) ** 2).sum() / ((n - 1) * (k - 1))
    return between_targets, between_judges, error


def reproducibility_coefficient(ratings: np.ndarray) -> float:
    """How far two measurements of one target by two of the judges are apart at most in 95 % of targets.

    1.96 sqrt(2) times the standard deviation within targets, the judges' own biases included (Raunig et al. 2015, Stat
    Methods Med Res 24:27-67).

    Args:
        ratings: (n targets, k judges), without NaN.

    Returns:
        In the ratings' unit; NaN without a target or with fewer than two judges.
    """
    ratings = np.asarray(ratings, np.float64)
    if not len(ratings) or ratings.shape[1] < 2:
        return float("nan")
    return float(_DEVIATIONS * np.sqrt(2 * ratings.var(axis=1, ddof=1).mean()))


def kappa(ratings: np.ndarray) -> float:
    """Agreement of judges on yes or no beyond that of chance: Cohen's kappa of two judges, Fleiss' of more.

    (p - e) / (1 - e), where p is the share of pairs of judgements of one target that agree. Chance, e, is for two
    judges by each one's own share of yes (Cohen 1960, Educ Psychol Meas 20:37-46), for more by the share of yes of all
    together (Fleiss 1971, Psychol Bull 76:378-382).

    Args:
        ratings: bool (n targets, k judges).

    Returns:
        At most 1, 0 by chance; NaN without a target, with fewer than two judges, or if all judgements are the same.
    """
    return float(_kappa_of(_kappa_sums(ratings)[None])[0])


def kappa_interval(groups: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the kappa of all groups' targets together.

    Whole groups are drawn again, 10,000 times (`bootstrap_interval`): the segments of one heart are not independent of
    each other. Draws without a kappa are left out.

    Args:
        groups: bool (targets, k judges) of each group, such as the segments of a heart.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN with fewer than two groups, or where kappa is NaN.
    """
    if len(groups) < 2 or np.isnan(kappa(np.concatenate(groups))):
        return float("nan"), float("nan")
    sums = np.array([_kappa_sums(group) for group in groups])
    draws = np.random.default_rng(seed).multinomial(len(groups), [1 / len(groups)] * len(groups), RESAMPLES)
    lower, upper = np.nanquantile(_kappa_of(draws @ sums), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(lower), float(upper)


def observed_agreement(ratings: np.ndarray) -> float:
    """The share of pairs of judgements of one target that agree, of bool (n targets, k judges); NaN without a pair."""
    targets, agreeing, *yes = _kappa_sums(ratings)
    return float(agreeing / targets) if targets and len(yes) > 1 else float("nan")


def _kappa_sums(ratings: np.ndarray) -> np.ndarray:
    """What kappa is made of and groups can be added by: targets, shares of agreeing pairs, each judge's yes."""
    ratings = np.asarray(ratings, bool)
    n, k = ratings.shape
    yes = ratings.sum(axis=1)
    agreeing = (yes * (yes - 1) + (k - yes) * (k - yes - 1)) / max(k * (k - 1), 1)
    return np.array([n, agreeing.sum(), *ratings.sum(axis=0)], np.float64)


def _kappa_of(sums: np.ndarray) -> np.ndarray:
    """Kappa of each row of `_kappa_sums`; NaN where it is undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        observed, *yes = (sums[:, 1:] / sums[:, :1]).T
        one, other = yes if len(yes) == 2 else [np.mean(yes, axis=0)] * 2
        chance = one * other + (1 - one) * (1 - other)
        return np.where((chance < 1) & (len(yes) > 1), (observed - chance) / (1 - chance), np.nan)


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
