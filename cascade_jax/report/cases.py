"""Reads what is known about each case of a report: labels, image, maps, metrics, quantities and warnings."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cascade_jax.case_warnings import (
    CORRECTED,
    NO_IMAGE,
    NO_TRUTH,
    OTHER_LABELS,
    CaseWarning,
    warnings_of_labels,
)
from cascade_jax.data import emidec, folders, orientation
from cascade_jax.data.case import CaseError, number_of_cases
from cascade_jax.data.corrections import Correction, find_corrections
from cascade_jax.data.labels import EMIDEC, LabelTable
from cascade_jax.metrics import evaluate_labels
from cascade_jax.progress import Progress
from cascade_jax.quantify.orientations import Orientation
from cascade_jax.quantify.plausibility import implausibility
from cascade_jax.report import slices
from cascade_jax.report.account import Account, read_accounts
from cascade_jax.report.quantities import Measured, measure
from cascade_jax.report.warnings import hidden_warnings


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where things lie; only the prediction is needed.

    Attributes:
        title: of the page.
        prediction: labels in the challenge's layout, such as `cascade-jax predict` writes.
        images: images of the same cases: a file, a folder of files or a cohort.
        truth: true labels in the challenge's layout.
        earlier: labels of earlier steps of the cascade, to be shown beside: {step, as `steps.STEPS` calls it: folder}.
        maps: where maps of doubt and of disagreement lie; None: beside the prediction.
        workdir: of the training, for its tables and learning curves.
        tables: which of the training's tables belong to these cases.
        labels: which labels there are; what only hearts have is left out for others than the challenge's.
        orientations: {case: what is known of how its slices lie}, instead of a search for it.
        corrected: whether labels that a reader has corrected stand for the prediction where there are any.
        weights: which networks drew the predicted outlines; empty where it is not known.
    """

    title: str
    prediction: Path
    images: Path | None = None
    truth: Path | None = None
    earlier: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    maps: Path | None = None
    workdir: Path | None = None
    tables: tuple[str, ...] = ()
    labels: LabelTable = EMIDEC
    orientations: Mapping[str, Orientation] = dataclasses.field(default_factory=dict)
    corrected: bool = False
    weights: str = ""


@dataclasses.dataclass(frozen=True)
class ReportCase:
    """A case as the report knows it; arrays are (depth, height, width).

    Attributes:
        name: of the case.
        spacing: mm along the arrays' axes.
        image: float32, zeros where there is none.
        layers: labels of the "prediction", the "truth" and earlier steps.
        shown: rows and columns of the pictures.
        maps: {kind: map, 0 to 1} of those there are: `folders.DOUBT`, `folders.DISAGREEMENT`.
        measured: of prediction and truth; None for other labels than the challenge's, and what cannot be a heart by it.
        metrics: {layer: {target: {metric: value}}} against the truth; empty without one.
        sides: of the body, {"left", "right", "top", "bottom" of the picture: letters}, or None where unknown.
        account: what the cascade says of its own result.
        warnings: what to look at, the reasons for doubt first.
    """

    name: str
    spacing: tuple[float, float, float]
    image: np.ndarray
    layers: dict[str, np.ndarray]
    shown: tuple[slice, slice]
    maps: dict[str, np.ndarray]
    measured: Measured | None
    metrics: dict[str, dict]
    sides: dict[str, str] | None
    account: Account
    warnings: list[CaseWarning]

    @property
    def mean_dice(self) -> float | None:
        """The prediction's mean Dice over all targets, None without truth."""
        if not self.metrics:
            return None
        return float(np.mean([values["dice"] for values in self.metrics["prediction"].values()]))

    @property
    def doubt(self) -> float | None:
        """The cascade's doubt of its own result, 0 to 1, None where it says none."""
        return self.account.doubt

    @property
    def ends(self) -> tuple[str, str]:
        """What the first and the last slice are, "base" and "apex" or the reverse; empty where it is unknown."""
        base_first = self.measured.layers[self.measured.leading].case["base_first"] if self.measured else "unknown"
        return {"yes": ("base", "apex"), "no": ("apex", "base")}.get(base_first, ("", ""))


def read_cases(sources: Sources, progress: Progress) -> tuple[list[ReportCase], dict[str, str]]:
    """The cases, worst first: by mean Dice, then those without truth the most doubtful first, then by name.

    Returns:
        The cases, and {case: reason} of those that could not be read.

    Raises:
        CaseError: there are no predictions, or a table beside them is not what it should be.
    """
    failed: dict[str, str] = {}
    contours = folders.find_contours(sources.prediction, faults=failed)
    others = dict(sources.earlier) if sources.truth is None else {"truth": sources.truth} | dict(sources.earlier)
    layers = {layer: folders.find_contours(folder, faults=failed) for layer, folder in others.items()}
    if sources.workdir is None:  # a training may have predicted some of its folds only
        for name in layers.get("truth", {}).keys() - contours.keys():
            failed.setdefault(name, f"{sources.prediction}: holds no labels of this case")
    files = [] if sources.images is None else folders.find_inputs(sources.images, faults=failed)
    images = {file.name: file for file in files}
    accounts = read_accounts(sources.prediction, sources.labels)
    faulty: dict[str, str] = {}
    corrections = find_corrections(sources.prediction, faults=faulty) if sources.corrected else {}
    failed |= faulty
    cases, readable = [], sorted(contours.keys() - faulty.keys())
    for name in progress(readable, f"reading {number_of_cases(len(readable))}"):
        try:
            paths = {"prediction": contours[name]} | {
                layer: found[name] for layer, found in layers.items() if name in found
            }
            account, correction = accounts.get(name, Account()), corrections.get(name)
            cases.append(_read_case(sources, name, paths, images, account, correction))
        except CaseError as error:
            failed[name] = str(error)
    return sorted(cases, key=_worst_first), failed


def _worst_first(case: ReportCase) -> tuple:
    # What is not known comes after what is.
    known = [np.inf if value is None else value for value in (case.mean_dice, case.account.rank)]
    return *known, case.name


def _read_case(
    sources: Sources,
    name: str,
    paths: Mapping[str, Path],
    images: Mapping,
    account: Account,
    correction: Correction | None,
) -> ReportCase:
    table, contour = sources.labels, paths["prediction"]
    # All that is shown lies on the grid of the image, where there is one, else on the prediction's.
    image, reference = None, contour
    if name in images:
        image = emidec.read_case(dataclasses.replace(images[name], contour=None)).image
        reference = images[name].image
    grid, on = emidec.read_geometry(reference), f"{reference.parent.name}/{reference.name}"
    spacing = grid.spacing
    if correction is not None:
        paths = {**paths, "prediction": correction.path}
    layers = {layer: emidec.read_labels(path, table, like=grid, name=on)[0] for layer, path in paths.items()}
    prediction = layers["prediction"]
    paths = {kind: emidec.path_in(sources.maps or sources.prediction, kind, name) for kind in slices.HEAT_MAPS}
    maps = {kind: emidec.read_voxels(path, like=grid, name=on) for kind, path in paths.items() if path.exists()}

    final = {layer: layers[layer] for layer in ("prediction", "truth") if layer in layers}
    measured = None
    faults = {layer: implausibility(labels) for layer, labels in final.items()} if table == EMIDEC else {}
    foreign = [
        CaseWarning(OTHER_LABELS, f"the {layer} is not measured: it is not labelled as the challenge is: {fault}")
        for layer, fault in faults.items()
        if fault
    ]
    if table == EMIDEC and not foreign and not np.isnan(spacing[0]):
        known = sources.orientations.get(name, Orientation())
        if correction is not None and known.insertion is None:
            known = dataclasses.replace(known, insertion=correction.insertion)
        measured = measure(final, spacing, image, known, orientation.right_handed(grid))
    metrics = {}
    if "truth" in layers:
        metrics = {
            layer: evaluate_labels(labels, layers["truth"], spacing, table)
            for layer, labels in layers.items()
            if layer != "truth"
        }
    # Earlier steps' regions do not widen the pictures: they are what the later ones removed.
    shown = slices.window(list(final.values()), spacing)
    said = list(account.warnings)
    if correction is not None:  # what the cascade said is of its own labels
        by = f"by {correction}: what is called the prediction here is that correction"
        account, said = Account(), [CaseWarning(CORRECTED, by)]
    warnings = [*said, *foreign, *warnings_of_labels(prediction, spacing, table)]
    warnings += hidden_warnings(final, shown, spacing)
    if sources.images is not None and image is None:
        warnings.append(CaseWarning(NO_IMAGE, "no image of this case was found"))
    if sources.truth is not None and "truth" not in layers:
        warnings.append(CaseWarning(NO_TRUTH, "no true labels of this case were found"))
    image = np.zeros(prediction.shape, np.float32) if image is None else image
    sides = orientation.sides_of_picture(grid)
    return ReportCase(name, spacing, image, layers, shown, maps, measured, metrics, sides, account, warnings)
