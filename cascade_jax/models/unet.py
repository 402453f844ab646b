"""The U-Net of both stages: the length of a kernel size says whether it is a 2D or a 3D one."""

from collections.abc import Iterable, Mapping, Sequence
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


def layers_of_block(params: Any) -> list[tuple[jax.Array, Any]]:
    """The kernels of a `ConvolutionBlock`, each with its norm's `scale` and `bias`, in the order of their use."""
    return [
        (params[f"Convolution_{index}"]["kernel"], params[f"NormalizationAndActivation_{index}"]) for index in (0, 1)
    ]


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
        for stage in range(len(self.features)):
            outputs = _encoder(self, stage)(outputs)
            skips.append(outputs)

        logits = []
        for stage in reversed(range(len(self.features) - 1)):
            outputs = _decoder(self, stage)(_upsampling(self, stage)(outputs), skips[stage])
            if stage == 0 or deep_supervision:
                logits.append(_head(self, stage)(outputs))
        return tuple(reversed(logits)) if deep_supervision else logits[-1]


def _encoder(network: UNet, stage: int) -> ConvolutionBlock:
    kernel_size, strides = tuple(network.kernel_sizes[stage]), tuple(network.strides[stage])
    return ConvolutionBlock(network.features[stage], kernel_size, strides, network.dtype, name=f"encoder{stage}")


def _upsampling(network: UNet, stage: int) -> Upsampling:
    strides = tuple(network.strides[stage + 1])
    return Upsampling(network.features[stage], strides, network.dtype, name=f"upsampling{stage}")


def _decoder(network: UNet, stage: int) -> ConvolutionBlock:
    kernel_size = tuple(network.kernel_sizes[stage])
    strides = (1,) * len(kernel_size)
    return ConvolutionBlock(network.features[stage], kernel_size, strides, network.dtype, name=f"decoder{stage}")


def _head(network: UNet, stage: int) -> nn.Dense:
    return nn.Dense(network.num_classes, dtype=jnp.float32, dot_general=product_of_voxels, name=f"logits{stage}")


def _apply(module: nn.Module, params: Any, *inputs: jax.Array) -> jax.Array:
    return module.apply({"params": params[module.name]}, *inputs)


def encode(network: UNet, params: Any, inputs: jax.Array, stages: Iterable[int]) -> list[jax.Array]:
    """A part of the network's encoder: the feature maps of each of the `stages`, from those of the stage before.

    Args:
        network: the U-Net.
        params: its parameters.
        inputs: (batch, *spatial, channel); for stage 0 the image.
        stages: which ones, each after the one before.
    """
    maps = [inputs.astype(network.dtype)]
    for stage in stages:
        maps.append(_apply(_encoder(network, stage), params, maps[-1]))
    return maps[1:]


def decode(network: UNet, params: Any, inputs: jax.Array, skips: Mapping[int, jax.Array]) -> jax.Array:
    """A part of the network's decoder: the feature maps of the finest of the stages in `skips`.

    Args:
        network: the U-Net.
        params: its parameters.
        inputs: (batch, *spatial, channel), feature maps of the stage below the coarsest in `skips`.
        skips: what the encoder has made of each stage.
    """
    for stage in sorted(skips, reverse=True):
        upsampled = _apply(_upsampling(network, stage), params, inputs)
        inputs = _apply(_decoder(network, stage), params, upsampled, skips[stage])
    return inputs


def logits_of(network: UNet, params: Any, maps: jax.Array) -> jax.Array:
    """float32 logits (batch, *spatial, num_classes) of the decoder's finest feature maps."""
    return _apply(_head(network, 0), params, maps)


def params_like(network: UNet, input_shape: Sequence[int]) -> Any:
    """The shapes of a network's parameters, without making them."""

    def initialise():
        return network.init(jax.random.key(0), jnp.zeros((1, *input_shape)), deep_supervision=True)["params"]

    return jax.eval_shape(initialise)
