"""Commands are told by name or folder which weights to use, and say under which licence those are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_jax.bundle import MODEL_FILE, folder_of
from launch import weights

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from launch import command, weights

weights.define_flags(required={required})

def main():
    assert "jax" not in sys.modules
    print(weights.chosen())

command.run(main, required=())
"""


def run(*flags, required=False):
    program = PROGRAM.format(required=required)
    return subprocess.run(
        [sys.executable, "-c", program, *flags], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "pretrained"),
        (["--weights=phantom"], "phantom"),
        (["--workdir=runs/own"], "runs/own"),
        (["--weights=runs/own", "--workdir=runs/own"], "runs/own"),
    ],
)
def test_weights_are_named_by_either_flag_or_are_those_in_the_box(flags, expected):
    result = run(*flags)
    assert (result.returncode, result.stdout) == (0, f"{expected}\n"), result.stderr


@pytest.mark.parametrize(
    ("flags", "required", "fault"),
    [
        (["--weights=phantom", "--workdir=emidec"], False, "these mean the same: give one of them"),
        (["--weights="], False, "a name or a folder is needed"),
        ([], True, "--weights is needed"),
    ],
)
def test_two_different_weights_or_none_are_one_line(flags, required, fault):
    result = run(*flags, required=required)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2 and result.stdout == "" and line.startswith("error: ") and fault in line


def test_a_licence_is_said_in_one_line_by_the_weights_name(capsys):
    weights.print_licence("phantom", "")
    assert capsys.readouterr().err == ""
    weights.print_licence("pretrained", "CC BY-NC-SA 4.0: trained on EMIDEC")
    assert capsys.readouterr() == ("", "weights: emidec (CC BY-NC-SA 4.0: trained on EMIDEC)\n")


def test_a_training_says_the_licence_of_the_weights_that_it_starts_from(tmp_path):
    model = json.loads((folder_of("phantom") / MODEL_FILE).read_text()) | {"licence": "CC BY 4.0"}
    (tmp_path / MODEL_FILE).write_text(json.dumps(model))
    flags = [f"--workdir={tmp_path / 'run'}", f"--config.init_from={tmp_path}"]
    command = [sys.executable, "-m", "launch.train", "--config=launch/configs/pretrain.py", *flags]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    said = [line for line in result.stderr.splitlines() if line.startswith(("weights", "error"))]
    assert said[0] == f"weights: {tmp_path} (CC BY 4.0)"
    assert len(said) == 2 and "stage1/fold0/params: is missing" in said[1]  # there is a model file alone
