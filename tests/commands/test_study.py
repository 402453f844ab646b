"""A folder of many patients in, a table with a row each out."""

import csv
import json
import os
import shutil
import subprocess
import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
openpyxl = pytest.importorskip("openpyxl")

from cascade_jax.commands import study
from cascade_jax.commands.study import make_study
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.quantify.quantities import volumes
from cascade_jax.report.spreadsheet import cell
from tests.commands.command_line import ROOT, command, read
from tests.commands.scans import Reader, TwoDevices, files_in, write_scan
from tests.data.dicom_series import PATIENT, write_classic, write_localizer


@pytest.fixture
def patients(heart, tmp_path):
    """Two studies of DICOM, one named like its patient, an archive and an image file."""
    source = tmp_path / "patients"
    write_classic(source / "a" / "MR" / "S5", heart, StudyInstanceUID="1.1")
    write_localizer(source / "a" / "MR")
    write_classic(source / PATIENT[0] / "S5", heart, StudyInstanceUID="1.2")
    write_classic(tmp_path / "unpacked", heart, StudyInstanceUID="1.3")
    with zipfile.ZipFile(source / "c.zip", "w") as archive:
        for path in (tmp_path / "unpacked").iterdir():
            archive.write(path, path.name)
    shutil.rmtree(tmp_path / "unpacked")
    write_scan(source / "d" / "late.nii.gz", heart)
    for path in (source / "a" / "MR").glob("localizer"):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = "1.1"
        dataset.save_as(path)
    return source


def run(source, reader, *, output=None, weights="pretrained", **settings):
    output = output or source.parent / "out"
    settings = {"identifiers": False, "progress": lambda iterable, _: iterable} | settings
    outcome = make_study(lambda: reader, source, output, weights, **settings)
    with (output / "study.csv").open(encoding="utf-8-sig", newline="") as file:
        return outcome, {row["case"]: row for row in csv.DictReader(file)}


def test_every_scan_has_a_row_with_its_quantities_and_its_labels(heart, patients):
    outcome, rows = run(patients, Reader(heart.labels))
    assert list(rows) == ["study_1", "a", "c", "d_late"] and outcome.failed == []
    expected = volumes(emidec.to_file_axes(heart.labels), heart.spacing[::-1])
    for name, row in rows.items():
        assert float(row["infarct_percent"]) == pytest.approx(expected["infarct_percent"], rel=1e-3)
        assert float(row["myocardium_expected_dice"]) == 0.9 and row["infarction_expected_dice"] == ""
        assert row["series"] == ("" if name == "d_late" else "5") and row["failed"] == row["warnings"] == ""
        labels, _ = read(patients.parent / "out" / row["labels"])
        np.testing.assert_array_equal(labels, emidec.to_file_axes(heart.labels))
    assert float(rows["d_late"]["infarct_g"]) == pytest.approx(expected["infarct_g"], rel=1e-3)
    sheet = openpyxl.load_workbook(patients.parent / "out" / "study.xlsx").active
    head, *values = sheet.iter_rows(values_only=True)
    assert list(head) == list(row) and [line[0] for line in values] == list(rows)
    assert values[-1][head.index("infarct_g")] == pytest.approx(expected["infarct_g"], rel=1e-3)


def test_nothing_of_a_patient_is_in_the_output_unless_it_is_asked_for(heart, patients):
    _, rows = run(patients, Reader(heart.labels))
    output = patients.parent / "out"
    sheet = str(list(openpyxl.load_workbook(output / "study.xlsx").active.values))
    for text in ((output / "study.csv").read_text(), sheet, *files_in(output)):
        assert not any(word.casefold() in text.casefold() for word in PATIENT)
    assert json.loads((output / "study.json").read_text())["cases"]
    places = {one["case"]: one["place"] for one in json.loads((output / "study.json").read_text())["cases"].values()}
    assert places == {"study_1": PATIENT[0], "a": "a", "c": "c.zip", "d_late": "d/late.nii.gz"}
    _, rows = run(patients, None, identifiers=True)
    assert rows["a"]["PatientName"] == "^".join(PATIENT[:2]) and rows["d_late"]["PatientName"] == ""
    assert (rows["c"]["PatientID"], rows["c"]["PatientBirthDate"]) == PATIENT[2:]


def test_a_second_run_does_what_is_new_or_has_changed(heart, patients):
    def segmented(**settings):
        reader = Reader(heart.labels)
        outcome, rows = run(patients, reader, **settings)
        assert outcome.done == len(reader.segmented) and outcome.done + outcome.kept == len(rows)
        return reader.segmented, rows

    first, before = segmented()
    assert len(first) == 4
    assert segmented() == ([], before)
    write_classic(patients / "e", heart, StudyInstanceUID="1.4")
    assert segmented()[0] == ["e"]
    os.utime(next((patients / "a" / "MR" / "S5").iterdir()), (1, 1))
    assert segmented()[0] == ["a"]
    (patients.parent / "out" / "c_seg.nii.gz").unlink()
    assert segmented()[0] == ["c"]
    shutil.rmtree(patients / "a")
    reader = Reader(heart.labels)
    outcome, rows = run(patients, reader)
    assert "a" not in rows and any("a: is no longer in" in line for line in outcome.left_out)
    assert (patients.parent / "out" / "a_seg.nii.gz").exists()


def test_several_devices_share_a_studys_scans(heart, patients):
    cascade = TwoDevices(heart.labels)
    _, rows = run(patients, cascade)
    assert list(rows) == ["study_1", "a", "c", "d_late"] and all(row["infarct_g"] for row in rows.values())
    assert len(cascade.each[0].segmented + cascade.each[1].segmented) == 4 and not cascade.segmented


def test_other_weights_do_all_anew(heart, patients, monkeypatch):
    run(patients, Reader(heart.labels))
    monkeypatch.setattr(study, "identity_of_weights", lambda weights: weights)
    for weights, count in (("other", 4), ("other", 0), ("another", 4)):
        assert run(patients, Reader(heart.labels), weights=weights)[0].done == count


def test_what_fails_is_a_row_with_the_reason_and_is_tried_again(heart, patients):
    path = next((patients / PATIENT[0] / "S5").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    outcome, rows = run(patients, Reader(heart.labels))
    assert outcome.failed == ["study_1: is cut off: pixels are missing"]
    assert rows["study_1"]["failed"] == "is cut off: pixels are missing" and rows["study_1"]["infarct_g"] == ""
    assert all(not rows[name]["failed"] and rows[name]["infarct_g"] for name in ("a", "c", "d_late"))
    assert run(patients, Reader(heart.labels))[0].done == 1
    path.write_bytes(whole)
    outcome, rows = run(patients, Reader(heart.labels))
    assert outcome.failed == [] and outcome.done == 1 and rows["study_1"]["infarct_g"]


def test_doubt_and_warnings_have_one_column(heart, patients):
    labels = heart.labels.copy()
    labels[3] = 0
    _, rows = run(patients, Reader(labels, myocardium=0.6))
    assert rows["a"]["warnings"] == (
        "low-confidence: a Dice of 0.6 is expected; slice-gap: no myocardium in slice 4, between slices that have some"
    )


def test_a_warning_is_a_failure_where_that_is_asked_for_and_needs_no_second_segmentation(heart, patients):
    labels = heart.labels.copy()
    labels[3] = 0
    _, unasked = run(patients, Reader(labels))
    outcome, rows = run(patients, None, strict=True)  # the earlier run's
    assert outcome.done == 0
    assert outcome.failed == [f"{name}: slice-gap (--strict)" for name in unasked]
    assert all(rows[name] == row | {"failed": "slice-gap (--strict)"} for name, row in unasked.items())
    assert run(patients, None)[1] == unasked


def test_a_table_that_somebody_has_changed_stays_as_it_is_and_so_do_his_labels(heart, patients):
    run(patients, Reader(heart.labels))
    (patients.parent / "out" / "a_seg.nii.gz").write_bytes(b"corrected")
    os.utime(next((patients / "a" / "MR" / "S5").iterdir()), (1, 1))
    outcome, _ = run(patients, Reader(heart.labels))
    assert len(outcome.failed) == 1 and outcome.failed[0].startswith("a: is there already")
    assert (patients.parent / "out" / "a_seg.nii.gz").read_bytes() == b"corrected"
    (patients.parent / "out" / "study.csv").write_text("mine")
    with pytest.raises(CaseError, match=r"study\.csv: is there already"):
        run(patients, None)
    assert (patients.parent / "out" / "study.csv").read_text() == "mine"


def test_the_output_may_lie_among_the_patients(heart, patients):
    for count in (4, 0):
        assert run(patients, Reader(heart.labels), output=patients / "out")[0].done == count


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " ="])
def test_no_name_is_taken_for_a_formula(heart, tmp_path, start):
    name = f"{start}1+1"
    write_scan(tmp_path / "in" / f"{name}.nii.gz", heart)
    _, rows = run(tmp_path / "in", Reader(heart.labels))
    (row,) = rows.values()
    assert row["case"] == f"'{name.strip()}" and row["labels"] == f"'{name.strip()}_seg.nii.gz"
    sheet = openpyxl.load_workbook(tmp_path / "out" / "study.xlsx").active
    assert all(one.data_type != "f" for line in sheet.iter_rows() for one in line)
    assert sheet["A2"].value == row["case"]


def test_numbers_are_numbers_and_what_no_cell_can_hold_is_shown():
    assert [cell(value) for value in (-1.23456, np.nan, None, 3, "a\x00b", "a\udcff")] == [
        *(-1.235, None, None, 3),
        *("a\N{REPLACEMENT CHARACTER}b", "a\\udcff"),
    ]


def test_the_command_makes_a_study(trained, tmp_path):
    workdir, _ = trained
    for files in folders.find_cases(workdir / "data" / "training")[:2]:
        write_classic(
            tmp_path / "patients" / files.name, emidec.read_case(files), StudyInstanceUID=f"1.{int(files.name[-3:])}"
        )
    (tmp_path / "patients" / "bad.nii.gz").write_text("hello")
    for done in (3, 1):
        started = [*command("study"), str(tmp_path / "patients"), f"--workdir={workdir}"]
        result = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
        assert result.returncode == 1 and "Traceback" not in result.stderr
        failed = [line for line in result.stderr.splitlines() if line.startswith("failed")]
        assert len(failed) == 1 and failed[0].startswith("failed: bad: ")
        assert result.stdout.strip().endswith(f"study.csv: 3 scans, {done} segmented by this run, 1 failed")
    assert (tmp_path / "patients_study" / "study.xlsx").exists()
