"""What the documents take for granted: scans, readers' outlines, trainings that have been run."""

import json
import shutil
import zipfile
from pathlib import Path

from cascade_jax.data import emidec, folders
from tests.commands.running import run
from tests.data.dicom_series import simulated_case, write_classic


def prepare(root: Path, trained: Path) -> dict[str, Path]:
    """Makes all of it in a folder.

    Args:
        root: an empty folder.
        trained: the working folder of a small training on phantoms.

    Returns:
        What stands for each name of the documents.
    """
    cohort, files, truth, series = root / "cohort", root / "files", root / "truth", root / "series"
    shutil.copytree(trained / "data" / "training", cohort)
    cases = folders.find_cases(cohort, labelled=True)
    for case in cases[2:]:
        shutil.rmtree(cohort / case.name)
    cases = cases[:2]
    for folder in (files, truth):
        folder.mkdir()
    for case in cases:
        shutil.copy(case.image, files / f"{case.name}.nii.gz")
        shutil.copy(case.contour, truth / f"{case.name}.nii.gz")
    result = run("launch.console", ["predict", "--input=files", "--output=segmented", "--images"], root)
    assert result.returncode == 0, result.stderr
    _correct(root / "segmented", truth)
    result = run("launch.console", ["nnunet", "--cohort=cohort", "--to_raw=Dataset001_Infarct"], root)
    assert result.returncode == 0, result.stderr
    theirs = root / "nnUNet_raw" / "Dataset001_Infarct"
    shutil.copytree(root / "Dataset001_Infarct", theirs)
    described = json.loads((theirs / "dataset.json").read_text())
    described["labels"]["LV blood"] = described["labels"].pop("cavity")
    (theirs / "dataset.json").write_text(json.dumps(described))
    (root / "insertions.csv").write_text(f"case,insertion_degrees\n{cases[0].name},120\n")
    write_classic(series / "patient", simulated_case(root / "simulated"))
    with zipfile.ZipFile(root / "series.zip", "w") as archive:
        for path in (series / "patient").iterdir():
            archive.write(path, path.name)
    return {
        "scan.nii.gz": files / f"{cases[0].name}.nii.gz",
        "scans": files,
        **dict.fromkeys(("contours", "contours_ann", "contours_bob", "ann", "bob"), truth),
        "segmented": root / "segmented",
        **dict.fromkeys(("cohort", "emidec-dataset-1.0.1", "56_cases", "many"), cohort),
        "14_cases": trained / "data" / "held_out",
        **dict.fromkeys(("runs/own", "runs/emidec", "runs/phantom", "runs/pretrain11"), trained),
        "Dataset001_Infarct": root / "Dataset001_Infarct",
        "nnUNet_raw/Dataset001_Infarct": theirs,
        "insertions.csv": root / "insertions.csv",
        **dict.fromkeys(("export", "monday"), series),
        **dict.fromkeys(("series.zip", "tuesday.zip"), root / "series.zip"),
    }


def _correct(segmented: Path, truth: Path) -> None:
    """The corrections of a reader who sees the truth."""
    for file in truth.iterdir():
        [image] = (segmented / file.name.removesuffix(".nii.gz") / "Images").iterdir()
        corrected = image.parents[1] / "Corrected" / file.name
        corrected.parent.mkdir()
        name = file.name.removesuffix(".nii.gz")
        case = emidec.read_case(folders.CaseFiles(name, image, None))
        emidec.write_labels_as(corrected, emidec.read_labels(file)[0], case)
