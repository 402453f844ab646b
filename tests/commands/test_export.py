"""The exported cascade in a process that knows of JAX only."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cascade_jax import postprocess, weights
from cascade_jax.bundle import MODEL_FILE
from cascade_jax.cascade import STAGES, Cascade, build_networks, input_shapes, load
from cascade_jax.commands.export import export_cascade
from cascade_jax.data.case import Case
from cascade_jax.data.preprocess import Example, Grid, preprocess
from cascade_jax.plan import Plan, StagePlan
from tests.commands import running

PLAN = Plan(
    (10.0, 2.0, 2.0),
    (4, 16, 16),
    StagePlan((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), 2),
    StagePlan((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)), 2),
    window=(8, 10),
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
    networks = build_networks(PLAN, np.dtype("float32"))

    def folds(network, shape):
        def init(key):
            params = network.init(key, np.zeros((1, *shape), np.float32), deep_supervision=True)["params"]
            return jax.tree.map(lambda leaf: 2 * leaf, params)

        return jax.vmap(init)(jax.random.split(jax.random.key(0), 2))

    params = tuple(folds(network, shape) for network, shape in zip(networks, input_shapes(PLAN), strict=True))
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


@pytest.fixture
def workdir(cascade, tmp_path):
    """A working folder with that cascade, two rules and a licence."""
    folder = tmp_path / "run"
    folder.mkdir()
    weights.write_weights(folder / weights.WEIGHTS_FILE, dict(zip(STAGES, cascade.params, strict=True)))
    rules = [{"name": "largest_heart", "minimum_mm3": 0.0}, {"name": "small_infarction", "minimum_mm3": 200.0}]
    model = {"plan": PLAN.to_json(), "folds": [0, 1], "rules": rules, "compute_dtype": "float32", "mirror": False}
    model["licence"] = "CC BY-NC-SA 4.0: trained on EMIDEC"
    (folder / MODEL_FILE).write_text(json.dumps(model))
    return folder


def export(*flags):
    return running.run("launch.export", list(flags), Path(__file__).parents[2])


def test_the_command_writes_a_program_with_all_that_one_needs_to_know_of_it(workdir, tmp_path):
    output = tmp_path / "cascade.stablehlo"
    result = export(f"--weights={workdir}", f"--output={output}", "--platforms=cpu", "--shape=4,16,20")
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("weights")]
    assert said == [f"weights: {workdir} (CC BY-NC-SA 4.0: trained on EMIDEC)"]
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"run", "cascade.stablehlo", "cascade.json"}
    description = json.loads((tmp_path / "cascade.json").read_text())
    program = jax.export.deserialize(bytearray(output.read_bytes()))
    for told, avals in (("inputs", program.in_avals), ("outputs", program.out_avals)):
        assert [(tuple(one["shape"]), one["dtype"]) for one in description[told]] == [
            (aval.shape, str(aval.dtype)) for aval in avals
        ]
    assert description["program"] == output.name
    assert description["platforms"] == list(program.platforms) == ["cpu"]
    assert description["spacing_mm"] == list(PLAN.spacing)
    assert description["labels"] == {str(value): name for value, name in enumerate(PLAN.labels.names)}
    assert (description["folds"], description["mirror"]) == (2, False)
    assert description["licence"] == "CC BY-NC-SA 4.0: trained on EMIDEC"
    assert description["jax_version"] == jax.__version__
    loaded = load(workdir)
    rules = [postprocess.Rule(rule["rule"], rule["minimum_mm3"]) for rule in description["postprocessing"]]
    assert tuple(rules) == loaded.rules
    # Prepared by the words of the description, step by step, a case gives what the cascade gives.
    assert [sentence.split()[0] for sentence in description["preprocessing"]] == [
        "image:", "cut", "subtract", "resample", "centre"
    ]  # fmt: skip
    raw = np.random.default_rng(0).normal(1000, 100, (3, 16, 14)).astype(np.float32)
    case = Case("case", np.pad(raw, ((0, 0), (1, 0), (2, 4))), None, PLAN.spacing)
    image = np.zeros((4, 16, 20), np.float32)
    image[:3, :, 3:17] = (raw - raw.mean()) / raw.std()
    valid = np.zeros(image.shape, bool)
    valid[:3, :, 3:17] = True
    example = preprocess(case, PLAN.spacing[1:], (4, 16, 20))
    np.testing.assert_allclose(example.image, image, atol=1e-5)
    labels, _ = program.call(image, valid)
    np.testing.assert_array_equal(labels, loaded.vote(example).labels)
    assert len(np.unique(labels)) > 1


def test_the_command_leaves_nothing_half_written(workdir, tmp_path):
    (tmp_path / "out" / "cascade.json").mkdir(parents=True)
    result = export(f"--workdir={workdir}", f"--output={tmp_path / 'out' / 'cascade.hlo'}", "--platforms=cpu")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'out' / 'cascade.json'}: is a folder where a file")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cascade.json"]
    result = export(f"--workdir={workdir}", f"--output={tmp_path / 'cascade.json'}")
    assert result.returncode == 2
    assert "does not end in .json" in result.stderr


def test_any_shape_is_raised_to_one_that_the_networks_accept(cascade):
    program = jax.export.deserialize(bytearray(export_cascade(cascade, (5, 17, 30), ("cpu",))))
    assert program.in_avals[0].shape == (5, 18, 30)
