"""Whether training has made weights better than those that it started from, on cases that it left out."""

import json
from typing import NamedTuple

import numpy as np

from cascade_jax.data import emidec
from cascade_jax.data.files import write_text
from cascade_jax.data.labels import LabelTable, display_name
from cascade_jax.metrics import evaluate_labels
from cascade_jax.report.text_tables import Table, in_markdown, percent
from cascade_jax.training.crossval import CrossValidation

COMPARISON_FILE = "comparison.json"


class Comparison(NamedTuple):
    """The Dice of two sets of weights on the same cases.

    Attributes:
        names: of the cases.
        before, after: float (case, target), of the weights at the start, and of those trained without the case.
        table: of the labels.
    """

    names: list[str]
    before: np.ndarray
    after: np.ndarray
    table: LabelTable

    @property
    def gain(self) -> tuple[float, float]:
        """By how much the mean Dice over targets rises, the mean over cases and its standard error."""
        gains = (self.after - self.before).mean(axis=1)
        error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
        return float(gains.mean()), float(error)

    @property
    def better(self) -> bool:
        """Whether the mean over cases rises by more than its standard error."""
        gain, error = self.gain
        return gain > error


def compare_with_start(run: CrossValidation) -> Comparison:
    """Segments every case with the weights at the start, and takes the final labels of the fold that had not seen it.

    Raises:
        CaseError: a case or a final label cannot be read.
    """
    table, names = run.plan.labels, [name for fold in run.folds for name in fold]
    dice: dict[str, list] = {"before": [], "after": []}
    for name in run.progress(names, "segmenting with the weights at the start"):
        case = emidec.read_case(run.files[name], table)
        final = emidec.read_labels(emidec.contour_path(run.workdir / "predictions" / "final", name), table)[0]
        for key, labels in (("before", run.initial.segment_case(case).labels), ("after", final)):
            evaluated = evaluate_labels(labels, case.labels, case.spacing, table)
            dice[key].append([evaluated[target]["dice"] for target in table.targets])
    return Comparison(names, np.array(dice["before"]), np.array(dice["after"]), table)


def as_text(comparison: Comparison, start: str, trained: str) -> str:
    """The comparison as a table, and what follows from it.

    Args:
        comparison: of both.
        start: what the weights at the start are called.
        trained: where those trained on every case lie.
    """
    targets = [display_name(target) for target in comparison.table.targets]
    rows = [
        [name, *(percent(value) for value in dice.mean(axis=0))]
        for name, dice in (("before", comparison.before), ("after", comparison.after))
    ]
    raised = int(((comparison.after - comparison.before).mean(axis=1) > 0).sum())
    gain, error = comparison.gain
    changed = (
        f"On {len(comparison.names)} cases, each left out of the training that it judges, the mean Dice changes by "
        f"{100 * gain:+.1f} points (standard error {100 * error:.1f}) and rises in {raised}."
    )
    if comparison.better:
        verdict = f"The new weights are better. Use them: --weights={trained}"
    else:
        verdict = f"The new weights are not better by more than the standard error: stay with {start}."
    table = Table("Before and after", ["", *(f"{target} Dice %" for target in targets)], rows, f"{changed} {verdict}")
    return in_markdown(table)


def write_comparison(run: CrossValidation, comparison: Comparison) -> None:
    """Writes `comparison.json` into the working folder: each case's Dice before and after, and the verdict."""

    def by_target(values: np.ndarray) -> dict[str, float]:
        return dict(zip(comparison.table.targets, map(float, values), strict=True))

    cases = {
        name: {"before": by_target(before), "after": by_target(after)}
        for name, before, after in zip(comparison.names, comparison.before, comparison.after, strict=True)
    }
    gain, error = comparison.gain
    result = {"cases": cases, "gain": gain, "standard_error": error, "better": comparison.better}
    write_text(run.workdir / COMPARISON_FILE, json.dumps(result, indent=1))
