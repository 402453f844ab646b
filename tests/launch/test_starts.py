"""What a start answers before it loads what computes: help, and an argument that cannot be."""

import subprocess
import sys

import pytest

from launch.console import VERBS
from tests.launch.test_command import ROOT, closed_pipe

_HEAVY = {
    "flax",
    "highdicom",
    "jax",
    "matplotlib",
    "nibabel",
    "numpy",
    "openpyxl",
    "optax",
    "orbax",
    "pydicom",
    "scipy",
}
_MEASUREMENTS = [
    f"benchmarks.{path.stem}"
    for path in sorted((ROOT / "launch" / "benchmarks").glob("*.py"))
    if "command.run(" in path.read_text(encoding="utf-8")
]
_PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(f"launch.{sys.argv[0]}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("status", end.code)
print("loaded", *{name.split(".")[0] for name in sys.modules})
"""


def start(verb, *arguments):
    """A verb's exit status, what it loaded, and all that it said."""
    command = [sys.executable, "-c", _PROGRAM, verb, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    *said, status, loaded = result.stdout.splitlines()
    return int(status.split()[1]), set(loaded.split()[1:]), "\n".join(said) + result.stderr


@pytest.mark.parametrize("verb", (*VERBS, "benchmark"))
def test_help_and_a_wrong_flag_are_answered_before_anything_that_computes_is_loaded(verb):
    status, loaded, said = start(verb, "--help")
    assert status == 0 and f"cascade-jax {verb}" in said
    assert not loaded & _HEAVY
    status, loaded, said = start(verb, "--no_such_flag=1")
    assert status == 2 and "no_such_flag" in said and len(said.strip().splitlines()) == 1
    assert not loaded & _HEAVY


@pytest.mark.parametrize("verb", _MEASUREMENTS)
def test_a_measurement_starts(verb):
    status, _, said = start(verb, "--help")
    assert status == 0 and "flags" in said


def test_a_setting_that_a_config_lacks_is_named_before_anything_that_computes_is_loaded():
    status, loaded, said = start("train", "--config=launch/configs/phantom.py", "--config.stage1.stepps=3")
    assert status == 2 and "stage1.stepps" in said
    assert not loaded & _HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"]])
def test_help_of_which_somebody_reads_the_first_lines_alone_ends_without_a_word(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "launch.console", *arguments],
        cwd=ROOT,
        stdout=closed_pipe(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
