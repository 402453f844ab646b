"""A cohort is read, checked, planned and kept for the next time."""

import numpy as np
import pytest

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case
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
    case = emidec.read_case(folders.find_cases(cohort)[0])
    emidec.write_case(cohort, Case(case.name, np.sqrt(case.image), case.labels, case.spacing, case.header))
    _, changed = preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES, 2, silent)
    assert not np.array_equal(examples[0].image, changed[0].image)
    other, _ = preparation.prepare(cohort, tmp_path / "prepared", OVERRIDES | {"spacing": (10.0, 3.0, 3.0)}, 2, silent)
    assert other.spacing != first.spacing


def test_an_example_holds_its_case_whole_whatever_the_plans_shape(cohort, tmp_path):
    whole_plan, whole = preparation.prepare(cohort, tmp_path / "whole", OVERRIDES, 2, silent)
    plan, examples = preparation.prepare(cohort, tmp_path / "windows", OVERRIDES | {"shape": (4, 24, 24)}, 2, silent)
    assert plan.shape == (4, 24, 24) < whole_plan.shape
    for example, one in zip(examples, whole, strict=True):
        np.testing.assert_array_equal(example.image[example.valid], one.image[one.valid])
        np.testing.assert_array_equal(example.labels[example.valid], one.labels[one.valid])
        assert example.image.shape == examples[0].image.shape
