"""The U-Net of both stages: the length of a kernel size says whether it is a 2D or a 3D one."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cascade_jax.models.convolution import Convolve, convolve
from cascade_jax.models.layers import Convolution, NormalizationAndActivation, Upsampling, at_least_float32


class ConvolutionBlock(nn.Module):
    """Twice: convolution, instance norm, leaky ReLU (slope 0.01). The first convolution carries the strides."""

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32
    convolve: Convolve = convolve

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        for strides in (self.strides, (1,) * len(self.strides)):
            inputs = Convolution(self.features, self.kernel_size, strides, self.dtype, self.convolve)(inputs)
            inputs = NormalizationAndActivation()(inputs)
        return inputs


class UNet(nn.Module):
    """nnU-Net's plain convolutional U-Net (Isensee et al. 2021), channels last.

    Attributes:
        features: channels of each stage, from full resolution to the bottleneck.
        kernel_sizes: for each stage, the (odd) kernel size along each spatial axis.
        strides: for each stage, the stride with which it is entered; the first is all ones.
        num_classes: the number of logits of each voxel.
        dtype: of the computation. Parameters are float32 always, instance-norm statistics and logits at least.
        convolve: the convolution; see `cascade_jax.models.convolution`.
        rematerialise: for a gradient, keep what enters each block and compute the feature maps inside it again, in the
            place of keeping them all: less memory, for one more forward pass. Parameters are the same.

    Raises:
        ValueError: the stages' kernel sizes and strides are not of one length, of other than 2 or 3 axes, even, or
            below 1.
    """

    features: Sequence[int]
    kernel_sizes: Sequence[tuple[int, ...]]
    strides: Sequence[tuple[int, ...]]
    num_classes: int = 5
    dtype: jnp.dtype = jnp.float32
    convolve: Convolve = convolve
    rematerialise: bool = False

    def __post_init__(self):
        # Tuples, whatever was given: a network is hashed.
        self.features = tuple(self.features)
        self.kernel_sizes = tuple(map(tuple, self.kernel_sizes))
        self.strides = tuple(map(tuple, self.strides))
        stages = {len(self.features), len(self.kernel_sizes), len(self.strides)}
        if len(stages) > 1 or not self.features:
            raise ValueError("features, kernel_sizes and strides must have one entry for each stage, and at least one")
        ranks = {len(entry) for entry in (*self.kernel_sizes, *self.strides)}
        if ranks not in ({2}, {3}):
            raise ValueError(f"kernel_sizes and strides must all have 2 or all 3 axes, not {sorted(ranks)}")
        if any(size < 1 or size % 2 == 0 for sizes in self.kernel_sizes for size in sizes):
            raise ValueError(f"kernel_sizes {self.kernel_sizes}: each must be odd")
        if any(stride < 1 for strides in self.strides for stride in strides):
            raise ValueError(f"strides {self.strides}: each must be 1 or more")
        super().__post_init__()

    @nn.compact
    def __call__(self, image: jax.Array, *, deep_supervision: bool = False) -> jax.Array | tuple[jax.Array, ...]:
        """Logits of an image.

        Args:
            image: (batch, height, width, channel) or (batch, depth, height, width, channel); each spatial size is a
                multiple of the product of the strides along it.
            deep_supervision: also return the logits of the coarser decoder stages, for the training loss.

        Returns:
            float32 logits (batch, *spatial, num_classes), float64 where `dtype` is; with `deep_supervision`, a tuple of
            them, one for each decoder stage from full resolution to the coarsest.

        Raises:
            ValueError: the image has another number of axes, or its size is not a multiple of the strides' product.
        """
        if image.ndim != len(self.strides[0]) + 2:
            raise ValueError(f"image of shape {image.shape}: this network wants {len(self.strides[0]) + 2} axes")
        for axis, size in enumerate(image.shape[1:-1]):
            factor = math.prod(strides[axis] for strides in self.strides)
            if size % factor:
                raise ValueError(
                    f"image of shape {image.shape}: size {size} is not a multiple of {factor}, the product of strides"
                )

        block_of = nn.remat(ConvolutionBlock) if self.rematerialise else ConvolutionBlock

        def block(name, stage, strides):
            kernel_size = self.kernel_sizes[stage]
            return block_of(self.features[stage], kernel_size, strides, self.dtype, self.convolve, name=name)

        skips, outputs = [], image.astype(self.dtype)
        for stage, strides in enumerate(self.strides):
            outputs = block(f"encoder{stage}", stage, strides)(outputs)
            skips.append(outputs)

        logits, precise = [], at_least_float32(self.dtype)
        for stage in reversed(range(len(self.features) - 1)):
            strides = self.strides[stage + 1]
            outputs = Upsampling(self.features[stage], strides, self.dtype, name=f"upsampling{stage}")(outputs)
            outputs = jnp.concatenate([outputs, skips[stage]], axis=-1)
            outputs = block(f"decoder{stage}", stage, (1,) * len(strides))(outputs)
            if stage == 0 or deep_supervision:
                head = nn.Dense(self.num_classes, dtype=precise, param_dtype=jnp.float32, name=f"logits{stage}")
                logits.append(head(outputs.astype(precise)))
        return tuple(reversed(logits)) if deep_supervision else logits[-1]


def params_like(network: UNet, input_shape: Sequence[int]) -> Any:
    """The shapes of a network's parameters, without making them."""

    def initialise():
        return network.init(jax.random.key(0), jnp.zeros((1, *input_shape)), deep_supervision=True)["params"]

    return jax.eval_shape(initialise)
