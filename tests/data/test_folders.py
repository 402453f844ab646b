"""Finding cases: the challenge's layout, files side by side, and folders that are neither."""

import pytest

from cascade_jax.data import folders
from cascade_jax.data.case import CaseError
from cascade_jax.data.folders import CaseFiles, find_cases, find_contours, find_inputs
from tests.data.nifti_files import fault_of, save, save_case, voxels


def test_a_cohort_is_every_folder_with_images_sorted_by_name_whatever_else_lies_beside(tmp_path):
    save_case(tmp_path, "Case_P002", ".nii", labelled=False)
    save_case(tmp_path, "Case_N006")
    (tmp_path / "Case N006.txt").write_text("Sex: F")
    (tmp_path / "notes" / "Contours").mkdir(parents=True)
    (tmp_path / "Case_N006" / "Images" / "._Case_N006.nii.gz").write_bytes(b"macOS")
    first, second = find_cases(tmp_path)
    folder = tmp_path / "Case_N006"
    assert first == CaseFiles(
        "Case_N006", folder / "Images" / "Case_N006.nii.gz", folder / "Contours" / "Case_N006.nii.gz"
    )
    assert second == CaseFiles("Case_P002", tmp_path / "Case_P002" / "Images" / "Case_P002.nii", None)


def test_a_case_is_named_by_its_folder_not_by_its_file(tmp_path):
    save(tmp_path / "patient 7" / "Images" / "scan.nii.gz", voxels())
    assert [case.name for case in find_cases(str(tmp_path))] == ["patient 7"]


@pytest.mark.parametrize("find", [find_cases, find_contours, find_inputs])
def test_a_missing_or_empty_root_is_named(tmp_path, find):
    with pytest.raises(CaseError) as error:
        find(tmp_path / "nowhere")
    assert fault_of(error, tmp_path / "nowhere") == "no such file or folder"
    with pytest.raises(CaseError) as error:
        find(tmp_path)
    assert "holds n" in fault_of(error, tmp_path)


@pytest.mark.parametrize("find", [find_cases, find_contours])
def test_a_root_that_is_a_file_is_no_cohort(tmp_path, find):
    path = save(tmp_path / "scan.nii", voxels())
    with pytest.raises(CaseError) as error:
        find(path)
    assert fault_of(error, path) == "is not a folder"


def test_a_case_without_an_image_or_with_several_is_refused(tmp_path):
    images = tmp_path / "Case_N006" / "Images"
    images.mkdir(parents=True)
    for find in find_cases, find_inputs:
        with pytest.raises(CaseError) as error:
            find(tmp_path)
        assert "holds no image file" in fault_of(error, images)
    for suffix in ".nii", ".nii.gz":
        save(images / f"Case_N006{suffix}", voxels())
    for find in find_cases, find_inputs:
        with pytest.raises(CaseError) as error:
            find(tmp_path)
        assert "Case_N006.nii, Case_N006.nii.gz" in fault_of(error, images)


def test_a_contour_has_to_be_there_only_in_a_labelled_cohort(tmp_path):
    save_case(tmp_path, "Case_N006")
    save_case(tmp_path, "Case_N007", labelled=False)
    assert [case.contour is None for case in find_cases(tmp_path)] == [False, True]
    with pytest.raises(CaseError) as error:
        find_cases(tmp_path, labelled=True)
    assert "no contour" in fault_of(error, tmp_path / "Case_N007")


@pytest.mark.parametrize("find", [find_cases, find_contours])
def test_a_case_with_several_contours_is_refused(tmp_path, find):
    save_case(tmp_path, "Case_N006")
    contours = tmp_path / "Case_N006" / "Contours"
    save(contours / "second reader.nii", voxels())
    with pytest.raises(CaseError) as error:
        find(tmp_path)
    assert "2 image files" in fault_of(error, contours)


@pytest.mark.parametrize("find", [find_cases, find_contours, find_inputs])
def test_names_that_differ_only_in_upper_and_lower_case_are_duplicates(tmp_path, find):
    save_case(tmp_path, "Case_N006")
    save_case(tmp_path, "case_n006")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    with pytest.raises(CaseError) as error:
        find(tmp_path)
    assert "two cases named" in fault_of(error, tmp_path)


def test_contours_are_found_where_there_are_no_images(tmp_path):
    path = save(tmp_path / "Case_P001" / "Contours" / "Case_P001.nii.gz", voxels())
    save(tmp_path / "Case_P002" / "Images" / "Case_P002.nii.gz", voxels())
    assert find_contours(tmp_path) == {"Case_P001": path}
    path.unlink()
    with pytest.raises(CaseError) as error:
        find_contours(tmp_path)
    assert "holds no image file" in fault_of(error, path.parent)


def test_files_side_by_side_are_contours_and_nnunets_images_lose_their_channel(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "labels" / f"{name}.nii.gz", voxels())
        save(tmp_path / "images" / f"{name}_0000.nii.gz", voxels())
    assert find_contours(tmp_path / "labels") == {name: tmp_path / "labels" / f"{name}.nii.gz" for name in ("a", "b")}
    assert [file.name for file in find_inputs(tmp_path / "images")] == ["a", "b"]
    save(tmp_path / "images" / "c.nii.gz", voxels())
    assert [file.name for file in find_inputs(tmp_path / "images")] == ["a_0000", "b_0000", "c"]
    save(tmp_path / "labels" / "c" / "Contours" / "c.nii.gz", voxels())
    with pytest.raises(CaseError, match="which are meant"):
        find_contours(tmp_path / "labels")


def test_inputs_are_one_file_or_a_folder_of_files_or_a_cohort(tmp_path):
    flat, cohort = tmp_path / "flat", tmp_path / "cohort"
    first = save(flat / "scan.1.nii", voxels())
    second = save(flat / "scan.2.NII.GZ", voxels())
    (flat / "readme.txt").write_text("two scans")
    save_case(cohort, "Case_P001")
    assert find_inputs(first) == [CaseFiles("scan.1", first, None)]
    assert find_inputs(flat) == [CaseFiles("scan.1", first, None), CaseFiles("scan.2", second, None)]
    assert find_inputs(cohort) == find_cases(cohort)


def test_two_files_that_would_give_one_case_are_refused(tmp_path):
    save(tmp_path / "scan.nii", voxels())
    save(tmp_path / "scan.nii.gz", voxels())
    with pytest.raises(CaseError) as error:
        find_inputs(tmp_path)
    assert fault_of(error, tmp_path) == "holds two cases named scan: scan.nii and scan.nii.gz"


def test_a_folder_that_mixes_files_and_cases_is_refused(tmp_path):
    save(tmp_path / "scan.nii", voxels())
    save_case(tmp_path, "Case_P001")
    with pytest.raises(CaseError) as error:
        find_inputs(tmp_path)
    assert "which are meant?" in fault_of(error, tmp_path)


def test_an_input_that_is_no_image_file_is_refused(tmp_path):
    path = tmp_path / "scan.dcm"
    path.write_bytes(b"DICM")
    with pytest.raises(CaseError) as error:
        find_inputs(path)
    assert "is not an image file" in fault_of(error, path)


def test_faults_of_single_cases_can_be_collected_instead_of_raised(tmp_path):
    for name in ("Case_A", "Case_B"):
        (tmp_path / name / "Images").mkdir(parents=True)
        (tmp_path / name / "Contours").mkdir()
    (tmp_path / "Case_A" / "Images" / "a.nii.gz").touch()
    (tmp_path / "Case_A" / "Contours" / "a.nii.gz").touch()
    for find in (folders.find_cases, folders.find_inputs, folders.find_contours):
        with pytest.raises(CaseError, match="Case_B"):
            find(tmp_path)
        faults = {}
        assert len(find(tmp_path, faults=faults)) == 1
        assert list(faults) == ["Case_B"]
        assert "holds no image file" in faults["Case_B"]
