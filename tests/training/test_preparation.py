"""A cohort is read, checked, planned and kept for the next time."""

import numpy as np
import pytest

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.prepared import Writer
from cascade_jax.phantoms import simulated
from cascade_jax.training import preparation

OVERRIDES = {"slices": {"features": (4, 8)}, "volumes": {"features": (4, 8)}}


def silent(iterable, _):
    return iterable


@pytest.fixture
def cohort(tmp_path):
    simulated.write_cohort(tmp_path / "cohort", 3, 0, field_of_view_mm=90)
    return tmp_path / "cohort"


def test_the_second_time_reads_what_the_first_prepared(cohort, tmp_path, monkeypatch):
    plan, examples = preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES, 2, silent)
    with monkeypatch.context() as patch:
        patch.setattr(emidec, "read_case", lambda files: pytest.fail("read again"))
        again_plan, again = preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES, 2, silent)
    assert plan == again_plan
    for before, after in zip(examples, again, strict=True):
        assert before.grid == after.grid
        np.testing.assert_array_equal(before.image, after.image)


def test_a_changed_file_or_plan_is_prepared_anew(cohort, tmp_path):
    first, examples = preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES, 2, silent)
    before = examples[0].image
    case = emidec.read_case(folders.find_cases(cohort)[0])
    emidec.write_case(cohort, Case(case.name, np.sqrt(case.image), case.labels, case.spacing, case.header))
    _, changed = preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES, 2, silent)
    assert not np.array_equal(before, changed[0].image)
    other, _ = preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES | {"spacing": (10.0, 3.0, 3.0)}, 2, silent)
    assert other.spacing != first.spacing


def test_several_processes_prepare_what_one_does(cohort, tmp_path):
    plan, examples = preparation.prepare(cohort, tmp_path / "one", OVERRIDES, 2, silent)
    same_plan, same = preparation.prepare(cohort, tmp_path / "two", OVERRIDES, 2, silent, processes=2)
    assert plan == same_plan
    for before, after in zip(examples, same, strict=True):
        assert (before.name, before.grid) == (after.name, after.grid)
        np.testing.assert_array_equal(before.image, after.image)
        np.testing.assert_array_equal(before.labels, after.labels)


def test_what_is_wrong_with_a_case_is_said_by_the_process_that_met_it(cohort, tmp_path):
    case = emidec.read_case(folders.find_cases(cohort)[1])
    flat = np.where(case.labels > 0, 7, 0).astype(case.image.dtype)
    emidec.write_case(cohort, Case(case.name, flat, case.labels, case.spacing, case.header))
    with pytest.raises(CaseError, match=f"^{case.name}: all tissue has the same intensity$"):
        preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES, 2, silent, processes=2)
    assert not (tmp_path / "prepared").exists(), "nothing half-prepared stays behind"


def test_a_preparation_that_was_stopped_goes_on_with_the_cases_that_are_missing(cohort, tmp_path, monkeypatch):
    _, whole = preparation.prepare(cohort, tmp_path / "whole", OVERRIDES, 2, silent)
    write, read, written = Writer.write, emidec.read_case, []

    def stop_at_the_second(self, number, example):
        if number == 1:
            raise KeyboardInterrupt
        write(self, number, example)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            preparation.prepare(cohort, tmp_path / "parts", OVERRIDES, 2, silent)
    monkeypatch.setattr(emidec, "read_case", lambda files, labels: (written.append(files.name), read(files, labels))[1])
    _, parts = preparation.prepare(cohort, tmp_path / "parts", OVERRIDES, 2, silent)
    assert written == whole.names[1:], "no other case is read, not even for the plan"
    for before, after in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(before.image, after.image)


def test_a_place_in_common_serves_a_second_run_and_no_other_plan(cohort, tmp_path, monkeypatch):
    place = f"memory://{tmp_path.name}"
    plan, examples = preparation.prepare(cohort, tmp_path / "first", OVERRIDES, 2, silent, location=place)
    with monkeypatch.context() as patch:
        patch.setattr(emidec, "read_case", lambda files, labels: pytest.fail("read again"))
        same, again = preparation.prepare(cohort, tmp_path / "second", OVERRIDES, 2, silent, location=place)
    assert plan == same and (tmp_path / "second" / "plan.json").exists()
    np.testing.assert_array_equal(again[2].labels, examples[2].labels)
    other = OVERRIDES | {"spacing": (10.0, 3.0, 3.0)}
    with pytest.raises(
        CaseError, match=r"memory://.*: holds a cohort that was prepared from other files or for another"
    ):
        preparation.prepare(cohort, tmp_path / "third", other, 2, silent, location=place)


def test_an_example_holds_its_case_whole_whatever_the_plans_shape(cohort, tmp_path):
    whole_plan, whole = preparation.prepare(cohort, tmp_path / "whole", OVERRIDES, 2, silent)
    plan, examples = preparation.prepare(cohort, tmp_path / "windows", OVERRIDES | {"shape": (4, 24, 24)}, 2, silent)
    assert plan.shape == (4, 24, 24) < whole_plan.shape
    for example, one in zip(examples, whole, strict=True):
        np.testing.assert_array_equal(example.image[example.valid], one.image[one.valid])
        np.testing.assert_array_equal(example.labels[example.valid], one.labels[one.valid])
        assert example.image.shape == examples[0].image.shape
