"""One measurement of the suite `scaling` in a process of its own: memory and devices are those of nothing else.

    python -m launch.benchmarks.scaling_worker FUNCTION JSON

calls a function of this file with the JSON's arguments and prints what it returns, as one line of JSON; whatever else
is printed goes to the standard error.
"""

import functools
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cascade_jax import cpu
from cascade_jax.cascade import Cascade, build_networks, compute_dtype, input_shapes
from cascade_jax.training.batches import Batch
from cascade_jax.training.step import DEVICE_AXIS, initial_state, mesh_of, replicated_over, train_step
from launch.benchmarks import layers, machine, ours
from launch.benchmarks import workspace as shared

_NUM_CLASSES = 5
_TRACED_STEPS = 3
_MOST_CALLS_A_ROUND = 200
# XLA's count beside the one of this project: outside, it has missed convolutions, or counted something else.
_USABLE = (0.5, 2.0)


def describe() -> dict:
    """The environment (`machine.describe`), the dtype that networks compute in by default, and both stages' batches."""
    cpu.configure()
    return machine.describe() | {"default_dtype": compute_dtype("auto").name}


def training(
    workspace: str,
    stage: int,
    dtype: str,
    devices: int,
    batch_size: int,
    repeats: int,
    round_seconds: float,
    matrix_size: int | None = None,
    trace: str = "",
) -> dict:
    """Training steps of a stage on a batch that lies on the devices already, each of which has an equal share of it.

    Args:
        workspace: the folder with the plan.
        stage: 0 or 1.
        dtype: that the network computes in.
        devices: how many, of those that the process has.
        batch_size: of all devices together, a multiple of `devices`.
        repeats: rounds that are timed, after a warm-up.
        round_seconds: what a round lasts at least, unless that took too many steps.
        matrix_size: of the matrix product that steps are set against; None takes one that fits the platform.
        trace: the folder for a profiler's trace of some steps; "" has none.

    Returns:
        See docs/performance.md, "Scaling". `status` is "measured" or "out of memory".
    """
    cpu.configure(hold_memory=True)
    found: dict = {"status": "measured", "reason": None}
    try:
        _train(found, workspace, stage, dtype, devices, batch_size, repeats, round_seconds, trace)
        rate = matrix_rate(mesh_of(jax.local_devices()[:devices]), dtype, repeats, round_seconds, matrix_size)
        operations = found["operations"]["step"]
        found["flops_a_second"] = operations / found["step_seconds"]["median"]
        found["matrix_flops_a_second"], found["utilisation"] = rate, found["flops_a_second"] / rate
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        found |= {"status": "out of memory", "reason": str(error).strip().splitlines()[0]}
    return found


def _train(
    found: dict,
    workspace: str,
    stage: int,
    dtype: str,
    devices: int,
    batch_size: int,
    repeats: int,
    round_seconds: float,
    trace: str,
) -> None:
    """Measures into `found`, so that what was known before memory ran out is kept. All on the devices is gone after."""
    network, planned_batch_size, shape = ours.stage_of(workspace, stage, dtype)
    mesh = mesh_of(jax.local_devices()[:devices])
    optimizer = ours.make_sgd()
    params = ours.random_params(network, shape, 0)
    state = initial_state(jax.random.key(0), network, optimizer, (batch_size, *shape), params)
    state = jax.device_put(state, replicated_over(mesh))
    batch = jax.device_put(_batch(batch_size, shape), NamedSharding(mesh, PartitionSpec(DEVICE_AXIS)))
    step = jax.jit(
        functools.partial(train_step, network=network, optimizer=optimizer),
        donate_argnums=0,
        out_shardings=replicated_over(mesh),
    )

    start = time.perf_counter()
    lowered = step.lower(state, batch)
    found["trace_seconds"] = time.perf_counter() - start
    start = time.perf_counter()
    compiled = lowered.compile()
    found["compile_seconds"] = time.perf_counter() - start
    convolutions = layers.step_operations(workspace, stage) * batch_size / planned_batch_size
    found["operations"] = chosen_operations(
        _flops(lowered.cost_analysis()), _flops(compiled.cost_analysis()), convolutions
    )
    found["memory"] = {"program_bytes_of_a_device": _program_bytes(compiled)}
    _refuse_more_than_the_host_has(found["memory"]["program_bytes_of_a_device"], devices)

    def run():
        nonlocal state
        state, metrics = compiled(state, batch)
        return state, metrics

    seconds = rounds(run, repeats, round_seconds)
    found["step_seconds"] = spread(seconds)
    found["samples_a_second"] = batch_size / found["step_seconds"]["median"]
    found["memory"] |= _peaks(devices)
    if trace:
        with jax.profiler.trace(trace):
            for _ in range(_TRACED_STEPS):
                jax.block_until_ready(run())


def prediction(workspace: str, dtype: str, repeats: int, round_seconds: float) -> dict:
    """One case's vote of five folds through both stages, on all of the process's devices.

    Files, resampling and postprocessing are not in it. Arguments and status as of `training`.
    """
    cpu.configure()
    found: dict = {"status": "measured", "reason": None, "folds": shared.FOLDS}
    plan = shared.plan(workspace)
    networks = build_networks(plan, compute_dtype(dtype))
    try:
        params = tuple(
            jax.tree.map(
                lambda *leaves: jnp.stack(leaves),
                *(ours.random_params(network, shape, fold) for fold in range(shared.FOLDS)),
            )
            for network, shape in zip(networks, input_shapes(plan), strict=True)
        )
        cascade = Cascade(plan, networks, params, (), range(shared.FOLDS))
        image = np.random.default_rng(9).standard_normal(plan.shape, np.float32)
        example = SimpleNamespace(image=image, valid=np.ones(plan.shape, bool))
        found["case_seconds"] = spread(rounds(lambda: cascade.vote(example), repeats, round_seconds))
        found["cases_a_second"] = 1 / found["case_seconds"]["median"]
        found["memory"] = _peaks(len(jax.local_devices()))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        found |= {"status": "out of memory", "reason": str(error).strip().splitlines()[0]}
    return found


def chosen_operations(traced: float | None, compiled: float | None, convolutions: float) -> dict:
    """Operations of a step, and where the figure comes from.

    XLA counts the step as it was traced, before a platform's compiler puts calls of its own library, whose operations
    nobody counts, in the place of convolutions: the same on every platform. Where that is not near the convolutions'
    own, these are taken.

    Args:
        traced: XLA's count of the whole batch, or None.
        compiled: its count of one device's share as compiled, or None.
        convolutions: of the whole batch, forward and backward (`layers.step_operations`).
    """
    usable = traced is not None and _USABLE[0] < traced / convolutions < _USABLE[1]
    return {
        "step": traced if usable else convolutions,
        "from": "XLA, as traced" if usable else "convolutions",
        "xla_traced": traced,
        "xla_compiled_of_a_device": compiled,
        "convolutions": convolutions,
    }


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(
        sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "bad_alloc", "out of memory", "Out of memory")
    )


def rounds(run: Callable, repeats: int, round_seconds: float) -> list[float]:
    """Seconds of one call in each round; a round is as many calls as fill its time, and waits for its last one only."""
    jax.block_until_ready(run())
    start = time.perf_counter()
    jax.block_until_ready(run())
    calls = math.ceil(round_seconds / max(time.perf_counter() - start, 1e-9))
    calls = max(1, min(_MOST_CALLS_A_ROUND, calls))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            result = run()
        jax.block_until_ready(result)
        seconds.append((time.perf_counter() - start) / calls)
    return seconds


def spread(seconds: list[float]) -> dict:
    return {
        "median": float(np.median(seconds)),
        "lowest": min(seconds),
        "highest": max(seconds),
        "rounds": seconds,
    }


def matrix_rate(mesh: Mesh, dtype: str, repeats: int, round_seconds: float, size: int | None = None) -> float:
    """Operations a second of square matrix products, one on each device of a mesh, at once."""
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    # Random, since a GPU multiplies numbers that are all alike with less power, and so faster.
    square = np.random.default_rng(0).standard_normal((size, size), np.float32).astype(compute_dtype(dtype))
    rows = jax.device_put(np.tile(square, (mesh.size, 1)), NamedSharding(mesh, PartitionSpec(DEVICE_AXIS)))
    square = jax.device_put(square, replicated_over(mesh))
    multiply = jax.jit(jnp.matmul)
    return 2 * mesh.size * size**3 / float(np.median(rounds(lambda: multiply(rows, square), repeats, round_seconds)))


def _batch(batch_size: int, shape: tuple[int, ...]) -> Batch:
    """Random samples, all the same: what is in them makes no step faster."""
    generator = np.random.default_rng(0)
    image = generator.standard_normal(shape, np.float32)
    labels = generator.integers(0, _NUM_CLASSES, shape[:-1], np.uint8)
    one = Batch(image, labels, np.ones(shape[:-1], bool), np.zeros((), np.int32))
    return jax.tree.map(lambda leaf: np.repeat(leaf[None], batch_size, axis=0), one)


def _flops(analysis: object) -> float | None:
    """What XLA's cost analysis counts; None where it says nothing, or that it does not know."""
    flops = analysis.get("flops") if isinstance(analysis, dict) else None
    return float(flops) if flops and flops > 0 else None


def _program_bytes(compiled: jax.stages.Compiled) -> int | None:
    """What a program needs on a device, by XLA's own plan: what goes in and out, and its working memory."""
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return kept + memory.temp_size_in_bytes


def _refuse_more_than_the_host_has(bytes_of_a_device: int | None, devices: int) -> None:
    """On a CPU the system would give the memory and end the process, or another's, when it is used."""
    available = machine.host_memory("MemAvailable")
    if jax.default_backend() != "cpu" or not bytes_of_a_device or not available:
        return
    if bytes_of_a_device * devices > available:
        raise MemoryError(f"needs {bytes_of_a_device * devices / 1e9:.1f} GB, of which {available / 1e9:.1f} are left")


def _peaks(devices: int) -> dict:
    """The most that any device and this process have held. A CPU's devices do not say; its process does."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()[:devices]]
    return {
        "peak_bytes_of_a_device": max((peak for peak in peaks if peak is not None), default=None),
        "peak_bytes_of_the_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


_FUNCTIONS = {function.__name__: function for function in (describe, training, prediction)}


def main() -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get into the answer
    jax.config.update("jax_enable_compilation_cache", False)  # a program from the cache would have no time of compiling
    function, arguments = sys.argv[1:]
    print(json.dumps(_FUNCTIONS[function](**json.loads(arguments))), file=answer, flush=True)


if __name__ == "__main__":
    main()
