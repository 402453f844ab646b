"""DICOM segmentations lie where the labels lie and refer to their source."""

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from cascade_jax.commands.dicom import predict_series
from cascade_jax.data import dicom
from cascade_jax.data.dicom_report import structured_report
from cascade_jax.data.dicom_segmentation import segmentation
from cascade_jax.report.figures import LABEL_COLOURS
from tests.data.dicom_results import Reader, measure
from tests.data.dicom_series import (
    ACROSS,
    DISTANCE,
    DOWN,
    NORMAL,
    PATIENT,
    check,
    choose,
    position,
    write_breath_holds,
    write_classic,
    write_enhanced,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_segmentation_refers_to_its_source_and_lies_where_the_labels_lie(case, tmp_path, enhanced):
    if enhanced:
        (tmp_path / "in").mkdir()
        write_enhanced(tmp_path / "in" / "one", case, list(range(len(case.image)))[::-1])
    else:
        write_classic(tmp_path / "in", case)
    series = choose(tmp_path / "in")
    dicom.write_dataset(tmp_path / "labels.dcm", segmentation(series, case.labels, LABEL_COLOURS))
    read = highdicom.seg.segread(tmp_path / "labels.dcm")
    assert [read.get_segment_description(number).segment_label for number in read.segment_numbers] == [
        "cavity",
        "normal myocardium",
        "infarction without no-reflow",
        "no-reflow",
    ]
    assert read.get_segment_description(1).segmented_property_type.meaning == "Cavity of left ventricle"
    assert read.get_segment_description(2).segmented_property_type.meaning == "Normal Myocardium"
    assert read.get_segment_description(3).segmented_property_type.meaning == "Infarct without no-reflow"
    for label, colour in LABEL_COLOURS.items():
        shown = read.get_segment_description(label).RecommendedDisplayCIELabValue
        levels = highdicom.color.CIELabColor.from_dicom_value(tuple(shown)).to_rgb()
        np.testing.assert_allclose(levels, list(bytes.fromhex(colour[1:])), atol=2)
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


def test_private_codes_say_whose_they_are(case, tmp_path):
    write_classic(tmp_path / "in", case)
    predict_series(Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None)
    for ending in ("seg", "sr"):
        dataset = pydicom.dcmread(tmp_path / "out" / "one" / f"one.{ending}.dcm")
        used = {element.value for element in dataset.iterall() if element.keyword == "CodingSchemeDesignator"}
        (scheme,) = dataset.CodingSchemeIdentificationSequence
        assert scheme.CodingSchemeDesignator == "99CASCADE"
        assert scheme.CodingSchemeName == scheme.CodingSchemeResponsibleOrganization == "cascade_jax"
        assert {name for name in used if name.startswith("99")} <= {"99CASCADE"}


def objects(case, folder, **fields):
    """Segmentation and report of a series with other attributes, read back, and what was said."""
    write_classic(folder / "in", case, **fields)
    lines, left_out = predict_series(Reader(case.labels), folder / "in", folder / "out", "one", None)
    assert not left_out
    assert (folder / "out" / "one" / "Contours" / "one.nii.gz").exists()
    segmented = highdicom.seg.segread(folder / "out" / "one" / "one.seg.dcm")
    return segmented, highdicom.sr.srread(folder / "out" / "one" / "one.sr.dcm"), lines[:-1]


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 999", "Muller^Jorg"),
        (None, ""),
    ],
)
def test_a_patient_of_any_script_keeps_the_name(case, tmp_path, characters, name):
    fields = {"PatientName": name or None} | ({"SpecificCharacterSet": characters} if characters else {})
    segmented, report, lines = objects(case, tmp_path, **fields)
    assert not lines
    assert str(segmented.PatientName) == str(report.PatientName) == name


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "U"),
        ("PatientSex", "Withheld"),
        ("PatientBirthDate", "ANON"),
        ("StudyDate", "REMOVED"),
        ("StudyDate", "20201399"),
        ("StudyTime", "nn:nn"),
        ("PatientAge", "ANON"),
        ("PatientID", ["withheld", "here"]),
    ],
)
def test_an_attribute_against_the_standard_is_left_empty_and_named_without_its_value(case, tmp_path, keyword, value):
    segmented, report, (line,) = objects(case, tmp_path, **{keyword: value})
    assert line == f"left empty in the DICOM objects, since the series has no valid value: {keyword}"
    assert not segmented.get(keyword)
    assert not report.get(keyword)
    assert str(segmented.PatientName) == "^".join(PATIENT[:2])


@pytest.mark.parametrize(
    "fields",
    [
        {"ImageOrientationPatient": lambda index: [*(ACROSS + 1e-6 * index), *DOWN]},
        {"ImageOrientationPatient": lambda index: [*ACROSS, *(DOWN - 1e-5 * (index % 2))]},
        {"PixelSpacing": lambda index: [1.5625, 1.5625] if index else [1.5624, 1.5626]},
        {"SliceThickness": None},
        {"SeriesNumber": 2**31 - 1},
        {"SeriesNumber": None},
        {"Modality": None},
        {"StudyTime": "120000.123456", "PatientID": "x" * 80},
    ],
)
def test_what_files_round_otherwise_or_lack_does_not_stand_against_a_segmentation(case, tmp_path, fields):
    segmented, _, lines = objects(case, tmp_path, **fields)
    assert not lines
    (groups,) = segmented.SharedFunctionalGroupsSequence
    assert groups.PixelMeasuresSequence[0].SpacingBetweenSlices == pytest.approx(DISTANCE)
    directions = np.array(groups.PlaneOrientationSequence[0].ImageOrientationPatient)
    np.testing.assert_allclose(directions, [*ACROSS, *DOWN], atol=1e-4)


def test_a_segmentation_of_frames_with_a_geometry_each(case, tmp_path):
    (tmp_path / "in").mkdir()
    write_enhanced(tmp_path / "in" / "one", case, list(range(len(case.image)))[::-1], by_frame=True)
    lines, left_out = predict_series(Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None)
    assert (len(lines), left_out) == (1, [])
    read = highdicom.seg.segread(tmp_path / "out" / "one" / "one.seg.dcm")
    found = read.get_pixels_by_source_frame(
        pydicom.dcmread(tmp_path / "in" / "one").SOPInstanceUID,
        list(range(1, len(case.image) + 1)),
        combine_segments=True,
        ignore_spatial_locations=True,
    )
    np.testing.assert_array_equal(found[::-1], case.labels)


def test_a_series_for_every_breath_hold_is_one_stack(case, tmp_path):
    write_breath_holds(tmp_path / "in", case)
    long_axis = (np.array([0.6, 0.0, -0.8]), np.array([0.48, -0.8, 0.36]))
    write_classic(tmp_path / "in", case, 40, skip=range(1, 20), directions=long_axis)
    series, (line,) = dicom.choose_series(tmp_path / "in")
    assert series.name == f"series 5 to {4 + len(case.image)}"
    assert line == "skipped series 40, which has fewer slices"
    assert choose(tmp_path / "in", 6).name == series.name
    check(dicom.read_series(tmp_path, series, "case"), case)

    segmented = segmentation(series, case.labels, LABEL_COLOURS)
    dicom.write_dataset(tmp_path / "labels.dcm", segmented)
    read = highdicom.seg.segread(tmp_path / "labels.dcm")
    referenced = {item.SeriesInstanceUID for item in read.ReferencedSeriesSequence}
    assert referenced == {one.dataset.SeriesInstanceUID for one in series.slices}
    assert len(referenced) == len(case.image)
    sources = [one.dataset.SOPInstanceUID for one in series.slices]
    found = read.get_pixels_by_source_instance(sources, combine_segments=True)
    np.testing.assert_array_equal(found, case.labels)
    report = structured_report(series, segmented, case.labels, case.spacing, measure(case.labels, case))
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert referenced < {item.SeriesInstanceUID for item in evidence.ReferencedSeriesSequence}
