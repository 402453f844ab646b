"""Training on a cohort that is read meanwhile, against the same one that lies on the device.

    python -m launch.benchmarks.streaming [--cases=2000] [--stages=1,2] [--turns=5] [--trial]

Six phantom cases are simulated and prepared at nnU-Net's plan for EMIDEC's sizes; the others are these with other
noise, for it is their number that counts. 2,000 take 5.7 GB of disk. Both sides run in a process of their own and take
turns.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from cascade_jax.data.case import CaseError
from launch import command
from launch.benchmarks.worker import Contestant

_CASES = flags.DEFINE_integer("cases", 2000, "How many cases the cohort has.", lower_bound=1)
_STAGES = flags.DEFINE_list("stages", ["1", "2"], "Which stages to measure.")
_TURNS = flags.DEFINE_integer("turns", 5, "How often each side runs, after a warm-up.", lower_bound=1)
_TRIAL = flags.DEFINE_bool("trial", False, "Tiny networks and images: shows that it runs; the figures mean nothing.")
_FOLDER = flags.DEFINE_string("folder", None, "Where the cohort is written, and stays; else a temporary folder.")
_NOISE = 0.05  # of a tissue's standard deviation
_STEPS = 200_000  # no turn gets there
_STEPS_ON_DEVICE = 10  # in a dispatch; on a CPU a single one takes seconds
_PAUSE_SECONDS = 1.0
_OPEN: list = []  # what is read as long as this process lives: it ends when nobody holds it


def write_cohort(workspace: Path, cases: int) -> None:
    """Simulates and prepares some cases in `workspace`, and writes so many into `workspace/many`."""
    import dataclasses

    import numpy as np

    from cascade_jax.data import prepared
    from cascade_jax.data.prepared import Writer
    from cascade_jax.training.preparation import prepare
    from launch.benchmarks import workspace as shared

    shared.make(workspace, _TRIAL.value)
    overrides = shared.overrides(workspace)
    _, few = prepare(shared.cohort(workspace), workspace / "few", overrides, 1, lambda iterable, _: iterable)
    few, random = list(few), np.random.default_rng(0)
    many, names = workspace / "many", [f"Case_{number:06}" for number in range(cases)]
    if prepared.read_begun(many, {"cases": cases}) is None:
        prepared.begin(many, names, few[0].image.shape, overrides, {"cases": cases}, replace=True)
    writer = Writer(many)
    for number, name in enumerate(names):
        if not writer.has(number):
            one = few[number % len(few)]
            noise = random.normal(scale=_NOISE, size=one.image.shape).astype(np.float32) * one.valid
            writer.write(number, dataclasses.replace(one, name=name, image=one.image + noise))
    writer.finish()


def _steps(workspace: str, stage: int, *, stream: bool) -> Callable[[], int]:
    """The training loop between two validations: draws, augments, trains, fetches the losses. Units: steps."""
    import jax
    import numpy as np
    from ml_collections import ConfigDict

    from cascade_jax import cpu
    from cascade_jax.data.prepared import PreparedCohort
    from cascade_jax.training.batches import CaseSelection, make_cohort
    from cascade_jax.training.step import compile_steps, initial_state
    from cascade_jax.training.streaming import StreamedCohort, streamed_steps
    from launch.benchmarks import ours

    cpu.configure(hold_memory=True)
    network, batch_size, shape = ours.stage_of(workspace, stage, "auto")
    examples, optimizer = PreparedCohort(Path(workspace) / "many"), ours.make_sgd()
    state = initial_state(jax.random.key(0), network, optimizer, (batch_size, *shape))
    cases = CaseSelection(np.arange(len(examples), dtype=np.int32), np.int32(len(examples)))
    # All on the device explicitly: what a step returns and what it was given then share a compiled one.
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state, cases = jax.device_put((state, cases), device)
    in_call = 1 if jax.default_backend() == "cpu" else _STEPS_ON_DEVICE
    run_steps = compile_steps(network, optimizer, ours.draw_of(stage, batch_size, shape), 1 if stream else in_call)
    if stream:
        cohort = StreamedCohort(examples, batch_size, examples.labels if stage else None)
        settings = ConfigDict({"steps": _STEPS, "steps_per_dispatch": in_call})
        reading = streamed_steps(run_steps, cohort, state, cases, 0, settings, device)
        _OPEN.append(reading)
        dispatch = reading.__enter__()
    else:
        whole = make_cohort(examples)
        whole = jax.device_put(whole.replace(prior=whole.labels.copy()) if stage else whole, device)

        def dispatch(state):
            return run_steps(state, whole, cases)

    def work():
        nonlocal state
        state, metrics = dispatch(state)
        jax.device_get(metrics)
        return in_call

    return work


def resident(workspace: str, stage: int) -> Callable[[], int]:
    return _steps(workspace, stage, stream=False)


def streamed(workspace: str, stage: int) -> Callable[[], int]:
    return _steps(workspace, stage, stream=True)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _compare(workspace: Path, stage: int, turns: int) -> list[str]:
    """The lines of the table of one stage."""
    arguments, names = {"workspace": str(workspace), "stage": stage}, ("resident", "streamed")
    sides = {name: Contestant(f"streaming.{name}", arguments, {}, workspace / f"{name}.log") for name in names}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            time.sleep(_PAUSE_SECONDS)
            rates[name].append(1 / side.run())
    shares = [one / other for one, other in zip(rates["streamed"], rates["resident"], strict=True)]
    rows = []
    for name, side in sides.items():
        device = side.close()
        rate, share = _spread(rates[name]), "" if name == "resident" else _spread(shares)
        memory = f"{side.host_bytes / 1e9:.2f} | {device / 1e9:.2f}"
        rows.append(f"| stage {stage + 1} | {name} | {rate} | {share} | {memory} |")
    return rows


def main() -> None:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if unknown := [stage for stage in _STAGES.value if stage not in ("1", "2")]:
        raise CaseError(f"--stages={','.join(_STAGES.value)}", f"there is no stage {unknown[0]}")
    with contextlib.ExitStack() as context:
        folder = Path(_FOLDER.value or context.enter_context(tempfile.TemporaryDirectory()))
        write_cohort(folder, _CASES.value)
        print(f"{_CASES.value} cases\n")
        print("| stage | cohort | steps a second: median (range) | of the resident rate | host GB | device GB |")
        print("|---|---|---|---|---|---|")
        for stage in _STAGES.value:
            print("\n".join(_compare(folder, int(stage) - 1, _TURNS.value)), flush=True)


if __name__ == "__main__":
    command.run(main, required=())
