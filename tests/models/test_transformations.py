"""The networks and the graph work under JAX's transformations and strict modes."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.losses import deep_supervision_loss
from cascade_jax.models import UNet, segment

SLICES = UNet((2, 3), ((3, 3), (3, 3)), ((1, 1), (2, 2)))
VOLUMES = UNet((2, 3), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (2, 2, 2)))
NETWORKS = {"slices": (SLICES, (2, 4, 4, 1)), "volumes": (VOLUMES, (2, 2, 4, 4, 5))}
# Their convolutions are made of those of slices.
VOLUMES_ALONE = pytest.mark.parametrize("case", ["volumes"], indirect=True)


@pytest.fixture(params=NETWORKS)
def case(request):
    """A network, its parameters, an input, and a smooth scalar function of both."""
    network, shape = NETWORKS[request.param]
    inputs = jax.random.normal(jax.random.key(0), shape)
    params = jax.jit(functools.partial(network.init, deep_supervision=True))(jax.random.key(1), inputs)["params"]

    def loss(params, inputs):
        logits = network.apply({"params": params}, inputs, deep_supervision=True)
        return sum(jnp.mean(jnp.square(one)) for one in logits)

    return network, params, inputs, loss


def tangent_like(tree):
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    return structure.unflatten([jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])


def inner(one, other):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@VOLUMES_ALONE
def test_jvp_is_the_gradient_along_a_tangent(case):
    _, params, inputs, loss = case
    tangent = tangent_like(params)
    _, derivative = jax.jit(lambda p, t: jax.jvp(lambda p: loss(p, inputs), (p,), (t,)))(params, tangent)
    assert float(derivative) == pytest.approx(float(inner(jax.grad(loss)(params, inputs), tangent)), rel=1e-3)


@VOLUMES_ALONE
def test_the_gradient_of_a_gradient_is_the_hessians_product(case):
    _, params, inputs, loss = case
    tangent = tangent_like(params)
    gradient = functools.partial(jax.grad(loss), inputs=inputs)
    reverse = jax.jit(jax.grad(lambda p: inner(gradient(p), tangent)))(params)
    forward = jax.jit(lambda p: jax.jvp(gradient, (p,), (tangent,))[1])(params)
    assert float(inner(reverse, reverse)) > 0
    for one, other in zip(jax.tree.leaves(reverse), jax.tree.leaves(forward), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(jnp.abs(other).max()))


def test_the_hessian_is_symmetric(case):
    _, params, inputs, loss = case
    scale = params["encoder0"]["NormalizationAndActivation_0"]["scale"]

    def of_scale(scale):
        block = params["encoder0"] | {
            "NormalizationAndActivation_0": params["encoder0"]["NormalizationAndActivation_0"] | {"scale": scale}
        }
        return loss(params | {"encoder0": block}, inputs)

    hessian = jax.jit(jax.hessian(of_scale))(scale)
    assert float(jnp.abs(hessian).max()) > 0
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-3 * float(jnp.abs(hessian).max()))


def test_rematerialisation_changes_nothing(case):
    _, params, inputs, loss = case
    plain = jax.jit(jax.grad(loss))(params, inputs)
    for one, other in zip(
        jax.tree.leaves(jax.jit(jax.grad(jax.checkpoint(loss)))(params, inputs)), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * float(jnp.abs(other).max()))


def test_vmap_over_parameters_and_over_inputs(case):
    network, params, inputs, _ = case
    folds = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.5 * leaf]), params)

    def apply(params, inputs):
        return network.apply({"params": params}, inputs)

    mapped = jax.jit(jax.vmap(apply, in_axes=(0, None)))(folds, inputs)
    for fold in range(2):
        one = apply(jax.tree.map(lambda leaf, fold=fold: leaf[fold], folds), inputs)
        np.testing.assert_allclose(mapped[fold], one, rtol=1e-3, atol=1e-4)
    stacked = jnp.stack([inputs, inputs[::-1]])
    np.testing.assert_allclose(jax.vmap(apply, (None, 0))(params, stacked)[1], apply(params, inputs)[::-1], atol=1e-4)


def test_strict_promotion_of_dtypes_and_ranks(case):
    network, _, inputs, _ = case
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        params = network.init(jax.random.key(1), inputs, deep_supervision=True)["params"]
        labels, valid = jnp.ones(inputs.shape[:-1], jnp.uint8), jnp.ones(inputs.shape[:-1], bool)

        def loss(params):
            logits = network.apply({"params": params}, inputs, deep_supervision=True)
            return deep_supervision_loss(logits, labels, valid)

        assert np.isfinite(jax.jit(jax.value_and_grad(loss))(params)[0])
        half = network.clone(dtype=jnp.bfloat16)
        assert half.apply({"params": params}, inputs).dtype == jnp.float32


def test_the_graph_under_strict_promotion():
    image, valid = jnp.ones((2, 4, 4)), jnp.ones((2, 4, 4), bool)
    params = jax.tree.map(
        lambda leaf: leaf[None], tuple(n.init(jax.random.key(0), jnp.zeros(s))["params"] for n, s in NETWORKS.values())
    )
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        vote = jax.jit(functools.partial(segment, (SLICES, VOLUMES), mirror=True))(params, image, valid)
    assert vote.labels.shape == image.shape


def test_float32_parameters_with_64_bits_enabled(case):
    network, params, inputs, loss = case
    expected = loss(params, inputs)
    with jax.enable_x64(True):
        fresh = jax.eval_shape(lambda: network.init(jax.random.key(1), jnp.zeros(inputs.shape), deep_supervision=True))
        assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype(jnp.float32)}
        value, gradients = jax.jit(jax.value_and_grad(loss))(params, inputs)
        assert {leaf.dtype for leaf in jax.tree.leaves((value, gradients))} == {jnp.dtype(jnp.float32)}
        assert float(value) == pytest.approx(float(expected), rel=1e-4)
        double = network.clone(dtype=jnp.float64)
        assert np.isfinite(double.apply({"params": params}, inputs)).all()


_FOUR_DEVICES = """
import functools, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from cascade_jax.models import segment
from cascade_jax.models.graph import spread_folds
from tests.models.test_transformations import NETWORKS, SLICES, VOLUMES

def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one, other)

devices = np.array(jax.devices())
assert len(devices) == 4
for network, shape in NETWORKS.values():
    inputs = jax.random.normal(jax.random.key(0), (4, *shape[1:]))
    params = jax.jit(network.init)(jax.random.key(1), inputs)["params"]

    def loss(params, inputs):
        return jnp.mean(jnp.square(network.apply({"params": params}, inputs)))

    expected = jax.jit(jax.value_and_grad(loss))(params, inputs)
    mesh = Mesh(devices, ("batch",))

    mean_loss = jax.shard_map(
        lambda p, x: jax.lax.pmean(loss(p, x), "batch"), mesh=mesh, in_specs=(P(), P("batch")), out_specs=P()
    )
    close(jax.jit(jax.value_and_grad(mean_loss))(params, inputs), expected)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = Mesh(devices, ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            sharded = jax.device_put(inputs, NamedSharding(mesh, P("batch")))
            replicated = jax.device_put(params, NamedSharding(mesh, P()))
            logits = jax.jit(lambda p, x: network.apply({"params": p}, x))(replicated, sharded)
            assert logits.sharding.spec[0] == "batch", (kind, logits.sharding)
            close(jax.jit(jax.value_and_grad(loss))(replicated, sharded), expected)

for folds in (5, 1):
    params = tuple(
        jax.jit(jax.vmap(lambda key: network.init(key, jnp.zeros(shape))["params"]))(
            jax.random.split(jax.random.key(3), folds)
        )
        for network, shape in NETWORKS.values()
    )
    image, valid = jax.random.normal(jax.random.key(4), (2, 4, 4)), jnp.ones((2, 4, 4), bool)
    run = functools.partial(segment, (SLICES, VOLUMES), mirror=True)
    expected = jax.jit(run)(params, image, valid)
    spread, mesh = spread_folds(params, devices.reshape({5: (2, 2), 1: (1, 4)}[folds]))
    on_mesh = jax.jit(functools.partial(run, mesh=mesh, folds=folds))
    close(on_mesh(spread, image, valid), expected)
print("all equal")
"""


def test_several_devices_by_shard_map_by_sharding_and_by_fold():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", _FOUR_DEVICES], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout == "all equal\n", result.stderr
