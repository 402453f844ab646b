"""A convolution with fewer multiplications: Winograd's minimal filtering (Lavin and Gray 2016, arXiv 1509.09308).

Along one axis, four outputs of a filter of three taps take six products in place of twelve. The filter, and overlapping
tiles of the input, are each combined linearly into six "frequencies"; what is left to do for each frequency is a
convolution without that axis' taps, and the outputs are linear combinations of its results.

On a CPU, where arithmetic is what takes the time, this pays where there are channels enough to outweigh going over the
tiles. Float32 results differ from the direct ones by some 1e-6 of the largest along one axis. Its gradients, which JAX
derives, are filtered likewise; for the volumes of a training step they take more memory than their time is worth.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax.models import convolution

_TILE, _FREQUENCIES = 4, 6
_FEWEST_CHANNELS = 64
_SHORTEST = {"depth": 4, "height": 16}  # axes that are worth it, in voxels

# How F(4, 3) combines a tile of the input, the filter and the products, by Toom and Cook's construction with the points
# 0, +-3/4, +-3/2 and infinity. With the usual 0, +-1, +-2 and infinity rounding errors are twice as large.
_POINTS = np.array([0, 3 / 4, -3 / 4, 3 / 2, -3 / 2])
_OTHERS = [np.delete(_POINTS, index) for index in range(_FREQUENCIES - 1)]
_OF_INPUT = np.array([[*np.poly(roots)[::-1], 0.0] for roots in _OTHERS] + [np.poly(_POINTS)[::-1]])
_OF_FILTER = np.array(
    [point ** np.arange(3) / np.prod(point - roots) for point, roots in zip(_POINTS, _OTHERS, strict=True)]
    + [[0.0, 0.0, 1.0]]
)
_OF_OUTPUT = np.array([[*_POINTS**power, power == _TILE - 1] for power in range(_TILE)])


def convolve(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """`cascade_jax.models.convolution.convolve` up to rounding; arguments, result and errors as there."""
    convolution.check_operands(inputs, kernel, strides)
    if len(strides) == 3 and kernel.shape[0] == strides[0] == 1:
        outputs = convolve(inputs.reshape(-1, *inputs.shape[2:]), kernel[0], strides[1:])
        return outputs.reshape(*inputs.shape[:2], *outputs.shape[1:])
    axis = _worthwhile_axis(inputs, kernel, strides)
    if axis is None:
        return convolution.convolve(inputs, kernel, strides)
    return _filtered(inputs, kernel, axis)


def _worthwhile_axis(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> int | None:
    """The axis of the inputs along which filtering pays: the depth, else the height; None if neither does."""
    few_channels = min(kernel.shape[-2:]) < _FEWEST_CHANNELS
    # With few voxels, combining the filter's taps costs more than it saves.
    few_voxels = math.prod(inputs.shape[:-1]) < max(kernel.shape[-2:])
    if max(strides) > 1 or few_channels or few_voxels or inputs.dtype != jnp.float32:
        return None
    height_axis = inputs.ndim - 3
    if inputs.shape[height_axis] < _SHORTEST["height"]:
        return None
    if inputs.ndim == 5 and kernel.shape[0] == 3 and inputs.shape[1] >= _SHORTEST["depth"]:
        return 1
    return height_axis if kernel.shape[height_axis - 1] == 3 else None


def _filtered(inputs: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    """A convolution of stride 1 whose kernel has three taps along an axis, filtered along it."""
    size = inputs.shape[axis]
    tiles = -(-size // _TILE)
    padding = [(0, 0)] * inputs.ndim
    padding[axis] = (1, 1 + tiles * _TILE - size)
    padded, last = jnp.pad(inputs, padding), (tiles - 1) * _TILE + 1
    # The first, second, ... element of every tile; tiles overlap by two.
    elements = [jax.lax.slice_in_dim(padded, first, first + last, _TILE, axis) for first in range(_FREQUENCIES)]
    taps = jnp.split(kernel, 3, axis - 1)
    direct = functools.partial(convolve, strides=(1,) * (inputs.ndim - 2))
    products = [
        direct(_combine(of_input, elements), _combine(of_filter, taps))
        for of_input, of_filter in zip(_OF_INPUT, _OF_FILTER, strict=True)
    ]
    outputs = jnp.stack([_combine(of_output, products) for of_output in _OF_OUTPUT], axis + 1)
    outputs = outputs.reshape(*inputs.shape[:axis], -1, *outputs.shape[axis + 2 :])
    return jax.lax.slice_in_dim(outputs, 0, size, axis=axis)


def _combine(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """The weighted sum, without the terms whose weight is 0."""
    return sum(float(weight) * array for weight, array in zip(weights, arrays, strict=True) if weight)
