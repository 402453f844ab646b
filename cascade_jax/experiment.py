"""A whole run, from a config and an empty folder to the paper's tables and figures."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cascade_jax import tables
from cascade_jax.config import check_config, check_stages, labels_of
from cascade_jax.crossval import CrossValidation, draw_cases
from cascade_jax.data import emidec, phantom
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import make_writable_folder, write_text
from cascade_jax.data.labels import LabelTable
from cascade_jax.data.preprocess import Example
from cascade_jax.errors import ConfigError
from cascade_jax.inference import Cascade, load
from cascade_jax.plan import Plan, with_networks_of
from cascade_jax.preparation import PlanError, prepare
from cascade_jax.pretraining import Pretraining
from cascade_jax.progress import Progress

# What may differ between two starts of the same run: which part of it is done this time, and what is drawn.
_PER_START = ("folds", "stages", "figures", "figure_cases")


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Makes the working folder this process's alone, for as long as the context lasts.

    Raises:
        CaseError: the folder cannot be written or is in use.
    """
    make_writable_folder(workdir)
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CaseError(workdir, "is in use by another run") from None
        yield


def _lasting(config: ConfigDict) -> dict:
    """The settings that a working folder stands for."""
    values = json.loads(config.to_json_best_effort())
    return {key: value for key, value in values.items() if key not in _PER_START}


def check_same_config(workdir: Path, config: ConfigDict) -> None:
    """Raises CaseError if the working folder was made with another config."""
    path = workdir / "config.json"
    if path.exists() and (different := _differences(json.loads(path.read_text()), _lasting(config))):
        raise CaseError(workdir, f"was made with another config; these settings differ: {', '.join(different)}")


def _differences(old, new, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in _differences(old.get(key), new.get(key), f"{prefix}.{key}")
        ]
    return [] if old == new else [f"{prefix[1:]} (was {old}, is {new})"]


def _make_phantoms(config: ConfigDict, workdir: Path, progress: Progress) -> tuple[Path, Path | None]:
    settings = config.data.phantom
    training, held_out = workdir / "data" / "training", workdir / "data" / "held_out"
    for root, cases, seed in (
        (training, settings.cases, settings.seed),
        (held_out, settings.held_out_cases, settings.seed + 1),
    ):
        if cases:
            phantom.write_cohort(
                root, cases, seed, field_of_view_mm=settings.field_of_view_mm or None, progress=progress
            )
    return training, held_out if settings.held_out_cases else None


def _prepare(
    config: ConfigDict, workdir: Path, root: Path, labels: LabelTable, initial: Cascade | None, progress: Progress
) -> tuple[Plan, list[Example]]:
    overrides = config.plan.to_dict()
    if initial is not None:
        if initial.plan.labels.names != labels.names:
            known = ", ".join(initial.plan.labels.names)
            raise ConfigError(f"init_from: {config.init_from} knows the labels {known}; labels.names has others")
        overrides = with_networks_of(initial.plan, overrides)
    try:
        return prepare(root, workdir / "prepared", overrides, config.num_folds, progress, labels)
    except PlanError as error:
        raise ConfigError(f"plan: {error}") from error


def _chosen(config: ConfigDict, names: Sequence[str]) -> list[str]:
    """Which cases are drawn: those that the config names, or some from the first to the last."""
    spread = np.unique(np.linspace(0, len(names) - 1, config.figures).astype(int)) if config.figures else []
    return [name for name in names if name in config.figure_cases] or [names[index] for index in spread]


def _pretrain(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    check_stages(config)
    with claim(workdir):
        check_same_config(workdir, config)
        tables_file = workdir / "tables.md"
        if tables_file.exists():
            return f"{tables_file.read_text()}\n{workdir} is finished; nothing was left to do."
        try:
            pretraining = Pretraining(config, workdir, progress)
        except ValueError as error:
            raise ConfigError(f"plan: {error}") from error
        write_text(workdir / "config.json", json.dumps(_lasting(config), indent=1))
        pretraining.train()
        return pretraining.finish()


def run(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    """Does what `config` asks for in `workdir`, going on where an earlier run stopped.

    Args:
        config: as `launch/configs/default.py` describes it, or `launch/configs/pretrain.py`.
        workdir: the working folder.
        progress: wraps loops with a bar.

    Returns:
        What the run has to say at its end: the tables, in Markdown.

    Raises:
        ConfigError, CaseError, TrainingError: one line each.
    """
    if "pretraining" in config:
        return _pretrain(config, workdir, progress)
    check_config(config)
    labels = labels_of(config)
    with claim(workdir):
        check_same_config(workdir, config)
        folds, stages = sorted(config.folds), sorted(config.stages)
        finished, request = workdir / "finished.json", {"folds": folds, "stages": stages}
        if finished.exists() and json.loads(finished.read_text()) == request:
            return f"{(workdir / 'tables.md').read_text()}\n{workdir} is finished; nothing was left to do."

        record = json.dumps(_lasting(config), indent=1)
        if config.data.root:
            root, held_out = Path(config.data.root), Path(config.data.held_out) if config.data.held_out else None
        else:
            write_text(workdir / "config.json", record)
            root, held_out = _make_phantoms(config, workdir, progress)
        if held_out is not None:
            for file in progress(emidec.find_cases(held_out, labelled=True), f"checking the cases of {held_out}"):
                emidec.read_case(file, labels)
        initial = load(config.init_from) if config.init_from else None
        plan, examples = _prepare(config, workdir, root, labels, initial, progress)
        # Only now: a folder in which nothing was done yet belongs to no config.
        write_text(workdir / "config.json", record)

        files = emidec.find_cases(root, labelled=True)
        crossval = CrossValidation(config, workdir, plan, examples, files, progress, initial)
        if 1 in stages:
            # Stage two trains on out-of-fold results of stage one, so it needs that stage's every fold.
            crossval.train(0, range(config.num_folds) if 2 in stages else folds)
        if 2 not in stages:
            return f"Stage one is trained on folds {', '.join(map(str, folds))}."
        crossval.train(1, folds)

        results = crossval.finish(folds)
        if held_out is not None:
            results["table3"] = crossval.held_out(held_out)
        text = tables.write(workdir, results)
        validated = [name for fold in folds for name in crossval.folds[fold]]
        panels = {"stage one": "stage1", "prediction": "final"}
        draw_cases(workdir, "cross_validation", root, panels, _chosen(config, validated), labels)
        if held_out is not None:
            names = [file.name for file in emidec.find_cases(held_out)]
            draw_cases(workdir, "held_out", held_out, {"prediction": "held_out"}, _chosen(config, names), labels)
        from cascade_jax.report import write_report  # brings Matplotlib, for which no start should wait
        from cascade_jax.report.run import sources_of_run

        reports = sources_of_run(workdir)
        for name, sources in reports.items():
            write_report(sources, workdir / name, progress)
        write_text(finished, json.dumps(request))
        return f"{text}\nFigures are in {workdir / 'figures'}, reports in {' and '.join(reports)} beside them."
