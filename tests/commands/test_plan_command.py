"""What `cascade-jax plan` says is what the training does."""

import json

import jax
import pytest

from cascade_jax.commands import plan
from cascade_jax.errors import ConfigError
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan
from cascade_jax.training import device_memory, streaming
from cascade_jax.training.memory import StepMemory, step_memory
from cascade_jax.training.preparation import prepare
from launch.configs import pretrain
from tests.training.test_crossval import silent, tiny_config

GB = 10**9


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    simulated.write_cohort(root, 4, 0, field_of_view_mm=90)
    return root


def test_the_plan_is_that_of_the_training_whether_the_cohort_is_prepared_or_not(cohort, tmp_path):
    config = tiny_config(cohort)
    prepared, examples = prepare(cohort, tmp_path / "prepared", config.plan.to_dict(), 2, silent)
    expected = plan.PlannedRun(prepared, (4, *examples[0].image.shape))
    assert plan.plan_run(config, None, silent) == expected
    assert plan.plan_run(config, tmp_path, lambda *_: pytest.fail("reads cases")) == expected


def test_phantoms_are_planned_without_being_written(cohort, tmp_path):
    config = tiny_config(cohort)
    of_files = plan.plan_run(config, None, silent)
    config.data.root = ""
    config.data.phantom.cases, config.data.phantom.field_of_view_mm = 4, 90.0
    assert plan.plan_run(config, tmp_path / "run", silent) == of_files
    assert not (tmp_path / "run").exists()


def test_parts_that_do_not_divide_the_batch_are_refused_before_anything_is_trained(cohort):
    with pytest.raises(ConfigError, match=r"^stage2.accumulate is 3, which does not divide the batch of 2"):
        plan.plan_run(tiny_config(cohort, **{"stage2.accumulate": 3}), None, silent)


def test_pretraining_needs_no_cohort():
    config = pretrain.get_config()
    assert plan.plan_run(config, None, silent) == plan.PlannedRun(plan.plan_of(config), None)


def test_a_steps_parts_are_known_sizes_and_its_temporaries_are_xlas(cohort):
    config = tiny_config(cohort)
    run = plan.plan_run(config, None, silent)
    held = step_memory(config, run.plan, 0, (100, 6, 32, 32))
    features = 9 * 4 + 9 * 4 * 4 + 9 * 4 * 8 + 9 * 8 * 8 + 9 * 8 * 4 + 9 * 4 * 4  # kernels of the two-level U-Net
    scales = 2 * (4 + 4 + 8 + 8 + 4 + 4)
    upsampling, logits = 4 * 8 * 4 + 4, 4 * 5 + 5
    assert held.parameters == 4 * (features + scales + upsampling + logits)
    assert 2 * held.parameters < held.optimizer < 2 * held.parameters + 100  # Adam's two moments and its count
    voxels = 100 * 6 * 32 * 32
    assert 5 * voxels <= held.cohort < 5 * voxels + 10_000  # float32 image, uint8 labels
    assert held.temporaries > 0
    assert held.total == held.parameters + held.optimizer + held.cohort + held.temporaries + held.program


def planned(monkeypatch, sizes, memory_gb, stages=(1,), compare=False, cohort=0.001):
    """The steps where those with so many settings switched on take so many GB, and a cohort so many; a batch has 8
    samples."""
    cohort_shape = (round(cohort * GB / (6 * 6 * 32 * 32)), 6, 32, 32)

    def measure(config, plan, stage, shape):
        stage = config[f"stage{stage + 1}"]
        on = (config.compute_dtype == "bfloat16") + stage.rematerialise + (stage.accumulate > 1)
        resident = 1 if streaming.is_streamed(shape, config.data.memory_gb) else round(cohort * GB)
        return StepMemory(1, 1, resident, int(sizes[on] * GB), 0)

    monkeypatch.setattr(plan, "step_memory", measure)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    config = tiny_config("cohort", stages=stages)
    config.compute_dtype = "float32"
    stage = {"features": (4,), "kernel_sizes": ((3, 3),), "strides": ((1, 1),), "batch_size": 8}
    volumes = {"features": (4,), "kernel_sizes": ((3, 3, 3),), "strides": ((1, 1, 1),), "batch_size": 2}
    values = {"spacing": (10.0, 4.0, 4.0), "shape": (6, 16, 20), "slices": stage, "volumes": volumes}
    run = plan.PlannedRun(Plan.from_json(values), cohort_shape)
    size = memory_gb and int(memory_gb * GB)
    steps = list(plan.plan_memory(config, run, size, compare=compare, progress=silent))
    text = "\n".join([plan.heading(run, size, "as given"), *map(plan.row, steps), *plan.advice(steps)])
    return steps, text, plan.as_json(run, steps, size, "as given")


def test_what_fits_is_compiled_once_and_said(monkeypatch):
    steps, text, _ = planned(monkeypatch, (3, 0, 0, 0), 4, stages=(1, 2))
    assert [step.settings for step in steps] == [{}, {}]
    assert "stage 1 fits." in text and "stage 2 fits." in text


def test_where_a_step_does_not_fit_the_cheapest_setting_with_which_it_does_is_named(monkeypatch):
    steps, text, values = planned(monkeypatch, (5, 4.5, 9, 2), 4)
    assert [step.fits for step in steps] == [False, False, False, False, False, True]
    flags = "--config.stage1.accumulate=8 --config.stage1.rematerialise=True."
    assert "stage 1 does not fit; it does with --config.compute_dtype=bfloat16 --config.data.memory_gb=" in text
    assert flags in text
    assert json.loads(json.dumps(values))["steps"][5]["bytes"]["total"] == 2 * GB + 3
    assert "does with --config.compute_dtype=bfloat16." in planned(monkeypatch, (5, 3, 9, 2), 4)[1]


def test_a_cohort_of_more_than_half_a_device_is_planned_as_read_while_training(monkeypatch):
    steps = planned(monkeypatch, (3, 3, 3, 3), 4, cohort=30, compare=True)[0]
    assert steps[0].memory.cohort == 1 < 30 and not any("data.memory_gb" in step.settings for step in steps)
    steps = planned(monkeypatch, (3, 3, 3, 3), 4, cohort=1, compare=True)[0]
    assert steps[0].memory.cohort == GB
    [read] = [step for step in steps if list(step.settings) == ["data.memory_gb"]]
    assert read.memory.cohort == 1 and read.settings["data.memory_gb"] == 0.5


def test_where_nothing_helps_the_batch_is_to_be_smaller(monkeypatch):
    _, text, _ = planned(monkeypatch, (5, 5, 5, 5), 4)
    assert "stage 1 does not fit, whatever is switched on: it needs a smaller --config.plan.slices.batch_size" in text


def test_of_an_unknown_memory_nothing_is_claimed(monkeypatch):
    steps, text, _ = planned(monkeypatch, (5, 5, 5, 5), None)
    assert [step.fits for step in steps] == [None]
    assert "stage 1 takes 5.00 GB; say what there is with --memory_gb." in text and "fit" not in text


def test_a_processor_has_the_hosts_memory_or_what_its_container_may_take(monkeypatch, tmp_path):
    device = jax.devices("cpu")[0]
    monkeypatch.setattr(device_memory, "_CONTROL_GROUP", tmp_path / "memory.max")
    host, _ = device_memory.device_memory(device)
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory.device_memory(device)[0] == host > 10**8
    (tmp_path / "memory.max").write_text("1000000\n")
    assert device_memory.device_memory(device)[0] == 1_000_000 // jax.local_device_count()


@pytest.mark.parametrize("given", [0.0, -1.0, float("inf"), float("nan")])
def test_a_memory_that_cannot_be_is_refused(given):
    with pytest.raises(ConfigError, match="--memory_gb is"):
        plan.known_memory(given)
