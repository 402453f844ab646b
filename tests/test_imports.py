"""What importing the package gives, and what it leaves alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cascade_jax


@pytest.mark.parametrize(
    "modules",
    [
        "cascade_jax.metrics, cascade_jax.quantify",
        *(f"launch.{verb}" for verb in ("predict", "train", "dicom", "quantify", "evaluate", "agreement", "nnunet")),
    ],
)
def test_masks_are_measured_and_commands_answer_without_what_trains_networks(modules):
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


# Each folder of the package, or module beside them, imports only what stands in a line above its own.
_ORDER = (
    ("__version__", "errors", "extras", "losses", "models", "progress", "spreading", "stopping"),
    ("cpu", "data", "processes"),
    ("case_warnings",),
    ("checkpoint", "confidence", "metrics", "phantoms", "plan", "quantify", "statistics", "weights"),
    ("postprocess", "segmentation"),
    ("account", "bundle"),
    ("calibration",),
    ("cascade", "report"),
    ("review", "training"),
    ("commands",),
)


def imports_of(path):
    """The folders and top-level modules of the package that a file imports, and their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "cascade_jax":
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cascade_jax."):
            yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[1], node.lineno) for alias in node.names if "cascade_jax." in alias.name)


def test_imports_point_down():
    root = Path(cascade_jax.__file__).parent
    level = {name: index for index, names in enumerate(_ORDER) for name in names}
    seen = set()
    for path in root.rglob("*.py"):
        part = path.relative_to(root).with_suffix("").parts[0]
        if part == "__init__" or (root / "launch") in path.parents:  # the wheel has the commands' flags there
            continue
        seen.add(part)
        for imported, line in imports_of(path):
            assert imported == part or level[imported] < level[part], f"{path}:{line} imports {imported}"
    assert seen == set(level) - {"__version__"}, "every part has its place"


def test_every_file_is_short():
    root = Path(cascade_jax.__file__).parent
    long = {str(path): lines for path in root.rglob("*.py") if (lines := len(path.read_text().splitlines())) > 350}
    assert not long
