"""Other formats than NIfTI, and what of a folder is not used."""

import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CaseError

SIZE = (1.35, 1.5, 9.0)


def an_image():
    return np.random.default_rng(0).normal(500, 20, (20, 18, 6)).astype(np.float32)


def oblique():
    normal, across = np.array([0.6, -0.48, 0.64]), np.array([0.8, 0.36, -0.48])
    axes = np.stack([across, np.cross(normal, across), normal], 1)
    return nib.affines.from_matvec(axes * SIZE, (-90.0, 40.0, 12.0))


def save(path, array=None, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = an_image() if array is None else array
    nib.save(nib.Nifti1Image(array, oblique() if affine is None else affine), path)
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".hdr"])
def test_other_formats_are_read_as_the_nifti_file_of_the_same_grid(tmp_path, suffix):
    nifti, path = save(tmp_path / "a.nii.gz"), tmp_path / "other" / f"a{suffix}"
    path.parent.mkdir()
    if suffix == ".hdr":
        nib.save(nib.Nifti1Pair(an_image(), oblique()), path)
    else:
        SimpleITK.WriteImage(SimpleITK.ReadImage(nifti), path)
    (one,), (other,) = folders.find_inputs(nifti), folders.find_inputs(path.parent)
    assert other.name == "a" and not folders.list_skipped(path.parent, folders.find_inputs)[1:]
    one, other = emidec.read_case(one), emidec.read_case(other)
    np.testing.assert_array_equal(one.image, other.image)
    assert one.spacing == pytest.approx(other.spacing)
    np.testing.assert_allclose(emidec.read_geometry(path).affine, oblique(), atol=1e-4)
    labels = np.zeros(other.image.shape, np.uint8)
    written = nib.load(emidec.write_labels(tmp_path / "out", labels, other))
    np.testing.assert_allclose(written.affine, oblique(), atol=1e-4)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".hdr"])
def test_what_is_none_of_these_after_all_is_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for content in (b"", b"not an image", bytes(400)):
        path.write_bytes(content)
        with pytest.raises(CaseError) as error:
            emidec.read_voxels(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    colour = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    if suffix != ".hdr":
        SimpleITK.WriteImage(colour, path)
        with pytest.raises(CaseError, match="3 values a voxel"):
            emidec.read_voxels(path)


def test_an_image_of_no_dimensions_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.mha"
    header = b"ObjectType = Image\nNDims = 0\nDimSize = 6 5 3\n"
    path.write_bytes(header + b"ElementType = MET_FLOAT\nElementDataFile = LOCAL\n")
    with pytest.raises(CaseError, match=r"a\.mha: has no dimensions"):
        emidec.read_voxels(path)


def test_a_link_to_nothing_is_a_fault_of_its_case(tmp_path):
    save(tmp_path / "flat" / "a.nii.gz")
    (tmp_path / "flat" / "b.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    for find in (folders.find_inputs, folders.find_contours):
        with pytest.raises(CaseError, match=r"b\.nii\.gz: is a link to nothing"):
            find(tmp_path / "flat")
        faults = {}
        assert len(find(tmp_path / "flat", faults=faults)) == 1
        assert list(faults) == ["b"]


def test_a_label_without_its_image_is_a_fault(tmp_path):
    save(tmp_path / "A" / "Images" / "a.nii.gz")
    save(tmp_path / "B" / "Contours" / "b.nii.gz")
    faults = {}
    assert [case.name for case in folders.find_inputs(tmp_path, faults=faults)] == ["A"]
    assert "has Contours but no Images" in faults["B"]
    with pytest.raises(CaseError, match="has Contours but no Images"):
        folders.find_cases(tmp_path)


def test_folders_may_be_called_images_and_contours_in_any_letter_case(tmp_path):
    save(tmp_path / "A" / "images" / "a.nii.gz")
    save(tmp_path / "A" / "CONTOURS" / "a.nii.gz")
    (case,) = folders.find_cases(tmp_path, labelled=True)
    assert case.image.parent.name == "images" and case.contour.parent.name == "CONTOURS"
    assert folders.find_contours(tmp_path) == {"A": case.contour}
    assert folders.list_skipped(tmp_path, folders.find_cases) == []


def test_a_folder_whose_subfolder_holds_the_files_says_so(tmp_path):
    save(tmp_path / "scans" / "a.nii.gz")
    with pytest.raises(CaseError, match="its folder scans does hold such files"):
        folders.find_inputs(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")
@pytest.mark.parametrize(
    ("name", "fault"),
    [(b"scan\xff.nii.gz", "is not UTF-8"), (b"sc\nan.nii.gz", "cannot be printed"), (b" .nii", "no name")],
)
def test_a_name_that_no_table_can_hold_is_a_fault_of_its_case_alone(tmp_path, name, fault):
    save(tmp_path / "a.nii.gz")
    odd = save(tmp_path / "odd.nii.gz").rename(tmp_path / os.fsdecode(name))
    faults = {}
    assert [case.name for case in folders.find_inputs(tmp_path, faults=faults)] == ["a"]
    assert fault in next(iter(faults.values()))
    with pytest.raises(CaseError, match=fault):
        folders.find_inputs(odd)


def test_what_is_skipped_is_named_with_its_reason_and_other_files_are_counted(tmp_path):
    save(tmp_path / "A" / "Images" / "a.nii.gz")
    save(tmp_path / "A" / "Contours" / "a.nii.gz")
    save(tmp_path / "A" / "Doubt" / "a.nii.gz")  # this library's own
    save(tmp_path / "A" / "Images" / "old" / "b.nii.gz")
    (tmp_path / "A" / "A.png").touch()
    (tmp_path / "A" / "Images" / "a.nii.bz2").touch()
    (tmp_path / "A" / "note").symlink_to("nowhere")
    save(tmp_path / "B" / "scan.mha".replace("mha", "nii"))
    for name in ("Case A.txt", "Case B.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".DS_Store").touch()
    lines = folders.list_skipped(tmp_path, folders.find_cases)
    assert sorted(line.removeprefix(f"{tmp_path}") for line in lines) == [
        "/A/Images/a.nii.bz2: is in a format that is not read",
        "/A/Images/old: is a folder in a folder of files",
        "/A/note: is a link to nothing",
        "/B/scan.nii: lies where no such file is looked for",
        ": 2 other files, such as Case A.txt",
    ]
    assert folders.list_skipped(tmp_path / "A" / "Images" / "a.nii.gz", folders.find_inputs) == []
