"""A case and its segmentations as one picture, in the colours of the paper's figure 2."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from cascade_jax.data.border import outside_field_of_view
from cascade_jax.data.case import BACKGROUND, CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
from cascade_jax.data.files import replacing, write_text
from cascade_jax.data.labels import EMIDEC, LabelTable, display_name
from cascade_jax.report.insertions import insertion_marks

LABEL_COLOURS = {CAVITY: "#ff2020", MYOCARDIUM: "#20d020", INFARCTION: "#3060ff", NO_REFLOW: "#ffe600"}
# Of labels that are not the challenge's: Okabe and Ito's colours, which the colour-blind tell apart, over and over.
_OTHER_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
COLOUR_TABLES = ("labels.ctbl", "dseg.tsv")  # of 3D Slicer and of BIDS derivatives
OPACITY = 0.5
MARGIN_MM = 15.0

# Sizes on paper in inches, text in points.
TILE, GAP, LEFT, HEADINGS, TITLE, FOOT, NOTE = 1.5, 0.04, 0.36, 0.3, 0.36, 0.45, 0.22
LEGEND_WIDTH = 6.5
FONT_SIZE = 13
DOTS_PER_INCH = 150


def draw_case(
    path,
    image: np.ndarray,
    panels: Mapping[str, np.ndarray],
    *,
    spacing: tuple[float, float, float],
    title: str | None = None,
    table: LabelTable = EMIDEC,
    insertions: Mapping[str, float] | None = None,
) -> None:
    """Writes a PNG with a case's slices from left to right: a row of the image alone, then one row a panel.

    Every tile shows the same square window around the heart, that is around whatever any panel labels in any
    slice, or the whole slice where nothing is labelled. Labels lie half-transparent over the image.

    Args:
        path: the file to write, in a folder that exists. It appears only when complete.
        image: (depth, height, width), any real dtype.
        panels: the name of each row to its labels, uint8 (depth, height, width).
        spacing: mm along (depth, height, width).
        title: a heading for the whole picture.
        table: of the labels.
        insertions: {"A" or "I": degrees} of the right ventricle's insertions, to be marked in the row of the image at
            the last panel's outline; if it is empty the picture says that they were not found, None says nothing.

    Raises:
        CaseError: the file cannot be written.
        ValueError: a panel's shape is not the image's.
    """
    # Imported where it is used: it takes half a second, for which no start should wait.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    for name, labels in panels.items():
        if labels.shape != image.shape:
            raise ValueError(f"{name!r} has shape {labels.shape}, the image {image.shape}")
    left, right, top, bottom = _window(panels.values(), image.shape, spacing)
    tile_height = TILE * (bottom - top) / (right - left)
    above = HEADINGS + (TITLE if title else 0)
    tiles_width = len(image) * (TILE + GAP)
    width = LEFT + max(tiles_width, LEGEND_WIDTH)
    foot = FOOT + (0 if insertions is None else NOTE)
    height = above + (1 + len(panels)) * (tile_height + GAP) + foot
    centre = (LEFT + width) / 2

    figure = Figure((width, height), dpi=DOTS_PER_INCH, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    greys, colours = _grey_window(image), label_colours(table)
    marks = insertion_marks(list(panels.values())[-1], spacing, insertions) if insertions else [()] * len(image)
    extent = (0, image.shape[2] * spacing[2], image.shape[1] * spacing[1], 0)
    for row, (name, labels) in enumerate([("image", None), *panels.items()]):
        for column in range(len(image)):
            x = centre - tiles_width / 2 + column * (TILE + GAP)
            y = height - above - row * (tile_height + GAP) - tile_height
            axes = figure.add_axes((x / width, y / height, TILE / width, tile_height / height))
            axes.imshow(image[column], "gray", clim=greys, extent=extent, interpolation="bilinear")
            for letter, *ends in marks[column] if labels is None else ():
                axes.plot(ends[::2], ends[1::2], color="white", linewidth=1.5)
                x, y = 1.6 * np.array(ends[2:]) - 0.6 * np.array(ends[:2])  # beyond the line's end
                axes.text(x, y, letter, color="white", fontsize=7, ha="center", va="center", clip_on=True)
            if labels is not None:
                axes.imshow(_overlay(labels[column], colours), extent=extent, interpolation="nearest")
            axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="black")
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(f"slice {column + 1}", fontsize=FONT_SIZE, pad=5)
            if column == 0:
                axes.set_ylabel(name, fontsize=FONT_SIZE, labelpad=5)
    if title:
        figure.text(
            centre / width, 1 - 0.1 / height, title, fontsize=FONT_SIZE + 2, ha="center", va="top", parse_math=False
        )
    if insertions is not None:
        found = "A, I: anterior and inferior insertion of the right ventricle"
        text = found if insertions else "insertions of the right ventricle: not found"
        figure.text(centre / width, 0.42 / height, text, fontsize=FONT_SIZE - 3, ha="center", va="bottom")
    figure.legend(
        handles=[Patch(facecolor=colour, label=_legend(table, label)) for label, colour in colours.items()],
        loc="lower center",
        bbox_to_anchor=(centre / width, 0),
        ncols=min(len(colours), 6),
        frameon=False,
        handlelength=1.2,
        handleheight=1.0,
        handletextpad=0.5,
        columnspacing=1.8,
        fontsize=FONT_SIZE,
    )
    _save(canvas, Path(path))


def _window(
    panels: Iterable[np.ndarray], shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> tuple[float, float, float, float]:
    """Left, right, top and bottom in mm of what is shown."""
    labelled = np.zeros(shape[1:], bool)
    for labels in panels:
        labelled |= (labels != BACKGROUND).any(axis=0)
    if not labelled.any():
        return 0, shape[2] * spacing[2], 0, shape[1] * spacing[1]
    rows, columns = (np.flatnonzero(labelled.any(axis=axis)) for axis in (1, 0))
    y, y_end = rows[0] * spacing[1], (rows[-1] + 1) * spacing[1]
    x, x_end = columns[0] * spacing[2], (columns[-1] + 1) * spacing[2]
    half = max(x_end - x, y_end - y) / 2 + MARGIN_MM
    x, y = (x + x_end) / 2, (y + y_end) / 2
    return x - half, x + half, y - half, y + half


def _grey_window(image: np.ndarray) -> tuple[float, float]:
    """The intensities shown as black and white."""
    tissue = image[~outside_field_of_view(image)]
    black, white = np.percentile(tissue if tissue.size else image, (2, 98))
    return black, max(white, black + 1e-6)


def _overlay(labels: np.ndarray, label_colours: Mapping[int, str]) -> np.ndarray:
    """Labels (height, width) as colours with opacity, (height, width, 4)."""
    colours = np.zeros((*labels.shape, 4))
    for label, colour in label_colours.items():
        colours[labels == label] = (*(level / 255 for level in _levels(colour)), OPACITY)
    return colours


def _levels(colour: str) -> tuple[int, ...]:
    """Red, green and blue of "#rrggbb", 0 to 255."""
    return tuple(bytes.fromhex(colour[1:]))


def _save(canvas, path: Path) -> None:
    with replacing(path) as partial:
        # Without matplotlib's version in it, the same figure gives the same file.
        canvas.print_png(partial, metadata={"Software": None})


def label_colours(table: LabelTable) -> dict[int, str]:
    """{label: colour} of the foreground labels."""
    if table.names == EMIDEC.names:
        return LABEL_COLOURS
    return {label: _OTHER_COLOURS[(label - 1) % len(_OTHER_COLOURS)] for label in range(1, len(table.names))}


def _legend(table: LabelTable, label: int) -> str:
    return "normal myocardium" if table == EMIDEC and label == MYOCARDIUM else display_name(table.names[label])


def write_colour_tables(folder: Path, table: LabelTable = EMIDEC) -> None:
    """Writes the labels' names and colours as other programs read them.

    `labels.ctbl` is 3D Slicer's colour table, `dseg.tsv` the look-up table that BIDS derivatives have for discrete
    segmentations.

    Args:
        folder: where.
        table: of the labels.
    """
    # Both are tables without quotation marks: names have no space in the one, and no tab in the other.
    slicer_names = ["_".join(name.split()) for name in table.names]
    bids_names = [" ".join(name.split()) for name in table.names]
    slicer = ["# Color table of cascade_jax: number, name, red, green, blue, opacity", f"0 {slicer_names[0]} 0 0 0 0"]
    bids = ["index\tname\tcolor", f"0\t{bids_names[0]}\t#000000"]
    for label, colour in label_colours(table).items():
        levels = " ".join(map(str, _levels(colour)))
        slicer.append(f"{label} {slicer_names[label]} {levels} 255")
        bids.append(f"{label}\t{bids_names[label]}\t{colour}")
    for name, lines in zip(COLOUR_TABLES, (slicer, bids), strict=True):
        write_text(folder / name, "\n".join(lines) + "\n")
