"""The convolution and its two gradients, as each platform runs them fastest.

All functions here are linear in each argument, compute the same numbers, and pad by half the kernel on each side.
Where the straightforward program is the fast one, it is used: everywhere but on a CPU. XLA's CPU backend

* runs a 3D convolution 3 to 8 times slower than a 2D one: there depth is folded into the batch, one 2D convolution
  computes what each tap along the depth contributes, side by side on its channel axis, and these are added up, each
  shifted by its depth;
* computes the input gradient of a strided convolution as a convolution over a gradient three quarters of which are
  zeros: there the even and the odd rows of the result are each a small convolution that also computes its columns in
  pairs;
* spends most of a kernel gradient on cutting patches out of one of its two operands: there it is the one with fewer
  channels; that of a strided convolution it computes as a dilated one: there each phase of the inputs is one without
  a stride;
* has nothing to gain from memory where there are many channels, so there Winograd's filtering (`winograd.py`) saves
  arithmetic: half of it along the height and, in volumes, a third of the rest along the depth.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cascade_jax.models import winograd

_DIMENSION_NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def _native(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        [(size // 2, size // 2) for size in kernel.shape[:-2]],
        dimension_numbers=_DIMENSION_NUMBERS[len(strides)],
    )


def _native_input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, ...], input_shape: tuple[int, ...]
) -> jax.Array:
    inputs = jax.ShapeDtypeStruct((gradient.shape[0], *input_shape), gradient.dtype)
    return jax.linear_transpose(lambda inputs: _native(inputs, kernel, strides), inputs)(gradient)[0]


def _native_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> jax.Array:
    kernel = jax.ShapeDtypeStruct(kernel_shape, inputs.dtype)
    return jax.linear_transpose(lambda kernel: _native(inputs, kernel, strides), kernel)(gradient)[0]


def _taps_of_phase(kernel_size: int, stride: int, phase: int) -> tuple[list[int], tuple[int, int]]:
    """Which taps of a kernel carry a gradient back to inputs `stride * i + phase`, and from where.

    Returns:
        The taps, in the order of the output elements i + first, i + first + 1, ... that they multiply, and the padding
        (before, after) of the gradient that makes these a convolution.
    """
    margin = kernel_size // 2
    taps = {(phase + margin - tap) // stride: tap for tap in range(kernel_size) if (phase + margin - tap) % stride == 0}
    offsets = sorted(taps)
    return [taps[offset] for offset in offsets], (-offsets[0], offsets[-1]) if offsets else (0, 0)


def _has_phases(strides: tuple[int, int], kernel_shape: tuple[int, ...]) -> bool:
    """Whether there is a stride, and each phase of the inputs meets a tap."""
    return max(strides) > 1 and all(stride <= size for stride, size in zip(strides, kernel_shape, strict=False))


def _strided_input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, int], input_shape: tuple[int, int, int]
) -> jax.Array:
    """The 2D input gradient without a zero-stuffed array; strides at most the kernel's size.

    Rows of each phase (even and odd ones, for stride 2) are convolutions with the taps that reach them. Columns of all
    phases are computed together, as channels next to each other, from the union of their taps: a row of the result is
    then in order as it stands.
    """
    batch, height, width, features = gradient.shape
    channels = input_shape[-1]
    phases = [_taps_of_phase(kernel.shape[1], strides[1], phase) for phase in range(strides[1])]
    before, after = (max(padding[side] for _, padding in phases) for side in (0, 1))
    columns = jnp.stack(
        [
            jnp.pad(kernel[:, jnp.array(taps)], ((0, 0), (before - left, after - right), (0, 0), (0, 0)))
            for taps, (left, right) in phases
        ],
        axis=2,
    )  # (row tap, column offset, column phase, channel, features)
    columns = columns.reshape(*columns.shape[:2], strides[1] * channels, features)
    rows = []
    for phase in range(strides[0]):
        taps, padding = _taps_of_phase(kernel.shape[0], strides[0], phase)
        row = jax.lax.conv_general_dilated(
            gradient,
            columns[jnp.array(taps)],
            (1, 1),
            [padding, (before, after)],
            dimension_numbers=("NHWC", "HWOI", "NHWC"),
        )
        rows.append(row.reshape(batch, height, strides[1] * width, channels))
    outputs = jnp.stack(rows, axis=2).reshape(batch, strides[0] * height, strides[1] * width, channels)
    return outputs[:, : input_shape[0], : input_shape[1]]


def _small_input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, int], input_shape: tuple[int, int, int]
) -> jax.Array:
    """The 2D input gradient as one matrix product for all taps, added up where each tap belongs.

    The kernel stays as it lies in memory. A convolution wants it turned round, which for the largest kernels takes as
    long as the arithmetic when there are few pixels.
    """
    batch, height, width, features = gradient.shape
    *plane, channels, _ = kernel.shape
    products = jnp.einsum("nf,kf->nk", gradient.reshape(-1, features), kernel.reshape(-1, features))
    products = products.reshape(batch, height, width, *plane, channels)

    def of_phase(row_phase, column_phase):
        rows, (above, _) = _taps_of_phase(plane[0], strides[0], row_phase)
        columns, (left, _) = _taps_of_phase(plane[1], strides[1], column_phase)
        return sum(
            _shift(_shift(products[:, :, :, row, column], 1, i - above), 2, j - left)
            for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns))
        )

    phases = [jnp.stack([of_phase(row, column) for column in range(strides[1])], 3) for row in range(strides[0])]
    outputs = jnp.stack(phases, 2).reshape(batch, strides[0] * height, strides[1] * width, channels)
    return outputs[:, : input_shape[0], : input_shape[1]]


def _plane_input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, int], input_shape: tuple[int, int, int]
) -> jax.Array:
    has_phases = _has_phases(strides, kernel.shape)
    if (has_phases or max(strides) == 1) and math.prod(gradient.shape[:-1]) < 2 * max(kernel.shape[-2:]):
        return _small_input_gradient(gradient, kernel, strides, input_shape)
    function = _strided_input_gradient if has_phases else _native_input_gradient
    return function(gradient, kernel, strides, input_shape)


def _strided_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, int], kernel_shape: tuple[int, int, int, int]
) -> jax.Array:
    """The 2D kernel gradient without a dilated array; strides at most the kernel's size.

    A tap meets the inputs of one phase only (even or odd rows and columns, for stride 2), so each phase is a kernel
    gradient of stride 1 with its own few taps. Of the two operands the gradient is the one that is cut into patches.
    """
    batch, height, width, _ = gradient.shape
    *plane, channels, features = kernel_shape
    sizes = (height * strides[0], width * strides[1])
    missing = [(0, size - given) for size, given in zip(sizes, inputs.shape[1:3], strict=True)]
    inputs = jnp.pad(inputs, ((0, 0), *missing, (0, 0)))
    inputs = inputs.reshape(batch, height, strides[0], width, strides[1], channels)
    taps = {}
    for row_phase, column_phase in itertools.product(range(strides[0]), range(strides[1])):
        rows, row_padding = _taps_of_phase(plane[0], strides[0], row_phase)
        columns, column_padding = _taps_of_phase(plane[1], strides[1], column_phase)
        kernel = jax.ShapeDtypeStruct((len(rows), len(columns), features, channels), inputs.dtype)
        convolve = functools.partial(
            jax.lax.conv_general_dilated,
            gradient,
            window_strides=(1, 1),
            padding=(row_padding, column_padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        (of_phase,) = jax.linear_transpose(convolve, kernel)(inputs[:, :, row_phase, :, column_phase])
        for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
            taps[row, column] = of_phase[i, j].T
    return jnp.stack([jnp.stack([taps[row, column] for column in range(plane[1])]) for row in range(plane[0])])


def _plane_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, int], kernel_shape: tuple[int, int, int, int]
) -> jax.Array:
    """The 2D kernel gradient; of inputs and gradient, the one with fewer channels is the one cut into patches.

    With fewer pixels than channels, turning the kernel round costs more than that saves.
    """
    *plane, channels, features = kernel_shape
    if _has_phases(strides, kernel_shape) and channels < 128:
        return _strided_kernel_gradient(inputs, gradient, strides, kernel_shape)
    pixels = math.prod(inputs.shape[:-1])
    if max(strides) > 1 or channels <= features or pixels < channels:
        return _native_kernel_gradient(inputs, gradient, strides, kernel_shape)
    swapped = _native_kernel_gradient(gradient, inputs, strides, (*plane, features, channels))
    return swapped[::-1, ::-1].swapaxes(2, 3)


def _shift(array: jax.Array, axis: int, shift: int, zero: jax.Array | float = 0.0) -> jax.Array:
    """Element i + shift of the axis at i, `zero` beyond either end."""
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (-shift, shift, 0)
    return jax.lax.pad(array, jnp.asarray(zero, array.dtype), padding)


def _shifts(kernel_size: int) -> range:
    return range(-(kernel_size // 2), kernel_size // 2 + 1)


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
    return sum(_shift(taps[..., tap, :], 1, shift) for tap, shift in enumerate(shifts))


def _at_every_depth(gradient: jax.Array, stride: int, depth: int) -> jax.Array:
    """The gradient of a strided convolution, with zeros at the depths that it skips."""
    if stride == 1:
        return gradient
    missing = depth - (stride * (gradient.shape[1] - 1) + 1)
    unchanged = [(0, 0, 0)] * 3
    return jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), (0, missing, stride - 1), *unchanged])


_CACHED = 2_000_000  # elements whose tiles stay in a processor's cache


class _Tiling(NamedTuple):
    """Along which axis (of arrays with a batch axis) Winograd's filtering is worth it, and the outputs in a tile."""

    axis: int
    tile: int


def _tiling(inputs: jax.Array, kernel_shape: tuple[int, ...], strides: tuple[int, ...]) -> _Tiling | None:
    """For the forward pass and the input gradient, where both axes gain: the depth first, then the height."""
    height_axis = len(strides) - 1
    height = inputs.shape[height_axis]
    fewest = 64 if inputs.size <= _CACHED else 128
    if max(strides) > 1 or min(kernel_shape[-2:]) < fewest or inputs.dtype != jnp.float32:
        return None
    if math.prod(inputs.shape[:-1]) < max(kernel_shape[-2:]):
        return None  # with so few voxels, combining the filters' taps costs more than it saves
    if len(strides) == 3 and kernel_shape[0] == 3 and inputs.shape[1] >= 4 and height >= 32:
        return _Tiling(1, 2)
    if kernel_shape[-4] == 3 and height >= 16:
        return _Tiling(height_axis, 4)
    return None


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
        return _Tiling(1, 2)
    return None


def _cpu_forward(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    if tiling := _tiling(inputs, kernel.shape, strides):
        return winograd.convolve(inputs, kernel, *tiling, functools.partial(_cpu_forward, strides=strides))
    if len(strides) == 2:
        return _native(inputs, kernel, strides)
    outputs_depth = -(-inputs.shape[1] // strides[0])
    outputs = []
    for phase in range(min(strides[0], inputs.shape[1])):
        # With a stride of 2, even slices meet other taps than odd ones, and neither meets all.
        taps, (before, after) = _taps_of_phase(kernel.shape[0], strides[0], phase)
        if not taps:
            continue
        slices = inputs[:, phase :: strides[0]]
        slices = jnp.pad(slices, ((0, 0), (0, outputs_depth - slices.shape[1]), (0, 0), (0, 0), (0, 0)))
        filters = jnp.stack([kernel[tap] for tap in taps], axis=-2)
        filters = filters.reshape(*filters.shape[:3], -1)
        planes = _native(_slices(slices), filters, strides[1:])
        outputs.append(_sum_of_taps(planes, inputs.shape[0], range(before, -after - 1, -1)))
    return sum(outputs)


def _cpu_input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, ...], input_shape: tuple[int, ...]
) -> jax.Array:
    # The taps of a kernel that has to be turned round cost still more to combine.
    if _tiling(gradient, kernel.shape, strides) and math.prod(gradient.shape[:-1]) >= 3 * max(kernel.shape[-2:]):
        flipped = jnp.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)
        return _cpu_forward(gradient, flipped, strides)
    if len(strides) == 2:
        return _plane_input_gradient(gradient, kernel, strides, input_shape)
    depth, *plane, channels, features = kernel.shape
    taps = kernel.transpose(1, 2, 0, 3, 4).reshape(*plane, depth * channels, features)
    gradient = _at_every_depth(gradient, strides[0], input_shape[0])
    outputs = _plane_input_gradient(_slices(gradient), taps, strides[1:], (*input_shape[1:3], depth * channels))
    return _sum_of_taps(outputs, gradient.shape[0], _shifts(depth)[::-1])


def _cpu_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> jax.Array:
    if tiling := _kernel_gradient_tiling(inputs, kernel_shape, strides):
        sizes = list(kernel_shape)
        sizes[tiling.axis - 1] = 1
        if len(strides) == 2:
            direct = functools.partial(_row_kernel_gradient, kernel_shape=tuple(sizes))
        else:
            direct = functools.partial(_direct_kernel_gradient, strides=strides, kernel_shape=tuple(sizes))
        return winograd.kernel_gradient(inputs, gradient, *tiling, direct)
    return _direct_kernel_gradient(inputs, gradient, strides, kernel_shape)


def _row_kernel_gradient(inputs: jax.Array, gradient: jax.Array, kernel_shape: tuple[int, int, int, int]) -> jax.Array:
    """The gradient to a 2D kernel of height 1, as one matrix product over all voxels.

    The operand with fewer channels stands side by side with itself, moved along the width. Nothing has to be
    transposed, as it has to for a convolution that computes a kernel gradient.
    """
    _, width, channels, features = kernel_shape
    if channels <= features:
        copies = jnp.concatenate([_shift(inputs, 2, shift) for shift in _shifts(width)], axis=-1)
        return product_over_voxels(copies, gradient).reshape(kernel_shape)
    copies = jnp.concatenate([_shift(gradient, 2, -shift) for shift in _shifts(width)], axis=-1)
    return product_over_voxels(inputs, copies).reshape(channels, width, features).transpose(1, 0, 2)[None]


def product_over_voxels(inputs: jax.Array, gradient: jax.Array) -> jax.Array:
    """(..., channel), (..., features) -> (channel, features), both operands as they lie in memory."""
    return jnp.einsum("vc,vf->cf", inputs.reshape(-1, inputs.shape[-1]), gradient.reshape(-1, gradient.shape[-1]))


def _direct_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> jax.Array:
    if len(strides) == 2:
        return _plane_kernel_gradient(inputs, gradient, strides, kernel_shape)
    depth, *plane, channels, features = kernel_shape
    gradient = _at_every_depth(gradient, strides[0], inputs.shape[1])
    shifts = _shifts(depth)
    if channels > features and max(strides) == 1:
        # A zero that only the gradient tells: otherwise the compiler makes the copies during the forward pass, where
        # the inputs are already there, and keeps them in memory until now.
        zero = jnp.minimum(jnp.abs(gradient[(0,) * gradient.ndim]), 0)
        copies = jnp.concatenate([_shift(inputs, 1, shift, zero) for shift in shifts], axis=-1)
        taps = _plane_kernel_gradient(
            _slices(copies), _slices(gradient), strides[1:], (*plane, depth * channels, features)
        )
        return taps.reshape(*plane, depth, channels, features).transpose(2, 0, 1, 3, 4)
    copies = jnp.concatenate([_shift(gradient, 1, -shift) for shift in shifts], axis=-1)
    taps = _plane_kernel_gradient(_slices(inputs), _slices(copies), strides[1:], (*plane, channels, depth * features))
    return taps.reshape(*plane, channels, depth, features).transpose(3, 0, 1, 2, 4)


class Lowering(NamedTuple):
    """One way to compute a convolution.

    Attributes:
        forward: (inputs, kernel, strides) -> outputs.
        input_gradient: (gradient, kernel, strides, input shape without the batch axis) -> gradient to the inputs.
        kernel_gradient: (inputs, gradient, strides, kernel shape) -> gradient to the kernel.
    """

    forward: Callable
    input_gradient: Callable
    kernel_gradient: Callable


LOWERINGS = {
    "cpu": Lowering(_cpu_forward, _cpu_input_gradient, _cpu_kernel_gradient),
    "native": Lowering(_native, _native_input_gradient, _native_kernel_gradient),
}


def _chosen(name: str, *arrays: jax.Array, **sizes) -> jax.Array:
    functions = {key: functools.partial(getattr(lowering, name), **sizes) for key, lowering in LOWERINGS.items()}
    return jax.lax.platform_dependent(*arrays, cpu=functions["cpu"], default=functions["native"])


def forward(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """The convolution: (batch, *spatial, channel), (*kernel size, channel, features) -> (batch, *spatial, features)."""
    return _chosen("forward", inputs, kernel, strides=strides)


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, ...], input_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient to inputs whose shape without the batch axis is `input_shape`."""
    return _chosen("input_gradient", gradient, kernel, strides=strides, input_shape=input_shape)


def kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient to a kernel of shape `kernel_shape`."""
    return _chosen("kernel_gradient", inputs, gradient, strides=strides, kernel_shape=kernel_shape)
