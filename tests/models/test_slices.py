"""What a CPU makes slice by slice is what the networks make of everything at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.models import UNet, slices


def drawn(network, inputs):
    """Parameters of which every scale and bias matters too."""
    params = network.init(jax.random.key(0), inputs)["params"]
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def assert_same_probabilities(actual, network, params, inputs):
    expected = jax.nn.softmax(jax.jit(network.apply)({"params": params}, inputs)).reshape(actual.shape)
    np.testing.assert_allclose(actual, expected, atol=2e-6)
    assert np.ptp(expected, axis=-1).max() > 0.5


@pytest.mark.parametrize("flat_stages", [0, 1, 2, 3])
def test_volumes_have_the_networks_probabilities(flat_stages):
    sizes = [(1, 3, 3) if stage < flat_stages else (3, 3, 3) for stage in range(4)]
    strides = [(1, 1, 1), *((1 if stage <= flat_stages else 2, 2, 2) for stage in range(1, 4))]
    network = UNet((4, 6, 8, 10), sizes, strides)
    assert slices._first_thick_stage(network) == flat_stages
    # Slices of different brightness, so that their own moments are not those of the volume.
    inputs = jax.random.normal(jax.random.key(2), (8, 16, 24, 5)) * jnp.arange(1.0, 9.0)[:, None, None, None]
    params = drawn(network, inputs[None])
    actual = jax.jit(lambda params, inputs: slices.segment_volume(network, params, inputs))(params, inputs)
    assert_same_probabilities(actual, network, params, inputs[None])


def test_a_stage_that_is_entered_along_the_depth_is_not_gone_over_slice_by_slice():
    network = UNet((4, 6, 8), ((1, 3, 3), (1, 3, 3), (3, 3, 3)), ((1, 1, 1), (2, 2, 2), (1, 2, 2)))
    inputs = jax.random.normal(jax.random.key(2), (4, 16, 16, 5))
    params = drawn(network, inputs[None])
    actual = jax.jit(lambda params, inputs: slices.segment_volume(network, params, inputs))(params, inputs)
    assert_same_probabilities(actual, network, params, inputs[None])


@pytest.mark.parametrize("size", [(8, 8), (16, 24)])  # at the smaller one all stages but the first are coarse
def test_slices_have_the_networks_probabilities_and_those_passed_over_none(size):
    network = UNet((4, 20, 24), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)))
    inputs = jax.random.normal(jax.random.key(2), (5, *size, 1))
    params = drawn(network, inputs)
    segment = jax.jit(lambda *arguments: slices.segment_slices(network, *arguments))
    actual = segment(params, inputs, 1, 4)
    assert_same_probabilities(actual[1:4], network, params, inputs[1:4])
    assert not np.asarray(actual)[[0, 4]].any()
