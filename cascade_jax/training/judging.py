"""How true a cascade's confidence is, on folds whose cases its calibration was not learnt from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cascade_jax.calibration import Calibration
from cascade_jax.data.labels import LabelTable
from cascade_jax.statistics import area_under_curve, wilson_interval
from cascade_jax.training.calibrating import Known, learn, outcome, split, worst_and_best


class Learnt(NamedTuple):
    """What a run learnt of its confidence.

    Attributes:
        calibration: from all cases.
        without: for each case the calibration that had not seen its group.
        judgement: what `judge` says of those.
    """

    calibration: Calibration
    without: list[Calibration]
    judgement: dict


def learn_and_judge(
    cases: Sequence[Known], groups: Sequence[Sequence[int]], table: LabelTable, *, sparing: bool = False
) -> Learnt | None:
    """Learns a calibration and judges it; None where there are too few cases to judge it by.

    Arguments as for `calibrating.learn`.
    """
    calibration = learn(cases, groups, table, sparing=sparing)
    without = learn_without_each(cases, groups, table, sparing=sparing)
    if calibration is None or without is None:
        return None
    return Learnt(calibration, without, judge(cases, without, table))


def learn_without_each(
    cases: Sequence[Known], groups: Sequence[Sequence[int]], table: LabelTable, *, sparing: bool = False
) -> list[Calibration] | None:
    """For each case the calibration that was learnt from the other groups alone; None where those are too few.

    Arguments as for `calibrating.learn`.
    """
    found: dict[int, Calibration] = {}
    groups = split(len(cases), groups)
    for group in groups:
        rest = [position for position in range(len(cases)) if position not in group]
        others = [[rest.index(position) for position in other] for other in groups if other is not group]
        calibration = learn([cases[position] for position in rest], others, table, sparing=sparing)
        if calibration is None:
            return None
        found |= dict.fromkeys(group, calibration)
    return [found[position] for position in range(len(cases))]


def judge(cases: Sequence[Known], calibrations: Sequence[Calibration], table: LabelTable) -> dict:
    """What calibrations that had not seen the cases said of them, against the truth.

    Args:
        cases: whose truth is known.
        calibrations: for each case one that was learnt without it.
        table: of the labels.

    Returns:
        {"n": cases; "mean" and "targets": {target}: {"expected" and "true" (mean Dice), "error" (mean absolute
        difference over cases), "before" (mean Dice without the decision by the probability; of targets)} and, of
        targets, {"present": cases that have it, "coverage" and "coverage_present": how often the interval holds the
        volume, over all cases and those that have it, "coverage_interval": Wilson's of the first, "width_ml": the
        intervals' median width, "area_under_curve": of the probability, NaN for the main target};
        "doubtful": {"all", "worst_fifth", "best_half", "unlike"}: shares that are called doubtful, and of all those
        that are so for their appearance}. Fractions; what is undefined is NaN.
    """
    decided = [calibration.decide(case.account) for case, calibration in zip(cases, calibrations, strict=True)]
    result: dict = {"n": len(cases), "targets": {}}
    outcomes = {
        target: [outcome(case, target, one[target].drawn) for case, one in zip(cases, decided, strict=True)]
        for target in table.targets
    }
    said = [
        calibration.confidence(case.account, one, {target: of[index].volume_ml for target, of in outcomes.items()})
        for index, (case, calibration, one) in enumerate(zip(cases, calibrations, decided, strict=True))
    ]
    for target, of in outcomes.items():
        truth = np.array([case.truth_ml[target] for case in cases])
        ends = np.array([one.interval_ml[target] for one in said])
        inside, present = (ends[:, 0] <= truth) & (truth <= ends[:, 1]), truth > 0
        expected = np.array([one.expected_dice[target] for one in said])
        scores = [one.probability.get(target, np.nan) for one in said]
        result["targets"][target] = _dice(expected, np.array([one.dice for one in of])) | {
            "before": float(np.mean([case.dice[target] for case in cases])),
            "present": int(present.sum()),
            "coverage": float(inside.mean()),
            "coverage_interval": wilson_interval(int(inside.sum()), len(cases)),
            "coverage_present": float(inside[present].mean()) if present.any() else float("nan"),
            "width_ml": float(np.median(ends[:, 1] - ends[:, 0])),
            "area_under_curve": float("nan") if np.isnan(scores).any() else area_under_curve(scores, present),
        }
    expected = np.array([np.mean(list(one.expected_dice.values())) for one in said])
    true = np.mean([[one.dice for one in of] for of in outcomes.values()], axis=0)
    doubtful = np.array([one.doubtful is not None for one in said])
    unlike = [not one.distance <= known.appearance.limit for one, known in zip(said, calibrations, strict=True)]
    worst, best = worst_and_best(true)
    result["mean"] = _dice(expected, true)
    result["doubtful"] = {
        "all": float(doubtful.mean()),
        "worst_fifth": float(doubtful[worst].mean()),
        "best_half": float(doubtful[best].mean()),
        "unlike": float(np.mean(unlike)),
    }
    return result


def _dice(expected: np.ndarray, true: np.ndarray) -> dict[str, float]:
    error = float(np.abs(expected - true).mean())
    return {"expected": float(expected.mean()), "true": float(true.mean()), "error": error}
