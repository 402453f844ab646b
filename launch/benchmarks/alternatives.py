"""This library's work done in the other way, for each choice that `docs/performance.md` gives reasons for.

Contestants as in `ours.py`. Each runs in a process of its own, so what it changes there it changes for itself alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cascade_jax import cpu
from cascade_jax.cpu import configuration
from cascade_jax.models import convolution, graph
from launch.benchmarks import ours

_WORKS = {"step": ours.train_step, "forward": ours.forward, "predict": ours.predict}


def without_faster_convolutions(workspace: str, work: str, **arguments) -> Callable[[], None]:
    """XLA with its flags as they are by default."""
    configuration._KNOWN_TO = ((0, 0), (0, 0))
    return _WORKS[work](workspace, **arguments)


def step_with_memory_taken_anew(workspace: str, stage: int) -> Callable[[], None]:
    """The training step that takes its working memory from the system at every call."""
    configuration._hold_freed_memory = lambda: None
    return ours.train_step(workspace, stage)


def predict_with_memory_held(workspace: str, mirror: bool) -> Callable[[], None]:
    """`predict` in a process that holds its programs' working memory."""
    cpu.configure(hold_memory=True)
    return ours.predict(workspace, mirror)


def step_with_compilers_volumes(workspace: str, stage: int) -> Callable[[], None]:
    """The training step with 3D convolutions as the compiler has them."""
    return ours.train_step(workspace, stage, convolve=compilers_convolution)


def compilers_convolution(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """The convolution as XLA has it, in volumes too."""
    axes = "DHW"[-len(strides) :]
    padding = [(size // 2, size // 2) for size in kernel.shape[:-2]]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=numbers)


def kernel_gradients(workspace: str, loop: bool) -> Callable[[], int]:
    """Gradients of 32 by 32 channels at 16 x 96 x 80: calls of one program, or a compiled loop. Units: gradients."""
    cpu.configure()
    inputs, kernel, count = jnp.ones((16, 96, 80, 32)), jnp.full((3, 3, 32, 32), 1 / 300), 4

    def step(kernel, _):
        gradient = jax.grad(lambda kernel: jnp.sum(convolution.convolve(inputs, kernel, (1, 1)) ** 2))(kernel)
        return kernel - 1e-9 * gradient, None

    once = jax.jit(lambda kernel: step(kernel, None)[0])
    looped = jax.jit(lambda kernel: jax.lax.scan(step, kernel, None, length=count)[0])

    def work():
        result = kernel
        if loop:
            result = looped(result)
        else:
            for _ in range(count):
                result = once(result)
        result.block_until_ready()
        return count

    return work


def five_folds_at_once(workspace: str) -> Callable[[], None]:
    """Five folds in one mapped program."""
    one_by_one = graph.segment

    def mapped(networks, params, image, valid):
        def fold(params):
            return one_by_one(networks, jax.tree.map(lambda leaf: leaf[None], params), image, valid).fold_labels

        return jax.vmap(fold)(params)

    ours.segment = mapped
    return ours.five_folds(workspace)
