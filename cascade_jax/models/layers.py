"""The layers of the U-Net: a convolution that is fast wherever it runs, instance norm, and upsampling.

`convolve` has one meaning and a lowering per platform (`cascade_jax.models.lowerings`), chosen inside the program by
`jax.lax.platform_dependent`. A convolution whose weights are mapped by `jax.vmap` (an ensemble's folds) runs up to
twenty times slower on a CPU than the same convolutions one after another, so mapping has a rule of its own: mapped
folds run one after another on a CPU and as one grouped convolution elsewhere.

`jax.custom_batching.custom_vmap` is not reverse-differentiable, so the convolution and its two gradients are each a
custom-mapped function, joined by `jax.custom_vjp`.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from cascade_jax.models import lowerings, planes


def _merge_mapped_batch(function: Callable, axis_size: int, mapped: jax.Array, fixed: jax.Array) -> jax.Array:
    """Runs a mapped batch with one kernel as a single larger batch."""
    outputs = function(mapped.reshape(-1, *mapped.shape[2:]), fixed)
    return outputs.reshape(axis_size, -1, *outputs.shape[1:])


def _mapped_one_by_one(function: Callable, in_batched: Sequence[bool], arguments: Sequence[jax.Array]) -> jax.Array:
    """Maps `function` over its mapped arguments: one call after another on a CPU, one grouped operation elsewhere.

    The calls are unrolled because a kernel gradient inside a CPU while loop runs over 30 times slower than outside.
    """
    axis_size = next(a.shape[0] for a, batched in zip(arguments, in_batched, strict=True) if batched)

    def unrolled(*arguments):
        return jnp.stack(
            [
                function(*(a[i] if batched else a for a, batched in zip(arguments, in_batched, strict=True)))
                for i in range(axis_size)
            ]
        )

    grouped = jax.vmap(function.fun, in_axes=tuple(0 if batched else None for batched in in_batched))
    return jax.lax.platform_dependent(*arguments, cpu=unrolled, default=grouped)


@functools.cache
def _forward(strides: tuple[int, ...], differentiated: bool) -> Callable:
    @custom_vmap
    def forward(inputs, kernel):
        return lowerings.forward(inputs, kernel, strides, differentiated)

    @forward.def_vmap
    def _(axis_size, in_batched, inputs, kernel):
        inputs_batched, kernel_batched = in_batched
        if not kernel_batched:
            return _merge_mapped_batch(forward, axis_size, inputs, kernel), True
        if not inputs_batched:  # one input for all folds: their filters stand side by side on the output channels
            filters = jnp.moveaxis(kernel, 0, -2)
            outputs = forward(inputs, filters.reshape(*filters.shape[:-2], -1))
            return jnp.moveaxis(outputs.reshape(*outputs.shape[:-1], axis_size, -1), -2, 0), True
        return _mapped_one_by_one(forward, in_batched, (inputs, kernel)), True

    return forward


@functools.cache
def _input_gradient(strides: tuple[int, ...], input_shape: tuple[int, ...]) -> Callable:
    """The gradient to inputs whose shape without the batch axis is `input_shape`."""

    @custom_vmap
    def input_gradient(gradient, kernel):
        return lowerings.input_gradient(gradient, kernel, strides, input_shape)

    @input_gradient.def_vmap
    def _(axis_size, in_batched, gradient, kernel):
        if not in_batched[1]:
            return _merge_mapped_batch(input_gradient, axis_size, gradient, kernel), True
        return _mapped_one_by_one(input_gradient, in_batched, (gradient, kernel)), True

    return input_gradient


@functools.cache
def _kernel_gradient(strides: tuple[int, ...], kernel_shape: tuple[int, ...]) -> Callable:
    @custom_vmap
    def kernel_gradient(inputs, gradient):
        return lowerings.kernel_gradient(inputs, gradient, strides, kernel_shape)

    @kernel_gradient.def_vmap
    def _(axis_size, in_batched, inputs, gradient):
        return _mapped_one_by_one(kernel_gradient, in_batched, (inputs, gradient)), True

    return kernel_gradient


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """A convolution (cross-correlation, as in every deep-learning library) padded by half the kernel on each side.

    Args:
        inputs: (batch, height, width, channel) or (batch, depth, height, width, channel).
        kernel: (*kernel size, channel, features), of the same dtype as `inputs`; each kernel size is odd.
        strides: one stride for each spatial axis.

    Returns:
        (batch, *ceil(spatial size / stride), features). Differentiable once in reverse mode; may be mapped with
        `jax.vmap` over inputs, kernel or both.
    """
    return _forward(strides, differentiated=False)(inputs, kernel)


def _convolve_forward(inputs, kernel, strides):
    return _forward(strides, differentiated=True)(inputs, kernel), (inputs, kernel)


def _convolve_backward(strides, residuals, gradient):
    inputs, kernel = residuals
    gradient = lowerings.computed_once(gradient)
    return (
        _input_gradient(strides, inputs.shape[1:])(gradient, kernel),
        _kernel_gradient(strides, kernel.shape)(inputs, gradient),
    )


convolve.defvjp(_convolve_forward, _convolve_backward)


def _convolve_concatenated(parts, kernel, strides):
    return convolve(jnp.concatenate(parts, axis=-1), kernel, strides)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_joined(parts: tuple[jax.Array, ...], kernel: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """`convolve` of arrays joined along their channels.

    Where no gradient is asked for, a CPU adds up the convolutions of the parts and never writes the joined array. A
    gradient would need that array, or twice as many convolutions.

    Args:
        parts: arrays (batch, *spatial, channel) of one dtype; their channels may differ in number.
        kernel, strides: as for `convolve`, with the channels of all parts.

    Returns:
        What `convolve` returns.
    """

    def added(parts, kernel):
        bounds = itertools.accumulate(part.shape[-1] for part in parts[:-1])
        kernels = jnp.split(kernel, list(bounds), axis=-2)
        return sum(convolve(part, of_part, strides) for part, of_part in zip(parts, kernels, strict=True))

    concatenated = functools.partial(_convolve_concatenated, strides=strides)
    return jax.lax.platform_dependent(parts, kernel, cpu=added, default=concatenated)


def _convolve_joined_forward(parts, kernel, strides):
    return jax.vjp(functools.partial(_convolve_concatenated, strides=strides), parts, kernel)


def _convolve_joined_backward(_, transpose, gradient):
    return transpose(gradient)


convolve_joined.defvjp(_convolve_joined_forward, _convolve_joined_backward)


class Convolution(nn.Module):
    """`convolve` with a float32 kernel and no bias: the instance norm that follows would remove it again."""

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """The convolution of the inputs, (batch, *spatial, channel) each, joined along their channels."""
        channels = sum(part.shape[-1] for part in inputs)
        # He et al. 2015, as nnU-Net initialises; a leaky slope of 0.01 changes the gain by less than 1e-4.
        kernel = self.param("kernel", nn.initializers.he_normal(), (*self.kernel_size, channels, self.features))
        kernel, strides = kernel.astype(self.dtype), tuple(self.strides)
        parts = tuple(part.astype(self.dtype) for part in inputs)
        return convolve(*parts, kernel, strides) if len(parts) == 1 else convolve_joined(parts, kernel, strides)


_FEW_FEATURES = 8
_EPSILON = 1e-5
_SLOPE = 0.01


def _spatial_mean(values: jax.Array) -> jax.Array:
    return jnp.mean(values, tuple(range(1, values.ndim - 1)), keepdims=True)


def moments(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 spatial means of the inputs and of their squares, (batch, 1, ..., channel), in one pass over memory."""
    values = inputs.astype(jnp.float32)
    return _spatial_mean(values), _spatial_mean(values * values)


def _statistics(mean: jax.Array, mean_of_squares: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and reciprocal standard deviation, from the moments."""
    # Rounding can take the difference a hair below zero.
    variance = jnp.maximum(mean_of_squares - mean * mean, 0.0)
    return mean, jax.lax.rsqrt(variance + _EPSILON)


def _normalized_and_activated(inputs, scale, bias, mean, deviation_reciprocal):
    factor = scale * deviation_reciprocal
    normalized = inputs.astype(jnp.float32) * factor + (bias - mean * factor)
    return jnp.where(normalized >= 0, normalized, _SLOPE * normalized).astype(inputs.dtype)


def normalize_by_moments(
    inputs: jax.Array, mean: jax.Array, mean_of_squares: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """`normalize_and_activate` with moments that are known already, such as those of the volume a slice belongs to.

    Args:
        inputs, scale, bias: as for `normalize_and_activate`.
        mean, mean_of_squares: what `moments` returns.
    """
    return _normalized_and_activated(inputs, scale, bias, *_statistics(mean, mean_of_squares))


@jax.custom_vjp
def normalize_and_activate(inputs: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Instance normalisation (Ulyanov et al. 2016) over the spatial axes, then a leaky ReLU of slope 0.01.

    One function, so that the backward pass needs the inputs alone and goes over them twice: once for the sums that
    the statistics' gradients need, once for the result.

    Args:
        inputs: (batch, *spatial, channel). Statistics are float32 whatever its dtype.
        scale: float32 (channel,).
        bias: float32 (channel,).

    Returns:
        The inputs' shape and dtype. Differentiable once in reverse mode.
    """
    return _normalize_and_activate_forward(inputs, scale, bias)[0]


def _normalize_and_activate_forward(inputs, scale, bias):
    mean, deviation_reciprocal = _statistics(*moments(inputs))
    outputs = _normalized_and_activated(inputs, scale, bias, mean, deviation_reciprocal)
    return outputs, (inputs, scale, bias, mean, deviation_reciprocal)


def _normalize_and_activate_backward(residuals, gradient):
    inputs, scale, bias, mean, deviation_reciprocal = residuals
    values = inputs.astype(jnp.float32)
    factor = scale * deviation_reciprocal
    normalized = values * factor + (bias - mean * factor)
    gradient = gradient.astype(jnp.float32)
    gradient = jnp.where(normalized >= 0, gradient, _SLOPE * gradient)
    mean_gradient = _spatial_mean(gradient)
    # Of the gradient and the standardized inputs, which are not worth an array of their own.
    mean_product = (_spatial_mean(gradient * values) - mean_gradient * mean) * deviation_reciprocal
    slope = mean_product * deviation_reciprocal
    input_gradient = factor * (gradient - slope * values + (slope * mean - mean_gradient))
    voxels = math.prod(inputs.shape[1:-1])
    axes = tuple(range(inputs.ndim - 1))
    return (
        input_gradient.astype(inputs.dtype),
        voxels * jnp.sum(mean_product, axes),
        voxels * jnp.sum(mean_gradient, axes),
    )


normalize_and_activate.defvjp(_normalize_and_activate_forward, _normalize_and_activate_backward)


class NormalizationAndActivation(nn.Module):
    """`normalize_and_activate` with a scale and a bias for each channel."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        channels = inputs.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return normalize_and_activate(inputs, scale, bias)


@jax.custom_vjp
def _product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return inputs @ kernel


def _product_forward(inputs, kernel):
    return inputs @ kernel, (inputs, kernel)


def _product_backward(residuals, gradient):
    inputs, kernel = residuals
    if kernel.shape[1] < _FEW_FEATURES:
        input_gradient = sum(gradient[..., i, None] * kernel[:, i] for i in range(kernel.shape[1]))
    else:
        input_gradient = gradient @ kernel.T
    return input_gradient, planes.product_over_voxels(inputs, gradient)


_product.defvjp(_product_forward, _product_backward)


def product_of_voxels(inputs: jax.Array, kernel: jax.Array, *_, **__) -> jax.Array:
    """What `flax.linen.Dense` computes, as its `dot_general`: (..., channel), (channel, features) -> (..., features).

    The kernel's gradient sums over voxels with both operands as they lie in memory; as JAX derives it, the gradient is
    transposed first, which on a CPU takes longer than the product. With few features, such as a head's classes, the
    gradient to the inputs is a sum that joins what follows it.
    """
    return _product(inputs, kernel)


class Upsampling(nn.Module):
    """A transposed convolution whose kernel equals its stride: a matrix product and a rearrangement."""

    features: int
    strides: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        batch, *spatial, _ = inputs.shape
        copies = math.prod(self.strides)
        kernel_initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        outputs = nn.Dense(
            self.features * copies,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=kernel_initializer,
            dot_general=product_of_voxels,
        )(inputs)
        outputs = outputs.reshape(batch, *spatial, *self.strides, self.features)
        rank = len(spatial)
        interleaved = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
        outputs = outputs.transpose(0, *interleaved, 1 + 2 * rank)
        outputs = outputs.reshape(
            batch, *(size * stride for size, stride in zip(spatial, self.strides, strict=True)), self.features
        )
        # Added last, the bias joins the rearrangement; a product with a bias takes a CPU up to three times as long.
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return outputs + bias.astype(self.dtype)
