"""What a cross-validation ends with: postprocessing, model file, final predictions, tables, pictures."""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cascade_jax import checkpoint, postprocess
from cascade_jax.bundle import MODEL_FILE
from cascade_jax.cascade import STAGES, fold_folder, load
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case
from cascade_jax.data.files import read_json, write_text
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.data.preprocess import restore_labels
from cascade_jax.metrics import evaluate_labels
from cascade_jax.report.agreement import Sizes, infarct_sizes
from cascade_jax.report.expected_dice import read_expected_dice, write_expected_dice
from cascade_jax.report.figures import draw_case, write_colour_tables
from cascade_jax.training.crossval import CrossValidation, write_slice_labels


def _read(workdir: Path, folder: str, name: str, table: LabelTable) -> np.ndarray:
    """Labels (depth, height, width) of a case in `workdir/predictions/<folder>`."""
    return emidec.read_labels(emidec.contour_path(workdir / "predictions" / folder, name), table)[0]


def _evaluate(labels: np.ndarray, case: Case, table: LabelTable) -> dict:
    return evaluate_labels(labels, case.labels, case.spacing, table)


def write_results(run: CrossValidation, folds: Sequence[int]) -> tuple[dict[str, dict], dict[str, dict[str, Sizes]]]:
    """Chooses the postprocessing, writes the model file and the final predictions, and evaluates both stages.

    Returns:
        {"table1": ..., "table2": ...}: {column: {case: metrics}} for the folds given; and of the challenge's labels
        {"table1": ..., "table2": ...}: {case: its infarct's sizes}, else {}.
    """
    table = run.plan.labels
    names = [name for fold in folds for name in run.folds[fold]]
    cases = {name: emidec.read_case(run.files[name], table) for name in run.progress(names, "evaluating both stages")}
    raw = {name: _read(run.workdir, STAGES[1], name, table) for name in names}
    rules = postprocess.choose_rules(
        [(raw[name], case.labels, case.spacing) for name, case in cases.items()],
        table=table,
        known=() if run.initial is None else run.initial.rules,
    )
    final = {name: postprocess.apply(rules, raw[name], case.spacing) for name, case in cases.items()}
    predictions = run.workdir / "predictions"
    for other in run.files.keys() - final.keys():  # of folds that an earlier start ended with
        shutil.rmtree(predictions / "final" / other, ignore_errors=True)
    for name, labels in final.items():
        emidec.write_labels(predictions / "final", labels, cases[name])
    fold_folders = [fold_folder(run.workdir, STAGES[1], fold) for fold in folds]
    expected = {name: dice for folder in fold_folders for name, dice in read_expected_dice(folder, table).items()}
    for fold in folds:
        changed = [name for name in run.folds[fold] if (final[name] != raw[name]).any()]
        if changed:
            params = checkpoint.restore_params(fold_folder(run.workdir, STAGES[1], fold) / "params")
            cascade = run.cascade_of(fold, params, rules)
            expected |= {name: cascade.segment_case(cases[name]).expected_dice for name in changed}
    write_expected_dice(predictions / "final", expected, table)
    write_colour_tables(predictions, table)
    model = {
        "plan": run.plan.to_json(),
        "folds": list(folds),
        "compute_dtype": run.config.compute_dtype,
        "mirror": run.config.mirror,
        "rules": [dataclasses.asdict(rule) for rule in rules],
        "licence": run.licence,
    }
    write_text(run.workdir / MODEL_FILE, json.dumps(model, indent=1))

    def columns(predictions: Mapping[str, np.ndarray]):
        return {
            f"fold {fold}": {name: _evaluate(predictions[name], cases[name], table) for name in run.folds[fold]}
            for fold in folds
        }

    evaluated = {"table1": {name: _read(run.workdir, STAGES[0], name, table) for name in names}, "table2": final}
    sizes = {
        key: {name: infarct_sizes(labels[name], cases[name].labels, cases[name].spacing) for name in names}
        for key, labels in evaluated.items()
        if table == EMIDEC
    }
    return {key: columns(labels) for key, labels in evaluated.items()}, sizes


def evaluate_held_out(run: CrossValidation, root: Path) -> tuple[dict[str, dict], dict[str, Sizes]]:
    """The folds' vote on cases that no fold has seen; stage one's, and what postprocessing changed, lie beside it.

    Returns:
        {column: {case: metrics}}: "ensemble", and each fold's "stage 1" and "final" result on its own; and of the
        challenge's labels {case: sizes of the ensemble's infarct}, else {}.
    """
    cascade, table = load(run.workdir), run.plan.labels
    predictions = run.workdir / "predictions"
    columns: dict[str, dict] = {"ensemble": {}}
    sizes: dict[str, Sizes] = {}
    expected: dict[str, dict[str, float]] = {}
    one_hot = np.eye(len(table.names), dtype=np.float32)
    files = folders.find_cases(root, labelled=True)
    for file in run.progress(files, f"the {len(cascade.folds)} folds vote on {len(files)} held-out cases"):
        case = emidec.read_case(file, table)
        example = cascade.example(case)
        vote = cascade.vote(example)
        result = cascade.segmentation_of(vote, example, case, details=True)
        emidec.write_labels(predictions / "held_out", result.labels, case)
        emidec.write_maps(predictions / "held_out", result.maps, case)
        write_slice_labels(run.workdir, "held_out_stage1", vote.fold_priors, example, case, table)
        emidec.write_labels(predictions / "held_out_stage2", cascade.majority(vote, example), case)
        expected[case.name] = result.expected_dice
        columns["ensemble"][case.name] = _evaluate(result.labels, case, table)
        if table == EMIDEC:
            sizes[case.name] = infarct_sizes(result.labels, case.labels, case.spacing)
        for fold, prior, final in zip(cascade.folds, vote.fold_priors, vote.fold_labels, strict=True):
            for column, labels in (("stage 1", prior), ("final", final)):
                restored = restore_labels(one_hot[labels], example.grid)
                if column == "final":
                    restored = cascade.postprocess(restored, case)
                columns.setdefault(f"{column}, fold {fold}", {})[case.name] = _evaluate(restored, case, table)
    write_expected_dice(predictions / "held_out", expected, table)
    return columns, sizes


def write_single_cascade(run: CrossValidation) -> Path:
    """Trains one cascade on every case, and gives it the folds' model file, their postprocessing included.

    Returns:
        Its folder, which is loaded as a working folder is.
    """
    folder = run.train_on_all()
    model = read_json(run.workdir / MODEL_FILE) | {"folds": [0]}
    write_text(folder / MODEL_FILE, json.dumps(model, indent=1))
    return folder


def draw_cases(
    workdir: Path, kind: str, root: Path, panels: Mapping[str, str], names: Sequence[str], table: LabelTable
) -> None:
    """Draws cases beside the truth into `workdir/figures/<kind>`.

    Args:
        workdir: the working folder.
        kind: of the cohort, since two cohorts may use the same names.
        root: the cohort.
        panels: {title: folder of `workdir/predictions`}.
        names: which cases.
        table: of the labels.
    """
    folder = workdir / "figures" / kind
    folder.mkdir(parents=True, exist_ok=True)
    files = {file.name: file for file in folders.find_cases(root, labelled=True)}
    for name in names:
        case = emidec.read_case(files[name], table)
        drawn = {title: _read(workdir, source, name, table) for title, source in panels.items()}
        draw_case(
            folder / f"{name}.png",
            case.image,
            {"truth": case.labels, **drawn},
            spacing=case.spacing,
            title=name,
            table=table,
        )
