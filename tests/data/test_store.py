"""A cohort on disk is complete or not there."""

from pathlib import Path

import numpy as np
import pytest

from cascade_jax import checkpoint
from cascade_jax.data import store
from cascade_jax.data.case import CaseError
from cascade_jax.data.preprocess import Example, Grid


def examples(count=2):
    random = np.random.default_rng(0)
    grid = Grid((3, 9, 8), ((0, 3), (1, 8), (0, 8)), (3, 6, 7), ((0, 3), (1, 7), (0, 7)), (0, 0, 0))
    return [
        Example(f"case{i}", random.normal(size=(3, 8, 8)).astype("f4"), random.integers(0, 5, (3, 8, 8), "u1"), grid)
        for i in range(count)
    ]


def test_a_cohort_written_and_read_is_the_same(tmp_path):
    written = examples()
    store.write_examples(tmp_path / "cohort", written, {"files": [1, 2]})
    assert store.read_provenance(tmp_path / "cohort") == {"files": [1, 2]}
    for before, after in zip(written, store.read_examples(tmp_path / "cohort"), strict=True):
        assert (before.name, before.grid) == (after.name, after.grid)
        np.testing.assert_array_equal(before.image, after.image)
        np.testing.assert_array_equal(before.labels, after.labels)
        assert after.labels.dtype == np.uint8


def test_paths_may_lead_upwards_and_through_links(tmp_path, monkeypatch):
    for folder in ("here", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    monkeypatch.chdir(tmp_path / "here")
    for path in (Path("../cohort"), Path("link/../cohort")):
        store.write_examples(path, examples(), {})
        assert len(store.read_examples(path)) == 2
        checkpoint.save_params(path.with_name("params"), {"kernel": np.ones(3, np.float32)})
        assert np.all(checkpoint.restore_params(path.with_name("params"))["kernel"] == 1)
    assert (tmp_path / "elsewhere" / "params").exists()


def test_a_failed_write_leaves_the_old_cohort_and_nothing_half_written(tmp_path):
    store.write_examples(tmp_path / "cohort", examples(2), {"version": 1})
    with pytest.raises(TypeError):
        store.write_examples(tmp_path / "cohort", examples(3), {"version": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
    assert len(store.read_examples(tmp_path / "cohort")) == 2


def test_a_cohort_that_is_not_there_has_no_provenance(tmp_path):
    assert store.read_provenance(tmp_path / "cohort") is None


def test_a_damaged_cohort_is_one_line_that_says_what_to_do(tmp_path):
    store.write_examples(tmp_path / "cohort", examples(), {})
    for file in (tmp_path / "cohort" / "image").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(CaseError, match="remove the folder to make it again") as error:
        store.read_examples(tmp_path / "cohort")
    assert "\n" not in str(error.value)
