"""Real labelled cases: a training on eight of them gets through to the paper's tables, and readers agree with
themselves."""

import json
from pathlib import Path

import pytest

from cascade_jax.data import folders
from tests.commands import running

ROOT = Path(__file__).parent.parent
COHORT = ROOT.parent / "shared" / "data" / "emidec"
EIGHT = ("Case_N012", "Case_N032", "Case_N052", "Case_P008", "Case_P026", "Case_P044", "Case_P060", "Case_P071")
# A few steps at a coarse spacing: what is asked is that everything runs, and nothing is forgotten in so few.
SETTINGS = {
    "num_folds": 2,
    "folds": "0,1",
    "figures": 0,
    "mirror": False,
    "plan.spacing": "10.0,2.8,2.8",
    "plan.shape": "10,96,96",
    "plan.window": "64,64",
    "plan.slices.batch_size": 2,
    "plan.volumes.batch_size": 1,
} | {
    f"stage{stage}.{name}": 4
    for stage in (1, 2)
    for name in ("steps", "steps_per_dispatch", "validate_every", "checkpoint_every")
}

pytestmark = pytest.mark.skipif(not COHORT.exists(), reason="the real cases are not beside the project")


def run(name, *flags):
    result = running.run(f"launch.{name}", list(flags), ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_training_on_eight_cases_gets_through_to_the_tables(tmp_path):
    for name in EIGHT:
        (tmp_path / "cohort").mkdir(exist_ok=True)
        (tmp_path / "cohort" / name).symlink_to(COHORT / name)
    shown = run(
        "train",
        "--config=launch/configs/emidec.py:laptop",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.root={tmp_path / 'cohort'}",
        *(f"--config.{name}={value}" for name, value in SETTINGS.items()),
    )
    for title in ("Table 1", "Table 2", "Infarcted hearts alone"):
        assert title in shown
    tables = json.loads((tmp_path / "run" / "tables.json").read_text())
    for table in ("table1", "table2"):
        of_cases = {name: case for fold in tables[table]["cases"].values() for name, case in fold.items()}
        assert sorted(of_cases) == sorted(EIGHT)
        assert all(case["myocardium"]["dice"] > 0.3 for case in of_cases.values())
        assert tables[table]["infarcted"]["infarction"]["n"] == 5
        assert tables[table]["detection"]["infarction"]["absent"] == 3


def test_a_readers_contours_agree_with_themselves_exactly(tmp_path):
    output = tmp_path / "metrics.json"
    run("evaluate", f"--prediction={COHORT}", f"--truth={COHORT}", f"--output={output}")
    result = json.loads(output.read_text())
    assert sorted(result["cases"]) == [files.name for files in folders.find_cases(COHORT)]
    for case in result["cases"].values():
        for metrics in case.values():
            assert metrics.pop("dice") == 1
            assert set(metrics.values()) <= {0.0}
    assert {values["dice"] for values in result["mean"].values()} == {1.0}
    assert result["agreement"]["all"]["g"]["icc"] == pytest.approx(1)
    for target in result["detection"].values():
        assert target["sensitivity"] == target["specificity"] == target["area_under_curve"] == 1
