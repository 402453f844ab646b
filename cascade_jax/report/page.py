"""Sets what is known about a cohort's predictions into one self-contained HTML file."""

import csv
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np

from cascade_jax.data.case import number_of_cases
from cascade_jax.data.files import make_writable_folder, read_json, write_text
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.progress import Progress
from cascade_jax.report import bullseye, charts, cohort, quantities, slices, tables
from cascade_jax.report.cases import ReportCase, Sources, read_cases
from cascade_jax.report.confidence import confidence_rows
from cascade_jax.report.insertions import bullseye_note, marks_in_picture
from cascade_jax.report.paper import write_papers
from cascade_jax.report.provenance import RESEARCH_ONLY, provenance
from cascade_jax.report.steps import STEPS, dice_by_step, postprocessing_note, vote_note

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
        "sides": case.sides,
        "ends": {0: case.ends[0], len(case.image) - 1: case.ends[1]},
        "rings": _rings(case),
        "layers": {
            layer: [slices.outlines(plane, case.spacing[1:], around) for plane in labels[:, rows, columns]]
            for layer, labels in case.layers.items()
        },
    }
    if case.measured:
        leading = case.layers[case.measured.leading]
        data["marks"] = marks_in_picture(leading, case.spacing, case.measured.insertions, case.shown)
    data["maps"] = {kind: slices.heat_images(values[:, rows, columns]) for kind, values in case.maps.items()}
    return data


def _rings(case: ReportCase) -> list[str]:
    """The ring of each slice, "base", "middle", "apex" or "cap"; empty where it has none."""
    rows = case.measured.layers[case.measured.leading].slices if case.measured else []
    rings = {row["slice"]: row["ring"] or "" for row in rows}
    return [rings.get(number, "") for number in range(1, len(case.image) + 1)]


def _case_view(case: ReportCase, grey: slices.GreyStack, data: dict, table: LabelTable, cells: list) -> dict:
    """What the template needs of a case."""
    measured = case.measured.layers if case.measured else {}
    view = {
        "name": case.name,
        "warnings": [str(warning) for warning in case.warnings],
        "cells": cells,
        "thumbnail": grey.thumbnail,
        "aspect": round(data["height"] / data["width"], 3),
        "figures": quantities.key_figures(case.measured, case.account),
        "lies": _how_it_lies(case),
        "dice": {
            layer: [f"{case.metrics[layer][target]['dice']:.2f}" for target in table.targets]
            for layer in STEPS
            if layer in case.metrics
        },
        "layers": {layer: STEPS.get(layer, "t") for layer in _LAYERS if layer in case.layers},
        "measured": list(measured),
        "confidence": confidence_rows(case.account.confidence, table) if case.account.confidence else [],
        "maps": {kind: slices.HEAT_MAPS[kind] for kind in case.maps},
    }
    return view | (_measured_view(case, case.measured) if case.measured else {})


def _measured_view(case: ReportCase, measured: quantities.Measured) -> dict:
    """What the template needs of a case's quantities."""
    of_layers = measured.layers.values()
    rows, thresholds = quantities.case_rows(of_layers, case.account), quantities.threshold_rows(of_layers)
    return {
        "quantities": rows,
        "interval": quantities.INTERVAL if any(row.beside for row in rows) else "",
        "slices": quantities.slice_rows(of_layers),
        "segments": quantities.segment_rows(of_layers),
        "territories": quantities.territory_rows(measured),
        "thresholds": thresholds,
        "bullseyes": _bullseyes(case.name, measured),
        "bullseye_note": bullseye_note(measured.layers[measured.leading].case),
        "insertions": bool(measured.insertions),
        "counted": bullseye.X_AXIS if quantities.counted_from_x_axis(measured) else "",
        "frame": measured.frame,
        "notes": [quantities.THRESHOLDS_ASSUME] * bool(thresholds) + quantities.threshold_notes(measured.layers),
    }


def _how_it_lies(case: ReportCase) -> str:
    """Sentences on the sides of the body, and on base and apex, where they are unknown."""
    texts = []
    if case.sides is None:
        texts.append("Sides of the body: unknown, the file does not say how its slices lie.")
    if not any(case.ends):
        texts.append("Base and apex: unknown.")
    return " ".join(texts)


def _bullseyes(name: str, measured: quantities.Measured) -> dict[str, list[tuple[str, str]]]:
    """{layer: titles and plots, the large one first}."""
    marks, from_x_axis = quantities.bullseye_marks(measured), quantities.counted_from_x_axis(measured)
    return {
        layer: [
            (
                title,
                bullseye.as_svg(
                    values.segments,
                    measure,
                    f"{title}, of {name}: {layer}",
                    marks=marks,
                    from_x_axis=from_x_axis,
                    small=index > 0,
                ),
            )
            for index, (measure, title) in enumerate(bullseye.MEASURES.items())
        ]
        for layer, values in measured.layers.items()
        if values.segments
    }


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
    known = [(charts.Point(case.name, f"#case-{number}"), case) for number, case in enumerate(cases) if case.metrics]
    if not known:
        return []
    layers = [layer for layer in ("stage one", "prediction") if all(layer in case.metrics for _, case in known)]
    boxes = {}
    for title, target, metric, _ in tables.rows("table2", known[0][1].metrics["prediction"]):
        scale = 100 if title.endswith("%") else 1  # fractions
        boxes[title] = {layer: [scale * case.metrics[layer][target][metric] for _, case in known] for layer in layers}
    pairs, points = {}, {}
    for title, key in _COMPARED if table == EMIDEC else ():
        both = [
            (point, *(case.measured.layers[layer].case[key] for layer in ("prediction", "truth")))
            for point, case in known
            if case.measured
        ]
        both = [values for values in both if np.isfinite(values[1:]).all()]
        if both:
            points[title], *pairs[title] = zip(*both, strict=True)
    result = [("Every case", charts.box_plots(boxes, [point for point, _ in known]))]
    if pairs:
        result.insert(0, ("Infarct against the truth (Bland-Altman)", charts.bland_altman(pairs, points)))
    return result


def write_report(
    sources: Sources,
    output: Path | None,
    progress: Progress,
    *,
    papers: Path | None = None,
    made: datetime.date | None = None,
) -> dict[str, str]:
    """Writes the page, and one page of PDF a case.

    Args:
        sources: where things lie.
        output: the HTML file; None writes none.
        progress: wraps the loop over cases with a bar.
        papers: the folder of the PDF files; None writes none.
        made: the date on them.

    Returns:
        {case: reason} of those that could not be shown.

    Raises:
        CaseError: there are no predictions, a file cannot be written, or another would be replaced.
    """
    if output is not None:
        refuse_to_replace(output.parent, [output.name])
        make_writable_folder(output.parent)
    cases, failed = read_cases(sources, progress)
    if papers is not None:
        write_papers(cases, sources, papers, made or datetime.date.today(), progress)
    if output is not None:
        text = _page(cases, failed, sources, progress)
        with recording_outputs(output.parent, [output.name]):
            write_text(output, text)
    return failed


def _page(cases: Sequence[ReportCase], failed: Mapping[str, str], sources: Sources, progress: Progress) -> str:
    """The page's HTML."""
    table, around = sources.labels, slices.outlines_of(sources.labels)
    columns, rows = cohort.cohort_table(cases, table)
    views, data = [], []
    for case, cells in progress(list(zip(cases, rows, strict=True)), f"drawing {number_of_cases(len(cases))}"):
        shown_rows, shown_columns = case.shown
        fullest = int(np.argmax((case.layers["prediction"] > 0).sum((1, 2))))
        grey = slices.grey_images(case.image[:, shown_rows, shown_columns], fullest)
        data.append(_case_data(case, grey, around))
        views.append(_case_view(case, grey, data[-1], table, cells))
    curves = _curves(sources.workdir) if sources.workdir is not None and "table1" in sources.tables else {}
    loader = jinja2.PackageLoader("cascade_jax.report", "html")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = {name: loader.get_source(environment, name)[0] for name in ("page.css", "viewer.js", "page.js")}
    return environment.get_template("page.html.jinja").render(
        title=sources.title,
        research_only=RESEARCH_ONLY,
        provenance=provenance(sources, cases),
        order=cohort.order_of(cases, table),
        columns=columns,
        cases=views,
        data=[json.dumps(values, separators=(",", ":")) for values in data],
        tables=_paper_tables(sources) + _steps_table(sources, cases),
        charts=_cohort_charts(cases, table) + ([("Learning curves", charts.learning_curves(curves))] if curves else []),
        outlines=around,
        heat_colour=slices.HEAT_COLOUR,
        segment_columns=[title for title, _ in quantities.OF_A_SEGMENT],
        slice_columns=[title for title, _ in quantities.OF_A_SLICE],
        targets=[display_name(target) for target in table.targets],
        failed=failed,
        style=source["page.css"],
        script=source["viewer.js"] + source["page.js"],
    )
