"""The report's charts, by Matplotlib, as SVG to be set into a page."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Wedge

from cascade_jax.aha import SEGMENT_NAMES

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)))
_PANELS_IN_A_ROW = 4
_MARKERS = ("o", "s", "^", "D", "v")


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained")
    figure.patch.set_alpha(0)
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element; the same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "cascade_jax", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def learning_curves(curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> str:
    """Loss and validation Dice of every fold.

    Args:
        curves: {"stage 1, fold 0": {"loss": [(step, value), ...], "validation_dice": [...]}}.
    """
    figure = _figure(9, 3.2)
    loss, dice = figure.subplots(1, 2)
    for index, (name, values) in enumerate(curves.items()):
        stage = int("stage 2" in name)
        style = {"color": COLOURS[index % len(COLOURS)], "linestyle": _STYLES[stage], "label": name, "linewidth": 1.2}
        loss.plot(*np.array(values["loss"]).reshape(-1, 2).T, **style)
        dice.plot(*np.array(values["validation_dice"]).reshape(-1, 2).T, marker=_MARKERS[stage], ms=3, **style)
    loss.set(xlabel="step", ylabel="training loss")
    dice.set(xlabel="step", ylabel="validation Dice, mean of labels", ylim=(0, 1))
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    return as_svg(figure)


def box_plots(values: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """One panel a metric, one box a column, every case a point.

    Args:
        values: {metric: {column: values}}; NaN is left out.
    """
    rows = -(-len(values) // _PANELS_IN_A_ROW)
    figure = _figure(2.8 * min(len(values), _PANELS_IN_A_ROW), 2.8 * rows)
    grid = figure.subplots(rows, min(len(values), _PANELS_IN_A_ROW), squeeze=False).ravel()
    for axes in grid[len(values) :]:
        axes.set_axis_off()
    for axes, (metric, columns) in zip(grid, values.items(), strict=False):
        data = [np.array([value for value in column if not np.isnan(value)]) for column in columns.values()]
        axes.boxplot(data, showfliers=False, medianprops={"color": "black"}, widths=0.5)
        for position, column in enumerate(data, start=1):
            spread = np.linspace(-0.12, 0.12, max(len(column), 1))[: len(column)]
            marker = _MARKERS[position % len(_MARKERS)]
            axes.plot(position + spread, column, marker, ms=3, alpha=0.6, color=COLOURS[position - 1])
        axes.set_xticks(range(1, len(columns) + 1), columns, fontsize=8)
        axes.set_title(metric.replace(", ", ",\n"), fontsize=9)
    return as_svg(figure)


def bland_altman(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Difference against mean (Bland and Altman 1986), with the bias and the 95 % limits of agreement.

    Args:
        pairs: {quantity with its unit: (predicted, true)}, one value a case.
    """
    figure = _figure(4.5 * len(pairs), 3.2)
    for axes, (quantity, values) in zip(np.atleast_1d(figure.subplots(1, len(pairs))), pairs.items(), strict=True):
        predicted, true = (np.asarray(side, float) for side in values)
        difference = predicted - true
        axes.plot((predicted + true) / 2, difference, "o", ms=4, alpha=0.7, color=COLOURS[0])
        bias, spread = difference.mean(), difference.std(ddof=1) if len(difference) > 1 else 0.0
        for level, style, text in (
            (bias, "-", "bias"),
            (bias + 1.96 * spread, "--", "+1.96 SD"),
            (bias - 1.96 * spread, "--", "-1.96 SD"),
        ):
            axes.axhline(level, linestyle=style, color="black", linewidth=0.9)
            axes.annotate(
                f"{text} {level:.2g}",
                (1, level),
                xycoords=("axes fraction", "data"),
                fontsize=7,
                ha="right",
                va="bottom",
            )
        axes.set(xlabel=f"mean of prediction and truth, {quantity}", ylabel="prediction - truth")
        axes.margins(y=0.2)
    return as_svg(figure)


def bullseye(transmurality: Mapping[int, float], title: str) -> str:
    """The 17-segment plot of maximum transmurality, percent; anterior at the top, septum to the left.

    Args:
        transmurality: {AHA segment: percent}; segments that the stack does not reach are left out and drawn empty.
        title: above it.
    """
    figure = _figure(3.2, 3.4)
    axes = figure.add_subplot()
    colours = mpl.colormaps["YlOrRd"]
    for number in SEGMENT_NAMES:
        outer, inner, start, width = _place(number)
        value = transmurality.get(number)
        face = "none" if value is None or np.isnan(value) else colours(value / 100)
        axes.add_patch(Wedge((0, 0), outer, start, start + width, width=outer - inner, fc=face, ec="#555", lw=0.8))
        radius, angle = (outer + inner) / 2 if number < 17 else 0.0, np.deg2rad(start + width / 2)
        text = "-" if value is None or np.isnan(value) else f"{value:.0f}"
        dark = value is not None and value > 60
        axes.text(
            radius * np.cos(angle),
            radius * np.sin(angle),
            text,
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )
    axes.set(xlim=(-4.1, 4.1), ylim=(-4.1, 4.1), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
    return as_svg(figure)


def _place(number: int) -> tuple[float, float, float, float]:
    """Outer and inner radius, first angle and width of a segment."""
    if number == 17:
        return 1.0, 0.0, 0.0, 360.0
    if number > 12:
        return 2.0, 1.0, 45.0 + 90.0 * (number - 13), 90.0
    outer = 4.0 if number < 7 else 3.0
    return outer, outer - 1, 60.0 + 60.0 * ((number - 1) % 6), 60.0
