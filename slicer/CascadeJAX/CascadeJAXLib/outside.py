"""The command that outlines a volume in another Python than 3D Slicer's, and what it leaves behind.

Imports only what Python brings along: 3D Slicer's own Python has no cascade_jax.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

CASE = "volume"  # what the volume is called in the exchange folder; nothing is taken from its name in the scene


def input_path(folder: Path) -> Path:
    """Where the panel writes the volume, as NIfTI."""
    return Path(folder) / "in" / f"{CASE}.nii.gz"


def predict_command(python: str, folder: Path, workdir: str = "") -> list[str]:
    """The command that outlines the volume.

    Args:
        python: the Python of an environment in which cascade_jax is installed.
        folder: the exchange folder.
        workdir: of a finished training; empty takes the weights in the box.

    Raises:
        ValueError: no Python is given, or there is none; the text is for the user.
    """
    if not python.strip():
        raise ValueError("Choose the Python of an environment in which cascade_jax is installed.")
    if not Path(python).is_file():
        raise ValueError(f"{python} is no program. Choose the Python of an environment, such as .venv/bin/python.")
    command = [python, "-m", "cascade_jax.launch.console", "predict"]
    command += [f"--input={input_path(folder)}", f"--output={Path(folder) / 'out'}"]
    return command + ([f"--workdir={workdir}"] if workdir.strip() else [])


def outlined(folder: Path) -> tuple[Path, Path]:
    """The labels and their colour table, as the command leaves them.

    Raises:
        ValueError: one is not there; the text is for the user.
    """
    out = Path(folder) / "out"
    paths = out / CASE / "Contours" / f"{CASE}.nii.gz", out / "labels.ctbl"
    for path in paths:
        if not path.is_file():
            raise ValueError(f"cascade_jax has ended without {path.name}.")
    return paths


def fault(status: int, lines: Sequence[str]) -> str | None:
    """What the user is told if the command failed; None if it did not.

    Args:
        status: its exit status.
        lines: what it said.
    """
    if status == 0:
        return None
    said = [line.strip() for line in lines if line.strip()]
    named = [line for line in said if line.startswith(("error:", "failed:"))]
    if any("No module named" in line and "cascade_jax" in line for line in said):
        return "cascade_jax is not installed in the environment of this Python."
    reason = (named or said or [f"exit status {status}"])[-1]
    return reason.removeprefix("error:").removeprefix("failed:").strip()


def confidence(folder: Path) -> str:
    """In a sentence, the Dice that the cascade expects of its outline; empty if it did not say."""
    path = Path(folder) / "out" / "confidence.csv"
    if not path.is_file():
        return ""
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    row = rows.get(CASE)
    if not row or not row.get("myocardium_expected_dice"):
        return ""
    look = f" Look at it: {row['warnings']}." if row.get("warnings") else ""
    return f"Expected Dice of the myocardium: {float(row['myocardium_expected_dice']):.2f}.{look}"
