"""What commands switch on for a CPU is on then, and nothing of it is without them."""

import json
import os
import subprocess
import sys

import pytest

_STATE = """
import json, os, sys
{}
import jax
print(json.dumps({{
    "flag": "ynn_fusion" in os.environ.get("XLA_FLAGS", ""),
    "asynchronous": jax.config.values["jax_cpu_enable_async_dispatch"],
    "cpu": "cascade_jax.cpu" in sys.modules,
}}))
"""


def state_after(program, **environment):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | environment
    command = [sys.executable, "-c", _STATE.format(program)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_command_sets_the_process_up():
    after = state_after("from cascade_jax import cpu; cpu.configure()")
    assert after == {"flag": True, "asynchronous": False, "cpu": True}


def test_the_library_changes_no_process_and_imports_nothing_of_it():
    segment = """
import numpy as np, cascade_jax
cascade_jax.load('pretrained').segment(np.random.default_rng(0).normal(size=(64, 64, 1)), (2, 2, 8))
"""
    assert state_after(segment) == {"flag": False, "asynchronous": True, "cpu": False}
    exported = "from cascade_jax.commands import export, predict, train"
    assert not state_after(exported)["cpu"]


@pytest.mark.parametrize(
    ("version", "known"), [("0.9.2", False), ("0.10.0", True), ("0.12.0.1", True), ("0.13.0", False)]
)
def test_a_flag_that_jaxlib_may_not_know_is_not_set(version, known):
    after = state_after(
        f"import jaxlib; jaxlib.__version__ = {version!r}; from cascade_jax import cpu; cpu.configure()"
    )
    assert after["flag"] == known


def test_a_users_own_flags_stay():
    program = "from cascade_jax import cpu; cpu.configure(); assert os.environ['XLA_FLAGS'] == os.environ['WANTED']"
    own = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT"
    state_after(program, XLA_FLAGS=own, WANTED=own)
    other = "--xla_cpu_enable_fast_math=false"
    state_after(
        program.replace("== os.environ['WANTED']", ".startswith(os.environ['WANTED'])"), XLA_FLAGS=other, WANTED=other
    )


@pytest.mark.parametrize(
    "several", [{"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, {"JAX_NUM_CPU_DEVICES": "2"}]
)
def test_devices_that_compute_at_the_same_time_do_without_what_may_go_wrong_then(several):
    assert not state_after("from cascade_jax import cpu; cpu.configure()", **several)["flag"]
