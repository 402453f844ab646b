"""nnU-Net's raw datasets, read into the challenge's layout and written from it, and its splits.

A raw dataset is a folder with `dataset.json`, `imagesTr/<case>_0000.nii.gz` and `labelsTr/<case>.nii.gz`.
"""

import dataclasses
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from cascade_jax.data import emidec, folders, formats, orientation
from cascade_jax.data.case import LABEL_NAMES, Case, CaseError, number_of_cases
from cascade_jax.data.files import make_writable_folder, read_json, replacing, write_text
from cascade_jax.data.labels import make_label_table
from cascade_jax.data.outputs import refuse_full_folder

_CHANNEL = "_0000"
_LARGEST_VALUE = 2**31 - 1
_IMPORTED = ("dataset.json", "imagesTr", "labelsTr")


def label_values(raw: Path, renamed: Mapping[str, str], names: Sequence[str] = LABEL_NAMES) -> dict[int, int]:
    """What each of a raw dataset's label values is here.

    Args:
        raw: the dataset's folder.
        renamed: {its label's name: ours}; names that are ours already need not be given.
        names: ours, by value.

    Returns:
        {its value: ours}.

    Raises:
        CaseError: `dataset.json` is unusable, or a label has no counterpart.
    """
    path = raw / "dataset.json"
    dataset = read_json(path)
    labels = dataset.get("labels") if isinstance(dataset, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise CaseError(path, "has no labels")
    values = {}
    for name, value in labels.items():
        ours = renamed.get(name, name.strip().lower().replace("-", "_").replace(" ", "_"))
        if ours not in names:
            raise CaseError(path, f"has the label {name!r}, which is none of {', '.join(names)}; map it")
        if type(value) is not int or abs(value) > _LARGEST_VALUE:
            raise CaseError(path, f"has the label {name!r} with the value {value}; regions cannot be read")
        values[value] = names.index(ours)
    return values


def import_dataset(
    raw: Path, output: Path, renamed: Mapping[str, str], progress: Callable, names: Sequence[str] = LABEL_NAMES
) -> int:
    """Writes a raw dataset's training cases as a cohort in the challenge's layout.

    Args:
        raw: the dataset's folder.
        output: the cohort's folder.
        renamed, names: as for `label_values`.
        progress: wraps the loop with a bar.

    Returns:
        How many cases.

    Raises:
        CaseError: a file is missing or unusable; one line says which. The cohort's folder is not empty.
    """
    values = label_values(raw, renamed, names)
    ending = read_json(raw / "dataset.json").get("file_ending", ".nii.gz")
    if ending not in formats.SUFFIXES:
        raise CaseError(
            raw / "dataset.json", f"has files that end in {ending!r}; known are {', '.join(formats.SUFFIXES)}"
        )
    refuse_full_folder(output)
    images = sorted((raw / "imagesTr").glob(f"*{_CHANNEL}{ending}"))
    if not images:
        raise CaseError(raw / "imagesTr", f"holds no image <case>{_CHANNEL}{ending}")
    named = {image.name.removesuffix(f"{_CHANNEL}{ending}") for image in images}
    for path in sorted((raw / "labelsTr").glob(f"*{ending}")):
        if path.name.removesuffix(ending) not in named:
            raise CaseError(path, "has no image in imagesTr")
    cases = []
    for image in progress(images, f"reading {number_of_cases(len(images))} of {raw}"):
        name = image.name.removesuffix(f"{_CHANNEL}{ending}")
        folders.check_name(image, name)
        if image.with_name(f"{name}_0001{ending}").exists():
            raise CaseError(image, "is one channel of several; one is needed")
        labels = raw / "labelsTr" / f"{name}{ending}"
        if not labels.exists():
            raise CaseError(labels, "is missing")
        case = emidec.read_case(folders.CaseFiles(name, image, None))
        cases.append(dataclasses.replace(case, labels=_mapped(labels, case, values)))
    # Only now: a fault in the last case must not leave half a cohort.
    make_writable_folder(output)
    for case in progress(cases, f"writing {number_of_cases(len(cases))}"):
        emidec.write_case(output, case)
    return len(cases)


def not_imported(raw: Path) -> list[str]:
    """What lies in a raw dataset and is not imported, a line each."""
    ending = read_json(raw / "dataset.json").get("file_ending", ".nii.gz")
    lines = [f"{path}: is not imported" for path in sorted(raw.iterdir()) if path.name not in _IMPORTED]
    for folder, wanted in (("imagesTr", f"{_CHANNEL}{ending}"), ("labelsTr", ending)):
        others = [path for path in sorted((raw / folder).iterdir()) if not path.name.endswith(wanted)]
        lines += [f"{path}: is not named <case>{wanted}" for path in others]
    return lines


def _mapped(path: Path, case: Case, known: Mapping[int, int]) -> np.ndarray:
    """The labels of a file, by our values, on the case's grid: uint8 (depth, height, width)."""
    values = emidec.read_voxels(path, like=orientation.geometry_of_case(case), name="its image")
    labels = np.full(values.shape, 255, np.uint8)
    for theirs, ours in known.items():
        labels[values == theirs] = ours
    if (labels == 255).any():
        raise CaseError(path, f"holds the value {values[labels == 255][0]:g}, which dataset.json does not name")
    return labels


def export_dataset(root: Path, raw: Path, progress: Callable, names: Sequence[str] = LABEL_NAMES) -> int:
    """Writes a labelled cohort in the challenge's layout as a raw dataset for nnU-Net.

    Files keep their affine where its voxels are of pixdim's size and at right angles, which nnU-Net's reader requires.
    Others, such as the challenge's that say 1 mm, get one of the true voxel size with the directions of their own:
    nnU-Net reads the affine.

    Args:
        root: the cohort.
        raw: the dataset's folder, such as `nnUNet_raw/Dataset001_Infarct`.
        progress: wraps the loop with a bar.
        names: of the cohort's labels, by value.

    Returns:
        How many cases.

    Raises:
        CaseError: a case is unusable, or the dataset's folder cannot be written or is not empty.
        ValueError: the names cannot be.
    """
    table = make_label_table(names, [(name, (name,)) for name in names[1:]])
    refuse_full_folder(raw)
    files = folders.find_cases(root, labelled=True)
    # All are read before anything is written: a fault in the last case must not leave half a dataset.
    cases = [
        emidec.read_case(file, table) for file in progress(files, f"reading {number_of_cases(len(files))} of {root}")
    ]
    for folder in ("imagesTr", "labelsTr"):
        make_writable_folder(raw / folder)
    for case in progress(cases, f"exporting {number_of_cases(len(cases))}"):
        case = orientation.with_true_affine(case)
        geometry = orientation.geometry_of_case(case)
        for array, path in (
            (case.image, raw / "imagesTr" / f"{case.name}{_CHANNEL}.nii.gz"),
            (case.labels, raw / "labelsTr" / f"{case.name}.nii.gz"),
        ):
            content = nib.Nifti1Image(geometry.to_file(array), geometry.affine).to_bytes()
            with replacing(path) as partial:
                partial.write_bytes(gzip.compress(content, 1, mtime=0))
    dataset = {
        "channel_names": {"0": "LGE"},
        "labels": {name: value for value, name in enumerate(names)},
        "numTraining": len(files),
        "file_ending": ".nii.gz",
    }
    write_text(raw / "dataset.json", json.dumps(dataset, indent=1))
    return len(files)


def read_splits(path: Path, names: list[str]) -> list[list[str]]:
    """The validation cases of each fold in nnU-Net's `splits_final.json`.

    Args:
        path: the file.
        names: of the cohort's cases.

    Raises:
        CaseError: the file is unusable, its folds do not have each case of the cohort once, or a fold does not train on
            all others.
    """
    splits = read_json(path)
    try:
        folds = [sorted(map(str, split["val"])) for split in splits]
        trained = [sorted(map(str, split["train"])) for split in splits]
    except (TypeError, KeyError):
        raise CaseError(path, "is not a list of folds with train and val") from None
    listed = sorted(name for fold in folds for name in fold)
    if listed != sorted(names):
        odd = sorted(set(listed) ^ set(names)) or [name for name in set(listed) if listed.count(name) > 1]
        raise CaseError(path, f"does not have each case of the cohort in one fold's val: see {odd[0]}")
    for index, (fold, train) in enumerate(zip(folds, trained, strict=True)):
        others = sorted(set(names) - set(fold))
        if train != others:
            odd = sorted(set(train) ^ set(others)) or [name for name in train if train.count(name) > 1]
            raise CaseError(path, f"does not train fold {index} on each case outside its val once: see {odd[0]}")
    return folds
