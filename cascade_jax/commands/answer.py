"""What a command says of one segmented case: how large the infarct is, how sure that is, and what to look at."""

import dataclasses

import numpy as np

from cascade_jax.case_warnings import in_one_line
from cascade_jax.confidence import Confidence
from cascade_jax.data import emidec
from cascade_jax.data.case import Case
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name
from cascade_jax.quantify.quantities import quantify
from cascade_jax.report.account import Account
from cascade_jax.segmentation import Segmentation

_QUANTITIES = (
    "cavity_ml",
    "myocardium_g",
    "infarct_g",
    "infarct_percent",
    "no_reflow_g",
    "no_reflow_percent",
    "transmurality_mean_percent",
    "transmurality_max_percent",
    "infarct_endocardium_percent",
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of one case.

    Attributes:
        quantities: names carry their units; NaN where the heart has no such thing.
        confidence: of the labels.
        table: of the labels.
    """

    quantities: dict[str, float]
    confidence: Confidence
    table: LabelTable


def columns_of(confidence: Confidence, table: LabelTable) -> dict[str, float]:
    """{column: value} of a table: what is expected of each target's Dice, where its volume lies, how probable it is."""
    columns = {}
    for target in table.targets:
        columns[f"{target}_expected_dice"] = confidence.expected_dice[target]
        if target in confidence.interval_ml:
            columns[f"{target}_low_ml"], columns[f"{target}_high_ml"] = confidence.interval_ml[target]
        if target in confidence.probability:
            columns[f"{target}_probability"] = confidence.probability[target]
    return columns


def answer(case: Case, result: Segmentation, table: LabelTable) -> Answer:
    """What is said of a case.

    Args:
        case: the case.
        result: what a cascade made of it.
        table: of the labels; masses and shares are of the challenge's, of others the volume of each target (ml).
    """
    if np.isnan(case.spacing[0]):
        quantities = {}
    elif table == EMIDEC:
        measured = quantify(emidec.to_file_axes(result.labels), case.spacing[::-1]).case
        quantities = {name: float(measured[name]) for name in _QUANTITIES}
    else:
        voxel_ml = float(np.prod(case.spacing)) / 1000
        quantities = {
            f"{target}_ml": float(np.isin(result.labels, members).sum() * voxel_ml)
            for target, members in table.targets.items()
        }
    return Answer(quantities, result.confidence, table)


def in_words(what: Answer) -> str:
    """One line, without the case's name: the masses, how sure they are, and what to look at."""
    parts = [_quantities_in_words(what.quantities), _confidence_in_words(what.confidence, what.table)]
    if what.confidence.warnings:
        parts.append(f"look at it: {in_one_line(what.confidence.warnings)}")
    return "; ".join(part for part in parts if part)


def _confidence_in_words(confidence: Confidence, table: LabelTable) -> str:
    said = []
    if table == EMIDEC and (interval := Account(confidence).interval_of("infarct_g")):
        low, high = map(_figure, interval)
        said.append(f"infarct {low} to {high} g in nine of ten such cases")
        said.append(f"probability of an infarct {confidence.probability['infarction']:.2f}")
    said.append(f"expected Dice of the {display_name(table.main)} {confidence.expected_dice[table.main]:.2f}")
    return ", ".join(said)


def _quantities_in_words(quantities: dict[str, float]) -> str:
    if "infarct_g" not in quantities:
        return ", ".join(
            f"{display_name(name.removesuffix('_ml'))} {value:.3g} ml" for name, value in quantities.items()
        )
    said = [f"myocardium {_figure(quantities['myocardium_g'])} g"]
    for name in ("infarct", "no_reflow"):
        share = quantities[f"{name}_percent"]
        of_it = "" if np.isnan(share) else f" ({_figure(share)} %)"
        said.append(f"{display_name(name)} {_figure(quantities[f'{name}_g'])} g{of_it}")
    return ", ".join(said)


def _figure(value: float) -> str:
    """To the tenth below 10, else whole: more would pretend to be known."""
    return f"{value:.1f}" if 0 < value < 9.95 else f"{value:.0f}"
