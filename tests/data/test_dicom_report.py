"""The figures of a structured report."""

import io
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from pydicom.sr.codedict import codes

from cascade_jax.commands.dicom import predict_series
from cascade_jax.data import dicom, emidec
from cascade_jax.data.dicom_report import AHA_SEGMENTS, structured_report
from cascade_jax.data.dicom_segmentation import PRIVATE_SCHEME, segmentation
from cascade_jax.quantify import quantify
from cascade_jax.quantify.aha import SEGMENT_NAMES
from cascade_jax.report.figures import LABEL_COLOURS
from tests.data.dicom_results import Reader, figures, measure
from tests.data.dicom_series import DISTANCE, choose, write_classic, write_enhanced

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


def read_back(report):
    file = io.BytesIO()
    report.save_as(file)
    return highdicom.sr.srread(io.BytesIO(file.getvalue()))


def datasets_in(dataset):
    """A dataset and all that lie in its sequences."""
    yield dataset
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            yield from datasets_in(item)


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_structured_report_has_the_numbers_and_refers_to_the_segments(case, tmp_path, enhanced):
    if enhanced:
        write_enhanced(tmp_path / "one", case, list(range(len(case.image))))
    else:
        write_classic(tmp_path, case)
    series = choose(tmp_path)
    labels = case.labels.copy()  # without no-reflow: a segment that has no voxel
    labels[2:4][labels[2:4] == 2] = 3
    segmented, measured = segmentation(series, labels, LABEL_COLOURS), measure(labels, case)
    report = structured_report(series, segmented, labels, case.spacing, measured)
    dicom.write_dataset(tmp_path / "report.dcm", report)
    read = highdicom.sr.srread(tmp_path / "report.dcm")
    assert read.StudyInstanceUID == "1.2.3.4"
    groups = read.content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == [
        "Cavity of left ventricle",
        "Normal Myocardium",
        "Infarct without no-reflow",
    ]
    assert {group.referenced_segment.referenced_sop_instance_uid for group in groups} == {segmented.SOPInstanceUID}
    (cavity,) = groups[0].get_measurements()
    assert (cavity.value, cavity.unit.value) == (round(measured["cavity_ml"], 1), "ml")
    found = figures(read)
    assert found["Microvascular obstruction (no-reflow)"] == {"Volume": 0, "Mass": 0, "Share of the myocardium": 0}
    infarct = found["Infarct"]
    assert infarct["Mass"] == round(measured["infarct_g"], 1)
    assert infarct["Share of the myocardium"] == round(measured["infarct_percent"], 1)
    assert infarct["Transmurality of the infarct, Maximum"] == round(measured["transmurality_max_percent"], 1)
    assert 0 < infarct["Transmurality of the infarct, Mean"] <= infarct["Transmurality of the infarct, Maximum"]
    assert infarct["Endocardium that the infarct touches"] == round(measured["infarct_endocardium_cm2"], 1)
    units = {
        measurement.name.meaning: measurement.unit.value
        for group in read.content.get_image_measurement_groups()
        for measurement in group.get_measurements()
    }
    assert units == {
        "Volume": "ml",
        "Mass": "g",
        "Share of the myocardium": "%",
        "Transmurality of the infarct": "%",
        "Endocardium that the infarct touches": "cm2",
        "Infarct, share of the endocardium": "%",
    }


def test_the_standards_codes_say_what_is_measured_where_it_has_them(case, tmp_path):
    write_classic(tmp_path, case)
    report = read_back(structured_report(choose(tmp_path), None, case.labels, case.spacing, measure(case.labels, case)))
    groups = {group.finding_type.meaning: group for group in report.content.get_image_measurement_groups()}
    myocardium, infarct = groups["Left Ventricle Myocardium"], groups["Infarct"]
    # SNOMED CT: myocardium of left ventricle, left ventricle; infarct; mass (quantity).
    assert (myocardium.finding_type.scheme_designator, myocardium.finding_type.value) == ("SCT", "49848007")
    assert [site.value.value for site in myocardium.finding_sites] == ["87878005"]
    assert [site.value.value for site in infarct.finding_sites] == ["49848007"]
    assert (infarct.finding_type.scheme_designator, infarct.finding_type.value) == ("SCT", "55641003")
    for group in (myocardium, infarct):
        assert "118538004" in {measurement.name.value for measurement in group.get_measurements()}
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    private = {
        element.CodeValue
        for element in datasets_in(report)
        if element.get("CodingSchemeDesignator") == PRIVATE_SCHEME and "CodeValue" in element
    }
    assert private
    for code in private:
        assert f"`{code}`" in page, "private codes are told to who reads the objects"


def test_aha_segments_are_dicoms_own_list():
    assert sorted(AHA_SEGMENTS) == sorted(SEGMENT_NAMES)
    assert set(AHA_SEGMENTS.values()) == {getattr(codes.CID3717, name) for name in codes.CID3717.dir()}
    for number, code in AHA_SEGMENTS.items():
        ring, _, place = SEGMENT_NAMES[number].partition(" ")
        expected = "Apex of left ventricle" if place == "cap" else f"left ventricle {ring} {place} segment"
        assert code.meaning == expected


@pytest.mark.parametrize(("counted_from", "reported"), [("right ventricle", True), ("given", True), ("x axis", False)])
def test_segments_are_reported_where_they_lie_where_their_names_say(case, tmp_path, counted_from, reported):
    write_classic(tmp_path, case)
    labels = np.where(
        (case.labels == 2) & (np.arange(case.labels.shape[2]) < case.labels.shape[2] // 2), 3, case.labels
    )
    found = quantify(emidec.to_file_axes(labels.astype(np.uint8)), case.spacing[::-1], insertion=0.0)
    measured = found.case | {"segments_from": counted_from}
    report = structured_report(choose(tmp_path), None, labels, case.spacing, measured, found.segments)
    values = figures(read_back(report))
    segments = {row["segment"]: values.get(AHA_SEGMENTS[row["segment"]].value) for row in found.segments}
    assert len(segments) == 16
    if not reported:
        assert set(segments.values()) == {None}
        return
    assert sum(values["Mass"] for values in segments.values()) == pytest.approx(values["Infarct"]["Mass"], rel=0.02)
    for row in found.segments:
        share = segments[row["segment"]]["Share of the myocardium"]
        assert share == pytest.approx(row["infarct_percent"], abs=0.06)


def test_the_figures_of_a_report_add_up_for_one_who_knows_no_labels(case, tmp_path):
    write_classic(tmp_path / "in", case)
    labels = case.labels.copy()
    labels[1:4][labels[1:4] == 2] = 3
    labels[2][labels[2] == 3] = 4
    predict_series(Reader(labels), tmp_path / "in", tmp_path / "out", "one", None)
    report = highdicom.sr.srread(tmp_path / "out" / "one" / "one.sr.dcm")
    voxel = DISTANCE * case.spacing[1] * case.spacing[2] / 1000
    normal, infarct, no_reflow = (np.count_nonzero(labels == label) * voxel for label in (2, 3, 4))
    assert min(normal, infarct, no_reflow) > 1
    found = figures(report)
    assert found["Normal Myocardium"]["Volume"] == round(normal, 1)
    assert found["Left Ventricle Myocardium"]["Volume"] == round(normal + infarct + no_reflow, 1)
    assert found["Infarct"]["Volume"] == round(infarct + no_reflow, 1)
    assert found["Infarct without no-reflow"]["Volume"] == round(infarct, 1)
    assert found["Microvascular obstruction (no-reflow)"]["Volume"] == round(no_reflow, 1)
    assert found["Cavity of left ventricle"]["Volume"] == round(np.count_nonzero(labels == 1) * voxel, 1)
    assert found["Left Ventricle Myocardium"]["Mass"] == pytest.approx(1.05 * (normal + infarct + no_reflow), abs=0.06)
    assert found["Infarct"]["Mass"] == pytest.approx(1.05 * (infarct + no_reflow), abs=0.06)
    assert found["Microvascular obstruction (no-reflow)"]["Mass"] == pytest.approx(1.05 * no_reflow, abs=0.06)
    share = 100 * (infarct + no_reflow) / (normal + infarct + no_reflow)
    assert found["Infarct"]["Share of the myocardium"] == round(share, 1)
    stated = found["Left ventricle"]
    assert stated["Expected Dice of the infarct"] == 0.5
    assert stated["Probability of an infarct"] == 0.9
    interval = [stated[f"Mass of the infarct, 90 % interval, {end} end"] for end in ("lower", "upper")]
    assert interval == [round(1.05 * 8, 1), round(1.05 * 16, 1)]
    for values in found.values():
        assert all(len(f"{value:.10g}".partition(".")[2]) <= 2 for value in values.values())


def test_a_doubtful_case_is_told_from_others_by_a_comment(case, tmp_path):
    write_classic(tmp_path / "in", case)
    for name, dice, comments in (("sure", 0.9, []), ("doubtful", 0.7, ["Doubtful: low-confidence: it is dark"])):
        predict_series(Reader(case.labels, dice), tmp_path / "in", tmp_path / "out", name, None)
        report = highdicom.sr.srread(tmp_path / "out" / name / f"{name}.sr.dcm")
        *_, ventricle = report.content.get_image_measurement_groups()
        assert [item.TextValue for item in ventricle[0].ContentSequence if item.name.meaning == "Comment"] == comments


def test_a_series_without_identity_becomes_a_segmentation_and_a_report(case, tmp_path):
    write_classic(tmp_path, case)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"):
            delattr(dataset, name)
        del dataset.AccessionNumber, dataset.StudyTime, dataset.ReferringPhysicianName
        dataset.save_as(path)
    series = choose(tmp_path)
    segmented = segmentation(series, case.labels, LABEL_COLOURS)
    measured = measure(case.labels, case)
    report = structured_report(series, segmented, case.labels, case.spacing, measured)
    dicom.write_dataset(tmp_path / "report.dcm", report)
    assert str(pydicom.dcmread(tmp_path / "report.dcm").PatientName) == ""
