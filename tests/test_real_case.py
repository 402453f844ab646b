"""The one real case, a normal heart: every command that a reader would use on it, one after another."""

import csv
import gzip
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import cascade_jax
from cascade_jax.data import emidec, folders
from tests.commands.test_export import ELSEWHERE

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT.parent / "shared" / "data" / "emidec_sample"
NAME = "sampleNegative"

pytestmark = pytest.mark.skipif(not SAMPLE.exists(), reason="the real sample is not beside the project")


def run(command, **flags):
    """Runs a command compiled as users have it, not as quickly as the other tests."""
    result = subprocess.run(
        [sys.executable, "-m", f"launch.{command}", *(f"--{name}={value}" for name, value in flags.items())],
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def check(labels, truth, voxel_ml):
    assert cascade_jax.metrics.dice(labels >= 2, truth >= 2) >= 0.82
    assert cascade_jax.metrics.dice(labels == 1, truth == 1) >= 0.90
    assert (labels >= 3).sum() * voxel_ml <= 1


@pytest.fixture(scope="module")
def truth():
    return nib.load(SAMPLE / NAME / "Contours" / f"{NAME}.nii.gz")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    output = tmp_path_factory.mktemp("predicted")
    run("predict", input=SAMPLE / NAME / "Images" / f"{NAME}.nii.gz", output=output)
    return output


def test_predict_without_training_outlines_it(predicted, truth):
    labels = np.asarray(nib.load(predicted / NAME / "Contours" / f"{NAME}.nii.gz").dataobj)
    check(labels, np.asarray(truth.dataobj), np.prod(truth.header.get_zooms()) / 1000)
    with (predicted / "confidence.csv").open() as file:
        assert next(csv.DictReader(file))["case"] == NAME


def test_evaluate_and_quantify_measure_it(predicted, tmp_path):
    assert NAME in run("evaluate", prediction=predicted, truth=SAMPLE)
    run("quantify", labels=predicted, images=SAMPLE, output=tmp_path)
    with (tmp_path / "cases.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert 60 < float(row["myocardium_g"]) < 200
    assert float(row["infarct_percent"]) < 1
    with (tmp_path / "segments.csv").open() as file:
        segments = list(csv.DictReader(file))
    assert len(segments) >= 16
    assert all(4 < float(row["wall_thickness_mm"]) < 16 for row in segments if row["wall_thickness_mm"])


def test_report_shows_it(predicted, tmp_path):
    run("report", prediction=predicted, images=SAMPLE, truth=SAMPLE, output=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert NAME in text
    assert "could not be shown" not in text


def test_the_exported_cascade_labels_it_alike_without_this_package(tmp_path):
    (files,) = folders.find_cases(SAMPLE)
    cascade = cascade_jax.load("pretrained")
    example = cascade.example(emidec.read_case(files))
    output, shape = tmp_path / "cascade.stablehlo", ",".join(map(str, example.image.shape))
    run("export", output=output, platforms="cpu", shape=shape)
    np.savez(tmp_path / "input.npz", image=example.image, valid=example.valid)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True, cwd=tmp_path)
    labels = np.load(tmp_path / "output.npz")["labels"]
    np.testing.assert_array_equal(labels, cascade.vote(example).labels)
    assert set(np.unique(labels)) >= {0, 1, 2}


def test_it_goes_to_nnunet_and_back(tmp_path):
    run("nnunet", cohort=SAMPLE, to_raw=tmp_path / "Dataset001")
    run("nnunet", raw=tmp_path / "Dataset001", to_cohort=tmp_path / "back")
    (original,), (back,) = (folders.find_cases(root, labelled=True) for root in (SAMPLE, tmp_path / "back"))
    original, back = emidec.read_case(original), emidec.read_case(back)
    np.testing.assert_array_equal(original.image, back.image)
    np.testing.assert_array_equal(original.labels, back.labels)
    np.testing.assert_allclose(original.spacing, back.spacing, rtol=1e-6)


def test_a_dicom_series_of_it_becomes_labels_a_segmentation_and_a_report(truth, tmp_path):
    pytest.importorskip("pydicom")
    highdicom = pytest.importorskip("highdicom")
    from tests.data.dicom_series import PATIENT, write_classic, write_localizer

    (files,) = folders.find_cases(SAMPLE)
    write_classic(tmp_path / "series", emidec.read_case(files), description=f"PSIR {PATIENT[0]}")
    write_localizer(tmp_path / "series")
    output = tmp_path / "out"
    text = run("dicom", input=tmp_path / "series", output=output)
    labels = np.asarray(nib.load(output / "case" / "Contours" / "case.nii.gz").dataobj)
    check(labels, np.asarray(truth.dataobj), np.prod(truth.header.get_zooms()) / 1000)
    read = highdicom.seg.segread(output / "case" / "case.seg.dcm")
    assert read.get_segment_description(2).segment_label == "normal myocardium"
    report = highdicom.sr.srread(output / "case" / "case.sr.dcm")
    cavity, myocardium = report.content.get_volumetric_roi_measurement_groups()[:2]
    assert cavity.get_measurements()[0].value > 20
    assert myocardium.get_measurements()[0].value > 40

    with (output / "confidence.csv").open() as file:
        assert next(csv.DictReader(file))["case"] == "case"
    assert "skipped series 1, which is a localiser" in text

    # The patient is in the DICOM objects, which belong to their study, and nowhere else.
    assert read.PatientID == report.PatientID == PATIENT[2]
    text += run("quantify", labels=output, images=output, output=tmp_path / "tables")
    text += run("report", prediction=output, images=output, output=tmp_path / "report.html")
    written = [*output.rglob("*"), *(tmp_path / "tables").rglob("*"), tmp_path / "report.html"]
    files = [path for path in written if path.is_file() and path.suffix != ".dcm"]
    assert {".gz", ".png", ".csv", ".html", ".tsv"} <= {path.suffix for path in files}
    for word in PATIENT:
        assert word not in text
        for path in files:
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            assert word.encode() not in content
            assert word not in path.name
