"""This library's contestants; see `worker.py` for what they are.

What only some of them need is imported there: it would count as memory of the others.
"""

import dataclasses
import functools
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import cascade_jax
from cascade_jax import cpu
from cascade_jax.bundle import MODEL_FILE
from cascade_jax.cascade import STAGES, build_networks, compute_dtype, fold_folder, input_shapes
from cascade_jax.data import augment, folders
from cascade_jax.models import UNet, segment
from cascade_jax.models.convolution import Convolve, convolve
from cascade_jax.models.unet import params_like
from cascade_jax.training.batches import Batch, CaseSelection, Cohort, Draw, draw_slices, draw_volumes, make_cohort
from cascade_jax.training.log import TrainingLog
from cascade_jax.training.optimizers import make_optimizer
from cascade_jax.training.step import compile_steps, initial_state
from cascade_jax.training.step import train_step as one_train_step
from launch import console
from launch.benchmarks import workspace as shared

_NUM_CLASSES = 5
_STEPS_PER_DISPATCH = 10  # as launch/configs/default.py has it


def stage_of(workspace: str, stage: int, dtype: str = "auto", convolve: Convolve = convolve):
    """The network, batch size and sample shape of a stage (0 or 1)."""
    plan = shared.plan(workspace)
    network = build_networks(plan, compute_dtype(dtype))[stage].clone(convolve=convolve)
    return network, (plan.slices, plan.volumes)[stage].batch_size, input_shapes(plan)[stage]


def make_sgd():
    """The optimizer of a training by default."""
    return make_optimizer("sgd", "polynomial", 0.01, 250_000, 12.0)


def train_step(workspace: str, stage: int, dtype: str = "auto", convolve: Convolve = convolve) -> Callable[[], None]:
    """One training step on a batch that lies on the device."""
    cpu.configure(hold_memory=True)
    network, batch_size, shape = stage_of(workspace, stage, dtype, convolve)
    optimizer = make_sgd()
    key = jax.random.key(0)
    spatial = (batch_size, *shape[:-1])
    batch = Batch(
        jax.random.normal(key, (batch_size, *shape)),
        jax.random.randint(key, spatial, 0, _NUM_CLASSES).astype(jnp.uint8),
        jnp.ones(spatial, bool),
        jnp.zeros(batch_size, jnp.int32),
    )
    state = initial_state(key, network, optimizer, (batch_size, *shape))
    step = jax.jit(functools.partial(one_train_step, network=network, optimizer=optimizer), donate_argnums=0)

    def work():
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return work


def forward(workspace: str, stage: int, dtype: str = "auto") -> Callable[[], None]:
    """The logits of one batch, as in inference."""
    cpu.configure()
    network, batch_size, shape = stage_of(workspace, stage, dtype)
    inputs = jax.random.normal(jax.random.key(0), (batch_size, *shape))
    params = random_params(network, shape, 1)
    apply = jax.jit(lambda params, inputs: network.apply({"params": params}, inputs))

    def work():
        apply(params, inputs).block_until_ready()

    return work


def _prepared_cohort(workspace: str, stage: int) -> tuple[Cohort, CaseSelection, tuple[str, ...]]:
    from cascade_jax.training.preparation import prepare

    with tempfile.TemporaryDirectory() as folder:
        _, examples = prepare(
            shared.cohort(workspace), Path(folder), shared.overrides(workspace), 1, lambda iterable, _: iterable
        )
        cohort = make_cohort(examples)
    if stage:
        cohort = cohort.replace(prior=cohort.labels)
    cases = CaseSelection(np.arange(len(examples), dtype=np.int32), np.int32(len(examples)))
    return jax.device_put(cohort), jax.device_put(cases), tuple(examples.names)


def draw_of(stage: int, batch_size: int, shape: tuple[int, ...]) -> Draw:
    if stage == 0:
        return draw_slices(batch_size, shape[:-1], augment.Augmentation())
    augmentation = augment.Augmentation(mirror_depth=True)
    return draw_volumes(batch_size, shape[:-1], augmentation, augment.PriorCorruption(), _NUM_CLASSES)


def loop(workspace: str, stage: int, dtype: str = "auto") -> Callable[[], int]:
    """The training loop between two validations: draws, augments, trains, fetches the losses, logs. Units: steps."""
    cpu.configure(hold_memory=True)
    network, batch_size, shape = stage_of(workspace, stage, dtype)
    cohort, cases, _ = _prepared_cohort(workspace, stage)
    optimizer = make_sgd()
    state = initial_state(jax.random.key(0), network, optimizer, (batch_size, *shape))
    steps = shared.loop_steps(jax.default_backend())
    steps_per_dispatch = min(steps, _STEPS_PER_DISPATCH)
    run_steps = compile_steps(network, optimizer, draw_of(stage, batch_size, shape), steps_per_dispatch)
    log = TrainingLog(Path(tempfile.mkdtemp(dir=workspace)), "benchmark", 0, 1_000_000)
    step = 0

    def work():
        nonlocal state, step
        for _ in range(steps // steps_per_dispatch):
            state, metrics = run_steps(state, cohort, cases)
            metrics = jax.device_get(metrics)
            log.steps(step + 1, metrics["loss"].tolist(), metrics["gradient_norm"].tolist())
            step += steps_per_dispatch
        return steps

    return work


def augment_samples(workspace: str, stage: int) -> Callable[[], int]:
    """Draws and augments batches of a resident cohort. Units: samples."""
    _, batch_size, shape = stage_of(workspace, stage)
    cohort, cases, _ = _prepared_cohort(workspace, stage)
    draw = jax.jit(lambda key, cohort, cases: draw_of(stage, batch_size, shape)(key, cohort, cases))
    keys = map(functools.partial(jax.random.fold_in, jax.random.key(0)), itertools.count())

    def work():
        for _ in range(4):
            jax.block_until_ready(draw(next(keys), cohort, cases))
        return 4 * batch_size

    return work


def random_params(network: UNet, shape: tuple[int, ...], seed: int):
    """Parameters of random values, by numpy: JAX would compile the draws."""
    generator = np.random.default_rng(seed)

    def draw(leaf):
        deviation = np.sqrt(2 / max(1, math.prod(leaf.shape[:-1])))
        return jnp.asarray(generator.normal(scale=deviation, size=leaf.shape).astype(np.float32))

    return jax.tree.map(draw, params_like(network, shape))


def _folds(workspace: str, groups: list[tuple[int, int]]) -> Callable[[], None]:
    """Both stages on one volume: one call for each group of folds (first, beyond last)."""
    plan = shared.plan(workspace)
    cpu.configure()
    networks = build_networks(plan, compute_dtype("auto"))
    params = [
        [random_params(network, shape, fold) for fold in range(shared.FOLDS)]
        for network, shape in zip(networks, input_shapes(plan), strict=True)
    ]

    def stacked(first, last):
        return tuple(jax.tree.map(lambda *leaves: jnp.stack(leaves), *stage[first:last]) for stage in params)

    image, valid = jax.random.normal(jax.random.key(9), plan.shape), jnp.ones(plan.shape, bool)
    run = jax.jit(functools.partial(segment, networks))
    calls = [stacked(*group) for group in groups]

    def work():
        for call in calls:
            jax.block_until_ready(run(call, image, valid))

    return work


def five_folds(workspace: str) -> Callable[[], None]:
    """Five folds mapped in one program."""
    return _folds(workspace, [(0, shared.FOLDS)])


def five_calls(workspace: str) -> Callable[[], None]:
    """Five calls of one fold each."""
    return _folds(workspace, [(fold, fold + 1) for fold in range(shared.FOLDS)])


def one_fold(workspace: str) -> Callable[[], None]:
    """One fold."""
    return _folds(workspace, [(0, 1)])


def _trained(workspace: str, mirror: bool) -> Path:
    """A working folder as training leaves it, with random parameters."""
    from cascade_jax import checkpoint

    workdir = Path(workspace) / "ours"
    plan = shared.plan(workspace)
    networks = build_networks(plan, compute_dtype("auto"))
    for stage, network, shape in zip(STAGES, networks, input_shapes(plan), strict=True):
        for fold in range(shared.FOLDS):
            folder = fold_folder(workdir, stage, fold)
            if not (folder / "params").exists():
                folder.mkdir(parents=True, exist_ok=True)
                checkpoint.save_params(folder / "params", random_params(network, shape, fold))
    model = {"plan": plan.to_json(), "folds": list(range(shared.FOLDS)), "compute_dtype": "auto", "rules": []}
    (workdir / MODEL_FILE).write_text(json.dumps(model | {"mirror": mirror}))
    return workdir


def _first_image(workspace: str) -> Path:
    return folders.find_cases(shared.cohort(workspace))[0].image


def predict(workspace: str, mirror: bool) -> Callable[[], None]:
    """One case from file to file, both stages, five folds, the model loaded."""
    from cascade_jax.commands.predict import predict_cases

    cpu.configure()
    cascade = cascade_jax.load(_trained(workspace, mirror), mirror=mirror)
    image, output = _first_image(workspace), Path(tempfile.mkdtemp(dir=workspace))

    def work():
        _, failed = predict_cases(cascade, image, output, False, lambda iterable, _: iterable)
        if failed:
            raise RuntimeError(f"{failed}")

    return work


def predict_cold(workspace: str, mirror: bool) -> Callable[[], None]:
    """The same from the command line: starting Python, loading the model, compiling."""
    again = predict_again(workspace, mirror)

    def work():
        shutil.rmtree(_cache(workspace), ignore_errors=True)
        again()

    return work


def predict_again(workspace: str, mirror: bool) -> Callable[[], None]:
    """The same from the command line, where an earlier start has left what it compiled."""
    command = [*console.command("predict"), "--nofigures", f"--input={_first_image(workspace)}"]
    command += [f"--weights={_trained(workspace, mirror)}", f"--output={tempfile.mkdtemp(dir=workspace)}"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(_cache(workspace))}
    return lambda: subprocess.run(command, check=True, env=environment) and None


def _cache(workspace: str) -> Path:
    return Path(workspace) / "compiled"


def prepare_cohort(workspace: str) -> Callable[[], int]:
    """From the cohort's files to planned and preprocessed examples on disk. Units: cases."""
    from cascade_jax.training.preparation import prepare

    def work():
        with tempfile.TemporaryDirectory(dir=workspace) as folder:
            prepare(
                shared.cohort(workspace), Path(folder), shared.overrides(workspace), 1, lambda iterable, _: iterable
            )
        return shared.CASES

    return work


def second_start(workspace: str, stage: int) -> Callable[[], None]:
    """From the command of a training run to its first step. The warm-up is the first start, which compiles."""
    plan = shared.plan(workspace)
    workdir = Path(workspace) / f"started{stage}"
    settings = {"data.root": shared.cohort(workspace), "plan.shape": plan.shape, "plan.spacing": plan.spacing}
    for name, one in (("slices", plan.slices), ("volumes", plan.volumes)):
        for key, value in dataclasses.asdict(one).items():
            settings[f"plan.{name}.{key}"] = value
    for name in STAGES:
        settings |= {f"{name}.steps_per_dispatch": 1, f"{name}.steps": 1000, f"{name}.validate_every": 1000}
        settings[f"{name}.checkpoint_every"] = 1000
    config = Path(__file__).parents[1] / "configs" / "default.py"
    command = [sys.executable, "-m", "launch.train", f"--config={config}", f"--workdir={workdir}"]
    command += [f"--config.{key}={value}" for key, value in settings.items()]
    metrics = fold_folder(workdir, STAGES[stage], 0) / "metrics.csv"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(_cache(workspace))}

    def work():
        metrics.unlink(missing_ok=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True)
        try:
            while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
                if process.poll() is not None:
                    raise RuntimeError("launch.train ended before its first step")
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()

    return work


def describe() -> dict:
    """Versions and device, as the benchmark prints them."""
    return {
        "jax": jax.__version__,
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "cpus": len(os.sched_getaffinity(0)),
    }
