"""DICOM objects before other people's validators: dciodvfy of dicom3tools, and dsrdump of DCMTK."""

import shutil
import subprocess

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from cascade_jax.commands.dicom import predict_series
from cascade_jax.data.dicom_segmentation import PRIVATE_SCHEME
from tests.data.dicom_results import Reader
from tests.data.dicom_series import write_breath_holds, write_classic, write_enhanced

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


def with_no_reflow(case):
    labels = case.labels.copy()
    labels[1:4][labels[1:4] == 2] = 3
    labels[2][labels[2] == 3] = 4
    return labels


def enhanced(folder, case):
    folder.mkdir()
    write_enhanced(folder / "one", case, list(range(len(case.image)))[::-1])


def without_identity(folder, case):
    write_classic(folder, case)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"):
            delattr(dataset, name)
        dataset.save_as(path)


def objects(case, folder, write, labels):
    write(folder / "in", case)
    _, left_out = predict_series(Reader(labels), folder / "in", folder / "out", "one", None)
    assert not left_out
    return [folder / "out" / "one" / f"one.{kind}.dcm" for kind in ("seg", "sr")]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy of dicom3tools is not installed")
@pytest.mark.parametrize("write", [write_classic, write_breath_holds, enhanced, without_identity])
def test_dciodvfy_finds_no_fault_in_segmentation_and_report(case, tmp_path, write):
    for path in objects(case, tmp_path, write, with_no_reflow(case)):
        result = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        lines = (result.stdout + result.stderr).splitlines()
        assert {"seg": "Segmentation", "sr": "Comprehensive3DSR"}[path.name.split(".")[1]] in lines, "it knows the kind"
        assert not [line for line in lines if line.startswith("Error")]
        warnings = [line for line in lines if line.startswith("Warning")]
        # That codes are private is meant, and what the source does not say of the patient cannot be made up.
        assert not [line for line in warnings if PRIVATE_SCHEME not in line and "DICOMDIR" not in line]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy of dicom3tools is not installed")
def test_dciodvfy_finds_no_fault_where_nothing_is_infarcted(case, tmp_path):
    for path in objects(case, tmp_path, write_classic, np.minimum(case.labels, 2)):
        result = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in result.stdout + result.stderr


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy of dicom3tools is not installed")
def test_dciodvfy_does_find_a_fault(case, tmp_path):
    _, path = objects(case, tmp_path, write_classic, case.labels)
    report = pydicom.dcmread(path)
    del report.ContentSequence[-1].ContentSequence[0].ContentSequence[0].RelationshipType
    report.save_as(path)
    result = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert "Error" in result.stdout + result.stderr


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="dsrdump of DCMTK is not installed")
def test_dsrdump_reads_the_report(case, tmp_path):
    _, path = objects(case, tmp_path, write_classic, with_no_reflow(case))
    result = subprocess.run(["dsrdump", "+Pl", "+Pc", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "E:" not in result.stderr
    assert "Comprehensive 3D SR Document" in result.stdout
    assert "Infarct" in result.stdout
