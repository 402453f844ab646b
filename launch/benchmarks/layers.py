"""The convolutions of both stages one by one, and operations counted and set against a matrix product's."""

import functools
import json
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax import cpu
from cascade_jax.cascade import compute_dtype, input_shapes
from cascade_jax.models.convolution import Convolve, convolve
from cascade_jax.models.unet import params_like
from launch.benchmarks import alternatives, ours
from launch.benchmarks import workspace as shared


@functools.cache
def _matrix_product() -> tuple[int, Callable[[], None]]:
    """A square matrix product in the dtype that networks compute in: its operations, and what does it once."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jax.random.normal(jax.random.key(0), (size, size), compute_dtype("auto"))
    multiply = jax.jit(jnp.matmul)
    return 2 * size**3, lambda: multiply(matrix, matrix).block_until_ready()


def matrix_rate(repeats: int) -> float:
    """Operations a second of a matrix product."""
    operations, work = _matrix_product()
    return operations / _median(work, repeats)


def batch_size(workspace: str, stage: int) -> int:
    """Samples of one training step."""
    return ours.stage_of(workspace, stage)[1]


def step_operations(workspace: str, stage: int) -> int:
    """Operations of one training step's convolutions: the forward pass three times, for there are two gradients."""
    network, batch_size, shape = ours.stage_of(workspace, stage)
    spatial = [np.array(shape[:-1])]
    for strides in network.strides[1:]:
        spatial.append(-(-spatial[-1] // strides))
    forward = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params_like(network, shape)):
        block, kind = path[0].key, path[-1].key
        if kind == "kernel":
            name, level = block.rstrip("0123456789"), int(block[-1])
            level += name == "upsampling"  # a matrix product of the voxels that come from below
            forward += 2 * batch_size * int(np.prod(spatial[level])) * leaf.size
    return 3 * forward


def layers(workspace: str, stage: int) -> list[dict]:
    """The convolutions of a stage, each shape once: its sizes and its operations in one pass."""
    plan = shared.plan(workspace)
    one = (plan.slices, plan.volumes)[stage]
    spatial, channels = input_shapes(plan)[stage][:-1], input_shapes(plan)[stage][-1]
    found = []
    for level, (features, kernel_size, strides) in enumerate(
        zip(one.features, one.kernel_sizes, one.strides, strict=True)
    ):
        unit = (1,) * len(strides)
        for inputs, step in ((channels, strides), (features, unit), (2 * features, unit)):
            if inputs == 2 * features and level == len(one.features) - 1:
                continue  # the bottleneck has no decoder
            size = [math.ceil(n / s) for n, s in zip(spatial, step, strict=True)]
            found.append(
                {
                    "inputs": (one.batch_size, *spatial, inputs),
                    "kernel": (*kernel_size, inputs, features),
                    "strides": step,
                    "operations": 2 * one.batch_size * math.prod(size) * math.prod(kernel_size) * inputs * features,
                }
            )
            spatial = size
        channels = features
    return [json.loads(key) for key in dict.fromkeys(map(json.dumps, found))]


def _convolution(one: dict, convolve: Convolve, what: str) -> Callable[[], None]:
    """A layer's "forward", "input gradient" or "kernel gradient" by one convolution."""
    keys = jax.random.split(jax.random.key(0))
    dtype = compute_dtype("auto")
    x = jax.random.normal(keys[0], one["inputs"], dtype)
    w = jax.random.normal(keys[1], one["kernel"], dtype)
    strides = tuple(one["strides"])
    g = jax.jit(lambda x, w: convolve(x, w, strides))(x, w)
    function, arguments = {
        "forward": (lambda x, w: convolve(x, w, strides), (x, w)),
        "input gradient": (lambda g, x, w: jax.vjp(lambda x: convolve(x, w, strides), x)[1](g)[0], (g, x, w)),
        "kernel gradient": (lambda g, x, w: jax.vjp(lambda w: convolve(x, w, strides), w)[1](g)[0], (g, x, w)),
    }[what]
    compiled = jax.jit(function)
    return lambda: compiled(*arguments).block_until_ready()


def all_layers(workspace: str, repeats: int, say: Callable[[str], None]) -> list[dict]:
    """GFLOP/s of every convolution of both stages, beside a matrix product timed just before.

    By the library's convolution, and by the compiler's own.
    """
    cpu.configure()
    chosen = {"ours": convolve, "compiler": alternatives.compilers_convolution}
    rows = []
    for stage in (0, 1):
        for one in layers(workspace, stage):
            say(f"layers of stage {('one', 'two')[stage]}: {one['inputs']} by {one['kernel']}")
            matrix = matrix_rate(repeats) / 1e9
            for what in ("forward", "input gradient", "kernel gradient"):
                for name, convolution in chosen.items():
                    rate = one["operations"] / _median(_convolution(one, convolution, what), repeats) / 1e9
                    row = {
                        "stage": stage + 1,
                        "what": what,
                        "convolution": name,
                        "gflops": rate,
                        "share": rate / matrix,
                    }
                    rows.append(one | row)
    return rows


def _median(work: Callable, repeats: int) -> float:
    """Seconds; slow work is repeated less often."""
    work()
    seconds = []
    while len(seconds) < repeats and sum(seconds) < 1:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
