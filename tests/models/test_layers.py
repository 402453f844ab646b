"""Instance norm and upsampling are what their formulas say."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax.models.layers import Upsampling, normalize_and_activate


def assert_close(actual, expected):
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(np.asarray(actual) / scale, np.asarray(expected) / scale, atol=1e-5)


def test_upsampling_is_the_transposed_convolution_whose_kernel_equals_its_stride():
    inputs = jax.random.normal(jax.random.key(1), (2, 3, 4, 5, 6))
    layer = Upsampling(features=7, strides=(1, 2, 2))
    variables = layer.init(jax.random.key(2), inputs)
    kernel = variables["params"]["Dense_0"]["kernel"].reshape(6, 1, 2, 2, 7)
    # jax.lax.conv_transpose correlates with the dilated input: its kernel is this one reversed in space.
    kernel = kernel[:, ::-1, ::-1, ::-1]
    expected = jax.lax.conv_transpose(
        inputs, kernel.transpose(1, 2, 3, 0, 4), (1, 2, 2), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    assert_close(layer.apply(variables, inputs), expected)


def plain_normalize_and_activate(inputs, scale, bias):
    mean, variance = inputs.mean((1, 2), keepdims=True), inputs.var((1, 2), keepdims=True)
    return nn.leaky_relu((inputs - mean) / jnp.sqrt(variance + 1e-5) * scale + bias, 0.01)


def test_normalization_and_activation_have_the_values_and_gradients_of_the_formula():
    keys = jax.random.split(jax.random.key(3), 4)
    inputs = 1 + 3 * jax.random.normal(keys[0], (2, 9, 8, 4))
    scale, bias = 1 + 0.5 * jax.random.normal(keys[1], (4,)), jax.random.normal(keys[2], (4,))
    weights = jax.random.normal(keys[3], inputs.shape)

    def value_and_gradients(function):
        def scalar(*arguments):
            outputs = function(*arguments)
            return jnp.sum(weights * outputs), outputs

        (_, outputs), gradients = jax.value_and_grad(scalar, (0, 1, 2), has_aux=True)(inputs, scale, bias)
        return outputs, *gradients

    actual, expected = value_and_gradients(normalize_and_activate), value_and_gradients(plain_normalize_and_activate)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other)


def test_normalization_gives_each_channel_of_each_sample_mean_0_and_deviation_1():
    inputs = 5 + 3 * jax.random.normal(jax.random.key(3), (2, 9, 8, 4))
    outputs = np.asarray(normalize_and_activate(inputs, jnp.ones(4), jnp.zeros(4)))
    outputs = np.where(outputs < 0, outputs / 0.01, outputs)
    np.testing.assert_allclose(outputs.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(outputs.std((1, 2)), 1, atol=1e-4)
