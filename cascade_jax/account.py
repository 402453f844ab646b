"""A cascade's account of one case: what probabilities, labels and image say of the result, in a few numbers.

All of it comes from what prediction has anyway. Where several folds vote, the networks' numbers are the mean of those
that each fold has on its own, so that they compare with those of a single fold, from which a calibration is learnt.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cascade_jax.confidence import volumes_ml
from cascade_jax.data.border import outside_field_of_view
from cascade_jax.data.case import Case
from cascade_jax.data.labels import LabelTable
from cascade_jax.postprocess import USUAL_THICKNESS_MM

if TYPE_CHECKING:
    from cascade_jax.data.preprocess import Grid
    from cascade_jax.models.graph import Vote

# Of image and outline; each would be unlike in an image that is no late enhancement, or around what is no heart.
APPEARANCE = ("contrast", "level", "surroundings", "spread", "noise", "size", "hollow", "jump")
_AROUND_MM = 12.0  # how far what counts as the heart's surroundings reaches
_TINY = 1e-3  # in the stack's standard deviations: what a logarithm is taken of is no less


@dataclasses.dataclass(frozen=True)
class VoteSummary:
    """What the account needs of a vote, summed over voxels.

    Attributes:
        sums_ml: float64 (fold, label, class), `Vote.fold_sums` times the voxel's volume.
        stages_ml: float64 (fold, label of stage one, final label), how much has both.
        highest: float64 (fold, class), `Vote.fold_highest`.
    """

    sums_ml: np.ndarray
    stages_ml: np.ndarray
    highest: np.ndarray

    def of_fold(self, index: int) -> "VoteSummary":
        """One fold's alone."""
        return VoteSummary(*(array[index : index + 1] for array in (self.sums_ml, self.stages_ml, self.highest)))

    def to_json(self) -> dict:
        return {name: array.tolist() for name, array in vars(self).items()}

    @staticmethod
    def from_json(values: Mapping) -> "VoteSummary":
        """Raises ValueError, KeyError or TypeError where the values are not what `to_json` gives."""
        names = ("sums_ml", "stages_ml", "highest")
        sums, stages, highest = (np.array(values[name], np.float64) for name in names)
        if sums.ndim != 3 or sums.shape != stages.shape or highest.shape != sums.shape[::2]:
            raise ValueError("the arrays' shapes do not belong together")
        return VoteSummary(sums, stages, highest)


@dataclasses.dataclass(frozen=True)
class TargetAccount:
    """What is known of one target of a case.

    Attributes:
        soft_dice: that a fold's probabilities expect of its own labels, before postprocessing; 0 where it has neither.
        soft_ml: the sum of the probabilities.
        raw_ml: volume of the labels before postprocessing.
        volume_ml: volume of the labels after postprocessing.
        highest: highest probability of one of the target's labels.
        mean: mean probability inside the labels, 0 where there are none.
        stages_dice: Dice between stage one's labels and the final ones; 0 where both have none.
    """

    soft_dice: float
    soft_ml: float
    raw_ml: float
    volume_ml: float
    highest: float
    mean: float
    stages_dice: float


@dataclasses.dataclass(frozen=True)
class Account:
    """The account of one case.

    Attributes:
        targets: {target: what is known of it}.
        appearance: {one of `APPEARANCE`: number}; {} where the main target was not found.
    """

    targets: Mapping[str, TargetAccount]
    appearance: Mapping[str, float]


def voxel_volume_ml(grid: "Grid", spacing: Sequence[float]) -> float:
    """The volume of a voxel of the networks' grid.

    Args:
        grid: of the example.
        spacing: the case's, mm along (depth, height, width); an unknown thickness counts as the usual one.
    """
    depth, *plane = with_thickness(spacing)
    sides = [stop - start for start, stop in grid.box[1:]]
    steps = [size * side / new for size, side, new in zip(plane, sides, grid.resampled_shape[1:], strict=True)]
    return float(depth * np.prod(steps)) / 1000


def with_thickness(spacing: Sequence[float]) -> tuple[float, ...]:
    """The spacing (mm along depth, height, width), in which an unknown thickness, NaN, is the usual one."""
    return (USUAL_THICKNESS_MM, *spacing[1:]) if np.isnan(spacing[0]) else tuple(spacing)


def summarise_vote(vote: "Vote", voxel_ml: float) -> VoteSummary:
    """What the account needs of a vote on a grid of voxels of this volume."""
    count = vote.fold_sums.shape[-1]
    pairs = count * vote.fold_priors.astype(np.int64) + vote.fold_labels
    stages = np.stack([np.bincount(fold.ravel(), minlength=count**2).reshape(count, count) for fold in pairs])
    sums, highest = (np.asarray(array, np.float64) for array in (vote.fold_sums, vote.fold_highest))
    return VoteSummary(voxel_ml * sums, voxel_ml * stages, highest)


def make_account(summary: VoteSummary, labels: np.ndarray, case: Case, table: LabelTable) -> Account:
    """The account of a case.

    Args:
        summary: of the folds' vote.
        labels: uint8 (depth, height, width), after postprocessing, in the case's own grid.
        case: the case.
        table: of the labels.
    """
    spacing = with_thickness(case.spacing)
    volumes = volumes_ml(labels, spacing, table)
    targets = {name: _account_of_target(summary, list(of), volumes[name]) for name, of in table.targets.items()}
    return Account(targets, measure_appearance(case.image, labels, spacing, table))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.where(whole > 0, whole, 1.0)


def _account_of_target(summary: VoteSummary, members: list[int], volume_ml: float) -> TargetAccount:
    soft, raw = summary.sums_ml[:, :, members].sum((1, 2)), summary.sums_ml[:, members].sum((1, 2))
    inside = summary.sums_ml[:, members][:, :, members].sum((1, 2))
    first, final = summary.stages_ml[:, members].sum((1, 2)), summary.stages_ml[:, :, members].sum((1, 2))
    both = summary.stages_ml[:, members][:, :, members].sum((1, 2))
    of_folds = {
        "soft_dice": _ratio(2 * inside, soft + raw),
        "soft_ml": soft,
        "raw_ml": raw,
        "highest": summary.highest[:, members].max(axis=1),
        "mean": _ratio(inside, raw),
        "stages_dice": _ratio(2 * both, first + final),
    }
    return TargetAccount(volume_ml=volume_ml, **{name: float(values.mean()) for name, values in of_folds.items()})


def measure_appearance(
    image: np.ndarray, labels: np.ndarray, spacing: Sequence[float], table: LabelTable
) -> dict[str, float]:
    """What image and outline look like. Intensities are in standard deviations of the stack's tissue from its mean.

    Args:
        image: (depth, height, width).
        labels: uint8, same shape.
        spacing: mm along the same axes.
        table: of the labels.

    Returns:
        {} where the main target (the myocardium) was not found, or of `APPEARANCE`:
        "level": median of the main target, without what another target is (normal myocardium);
        "contrast": median of the other labels (blood in the cavity) less that; of the surroundings if there are none;
        "surroundings": median of the tissue around the heart; "spread": logarithm of the standard deviation where
        "level" is measured; "noise": logarithm of that of neighbouring pixels' differences; "size": logarithm of the
        heart's ml; "hollow": the other labels' share of it; "jump": logarithm of 1 plus the median way of the main
        target's centre from slice to slice, mm.
    """
    main = np.isin(labels, table.targets[table.main])
    if not main.any():
        return {}
    tissue = ~outside_field_of_view(image)
    values = image[tissue] if tissue.any() else image.ravel()
    deviation = float(values.std(dtype=np.float64)) or 1.0
    heart = labels > 0
    reach = [0, *(int(np.ceil(_AROUND_MM / size)) for size in spacing[1:])]
    occupied = (np.flatnonzero(heart.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    box = tuple(slice(max(0, at[0] - more), at[-1] + more + 1) for at, more in zip(occupied, reach, strict=True))
    scaled = (image[box].astype(np.float64) - values.mean(dtype=np.float64)) / deviation
    main, heart, tissue, labels = main[box], heart[box], tissue[box], labels[box]
    parts = {label for name, members in table.targets.items() if name != table.main for label in members}
    muscle = np.isin(labels, [label for label in table.targets[table.main] if label not in parts])
    muscle = muscle if muscle.any() else main
    # One slice after another, for a slice says nothing of what surrounds the heart in the next.
    near = np.stack([ndimage.distance_transform_edt(~plane, spacing[1:]) <= _AROUND_MM for plane in heart])
    near &= tissue & np.asarray(heart.any(axis=(1, 2)))[:, None, None]
    around = near & ~heart
    level = float(np.median(scaled[muscle]))
    surroundings = float(np.median(scaled[around])) if around.any() else level
    other = heart & ~main
    blood = float(np.median(scaled[other])) if other.any() else surroundings
    return {
        "contrast": blood - level,
        "level": level,
        "surroundings": surroundings,
        "spread": float(np.log(max(scaled[muscle].std(), _TINY))),
        "noise": float(np.log(max(_noise(scaled, near), _TINY))),
        "size": float(np.log(heart.sum() * np.prod(spacing) / 1000)),
        "hollow": float(other.sum() / heart.sum()),
        "jump": float(np.log1p(_median_jump(main, spacing))),
    }


def _noise(image: np.ndarray, where: np.ndarray) -> float:
    """The standard deviation of white noise that has these second differences along the rows, from their median."""
    differences = np.abs(image[..., :-2] - 2 * image[..., 1:-1] + image[..., 2:])[where[..., 1:-1]]
    return float(np.median(differences)) / (0.6745 * np.sqrt(6)) if differences.size else 0.0


def _median_jump(mask: np.ndarray, spacing: Sequence[float]) -> float:
    centres = np.array([ndimage.center_of_mass(plane) for plane in mask if plane.any()]) * spacing[1:]
    return float(np.median(np.hypot(*np.diff(centres, axis=0).T))) if len(centres) > 1 else 0.0
