"""The EMIDEC challenge's metrics (its `Evaluation-metrics` repository), and the one it has wrong, put right.

Arrays are as files hold them, (x, y, slice), and the voxel size is in the same order; only `evaluate_labels` takes the
library's own order (depth, height, width).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from cascade_jax.data.labels import EMIDEC, LabelTable

_BY_THICKNESS = ("volume_difference_mm3", "hausdorff_emidec_mm")  # of a slice


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two bool masks: 1 if both are empty, 0 if one is."""
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return float(2.0 * np.count_nonzero(prediction & truth) / total) if total else 1.0


def hausdorff(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """The maximum symmetric distance between the border voxels of two bool masks, in mm; NaN if one is empty.

    Args:
        prediction: bool, three-dimensional.
        truth: bool, same shape.
        spacing: mm along each axis.
    """
    return max(float(distances.max()) for distances in border_distances(prediction, truth, spacing))


def mean_surface_distance(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """The mean symmetric distance between the border voxels of two bool masks, in mm; NaN if one is empty.

    The mean over the border voxels of both masks together (Heimann et al. 2009, IEEE Trans Med Imaging 28:1251-1265),
    as medpy's `assd` with connectivity 1.

    Args:
        prediction: bool, three-dimensional.
        truth: bool, same shape.
        spacing: mm along each axis.
    """
    return float(np.concatenate(border_distances(prediction, truth, spacing)).mean())


def border_distances(
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """How far each border voxel of a bool mask is from the nearest one of the other, in mm.

    A border voxel is one whose 6-neighbourhood is not all in the mask, as in medpy's distances with connectivity 1.

    Args:
        prediction: bool, three-dimensional.
        truth: bool, same shape.
        spacing: mm along each axis.

    Returns:
        Those of the prediction's border voxels and those of the truth's, one-dimensional; a single NaN each if a mask
        is empty.
    """
    if not (prediction.any() and truth.any()):
        return np.array([np.nan]), np.array([np.nan])
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]
    # One voxel of margin, so that the edge of the box is outside the masks as it is for the whole arrays' borders.
    borders = []
    for mask in (np.pad(prediction[box], 1), np.pad(truth[box], 1)):
        borders.append(mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1)))
    distances = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    return distances[1][borders[0]], distances[0][borders[1]]


def evaluate_case(
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], table: LabelTable = EMIDEC
) -> dict[str, dict[str, float]]:
    """All metrics of one case.

    Args:
        prediction: labels of the table, (x, y, slice).
        truth: labels, same shape.
        spacing: mm along (x, y, slice), from the header's pixdim.
        table: which labels there are, and what is evaluated.

    Returns:
        {target: {metric: value}} for the table's targets: `dice` (fraction), `volume_difference_mm3` (rounded to two
        decimals, as the challenge does) and `hausdorff_mm` (NaN if a mask is empty). For `EMIDEC` the challenge's
        choice: `hausdorff_mm` for the myocardium only, with `hausdorff_emidec_mm`, which repeats the challenge's
        mistake of pairing the slice distance with x and the in-plane size with the slices so that it compares with
        published figures; for the other two `volume_ratio_difference`, the unrounded volume difference over the
        volume of the true myocardium (NaN if that is empty).

    Raises:
        ValueError: shapes differ or are not three-dimensional, a label is not in the table, a spacing is not positive.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape or truth.ndim != 3:
        raise ValueError(
            f"prediction has shape {prediction.shape}, truth {truth.shape}; three equal dimensions are needed"
        )
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if not np.isin(labels, range(len(table.names))).all():
            raise ValueError(f"{name} has labels other than 0 to {len(table.names) - 1}")
    spacing = tuple(spacing)
    if len(spacing) != 3 or not all(np.isfinite(value) and value > 0 for value in spacing):
        raise ValueError(f"spacing is {spacing}; three positive numbers (mm) are needed")

    voxel_mm3 = float(np.prod(np.asarray(spacing, np.float64)))
    true_main_mm3 = np.count_nonzero(np.isin(truth, table.targets[table.main])) * voxel_mm3
    challenge = table == EMIDEC
    results = {}
    for target, labels in table.targets.items():
        predicted, true = np.isin(prediction, labels), np.isin(truth, labels)
        difference = abs(np.count_nonzero(predicted) * voxel_mm3 - np.count_nonzero(true) * voxel_mm3)
        result = {"dice": dice(predicted, true), "volume_difference_mm3": float(np.round(difference, 2))}
        if not challenge or target == table.main:
            result["hausdorff_mm"] = hausdorff(predicted, true, spacing)
        if challenge and target == table.main:
            # SimpleITK gives the challenge arrays as (slice, y, x), and it hands over the spacing as (x, y, slice).
            result["hausdorff_emidec_mm"] = hausdorff(predicted.T, true.T, spacing)
        elif challenge:
            ratio = difference / true_main_mm3 if true_main_mm3 else float("nan")
            result["volume_ratio_difference"] = float(ratio)
        results[target] = result
    return results


def evaluate_labels(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], table: LabelTable = EMIDEC
) -> dict[str, dict[str, float]]:
    """`evaluate_case` for arrays and spacing in the library's order (depth, height, width).

    Of a single slice of unknown thickness, NaN in the spacing, what depends on it is NaN.
    """
    depth, *plane = spacing
    arrays = np.asarray(prediction).T, np.asarray(truth).T
    results = evaluate_case(*arrays, (*plane[::-1], 1.0 if np.isnan(depth) else depth), table)
    if np.isnan(depth):
        for values in results.values():
            values |= {metric: float("nan") for metric in _BY_THICKNESS if metric in values}
    return results


def summarise(cases: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean of each metric over the cases where it is not NaN; NaN if there is none.

    Args:
        cases: {case: {target: {metric: value}}}, as `evaluate_case` returns them.

    Returns:
        {target: {metric: mean}}.
    """
    if not cases:
        return {}
    first = next(iter(cases.values()))
    return {
        target: {metric: _mean([case[target][metric] for case in cases.values()]) for metric in values}
        for target, values in first.items()
    }


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def undefined(cases: Mapping[str, Mapping[str, Mapping[str, float]]], target: str, metric: str) -> list[str]:
    """The cases whose value is NaN, and which a mean therefore leaves out."""
    return [name for name, result in cases.items() if np.isnan(result[target][metric])]
