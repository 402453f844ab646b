"""A DICOM series in, labels and DICOM objects out."""

import csv
import functools
import subprocess
import sys
import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from cascade_jax.commands.dicom import predict_series
from cascade_jax.data import dicom
from cascade_jax.data.case import CaseError
from launch import dicom_series
from tests.data.dicom_results import Reader, figures
from tests.data.dicom_series import (
    ACROSS,
    DOWN,
    PATIENT,
    change,
    check,
    choose,
    write_classic,
    write_enhanced,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


def turned(angle):
    """The orientation turned in its plane."""
    return [*(np.cos(angle) * ACROSS + np.sin(angle) * DOWN), *(np.cos(angle) * DOWN - np.sin(angle) * ACROSS)]


@pytest.mark.parametrize(
    ("fields", "left_out"),
    [
        ({"FrameOfReferenceUID": ""}, {"segmentation": "FrameOfReferenceUID is missing"}),
        (
            {"SOPInstanceUID": lambda index: None if index == 3 else f"1.2.3.{index + 1}"},
            dict.fromkeys(("segmentation", "report"), "SOPInstanceUID is missing"),
        ),
        (
            {"ImageOrientationPatient": lambda index: turned(0.004 * (index == 2))},
            {"segmentation": "ImageOrientationPatient differs between slices"},
        ),
        ({"SOPClassUID": "1.3.4"}, dict.fromkeys(("segmentation", "report"), "SOPClassUID is none of the standard's")),
    ],
)
def test_labels_are_written_where_a_dicom_object_cannot_be(case, tmp_path, fields, left_out):
    write_classic(tmp_path / "in", case, **fields)
    _, said = predict_series(Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None)
    assert said == [f"one: labels are written, the DICOM {what} is left out: {why}" for what, why in left_out.items()]
    there = {path.name for path in (tmp_path / "out" / "one").iterdir()}
    endings = {"segmentation": "one.seg.dcm", "report": "one.sr.dcm"}
    assert there == {"Images", "Contours", "Doubt", "one.png", *endings.values()} - {endings[what] for what in left_out}
    if "report" not in left_out:
        report = highdicom.sr.srread(tmp_path / "out" / "one" / "one.sr.dcm")
        assert figures(report)["Left Ventricle Myocardium"]["Volume"] > 1


def test_what_a_library_says_of_a_value_is_not_repeated(case, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise ValueError(f"StudyID of {PATIENT[0]} is too long")

    monkeypatch.setattr("cascade_jax.commands.dicom.measure_case", fail)
    monkeypatch.setattr("cascade_jax.commands.dicom.draw_case", fail)
    write_classic(tmp_path / "in", case)
    assert dicom_series.segment_series(lambda: Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None) == 1
    said = capsys.readouterr()
    why = "StudyID of the series is against the standard (ValueError)"
    assert said.err == (
        f"failed: one: labels are written, the picture is left out: {why}\n"
        f"failed: one: labels are written, the DICOM report is left out: {why}\n"
    )
    assert len(said.out.splitlines()) == 1
    there = {path.name for path in (tmp_path / "out" / "one").iterdir()}
    assert there == {"Images", "Contours", "Doubt", "one.seg.dcm"}


def test_a_picture_that_no_package_can_draw_is_left_out_and_named(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_classic(tmp_path / "in", case)
    assert dicom_series.segment_series(lambda: Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None) == 0
    assert capsys.readouterr().err == "left out: pictures, which need pip install 'cascade_jax[report]'\n"
    there = {path.name for path in (tmp_path / "out" / "one").iterdir()}
    assert there == {"Images", "Contours", "Doubt", "one.seg.dcm", "one.sr.dcm"}


def test_a_series_in_several_multi_frame_files_has_labels(case, tmp_path):
    (tmp_path / "in").mkdir()
    series = None
    for index in range(len(case.image)):
        write_enhanced(tmp_path / "in" / str(index), case, [index])
        series = series or pydicom.dcmread(tmp_path / "in" / "0").SeriesInstanceUID
        change(tmp_path / "in" / str(index), SeriesInstanceUID=series)
    check(dicom.read_series(tmp_path, choose(tmp_path / "in"), "case"), case)
    _, (line,) = predict_series(Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None)
    assert line.endswith("the DICOM segmentation is left out: NumberOfFrames: the slices are spread over several files")


def test_no_file_of_another_program_is_replaced(case, tmp_path):
    write_classic(tmp_path / "in", case)
    (tmp_path / "out").mkdir()
    for name in ("labels.ctbl", "dseg.tsv"):
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(CaseError, match=f"{name}: is there already"):
            predict_series(None, tmp_path / "in", tmp_path / "out", "one", None)  # before the networks are needed
        assert (tmp_path / "out" / name).read_text() == "mine"
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / "one").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CaseError, match="one: is there already"):
        predict_series(None, tmp_path / "in", tmp_path / "out", "one", None)
    for name in ("x" * 300, "line\nbreak", "\udce9"):
        with pytest.raises(CaseError):
            predict_series(None, tmp_path / "in", tmp_path / "out", name, None)
    with pytest.raises(CaseError, match="in/0_5: is not a folder"):
        predict_series(None, tmp_path / "in", tmp_path / "in" / "0_5", "one", None)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one"}


def test_a_second_patient_does_not_replace_the_first(case, tmp_path):
    write_classic(tmp_path / "in", case)
    output = tmp_path / "out"
    lines, left_out = predict_series(Reader(case.labels), tmp_path / "in", output, "one", None)
    assert not left_out
    assert lines == [f"{output / 'one'}: series 5, {len(case.image)} slices, expected Dice of the myocardium 0.90"]
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert not [path for path in before if "partial" in path.name]
    with pytest.raises(CaseError, match="out/one: is there already"):
        predict_series(None, tmp_path / "in", output, "one", None)  # before the networks are needed
    for name in ("", "..", "a/b"):
        with pytest.raises(CaseError, match="a case's name"):
            predict_series(None, tmp_path / "in", output, name, None)
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.mark.parametrize("count", [1, 3])
def test_a_stack_without_a_heart_has_results_too(case, tmp_path, count):
    write_classic(tmp_path / "in", case, skip=range(count, 20))
    lines, left_out = predict_series(
        Reader(np.zeros_like(case.labels[:count]), 0.0), tmp_path / "in", tmp_path / "out", "no", None
    )
    assert "look at it: low-confidence: it is dark" in lines[-1]
    assert not left_out
    report = highdicom.sr.srread(tmp_path / "out" / "no" / "no.sr.dcm")
    found = figures(report)
    del found["Left ventricle"]  # what the cascade says of its own result
    assert len(found) == 6, "what there is none of is said to be none, and no segment is made up"
    assert {values["Volume"] for values in found.values()} == {0}


def test_the_table_of_confidence_keeps_the_other_cases(case, tmp_path):
    write_classic(tmp_path / "in", case)
    for name, dice in (("one", 0.9), ("two", 0.7)):
        lines, _ = predict_series(Reader(case.labels, dice), tmp_path / "in", tmp_path / "out", name, None)
    assert lines[-1].endswith("0.70; look at it: low-confidence: it is dark")
    with (tmp_path / "out" / "confidence.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["myocardium_expected_dice"], row["doubtful"], row["warnings"]) for row in rows] == [
        ("two", "0.700", "yes", "low-confidence: it is dark"),
        ("one", "0.900", "no", ""),
    ]
    assert {row["myocardium_probability"] for row in rows} == {""}
    (tmp_path / "out" / "confidence.csv").write_text("case,liver\none,0.9\n")
    with pytest.raises(CaseError, match=r"confidence\.csv: is there already"):
        predict_series(Reader(case.labels), tmp_path / "in", tmp_path / "out", "three", None)
    assert not (tmp_path / "out" / "three").exists()


def test_a_warning_is_a_failure_where_that_is_asked_for_and_everything_is_written(case, tmp_path, capsys):
    write_classic(tmp_path / "in", case)
    for dice, status in ((0.9, 0), (0.7, 1)):
        load, name = functools.partial(Reader, case.labels, dice), f"dice{dice:g}"
        said = dicom_series.segment_series(load, tmp_path / "in", tmp_path / "out", name, None, strict=True)
        assert said == status
        assert (tmp_path / "out" / name / f"{name}.sr.dcm").exists()
    assert capsys.readouterr().err == "failed: dice0.7: low-confidence (--strict)\n"


def predict(source, tmp_path):
    """`cascade-jax predict` up to where it hands a DICOM series on."""
    script = (
        "import sys\n"
        "from launch import command, dicom_series, predict\n"
        "dicom_series.segment_series = lambda load, source, *rest, **_: print('segments', source.name, *rest[1:])\n"
        "command.run(predict.main, required=('input', 'output'))\n"
    )
    arguments = [f"--input={source}", f"--output={tmp_path / 'out'}", "--series=5", f"--workdir={tmp_path}"]
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("other", ["image.nii.gz", "image.hdr"])
def test_predict_takes_a_series_and_refuses_a_mixture(case, tmp_path, other):
    write_classic(tmp_path / "series" / "deep", case)
    assert predict(tmp_path / "series", tmp_path).stdout == "segments series case 5\n"
    (tmp_path / "series" / other).write_bytes(b"")
    mixed = predict(tmp_path / "series", tmp_path)
    assert mixed.returncode == 1
    assert mixed.stderr.endswith("series: holds DICOM images beside image files of another format: which are meant?\n")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr(other, "")
    assert predict(tmp_path / "images.zip", tmp_path).stderr.endswith(
        "zip: is an archive without DICOM images: unpack it\n"
    )
