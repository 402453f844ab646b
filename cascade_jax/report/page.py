"""Gathers what is known about a cohort's predictions and sets it into one self-contained HTML file."""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np

from cascade_jax import tables
from cascade_jax.confidence import DOUBTFUL
from cascade_jax.data import emidec
from cascade_jax.data.case import CaseError
from cascade_jax.data.files import write_text
from cascade_jax.data.labels import EMIDEC, LabelTable, spoken
from cascade_jax.evaluation import evaluate_labels
from cascade_jax.preparation import Progress
from cascade_jax.quantify import Quantities, quantify
from cascade_jax.report import charts, slices
from cascade_jax.report.steps import STEPS, dice_by_step, postprocessing_note, vote_note
from cascade_jax.report.warnings import stack_warnings

_WORST = 10
_COMPARED = (("infarct, ml", "infarct_ml"), ("infarct, % of muscle", "infarct_percent"))
_QUANTITIES = (
    ("cavity", "cavity_ml", "ml"),
    ("muscle", "muscle_g", "g"),
    ("infarct", "infarct_g", "g"),
    ("infarct, share of the muscle", "infarct_percent", "%"),
    ("no-reflow", "no_reflow_g", "g"),
    ("no-reflow, share of the muscle", "no_reflow_percent", "%"),
    ("transmurality, mean where there is infarct", "transmurality_mean_percent", "%"),
    ("transmurality, maximum", "transmurality_max_percent", "%"),
    ("endocardium over infarct", "infarct_endocardium_cm2", "cm²"),
)


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where things lie; only the prediction is needed.

    Attributes:
        title: of the page.
        prediction: labels in the challenge's layout, such as `launch.predict` writes.
        images: images of the same cases: a file, a folder of files or a cohort.
        truth: true labels in the challenge's layout.
        earlier: labels of earlier steps of the cascade, to be shown beside: {step, as `steps.STEPS` calls it: folder}.
        workdir: of the training, for its tables and learning curves.
        tables: which of the training's tables belong to these cases.
        labels: which labels there are; what only hearts have is left out for others than the challenge's.
    """

    title: str
    prediction: Path
    images: Path | None = None
    truth: Path | None = None
    earlier: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    workdir: Path | None = None
    tables: tuple[str, ...] = ()
    labels: LabelTable = EMIDEC


@dataclasses.dataclass(frozen=True)
class _Case:
    name: str
    spacing: tuple[float, float, float]
    image: np.ndarray
    layers: dict[str, np.ndarray]  # "prediction", "truth", earlier steps -> labels
    disagreement: np.ndarray | None
    quantities: dict[str, Quantities]  # of "prediction" and "truth"
    metrics: dict[str, dict]  # of all layers against the truth
    warnings: list[str]

    def main_dice(self, table: LabelTable) -> float:
        """The main target's Dice, by which cases are sorted; those without truth come last."""
        return self.metrics["prediction"][table.main]["dice"] if self.metrics else 2.0


def _expected_dice(folder: Path, table: LabelTable) -> dict[str, float]:
    path = folder / "expected_dice.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if table.main not in (rows.fieldnames or ()):
            raise CaseError(path, f"has no column {table.main}; say with --labels_of whose labels these are")
        return {row["case"]: float(row[table.main]) for row in rows if row[table.main]}


def _fitting(path: Path, array: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """What was read from a file, if it is of the prediction's shape."""
    if array.shape != prediction.shape:
        raise CaseError(path, "is not of the prediction's shape")
    return array


def _read_case(
    sources: Sources, name: str, contour: Path, truths: Mapping[str, Path], images: Mapping, expected: Mapping
) -> _Case:
    table = sources.labels
    prediction, spacing = emidec.read_labels(contour, table)
    layers = {"prediction": prediction}
    if name in truths:
        layers["truth"] = _fitting(truths[name], emidec.read_labels(truths[name], table)[0], prediction)
    for step, folder in sources.earlier.items():
        if (path := emidec.contour_path(folder, name)).exists():
            layers[step] = _fitting(path, emidec.read_labels(path, table)[0], prediction)
    image = np.zeros(prediction.shape, np.float32)
    if name in images:
        case = emidec.read_case(dataclasses.replace(images[name], contour=None))
        image = _fitting(images[name].image, case.image, prediction)
    path = emidec.disagreement_path(sources.prediction, name)
    disagreement = _fitting(path, emidec.read_voxels(path), prediction) if path.exists() else None

    right_handed = emidec.read_right_handed(contour)
    shown = emidec.to_file_axes(image) if name in images else None
    quantities = {
        layer: quantify(emidec.to_file_axes(layers[layer]), spacing[::-1], shown, right_handed=right_handed)
        for layer in ("prediction", "truth")
        if layer in layers and table == EMIDEC
    }
    metrics = {}
    if "truth" in layers:
        metrics = {
            layer: evaluate_labels(labels, layers["truth"], spacing, table)
            for layer, labels in layers.items()
            if layer != "truth"
        }
    warnings = stack_warnings(prediction, spacing, table)
    if sources.images is not None and name not in images:
        warnings.append("no image of this case was found")
    if expected.get(name, 1.0) < DOUBTFUL:
        warnings.insert(0, f"doubtful: the cascade expects a Dice of {expected[name]:.2f} for the {spoken(table.main)}")
    return _Case(name, spacing, image, layers, disagreement, quantities, metrics, warnings)


def _case_data(case: _Case, around: Sequence[slices.Outline]) -> dict:
    """What the page's script needs to draw a case."""
    # Earlier steps' stray regions do not widen it: they are what the later ones removed.
    panels = [case.layers[layer] for layer in ("prediction", "truth") if layer in case.layers]
    rows, columns = slices.window(panels, case.spacing)
    cut = (slice(None), rows, columns)
    data = {
        "width": (columns.stop - columns.start) * case.spacing[2],
        "height": (rows.stop - rows.start) * case.spacing[1],
        "images": slices.grey_images(case.image[cut]),
        "layers": {
            layer: [slices.outlines(plane, case.spacing[1:], around) for plane in labels[cut]]
            for layer, labels in case.layers.items()
        },
    }
    if case.disagreement is not None:
        data["disagreement"] = slices.heat_images(case.disagreement[cut])
    return data


def _format(value) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3g}"


def _case_view(case: _Case, data: dict, table: LabelTable) -> dict:
    """What the template needs of a case."""
    figures = {layer: quantities.case for layer, quantities in case.quantities.items()}
    middle = int(np.argmax((case.layers["prediction"] > 0).sum((1, 2))))
    origin = figures["prediction"]["segments_from"] if figures else ""
    mirrored = figures["prediction"]["mirrored"] if figures else ""
    bullseyes = [
        charts.bullseye(
            {row["segment"]: row["transmurality_max_percent"] for row in quantities.segments},
            f"{layer}: maximum transmurality, %",
        )
        for layer, quantities in case.quantities.items()
    ]
    return {
        "name": case.name,
        "warnings": case.warnings,
        "thumbnail": data["images"][middle],
        "aspect": data["height"] / data["width"],
        "dice": {
            layer: [f"{values[target]['dice']:.2f}" for target in table.targets]
            for layer, values in sorted(case.metrics.items(), key=lambda item: list(STEPS).index(item[0]))
        },
        "quantities": [
            (title, unit, [_format(values[key]) for values in figures.values()])
            for title, key, unit in _QUANTITIES
            if figures
        ],
        "layers": {layer: STEPS.get(layer, "t") for layer in case.layers},
        "measured": list(figures),
        "bullseyes": bullseyes,
        "segments_from": {
            "x axis": "No right ventricle was found: segments are counted from the stack's x axis.",
            "right ventricle": "Segments are counted from the right ventricle's insertion, found in the image.",
        }.get(origin, ""),
        "mirrored": {
            "yes": "The slices are shown mirrored; the segments allow for it.",
            "unknown": "The file does not say whether its slices are mirrored; segments suppose a view from the apex.",
        }.get(mirrored, ""),
        "disagreement": case.disagreement is not None,
    }


def _curves(workdir: Path) -> dict[str, dict[str, list]]:
    """The learning curves of a training, by stage and fold."""
    curves: dict[str, dict[str, list]] = {}
    for path in sorted(workdir.glob("stage*/fold*/metrics.csv")):
        values: dict[str, list] = {"loss": [], "validation_dice": []}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, points in values.items():
                    if row[name]:
                        points.append((int(row["step"]), float(row[name])))
        stage, fold = path.parent.parent.name[-1], path.parent.name[4:]
        curves[f"stage {stage}, fold {fold}"] = values
    return curves


def _paper_tables(sources: Sources) -> list[dict]:
    """The tables that the training wrote, as rows of text."""
    if sources.workdir is None or not (sources.workdir / "tables.json").exists():
        return []
    written = json.loads((sources.workdir / "tables.json").read_text())
    shown = []
    for table in sources.tables:
        columns = written[table]["mean"]
        rows = [
            (title, ["-" if mean[target][metric] is None else form(mean[target][metric]) for mean in columns.values()])
            for title, target, metric, form in tables.rows(table, next(iter(columns.values())))
        ]
        notes = [vote_note(columns)] if table == "table3" else []
        shown.append({"title": tables.TITLES[table], "columns": list(columns), "rows": rows, "notes": notes})
    return shown


def _steps_table(sources: Sources, cases: Sequence[_Case]) -> list[dict]:
    """What each step of the cascade changed, if there is anything to compare."""
    shown = dice_by_step([case.metrics for case in cases if case.metrics], sources.labels)
    if shown is None:
        return []
    if sources.workdir is not None:
        shown["notes"].append(postprocessing_note(sources.workdir, {case.name: case.layers for case in cases}))
    return [shown]


def _cohort_charts(cases: Sequence[_Case], table: LabelTable) -> list[tuple[str, str]]:
    """Titles and charts that need the truth."""
    known = [case for case in cases if case.metrics]
    if not known:
        return []
    layers = [layer for layer in ("stage one", "prediction") if all(layer in case.metrics for case in known)]
    boxes = {}
    for title, target, metric, _ in tables.rows("table2", known[0].metrics["prediction"]):
        scale = 100 if title.endswith("%") else 1  # fractions
        boxes[title] = {layer: [scale * case.metrics[layer][target][metric] for case in known] for layer in layers}
    pairs = {}
    for title, key in _COMPARED if table == EMIDEC else ():
        values = np.array([[case.quantities[layer].case[key] for layer in ("prediction", "truth")] for case in known])
        values = values[np.isfinite(values).all(axis=1)]
        if len(values):
            pairs[title] = tuple(values.T)
    result = [("Every case", charts.box_plots(boxes))]
    if pairs:
        result.append(("Infarct against the truth (Bland-Altman)", charts.bland_altman(pairs)))
    return result


def write_report(sources: Sources, output: Path, progress: Progress) -> dict[str, str]:
    """Writes the page.

    Args:
        sources: where things lie.
        output: the HTML file.
        progress: wraps the loop over cases with a bar.

    Returns:
        {case: reason} of those that could not be shown.

    Raises:
        CaseError: there are no predictions, or the file cannot be written.
    """
    failed: dict[str, str] = {}
    contours = emidec.find_contours(sources.prediction, faults=failed)
    truths = {} if sources.truth is None else emidec.find_contours(sources.truth, faults=failed)
    files = [] if sources.images is None else emidec.find_inputs(sources.images, faults=failed)
    images = {file.name: file for file in files}
    table, around = sources.labels, slices.outlines_of(sources.labels)
    expected = _expected_dice(sources.prediction, table)
    cases = []
    for name in progress(sorted(contours), f"reading {len(contours)} cases"):
        try:
            cases.append(_read_case(sources, name, contours[name], truths, images, expected))
        except CaseError as error:
            failed[name] = str(error)
    cases.sort(key=lambda case: (case.main_dice(table), expected.get(case.name, 1.0), case.name))

    data = {case.name: _case_data(case, around) for case in progress(cases, f"drawing {len(cases)} cases")}
    curves = _curves(sources.workdir) if sources.workdir is not None and "table1" in sources.tables else {}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("page.html.jinja").read_text())
    text = template.render(
        title=sources.title,
        cases=[_case_view(case, data[case.name], table) for case in cases],
        data=[json.dumps(data[case.name], separators=(",", ":")) for case in cases],
        tables=_paper_tables(sources) + _steps_table(sources, cases),
        charts=([("Learning curves", charts.learning_curves(curves))] if curves else []) + _cohort_charts(cases, table),
        outlines=around,
        targets=[spoken(target) for target in table.targets],
        worst=_WORST,
        failed=failed,
        with_truth=any(case.metrics for case in cases),
    )
    write_text(output, text)
    return failed
