"""The report's charts, by Matplotlib, as SVG to be set into a page."""

import html
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Wedge

from cascade_jax.quantify.aha import SEGMENT_NAMES
from cascade_jax.statistics import limits_of_agreement

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)))
_PANELS_IN_A_ROW = 4
_MARKERS = ("o", "s", "^", "D", "v")
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained")
    figure.patch.set_alpha(0)
    return figure


def as_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element; the same figure of the same name gives the same text.

    Args:
        figure: a chart.
        name: what it is called for those who cannot see it. No two charts of a page have the same name: Matplotlib
            hashes it into the ids.
    """
    buffer = io.StringIO()
    # Text stays text, in one font; the page's reader may not have it, and gets another without serifs.
    style = {"svg.hashsalt": name, "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}
    with mpl.rc_context(style):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = _inline_svg(text[text.index("<svg") :].strip())
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


def _inline_svg(text: str) -> str:
    """Matplotlib's SVG without what is meant for a file of its own, and in a third of the room."""
    # The style sheet would hold for the whole page.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->|(?<=>)\s+(?=<)", "", text, flags=re.DOTALL)
    # Every chart calls its groups alike ("axes_1"); ids that something refers to are hashed, and stay.
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    # Coordinates to a hundredth of a point.
    return re.sub(
        r' (?:d|x|y)="[^"]+"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]).replace(" \n", " "), text
    )


def learning_curves(curves: Mapping[tuple[int, int], Mapping[str, Sequence[tuple[int, float]]]]) -> str:
    """Loss and validation Dice of every fold: a colour and a marker for each fold, a line style for each stage.

    Args:
        curves: {(stage, fold): {"loss": [(step, value), ...], "validation_dice": [...]}}.
    """
    figure = _figure(9, 3.2)
    loss, dice = figure.subplots(1, 2)
    for (stage, fold), values in curves.items():
        style = {"color": _cycled(COLOURS, fold), "linestyle": _cycled(_STYLES, stage - 1), "linewidth": 1.2}
        loss.plot(*np.array(values["loss"]).reshape(-1, 2).T, **style)
        dice.plot(*np.array(values["validation_dice"]).reshape(-1, 2).T, marker=_cycled(_MARKERS, fold), ms=4, **style)
    loss.set(xlabel="step", ylabel="training loss")
    dice.set(xlabel="step", ylabel="validation Dice, mean of labels", ylim=(0, 1))
    stages, folds = (sorted(numbers) for numbers in map(set, zip(*curves, strict=True)))
    lines = [
        *(
            Line2D([], [], color="black", linestyle=_cycled(_STYLES, stage - 1), label=f"stage {stage}")
            for stage in stages
        ),
        *(
            Line2D([], [], color=_cycled(COLOURS, fold), marker=_cycled(_MARKERS, fold), ms=4, label=f"fold {fold}")
            for fold in folds
        ),
    ]
    figure.legend(handles=lines, loc="outside right upper", fontsize=8, frameon=False, handlelength=3)
    return as_svg(figure, "learning curves")


def _cycled(styles: Sequence, index: int):
    """The style of that number, from the first again when they are used up."""
    return styles[index % len(styles)]


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
    return as_svg(figure, "box plots of every metric")


def bland_altman(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Difference against mean (Bland and Altman 1986), with the bias and the 95 % limits of agreement.

    Args:
        pairs: {quantity with its unit: (predicted, true)}, one value a case.
    """
    figure = _figure(4.5 * len(pairs), 3.2)
    for axes, (quantity, values) in zip(np.atleast_1d(figure.subplots(1, len(pairs))), pairs.items(), strict=True):
        predicted, true = (np.asarray(side, float) for side in values)
        axes.plot((predicted + true) / 2, predicted - true, "o", ms=4, alpha=0.7, color=COLOURS[0])
        bias, lower, upper = limits_of_agreement(predicted, true)
        for level, style, text in ((bias, "-", "bias"), (upper, "--", "+1.96 SD"), (lower, "--", "-1.96 SD")):
            if np.isnan(level):  # one case has no spread
                continue
            axes.axhline(level, linestyle=style, color="black", linewidth=0.9)
            axes.annotate(
                f"{text} {level:.2g}",
                (1, level),
                xytext=(-4, 2),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=8,
                ha="right",
                va="bottom",
            )
        axes.set(xlabel=f"mean of prediction and truth, {quantity}", ylabel="prediction - truth")
        axes.margins(y=0.2)
    return as_svg(figure, "Bland-Altman plots of " + " and ".join(pairs))


def bullseyes(
    transmurality: Mapping[str, Mapping[int, float]],
    name: str,
    marks: Mapping[str, float] | None = None,
    note: str = "",
) -> str:
    """17-segment plots of maximum transmurality, percent, side by side; anterior at the top, septum to the left.

    Args:
        transmurality: {layer: {AHA segment: percent}}; segments that the stack does not reach are left out and drawn
            empty.
        name: of the chart.
        marks: {letter: degrees on the plot, counter-clockwise from the right} of what is marked on its edge.
        note: stands below each plot.
    """
    figure = _figure(3.2 * len(transmurality), 3.7)
    for axes, (layer, percents) in zip(
        np.atleast_1d(figure.subplots(1, len(transmurality))), transmurality.items(), strict=True
    ):
        for number in SEGMENT_NAMES:
            _draw_segment(axes, number, percents.get(number, np.nan))
        for letter, angle in (marks or {}).items():
            along = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
            axes.plot(*np.outer(along, (4.0, 4.35)), color="black", lw=1.6)
            axes.text(*(4.65 * along), letter, ha="center", va="center", fontsize=8)
        axes.text(0, -5.3, note, ha="center", va="center", fontsize=7)
        axes.set(xlim=(-4.9, 4.9), ylim=(-5.6, 4.9), aspect="equal")
        axes.set_axis_off()
        axes.set_title(f"{layer}: maximum transmurality, %", fontsize=9)
    return as_svg(figure, name)


def _draw_segment(axes, number: int, percent: float) -> None:
    """A segment's sector in the colour of the percent, which is written into it; NaN is drawn empty."""
    known = not np.isnan(percent)
    face = mpl.colormaps["YlOrRd"](percent / 100) if known else "none"
    outer, inner, start, width = _place(number)
    axes.add_patch(
        Wedge((0, 0), outer, start, start + width, width=outer - inner, fc=face, ec="#555", lw=0.8, clip_on=False)
    )
    radius, angle = (outer + inner) / 2 if number < 17 else 0.0, np.deg2rad(start + width / 2)
    axes.text(
        radius * np.cos(angle),
        radius * np.sin(angle),
        f"{percent:.0f}" if known else "-",
        ha="center",
        va="center",
        fontsize=8,
        color="white" if known and percent > 60 else "black",
    )


def _place(number: int) -> tuple[float, float, float, float]:
    """Outer and inner radius, first angle and width of a segment."""
    if number == 17:
        return 1.0, 0.0, 0.0, 360.0
    if number > 12:
        return 2.0, 1.0, 45.0 + 90.0 * (number - 13), 90.0
    outer = 4.0 if number < 7 else 3.0
    return outer, outer - 1, 60.0 + 60.0 * ((number - 1) % 6), 60.0
