"""Labels that a reader has corrected are found, believed on the prediction's grid only, and never written over."""

import json

import nibabel as nib
import numpy as np
import pytest

from cascade_jax.data import corrections, emidec, folders
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.files import file_checksum

SPACING = (10.0, 1.458, 1.406)


def predicted(folder, name="one"):
    """A case with the challenge's untrue affine, its prediction in the folder, and a correction of two voxels."""
    labels = np.zeros((4, 12, 10), np.uint8)
    labels[1:3, 3:8, 3:8] = 2
    image = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    case = Case(name, image, None, SPACING, emidec._challenge_header(Case(name, image, None, SPACING)))
    emidec.write_labels(folder, labels, case)
    corrected = labels.copy()
    corrected[1, 3, 3], corrected[2, 4, 4] = 0, 3
    return case, labels, corrected


def save(folder, case, corrected, prediction, **angles):
    contour = emidec.contour_path(folder, case.name)
    return corrections.save_correction(folder, case, corrected, prediction, contour, reader="Ada", **angles)


def from_elsewhere(folder, name, labels, affine, zooms=None, file="Segmentation.nii.gz"):
    """Labels (x, y, slice) as another program saves them."""
    path = folder / name / folders.CORRECTED / file
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(labels, affine)
    if zooms:
        image.header.set_zooms(zooms)
    nib.save(image, path)
    return path


def test_without_a_correction_the_prediction_is_taken(tmp_path):
    _, labels, _ = predicted(tmp_path)
    found, correction = corrections.corrected_labels(tmp_path, "one")
    assert (found == labels).all()
    assert correction is None
    assert corrections.find_corrections(tmp_path) == {}


def test_what_was_saved_is_taken_and_its_file_is_of_the_images_own_header(tmp_path):
    case, labels, corrected = predicted(tmp_path)
    saved = save(tmp_path, case, corrected, labels, insertion=123.46)
    assert saved.path == tmp_path / "one" / "Corrected" / "one.nii.gz"
    found, correction = corrections.corrected_labels(tmp_path, "one")
    assert (found == corrected).all()
    assert correction == saved
    header = nib.load(saved.path).header
    assert header.get_data_dtype() == np.uint8
    assert np.array_equal(header.get_sform(), case.header.get_sform())
    assert np.array_equal(header["pixdim"], case.header["pixdim"])
    assert (emidec.read_labels(emidec.contour_path(tmp_path, "one"))[0] == labels).all()


def test_the_record_says_who_changed_what_from_which_file_and_keeps_earlier_saves(tmp_path):
    case, labels, corrected = predicted(tmp_path)
    save(tmp_path, case, corrected, labels)
    save(tmp_path, case, labels, labels, insertion=200.0, inferior_insertion=310.0)
    first, second = json.loads((tmp_path / "one" / "Corrected" / "one.json").read_text())["saves"]
    assert first["reader"] == "Ada"
    assert first["prediction_sha256"] == file_checksum(emidec.contour_path(tmp_path, "one"))
    assert first["changed_voxels"] == {
        "myocardium": {"2": {"added": 0, "removed": 1}, "3": {"added": 0, "removed": 1}},
        "infarction": {"3": {"added": 1, "removed": 0}},
    }
    assert first["insertion_degrees"] is None
    assert second["changed_voxels"] == {}
    assert (second["insertion_degrees"], second["inferior_insertion_degrees"]) == (200.0, 310.0)
    assert first["time"] <= second["time"]


@pytest.mark.parametrize("direction", [1, -1])
def test_labels_that_another_program_saved_in_another_voxel_order_are_brought_to_the_image(tmp_path, direction):
    case, labels, corrected = predicted(tmp_path)
    affine = np.diag([1.406, 1.458, 10.0, 1.0])
    header = nib.Nifti1Header()
    header.set_data_shape(case.image.shape[::-1])
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    emidec.write_labels(tmp_path, labels, Case("one", case.image, None, SPACING, header))
    theirs = np.diag([direction * 1.406, 1.458, 10.0, 1.0])
    theirs[0, 3] = 0 if direction == 1 else 9 * 1.406
    from_elsewhere(tmp_path, "one", emidec.to_file_axes(corrected)[::direction], theirs)
    found, correction = corrections.corrected_labels(tmp_path, "one")
    assert (found == corrected).all()
    assert correction.reader is None
    assert "another program" in str(correction)


def test_programs_that_know_the_true_size_only_are_believed_on_the_challenges_files(tmp_path):
    _, _, corrected = predicted(tmp_path)
    from_elsewhere(tmp_path, "one", emidec.to_file_axes(corrected), np.diag([-1.406, -1.458, 10.0, 1.0]))
    assert (corrections.corrected_labels(tmp_path, "one")[0] == corrected).all()


@pytest.mark.parametrize("fault", ["shape", "size", "label"])
def test_labels_off_the_grid_are_refused_in_a_line_that_names_them(tmp_path, fault):
    _, _, corrected = predicted(tmp_path)
    labels = emidec.to_file_axes(corrected).copy()
    size = [1.406, 1.458, 10.0, 1.0]
    if fault == "shape":
        labels = labels[:-1]
    elif fault == "size":
        size[0] = 1.5
    else:
        labels[0, 0, 0] = 7
    path = from_elsewhere(tmp_path, "one", labels, np.diag(size))
    with pytest.raises(CaseError, match=str(path)) as error:
        corrections.corrected_labels(tmp_path, "one")
    assert "\n" not in str(error.value)


def test_two_corrections_of_a_case_are_refused_and_leave_the_other_cases_be(tmp_path):
    for name in ("one", "two"):
        case, labels, corrected = predicted(tmp_path, name)
        save(tmp_path, case, corrected, labels)
    from_elsewhere(tmp_path, "one", emidec.to_file_axes(corrected), np.eye(4))
    faults = {}
    assert list(corrections.find_corrections(tmp_path, faults=faults)) == ["two"]
    assert "2 image files" in faults["one"]
    with pytest.raises(CaseError, match="2 image files"):
        corrections.find_corrections(tmp_path)


@pytest.mark.parametrize("file", ["Segmentation.nii.gz", "one.nii.gz"])
def test_what_another_program_saved_is_not_replaced(tmp_path, file):
    case, labels, corrected = predicted(tmp_path)
    theirs = from_elsewhere(tmp_path, "one", emidec.to_file_axes(corrected), np.eye(4), file=file)
    before = theirs.read_bytes()
    with pytest.raises(CaseError, match="another program"):
        save(tmp_path, case, labels, labels)
    assert theirs.read_bytes() == before
    assert [path.name for path in theirs.parent.iterdir()] == [file]


def test_a_file_that_another_program_saved_over_ours_is_theirs(tmp_path):
    case, labels, corrected = predicted(tmp_path)
    saved = save(tmp_path, case, corrected, labels)
    nib.save(nib.Nifti1Image(emidec.to_file_axes(labels), np.diag([-1.406, -1.458, 10.0, 1.0])), saved.path)
    assert corrections.find_correction(tmp_path, "one").reader is None
    with pytest.raises(CaseError, match="another program"):
        save(tmp_path, case, corrected, labels)


def test_a_folder_that_cannot_be_written_to_is_named_and_nothing_is_left(tmp_path):
    case, labels, corrected = predicted(tmp_path)
    (tmp_path / "one" / "Corrected").write_text("in the way")
    with pytest.raises(CaseError, match=r"Corrected.*cannot be written"):
        save(tmp_path, case, corrected, labels)
    assert (tmp_path / "one" / "Corrected").read_text() == "in the way"


def test_a_correction_is_not_written_through_a_link(tmp_path):
    case, labels, corrected = predicted(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "one" / "Corrected").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CaseError, match="is a link"):
        save(tmp_path / "out", case, corrected, labels)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_damaged_record_is_named(tmp_path):
    case, labels, corrected = predicted(tmp_path)
    save(tmp_path, case, corrected, labels)
    record = tmp_path / "one" / "Corrected" / "one.json"
    record.write_text('{"saves": [3]}')
    with pytest.raises(CaseError, match=f"{record}: is damaged"):
        corrections.find_correction(tmp_path, "one")


def test_a_user_is_told_how_many_are_corrected_and_which_were_predicted_anew(tmp_path):
    for name in ("one", "two", "three"):
        case, labels, corrected = predicted(tmp_path, name)
        if name != "three":
            save(tmp_path, case, corrected, labels)
    emidec.write_labels(tmp_path, corrected, case := predicted(tmp_path, "two")[0])
    first, second = corrections.describe(corrections.find_corrections(tmp_path), folders.find_contours(tmp_path))
    assert first.startswith("2 cases as corrected by a reader")
    assert second.startswith(f"{case.name}: was predicted anew")


def test_corrections_are_ours_and_not_named_as_skipped(tmp_path):
    case, labels, corrected = predicted(tmp_path)
    save(tmp_path, case, corrected, labels)
    assert folders.list_skipped(tmp_path, folders.find_contours) == []
