"""DICOM files that contradict themselves, are incomplete or mean their values otherwise: nothing is silently wrong."""

import os
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.uid import generate_uid

from cascade_jax.data import dicom, dicom_files, emidec, folders
from cascade_jax.data.case import CaseError
from cascade_jax.phantoms import simulated
from tests.data.dicom_series import (
    ACROSS,
    DISTANCE,
    DOWN,
    PATIENT,
    write_breath_holds,
    write_classic,
    write_enhanced,
    write_localizer,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here

SLICES = 6  # of the phantom


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    simulated.write_cohort(root, 1, 3, field_of_view_mm=90)
    case = emidec.read_case(folders.find_cases(root)[0])
    assert len(case.image) == SLICES
    return case


def read(source):
    series, lines = dicom.choose_series(source)
    return dicom.read_series(source, series, "case"), lines


def change(path, **fields):
    dataset = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def refused(source, number=None):
    with pytest.raises(CaseError) as caught:
        dicom.choose_series(source, number)
    assert not any(word in str(caught.value) for word in PATIENT)
    return caught.value.fault


def every(step, case):
    """The slices to leave out so that every second or third remains."""
    return [index for index in range(len(case.image)) if index % step]


# --- slice distance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "fields", "figures"),
    [
        (2, {"SpacingBetweenSlices": 11}, "positions are 22 mm apart, and by SpacingBetweenSlices 11 mm"),
        (3, {"SpacingBetweenSlices": 11}, "positions are 33 mm apart, and by SpacingBetweenSlices 11 mm"),
        (2, {"SliceLocation": lambda index: 5.5 * index}, "positions are 22 mm apart, and by SliceLocation 11 mm"),
        (2, {"SliceThickness": 11}, "positions are 22 mm apart, and images of 11 mm that are numbered in between"),
        (2, {"SliceThickness": 8, "InstanceNumber": 1}, "positions are 22 mm apart for slices of 8 mm"),
    ],
)
def test_a_stack_of_which_only_some_slices_are_there_is_refused_with_both_figures(
    case, tmp_path, step, fields, figures
):
    write_classic(tmp_path, case, skip=every(step, case), **fields)
    assert f"series 5 lacks slices: {figures}" in refused(tmp_path)
    assert f"series 5 lacks slices: {figures}" in refused(tmp_path, 5)


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"SliceThickness": 5.5}, None),  # gaps as wide as the slices
        ({"SliceThickness": 5.5, "InstanceNumber": lambda index: 2 * index + 1, "SpacingBetweenSlices": 11}, None),
        ({"SliceThickness": 15}, None),
        ({"SliceThickness": 8, "InstanceNumber": lambda index: 2 * index + 1}, None),  # two contrasts share the numbers
        ({"SpacingBetweenSlices": 11.04}, None),
        (
            {"SpacingBetweenSlices": 10},
            "has positions 11 mm apart, by which it is read, and SpacingBetweenSlices 10 mm",
        ),
        # Some scanners write what lies between the slices' faces.
        ({"SpacingBetweenSlices": 3}, "has positions 11 mm apart, by which it is read, and SpacingBetweenSlices 3 mm"),
        ({"SliceThickness": 9, "SpacingBetweenSlices": 2.0}, "SpacingBetweenSlices 2 mm"),
        ({"SpacingBetweenSlices": -11}, None),
        ({"SliceLocation": lambda index: -DISTANCE * index}, None),
    ],
)
def test_positions_decide_the_slice_distance(case, tmp_path, fields, note):
    write_classic(tmp_path, case, **fields)
    found, lines = read(tmp_path)
    assert found.spacing[0] == pytest.approx(11, rel=1e-5)
    assert [line.endswith(note or "") for line in lines] == ([True] if note else [])


def test_a_single_slice_whose_thickness_and_distance_contradict_each_other_is_refused(case, tmp_path):
    write_classic(tmp_path, case, skip=range(1, 20), SpacingBetweenSlices=2)
    assert "is one slice with SliceThickness 8 mm and SpacingBetweenSlices 2 mm" in refused(tmp_path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"PixelSpacing": [0.1, 0.1]}, "has a PixelSpacing of 0.1 x 0.1 mm, outside 0.4 to 4 mm"),
        ({"PixelSpacing": [1.4, 14]}, "has a PixelSpacing of 1.4 x 14 mm, outside 0.4 to 4 mm"),
        ({"PixelSpacing": [0.0014, 0.0014]}, "has a PixelSpacing of 0.0014 x 0.0014 mm, outside 0.4 to 4 mm"),
        (
            {"ImagePositionPatient": lambda index: (np.cross(ACROSS, DOWN) * index).tolist()},
            "has a slice distance of 1 mm, outside 2 to 25 mm",
        ),
        ({"Rows": 65535, "Columns": 65535}, "has an image of 65535 x 65535 pixels; 1 to 2048 a side are read"),
        ({"Rows": 0}, "has an image of 0 x"),
        ({"StudyInstanceUID": lambda index: f"1.2.{index + 1}"}, "has images that differ in StudyInstanceUID"),
        ({"FrameOfReferenceUID": lambda index: f"1.2.{index % 2}"}, "has images that differ in FrameOfReferenceUID"),
        ({"PatientID": lambda index: f"{PATIENT[2]}{index % 2}"}, "has images that differ in PatientID"),
    ],
)
def test_what_no_heart_scan_has_is_said_with_its_figures(case, tmp_path, fields, said):
    write_classic(tmp_path, case, **fields)
    assert f"series 5 {said}" in refused(tmp_path)
    assert f"series 5 {said}" in refused(tmp_path, 5)


def test_a_slice_turned_in_its_plane_is_refused(case, tmp_path):
    write_classic(tmp_path, case)
    change(tmp_path / "14_5", ImageOrientationPatient=[*np.array([0.36, -0.48, 0.8]), *ACROSS])
    assert "has slices that are turned against each other in their plane" in refused(tmp_path)


def test_a_voxel_size_said_twice_is_compared(case, tmp_path):
    path = tmp_path / "one"
    write_enhanced(path, case, list(range(len(case.image))))
    change(path, PixelSpacing=list(case.spacing[1:]))
    assert read(tmp_path)[0].spacing[1] == pytest.approx(case.spacing[1])
    change(path, PixelSpacing=[3, 3])
    said = f"{case.spacing[1]:.5g}"
    assert refused(tmp_path) == f"has a PixelSpacing of {said} x {said} mm in one place, of 3 x 3 mm in another"
    write_enhanced(path, case, list(range(len(case.image))), by_frame=True)
    assert read(tmp_path)[0].spacing == pytest.approx((DISTANCE, *case.spacing[1:]), rel=1e-4)


def test_the_size_at_the_detector_is_not_that_in_the_patient(case, tmp_path):
    write_classic(tmp_path, case, ImagerPixelSpacing=[3, 3], NominalScannedPixelSpacing=[3, 3])
    assert read(tmp_path)[0].spacing[1:] == pytest.approx(case.spacing[1:])


@pytest.mark.parametrize("frames", [1, 2_000_000_000])
def test_nothing_is_made_of_a_size_that_a_header_announces(case, tmp_path, frames):
    """Run-length coded: here the pixels' number does not tell that the header is wrong."""
    write_enhanced(tmp_path / "one", case, list(range(len(case.image))))
    dataset = pydicom.dcmread(tmp_path / "one")
    dataset.compress(pydicom.uid.RLELossless)
    dataset.Rows = dataset.Columns = 65535 if frames == 1 else dataset.Rows
    dataset.NumberOfFrames = len(case.image) if frames == 1 else frames
    dataset.save_as(tmp_path / "one")
    tracemalloc.start()
    with pytest.raises(CaseError):
        dicom.choose_series(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


# --- what a value means -----------------------------------------------------------------------------------------------


def by_affine(found, expected):
    """The slope of the line on which all values lie, and by how much one misses it."""
    slope, intercept = np.polyfit(expected, found, 1)
    return slope, np.abs(slope * expected + intercept - found).max()


@pytest.mark.parametrize("value", [65535, 0])
def test_padding_is_one_border_value_below_all_tissue(case, tmp_path, value):
    tissue = case.image != 0
    assert not tissue.all()

    def encode(plane):
        return np.where(plane == 0, value, np.rint(plane * 2 + 1000)).astype(np.uint16)

    write_classic(tmp_path, case, encode=encode, PixelPaddingValue=value, RescaleSlope=1.5, RescaleIntercept=-1024)
    found = read(tmp_path)[0].image
    border = np.unique(found[~tissue])
    assert border.size == 1
    assert border[0] < found[tissue].min()
    slope, error = by_affine(found[tissue], case.image[tissue])
    assert slope == pytest.approx(3, rel=1e-3)
    assert error < 2


def test_padding_may_be_a_range_and_signed(case, tmp_path):
    tissue = case.image != 0
    values = np.random.default_rng(0).integers(-2000, -1990, case.image.shape[1:])

    def encode(plane):
        return np.where(plane == 0, values, np.rint(plane)).astype(np.int16)

    fields = {"PixelRepresentation": 1, "RescaleSlope": 1, "RescaleIntercept": 0}
    write_classic(tmp_path, case, encode=encode, PixelPaddingValue=-1990, PixelPaddingRangeLimit=-2000, **fields)
    found = read(tmp_path)[0].image
    assert np.unique(found[~tissue]).size == 1
    np.testing.assert_allclose(found[tissue], np.rint(case.image[tissue]))


def test_the_value_of_padding_inside_the_image_is_tissue(case, tmp_path):
    """The signal of a phase-sensitive image goes through 0 in the muscle."""
    _, height, width = case.image.shape
    image = np.full((height, width), 300.0)
    image[:, :5], image[30, 20:30], image[40] = 0, 0, -200
    fields = {"PixelRepresentation": 1, "RescaleSlope": 1, "RescaleIntercept": 0, "PixelPaddingValue": 0}
    write_classic(tmp_path, case, encode=lambda _: image.astype(np.int16), **fields)
    found = read(tmp_path)[0].image[0]
    np.testing.assert_array_equal(found[:, 5:], image[:, 5:])
    assert np.unique(found[:40, :5]) == np.float32(-200.5)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("by", [{"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}])
def test_an_inverted_series_is_read_as_the_original(case, tmp_path, bits, by):
    def encode(plane):
        return np.rint(plane).astype(np.uint16)

    fields = {"BitsStored": bits, "HighBit": bits - 1, "RescaleSlope": 2, "RescaleIntercept": -7}
    write_classic(tmp_path / "original", case, encode=encode, **fields)
    write_classic(tmp_path / "inverted", case, encode=lambda plane: 2**bits - 1 - encode(plane), **fields, **by)
    original, lines = read(tmp_path / "original")
    assert not lines
    inverted, (line,) = read(tmp_path / "inverted")
    np.testing.assert_array_equal(inverted.image, original.image)
    assert line == "series 5 is stored with bright and dark exchanged (MONOCHROME1 or INVERSE), which is turned back"


def test_an_inverted_series_with_padding_has_a_dark_border(case, tmp_path):
    tissue = case.image != 0

    def encode(plane):
        return np.where(plane == 0, 65535, 4000 - np.rint(plane)).astype(np.uint16)

    write_classic(tmp_path, case, encode=encode, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=65535)
    found = read(tmp_path)[0].image
    assert by_affine(found[tissue], case.image[tissue])[0] == pytest.approx(0.5, rel=1e-3)
    assert found[~tissue].max() < found[tissue].min()


def test_bits_above_those_stored_are_not_part_of_a_value(case, tmp_path):
    def encode(plane):
        return np.rint(plane - 1000).astype(np.int16) & np.int16(0x1FFF)  # 13 bits, the sign in the highest

    fields = {"BitsStored": 13, "HighBit": 12, "PixelRepresentation": 1, "RescaleSlope": 1, "RescaleIntercept": 1000}
    write_classic(tmp_path, case, encode=encode, **fields)
    np.testing.assert_allclose(read(tmp_path)[0].image, np.rint(case.image))


def test_pixels_that_need_more_bits_than_stored_are_refused(case, tmp_path):
    """Read by the standard they would wrap around; by their values the header is wrong. Nobody knows which it is."""
    write_classic(tmp_path, case, BitsStored=8, HighBit=7)
    with pytest.raises(CaseError, match="has pixels that need more than its BitsStored, 8"):
        read(tmp_path)


@pytest.mark.parametrize("fields", [{"RescaleSlope": 0}, {"RescaleIntercept": [0, 1]}])
def test_a_rescaling_that_cannot_be_is_named(case, tmp_path, fields):
    write_classic(tmp_path, case, **fields)
    with pytest.raises(CaseError, match="has a RescaleSlope of 0, or one or a RescaleIntercept that is no number"):
        read(tmp_path)


# --- what is not used -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["no preamble", "no prefix", "no preamble and no file meta"])
@pytest.mark.parametrize("files", ["all", "one"])
def test_files_without_the_prefix_are_read(case, tmp_path, left, files):
    write_classic(tmp_path, case)
    for path in sorted(tmp_path.iterdir())[: None if files == "all" else 1]:
        content = path.read_bytes()
        if left == "no prefix":
            content = content[:128] + bytes(4) + content[132:]
        else:
            meta = int.from_bytes(content[140:144], "little") + 144
            content = content[132 if left == "no preamble" else meta :]
        path.write_bytes(content)
    found, lines = read(tmp_path)
    assert not lines
    np.testing.assert_allclose(found.image, case.image, atol=0.26)


@pytest.mark.parametrize("rounded", [1.5625, 1.5624, 1.563])
def test_a_voxel_size_rounded_otherwise_is_the_same(case, tmp_path, rounded):
    write_classic(tmp_path, case, PixelSpacing=lambda index: [1.5625, 1.5625] if index % 2 else [rounded, rounded])
    found, lines = read(tmp_path)
    assert not lines
    assert found.image.shape == case.image.shape


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"PixelSpacing": lambda index: [1.57, 1.57] if index < 2 else [1.5625, 1.5625]}, "PixelSpacings: 4 of 1.5625"),
        ({"Rows": lambda index: 20 if index > 4 else 58}, "sizes: 5 of 58 x"),
    ],
)
def test_a_stack_is_not_whole_without_its_slices_of_another_size(case, tmp_path, fields, said):
    write_classic(tmp_path, case, **fields)
    assert f"series 5 has slices of several {said}" in refused(tmp_path)


def test_breath_holds_of_another_size_are_not_left_out(case, tmp_path):
    write_breath_holds(tmp_path, case)
    change(tmp_path / f"{7 * (SLICES - 1)}_{5 + SLICES - 1}", PixelSpacing=[2, 2])
    assert "has slices of several PixelSpacings" in refused(tmp_path)


def test_smaller_copies_of_slices_in_the_same_series_are_another_stack(case, tmp_path):
    series = generate_uid()
    write_classic(tmp_path / "whole", case, series=series)
    write_classic(tmp_path / "small", case, series=series, skip=[0, 1], Rows=20)
    found, lines = read(tmp_path)
    np.testing.assert_allclose(found.image, case.image, atol=0.26)
    assert lines == ["passed over another stack of series 5, which has fewer slices"]


def test_files_that_are_not_used_are_counted_and_numbered_by_reason(case, tmp_path):
    name = PATIENT[0]
    write_classic(tmp_path / "m", case)
    write_classic(tmp_path / "z", case, 8, skip=range(2, 20), Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    (tmp_path / f"a {name}.txt").write_text("no DICOM")
    with zipfile.ZipFile(tmp_path / f"b {name}.zip", "w") as archive:
        archive.writestr("x", "y")
    (tmp_path / "n").mkdir()
    os.mkfifo(tmp_path / "n" / "pipe")
    found, lines = read(tmp_path)
    assert found.image.shape == case.image.shape
    assert sorted(lines) == [
        "passed over 1 of 11 files: an archive, to be unpacked or given alone (by order of name: 2)",
        "passed over 1 of 11 files: no ordinary file (by order of name: 9)",
        "passed over 1 of 11 files: not DICOM (by order of name: 1)",
        "passed over 2 of 11 files: no MR image (by order of name: 10, 11)",
    ]
    for path in (tmp_path / "m").iterdir():
        path.unlink()
    fault = refused(tmp_path)
    assert fault.startswith("holds no MR images in DICOM files: passed over 1 of 5 files: not DICOM")


def test_links_are_followed_and_one_without_a_target_is_not_passed_over(case, tmp_path):
    write_classic(tmp_path / "store", case)
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "store").iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in", target_is_directory=True)
    assert read(tmp_path / "in")[0].image.shape == case.image.shape
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "folder").symlink_to(tmp_path / "store", target_is_directory=True)
    assert read(tmp_path / "linked")[0].image.shape == case.image.shape
    path.unlink()
    assert refused(tmp_path / "in") == "is a link without a target"


def test_what_cannot_be_read_is_not_passed_over(case, tmp_path, monkeypatch):
    write_classic(tmp_path / "in", case)
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    (tmp_path / "in" / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    assert refused(tmp_path / "in") == "cannot be read: Permission denied"


def test_names_that_are_not_unicode_and_members_that_lead_out_of_an_archive_are_read(case, tmp_path):
    write_classic(tmp_path / "in", case)
    (tmp_path / "in" / "0_5").rename(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xe9t\xe9"))
    assert read(tmp_path / "in")[0].image.shape == case.image.shape
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for index, path in enumerate((tmp_path / "in").iterdir()):
            archive.writestr(f"../../{index}", path.read_bytes())
    before = sorted(tmp_path.parent.rglob("*"))
    assert read(tmp_path / "scan.zip")[0].image.shape == case.image.shape
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_one_file_of_many_frames_may_be_given_by_itself(case, tmp_path):
    write_enhanced(tmp_path / "one", case, list(range(len(case.image))))
    np.testing.assert_allclose(read(tmp_path / "one")[0].image, case.image, atol=0.26)


def test_a_file_that_announces_more_than_a_scan_has_is_not_read(case, tmp_path, monkeypatch):
    write_classic(tmp_path / "in", case)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", bytes(10**6))  # not DICOM, and therefore no matter how large
        for path in (tmp_path / "in").iterdir():
            archive.writestr(path.name, path.read_bytes() + (bytes(10**7) if path.name == "0_5" else b""))
    monkeypatch.setattr(dicom_files, "LARGEST_FILE", 10**6)
    with pytest.raises(
        CaseError, match=r"scan\.zip/file 2 of 7: announces 0\.00932 GB, more than a scan of a heart has"
    ):
        read(tmp_path / "scan.zip")
    monkeypatch.setattr(dicom_files, "LARGEST_TOTAL", 30_000)
    with pytest.raises(CaseError, match=r"in: holds more than .* of DICOM files: give it one study at a time"):
        read(tmp_path / "in")


def test_a_deflated_file_is_inflated_only_as_far_as_a_scan_goes(case, tmp_path, monkeypatch):
    write_classic(tmp_path, case)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    np.testing.assert_allclose(read(tmp_path)[0].image, case.image, atol=0.26)
    monkeypatch.setattr(dicom_files, "LARGEST_FILE", 6000)
    assert "inflates to more than" in refused(tmp_path)


# --- one command for all ----------------------------------------------------------------------------------------------


def predict(source, tmp_path):
    """`launch.predict` up to where it hands a DICOM series on."""
    script = (
        "import sys\n"
        "from launch import command, dicom_series, predict\n"
        "dicom_series.segment = lambda load, source, *rest: print('segments', source.name, *rest[1:])\n"
        "command.run(predict.main, required=('input', 'output'))\n"
    )
    arguments = [f"--input={source}", f"--output={tmp_path / 'out'}", "--series=5", f"--workdir={tmp_path}"]
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


def test_predict_takes_a_series_and_refuses_a_mixture(case, tmp_path):
    write_classic(tmp_path / "series" / "deep", case)
    assert predict(tmp_path / "series", tmp_path).stdout == "segments series case 5\n"
    (tmp_path / "series" / "image.nii.gz").write_bytes(b"")
    mixed = predict(tmp_path / "series", tmp_path)
    assert mixed.returncode == 1
    assert mixed.stderr.endswith("series: holds DICOM images beside NIfTI files: which are meant?\n")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("image.nii.gz", "")
    assert predict(tmp_path / "images.zip", tmp_path).stderr.endswith(
        "zip: is an archive without DICOM images: unpack it\n"
    )


def test_dicom_is_told_from_nifti_by_content(case, tmp_path):
    write_classic(tmp_path / "in", case, skip=range(2, 20))
    assert dicom_files.holds_dicom_and_nifti(tmp_path / "in") == (True, False)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.writestr("README", "text")
        for path in (tmp_path / "in").iterdir():
            archive.writestr(path.name, path.read_bytes())
    assert dicom_files.holds_dicom_and_nifti(tmp_path / "scan.zip") == (True, False)
    path.write_bytes(path.read_bytes()[132:])
    assert dicom_files.holds_dicom_and_nifti(path) == (True, False)
    # Results beside NIfTI images are no source.
    (tmp_path / "results").mkdir()
    write_localizer(tmp_path / "results")
    change(tmp_path / "results" / "localizer", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    dataset = pydicom.dcmread(tmp_path / "results" / "localizer")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.save_as(tmp_path / "results" / "localizer")
    (tmp_path / "results" / "labels.nii.gz").write_bytes(b"")
    assert dicom_files.holds_dicom_and_nifti(tmp_path / "results") == (False, True)
    assert dicom_files.holds_dicom_and_nifti(tmp_path / "nowhere") == (False, False)
