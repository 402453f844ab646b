"""Slices that are one stack, and those that contradict each other or are incomplete."""

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.uid import generate_uid

from tests.data.dicom_series import (
    ACROSS,
    DISTANCE,
    DOWN,
    PATIENT,
    SLICES,
    change,
    read,
    refused,
    write_breath_holds,
    write_classic,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


def every(step, case):
    """The slices to leave out so that every second or third remains."""
    return [index for index in range(len(case.image)) if index % step]


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


@pytest.mark.parametrize("rounded", [1.5625, 1.5624, 1.563])
def test_a_voxel_size_rounded_otherwise_is_the_same(case, tmp_path, rounded):
    write_classic(tmp_path, case, PixelSpacing=lambda index: [1.5625, 1.5625] if index % 2 else [rounded, rounded])
    found, lines = read(tmp_path)
    assert not lines
    np.testing.assert_allclose(found.image, case.image, atol=0.26)
    assert found.spacing == pytest.approx((DISTANCE, 1.5625, 1.5625), rel=1e-3)


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
    assert lines == ["skipped another stack of series 5, which has fewer slices"]
