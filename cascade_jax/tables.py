"""The paper's tables, as Markdown and as JSON."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cascade_jax import metrics
from cascade_jax.data.files import write_text

Cases = Mapping[str, Mapping[str, Mapping[str, float]]]  # {case: {target: {metric: value}}}


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _plain(value: float) -> str:
    return f"{value:.2f}"


Row = tuple[str, str, str, Callable[[float], str]]  # title, target, metric, format

_DICE_ROWS: tuple[Row, ...] = (
    ("myocardium Dice %", "myocardium", "dice", _percent),
    ("infarction Dice %", "infarction", "dice", _percent),
    ("no-reflow Dice %", "no_reflow", "dice", _percent),
)
_ALL_ROWS: tuple[Row, ...] = (
    ("myocardium Dice %", "myocardium", "dice", _percent),
    ("myocardium VolDif mm3", "myocardium", "volume_difference_mm3", _plain),
    ("myocardium HSD mm", "myocardium", "hausdorff_mm", _plain),
    ("myocardium HSD mm, the challenge's axes", "myocardium", "hausdorff_emidec_mm", _plain),
    ("infarction Dice %", "infarction", "dice", _percent),
    ("infarction VolDif mm3", "infarction", "volume_difference_mm3", _plain),
    ("infarction ratio %", "infarction", "volume_ratio_difference", _percent),
    ("no-reflow Dice %", "no_reflow", "dice", _percent),
    ("no-reflow VolDif mm3", "no_reflow", "volume_difference_mm3", _plain),
    ("no-reflow ratio %", "no_reflow", "volume_ratio_difference", _percent),
)

TITLES = {
    "table1": "Table 1. Stage one, cross-validation",
    "table2": "Table 2. Final result, cross-validation",
    "table3": "Table 3. Held-out cases: the folds' majority vote, and the mean of the folds on their own",
}
ROWS = {"table1": _DICE_ROWS, "table2": _ALL_ROWS, "table3": _ALL_ROWS}


def mean_of_columns(columns: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean over several columns' means, as the paper averages its folds; NaN columns are left out."""
    return metrics.summarise(dict(enumerate(columns)))


def summary_columns(table: str, columns: Mapping[str, Cases]) -> dict[str, dict[str, dict[str, float]]]:
    """What a table shows: {column: {target: {metric: mean}}}.

    Tables 1 and 2 show each fold and the folds' mean; Table 3 the vote, and the means of the folds on their own.
    """
    means = {column: metrics.summarise(cases) for column, cases in columns.items()}
    if table != "table3":
        return means | {"mean": mean_of_columns(list(means.values()))}
    alone = {
        f"{kind}, mean of folds": mean_of_columns([mean for column, mean in means.items() if column.startswith(kind)])
        for kind in ("stage 1", "final")
    }
    return {"ensemble": means["ensemble"]} | alone


def markdown(table: str, columns: Mapping[str, Cases]) -> str:
    """One of `TITLES` as Markdown; below it, which cases a mean had to leave out.

    Args:
        table: its key in `TITLES`.
        columns: {column: {case: metrics}}.
    """
    shown = summary_columns(table, columns)
    lines = [f"**{TITLES[table]}**", "", "| | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for title, target, metric, form in ROWS[table]:
        values = [mean[target][metric] for mean in shown.values()]
        lines.append(f"| {title} | " + " | ".join("-" if math.isnan(v) else form(v) for v in values) + " |")
    left_out = []
    for title, target, metric, _ in ROWS[table]:
        for column, cases in columns.items():
            if names := metrics.undefined(cases, target, metric):
                counted = f"mean over {len(cases) - len(names)} of {len(cases)} cases"
                left_out.append(f"{title}, {column}: {counted}, undefined for {', '.join(names)}.")
    return "\n".join(lines + (["", *left_out] if left_out else [])) + "\n"


def without_nan(value):
    """A nested mapping of numbers and texts with None, JSON's null, in the place of NaN."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def as_json(results: Mapping[str, Mapping[str, Cases]]) -> dict:
    """All tables with their means and every case's metrics; NaN becomes None.

    Args:
        results: {table: {column: {case: metrics}}}.
    """
    return without_nan(
        {table: {"mean": summary_columns(table, columns), "cases": columns} for table, columns in results.items()}
    )


def write(folder: Path, results: Mapping[str, Mapping[str, Cases]]) -> str:
    """Writes `tables.md` and `tables.json`, and returns the Markdown.

    Args:
        folder: where to.
        results: {table: {column: {case: metrics}}}.
    """
    text = "\n".join(markdown(table, columns) for table, columns in results.items())
    write_text(folder / "tables.json", json.dumps(as_json(results), indent=1, allow_nan=False))
    write_text(folder / "tables.md", text)
    return text
