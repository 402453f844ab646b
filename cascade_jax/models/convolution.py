"""The convolution of both networks: the one place where another implementation may be put in.

A network takes any function with the signature of `convolve` (see `Convolve`). This one is made of 2D convolutions and
sums alone, in volumes too, since 2D convolutions are what XLA runs fastest: on a CPU 3D ones take 3 to 8 times as long,
and on a CUDA GPU the compiler moves their channels to the front and back again.
"""

from typing import Protocol

import jax
import jax.numpy as jnp


class Convolve(Protocol):
    """(inputs, kernel, strides) -> outputs, as `convolve` has them. A network hashes it, so let it be a function."""

    def __call__(self, inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...], /) -> jax.Array: ...


def convolve(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """A convolution (cross-correlation, as in every deep-learning library) padded by half the kernel on each side.

    Args:
        inputs: (batch, height, width, channel) or (batch, depth, height, width, channel).
        kernel: (*kernel size, channel, features), of the same dtype as `inputs`; each kernel size is odd.
        strides: one stride for each spatial axis.

    Returns:
        (batch, *ceil(spatial size / stride), features).

    Raises:
        ValueError: ranks, channels or sizes do not fit together.
    """
    _check_operands(inputs, kernel, strides)
    return convolve_slices(inputs, kernel, strides) if len(strides) == 2 else convolve_volumes(inputs, kernel, strides)


def _check_operands(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> None:
    """Raises ValueError for what `convolve` cannot take."""
    if len(strides) not in (2, 3):
        raise ValueError(f"strides {strides}: a convolution has 2 or 3 spatial axes")
    if any(stride < 1 for stride in strides):
        raise ValueError(f"strides {strides}: each must be 1 or more")
    if inputs.ndim != len(strides) + 2:
        axes = "(batch, height, width, channel)" if len(strides) == 2 else "(batch, depth, height, width, channel)"
        raise ValueError(f"inputs of shape {inputs.shape}: with {len(strides)} strides they are {axes}")
    if kernel.ndim != inputs.ndim:
        raise ValueError(f"kernel of shape {kernel.shape}: inputs of shape {inputs.shape} want {inputs.ndim} axes")
    if any(size % 2 == 0 for size in kernel.shape[:-2]):
        raise ValueError(f"kernel size {kernel.shape[:-2]}: each must be odd")
    if kernel.shape[-2] != inputs.shape[-1]:
        raise ValueError(f"kernel of shape {kernel.shape}: inputs have {inputs.shape[-1]} channels")


def convolve_slices(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """`convolve` of (batch, height, width, channel)."""
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolve_volumes(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int, int]) -> jax.Array:
    """`convolve` of (batch, depth, height, width, channel): a 2D convolution of all slices with every tap along the
    depth, whose results are then added, each shifted by its depth.

    With a stride of 2 along the depth, even slices meet other taps than odd ones, and neither meets all: each such
    phase is a convolution of its own.
    """
    batch, depth, height, width, channels = inputs.shape
    features, stride = kernel.shape[-1], strides[0]
    outputs_depth, total = -(-depth // stride), None
    for phase in range(min(stride, depth)):
        taps = _taps_of_phase(kernel.shape[0], stride, phase)
        if not taps:
            continue
        slices = inputs[:, phase::stride]
        slices = jnp.pad(slices, ((0, 0), (0, outputs_depth - slices.shape[1]), (0, 0), (0, 0), (0, 0)))
        filters = jnp.stack([kernel[tap] for tap in taps], axis=-2)  # (height, width, channel, tap, features)
        filters = filters.reshape(*kernel.shape[1:4], len(taps) * features)
        parts = convolve_slices(slices.reshape(-1, height, width, channels), filters, strides[1:])
        # One axis at a time, as sharded arrays on a mesh with Explicit axes want it.
        parts = parts.reshape(batch, outputs_depth, *parts.shape[1:])
        parts = parts.reshape(*parts.shape[:4], len(taps), features)
        for index, shift in enumerate(taps.values()):
            part = _shifted(parts[..., index, :], 1, shift)
            total = part if total is None else total + part
    return total


def _taps_of_phase(kernel_size: int, stride: int, phase: int) -> dict[int, int]:
    """Which taps of a kernel meet the inputs `stride * i + phase` along one axis.

    Returns:
        {tap: shift}: the output at i gets this tap's product with the input `stride * (i + shift) + phase`.
    """
    margin = kernel_size // 2
    return {tap: (tap - margin - phase) // stride for tap in range(kernel_size) if (tap - margin - phase) % stride == 0}


def _shifted(array: jax.Array, axis: int, shift: int) -> jax.Array:
    """Element i + shift of the axis at i, 0 beyond either end."""
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (-shift, shift, 0)
    return jax.lax.pad(array, jnp.zeros((), array.dtype), padding)
