"""Two folders of labels become every case's metrics, and what cannot be compared is named."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax.commands.evaluate import as_text, evaluate_folders
from cascade_jax.data import emidec
from cascade_jax.data.case import LABEL_NAMES, Case, CaseError
from cascade_jax.data.labels import make_label_table
from cascade_jax.metrics import evaluate_case

ROOT = Path(__file__).parents[2]
SPACING = (10.0, 1.5, 1.25)  # slice, y, x


def labels(shift=0):
    """A ring of myocardium around a cavity with an infarct that holds no-reflow, moved along x."""
    heart = np.zeros((4, 20, 24), np.uint8)
    heart[:, 4:16, 4:16] = 2
    heart[:, 7:13, 7:13] = 1
    heart[1:3, 13:15, 7:11] = 3
    heart[1, 14, 8:10] = 4
    return np.roll(heart, shift, axis=2)


def write(root, name, array, spacing=SPACING):
    emidec.write_labels(root, array, Case(name, np.zeros(array.shape, np.float32), None, spacing))


@pytest.fixture
def folders(tmp_path):
    prediction, truth = tmp_path / "prediction", tmp_path / "truth"
    for name in ("Case_N1", "Case_P2"):
        write(truth, name, labels())
        write(prediction, name, labels(shift=2))
    return prediction, truth


def run(prediction, truth, output):
    flags = (f"--prediction={prediction}", f"--truth={truth}", f"--output={output}")
    command = [sys.executable, "-m", "launch.evaluate", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_case_on_disk_has_the_metrics_of_its_arrays_in_the_files_axes(folders):
    result = evaluate_folders(*folders)
    expected = evaluate_case(labels(shift=2).transpose(2, 1, 0), labels().transpose(2, 1, 0), SPACING[::-1])
    assert result["cases"] == {"Case_N1": expected, "Case_P2": expected}
    assert result["failed"] == {}
    # Two voxels along x, and the wrong convention takes each for 10 mm.
    assert expected["myocardium"]["hausdorff_mm"] == pytest.approx(2.5)
    assert expected["myocardium"]["hausdorff_emidec_mm"] == pytest.approx(20.0)


def test_a_case_without_a_prediction_fails_and_the_others_count(folders):
    prediction, truth = folders
    write(truth, "Case_P3", labels())
    result = evaluate_folders(prediction, truth)
    assert list(result["cases"]) == ["Case_N1", "Case_P2"]
    assert "holds no labels of this case" in result["failed"]["Case_P3"]


def test_a_case_without_truth_is_named(folders):
    prediction, truth = folders
    write(prediction, "Case_P3", labels())
    assert "no truth" in evaluate_folders(prediction, truth)["failed"]["Case_P3"]


@pytest.mark.parametrize(
    ("array", "spacing", "reason"),
    [
        (labels()[:3], SPACING, "is 24 x 20 x 3 voxels, but the truth is 24 x 20 x 4"),
        (labels(), (8.0, 1.5, 1.25), "1.25 x 1.5 x 8 mm, but the truth of 1.25 x 1.5 x 10 mm"),
        (labels().transpose(0, 2, 1), SPACING, "is 20 x 24 x 4 voxels"),
    ],
)
def test_another_grid_than_the_truths_fails_with_both_grids_told(folders, array, spacing, reason):
    prediction, truth = folders
    write(prediction, "Case_N1", array, spacing)
    result = evaluate_folders(prediction, truth)
    assert list(result["cases"]) == ["Case_P2"]
    assert reason in result["failed"]["Case_N1"]


def test_a_damaged_file_fails_by_name_and_the_others_count(folders):
    prediction, truth = folders
    path = emidec.contour_path(prediction, "Case_N1")
    path.write_bytes(path.read_bytes()[:100])
    result = evaluate_folders(prediction, truth)
    assert list(result["cases"]) == ["Case_P2"]
    assert str(path) in result["failed"]["Case_N1"]


def test_a_folder_without_labels_is_an_error(folders, tmp_path):
    with pytest.raises(CaseError, match="no such"):
        evaluate_folders(tmp_path / "nowhere", folders[1])


def test_the_table_names_the_cases_that_a_mean_leaves_out(folders):
    prediction, truth = folders
    write(prediction, "Case_N1", np.zeros_like(labels()))
    text = as_text(evaluate_folders(prediction, truth))
    assert "myocardium HSD mm: mean over 1 of 2 cases, undefined for Case_N1" in text
    assert "nan" not in text


def test_the_command_writes_strict_json_and_fails_if_a_case_did(folders, tmp_path):
    prediction, truth = folders
    write(prediction, "Case_N1", np.zeros_like(labels()))
    write(truth, "Case_P3", labels())
    output = tmp_path / "metrics.json"
    result = run(prediction, truth, output)
    assert result.returncode == 1
    assert "Case_P3" in result.stderr
    assert "Traceback" not in result.stderr
    written = json.loads(output.read_text(), parse_constant=lambda constant: pytest.fail(constant))
    assert set(written) == {"cases", "mean", "failed", "interval", "infarcted", "agreement", "detection"}
    assert written["interval"]["myocardium"]["hausdorff_mm"] == [None, None], "one case has none"
    assert written["detection"]["infarction"]["sensitivity"] == 0.5
    assert written["cases"]["Case_N1"]["myocardium"]["hausdorff_mm"] is None
    assert written["mean"]["myocardium"]["hausdorff_mm"] == pytest.approx(2.5)
    assert [path.name for path in tmp_path.glob(".*")] == [".cascade_jax.json"]  # which says what was made


def test_the_table_says_how_the_cohorts_infarcts_agree(folders):
    prediction, truth = folders
    write(truth, "Case_N3", np.minimum(labels(), 2))
    write(prediction, "Case_N3", np.minimum(labels(), 2))
    result = evaluate_folders(prediction, truth)
    dice = [case["infarction"]["dice"] for case in result["cases"].values()]
    assert result["interval"]["infarction"]["dice"] == pytest.approx((min(dice), max(dice)))
    assert result["infarcted"]["infarction"]["dice"] == pytest.approx(dice[0])
    # 16 voxels of 10 x 1.5 x 1.25 mm at 1.05 g/ml
    assert result["agreement"]["infarcted"]["g"]["mean_truth"] == pytest.approx(16 * 0.01875 * 1.05)
    assert result["agreement"]["all"]["g"]["icc"] == pytest.approx(1)
    lines = as_text(result).splitlines()
    lower, upper = (next(line for line in lines if line.startswith(name)) for name in ("95 % from", "95 % to"))
    assert f"{min(dice):.3f}" in lower
    assert f"{max(dice):.3f}" in upper
    for title in ("Infarcted hearts alone", "Infarct size against the reader", "Detection of infarct and no-reflow"):
        assert title in lines
    assert any("normal hearts left alone" in line and "100.00 (1 of 1)" in line for line in lines)


def test_other_labels_have_intervals_and_nothing_of_infarcts(folders):
    table = make_label_table(LABEL_NAMES, [("myocardium", LABEL_NAMES[2:])])
    result = evaluate_folders(*folders, table=table)
    assert set(result) == {"cases", "mean", "failed", "interval"}
    text = as_text(result)
    assert "95 % from" in text
    assert "nfarct" not in text


def test_the_command_succeeds_when_every_case_was_compared(folders, tmp_path):
    result = run(*folders, tmp_path / "metrics.json")
    assert result.returncode == 0, result.stderr
    assert "Case_P2" in result.stdout
