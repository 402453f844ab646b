"""The convolution means the same in every lowering and under every mapping."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.models import lowerings
from cascade_jax.models.layers import Upsampling, convolve, convolve_joined, normalize_and_activate

DIMENSION_NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}

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
# Many channels, where a CPU runs other programs: (inputs, kernel size, features).
WIDE = [
    ((2, 32, 8, 128), (3, 3), 130),  # voxels enough for Winograd's filtering of the input gradient too
    ((2, 18, 12, 128), (3, 3), 128),
    ((2, 16, 12, 64), (3, 3), 72),
    ((2, 12, 4, 140), (3, 3), 70),  # fewer voxels than channels
    ((1, 32, 5, 128), (3, 3), 136),
    ((2, 18, 4, 130), (3, 3), 128),
    ((1, 33, 3, 256), (3, 3), 256),
    ((1, 5, 33, 4, 128), (3, 3, 3), 128),
    ((1, 9, 16, 4, 128), (3, 3, 3), 132),  # two tiles along the depth, the second of them not full
    ((2, 4, 17, 3, 136), (3, 3, 3), 128),
    ((1, 4, 32, 3, 128), (1, 3, 3), 130),
    ((1, 1, 34, 3, 128), (3, 3, 3), 128),
    ((1, 5, 20, 4, 64), (3, 3, 3), 72),
    ((1, 3, 16, 4, 256), (3, 3, 3), 260),
    ((4, 128, 64, 64), (3, 3), 72),  # more than a cache holds: in parts
    ((1, 6, 96, 64, 64), (1, 3, 3), 64),
    ((3, 128, 96, 64), (3, 3), 64),
    ((2, 18, 12, 32), (3, 3), 40),
]
# The same with strides within the slices.
WIDE_STRIDED = [
    ((1, 5, 32, 16, 64), (3, 3, 3), 72),
    ((1, 9, 33, 19, 128), (3, 3, 3), 130),  # sizes that the strides do not divide, and a tile that is not full
    ((2, 4, 16, 28, 130), (3, 3, 3), 128),
]


def native(inputs, kernel, strides):
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        [(size // 2, size // 2) for size in kernel.shape[:-2]],
        dimension_numbers=DIMENSION_NUMBERS[len(strides)],
    )


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


@pytest.fixture
def lowering(request, monkeypatch):
    """Has every convolution computed as that platform computes it."""

    chosen = lowerings.LOWERINGS[request.param]
    monkeypatch.setattr(lowerings, "LOWERINGS", dict.fromkeys(lowerings.LOWERINGS, chosen))
    jax.clear_caches()  # what was traced with another one
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("lowering")
@pytest.mark.parametrize("lowering", ["cuda", "native"], indirect=True)
def test_a_chosen_lowering_is_the_one_that_is_traced(request):
    inputs, kernel = jnp.ones((1, 4, 16, 16, 4)), jnp.ones((3, 3, 3, 4, 4))
    program = str(jax.make_jaxpr(lambda x, w: convolve(x, w, (1, 1, 1)))(inputs, kernel))
    in_volumes = "f32[1,4,16,16,4] = conv_general_dilated" in program
    assert in_volumes == (request.node.callspec.params["lowering"] == "native"), program


@pytest.mark.usefixtures("lowering")
@pytest.mark.parametrize(
    ("lowering", "shape", "kernel_size", "strides", "features"),
    [("cpu", *case, 4) for case in CASES]
    + [("cpu", shape, kernel_size, (1,) * len(kernel_size), features) for shape, kernel_size, features in WIDE]
    + [("cpu", shape, kernel_size, (1, 2, 2), features) for shape, kernel_size, features in WIDE_STRIDED]
    + [("cuda", *case, 4) for case in CASES if len(case[1]) == 3],
    indirect=["lowering"],
)
def test_values_and_gradients_are_those_of_the_native_convolution(shape, kernel_size, strides, features):
    inputs, kernel = draw(shape, kernel_size, features=features)

    def value_and_gradients(function):
        def scalar(inputs, kernel):
            outputs = function(inputs, kernel, strides)
            return jnp.sum(outputs * jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape)), outputs

        (_, outputs), gradients = jax.jit(jax.value_and_grad(scalar, (0, 1), has_aux=True))(inputs, kernel)
        without_gradients = jax.jit(lambda *arguments: function(*arguments, strides))(inputs, kernel)
        return without_gradients, outputs, *gradients

    for actual, expected in zip(value_and_gradients(convolve), value_and_gradients(native), strict=True):
        assert_close(actual, expected)


@pytest.mark.usefixtures("lowering")
@pytest.mark.parametrize("lowering", ["cpu", "cuda"], indirect=True)
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


@pytest.mark.usefixtures("lowering")
@pytest.mark.parametrize("lowering", ["cpu", "cuda"], indirect=True)
@pytest.mark.parametrize(("shape", "kernel_size", "strides"), [CASES[1], CASES[3]])
def test_devices_give_what_one_program_gives(shape, kernel_size, strides):
    devices = jax.local_device_count()
    inputs, kernel = draw((devices * shape[0], *shape[1:]), kernel_size)

    def gradients(function, mean):
        def scalar(inputs, kernel):
            return jnp.sum(jnp.sin(function(inputs, kernel, strides)))

        return lambda *arguments: mean(jax.grad(scalar, 1)(*arguments))

    pmapped = jax.pmap(gradients(convolve, lambda tree: jax.lax.psum(tree, "devices")), "devices", in_axes=(0, None))
    actual = pmapped(inputs.reshape(devices, *shape), kernel)
    assert_close(actual[0], gradients(native, lambda tree: tree)(inputs, kernel))


def joined(inputs, kernel, strides):
    return convolve_joined((inputs[..., :1], inputs[..., 1:]), kernel, strides)


@pytest.mark.parametrize(
    ("shape", "kernel_size", "strides", "features"), [(*CASES[0], 4), (*CASES[8], 4), (*WIDE[2][:2], (1, 1), 72)]
)
def test_a_convolution_of_joined_arrays_is_that_of_their_concatenation(shape, kernel_size, strides, features):
    inputs, kernel = draw(shape, kernel_size, folds=2, features=features)

    def results(function):  # of every fold: without a gradient a CPU runs another program than with one
        def scalar(*arguments):
            outputs = function(*arguments, strides)
            return jnp.sum(outputs * jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape))

        values = jax.jit(jax.vmap(lambda *arguments: function(*arguments, strides)))(inputs, kernel)
        return values, *jax.jit(jax.vmap(jax.grad(scalar, (0, 1))))(inputs, kernel)

    for actual, expected in zip(results(joined), results(native), strict=True):
        assert_close(actual, expected)
    one = jax.pmap(lambda *arguments: joined(*arguments, strides), in_axes=(0, None))(inputs[:1], kernel[0])
    assert_close(one[0], native(inputs[0], kernel[0], strides))


def test_joined_arrays_are_concatenated_for_a_gradient_only():
    inputs, kernel = draw((1, 6, 6, 4), (3, 3))

    def program(function):
        return jax.jit(function).lower(inputs, kernel).as_text()

    assert "concatenate" not in program(lambda *arguments: joined(*arguments, (1, 1)))
    assert "concatenate" in program(jax.grad(lambda *arguments: jnp.sum(joined(*arguments, (1, 1))), 1))


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
