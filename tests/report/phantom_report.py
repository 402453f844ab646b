"""A report on simulated hearts, and what a training leaves behind for it to show."""

import json

import numpy as np

from cascade_jax.bundle import MODEL_FILE, PRETRAINED, folder_of
from cascade_jax.case_warnings import LOW_CONFIDENCE, CaseWarning
from cascade_jax.confidence import Confidence
from cascade_jax.data import emidec, folders
from cascade_jax.data.labels import EMIDEC
from cascade_jax.metrics import evaluate_labels
from cascade_jax.phantoms import simulated
from cascade_jax.report import tables
from cascade_jax.report.cases import Sources
from cascade_jax.report.confidence import write_confidence
from cascade_jax.report.page import write_report

DOUBTFUL = Confidence(
    {"myocardium": 0.41, "infarction": 0.3, "no_reflow": 0.9},
    {"myocardium": 80.0, "infarction": 12.0, "no_reflow": 0.0},
    {"myocardium": (70.0, 95.0), "infarction": (0.0, 31.5), "no_reflow": (0.0, 0.2)},
    {"infarction": 0.62, "no_reflow": 0.1},
    9.0,
    "the cascade expects a mean Dice of 0.54, of 0.30 for the infarction",
    (CaseWarning(LOW_CONFIDENCE, "the cascade expects a mean Dice of 0.54, of 0.30 for the infarction"),),
    "emidec 0123456789ab",
)
SURE = Confidence(
    {"myocardium": 0.95, "infarction": 0.5, "no_reflow": np.nan}, dict.fromkeys(EMIDEC.targets, 1.0), doubtful=None
)


def silent(iterable, _):
    return iterable


def phantom_sources(root):
    cohort, earlier = root / "cohort", {"stage one": root / "stage1", "before postprocessing": root / "stage2"}
    shown = ("table1", "table2")
    return Sources("three <phantoms>", root / "prediction", cohort, cohort, earlier, None, root / "run", shown)


def write_phantom_report(root):
    """A page on three phantoms with predictions shifted by 3, 2 and 1 pixels, and their names, worst first."""
    simulated.write_cohort(root / "cohort", 3, 2, field_of_view_mm=115)
    dice = {}
    for index, file in enumerate(folders.find_cases(root / "cohort")):
        case = emidec.read_case(file)
        labels = np.roll(case.labels, 3 - index, axis=2)
        metrics = evaluate_labels(labels, case.labels, case.spacing)
        dice[case.name] = np.mean([values["dice"] for values in metrics.values()])
        emidec.write_labels(root / "prediction", labels, case)
        emidec.write_labels(root / "stage1", np.roll(case.labels, 4, axis=1), case)
        emidec.write_labels(root / "stage2", np.where(np.arange(len(labels))[:, None, None] > 1, labels, 0), case)
        emidec.write_maps(root / "prediction", {folders.DOUBT: (labels != case.labels).astype(np.float32)}, case)
        emidec.write_maps(root / "prediction", {folders.DISAGREEMENT: 0.4 * (labels != case.labels)}, case)
    names = sorted(dice, key=dice.get)
    write_confidence(root / "prediction", {names[0]: DOUBTFUL, names[1]: SURE}, EMIDEC)
    write_run(root / "run", names)
    assert write_report(phantom_sources(root), root / "report.html", silent) == {}
    return root / "report.html", names


def write_run(workdir, names):
    """What a training of two folds leaves behind, for the report to show."""
    targets = ("myocardium", "infarction", "no_reflow")
    metrics = {target: {"dice": 0.75, "volume_difference_mm3": 1200.0} for target in targets}
    folds = {"fold 0": {names[0]: metrics}, "fold 1": {name: metrics for name in names[1:]}}
    for stage in (1, 2):
        for fold in (0, 1):
            folder = workdir / f"stage{stage}" / f"fold{fold}"
            folder.mkdir(parents=True)
            rows = [f"{step},{1 / (step + fold)},{0.2 * stage + step / 400}" for step in (100, 200)]
            (folder / "metrics.csv").write_text("\n".join(["step,loss,validation_dice", *rows]))
    tables.write(workdir, {"table1": folds, "table2": folds})
    write_model(workdir, [])


def write_model(workdir, rules):
    """The model file of the cascade in the box, with other rules of postprocessing."""
    model = json.loads((folder_of(PRETRAINED) / MODEL_FILE).read_text()) | {"rules": rules}
    (workdir / MODEL_FILE).write_text(json.dumps(model))
