"""What each step of a cross-validated cascade gives: its figures without stage two, postprocessing or mirroring."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from cascade_jax.cascade import STAGES, Cascade, load
from cascade_jax.data import emidec, folders
from cascade_jax.data.files import read_json
from cascade_jax.data.labels import LabelTable, display_name
from cascade_jax.metrics import evaluate_labels, summarise
from cascade_jax.progress import Progress
from cascade_jax.report.text_tables import Table, interval_text, number, percent
from cascade_jax.statistics import bootstrap_interval

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
    evaluated = []
    for index, fold in enumerate(cascade.folds):
        params = jax.tree.map(lambda leaf, index=index: leaf[index : index + 1], cascade.params)
        unmirrored = Cascade(cascade.plan, cascade.networks, params, cascade.rules, (fold,), mirror=False)
        cases = progress(folds[fold], f"fold {fold}: {len(folds[fold])} cases without mirror images")
        evaluated.append([_evaluate(workdir, files[name], cascade, unmirrored) for name in cases])
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


def _table(folds: Sequence[Sequence[_Evaluated]], table: LabelTable) -> Table:
    cases = [case for fold in folds for case in fold]
    with_target = {target: [case for case in cases if case.present[target]] for target in table.targets}
    header, rows = [""], [[name] for name in VARIANTS]
    for target, found in with_target.items():
        name = display_name(target)
        header.append(f"{name} Dice %")
        for index, row in enumerate(rows):
            groups = [[case.variants[index][target]["dice"] for case in fold] for fold in folds]
            mean = float(np.mean([np.mean(group) for group in groups]))
            row.append(f"{percent(mean)} ({interval_text(bootstrap_interval(groups), percent)})")
        if 0 < len(found) < len(cases):
            header.append(f"{name} Dice %, the {len(found)} cases with it")
            for index, row in enumerate(rows):
                row.append(percent(float(np.mean([case.variants[index][target]["dice"] for case in found]))))
    header.append(f"{display_name(table.main)} HSD mm")
    for index, row in enumerate(rows):
        row.append(
            number(
                summarise({str(n): case.variants[index] for n, case in enumerate(cases)})[table.main]["hausdorff_mm"]
            )
        )
    title = f"What each step gives: {len(cases)} cases, Dice as the mean of {len(folds)} folds"
    return Table(title, header, rows, "In brackets: 95 % intervals by bootstrap over cases.")
