"""Training one network on one fold, from its last checkpoint to its last step."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from absl import logging

from cascade_jax import checkpoint
from cascade_jax.data.case import CaseError
from cascade_jax.errors import TrainingError
from cascade_jax.models.unet import UNet
from cascade_jax.plan import Plan
from cascade_jax.training.batches import CaseSelection, Draw
from cascade_jax.training.log import TrainingLog
from cascade_jax.training.optimizers import make_optimizer
from cascade_jax.training.step import TrainState, compile_steps, from_first_device, initial_state, replicate


@dataclasses.dataclass(frozen=True)
class Trainer:
    """One stage's compiled programs, shared by all folds.

    Attributes:
        network: the stage's network.
        optimizer: the stage's optimizer.
        batch_shape: (batch, *spatial, channel) of what a step learns from.
        run_steps: what `compile_steps` returned.
        validate: (params, cohort, cases) -> float32 Dice of each foreground label over all voxels of the cases.
        steps: of the whole training of one fold.
        steps_per_dispatch: of `run_steps`.
        validate_every, checkpoint_every: steps between them; multiples of `steps_per_dispatch`.
        devices: over which `run_steps` runs.
        label_names: of the foreground labels.
    """

    network: UNet
    optimizer: optax.GradientTransformation
    batch_shape: tuple[int, ...]
    run_steps: Callable
    validate: Callable
    steps: int
    steps_per_dispatch: int
    validate_every: int
    checkpoint_every: int
    devices: Sequence[jax.Device]
    label_names: Sequence[str]


def check_steps(settings) -> None:
    """Raises ValueError naming the setting, if a stage's numbers of steps do not fit together."""
    for name in ("steps", "steps_per_dispatch", "validate_every", "checkpoint_every"):
        if settings[name] < 1:
            raise ValueError(f"{name} is {settings[name]}; it must be 1 or more")
        if settings[name] % settings.steps_per_dispatch:
            raise ValueError(
                f"{name} is {settings[name]}, not a multiple of steps_per_dispatch ({settings.steps_per_dispatch})"
            )


def make_trainer(
    stage: str,
    settings,
    plan: Plan,
    network: UNet,
    input_shape: tuple[int, ...],
    draw: Draw,
    validate: Callable,
) -> Trainer:
    """Compiles one stage's training for as many of this machine's devices as make it faster.

    Each takes an equal share of the batch, rounded up.

    Args:
        stage: "stage1" or "stage2".
        settings: of the stage, as `launch/configs/default.py` describes them.
        plan: of the run.
        network: of the stage.
        input_shape: (*spatial, channel) of one sample.
        draw: draws a batch.
        validate: as `Trainer` has it.
    """
    optimizer = make_optimizer(
        settings.optimizer, settings.schedule, settings.learning_rate, settings.steps, settings.clip_norm
    )
    devices = jax.local_devices()
    part = {"stage1": "slices", "stage2": "volumes"}[stage]
    batch_size = getattr(plan, part).batch_size
    share = -(-batch_size // len(devices))
    used = -(-batch_size // share)
    if used < len(devices):
        logging.warning(
            "%s: a batch of %d keeps %d of %d devices busy; --config.plan.%s.batch_size=%d would keep all",
            stage,
            batch_size,
            used,
            len(devices),
            part,
            share * len(devices),
        )
    return Trainer(
        network=network,
        optimizer=optimizer,
        batch_shape=(batch_size, *input_shape),
        run_steps=compile_steps(network, optimizer, draw, settings.steps_per_dispatch, devices[:used]),
        validate=validate,
        steps=settings.steps,
        steps_per_dispatch=settings.steps_per_dispatch,
        validate_every=settings.validate_every,
        checkpoint_every=settings.checkpoint_every,
        devices=devices[:used],
        label_names=plan.labels.names[1:],
    )


def _check_finite(metrics: dict[str, np.ndarray], first_step: int, names: Sequence[str]) -> None:
    for offset, (loss, cases) in enumerate(zip(metrics["loss"], metrics["case"], strict=True)):
        if not np.isfinite(loss):
            batch = ", ".join(sorted({names[case] for case in cases}))
            raise TrainingError(f"the loss is {loss} at step {first_step + offset}; cases in the batch: {batch}")


@contextlib.contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    """What the disk says against a log, as a CaseError."""
    try:
        yield
    except OSError as error:
        raise CaseError(folder, f"cannot be written: {error.strerror or error}") from error


def fit(
    trainer: Trainer,
    folder: Path,
    cohort: Any,
    training_cases: CaseSelection,
    validation_cases: CaseSelection,
    names: Sequence[str],
    seed: int,
    description: str,
    initial_params: Any | None = None,
    initial_share: float = 0.0,
) -> Any:
    """Trains one network, or goes on where an earlier run stopped.

    Args:
        trainer: the stage's programs.
        folder: for checkpoints, log and, at the end, `params`.
        cohort: on the device; whatever the trainer's draws and validation take for one.
        training_cases, validation_cases: the fold.
        names: of the cohort's cases.
        seed: of this fold's initialisation and of every draw.
        description: what the log calls it.
        initial_params: where to start from; None draws them.
        initial_share: how much of `initial_params` is blended into what comes out, from 0 to 1 (see `blend`).

    Returns:
        The parameters after the last step, on the default device; or those blended with the ones at the start, if their
        mean validation Dice over the labels is no lower.

    Raises:
        TrainingError: a loss is not finite.
        CaseError: a checkpoint, the parameters or the log cannot be read or written.
    """
    if (folder / "params").exists():
        return checkpoint.restore_params(folder / "params")
    state = initial_state(jax.random.key(seed), trainer.network, trainer.optimizer, trainer.batch_shape, initial_params)
    state = _with_key_data(state)
    restored = checkpoint.restore_state(folder / "checkpoints", state)
    # Not asked of a fresh state, whose parameters are still being drawn while the step is traced.
    step = int(restored.step) if restored else 0
    # A restored state is committed to its device and a fresh one is not: made alike, they share a compiled step.
    state = jax.device_put(_with_typed_key(restored or state), trainer.devices[0])

    parallel = len(trainer.devices) > 1
    one_cohort, one_validation = cohort, validation_cases
    if parallel:
        state, cohort, training_cases = (replicate(tree, trainer.devices) for tree in (state, cohort, training_cases))

    def first(tree):
        return from_first_device(tree) if parallel else tree

    def validate(params):
        return jax.device_get(trainer.validate(params, one_cohort, one_validation))

    with (
        _room_for(folder),
        TrainingLog(folder, description, step, trainer.steps) as log,
        jax.transfer_guard("disallow"),
    ):
        while step < trainer.steps:
            state, metrics = trainer.run_steps(state, cohort, training_cases)
            metrics = jax.device_get(first(metrics))
            _check_finite(metrics, step + 1, names)
            log.steps(step + 1, metrics["loss"].tolist(), metrics["gradient_norm"].tolist())
            step += trainer.steps_per_dispatch
            if step % trainer.validate_every == 0 or step >= trainer.steps:
                params = first(state.params)
                dice = validate(params)
                if step >= trainer.steps and initial_params is not None and initial_share > 0:
                    blended = blend(params, initial_params, initial_share)
                    params, dice = _better(params, dice, blended, validate(blended), initial_share, log)
                log.validation(step, dict(zip(trainer.label_names, dice.tolist(), strict=True)))
            if step % trainer.checkpoint_every == 0 and step < trainer.steps:
                with jax.transfer_guard("allow"):
                    checkpoint.save_state(folder / "checkpoints", step, _with_key_data(first(state)))

    checkpoint.save_params(folder / "params", params)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return params


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


def _with_key_data(state: TrainState) -> TrainState:
    """The state with its random key as plain numbers, which is how it is stored."""
    return state.replace(key=jax.random.key_data(state.key))


def _with_typed_key(state: TrainState) -> TrainState:
    return state.replace(key=jax.random.wrap_key_data(state.key))
