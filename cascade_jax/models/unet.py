"""The U-Net of both stages: the length of a kernel size says whether it is a 2D or a 3D one."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cascade_jax.models.layers import Convolution, NormalizationAndActivation, Upsampling, product_of_voxels


class ConvolutionBlock(nn.Module):
    """Twice: convolution, instance norm, leaky ReLU (slope 0.01). The first convolution carries the strides."""

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Inputs (batch, *spatial, channel) are joined along their channels."""
        for strides in (self.strides, (1,) * len(self.strides)):
            outputs = Convolution(self.features, self.kernel_size, strides, self.dtype)(*inputs)
            inputs = (NormalizationAndActivation()(outputs),)
        return inputs[0]


class UNet(nn.Module):
    """nnU-Net's plain convolutional U-Net (Isensee et al. 2021), channels last.

    Attributes:
        features: channels of each stage, from full resolution to the bottleneck.
        kernel_sizes: for each stage, the (odd) kernel size along each spatial axis.
        strides: for each stage, the stride with which it is entered; the first is all ones.
        num_classes: the number of logits of each voxel.
        dtype: of the computation. Parameters, instance-norm statistics and logits are float32 always.
    """

    features: Sequence[int]
    kernel_sizes: Sequence[tuple[int, ...]]
    strides: Sequence[tuple[int, ...]]
    num_classes: int = 5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, deep_supervision: bool = False) -> jax.Array | tuple[jax.Array, ...]:
        """Logits of an image.

        Args:
            image: (batch, height, width, channel) or (batch, depth, height, width, channel); each spatial size is a
                multiple of the product of the strides along it.
            deep_supervision: also return the logits of the coarser decoder stages, for the training loss.

        Returns:
            float32 logits (batch, *spatial, num_classes); with `deep_supervision`, a tuple of them, one for each
            decoder stage from full resolution to the coarsest.

        Raises:
            ValueError: the image's size is not a multiple of the strides' product.
        """
        for axis, size in enumerate(image.shape[1:-1]):
            factor = 1
            for strides in self.strides:
                factor *= strides[axis]
            if size % factor:
                raise ValueError(
                    f"image of shape {image.shape}: size {size} is not a multiple of {factor}, the product of strides"
                )

        skips, outputs = [], image.astype(self.dtype)
        for stage, (features, kernel_size, strides) in enumerate(
            zip(self.features, self.kernel_sizes, self.strides, strict=True)
        ):
            block = ConvolutionBlock(features, tuple(kernel_size), tuple(strides), self.dtype, name=f"encoder{stage}")
            outputs = block(outputs)
            skips.append(outputs)

        logits = []
        for stage in reversed(range(len(self.features) - 1)):
            upsampling = Upsampling(
                self.features[stage], tuple(self.strides[stage + 1]), self.dtype, name=f"upsampling{stage}"
            )
            kernel_size = tuple(self.kernel_sizes[stage])
            block = ConvolutionBlock(
                self.features[stage], kernel_size, (1,) * len(kernel_size), self.dtype, name=f"decoder{stage}"
            )
            outputs = block(upsampling(outputs), skips[stage])
            if stage == 0 or deep_supervision:
                head = nn.Dense(
                    self.num_classes, dtype=jnp.float32, dot_general=product_of_voxels, name=f"logits{stage}"
                )
                logits.append(head(outputs))
        return tuple(reversed(logits)) if deep_supervision else logits[-1]


def params_like(network: UNet, input_shape: Sequence[int]) -> Any:
    """The shapes of a network's parameters, without making them."""

    def initialise():
        return network.init(jax.random.key(0), jnp.zeros((1, *input_shape)), deep_supervision=True)["params"]

    return jax.eval_shape(initialise)
