"""One training as two processes, which here are on one host."""

import io
import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from cascade_jax import checkpoint
from launch import hosts
from tests.commands.command_line import ROOT, command, fails_with_one_line, run, train_command
from tests.training.eight_devices import share_off

STEPS = 40
SETTINGS = {
    "stages": "1",
    "folds": "0",
    "figures": 0,
    "data.phantom.held_out_cases": 0,
    "stage1.steps": STEPS,
    "stage1.validate_every": STEPS,
    "stage1.checkpoint_every": 2,
}
CPU = {"JAX_PLATFORMS": "cpu"}


def start(workdir, values=SETTINGS, **flags):
    return subprocess.Popen(
        command("train", **train_command(workdir, **values), **flags),
        cwd=ROOT,
        env=os.environ | CPU,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(workdir, values=SETTINGS):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    return [start(workdir, values, coordinator=coordinator, num_processes=2, process_id=index) for index in range(2)]


def losses(workdir):
    """{step: loss} of what was logged."""
    rows = [row.split(",") for row in (workdir / "stage1" / "fold0" / "metrics.csv").read_text().splitlines()[1:]]
    return {int(row[0]): float(row[1]) for row in rows if row[1]}


def params(workdir):
    return checkpoint.restore_params(workdir / "stage1" / "fold0" / "params")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The working folder of one process that has two devices."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    result = subprocess.run(
        command("train", **train_command(workdir, **SETTINGS)),
        cwd=ROOT,
        env=os.environ | CPU | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return workdir


def test_two_processes_train_what_one_with_two_devices_does_and_the_first_alone_speaks(one_process, tmp_path):
    workdir = tmp_path / "run"
    first, second = start_two(workdir)
    (said, said_on_error), (_, second_on_error) = first.communicate(timeout=500), second.communicate(timeout=500)
    assert (first.returncode, second.returncode) == (0, 0), said_on_error + second_on_error
    assert f"step {STEPS}/{STEPS}" in said and "Stage one is trained on folds 0" in said
    assert second_on_error == ""
    np.testing.assert_allclose(list(losses(workdir).values()), list(losses(one_process).values()), rtol=1e-4)
    assert list(losses(workdir)) == list(range(1, STEPS + 1)), "no step is logged twice"
    assert share_off(params(workdir), params(one_process)) < 1e-3
    for path in sorted((one_process / "predictions").rglob("*.nii.gz")):
        assert (workdir / path.relative_to(one_process)).exists()


def latest_checkpoint(workdir):
    there = (workdir / "stage1" / "fold0" / "checkpoints").glob("*")
    return max((int(path.name) for path in there if path.name.isdecimal()), default=0)


def test_a_signal_to_one_process_ends_both_after_the_same_step_with_it_saved(tmp_path):
    workdir, steps = tmp_path / "run", 1000
    processes = start_two(workdir, SETTINGS | {"stage1.steps": steps, "stage1.validate_every": steps})
    log, deadline = workdir / "stage1" / "fold0" / "metrics.csv", time.monotonic() + 500
    while not (log.exists() and len(log.read_text().splitlines()) > 2):
        assert all(process.poll() is None for process in processes), "ended before the signal"
        assert time.monotonic() < deadline, "it comes to no step"
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * 2
    where = f"stopped and saved at step {latest_checkpoint(workdir)} of {steps} of stage 1, fold 0"
    assert all(where in one and "Traceback" not in one for one in said), said


def test_when_one_dies_the_other_says_so_and_the_run_is_finished_by_one_process_alone(one_process, tmp_path):
    workdir = tmp_path / "run"
    for killed in (1, 0):  # 0 takes with it what they speak through
        before = latest_checkpoint(workdir)
        processes = start_two(workdir)
        deadline = time.monotonic() + 500
        while latest_checkpoint(workdir) <= before + 2:
            assert all(process.poll() is None for process in processes), "ended before it could be killed"
            assert time.monotonic() < deadline, "it comes to no checkpoint"
            time.sleep(0.01)
        processes[killed].send_signal(signal.SIGKILL)
        died, other = time.monotonic(), processes[1 - killed]
        _, said = other.communicate(timeout=120)
        assert time.monotonic() - died < 60
        assert other.returncode == 1
        lines = said.splitlines()
        (line,) = [line for line in lines if line.startswith("error")]
        assert lines[-1] == line and f"process {1 - killed} of 2 stops, since another one has ended" in line
        assert "Traceback" not in said
        processes[killed].communicate(timeout=60)
    assert latest_checkpoint(workdir) < STEPS
    result = run("train", **train_command(workdir, **SETTINGS))
    assert result.returncode == 0, result.stderr
    assert list(losses(workdir)) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(losses(workdir).values()), list(losses(one_process).values()), rtol=1e-3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"process_id": 0}, ("--coordinator and --num_processes",)),
        ({"coordinator": "here:1", "num_processes": 2, "process_id": 2}, ("process_id is 2", "the last is 1")),
        ({"coordinator": "here", "num_processes": 2, "process_id": 1}, ("'here'", "host:port")),
        ({"distributed": True, "process_id": 1}, ("leave these out",)),
        ({"distributed": True}, ("no cluster was found", "--coordinator")),
    ],
)
def test_flags_that_do_not_fit_together_are_one_line(tmp_path, flags, words):
    workdir = tmp_path / "run"
    fails_with_one_line(run("train", **train_command(workdir), **flags), *words)
    assert not workdir.exists()


LOG = b"""\
I1130 21:03:50.501618    1556 coordination_service.cc:151] Barrier has passed.
W1130 21:03:51.000000    1556 loop.py:40] stage 1: a batch of 2
E1130 21:03:52.501667    1556 coordination_service_agent.cc:454] Polled an error from coordination service.
F1130 21:03:52.501671    1556 client.h:77] Terminating process. absl::Status: UNAVAILABLE: Failed to send RPC.
Additional GRPC error information from remote target coordination_service
"""


def test_of_a_log_of_the_runtime_nothing_is_passed_on_and_of_any_other_all():
    out = io.BytesIO()
    assert hosts.relay(io.BytesIO(LOG), out) == (False, True)
    assert out.getvalue().splitlines() == [LOG.splitlines()[1]]
    out = io.BytesIO()
    other = b"E1130 21:03:52.5 7 se_gpu_pjrt_client.cc:12] out of memory\nmore of it\nerror: in plain words\n"
    assert hosts.relay(io.BytesIO(other), out) == (True, False)
    assert out.getvalue() == other
