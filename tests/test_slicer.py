"""The parts of 3D Slicer's panel that need no 3D Slicer."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax.case_warnings import LOW_CONFIDENCE, CaseWarning
from cascade_jax.confidence import Confidence, doubting
from cascade_jax.data import emidec
from cascade_jax.data.case import Case
from cascade_jax.data.labels import EMIDEC
from cascade_jax.report.confidence import write_confidence
from cascade_jax.report.figures import write_colour_tables

ROOT = Path(__file__).parents[1]
PANEL = ROOT / "slicer" / "CascadeJAX"
_spec = importlib.util.spec_from_file_location("outside", PANEL / "CascadeJAXLib" / "outside.py")
outside = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(outside)


def test_the_command_is_the_installed_one_with_the_volume_and_the_folder(tmp_path):
    command = outside.predict_command(sys.executable, tmp_path)
    assert command == [
        *(sys.executable, "-m", "cascade_jax.launch.console", "predict"),
        *(f"--input={tmp_path / 'in' / 'volume.nii.gz'}", f"--output={tmp_path / 'out'}"),
    ]
    assert outside.predict_command(sys.executable, tmp_path, "runs/own")[-1] == "--workdir=runs/own"


def test_its_flags_are_the_commands(tmp_path):
    flags = outside.predict_command(sys.executable, tmp_path, "runs/own")[4:]
    command = [sys.executable, "-m", "launch.predict", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for flag in flags:
        assert f"{flag.split('=')[0]}:" in shown


@pytest.mark.parametrize(("python", "said"), [("", "Choose the Python"), ("/nowhere/python", "is no program")])
def test_without_a_python_the_user_is_told_to_choose_one(tmp_path, python, said):
    with pytest.raises(ValueError, match=said):
        outside.predict_command(python, tmp_path)


def test_the_results_are_where_the_command_writes_them(tmp_path):
    with pytest.raises(ValueError, match=r"without volume.nii.gz"):
        outside.outlined(tmp_path)
    labels = np.zeros((2, 4, 4), np.uint8)
    written = emidec.write_labels(tmp_path / "out", labels, Case("volume", labels, None, (10.0, 1.5, 1.5)))
    with pytest.raises(ValueError, match=r"without labels.ctbl"):
        outside.outlined(tmp_path)
    write_colour_tables(tmp_path / "out", EMIDEC)
    assert outside.outlined(tmp_path) == (written, tmp_path / "out" / "labels.ctbl")


def test_the_reason_of_a_failure_is_what_the_command_named():
    assert outside.fault(0, ["failed: not really"]) is None
    lines = ["predicting 1 case\n", "failed: volume.nii.gz: is constant: every voxel has the value 0\n", "\n"]
    assert outside.fault(1, lines) == "volume.nii.gz: is constant: every voxel has the value 0"
    assert outside.fault(1, ["error: out: is not a folder\n"]) == "out: is not a folder"
    assert outside.fault(-9, []) == "exit status -9"
    assert "is not installed" in outside.fault(1, ["/usr/bin/python: No module named cascade_jax\n"])


def test_the_expected_dice_is_that_of_the_volume(tmp_path):
    assert outside.confidence(tmp_path) == ""
    (tmp_path / "out").mkdir()
    volumes = dict.fromkeys(EMIDEC.targets, 1.0)
    expected = {"myocardium": 0.914, "infarction": 0.5, "no_reflow": float("nan")}
    write_confidence(tmp_path / "out", {"volume": Confidence(expected, volumes)}, EMIDEC)
    assert outside.confidence(tmp_path) == "Expected Dice of the myocardium: 0.91."
    dark = CaseWarning(LOW_CONFIDENCE, "it is dark")
    doubtful = doubting(Confidence(expected | {"myocardium": 0.3}, volumes), [dark])
    write_confidence(tmp_path / "out", {"volume": doubtful}, EMIDEC)
    said = outside.confidence(tmp_path)
    assert said == "Expected Dice of the myocardium: 0.30. Look at it: low-confidence: it is dark."


def test_the_panel_is_python():
    compile((PANEL / "CascadeJAX.py").read_text(), "CascadeJAX.py", "exec")
