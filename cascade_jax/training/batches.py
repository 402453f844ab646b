"""What a training step learns from: batches drawn on the device, from a cohort that lies there, or of random phantoms.

Every draw is a function of a key alone, so that a run goes on where it stopped with the batches it would have had, and
so that the host can tell in advance which cases a step will draw (`choices`).
"""

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax.data import augment
from cascade_jax.data.case import LABEL_NAMES
from cascade_jax.data.preprocess import Example, heart_box
from cascade_jax.models.graph import most_probable, one_hot_prior, segment_slices
from cascade_jax.models.unet import UNet
from cascade_jax.phantoms.random_phantom import draw_phantom
from cascade_jax.plan import Plan
from cascade_jax.training.windows import HEART_SHARE, cut_extent, draw_start, labelled_box, take_window

_SLICE_BRIGHTNESS = 0.15  # how far one slice's mean and standard deviation differ from its stack's


@flax.struct.dataclass
class Cohort:
    """Preprocessed cases on the device: all of them, whole, or for one batch those that it draws.

    Attributes:
        image: float32 (case, depth, height, width).
        labels: uint8, same shape.
        prior: uint8, same shape: stage one's labels, for stage two; None in stage one.
        extent: int32 (case, 3, 2), where each case's field of view starts and stops along each axis.
        heart: int32 (case, 3, 2), where its labels do.
        drawn: None where this is the whole cohort. For one batch int32 (case,): there is one case for each sample, of
            which stage one has the slice alone that it draws, and these are their positions in the whole cohort.
    """

    image: jax.Array
    labels: jax.Array
    prior: jax.Array | None
    extent: jax.Array
    heart: jax.Array
    drawn: jax.Array | None = None


def make_cohort(examples: Sequence[Example]) -> Cohort:
    """A cohort of labelled examples of one shape, without priors, as numpy arrays; each is asked for once."""
    boxes = np.empty((2, len(examples), 3, 2), np.int32)
    for position, example in enumerate(examples):
        if position == 0:
            image, labels = (np.empty((len(examples), *example.image.shape), dtype) for dtype in (np.float32, np.uint8))
        image[position], labels[position] = example.image, example.labels
        boxes[0, position] = example.grid.extent
        boxes[1, position] = heart_box(example.labels, boxes[0, position])
    return Cohort(image, labels, None, *boxes)


@flax.struct.dataclass
class CaseSelection:
    """Which cases of a cohort a fold uses; of one size for all folds, so that they share a compiled step.

    Attributes:
        index: int32 (size,), positions in the cohort; those beyond `count` are fillers.
        count: int32 scalar.
    """

    index: jax.Array
    count: jax.Array


@flax.struct.dataclass
class Batch:
    """What a training step learns from.

    Attributes:
        inputs: float32 (batch, *spatial, channel).
        labels: uint8 (batch, *spatial).
        valid: bool (batch, *spatial); the rest is padding and does not count.
        case: int32 (batch,), each sample's position in the cohort.
    """

    inputs: jax.Array
    labels: jax.Array
    valid: jax.Array
    case: jax.Array


class Draw(Protocol):
    """Draws an augmented batch on the device: (key, cohort, cases, positions) -> Batch.

    `positions` are int32, those samples of the global batch that are drawn here; those beyond its end are surplus, and
    none of their voxels are valid (see `sample_keys`). None draws the whole batch.
    """

    def __call__(
        self, key: jax.Array, cohort: Any, cases: CaseSelection | None, positions: jax.Array | None
    ) -> Batch: ...


def share_positions(batch_size: int, devices: int) -> np.ndarray:
    """The positions in the global batch of each device's share: int32 (devices, share).

    Shares are of one size, rounded up; positions of `batch_size` and more are a surplus.
    """
    share = -(-batch_size // devices)
    return np.arange(devices * share, dtype=np.int32).reshape(devices, share)


def sample_keys(key: jax.Array, batch_size: int, positions: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """One key for each sample of the global batch, or for those at some positions of it.

    Beyond the end of the batch that is the last sample's again, which must not count (`only_counted`).

    Returns:
        The keys (samples,), and bool (samples,): which of them are of the batch.
    """
    keys = jax.random.split(key, batch_size)
    if positions is None:
        return keys, jnp.ones(batch_size, bool)
    return keys[_sample_rows(batch_size, positions)], positions < batch_size


def only_counted(batch: Batch, counts: jax.Array) -> Batch:
    """The batch with no voxel valid in samples that do not count, bool (batch,): loss and gradients pass over them."""
    return batch.replace(valid=batch.valid & jnp.expand_dims(counts, tuple(range(1, batch.valid.ndim))))  # type: ignore[attr-defined]


def step_key(key_data: jax.Array, step: jax.Array) -> jax.Array:
    """The random key of a step, of the data of a run's key."""
    return jax.random.fold_in(jax.random.wrap_key_data(key_data), step)


def _sample_rows(batch_size: int, positions: jax.Array | None) -> jax.Array:
    """The sample of the global batch, int32 (samples,), whose key `sample_keys` returns."""
    return jnp.arange(batch_size) if positions is None else jnp.minimum(positions, batch_size - 1)


def _draw_case(key: jax.Array, cases: CaseSelection) -> jax.Array:
    return cases.index[jax.random.randint(key, (), 0, cases.count)]


def _draw_slice(key: jax.Array, extent: jax.Array) -> jax.Array:
    return jax.random.randint(key, (), extent[0, 0], extent[0, 1])


def choices(
    key: jax.Array, extent: jax.Array, cases: CaseSelection, batch_size: int, *, mixed: bool
) -> tuple[jax.Array, jax.Array]:
    """What `draw_slices` and `draw_volumes` draw of a cohort with a step's key, without the cohort.

    Args:
        key: of the step.
        extent: the whole cohort's.
        cases: of it.
        batch_size: of the global batch.
        mixed: whether the draw is one of `mix_phantoms`; of a step of phantoms the choices are of no use.

    Returns:
        int32 (batch,) positions in the cohort, and int32 (batch,) the slice of each in stage one.
    """
    if mixed:
        _, key = jax.random.split(key)

    def sample(key):
        case_key, slice_key, *_ = jax.random.split(key, 4)
        case = _draw_case(case_key, cases)
        return case, _draw_slice(slice_key, extent[case])

    return jax.vmap(sample)(sample_keys(key, batch_size, None)[0])


def _position(cohort: Cohort, case: jax.Array) -> jax.Array:
    """The position in the whole cohort of a case of this one."""
    return case if cohort.drawn is None else cohort.drawn[case]


def draw_slices(batch_size: int, plane: tuple[int, int], augmentation: augment.Augmentation) -> Draw:
    """Stage one's batches: windows of `batch_size` slices, each of a random case.

    Args:
        batch_size: slices in a batch.
        plane: (height, width) of a window.
        augmentation: how often and how far.

    Returns:
        Draws inputs (batch, height, width, 1).
    """
    size = (1, *plane)

    def draw(key, cohort, cases, positions=None):
        def sample(key, row):
            case_key, slice_key, window_key, augmentation_key = jax.random.split(key, 4)
            case = _draw_case(case_key, cases) if cohort.drawn is None else row
            index = _draw_slice(slice_key, cohort.extent[case])  # 0 where no other slice is there
            extent = cohort.extent[case].at[0].set(jnp.stack([index, index + 1]))
            start = draw_start(window_key, cohort.image.shape[1:], extent, cohort.heart[case], size)
            image, labels, _, valid = augment.augment(
                augmentation_key,
                take_window(cohort.image, case, start, size),
                take_window(cohort.labels, case, start, size),
                None,
                cut_extent(extent, start, size),
                augmentation,
            )
            return Batch(image[0, ..., None], labels[0], valid[0], _position(cohort, case))

        keys, counts = sample_keys(key, batch_size, positions)
        return only_counted(jax.vmap(sample)(keys, _sample_rows(batch_size, positions)), counts)

    return draw


def draw_volumes(
    batch_size: int,
    size: tuple[int, int, int],
    augmentation: augment.Augmentation,
    corruption: augment.PriorCorruption,
    num_classes: int,
    heart_share: float = HEART_SHARE,
) -> Draw:
    """Stage two's batches: windows of `batch_size` volumes, each of a random case.

    Args:
        batch_size: volumes in a batch.
        size: (depth, height, width) of a window.
        augmentation, corruption: how often and how far.
        num_classes: labels there are, the background among them.
        heart_share: of the windows that hold the heart; 1 where stage two is shown no others.

    Returns:
        Draws inputs (batch, depth, height, width, 1 + foreground labels).
    """

    def draw(key, cohort, cases, positions=None):
        def sample(key, row):
            case_key, prior_key, window_key, augmentation_key = jax.random.split(key, 4)
            case = _draw_case(case_key, cases) if cohort.drawn is None else row
            extent = cohort.extent[case]
            start = draw_start(window_key, cohort.image.shape[1:], extent, cohort.heart[case], size, heart_share)
            prior = take_window(cohort.prior, case, start, size)
            image, labels, prior, valid = augment.augment(
                augmentation_key,
                take_window(cohort.image, case, start, size),
                take_window(cohort.labels, case, start, size),
                augment.corrupt_prior(prior_key, prior, corruption, num_classes),
                cut_extent(extent, start, size),
                augmentation,
            )
            inputs = jnp.concatenate([image[..., None], one_hot_prior(prior, num_classes)], axis=-1)
            return Batch(inputs, labels, valid, _position(cohort, case))

        keys, counts = sample_keys(key, batch_size, positions)
        return only_counted(jax.vmap(sample)(keys, _sample_rows(batch_size, positions)), counts)

    return draw


def draw_phantom_slices(batch_size: int, plan: Plan) -> Draw:
    """Stage one's batches: `batch_size` slices of as many hearts. Inputs are (batch, height, width, 1)."""

    def draw(key, cohort, cases, positions=None):
        del cohort, cases

        def sample(key):
            phantom_key, factor_key, shift_key = jax.random.split(key, 3)
            phantom = draw_phantom(phantom_key, (1, *plan.shape[1:]), plan.spacing[1])
            valid = augment.inside_extent(phantom.image.shape, phantom.extent)
            # A case is normalised as a whole, so that its slices are not.
            factor = 1 + jax.random.uniform(factor_key, minval=-_SLICE_BRIGHTNESS, maxval=_SLICE_BRIGHTNESS)
            shift = jax.random.uniform(shift_key, minval=-_SLICE_BRIGHTNESS, maxval=_SLICE_BRIGHTNESS)
            image = jnp.where(valid & (phantom.image != 0), phantom.image * factor + shift, 0.0)
            return Batch(image[0, ..., None], phantom.labels[0], valid[0], jnp.int32(0))

        keys, counts = sample_keys(key, batch_size, positions)
        return only_counted(jax.vmap(sample)(keys), counts)

    return draw


def draw_phantom_volumes(batch_size: int, plan: Plan, slice_network: UNet, corruption: augment.PriorCorruption) -> Draw:
    """Stage two's batches, with stage one's own results: windows of the plan's `volume_shape` that hold the heart.

    In the place of a cohort they have stage one's parameters. Inputs are (batch, depth, height, width, 1 + foreground).
    """

    def draw(key, slice_params, cases, positions=None):
        del cases
        keys, counts = sample_keys(key, batch_size, positions)
        phantoms = jax.vmap(lambda key: draw_phantom(key, plan.shape, plan.spacing[1]))(keys)
        valid = jax.vmap(lambda extent: augment.inside_extent(plan.shape, extent))(phantoms.extent)
        slices = phantoms.image.reshape(-1, *plan.shape[1:])
        prior = most_probable(segment_slices(slice_network, slice_params, slices)).reshape(valid.shape)
        prior = jnp.where(valid, prior, 0)
        corruption_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        corrupt = functools.partial(augment.corrupt_prior, settings=corruption, num_classes=len(LABEL_NAMES))
        prior = jax.vmap(corrupt)(corruption_keys, prior)
        inputs = jnp.concatenate([phantoms.image[..., None], one_hot_prior(prior, len(LABEL_NAMES))], axis=-1)
        batch = Batch(inputs, phantoms.labels, valid, jnp.zeros(keys.shape, jnp.int32))
        if plan.volume_shape != plan.shape:
            window_keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys)
            cut = functools.partial(_window_with_heart, size=plan.volume_shape)
            batch = jax.vmap(cut)(window_keys, batch, phantoms.extent)
        return only_counted(batch, counts)

    return draw


def _window_with_heart(key: jax.Array, sample: Batch, extent: jax.Array, size: tuple[int, int, int]) -> Batch:
    """A window of one volume that holds the heart."""
    shape = sample.labels.shape
    heart = labelled_box(sample.labels, extent)
    start = draw_start(key, shape, extent, heart, size, heart_share=1.0)

    def cut(array):
        begin = (*start, *[0] * (array.ndim - 3))
        return jax.lax.dynamic_slice(array, begin, (*size, *array.shape[3:]))

    return sample.replace(inputs=cut(sample.inputs), labels=cut(sample.labels), valid=cut(sample.valid))  # type: ignore[attr-defined]


def mix_phantoms(share: float, of_cohort: Draw, of_phantoms: Draw) -> Draw:
    """Batches of a cohort, and, in a share of the steps, whole ones of random phantoms instead.

    Only what a step learns from is drawn. In the place of the cohort they have (cohort, what `of_phantoms` takes for
    one); the `case` of a phantom is -1.
    """

    def draw(key, cohort_and_phantoms, cases, positions=None):
        cohort, drawn_from = cohort_and_phantoms
        choice_key, batch_key = jax.random.split(key)

        def phantoms():
            batch = of_phantoms(batch_key, drawn_from, None, positions)
            return batch.replace(case=jnp.full_like(batch.case, -1))  # type: ignore[attr-defined]

        return jax.lax.cond(
            jax.random.bernoulli(choice_key, share),
            phantoms,
            lambda: of_cohort(batch_key, cohort, cases, positions),
        )

    return draw
