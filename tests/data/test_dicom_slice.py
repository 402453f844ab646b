"""What a file says of one slice: its place, its size, and what its values mean."""

import tracemalloc

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from cascade_jax.data import dicom
from cascade_jax.data.case import CaseError
from tests.data.dicom_series import (
    DISTANCE,
    PATIENT,
    change,
    choose,
    read,
    refused,
    write_classic,
    write_enhanced,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


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
    with pytest.raises(CaseError, match="one: is cut off: pixels are missing"):
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
    said = "65535 x 65535 pixels" if frames == 1 else "more than a stack of slices has"
    with pytest.raises(CaseError, match=said):
        dicom.choose_series(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


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
    """The signal of a phase-sensitive image goes through 0 in the myocardium."""
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
