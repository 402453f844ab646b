"""The table of what a cascade says of each result, in which the most doubtful cases come first."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from cascade_jax.case_warnings import from_one_line, in_one_line
from cascade_jax.confidence import Confidence, most_doubtful_first
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import read_table, replacing
from cascade_jax.data.labels import LabelTable, display_name
from cascade_jax.report.text_tables import interval_text, number

CONFIDENCE_TABLE = "confidence.csv"
_OF_A_TARGET = ("expected_dice", "ml", "low_ml", "high_ml", "probability")


def columns(table: LabelTable) -> list[str]:
    """The titles of the table's columns."""
    of_targets = (f"{target}_{what}" for target in table.targets for what in _OF_A_TARGET)
    return ["case", *of_targets, "distance", "doubtful", "reason", "warnings", "weights"]


def write_confidence(folder: Path, cases: Mapping[str, Confidence], table: LabelTable) -> None:
    """Writes `folder/confidence.csv`, in which what is unknown is an empty field.

    Args:
        folder: where.
        cases: {case: what the cascade says of it}.
        table: of the labels.
    """
    with replacing(folder / CONFIDENCE_TABLE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns(table))
        for name, one in most_doubtful_first(cases).items():
            row: list[str] = [name]
            for target in table.targets:
                dice, probability = one.expected_dice[target], one.probability.get(target, math.nan)
                volumes = (one.volume_ml[target], *one.interval_ml.get(target, (math.nan, math.nan)))
                row += [_text(dice, 3), *(_text(value, 2) for value in volumes), _text(probability, 3)]
            row += [_text(one.distance, 2), "no" if one.doubtful is None else "yes", one.doubtful or ""]
            row += [in_one_line(one.warnings), one.weights]
            rows.writerow(row)


def read_confidence(folder: Path, table: LabelTable) -> dict[str, Confidence]:
    """What `write_confidence` wrote into that folder; nothing if it did not.

    Raises:
        CaseError: the file is no such table of these labels.
    """
    path = folder / CONFIDENCE_TABLE
    if not path.exists():
        return {}
    try:
        return {row["case"]: _confidence(row, table) for _, row in read_table(path)}
    except (ValueError, KeyError):  # a CaseError is a ValueError
        raise CaseError(path, "is no table of a cascade's confidence in these labels (see --labels_of)") from None


def confidence_rows(confidence: Confidence, table: LabelTable) -> list[tuple[str, list[str]]]:
    """Name of each target, expected Dice, volume, interval and probability, as texts for people."""
    rows = []
    for target in table.targets:
        volume, interval = confidence.volume_ml[target], confidence.interval_ml.get(target, (math.nan, math.nan))
        probability = confidence.probability.get(target)
        cells = [number(confidence.expected_dice[target]), number(volume, _one_decimal)]
        cells += [interval_text(interval, _one_decimal), number(probability)]
        rows.append((display_name(target), cells))
    return rows


def _one_decimal(value: float) -> str:
    """With one decimal."""
    return f"{value:.1f}"


def _text(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _confidence(row: Mapping[str, str], table: LabelTable) -> Confidence:
    def of_targets(what: str) -> dict[str, float]:
        return {target: _number(row[f"{target}_{what}"]) for target in table.targets}

    low, high = of_targets("low_ml"), of_targets("high_ml")
    return Confidence(
        of_targets("expected_dice"),
        of_targets("ml"),
        {target: (low[target], high[target]) for target in _known(low)},
        _known(of_targets("probability")),
        _number(row["distance"]),
        {"yes": row["reason"], "no": None}[row["doubtful"]],
        from_one_line(row.get("warnings") or ""),  # a table of an earlier version has neither
        row.get("weights") or "",
    )


def _number(field: str) -> float:
    """NaN for an empty field; raises ValueError for what is no finite number."""
    value = float(field) if field else math.nan
    if field and not math.isfinite(value):
        raise ValueError(f"{field!r} is no finite number")
    return value


def _known(values: Mapping[str, float]) -> dict[str, float]:
    return {target: value for target, value in values.items() if not math.isnan(value)}
