"""Optimizers and learning-rate schedules, by the names that configs use."""

import functools
from collections.abc import Callable

import optax

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    # (learning rate at the start, steps of the run) -> schedule. The paper's, from nnU-Net, is "polynomial".
    "polynomial": lambda rate, steps: optax.polynomial_schedule(rate, 0.0, 0.9, steps),
    "cosine": lambda rate, steps: optax.warmup_cosine_decay_schedule(0.0, rate, max(1, steps // 20), steps),
    "constant": lambda rate, steps: optax.constant_schedule(rate),
}

OPTIMIZERS: dict[str, Callable[[optax.Schedule], optax.GradientTransformation]] = {
    # schedule -> optimizer. "adam" is the paper's; "sgd" is nnU-Net's.
    "adam": optax.adam,
    "adamw": lambda schedule: optax.adamw(schedule, weight_decay=0.01),
    "sgd": lambda schedule: optax.sgd(schedule, momentum=0.99, nesterov=True),
}


@functools.cache  # the same settings give the same object, so that all folds of a stage share a compiled step
def make_optimizer(
    name: str, schedule: str, learning_rate: float, steps: int, clip_norm: float
) -> optax.GradientTransformation:
    """An optimizer whose gradients are clipped at a global norm.

    Args:
        name: one of `OPTIMIZERS`.
        schedule: one of `SCHEDULES`.
        learning_rate: the schedule's highest.
        steps: of the whole run.
        clip_norm: the largest global norm of a gradient; nnU-Net's is 12.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    for kind, chosen, known in (("optimizer", name, OPTIMIZERS), ("schedule", schedule, SCHEDULES)):
        if chosen not in known:
            raise ValueError(f"unknown {kind} {chosen!r}; known: {', '.join(known)}")
    return optax.chain(
        optax.clip_by_global_norm(clip_norm), OPTIMIZERS[name](SCHEDULES[schedule](learning_rate, steps))
    )
