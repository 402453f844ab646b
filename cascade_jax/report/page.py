"""Sets what is known about a cohort's predictions into one self-contained HTML file."""

import csv
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np

from cascade_jax.data.case import number_of_cases
from cascade_jax.data.files import make_writable_folder, read_json, write_text
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.progress import Progress
from cascade_jax.report import charts, quantities, slices, tables
from cascade_jax.report.cases import ReportCase, Sources, read_cases
from cascade_jax.report.confidence import confidence_rows
from cascade_jax.report.insertions import insertion_marks
from cascade_jax.report.steps import STEPS, dice_by_step, postprocessing_note, vote_note

_WORST = 10
_COMPARED = (("infarct, ml", "infarct_ml"), ("infarct, % of myocardium", "infarct_percent"))
# Drawn from the last, which is the widest line, to the first, so that none hides another.
_LAYERS = ("truth", "prediction", "stage one", "before postprocessing")


def _case_data(case: ReportCase, grey: slices.GreyStack, around: Sequence[slices.Outline]) -> dict:
    """What the page's script needs to draw a case."""
    rows, columns = case.shown
    data = {
        "width": (columns.stop - columns.start) * case.spacing[2],
        "height": (rows.stop - rows.start) * case.spacing[1],
        "images": grey.images,
        "held": grey.held,
        "shown": grey.shown,
        "layers": {
            layer: [slices.outlines(plane, case.spacing[1:], around) for plane in labels[:, rows, columns]]
            for layer, labels in case.layers.items()
        },
    }
    if case.measured:
        whole = insertion_marks(case.layers[case.measured.leading], case.spacing, case.measured.insertions)
        across, down = columns.start * case.spacing[2], rows.start * case.spacing[1]
        data["marks"] = [
            [
                (letter, *(round(value, 1) for value in (x - across, y - down, end_x - across, end_y - down)))
                for letter, x, y, end_x, end_y in marks
            ]
            for marks in whole
        ]
    data["maps"] = {kind: slices.heat_images(values[:, rows, columns]) for kind, values in case.maps.items()}
    return data


def _case_view(case: ReportCase, grey: slices.GreyStack, data: dict, table: LabelTable) -> dict:
    """What the template needs of a case."""
    measured = case.measured.layers if case.measured else {}
    transmurality = {
        layer: {row["segment"]: row["transmurality_max_percent"] for row in values.segments}
        for layer, values in measured.items()
    }
    return {
        "name": case.name,
        "warnings": case.warnings,
        "thumbnail": grey.thumbnail,
        "aspect": data["height"] / data["width"],
        "mean_dice": None if case.mean_dice is None else f"{case.mean_dice:.2f}",
        "dice": {
            layer: [f"{case.metrics[layer][target]['dice']:.2f}" for target in table.targets]
            for layer in STEPS
            if layer in case.metrics
        },
        "layers": {layer: STEPS.get(layer, "t") for layer in _LAYERS if layer in case.layers},
        "measured": list(measured),
        "confidence": confidence_rows(case.confidence, table) if case.confidence else [],
        "quantities": quantities.case_rows(measured.values()),
        "segments": quantities.segment_rows(measured.values()),
        "bullseyes": _bullseyes(case, transmurality) if measured else "",
        "notes": quantities.threshold_notes(measured),
        "insertions": bool(case.measured and case.measured.insertions),
        "counted": quantities.bullseye_note(case.measured) if measured and not case.measured.insertions else "",
        "frame": case.measured.frame if case.measured else "",
        "maps": {kind: slices.HEAT_MAPS[kind] for kind in case.maps},
    }


def _bullseyes(case: ReportCase, transmurality: Mapping[str, Mapping[int, float]]) -> str:
    measured = case.measured
    return charts.bullseyes(
        transmurality,
        f"bullseyes of {case.name}",
        quantities.bullseye_marks(measured),
        quantities.bullseye_note(measured),
    )


def _case_groups(cases: Sequence[ReportCase], table: LabelTable) -> list[dict]:
    """The cases in their order under headings that say by what they are sorted; the ten worst apart.

    Returns:
        {"title", "cases": the numbers of those below it} for each heading.
    """
    numbers = list(range(len(cases)))
    known = sum(case.mean_dice is not None for case in cases)
    if not known:
        said = any(case.confidence is not None for case in cases)
        order = ", most doubtful first, by the Dice that the cascade expects"
        return [{"title": "Cases" + order * said, "cases": numbers}]
    order = "by the prediction's mean Dice over " + ", ".join(display_name(target) for target in table.targets)
    if known <= _WORST:
        return [{"title": f"Cases, worst first, {order}", "cases": numbers}]
    return [
        {"title": f"The {_WORST} worst cases, {order}", "cases": numbers[:_WORST]},
        {"title": "The other cases, in the same order", "cases": numbers[_WORST:]},
    ]


def _curves(workdir: Path) -> dict[tuple[int, int], dict[str, list]]:
    """The learning curves of a training, {(stage, fold): {"loss" or "validation_dice": [(step, value), ...]}}."""
    curves: dict[tuple[int, int], dict[str, list]] = {}
    for path in sorted(workdir.glob("stage*/fold*/metrics.csv")):
        values: dict[str, list] = {"loss": [], "validation_dice": []}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, points in values.items():
                    if row[name]:
                        points.append((int(row["step"]), float(row[name])))
        stage, fold = path.parent.parent.name.removeprefix("stage"), path.parent.name.removeprefix("fold")
        curves[int(stage), int(fold)] = values
    return curves


def _paper_tables(sources: Sources) -> list[dict]:
    """The tables that the training wrote, as rows of text."""
    if sources.workdir is None or not (sources.workdir / "tables.json").exists():
        return []
    written = read_json(sources.workdir / "tables.json")
    shown = []
    for table in sources.tables:
        means = written[table]["mean"]
        interval = written[table].get("interval", {})  # that of an older run has none
        columns, rows = tables.text_rows(table, means, interval)
        notes = [tables.interval_note(table)] if interval else []
        notes += [vote_note(means)] if table == "table3" else []
        shown.append({"title": tables.TITLES[table], "columns": columns, "rows": rows, "notes": notes})
    return shown


def _steps_table(sources: Sources, cases: Sequence[ReportCase]) -> list[dict]:
    """What each step of the cascade changed, if there is anything to compare."""
    shown = dice_by_step([case.metrics for case in cases if case.metrics], sources.labels)
    if shown is None:
        return []
    if sources.workdir is not None:
        shown["notes"].append(postprocessing_note(sources.workdir, {case.name: case.layers for case in cases}))
    return [shown]


def _cohort_charts(cases: Sequence[ReportCase], table: LabelTable) -> list[tuple[str, str]]:
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
        layers_of = [case.measured.layers for case in known if case.measured]
        values = np.array([[layers[layer].case[key] for layer in ("prediction", "truth")] for layers in layers_of])
        values = values.reshape(-1, 2)
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
        CaseError: there are no predictions, the file cannot be written, or another would be replaced.
    """
    refuse_to_replace(output.parent, [output.name])
    make_writable_folder(output.parent)
    cases, failed = read_cases(sources, progress)
    table, around = sources.labels, slices.outlines_of(sources.labels)
    views, data = [], []
    for case in progress(cases, f"drawing {number_of_cases(len(cases))}"):
        rows, columns = case.shown
        fullest = int(np.argmax((case.layers["prediction"] > 0).sum((1, 2))))
        grey = slices.grey_images(case.image[:, rows, columns], fullest)
        data.append(_case_data(case, grey, around))
        views.append(_case_view(case, grey, data[-1], table))
    curves = _curves(sources.workdir) if sources.workdir is not None and "table1" in sources.tables else {}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("page.html.jinja").read_text())
    text = template.render(
        title=sources.title,
        cases=views,
        groups=_case_groups(cases, table),
        data=[json.dumps(values, separators=(",", ":")) for values in data],
        tables=_paper_tables(sources) + _steps_table(sources, cases),
        charts=([("Learning curves", charts.learning_curves(curves))] if curves else []) + _cohort_charts(cases, table),
        outlines=around,
        heat_colour=slices.HEAT_COLOUR,
        segment_columns=[title for title, _ in quantities.OF_A_SEGMENT],
        targets=[display_name(target) for target in table.targets],
        failed=failed,
        with_truth=any(case.metrics for case in cases),
    )
    with recording_outputs(output.parent, [output.name]):
        write_text(output, text)
    return failed
