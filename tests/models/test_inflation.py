"""A 3D U-Net that starts as the 2D one it was inflated from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.models import UNet
from cascade_jax.models.inflation import inflate

FLAT = UNet((4, 8, 8), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)))


def volume_network(features=(4, 8, 8)):
    return UNet(features, ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (1, 2, 2)))


def init(network, channels, depth=()):
    shape = (1, *depth, 16, 16, channels)
    return jax.jit(functools.partial(network.init, deep_supervision=True))(jax.random.key(1), jnp.zeros(shape))[
        "params"
    ]


def test_an_inflated_network_does_to_a_slice_what_the_flat_one_does_whatever_the_prior_says():
    params = init(FLAT, 1)
    inflated = inflate(params, init(volume_network(), 5, (1,)))
    image, prior = (
        jax.random.normal(jax.random.key(2), (2, 16, 16, 1)),
        jax.random.normal(jax.random.key(3), (2, 1, 16, 16, 4)),
    )
    flat = jax.jit(FLAT.apply)({"params": params}, image)
    inputs = jnp.concatenate([image[:, None], prior], axis=-1)
    volume = jax.jit(volume_network().apply)({"params": inflated}, inputs)
    np.testing.assert_allclose(volume[:, 0], flat, atol=1e-4)
    # What starts at zero can be learnt.
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(volume_network().apply({"params": p}, inputs) ** 2)))(inflated)
    kernel = gradient["encoder0"]["Convolution_0"]["kernel"]
    assert np.abs(kernel[..., 1:, :]).max() > 0


def test_networks_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="cannot be inflated"):
        inflate(init(FLAT, 1), init(volume_network((4, 16, 8)), 5, (1,)))
    with pytest.raises(ValueError, match="different layers"):
        inflate(init(UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))), 1), init(volume_network(), 5, (1,)))
