"""The report's charts, by Matplotlib, as SVG to be set into a page: lines and letters take the page's colour of text,
and a point says which case it is and leads to it."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cascade_jax.statistics import limits_of_agreement

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)))
_PANELS_IN_A_ROW = 4
_MARKERS = ("o", "s", "^", "D", "v")
_INK = "#000000"  # Matplotlib's black, which becomes the page's colour of text
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained")
    figure.patch.set_alpha(0)
    return figure


class Point(NamedTuple):
    """What a point of a chart says when it is pointed at, and where it leads to."""

    title: str
    link: str


def as_svg(figure: Figure, name: str, points: Mapping[str, Sequence[Point]] | None = None) -> str:
    """The figure as an `<svg>` element; the same figure of the same name gives the same text.

    Args:
        figure: a chart.
        name: what it is called for those who cannot see it. No two charts of a page have the same name: Matplotlib
            hashes it into the ids.
        points: {gid of a line: what each of its markers is}.
    """
    for axes in figure.axes:
        axes.set_facecolor("none")
    buffer = io.StringIO()
    # Text stays text, in one font; the page's reader may not have it, and gets another without serifs.
    style = {"svg.hashsalt": name, "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}
    with mpl.rc_context(style):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    for gid, named in (points or {}).items():
        text = _named(text, gid, named)
    text = _inline_svg(text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


def _named(text: str, gid: str, points: Sequence[Point]) -> str:
    """The SVG with every marker of a line in a link, which names it."""
    start = text.index(f'id="{gid}"')
    end = start + re.search(r"<use [^>]*/>\s*</g>", text[start:], re.DOTALL).end()
    left = iter(points)

    def linked(marker: re.Match) -> str:
        title, link = next(left)
        return f'<a href="{html.escape(link)}"><title>{html.escape(title)}</title>{marker[0]}</a>'

    return text[:start] + re.sub(r"<use [^>]*/>", linked, text[start:end]) + text[end:]


def _inline_svg(text: str) -> str:
    """Matplotlib's SVG without what is meant for a file of its own, in the page's colours, in a third of the room."""
    # The style sheet would hold for the whole page.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->|(?<=>)\s+(?=<)", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor")
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


def box_plots(values: Mapping[str, Mapping[str, Sequence[float]]], cases: Sequence[Point]) -> str:
    """One panel a metric, one box a column, every case a point.

    Args:
        values: {metric: {column: values}}; NaN is left out.
        cases: what the values of a column are of.
    """
    rows = -(-len(values) // _PANELS_IN_A_ROW)
    points: dict[str, list[Point]] = {}
    figure = _figure(2.8 * min(len(values), _PANELS_IN_A_ROW), 2.8 * rows)
    grid = figure.subplots(rows, min(len(values), _PANELS_IN_A_ROW), squeeze=False).ravel()
    for axes in grid[len(values) :]:
        axes.set_axis_off()
    for axes, (metric, columns) in zip(grid, values.items(), strict=False):
        data = [np.array([value for value in column if not np.isnan(value)]) for column in columns.values()]
        axes.boxplot(data, showfliers=False, medianprops={"color": "black"}, widths=0.5)
        for position, (column, all_values) in enumerate(columns.items(), start=1):
            shown = [index for index, value in enumerate(all_values) if not np.isnan(value)]
            if not shown:
                continue
            gid = f"points-{len(points)}"
            points[gid] = [
                Point(f"{cases[index].title}, {column}: {metric} {all_values[index]:.4g}", cases[index].link)
                for index in shown
            ]
            style = {"ms": 3, "alpha": 0.6, "color": COLOURS[position - 1], "gid": gid}
            spread = np.linspace(-0.12, 0.12, max(len(shown), 1))
            axes.plot(position + spread, data[position - 1], _MARKERS[position % len(_MARKERS)], **style)
        axes.set_xticks(range(1, len(columns) + 1), columns, fontsize=8)
        axes.set_title(metric.replace(", ", ",\n"), fontsize=9)
    return as_svg(figure, "box plots of every metric", points)


def bland_altman(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], cases: Mapping[str, Sequence[Point]]
) -> str:
    """Difference against mean (Bland and Altman 1986), with the bias and the 95 % limits of agreement.

    Args:
        pairs: {quantity with its unit: (predicted, true)}, one value a case.
        cases: {quantity: what its values are of}.
    """
    points: dict[str, list[Point]] = {}
    figure = _figure(4.5 * len(pairs), 3.2)
    for axes, (quantity, values) in zip(np.atleast_1d(figure.subplots(1, len(pairs))), pairs.items(), strict=True):
        predicted, true = (np.asarray(side, float) for side in values)
        gid = f"points-{len(points)}"
        points[gid] = [
            Point(f"{case.title}: {first:.4g} predicted, {second:.4g} true", case.link)
            for case, first, second in zip(cases[quantity], predicted, true, strict=True)
        ]
        axes.plot((predicted + true) / 2, predicted - true, "o", ms=4, alpha=0.7, color=COLOURS[0], gid=gid)
        bias, lower, upper = limits_of_agreement(predicted, true)
        for level, style, text in ((bias, "-", "bias"), (upper, "--", "+1.96 SD"), (lower, "--", "-1.96 SD")):
            if np.isnan(level):  # one case has no spread
                continue
            axes.axhline(level, linestyle=style, color="black", linewidth=0.9)
            # Beside the plot, where no point hides it.
            axes.annotate(
                f"{text} {level:.2g}",
                (1, level),
                xytext=(4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=8,
                va="center",
            )
        axes.set(xlabel=f"mean of prediction and truth, {quantity}", ylabel="prediction - truth")
        axes.margins(y=0.2)
    return as_svg(figure, "Bland-Altman plots of " + " and ".join(pairs), points)
