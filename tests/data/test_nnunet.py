"""nnU-Net's raw datasets and splits."""

import json

import nibabel as nib
import numpy as np
import pytest

from cascade_jax.commands import train
from cascade_jax.data import emidec, folders, nnunet
from cascade_jax.data.case import CaseError
from cascade_jax.phantoms import simulated
from launch.configs import default


def silent(iterable, _):
    return iterable


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    simulated.write_cohort(root, 4, 0, field_of_view_mm=90)
    return root


@pytest.fixture
def raw(cohort, tmp_path):
    folder = tmp_path / "Dataset001_Infarct"
    assert nnunet.export_dataset(cohort, folder, silent) == 4
    return folder


def test_there_and_back_again_nothing_is_lost(cohort, raw, tmp_path):
    assert nnunet.import_dataset(raw, tmp_path / "back", {}, silent) == 4
    for one, other in zip(
        folders.find_cases(cohort), folders.find_cases(tmp_path / "back", labelled=True), strict=True
    ):
        one, other = emidec.read_case(one), emidec.read_case(other)
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert other.spacing == pytest.approx(one.spacing)


def test_what_is_exported_tells_the_true_spacing_in_its_affine(cohort, raw):
    name = folders.find_cases(cohort)[0].name
    image = nib.load(raw / "imagesTr" / f"{name}_0000.nii.gz")
    spacing = emidec.read_case(folders.find_cases(cohort)[0]).spacing
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), spacing[::-1], rtol=1e-6)
    dataset = json.loads((raw / "dataset.json").read_text())
    assert dataset["numTraining"] == 4
    assert dataset["labels"]["no_reflow"] == 4


def oblique(spacing):
    """An affine of voxels (x, y, slice) of that size, mm, in a short axis's orientation."""
    normal = np.array([0.6, -0.48, 0.64])
    across = np.array([0.8, 0.36, -0.48])
    return nib.affines.from_matvec(np.stack([across, np.cross(normal, across), normal], 1) * spacing, (10, -20, 30))


def export_with(affine, codes, cohort, tmp_path):
    """A case with that affine, and that of its files as exported and as imported again."""
    case = emidec.read_case(folders.find_cases(cohort)[0])
    case.header.set_sform(affine, codes[0])
    case.header.set_qform(affine, codes[1])
    case.header["pixdim"][1:4] = case.spacing[::-1]
    emidec.write_case(tmp_path / "one", case)
    nnunet.export_dataset(tmp_path / "one", tmp_path / "raw", silent)
    nnunet.import_dataset(tmp_path / "raw", tmp_path / "back", {}, silent)
    (back,) = folders.find_cases(tmp_path / "back")
    exported = [
        nib.load(tmp_path / "raw" / "imagesTr" / f"{case.name}_0000.nii.gz"),
        nib.load(tmp_path / "raw" / "labelsTr" / f"{case.name}.nii.gz"),
    ]
    return case, [image.affine for image in (*exported, nib.load(back.image), nib.load(back.contour))]


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1)])
def test_good_geometry_survives_the_way_there_and_back(cohort, tmp_path, codes):
    spacing = emidec.read_case(folders.find_cases(cohort)[0]).spacing[::-1]
    _, affines = export_with(oblique(spacing), codes, cohort, tmp_path)
    for affine in affines:
        np.testing.assert_allclose(affine, oblique(spacing), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fault", ["size", "shear", "not known", "not finite"])
def test_geometry_that_cannot_be_true_is_replaced_by_the_voxels_size(cohort, tmp_path, fault):
    spacing = np.asarray(emidec.read_case(folders.find_cases(cohort)[0]).spacing[::-1])
    affine, codes = oblique(spacing), (2, 0)
    if fault == "size":
        affine = oblique((1.0, 1.0, 1.0))
    elif fault == "shear":
        affine[:3, 0] += 0.1 * affine[:3, 1]
        affine[:3, 0] *= spacing[0] / np.linalg.norm(affine[:3, 0])
    elif fault == "not finite":
        affine[0, 3] = np.nan
    else:
        codes = (0, 0)
    _, affines = export_with(affine, codes, cohort, tmp_path)
    # Where only the size is wrong the directions stay, and the first voxel's place.
    expected = oblique(spacing) if fault == "size" else np.diag([*spacing, 1])
    for affine in affines[:2]:
        np.testing.assert_allclose(affine, expected, rtol=1e-6, atol=1e-5)


def change_labels(raw, labels):
    path = raw / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))


def test_other_names_and_values_are_mapped(cohort, raw, tmp_path):
    change_labels(raw, {"background": 0, "LV blood": 2, "Myocardium": 1, "infarction": 3, "No-reflow": 4})
    nnunet.import_dataset(raw, tmp_path / "back", {"LV blood": "cavity"}, silent)
    for one, other in zip(folders.find_cases(cohort), folders.find_cases(tmp_path / "back"), strict=True):
        expected = np.array([0, 2, 1, 3, 4], np.uint8)[emidec.read_case(one).labels]
        np.testing.assert_array_equal(emidec.read_case(other).labels, expected)


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"background": 0, "ventricle": 1}, "'ventricle'"),
        ({"background": 0, "cavity": [1, 2]}, "regions"),
        ({"background": 0, "cavity": 1}, "does not name"),
        ({}, "has no labels"),
    ],
)
def test_labels_without_a_counterpart_are_refused(raw, tmp_path, labels, fault):
    change_labels(raw, labels)
    with pytest.raises(CaseError, match=fault):
        nnunet.import_dataset(raw, tmp_path / "back", {}, silent)


def test_a_dataset_that_lacks_a_file_or_has_two_channels_is_refused(raw, tmp_path):
    first = next((raw / "labelsTr").iterdir())
    image = raw / "imagesTr" / first.name.replace(".nii.gz", "_0000.nii.gz")
    image.with_name(image.name.replace("_0000", "_0001")).write_bytes(image.read_bytes())
    with pytest.raises(CaseError, match="one channel of several"):
        nnunet.import_dataset(raw, tmp_path / "back", {}, silent)
    image.with_name(image.name.replace("_0000", "_0001")).unlink()
    first.unlink()
    with pytest.raises(CaseError, match="is missing"):
        nnunet.import_dataset(raw, tmp_path / "other", {}, silent)
    (raw / "dataset.json").write_text("{")
    with pytest.raises(CaseError, match="is not JSON"):
        nnunet.import_dataset(raw, tmp_path / "third", {}, silent)


def splits_file(tmp_path, folds):
    path = tmp_path / "splits_final.json"
    names = [name for fold in folds for name in fold]
    path.write_text(json.dumps([{"train": [n for n in names if n not in fold], "val": fold} for fold in folds]))
    return path


def test_a_training_takes_nnunets_folds(cohort, tmp_path):
    names = [file.name for file in folders.find_cases(cohort)]
    folds = [[names[0], names[3]], [names[1], names[2]]]
    config = default.get_config()
    config.data.root, config.data.splits = str(cohort), str(splits_file(tmp_path, folds))
    config.num_folds, config.folds, config.stages = 2, (0,), (1,)
    config.plan.spacing = (10.0, 4.0, 4.0)
    config.plan.slices.features, config.plan.slices.batch_size = (4, 8), 2
    config.stage1.update({"steps": 1, "steps_per_dispatch": 1, "validate_every": 1, "checkpoint_every": 1})
    train.run_training(config, tmp_path / "run", silent)
    assert json.loads((tmp_path / "run" / "folds.json").read_text()) == folds


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "is not JSON"),
        ('{"a": 1}', "not a list of folds"),
        ('[{"val": ["a", "b"]}]', "not a list of folds"),
        ('[{"train": ["a", "b"], "val": ["x"]}]', "each case"),
        ('[{"train": [], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]', "does not train fold 0 .* see b"),
        ('[{"train": ["b"], "val": ["a"]}, {"train": ["a", "b"], "val": ["b"]}]', "does not train fold 1 .* see b"),
        ('[{"train": ["b", "b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]', "does not train fold 0 .* see b"),
    ],
)
def test_unusable_splits_are_refused(tmp_path, content, fault):
    path = tmp_path / "splits_final.json"
    path.write_text(content)
    with pytest.raises(CaseError, match=fault):
        nnunet.read_splits(path, ["a", "b"])
