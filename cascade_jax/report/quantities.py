"""A case's quantities as the page shows them: prediction and truth measured in one frame, and set into rows of text."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cascade_jax.data import emidec
from cascade_jax.quantify import aha
from cascade_jax.quantify.orientations import Orientation
from cascade_jax.quantify.quantities import DEVIATIONS, Quantities, quantify
from cascade_jax.report.account import Account
from cascade_jax.report.bullseye import TERRITORIES
from cascade_jax.report.insertions import known_insertions

_OF_THE_CASE = (
    ("infarct", "infarct_g", "g"),
    ("infarct", "infarct_ml", "ml"),
    ("infarct, share of the myocardium", "infarct_percent", "%"),
    ("no-reflow", "no_reflow_g", "g"),
    ("no-reflow, share of the myocardium", "no_reflow_percent", "%"),
    ("transmurality, maximum", "transmurality_max_percent", "%"),
    ("transmurality, mean where there is infarct", "transmurality_mean_percent", "%"),
    ("endocardium over infarct", "infarct_endocardium_cm2", "cm²"),
    ("endocardium over infarct, share", "infarct_endocardium_percent", "%"),
    ("myocardium", "myocardium_g", "g"),
    ("cavity", "cavity_ml", "ml"),
    ("wall thickness, mean", "wall_thickness_mm", "mm"),
    ("endocardium", "endocardium_cm2", "cm²"),
)
_DEVIATIONS_ASSUME = {
    2: "brighter than normal noise; the lowest in use, counts noise and partial volume",
    3: "as above, less noise",
    4: "as above, less noise",
    5: "the usual one (Bondarenko 2005); leaves dark no-reflow out",
    6: "as above; leaves grey border zones out",
}
_BY_THRESHOLD = (
    *(
        (f"remote myocardium + {count} SD", f"infarct_{count}sd_ml", "ml", _DEVIATIONS_ASSUME[count])
        for count in DEVIATIONS
    ),
    (
        "full width at half maximum",
        "infarct_fwhm_ml",
        "ml",
        "that there is an infarct, with a bright core three voxels wide; it does not tell whether there is one",
    ),
)
# Of all layers, those of the one with whose outline they were found.
_COUNTED_FROM = ("segments_from", "right_ventricle", "insertion_degrees", "inferior_insertion_degrees")
# Soft hyphens, where a narrow column may break a word.
OF_A_SEGMENT = (
    ("myocardium, g", "myocardium_g"),
    ("wall, mm", "wall_thickness_mm"),
    ("infarct, %", "infarct_percent"),
    ("no-reflow, %", "no_reflow_percent"),
    ("trans\u00admurality, mean %", "transmurality_mean_percent"),
    ("maxi\u00admum %", "transmurality_max_percent"),
    ("endo\u00adcardium over infarct, %", "infarct_endocardium_percent"),
)


OF_A_SLICE = (
    ("ring", "ring"),
    ("myocardium, g", "myocardium_g"),
    ("infarct, g", "infarct_g"),
    ("infarct, %", "infarct_percent"),
    ("no-reflow, g", "no_reflow_g"),
    ("trans\u00admurality, maximum %", "transmurality_max_percent"),
    ("endo\u00adcardium over infarct, %", "infarct_endocardium_percent"),
)
THRESHOLDS_ASSUME = (
    "All threshold methods take the outline of the myocardium at its word: blood or fat within it is as bright as "
    "infarct and counts as such. They take the darkest 60-degree sector through the whole stack for remote, normal "
    "myocardium."
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Quantities of a case.

    Attributes:
        layers: of "prediction" and, where there is one, "truth".
        frame: sentences on where the segments of all layers are counted from.
        leading: the layer with whose outline that was found.
    """

    layers: dict[str, Quantities]
    frame: str
    leading: str

    @property
    def insertions(self) -> dict[str, float]:
        """Where the right ventricle's insertions are known to lie, {"A" or "I" (anterior, inferior): degrees}."""
        return known_insertions(self.layers[self.leading].case)


def measure(
    layers: Mapping[str, np.ndarray],
    spacing: Sequence[float],
    image: np.ndarray | None,
    orientation: Orientation,
    right_handed: bool | None,
) -> Measured:
    """Measures prediction and truth with the same insertion of the right ventricle and the same base.

    Both are found once, with the truth's outline if there is one, else with the prediction's: found for each, they
    could differ, and the segments of the two could not be compared.

    Args:
        layers: labels (depth, height, width) of "prediction" and, where there is one, "truth".
        spacing: mm along the same axes.
        image: same shape, or None.
        orientation: what is known of how the slices lie; what it leaves open is found.
        right_handed: as `quantify` takes it.
    """
    leading = "truth" if "truth" in layers else "prediction"
    quantities = measure_alike(layers, leading, spacing, image, orientation, right_handed)
    text = _frame(quantities[leading].case, leading, orientation.base_first is not None, image is not None)
    return Measured(quantities, text, leading)


def measure_alike(
    layers: Mapping[str, np.ndarray],
    leading: str,
    spacing: Sequence[float],
    image: np.ndarray | None,
    orientation: Orientation,
    right_handed: bool | None,
) -> dict[str, Quantities]:
    """Measures several outlines of one heart with the same insertion of the right ventricle and the same base.

    Args:
        layers: {whose: labels (depth, height, width)}.
        leading: the layer with whose outline insertion and base are found.
        spacing: mm along the same axes.
        image: same shape, or None.
        orientation: what is known of how the slices lie; what it leaves open is found.
        right_handed: as `quantify` takes it.

    Returns:
        {whose: its quantities}, in the layers' order.
    """
    arrays = {layer: emidec.to_file_axes(labels) for layer, labels in layers.items()}
    base_first = orientation.base_first
    frame = {
        "base_first": aha.base_comes_first(arrays[leading]) if base_first is None else base_first,
        "mirrored": orientation.mirrored,
        "right_handed": right_handed,
    }
    size, shown = spacing[::-1], None if image is None else emidec.to_file_axes(image)
    quantities = {leading: quantify(arrays[leading], size, shown, insertion=orientation.insertion, **frame)}
    counted = {key: quantities[leading].case[key] for key in _COUNTED_FROM}
    # Where none was found, segments are counted from the x axis, which lies at 0 degrees.
    insertion = 0.0 if np.isnan(counted["insertion_degrees"]) else counted["insertion_degrees"]
    for layer in arrays.keys() - {leading}:
        quantities[layer] = quantify(arrays[layer], size, shown, insertion=insertion, **frame)
        quantities[layer].case.update(counted)
    return {layer: quantities[layer] for layer in arrays}


def _frame(figures: Mapping, leading: str, base_is_given: bool, with_image: bool) -> str:
    """In words, where segments are counted from.

    Args:
        figures: of the case.
        leading: the layer that it was found with.
        base_is_given: whether the end that is the base was given, and not found.
        with_image: whether there was an image to look for the right ventricle in.
    """
    source, angle = figures["segments_from"], figures["insertion_degrees"]
    alike = ", for the prediction as for the truth" if leading == "truth" else ""
    if source == "given":
        text = f"Segments are counted from the given insertion of the right ventricle, {angle:.0f} degrees{alike}."
    elif source == "right ventricle":
        text = (
            f"Segments are counted from the right ventricle's anterior insertion, {angle:.0f} degrees, found in the "
            f"image with the {leading}'s outline{alike}; its inferior insertion lies at "
            f"{figures['inferior_insertion_degrees']:.0f} degrees."
        )
    elif source == "none":
        return "Fewer than three slices have a cavity, which are no thirds of a ventricle: there are no segments."
    else:
        reason = f"was found with the {leading}'s outline" if with_image else "could be looked for without an image"
        text = f"No right ventricle {reason}: segments are counted from the stack's x axis{alike}."
        text += " They are not where their names say."
    end = "first" if figures["base_first"] == "yes" else "last"
    how = "as given" if base_is_given else f"the {leading}'s larger end"
    mirrored = {
        "yes": " The slices are shown mirrored; the segments allow for it.",
        "unknown": " The file does not say whether its slices are mirrored; segments suppose a view from the apex.",
    }.get(figures["mirrored"], "")
    return f"{text} The {end} slice is the base ({how}).{mirrored}"


def bullseye_marks(measured: Measured) -> dict[str, float]:
    """Where the insertions lie on a bullseye, {letter: degrees}: the anterior one at 120, between segments 1 and 2."""
    mirrored = measured.layers[measured.leading].case["mirrored"] == "yes"
    angles = measured.insertions
    return {letter: 120 + (angle - angles["A"]) * (-1 if mirrored else 1) % 360 for letter, angle in angles.items()}


def counted_from_x_axis(measured: Measured) -> bool:
    """Whether the segments do not lie where their names say, since no insertion is known."""
    return measured.layers[measured.leading].case["segments_from"] == "x axis"


def threshold_notes(layers: Mapping[str, Quantities]) -> list[str]:
    """Sentences on the threshold methods: the remote myocardium that they start from, and why a value is missing.

    Args:
        layers: {layer: its quantities}; those without an image have no such methods.
    """
    notes = []
    for layer, quantities in layers.items():
        case = quantities.case
        if case.get("remote_voxels"):
            start, stop = case["remote_from_degrees"], case["remote_to_degrees"]
            notes.append(
                f"Remote myocardium of the {layer}: from {start:.0f} to {stop:.0f} degrees in slices "
                f"{case['remote_slices']}, {case['remote_statistics']}: {case['remote_voxels']} voxels, "
                f"mean {case['remote_mean']:.4g}, SD {case['remote_sd']:.4g}."
            )
        for method, key in (("n SD", "infarct_sd_reason"), ("full width at half maximum", "infarct_fwhm_reason")):
            if case.get(key):
                notes.append(f"Infarct of the {layer} by {method}, where it is missing: {case[key]}.")
    return notes


def text_of(value: float | None) -> str:
    """A number with as many digits as it deserves; "-" for what is not known, "0" for nothing at all."""
    if value is None or np.isnan(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def interval_text(account: Account, quantity: str) -> str:
    """The interval of a quantity by its column's name, "3.1 to 9.5"; empty where the cascade says none."""
    interval = account.interval_of(quantity)
    return "" if interval is None else " to ".join(map(text_of, interval))


INTERVAL = "90 % interval"  # the title of what `Account.interval_of` gives

_KEY_FIGURES = (
    ("infarct", "infarct_g", "g"),
    ("share of myocardium", "infarct_percent", "%"),
    ("maximum transmurality", "transmurality_max_percent", "%"),
    ("no-reflow", "no_reflow_g", "g"),
)


def key_figures(measured: Measured | None, account: Account) -> list[tuple[str, str, list[str]]]:
    """What a case comes down to: title, the prediction's figure with its unit, and beside it interval and truth."""
    figures = []
    if measured:
        for title, key, unit in _KEY_FIGURES:
            beside = []
            if interval := interval_text(account, key):
                beside.append(f"{INTERVAL}: {interval}")
            if "truth" in measured.layers:
                beside.append(f"truth {text_of(measured.layers['truth'].case[key])}")
            text = f"{text_of(measured.layers['prediction'].case[key])} {unit}"
            figures.append((title, text, beside))
    if account.infarct_probability is not None:
        figures.append(("probability of an infarct", f"{100 * account.infarct_probability:.0f} %", []))
    if account.doubt is not None:
        figures.append(("doubt, 0 to 1", text_of(account.doubt), ["look at it"] * bool(account.reason)))
    return figures


class Row(NamedTuple):
    """A row of a table: its title, unit, a text for each layer, and what it says beside them."""

    title: str
    unit: str
    values: list[str]
    beside: str


def case_rows(quantities: Iterable[Quantities], account: Account) -> list[Row]:
    """The quantities of the whole heart, beside them the prediction's interval."""
    columns = [measured.case for measured in quantities]
    return [
        Row(title, unit, [text_of(column.get(key)) for column in columns], interval_text(account, key))
        for title, key, unit in _OF_THE_CASE
    ]


def threshold_rows(quantities: Iterable[Quantities]) -> list[Row]:
    """The infarct by threshold methods, beside it what each method assumes; none without an image."""
    columns = [measured.case for measured in quantities]
    return [
        Row(title, unit, [text_of(column.get(key)) for column in columns], assumes)
        for title, key, unit, assumes in _BY_THRESHOLD
        if any(key in column for column in columns)
    ]


def segment_rows(quantities: Iterable[Quantities]) -> list[tuple[str, list[str]]]:
    """Number and name of each segment that a stack reaches, and for each of the quantities `OF_A_SEGMENT` in turn."""
    columns = [{row["segment"]: row for row in measured.segments} for measured in quantities]
    reached = sorted({number for column in columns for number in column})
    return [
        (
            f"{number} {aha.SEGMENT_NAMES[number]}",
            [text_of(column.get(number, {}).get(key)) for column in columns for _, key in OF_A_SEGMENT],
        )
        for number in reached
    ]


def slice_rows(quantities: Iterable[Quantities]) -> list[tuple[int, list[str]]]:
    """Number of each slice with myocardium, and for each of the quantities `OF_A_SLICE` in turn."""
    columns = [{row["slice"]: row for row in measured.slices} for measured in quantities]
    there = sorted({number for column in columns for number in column})
    return [
        (
            number,
            [
                (column.get(number, {}).get(key) or "-") if key == "ring" else text_of(column.get(number, {}).get(key))
                for column in columns
                for _, key in OF_A_SLICE
            ],
        )
        for number in there
    ]


def territory_rows(measured: Measured) -> list[tuple[str, list[str]]]:
    """Infarct of each coronary territory: name, and for each layer infarct in g and as a share of its myocardium.

    Empty where segments are counted from the x axis: a territory that is not where it should be says nothing.
    """
    if counted_from_x_axis(measured) or not any(quantities.segments for quantities in measured.layers.values()):
        return []
    rows = []
    for territory in TERRITORIES:
        values = []
        for quantities in measured.layers.values():
            segments = [row for row in quantities.segments if row["segment"] in territory.segments]
            infarct, myocardium = (sum(row[key] for row in segments) for key in ("infarct_g", "myocardium_g"))
            values += [text_of(infarct), text_of(100 * infarct / myocardium if myocardium else None)]
        rows.append((territory.title, values))
    return rows
