"""How far random phantoms are from labelled scans: what a network sees of a heart, measured alike in both."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats
from scipy import ndimage

from cascade_jax.data.case import BACKGROUND, CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW
from cascade_jax.quantify.wall import spokes
from cascade_jax.report.text_tables import Table, number

# Unit and meaning of what `measure` returns, in the order in which it is shown.
MEASURES = {
    "slices": "with the heart",
    "blood": "mean intensity, in standard deviations of the stack",
    "myocardium": "mean intensity of the normal myocardium, likewise",
    "blood noise": "standard deviation in the cavity / (blood - myocardium)",
    "myocardium noise": "standard deviation in normal myocardium / (blood - myocardium)",
    "infarct contrast": "(infarct - myocardium) / (blood - myocardium), medians, without no-reflow",
    "no-reflow contrast": "(no-reflow - myocardium) / (blood - myocardium), medians",
    "bright surroundings": "(fat and the like - myocardium) / (blood - myocardium), 95th percentile within 30 mm",
    "dark surroundings": "(lung and the like - myocardium) / (blood - myocardium), 5th percentile within 30 mm",
    "papillary muscles %": "of the cavity, where it is darker than halfway from blood to myocardium",
    "noisiest slice": "its noise in the cavity / the stack's median",
    "cavity mm": "diameter of the disc that is as large as the largest slice's",
    "wall mm": "median thickness along spokes",
    "thin wall mm": "its 5th percentile",
    "infarcted wall %": "thickness of spokes with infarct in more than half of them, of those without",
    "infarct ml": "with no-reflow, of infarcted hearts",
    "infarct %": "of the myocardium",
    "transmurality %": "mean over spokes with infarct",
    "no-reflow %": "of the infarct, where there is any",
    "no-reflow without rim %": "of its outer neighbours in the slice, those that are no infarct and no cavity",
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

    around = _surroundings(image, labels, spacing)
    high, low = np.percentile(around, (95, 5)) if around.size else (np.nan, np.nan)
    dark = parts[CAVITY] < (blood + muscle) / 2
    grains = [grain for plane, outlined in zip(image, labels, strict=True) if (grain := _grain(plane, outlined)) > 0]
    held = [plane for plane in labels if plane.any()]
    centres = np.array([np.argwhere(plane > 0).mean(0) * spacing[1:] for plane in held]).reshape(-1, 2)
    jumps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    # Measures of the wall take the axes of files, (x, y, slice).
    wall = spokes(labels.transpose(2, 1, 0), (*spacing[:0:-1], spacing[0]))
    thickness = wall.thickness[np.isfinite(wall.thickness)]
    transmurality = wall.transmurality[wall.infarct > 0]
    infarcted, remote = wall.thickness[wall.transmurality > 50], wall.thickness[wall.infarct == 0]
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
        (high - muscle) / contrast,
        (low - muscle) / contrast,
        100 * np.mean(dark) if dark.size and np.isfinite(contrast) else np.nan,
        max(grains) / np.median(grains) if len(grains) > 1 else np.nan,
        2 * np.sqrt(area / np.pi) if area else np.nan,
        np.median(thickness) if thickness.size else np.nan,
        np.percentile(thickness, 5) if thickness.size else np.nan,
        100 * np.median(infarcted) / np.median(remote) if min(infarcted.size, remote.size) >= 20 else np.nan,
        infarct * np.prod(spacing) / 1000 if infarct else np.nan,
        100 * infarct / heart_muscle if infarct else np.nan,
        np.mean(transmurality) if transmurality.size else np.nan,
        100 * parts[NO_REFLOW].size / infarct if parts[NO_REFLOW].size else np.nan,
        100 * _without_rim(labels),
        np.mean(jumps) if jumps.size else np.nan,
    )
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}


def _surroundings(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Intensities of the tissue within 30 mm of the heart in its slices."""
    far = ndimage.distance_transform_edt(labels == BACKGROUND, sampling=(1e6, *spacing[1:]))
    return image[(far > 0) & (far < 30) & (image != 0)]


def _grain(plane: np.ndarray, labels: np.ndarray) -> float:
    """Noise in a slice's cavity: the median difference of neighbours along a row; 0 where fewer than 50 are there."""
    both = (labels[:, 1:] == CAVITY) & (labels[:, :-1] == CAVITY)
    differences = np.abs(np.diff(plane, axis=1))[both]
    return float(np.median(differences)) if differences.size >= 50 else 0.0


def _without_rim(labels: np.ndarray) -> float:
    """The share of no-reflow's neighbours in the slice that are normal myocardium or outside; NaN without no-reflow."""
    obstructed = labels == NO_REFLOW
    neighbours = ndimage.binary_dilation(obstructed, ndimage.generate_binary_structure(2, 1)[None]) & ~obstructed
    return float(np.mean(np.isin(labels[neighbours], (BACKGROUND, MYOCARDIUM)))) if obstructed.any() else np.nan


def distances(scans: Sequence[Mapping[str, float]], phantoms: Sequence[Mapping[str, float]]) -> Table:
    """A table of each measure's distribution in scans and in phantoms."""
    rows = []
    for name, meaning in MEASURES.items():
        real, drawn = (np.array([one[name] for one in many]) for many in (scans, phantoms))
        real, drawn = real[np.isfinite(real)], drawn[np.isfinite(drawn)]
        if not (real.size and drawn.size):
            rows.append((f"{name}: {meaning}", _spread(real), _spread(drawn), "-", "-", "-"))
            continue
        low, high = np.percentile(drawn, (1, 99))
        outside = 100 * np.mean((real < low) | (real > high))
        shift = scipy.stats.wasserstein_distance(real, drawn) / np.std(real) if np.ptp(real) else np.nan
        distance = scipy.stats.ks_2samp(real, drawn).statistic
        cells = (number(distance), number(shift), f"{outside:.0f}")
        rows.append((f"{name}: {meaning}", _spread(real), _spread(drawn), *cells))
    return Table(
        f"{len(phantoms)} random phantoms against {len(scans)} labelled scans",
        ("", "scans: median (5 to 95 %)", "phantoms: median (5 to 95 %)", "largest gap", "shift", "out of reach %"),
        rows,
        "The gap is Kolmogorov and Smirnov's distance, the largest difference of the cumulative shares, from 0 to 1. "
        "The shift is Wasserstein's distance, the mean way from a scan's value to a phantom's, in standard deviations "
        "of the scans. A scan is out of reach if 99 % of the phantoms lie on one side of it.",
    )


def _spread(values: np.ndarray) -> str:
    if not values.size:
        return "-"
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
