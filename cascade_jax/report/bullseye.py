"""The 17-segment plot of the American Heart Association: where each segment lies on it, its coronary territories, and
the plot as SVG for a page.

Anterior is at the top, the septum to the left (Cerqueira et al. 2002, Circulation 105:539-542, figures 4 and 5). Angles
are degrees counter-clockwise from the right, lengths in widths of a ring: the whole has a radius of 4.
"""

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cascade_jax.quantify.aha import SEGMENT_NAMES

MEASURES = {
    "transmurality_max_percent": "maximum transmurality, %",
    "transmurality_mean_percent": "mean transmurality, %",
    "infarct_percent": "infarct share, %",
}
WALLS = ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
X_AXIS = "counted from the x axis"
DARK_INK, LIGHT_INK, RIM = "#14171b", "#ffffff", "#6b6b6b"
# Pale yellow to dark red, ColorBrewer's YlOrRd: darker is more, in black and white too.
_COLOURS = ("#ffffcc", "#ffeda0", "#fed976", "#feb24c", "#fd8d3c", "#fc4e2a", "#e31a1c", "#bd0026", "#800026")
_LIGHT_INK_FROM = 71.0  # percent: on either side the contrast is above 4 to 1


class Territory(NamedTuple):
    """A coronary artery's share of the segments (Cerqueira et al. 2002, figure 5), as it usually is.

    Attributes:
        name: of the artery, short.
        title: in full.
        segments: their numbers.
        start: where its sector of the outer ring begins, degrees; it is 120 wide.
        named_at: where its name stands, degrees, beside the insertions and the walls' names.
        colour: of its arc, to be seen on paper and on a dark screen.
    """

    name: str
    title: str
    segments: tuple[int, ...]
    start: float
    named_at: float
    colour: str


TERRITORIES = (
    Territory("LAD", "left anterior descending artery (LAD)", (1, 2, 7, 8, 13, 14, 17), 60.0, 168.0, "#3f8fd0"),
    Territory("RCA", "right coronary artery (RCA)", (3, 4, 9, 10, 15), 180.0, 192.0, "#0ea87d"),
    Territory("LCX", "left circumflex artery (LCX)", (5, 6, 11, 12, 16), 300.0, 0.0, "#cc79a7"),
)
# Where territories meet inside: straight lines (angle, from, to) and arcs (radius, from angle, to angle).
BORDERS = (
    *((angle, 2.0, 4.0) for angle in (60.0, 180.0, 300.0)),
    *((angle, 1.0, 2.0) for angle in (45.0, 225.0, 315.0)),
)
BORDER_ARCS = ((2.0, 45.0, 60.0), (2.0, 180.0, 225.0), (2.0, 300.0, 315.0), (1.0, 225.0, 405.0))


class Place(NamedTuple):
    """Where a segment lies: outer and inner radius, first angle and width in degrees."""

    outer: float
    inner: float
    start: float
    width: float

    @property
    def middle(self) -> tuple[float, float]:
        """x and y (upwards) of its middle."""
        if self.inner == 0:
            return 0.0, 0.0
        return on_circle((self.outer + self.inner) / 2, self.start + self.width / 2)


def place_of(number: int) -> Place:
    """Where an AHA segment lies, 1 to 17."""
    if number == 17:
        return Place(1.0, 0.0, 0.0, 360.0)
    if number > 12:
        return Place(2.0, 1.0, 45.0 + 90.0 * (number - 13), 90.0)
    outer = 4.0 if number < 7 else 3.0
    return Place(outer, outer - 1, 60.0 + 60.0 * ((number - 1) % 6), 60.0)


def on_circle(radius: float, angle: float) -> tuple[float, float]:
    """x and y (upwards) of a point."""
    return float(radius * np.cos(np.deg2rad(angle))), float(radius * np.sin(np.deg2rad(angle)))


def colour_of(percent: float) -> str:
    """The colour of a share, "#rrggbb"."""
    steps = np.array([tuple(bytes.fromhex(colour[1:])) for colour in _COLOURS], float)
    at = np.clip(percent, 0, 100) / 100 * (len(steps) - 1)
    levels = [round(float(np.interp(at, np.arange(len(steps)), channel))) for channel in steps.T]
    return "#" + bytes(levels).hex()


def ink_on(percent: float) -> str:
    """The colour of writing on `colour_of`."""
    return LIGHT_INK if percent >= _LIGHT_INK_FROM else DARK_INK


def values_of(segments: Sequence[Mapping], measure: str) -> dict[int, float]:
    """{segment: percent} of one of `MEASURES`.

    Where a segment has no infarct its mean transmurality, which is over the places that have some, is drawn as 0.
    """
    values = {row["segment"]: row[measure] for row in segments}
    if measure == "transmurality_mean_percent":
        walls = [row for row in segments if not np.isnan(row["transmurality_max_percent"])]
        values |= {row["segment"]: 0.0 for row in walls if row["infarct_g"] == 0}
    return {number: value for number, value in values.items() if not np.isnan(value)}


def as_svg(
    segments: Sequence[Mapping],
    measure: str,
    title: str,
    *,
    marks: Mapping[str, float] | None = None,
    from_x_axis: bool = False,
    small: bool = False,
) -> str:
    """The plot of one measure as an `<svg>` element, whose lines and letters take the colour of the text around it.

    Args:
        segments: of a case, as `quantify` gives them; those that are missing are drawn empty.
        measure: one of `MEASURES`.
        title: for those who cannot see it.
        marks: {letter: degrees on the plot} of what is marked on its edge.
        from_x_axis: whether segments do not lie where their names say, which is then written across.
        small: without numbers, names, territories and scale, and without what a segment says when it is pointed at.
    """
    values = values_of(segments, measure)
    parts = [_sector(number, values.get(number), segments, small) for number in SEGMENT_NAMES]
    if not from_x_axis and not small:
        parts += [_territory(territory) for territory in TERRITORIES] + [_borders()]
        parts += [_wall(index, name) for index, name in enumerate(WALLS)]
    for letter, angle in (marks or {}).items():
        (x, y), (end_x, end_y), (at_x, at_y) = (on_circle(radius, angle) for radius in (4.0, 4.45, 4.75))
        parts.append(f'<path class="mark" d="M{x:.2f} {-y:.2f}L{end_x:.2f} {-end_y:.2f}"/>')
        parts.append(_words(at_x, -at_y, 0.5, letter, "mark-letter"))
    if from_x_axis:
        parts.append(f'<g transform="rotate(-20)">{_words(0, 0, 0.7 if small else 0.8, X_AXIS, "across")}</g>')
    if not small:
        parts.append(_scale())
    box = "-4.9 -4.9 9.8 9.8" if small else "-7.6 -5.6 15.2 12.5"
    name = html.escape(title)
    return f'<svg class="bullseye" viewBox="{box}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


def _words(x: float, y: float, size: float, text: str, kind: str = "", ink: str = "") -> str:
    kind, ink = f' class="{kind}"' if kind else "", f' fill="{ink}"' if ink else ""
    return f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size}"{kind}{ink}>{html.escape(text)}</text>'


def _arc(radius: float, start: float, end: float, first: str = "M") -> str:
    (x, y), (end_x, end_y) = on_circle(radius, start), on_circle(radius, end)
    large, sweep = int(abs(end - start) > 180), int(end < start)
    return f"{first}{x:.2f} {-y:.2f}A{radius} {radius} 0 {large} {sweep} {end_x:.2f} {-end_y:.2f}"


def _sector(number: int, percent: float | None, segments: Sequence[Mapping], small: bool) -> str:
    place = place_of(number)
    fill = "none" if percent is None else colour_of(percent)
    if number == 17:
        shape = f'<circle r="1" fill="{fill}"/>'
    else:
        end = place.start + place.width
        outline = _arc(place.outer, place.start, end) + _arc(place.inner, end, place.start, "L") + "Z"
        shape = f'<path d="{outline}" fill="{fill}"/>'
    x, y = place.middle
    value = "-" if percent is None else f"{percent:.0f}"
    ink = "" if percent is None else ink_on(percent)
    words = _words(x, -y if small else -y + 0.16, 0.62 if small else 0.5, value, ink=ink)
    if small:
        return shape + words
    words += _words(x, -y - 0.27, 0.3, str(number), "number", ink)
    row = next((row for row in segments if row["segment"] == number), None)
    said = ["not reached by the stack"]
    if row is not None:
        said = [f"{text}: {row[key]:.0f}" for key, text in MEASURES.items() if not np.isnan(row[key])]
    title = html.escape(f"{number} {SEGMENT_NAMES[number]}: " + "; ".join(said))
    return f"<g><title>{title}</title>{shape}{words}</g>"


def _territory(territory: Territory) -> str:
    arc = _arc(4.2, territory.start + 2, territory.start + 118)
    x, y = on_circle(4.9, territory.named_at)
    name = _words(x, -y, 0.5, territory.name, "artery")
    title, colour = html.escape(territory.title), territory.colour
    return f'<g><title>{title}</title><path class="territory" style="stroke: {colour}" d="{arc}"/>{name}</g>'


def _borders() -> str:
    lines = []
    for angle, inner, outer in BORDERS:
        (x, y), (end_x, end_y) = on_circle(inner, angle), on_circle(outer, angle)
        lines.append(f"M{x:.2f} {-y:.2f}L{end_x:.2f} {-end_y:.2f}")
    return f'<path class="border" d="{"".join([*lines, *(_arc(*arc) for arc in BORDER_ARCS)])}"/>'


def _wall(index: int, name: str) -> str:
    # Those above and below stand beyond the insertions' letters.
    x, y = on_circle(5.2 if index in (0, 3) else 4.75, 90 + 60 * index)
    side = "" if abs(x) < 1 else "to-the-left" if x < 0 else "to-the-right"
    return _words(x * 0.97, -y, 0.46, name, f"wall {side}".strip())


def _scale() -> str:
    swatches = "".join(
        f'<rect x="{-4 + 0.4 * step:.1f}" y="5.8" width=".42" height=".4" fill="{colour_of(5 * step + 2.5)}"/>'
        for step in range(20)
    )
    ends = "".join(_words(-4 + 8 * percent / 100, 6.55, 0.42, f"{percent} %") for percent in (0, 25, 50, 75, 100))
    return f'<g class="scale">{swatches}{ends}</g>'
