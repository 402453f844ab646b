"""Checkpoints: read back as written, or named in one line."""

import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cascade_jax import checkpoint
from cascade_jax.data.case import CaseError


@pytest.mark.parametrize("damage", ["missing", "cut", "a bit"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    state = {"kernel": np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32), "step": np.array(3)}
    checkpoint.save_state(tmp_path / "checkpoints", 3, state)
    restored = checkpoint.restore_state(tmp_path / "checkpoints", state)
    np.testing.assert_array_equal(restored["kernel"], state["kernel"])
    assert restored["step"] == 3
    largest = max((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        largest.unlink()
    else:
        largest.write_bytes(content[:-100] if damage == "cut" else content)
    with pytest.raises(CaseError, match="remove the folder to have it trained again") as error:
        checkpoint.restore_state(tmp_path / "checkpoints", state)
    assert str(error.value).startswith(f"{tmp_path / 'checkpoints' / '3'}: ")


def test_the_state_before_a_damaged_one_is_taken_and_said(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    states = {step: {"kernel": np.full((30, 30), step, np.float32)} for step in (1, 2, 3)}
    for step, state in states.items():
        checkpoint.save_state(folder, step, state)
    (folder / "3" / "_CHECKPOINT_METADATA").write_bytes(b"")
    np.testing.assert_array_equal(checkpoint.restore_state(folder, states[3])["kernel"], states[2]["kernel"])
    assert f"{folder / '3'} has damaged or missing files; going on from step 2" in caplog.text
    checkpoint.save_state(folder, 3, states[3])  # the damaged one is not in the way
    np.testing.assert_array_equal(checkpoint.restore_state(folder, states[3])["kernel"], states[3]["kernel"])


def test_without_room_on_the_disk_a_checkpoint_is_one_line_and_nothing_half_written(tmp_path, monkeypatch):
    params = {"kernel": np.ones((1000, 1000), np.float32)}
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
        for save in (checkpoint.save_params, lambda folder, tree: checkpoint.save_state(folder, 1, tree)):
            with pytest.raises(CaseError, match=r"checkpoint: cannot be written: 4\.5 MB are needed, 1\.0 MB are free"):
                save(tmp_path / "checkpoint", params)
    assert not list(tmp_path.iterdir())


def test_parameters_of_version_0_1_0_are_read(tmp_path):
    import orbax.checkpoint

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "params", {"kernel": np.ones(3, np.float32)})
    np.testing.assert_array_equal(checkpoint.restore_params(tmp_path / "params")["kernel"], np.ones(3))


def test_threads_save_and_restore_one_after_another(tmp_path, monkeypatch):
    """Each of several folds at once has a thread; Orbax alone mixes up their operations now and then."""
    manager, under_way, most = checkpoint._manager, [], []

    @contextlib.contextmanager
    def watched(folder):
        under_way.append(folder)
        most.append(len(under_way))
        time.sleep(0.05)
        with manager(folder) as one:
            yield one
        under_way.remove(folder)

    def save_and_restore(fold):
        folder, state = tmp_path / str(fold), {"weights": np.full((4, 4), fold, np.float32)}
        checkpoint.save_state(folder, 1, state)
        return checkpoint.restore_state(folder, state)["weights"]

    monkeypatch.setattr(checkpoint, "_manager", watched)
    with ThreadPoolExecutor(3) as pool:
        for fold, weights in enumerate(pool.map(save_and_restore, range(3))):
            np.testing.assert_array_equal(weights, np.full((4, 4), fold))
    assert max(most) == 1
