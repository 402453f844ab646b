"""What a segmentation says about a heart: volumes, mass, infarct share, transmurality, by slice and by AHA segment.

Functions of masks, whoever made them: labels (x, y, slice), 0 background, 1 cavity, 2 normal myocardium, 3 infarction,
4 no-reflow, and the spacing (mm) in the same order, as nibabel's `header.get_zooms()` gives it. "Myocardium" is 2, 3
and 4 together, "infarct" 3 and 4: no-reflow is dead too.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from cascade_jax.data.case import CAVITY, INFARCTION, LABEL_NAMES, MYOCARDIUM, NO_REFLOW
from cascade_jax.quantify import aha, septum, thresholds
from cascade_jax.quantify.wall import SPOKES, Spokes, endocardial_lengths, spoke_angles, spokes

MYOCARDIUM_DENSITY_G_PER_ML = 1.05
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
        `cavity_ml`, `myocardium_ml`, `infarct_ml`, `no_reflow_ml`, voxels times their size; `myocardium_g`,
        `infarct_g`, `no_reflow_g` at 1.05 g/ml (Schulz-Menger et al. 2020, J Cardiovasc Magn Reson 22:19);
        `infarct_percent` and `no_reflow_percent` of the myocardium, NaN where there is none (infarct size as a share of
        the left ventricle's mass: Ibanez et al. 2019, J Am Coll Cardiol 74:238-256).

    Raises:
        ValueError: labels are not whole numbers 0 to 4.
    """
    voxel_ml = float(np.prod(np.asarray(spacing, np.float64))) / 1000
    counts = np.bincount(whole_labels(labels).ravel(), minlength=5) * voxel_ml
    myocardium, infarct = counts[MYOCARDIUM:].sum(), counts[INFARCTION:].sum()
    result = {"cavity_ml": counts[CAVITY], "myocardium_ml": myocardium}
    result |= {"infarct_ml": infarct, "no_reflow_ml": counts[NO_REFLOW]}
    for name in ("myocardium", "infarct", "no_reflow"):
        result[f"{name}_g"] = result[f"{name}_ml"] * MYOCARDIUM_DENSITY_G_PER_ML
    for name in ("infarct", "no_reflow"):
        result[f"{name}_percent"] = 100 * result[f"{name}_ml"] / myocardium if myocardium else np.nan
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
        `endocardium_cm2`, `infarct_endocardium_cm2`, `infarct_endocardium_percent`; all NaN without endocardium, as in
        slices without a cavity.
    """
    areas = endocardial_lengths(measured) * slice_distance / 100
    areas = areas if chosen is None else areas * chosen
    total, infarcted = float(areas.sum()), float(areas[measured.at_endocardium].sum())
    names = ("endocardium_cm2", "infarct_endocardium_cm2", "infarct_endocardium_percent")
    if not total:
        return dict.fromkeys(names, np.nan)
    return dict(zip(names, (total, infarcted, 100 * infarcted / total), strict=True))


def wall_figures(measured: Spokes, chosen: np.ndarray | None = None) -> dict[str, float]:
    """Wall thickness and transmurality of some spokes.

    Thickness is the wall's myocardium on a chord from the ventricle's centre (`quantify.wall.spokes`, this library's
    own definition); transmurality the infarct's share of it, as the transmural extent of infarction (Kim et al. 2000,
    N Engl J Med 343:1445-1453), here measured instead of graded.

    Args:
        measured: of a stack.
        chosen: bool (slice, spoke); None means all.

    Returns:
        `wall_thickness_mm` (mean), `transmurality_mean_percent` (over the spokes that meet infarct; NaN if none does)
        and `transmurality_max_percent`; NaN where no spoke meets a wall, as in slices without a cavity.
    """
    chosen = np.isfinite(measured.thickness) & (True if chosen is None else chosen)
    if not chosen.any():
        return dict.fromkeys(("wall_thickness_mm", "transmurality_mean_percent", "transmurality_max_percent"), np.nan)
    transmurality = measured.transmurality[chosen]
    infarcted = transmurality[transmurality > 0]
    return {
        "wall_thickness_mm": float(measured.thickness[chosen].mean()),
        "transmurality_mean_percent": float(infarcted.mean()) if infarcted.size else np.nan,
        "transmurality_max_percent": float(transmurality.max()),
    }


@dataclasses.dataclass(frozen=True)
class Quantities:
    """One case in figures; names carry their units.

    Attributes:
        case: of the whole heart.
        slices: one dict for each slice with myocardium; `slice` counts from 1, as viewers and the report do.
        segments: one dict for each AHA segment that the stack reaches; none if fewer than three slices have a cavity.
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
        insertion: angle of the right ventricle's anterior insertion, degrees; None looks for both insertions in the
            image (`septum.find_insertions`). Where that fails, segments are counted from the stack's x axis, and their
            names say nothing of where they lie. `segments_from` of the case and of each segment says what they are
            counted from ("given", "right ventricle", "x axis", or "none" where there are no segments), and
            `right_ventricle` of the case whether it was "found", "not found" or "not looked for".
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
    found, sought = None, insertion is None and image is not None
    if sought:
        found = septum.find_insertions(np.asarray(image), labels, spacing, ring, measured)
    source = "given" if insertion is not None else "x axis" if found is None else "right ventricle"
    if found is not None:
        insertion = found.anterior
    if not any(ring):
        source = "none"
    segment = aha.segment_of(labels, ring, insertion or 0.0, spacing)
    spoke_segment = np.zeros((labels.shape[2], SPOKES), np.uint8)
    for index, name in enumerate(ring):
        if name is not None:
            spoke_segment[index] = aha.segment_at(spoke_angles(), name, insertion or 0.0)

    def as_stored(angle: float | None) -> float:
        """An angle in the slices as they came; NaN for None."""
        return np.nan if angle is None else float(-angle % 360 if mirrored else angle)

    case: dict = volumes(labels, spacing) | wall_figures(measured) | endocardial_extent(measured, spacing[2])
    if image is not None:
        remote = thresholds.remote_region(np.asarray(image), labels, spacing)
        case |= _threshold_figures(np.asarray(image), labels, spacing, remote)
        case |= _remote_figures(remote, as_stored, bool(mirrored))
    case |= {
        "segments_from": source,
        "right_ventricle": "not looked for" if not sought else "not found" if found is None else "found",
        "insertion_degrees": as_stored(insertion),
        "inferior_insertion_degrees": as_stored(None if found is None else found.inferior),
        "base_first": "unknown" if source == "none" else "yes" if base_first else "no",
        "mirrored": "unknown" if mirrored is None else "yes" if mirrored else "no",
    }

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
        named = {"segment": int(number), "name": aha.SEGMENT_NAMES[int(number)], "segments_from": source}
        segments.append(named | figures)
    return Quantities(case, slices, segments)


def _threshold_figures(
    image: np.ndarray, labels: np.ndarray, spacing: Sequence[float], remote: thresholds.RemoteRegion | None
) -> dict:
    """The infarct's volume by each threshold method, ml; NaN where a method cannot measure it, and why.

    An n-SD threshold above the blood would miss an infarct as bright as blood, as most are, and one above the mean of
    what half the maximum would count misses most of a brighter one: a few millilitres, or none, would say nothing of
    the heart.

    Returns:
        `infarct_2sd_ml` to `infarct_6sd_ml`, `infarct_sd_reason`, `infarct_fwhm_ml`, `infarct_fwhm_reason`; the reasons
        are empty where all values are there.
    """
    voxel_ml = float(np.prod(spacing)) / 1000
    figures: dict = {f"infarct_{count}sd_ml": np.nan for count in DEVIATIONS}
    unknown = figures | {"infarct_sd_reason": "", "infarct_fwhm_ml": np.nan, "infarct_fwhm_reason": ""}
    if remote is None:
        reason = "no remote region: nowhere enough myocardium around a cavity"
        return unknown | {"infarct_sd_reason": reason, "infarct_fwhm_reason": reason}
    blood, bright = float(np.median(image[labels == CAVITY])), -np.inf
    if thresholds.inner_myocardium(labels).any():
        half, _ = thresholds.half_maximum(image, labels, remote.mask)
        bright = float(image[(labels >= MYOCARDIUM) & (image >= half)].mean())
    too_high = [count for count in DEVIATIONS if max(blood, bright) <= remote.mean + count * remote.deviation]
    for count in DEVIATIONS:
        if count not in too_high:
            mask = thresholds.above_deviations(image, labels, remote.mask, count)
            figures[f"infarct_{count}sd_ml"] = float(mask.sum() * voxel_ml)
    reason = ""
    if too_high:
        reason = f"{_listed(too_high)} SD above remote myocardium is brighter than blood and than the bright myocardium"
    return figures | {"infarct_sd_reason": reason} | _half_maximum_figures(image, labels, voxel_ml, remote)


def _half_maximum_figures(
    image: np.ndarray, labels: np.ndarray, voxel_ml: float, remote: thresholds.RemoteRegion
) -> dict:
    if not thresholds.inner_myocardium(labels).any():
        return {"infarct_fwhm_ml": np.nan, "infarct_fwhm_reason": "the wall is nowhere three voxels thick"}
    _, deviations = thresholds.half_maximum(image, labels, remote.mask)
    if deviations <= thresholds.LEAST_DEVIATIONS:
        reason = (
            f"half the maximum lies {deviations:.2f} SD above remote myocardium, where {thresholds.LEAST_DEVIATIONS} "
            "tell infarct from noise: no infarct, or too little contrast"
        )
        return {"infarct_fwhm_ml": np.nan, "infarct_fwhm_reason": reason}
    mask = thresholds.above_half_maximum(image, labels, remote.mask)
    return {"infarct_fwhm_ml": float(mask.sum() * voxel_ml), "infarct_fwhm_reason": ""}


def _remote_figures(
    remote: thresholds.RemoteRegion | None, as_stored: Callable[[float], float], mirrored: bool
) -> dict:
    """Where the remote region lies and what its signal is, one for the whole stack.

    Returns:
        `remote_from_degrees` and `remote_to_degrees` (counter-clockwise in the slices as they came), `remote_slices`
        (the first and the last, from 1), `remote_voxels`, `remote_mean`, `remote_sd` in the image's unit, and
        `remote_statistics`, which says that mean and SD are of all slices together.
    """
    names = ("remote_from_degrees", "remote_to_degrees", "remote_slices", "remote_voxels", "remote_mean", "remote_sd")
    if remote is None:
        return dict.fromkeys(names, np.nan) | {"remote_slices": "", "remote_voxels": 0, "remote_statistics": ""}
    ends = [as_stored(angle) for angle in (remote.start, remote.stop)]
    values = (f"{remote.slices[0]}-{remote.slices[-1]}", remote.voxels, remote.mean, remote.deviation)
    figures = dict(zip(names, (*(ends[::-1] if mirrored else ends), *values), strict=True))
    return figures | {"remote_statistics": "pooled over slices"}


def _listed(numbers: Sequence[int]) -> str:
    """In words: "5", "4 and 5", "4, 5 and 6"."""
    words = [str(number) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
