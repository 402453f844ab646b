"""What a cascade says of its own result on a case: the one place where a report learns it."""

import dataclasses
import math
from pathlib import Path

from cascade_jax.case_warnings import OF_LABELS, CaseWarning
from cascade_jax.confidence import Confidence, most_doubtful_first
from cascade_jax.data.labels import LabelTable
from cascade_jax.quantify.quantities import MYOCARDIUM_DENSITY_G_PER_ML
from cascade_jax.report.confidence import read_confidence


@dataclasses.dataclass(frozen=True)
class Account:
    """What a cascade says of its own result; what it does not say is None or empty.

    Attributes:
        confidence: all of it.
        rank: its place among the cases of which something is said, the most doubtful first.
    """

    confidence: Confidence | None = None
    rank: int | None = None

    @property
    def doubt(self) -> float | None:
        """1 minus the mean Dice that is expected (`Confidence.mean_expected_dice`)."""
        if self.confidence is None or math.isnan(self.confidence.mean_expected_dice):
            return None
        return 1 - self.confidence.mean_expected_dice

    @property
    def reason(self) -> str:
        """Why the outline is doubtful, in words; empty if it is not."""
        return (self.confidence and self.confidence.doubtful) or ""

    @property
    def warnings(self) -> list[CaseWarning]:
        """What to look at, but for what the labels themselves say."""
        said = self.confidence.warnings if self.confidence else ()
        return [warning for warning in said if warning.code not in OF_LABELS]

    @property
    def infarct_probability(self) -> float | None:
        """That there is an infarct, 0 to 1."""
        return self.confidence.probability.get("infarction") if self.confidence else None

    def interval_of(self, quantity: str) -> tuple[float, float] | None:
        """The interval of a quantity by its column's name, such as `infarct_g`; None where none is known."""
        interval = self.confidence.interval_ml.get("infarction") if self.confidence else None
        if interval is None:
            return None
        lower, upper = interval
        density = {"infarct_ml": 1.0, "infarct_g": MYOCARDIUM_DENSITY_G_PER_ML}.get(quantity)
        return None if density is None else (lower * density, upper * density)


def read_accounts(folder: Path, table: LabelTable) -> dict[str, Account]:
    """What a cascade wrote beside the labels in a folder, {case: account}; nothing if no cascade did.

    Raises:
        CaseError: a table there is of other labels, or none.
    """
    said = most_doubtful_first(read_confidence(folder, table))
    return {name: Account(confidence, rank) for rank, (name, confidence) in enumerate(said.items())}
