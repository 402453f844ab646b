"""The training step, alone and as it is compiled."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cascade_jax.data.augment import Augmentation, PriorCorruption
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.preprocess import preprocess
from cascade_jax.errors import TrainingError
from cascade_jax.models import UNet
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.training import loop
from cascade_jax.training.batches import CaseSelection, Cohort, draw_slices, draw_volumes
from cascade_jax.training.log import TrainingLog
from cascade_jax.training.loop import Trainer, fit, make_trainer
from cascade_jax.training.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer
from cascade_jax.training.step import compile_steps, initial_state
from launch.configs import default

SLICES = UNet((4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)))
VOLUMES = UNet((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))
SHAPE = (10, 40, 40)


@pytest.fixture(scope="module")
def cohort():
    cases = [simulated.simulate_case(0, index, field_of_view_mm=100) for index in range(4)]
    examples = [preprocess(case, (2.5, 2.5), SHAPE) for case in cases]
    labels = np.stack([example.labels for example in examples])
    extent = np.array([example.grid.extent for example in examples], np.int32)
    return jax.device_put(Cohort(np.stack([e.image for e in examples]), labels, labels, extent))


def select(*positions):
    return jax.device_put(CaseSelection(np.array(positions, np.int32), np.int32(len(positions))))


def setting(stage, batch_size):
    if stage == 0:
        return SLICES, draw_slices(batch_size, Augmentation()), (*SHAPE[1:], 1)
    return VOLUMES, draw_volumes(batch_size, Augmentation(), PriorCorruption(), 5), (*SHAPE, 5)


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


@pytest.mark.parametrize(("stage", "scan"), [(0, True), (0, False), (1, True)])
def test_several_steps_in_one_dispatch_are_the_steps_one_by_one(cohort, stage, scan):
    alone, alone_metrics = train(stage, cohort, 4, 1)
    together, metrics = train(stage, cohort, 2, 2, scan=scan)
    assert int(alone.step) == int(together.step) == 4
    np.testing.assert_array_equal(metrics["case"], alone_metrics["case"])
    np.testing.assert_allclose(metrics["loss"], alone_metrics["loss"], rtol=1e-4)


def test_draws_come_from_the_selected_cases_and_their_true_slices(cohort):
    draw = jax.jit(draw_slices(32, Augmentation()), static_argnums=3)
    cases = CaseSelection(jnp.array([1, 3, 0], jnp.int32), jnp.int32(2))
    batch = draw(jax.random.key(1), cohort, cases, None)
    assert set(np.asarray(batch.case).tolist()) == {1, 3}
    assert batch.inputs.shape == (32, *SHAPE[1:], 1)
    assert np.asarray(batch.valid).any((1, 2)).all()  # a slice of padding would show nothing
    volumes = draw_volumes(3, Augmentation(), PriorCorruption(), 5)(jax.random.key(1), cohort, cases, None)
    assert volumes.inputs.shape == (3, *SHAPE, 5)
    assert volumes.labels.dtype == jnp.uint8


def test_several_devices_train_as_one_with_the_same_global_batch_whether_or_not_they_divide_it():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.training.eight_devices"]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert result.returncode == 0, result.stderr
    stages = json.loads(result.stdout.splitlines()[-1])
    assert stages[0]["fit"]
    # Eight devices with a batch of 8 or 16, and four with one of 7, of which the last holds one sample alone.
    assert [stage["devices"] for stage in stages] == [8, 8, 4, 4]
    for stage in stages:
        np.testing.assert_allclose(stage["losses"], stage["one_device_losses"], rtol=2e-5)
        assert stage["same_cases"]
        assert stage["same_on_all_devices"]
        # Adam divides by the root of the squared gradient: where a gradient is near 0, rounding decides its sign.
        assert stage["share_of_parameters_off_by_more_than_1e-4"] < 1e-3


@pytest.mark.parametrize(
    ("batch_size", "devices", "used", "would"), [(7, 4, 4, None), (8, 4, 4, None), (9, 4, 3, 12), (2, 8, 2, 8)]
)
def test_as_many_devices_are_used_as_get_a_share_and_others_are_named(
    monkeypatch, caplog, batch_size, devices, used, would
):
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(devices)))
    monkeypatch.setattr(loop, "compile_steps", lambda *arguments: arguments[-1])
    plan = Plan((10.0, 2.0, 2.0), (4, 16, 16), StagePlan((4,), (), (), batch_size), StagePlan((4,), (), (), 1))
    settings = default.stage()
    fitted = make_trainer("stage1", settings, plan, SLICES, (16, 16, 1), None, None)
    assert list(fitted.devices) == list(fitted.run_steps) == list(range(used))
    assert (f"--config.plan.slices.batch_size={would} would" in caplog.text) == (would is not None)


def trainer(stage=0, steps=6, batch_size=4, network=None):
    small, draw, input_shape = setting(stage, batch_size)
    network = network or small
    optimizer = make_optimizer("adam", "polynomial", 0.01, steps, 12.0)
    return Trainer(
        network=network,
        optimizer=optimizer,
        batch_shape=(batch_size, *input_shape),
        run_steps=compile_steps(network, optimizer, draw, 1),
        validate=jax.jit(lambda params, cohort, cases: jnp.zeros(4)),
        label_names=EMIDEC.names[1:],
        steps=steps,
        steps_per_dispatch=1,
        validate_every=3,
        checkpoint_every=2,
        devices=jax.local_devices()[:1],
    )


NAMES = ("Case_A", "Case_B", "Case_C", "Case_D")


class Killed(Exception):
    pass


def test_a_run_that_stops_goes_on_from_its_checkpoint_to_the_same_bits(cohort, tmp_path, monkeypatch):
    fitted = trainer()
    whole = fit(fitted, tmp_path / "whole", cohort, select(0, 1, 2), select(3), NAMES, 5, "whole")
    record = TrainingLog.steps

    def stop_at_5(self, first, *values):
        if first == 5:
            raise Killed
        record(self, first, *values)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "steps", stop_at_5)
        with pytest.raises(Killed):
            fit(fitted, tmp_path / "parts", cohort, select(0, 1, 2), select(3), NAMES, 5, "parts")
    assert not (tmp_path / "parts" / "params").exists()
    parts = fit(fitted, tmp_path / "parts", cohort, select(0, 1, 2), select(3), NAMES, 5, "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    # The log too reads as if nothing had happened.
    logs = [(tmp_path / run / "metrics.csv").read_text().splitlines() for run in ("whole", "parts")]
    for before, after in zip(*logs, strict=True):
        assert before.split(",")[:4] == after.split(",")[:4]
    # One compiled step served every run, as it serves every fold.
    assert fitted.run_steps._cache_size() == 1
    # Once more finds it done.
    again = fit(fitted, tmp_path / "parts", cohort, select(0, 1, 2), select(3), NAMES, 5, "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, again)


def blended_run(cohort, folder, dice_of):
    """What training starts from, its end, and its end with half of the start kept; `dice_of` is the validation."""
    start = trainer()
    key = jax.random.key(9)
    initial = initial_state(key, start.network, start.optimizer, start.batch_shape).params
    fitted = dataclasses.replace(start, validate=jax.jit(lambda params, cohort, cases: dice_of(params) * jnp.ones(4)))
    cases = select(0, 1, 2), select(3)
    end = fit(fitted, folder / "end", cohort, *cases, NAMES, 5, "end", initial)
    blended = fit(fitted, folder / "blended", cohort, *cases, NAMES, 5, "blended", initial, 0.5)
    return initial, end, blended


def test_fine_tuned_weights_end_halfway_to_where_they_started(cohort, tmp_path):
    initial, end, blended = blended_run(cohort, tmp_path, lambda params: 0.8)
    halfway = jax.tree.map(lambda a, b: (a + b) / 2, initial, end)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), blended, halfway)
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool(np.abs(a - b).max() > 1e-3), blended, end)))


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
        fit(trainer(), tmp_path, broken, select(2), select(3), NAMES, 0, "broken")
    assert not (tmp_path / "params").exists()


def test_event_files_are_written_for_tensorboard(cohort, tmp_path):
    fit(trainer(steps=3), tmp_path, cohort, select(0, 1), select(3), NAMES, 0, "events")
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
    params = jnp.array([1.0, -2.0])
    state = optimizer.init(params)
    for _ in range(60):
        updates, state = optimizer.update(2 * params, state, params)
        params = optax.apply_updates(params, updates)
    assert float(jnp.sum(params**2)) < 5.0


def test_the_papers_schedule_decays_polynomially_from_a_hundredth():
    schedule = SCHEDULES["polynomial"](0.01, 1000)
    assert float(schedule(0)) == pytest.approx(0.01)
    assert float(schedule(500)) == pytest.approx(0.01 * 0.5**0.9)
    assert float(schedule(1000)) == 0


def test_an_unknown_optimizer_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown optimizer 'adan'; known: adam, adamw, sgd"):
        make_optimizer("adan", "polynomial", 0.01, 10, 12.0)
