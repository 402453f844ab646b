"""What a cohort looks like -> the shape of training samples and of both networks, by nnU-Net's rules."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from cascade_jax.data.geometry import MOST_VOXELS
from cascade_jax.data.labels import EMIDEC, LabelTable

_SMALLEST_FEATURE_MAP = 4  # nnU-Net's UNet_featuremap_min_edge_length
_BASE_FEATURES = 32
_MOST_FEATURES = {2: 512, 3: 320}
_REFERENCE_SLICE_VOXELS = 512 * 512  # nnU-Net trains 12 slices of this size in its reference memory
_REFERENCE_SLICE_BATCH = 12
_VOLUME_BATCH = 2
_LARGEST_SHARE_OF_COHORT = 0.05  # of the cohort's voxels in one batch
_BUCKET_PIXELS, _BUCKET_SHARE = 64, 0.45  # of the plan's plane, by which the planes differ that cases are segmented in
# Of plans that are read, so that a damaged one is not believed.
_LARGEST_SPACING_MM, _MOST_CHANNELS, _LARGEST_KERNEL = 1000.0, 4096, 16
_DEPTH_GROWTH = 1.25  # from one depth that cases are segmented in to the next


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage's network and batch.

    Attributes:
        features: channels of each resolution.
        kernel_sizes: kernel size of each resolution along each spatial axis.
        strides: stride with which each resolution is entered.
        batch_size: slices (stage one) or volumes (stage two) in one training step.
    """

    features: tuple[int, ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of both stages.

    Attributes:
        spacing: mm along (depth, height, width). Only the plane is ever resampled; the depth is the cohort's median.
        shape: of a training sample, (depth, height, width): a window of a case, or all of it.
        slices: stage one.
        volumes: stage two.
        labels: which labels there are, and what is evaluated.
        window: (height, width) of what stage two sees, in training and after, around stage one's heart, of which stage
            one itself has looked again at the shape's plane; None shows both stages the whole plane.
    """

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    slices: StagePlan
    volumes: StagePlan
    labels: LabelTable = EMIDEC
    window: tuple[int, int] | None = None

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """(depth, height, width) of stage two's training samples."""
        return (self.shape[0], *(self.window or self.shape[1:]))

    @property
    def windows(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """(height, width) of what each stage sees around the heart; None is the whole plane."""
        return None if self.window is None else (self.shape[1:], self.window)

    def to_json(self) -> dict:
        return dataclasses.asdict(self) | {"labels": self.labels.to_json()}

    @staticmethod
    def from_json(values: dict) -> "Plan":
        """What `to_json` gave; raises TypeError, KeyError or ValueError if it is none."""
        labels = LabelTable.from_json(values["labels"]) if "labels" in values else EMIDEC
        values = _as_tuples({key: value for key, value in values.items() if key != "labels"})
        stages = StagePlan(**values["slices"]), StagePlan(**values["volumes"])
        plan = Plan(values["spacing"], values["shape"], *stages, labels, values.get("window"))
        _check(plan)
        return plan


def _check(plan: Plan) -> None:
    """Raises ValueError or TypeError where a plan that was read is none that `make_plan` makes."""
    _check_numbers(plan.spacing, 3, float, _LARGEST_SPACING_MM)
    _check_numbers(plan.shape, 3, int, MOST_VOXELS)
    if plan.window is not None:
        _check_numbers(plan.window, 2, int, MOST_VOXELS)
    for stage, axes in ((plan.slices, 2), (plan.volumes, 3)):
        _check_numbers(stage.features, len(stage.features), int, _MOST_CHANNELS)
        _check_numbers((stage.batch_size,), 1, int, MOST_VOXELS)
        if not len(stage.features) == len(stage.kernel_sizes) == len(stage.strides) > 0:
            raise ValueError("each resolution has features, a kernel size and strides")
        for sizes in (*stage.kernel_sizes, *stage.strides):
            _check_numbers(sizes, axes, int, _LARGEST_KERNEL)
    if math.prod(smallest_shape(plan, plan.volume_shape)) > MOST_VOXELS:
        raise ValueError("a sample is larger than a stack of slices")


def _check_numbers(values: tuple, count: int, kind: type, most: float) -> None:
    wrong = [value for value in values if type(value) not in (int, kind) or not 0 < value <= most]
    if len(values) != count or wrong:
        raise ValueError(f"{count} numbers up to {most:g} are needed")


def _as_tuples(value):
    if isinstance(value, Mapping):
        return {key: _as_tuples(inner) for key, inner in value.items()}
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return tuple(_as_tuples(inner) for inner in value)
    return value


def topology(
    shape: Sequence[int], spacing: Sequence[float]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Strides and kernel sizes of a network for examples of a given shape and spacing.

    nnU-Net's rule (Isensee et al. 2021, supplementary note 2; `get_pool_and_conv_props`): an axis is halved while its
    feature map stays at 4 voxels or more and its spacing is within a factor of 2 of the finest; a kernel is 3 along
    an axis from the resolution on at which its spacing is within a factor of 2 of the finest.

    Args:
        shape: voxels along each axis.
        spacing: mm along each axis.

    Returns:
        Strides and kernel sizes, one tuple for each resolution.
    """
    axes = range(len(shape))
    shape, spacing = list(shape), list(spacing)
    strides, kernel_sizes, kernel_size = [(1,) * len(shape)], [], [1] * len(shape)
    while True:
        large = [axis for axis in axes if shape[axis] >= 2 * _SMALLEST_FEATURE_MAP]
        if not large:
            break
        finest = min(spacing[axis] for axis in large)
        halved = [axis for axis in large if spacing[axis] / finest < 2]
        if len(halved) == 1 and shape[halved[0]] < 3 * _SMALLEST_FEATURE_MAP:
            break
        kernel_size = [3 if k == 3 or spacing[axis] / min(spacing) < 2 else 1 for axis, k in enumerate(kernel_size)]
        kernel_sizes.append(tuple(kernel_size))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            spacing[axis] *= 2
            shape[axis] = -(-shape[axis] // 2)
    kernel_sizes.append((3,) * len(shape))
    return tuple(strides), tuple(kernel_sizes)


def total_strides(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The product of the strides along each axis: the size of what a network is given is a multiple of it."""
    return tuple(int(factor) for factor in np.prod(np.asarray(strides), axis=0))


def round_up(shape: Sequence[int], multiples: Sequence[int]) -> tuple[int, ...]:
    """Each size rounded up to the next multiple."""
    return tuple(-(-int(size) // multiple) * multiple for size, multiple in zip(shape, multiples, strict=True))


def smallest_shape(plan: Plan, shape: Sequence[int]) -> tuple[int, int, int]:
    """The smallest shape that holds `shape` (depth, height, width) and that both networks of the plan accept."""
    depth_multiple, *_ = total_strides(plan.volumes.strides)
    plane = np.lcm(total_strides(plan.volumes.strides)[1:], total_strides(plan.slices.strides))
    depth, height, width = round_up(np.maximum(shape, plan.shape).tolist(), (depth_multiple, *plane.tolist()))
    return depth, height, width


def bucket(plan: Plan, shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape in which a case is segmented: one of few, so that a cohort compiles few programs.

    One takes longer to compile than several cases take to segment; but what is padded takes time too, and it moves the
    moments of instance norm, and with them the labels. So the plane is the plan's, or larger by multiples of 64 pixels
    along each axis (of fewer, where that is more than 45 % of the plan's), of which the other axis has as many or one
    less, at least; each depth is a quarter more than the one before.

    Args:
        plan: of the cascade.
        shape: (depth, height, width) that it has to hold.
    """
    depth_multiple, *_ = total_strides(plan.volumes.strides)
    own_depth, *own_plane = smallest_shape(plan, (1, 1, 1))
    multiples = np.lcm(total_strides(plan.volumes.strides)[1:], total_strides(plan.slices.strides)).tolist()
    steps = [
        max(1, int(min(_BUCKET_PIXELS, _BUCKET_SHARE * own)) // multiple) * multiple
        for own, multiple in zip(own_plane, multiples, strict=True)
    ]
    counts = [-(-max(0, int(n) - own) // step) for n, own, step in zip(shape[1:], own_plane, steps, strict=True)]
    counts = [max(count, max(counts) - 1) for count in counts]
    depth = own_depth
    while depth < shape[0]:
        (depth,) = round_up((math.ceil(depth * _DEPTH_GROWTH),), (depth_multiple,))
    return (depth, *(own + count * step for own, count, step in zip(own_plane, counts, steps, strict=True)))


def _stage(shape, spacing, batch_size, overrides: Mapping) -> StagePlan:
    strides, kernel_sizes = topology(shape, spacing)
    features = tuple(min(_BASE_FEATURES * 2**level, _MOST_FEATURES[len(shape)]) for level in range(len(strides)))
    if (features_override := overrides.get("features")) is not None:
        # Fewer (or more) resolutions than planned: the topology is cut at the bottom, or halved on.
        features = tuple(features_override)
        if len(features) > len(strides):
            raise ValueError(
                f"the plan has {len(strides)} resolutions for shape {tuple(shape)}; {len(features)} features were given"
            )
        strides, kernel_sizes = strides[: len(features)], kernel_sizes[: len(features)]
    return StagePlan(
        features,
        _as_tuples(overrides.get("kernel_sizes") or kernel_sizes),
        _as_tuples(overrides.get("strides") or strides),
        overrides.get("batch_size") or batch_size,
    )


def make_plan(
    shapes: Sequence[Sequence[int]],
    spacings: Sequence[Sequence[float]],
    overrides: Mapping | None = None,
    labels: LabelTable = EMIDEC,
) -> Plan:
    """Plans both stages for a cohort.

    In-plane spacing and size are the cohort's medians; depth is the deepest case's, for slices are never resampled.

    Args:
        shapes: of each case's field of view, (depth, height, width).
        spacings: mm of each case along (depth, height, width).
        overrides: values to use instead: `spacing` (mm, depth, height, width), `shape`, `window` (cut to the plane),
            and under `slices` and `volumes` any of `features`, `kernel_sizes`, `strides`, `batch_size`. None means as
            planned.
        labels: which labels there are.

    Returns:
        The plan.

    Raises:
        ValueError: an override does not fit the cohort or another override.
    """
    overrides = overrides or {}
    shapes, spacings = np.asarray(shapes), np.asarray(spacings, np.float64)
    spacing = np.asarray(overrides.get("spacing") or np.median(spacings, axis=0))
    plane = np.round(np.median(shapes[:, 1:] * spacings[:, 1:] / spacing[1:], axis=0)).astype(int)
    shape = tuple(overrides.get("shape") or (int(shapes[:, 0].max()), *plane.tolist()))

    slice_overrides, volume_overrides = overrides.get("slices") or {}, overrides.get("volumes") or {}
    share = _LARGEST_SHARE_OF_COHORT * np.prod(shapes * spacings / spacing, axis=1).sum()
    slice_batch = min(
        round(_REFERENCE_SLICE_BATCH * _REFERENCE_SLICE_VOXELS / np.prod(shape[1:])),
        round(share / np.prod(shape[1:])),
    )
    slices = _stage(shape[1:], spacing[1:], max(2, slice_batch), slice_overrides)
    window = overrides.get("window")
    if window is not None and (len(window) != 2 or min(window) < 1):
        raise ValueError(f"window {tuple(window)} is not (height, width), in voxels")
    volumes = _stage((shape[0], *(window or shape[1:])), spacing, _VOLUME_BATCH, volume_overrides)
    spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    shape = smallest_shape(Plan(spacing, shape, slices, volumes), shape)
    if window is not None:
        window = tuple(np.minimum(round_up(window, total_strides(volumes.strides)[1:]), shape[1:]).tolist())
    return Plan(spacing, shape, slices, volumes, labels, window)


def with_networks_of(plan: Plan, overrides: Mapping) -> dict:
    """Overrides for `make_plan` that give a cohort another plan's networks, to take their weights, and where nothing
    else is set its spacing and window.

    Args:
        plan: of the trained cascade.
        overrides: what else is set; all but the networks stays.
    """
    stages = {}
    for name, stage in (("slices", plan.slices), ("volumes", plan.volumes)):
        batch_size = (overrides.get(name) or {}).get("batch_size")
        stages[name] = {
            "features": stage.features,
            "kernel_sizes": stage.kernel_sizes,
            "strides": stage.strides,
            "batch_size": batch_size,
        }
    spacing, window = overrides.get("spacing") or plan.spacing, overrides.get("window") or plan.window
    return {"spacing": spacing, "shape": overrides.get("shape"), "window": window} | stages
