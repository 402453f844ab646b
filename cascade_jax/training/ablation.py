"""What each step of a cross-validated cascade gives: its figures without stage two, postprocessing or mirroring."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from cascade_jax.cascade import STAGES, Cascade, load
from cascade_jax.data import emidec, folders
from cascade_jax.data.files import read_json
from cascade_jax.data.labels import LabelTable, display_name
from cascade_jax.metrics import evaluate_labels
from cascade_jax.progress import Progress
from cascade_jax.report import tables
from cascade_jax.report.text_tables import Table, interval_text, number, percent

VARIANTS = (
    "stage one",
    "stage one, postprocessed",
    "both stages",
    "both stages, postprocessed: the result",
    "the result without mirror images",
)


def ablate(workdir: Path, root: Path, progress: Progress) -> Table:
    """A table of the mean Dice of every target, and of the first one's Hausdorff distance, for each of `VARIANTS`.

    All have the result's postprocessing, which was chosen with both stages and mirror images.

    Args:
        workdir: a finished cross-validation.
        root: the labelled cohort that it was trained on.
        progress: wraps loops with a bar.

    Raises:
        CaseError: the cross-validation is not finished, or a case or a prediction is missing.
    """
    cascade, folds = load(workdir), read_json(workdir / "folds.json")
    files = {file.name: file for file in folders.find_cases(root, labelled=True)}
    evaluated = {}
    for index, fold in enumerate(cascade.folds):
        params = jax.tree.map(lambda leaf, index=index: leaf[index : index + 1], cascade.params)
        unmirrored = Cascade(cascade.plan, cascade.networks, params, cascade.rules, (fold,), mirror=False)
        names = progress(folds[fold], f"fold {fold}: {len(folds[fold])} cases without mirror images")
        evaluated[f"fold {fold}"] = {name: _evaluate(workdir, files[name], cascade, unmirrored) for name in names}
    return _table(evaluated, cascade.plan.labels)


class _Evaluated(NamedTuple):
    """A validation case: which targets its reader has drawn, and the metrics of each variant."""

    present: dict[str, bool]
    variants: list[dict[str, dict[str, float]]]


def _evaluate(workdir: Path, file: folders.CaseFiles, cascade: Cascade, unmirrored: Cascade) -> _Evaluated:
    table = cascade.plan.labels
    case = emidec.read_case(file, table)
    stage1, stage2 = (
        emidec.read_labels(emidec.contour_path(workdir / "predictions" / stage, case.name), table)[0]
        for stage in STAGES
    )
    results = (
        stage1,
        cascade.postprocess(stage1, case),
        stage2,
        cascade.postprocess(stage2, case),
        unmirrored.segment_case(case).labels,
    )
    return _Evaluated(
        {target: bool(np.isin(case.labels, members).any()) for target, members in table.targets.items()},
        [evaluate_labels(labels, case.labels, case.spacing, table) for labels in results],
    )


def _table(folds: Mapping[str, Mapping[str, _Evaluated]], table: LabelTable) -> Table:
    cases = [case for fold in folds.values() for case in fold.values()]
    found = {target: [case for case in cases if case.present[target]] for target in table.targets}
    some = {target: having for target, having in found.items() if 0 < len(having) < len(cases)}
    header, rows = [""], []
    for target in table.targets:
        name = display_name(target)
        header.append(f"{name} Dice %")
        if target in some:
            header.append(f"{name} Dice %, the {len(some[target])} cases with it")
    header.append(f"{display_name(table.main)} HSD mm")
    for index, variant in enumerate(VARIANTS):
        columns = {fold: {name: case.variants[index] for name, case in of.items()} for fold, of in folds.items()}
        mean, interval = tables.summary_columns("table2", columns)["mean"], tables.intervals(list(columns.values()))
        row = [variant]
        for target in table.targets:
            row.append(f"{percent(mean[target]['dice'])} ({interval_text(interval[target]['dice'], percent)})")
            if target in some:
                row.append(percent(float(np.mean([case.variants[index][target]["dice"] for case in some[target]]))))
        rows.append([*row, number(mean[table.main]["hausdorff_mm"])])
    title = f"What each step gives: {len(cases)} cases, mean of {len(folds)} folds"
    return Table(title, header, rows, "In brackets: 95 % intervals by bootstrap over cases within folds.")
