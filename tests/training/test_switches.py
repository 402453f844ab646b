"""What takes less memory, and what is said where there is too little."""

import jax
import pytest

from cascade_jax.errors import TrainingError, is_out_of_memory
from cascade_jax.training import loop
from cascade_jax.training.switches import advising_on_memory, as_flags, ways_to_save
from launch.configs import default
from tests.training import test_training

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1000 bytes.\n0x7f in a stack")


def config_of(**settings):
    config = default.get_config()
    config.update_from_flattened_dict(settings)
    return config


def test_ways_go_from_the_cheapest_to_all_together():
    assert list(map(as_flags, ways_to_save(config_of(compute_dtype="float32"), 1, 12))) == [
        "--config.compute_dtype=bfloat16",
        "--config.stage2.accumulate=2",
        "--config.stage2.rematerialise=True",
        "--config.compute_dtype=bfloat16 --config.stage2.accumulate=6 --config.stage2.rematerialise=True",
    ]


def test_what_is_switched_on_already_is_not_proposed():
    on = {"compute_dtype": "bfloat16", "stage1.rematerialise": True}
    assert ways_to_save(config_of(**on, **{"stage1.accumulate": 2}), 0, 4) == [{"stage1.accumulate": 4}]
    assert ways_to_save(config_of(**on), 0, 1) == []


def test_a_cohort_on_the_device_can_be_read_while_training():
    ways = ways_to_save(config_of(**{"compute_dtype": "bfloat16", "stage1.rematerialise": True}), 0, 1, 3.5)
    assert list(map(as_flags, ways)) == ["--config.data.memory_gb=1.8"]


def test_a_share_that_only_many_parts_divide_is_taken_in_as_many():
    ways = ways_to_save(config_of(compute_dtype="bfloat16"), 0, 11)
    assert {"stage1.accumulate": 11} in ways


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FULL, True),
        (jax.errors.JaxRuntimeError("INTERNAL: no kernel image"), False),
        (ValueError("RESOURCE_EXHAUSTED"), False),
    ],
)
def test_a_full_memory_is_told_from_other_errors(error, full):
    assert is_out_of_memory(error) == full


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), advising_on_memory(config_of(), 0, 4, "fold 0"):
        raise ZeroDivisionError


def test_with_everything_switched_on_a_smaller_batch_is_the_advice():
    config = config_of(**{"stage1.accumulate": 4, "stage1.rematerialise": True})
    smaller = pytest.raises(TrainingError, match=r"a smaller batch \(--config.plan.slices.batch_size\)")
    with smaller, advising_on_memory(config, 0, 4, "fold 0"):
        raise FULL


def test_a_training_whose_device_is_full_ends_in_one_line_that_says_what_to_switch_on(tmp_path, monkeypatch):
    def run_steps(*_):
        raise FULL

    monkeypatch.setattr(loop, "compile_steps", lambda *arguments, **keywords: run_steps)
    with pytest.raises(TrainingError) as error:
        test_training.fit_slices(None, tmp_path / "fold0")
    assert str(error.value) == (
        "fold0: the device's memory is too small (RESOURCE_EXHAUSTED: Out of memory allocating 1000 bytes.); less is "
        "taken with --config.stage1.accumulate=2 or --config.stage1.rematerialise=True, with which the same command "
        "goes on from the last checkpoint; `cascade-jax plan` says what fits"
    )
    assert not (tmp_path / "fold0" / "params").exists()
