"""What importing the package gives, and what it leaves alone."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "modules", ["cascade_jax.metrics, cascade_jax.quantify", "launch.quantify", "launch.evaluate", "launch.nnunet"]
)
def test_masks_are_measured_without_what_trains_networks(modules):
    program = f"import sys, {modules}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert "cascade_jax" in loaded
    assert not loaded & {"flax", "jax", "optax", "orbax", "tensorstore"}


def test_the_packages_public_names_are_there_when_asked_for():
    program = """
import cascade_jax
assert set(cascade_jax.__all__) <= set(dir(cascade_jax))
for name in cascade_jax.__all__:
    getattr(cascade_jax, name)
from cascade_jax import cascade
from cascade_jax.data.case import CaseError
assert CaseError is cascade_jax.CaseError
assert cascade_jax.plan.Plan and cascade_jax.load is cascade.load
assert not hasattr(cascade_jax, "nothing")
from cascade_jax import *
assert UNet is models.UNet and metrics.dice and segment is models.segment
"""
    subprocess.run([sys.executable, "-c", program], check=True)
