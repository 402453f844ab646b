"""The table of a cohort's cases, with which its page begins."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from cascade_jax.case_warnings import in_one_line
from cascade_jax.data.labels import LabelTable, display_name
from cascade_jax.report import quantities
from cascade_jax.report.cases import ReportCase


class Column(NamedTuple):
    """A column: its title, what it means, which way it is sorted first, and whether it holds words."""

    title: str
    meaning: str
    first: str = "descending"
    words: bool = False


class Cell(NamedTuple):
    """A cell: what stands there, what it is sorted by (None comes last), and whether it is words."""

    text: str
    value: float | None
    words: bool = False


_CASE = Column("case", "the case's name", "ascending", words=True)
_QUANTITIES = (
    (Column("infarct, g", "mass of the infarct as predicted, no-reflow included"), "infarct_g"),
    (Column("infarct, %", "the infarct's share of the myocardium"), "infarct_percent"),
    (
        Column("transmurality, %", "the largest share of the wall that the infarct takes anywhere"),
        "transmurality_max_percent",
    ),
    (Column("no-reflow, g", "mass of the no-reflow"), "no_reflow_g"),
)
_TRUTH = Column("infarct, g, truth", "mass of the infarct by the true labels")
_PROBABILITY = Column("probability of an infarct, %", "by the cascade's own account")
_DOUBT = Column("doubt", "0 to 1, by the cascade's own account: the higher, the rather a reader should look")
_WARNINGS = Column("warnings", "sorted by their number", words=True)


def cohort_table(cases: Sequence[ReportCase], table: LabelTable) -> tuple[list[Column], list[list[Cell]]]:
    """The columns and, for each case, the cells of all but the first, which is its name."""
    measured = any(case.measured for case in cases)
    intervals = [text for case in cases if (text := quantities.interval_text(case.account, "infarct_g"))]
    truth = any(case.measured and "truth" in case.measured.layers for case in cases)
    probability = any(case.account.infarct_probability is not None for case in cases)
    dice, doubt = (any(getattr(case, name) is not None for case in cases) for name in ("mean_dice", "doubt"))
    targets = ", ".join(display_name(target) for target in table.targets)
    columns = [_CASE, *((column for column, _ in _QUANTITIES) if measured else ())]
    columns += [Column("interval, g", "in which the infarct's mass lies, by the cascade's account")] * bool(intervals)
    columns += [_PROBABILITY] * probability + [_TRUTH] * truth
    columns += [Column("mean Dice", f"against the truth, mean over {targets}", "ascending")] * dice
    columns += [_DOUBT] * doubt + [_WARNINGS]
    rows = []
    for case in cases:
        layers = case.measured.layers if case.measured else {}
        cells = []
        if measured:
            figures = layers["prediction"].case if layers else {}
            cells += [_number(figures.get(key)) for _, key in _QUANTITIES]
        if intervals:
            interval = case.account.interval_of("infarct_g")
            text = quantities.interval_text(case.account, "infarct_g") or "-"
            cells.append(Cell(text, interval[1] - interval[0] if interval else None))
        if probability:
            share = case.account.infarct_probability
            cells.append(_number(None if share is None else 100 * share))
        if truth:
            cells.append(_number(layers["truth"].case["infarct_g"] if "truth" in layers else None))
        cells += [_number(case.mean_dice)] * dice + [_number(case.doubt)] * doubt
        cells.append(Cell(in_one_line(case.warnings), float(len(case.warnings)), words=True))
        rows.append(cells)
    return columns, rows


def _number(value: float | None) -> Cell:
    known = value is not None and not math.isnan(value)
    return Cell(quantities.text_of(value), round(value, 4) if known else None)


def order_of(cases: Sequence[ReportCase], table: LabelTable) -> str:
    """A sentence on the order of the cases; empty where it is that of their names."""
    if any(case.mean_dice is not None for case in cases):
        targets = ", ".join(display_name(target) for target in table.targets)
        return f"The worst come first, by the prediction's mean Dice over {targets}."
    if any(case.doubt is not None for case in cases):
        return "The most doubtful come first, by the cascade's own account."
    return ""
