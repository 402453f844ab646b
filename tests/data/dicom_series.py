"""Series of DICOM files made from a case, as a scanner would write them but double oblique and in no order, and how
they are read or refused."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cascade_jax.data import dicom, emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.phantoms import simulated

CLASSIC, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
DISTANCE = 11.0
SLICES = 6  # of the simulated case
# A double oblique short axis: along a row, along a column, LPS.
ACROSS = np.array([0.8, 0.6, 0.0])
DOWN = np.array([-0.36, 0.48, -0.8])
NORMAL = np.cross(ACROSS, DOWN)
# Words that the patient is known by, too rare to turn up by chance: names, number and date of birth.
PATIENT = ("Quicksilver", "Josephine", "ID-470815", "19500101")


def position(index, normal=NORMAL):
    return (np.array([-80.0, 20.0, 33.0]) + index * DISTANCE * normal).round(6).tolist()


def blank(sop_class, series, number, description, shape):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "^".join(PATIENT[:2]), *PATIENT[2:]
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


def write_classic(
    folder,
    case,
    number=5,
    description="PSIR",
    skip=(),
    *,
    directions=(ACROSS, DOWN),
    order=None,
    encode=stored,
    series=None,
    **fields,
):
    """One file a slice, named so that their order means nothing; the thickness is not the distance.

    `encode` makes stored pixels of an image, `fields` are attributes of every file, of a slice where they are functions
    of its index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = series or generate_uid()
    for index, plane in enumerate(case.image):
        if index in skip:
            continue
        dataset = blank(CLASSIC, series, number, description, plane.shape)
        dataset.ImagePositionPatient = position(index if order is None else order[index], np.cross(*directions))
        dataset.ImageOrientationPatient = [value for direction in directions for value in direction]
        dataset.PixelSpacing, dataset.SliceThickness = list(case.spacing[1:]), 8.0
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -50.0
        dataset.InstanceNumber = index + 1
        dataset.PixelData = encode(plane).tobytes()
        for name, value in fields.items():
            setattr(dataset, name, value(index) if callable(value) else value)
        dataset.save_as(folder / f"{(index * 7) % 101}_{number}", enforce_file_format=True)


def write_localizer(folder):
    write = blank(CLASSIC, generate_uid(), 1, "localizer", (8, 8))
    write.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write.ImagePositionPatient, write.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    write.PixelSpacing, write.PixelData = [1, 1], bytes(128)
    write.SeriesDescription = f"localizer {PATIENT[0]}"
    write.save_as(folder / "localizer", enforce_file_format=True)


def write_breath_holds(folder, case, number=5):
    """A series for every slice, the later ones numbered on."""
    for index in range(len(case.image)):
        write_classic(folder, case, number + index, skip=set(range(len(case.image))) - {index})


def write_enhanced(path, case, order, *, by_frame=False):
    """All slices in one file; `by_frame` gives each its own voxel size and orientation instead of a shared one."""
    dataset = blank(ENHANCED, generate_uid(), 7, "PSIR", case.image.shape[1:])
    dataset.NumberOfFrames = len(order)
    measures, orientation, transformation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(case.spacing[1:]), 8.0
    orientation.ImageOrientationPatient = [*ACROSS, *DOWN]
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 0.5, -50.0, "US"
    shared = Dataset()
    if not by_frame:
        shared.PixelMeasuresSequence = Sequence([measures])
        shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([transformation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index in order:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = position(index)
        frame.PlanePositionSequence = Sequence([place])
        if by_frame:
            frame.PixelMeasuresSequence = Sequence([measures])
            frame.PlaneOrientationSequence = Sequence([orientation])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.PixelData = stored(case.image[order]).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def simulated_case(root):
    """A small heart, as it is read from its files."""
    simulated.write_cohort(root, 1, 3, field_of_view_mm=90)
    case = emidec.read_case(folders.find_cases(root)[0])
    assert len(case.image) == SLICES
    return case


def choose(source, number=None):
    return dicom.choose_series(source, number)[0]


def change(path, **fields):
    dataset = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def check(read, case):
    np.testing.assert_allclose(read.image, case.image, atol=0.26)
    assert read.spacing == pytest.approx((DISTANCE, *case.spacing[1:]), rel=1e-4)
    # NIfTI's world is RAS: the last voxel of the last slice, by hand.
    depth, height, width = (size - 1 for size in case.image.shape)
    lps = np.array(position(depth)) + ACROSS * width * case.spacing[2] + DOWN * height * case.spacing[1]
    world = read.header.get_best_affine() @ [width, height, depth, 1]
    np.testing.assert_allclose(world[:3], lps * [-1, -1, 1], atol=1e-2)


def read(source):
    series, lines = dicom.choose_series(source)
    return dicom.read_series(source, series, "case"), lines


def refused(source, number=None):
    with pytest.raises(CaseError) as caught:
        dicom.choose_series(source, number)
    assert not any(word in str(caught.value) for word in PATIENT)
    return caught.value.fault
