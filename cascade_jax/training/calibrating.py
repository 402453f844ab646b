"""Learns what an account is worth from cases that the networks had not seen, and judges it on cases left out of that.

There are tens of cases, not thousands: models of three or four numbers, held back by a ridge, with the signs known.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy.special import expit

from cascade_jax import metrics
from cascade_jax.account import APPEARANCE, Account, with_thickness
from cascade_jax.calibration import (
    DICE_FEATURES,
    PRESENCE_FEATURES,
    AppearanceCalibration,
    Calibration,
    Decision,
    Interval,
    Linear,
    TargetCalibration,
    features,
)
from cascade_jax.confidence import volumes_ml
from cascade_jax.data.case import Case
from cascade_jax.data.files import write_text
from cascade_jax.data.labels import LabelTable

ACCOUNTS_FILE = "accounts.json"
LEAST_CASES = 20  # fewer have no one in twenty
_LEAST_OF_A_KIND = 5  # with and without a target, to tell one from the other
_TAIL = 0.05  # of an interval, on each side
_GROUPS = 5  # that cases are dealt into where there are no folds
_RIDGE_DICE, _RIDGE_PRESENCE = 4.0, 0.3  # in cases: standardised features, so that the units do not matter
_SHRINKAGE = 0.1  # of the appearance's correlations
_THRESHOLDS = tuple(round(0.2 + 0.05 * step, 2) for step in range(10))  # to 0.65: 1 / (1 + Dice) is the ideal one
_MOST_OF_BEST = 0.1  # of the best half by the true Dice may be called doubtful
WORST, BEST = 0.2, 0.5  # shares of the cases


class Known(NamedTuple):
    """A case whose truth is known.

    Attributes:
        account: of the cascade that had not seen it.
        dice: {target: Dice of the labels after postprocessing}.
        truth_ml: {target: volume of the reader's}.
    """

    account: Account
    dice: Mapping[str, float]
    truth_ml: Mapping[str, float]


def known_case(account: Account, labels: np.ndarray, case: Case, table: LabelTable) -> Known:
    """A labelled case with what postprocessing left, uint8 (depth, height, width)."""
    dice = {
        target: metrics.dice(np.isin(labels, members), np.isin(case.labels, members))
        for target, members in table.targets.items()
    }
    return Known(account, dice, volumes_ml(case.labels, with_thickness(case.spacing), table))


def write_accounts(path: Path, known: Mapping[str, Known]) -> None:
    """Writes {case: {"account", "dice", "truth_ml"}} as JSON; raises CaseError if the file cannot be written."""
    values = {name: one._asdict() | {"account": dataclasses.asdict(one.account)} for name, one in known.items()}
    write_text(path, json.dumps(values, indent=1))


class Outcome(NamedTuple):
    """What a decision comes to for one target: the Dice and the volume of what is drawn in the end."""

    dice: float
    volume_ml: float


def outcome(known: Known, target: str, drawn: bool) -> Outcome:
    """What comes of drawing a target as postprocessing left it, or not."""
    volume = known.account.targets[target].volume_ml
    if drawn or not volume:
        return Outcome(known.dice[target], volume)
    return Outcome(float(known.truth_ml[target] == 0), 0.0)


def learn(
    cases: Sequence[Known], groups: Sequence[Sequence[int]], table: LabelTable, *, sparing: bool = False
) -> Calibration | None:
    """Learns a calibration.

    Models are fitted to all cases. What is read off their errors (thresholds, intervals) is read off cases that were
    left out of the fit, group by group.

    Args:
        cases: whose truth is known.
        groups: of their positions, such as the folds; with fewer than three, the cases are dealt into five.
        table: of the labels.
        sparing: of thresholds on the probability that do about equal good, take the lowest, which removes least. For
            cases that are not those to come, as `postprocess.choose_rules`.

    Returns:
        The calibration; None with fewer than `LEAST_CASES`.
    """
    if len(cases) < LEAST_CASES:
        return None
    left_out = _fits_without(cases, groups, table)
    thresholds = {target: _choose_threshold(cases, left_out, target, sparing) for target in table.targets}
    decided = [_with(fit, thresholds).decide(case.account) for fit, case in zip(left_out, cases, strict=True)]
    fitted = _with(_fit(cases, table), thresholds)
    targets = {}
    for target, of in fitted.targets.items():
        drawn = np.array([one[target].drawn for one in decided])
        volumes = [outcome(case, target, flag).volume_ml for case, flag in zip(cases, drawn, strict=True)]
        residuals = np.log1p([case.truth_ml[target] for case in cases]) - np.log1p(volumes)
        targets[target] = dataclasses.replace(
            of, drawn=_interval(residuals, drawn), left_out=_interval(residuals, ~drawn)
        )
    distances = np.array(
        [fit.appearance.distance(case.account.appearance) for fit, case in zip(left_out, cases, strict=True)]
    )
    known = distances[~np.isnan(distances)]
    limit = _upper(known, _TAIL) if known.size else 0.0
    doubtful_below = _choose_doubtful(cases, decided, ~(distances <= limit))
    appearance = dataclasses.replace(fitted.appearance, limit=limit)
    return Calibration(table, targets, appearance, doubtful_below, len(cases))


def split(count: int, groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of positions of `count` cases: those given, or, with fewer than three, five that are dealt."""
    given = [list(group) for group in groups if len(group)]
    if len(given) >= 3:
        return given
    shuffled = np.random.default_rng(0).permutation(count)
    return [sorted(map(int, group)) for group in np.array_split(shuffled, min(_GROUPS, count))]


# Fitting


def _fits_without(cases: Sequence[Known], groups: Sequence[Sequence[int]], table: LabelTable) -> list[Calibration]:
    """For each case the models that were fitted without its group."""
    fits: list[Calibration | None] = [None] * len(cases)
    for group in split(len(cases), groups):
        fit = _fit([case for position, case in enumerate(cases) if position not in group], table)
        for position in group:
            fits[position] = fit
    return [fit for fit in fits if fit is not None]


def _fit(cases: Sequence[Known], table: LabelTable) -> Calibration:
    """The models alone: without thresholds, intervals and limits, which are read off their errors."""
    empty = Interval(0.0, 0.0)
    targets = {}
    for target in table.targets:
        found = [case for case in cases if case.truth_ml[target] > 0 and case.account.targets[target].volume_ml > 0]
        dice = fit_ridge(_matrix(found, target, DICE_FEATURES), [case.dice[target] for case in found])
        presence = None
        if target != table.main:
            there = [case.truth_ml[target] > 0 for case in cases]
            presence = fit_logistic(_matrix(cases, target, PRESENCE_FEATURES), there)
        targets[target] = TargetCalibration(dice, empty, empty, presence, None)
    return Calibration(table, targets, _fit_appearance(cases), 0.0, len(cases))


def _with(fit: Calibration, thresholds: Mapping[str, float | None]) -> Calibration:
    targets = {name: dataclasses.replace(of, threshold=thresholds[name]) for name, of in fit.targets.items()}
    return dataclasses.replace(fit, targets=targets)


def _matrix(cases: Sequence[Known], target: str, names: Sequence[str]) -> np.ndarray:
    return np.array([features(case.account.targets[target], names) for case in cases]).reshape(len(cases), len(names))


def _standardised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values (case, feature) with mean 0 and deviation 1, and both; what never varies has deviation 1."""
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    return (values - mean) / scale, mean, scale


def fit_ridge(values: np.ndarray, wanted: Sequence[float]) -> Linear:
    """Least squares with a ridge and weights not below 0; of few cases the mean alone, of none 0.

    Args:
        values: float (case, feature).
        wanted: of each case.
    """
    wanted = np.asarray(wanted, np.float64)
    if len(wanted) < _LEAST_OF_A_KIND:
        return Linear(float(wanted.mean()) if wanted.size else 0.0, (0.0,) * values.shape[1])
    scaled, mean, scale = _standardised(values)
    ridge = np.sqrt(_RIDGE_DICE) * np.eye(scaled.shape[1])
    centred = np.concatenate([wanted - wanted.mean(), np.zeros(len(ridge))])
    weights = optimize.nnls(np.concatenate([scaled, ridge]), centred)[0] / scale
    return Linear(float(wanted.mean() - weights @ mean), tuple(map(float, weights)))


def fit_logistic(values: np.ndarray, there: Sequence[bool]) -> Linear:
    """Logistic regression with a ridge and weights not below 0.

    Where fewer than five cases are of a kind, the logit of that share alone, with half a case of each kind added.

    Args:
        values: float (case, feature).
        there: of each case.
    """
    wanted = np.asarray(there, np.float64)
    share = (wanted.sum() + 0.5) / (len(wanted) + 1)
    intercept = float(np.log(share / (1 - share)))
    if min(wanted.sum(), (1 - wanted).sum()) < _LEAST_OF_A_KIND:
        return Linear(intercept, (0.0,) * values.shape[1])
    scaled, mean, scale = _standardised(values)

    def loss(parameters):
        logits = parameters[0] + scaled @ parameters[1:]
        errors = expit(logits) - wanted
        value = np.logaddexp(0, logits).sum() - wanted @ logits + _RIDGE_PRESENCE * (parameters[1:] ** 2).sum() / 2
        gradient = np.concatenate([[errors.sum()], scaled.T @ errors + _RIDGE_PRESENCE * parameters[1:]])
        return value, gradient

    start = np.concatenate([[intercept], np.zeros(scaled.shape[1])])
    bounds = [(None, None), *[(0.0, None)] * scaled.shape[1]]
    parameters = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = np.maximum(parameters[1:], 0.0) / scale
    return Linear(float(parameters[0] - weights @ mean), tuple(map(float, weights)))


def _fit_appearance(cases: Sequence[Known]) -> AppearanceCalibration:
    known = [case.account.appearance for case in cases if case.account.appearance]
    values = np.array([[one[name] for name in APPEARANCE] for one in known]).reshape(-1, len(APPEARANCE))
    if not len(values):
        values = np.zeros((1, len(APPEARANCE)))
    scaled, mean, scale = _standardised(values)
    covariance = (1 - _SHRINKAGE) * scaled.T @ scaled / len(scaled) + _SHRINKAGE * np.eye(len(APPEARANCE))
    precision = np.linalg.inv(covariance)
    rows = ((precision + precision.T) / 2).tolist()
    return AppearanceCalibration(tuple(mean.tolist()), tuple(scale.tolist()), tuple(map(tuple, rows)), 0.0)


# Reading off errors


def _upper(values: np.ndarray, tail: float) -> float:
    """What a further value exceeds with a probability of `tail` at most, if there are enough; else the largest.

    The (n + 1)(1 - tail)th smallest of n (conformal prediction: Vovk et al. 2005, Algorithmic Learning in a Random
    World).
    """
    rank = int(np.ceil((len(values) + 1) * (1 - tail) - 1e-9))
    return float(np.sort(values)[min(rank, len(values)) - 1])


def _interval(residuals: np.ndarray, chosen: np.ndarray) -> Interval:
    """Of the chosen cases, or of all where those are too few to have one in twenty."""
    values = residuals[chosen] if chosen.sum() >= LEAST_CASES - 1 else residuals
    return Interval(-_upper(-values, _TAIL), _upper(values, _TAIL))


def _choose_threshold(
    cases: Sequence[Known], left_out: Sequence[Calibration], target: str, sparing: bool
) -> float | None:
    """The threshold on the probability with the highest mean Dice, and of those the one nearest to a half.

    None for the main target and what contains it, and where too few cases have the target or lack it.
    """
    table = left_out[0].table
    there = sum(case.truth_ml[target] > 0 for case in cases)
    if set(table.targets[target]) >= set(table.targets[table.main]):
        return None
    if min(there, len(cases) - there) < _LEAST_OF_A_KIND:
        return None
    nothing = dict.fromkeys(table.targets)
    dice = {}
    for threshold in _THRESHOLDS:
        decided = [
            _with(fit, nothing | {target: threshold}).decide(case.account)
            for fit, case in zip(left_out, cases, strict=True)
        ]
        dice[threshold] = np.array(
            [outcome(case, target, one[target].drawn).dice for case, one in zip(cases, decided, strict=True)]
        )
    best = max(_THRESHOLDS, key=lambda one: (round(dice[one].mean(), 9), -abs(one - 0.5)))
    if sparing:
        return next(one for one in _THRESHOLDS if not _stands_out(dice[best] - dice[one]))
    return best


def _stands_out(differences: np.ndarray) -> bool:
    """Whether the mean over cases is above 0 by more than one standard error."""
    return bool(differences.mean() > differences.std(ddof=1) / np.sqrt(len(differences)) + 1e-9)


def mean_expected(decisions: Mapping[str, Decision]) -> float:
    """The expected Dice of a case, the mean over targets."""
    return float(np.mean([one.expected_dice for one in decisions.values()]))


def mean_true(case: Known, decisions: Mapping[str, Decision]) -> float:
    """The true Dice of a case, the mean over targets."""
    return float(np.mean([outcome(case, target, one.drawn).dice for target, one in decisions.items()]))


def worst_and_best(true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the worst fifth and of the best half of cases by their true mean Dice."""
    order = np.argsort(true, kind="stable")
    return order[: max(1, round(WORST * len(true)))], order[len(true) - round(BEST * len(true)) :]


def _choose_doubtful(cases: Sequence[Known], decided: Sequence[Mapping[str, Decision]], unlike: np.ndarray) -> float:
    """The expected mean Dice below which a case is doubtful: that which finds most of the worst fifth, while at most a
    tenth of the best half is called doubtful too, for their appearance or this; of equal ones the lowest.

    Args:
        cases: whose truth is known.
        decided: what was decided of each by models that had not seen it.
        unlike: bool, whether each is doubtful anyway.
    """
    expected = np.array([mean_expected(one) for one in decided])
    true = np.array([mean_true(case, one) for case, one in zip(cases, decided, strict=True)])
    worst, best = worst_and_best(true)
    levels = np.unique(expected)
    candidates = [0.0, *((levels[1:] + levels[:-1]) / 2)]
    flagged = [unlike | (expected < candidate) for candidate in candidates]
    allowed = [index for index, flags in enumerate(flagged) if flags[best].mean() <= _MOST_OF_BEST]
    return float(candidates[max(allowed, key=lambda index: flagged[index][worst].sum(), default=0)])
