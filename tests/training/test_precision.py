"""What single precision rounds away changes no result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cascade_jax
from cascade_jax.cascade import Cascade, build_networks, input_shapes
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.training.precision import in_double_precision, voxels_that_differ

PLAN = Plan(
    (10.0, 4.0, 4.0),
    (6, 24, 24),
    StagePlan((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), 1),
    StagePlan((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)), 1),
)


@pytest.fixture(scope="module")
def params():
    """Of random networks, whose labels are close calls everywhere."""
    networks = build_networks(PLAN, jnp.dtype("float32"))
    return tuple(
        jax.tree.map(
            lambda leaf: leaf[None], jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
        )
        for network, shape in zip(networks, input_shapes(PLAN), strict=True)
    )


def test_the_rounding_of_half_precision_is_seen_in_the_labels_and_that_of_single_is_not(params):
    case = simulated.simulate_case(0, 1, field_of_view_mm=90)
    differ = {}
    for name in ("float32", "bfloat16"):
        cascade = Cascade(PLAN, build_networks(PLAN, jnp.dtype(name)), params, (), (0,))
        differ[name], voxels = voxels_that_differ(cascade, case)
        assert voxels == case.image.size
    assert differ["float32"] < voxels / 1000 < voxels / 200 < differ["bfloat16"]


def test_double_precision_is_double_from_the_first_layer_to_the_vote(params):
    with jax.enable_x64(True):
        cascade = in_double_precision(Cascade(PLAN, build_networks(PLAN, jnp.dtype("float32")), params, (), (0,)))
        image, valid = jnp.zeros(PLAN.shape, jnp.float32), jnp.ones(PLAN.shape, bool)
        graph = str(jax.make_jaxpr(cascade._vote)(cascade.params, image, valid))
        probabilities = cascade._vote(cascade.params, image, valid).probabilities
    assert probabilities.dtype == np.float64
    # The image alone is in single precision, and is converted.
    assert "f64" in graph and graph.count("new_dtype=float32") == 0


def test_fewer_than_one_voxel_in_a_hundred_thousand_has_another_label_in_double_precision():
    # Without mirror images, which would take four times as long.
    cascade = cascade_jax.load("phantom", mirror=False)
    case = simulated.simulate_case(0, 1, field_of_view_mm=150)
    differ, voxels = voxels_that_differ(cascade, case)
    assert differ < voxels / 100_000
    assert cascade.segment_case(case).labels.max() >= 3, "without an infarct it would show little"
