"""The figures of a structured report."""

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from cascade_jax.commands.dicom import predict_series
from cascade_jax.data import dicom
from cascade_jax.data.dicom_report import structured_report
from cascade_jax.data.dicom_segmentation import segmentation
from cascade_jax.report.figures import LABEL_COLOURS
from tests.data.dicom_results import Reader, figures, measure
from tests.data.dicom_series import DISTANCE, choose, write_classic, write_enhanced

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


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
    *_, ventricle = read.content.get_image_measurement_groups()
    assert ventricle.finding_type.meaning == "Left ventricle"
    assert ventricle.finding_type.value not in {group.finding_type.value for group in groups}
    found = {measurement.name.value: measurement for measurement in ventricle.get_measurements()}
    assert found["infarct_mass"].value == round(measured["infarct_g"], 1)
    assert found["infarct_share"].value == round(measured["infarct_percent"], 1)
    assert found["infarct_share"].unit.value == "%"
    assert found["no_reflow_mass"].value == 0
    assert found["transmurality_max"].value == round(measured["transmurality_max_percent"], 1)
    assert 0 < found["transmurality_mean"].value <= found["transmurality_max"].value
    assert found["infarct_endocardium_area"].value == round(measured["infarct_endocardium_cm2"], 1)
    assert found["infarct_endocardium_area"].unit.value == "cm2"


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
    ventricle = found["Left ventricle"]
    assert found["Left Ventricle Myocardium"]["Mass"] == ventricle["Mass of the left ventricular myocardium"]
    assert found["Infarct"]["Mass"] == ventricle["Mass of the infarct, no-reflow included"]
    assert found["Infarct"]["Mass"] == pytest.approx(1.05 * found["Infarct"]["Volume"], abs=0.11)
    share = 100 * (infarct + no_reflow) / (normal + infarct + no_reflow)
    assert ventricle["Infarct, share of the myocardium"] == round(share, 1)
    assert ventricle["Expected Dice of the infarct's outline"] == 0.5
    assert ventricle["Probability of an infarct"] == 0.9
    interval = [ventricle[f"Mass of the infarct, {end} end of the 90 % interval"] for end in ("lower", "upper")]
    assert interval == [round(1.05 * 8, 1), round(1.05 * 16, 1)]
    for values in found.values():
        assert all(len(f"{value:.10g}".partition(".")[2]) <= 2 for value in values.values())


def test_a_doubtful_case_is_told_from_others_by_a_comment(case, tmp_path):
    write_classic(tmp_path / "in", case)
    for name, dice, comments in (("sure", 0.9, []), ("doubtful", 0.7, ["Doubtful: it is dark"])):
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
