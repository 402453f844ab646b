"""A whole run, from a config and an empty folder to the paper's tables and figures."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from cascade_jax import checkpoint, processes
from cascade_jax.cascade import Cascade, load
from cascade_jax.commands.same_run import check_same_config, check_same_inputs, is_trained, recorded_settings
from cascade_jax.commands.together import others_go_on
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError, number_of_cases, some_of
from cascade_jax.data.corrections import find_corrections
from cascade_jax.data.files import file_checksum, read_json, read_text, write_text
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.prepared import PreparedCohort, read_provenance
from cascade_jax.errors import ConfigError
from cascade_jax.extras import missing
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan, with_networks_of
from cascade_jax.progress import Progress
from cascade_jax.report import tables
from cascade_jax.training.claim import claim
from cascade_jax.training.comparison import as_text, compare_with_start, write_comparison
from cascade_jax.training.config import check_config, check_stages, labels_of
from cascade_jax.training.crossval import ALL_FOLDER, CrossValidation
from cascade_jax.training.environment import record_start
from cascade_jax.training.loop import check_accumulation
from cascade_jax.training.preparation import PlanError, file_checksums, prepare, read_prepared
from cascade_jax.training.pretraining import Pretraining
from cascade_jax.training.results import draw_cases, evaluate_held_out, write_results, write_single_cascade


def _checksums_of_files(config: ConfigDict, root: Path) -> dict[str, str]:
    splits = {"data.splits": file_checksum(Path(config.data.splits))} if config.data.splits else {}
    return file_checksums(folders.find_cases(root, labelled=True)) | splits


def _finished(config: ConfigDict, workdir: Path, request: Mapping) -> str | None:
    """What a run says that has nothing left to do; None if there is something."""
    path, tables_file = workdir / "finished.json", workdir / "tables.md"
    if not path.exists() or not tables_file.exists():
        return None
    done = read_json(path)
    if not isinstance(done, dict):
        raise CaseError(path, "is damaged; remove it to have the results made again")
    root, held_out = cohorts(config, workdir)
    if root.exists():
        check_same_inputs(workdir, root, _checksums_of_files(config, root))
    if any(done.get(name) != value for name, value in request.items()):
        return None
    if not done.get("drawn", True) and _draws(config):
        return None
    if held_out and held_out.exists() and done.get("held_out") != file_checksums(folders.find_cases(held_out)):
        return None
    return f"{read_text(tables_file)}\n{workdir} is finished; nothing was left to do."


def cohorts(config: ConfigDict, workdir: Path) -> tuple[Path, Path | None]:
    """Where the cohort lies, and that of the held-out cases if there is one."""
    if config.data.corrected:
        return workdir / "data" / "training", Path(config.data.held_out) if config.data.held_out else None
    if config.data.root:
        return Path(config.data.root), Path(config.data.held_out) if config.data.held_out else None
    return workdir / "data" / "training", workdir / "data" / "held_out" if config.data.phantom.held_out_cases else None


def _make_phantoms(config: ConfigDict, workdir: Path, progress: Progress) -> None:
    settings = config.data.phantom
    for root, cases, seed in zip(
        cohorts(config, workdir),
        (settings.cases, settings.held_out_cases),
        (settings.seed, settings.seed + 1),
        strict=True,
    ):
        if cases:
            simulated.write_cohort(
                root, cases, seed, field_of_view_mm=settings.field_of_view_mm or None, progress=progress
            )


def corrected_files(config: ConfigDict) -> list[folders.CaseFiles]:
    """The cases of `data.root` that a reader has corrected, sorted by name: their images and the corrected labels.

    Raises:
        CaseError: they are fewer than the folds, or one has no image.
    """
    predictions = Path(config.data.root)
    images = Path(config.data.images) if config.data.images else predictions
    corrected = find_corrections(predictions)
    files = {file.name: file for file in folders.find_inputs(images)}
    if len(corrected) < config.num_folds:
        raise CaseError(
            predictions,
            f"has {number_of_cases(len(corrected))} that a reader has corrected; {config.num_folds} are needed, so "
            "that each can be judged by networks that were trained without it",
        )
    for name in sorted(corrected):
        if name not in files:
            raise CaseError(images, f"holds no image of case {name} (`predict --images` writes them)")
    return [dataclasses.replace(files[name], contour=corrected[name].path) for name in sorted(corrected)]


def _gather_corrections(config: ConfigDict, workdir: Path, labels: LabelTable, progress: Progress) -> None:
    """Makes the cohort of the cases that a reader has corrected, in the working folder."""
    predictions = Path(config.data.root)
    files = corrected_files(config)
    root, _ = cohorts(config, workdir)
    new = root.with_name("gathered")
    marker = root.with_name(".gathered")
    if root.exists() and not marker.exists():
        raise CaseError(root, "was not made from corrections: choose another working folder")
    shutil.rmtree(new, ignore_errors=True)
    for file in progress(files, f"reading {number_of_cases(len(files))} of {predictions}"):
        emidec.write_case(new, emidec.read_case(file, labels))
    # Only now: what networks were trained on stays as long as it is not the same.
    check_same_inputs(workdir, predictions, _checksums_of_files(config, new))
    write_text(marker, "")
    shutil.rmtree(root, ignore_errors=True)
    new.rename(root)


def _prepare(
    config: ConfigDict, workdir: Path, root: Path, labels: LabelTable, initial: Cascade | None, progress: Progress
) -> tuple[Plan, PreparedCohort]:
    overrides = overrides_of(config, labels, None if initial is None else initial.plan)
    before = read_provenance(config.data.prepared or workdir / "prepared" / "cohort")
    if before is not None and is_trained(workdir) and _given(before["overrides"]) != _given(overrides):
        raise CaseError(workdir, "was planned otherwise by an older version; use another working folder")
    try:
        plan, examples = prepare(
            root,
            workdir / "prepared",
            overrides,
            config.num_folds,
            progress,
            labels,
            config.data.prepared,
            config.data.processes,
        )
    except PlanError as error:
        raise ConfigError(f"plan: {error}") from error
    check_plan(config, plan)
    return plan, examples


def overrides_of(config: ConfigDict, labels: LabelTable, initial: Plan | None) -> dict:
    """What takes the place of what a plan would have; `initial` is the plan of the weights that training starts from.

    Raises:
        ConfigError: those weights know other labels.
    """
    if initial is None:
        return config.plan.to_dict()
    if initial.labels.names != labels.names:
        known = ", ".join(initial.labels.names)
        raise ConfigError(f"init_from: {config.init_from} knows the labels {known}; labels.names has others")
    return with_networks_of(initial, config.plan.to_dict())


def check_plan(config: ConfigDict, plan: Plan) -> None:
    """Raises ConfigError where the config does not fit the plan."""
    if config.phantom_share and plan.spacing[1] != plan.spacing[2]:
        raise ConfigError(f"phantom_share: phantoms have square pixels, the plan's are {plan.spacing[1:]} mm")
    check_accumulation(config, plan)


def _given(overrides: Mapping) -> dict:
    """The overrides that are set, as JSON has them."""
    nested = {key: _given(value) if isinstance(value, Mapping) else value for key, value in overrides.items()}
    return json.loads(json.dumps({key: value for key, value in nested.items() if value is not None}))


def _draws(config: ConfigDict) -> bool:
    """Whether the run ends with pictures and reports."""
    return bool(config.figures) and not missing("report")


def _cases_to_draw(config: ConfigDict, names: Sequence[str]) -> list[str]:
    """Which cases are drawn: those that the config names, or some from the first to the last."""
    return [name for name in names if name in config.figure_cases] or some_of(names, config.figures)


def _pretrain(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    check_stages(config)
    with claim(workdir):
        check_same_config(workdir, config)
        tables_file = workdir / "tables.md"
        if tables_file.exists():
            others_go_on(config, workdir, needed=False)
            return f"{read_text(tables_file)}\n{workdir} is finished; nothing was left to do."
        try:
            pretraining = Pretraining(config, workdir, progress)
        except ValueError as error:
            raise ConfigError(f"plan: {error}") from error
        check_accumulation(config, pretraining.plan)
        if config.init_from:
            checksums = {"init_from": checkpoint.digest(load(config.init_from).params)}
            check_same_inputs(workdir, Path(config.init_from), checksums)
            write_text(workdir / "inputs.json", json.dumps(checksums, indent=1))
        write_text(workdir / "config.json", json.dumps(recorded_settings(config), indent=1))
        record_start(workdir)
        others_go_on(config, workdir)
        pretraining.train()
        return pretraining.write_results()


def _help_pretrain(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    """What a process does that is not the first."""
    if others_go_on(config, workdir):
        Pretraining(config, workdir, progress).train()
    return ""


def _cross_validate(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    check_config(config)
    labels = labels_of(config)
    with claim(workdir, wait=config.share_folds) as claimed:
        check_same_config(workdir, config)
        if config.data.corrected:
            _gather_corrections(config, workdir, labels, progress)
        folds, stages = sorted(config.folds), sorted(config.stages)
        request: dict = {"folds": folds, "stages": stages} | ({"all_cases": True} if config.all_cases else {})
        if (message := _finished(config, workdir, request)) is not None:
            others_go_on(config, workdir, needed=False)
            return message

        record = json.dumps(recorded_settings(config), indent=1)
        root, held_out = cohorts(config, workdir)
        if not config.data.root:
            write_text(workdir / "config.json", record)
            _make_phantoms(config, workdir, progress)
        if held_out is not None:
            for file in progress(folders.find_cases(held_out, labelled=True), f"checking the cases of {held_out}"):
                emidec.read_case(file, labels)
        initial = load(config.init_from) if config.init_from else None
        checksums = _checksums_of_files(config, root)
        if initial is not None:
            checksums["init_from"] = checkpoint.digest(initial.params)
        check_same_inputs(workdir, root, checksums)
        plan, examples = _prepare(config, workdir, root, labels, initial, progress)
        if not is_trained(workdir):
            (workdir / "folds.json").unlink(missing_ok=True)  # of other inputs, maybe
        files = folders.find_cases(root, labelled=True)
        crossval = CrossValidation(config, workdir, plan, examples, files, progress, initial)
        # Only now: a folder in which nothing was done yet belongs to no config.
        write_text(workdir / "inputs.json", json.dumps(checksums, indent=1))
        write_text(workdir / "config.json", record)
        record_start(workdir)
        others_go_on(config, workdir)
        with claimed.lent() if config.share_folds else contextlib.nullcontext():
            _train_folds(crossval)
        if 2 not in stages:
            return f"Stage one is trained on folds {', '.join(map(str, folds))}."
        # Of several runs that share the folds, the first to come here makes the results.
        if config.share_folds and (message := _finished(config, workdir, request)) is not None:
            return message

        results, sizes, judgement = write_results(crossval, folds)
        if held_out is not None:
            results["table3"], held_out_sizes = evaluate_held_out(crossval, held_out)
            sizes |= {"table3": held_out_sizes} if held_out_sizes else {}
        text = tables.write(workdir, results, sizes, judgement)
        if config.all_cases:
            text += f"\nTrained on every case: {write_single_cascade(crossval)}\n"
        if config.data.corrected and initial is not None:
            comparison = compare_with_start(crossval)
            write_comparison(crossval, comparison)
            text += f"\n{as_text(comparison, config.init_from, str(workdir / ALL_FOLDER))}"
        if held_out is not None:
            request["held_out"] = file_checksums(folders.find_cases(held_out))
        if not _draws(config):
            # With the extra installed and figures asked for, the same command draws what is missing.
            write_text(workdir / "finished.json", json.dumps(request | {"drawn": False}))
            return text
        validated = [name for fold in folds for name in crossval.folds[fold]]
        panels = {"stage one": "stage1", "prediction": "final"}
        draw_cases(workdir, "cross_validation", root, panels, _cases_to_draw(config, validated), labels)
        if held_out is not None:
            names = [file.name for file in folders.find_cases(held_out)]
            draw_cases(workdir, "held_out", held_out, {"prediction": "held_out"}, _cases_to_draw(config, names), labels)
        from cascade_jax.commands.report import sources_of_run
        from cascade_jax.report.page import write_report

        reports = sources_of_run(workdir)
        for name, sources in reports.items():
            write_report(sources, workdir / name, progress)
        write_text(workdir / "finished.json", json.dumps(request))
        return f"{text}\nFigures are in {workdir / 'figures'}, reports in {' and '.join(reports)} beside them."


def _train_folds(crossval: CrossValidation) -> None:
    folds, stages = sorted(crossval.config.folds), crossval.config.stages
    if 1 in stages:
        # Stage two trains on out-of-fold results of stage one, so it needs that stage's every fold.
        crossval.train(0, range(crossval.config.num_folds) if 2 in stages else folds)
    if 2 in stages:
        crossval.train(1, folds)


def _help_cross_validate(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    """What a process does that is not the first: it reads what that has prepared, and takes its share of each step."""
    if others_go_on(config, workdir):
        plan, examples = read_prepared(workdir / "prepared", config.data.prepared)
        initial = load(config.init_from) if config.init_from else None
        crossval = CrossValidation(config, workdir, plan, examples, (), progress, initial)
        _train_folds(crossval)
        if config.all_cases and 2 in config.stages:
            crossval.train_on_all()
    return ""


# What is done by the first process, which with most runs is the only one, and by any other.
_KINDS = {"cross-validation": (_cross_validate, _help_cross_validate), "pretraining": (_pretrain, _help_pretrain)}


def run_training(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    """Does what `config` asks for in `workdir`, going on where an earlier run stopped.

    Of several processes (`cascade_jax.processes`) all call it, with one config and one working folder that all see.

    Args:
        config: as `launch/configs/default.py` describes it, or `launch/configs/pretrain.py`.
        workdir: the working folder.
        progress: wraps loops with a bar.

    Returns:
        What the run has to say at its end: the tables, in Markdown. "" at a process that is not the first.

    Raises:
        ConfigError, CaseError, TrainingError: one line each.
    """
    kind = config.get("kind")
    if kind not in _KINDS:
        raise ConfigError(f"kind is {kind!r}; known: {', '.join(_KINDS)}")
    if processes.are_several() and (config.parallel != "jit" or config.get("share_folds")):
        raise ConfigError("parallel other than 'jit', and share_folds, are for a run of one process; this has several")
    first, other = _KINDS[kind]
    text = (first if processes.is_first() else other)(config, workdir, progress)
    processes.wait_for_all("the run is finished")
    return text
