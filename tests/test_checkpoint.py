"""Checkpoints: read back as written, or named in one line."""

import shutil

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
