"""How far random phantoms are from labelled scans: what a network sees of a heart, measured alike in both."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from cascade_jax.data.case import CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
from cascade_jax.quantify.wall import spokes
from cascade_jax.report.text_tables import Table

# Unit and meaning of what `measure` returns, in the order in which it is shown.
MEASURES = {
    "slices": "with the heart",
    "blood": "mean intensity, in standard deviations of the stack",
    "myocardium": "mean intensity of the normal myocardium, likewise",
    "blood noise": "standard deviation in the cavity / (blood - myocardium)",
    "myocardium noise": "standard deviation in normal myocardium / (blood - myocardium)",
    "infarct contrast": "(infarct - myocardium) / (blood - myocardium), medians, without no-reflow",
    "no-reflow contrast": "(no-reflow - myocardium) / (blood - myocardium), medians",
    "cavity mm": "diameter of the disc that is as large as the largest slice's",
    "wall mm": "median thickness along spokes",
    "thin wall mm": "its 5th percentile",
    "infarct ml": "with no-reflow, of infarcted hearts",
    "infarct %": "of the myocardium",
    "transmurality %": "mean over spokes with infarct",
    "no-reflow %": "of the infarct, where there is any",
    "slice jump mm": "mean distance of neighbouring slices' heart centres",
}


def measure(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """What a heart and its image are like.

    Args:
        image: float (depth, height, width), normalised as for the networks.
        labels: uint8, same shape, 0 to 4.
        spacing: mm along (depth, height, width).

    Returns:
        Each of `MEASURES`; NaN where the heart has no such part.
    """
    parts = {value: image[labels == value] for value in (CAVITY, MYOCARDIUM, INFARCTION, NO_REFLOW)}
    blood, muscle = (np.median(parts[value]) if parts[value].size else np.nan for value in (CAVITY, MYOCARDIUM))
    contrast = blood - muscle if blood > muscle else np.nan

    def relative(value: int) -> float:
        return (np.median(parts[value]) - muscle) / contrast if parts[value].size else np.nan

    held = [plane for plane in labels if plane.any()]
    centres = np.array([np.argwhere(plane > 0).mean(0) * spacing[1:] for plane in held]).reshape(-1, 2)
    jumps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    # Measures of the wall take the axes of files, (x, y, slice).
    wall = spokes(labels.transpose(2, 1, 0), (*spacing[:0:-1], spacing[0]))
    thickness = wall.thickness[np.isfinite(wall.thickness)]
    transmurality = wall.transmurality[wall.infarct > 0]
    area = max((np.sum(plane == CAVITY) for plane in held), default=0) * spacing[1] * spacing[2]
    infarct, heart_muscle = np.sum(labels >= INFARCTION), np.sum(labels >= MYOCARDIUM)
    values = (
        len(held),
        np.mean(parts[CAVITY]) if parts[CAVITY].size else np.nan,
        np.mean(parts[MYOCARDIUM]) if parts[MYOCARDIUM].size else np.nan,
        np.std(parts[CAVITY]) / contrast if parts[CAVITY].size else np.nan,
        np.std(parts[MYOCARDIUM]) / contrast if parts[MYOCARDIUM].size else np.nan,
        relative(INFARCTION),
        relative(NO_REFLOW),
        2 * np.sqrt(area / np.pi) if area else np.nan,
        np.median(thickness) if thickness.size else np.nan,
        np.percentile(thickness, 5) if thickness.size else np.nan,
        infarct * np.prod(spacing) / 1000 if infarct else np.nan,
        100 * infarct / heart_muscle if infarct else np.nan,
        np.mean(transmurality) if transmurality.size else np.nan,
        100 * parts[NO_REFLOW].size / infarct if parts[NO_REFLOW].size else np.nan,
        np.mean(jumps) if jumps.size else np.nan,
    )
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}


def distances(scans: Sequence[Mapping[str, float]], phantoms: Sequence[Mapping[str, float]]) -> Table:
    """A table of each measure's distribution in scans and in phantoms."""
    rows = []
    for name, meaning in MEASURES.items():
        real, drawn = (np.array([one[name] for one in many]) for many in (scans, phantoms))
        real, drawn = real[np.isfinite(real)], drawn[np.isfinite(drawn)]
        if not (real.size and drawn.size):
            rows.append((f"{name}: {meaning}", _spread(real), _spread(drawn), "-", "-"))
            continue
        low, high = np.percentile(drawn, (1, 99))
        outside = 100 * np.mean((real < low) | (real > high))
        distance = scipy.stats.ks_2samp(real, drawn).statistic
        rows.append((f"{name}: {meaning}", _spread(real), _spread(drawn), f"{distance:.2f}", f"{outside:.0f}"))
    return Table(
        f"{len(phantoms)} random phantoms against {len(scans)} labelled scans",
        ("", "scans: median (5 to 95 %)", "phantoms: median (5 to 95 %)", "distance", "scans out of reach %"),
        rows,
        "The distance is Kolmogorov and Smirnov's, the largest difference of the cumulative shares, from 0 to 1. A "
        "scan is out of reach if 99 % of the phantoms lie on one side of it.",
    )


def _spread(values: np.ndarray) -> str:
    if not values.size:
        return "-"
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
