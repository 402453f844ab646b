"""The training step, alone and as it is compiled."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cascade_jax import checkpoint, stopping
from cascade_jax.data.augment import Augmentation, PriorCorruption
from cascade_jax.data.preprocess import preprocess
from cascade_jax.errors import TrainingError
from cascade_jax.models import UNet
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.training import loop
from cascade_jax.training.batches import CaseSelection, draw_slices, draw_volumes, make_cohort
from cascade_jax.training.log import TrainingLog
from cascade_jax.training.loop import devices_for, fit
from cascade_jax.training.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer
from cascade_jax.training.step import compile_steps, initial_state
from launch.configs import default
from tests.training.eight_devices import fit_one, share_off
from tests.training.killing import killed_at

SLICES = UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)))
VOLUMES = UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))
SHAPE = (10, 40, 40)


@pytest.fixture(scope="module")
def cohort():
    cases = [simulated.simulate_case(0, index, field_of_view_mm=100) for index in range(4)]
    examples = [preprocess(case, (2.5, 2.5), SHAPE) for case in cases]
    cohort = make_cohort(examples)
    return jax.device_put(cohort.replace(prior=cohort.labels))


def select(*positions):
    return jax.device_put(CaseSelection(np.array(positions, np.int32), np.int32(len(positions))))


def setting(stage, batch_size):
    if stage == 0:
        return SLICES, draw_slices(batch_size, SHAPE[1:], Augmentation()), (*SHAPE[1:], 1)
    return VOLUMES, draw_volumes(batch_size, SHAPE, Augmentation(), PriorCorruption(), 5), (*SHAPE, 5)


def train(stage, cohort, dispatches, steps_per_dispatch, batch_size=4, learning_rate=0.01, scan=None):
    network, draw, input_shape = setting(stage, batch_size)
    optimizer = make_optimizer("adam", "polynomial", learning_rate, 100, 12.0)
    state = initial_state(jax.random.key(0), network, optimizer, (batch_size, *input_shape))
    run = compile_steps(network, optimizer, draw, steps_per_dispatch, scan=scan)
    history = []
    for _ in range(dispatches):
        state, metrics = run(state, cohort, select(0, 1, 2, 3))
        history.append(jax.device_get(metrics))
    return state, {key: np.concatenate([m[key] for m in history]) for key in history[0]}


def test_the_loss_falls(cohort):
    _, metrics = train(0, cohort, 30, 1)
    assert metrics["loss"][-5:].mean() < 0.8 * metrics["loss"][:3].mean()


@pytest.mark.parametrize("scan", [True, False])
def test_several_steps_in_one_dispatch_are_the_steps_one_by_one(cohort, scan):
    alone, alone_metrics = train(0, cohort, 4, 1)
    together, metrics = train(0, cohort, 2, 2, scan=scan)
    assert int(alone.step) == int(together.step) == 4
    np.testing.assert_array_equal(metrics["case"], alone_metrics["case"])
    np.testing.assert_allclose(metrics["loss"], alone_metrics["loss"], rtol=1e-4)


def test_draws_come_from_the_selected_cases_and_their_true_slices(cohort):
    draw = jax.jit(draw_slices(32, SHAPE[1:], Augmentation()))
    cases = CaseSelection(jnp.array([1, 3, 0], jnp.int32), jnp.int32(2))
    batch = draw(jax.random.key(1), cohort, cases)
    assert set(np.asarray(batch.case).tolist()) == {1, 3}
    assert batch.inputs.shape == (32, *SHAPE[1:], 1)
    assert np.asarray(batch.valid).any((1, 2)).all()  # a slice of padding would show nothing
    volumes = draw_volumes(3, SHAPE, Augmentation(), PriorCorruption(), 5)(jax.random.key(1), cohort, cases)
    assert volumes.inputs.shape == (3, *SHAPE, 5)
    assert volumes.labels.dtype == jnp.uint8


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory):
    """What `eight_devices.py` says, and the folder where it left what it trained."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    folder = tmp_path_factory.mktemp("eight")
    command = [sys.executable, "-m", "tests.training.eight_devices", str(folder)]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1]), folder


def assert_as_on_one_device(result):
    np.testing.assert_allclose(result["losses"], result["one_device_losses"], rtol=2e-5)
    assert result["same_on_all_devices"]
    # Adam divides by the root of the squared gradient: where a gradient is near 0, rounding decides its sign.
    assert result["share_of_parameters_off"] < 1e-3


def test_several_devices_train_as_one_with_a_global_batch_that_they_do_not_divide(eight_devices):
    for comparison in eight_devices[0]["comparisons"]:
        assert comparison["same_cases"]
        assert_as_on_one_device(comparison)


def test_a_device_computes_its_share_of_the_batch_and_no_more(eight_devices):
    assert eight_devices[0]["largest_batch"] == 1
    assert eight_devices[0]["largest_batch_in_parts"] == 1


def test_a_step_is_the_same_on_explicit_mesh_axes(eight_devices):
    assert_as_on_one_device(eight_devices[0]["explicit_axes"])


def test_a_run_on_eight_devices_goes_on_to_the_same_bits_and_on_one_to_the_same_end(eight_devices, tmp_path):
    results, folder = eight_devices
    assert results["fits"] == [True, True]
    for stage in (0, 1):
        assert not (folder / f"stopped{stage}" / "params").exists()
        shutil.copytree(folder / f"stopped{stage}", tmp_path / str(stage))
        ended = fit_one(stage, jax.local_devices()[:1], tmp_path / str(stage))
        logs = [path / "metrics.csv" for path in (tmp_path / str(stage), folder / f"whole{stage}")]
        here, there = ([row.split(",") for row in log.read_text().splitlines()] for log in logs)
        assert [row[0] for row in here] == [row[0] for row in there]
        losses = [[float(row[1]) for row in rows[1:] if row[1]] for rows in (here, there)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
        assert share_off(ended, checkpoint.restore_params(folder / f"whole{stage}" / "params")) < 1e-3


def test_a_run_on_eight_devices_goes_on_on_two_to_the_same_end(eight_devices):
    assert eight_devices[0]["on_two"] < 1e-3


def cross_validations_of(eight_devices):
    """Those of the real path of a run, which take a minute or two: by hand, with CASCADE_JAX_LONG=1."""
    if eight_devices[0]["cross_validations"] is None:
        pytest.skip("by hand: CASCADE_JAX_LONG=1")
    return eight_devices[0]["cross_validations"]


def test_a_cross_validation_on_eight_devices_ends_with_the_networks_of_one_device(eight_devices):
    results = cross_validations_of(eight_devices)
    assert min(results["moved"]) > 0.01, "folds that are alike would show nothing"
    assert len(results["farthest"]) == 4
    assert max(results["farthest"]) < 1e-3  # most are a thousandth of that; on some voxels' labels rounding decides
    assert results["same_labels"] > 0.999


def test_a_fold_trained_beside_another_is_the_one_trained_alone(eight_devices):
    results = cross_validations_of(eight_devices)
    assert results["beside_another_and_alone"] == 0, "on as many devices, the same bits"


def test_validation_cases_over_eight_devices_get_the_labels_of_one_device(eight_devices):
    results = cross_validations_of(eight_devices)
    assert results["labels_found"] > 1
    assert results["labels_equal"] == [True] * 8  # four cases, of both stages


@pytest.mark.parametrize(
    ("way", "workers"), [("folds", 1), ("cases", 3), ("height", 1), ("mirror images", 1), ("cases by groups", 2)]
)
def test_what_is_spread_over_devices_gets_the_labels_of_one_device(eight_devices, way, workers):
    result = eight_devices[0]["predictions"][way]
    assert result["workers"] == workers
    assert result["labels_equal"]
    assert result["probabilities_apart"] < 1e-5


@pytest.mark.parametrize(
    ("batch_size", "devices", "used", "would"), [(7, 4, 4, None), (8, 4, 4, None), (9, 4, 3, 12), (2, 8, 2, 8)]
)
def test_as_many_devices_are_used_as_get_a_share_and_others_are_named(
    monkeypatch, caplog, batch_size, devices, used, would
):
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(devices)))
    plan = Plan((10.0, 2.0, 2.0), (4, 16, 16), StagePlan((4,), (), (), batch_size), StagePlan((4,), (), (), 1))
    assert devices_for(plan, 0) == list(range(used))
    assert (f"--config.plan.slices.batch_size={would} would" in caplog.text) == (would is not None)


def fit_slices(
    cohort, folder, cases=(0, 1, 2), *, steps=6, steps_per_dispatch=1, dice=0.0, initial_params=None, share=0.0
):
    """Stage one's training on some cases; `dice` is its validation's, or a function of the parameters."""
    config = default.get_config()
    config.stage1.steps, config.stage1.steps_per_dispatch = steps, steps_per_dispatch
    config.stage1.validate_every, config.stage1.checkpoint_every = 3, 2
    config.init_from, config.init_share = "a cascade" if share else "", share
    parts = [StagePlan(n.features, n.kernel_sizes, n.strides, 4) for n in (SLICES, VOLUMES)]
    return fit(
        config,
        Plan((10.0, 2.5, 2.5), SHAPE, *parts),
        0,
        SLICES,
        draw=DRAW_FOUR_SLICES,
        validate=jax.jit(lambda params: jnp.ones(4) * (dice(params) if callable(dice) else dice)),
        cohort=cohort,
        cases=select(*cases),
        names=NAMES,
        devices=jax.local_devices()[:1],
        seed=5,
        folder=folder,
        description=folder.name,
        initial_params=initial_params,
    )


DRAW_FOUR_SLICES = draw_slices(4, SHAPE[1:], Augmentation())
NAMES = ("Case_A", "Case_B", "Case_C", "Case_D")


def test_a_run_that_stops_goes_on_from_its_checkpoint_to_the_same_bits(cohort, tmp_path, monkeypatch):
    programs = []

    def compiled(*arguments, **keywords):
        programs.append(compile_steps(*arguments, **keywords))
        return programs[-1]

    monkeypatch.setattr(loop, "compile_steps", compiled)
    whole = fit_slices(cohort, tmp_path / "whole")
    with killed_at(5):
        fit_slices(cohort, tmp_path / "parts")
    assert not (tmp_path / "parts" / "params").exists()
    parts = fit_slices(cohort, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    # The log too reads as if nothing had happened.
    logs = [(tmp_path / run / "metrics.csv").read_text().splitlines() for run in ("whole", "parts")]
    for before, after in zip(*logs, strict=True):
        assert before.split(",")[:4] == after.split(",")[:4]
    # One compiled step served every run, as it serves every fold.
    assert len(programs) == 3
    assert {program._cache_size() for program in set(programs)} == {1} == {len(set(programs))}
    # Once more finds it done.
    again = fit_slices(cohort, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, again)


def test_a_run_ends_with_the_same_bits_however_many_steps_are_in_a_dispatch(cohort, tmp_path):
    one, two, three = (fit_slices(cohort, tmp_path / str(count), steps_per_dispatch=count) for count in (1, 2, 3))
    jax.tree.map(np.testing.assert_array_equal, two, one)
    jax.tree.map(np.testing.assert_array_equal, three, one)
    logs = [[row.split(",")[:3] for row in (tmp_path / run / "metrics.csv").read_text().splitlines()] for run in "123"]
    assert [row for row in logs[1] if row[1]] == [row for row in logs[0] if row[1]]
    assert logs[2] == logs[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_saves_it_and_loses_nothing(cohort, tmp_path, monkeypatch, number):
    whole = fit_slices(cohort, tmp_path / "whole")
    record = TrainingLog.steps

    def signal_at_5(self, first, *values):
        record(self, first, *values)
        if first == 5:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch, stopping.handling_signals():
        patch.setattr(TrainingLog, "steps", signal_at_5)
        with pytest.raises(stopping.Stopped, match=r"and saved at step 5 of 6 of .*; run the same command") as stopped:
            fit_slices(cohort, tmp_path / "parts")
    assert stopped.value.status == 128 + number
    assert (tmp_path / "parts" / "checkpoints" / "5").is_dir()
    jax.tree.map(np.testing.assert_array_equal, whole, fit_slices(cohort, tmp_path / "parts"))


def blended_run(cohort, folder, dice_of):
    """What training starts from, its end, and its end with half of the start kept; `dice_of` is the validation."""
    optimizer = make_optimizer("adam", "polynomial", 0.01, 6, 12.0)
    initial = initial_state(jax.random.key(9), SLICES, optimizer, (4, *SHAPE[1:], 1)).params
    end = fit_slices(cohort, folder / "end", dice=dice_of, initial_params=initial)
    blended = fit_slices(cohort, folder / "blended", dice=dice_of, initial_params=initial, share=0.5)
    return initial, end, blended


def test_fine_tuned_weights_end_halfway_to_where_they_started(cohort, tmp_path):
    initial, end, blended = blended_run(cohort, tmp_path, lambda params: 0.8)
    halfway = jax.tree.map(lambda a, b: (a + b) / 2, initial, end)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), blended, halfway)
    for moved, still in zip(jax.tree.leaves(end), jax.tree.leaves(initial), strict=True):
        assert np.abs(moved - still).max() > 1e-3, "halfway from where nothing moves would show nothing"


@pytest.mark.parametrize(
    ("dice", "dice_of_blend", "kept"),
    [
        ((0.8, 0.6, 1.0, 0.0), (0.3, 0.2, 1.0, 0.0), "the end of the training"),
        ((0.8, 0.6, 0.6, 0.0), (0.8, 0.6, 0.5, 0.0), "the end of the training"),
        ((0.8, 0.6, 0.5, 0.0), (0.6, 0.8, 0.5, 0.0), "the blend"),
        ((0.8, 0.6, 0.5, 0.0), (0.7, 0.6, 0.5, 0.2), "the blend"),
    ],
    ids=["far worse", "little worse", "equal", "better"],
)
def test_of_the_trained_network_and_the_blend_the_better_one_is_kept_and_named(
    cohort, tmp_path, capsys, dice, dice_of_blend, kept
):
    _, end, halfway = blended_run(cohort, tmp_path / "first", lambda params: 0.8)
    trained = jax.tree.leaves(end)[0]

    def dice_of(params):
        return jnp.where(jnp.all(jax.tree.leaves(params)[0] == trained), jnp.array(dice), jnp.array(dice_of_blend))

    capsys.readouterr()
    _, _, blended = blended_run(cohort, tmp_path / "second", dice_of)
    jax.tree.map(np.testing.assert_array_equal, blended, halfway if kept == "the blend" else end)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "kept is" in line)
    of_blend, of_end = np.mean(dice_of_blend), np.mean(dice)
    assert line == (
        f"blended: kept is {kept}: mean validation Dice {of_blend:.3f} with a share of 0.5 of the weights at the "
        f"start, {of_end:.3f} without"
    )


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_cases(cohort, tmp_path):
    broken = cohort.replace(image=cohort.image.at[2].set(jnp.nan))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1; cases in the batch: Case_C$"):
        fit_slices(broken, tmp_path, (2,))
    assert not (tmp_path / "params").exists()


def test_event_files_are_written_for_tensorboard(cohort, tmp_path):
    fit_slices(cohort, tmp_path, steps=3)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    content = events.read_bytes()
    for name in (b"loss", b"gradient_norm", b"validation_dice/infarction"):
        assert name in content


@pytest.mark.parametrize("imported_before", [False, True])
def test_the_log_does_not_take_pytorch_with_it_where_it_is_installed(tmp_path, imported_before):
    (tmp_path / "torch.py").write_text("class Tensor: pass\n")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
if {imported_before}:
    import torch
from cascade_jax.training.log import TrainingLog
from launch.configs import default
with TrainingLog(Path({str(tmp_path)!r}), "", 0, 1) as log:
    log.steps(1, [0.5], [0.5])
print("torch" in sys.modules, "tensorboardX" in sys.modules)
import torch
print(torch.Tensor.__name__)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == f"{imported_before} True\nTensor\n"
    assert list(tmp_path.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_and_schedule_descends(name, schedule):
    optimizer = make_optimizer(name, schedule, 0.01, 60, 12.0)
    start = params = jnp.array([1.0, -2.0])
    state = optimizer.init(params)
    for _ in range(60):
        updates, state = optimizer.update(2 * params, state, params)
        params = optax.apply_updates(params, updates)
    # A single step of any of them takes less than a fiftieth.
    assert jnp.sum(params**2) < 0.8 * jnp.sum(start**2)


def test_the_papers_schedule_decays_polynomially_from_a_hundredth():
    schedule = SCHEDULES["polynomial"](0.01, 1000)
    assert float(schedule(0)) == pytest.approx(0.01)
    assert float(schedule(500)) == pytest.approx(0.01 * 0.5**0.9)
    assert float(schedule(1000)) == 0


def test_an_unknown_optimizer_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown optimizer 'adan'; known: adam, adamw, sgd"):
        make_optimizer("adan", "polynomial", 0.01, 10, 12.0)
