"""What a cascade says of its own result on a case: the one place where a report learns it."""

import dataclasses
import math
from pathlib import Path

from cascade_jax.confidence import DOUBTFUL
from cascade_jax.data.labels import LabelTable, display_name
from cascade_jax.quantify.quantities import MYOCARDIUM_DENSITY_G_PER_ML
from cascade_jax.report.expected_dice import read_expected_dice


@dataclasses.dataclass(frozen=True)
class Account:
    """What a cascade says of its own result; what it does not say is None or empty.

    Attributes:
        doubt: 0 to 1, by which cases without truth are sorted.
        reason: why a reader should look, in a sentence; empty if there is none.
        infarct_interval_ml: lower and upper end of what the infarct's volume may be.
        interval_level: how often such an interval holds the true value, 0 to 1.
        infarct_probability: 0 to 1, that there is an infarct.
    """

    doubt: float | None = None
    reason: str = ""
    infarct_interval_ml: tuple[float, float] | None = None
    interval_level: float | None = None
    infarct_probability: float | None = None

    def interval_of(self, quantity: str) -> tuple[float, float] | None:
        """The interval of a quantity by its column's name, such as `infarct_g`; None where none is known."""
        if self.infarct_interval_ml is None:
            return None
        lower, upper = self.infarct_interval_ml
        density = {"infarct_ml": 1.0, "infarct_g": MYOCARDIUM_DENSITY_G_PER_ML}.get(quantity)
        return None if density is None else (lower * density, upper * density)


def read_accounts(folder: Path, table: LabelTable) -> dict[str, Account]:
    """What a cascade wrote beside the labels in a folder, {case: account}; nothing if no cascade did.

    Doubt is 1 minus the Dice that it expects of the main target.

    Raises:
        CaseError: a table there is of other labels, or none.
    """
    accounts = {}
    for name, expected in read_expected_dice(folder, table).items():
        dice = expected[table.main]
        if math.isnan(dice):
            continue
        reason = f"doubtful: the cascade expects a Dice of {dice:.2f} for the {display_name(table.main)}"
        accounts[name] = Account(1 - dice, reason if dice < DOUBTFUL else "")
    return accounts
