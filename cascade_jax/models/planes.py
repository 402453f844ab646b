"""2D convolutions and their gradients as a CPU runs them fastest, without Winograd's filtering.

XLA's CPU backend

* computes the input gradient of a strided convolution as a convolution over a gradient three quarters of which are
  zeros: there the even and the odd rows of the result are each a small convolution that also computes its columns in
  pairs;
* turns a kernel round, a number at a time, for an input gradient: where there are few pixels, a matrix product takes it
  as it lies;
* spends most of a kernel gradient on cutting patches out of one of its two operands: there it is the one with fewer
  channels, and with few on both sides a matrix product takes the place of the convolution; that of a strided
  convolution it computes as a dilated one: there each phase of the inputs is one without a stride.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

_DIMENSION_NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def native(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """The convolution as the compiler has it, in 2D or 3D."""
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        [(size // 2, size // 2) for size in kernel.shape[:-2]],
        dimension_numbers=_DIMENSION_NUMBERS[len(strides)],
    )


def native_input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, ...], input_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient of `native` to inputs whose shape without the batch axis is `input_shape`."""
    inputs = jax.ShapeDtypeStruct((gradient.shape[0], *input_shape), gradient.dtype)
    return jax.linear_transpose(lambda inputs: native(inputs, kernel, strides), inputs)(gradient)[0]


def native_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> jax.Array:
    """The gradient of `native` to its kernel."""
    kernel = jax.ShapeDtypeStruct(kernel_shape, inputs.dtype)
    return jax.linear_transpose(lambda kernel: native(inputs, kernel, strides), kernel)(gradient)[0]


def taps_of_phase(kernel_size: int, stride: int, phase: int) -> tuple[list[int], tuple[int, int]]:
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
    phases = [taps_of_phase(kernel.shape[1], strides[1], phase) for phase in range(strides[1])]
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
        taps, padding = taps_of_phase(kernel.shape[0], strides[0], phase)
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
        rows, (above, _) = taps_of_phase(plane[0], strides[0], row_phase)
        columns, (left, _) = taps_of_phase(plane[1], strides[1], column_phase)
        return sum(
            shifted(shifted(products[:, :, :, row, column], 1, i - above), 2, j - left)
            for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns))
        )

    phases = [jnp.stack([of_phase(row, column) for column in range(strides[1])], 3) for row in range(strides[0])]
    outputs = jnp.stack(phases, 2).reshape(batch, strides[0] * height, strides[1] * width, channels)
    return outputs[:, : input_shape[0], : input_shape[1]]


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, strides: tuple[int, int], input_shape: tuple[int, int, int]
) -> jax.Array:
    """The 2D gradient to inputs whose shape without the batch axis is `input_shape`."""
    has_phases = _has_phases(strides, kernel.shape)
    if (has_phases or max(strides) == 1) and math.prod(gradient.shape[:-1]) < 2 * max(kernel.shape[-2:]):
        return _small_input_gradient(gradient, kernel, strides, input_shape)
    function = _strided_input_gradient if has_phases else native_input_gradient
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
        rows, row_padding = taps_of_phase(plane[0], strides[0], row_phase)
        columns, column_padding = taps_of_phase(plane[1], strides[1], column_phase)
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


_FEW_CHANNELS = 64
_COPIED = 8_000_000  # elements of which three copies are not too much memory
_PARTS = 8  # of a sum over voxels, for as many processors


def _narrow_kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, kernel_shape: tuple[int, int, int, int]
) -> jax.Array:
    """The 2D kernel gradient without a stride, as one matrix product over all pixels.

    The inputs stand side by side with themselves, moved along the width, the gradient with itself, moved along the
    height: each pair of copies is a tap. With few channels on both sides this is faster than to cut patches.
    """
    height, width, channels, features = kernel_shape
    # The zero keeps the compiler from making these copies during the forward pass.
    columns = side_by_side(inputs, 2, offsets(width)) + zero_told_by(gradient)
    rows = side_by_side(gradient, 1, offsets(height)[::-1])
    parts = math.gcd(_PARTS, math.prod(inputs.shape[:-1]))
    columns, rows = (array.reshape(parts, -1, array.shape[-1]) for array in (columns, rows))
    taps = jnp.einsum("pvc,pvf->pcf", columns, rows).sum(0)
    return taps.reshape(width, channels, height, features).transpose(2, 0, 1, 3)


def kernel_gradient(
    inputs: jax.Array, gradient: jax.Array, strides: tuple[int, int], kernel_shape: tuple[int, int, int, int]
) -> jax.Array:
    """The 2D kernel gradient; of inputs and gradient, the one with fewer channels is the one cut into patches.

    With fewer pixels than channels, turning the kernel round costs more than that saves.
    """
    *plane, channels, features = kernel_shape
    few = channels == features <= _FEW_CHANNELS and inputs.size <= _COPIED
    if few and max(strides) == 1 and inputs.dtype == jnp.float32:
        return _narrow_kernel_gradient(inputs, gradient, kernel_shape)
    if _has_phases(strides, kernel_shape) and channels < 128:
        return _strided_kernel_gradient(inputs, gradient, strides, kernel_shape)
    pixels = math.prod(inputs.shape[:-1])
    if max(strides) > 1 or channels <= features or pixels < channels:
        return native_kernel_gradient(inputs, gradient, strides, kernel_shape)
    swapped = native_kernel_gradient(gradient, inputs, strides, (*plane, features, channels))
    return swapped[::-1, ::-1].swapaxes(2, 3)


def shifted(array: jax.Array, axis: int, shift: int, zero: jax.Array | float = 0.0) -> jax.Array:
    """Element i + shift of the axis at i, `zero` beyond either end."""
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (-shift, shift, 0)
    return jax.lax.pad(array, jnp.asarray(zero, array.dtype), padding)


def side_by_side(array: jax.Array, axis: int, shifts: Sequence[int]) -> jax.Array:
    """Copies of an array, each `shifted` along an axis, joined along their channels.

    As a sum, which the compiler writes with all processors; a concatenation it writes with one.
    """
    channels, copies = array.shape[-1], len(shifts)

    def placed(copy, shift):
        padding = [(0, 0, 0)] * array.ndim
        padding[axis], padding[-1] = (-shift, shift, 0), (copy * channels, (copies - 1 - copy) * channels, 0)
        return jax.lax.pad(array, jnp.zeros((), array.dtype), padding)

    return sum(placed(copy, shift) for copy, shift in enumerate(shifts))


def zero_told_by(array: jax.Array) -> jax.Array:
    """A zero of which the compiler does not know that it is one.

    What depends on it cannot be computed, and then be kept in memory, before the array is there.
    """
    return jnp.minimum(jnp.abs(array[(0,) * array.ndim]), 0)


def offsets(kernel_size: int) -> range:
    """Where each tap of a kernel lies, from its middle."""
    return range(-(kernel_size // 2), kernel_size // 2 + 1)


def row_kernel_gradient(inputs: jax.Array, gradient: jax.Array, kernel_shape: tuple[int, int, int, int]) -> jax.Array:
    """The gradient to a 2D kernel of height 1, as one matrix product over all voxels.

    The operand with fewer channels stands side by side with itself, moved along the width. Nothing has to be
    transposed, as it has to for a convolution that computes a kernel gradient.
    """
    _, width, channels, features = kernel_shape
    if channels <= features:
        copies = side_by_side(inputs, 2, offsets(width))
        return product_over_voxels(copies, gradient).reshape(kernel_shape)
    copies = side_by_side(gradient, 2, offsets(width)[::-1])
    return product_over_voxels(inputs, copies).reshape(channels, width, features).transpose(1, 0, 2)[None]


def product_over_voxels(inputs: jax.Array, gradient: jax.Array) -> jax.Array:
    """(..., channel), (..., features) -> (channel, features), both operands as they lie in memory."""
    return jnp.einsum("vc,vf->cf", inputs.reshape(-1, inputs.shape[-1]), gradient.reshape(-1, gradient.shape[-1]))
