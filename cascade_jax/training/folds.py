"""The folds: which cases each has, and several at once, each in a thread of its own on devices of its own."""

import collections
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import jax
import numpy as np

from cascade_jax import stopping
from cascade_jax.plan import Plan
from cascade_jax.training.loop import devices_for, number_kept_busy, stage_plan


def make_folds(names: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Shuffles the cases once and deals them into `count` folds whose sizes differ by one at most."""
    shuffled = np.random.default_rng(seed).permutation(sorted(names))
    return [sorted(map(str, fold)) for fold in np.array_split(shuffled, count)]


def groups_of_devices(
    plan: Plan, stage: int, devices: Sequence[jax.Device], *, folds: int, at_once: int = 0, parallel: str = "jit"
) -> list[list[jax.Device]]:
    """Which devices train a fold: a group of as many for each of the folds that are trained at once.

    Args:
        plan: of the run.
        stage: 0 or 1.
        devices: to be shared out.
        folds: how many there are to train.
        at_once: how many at a time; 0 is as many as have room beside each other, each on the devices that its batch
            keeps busy. There are no more than devices or folds.
        parallel: of the config, as for `devices_for`.
    """
    if at_once == 0:
        busy = number_kept_busy(stage_plan(plan, stage).batch_size, len(devices))
        at_once = 1 if parallel == "height" else len(devices) // busy
    count = max(1, min(at_once, folds, len(devices)))
    size = len(devices) // count
    kept = len(devices_for(plan, stage, devices[:size], parallel))
    return [list(devices[first * size : first * size + kept]) for first in range(count)]


def train_folds(
    train: Callable[[int, Sequence[jax.Device]], None], folds: Sequence[int], groups: Sequence[Sequence[jax.Device]]
) -> None:
    """Calls `train(fold, devices)` for every fold, on one group of devices after another as they become free.

    With one group that is a loop. With several, each fold has a thread, in which its group's first device is JAX's
    default. Where one fold ends with an error or is asked to stop, the others stop after their step, saved, and what
    the first one raised is raised.
    """
    if len(groups) == 1:
        for fold in folds:
            train(fold, groups[0])
        return
    free, ending = collections.deque(groups), threading.Event()

    def in_thread(fold):
        if ending.is_set():
            return
        devices = free.popleft()  # there are no more threads than groups
        try:
            with jax.default_device(devices[0]):
                train(fold, devices)
        except BaseException:
            ending.set()
            raise
        finally:
            free.append(devices)

    with contextlib.ExitStack() as leaving:
        leaving.callback(stopping.forget)  # after the threads have ended
        pool = leaving.enter_context(ThreadPoolExecutor(len(groups), "fold"))
        running = [pool.submit(in_thread, fold) for fold in folds]
        try:
            for done in as_completed(running):
                done.result()
        except BaseException:
            ending.set()
            stopping.ask()
            raise
