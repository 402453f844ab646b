"""A cohort that is read while networks learn from it, since it is too large to lie on the device.

A step's cases are a function of its key alone, so the host knows them in advance: grain reads them in other threads, a
few steps ahead, and the step gets a cohort of those alone. The order, the windows and the augmentation are those of a
cohort that lies on the device, and a run that was stopped goes on with the batch that it would have had.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cascade_jax import processes
from cascade_jax.data.prepared import PreparedCohort
from cascade_jax.data.store import Volumes
from cascade_jax.errors import ConfigError
from cascade_jax.extras import missing
from cascade_jax.models.unet import UNet
from cascade_jax.training.batches import CaseSelection, Cohort, choices, step_key
from cascade_jax.training.device_memory import device_memory
from cascade_jax.training.validation import dice_of, overlap_with_truth

_THREADS = 8  # that read
_AHEAD = 8  # batches that are read before they are asked for
_STEPS_AT_ONCE = 1000  # whose cases are worked out in one call
_BYTES_A_VOXEL = 4 + 1 + 1  # image, labels, prior
_SHARE = 0.5  # of the device's memory that a cohort may have where no setting says otherwise


def cohort_gb(shape: Sequence[int]) -> float:
    """What a cohort of (case, depth, height, width) takes on the device, in 10^9 bytes."""
    return math.prod(shape) * _BYTES_A_VOXEL / 1e9


def allowed_gb(memory_gb: float, memory: int | None) -> float:
    """What a cohort may take on a device of so many bytes, None where that is unknown; `memory_gb` is the setting."""
    return memory_gb or _SHARE * (math.inf if memory is None else memory / 1e9)


def is_streamed(shape: Sequence[int], memory_gb: float) -> bool:
    """Whether a cohort is too large to lie on the device.

    Args:
        shape: (case, depth, height, width).
        memory_gb: that it may have there (10^9 bytes); 0 is half of the device's memory.
    """
    return cohort_gb(shape) > allowed_gb(memory_gb, _memory_here())


def must_stream(examples: PreparedCohort, memory_gb: float) -> bool:
    """`is_streamed` of a prepared cohort.

    Raises:
        ConfigError: it is too large, and what reads it otherwise is not installed.
    """
    shape = (len(examples), *examples.shape)
    if not is_streamed(shape, memory_gb):
        return False
    if (command := missing("stream")) is not None:
        allowed = allowed_gb(memory_gb, _memory_here())
        raise ConfigError(
            f"data.memory_gb: {len(examples)} cases take {cohort_gb(shape):.3g} GB of {allowed:.3g} "
            f"that they may have; to read them while training needs {command}"
        )
    return True


def _memory_here() -> int | None:
    return device_memory(jax.local_devices()[0])[0]


class _Batches:
    """What some steps draw, by their order: a source of grain's."""

    def __init__(self, streamed: "StreamedCohort", cases: np.ndarray, slices: np.ndarray | None):
        self._streamed, self._cases, self._slices = streamed, cases, slices

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index: int) -> Cohort:
        return self._streamed.read(self._cases[index], None if self._slices is None else self._slices[index])


def _read_ahead(source: _Batches) -> Any:
    """grain's iterator over a source, with `get_state` and `set_state`."""
    import grain

    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
    return iter(grain.MapDataset.source(source).to_iter_dataset(options))


@dataclasses.dataclass(frozen=True)
class StreamedCohort:
    """A prepared cohort in the place of a `Cohort` on the device.

    Attributes:
        examples: the cohort.
        batch_size: of the stage.
        prior: stage one's labels of every case, for stage two; None in stage one.
        mixed: whether steps learn from random phantoms too (`mix_phantoms`).
        phantoms: then, what those are drawn from, in the cohort's place.
    """

    examples: PreparedCohort
    batch_size: int
    prior: Volumes | None = None
    mixed: bool = False
    phantoms: Any = None

    def read(self, cases: Sequence[int], slices: Sequence[int] | None = None) -> Cohort:
        """Some cases whole, or one slice of each, as numpy arrays.

        Raises:
            CaseError: one is missing or damaged; it names it.
        """
        extent, heart = self.examples.extents[cases], self.examples.hearts[cases]
        if slices is not None:
            extent[:, 0] = heart[:, 0] = 0, 1
        return Cohort(
            self.examples.image.read(cases, slices),
            self.examples.labels.read(cases, slices),
            None if self.prior is None else self.prior.read(cases, slices),
            extent,
            heart,
            np.asarray(cases, np.int32),
        )

    def batches(self, key_data: np.ndarray, cases: CaseSelection, steps: int) -> Any:
        """An iterator of grain's over what each step of a run draws, as `read` returns it, from the first step to the
        last; `iterator.set_state({"next_index": step})` goes on after so many steps.

        Args:
            key_data: of the run's key, which its state has.
            cases: the fold's training cases.
            steps: of the run.
        """
        drawn, slices = (np.empty((steps, self.batch_size), dtype) for dtype in (np.int32, np.int16))
        extent = jax.device_put(self.examples.extents)
        for first in range(0, steps, _STEPS_AT_ONCE):
            numbers = jax.device_put(np.arange(first, first + _STEPS_AT_ONCE, dtype=np.int32))
            of_these = jax.device_get(_choices(key_data, numbers, extent, cases, self.batch_size, self.mixed))
            count = min(_STEPS_AT_ONCE, steps - first)
            drawn[first : first + count], slices[first : first + count] = (array[:count] for array in of_these)
        # Stage two learns from whole cases, of which it has priors.
        return _read_ahead(_Batches(self, drawn, slices if self.prior is None else None))

    def one_by_one(self, cases: Sequence[int]) -> Iterator[Cohort]:
        """Each of some cases whole, alone."""
        return _read_ahead(_Batches(self, np.asarray(cases)[:, None], None))


@functools.partial(jax.jit, static_argnums=(4, 5))
def _choices(key_data, steps, extent, cases, batch_size, mixed):
    """`choices` of some steps."""
    return jax.vmap(lambda step: choices(step_key(key_data, step), extent, cases, batch_size, mixed=mixed))(steps)


@contextlib.contextmanager
def streamed_steps(
    run_step: Callable,
    streamed: StreamedCohort,
    state: Any,
    cases: CaseSelection,
    first: int,
    settings: ConfigDict,
    sharding: jax.sharding.Sharding,
) -> Iterator[Callable[[Any], tuple[Any, dict[str, jax.Array]]]]:
    """A function (state) -> (state, metrics) that does the steps of a dispatch, each on what was read for it.

    Args:
        run_step: what `compile_steps` returned for one step in a call.
        streamed: the cohort.
        state: of training; its key is the run's.
        cases: the fold's training cases.
        first: the step that the run goes on after.
        settings: of the stage.
        sharding: where a step's cases go.
    """
    key_data, selection = jax.device_get((state.key, cases))
    batches = streamed.batches(key_data, selection, settings.steps)
    batches.set_state({"next_index": first})
    phantoms = processes.replicate(streamed.phantoms, sharding)

    def run(state):
        history = []
        for _ in range(settings.steps_per_dispatch):
            cohort = processes.replicate(next(batches), sharding)
            state, metrics = run_step(state, (cohort, phantoms) if streamed.mixed else cohort, cases)
            history.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.concatenate(values), *history)

    try:
        yield run
    finally:
        batches.close()


def streamed_dice(
    stage: int, network: UNet, size: tuple[int, int, int]
) -> Callable[[Any, StreamedCohort, Sequence[int]], jax.Array]:
    """`dice_over_voxels` of a streamed cohort, a case at a time: (params, cohort, positions of the cases) -> Dice."""
    overlap, dice = jax.jit(overlap_with_truth(stage, network, size)), jax.jit(dice_of)

    def validate(params, cohort, cases):
        first = jax.device_put(np.int32(0))
        of_cases = [jax.device_get(overlap(params, jax.device_put(one), first)) for one in cohort.one_by_one(cases)]
        return dice(*jax.device_put([np.sum(part, 0, np.int32) for part in zip(*of_cases, strict=True)]))

    return validate
