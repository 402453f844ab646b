"""Folders of several readers' labels become one comparison, and what cannot be compared is named."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax.commands.agreement import as_text, compare_folders, name_readers
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.errors import ConfigError
from cascade_jax.phantoms import simulated
from cascade_jax.quantify import Orientation
from tests.commands.test_evaluate import labels, write

ROOT = Path(__file__).parents[2]


def whole(iterable, description):
    return iterable


@pytest.fixture
def readers(tmp_path):
    """Three readers, the second of whom draws one voxel further, the third two; and one heart is normal."""
    result = {}
    for shift, name in enumerate(("program", "Ann", "Bob")):
        result[name] = tmp_path / name.lower()
        for case in ("Case_P1", "Case_P2", "Case_P3"):
            write(result[name], case, labels(shift))
        write(result[name], "Case_N4", np.minimum(labels(shift), 2))
    return result


def run(*arguments):
    command = [sys.executable, "-m", "launch.agreement", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_the_program_is_compared_with_readers_and_readers_with_each_other(readers):
    statistics = compare_folders(readers, None, whole)["statistics"]
    assert list(statistics) == ["program - Ann", "program - Bob", "Ann - Bob", "all"]
    near, far, same = (
        statistics[pair]["infarction"]["hausdorff_mm"] for pair in ("program - Ann", "program - Bob", "Ann - Bob")
    )
    assert (near["value"], far["value"], same["value"]) == pytest.approx((1.25, 2.5, 1.25))
    assert near["n"] == 3, "one heart of four is normal"
    assert statistics["all"]["infarct_in_heart"]["kappa"]["value"] == 1


def test_cases_that_only_some_readers_have_are_named_and_not_compared(readers):
    write(readers["Ann"], "Case_P9", labels())
    result = compare_folders(readers, None, whole)
    assert result["left_out"] == {"Case_P9": "no labels by program, Bob"}
    assert "Case_P9" not in result["cases"]
    assert not result["failed"]


@pytest.mark.parametrize(
    ("array", "spacing", "reason"),
    [
        (labels()[:3], (10.0, 1.5, 1.25), "is 24 x 20 x 3 voxels, but that of program is 24 x 20 x 4"),
        (labels(), (8.0, 1.5, 1.25), "1.25 x 1.5 x 8 mm, but that of program of 1.25 x 1.5 x 10 mm"),
        (np.where(labels() == 2, 0, labels()), (10.0, 1.5, 1.25), "is not labelled as the challenge is"),
    ],
)
def test_another_grid_and_other_labels_fail_by_name_and_the_other_cases_count(readers, array, spacing, reason):
    array = np.where(array > 2, 0, array) if "labelled" in reason else array
    write(readers["Bob"], "Case_P2", array, spacing)
    result = compare_folders(readers, None, whole)
    assert list(result["failed"]) == ["Case_P2"]
    assert str(emidec.contour_path(readers["Bob"], "Case_P2")) in result["failed"]["Case_P2"]
    assert reason in result["failed"]["Case_P2"]
    assert len(result["cases"]) == 3


def test_readers_without_a_case_in_common_are_refused(readers, tmp_path):
    write(tmp_path / "other", "Case_P8", labels())
    with pytest.raises(CaseError, match="have no case in common"):
        compare_folders({"Ann": readers["Ann"], "other": tmp_path / "other"}, None, whole)


@pytest.mark.parametrize(
    ("given", "names", "fault"),
    [
        (["a"], None, "1 folder is given"),
        (["a", "b"], ["A"], "1 for 2 folders"),
        (["x/contours", "y/contours"], None, "would be called contours"),
        (["a", "a"], ["A", "B"], "is given twice"),
        (["a", "b"], ["A", ""], "'' is no name"),
        (["a", "b"], ["A", "B|C"], "is no name for a table"),
    ],
)
def test_readers_need_a_folder_and_a_name_each(given, names, fault):
    with pytest.raises(ConfigError, match=fault.replace("|", r"\|")):
        name_readers(given, names)


def test_readers_are_called_like_their_folders_or_as_they_are_named():
    assert list(name_readers(["first/", "runs/second"], None)) == ["first", "second"]
    assert list(name_readers(["x/contours", "y/contours"], ["A", " B"])) == ["A", "B"]


def test_segments_are_counted_from_the_right_ventricle_where_there_are_images(tmp_path):
    simulated.write_cohort(tmp_path / "cohort", 1, 0, field_of_view_mm=115)
    (case,) = folders.find_cases(tmp_path / "cohort")
    array, spacing = emidec.read_labels(case.contour)
    write(tmp_path / "other", case.name, np.roll(array, 1, axis=2), spacing)
    readers = {"A": tmp_path / "cohort", "B": tmp_path / "other"}
    table = {case.name: Orientation(insertion=70.0)}
    without = compare_folders(readers, None, whole)
    known = compare_folders(readers, tmp_path / "cohort", whole, table)
    assert without["cases"][case.name]["segments_from"] == "x axis"
    assert "do not lie where their names say" in as_text(without)
    assert known["cases"][case.name]["segments_from"] == "given"
    assert "Kappa of an infarct by AHA segment" in as_text(known)
    with pytest.raises(CaseError):
        compare_folders(readers, tmp_path / "nowhere", whole)


def test_the_command_prints_markdown_and_writes_strict_json_and_csv(readers, tmp_path):
    write(readers["Ann"], "Case_P9", labels())
    flags = (f"--readers={','.join(map(str, readers.values()))}", f"--output={tmp_path / 'out'}")
    result = run(*flags, "--names=program,Ann,Bob")
    assert result.returncode == 0, result.stderr
    assert "left out: Case_P9: no labels by program, Bob" in result.stderr.splitlines()
    assert "| infarction: program - Ann | 3 |" in result.stdout
    written = json.loads((tmp_path / "out" / "agreement.json").read_text(), parse_constant=pytest.fail)
    assert written["readers"]["Bob"] == str(readers["Bob"])
    assert set(written["cases"]) == {"Case_P1", "Case_P2", "Case_P3", "Case_N4"}
    with (tmp_path / "out" / "agreement.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (row,) = [row for row in rows if (row["readers"], row["of"], row["measure"]) == ("all", "infarct_g", "icc")]
    assert float(row["value"]) == pytest.approx(1) and row["n"] == "4"

    (tmp_path / "out" / "agreement.csv").write_text("mine")
    result = run(*flags, "--names=program,Ann,Bob")
    assert result.returncode == 1
    assert "agreement.csv: is there already" in result.stderr
    assert (tmp_path / "out" / "agreement.csv").read_text() == "mine"


def test_the_command_fails_in_one_line_where_a_case_or_a_flag_does(readers):
    write(readers["Bob"], "Case_P2", labels()[:3])
    flag = f"--readers={','.join(map(str, readers.values()))}"
    result = run(flag)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if "Case_P2" in line]
    assert line.startswith("failed: Case_P2: ")
    result = run(flag, "--names=A,B")
    assert result.returncode == 1
    assert result.stderr == "error: names: 2 for 3 folders of readers\n"
