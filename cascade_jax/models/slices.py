"""How a CPU runs the networks in inference: slice by slice where there are many pixels.

What lies between two layers then stays in the cache, and padding is passed over. Where there are few pixels, at the
coarse stages, there are more weights to read than pixels, and all slices run at once. The results are those of the
networks' own `__call__`, up to rounding.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cascade_jax.models import layers, unet
from cascade_jax.models.unet import UNet


def _for_each_slice(
    function: Callable,
    arrays: Sequence[jax.Array],
    first: jax.Array | int = 0,
    beyond: jax.Array | int | None = None,
    *,
    in_place: bool = False,
) -> list[jax.Array]:
    """What `function` makes of the slices of some arrays, one slice after another.

    There is no condition in the loop: the compiler would compute in every turn what depends on the weights alone.

    Args:
        function: a slice (1, ...) of each array -> a list of arrays (1, ...).
        arrays: (depth, ...) each.
        first, beyond: from which slice on, and before which one to stop; all without them. They may be traced.
        in_place: the first result has the first array's shape and dtype and is written over it.

    Returns:
        Arrays (depth, ...) of the function's results. Where slices are passed over there is 0, or what the first array
        has there if it is written over.
    """

    def write_next(index, results):
        inputs = [*results[:in_place], *arrays[in_place:]]
        of_slice = function(*(jax.lax.dynamic_slice_in_dim(array, index, 1) for array in inputs))
        return [
            jax.lax.dynamic_update_slice_in_dim(result, part, index, 0)
            for result, part in zip(results, of_slice, strict=True)
        ]

    depth = len(arrays[0])
    shapes = jax.eval_shape(function, *(array[:1] for array in arrays))
    results = [jnp.zeros((depth, *shape.shape[1:]), shape.dtype) for shape in shapes]
    if in_place:
        results[0] = arrays[0]
    return jax.lax.fori_loop(first, depth if beyond is None else beyond, write_next, results)


def _first_coarse_stage(network: UNet, size: tuple[int, int]) -> int:
    """The first stage at which a slice of this size has fewer pixels than channels, else the last."""
    pixels = math.prod(size)
    for stage, (features, strides) in enumerate(zip(network.features, network.strides, strict=True)):
        pixels //= math.prod(strides)
        if stage and pixels < features:
            return stage
    return len(network.features) - 1


def segment_slices(
    network: UNet, params: Any, slices: jax.Array, first: jax.Array | int, beyond: jax.Array | int
) -> jax.Array:
    """The probabilities of the slices `first` to `beyond - 1`; 0 for all others.

    Args:
        network: the 2D U-Net.
        params: its parameters.
        slices: (depth, height, width, channel).
        first, beyond: which slices; they may be traced.

    Returns:
        float32 (depth, height, width, class).
    """
    stages = range(len(network.features))
    first_coarse = _first_coarse_stage(network, slices.shape[1:3])
    fine, coarse = stages[:first_coarse], stages[first_coarse:]

    def decode_finely(inputs, *skips):
        maps = unet.decode(network, params, inputs, dict(zip(fine, skips, strict=True)))
        return [jax.nn.softmax(unet.logits_of(network, params, maps))]

    skips = _for_each_slice(lambda image: unet.encode(network, params, image, fine), [slices], first, beyond)
    *coarse_skips, bottom = unet.encode(network, params, skips[-1], coarse)
    outputs = unet.decode(network, params, bottom, dict(zip(coarse[:-1], coarse_skips, strict=True)))
    return _for_each_slice(decode_finely, [outputs, *skips], first, beyond)[0]


def _first_thick_stage(network: UNet) -> int:
    """The first stage whose decoder has a kernel, or an upsampling, of more than one slice."""
    last = len(network.features) - 1
    thick = (stage for stage in range(last) if network.kernel_sizes[stage][0] > 1 or network.strides[stage + 1][0] > 1)
    return next(thick, last)


def _decode_flat_stage(
    network: UNet, params: Any, stage: int, inputs: jax.Array, normalize: Callable, skip: jax.Array
) -> tuple[jax.Array, Callable]:
    """One of the decoder's stages whose kernels have one slice.

    Instance norm asks for the moments of the whole volume, so the loop over slices in which a convolution runs takes
    the moments, and the next one normalises what it reads.

    Args:
        network: the 3D U-Net.
        params: its parameters.
        stage: which one.
        inputs: (depth, height, width, channel), of the stage below.
        normalize: what is still to be done to a slice of `inputs`.
        skip: (depth, height, width, features), of the encoder.

    Returns:
        The last convolution's outputs, (depth, height, width, features), and what is still to be done to a slice of it.
    """
    features, dtype = network.features[stage], network.dtype
    upsampling = layers.Upsampling(features, tuple(network.strides[stage + 1][1:]), dtype)
    kernels, norms = zip(*unet.layers_of_block(params[f"decoder{stage}"]), strict=True)
    kernels = [kernel[0].astype(dtype) for kernel in kernels]

    def with_moments(outputs):
        return [outputs, *layers.moments(outputs)]

    def normalization(norm, moments):
        of_volume = [jnp.mean(moment, 0, keepdims=True) for moment in moments]
        return lambda outputs: layers.normalize_by_moments(outputs, *of_volume, norm["scale"], norm["bias"])

    def first_convolution(skip, inputs):
        upsampled = upsampling.apply({"params": params[f"upsampling{stage}"]}, normalize(inputs))
        return with_moments(layers.convolve_joined((upsampled, skip), kernels[0], (1, 1)))

    def second_convolution(outputs):
        return with_moments(layers.convolve(between(outputs), kernels[1], (1, 1)))

    outputs, *moments = _for_each_slice(first_convolution, [skip, inputs], in_place=True)
    between = normalization(norms[0], moments)
    outputs, *moments = _for_each_slice(second_convolution, [outputs], in_place=True)
    return outputs, normalization(norms[1], moments)


def segment_volume(network: UNet, params: Any, inputs: jax.Array) -> jax.Array:
    """The probabilities of a volume.

    Args:
        network: the 3D U-Net.
        params: its parameters.
        inputs: (depth, height, width, channel).

    Returns:
        float32 (depth, height, width, class).
    """
    stages = range(len(network.features))
    first_thick = _first_thick_stage(network)
    skips = dict(zip(stages, unet.encode(network, params, inputs[None], stages), strict=True))
    thick_skips = {stage: skips[stage] for stage in stages[first_thick:-1]}
    outputs, normalize = unet.decode(network, params, skips[stages[-1]], thick_skips)[0], lambda outputs: outputs
    for stage in reversed(stages[:first_thick]):
        outputs, normalize = _decode_flat_stage(network, params, stage, outputs, normalize, skips[stage][0])

    def probabilities(outputs):
        return [jax.nn.softmax(unet.logits_of(network, params, normalize(outputs)))]

    return _for_each_slice(probabilities, [outputs])[0]
