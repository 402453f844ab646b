"""What a training will be, and what each device will hold of it, before anything runs."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from cascade_jax.bundle import read_model
from cascade_jax.cascade import STAGES
from cascade_jax.commands.train import check_plan, cohorts, corrected_files, overrides_of
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case, number_of_cases
from cascade_jax.data.labels import LabelTable
from cascade_jax.errors import ConfigError
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan
from cascade_jax.progress import Progress
from cascade_jax.training.config import check_config, check_stages, labels_of
from cascade_jax.training.device_memory import device_memory
from cascade_jax.training.loop import check_accumulation, devices_for, stage_plan
from cascade_jax.training.memory import StepMemory, step_memory
from cascade_jax.training.preparation import PlanError, describe_plan, field_of_view, plan_cohort, planned_shape
from cascade_jax.training.pretraining import plan_of
from cascade_jax.training.streaming import allowed_gb, cohort_gb, is_streamed
from cascade_jax.training.switches import as_flags, ways_to_save

_COLUMNS = ("parameters", "optimizer", "cohort", "temporaries")


class PlannedRun(NamedTuple):
    """What a config comes to.

    Attributes:
        plan: of both stages.
        cohort_shape: (case, depth, height, width) of the prepared cohort; None where phantoms are drawn.
    """

    plan: Plan
    cohort_shape: tuple[int, ...] | None


class Step(NamedTuple):
    """What a stage's training step takes with some settings.

    Attributes:
        stage: 0 or 1.
        settings: what is switched on beyond the config.
        memory: bytes on each device.
        fits: whether the device has as much; None where that is unknown.
    """

    stage: int
    settings: dict[str, Any]
    memory: StepMemory
    fits: bool | None


def plan_run(config: ConfigDict, workdir: Path | None, progress: Progress) -> PlannedRun:
    """What `run_training` would plan. Nothing is written.

    Args:
        config: of the run.
        workdir: its working folder, where the prepared cohort may lie already; None reads every case.
        progress: wraps loops with a bar.

    Raises:
        ConfigError, CaseError: one line each.
    """
    if config.get("kind") == "pretraining":
        check_stages(config)
        try:
            plan = plan_of(config)
        except ValueError as error:
            raise ConfigError(f"plan: {error}") from error
        check_accumulation(config, plan)
        return PlannedRun(plan, None)
    check_config(config)
    labels = labels_of(config)
    initial = read_model(config.init_from)["plan"] if config.init_from else None
    overrides = overrides_of(config, labels, initial)
    planned = planned_shape(workdir / "prepared", overrides, labels) if workdir else None
    if planned is None:
        seen = [(field_of_view(case.image), case.spacing) for case in _cases(config, workdir, labels, progress)]
        shapes, spacings = zip(*seen, strict=True)
        try:
            plan, shape = plan_cohort(shapes, spacings, overrides, labels)
        except PlanError as error:
            raise ConfigError(f"plan: {error}") from error
        planned = plan, (len(seen), *shape)
    check_plan(config, planned[0])
    return PlannedRun(*planned)


def _cases(config: ConfigDict, workdir: Path | None, labels: LabelTable, progress: Progress) -> Iterator[Case]:
    """The cases of the cross-validation, one after another."""
    if config.data.corrected:
        root, files = Path(config.data.root), corrected_files(config)
    else:
        root = Path(config.data.root) if config.data.root else workdir and cohorts(config, workdir)[0]
        if not root or (not config.data.root and not root.exists()):
            settings = config.data.phantom
            for index in progress(range(settings.cases), f"simulating {number_of_cases(settings.cases)}"):
                yield simulated.simulate_case(settings.seed, index, field_of_view_mm=settings.field_of_view_mm or None)
            return
        files = folders.find_cases(root, labelled=True)
    for file in progress(files, f"reading {number_of_cases(len(files))} of {root}"):
        yield emidec.read_case(file, labels)


def plan_memory(
    config: ConfigDict,
    run: PlannedRun,
    memory: int | None,
    *,
    compare: bool,
    progress: Callable[[Iterable, str], Iterable],
) -> Iterator[Step]:
    """What each stage's step takes: as configured, and, where that does not fit, with what can be switched on.

    Args:
        config: of the run.
        run: what `plan_run` returned.
        memory: bytes of a device; None where that is unknown.
        compare: whether to compile what can be switched on also where the step fits.
        progress: wraps the loop over a stage's programs with a bar.
    """
    for stage in [number - 1 for number in sorted(config.get("stages", (1, 2)))]:
        for _ in progress([None], f"stage {stage + 1}: compiling its training step"):
            configured = _step(config, run, stage, {}, memory)
        yield configured
        if compare or configured.fits is False:
            share = -(-stage_plan(run.plan, stage).batch_size // len(devices_for(run.plan, stage)))
            ways = ways_to_save(config, stage, share, _resident_gb(config, run, memory))
            for settings in progress(ways, f"stage {stage + 1}: compiling {len(ways)} ways to take less"):
                yield _step(config, run, stage, settings, memory)


def _resident_gb(config: ConfigDict, run: PlannedRun, memory: int | None) -> float:
    """Of the cohort, where it lies on the device; else 0."""
    if run.cohort_shape is None or is_streamed(run.cohort_shape, allowed_gb(config.data.memory_gb, memory)):
        return 0.0
    return cohort_gb(run.cohort_shape)


def _step(config: ConfigDict, run: PlannedRun, stage: int, settings: dict[str, Any], memory: int | None) -> Step:
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(settings)
    if run.cohort_shape is not None:
        changed.data.memory_gb = allowed_gb(changed.data.memory_gb, memory)
    held = step_memory(changed, run.plan, stage, run.cohort_shape)
    return Step(stage, settings, held, None if memory is None else held.total <= memory)


def heading(run: PlannedRun, memory: int | None, source: str) -> str:
    """The plan, the devices, and the head of a table whose rows are `row`s.

    Args:
        run: what `plan_run` returned.
        memory: bytes of a device; None where that is unknown.
        source: who says so.
    """
    devices = jax.local_devices()
    cohort = "random phantoms" if run.cohort_shape is None else number_of_cases(run.cohort_shape[0])
    of_each = source if memory is None else f"{_gigabytes(memory)} each ({source})"
    return (
        f"plan: {cohort}; {describe_plan(run.plan)}\n"
        f"devices: {len(devices)} x {devices[0].device_kind}, {of_each}\n\n"
        f"{'on each device, GB':<18}{''.join(f'{name:>13}' for name in _COLUMNS)}{'in all':>9}"
    )


def row(step: Step) -> str:
    """A step's gigabytes, whether it fits, and with what."""
    held = dataclasses.asdict(step.memory)
    numbers = "".join(f"{held[name] / 1e9:>13.3f}" for name in _COLUMNS)
    name = f"{'  ' if step.settings else ''}stage {step.stage + 1}"
    fits = {True: "fits", False: "does not fit", None: ""}[step.fits]
    rest = ", ".join(filter(None, (fits, as_flags(step.settings))))
    return f"{name:<18}{numbers}{step.memory.total / 1e9:>9.3f}  {rest}".rstrip()


def advice(steps: Sequence[Step]) -> Iterator[str]:
    """A line for each stage: whether it fits, or what to switch on."""
    for configured in (step for step in steps if not step.settings):
        name = f"stage {configured.stage + 1}"
        others = [step for step in steps if step.settings and step.stage == configured.stage]
        enough = next((step for step in others if step.fits), None)
        if configured.fits is None:
            yield f"{name} takes {_gigabytes(configured.memory.total)}; say what there is with --memory_gb."
        elif configured.fits:
            yield f"{name} fits."
        elif enough:
            yield f"{name} does not fit; it does with {as_flags(enough.settings)}."
        else:
            part = ("slices", "volumes")[configured.stage]
            yield (
                f"{name} does not fit, whatever is switched on: it needs a smaller --config.plan.{part}.batch_size or "
                "--config.plan.shape, or a device with more memory."
            )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def as_json(run: PlannedRun, steps: Sequence[Step], memory: int | None, source: str) -> dict:
    """The same, for programs: sizes in bytes."""
    devices = jax.local_devices()
    return {
        "plan": run.plan.to_json(),
        "cohort_shape": run.cohort_shape,
        "devices": {
            "kind": devices[0].device_kind,
            "count": len(devices),
            "memory": memory,
            "memory_is": source,
        },
        "steps": [
            {
                "stage": STAGES[step.stage],
                "settings": step.settings,
                "bytes": dataclasses.asdict(step.memory) | {"total": step.memory.total},
                "fits": step.fits,
            }
            for step in steps
        ],
    }


def known_memory(given_gb: float | None) -> tuple[int | None, str]:
    """How many bytes a device has, and who says so: the user, or the device.

    Raises:
        ConfigError: what the user says is no size.
    """
    if given_gb is None:
        return device_memory(jax.local_devices()[0])
    if not 0 < given_gb < float("inf"):
        raise ConfigError(f"--memory_gb is {given_gb:g}; it is how many gigabytes a device has")
    return int(given_gb * 1e9), "as given"
