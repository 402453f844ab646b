"""A training that is killed at random moments, again and again, ends as if nothing had happened.

By hand, since it takes many minutes; `test_commands.py` kills one in its second fold, `test_training.py` signals one:

    CASCADE_JAX_KILLS=20 python -m pytest tests/commands/test_kills.py
"""

import os
import random
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

import cascade_jax
from tests.commands.command_line import ROOT, command, run, train_command

KILLS = int(os.environ.get("CASCADE_JAX_KILLS", "0"))
TRIES_AT_MOST = 10 * KILLS


def kill_after(seconds, number, workdir):
    """Starts the training and sends it a signal; whether it was still running, and what it said."""
    process = subprocess.Popen(
        command("train", **train_command(workdir)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    _, error = process.communicate(timeout=120)
    return process.returncode, error


@pytest.mark.skipif(not KILLS, reason="CASCADE_JAX_KILLS is not set")
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(trained, tmp_path):
    whole, _ = trained
    workdir, draws = tmp_path / "killed", random.Random(os.urandom(8))
    started = time.monotonic()
    run("train", **train_command(workdir / "undisturbed"))
    duration = time.monotonic() - started
    killed, workdir = 0, workdir / "again and again"
    for _ in range(TRIES_AT_MOST):
        number = (signal.SIGKILL, signal.SIGTERM)[killed % 2]
        status, error = kill_after(draws.uniform(0.05, 1.0) * duration, number, workdir)
        if status == 0:  # it came to its end before the signal
            if killed == KILLS:
                break
            workdir = workdir.with_name(f"{workdir.name}, once more")
            continue
        assert "Traceback" not in error, error
        if status == 128 + signal.SIGTERM:
            assert "run the same command again to go on" in error
        else:  # before the command begins and after its end a signal finds nothing that is to be saved
            assert status == -number, error
        killed += 1
        if killed == KILLS:
            break
    assert killed == KILLS
    result = run("train", **train_command(workdir))
    assert result.returncode == 0, result.stderr
    expected, actual = cascade_jax.load(whole), cascade_jax.load(workdir)
    jax.tree.map(np.testing.assert_array_equal, expected.params, actual.params)
    assert (workdir / "tables.json").read_bytes() == (whole / "tables.json").read_bytes()
    for path in sorted((whole / "predictions").rglob("*.nii.gz")):
        assert (workdir / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
