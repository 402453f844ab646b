"""A short-axis stack is found among DICOM files and read, on files made here from a phantom."""

import dataclasses
import zipfile

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from cascade_jax.data import dicom
from cascade_jax.data.case import CaseError
from tests.data.dicom_series import (
    PATIENT,
    change,
    check,
    choose,
    position,
    write_classic,
    write_enhanced,
    write_localizer,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is done to files here


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


def test_an_enhanced_multi_frame_file_is_read_in_the_order_of_its_positions(case, tmp_path):
    order = list(np.random.default_rng(0).permutation(len(case.image)))
    write_enhanced(tmp_path / "enhanced.dcm", case, order)
    check(dicom.read_series(tmp_path, choose(tmp_path), "case"), case)


def test_what_is_no_stack_is_skipped_for_one_that_is(case, tmp_path):
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


def test_every_series_that_is_skipped_is_named_by_its_number(case, tmp_path):
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
        "skipped series 1, which is a localiser",
        "skipped series 6, which has fewer slices",
        "skipped series 7, which is not oblique, as a short axis is",
        "skipped series 8, which lacks a slice: distances are 11 to 22 mm",
        "skipped series 9, which has an image without a place in the patient",
    ]


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
