"""The tables of quantities, as a user has them made."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax.bundle import MODEL_FILE, PRETRAINED, folder_of
from cascade_jax.commands.quantify import quantify_folder
from cascade_jax.confidence import Confidence
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import LabelTable
from cascade_jax.phantoms import simulated
from cascade_jax.report.confidence import write_confidence
from tests.quantify.hearts import SPACING, grid, ring


def run_command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "launch.quantify", *flags],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_a_row_for_each_case_slice_and_segment_and_goes_on_past_a_bad_one(tmp_path):
    simulated.write_cohort(tmp_path / "cohort", 3, 0, field_of_view_mm=115)
    names = [file.name for file in folders.find_cases(tmp_path / "cohort")]
    emidec.contour_path(tmp_path / "cohort", names[1]).write_bytes(b"no labels")
    flags = [f"--labels={tmp_path / 'cohort'}", f"--images={tmp_path / 'cohort'}", f"--output={tmp_path / 'out'}"]
    result = run_command(*flags)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("failed")]
    assert names[1] in line
    cases = read_rows(tmp_path / "out" / "cases.csv")
    assert [row["case"] for row in cases] == [names[0], names[2]]
    for row in cases:
        labels, spacing = emidec.read_labels(emidec.contour_path(tmp_path / "cohort", row["case"]))
        myocardium = (labels >= 2).sum() * np.prod(spacing) / 1000
        assert float(row["myocardium_ml"]) == pytest.approx(myocardium, rel=1e-3)
        assert float(row["myocardium_g"]) == pytest.approx(1.05 * myocardium, rel=1e-3)
        segments = [s for s in read_rows(tmp_path / "out" / "segments.csv") if s["case"] == row["case"]]
        assert sum(float(segment["myocardium_ml"]) for segment in segments) == pytest.approx(myocardium, rel=0.01)
        slices = [s for s in read_rows(tmp_path / "out" / "slices.csv") if s["case"] == row["case"]]
        assert len(slices) == (labels >= 2).any((1, 2)).sum()


def test_the_command_takes_an_insertion_for_each_case(tmp_path):
    simulated.write_cohort(tmp_path / "cohort", 3, 0, field_of_view_mm=90)
    names = [file.name for file in folders.find_cases(tmp_path / "cohort")]
    table = tmp_path / "insertions.csv"
    table.write_text(f"case,insertion_degrees,mirrored\n{names[0]},100,yes\n{names[1]},,no\n")
    flags = [f"--labels={tmp_path / 'cohort'}", f"--output={tmp_path / 'out'}", f"--insertions={table}"]
    assert run_command(*flags, "--insertion=30").returncode == 0
    rows = read_rows(tmp_path / "out" / "cases.csv")
    assert [row["insertion_degrees"] for row in rows] == ["100", "30", "30"]
    assert [row["mirrored"] for row in rows] == ["yes", "no", "unknown"]
    table.write_text("case\n")
    result = run_command(*flags)
    assert result.returncode == 1
    assert result.stderr.strip() == f"error: {table}: has no column insertion_degrees"


def write_stack(folder, labels, spacing=SPACING, name="heart"):
    labels = np.ascontiguousarray(emidec.from_file_axes(labels)).astype(np.uint8)
    case = emidec.Case(name, np.ones(labels.shape, np.float32), labels, spacing[::-1])
    return emidec.write_labels(folder, labels, case)


def of_another_table():
    """{what they are: labels (x, y, slice)} by other tables than the challenge's, of a heart of 60 mm."""
    labels = ring(0)
    radius, angle = grid()
    beside = (labels == 0) & (radius < 55) & ((angle > 120) & (angle < 240))
    return {
        "myocardium 1, cavity 2": np.choose(labels, [0, 2, 1]),
        "myocardium 1, cavity 2, wall open": np.where(angle < 60, 0, np.choose(labels, [0, 2, 1])),
        "myocardium alone": (labels == 2).astype(int),
        "right ventricle 1, myocardium 2, cavity 3": np.where(beside, 1, np.choose(labels, [0, 3, 2])),
        "cavity 1, myocardium 2, right ventricle 3": np.where(beside, 3, labels),
    }


@pytest.mark.parametrize("kind", of_another_table())
def test_labels_that_cannot_be_the_challenges_are_refused(tmp_path, kind):
    path = write_stack(tmp_path / "labels", of_another_table()[kind])
    failed = quantify_folder(tmp_path / "labels", None, tmp_path / "out", None, lambda iterable, _: iterable)
    assert list(failed) == ["heart"]
    assert failed["heart"].startswith(f"{path}: is not labelled as the challenge is: ")
    assert "\n" not in failed["heart"]


def test_the_command_follows_labels_of(tmp_path):
    write_stack(tmp_path / "labels", ring())
    model = json.loads((folder_of(PRETRAINED) / MODEL_FILE).read_text())
    (tmp_path / "challenge").mkdir()
    (tmp_path / "challenge" / MODEL_FILE).write_text(json.dumps(model))
    flags = [f"--labels={tmp_path / 'labels'}", f"--output={tmp_path / 'out'}"]
    assert run_command(*flags, f"--labels_of={tmp_path / 'challenge'}").returncode == 0
    table = LabelTable(("background", "myocardium", "cavity"), {"heart": (1, 2)})
    model["plan"]["labels"] = table.to_json()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MODEL_FILE).write_text(json.dumps(model))
    result = run_command(*flags[:1], f"--output={tmp_path / 'none'}", f"--labels_of={tmp_path / 'other'}")
    assert result.returncode == 1
    expected = (
        "has the labels background, myocardium, cavity; only background, cavity, myocardium, infarction, no-reflow"
    )
    assert result.stderr.strip() == f"error: {tmp_path / 'other'}: {expected} can be measured"
    assert not (tmp_path / "none").exists()


def test_a_table_beside_the_labels_tells_whose_they_are(tmp_path):
    write_stack(tmp_path / "labels", ring())
    said, table = Confidence({"heart": 0.9}, {"heart": 80.0}), LabelTable(("background", "a"), {"heart": (1,)})
    write_confidence(tmp_path / "labels", {"heart": said}, table)
    with pytest.raises(CaseError, match=r"confidence\.csv: is no table of a cascade's confidence in these labels"):
        quantify_folder(tmp_path / "labels", None, tmp_path / "out", None, lambda iterable, _: iterable)
    assert not (tmp_path / "out").exists()
