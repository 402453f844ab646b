"""What a cross-validation ends with: postprocessing, model file, final predictions, tables, pictures."""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cascade_jax import checkpoint, postprocess
from cascade_jax.account import make_account
from cascade_jax.bundle import MODEL_FILE
from cascade_jax.calibration import CONFIDENCE_FILE, Calibration, read_calibration, write_calibration
from cascade_jax.cascade import STAGES, fold_folder, load
from cascade_jax.confidence import Confidence
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case
from cascade_jax.data.files import read_json, write_text
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.data.preprocess import restore_labels
from cascade_jax.metrics import evaluate_labels
from cascade_jax.report.agreement import Sizes, infarct_sizes
from cascade_jax.report.confidence import read_confidence, write_confidence
from cascade_jax.report.figures import draw_case, write_colour_tables
from cascade_jax.spreading import in_order
from cascade_jax.training.calibrating import ACCOUNTS_FILE, Known, known_case, write_accounts
from cascade_jax.training.crossval import CrossValidation
from cascade_jax.training.judging import learn_and_judge
from cascade_jax.training.priors import write_slice_labels


def _read(workdir: Path, folder: str, name: str, table: LabelTable) -> np.ndarray:
    """Labels (depth, height, width) of a case in `workdir/predictions/<folder>`."""
    return emidec.read_labels(emidec.contour_path(workdir / "predictions" / folder, name), table)[0]


def _evaluate(labels: np.ndarray, case: Case, table: LabelTable) -> dict:
    return evaluate_labels(labels, case.labels, case.spacing, table)


class Results(NamedTuple):
    """What a cross-validation comes to.

    Attributes:
        tables: {"table1": ..., "table2": ...}: {column: {case: metrics}}.
        sizes: of the challenge's labels {"table1": ..., "table2": ...}: {case: its infarct's sizes}, else {}.
        judgement: how true the confidence is (`judging.judge`), or None where there are too few cases.
    """

    tables: dict[str, dict]
    sizes: dict[str, dict[str, Sizes]]
    judgement: dict | None


def write_results(run: CrossValidation, folds: Sequence[int]) -> Results:
    """Chooses the postprocessing, learns the confidence, writes model and final predictions, evaluates both stages.

    A fold's final predictions are those of a cascade that has learnt its confidence from the other folds.
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
    known = _known_cases(run, folds, cases, final)
    write_accounts(run.workdir / ACCOUNTS_FILE, known)
    positions = [[names.index(name) for name in run.folds[fold]] for fold in folds]
    learnt = learn_and_judge(list(known.values()), positions, table)
    if learnt is None:
        said = _uncalibrated(run, folds, rules, cases, raw, final)
    else:
        said = {}
        for name, calibration in zip(names, learnt.without, strict=True):
            final[name], said[name] = calibration.settle(known[name].account, final[name], cases[name].spacing)
    predictions = run.workdir / "predictions"
    for other in run.files.keys() - final.keys():  # of folds that an earlier start ended with
        shutil.rmtree(predictions / "final" / other / folders.CONTOURS, ignore_errors=True)
    for name, labels in final.items():
        emidec.write_labels(predictions / "final", labels, cases[name])
    write_confidence(predictions / "final", said, table)
    write_colour_tables(predictions, table)
    _write_or_remove(run.workdir / CONFIDENCE_FILE, learnt and learnt.calibration)
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
    tables = {key: columns(labels) for key, labels in evaluated.items()}
    return Results(tables, sizes, learnt and learnt.judgement)


def _known_cases(
    run: CrossValidation, folds: Sequence[int], cases: Mapping[str, Case], final: Mapping[str, np.ndarray]
) -> dict[str, Known]:
    """Each validation case's account and truth, by the labels after postprocessing."""
    table = run.plan.labels
    summaries = {name: one for fold in folds for name, one in run.read_summaries(fold).items()}
    return {
        name: known_case(make_account(summaries[name], final[name], case, table), final[name], case, table)
        for name, case in cases.items()
    }


def _uncalibrated(
    run: CrossValidation,
    folds: Sequence[int],
    rules: Sequence[postprocess.Rule],
    cases: Mapping[str, Case],
    raw: Mapping[str, np.ndarray],
    final: Mapping[str, np.ndarray],
) -> dict[str, Confidence]:
    """What each fold's cascade says of its validation cases where there is no calibration."""
    said: dict[str, Confidence] = {}
    for fold in folds:
        folder = fold_folder(run.workdir, STAGES[1], fold)
        said |= read_confidence(folder, run.plan.labels)
        changed = [name for name in run.folds[fold] if (final[name] != raw[name]).any()]
        if changed:
            cascade = run.cascade_of(fold, checkpoint.restore_params(folder / "params"), rules)
            said |= {name: cascade.segment_case(cases[name]).confidence for name in changed}
    return said


def _write_or_remove(path: Path, calibration: Calibration | None) -> None:
    if calibration is None:
        path.unlink(missing_ok=True)
    else:
        write_calibration(path, calibration)


def evaluate_held_out(run: CrossValidation, root: Path) -> tuple[dict[str, dict], dict[str, Sizes]]:
    """The folds' vote on cases that no fold has seen; stage one's, and what postprocessing changed, lie beside it.

    Returns:
        {column: {case: metrics}}: "ensemble", and each fold's "stage 1" and "final" result on its own; and of the
        challenge's labels {case: sizes of the ensemble's infarct}, else {}.
    """
    cascade, table = load(run.workdir, split_volumes=run.config.parallel == "height"), run.plan.labels
    predictions = run.workdir / "predictions"
    columns: dict[str, dict] = {"ensemble": {}}
    sizes: dict[str, Sizes] = {}
    said: dict[str, Confidence] = {}
    one_hot = np.eye(len(table.names), dtype=np.float32)
    files = folders.find_cases(root, labelled=True)

    def vote_on(worker, file):
        case = emidec.read_case(file, table)
        example = worker.example(case)
        return case, example, worker.vote(example)

    votes = in_order(vote_on, cascade.for_cases(len(files)), files)
    waiting = run.progress(files, f"the {len(cascade.folds)} folds vote on {len(files)} held-out cases")
    for _, (case, example, vote) in zip(waiting, votes, strict=True):
        result = cascade.segmentation_of(vote, example, case, details=True)
        emidec.write_labels(predictions / "held_out", result.labels, case)
        emidec.write_maps(predictions / "held_out", result.maps, case)
        write_slice_labels(run.workdir, "held_out_stage1", vote.fold_priors, example, case, table)
        emidec.write_labels(predictions / "held_out_stage2", cascade.majority(vote, example), case)
        said[case.name] = result.confidence
        summary = cascade.summarise(vote, example, case)
        columns["ensemble"][case.name] = _evaluate(result.labels, case, table)
        if table == EMIDEC:
            sizes[case.name] = infarct_sizes(result.labels, case.labels, case.spacing)
        for index, fold in enumerate(cascade.folds):
            for column, labels in (("stage 1", vote.fold_priors[index]), ("final", vote.fold_labels[index])):
                restored = restore_labels(one_hot[labels], example.grid)
                if column == "final":
                    restored, _ = cascade.finish(restored, summary.of_fold(index), case)
                columns.setdefault(f"{column}, fold {fold}", {})[case.name] = _evaluate(restored, case, table)
    write_confidence(predictions / "held_out", said, table)
    return columns, sizes


def write_single_cascade(run: CrossValidation) -> Path:
    """Trains one cascade on every case, and gives it the folds' model file, with their postprocessing, and confidence.

    Returns:
        Its folder, which is loaded as a working folder is.
    """
    folder = run.train_on_all()
    model = read_json(run.workdir / MODEL_FILE) | {"folds": [0]}
    confidence = run.workdir / CONFIDENCE_FILE
    _write_or_remove(
        folder / CONFIDENCE_FILE, read_calibration(confidence, run.plan.labels) if confidence.exists() else None
    )
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
