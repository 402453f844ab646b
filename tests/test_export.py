"""The exported cascade in a process that knows of JAX only."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from cascade_jax import inference
from cascade_jax.data.preprocess import Example, Grid
from cascade_jax.export import export_cascade
from cascade_jax.inference import Cascade
from cascade_jax.plan import Plan, StagePlan

PLAN = Plan(
    (10.0, 2.0, 2.0),
    (4, 16, 16),
    StagePlan((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), 2),
    StagePlan((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)), 2),
)
ELSEWHERE = """
import sys
import jax, jax.export, numpy as np
folder = sys.argv[1]
program = jax.export.deserialize(bytearray(open(folder + "/cascade.stablehlo", "rb").read()))
arrays = np.load(folder + "/input.npz")
labels, probabilities = program.call(arrays["image"], arrays["valid"])
np.savez(folder + "/output.npz", labels=labels, probabilities=probabilities)
assert not {name.split(".")[0] for name in sys.modules} & {"cascade_jax", "flax", "optax", "orbax"}
"""


@pytest.fixture(scope="module")
def cascade():
    networks = inference.build_networks(PLAN, np.dtype("float32"))

    def folds(network, shape):
        def init(key):
            params = network.init(key, np.zeros((1, *shape), np.float32), deep_supervision=True)["params"]
            return jax.tree.map(lambda leaf: 2 * leaf, params)

        return jax.vmap(init)(jax.random.split(jax.random.key(0), 2))

    params = tuple(folds(network, shape) for network, shape in zip(networks, inference.input_shapes(PLAN), strict=True))
    return Cascade(PLAN, networks, params, (), (0, 1), mirror=True)


def test_the_exported_program_labels_as_the_cascade_does_without_this_package(cascade, tmp_path):
    content = export_cascade(cascade)
    (tmp_path / "cascade.stablehlo").write_bytes(content)
    assert jax.export.deserialize(bytearray(content)).platforms == ("cpu", "cuda", "tpu")
    image = np.random.default_rng(0).normal(size=PLAN.shape).astype(np.float32)
    extent = ((0, 3), (0, 16), (2, 14))
    example = Example("case", image, None, Grid((3, 16, 12), (), (3, 16, 12), extent, (0, 0, 0)))
    np.savez(tmp_path / "input.npz", image=image, valid=example.valid)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True, cwd=tmp_path)
    result, vote = np.load(tmp_path / "output.npz"), cascade.vote(example)
    np.testing.assert_array_equal(result["labels"], vote.labels)
    np.testing.assert_allclose(result["probabilities"], vote.probabilities, atol=1e-4)
    assert len(np.unique(vote.labels)) > 1


def test_any_shape_is_raised_to_one_that_the_networks_accept(cascade):
    program = jax.export.deserialize(bytearray(export_cascade(cascade, (5, 17, 30), ("cpu",))))
    assert program.in_avals[0].shape == (5, 18, 30)
