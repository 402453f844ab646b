"""This library's work done in the other way, for each choice that `docs/performance.md` gives reasons for.

Contestants as in `ours.py`. Each runs in a process of its own, so what it changes in the library changes for it alone.
"""

import functools
from collections.abc import Callable
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax.cpu import compilation, working_memory
from cascade_jax.models import graph, layers, lowerings, planes, winograd
from launch.benchmarks import ours


def _replace(module: ModuleType, **values) -> None:
    """Sets attributes that the module has; one that it no longer has would change nothing."""
    for name, value in values.items():
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name}")
        setattr(module, name, value)


def forward_without_options(workspace: str, stage: int) -> Callable[[], None]:
    """The forward pass, compiled as the compiler does by itself."""
    _replace(compilation, compiler_options=dict)
    return ours.forward(workspace, stage)


def forward_with_bias_in_product(workspace: str, stage: int) -> Callable[[], None]:
    """The forward pass with a bias added to upsampling's product before its voxels are rearranged, and not after."""
    _replace(layers, product_of_voxels=lambda inputs, kernel, *_, **__: inputs @ kernel + jnp.ones(kernel.shape[-1]))
    return ours.forward(workspace, stage)


def forward_with_joined_arrays(workspace: str, stage: int) -> Callable[[], None]:
    """The forward pass that writes the arrays which a decoder joins side by side before it convolves them."""
    _replace(layers, convolve_joined=layers._convolve_concatenated)
    return ours.forward(workspace, stage)


def step_without_winograd(workspace: str, stage: int) -> Callable[[], None]:
    """The training step with every product of every convolution."""
    _replace(lowerings, _tiling=lambda *_: None, _kernel_gradient_tiling=lambda *_: None)
    return ours.train_step(workspace, stage)


def step_with_mapped_parts(workspace: str, stage: int) -> Callable[[], None]:
    """The training step with Winograd's parts gone over by `jax.lax.map`, which makes the array of results itself."""

    def in_parts(function, inputs, at_once, _):
        outputs = jax.lax.map(function, inputs.reshape(-1, at_once, *inputs.shape[1:]))
        return outputs.reshape(-1, *outputs.shape[2:])

    _replace(winograd, _in_parts=in_parts)
    return ours.train_step(workspace, stage)


def step_with_derived_norm(workspace: str, stage: int) -> Callable[[], None]:
    """The training step with the gradient of instance norm and leaky ReLU as JAX derives it."""
    _replace(layers, normalize_and_activate=layers.normalize_and_activate.fun)
    return ours.train_step(workspace, stage)


def step_with_derived_upsampling(workspace: str, stage: int) -> Callable[[], None]:
    """The training step with the gradient of the upsampling's product as JAX derives it."""
    _replace(layers, product_of_voxels=jax.lax.dot_general)
    return ours.train_step(workspace, stage)


def step_with_native_kernel_gradients(workspace: str, stage: int) -> Callable[[], None]:
    """The training step with 2D kernel gradients as the compiler has them: neither the operand with fewer channels cut
    into patches, nor a stride's phases apart."""
    _replace(planes, kernel_gradient=planes.native_kernel_gradient)
    return ours.train_step(workspace, stage)


def step_with_native_input_gradients(workspace: str, stage: int) -> Callable[[], None]:
    """The training step with 2D input gradients as the compiler has them: zeros between the rows of a strided one's
    gradient, and every kernel turned round."""
    _replace(planes, input_gradient=planes.native_input_gradient)
    return ours.train_step(workspace, stage)


def step_with_gradients_computed_anew(workspace: str, stage: int) -> Callable[[], None]:
    """The training step whose compiler may compute a gradient anew in every order in which it is needed."""
    _replace(lowerings, computed_once=lambda gradient: gradient)
    return ours.train_step(workspace, stage)


def step_with_memory_taken_anew(workspace: str, stage: int) -> Callable[[], None]:
    """The training step that takes its working memory from the system at every call."""
    _replace(working_memory, keep=lambda: None)
    return ours.train_step(workspace, stage)


def step_with_lowering(workspace: str, stage: int, lowering: str) -> Callable[[], None]:
    """The training step with one of the lowerings, whatever the platform."""
    chosen = lowerings.LOWERINGS[lowering]
    _replace(lowerings, LOWERINGS={key: chosen for key in lowerings.LOWERINGS})
    return ours.train_step(workspace, stage)


def kernel_gradients(workspace: str, loop: bool) -> Callable[[], int]:
    """Gradients of 32 by 32 channels at 16 x 96 x 80: calls of one program, or a compiled loop. Units: gradients."""
    inputs, kernel, count = jnp.ones((16, 96, 80, 32)), jnp.full((3, 3, 32, 32), 1 / 300), 4

    def step(kernel, _):
        gradient = jax.grad(lambda kernel: jnp.sum(planes.native(inputs, kernel, (1, 1)) ** 2))(kernel)
        return kernel - 1e-9 * gradient, None

    once = compilation.jit(lambda kernel: step(kernel, None)[0])
    looped = compilation.jit(lambda kernel: jax.lax.scan(step, kernel, None, length=count)[0])

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

    _replace(ours, segment=mapped)
    return ours.five_folds(workspace)


def prior(workspace: str, at_once: bool) -> Callable[[], None]:
    """Stage one's labels of a volume of one fold, as the platform does it, or all slices at once."""
    network, _, shape = ours._stage(workspace, 0)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(10, *shape[:-1])), jnp.float32)
    valid = jnp.ones(image.shape, bool)
    params = ours._random_params(network, shape, 0)
    if at_once:
        run = compilation.jit(lambda p, i, _: graph.most_probable(graph.segment_slices(network, p, i)))
    else:
        run = compilation.jit(functools.partial(graph.predict_prior, network))

    def work():
        run(params, image, valid).block_until_ready()

    return work


def initialisation(workspace: str, optimized: bool) -> Callable[[], None]:
    """Drawing the parameters of stage one's network, from Python to the arrays: most of it is compiling."""
    network, _, shape = ours._stage(workspace, 0)
    if optimized:
        _replace(compilation, run_once=lambda function, *arguments: compilation.jit(function)(*arguments))

    def work():
        jax.clear_caches()
        jax.block_until_ready(ours._random_params(network, shape, 0))

    return work
