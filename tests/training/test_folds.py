"""Folds at once: on devices of their own, and in runs of their own."""

import shutil
import threading
from pathlib import Path

import pytest

from cascade_jax import stopping
from cascade_jax.commands import train
from cascade_jax.data.case import CaseError
from cascade_jax.errors import ConfigError, TrainingError
from cascade_jax.phantoms import simulated
from cascade_jax.plan import Plan, StagePlan
from cascade_jax.training import crossval
from cascade_jax.training.claim import claim
from cascade_jax.training.folds import groups_of_devices, train_folds
from launch.benchmarks.wall_time_model import stage_seconds
from tests.training.test_crossval import silent, tiny_config

PLAN = Plan((10.0, 2.0, 2.0), (4, 24, 16), StagePlan((4,), (), (), 12), StagePlan((4,), (), (), 2))


@pytest.mark.parametrize(
    ("stage", "devices", "at_once", "expected"),
    [
        (0, 8, 0, [[0, 1, 2, 3, 4, 5]]),  # 12 samples keep six of eight busy
        (1, 8, 0, [[0, 1], [2, 3], [4, 5], [6, 7]]),  # two volumes keep two busy: four folds have room
        (1, 3, 0, [[0, 1]]),
        (1, 1, 0, [[0]]),
        (0, 8, 2, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (0, 8, 5, [[0], [1], [2], [3], [4]]),
        (0, 2, 5, [[0], [1]]),  # no more than devices
        (1, 16, 8, [[0, 1], [3, 4], [6, 7], [9, 10], [12, 13]]),  # no more than folds
    ],
)
def test_devices_are_shared_out_to_folds(stage, devices, at_once, expected):
    assert groups_of_devices(PLAN, stage, list(range(devices)), folds=5, at_once=at_once) == expected


def test_a_height_is_shared_by_as_many_devices_as_divide_it():
    assert groups_of_devices(PLAN, 1, list(range(7)), folds=5, parallel="height") == [[0, 1, 2, 3, 4, 5]]


def test_each_group_trains_a_fold_at_a_time(monkeypatch):
    monkeypatch.setattr("jax.default_device", lambda _: threading.Lock())
    together, trained, busy = threading.Barrier(2, timeout=30), [], set()

    def train_fold(fold, devices):
        assert devices[0] not in busy
        busy.add(devices[0])
        together.wait()  # both groups are at work at the same time
        trained.append(fold)
        busy.remove(devices[0])

    train_folds(train_fold, range(4), [["a"], ["b"]])
    assert sorted(trained) == [0, 1, 2, 3]


def test_a_fold_that_fails_stops_the_others_after_their_step(monkeypatch):
    monkeypatch.setattr("jax.default_device", lambda _: threading.Lock())
    saved, second_is_at_work, stopped = [], threading.Event(), threading.Event()

    def train_fold(fold, _):
        if fold == 0:
            second_is_at_work.wait(30)
            raise TrainingError("the loss is nan")
        with stopping.after_the_step() as stop_if_asked:
            second_is_at_work.set()
            while not stopped.wait(0.01):
                stop_if_asked(lambda: saved.append(fold) or " and saved")

    with pytest.raises(TrainingError, match="the loss is nan"):
        train_folds(train_fold, range(4), [["a"], ["b"]])
    assert saved == [1], "the folds after it were not begun"
    with stopping.after_the_step() as stop_if_asked:  # the next training begins with a clean slate
        stop_if_asked(lambda: pytest.fail("nobody has asked"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    simulated.write_cohort(root, 4, 0, field_of_view_mm=90)
    return root


@pytest.fixture
def begun(cohort, tmp_path):
    """A working folder in which nothing is trained yet."""
    workdir = tmp_path / "run"
    train.run_training(tiny_config(cohort, stages=(1,), folds=(1,)), workdir, silent)
    shutil.rmtree(workdir / "stage1")
    return workdir


def test_a_fold_that_another_run_has_in_use_is_an_error_that_names_it(cohort, begun):
    in_use = pytest.raises(CaseError, match="stage1/fold0: is in use by another run")
    with claim(begun / "stage1" / "fold0"), in_use:
        train.run_training(tiny_config(cohort, stages=(1,)), begun, silent)


def test_runs_that_share_the_folds_leave_each_other_theirs_and_take_what_one_lets_go(cohort, begun, monkeypatch):
    fitted, fit = [], crossval.fit
    other = claim(begun / "stage1" / "fold0")

    def fit_and_tell(*arguments, **keywords):
        fitted.append(keywords["description"])
        if fitted == ["stage 1, fold 1"]:
            other.__exit__(None, None, None)  # the other run dies, its fold untrained
        return fit(*arguments, **keywords)

    monkeypatch.setattr(crossval, "fit", fit_and_tell)
    other.__enter__()
    train.run_training(tiny_config(cohort, stages=(1,), share_folds=True), begun, silent)
    assert fitted == ["stage 1, fold 1", "stage 1, fold 0"]


def test_corrections_are_one_runs_alone(cohort):
    config = tiny_config(cohort, share_folds=True)
    config.data.corrected = True
    with pytest.raises(ConfigError, match="share_folds: a cohort of corrections"):
        train.run_training(config, Path("nowhere"), silent)


def test_the_model_of_a_whole_cross_validation():
    about = {"step_ms": 100, "steps": 1000, "batch": 2, "folds": 5, "cases": 10, "case_ms": 1000, "efficiency": 0.5}
    assert stage_seconds(1, **about) == (5 * 100 + 10, 1)
    assert stage_seconds(5, **about) == (100 + 2, 5)
    assert stage_seconds(10, **about) == (100 + 1, 5), "half the batch each, at half the efficiency"
    assert stage_seconds(2, **about | {"efficiency": 1.0}) == (5 * 50 + 5, 1)
