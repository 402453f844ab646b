"""DICOM series in, DICOM segmentations out, on files made here from a phantom."""

import csv
import dataclasses
import sys
import types
import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from dicom_series import (
    ACROSS,
    DISTANCE,
    DOWN,
    NORMAL,
    PATIENT,
    position,
    write_breath_holds,
    write_classic,
    write_enhanced,
    write_localizer,
)

from cascade_jax.cascade import Segmentation
from cascade_jax.commands.dicom import predict_series
from cascade_jax.data import dicom, emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.data.dicom_report import structured_report
from cascade_jax.data.dicom_segmentation import segmentation
from cascade_jax.data.labels import EMIDEC
from cascade_jax.phantoms import simulated
from cascade_jax.quantify.quantities import quantify
from cascade_jax.report.figures import LABEL_COLOURS
from launch import dicom_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    simulated.write_cohort(root, 1, 3, field_of_view_mm=90)
    return emidec.read_case(folders.find_cases(root)[0])


def choose(source, number=None):
    return dicom.choose_series(source, number)[0]


def measure(labels, case):
    return quantify(emidec.to_file_axes(labels), case.spacing[::-1]).case


def change(path, **fields):
    dataset = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


class Reader:
    """Stands in for a cascade: has the labels already."""

    plan = types.SimpleNamespace(labels=EMIDEC)

    def __init__(self, labels, myocardium=0.9):
        self.labels, self.expected = labels, {"myocardium": myocardium, "infarction": 0.5, "no_reflow": np.nan}

    def segment_case(self, case, *, details):
        assert details
        return Segmentation(self.labels, np.eye(5, dtype=np.float32)[self.labels], None, self.expected)


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
    series = choose(tmp_path / "in")
    assert series.name == "series 5"
    check(dicom.read_series(tmp_path, series, "case"), case)
    assert len(choose(tmp_path / "in", 6).slices) == 2


def test_a_zip_archive_is_read_like_a_folder(case, tmp_path):
    write_classic(tmp_path / "in", case)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in (tmp_path / "in").iterdir():
            archive.write(path, f"any/where/{path.name}")
    check(dicom.read_series(tmp_path, choose(tmp_path / "scan.zip"), "case"), case)


def test_a_damaged_archive_is_named(case, tmp_path):
    write_classic(tmp_path / "in", case)
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(next((tmp_path / "in").iterdir()), "one")
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"scan\.zip: cannot be read: it is encrypted or damaged"):
        choose(path)


def test_an_enhanced_multi_frame_file_is_read_in_the_order_of_its_positions(case, tmp_path):
    order = list(np.random.default_rng(0).permutation(len(case.image)))
    write_enhanced(tmp_path / "enhanced.dcm", case, order)
    check(dicom.read_series(tmp_path, choose(tmp_path), "case"), case)


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


def figures(report):
    """{what: {measurement: value}} of every group of a report; a name of two groups would be a mistake."""
    content = report.content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    found = {group.finding_type.meaning: group.get_measurements() for group in groups}
    assert len(found) == len(groups)
    return {kind: {one.name.meaning: one.value for one in measurements} for kind, measurements in found.items()}


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
    assert found["Left Ventricle Myocardium"]["Mass"] == ventricle["Mass of the left ventricular muscle"]
    assert found["Infarct"]["Mass"] == ventricle["Mass of the infarct, no-reflow included"]
    assert found["Infarct"]["Mass"] == pytest.approx(1.05 * found["Infarct"]["Volume"], abs=0.11)
    share = 100 * (infarct + no_reflow) / (normal + infarct + no_reflow)
    assert ventricle["Infarct, share of the muscle"] == round(share, 1)
    for values in found.values():
        assert all(len(f"{value:.10g}".partition(".")[2]) <= 2 for value in values.values())


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

    monkeypatch.setattr("cascade_jax.commands.dicom.quantify", fail)
    monkeypatch.setattr("cascade_jax.commands.dicom.draw_case", fail)
    write_classic(tmp_path / "in", case)
    assert dicom_series.segment(lambda: Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None) == 1
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
    assert dicom_series.segment(lambda: Reader(case.labels), tmp_path / "in", tmp_path / "out", "one", None) == 0
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


def test_what_is_no_stack_is_passed_over_for_one_that_is(case, tmp_path):
    write_classic(tmp_path, case)
    write_classic(tmp_path / "seg", case, 6, Modality="SEG")
    axial = dataclasses.replace(case, image=np.tile(case.image, (3, 1, 1)))
    write_classic(tmp_path / "axial", axial, 7, "HASTE", directions=(np.eye(3)[0], np.eye(3)[1]))
    cine = dataclasses.replace(case, image=np.repeat(case.image, 2, axis=0))
    write_classic(tmp_path / "cine", cine, 8, "cine", order=np.repeat(np.arange(len(case.image)), 2))
    assert choose(tmp_path).name == "series 5"
    assert choose(tmp_path, 7).name == "series 7"
    with pytest.raises(CaseError, match="series 8 has several images at one position"):
        choose(tmp_path, 8)


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


def test_a_single_slice_is_as_thick_as_its_file_says(case, tmp_path):
    write_enhanced(tmp_path / "one", case, [2])
    read = dicom.read_series(tmp_path, choose(tmp_path), "case")
    np.testing.assert_allclose(read.image, case.image[2:3], atol=0.26)
    assert read.spacing[0] == 8  # in the shared functional groups
    others = range(1, len(case.image))
    write_classic(tmp_path / "thick", case, skip=others)
    assert choose(tmp_path / "thick").slice_distance == 8
    write_classic(tmp_path / "distant", case, skip=others, SpacingBetweenSlices=10)
    assert choose(tmp_path / "distant").slice_distance == 10
    write_classic(tmp_path / "neither", case, skip=others, SliceThickness=None)
    with pytest.raises(CaseError, match="series 5 is one slice without SpacingBetweenSlices or SliceThickness"):
        choose(tmp_path / "neither")


@pytest.mark.parametrize(
    "field, value",
    [
        ("PixelSpacing", [1.5]),
        ("PixelSpacing", [0, 1.5]),
        ("PixelSpacing", [-1.5, 1.5]),
        ("PixelSpacing", ["nan", 1.5]),
        ("ImagePositionPatient", [3.25, 4.75]),
        ("ImagePositionPatient", ["inf", 4.75, 3.25]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1]),
        ("ImageOrientationPatient", [3.25, 0, 0, 0, 1, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0.6, 0.8, 0]),
    ],
)
def test_a_place_that_cannot_be_is_named_and_not_quoted(case, tmp_path, field, value):
    write_classic(tmp_path, case)
    path = sorted(tmp_path.iterdir())[3]
    change(path, **{field: value})
    with pytest.raises(CaseError, match=rf"{path.name}: its {field} is not") as caught:
        choose(tmp_path)
    assert not any(str(number) in caught.value.fault for number in (1.5, 3.25, 4.75, 0.6))


def test_words_in_place_of_numbers_are_not_quoted(case, tmp_path):
    write_classic(tmp_path, case)
    path = sorted(tmp_path.iterdir())[3]
    content = path.read_bytes()
    at = content.index(b"\x28\x00\x30\x00DS") + 8  # the pixel spacing
    path.write_bytes(content[:at] + b"Quick" + content[at + 5 :])
    with pytest.raises(CaseError, match=rf"{path.name}: its PixelSpacing is not 2 finite numbers$"):
        choose(tmp_path)


def test_a_multi_frame_file_has_a_place_for_every_frame(case, tmp_path):
    write_enhanced(tmp_path / "one", case, list(range(len(case.image))))
    change(tmp_path / "one", PerFrameFunctionalGroupsSequence=[])
    with pytest.raises(CaseError, match="one: has not one functional group for every frame"):
        choose(tmp_path)
    write_enhanced(tmp_path / "one", case, list(range(len(case.image))))
    change(tmp_path / "one", NumberOfFrames=len(case.image) + 1)
    with pytest.raises(CaseError, match="one: "):
        choose(tmp_path)


@pytest.mark.parametrize("kept", [135, 320, 500, 800, 1100, -2])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_breaks_off_is_named_and_not_left_out(case, tmp_path, kept, zipped):
    write_classic(tmp_path / "in", case)
    path = sorted((tmp_path / "in").iterdir())[0]
    path.write_bytes(path.read_bytes()[:kept])
    source = tmp_path / "in"
    if zipped:
        source = tmp_path / "scan.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in (tmp_path / "in").iterdir():
                archive.write(file, f"any/{file.name}")
    named = r"scan\.zip/file 1 of \d+" if zipped else f"in/{path.name}"
    with pytest.raises(CaseError, match=f"{named}: is cut off"):
        choose(source)


def test_a_compressed_file_that_breaks_off_is_named(case, tmp_path):
    write_classic(tmp_path, case)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    check(dicom.read_series(tmp_path, choose(tmp_path), "case"), case)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CaseError, match=f"{path.name}: is cut off"):
        choose(tmp_path)


def test_what_a_decoder_says_of_a_file_is_not_quoted(case, tmp_path):
    write_classic(tmp_path, case)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.PixelData = pydicom.encaps.encapsulate([PATIENT[0].encode() * 20])
        dataset.save_as(path)
    with pytest.raises(CaseError, match=r"cannot be decoded \(\w+\)$"):
        dicom.read_series(tmp_path, choose(tmp_path), "case")


def test_files_that_are_there_twice_count_once(case, tmp_path):
    write_classic(tmp_path / "export", case)
    (tmp_path / "copy").mkdir()
    for path in (tmp_path / "export").iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    check(dicom.read_series(tmp_path, choose(tmp_path), "case"), case)
    paths = sorted((tmp_path / "copy").iterdir())
    change(paths[1], SOPInstanceUID=pydicom.dcmread(paths[0]).SOPInstanceUID)
    with pytest.raises(CaseError, match="has the SOPInstanceUID of another image"):
        choose(tmp_path)


def test_a_series_for_every_breath_hold_is_one_stack(case, tmp_path):
    write_breath_holds(tmp_path / "in", case)
    long_axis = (np.array([0.6, 0.0, -0.8]), np.array([0.48, -0.8, 0.36]))
    write_classic(tmp_path / "in", case, 40, skip=range(1, 20), directions=long_axis)
    series, (line,) = dicom.choose_series(tmp_path / "in")
    assert series.name == f"series 5 to {4 + len(case.image)}"
    assert line == "passed over series 40, which has fewer slices"
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


def test_a_stack_with_an_image_without_a_place_is_not_taken_for_whole(case, tmp_path):
    write_classic(tmp_path, case)
    dataset = pydicom.dcmread(tmp_path / "0_5")
    del dataset.ImagePositionPatient
    dataset.save_as(tmp_path / "0_5")
    with pytest.raises(CaseError, match="series 5 has an image without a place in the patient"):
        choose(tmp_path)


def test_what_is_not_oblique_is_taken_only_by_its_number(case, tmp_path):
    write_classic(tmp_path, case, 7, f"scout {PATIENT[0]}", directions=(np.eye(3)[0], np.eye(3)[1]))
    write_localizer(tmp_path)
    with pytest.raises(CaseError) as caught:
        choose(tmp_path)
    assert caught.value.fault == (
        "holds no stack to segment: series 1 is a localiser; series 7 is not oblique, as a short axis is; "
        "give the number of the one that is meant"
    )
    assert len(choose(tmp_path, 7).slices) == len(case.image)


def test_every_series_that_is_passed_over_is_told_by_its_number(case, tmp_path):
    free_text = f"of {PATIENT[0]}"
    write_classic(tmp_path, case, 5, free_text)
    write_classic(tmp_path, case, 6, free_text, skip=range(2, 20))
    write_classic(tmp_path, case, 7, free_text, directions=(np.eye(3)[0], np.eye(3)[1]))
    write_classic(tmp_path, case, 8, free_text, skip=(2,))
    write_classic(tmp_path, case, 9, free_text, ImagePositionPatient=None)
    write_localizer(tmp_path)
    series, lines = dicom.choose_series(tmp_path)
    assert series.name == "series 5"
    assert lines == [
        "passed over series 1, which is a localiser",
        "passed over series 6, which has fewer slices",
        "passed over series 7, which is not oblique, as a short axis is",
        "passed over series 8, which lacks a slice: distances are 11 to 22 mm",
        "passed over series 9, which has an image without a place in the patient",
    ]


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
    assert "doubtful" in lines[-1]
    assert not left_out
    report = highdicom.sr.srread(tmp_path / "out" / "no" / "no.sr.dcm")
    (ventricle,) = report.content.get_image_measurement_groups()
    assert {one.name.value: one.value for one in ventricle.get_measurements()}["cavity_volume"] == 0


def test_the_table_of_expected_dice_keeps_the_other_cases(case, tmp_path):
    write_classic(tmp_path / "in", case)
    for name, dice in (("one", 0.9), ("two", 0.7)):
        lines, _ = predict_series(Reader(case.labels, dice), tmp_path / "in", tmp_path / "out", name, None)
    assert lines[-1].endswith("0.70, doubtful, look at it")
    with (tmp_path / "out" / "expected_dice.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["myocardium"], row["doubtful"]) for row in rows] == [
        ("two", "0.700", "yes"),
        ("one", "0.900", "no"),
    ]
    assert {row["no_reflow"] for row in rows} == {""}
    (tmp_path / "out" / "expected_dice.csv").write_text("case,liver\none,0.9\n")
    with pytest.raises(CaseError, match=r"expected_dice\.csv: is there already"):
        predict_series(Reader(case.labels), tmp_path / "in", tmp_path / "out", "three", None)
    assert not (tmp_path / "out" / "three").exists()


def test_faults_are_named(case, tmp_path):
    with pytest.raises(CaseError, match="no such file"):
        choose(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CaseError, match="neither a folder nor a zip"):
        choose(tmp_path / "text")
    (tmp_path / "localizers").mkdir()
    write_localizer(tmp_path / "localizers")
    with pytest.raises(CaseError, match=r"series 1 is a localiser$"):
        choose(tmp_path / "localizers")
    write_classic(tmp_path / "gap", case, skip=(2,))
    with pytest.raises(CaseError, match="lacks a slice"):
        choose(tmp_path / "gap")
    write_classic(tmp_path / "two", case)
    write_classic(tmp_path / "two", case, 6)
    with pytest.raises(CaseError, match=r"give a number: series 5 \(\d+ slices\), series 6"):
        choose(tmp_path / "two")
    with pytest.raises(CaseError, match=r"no MR images in series 9; it has series 5, series 6$"):
        choose(tmp_path / "two", 9)
    write_classic(tmp_path / "phases", case, ImagePositionPatient=position(0))
    with pytest.raises(CaseError, match="several images at one position"):
        choose(tmp_path / "phases")
    write_classic(tmp_path / "identity", case, SeriesInstanceUID="")
    with pytest.raises(CaseError, match="without SeriesInstanceUID"):
        choose(tmp_path / "identity")
