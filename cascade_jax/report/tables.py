"""The paper's tables, as Markdown and as JSON."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cascade_jax import metrics
from cascade_jax.data.files import write_text
from cascade_jax.data.labels import display_name
from cascade_jax.report import agreement, judgement, text_tables
from cascade_jax.report.text_tables import interval_text, number, percent, plain
from cascade_jax.statistics import bootstrap_interval

Cases = Mapping[str, Mapping[str, Mapping[str, float]]]  # {case: {target: {metric: value}}}
Row = tuple[str, str, str, Callable[[float], str]]  # title, target, metric, format

_METRICS: dict[str, tuple[str, Callable[[float], str]]] = {
    "dice": ("Dice %", percent),
    "volume_difference_mm3": ("VolDif mm3", plain),
    "hausdorff_mm": ("HSD mm", plain),
    "hausdorff_emidec_mm": ("HSD mm, the challenge's axes", plain),
    "volume_ratio_difference": ("ratio %", percent),
}

TITLES = {
    "table1": "Table 1. Stage one, cross-validation",
    "table2": "Table 2. Final result, cross-validation",
    "table3": "Table 3. Held-out cases: the folds' majority vote, and the mean of the folds on their own",
}

# What the cases of a table are called where the tables are compared, and the column that stands for all of them.
_RESULTS = {"table1": "stage one", "table2": "final result", "table3": "vote on held-out cases"}
_SUMMARY = {"table1": "mean", "table2": "mean", "table3": "ensemble"}


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


def intervals(columns: Sequence[Cases]) -> dict[str, dict[str, tuple[float, float]]]:
    """The 95 % bootstrap interval of each metric's mean over several columns' means; cases are drawn within columns.

    Returns:
        {target: {metric: (lower, upper)}}; NaN if a column has fewer than two cases whose value is not NaN.
    """
    first = next((case for cases in columns for case in cases.values()), {})
    return {
        target: {
            metric: bootstrap_interval([[case[target][metric] for case in cases.values()] for cases in columns])
            for metric in values
        }
        for target, values in first.items()
    }


def _summarised(table: str, columns: Mapping[str, Cases]) -> list[Cases]:
    """The columns whose cases the table's summary is of."""
    return [columns["ensemble"]] if table == "table3" else list(columns.values())


def text_rows(table: str, means: Mapping, interval: Mapping) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The titles of a table's columns, and its rows: a title and the cells.

    Args:
        table: its key in `TITLES`.
        means: what `summary_columns` returned.
        interval: what `intervals` returned; or {}, and there is no column of them.
    """
    titles = list(means)
    after = titles.index(_SUMMARY[table]) + 1
    shown = []
    for title, target, metric, form in rows(table, next(iter(means.values()))):
        cells = [number(mean[target][metric], form) for mean in means.values()]
        if interval:
            cells.insert(after, interval_text(interval[target][metric], form))
        shown.append((title, cells))
    return titles[:after] + ["95 % interval"] * bool(interval) + titles[after:], shown


def interval_note(table: str) -> str:
    """What the column of intervals shows."""
    within = "" if table == "table3" else " within folds"
    return f"95 % interval of the {_SUMMARY[table]}: by bootstrap over cases{within}."


def markdown(table: str, columns: Mapping[str, Cases], interval: Mapping) -> str:
    """One of `TITLES` as Markdown; below it, which cases a mean had to leave out.

    Args:
        table: its key in `TITLES`.
        columns: {column: {case: metrics}}.
        interval: what `intervals` returned for the columns that its summary is of.
    """
    means = summary_columns(table, columns)
    titles, shown = text_rows(table, means, interval)
    lines = [f"**{TITLES[table]}**", "", "| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    lines += [f"| {' | '.join([title, *cells])} |" for title, cells in shown]
    notes = [interval_note(table)]
    for title, target, metric, _ in rows(table, next(iter(means.values()))):
        for column, cases in columns.items():
            if names := metrics.undefined(cases, target, metric):
                counted = f"mean over {len(cases) - len(names)} of {len(cases)} cases"
                notes.append(f"{title}, {column}: {counted}, undefined for {', '.join(names)}.")
    return "\n".join([*lines, "", *notes]) + "\n"


def without_nan(value):
    """Nested mappings and lists of numbers and texts with None, JSON's null, in the place of NaN."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _infarct_statistics(
    results: Mapping[str, Mapping[str, Cases]], sizes: Mapping[str, Mapping[str, agreement.Sizes]]
) -> dict[str, dict[str, dict]]:
    """{table: `agreement.infarct_statistics` of the cases that its summary is of}."""
    statistics = {}
    for table, measured in sizes.items():
        cases = {name: case for column in _summarised(table, results[table]) for name, case in column.items()}
        statistics[table] = agreement.infarct_statistics(cases, measured)
    return statistics


def write(
    folder: Path,
    results: Mapping[str, Mapping[str, Cases]],
    sizes: Mapping[str, Mapping[str, agreement.Sizes]] | None = None,
    judged: Mapping | None = None,
) -> str:
    """Writes `tables.md` and `tables.json`, which also has every case's figures, and returns the Markdown.

    Args:
        folder: where to.
        results: {table: {column: {case: metrics}}}.
        sizes: {table: {case: `agreement.infarct_sizes`}}, of the challenge's labels: of these tables' infarcts there is
            more to say.
        judged: how true the confidence is, as `training.judging.judge` says; None leaves that out.
    """
    sizes = sizes or {}
    statistics = _infarct_statistics(results, sizes)
    interval = {table: intervals(_summarised(table, columns)) for table, columns in results.items()}
    texts = [markdown(table, columns, interval[table]) for table, columns in results.items()]
    if statistics:
        named = {_RESULTS[table]: found for table, found in statistics.items()}
        texts += [text_tables.in_markdown(table) for table in agreement.make_tables(named)]
    if judged:
        texts += [text_tables.in_markdown(table) for table in judgement.make_tables(judged)]
    stored: dict[str, dict] = {
        table: {
            "mean": summary_columns(table, columns),
            "interval": interval[table],
            "cases": columns,
        }
        for table, columns in results.items()
    }
    for table, found in statistics.items():
        stored[table] |= found | {"sizes": sizes[table]}
    if judged:
        stored["confidence"] = dict(judged)
    text = "\n".join(texts)
    write_text(folder / "tables.json", json.dumps(without_nan(stored), indent=1, allow_nan=False))
    write_text(folder / "tables.md", text)
    return text
