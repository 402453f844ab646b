"""An array of volumes on disk is complete or not there, and a damaged volume is named."""

from pathlib import Path

import numpy as np
import pytest

from cascade_jax import checkpoint
from cascade_jax.data import store
from cascade_jax.data.case import CaseError

NAMES = ("Case_A", "Case_B", "Case_C")


def volumes(count=3):
    array = np.random.default_rng(0).normal(size=(count, 4, 6, 5)).astype("f4")
    array[1] = 0
    return array


def test_an_array_written_and_read_is_the_same(tmp_path):
    for array in (volumes(), volumes().astype("u1")):
        store.write_array(tmp_path / "array", len(array), array)
        read = store.read_array(tmp_path / "array")
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_paths_may_lead_upwards_and_through_links(tmp_path, monkeypatch):
    for folder in ("here", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    monkeypatch.chdir(tmp_path / "here")
    for path in (Path("../array"), Path("link/../array")):
        store.write_array(path, 3, volumes())
        np.testing.assert_array_equal(store.read_array(path), volumes())
        checkpoint.save_params(path.with_name("params"), {"kernel": np.ones(3, np.float32)})
        assert np.all(checkpoint.restore_params(path.with_name("params"))["kernel"] == 1)
    assert (tmp_path / "elsewhere" / "params").exists()


def test_a_failed_write_leaves_the_old_array_and_nothing_half_written(tmp_path):
    store.write_array(tmp_path / "array", 3, volumes())

    def broken():
        yield volumes()[0]
        raise RuntimeError("the second cannot be had")

    with pytest.raises(RuntimeError, match="the second"):
        store.write_array(tmp_path / "array", 3, broken())
    assert [path.name for path in tmp_path.iterdir()] == ["array"]
    np.testing.assert_array_equal(store.read_array(tmp_path / "array"), volumes())


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".array-left").mkdir()
    store.write_array(tmp_path / "array", 3, volumes())
    assert [path.name for path in tmp_path.iterdir()] == ["array"]


def test_some_volumes_or_a_slice_of_each_are_read_alone(tmp_path):
    first, second = volumes(2), volumes(3)[2:]
    for name, array in (("first", first), ("second", second)):
        store.write_array(tmp_path / name, len(array), array)
    arrays = [store.open_written(tmp_path / name) for name in ("first", "second")]
    both = store.Volumes(store.joined(arrays), NAMES, tmp_path, "", rows=[2, 0, 1])
    assert both.shape == (3, 4, 6, 5)
    np.testing.assert_array_equal(both.read([0, 1, 0]), [second[0], first[0], second[0]])
    np.testing.assert_array_equal(both.read([0, 1, 2], [3, 0, 1])[:, 0], [second[0, 3], first[0, 0], first[1, 1]])


def damage(file, how):
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    {"missing": file.unlink, "a bit": lambda: file.write_bytes(content), "cut": lambda: file.write_bytes(content[:90])}[
        how
    ]()


@pytest.mark.parametrize("how", ["missing", "a bit", "cut"])
def test_a_damaged_volume_is_one_line_that_names_the_case_and_says_what_to_do(tmp_path, how):
    store.write_array(tmp_path / "array", 3, volumes())
    some = store.Volumes(store.open_written(tmp_path / "array"), NAMES, tmp_path, "remove it")
    damage(next(path for path in (tmp_path / "array" / "c" / "2").rglob("*") if path.is_file()), how)
    assert some.read([0, 1]).shape == (2, 4, 6, 5), "the others can be read"
    for slices in (None, [1, 1]):
        with pytest.raises(CaseError, match=r"case Case_C is damaged or missing \(.*\); remove it$") as error:
            some.read([1, 2], slices)
        assert "\n" not in str(error.value)
    with pytest.raises(CaseError, match="remove the folder to make it again"):
        store.read_array(tmp_path / "array")


def test_a_place_that_there_is_not_is_one_line(tmp_path):
    with pytest.raises(CaseError, match=r"carrier://pigeon: cannot be used: .*unsupported URL scheme"):
        store.open_folder("carrier://pigeon")
    (tmp_path / "file").write_text("")
    with pytest.raises(CaseError, match="cannot be written: "):
        store.write_array(tmp_path / "file" / "array", 3, volumes())
