"""Random phantoms in a share of the steps of a cohort's training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.cascade import build_networks
from cascade_jax.data.augment import PriorCorruption
from cascade_jax.errors import ConfigError
from cascade_jax.plan import make_plan
from cascade_jax.training.batches import Batch, draw_phantom_volumes, mix_phantoms
from cascade_jax.training.config import check_config, labels_of
from launch.configs import default

DEPTH = 10  # more slices than the draws of one call have numbers
NO_FAULTS = PriorCorruption(reshape_probability=0.0, drop_probability=0.0)


def batch_of(value):
    return Batch(jnp.full((2, 1), value), jnp.zeros((2, 1), jnp.uint8), jnp.ones((2, 1), bool), jnp.zeros(2, jnp.int32))


def test_a_share_of_the_steps_learns_from_phantoms_and_says_so():
    draw = mix_phantoms(
        0.25,
        lambda key, cohort, cases, positions: batch_of(cohort),
        lambda key, cohort, cases, positions: batch_of(cohort),
    )
    batches = jax.vmap(lambda key: draw(key, (1.0, -1.0), None))(jax.random.split(jax.random.key(0), 2000))
    phantoms = np.asarray(batches.inputs[:, 0, 0]) < 0
    np.testing.assert_array_equal(np.asarray(batches.case), np.where(phantoms, -1, 0)[:, None] * np.ones(2))
    assert 0.22 < phantoms.mean() < 0.28


def test_a_phantoms_window_has_the_heart_and_the_prior_that_stage_one_gives_it():
    layers = {"features": (2, 4), "kernel_sizes": None, "strides": None, "batch_size": 2}
    overrides = {"spacing": (10.0, 3.0, 3.0), "shape": (DEPTH, 64, 64), "window": (32, 32)}
    plan = make_plan([overrides["shape"]], [overrides["spacing"]], overrides | {"slices": layers, "volumes": layers})
    networks = build_networks(plan, jnp.float32)
    params = networks[0].init(jax.random.key(0), jnp.zeros((1, 64, 64, 1)), deep_supervision=True)["params"]
    draw = jax.jit(lambda key: draw_phantom_volumes(2, plan, networks[0], NO_FAULTS)(key, params, None))
    hearts = 0
    for seed in range(4):
        batch = draw(jax.random.key(seed))
        assert batch.inputs.shape == (2, DEPTH, 32, 32, 5) and batch.labels.shape == (2, DEPTH, 32, 32)
        prior = np.asarray(batch.inputs[..., 1:])
        assert (prior.sum(-1) <= 1).all() and not prior[~np.asarray(batch.valid)].any()
        hearts += (np.asarray(batch.labels) > 0).any((1, 2, 3)).sum()
    assert hearts >= 7


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_cannot_be_is_named(share):
    config = default.get_config()
    config.phantom_share = share
    with pytest.raises(ConfigError, match="phantom_share is"):
        check_config(config)


def test_phantoms_cannot_be_mixed_into_other_labels():
    config = default.get_config()
    config.phantom_share, config.data.root = 0.5, "cohort"
    config.labels.names, config.labels.targets = ("background", "heart"), (("heart", ("heart",)),)
    with pytest.raises(ConfigError, match="phantom_share"):
        labels_of(config)
