"""The convolution is the compiler's own, in volumes and under every mapping; what it cannot take it says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.models.convolution import convolve

CASES = [
    ((2, 12, 10, 3), (3, 3), (1, 1)),
    ((2, 12, 10, 3), (3, 3), (2, 2)),
    ((2, 4, 8, 6, 3), (3, 3, 3), (1, 1, 1)),
    ((2, 4, 8, 6, 3), (3, 3, 3), (2, 2, 2)),
    ((2, 5, 8, 6, 3), (3, 3, 3), (2, 2, 2)),
    ((2, 4, 8, 6, 3), (1, 3, 3), (1, 2, 2)),
    ((1, 4, 8, 6, 1), (1, 3, 3), (1, 1, 1)),
    ((2, 12, 10, 9), (3, 3), (1, 1)),  # more channels than features
    ((2, 4, 8, 6, 9), (3, 3, 3), (1, 1, 1)),
    ((2, 13, 9, 3), (3, 3), (2, 2)),  # sizes that the strides do not divide
    ((2, 13, 9, 3), (3, 5), (1, 2)),
    ((2, 13, 11, 3), (5, 3), (3, 3)),
    ((2, 12, 10, 3), (1, 1), (2, 2)),
    ((2, 6, 8, 6, 9), (5, 3, 1), (3, 2, 1)),
    ((2, 5, 6, 6, 3), (1, 3, 3), (2, 2, 1)),  # slices that meet no tap
    ((2, 1, 6, 6, 3), (3, 3, 3), (2, 1, 1)),
    ((1, 4, 3, 9), (3, 5), (1, 1)),  # fewer pixels than channels
    ((1, 5, 4, 9), (3, 3), (2, 2)),
    ((1, 3, 4, 4, 9), (3, 3, 3), (2, 2, 1)),
    ((3, 12, 10, 4), (3, 3), (1, 1)),  # as many channels as features
    ((2, 3, 7, 5, 4), (1, 3, 5), (1, 1, 1)),
    ((1, 7, 5, 4), (5, 1), (1, 1)),
]


def native(inputs, kernel, strides):
    axes = "DHW"[-len(strides) :]
    padding = [(size // 2, size // 2) for size in kernel.shape[:-2]]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=numbers)


def draw(shape, kernel_size, folds=None, features=4):
    keys = jax.random.split(jax.random.key(0))
    leading = () if folds is None else (folds,)
    return (
        jax.random.normal(keys[0], (*leading, *shape)),
        jax.random.normal(keys[1], (*leading, *kernel_size, shape[-1], features)),
    )


def assert_close(actual, expected):
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(np.asarray(actual) / scale, np.asarray(expected) / scale, atol=1e-5)


@pytest.mark.parametrize(("shape", "kernel_size", "strides"), CASES)
def test_values_and_gradients_are_those_of_the_native_convolution(shape, kernel_size, strides):
    inputs, kernel = draw(shape, kernel_size)

    def value_and_gradients(function):
        def scalar(inputs, kernel):
            outputs = function(inputs, kernel, strides)
            return jnp.sum(outputs * jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape)), outputs

        (_, outputs), gradients = jax.jit(jax.value_and_grad(scalar, (0, 1), has_aux=True))(inputs, kernel)
        return outputs, *gradients

    for actual, expected in zip(value_and_gradients(convolve), value_and_gradients(native), strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize(("shape", "kernel_size", "strides"), [CASES[1], CASES[3]])
@pytest.mark.parametrize("mapped", [axes for axes in itertools.product((0, None), repeat=2) if axes != (None, None)])
def test_mapped_folds_give_what_single_folds_give(shape, kernel_size, strides, mapped):
    inputs, kernel = draw(shape, kernel_size, folds=3)
    inputs, kernel = (a if axis == 0 else a[0] for a, axis in zip((inputs, kernel), mapped, strict=True))

    def gradients(function):
        def scalar(inputs, kernel):
            return jnp.sum(jnp.sin(function(inputs, kernel, strides)))

        return lambda *arguments: (function(*arguments, strides), *jax.grad(scalar, (0, 1))(*arguments))

    actual = jax.jit(jax.vmap(gradients(convolve), in_axes=mapped))(inputs, kernel)
    for fold in range(3):
        one = [a[fold] if axis == 0 else a for a, axis in zip((inputs, kernel), mapped, strict=True)]
        for mapped_result, expected in zip(actual, gradients(native)(*one), strict=True):
            assert_close(mapped_result[fold], expected)


def test_volumes_are_convolved_slice_by_slice():
    inputs, kernel = draw((1, 4, 16, 16, 4), (3, 3, 3))
    program = jax.jit(lambda *arrays: convolve(*arrays, (1, 1, 1))).lower(inputs, kernel).as_text()
    assert "tensor<4x16x16x4xf32>, tensor<3x3x4x12xf32>" in program


@pytest.mark.parametrize(
    ("inputs", "kernel", "strides", "message"),
    [
        ((1, 8, 8, 3), (3, 3, 3, 4), (1,), "a convolution has 2 or 3 spatial axes"),
        (
            (8, 8, 3),
            (3, 3, 3, 4),
            (1, 1),
            r"inputs of shape \(8, 8, 3\): with 2 strides they are \(batch, height, width",
        ),
        ((1, 4, 8, 8, 3), (3, 3, 3, 4), (1, 1), "with 2 strides they are"),
        ((1, 8, 8, 3), (3, 3, 3, 3, 4), (1, 1), "kernel of shape .* want 4 axes"),
        ((1, 8, 8, 3), (3, 2, 3, 4), (1, 1), r"kernel size \(3, 2\): each must be odd"),
        ((1, 8, 8, 3), (3, 3, 5, 4), (1, 1), "inputs have 3 channels"),
        ((1, 8, 8, 3), (3, 3, 3, 4), (1, 0), r"strides \(1, 0\): each must be 1 or more"),
    ],
)
def test_what_it_cannot_take_it_says(inputs, kernel, strides, message):
    with pytest.raises(ValueError, match=message):
        convolve(jnp.zeros(inputs), jnp.zeros(kernel), strides)


def test_strides_may_be_a_list():
    inputs, kernel = draw((2, 8, 8, 3), (3, 3))
    np.testing.assert_array_equal(convolve(inputs, kernel, [2, 2]), convolve(inputs, kernel, (2, 2)))
