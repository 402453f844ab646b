"""DICOM series in, DICOM segmentations out, on files made here from a phantom."""

import dataclasses
import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from dicom_series import (  # noqa: E402
    ACROSS,
    DISTANCE,
    DOWN,
    NORMAL,
    position,
    write_classic,
    write_enhanced,
    write_localizer,
)

from cascade_jax.data import dicom, emidec, phantom  # noqa: E402
from cascade_jax.data.case import CaseError  # noqa: E402
from cascade_jax.data.dicom_report import structured_report  # noqa: E402
from cascade_jax.data.dicom_segmentation import segmentation  # noqa: E402
from cascade_jax.quantify import volumes  # noqa: E402


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    phantom.write_cohort(root, 1, 3, field_of_view_mm=90)
    return emidec.read_case(emidec.find_cases(root)[0])


def check(read, case):
    np.testing.assert_allclose(read.image, case.image, atol=0.26)
    assert read.spacing == pytest.approx((DISTANCE, *case.spacing[1:]), rel=1e-4)
    # NIfTI's world is RAS: the last voxel of the last slice, by hand.
    depth, height, width = (size - 1 for size in case.image.shape)
    lps = np.array(position(depth)) + ACROSS * width * case.spacing[2] + DOWN * height * case.spacing[1]
    world = read.header.get_best_affine() @ [width, height, depth, 1]
    np.testing.assert_allclose(world[:3], lps * [-1, -1, 1], atol=1e-2)


def test_a_shuffled_series_among_others_is_found_and_sorted_by_position(case, tmp_path):
    write_classic(tmp_path / "in" / "deep", case)
    write_classic(tmp_path / "in", case, 6, "two slices", skip=range(2, 20))
    write_localizer(tmp_path / "in")
    (tmp_path / "in" / "README").write_text("no DICOM")
    series = dicom.choose_series(tmp_path / "in")
    assert series.description == "series 5 (PSIR)"
    check(dicom.read_series(tmp_path, series, "case"), case)
    assert len(dicom.choose_series(tmp_path / "in", 6).slices) == 2


def test_a_zip_archive_is_read_like_a_folder(case, tmp_path):
    write_classic(tmp_path / "in", case)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in (tmp_path / "in").iterdir():
            archive.write(path, f"any/where/{path.name}")
    check(dicom.read_series(tmp_path, dicom.choose_series(tmp_path / "scan.zip"), "case"), case)


def test_a_damaged_archive_is_named(case, tmp_path):
    write_classic(tmp_path / "in", case)
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(next((tmp_path / "in").iterdir()), "one")
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"scan\.zip: cannot be read: Bad CRC"):
        dicom.choose_series(path)


def test_an_enhanced_multi_frame_file_is_read_in_the_order_of_its_positions(case, tmp_path):
    order = list(np.random.default_rng(0).permutation(len(case.image)))
    write_enhanced(tmp_path / "enhanced.dcm", case, order)
    check(dicom.read_series(tmp_path, dicom.choose_series(tmp_path), "case"), case)


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_segmentation_refers_to_its_source_and_lies_where_the_labels_lie(case, tmp_path, enhanced):
    if enhanced:
        (tmp_path / "in").mkdir()
        write_enhanced(tmp_path / "in" / "one", case, list(range(len(case.image)))[::-1])
    else:
        write_classic(tmp_path / "in", case)
    series = dicom.choose_series(tmp_path / "in")
    dicom.write_dataset(tmp_path / "labels.dcm", segmentation(series, case.labels))
    read = highdicom.seg.segread(tmp_path / "labels.dcm")
    assert [read.get_segment_description(number).segment_label for number in read.segment_numbers] == [
        "cavity",
        "myocardium",
        "infarction",
        "no-reflow",
    ]
    assert read.get_segment_description(3).segmented_property_type.value == "55641003"
    assert read.StudyInstanceUID == "1.2.3.4"
    source = series.slices[0].dataset
    assert read.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    found = np.zeros(case.labels.shape, np.uint8)
    for frame in range(int(read.NumberOfFrames)):
        groups = read.PerFrameFunctionalGroupsSequence[frame]
        place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        index = round((place - np.array(position(0))) @ NORMAL / DISTANCE)
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[index][read.pixel_array[frame] > 0] = number
    np.testing.assert_array_equal(found, case.labels)


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_structured_report_has_the_numbers_and_refers_to_the_segments(case, tmp_path, enhanced):
    if enhanced:
        write_enhanced(tmp_path / "one", case, list(range(len(case.image))))
    else:
        write_classic(tmp_path, case)
    series = dicom.choose_series(tmp_path)
    labels = case.labels.copy()  # without no-reflow: a segment that has no voxel
    labels[2:4][labels[2:4] == 2] = 3
    segmented, measured = segmentation(series, labels), volumes(emidec.to_file_axes(labels), case.spacing[::-1])
    report = structured_report(series, segmented, labels, case.spacing, measured)
    dicom.write_dataset(tmp_path / "report.dcm", report)
    read = highdicom.sr.srread(tmp_path / "report.dcm")
    assert read.StudyInstanceUID == "1.2.3.4"
    groups = read.content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == ["Left ventricle", "Myocardium", "Infarct"]
    assert {group.referenced_segment.referenced_sop_instance_uid for group in groups} == {segmented.SOPInstanceUID}
    (cavity,) = groups[0].get_measurements()
    assert (cavity.value, cavity.unit.value) == (pytest.approx(measured["cavity_ml"]), "ml")
    (heart,) = read.content.get_image_measurement_groups()
    found = {measurement.name.value: measurement for measurement in heart.get_measurements()}
    assert found["infarct_mass"].value == pytest.approx(measured["infarct_g"])
    assert found["infarct_share"].value == pytest.approx(measured["infarct_percent"])
    assert found["infarct_share"].unit.value == "%"
    assert found["no_reflow_mass"].value == 0


def test_what_is_no_stack_is_passed_over_for_one_that_is(case, tmp_path):
    write_classic(tmp_path, case)
    write_classic(tmp_path / "seg", case, 6, Modality="SEG")
    axial = dataclasses.replace(case, image=np.tile(case.image, (3, 1, 1)))
    write_classic(tmp_path / "axial", axial, 7, "HASTE", directions=(np.eye(3)[0], np.eye(3)[1]))
    cine = dataclasses.replace(case, image=np.repeat(case.image, 2, axis=0))
    write_classic(tmp_path / "cine", cine, 8, "cine", order=np.repeat(np.arange(len(case.image)), 2))
    assert dicom.choose_series(tmp_path).description == "series 5 (PSIR)"
    assert dicom.choose_series(tmp_path, 7).description == "series 7 (HASTE)"
    with pytest.raises(CaseError, match=r"series 8 \(cine\) has several images at one position"):
        dicom.choose_series(tmp_path, 8)


def test_a_series_without_identity_becomes_a_segmentation_and_a_report(case, tmp_path):
    write_classic(tmp_path, case)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"):
            delattr(dataset, name)
        del dataset.AccessionNumber, dataset.StudyTime, dataset.ReferringPhysicianName
        dataset.save_as(path)
    series = dicom.choose_series(tmp_path)
    segmented = segmentation(series, case.labels)
    measured = volumes(emidec.to_file_axes(case.labels), case.spacing[::-1])
    report = structured_report(series, segmented, case.labels, case.spacing, measured)
    dicom.write_dataset(tmp_path / "report.dcm", report)
    assert str(pydicom.dcmread(tmp_path / "report.dcm").PatientName) == ""


def test_a_single_frame_in_an_enhanced_file_is_an_image(case, tmp_path):
    write_enhanced(tmp_path / "one", case, [2])
    read = dicom.read_series(tmp_path, dicom.choose_series(tmp_path), "case")
    np.testing.assert_allclose(read.image, case.image[2:3], atol=0.26)


def test_faults_are_named(case, tmp_path):
    with pytest.raises(CaseError, match="no such file"):
        dicom.choose_series(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CaseError, match="neither a folder nor a zip"):
        dicom.choose_series(tmp_path / "text")
    (tmp_path / "localizers").mkdir()
    write_localizer(tmp_path / "localizers")
    with pytest.raises(CaseError, match="localisers"):
        dicom.choose_series(tmp_path / "localizers")
    write_classic(tmp_path / "gap", case, skip=(2,))
    with pytest.raises(CaseError, match="lacks a slice"):
        dicom.choose_series(tmp_path / "gap")
    write_classic(tmp_path / "two", case)
    write_classic(tmp_path / "two", case, 6)
    with pytest.raises(CaseError, match=r"give a number: series 5 \(PSIR\)"):
        dicom.choose_series(tmp_path / "two")
    with pytest.raises(CaseError, match="no stack in series 9"):
        dicom.choose_series(tmp_path / "two", 9)
    write_classic(tmp_path / "phases", case, ImagePositionPatient=position(0))
    with pytest.raises(CaseError, match="several images at one position"):
        dicom.choose_series(tmp_path / "phases")
    write_classic(tmp_path / "identity", case, FrameOfReferenceUID="")
    with pytest.raises(CaseError, match="without FrameOfReferenceUID"):
        dicom.choose_series(tmp_path / "identity")
