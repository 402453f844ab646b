"""Whatever happens, a command ends in one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax import __version__, weights
from cascade_jax.bundle import PRETRAINED, folder_of, load_labels, read_model
from cascade_jax.data.case import CaseError
from cascade_jax.phantoms import simulated

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from launch import command

def main():
    {body}

command.run(main, required=(), private={private})
"""


def run(body, *, private=False, **environment):
    program = PROGRAM.format(body=body, private=private)
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first"),
        ("raise KeyError('plan')", "KeyError: 'plan'"),
        ("raise MemoryError", "MemoryError"),
        ("import os; open(os.devnull + '/x')", "/dev/null/x: Not a directory"),
        ("raise OSError(28, 'No space left on device', 'labels.nii.gz')", "labels.nii.gz: No space left on device"),
    ],
)
def test_what_nobody_has_foreseen_is_one_line_that_names_a_file_with_the_traceback(body, said, tmp_path):
    result = run(body, TMPDIR=str(tmp_path))
    assert result.returncode == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    path = re.fullmatch(rf"error: {re.escape(said)}.* \(its traceback is in (.+)\)", line)[1]
    assert "Traceback" in Path(path).read_text() and "in main" in Path(path).read_text()


def test_a_full_memory_is_one_line_with_advice():
    result = run("import jax.numpy as jnp; jnp.zeros(10**16)", JAX_PLATFORMS="cpu")
    assert result.returncode == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: the device's memory is full (RESOURCE_EXHAUSTED") and "cascade-jax plan" in line


def test_where_no_traceback_can_be_written_the_line_is_there_all_the_same():
    body = "import tempfile; tempfile.NamedTemporaryFile = open; raise ValueError('cut')"
    (line,) = run(body.replace("= open", "= lambda *_, **__: open('/nowhere/x', 'w')")).stderr.splitlines()
    assert line == "error: ValueError: cut (nor could its traceback be written)"


def test_nothing_of_a_patient_is_repeated(tmp_path):
    result = run("raise ValueError('DOE^JANE 19600101')", private=True, TMPDIR=str(tmp_path))
    assert result.returncode == 1
    (file,) = tmp_path.iterdir()
    for text in (result.stdout, result.stderr, file.read_text()):
        assert "JANE" not in text.replace("raise ValueError('DOE^JANE", "")
    assert "ValueError" in result.stderr


def test_names_that_are_not_utf_8_are_shown_escaped():
    result = run("print('a\\udcff'); sys.stderr.write('b\\udcff'); return 0")
    assert (result.returncode, result.stdout, result.stderr) == (0, "a\\udcff\n", "b\\udcff")


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_a_reader_who_has_read_enough_ends_the_command_without_a_word(tmp_path):
    simulated.write_cohort(tmp_path / "truth", 2, 0, field_of_view_mm=90)
    arguments = [
        f"--prediction={tmp_path / 'truth'}",
        f"--truth={tmp_path / 'truth'}",
        f"--output={tmp_path / 'm.json'}",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "launch.evaluate", *arguments],
        cwd=ROOT,
        stdout=closed_pipe(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 141 and "Traceback" not in result.stderr and "Exception" not in result.stderr
    # What was asked for as a file is there.
    assert json.loads((tmp_path / "m.json").read_text())["mean"]["myocardium"]["dice"] == 1


def test_evaluate_replaces_only_metrics_of_its_own(tmp_path):
    simulated.write_cohort(tmp_path / "truth", 1, 0, field_of_view_mm=90)
    command = [
        sys.executable,
        "-m",
        "launch.evaluate",
        f"--prediction={tmp_path / 'truth'}",
        f"--truth={tmp_path / 'truth'}",
    ]

    def evaluate():
        return subprocess.run(
            [*command, f"--output={tmp_path / 'm.json'}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    assert evaluate().returncode == evaluate().returncode == 0
    (tmp_path / "m.json").write_text("mine")
    result = evaluate()
    assert result.returncode == 1 and result.stdout == "" and "m.json: is there already" in result.stderr
    assert (tmp_path / "m.json").read_text() == "mine"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"plan": {}}', '{"plan": 3, "folds": [0], "rules": []}', "\x00"]
)
def test_an_empty_or_cut_model_is_one_line(tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    for read in (read_model, load_labels):
        with pytest.raises(CaseError) as error:
            read(tmp_path)
        assert str(error.value).startswith(f"{tmp_path / 'model.json'}: is empty, cut off or no model file")


def test_a_postprocessing_of_a_later_version_is_named(tmp_path):
    model = json.loads((folder_of(PRETRAINED) / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(model | {"rules": [{"name": "magic"}]}))
    with pytest.raises(CaseError, match="does not know: magic"):
        read_model(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 300, -1, -40])
def test_cut_weights_are_one_line(tmp_path, kept):
    path = tmp_path / "weights.npz"
    weights.write_weights(path, {"stage1": {"kernel": np.arange(64.0)}})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CaseError) as error:
        weights.read_weights(path)
    assert str(error.value).startswith(f"{path}: is not a file of weights: ") and "\n" not in str(error.value)


def test_damaged_weights_are_one_line(tmp_path):
    path = tmp_path / "weights.npz"
    weights.write_weights(path, {"stage1": {"kernel": np.arange(4096.0)}})
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)
    with pytest.raises(CaseError, match="is not a file of weights"):
        weights.read_weights(path)


def test_weights_without_a_stage_or_of_other_folds_are_refused(tmp_path):
    import cascade_jax

    model = json.loads((folder_of(PRETRAINED) / "model.json").read_text())
    for params, folds in (({"stage1": {"kernel": np.zeros((1, 3))}}, [0]), (None, [0, 1])):
        (tmp_path / "model.json").write_text(json.dumps(model | {"folds": folds}))
        if params is None:
            params = {stage: {"kernel": np.zeros((1, 3))} for stage in ("stage1", "stage2")}
        weights.write_weights(tmp_path / "weights.npz", params)
        with pytest.raises(CaseError, match="weights"):
            cascade_jax.load(tmp_path)


def test_the_console_command_does_what_the_launch_scripts_do_whatever_else_is_called_launch(tmp_path):
    """As in an installed wheel, where this package has no name of its own at the top."""
    (tmp_path / "launch.py").write_text("raise ImportError('another package of that name')")
    program = """
import importlib.util, sys
import cascade_jax
spec = importlib.util.spec_from_file_location("cascade_jax.launch", sys.argv.pop(1))
sys.modules["cascade_jax.launch"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from cascade_jax.launch import console
sys.argv[0] = "cascade-jax"
console.main()
"""

    def console(*arguments):
        command = [sys.executable, "-c", program, str(ROOT / "launch" / "__init__.py"), *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)

    assert "predict " in console("--help").stdout and console().returncode == 2
    assert console("--version").stdout.strip() == __version__
    assert "there is no verb 'fly'" in console("fly").stderr
    result = console("phantom", f"--output={tmp_path / 'cohort'}", "--cases=1", "--field_of_view_mm=90")
    assert result.returncode == 0, result.stderr
    result = console("evaluate", f"--prediction={tmp_path / 'cohort'}", f"--truth={tmp_path / 'cohort'}")
    assert result.returncode == 0 and "1.000" in result.stdout
    assert "Compares two folders of labels" in console("evaluate", "--help").stdout
    result = console("train", "--config=phantom", f"--workdir={tmp_path / 'run'}", "--config.stage1.steps=7.5")
    assert result.returncode == 2 and "steps" in result.stderr and not (tmp_path / "run").exists()
