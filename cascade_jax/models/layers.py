"""The layers of the U-Net: convolution, instance norm with leaky ReLU, and upsampling; channels are last."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from cascade_jax.models.convolution import Convolve, convolve

_EPSILON = 1e-5
_SLOPE = 0.01


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """float32 for any narrower dtype, under strict promotion too."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


class Convolution(nn.Module):
    """A convolution with a float32 kernel and no bias: the instance norm that follows would remove it again."""

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32
    convolve: Convolve = convolve

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(batch, *spatial, channel) -> (batch, *ceil(spatial size / stride), features)."""
        # He et al. 2015, as nnU-Net initialises; a leaky slope of 0.01 changes the gain by less than 1e-4.
        shape = (*self.kernel_size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        return self.convolve(inputs.astype(self.dtype), kernel.astype(self.dtype), tuple(self.strides))


def normalize_and_activate(inputs: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Instance normalisation (Ulyanov et al. 2016) over the spatial axes, then a leaky ReLU of slope 0.01.

    Args:
        inputs: (batch, *spatial, channel). Statistics are float32 at least, whatever its dtype.
        scale: float32 (channel,).
        bias: float32 (channel,).

    Returns:
        The inputs' shape and dtype.
    """
    values = inputs.astype(at_least_float32(inputs.dtype))
    axes, channels_last = tuple(range(1, inputs.ndim - 1)), (1,) * (inputs.ndim - 1) + (-1,)
    mean, mean_of_squares = (jnp.mean(power, axes, keepdims=True) for power in (values, values * values))
    # Both moments in one pass over memory; rounding can take their difference a hair below zero.
    variance = jnp.maximum(mean_of_squares - mean * mean, 0.0)
    factor = scale.reshape(channels_last) * jax.lax.rsqrt(variance + _EPSILON)
    normalized = values * factor + (bias.reshape(channels_last) - mean * factor)
    return jnp.where(normalized >= 0, normalized, _SLOPE * normalized).astype(inputs.dtype)


class NormalizationAndActivation(nn.Module):
    """`normalize_and_activate` with a scale and a bias for each channel."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        channels = inputs.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        return normalize_and_activate(inputs, scale, bias)


class Upsampling(nn.Module):
    """A transposed convolution whose kernel equals its stride: a matrix product and a rearrangement."""

    features: int
    strides: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(batch, *spatial, channel) -> (batch, *spatial size * stride, features)."""
        spatial = inputs.shape[1:-1]
        outputs = nn.Dense(
            self.features * math.prod(self.strides),
            use_bias=False,
            dtype=self.dtype,
            param_dtype=jnp.float32,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
        )(inputs)
        # (batch, *spatial, *strides, features) -> (batch, spatial, stride, spatial, stride, ..., features), then each
        # spatial axis joined with its stride. One axis at a time, as arrays sharded over Explicit axes want it.
        for position, stride in enumerate(self.strides[:-1]):
            rest = math.prod(self.strides[position + 1 :]) * self.features
            outputs = outputs.reshape(*outputs.shape[:-1], stride, rest)
        outputs = outputs.reshape(*outputs.shape[:-1], self.strides[-1], self.features)
        rank = len(spatial)
        interleaved = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
        outputs = outputs.transpose(0, *interleaved, 1 + 2 * rank)
        for axis in range(1, 1 + rank):
            size, stride = outputs.shape[axis : axis + 2]
            outputs = outputs.reshape(*outputs.shape[:axis], size * stride, *outputs.shape[axis + 2 :])
        # Added last, the bias joins the rearrangement.
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return outputs + bias.astype(self.dtype).reshape((1,) * (outputs.ndim - 1) + (-1,))
