"""Convolutions with fewer multiplications: Winograd's minimal filtering (Lavin and Gray 2016, arXiv 1509.09308).

Along one axis, two, four or five outputs of a filter of three taps take four, six or seven products in place of six,
twelve or fifteen. The filter, and overlapping tiles of the input, are each combined linearly into as many
"frequencies"; what is left to do for each frequency is a convolution without that axis' taps, and the outputs are
linear combinations of its results.

On a CPU, where the arithmetic is what takes the time, this pays where there are channels enough to outweigh going over
the tiles: from 64 on if these stay in the cache. Float32 results differ from the direct ones by some 1e-6 of the
largest along one axis, by less than 1e-5 along two. The functions here know nothing of how the convolutions for each
frequency are computed; `lowerings.py` does that, and says which axes are worth it.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial.polynomial import polyfromroots

from cascade_jax.models import planes

# outputs in a tile: the points at which F(tile, 3) evaluates its polynomials, beside infinity. With those usual for a
# tile of 4, which are 0, +-1 and +-2, rounding errors are twice as large.
_POINTS = {2: (0, 1, -1), 4: (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2), 5: (0, 1, -1, 2, -3 / 2, 1 / 3)}


@functools.cache
def _transforms(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How F(tile, 3) combines a tile of the input, the filter and the products: Toom and Cook's construction.

    Returns:
        float64 (frequency, element of the tile), (frequency, tap) and (output, frequency); the last frequency is the
        point at infinity.
    """
    points = np.array(_POINTS[tile], np.float64)
    others = [np.delete(points, index) for index in range(len(points))]
    of_input = [[*polyfromroots(roots), 0.0] for roots in others] + [polyfromroots(points)]
    of_filter = [point ** np.arange(3) / np.prod(point - roots) for point, roots in zip(points, others, strict=True)]
    of_output = [[*points**power, power == tile - 1] for power in range(tile)]
    return np.array(of_input), np.array([*of_filter, [0.0, 0.0, 1.0]]), np.array(of_output)


def _combine(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """The weighted sum, without the terms whose weight is 0."""
    return sum(float(weight) * array for weight, array in zip(weights, arrays, strict=True) if weight)


def _tiled(array: jax.Array, axis: int, before: int, after: int, tile: int, zero: jax.Array | float) -> list[jax.Array]:
    """The first, second, ... element of every tile, tiles overlapping by `before + after` elements."""
    tiles = -(-array.shape[axis] // tile)
    padding = [(0, 0, 0)] * array.ndim
    padding[axis] = (before, after + tiles * tile - array.shape[axis], 0)
    padded = jax.lax.pad(array, jnp.asarray(zero, array.dtype), padding)
    last = (tiles - 1) * tile + 1
    return [jax.lax.slice_in_dim(padded, first, first + last, tile, axis) for first in range(tile + before + after)]


def _in_parts(function: Callable, inputs: jax.Array, at_once: int, features: int) -> jax.Array:
    """What `function` makes of `at_once` elements of the batch after another: (batch, *spatial, features)."""

    def write_next(part, outputs):
        first = part * at_once
        values = function(jax.lax.dynamic_slice_in_dim(inputs, first, at_once))
        return jax.lax.dynamic_update_slice_in_dim(outputs, values, first, 0)

    # Otherwise the compiler makes this array long before, in training before the memory that the forward pass needs is
    # free.
    outputs = jnp.full((*inputs.shape[:-1], features), planes.zero_told_by(inputs))
    return jax.lax.fori_loop(0, len(inputs) // at_once, write_next, outputs)


def convolve(
    inputs: jax.Array, kernel: jax.Array, axis: int, tile: int, direct: Callable, at_once: int | None = None
) -> jax.Array:
    """A convolution of stride 1 and padding 1 along one axis.

    Args:
        inputs: (batch, *spatial, channel).
        kernel: (*kernel size, channel, features), 3 along the axis.
        axis: of the inputs; that of the kernel is one less.
        tile: 2, 4 or 5, outputs in a tile.
        direct: (inputs, kernel) -> outputs, the convolution whose kernel has size 1 along the axis.
        at_once: how many elements of the batch are gone over at a time, a divisor of it; None is all. What lies
            between two steps then stays in a processor's cache.

    Returns:
        (batch, *spatial, features).
    """
    of_input, of_filter, of_output = _transforms(tile)
    taps = jnp.split(kernel, 3, axis - 1)
    filters = [_combine(weights, taps) for weights in of_filter]

    def convolve_part(inputs):
        tiles = _tiled(inputs, axis, 1, 1, tile, 0.0)
        products = [direct(_combine(row, tiles), one) for row, one in zip(of_input, filters, strict=True)]
        outputs = jnp.stack([_combine(row, products) for row in of_output], axis + 1)
        size = inputs.shape[axis]
        outputs = outputs.reshape(*inputs.shape[:axis], -1, *outputs.shape[axis + 2 :])
        return jax.lax.slice_in_dim(outputs, 0, size, axis=axis)

    if at_once in (None, len(inputs)):
        return convolve_part(inputs)
    return _in_parts(convolve_part, inputs, at_once, kernel.shape[-1])


def kernel_gradient(inputs: jax.Array, gradient: jax.Array, axis: int, tile: int, direct: Callable) -> jax.Array:
    """The gradient of `convolve` to its kernel: its transpose, step by step.

    Args:
        inputs: (batch, *spatial, channel).
        gradient: (batch, *spatial, features).
        axis: as for `convolve`.
        tile: as for `convolve`.
        direct: (inputs, gradient) -> the gradient to a kernel of size 1 along the axis.

    Returns:
        (*kernel size, channel, features), 3 along the axis.
    """
    of_input, of_filter, of_output = _transforms(tile)
    zero = planes.zero_told_by(gradient)  # otherwise the compiler combines the inputs during the forward pass
    tiles = _tiled(inputs, axis, 1, 1, tile, zero)
    gradients = _tiled(gradient, axis, 0, 0, tile, 0.0)
    kernels = [
        direct(_combine(row, tiles), _combine(column, gradients))
        for row, column in zip(of_input, of_output.T, strict=True)
    ]
    return jnp.concatenate([_combine(column, kernels) for column in of_filter.T], axis - 1)
