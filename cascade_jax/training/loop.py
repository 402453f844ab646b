"""Training one network on one fold, from its last checkpoint to its last step."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cascade_jax import checkpoint, processes, stopping
from cascade_jax.cascade import STAGES, input_shapes
from cascade_jax.data.case import CaseError
from cascade_jax.errors import TrainingError
from cascade_jax.models.unet import UNet
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.training.accumulation import check_parts
from cascade_jax.training.batches import CaseSelection, Draw
from cascade_jax.training.log import NoLog, TrainingLog
from cascade_jax.training.optimizers import make_optimizer
from cascade_jax.training.step import compile_steps, initial_state, mesh_of, replicated_over
from cascade_jax.training.streaming import StreamedCohort, streamed_steps
from cascade_jax.training.switches import advising_on_memory


def stage_plan(plan: Plan, stage: int) -> StagePlan:
    """What a plan has of a stage (0 or 1)."""
    return (plan.slices, plan.volumes)[stage]


def number_kept_busy(batch_size: int, devices: int) -> int:
    """How many of some devices have work where each takes an equal share of a batch, rounded up."""
    return -(-batch_size // -(-batch_size // devices))


def devices_for(
    plan: Plan, stage: int, devices: Sequence[jax.Device] | None = None, parallel: str = "jit"
) -> list[jax.Device]:
    """As many of the devices as make a stage (0 or 1) faster; a line says which batch would use all.

    Each takes an equal share of the batch, rounded up; where `parallel` is "height", an equal part of the height. Of
    several processes' devices all are taken, since each process has to have one.

    Args:
        plan: of the run.
        stage: 0 or 1.
        devices: to choose from; None is all that there are.
        parallel: of the config.
    """
    devices = list(processes.all_devices() if devices is None else devices)
    if parallel == "height":
        height = input_shapes(plan)[stage][-3]
        return devices[: max(count for count in range(1, len(devices) + 1) if height % count == 0)]
    batch_size = stage_plan(plan, stage).batch_size
    used = number_kept_busy(batch_size, len(devices))
    if used < len(devices):
        logging.warning(
            "%s: a batch of %d keeps %d of %d devices busy; --config.plan.%s.batch_size=%d would keep all",
            STAGES[stage],
            batch_size,
            used,
            len(devices),
            ("slices", "volumes")[stage],
            -(-batch_size // len(devices)) * len(devices),
        )
    return devices if processes.are_several() else devices[:used]


def check_accumulation(config: ConfigDict, plan: Plan) -> None:
    """Raises ConfigError where a stage's batch cannot be taken in as many parts as the config has, on the devices
    that there are: to be called before a first stage is trained for hours."""
    devices = max(1, len(jax.devices()) // max(1, config.get("folds_at_once", 0)))
    for stage, name in enumerate(STAGES):
        batch_size, shares = stage_plan(plan, stage).batch_size, 1 if config.parallel == "height" else devices
        check_parts(f"{name}.accumulate", config[name].accumulate, batch_size, shares)


def stage_steps(
    config: ConfigDict, plan: Plan, stage: int, network: UNet, draw: Draw, mesh: Mesh, *, is_streamed: bool = False
) -> tuple[optax.GradientTransformation, Callable]:
    """A stage's optimizer, and what `compile_steps` makes of the config for it."""
    settings, batch_size = config[STAGES[stage]], stage_plan(plan, stage).batch_size
    shares = 1 if config.parallel == "height" else mesh.size
    check_parts(f"{STAGES[stage]}.accumulate", settings.accumulate, batch_size, shares)
    optimizer = make_optimizer(
        settings.optimizer, settings.schedule, settings.learning_rate, settings.steps, settings.clip_norm
    )
    run_steps = compile_steps(
        network.clone(rematerialise=settings.rematerialise),
        optimizer,
        draw,
        1 if is_streamed else settings.steps_per_dispatch,
        mesh,
        batch_size,
        parallel=config.parallel,
        parts=settings.accumulate,
    )
    return optimizer, run_steps


def fit(
    config: ConfigDict,
    plan: Plan,
    stage: int,
    network: UNet,
    *,
    draw: Draw,
    validate: Callable[[Any], jax.Array],
    cohort: Any,
    cases: CaseSelection | None,
    names: Sequence[str],
    devices: Sequence[jax.Device],
    seed: int,
    folder: Path,
    description: str,
    initial_params: Any | None = None,
) -> Any:
    """Trains one network, or goes on where an earlier run stopped.

    Of several processes all have to call it, with the same arguments but for the arrays, which are on each one's own
    devices.

    Args:
        config: of the run.
        plan: of the run.
        stage: 0 or 1.
        network: of the stage.
        draw: draws a batch. All folds of a stage have the same one, for they share what is compiled with it.
        validate: maps parameters to float32 (foreground label,), the Dice on the validation cases (`dice_over_voxels`).
        cohort: on the device; whatever `draw` takes for one. Or a `StreamedCohort`, of which each step gets what it
            draws.
        cases: the fold's training cases.
        names: of the cohort's cases.
        devices: over which each batch is sharded (`devices_for`).
        seed: of this fold's initialisation and of every draw.
        folder: for checkpoints, log and, at the end, `params`.
        description: what the log calls it.
        initial_params: where to start from; None draws them. If they are those of `config.init_from`,
            `config.init_share` of them is blended into what comes out (see `blend`).

    Returns:
        The parameters after the last step, on the default device; or those blended with the ones at the start, if their
        mean validation Dice over the labels is no lower.

    Raises:
        ConfigError: the batch cannot be taken in as many parts as the config has.
        TrainingError: a loss is not finite, or a device's memory is too small.
        CaseError: a checkpoint, the parameters or the log cannot be read or written.
        Stopped: a signal came (`stopping.handling_signals`); the last step is saved.
    """
    if processes.as_first_says((folder / "params").exists()):
        return checkpoint.restore_params(folder / "params")
    settings, batch_size = config[STAGES[stage]], stage_plan(plan, stage).batch_size
    initial_share = config.init_share if config.init_from else 0.0

    mesh, is_streamed = mesh_of(devices), isinstance(cohort, StreamedCohort)
    optimizer, run_steps = stage_steps(config, plan, stage, network, draw, mesh, is_streamed=is_streamed)
    batch_shape = (batch_size, *input_shapes(plan)[stage])
    state = initial_state(jax.random.key(seed), network, optimizer, batch_shape, initial_params)
    # All on the mesh explicitly: a fresh state and a restored one then share a compiled step.
    whole = None if is_streamed else cohort
    state, whole, cases = processes.replicate((state, whole, cases), replicated_over(mesh))
    restored = checkpoint.restore_state(folder / "checkpoints", state)
    # Not asked of a fresh state, whose parameters are still being drawn while the step is traced.
    step = int(restored.step) if restored else 0
    state = restored or state
    if is_streamed:
        steps_of_dispatch = streamed_steps(run_steps, cohort, state, cases, step, settings, replicated_over(mesh))
    else:
        steps_of_dispatch = contextlib.nullcontext(lambda state: run_steps(state, whole, cases))

    def save() -> str:
        with jax.transfer_guard("allow"):
            checkpoint.save_state(folder / "checkpoints", step, state)
        return f" and saved at step {step} of {settings.steps} of {description}"

    with (
        steps_of_dispatch as dispatch,
        _room_for(folder),
        TrainingLog(folder, description, step, settings.steps) if processes.is_first() else NoLog() as log,
        jax.transfer_guard("disallow"),
        stopping.after_the_step() as stop_if_asked,
        advising_on_memory(config, stage, -(-batch_size // len(devices)), description),
    ):
        while step < settings.steps:
            state, metrics = dispatch(state)
            metrics = jax.device_get(metrics)
            _check_finite(metrics, step + 1, names)
            log.steps(step + 1, metrics["loss"].tolist(), metrics["gradient_norm"].tolist())
            step += settings.steps_per_dispatch
            if step % settings.validate_every == 0 or step >= settings.steps:
                params = jax.tree.map(lambda leaf: leaf.addressable_data(0), state.params)
                dice = jax.device_get(validate(params))
                if step >= settings.steps and initial_params is not None and initial_share > 0:
                    blended = blend(params, initial_params, initial_share)
                    dice_blended = jax.device_get(validate(blended))
                    params, dice = _better(params, dice, blended, dice_blended, initial_share, log)
                log.validation(step, dict(zip(plan.labels.names[1:], dice.tolist(), strict=True)))
            if step < settings.steps:
                if step % settings.checkpoint_every == 0:
                    save()
                if processes.any_says(stopping.is_asked()):
                    stopping.ask()
                    stop_if_asked(save)

    if processes.is_first():
        checkpoint.save_params(folder / "params", params)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    processes.wait_for_all(f"{description} is saved")
    if processes.any_says(stopping.is_asked()):
        stopping.ask()
        stopping.stop_if_asked(f" at the end of {description}, which is saved")
    return params


def _check_finite(metrics: dict[str, np.ndarray], first_step: int, names: Sequence[str]) -> None:
    for offset, (loss, cases) in enumerate(zip(metrics["loss"], metrics["case"], strict=True)):
        if not np.isfinite(loss):
            batch = ", ".join(sorted({names[case] if case >= 0 else "random phantoms" for case in cases}))
            raise TrainingError(f"the loss is {loss} at step {first_step + offset}; cases in the batch: {batch}")


@contextlib.contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    """What the disk says against a log, as a CaseError."""
    try:
        yield
    except OSError as error:
        raise CaseError(folder, f"cannot be written: {error.strerror or error}") from error


def blend(trained: Any, start: Any, share: float) -> Any:
    """`(1 - share) * trained + share * start`, leaf by leaf.

    Fine-tuned weights and those that they started from mostly lie in one basin, and a point between them keeps what
    the start knew of other images (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
    """
    return jax.jit(lambda *trees: jax.tree.map(lambda t, s: (1 - share) * t + share * s, *trees))(trained, start)


def _better(
    trained: Any, dice_trained: np.ndarray, blended: Any, dice_blended: np.ndarray, share: float, log: TrainingLog
) -> tuple[Any, np.ndarray]:
    """The parameters with the higher mean validation Dice, and that of each label; of equal ones the blend."""
    of_trained, of_blended = float(dice_trained.mean()), float(dice_blended.mean())
    kept = "the blend" if of_blended >= of_trained else "the end of the training"
    log.say(
        f"kept is {kept}: mean validation Dice {of_blended:.3f} with a share of {share:g} of the weights at the start, "
        f"{of_trained:.3f} without"
    )
    return (blended, dice_blended) if of_blended >= of_trained else (trained, dice_trained)
