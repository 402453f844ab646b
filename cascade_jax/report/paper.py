"""One page of PDF a patient, A4, to be printed or filed."""

import datetime
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cascade_jax.data.files import make_writable_folder, replacing
from cascade_jax.data.outputs import recording_outputs, refuse_to_replace
from cascade_jax.progress import Progress
from cascade_jax.report import bullseye, quantities, slices
from cascade_jax.report.bullseye_on_paper import draw_bullseye
from cascade_jax.report.cases import ReportCase, Sources
from cascade_jax.report.insertions import bullseye_note, marks_in_picture
from cascade_jax.report.provenance import RESEARCH_ONLY, provenance

# Millimetres on paper, from the upper left corner; type in points.
_WIDTH, _HEIGHT, _MARGIN = 210.0, 297.0, 12.0
_INNER = _WIDTH - 2 * _MARGIN
_SLICES_HIGH, _SLICE_GAP = 92.0, 1.0
_BULLSEYE = 44.0
_LINE = 3.5
_TEXT, _SMALL, _HEAD = 7.5, 6.5, 15.0
_ROW, _NOTE = 3.3, 2.7
_CHARACTERS, _CHARACTERS_OF_NOTES = 148, 172  # in a line
_SOFT, _WARNING, _RULE = "#4a5058", "#8a3b00", "#c4c9cf"
_MOST_WARNINGS = 4
_MILLIMETRES_OF_SCALE = 20
# White on a dark ground, to be read on blood and fat too. (An edge around the letters would make drawings of them.)
_ON_PICTURE = {"color": "white", "fontsize": 6, "bbox": {"fc": "#00000070", "ec": "none", "pad": 0.6}}
_STYLE = {"pdf.fonttype": 42, "font.sans-serif": ["DejaVu Sans"], "font.family": "sans-serif"}


def paper_names(cases: Sequence[ReportCase]) -> list[str]:
    """The files of the cases' pages."""
    return [f"{case.name}.pdf" for case in cases]


def write_papers(
    cases: Sequence[ReportCase], sources: Sources, folder: Path, made: datetime.date, progress: Progress
) -> None:
    """Writes `folder/<case>.pdf`, one page, for every case.

    Args:
        cases: of the report.
        sources: that they were read from.
        folder: is made where it is missing.
        made: the date on the pages.
        progress: wraps the loop with a bar.

    Raises:
        CaseError: a file cannot be written, or another would be replaced.
    """
    refuse_to_replace(folder, paper_names(cases))
    make_writable_folder(folder)
    for case, name in progress(list(zip(cases, paper_names(cases), strict=True)), "drawing PDF pages"):
        with recording_outputs(folder, [name]), replacing(folder / name) as partial, mpl.rc_context(_STYLE):
            figure = _Sheet(case, sources, made).figure
            FigureCanvasPdf(figure).print_pdf(partial, metadata={"CreationDate": None, "Title": case.name})


class _Sheet:
    """A page that is filled from the top."""

    def __init__(self, case: ReportCase, sources: Sources, made: datetime.date):
        self.case, self.sources = case, sources
        self.figure = Figure((_WIDTH / 25.4, _HEIGHT / 25.4), facecolor="white")
        self.y = _MARGIN
        self._heading(made)
        self._key_figures()
        self._warnings()
        self._slices()
        self._legend()
        if case.measured:
            self._bullseyes()
            self._tables()
        self._foot()

    def _write(self, x: float, y: float, text: str, size: float = _TEXT, **style) -> None:
        style = {"va": "top", "parse_math": False} | style
        self.figure.text(x / _WIDTH, 1 - y / _HEIGHT, text, fontsize=size, **style)

    def _axes(self, x: float, y: float, width: float, height: float):
        return self.figure.add_axes((x / _WIDTH, 1 - (y + height) / _HEIGHT, width / _WIDTH, height / _HEIGHT))

    def _rule(self, x: float, y: float, width: float, colour: str = _RULE) -> None:
        ends = [x / _WIDTH, (x + width) / _WIDTH], [1 - y / _HEIGHT] * 2
        self.figure.add_artist(mpl.lines.Line2D(*ends, color=colour, linewidth=0.5))

    def _heading(self, made: datetime.date) -> None:
        right = _WIDTH - _MARGIN
        self._write(_MARGIN, self.y, self.case.name, _HEAD, weight="bold")
        self._write(right, self.y, RESEARCH_ONLY, 9, weight="bold", ha="right", color=_WARNING)
        self._write(right, self.y + 4.6, f"{self.sources.title}, {made.isoformat()}", _TEXT, ha="right", color=_SOFT)
        self.y += 9.5
        self._rule(_MARGIN, self.y, _INNER)
        self.y += 2

    def _key_figures(self) -> None:
        figures = quantities.key_figures(self.case.measured, self.case.account)
        # In characters of the small type, of which the figure's own are nearly two wide.
        widths = [max(2 * len(text), *map(len, (title, *beside))) + 3 for title, text, beside in figures]
        starts = _MARGIN + _INNER * np.cumsum([0, *widths]) / sum(widths, start=1)
        for x, (title, text, beside) in zip(starts, figures, strict=False):
            self._write(x, self.y, title, _SMALL, color=_SOFT)
            self._write(x, self.y + 3.2, text, 12, weight="bold")
            for line, below in enumerate(beside):
                self._write(x, self.y + 8.6 + _LINE * line, below, _SMALL, color=_SOFT)
        lines = max((len(beside) for _, _, beside in figures), default=0)
        self.y += (9 + _LINE * lines) * bool(figures)

    def _warnings(self) -> None:
        lines = [
            line
            for warning in self.case.warnings[:_MOST_WARNINGS]
            for line in textwrap.wrap(f"Warning: {warning}", _CHARACTERS - 16, subsequent_indent="    ")
        ]
        if more := len(self.case.warnings) - _MOST_WARNINGS:
            lines += [f"and {more} more, which the HTML page names"] * (more > 0)
        for line in lines:
            self._write(_MARGIN, self.y, line, _TEXT, color=_WARNING)
            self.y += _LINE
        self.y += 1.5
        self.room = _SLICES_HIGH - _LINE * len(lines)

    def _slices(self) -> None:
        case = self.case
        rows, columns = case.shown
        high, wide = (size.stop - size.start for size in (rows, columns))
        high, wide = high * case.spacing[1], wide * case.spacing[2]
        count = len(case.image)
        across, width = _tiles(count, high / wide, self.room)
        height = width * high / wide
        limits = slices.grey_limits(case.image[:, rows, columns])[1]
        around = slices.outlines_of(self.sources.labels)
        marks = [()] * count
        if case.measured:
            leading = case.layers[case.measured.leading]
            marks = marks_in_picture(leading, case.spacing, case.measured.insertions, case.shown)
        for index in range(count):
            x = _MARGIN + index % across * (width + _SLICE_GAP)
            y = self.y + index // across * (height + _SLICE_GAP)
            axes = self._axes(x, y, width, height)
            axes.imshow(case.image[index, rows, columns], "gray", clim=limits, extent=(0, wide, high, 0))
            for layer in ("prediction", "truth"):
                if layer in case.layers:
                    _outline(axes, case.layers[layer][index, rows, columns], case.spacing[1:], around, layer)
            self._marks(axes, marks[index])
            axes.set(xlim=(0, wide), ylim=(high, 0), xticks=[], yticks=[], facecolor="black")
            axes.spines[:].set_visible(False)
            end = {0: case.ends[0], count - 1: case.ends[1]}.get(index, "")
            _letter(axes, 0.03, 0.97, f"{index + 1} {end}".strip(), ha="left", va="top")
            sides = {"left": (0.01, 0.5), "right": (0.99, 0.5), "top": (0.5, 0.99), "bottom": (0.5, 0.01)}
            for side, (across_at, up_at) in sides.items() if case.sides else ():
                horizontal = side if side in ("left", "right") else "center"
                vertical = side if side in ("top", "bottom") else "center"
                _letter(axes, across_at, up_at, case.sides[side], ha=horizontal, va=vertical)
            if index == 0:
                _scale_bar(axes, wide, high)
        self.y += -(-count // across) * (height + _SLICE_GAP) + 1

    def _marks(self, axes, marks: Sequence[tuple]) -> None:
        for letter, x, y, end_x, end_y in marks:
            axes.plot((x, end_x), (y, end_y), color="white", linewidth=0.9)
            at = end_x + 0.7 * (end_x - x), end_y + 0.7 * (end_y - y)
            axes.text(*at, letter, ha="center", va="center", clip_on=True, **_ON_PICTURE)

    def _legend(self) -> None:
        for layer in ("prediction", "truth"):
            if layer not in self.case.layers:
                continue
            axes = self._axes(_MARGIN, self.y, _INNER, 4)
            axes.set(xlim=(0, _INNER), ylim=(0, 4))
            axes.set_axis_off()
            axes.text(0, 2, layer, fontsize=_SMALL, va="center", weight="bold")
            for index, outline in enumerate(slices.outlines_of(self.sources.labels)):
                x = 16 + 30 * index
                axes.add_patch(Rectangle((x, 0.5), 8, 3, facecolor="#23272c"))
                _draw(axes, [np.array([(x + 0.5, 2), (x + 7.5, 2)])], outline, layer)
                axes.text(x + 9, 2, outline.title, fontsize=_SMALL, va="center")
            self.y += 4
        self.y += 1
        words = []
        if not self.case.sides:
            words.append("Sides of the body: unknown, the file does not say how its slices lie.")
        if not any(self.case.ends):
            words.append("Base and apex: unknown.")
        self._write(_MARGIN, self.y, " ".join(words), _SMALL, color=_SOFT)
        self.y += 4 * bool(words)

    def _bullseyes(self) -> None:
        measured = self.case.measured
        shown = [("prediction", measure) for measure in bullseye.MEASURES]
        shown += [("truth", "transmurality_max_percent")] * ("truth" in measured.layers)
        marks, from_x_axis = quantities.bullseye_marks(measured), quantities.counted_from_x_axis(measured)
        step = _INNER / 4
        for index, (layer, measure) in enumerate(shown):
            axes = self._axes(_MARGIN + index * step, self.y + 5, _BULLSEYE, _BULLSEYE)
            draw_bullseye(axes, measured.layers[layer].segments, measure, marks, from_x_axis)
            middle = _MARGIN + index * step + _BULLSEYE / 2
            self._write(middle, self.y, bullseye.MEASURES[measure], _SMALL, ha="center", weight="bold")
            if "truth" in measured.layers:
                self._write(middle, self.y + 2.7, layer, _SMALL, ha="center", color=_SOFT)
        self.y += _BULLSEYE + 5.5
        scale = self._axes(_MARGIN, self.y, 40, 2)
        for step in range(20):
            scale.add_patch(Rectangle((step, 0), 1.05, 1, color=bullseye.colour_of(5 * step + 2.5), linewidth=0))
        scale.set(xlim=(0, 20), ylim=(0, 1))
        scale.set_axis_off()
        notes = ["0 to 100 %. Small: the segment's number.", bullseye_note(measured.layers[measured.leading].case)]
        if not from_x_axis:
            arteries = "; ".join(f"{one.name} {_listed(one.segments)}" for one in bullseye.TERRITORIES)
            notes.append(f"Coronary territories, as they usually are: {arteries}.")
        for line in textwrap.wrap(" ".join(notes), _CHARACTERS - 40):
            self._write(_MARGIN + 42, self.y - 0.5, line, _SMALL, color=_SOFT)
            self.y += 3
        self.y += 2

    def _tables(self) -> None:
        measured, account = self.case.measured, self.case.account
        layers = list(measured.layers)
        rows = quantities.case_rows(measured.layers.values(), account)
        interval = any(row.beside for row in rows)
        head = ["", *layers, *([quantities.INTERVAL] if interval else []), ""]
        body = [[row.title, *row.values, *([row.beside] if interval else []), row.unit] for row in rows]
        left = 92.0
        self._table(_MARGIN, self.y, left, head, body)
        right, width = _MARGIN + left + 6, _INNER - left - 6
        rows = quantities.threshold_rows(measured.layers.values())
        at = self.y
        if rows:
            body = [[row.title, *row.values, row.unit] for row in rows]
            at = self._table(right, at, width, ["infarct by threshold", *layers, ""], body) + 1.5
        kept = {2: "infarct, g", 3: "%", 4: "no-reflow, g", 5: "max. transmurality, %"}
        body = [
            [str(number), *(values[index] for index in kept)]
            for number, values in quantities.slice_rows([measured.layers["prediction"]])
        ]
        self._table(right, at, width, ["slice", *kept.values()], body)

    def _table(self, x: float, y: float, width: float, head: Sequence[str], body: Sequence[Sequence[str]]) -> float:
        """Draws a table and returns where it ends. The first column takes what the others leave; where there is little
        room above the notes, lines and type are smaller."""
        line = min(_ROW, (self._notes_from() - y) / (len(body) + 1))
        size = _SMALL * line / _ROW
        widest = [max(len(row[index]) for row in [head, *body]) for index in range(1, len(head))]
        cells = [max(6.5, 3 + 1.28 * count) for count in widest]
        ends = [x + width - sum(cells[index + 1 :]) for index in range(len(cells))]
        for number, row in enumerate([head, *body]):
            style = {"weight": "bold"} if number == 0 else {}
            self._write(x, y, row[0], size, **style)
            for text, end in zip(row[1:], ends, strict=True):
                self._write(end, y, text, size, ha="right", **style)
            y += line
            self._rule(x, y - 0.35, width)
        return y

    def _notes(self) -> list[str]:
        """The lines at the foot of the page."""
        notes = []
        if measured := self.case.measured:
            notes.append(measured.frame)
            if quantities.threshold_rows(measured.layers.values()):
                notes.append(quantities.THRESHOLDS_ASSUME)
                notes += quantities.threshold_notes({"prediction": measured.layers["prediction"]})
        notes.append("; ".join(f"{title}: {text}" for title, text in provenance(self.sources, [self.case])) + ".")
        return [line for note in notes for line in textwrap.wrap(note, _CHARACTERS_OF_NOTES)]

    def _notes_from(self) -> float:
        """Where the notes begin."""
        return _HEIGHT - 10 - _NOTE * len(self._notes())

    def _foot(self) -> None:
        for index, line in enumerate(self._notes()):
            self._write(_MARGIN, self._notes_from() + _NOTE * index, line, 6, color=_SOFT)
        self._write(_WIDTH / 2, _HEIGHT - 8, RESEARCH_ONLY, _TEXT, ha="center", weight="bold", color=_WARNING)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _tiles(count: int, aspect: float, room: float) -> tuple[int, float]:
    """How many pictures of that height by width stand in a row, and how wide each is, so that all find room (mm)."""
    for across in range(4, 13):
        width = (_INNER - (across - 1) * _SLICE_GAP) / across
        if -(-count // across) * (width * aspect + _SLICE_GAP) <= room:
            return across, width
    return across, width


def _outline(
    axes, plane: np.ndarray, spacing: tuple[float, float], around: Sequence[slices.Outline], layer: str
) -> None:
    for outline in around:
        lines = [np.vstack([line, line[:1]]) for line in slices.outline_lines(plane, spacing, outline)]
        if lines:
            _draw(axes, lines, outline, layer)


def _draw(axes, lines: Sequence[np.ndarray], outline: slices.Outline, layer: str) -> None:
    """Lines as the page has them: the prediction's in colour, the truth's white and thin."""
    width, colour, edge = (1.0, outline.colour, 1.7) if layer == "prediction" else (0.55, "white", 1.4)
    dashes = "solid" if outline.dashes == "none" else (0, tuple(float(step) / 2.4 for step in outline.dashes.split()))
    axes.add_collection(LineCollection(lines, colors="black", linewidths=edge, alpha=0.6))
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, linestyles=[dashes]))


def _letter(axes, x: float, y: float, text: str, **style) -> None:
    axes.text(x, y, text, transform=axes.transAxes, **_ON_PICTURE, **style)


def _scale_bar(axes, wide: float, high: float) -> None:
    end, y = wide - 0.04 * wide, high - 0.05 * high
    axes.plot((end - _MILLIMETRES_OF_SCALE, end), (y, y), color="white", linewidth=1.5, solid_capstyle="butt")
    middle = end - _MILLIMETRES_OF_SCALE / 2
    axes.text(middle, y - 0.02 * high, f"{_MILLIMETRES_OF_SCALE} mm", ha="center", va="bottom", **_ON_PICTURE)
