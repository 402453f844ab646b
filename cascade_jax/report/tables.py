"""The paper's tables, as Markdown and as JSON."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cascade_jax import metrics
from cascade_jax.data.files import write_text
from cascade_jax.data.labels import display_name

Cases = Mapping[str, Mapping[str, Mapping[str, float]]]  # {case: {target: {metric: value}}}


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _plain(value: float) -> str:
    return f"{value:.2f}"


Row = tuple[str, str, str, Callable[[float], str]]  # title, target, metric, format

_METRICS: dict[str, tuple[str, Callable[[float], str]]] = {
    "dice": ("Dice %", _percent),
    "volume_difference_mm3": ("VolDif mm3", _plain),
    "hausdorff_mm": ("HSD mm", _plain),
    "hausdorff_emidec_mm": ("HSD mm, the challenge's axes", _plain),
    "volume_ratio_difference": ("ratio %", _percent),
}

TITLES = {
    "table1": "Table 1. Stage one, cross-validation",
    "table2": "Table 2. Final result, cross-validation",
    "table3": "Table 3. Held-out cases: the folds' majority vote, and the mean of the folds on their own",
}


def rows(table: str, mean: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """What each row of a table shows, by what one of its columns holds; Table 1 has Dice alone, as the paper's."""
    return [
        (f"{display_name(target)} {_METRICS[metric][0]}", target, metric, _METRICS[metric][1])
        for target, values in mean.items()
        for metric in values
        if table != "table1" or metric == "dice"
    ]


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
    shown_rows = rows(table, next(iter(shown.values())))
    lines = [f"**{TITLES[table]}**", "", "| | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for title, target, metric, form in shown_rows:
        values = [mean[target][metric] for mean in shown.values()]
        lines.append(f"| {title} | " + " | ".join("-" if math.isnan(v) else form(v) for v in values) + " |")
    left_out = []
    for title, target, metric, _ in shown_rows:
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
