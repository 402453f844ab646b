"""The bullseye on a page of PDF, as `bullseye.as_svg` has it for the page."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Arc, Wedge

from cascade_jax.quantify.aha import SEGMENT_NAMES
from cascade_jax.report import bullseye

_WARNING = "#8a3b00"


def draw_bullseye(axes, segments: Sequence[dict], measure: str, marks: dict[str, float], from_x_axis: bool) -> None:
    """The plot of one measure, as `bullseye.as_svg` has it for the page."""
    values = bullseye.values_of(segments, measure)
    for number in SEGMENT_NAMES:
        place, percent = bullseye.place_of(number), values.get(number)
        face = "none" if percent is None else bullseye.colour_of(percent)
        ink = bullseye.DARK_INK if percent is None else bullseye.ink_on(percent)
        width = place.outer - place.inner
        axes.add_patch(
            Wedge(
                (0, 0),
                place.outer,
                place.start,
                place.start + place.width,
                width=width,
                fc=face,
                ec=bullseye.RIM,
                lw=0.5,
            )
        )
        x, y = place.middle
        text = "-" if percent is None else f"{percent:.0f}"
        axes.text(x, y - 0.17, text, fontsize=6.5, ha="center", va="center", color=ink)
        axes.text(x, y + 0.32, str(number), fontsize=4.4, ha="center", va="center", color=ink)
    if not from_x_axis:
        for territory in bullseye.TERRITORIES:
            start, end = territory.start + 2, territory.start + 118
            axes.add_patch(Arc((0, 0), 8.4, 8.4, theta1=start, theta2=end, ec=territory.colour, lw=1.6))
            x, y = bullseye.on_circle(4.8, territory.named_at)
            axes.text(x, y, territory.name, fontsize=5, ha="center", va="center")
        for angle, *radii in bullseye.BORDERS:
            axes.plot(*np.transpose([bullseye.on_circle(radius, angle) for radius in radii]), color="black", lw=1.2)
        for radius, start, end in bullseye.BORDER_ARCS:
            axes.add_patch(Arc((0, 0), 2 * radius, 2 * radius, theta1=start, theta2=end, ec="black", lw=1.2))
    else:
        style = {"ha": "center", "va": "center", "rotation": 20, "weight": "bold", "color": _WARNING}
        axes.text(
            0, 0, bullseye.X_AXIS, fontsize=8, bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1}, **style
        )
    for letter, angle in marks.items():
        axes.plot(*np.transpose([bullseye.on_circle(radius, angle) for radius in (4.0, 4.4)]), color="black", lw=1)
        axes.text(*bullseye.on_circle(4.75, angle), letter, fontsize=6, ha="center", va="center")
    axes.set(xlim=(-5.1, 5.1), ylim=(-5.1, 5.1), aspect="equal")
    axes.set_axis_off()
