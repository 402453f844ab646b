"""Predictions as a user makes them, with a cascade that was trained and with bad input."""

import re
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import cascade_jax
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from launch.configs import default, two_labels
from tests.commands.command_line import ROOT, SAMPLE, fails_with_one_line, read, run, run_anew


def test_predict_writes_labels_in_the_inputs_own_grid(trained, tmp_path):
    workdir, _ = trained
    files = folders.find_cases(workdir / "data" / "held_out")
    result = run("predict", weights=workdir, input=files[0].image, output=tmp_path / "out")
    assert result.returncode == 0, result.stderr
    name = files[0].name
    labels, image = read(tmp_path / "out" / name / "Contours" / f"{name}.nii.gz")
    source = nib.load(files[0].image)
    assert labels.dtype == np.uint8
    assert labels.shape == source.shape
    np.testing.assert_array_equal(image.affine, source.affine)
    assert image.header.get_zooms() == source.header.get_zooms()
    # The same as from Python, and as the training's own held-out prediction.
    np.testing.assert_array_equal(
        cascade_jax.load(workdir).segment(source.get_fdata(), source.header.get_zooms()), labels
    )
    np.testing.assert_array_equal(read(emidec.contour_path(workdir / "predictions" / "held_out", name))[0], labels)


def test_predict_over_a_cohort_goes_on_past_bad_cases_and_lists_them(trained, tmp_path):
    workdir, _ = trained
    folder = tmp_path / "scans"
    folder.mkdir()
    good = folders.find_cases(workdir / "data" / "held_out")[0].image
    (folder / "a_broken.nii.gz").write_bytes(good.read_bytes()[:2000])
    (folder / "b_good.nii.gz").write_bytes(good.read_bytes())
    (folder / "c_text.nii").write_text("no image")
    result = run("predict", workdir=workdir, input=folder, output=tmp_path / "out", figures=False)
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed")]
    assert len(failed) == 2
    assert "a_broken.nii.gz" in failed[0]
    assert "c_text.nii" in failed[1]
    assert {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")} == {
        "b_good",
        "confidence.csv",
        "dseg.tsv",
        "labels.ctbl",
    }
    header, row = (tmp_path / "out" / "confidence.csv").read_text().splitlines()
    assert header.startswith("case,myocardium_expected_dice,myocardium_ml,myocardium_low_ml,myocardium_high_ml,")
    assert header.endswith(",distance,doubtful,reason,warnings,weights")
    # A network of twelve steps is sure of nothing, and is told from a good one by that.
    assert row.startswith("b_good,")
    assert ",yes," in row
    assert "look at it: b_good: low-confidence: " in result.stdout
    assert "low-confidence: " in row
    result = run("predict", workdir=workdir, input=folder / "b_good.nii.gz", output=tmp_path / "strict", strict=True)
    assert result.returncode == 1
    assert re.search(r"^failed: b_good: low-confidence.* \(--strict\)$", result.stderr, re.MULTILINE)
    assert (tmp_path / "strict" / "b_good" / "Contours" / "b_good.nii.gz").exists()


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readmes_ten_lines_run(trained, tmp_path):
    workdir, _ = trained
    (example,) = python_blocks("README.md")
    (labels,) = python_blocks("docs/train.md")
    config = default.get_config()
    exec(labels, {"config": config})
    assert config.labels == two_labels.get_config().labels
    scan = folders.find_cases(workdir / "data" / "held_out")[0].image
    names = {}
    exec(example.replace("scan.nii.gz", str(scan)).replace("runs/phantom", str(workdir)), names)
    assert names["labels"].shape == nib.load(scan).shape
    assert names["scores"]["myocardium"]["dice"] == 1
    assert names["logits"].shape == (1, 64, 64, 5)


def test_predicting_again_keeps_the_others_rows_and_no_stale_map(trained, tmp_path):
    workdir, _ = trained
    held_out = folders.find_cases(workdir / "data" / "held_out")[0]
    other = folders.find_cases(workdir / "data" / "training")[0]
    for file, figures in ((held_out, True), (other, False), (held_out, False)):
        result = run("predict", workdir=workdir, input=file.image, output=tmp_path / "out", figures=figures)
        assert result.returncode == 0, result.stderr
        maps = {path.parent.name for path in (tmp_path / "out").glob("*/D*/*.nii.gz")}
        assert maps == ({"Doubt", "Disagreement"} if figures or file is other else set())
    rows = (tmp_path / "out" / "confidence.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {held_out.name, other.name}


def test_predictions_can_have_images_beside_them_and_a_true_affine(trained, tmp_path):
    workdir, _ = trained
    file = folders.find_cases(workdir / "data" / "held_out")[0]
    result = run("predict", workdir=workdir, input=file.image, output=tmp_path, images=True)
    assert result.returncode == 0, result.stderr
    zooms = nib.load(file.image).header.get_zooms()
    for kind in ("Images", "Contours", "Doubt", "Disagreement"):
        written = nib.load(tmp_path / file.name / kind / f"{file.name}.nii.gz")
        # The challenge's direction, of which only the size was wrong.
        np.testing.assert_allclose(np.diag(written.affine)[:3], np.multiply(zooms, (-1, -1, 1)), rtol=1e-6)
        assert written.header.get_zooms() == pytest.approx(zooms)
    np.testing.assert_array_equal(read(tmp_path / file.name / "Images" / f"{file.name}.nii.gz")[0], read(file.image)[0])


def test_what_is_compiled_is_kept_for_the_user_and_not_looked_for_in_a_model(trained, tmp_path, monkeypatch):
    workdir, _ = trained
    file = folders.find_cases(workdir / "data" / "held_out")[0]
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = sorted(workdir.rglob("*"))
    result = run_anew("predict", workdir=workdir, input=file.image, output=tmp_path / "out", figures=False)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "cache" / "cascade_jax").glob("*/*-cache"))
    assert sorted(workdir.rglob("*")) == before


@pytest.mark.skipif(not SAMPLE.exists(), reason="the real sample is not beside the project")
def test_predict_on_a_real_case_overlays_its_image(trained, tmp_path):
    workdir, _ = trained
    result = run("predict", workdir=workdir, input=SAMPLE, output=tmp_path)
    assert result.returncode == 0, result.stderr
    labels, image = read(tmp_path / "sampleNegative" / "Contours" / "sampleNegative.nii.gz")
    source = nib.load(SAMPLE / "sampleNegative" / "Images" / "sampleNegative.nii.gz")
    assert labels.shape == source.shape == (148, 246, 9)
    assert set(np.unique(labels)) <= set(range(5))
    for field in ("pixdim", "srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "xyzt_units"):
        np.testing.assert_array_equal(image.header[field], source.header[field])
    assert (tmp_path / "sampleNegative" / "sampleNegative.png").stat().st_size > 10_000


def test_predict_goes_on_past_a_case_folder_without_an_image(trained, tmp_path):
    workdir, _ = trained
    shutil.copytree(workdir / "data" / "held_out", tmp_path / "cohort")
    (tmp_path / "cohort" / "Case_X" / "Images").mkdir(parents=True)
    result = run("predict", workdir=workdir, input=tmp_path / "cohort", output=tmp_path / "out", figures=False)
    assert result.returncode == 1
    fails_with_one_line(result, "Case_X", "holds no image file")
    assert len(folders.find_contours(tmp_path / "out")) == 1


def test_predict_without_a_finished_model_says_so(tmp_path):
    result = run("predict", workdir=tmp_path, input=tmp_path, output=tmp_path / "out")
    fails_with_one_line(result, tmp_path, "has no trained model")


def test_an_output_that_cannot_be_written_stops_predict(trained, tmp_path):
    workdir, _ = trained
    (tmp_path / "file").write_text("in the way")
    result = run("predict", workdir=workdir, input=workdir / "data" / "held_out", output=tmp_path / "file" / "out")
    fails_with_one_line(result, tmp_path / "file", "cannot be written to")


@pytest.mark.parametrize(
    ("image", "spacing", "fault"),
    [
        (np.ones(8), (1, 1, 10), "dimensions"),
        (np.full((8, 8, 2), np.nan), (1, 1, 10), "NaN or infinite"),
        (np.ones((8, 8, 2)), (1, 1, 10), "constant"),
        (np.arange(128.0).reshape(8, 8, 2), (1, 0, 10), "positive"),
    ],
)
def test_segment_refuses_bad_arrays(trained, image, spacing, fault):
    with pytest.raises(CaseError, match=fault):
        cascade_jax.load(trained[0]).segment(image, spacing)


def test_a_training_starts_without_what_only_its_end_needs():
    late = {"matplotlib", "orbax", "tensorboardX"}
    command = f"import sys, cascade_jax.commands.train; print({late} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
