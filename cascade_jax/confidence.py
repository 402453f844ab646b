"""How well a cascade has done on a case, by its own account."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cascade_jax.case_warnings import LOW_CONFIDENCE, CaseWarning
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name

DOUBTFUL = 0.8  # without a calibration, a case whose expected Dice of the main target is below this needs a look


@dataclasses.dataclass(frozen=True)
class Confidence:
    """What a cascade says about its result of one case.

    Attributes:
        expected_dice: of each target, as the challenge counts it: 1 where it is neither drawn nor there. Without a
            calibration what `expected_dice` gives, NaN for a target that is not drawn.
        volume_ml: of each target's labels; NaN for a single slice of unknown thickness.
        interval_ml: {target: (low, high)} that holds the true volume in nine of ten cases; {} without a calibration or
            a thickness.
        probability: of each target but the main one, that the heart has it at all; {} without a calibration.
        distance: of the appearance of image and outline from that of the known cases, in their standard deviations
            (Mahalanobis); NaN without a calibration or an outline.
        doubtful: why the outline is doubtful, in words; None if it is not.
        warnings: all that a reader should look at, each with its code: the doubt, slices, spacing, orientation.
        weights: which ones drew the outline (`Cascade.weights`); empty where that is not known.
    """

    expected_dice: Mapping[str, float]
    volume_ml: Mapping[str, float]
    interval_ml: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    probability: Mapping[str, float] = dataclasses.field(default_factory=dict)
    distance: float = float("nan")
    doubtful: str | None = None
    warnings: tuple[CaseWarning, ...] = ()
    weights: str = ""

    @property
    def mean_expected_dice(self) -> float:
        """Over the targets where all have one, as with a calibration; else the first target's."""
        expected = list(self.expected_dice.values())
        mean = float(np.mean(expected))
        return mean if self.probability and not np.isnan(mean) else expected[0]


def not_found(table: LabelTable) -> str:
    """The reason to doubt a case in which the main target was not found."""
    return f"no {display_name(table.main)} was found"


def volumes_ml(labels: np.ndarray, spacing: Sequence[float], table: LabelTable) -> dict[str, float]:
    """The volume of each target's labels (depth, height, width), by the spacing in mm; NaN where that is."""
    voxel_ml = float(np.prod(np.asarray(spacing, np.float64))) / 1000
    counts = np.bincount(labels.ravel(), minlength=len(table.names))
    return {target: float(counts[list(members)].sum() * voxel_ml) for target, members in table.targets.items()}


def uncalibrated(
    probabilities: np.ndarray, labels: np.ndarray, spacing: Sequence[float], table: LabelTable = EMIDEC
) -> Confidence:
    """What can be said without a calibration; arguments as for `expected_dice`, and the labels' spacing in mm."""
    expected = expected_dice(probabilities, labels, table)
    dice, said = expected[table.main], Confidence(expected, volumes_ml(labels, spacing, table))
    if not np.isin(labels, table.targets[table.main]).any():
        return dataclasses.replace(said, doubtful=not_found(table))
    if dice < DOUBTFUL:
        low = f"the cascade expects a Dice of {dice:.2f} for the {display_name(table.main)}"
        return doubting(said, [CaseWarning(LOW_CONFIDENCE, low)])
    return said


def doubting(confidence: Confidence, reasons: Sequence[CaseWarning]) -> Confidence:
    """The confidence with reasons to doubt the outline, of which the first is given; unchanged without any."""
    if not reasons:
        return confidence
    return dataclasses.replace(confidence, doubtful=reasons[0].text, warnings=(*reasons, *confidence.warnings))


def with_warnings(confidence: Confidence, warnings: Iterable[CaseWarning]) -> Confidence:
    """The confidence with more to look at."""
    return dataclasses.replace(confidence, warnings=(*confidence.warnings, *warnings))


def most_doubtful_first(cases: Mapping[str, Confidence]) -> dict[str, Confidence]:
    """The cases in the order in which to look at them: the doubtful ones, then the others, by `mean_expected_dice`."""

    def key(confidence: Confidence) -> tuple[bool, float]:
        return confidence.doubtful is None, confidence.mean_expected_dice

    return dict(sorted(cases.items(), key=lambda item: key(item[1])))


def doubt(probabilities: np.ndarray) -> np.ndarray:
    """The share of doubt in every voxel: 1 minus the highest mean probability over folds and mirror images.

    Args:
        probabilities: float (*spatial, class).

    Returns:
        float (*spatial), 0 where all are sure of the same label.
    """
    return 1.0 - probabilities.max(axis=-1)


def disagreement(counts: np.ndarray) -> np.ndarray:
    """The share of the folds that vote for another label than the one with most votes.

    Args:
        counts: integer (*spatial, class), how many folds voted for each label.

    Returns:
        float32 (*spatial), 0 where all agree, as everywhere if there is one fold only.
    """
    return (1.0 - counts.max(axis=-1) / counts.sum(axis=-1)).astype(np.float32)


def expected_dice(probabilities: np.ndarray, labels: np.ndarray, table: LabelTable = EMIDEC) -> dict[str, float]:
    """The Dice that labels would have on average, were truth drawn from the probabilities voxel by voxel.

    2 sum(p m) / (sum(p) + sum(m)), the sums over voxels, m the labels' mask and p the probability of the target.
    Folds and mirror images that disagree make the mean probability soft, which lowers it.

    Args:
        probabilities: float (*spatial, class), the mean over folds and mirror images.
        labels: integer (*spatial).
        table: which labels there are.

    Returns:
        {target: expected Dice, to three decimals} for the table's targets; NaN for a target that was not found, but 0
        for the first, since every case has that (the myocardium).
    """
    expected = {}
    for target, members in table.targets.items():
        mask = np.isin(labels, members)
        probability = probabilities[..., list(members)].sum(axis=-1, dtype=np.float64)
        if mask.any():
            expected[target] = round(float(2 * probability[mask].sum() / (probability.sum() + mask.sum())), 3)
        else:
            expected[target] = 0.0 if target == table.main else float("nan")
    return expected
