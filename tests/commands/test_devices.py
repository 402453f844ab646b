"""The commands on a machine with two devices."""

import json
import os
import subprocess

import jax
import numpy as np
import pytest

import cascade_jax
from cascade_jax.data import emidec, folders
from cascade_jax.report import tables
from tests.commands.command_line import ROOT, TINY, command, train_command

TWO = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
# Batches of three slices, which two devices do not share alike, and of two volumes.
SETTINGS = {"plan.slices.batch_size": 3, "stage1.steps": 24, "figures": 0}


def run(name, **arguments):
    result = subprocess.run(
        command(name, **arguments), cwd=ROOT, env=os.environ | TWO, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "devices busy" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two") / "run"
    assert tables.TITLES["table3"] in run("train", **train_command(workdir, **SETTINGS))
    return workdir


def test_a_training_comes_to_its_end_and_then_says_that_it_is_finished(trained):
    assert json.loads((trained / "finished.json").read_text())["folds"] == [0, 1]
    for stage, steps in (("stage1", 24), ("stage2", TINY["stage2.steps"])):
        for fold in ("fold0", "fold1"):
            rows = (trained / stage / fold / "metrics.csv").read_text().splitlines()[1:]
            logged = [int(row.split(",")[0]) for row in rows if row.split(",")[1]]
            assert logged == list(range(1, steps + 1))
    assert "nothing was left to do" in run("train", **train_command(trained, **SETTINGS))
    assert not (trained / "compiled").exists(), "no program lies in a working folder"


def test_predicting_twice_gives_what_one_device_gives(trained, tmp_path):
    file = folders.find_cases(trained / "data" / "held_out")[0]
    for output in ("first", "second"):
        run("predict", workdir=trained, input=file.image, output=tmp_path / output)
    case = emidec.read_case(file)
    expected = cascade_jax.load(trained).segment_case(case).labels
    for output in ("first", "second"):
        labels, _ = emidec.read_labels(emidec.contour_path(tmp_path / output, file.name))
        np.testing.assert_array_equal(labels, expected)


def test_this_process_has_one_device_to_compare_with():
    assert len(jax.local_devices()) == 1
