"""What a case's account is worth, learnt on cases that the networks had not seen: Dice, volume, probability, doubt.

`training/calibrating.py` learns it; here it is applied, and read and written as the file beside the model.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from cascade_jax.account import APPEARANCE, Account, TargetAccount
from cascade_jax.case_warnings import LOW_CONFIDENCE, UNLIKE_TRAINING, CaseWarning
from cascade_jax.confidence import Confidence, doubting, not_found, volumes_ml
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_json, write_text
from cascade_jax.data.labels import LabelTable, display_name

CONFIDENCE_FILE = "confidence.json"
# What is asked of an account, in this order; volumes as log(1 + ml). More of any never lowers what is said.
PRESENCE_FEATURES = ("raw_ml", "highest")
DICE_FEATURES = ("soft_dice", "stages_dice", "volume_ml")
_DIGITS = 3  # of probabilities; one of a target that is not drawn is at least a unit of the last below the threshold


def features(account: TargetAccount, names: Sequence[str]) -> np.ndarray:
    """Some of a target's numbers as models take them: float64 (feature,)."""
    values = np.array([getattr(account, name) for name in names], np.float64)
    return np.where([name.endswith("_ml") for name in names], np.log1p(values), values)


@dataclasses.dataclass(frozen=True)
class Linear:
    """intercept + sum of weights * features; no weight is below 0."""

    intercept: float
    weights: tuple[float, ...]

    def __call__(self, values: np.ndarray) -> float:
        return float(self.intercept + np.dot(self.weights, values))


@dataclasses.dataclass(frozen=True)
class Interval:
    """Quantiles of log(1 + true ml) - log(1 + ml of the labels): that of one in twenty, and of nineteen in twenty."""

    low: float
    high: float

    def around(self, volume_ml: float) -> tuple[float, float]:
        """The interval in ml around a volume, which it always contains."""
        low, high = (float(np.expm1(np.log1p(volume_ml) + residual)) for residual in (self.low, self.high))
        return max(0.0, min(low, volume_ml)), max(high, volume_ml)


@dataclasses.dataclass(frozen=True)
class TargetCalibration:
    """Of one target.

    Attributes:
        dice: the Dice where the target is drawn and is there.
        drawn, left_out: of the volume, where the target is drawn and where it is not.
        presence: the logit of the probability that it is there; None for the main target, which every case has.
        threshold: the target is not drawn where the probability is below; None where there was nothing to choose it by,
            since every known case has the target or none has.
    """

    dice: Linear
    drawn: Interval
    left_out: Interval
    presence: Linear | None
    threshold: float | None


@dataclasses.dataclass(frozen=True)
class AppearanceCalibration:
    """The known cases' appearance: their mean (feature,), standard deviations and, of what is so scaled, the inverse
    of the covariance (feature, feature); and the distance that one in twenty of them exceeds."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float

    def distance(self, appearance: Mapping[str, float]) -> float:
        """The Mahalanobis distance, in standard deviations; NaN where nothing was found to look at."""
        if not appearance:
            return float("nan")
        scaled = (np.array([appearance[name] for name in APPEARANCE]) - self.mean) / self.scale
        return float(np.sqrt(scaled @ np.array(self.precision) @ scaled))


class Decision(NamedTuple):
    """What is made of one target: whether it is drawn, the probability that it is there, and the expected Dice."""

    drawn: bool
    probability: float | None
    expected_dice: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Of every target of a table of labels.

    Attributes:
        table: of the labels.
        targets: {target: its calibration}.
        appearance: of the known cases.
        doubtful_below: a case whose expected Dice, the mean over targets, is below this needs a look.
        cases: how many it was learnt from.
    """

    table: LabelTable
    targets: Mapping[str, TargetCalibration]
    appearance: AppearanceCalibration
    doubtful_below: float
    cases: int

    def decide(self, account: Account) -> dict[str, Decision]:
        """What is made of each target. One is drawn where postprocessing left some of it, its probability is not below
        the threshold, and what it is a part of is drawn."""
        decisions: dict[str, Decision] = {}
        targets = self.table.targets
        for target in sorted(targets, key=lambda name: -len(targets[name])):  # what contains others comes before them
            of, known = account.targets[target], self.targets[target]
            around = None if target == self.table.main else decisions.get(self.table.container(target) or "")
            drawn = of.volume_ml > 0 and (around is None or around.drawn)
            probability = None
            if known.presence is not None:
                probability = float(expit(known.presence(features(of, PRESENCE_FEATURES))))
                if around is not None and around.probability is not None:
                    probability = min(probability, around.probability)
                probability = round(probability, _DIGITS)
                if known.threshold is not None:
                    drawn = drawn and probability >= known.threshold
                    if not drawn:
                        probability = min(probability, round(known.threshold - 10**-_DIGITS, _DIGITS))
            there = 1.0 if probability is None else probability
            dice = float(np.clip(known.dice(features(of, DICE_FEATURES)), 0.0, 1.0))
            decisions[target] = Decision(drawn, probability, there * dice if drawn else 1.0 - there)
        return {target: decisions[target] for target in targets}

    def settle(self, account: Account, labels: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, Confidence]:
        """The labels that agree with the probabilities, and what can be said of them.

        Args:
            account: of the case.
            labels: uint8 (depth, height, width), after postprocessing.
            spacing: mm along the same axes.

        Returns:
            uint8 labels, in which a target that is not drawn has become what else it could be (infarction normal
            myocardium, no-reflow infarction), and the confidence in them.
        """
        decisions = self.decide(account)
        for target, decision in decisions.items():
            if not decision.drawn and target != self.table.main:
                members = self.table.targets[target]
                labels = np.where(np.isin(labels, members), self.table.replacement(target), labels).astype(np.uint8)
        return labels, self.confidence(account, decisions, volumes_ml(labels, spacing, self.table))

    def confidence(
        self, account: Account, decisions: Mapping[str, Decision], volumes: Mapping[str, float]
    ) -> Confidence:
        """What can be said of a case.

        Args:
            account: of the case.
            decisions: what `decide` made of it.
            volumes: ml, of each target as it is drawn; NaN has no interval.
        """
        intervals = {
            target: (known.drawn if decisions[target].drawn else known.left_out).around(volumes[target])
            for target, known in self.targets.items()
            if not np.isnan(volumes[target])
        }
        confidence = Confidence(
            {target: round(decision.expected_dice, _DIGITS) for target, decision in decisions.items()},
            volumes,
            intervals,
            {target: one.probability for target, one in decisions.items() if one.probability is not None},
            self.appearance.distance(account.appearance),
        )
        if np.isnan(confidence.distance):
            return dataclasses.replace(confidence, doubtful=not_found(self.table))
        return doubting(confidence, self.reasons_to_doubt(confidence))

    def reasons_to_doubt(self, confidence: Confidence) -> list[CaseWarning]:
        """Why the outline of a heart that was found is doubtful, the most important reason first."""
        reasons = []
        if confidence.distance > self.appearance.limit:
            unlike = (
                f"image and outline look unlike those that the cascade is known on (distance {confidence.distance:.1f},"
                f" of which nineteen in twenty stay below {self.appearance.limit:.1f})"
            )
            reasons.append(CaseWarning(UNLIKE_TRAINING, unlike))
        mean = float(np.mean(list(confidence.expected_dice.values())))
        if mean < self.doubtful_below:
            worst = min(confidence.expected_dice, key=lambda target: confidence.expected_dice[target])
            dice = confidence.expected_dice[worst]
            of_all = f"the cascade expects a mean Dice of {mean:.2f}"
            low = f"{of_all}, of {dice:.2f} for the {display_name(worst)}" if len(self.targets) > 1 else of_all
            reasons.append(CaseWarning(LOW_CONFIDENCE, low))
        return reasons


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Writes a calibration as JSON; raises CaseError if the file cannot be written."""
    values = dataclasses.asdict(calibration) | {"table": calibration.table.to_json()}
    write_text(path, json.dumps(values, indent=1, allow_nan=False))


def read_calibration(path: Path, table: LabelTable) -> Calibration:
    """What `write_calibration` wrote.

    Args:
        path: the file.
        table: of the labels that it must be of.

    Raises:
        CaseError: the file cannot be read, is damaged, or is of other labels.
    """
    values = read_json(path)
    try:
        if values["table"] != table.to_json():
            raise CaseError(path, "is of other labels than the model beside it")
        return Calibration(
            table,
            {target: _read_target(values["targets"][target], target == table.main) for target in table.targets},
            _read_appearance(values["appearance"]),
            _number(values["doubtful_below"], 0.0, 1.0),
            int(_number(values["cases"], 1.0)),
        )
    except CaseError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, np.linalg.LinAlgError):
        raise CaseError(path, "is damaged: it is no calibration of a cascade's confidence") from None


def _number(value: Any, low: float = -1e6, high: float = 1e6) -> float:
    """A number within limits; raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r} is no number from {low:g} to {high:g}")
    return float(value)


def _numbers(values: Any, count: int, low: float = -1e6) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{count} numbers are needed")
    return tuple(_number(value, low) for value in values)


def _read_linear(values: Mapping, count: int) -> Linear:
    return Linear(_number(values["intercept"]), _numbers(values["weights"], count, 0.0))


def _read_interval(values: Mapping) -> Interval:
    low = _number(values["low"], -50.0, 50.0)
    return Interval(low, _number(values["high"], low, 50.0))


def _read_target(values: Mapping, main: bool) -> TargetCalibration:
    presence, threshold = values["presence"], values["threshold"]
    if (presence is None) != main or (main and threshold is not None):
        raise ValueError("every target but the main one has a probability")
    return TargetCalibration(
        _read_linear(values["dice"], len(DICE_FEATURES)),
        _read_interval(values["drawn"]),
        _read_interval(values["left_out"]),
        None if presence is None else _read_linear(presence, len(PRESENCE_FEATURES)),
        None if threshold is None else _number(threshold, 10**-_DIGITS, 1.0),
    )


def _read_appearance(values: Mapping) -> AppearanceCalibration:
    count = len(APPEARANCE)
    if not isinstance(values["precision"], list) or len(values["precision"]) != count:
        raise ValueError("the precision is a square matrix")
    precision = tuple(_numbers(row, count) for row in values["precision"])
    if not np.allclose(precision, np.transpose(precision)) or np.linalg.eigvalsh(precision).min() <= 0:
        raise ValueError("the precision is symmetric and positive definite")
    scale = _numbers(values["scale"], count, 1e-9)
    return AppearanceCalibration(_numbers(values["mean"], count), scale, precision, _number(values["limit"], 0.0))
