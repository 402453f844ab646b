"""A batch in parts, feature maps that are computed again, and half precision: the same step, in any combination."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cascade_jax.errors import ConfigError
from cascade_jax.models import UNet
from cascade_jax.training.accumulation import check_parts, loss_and_gradient
from cascade_jax.training.batches import Batch
from cascade_jax.training.step import TrainState, compile_steps

NETWORK = UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)))


@functools.cache
def batch():
    """Four slices of different heart, of which the first has hardly a valid voxel: a mean over parts is not that over
    the batch."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, (4, 16, 16)).astype(np.uint8)
    labels[2] = 1
    valid = random.random(labels.shape) < np.array([0.01, 0.9, 0.5, 0.7])[:, None, None]
    image = (labels + random.normal(size=labels.shape)).astype(np.float32)
    return Batch(image[..., None], labels, valid, np.arange(4, dtype=np.int32))


@functools.cache
def params():
    return NETWORK.init(jax.random.key(0), batch().inputs, deep_supervision=True)["params"]


@functools.cache
def step(parts, rematerialise, dtype):
    network = NETWORK.clone(rematerialise=rematerialise, dtype=jnp.dtype(dtype))
    return jax.jit(functools.partial(loss_and_gradient, network, parts=parts))(params(), batch())


@pytest.mark.parametrize(
    ("parts", "rematerialise", "dtype"),
    [(2, False, "float32"), (1, True, "float32"), (4, True, "float32"), (2, True, "bfloat16")],
)
def test_loss_and_gradient_are_those_of_the_whole_batch(parts, rematerialise, dtype):
    (loss, gradient), (expected_loss, expected) = step(parts, rematerialise, dtype), step(1, False, dtype)
    tolerance = 1e-5 if dtype == "float32" else 0.02
    assert float(loss) == pytest.approx(float(expected_loss), rel=tolerance)
    difference = jax.tree.map(jnp.subtract, gradient, expected)
    assert float(optax.tree.norm(difference)) < tolerance * float(optax.tree.norm(expected))


@functools.cache
def bytes_of_a_step(parts, rematerialise):
    network, optimizer = NETWORK.clone(rematerialise=rematerialise), optax.sgd(0.1)
    run = compile_steps(network, optimizer, lambda *_: batch(), 1, parts=parts)
    key = jax.random.key_data(jax.random.key(0))
    state = TrainState(jnp.int32(0), params(), optimizer.init(params()), key)
    return run.lower(state, None, None).compile().memory_analysis().temp_size_in_bytes


def test_parts_and_rematerialisation_each_take_less_memory_and_together_least():
    whole, parts, again, both = (bytes_of_a_step(*one) for one in ((1, False), (4, False), (1, True), (4, True)))
    assert parts < 0.6 * whole
    assert again < 0.9 * whole
    assert both < min(parts, again)


@pytest.mark.parametrize(("parts", "devices"), [(1, 1), (4, 1), (2, 4), (1, 3)])
def test_a_number_of_parts_that_divides_a_devices_share_is_taken(parts, devices):
    check_parts("stage1.accumulate", parts, 8, devices)


@pytest.mark.parametrize(
    ("parts", "devices", "line"),
    [
        (3, 1, "stage1.accumulate is 3, which does not divide the batch of 8; possible: 1, 2, 4, 8"),
        (0, 1, "stage1.accumulate is 0, which does not divide the batch of 8; possible: 1, 2, 4, 8"),
        (
            2,
            3,
            "stage1.accumulate is 2, which does not divide 3, each of 3 devices' share of the batch of 8; "
            "possible: 1, 3",
        ),
    ],
)
def test_another_is_refused_in_one_line(parts, devices, line):
    with pytest.raises(ConfigError) as error:
        check_parts("stage1.accumulate", parts, 8, devices)
    assert str(error.value) == line
