"""A cohort that is read while networks learn from it trains them to the bits of one that lies on the device."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_jax.data import prepared, store
from cascade_jax.data.augment import Augmentation, PriorCorruption
from cascade_jax.data.case import CaseError
from cascade_jax.data.prepared import PreparedCohort, Writer
from cascade_jax.data.preprocess import Example, Grid
from cascade_jax.errors import ConfigError
from cascade_jax.models.unet import UNet
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.training import streaming
from cascade_jax.training.batches import (
    Batch,
    CaseSelection,
    draw_slices,
    draw_volumes,
    make_cohort,
    mix_phantoms,
    share_positions,
    step_key,
)
from cascade_jax.training.loop import fit
from cascade_jax.training.streaming import StreamedCohort, must_stream, streamed_dice
from cascade_jax.training.validation import dice_over_voxels
from launch.configs import default
from tests.training.killing import killed_at

pytest.importorskip("grain")

NETWORKS = (
    UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))),
    UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2))),
)
SHAPE, WINDOW, BATCH, STEPS = (4, 20, 24), (4, 16, 16), 3, 6
PLAN = Plan((10.0, 2.0, 2.0), WINDOW, *(StagePlan(n.features, n.kernel_sizes, n.strides, BATCH) for n in NETWORKS))
TRAINING, VALIDATION = (0, 2, 3, 4), (1, 5)


def example(position):
    """A case with a field of view of its own, and a heart in it."""
    random = np.random.default_rng(position)
    extent = ((position % 2, 4), (position % 3, 20), (0, 24 - position))
    grid = Grid(SHAPE, tuple((0, size) for size in SHAPE), tuple(b - a for a, b in extent), extent, (0, 0, 0))
    image, labels = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    inside = tuple(slice(*limits) for limits in extent)
    image[inside] = random.normal(size=image[inside].shape)
    labels[1:3, 6 + position : 12 + position, 5:13] = random.integers(1, 5, (2, 6, 8))
    return Example(f"Case_{position}", image, labels, grid)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """On disk, with priors beside it."""
    folder = tmp_path_factory.mktemp("cohort")
    examples = [example(position) for position in range(6)]
    prepared.begin(folder / "cohort", [one.name for one in examples], SHAPE, {}, {}, replace=False)
    writer = Writer(folder / "cohort")
    for position, one in enumerate(examples):
        writer.write(position, one)
    writer.finish()
    store.write_array(folder / "prior", 6, [np.roll(one.labels, 1, axis=2) for one in examples])
    return folder


def streamed(folder, stage, **changes):
    examples = PreparedCohort(folder / "cohort")
    prior = store.Volumes(store.open_written(folder / "prior"), examples.names, folder, "") if stage else None
    return dataclasses.replace(StreamedCohort(examples, BATCH, prior), **changes)


def resident(folder, stage):
    whole = make_cohort(PreparedCohort(folder / "cohort"))
    return jax.device_put(whole.replace(prior=store.read_array(folder / "prior")) if stage else whole)


def select(positions):
    return jax.device_put(CaseSelection(np.array(positions, np.int32), np.int32(len(positions))))


@functools.cache  # folds of a stage have one draw, by which they find the compiled step
def draw_of(stage):
    if stage == 0:
        return draw_slices(BATCH, WINDOW[1:], Augmentation())
    return draw_volumes(BATCH, WINDOW, Augmentation(), PriorCorruption(), 5)


def train(folder, stage, workdir, *, stream, **changes):
    config = default.get_config()
    for settings in (config.stage1, config.stage2):
        settings.steps, settings.steps_per_dispatch, settings.validate_every, settings.checkpoint_every = STEPS, 2, 2, 2
    network = NETWORKS[stage]
    if stream:
        cohort, cases, dice = streamed(folder, stage, **changes), VALIDATION, streamed_dice(stage, network, WINDOW)
    else:
        cohort, cases = resident(folder, stage), select(VALIDATION)
        dice = jax.jit(dice_over_voxels(stage, network, WINDOW))
    return fit(
        config,
        PLAN,
        stage,
        network,
        draw=draw_of(stage),
        validate=functools.partial(dice, cohort=cohort, cases=cases),
        cohort=cohort,
        cases=select(TRAINING),
        names=[f"Case_{position}" for position in range(6)],
        devices=jax.local_devices()[:1],
        seed=7,
        folder=workdir,
        description=workdir.name,
    )


def log_of(workdir):
    """Losses, norms and validation Dice, without the times."""
    return [row.rsplit(",", 1)[0] for row in (workdir / "metrics.csv").read_text().splitlines()]


@pytest.mark.parametrize("stage", [0, 1])
def test_both_train_to_the_same_bits_and_a_run_that_was_killed_too(cohort, tmp_path, monkeypatch, stage):
    ended = train(cohort, stage, tmp_path / "resident", stream=False)
    jax.tree.map(np.testing.assert_array_equal, ended, train(cohort, stage, tmp_path / "streamed", stream=True))
    first = jax.tree.leaves(ended)[0]
    assert np.isfinite(first).all() and np.abs(first).max() > 0

    with killed_at(5):
        train(cohort, stage, tmp_path / "killed", stream=True)
    read, read_cases = [], StreamedCohort.read

    def noting(self, cases, slices=None):
        read.append(tuple(cases))
        return read_cases(self, cases, slices)

    monkeypatch.setattr(StreamedCohort, "read", noting)
    jax.tree.map(np.testing.assert_array_equal, ended, train(cohort, stage, tmp_path / "killed", stream=True))
    assert sum(len(cases) == BATCH for cases in read) == STEPS - 4, "what was learnt from is not read again"
    for run in ("streamed", "killed"):
        assert log_of(tmp_path / run) == log_of(tmp_path / "resident")


def phantoms(key, drawn_from, cases, positions):
    shape = (len(positions), *WINDOW[1:])
    case = jnp.zeros(len(positions), jnp.int32)
    return Batch(jnp.zeros((*shape, 1)), jnp.zeros(shape, jnp.uint8), jnp.ones(shape, bool), case)


def test_the_host_knows_which_cases_a_step_draws_and_sees_the_same_windows(cohort):
    """Also in steps among which some learn from phantoms, and of samples beyond the batch, which are the last again."""
    part, key_data, cases = streamed(cohort, 0, mixed=True), jax.random.key_data(jax.random.key(3)), select(TRAINING)
    positions = jax.device_put(share_positions(BATCH, 2).ravel())
    assert len(positions) == BATCH + 1
    draw, batches, seen = jax.jit(mix_phantoms(0.4, draw_of(0), phantoms)), part.batches(key_data, cases, 12), set()
    for step in range(12):
        cohorts = (resident(cohort, 0), None), (jax.device_put(next(batches)), None)
        expected, got = (draw(step_key(key_data, step), drawn_from, cases, positions) for drawn_from in cohorts)
        jax.tree.map(np.testing.assert_array_equal, expected, got)
        seen |= set(np.asarray(got.case).tolist())
    assert seen == {*TRAINING, -1}
    with pytest.raises(StopIteration):
        next(batches)


def test_an_iterator_is_saved_and_goes_on_with_the_next_step(cohort):
    part, key_data, cases = streamed(cohort, 0), jax.random.key_data(jax.random.key(0)), select(TRAINING)
    whole = [batch.drawn.tolist() for batch in part.batches(key_data, cases, STEPS)]
    batches = part.batches(key_data, cases, STEPS)
    next(batches), next(batches)
    again = part.batches(key_data, cases, STEPS)
    again.set_state(batches.get_state())
    assert batches.get_state() == {"next_index": 2}
    assert [batch.drawn.tolist() for batch in again] == whole[2:]


def test_a_case_that_is_damaged_meanwhile_stops_the_run_and_is_named(cohort, tmp_path):
    shutil.copytree(cohort, tmp_path / "copy")
    part, key_data = streamed(tmp_path / "copy", 0), jax.random.key_data(jax.random.key(0))
    for file in (tmp_path / "copy" / "cohort" / "image" / "c" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-20])
    assert next(part.batches(key_data, select((0, 2)), 1)).image.any()
    with pytest.raises(CaseError, match=r"case Case_3 is damaged or missing .*; remove cohort.json in it") as error:
        next(part.batches(key_data, select((3,)), 1))
    assert "\n" not in str(error.value)


def test_a_setting_says_which_cohorts_are_read_meanwhile(cohort, monkeypatch):
    examples = PreparedCohort(cohort / "cohort")
    gigabytes = 6 * 4 * 20 * 24 * 6 / 1e9
    assert not must_stream(examples, 1.01 * gigabytes)
    assert must_stream(examples, 0.99 * gigabytes)
    assert not must_stream(examples, 0.0)
    monkeypatch.setattr(streaming, "device_memory", lambda _: (int(1.9e9 * gigabytes), ""))
    assert must_stream(examples, 0.0)
    monkeypatch.setattr(streaming, "missing", lambda extra: f"pip install 'cascade_jax[{extra}]'")
    with pytest.raises(ConfigError, match=r"6 cases take .* needs pip install 'cascade_jax\[stream\]'$"):
        must_stream(examples, 0.0)
    assert not must_stream(examples, 1.0), "what fits needs nothing"
