"""The table of the Dice that a cascade expects of each case, in which the most doubtful come first."""

import csv
from pathlib import Path

import numpy as np

from cascade_jax.confidence import DOUBTFUL
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import replacing
from cascade_jax.data.labels import LabelTable

EXPECTED_DICE_FILE = "expected_dice.csv"


def ranked(expected: dict[str, dict[str, float]], table: LabelTable) -> dict[str, dict[str, float]]:
    """The cases by the Dice expected of the main target, the lowest first."""
    return dict(sorted(expected.items(), key=lambda item: item[1][table.main]))


def write_expected_dice(folder: Path, expected: dict[str, dict[str, float]], table: LabelTable) -> None:
    """Writes `folder/expected_dice.csv`.

    Args:
        folder: where.
        expected: {case: {target: expected Dice}}, as `confidence.expected_dice` gives it.
        table: of the labels.
    """
    with replacing(folder / EXPECTED_DICE_FILE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["case", *table.targets, "doubtful"])
        for name, dice in ranked(expected, table).items():
            values = ["" if np.isnan(dice[target]) else f"{dice[target]:.3f}" for target in table.targets]
            rows.writerow([name, *values, "yes" if dice[table.main] < DOUBTFUL else "no"])


def read_expected_dice(folder: Path, table: LabelTable) -> dict[str, dict[str, float]]:
    """What `write_expected_dice` wrote into that folder; nothing if it did not.

    Raises:
        CaseError: the file is no such table of these labels.
    """
    path = folder / EXPECTED_DICE_FILE
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                row["case"]: {target: float(row[target] or "nan") for target in table.targets}
                for row in csv.DictReader(file)
            }
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise CaseError(path, "is no table of expected Dice of these labels (see --labels_of)") from None
