"""Two folders of labels, a prediction and the truth, to every case's metrics and what the cohort says of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cascade_jax import metrics
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError, number_of_cases
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name
from cascade_jax.report.agreement import Sizes, infarct_sizes, infarct_statistics, make_tables
from cascade_jax.report.tables import intervals
from cascade_jax.report.text_tables import aligned


def _evaluate_files(
    prediction: Path, truth: Path, table: LabelTable
) -> tuple[dict[str, dict[str, float]], Sizes | None]:
    """A case's metrics, and of the challenge's labels its infarct's sizes."""
    true_labels, spacing = emidec.read_labels(truth, table)
    labels, _ = emidec.read_labels(prediction, table, like=emidec.read_geometry(truth), name="the truth")
    evaluated = metrics.evaluate_labels(labels, true_labels, spacing, table)
    return evaluated, infarct_sizes(labels, true_labels, spacing) if table == EMIDEC else None


def evaluate_folders(
    prediction: Path, truth: Path, progress=lambda iterable, description: iterable, table: LabelTable = EMIDEC
) -> dict:
    """Evaluates every case of the truth; one that fails does not keep the others from it.

    Args:
        prediction: predicted labels in the challenge's layout.
        truth: true labels in the same layout.
        progress: wraps the loop with a bar.
        table: which labels there are, and what is evaluated.

    Returns:
        {"cases": {case: {target: {metric: value}}}, "mean": {target: {metric: value}}, "failed": {case: reason},
        "interval": {target: {metric: (lower, upper)}}}, as fractions, mm and mm3; the 95 % bootstrap interval of the
        mean. A mean leaves out NaN. Of the challenge's labels also what `report.agreement.infarct_statistics` returns:
        "infarcted", "agreement" and "detection".

    Raises:
        CaseError: one of the folders holds no labels at all.
    """
    failed: dict[str, str] = {}
    true = folders.find_contours(truth, faults=failed)
    predicted = folders.find_contours(prediction, faults=failed)
    for name in predicted.keys() - true.keys():
        failed.setdefault(name, "predicted, but there is no truth")
    cases, sizes = {}, {}
    for name in progress(sorted(true), f"evaluating {number_of_cases(len(true))}"):
        if name not in predicted:
            failed.setdefault(name, f"{prediction}: holds no labels of this case")
            continue
        try:
            cases[name], sizes[name] = _evaluate_files(predicted[name], true[name], table)
        except CaseError as error:
            failed[name] = str(error)
    result = {"cases": cases, "mean": metrics.summarise(cases), "failed": dict(sorted(failed.items()))}
    result["interval"] = intervals([cases])
    return result | (infarct_statistics(cases, sizes) if table == EMIDEC else {})


_METRICS = {
    "dice": ("Dice", "{:.3f}"),
    "volume_difference_mm3": ("VolDif mm3", "{:.1f}"),
    "hausdorff_mm": ("HSD mm", "{:.2f}"),
    "hausdorff_emidec_mm": ("HSD mm*", "{:.2f}"),
    "volume_ratio_difference": ("ratio", "{:.4f}"),
}
_WIDTH = 12


def as_text(result: Mapping) -> str:
    """What `evaluate_folders` returned as tables for a terminal, with what the means leave out."""

    def line(name, values):
        return f"{name:<16}" + "".join(
            f"{'-' if np.isnan(values[target][metric]) else form.format(values[target][metric]):>{_WIDTH}}"
            for target, metric, _, form in columns
        )

    mean = result["mean"]
    columns = [(target, metric, *_METRICS[metric]) for target, values in mean.items() for metric in values]
    targets = "".join(f"{display_name(target):^{_WIDTH * len(values)}}" for target, values in mean.items())
    header = f"{'case':<16}" + "".join(f"{title:>{_WIDTH}}" for _, _, title, _ in columns)
    lines = [f"{'':<16}{targets}".rstrip(), header]
    lines += [line(name, values) for name, values in result["cases"].items()]
    if mean:
        lines.append(line("mean", mean))
        for end, name in enumerate(("95 % from", "95 % to")):
            ends = {
                target: {metric: interval[end] for metric, interval in values.items()}
                for target, values in result["interval"].items()
            }
            lines.append(line(name, ends))
    if any(metric == "hausdorff_emidec_mm" for _, metric, _, _ in columns):
        lines.append("HSD mm*: with the axes as the challenge's own code has them, to compare with published figures.")
    total = len(result["cases"])
    for target, metric, title, _ in columns:
        if names := metrics.undefined(result["cases"], target, metric):
            lines.append(
                f"{target} {title}: mean over {total - len(names)} of {total} cases, undefined for {', '.join(names)}"
            )
    if mean and "detection" in result:
        lines += ["\n" + aligned(table) for table in make_tables({"": result})]
    return "\n".join(lines)
