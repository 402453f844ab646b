"""Draws made together are the numbers that the same keys give one by one."""

import jax
import numpy as np
import pytest

from cascade_jax.phantoms.draws import Draws


def test_each_draw_is_that_of_its_own_key():
    key = jax.random.key(7)
    keys = jax.random.split(key, 5)
    draws = Draws(key, 5)
    np.testing.assert_allclose(draws.uniform(-2.0, 3.0), jax.random.uniform(keys[0], minval=-2.0, maxval=3.0))
    expected = jax.random.uniform(keys[1], (2, 3), minval=0.5, maxval=1.0)
    np.testing.assert_allclose(draws.uniform(0.5, 1.0, (2, 3)), expected)
    assert (jax.random.key_data(draws.key()) == jax.random.key_data(keys[2])).all()
    np.testing.assert_array_equal(draws.bernoulli(0.4, (8,)), jax.random.bernoulli(keys[3], 0.4, (8,)))
    assert draws.bernoulli(1.0)


def test_a_large_draw_is_refused():
    with pytest.raises(ValueError, match="more than 8"):
        Draws(jax.random.key(0), 1).uniform(0.0, 1.0, (3, 3))
