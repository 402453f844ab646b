"""The cross-validation measures what ships: its predictions are those of each fold's cascade, on whole cases."""

import json
import shutil

import jax
import numpy as np
import pytest

import cascade_jax
from cascade_jax.calibration import CONFIDENCE_FILE
from cascade_jax.cascade import Cascade
from cascade_jax.commands import train
from cascade_jax.confidence import volumes_ml
from cascade_jax.data import emidec, folders, store
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC
from cascade_jax.data.preprocess import preprocess
from cascade_jax.phantoms import simulated
from cascade_jax.report.confidence import read_confidence
from cascade_jax.training import calibrating, crossval
from cascade_jax.training.ablation import VARIANTS, ablate
from launch.configs import default


def silent(iterable, _):
    return iterable


def tiny_config(root, **changes):
    """Two folds of both stages on small networks; a sample of stage one holds a part of a case, of stage two less."""
    config = default.get_config()
    config.data.root = str(root)
    config.num_folds, config.folds, config.figures, config.mirror = 2, (0, 1), 0, True
    config.plan.spacing, config.plan.shape = (10.0, 4.0, 4.0), (6, 16, 20)
    config.plan.window = (16, 14)
    for stage, plan in ((config.stage1, config.plan.slices), (config.stage2, config.plan.volumes)):
        plan.features, plan.batch_size = (4, 8), 2
        stage.steps, stage.steps_per_dispatch, stage.validate_every, stage.checkpoint_every = 4, 1, 2, 2
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root, workdir = tmp_path_factory.mktemp("cohort"), tmp_path_factory.mktemp("run")
    simulated.write_cohort(root, 4, 0, field_of_view_mm=90)
    train.run_training(tiny_config(root), workdir, silent)
    return root, workdir


def test_a_run_that_reads_its_cohort_meanwhile_ends_with_the_same_bits(run, tmp_path):
    """Prepared by two processes, in another place; both stages, with out-of-fold priors between them."""
    pytest.importorskip("grain")
    root, workdir = run
    changes = {"data.memory_gb": 1e-9, "data.processes": 2, "data.prepared": (tmp_path / "prepared").as_uri()}
    train.run_training(tiny_config(root, **changes), tmp_path / "run", silent)
    expected, streamed = cascade_jax.load(workdir), cascade_jax.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, expected.params, streamed.params)
    assert (tmp_path / "run" / "tables.json").read_bytes() == (workdir / "tables.json").read_bytes()
    assert (tmp_path / "prepared" / "cohort.json").exists()
    # The settings that say how it is read may change from one start to the next.
    assert "nothing was left to do" in train.run_training(tiny_config(root), tmp_path / "run", silent)


def alone(cascade, fold, rules):
    """The shipped cascade with one of its folds."""
    params = jax.tree.map(lambda leaf: leaf[fold : fold + 1], cascade.params)
    return Cascade(cascade.plan, cascade.networks, params, rules, (fold,), cascade.mirror)


def test_a_validation_case_is_segmented_as_the_cascade_of_its_fold_segments_it(run):
    root, workdir = run
    shipped = cascade_jax.load(workdir)
    files = {file.name: file for file in folders.find_cases(root)}
    table2 = json.loads((workdir / "tables.json").read_text())["table2"]["cases"]
    found = 0
    for fold, names in enumerate(json.loads((workdir / "folds.json").read_text())):
        before = read_confidence(workdir / "stage2" / f"fold{fold}", shipped.plan.labels)
        after = read_confidence(workdir / "predictions" / "final", shipped.plan.labels)
        for name in names:
            case = emidec.read_case(files[name])
            example = shipped.example(case)
            assert example.image.shape != shipped.plan.shape, "the case is larger than an example of the training"
            for folder, rules, expected in (("stage2", (), before), ("final", shipped.rules, after)):
                result = alone(shipped, fold, rules).segment_case(case)
                labels, _ = emidec.read_labels(emidec.contour_path(workdir / "predictions" / folder, name))
                np.testing.assert_array_equal(labels, result.labels)
                assert expected[name].expected_dice == pytest.approx(result.expected_dice, nan_ok=True)
                found += len(np.unique(labels)) > 1
            scores = cascade_jax.metrics.evaluate_case(
                emidec.to_file_axes(labels), emidec.to_file_axes(case.labels), case.spacing[::-1]
            )
            for target, metrics in table2[f"fold {fold}"][name].items():
                given = {metric: np.nan if value is None else value for metric, value in metrics.items()}
                assert given == pytest.approx(scores[target], nan_ok=True, rel=1e-5, abs=0.02)
    assert found, "labels that are all background would show nothing"


def test_stage_two_learns_from_what_the_cascade_of_another_fold_gives_it(run):
    root, workdir = run
    shipped = cascade_jax.load(workdir)
    files = {file.name: file for file in folders.find_cases(root)}
    for fold, names in enumerate(json.loads((workdir / "folds.json").read_text())):
        priors = store.read_array(workdir / "stage1" / f"fold{fold}" / "predictions")
        assert priors.shape[0] == len(names)
        for name, prior in zip(names, priors, strict=True):
            case = emidec.read_case(files[name])
            whole = shipped.example(case)
            prepared = preprocess(case, shipped.plan.spacing[1:], prior.shape)
            expected = np.zeros_like(prior)
            expected[prepared.valid] = shipped.vote(whole).fold_priors[fold][whole.valid]
            np.testing.assert_array_equal(prior, expected)


def test_a_cascade_trained_on_every_case_can_follow_and_labels_as_a_working_folder_does(run, tmp_path, monkeypatch):
    root, workdir = run
    shutil.copytree(workdir, tmp_path / "run")
    seen = {}
    record = crossval.fit

    def spy(*arguments, **settings):
        seen[settings["description"]] = (int(settings["cases"].count), settings["seed"])
        return record(*arguments, **settings)

    monkeypatch.setattr(crossval, "fit", spy)
    text = train.run_training(tiny_config(root, all_cases=True), tmp_path / "run", silent)
    single = tmp_path / "run" / "all"
    assert f"Trained on every case: {single}" in text
    assert seen["stage 1, fold 0"][0] == 2
    assert seen["stage 1, all cases"][0] == seen["stage 2, all cases"][0] == 4
    assert len({seed for _, seed in seen.values()}) == len(seen) == 6
    cascade, folds = cascade_jax.load(single), cascade_jax.load(workdir)
    assert cascade.folds == (0,) and cascade.rules == folds.rules and cascade.plan == folds.plan
    file = folders.find_cases(root)[0]
    assert cascade.segment_case(emidec.read_case(file)).labels.any()
    before = {path: path.stat().st_mtime_ns for path in single.rglob("*") if path.is_file()}
    assert "nothing was left to do" in train.run_training(tiny_config(root, all_cases=True), tmp_path / "run", silent)
    assert before == {path: path.stat().st_mtime_ns for path in single.rglob("*") if path.is_file()}


def test_the_confidence_is_learnt_at_the_end_and_goes_with_the_model(run, tmp_path, monkeypatch):
    root, workdir = run
    shutil.copytree(workdir, tmp_path / "run")
    assert not (workdir / CONFIDENCE_FILE).exists(), "four cases teach nothing"
    known = json.loads((workdir / "accounts.json").read_text())
    assert sorted(known) == [file.name for file in folders.find_cases(root)]
    assert all(set(case["account"]["targets"]) == set(EMIDEC.targets) for case in known.values())
    monkeypatch.setattr(calibrating, "LEAST_CASES", 2)  # so that four do
    (tmp_path / "run" / "finished.json").unlink()
    text = train.run_training(tiny_config(root, all_cases=True), tmp_path / "run", silent)
    assert "Confidence, on folds left out" in text
    judged = json.loads((tmp_path / "run" / "tables.json").read_text())["confidence"]
    assert judged["n"] == 4 and 0 <= judged["targets"]["infarction"]["coverage"] <= 1
    calibration = cascade_jax.load(tmp_path / "run").calibration
    assert calibration.cases == 4
    assert cascade_jax.load(tmp_path / "run" / "all").calibration == calibration
    said = read_confidence(tmp_path / "run" / "predictions" / "final", EMIDEC)
    for name, confidence in said.items():
        labels, spacing = emidec.read_labels(emidec.contour_path(tmp_path / "run" / "predictions" / "final", name))
        assert confidence.volume_ml == pytest.approx(volumes_ml(labels, spacing, EMIDEC), abs=0.006)
        assert set(confidence.interval_ml) == set(EMIDEC.targets)
    summaries = tmp_path / "run" / "stage2" / "fold0" / "summaries.json"
    summaries.write_text("{}")
    (tmp_path / "run" / "finished.json").unlink()
    with pytest.raises(CaseError, match=r"summaries\.json: is damaged"):
        train.run_training(tiny_config(root), tmp_path / "run", silent)


def test_what_each_step_gives_is_told_of_the_runs_own_cases(run):
    root, workdir = run
    table = ablate(workdir, root, silent)
    assert [row[0] for row in table.rows] == list(VARIANTS)
    assert {len(row) for row in table.rows} == {len(table.header)}
    cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    tables = json.loads((workdir / "tables.json").read_text())
    for cell, key in ((cells[0], "table1"), (cells[3], "table2")):
        folds = tables[key]["cases"].values()
        for target, name in (("myocardium", "myocardium"), ("infarction", "infarction"), ("no_reflow", "no-reflow")):
            mean = np.mean([np.mean([case[target]["dice"] for case in fold.values()]) for fold in folds])
            assert cell[f"{name} Dice %"].split()[0] == f"{100 * mean:.2f}"
    files = {file.name: file for file in folders.find_cases(root)}
    infarcted = sum((emidec.read_case(file).labels >= 3).any() for file in files.values())
    assert f"infarction Dice %, the {infarcted} cases with it" in table.header
