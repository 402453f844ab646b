"""What a segmentation says about a heart: volumes, mass, infarct share, transmurality, by slice and by AHA segment.

Functions of masks, whoever made them: labels (x, y, slice), 0 background, 1 cavity, 2 normal myocardium, 3 infarction,
4 no-reflow, and the spacing (mm) in the same order, as nibabel's `header.get_zooms()` gives it. "Muscle" is 2, 3 and 4
together, "infarct" 3 and 4: no-reflow is dead too.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cascade_jax import aha, thresholds
from cascade_jax.data.case import CAVITY, INFARCTION, LABEL_NAMES, MYOCARDIUM, NO_REFLOW
from cascade_jax.wall import SPOKES, Spokes, endocardial_lengths, spoke_angles, spokes

MUSCLE_DENSITY_G_PER_ML = 1.05
DEVIATIONS = (2, 3, 4, 5, 6)


def whole_labels(labels: np.ndarray) -> np.ndarray:
    """Labels as whole numbers: uint8 of the same shape.

    Programs that store labels as scaled integers give them back as, say, 2.99999; what lies within 1e-3 of a whole
    number is that number.

    Raises:
        ValueError: a value is not a whole number from 0 to 4.
    """
    labels = np.asarray(labels)
    with np.errstate(invalid="ignore"):
        rounded = labels if labels.dtype.kind in "iu" else np.rint(labels)
        fitting = (np.abs(labels - rounded) < 1e-3) & (rounded >= 0) & (rounded < len(LABEL_NAMES))
    if not fitting.all():
        raise ValueError(
            f"labels are not whole numbers 0 to {len(LABEL_NAMES) - 1}: {labels[~fitting][0]} is among them"
        )
    return rounded.astype(np.uint8)


def volumes(labels: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Volumes, masses and shares of a stack or of a part of one.

    Args:
        labels: (x, y, slice).
        spacing: mm along (x, y, slice).

    Returns:
        `cavity_ml`, `muscle_ml`, `infarct_ml`, `no_reflow_ml`, voxels times their size; `muscle_g`, `infarct_g`,
        `no_reflow_g` at 1.05 g/ml (Schulz-Menger et al. 2020, J Cardiovasc Magn Reson 22:19); `infarct_percent` and
        `no_reflow_percent` of the muscle, NaN where there is none (infarct size as a share of the left ventricle's
        mass: Ibanez et al. 2019, J Am Coll Cardiol 74:238-256).

    Raises:
        ValueError: labels are not whole numbers 0 to 4.
    """
    voxel_ml = float(np.prod(np.asarray(spacing, np.float64))) / 1000
    counts = np.bincount(whole_labels(labels).ravel(), minlength=5) * voxel_ml
    muscle, infarct = counts[MYOCARDIUM:].sum(), counts[INFARCTION:].sum()
    result = {"cavity_ml": counts[CAVITY], "muscle_ml": muscle}
    result |= {"infarct_ml": infarct, "no_reflow_ml": counts[NO_REFLOW]}
    for name in ("muscle", "infarct", "no_reflow"):
        result[f"{name}_g"] = result[f"{name}_ml"] * MUSCLE_DENSITY_G_PER_ML
    for name in ("infarct", "no_reflow"):
        result[f"{name}_percent"] = 100 * result[f"{name}_ml"] / muscle if muscle else np.nan
    return {name: float(value) for name, value in result.items()}


def endocardial_extent(measured: Spokes, slice_distance: float, chosen: np.ndarray | None = None) -> dict[str, float]:
    """The endocardium's area, and that of it which the infarct touches (infarct-endocardium surface area).

    The sum over spokes of the border's length times slice distance: the endocardial surface length of the infarct, by
    which the area at risk is estimated (Ibanez et al. 2019, J Am Coll Cardiol 74:238-256), as an area.

    Args:
        measured: of a stack.
        slice_distance: mm.
        chosen: bool (slice, spoke); None means all.

    Returns:
        `endocardium_cm2`, `infarct_endocardium_cm2`, and `infarct_endocardium_percent` (NaN without endocardium).
    """
    areas = endocardial_lengths(measured) * slice_distance / 100
    areas = areas if chosen is None else areas * chosen
    total, infarcted = areas.sum(), areas[measured.at_endocardium].sum()
    share = 100 * infarcted / total if total else np.nan
    return {
        "endocardium_cm2": float(total),
        "infarct_endocardium_cm2": float(infarcted),
        "infarct_endocardium_percent": float(share),
    }


def wall_figures(measured: Spokes, chosen: np.ndarray | None = None) -> dict[str, float]:
    """Wall thickness and transmurality of some spokes.

    Thickness is the wall's muscle on a chord from the ventricle's centre (`cascade_jax.wall.spokes`, this library's own
    definition); transmurality the infarct's share of it, as the transmural extent of infarction (Kim et al. 2000,
    N Engl J Med 343:1445-1453), here measured instead of graded.

    Args:
        measured: of a stack.
        chosen: bool (slice, spoke); None means all.

    Returns:
        `wall_thickness_mm` (mean), `transmurality_mean_percent` (over the spokes that meet infarct; 0 if none does) and
        `transmurality_max_percent`; NaN where no spoke meets muscle.
    """
    chosen = np.isfinite(measured.thickness) & (True if chosen is None else chosen)
    if not chosen.any():
        return dict.fromkeys(("wall_thickness_mm", "transmurality_mean_percent", "transmurality_max_percent"), np.nan)
    transmurality = measured.transmurality[chosen]
    infarcted = transmurality[transmurality > 0]
    return {
        "wall_thickness_mm": float(measured.thickness[chosen].mean()),
        "transmurality_mean_percent": float(infarcted.mean()) if infarcted.size else 0.0,
        "transmurality_max_percent": float(transmurality.max()),
    }


@dataclasses.dataclass(frozen=True)
class Quantities:
    """One case in figures; names carry their units.

    Attributes:
        case: of the whole heart.
        slices: one dict for each slice with muscle; `slice` counts from 1, as viewers and the report do.
        segments: one dict for each AHA segment that the stack reaches.
    """

    case: dict
    slices: list[dict]
    segments: list[dict]


def quantify(
    labels: np.ndarray,
    spacing: Sequence[float],
    image: np.ndarray | None = None,
    *,
    insertion: float | None = None,
    base_first: bool | None = None,
    mirrored: bool | None = None,
    right_handed: bool | None = None,
) -> Quantities:
    """Everything this module measures.

    Args:
        labels: (x, y, slice).
        spacing: mm along (x, y, slice).
        image: same shape: for the threshold methods, and to find the right ventricle.
        insertion: angle of the right ventricle's anterior insertion, degrees; None looks for it in the image. Where
            that fails, segments are counted from the stack's x axis, and `segments_from` of the case says so.
        base_first: whether the first slice is the most basal one; None takes the end with the larger ventricle.
        mirrored: whether the slices are mirrored, against the view from the apex; None tells it from `right_handed`.
        right_handed: whether the axes (x, y, slice) are right-handed in the patient, from which it follows whether the
            slices are mirrored (as converters of DICOM files often leave them) or seen from the apex, as the
            segments' numbers suppose. Where `mirrored` is None too, the latter is supposed; `mirrored` of the case
            says "no", "yes" or "unknown".

    Returns:
        The figures.

    Raises:
        ValueError: labels are not three-dimensional or not whole numbers 0 to 4, the image has another shape, or the
            spacing is not three positive numbers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 3 or (image is not None and np.shape(image) != labels.shape):
        raise ValueError(f"labels of shape {labels.shape}, image of shape {np.shape(image)}: both are (x, y, slice)")
    labels = whole_labels(labels)
    spacing = tuple(float(value) for value in spacing)
    if len(spacing) != 3 or not all(0 < value < np.inf for value in spacing):
        raise ValueError(f"a spacing of {spacing} is not three positive numbers")
    base_first = aha.base_comes_first(labels) if base_first is None else base_first
    if mirrored is None and right_handed is not None:
        # Seen from the apex, x to the right and y downwards, the third axis of a right-handed system leads to the base.
        mirrored = right_handed == base_first
    if mirrored:
        labels, image = labels[:, ::-1], None if image is None else np.asarray(image)[:, ::-1]
        insertion = None if insertion is None else -insertion % 360
    measured = spokes(labels, spacing)
    ring = aha.rings(labels, base_first=base_first)
    source = "given"
    if insertion is None:
        if image is not None:
            insertion = aha.find_insertion(np.asarray(image), labels, spacing, ring, measured)
        source = "right ventricle" if insertion is not None else "x axis"
    segment = aha.segment_of(labels, ring, insertion or 0.0, spacing)
    spoke_segment = np.zeros((labels.shape[2], SPOKES), np.uint8)
    for index, name in enumerate(ring):
        if name is not None:
            spoke_segment[index] = aha.segment_at(spoke_angles(), name, insertion or 0.0)

    case = volumes(labels, spacing) | wall_figures(measured) | endocardial_extent(measured, spacing[2])
    if image is not None:
        case |= _threshold_figures(np.asarray(image), labels, spacing)
    shown = np.nan if insertion is None else (-insertion % 360 if mirrored else insertion)
    case |= {"segments_from": source, "insertion_degrees": shown}
    case |= {"mirrored": "unknown" if mirrored is None else "yes" if mirrored else "no"}

    slices = []
    for index in np.flatnonzero((labels >= MYOCARDIUM).any(axis=(0, 1))):
        here = np.zeros_like(spoke_segment, bool)
        here[index] = True
        figures = volumes(labels[:, :, index : index + 1], spacing) | wall_figures(measured, here)
        figures |= endocardial_extent(measured, spacing[2], here)
        slices.append({"slice": int(index) + 1, "ring": ring[index]} | figures)
    segments = []
    for number in np.unique(segment[segment > 0]):
        figures = volumes(np.where(segment == number, labels, 0), spacing)
        figures = {name: value for name, value in figures.items() if name != "cavity_ml"}
        figures |= wall_figures(measured, spoke_segment == number)
        figures |= endocardial_extent(measured, spacing[2], spoke_segment == number)
        segments.append({"segment": int(number), "name": aha.SEGMENT_NAMES[int(number)]} | figures)
    return Quantities(case, slices, segments)


def _threshold_figures(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """The infarct's volume by each threshold method, ml; NaN without a remote region, and by half maximum also where no
    wall is three voxels thick."""
    voxel_ml = float(np.prod(spacing)) / 1000
    remote = thresholds.remote_muscle(image, labels, spacing)
    figures = {f"infarct_{count}sd_ml": np.nan for count in DEVIATIONS} | {"infarct_fwhm_ml": np.nan}
    if remote.any():
        for count in DEVIATIONS:
            mask = thresholds.above_deviations(image, labels, remote, count)
            figures[f"infarct_{count}sd_ml"] = float(mask.sum() * voxel_ml)
    if remote.any() and thresholds.inner_muscle(labels).any():
        figures["infarct_fwhm_ml"] = float(thresholds.above_half_maximum(image, labels, remote).sum() * voxel_ml)
    return figures
