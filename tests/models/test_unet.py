"""One U-Net for slices and volumes."""

import math

import jax
import jax.numpy as jnp
import pytest

from cascade_jax.models import UNet

# nnU-Net v2's PlainConvUNet for the plan of EMIDEC-like data (dynamic_network_architectures 0.4, 5 labels; 1 input
# channel in 2D, 5 in 3D), and how many of its parameters are biases of convolutions that an instance norm follows.
NNUNET_2D = 20_622_073, 4_992
NNUNET_3D = 30_014_841, 3_840


def plan_2d():
    return UNet((32, 64, 128, 256, 512, 512), ((3, 3),) * 6, ((1, 1),) + ((2, 2),) * 5)


def plan_3d():
    strides = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    return UNet((32, 64, 128, 256, 320, 320), ((1, 3, 3),) * 2 + ((3, 3, 3),) * 4, strides)


def shapes(network, input_shape):
    return jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(input_shape), deep_supervision=True))[
        "params"
    ]


@pytest.mark.parametrize(
    ("network", "input_shape", "expected"),
    [(plan_2d(), (1, 256, 224, 1), NNUNET_2D), (plan_3d(), (1, 10, 256, 224, 5), NNUNET_3D)],
)
def test_parameters_are_nnunets_less_the_biases_before_instance_norms(network, input_shape, expected):
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(network, input_shape)))
    total, biases_before_norms = expected
    assert count == total - biases_before_norms


def small(dimensions, **kwargs):
    if dimensions == 2:
        return UNet((4, 8, 8), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), **kwargs), (2, 8, 12, 1)
    return UNet((4, 8, 8), ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), **kwargs), (
        2, 4, 8, 12, 5,
    )  # fmt: skip


@pytest.mark.parametrize("dimensions", [2, 3])
def test_logits_have_the_images_size_and_deep_supervision_adds_the_coarser_ones(dimensions):
    network, shape = small(dimensions)
    image = jax.random.normal(jax.random.key(0), shape)
    variables = network.init(jax.random.key(0), image, deep_supervision=True)
    full, coarse = network.apply(variables, image, deep_supervision=True)
    assert full.shape == (*shape[:-1], 5)
    assert coarse.shape == ((2, 4, 6, 5) if dimensions == 2 else (2, 4, 4, 6, 5))
    assert jnp.array_equal(full, network.apply(variables, image))


def test_bfloat16_computes_near_float32_and_keeps_parameters_and_logits_float32():
    network, shape = small(2, dtype=jnp.bfloat16)
    image = jax.random.normal(jax.random.key(0), shape)
    variables = network.init(jax.random.key(0), image, deep_supervision=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    logits, exact = network.apply(variables, image), small(2)[0].apply(variables, image)
    assert logits.dtype == jnp.float32
    assert 0 < float(jnp.abs(logits - exact).max()) < 0.1 * float(jnp.abs(exact).max())


@pytest.mark.parametrize("dimensions", [2, 3])
def test_parameters_are_the_same_whether_feature_maps_are_kept_or_computed_again(dimensions):
    network, shape = small(dimensions)
    assert shapes(network, shape) == shapes(network.clone(rematerialise=True), shape)


def test_a_size_that_the_strides_do_not_divide_is_refused():
    network, _ = small(2)
    with pytest.raises(ValueError, match="size 10 is not a multiple of 4"):
        network.init(jax.random.key(0), jnp.zeros((1, 8, 10, 1)))
