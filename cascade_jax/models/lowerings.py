"""The convolution and its two gradients, as each platform runs them fastest.

All functions here are linear in each argument, compute the same numbers, and pad by half the kernel on each side.
Where the straightforward program is the fast one, it is used. It is not

* for 3D convolutions on a CPU, where they run 3 to 8 times slower than 2D ones, and on a CUDA GPU, where XLA keeps the
  channels of 2D ones last, as its matrix units want them, and moves those of 3D ones to the front. There depth is
  folded into the batch, one 2D convolution computes what each tap along the depth contributes, side by side on its
  channel axis, and these are added up, each shifted by its depth;
* for the gradients of 2D convolutions on a CPU, which `planes.py` writes otherwise;
* on a CPU where there are many channels: it has nothing to gain from memory there, so Winograd's filtering
  (`winograd.py`) saves arithmetic, half of it along the height and, in volumes, a third to a half of the rest along the
  depth.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cascade_jax.models import planes, winograd


def _slices(volume: jax.Array) -> jax.Array:
    """(batch, depth, height, width, channel) -> (batch * depth, height, width, channel)."""
    return volume.reshape(-1, *volume.shape[2:])


def _sum_of_taps(slices: jax.Array, batch: int, shifts: range) -> jax.Array:
    """A 3D convolution from the 2D convolutions with each tap along its depth.

    Args:
        slices: (batch * depth, height, width, tap * features).
        batch: the batch size.
        shifts: for each tap, from how many slices further on its share comes.

    Returns:
        (batch, depth, height, width, features).
    """
    taps = slices.reshape(batch, -1, *slices.shape[1:3], len(shifts), slices.shape[-1] // len(shifts))
    return sum(planes.shifted(taps[..., tap, :], 1, shift) for tap, shift in enumerate(shifts))


def _at_every_depth(gradient: jax.Array, stride: int, depth: int) -> jax.Array:
    """The gradient of a strided convolution, with zeros at the depths that it skips."""
    if stride == 1:
        return gradient
    missing = depth - (stride * (gradient.shape[1] - 1) + 1)
    unchanged = [(0, 0, 0)] * 3
    return jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), (0, missing, stride - 1), *unchanged])


class Lowering(NamedTuple):
    """One way to compute a convolution.

    Attributes:
        forward: (inputs, kernel, strides) -> outputs.
        inference: the same, where no gradient will be asked for.
        input_gradient: (gradient, kernel, strides, input shape without the batch axis) -> gradient to the inputs.
        kernel_gradient: (inputs, gradient, strides, kernel shape) -> gradient to the kernel.
    """

    forward: Callable
    inference: Callable
    input_gradient: Callable
    kernel_gradient: Callable


def _slice_by_slice(plane: Lowering) -> Lowering:
    """2D convolutions as `plane` has them, and 3D ones made of these."""

    def forward(inputs, kernel, strides):
        if len(strides) == 2:
            return plane.forward(inputs, kernel, strides)
        if kernel.shape[0] == strides[0] == 1:
            outputs = plane.forward(_slices(inputs), kernel[0], strides[1:])
            return outputs.reshape(*inputs.shape[:2], *outputs.shape[1:])
        outputs_depth = -(-inputs.shape[1] // strides[0])
        outputs = []
        for phase in range(min(strides[0], inputs.shape[1])):
            # With a stride of 2, even slices meet other taps than odd ones, and neither meets all.
            taps, (before, after) = planes.taps_of_phase(kernel.shape[0], strides[0], phase)
            if not taps:
                continue
            slices = inputs[:, phase :: strides[0]]
            slices = jnp.pad(slices, ((0, 0), (0, outputs_depth - slices.shape[1]), (0, 0), (0, 0), (0, 0)))
            filters = jnp.stack([kernel[tap] for tap in taps], axis=-2)
            filters = filters.reshape(*filters.shape[:3], -1)
            parts = plane.forward(_slices(slices), filters, strides[1:])
            outputs.append(_sum_of_taps(parts, inputs.shape[0], range(before, -after - 1, -1)))
        return sum(outputs)

    def input_gradient(gradient, kernel, strides, input_shape):
        if len(strides) == 2:
            return plane.input_gradient(gradient, kernel, strides, input_shape)
        depth, *size, channels, features = kernel.shape
        taps = kernel.transpose(1, 2, 0, 3, 4).reshape(*size, depth * channels, features)
        gradient = _at_every_depth(gradient, strides[0], input_shape[0])
        outputs = plane.input_gradient(_slices(gradient), taps, strides[1:], (*input_shape[1:3], depth * channels))
        return _sum_of_taps(outputs, gradient.shape[0], planes.offsets(depth)[::-1])

    def kernel_gradient(inputs, gradient, strides, kernel_shape):
        if len(strides) == 2:
            return plane.kernel_gradient(inputs, gradient, strides, kernel_shape)
        depth, *size, channels, features = kernel_shape
        gradient = _at_every_depth(gradient, strides[0], inputs.shape[1])
        shifts = planes.offsets(depth)
        if channels > features and max(strides) == 1:
            # The zero keeps the compiler from making these copies during the forward pass.
            zero = planes.zero_told_by(gradient)
            copies = jnp.concatenate([planes.shifted(inputs, 1, shift, zero) for shift in shifts], axis=-1)
            taps = plane.kernel_gradient(
                _slices(copies), _slices(gradient), strides[1:], (*size, depth * channels, features)
            )
            return taps.reshape(*size, depth, channels, features).transpose(2, 0, 1, 3, 4)
        copies = jnp.concatenate([planes.shifted(gradient, 1, -shift) for shift in shifts], axis=-1)
        taps = plane.kernel_gradient(_slices(inputs), _slices(copies), strides[1:], (*size, channels, depth * features))
        return taps.reshape(*size, channels, depth, features).transpose(3, 0, 1, 2, 4)

    return Lowering(forward, forward, input_gradient, kernel_gradient)


_CACHED = 1_200_000  # elements of slices whose tiles stay in a processor's cache
_CACHED_VOLUME = 2_000_000  # elements of a volume for which this is so along its depth


class _Tiling(NamedTuple):
    """Along which axis (of arrays with a batch axis) Winograd's filtering is worth it, and the outputs in a tile."""

    axis: int
    tile: int


class _Worth(NamedTuple):
    """Where Winograd's filtering pays, in a forward pass or an input gradient.

    Attributes:
        fewest_channels: from how many on along the height.
        depth_tiles: the sizes to choose from along the depth; that with the fewest products is taken, those beyond the
            last slice included.
        least_height: of slices that are filtered along the depth.
    """

    fewest_channels: int
    depth_tiles: tuple[int, ...]
    least_height: int

    def depth_tiling(self, volumes: jax.Array) -> _Tiling:
        return _Tiling(1, min(self.depth_tiles, key=lambda tile: -(-volumes.shape[1] // tile) * (tile + 2)))


# Larger tiles have more filters: in training's step they take memory that the step needs, and gain a hundredth.
_IN_TRAINING, _IN_INFERENCE = _Worth(64, (2,), 32), _Worth(32, (2, 4, 5), 16)


def _tiling(
    inputs: jax.Array, kernel_shape: tuple[int, ...], strides: tuple[int, ...], worth: _Worth
) -> _Tiling | None:
    """For the forward pass and the input gradient, where both axes gain: the depth first, then the height."""
    height_axis = len(strides) - 1
    height, fewest = inputs.shape[height_axis], min(kernel_shape[-2:])
    if fewest < worth.fewest_channels or inputs.dtype != jnp.float32:
        return None
    if math.prod(inputs.shape[:-1]) < max(kernel_shape[-2:]) * math.prod(strides):
        return None  # with so few voxels, combining the filters' taps costs more than it saves
    if len(strides) == 3 and kernel_shape[0] == 3 and inputs.shape[1] >= 4 and height >= worth.least_height:
        tiling = worth.depth_tiling(inputs)
        if max(strides) > 1:  # there are four times as many inputs to combine, and small tiles save too little for it
            return tiling if strides[0] == 1 and fewest >= 64 and tiling.tile >= 4 else None
        # Along the depth there is nothing to go over in parts that stay in the cache.
        return tiling if fewest >= 128 or (fewest >= 64 and inputs.size <= _CACHED_VOLUME) else None
    if kernel_shape[-4] == 3 and height >= 16 and max(strides) == 1:
        return _Tiling(height_axis, 4)
    return None


def _cached_slices(slices: jax.Array) -> int:
    """How many of (batch, height, width, channel) are gone over at a time: as many as stay in the cache."""
    most = max(1, _CACHED // math.prod(slices.shape[1:]))
    return max(count for count in range(1, len(slices) + 1) if len(slices) % count == 0 and count <= most)


def _kernel_gradient_tiling(
    inputs: jax.Array, kernel_shape: tuple[int, ...], strides: tuple[int, ...]
) -> _Tiling | None:
    """For the kernel gradient, where one axis gains: the depth, or the height with very many channels."""
    height_axis = len(strides) - 1
    height, fewest = inputs.shape[height_axis], min(kernel_shape[-2:])
    if max(strides) > 1 or inputs.dtype != jnp.float32:
        return None
    taps_along_depth = len(strides) == 3 and kernel_shape[0] == 3
    if kernel_shape[-4] == 3 and height >= 16 and fewest >= (256 if taps_along_depth else 128):
        return _Tiling(height_axis, 4)
    if taps_along_depth and inputs.shape[1] >= 4 and fewest >= 64:
        return _IN_TRAINING.depth_tiling(inputs)
    return None


_NATIVE = Lowering(planes.native, planes.native, planes.native_input_gradient, planes.native_kernel_gradient)
# The plane's functions are looked up when they are called, so that a benchmark can put others in their place.
_CPU_DIRECT = _slice_by_slice(
    Lowering(
        planes.native,
        planes.native,
        lambda *arguments: planes.input_gradient(*arguments),
        lambda *arguments: planes.kernel_gradient(*arguments),
    )
)


def _cpu_forward(
    inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...], worth: _Worth = _IN_TRAINING
) -> jax.Array:
    direct = functools.partial(_cpu_forward, strides=strides, worth=worth)
    if len(strides) == 3 and kernel.shape[0] == strides[0] == 1:
        outputs = direct(_slices(inputs), kernel[0], strides=strides[1:])
        return outputs.reshape(*inputs.shape[:2], *outputs.shape[1:])
    if tiling := _tiling(inputs, kernel.shape, strides, worth):
        at_once = _cached_slices(inputs) if len(strides) == 2 else None
        return winograd.convolve(inputs, kernel, *tiling, direct, at_once)
    return _CPU_DIRECT.forward(inputs, kernel, strides)


def _cpu_input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, ...], input_shape: tuple[int, ...]
) -> jax.Array:
    # The taps of a kernel that has to be turned round cost still more to combine.
    voxels_enough = math.prod(gradient.shape[:-1]) >= 3 * max(kernel.shape[-2:])
    if voxels_enough and max(strides) == 1 and _tiling(gradient, kernel.shape, strides, _IN_TRAINING):
        flipped = jnp.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)
        return _cpu_forward(gradient, flipped, strides)
    return _CPU_DIRECT.input_gradient(gradient, kernel, strides, input_shape)


def _cpu_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> jax.Array:
    tiling = _kernel_gradient_tiling(inputs, kernel_shape, strides)
    if tiling is None:
        return _CPU_DIRECT.kernel_gradient(inputs, gradient, strides, kernel_shape)
    sizes = list(kernel_shape)
    sizes[tiling.axis - 1] = 1
    if len(strides) == 2:
        direct = functools.partial(planes.row_kernel_gradient, kernel_shape=tuple(sizes))
    else:
        direct = functools.partial(_CPU_DIRECT.kernel_gradient, strides=strides, kernel_shape=tuple(sizes))
    return winograd.kernel_gradient(inputs, gradient, *tiling, direct)


# By platform, as `jax.lax.platform_dependent` calls them; "native" is for all others.
LOWERINGS = {
    "cpu": Lowering(
        _cpu_forward,
        functools.partial(_cpu_forward, worth=_IN_INFERENCE),
        _cpu_input_gradient,
        _cpu_kernel_gradient,
    ),
    "cuda": _slice_by_slice(_NATIVE),
    "native": _NATIVE,
}


def computed_once(gradient: jax.Array) -> jax.Array:
    """The gradient that a convolution passes on, on a CPU computed in one order for all that need it.

    A kernel's gradient needs it transposed. The compiler would compute it anew in that order, which takes several times
    as long as computing it and then transposing it. It looks through every barrier but a loop of which only the numbers
    tell that it does nothing.
    """

    def behind_loop(gradient):
        return jax.lax.while_loop(lambda array: array[(0,) * array.ndim] > jnp.inf, jnp.negative, gradient)

    return jax.lax.platform_dependent(gradient, cpu=behind_loop, default=lambda gradient: gradient)


def _chosen(name: str, *arrays: jax.Array, **sizes) -> jax.Array:
    functions = {key: functools.partial(getattr(lowering, name), **sizes) for key, lowering in LOWERINGS.items()}
    return jax.lax.platform_dependent(*arrays, default=functions.pop("native"), **functions)


# Jitted, to be inlined: a shape that a network meets again, or for every fold, is then not traced again through the
# lowerings of all platforms.
@functools.partial(jax.jit, static_argnames=("strides", "differentiated"), inline=True)
def forward(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...], differentiated: bool) -> jax.Array:
    """The convolution: (batch, *spatial, channel), (*kernel size, channel, features) -> (batch, *spatial, features).

    `differentiated` says whether its gradient will be asked for.
    """
    return _chosen("forward" if differentiated else "inference", inputs, kernel, strides=strides)


@functools.partial(jax.jit, static_argnames=("strides", "input_shape"), inline=True)
def input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, ...], input_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient to inputs whose shape without the batch axis is `input_shape`."""
    return _chosen("input_gradient", gradient, kernel, strides=strides, input_shape=input_shape)


@functools.partial(jax.jit, static_argnames=("strides", "kernel_shape"), inline=True)
def kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient to a kernel of shape `kernel_shape`."""
    return _chosen("kernel_gradient", inputs, gradient, strides=strides, kernel_shape=kernel_shape)
