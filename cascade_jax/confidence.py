"""How well a cascade has done on a case, by its own account."""

import numpy as np

from cascade_jax.data.labels import EMIDEC, LabelTable

DOUBTFUL = 0.8  # a case whose expected Dice of the main target (the myocardium) is below this needs a look


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
