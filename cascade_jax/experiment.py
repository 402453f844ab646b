"""A whole run, from a config and an empty folder to the paper's tables and figures."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from cascade_jax import tables
from cascade_jax.crossval import CrossValidation, draw_cases
from cascade_jax.data import emidec, phantom
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import make_writable_folder, write_text
from cascade_jax.fitting import check_steps
from cascade_jax.inference import STAGES
from cascade_jax.optimizers import make_optimizer
from cascade_jax.preparation import Progress, prepare

# What may differ between two starts of the same run: which part of it is done this time, and what is drawn.
_PER_START = ("folds", "stages", "figures")


class ConfigError(ValueError):
    """A setting that cannot be; the text is one line that names it."""


def check_config(config: ConfigDict) -> None:
    """Raises ConfigError for what can be told without the data."""
    if config.num_folds < 2:
        raise ConfigError(f"num_folds is {config.num_folds}; a cross-validation needs 2 or more")
    for name, allowed in (("folds", range(config.num_folds)), ("stages", (1, 2))):
        values = config[name]
        if not values or any(value not in allowed for value in values) or len(set(values)) < len(values):
            raise ConfigError(f"{name} is {values}; choose from {', '.join(map(str, allowed))}, each once")
    if config.compute_dtype not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"compute_dtype is {config.compute_dtype!r}; known: auto, float32, bfloat16")
    for stage in STAGES:
        settings = config[stage]
        try:
            check_steps(settings)
            make_optimizer(
                settings.optimizer, settings.schedule, settings.learning_rate, settings.steps, settings.clip_norm
            )
        except ValueError as error:
            raise ConfigError(f"{stage}: {error}") from error


@contextlib.contextmanager
def claim(workdir: Path, config: ConfigDict) -> Iterator[None]:
    """Makes the working folder this run's, for as long as the context lasts.

    Raises:
        CaseError: the folder cannot be written, is in use, or was made with another config.
    """
    make_writable_folder(workdir)
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CaseError(workdir, "is in use by another run") from error
        current = {
            key: value for key, value in json.loads(config.to_json_best_effort()).items() if key not in _PER_START
        }
        path = workdir / "config.json"
        if not path.exists():
            write_text(path, json.dumps(current, indent=1))
        elif different := _differences(json.loads(path.read_text()), current):
            raise CaseError(workdir, f"was made with another config; these settings differ: {', '.join(different)}")
        yield


def _differences(old, new, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in _differences(old.get(key), new.get(key), f"{prefix}.{key}")
        ]
    return [] if old == new else [f"{prefix[1:]} (was {old}, is {new})"]


def _cohorts(config: ConfigDict, workdir: Path, progress: Progress) -> tuple[Path, Path | None]:
    """The folders of the labelled cohort and of the held-out one; without a root they are phantoms, made here."""
    if config.data.root:
        return Path(config.data.root), Path(config.data.held_out) if config.data.held_out else None
    settings = config.data.phantom
    roots = workdir / "data" / "training", workdir / "data" / "held_out"
    for root, cases, seed in zip(
        roots, (settings.cases, settings.held_out_cases), (settings.seed, settings.seed + 1), strict=True
    ):
        if cases:
            phantom.write_cohort(
                root, cases, seed, field_of_view_mm=settings.field_of_view_mm or None, progress=progress
            )
    return roots[0], roots[1] if settings.held_out_cases else None


def run(config: ConfigDict, workdir: Path, progress: Progress) -> str:
    """Does what `config` asks for in `workdir`, going on where an earlier run stopped.

    Args:
        config: as `launch/configs/default.py` describes it.
        workdir: the working folder.
        progress: wraps loops with a bar.

    Returns:
        What the run has to say at its end: the tables, in Markdown.

    Raises:
        ConfigError, CaseError, TrainingError: one line each.
    """
    check_config(config)
    with claim(workdir, config):
        jax.config.update("jax_compilation_cache_dir", str((workdir / "compiled").absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        done = workdir / "tables.md"
        request = {"folds": sorted(config.folds), "stages": sorted(config.stages)}
        finished = workdir / "finished.json"
        if finished.exists() and json.loads(finished.read_text()) == request:
            return f"{done.read_text()}\n{workdir} is finished; nothing was left to do."

        root, held_out = _cohorts(config, workdir, progress)
        if held_out is not None:
            emidec.find_cases(held_out, labelled=True)
        try:
            plan, examples = prepare(root, workdir / "prepared", config.plan.to_dict(), config.num_folds, progress)
        except CaseError:
            raise
        except ValueError as error:
            raise ConfigError(f"plan: {error}") from error
        crossval = CrossValidation(config, workdir, plan, examples, emidec.find_cases(root, labelled=True), progress)
        # Stage two trains on out-of-fold results of stage one, so it needs that stage's every fold.
        every_fold = list(range(config.num_folds))
        if 1 in config.stages:
            crossval.train(0, every_fold if 2 in config.stages else sorted(config.folds))
        if 2 not in config.stages:
            return f"Stage one is trained on folds {', '.join(map(str, sorted(config.folds)))}."
        crossval.train(1, sorted(config.folds))

        results = crossval.finish(sorted(config.folds))
        if held_out is not None:
            results["table3"] = crossval.held_out(held_out)
        text = tables.write(workdir, results)
        validated = [name for fold in sorted(config.folds) for name in crossval.folds[fold]]
        draw_cases(workdir, root, {"stage one": "stage1", "prediction": "final"}, validated[: config.figures])
        if held_out is not None:
            names = [file.name for file in emidec.find_cases(held_out)]
            draw_cases(workdir, held_out, {"prediction": "held_out"}, names[: config.figures])
        write_text(finished, json.dumps(request))
        return text
