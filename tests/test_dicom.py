"""DICOM series in, DICOM segmentations out, on files made here from a phantom."""

import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

from cascade_jax.data import dicom, emidec, phantom  # noqa: E402
from cascade_jax.data.case import CaseError  # noqa: E402
from cascade_jax.data.dicom_segmentation import write_segmentation  # noqa: E402

CLASSIC, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
DISTANCE = 11.0
# A double oblique short axis: along a row, along a column, LPS.
ACROSS = np.array([0.8, 0.6, 0.0])
DOWN = np.array([-0.36, 0.48, -0.8])
NORMAL = np.cross(ACROSS, DOWN)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    phantom.write_cohort(root, 1, 3, field_of_view_mm=90)
    return emidec.read_case(emidec.find_cases(root)[0])


def position(index):
    return (np.array([-80.0, 20.0, 33.0]) + index * DISTANCE * NORMAL).round(6).tolist()


def blank(sop_class, series, number, description, shape):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "4711", "19500101"
    dataset.PatientSex, dataset.AccessionNumber, dataset.StudyID = "F", "", "1"
    dataset.StudyDate, dataset.StudyTime, dataset.ReferringPhysicianName = "20200101", "120000", ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", series
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = "1.2.3.4.5", ""
    dataset.SeriesNumber, dataset.SeriesDescription = number, description
    dataset.Modality, dataset.ImageType, dataset.Manufacturer = "MR", ["ORIGINAL", "PRIMARY", "M"], "none"
    dataset.InstanceNumber = 1
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    return dataset


def stored(image):
    return np.rint(image / 0.5 + 100).astype(np.uint16)  # slope 0.5, intercept -50


def write_classic(folder, case, number=5, description="PSIR", skip=(), **fields):
    """One file a slice, named so that their order means nothing; the thickness is not the distance."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for index, plane in enumerate(case.image):
        if index in skip:
            continue
        dataset = blank(CLASSIC, series, number, description, plane.shape)
        dataset.ImagePositionPatient = position(index)
        dataset.ImageOrientationPatient = [*ACROSS, *DOWN]
        dataset.PixelSpacing, dataset.SliceThickness = list(case.spacing[1:]), 8.0
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -50.0
        dataset.PixelData = stored(plane).tobytes()
        for name, value in fields.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / f"{(index * 7) % 11}_{number}", enforce_file_format=True)


def write_localizer(folder):
    write = blank(CLASSIC, generate_uid(), 1, "localizer", (8, 8))
    write.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write.ImagePositionPatient, write.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    write.PixelSpacing, write.PixelData = [1, 1], bytes(128)
    write.save_as(folder / "localizer", enforce_file_format=True)


def write_enhanced(path, case, order):
    dataset = blank(ENHANCED, generate_uid(), 7, "PSIR", case.image.shape[1:])
    dataset.NumberOfFrames = len(order)
    measures, orientation, transformation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(case.spacing[1:]), 8.0
    orientation.ImageOrientationPatient = [*ACROSS, *DOWN]
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 0.5, -50.0, "US"
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([transformation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index in order:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = position(index)
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.PixelData = stored(case.image[order]).tobytes()
    dataset.save_as(path, enforce_file_format=True)


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
    write_segmentation(tmp_path / "labels.dcm", series, case.labels)
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
