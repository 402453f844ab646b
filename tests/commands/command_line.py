"""The commands as a user runs them, and a training that is small."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.commands import running

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT.parent / "shared" / "data" / "emidec_sample"
TINY = {
    "num_folds": 2,
    "folds": "0,1",
    "figures": 1,
    "mirror": False,
    "data.phantom.cases": 4,
    "data.phantom.held_out_cases": 1,
    "data.phantom.field_of_view_mm": 90.0,
    "plan.spacing": "10.0,4.0,4.0",
    "plan.slices.features": "4,8",
    "plan.volumes.features": "4,8",
    "plan.slices.batch_size": 4,
    "plan.volumes.batch_size": 2,
} | {
    f"stage{stage}.{name}": value
    for stage in (1, 2)
    for name, value in (("steps", 12), ("steps_per_dispatch", 1), ("validate_every", 6), ("checkpoint_every", 3))
}


def command(name, **arguments):
    flags = [f"--{key}={value}" for key, value in arguments.items() if key != "config_values"]
    values = [f"--config.{key}={value}" for key, value in arguments.get("config_values", {}).items()]
    return [sys.executable, "-m", f"launch.{name}", *flags, *values]


def run(name, **arguments):
    _, _, module, *words = command(name, **arguments)
    return running.run(module, words, ROOT)


def run_anew(name, **arguments):
    """`run` in an interpreter of its own, for what is read as JAX is loaded."""
    return subprocess.run(
        command(name, **arguments), cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )


def train_command(workdir, **values):
    return {"config": "launch/configs/default.py", "workdir": workdir, "config_values": TINY | values}


def kill_in_second_fold(workdir, **values):
    """Starts a training and kills it between the first checkpoint of stage one's second fold and that fold's end."""
    process = subprocess.Popen(
        command("train", **train_command(workdir, **values)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = workdir / "stage1" / "fold1" / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("[369]")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run has come to no checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (workdir / "stage1" / "fold1" / "params").exists()
    assert not (workdir / "finished.json").exists()


def fails_with_one_line(result, *words):
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error", "failed"))]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert str(word) in lines[0]


def read(path):
    image = nib.load(path)
    return np.asarray(image.dataobj), image
