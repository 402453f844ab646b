"""Settings, files and folders that cannot be used stop a training before it starts, and are named."""

import gzip
import json
import shutil

import jax
import nibabel as nib
import numpy as np
import pytest

import cascade_jax
from cascade_jax import checkpoint, postprocess
from cascade_jax.bundle import MODEL_FILE
from cascade_jax.commands import train
from cascade_jax.data.case import CaseError
from cascade_jax.errors import ConfigError
from cascade_jax.phantoms import simulated
from launch.configs import default
from tests.commands.command_line import (
    fails_with_one_line,
    run,
    train_command,
)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stage1.learning_rat": 0.1}, ["no setting config.stage1.learning_rat"]),
        ({"stage1.steps": "many"}, ["many"]),
        ({"folds": "0,7"}, ["folds", "7"]),
        ({"stage2.validate_every": 7, "stage2.steps_per_dispatch": 2}, ["stage2", "multiple of steps_per_dispatch"]),
        ({"stage1.optimizer": "adan"}, ["optimizer", "adan"]),
        ({"compute_dtype": "float8"}, ["compute_dtype", "float8"]),
        ({"kind": "crossvalidation"}, ["kind", "crossvalidation", "known: cross-validation, pretraining"]),
        ({"parallel": "shard"}, ["parallel", "shard", "known: jit, pmap"]),
        ({"plan.slices.features": "4,8,8,8,8,8"}, ["features"]),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_that_names_it(tmp_path, values, words):
    result = run("train", **train_command(tmp_path / "run", **values))
    fails_with_one_line(result, *words)


@pytest.mark.parametrize("settings", [{}, {"config.data.root": "cohort"}], ids=["alone", "with a setting"])
def test_a_config_file_that_is_not_there_is_named(tmp_path, settings):
    result = run("train", config="nowhere.py", workdir=tmp_path / "run", **settings)
    fails_with_one_line(result, "--config=nowhere.py", "no such file")


def test_a_config_has_a_name(tmp_path):
    result = run("train", config="emidec:laptop", workdir=tmp_path / "run", **{"config.data.root": "nowhere"})
    fails_with_one_line(result, "nowhere: no such file or folder")


def tiny_config(root):
    config = default.get_config()
    config.data.root = str(root)
    config.num_folds, config.folds, config.figures = 2, (0, 1), 0
    return config


@pytest.fixture(scope="module")
def good_cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    simulated.write_cohort(root, 3, 0, field_of_view_mm=90)
    return root


def test_training_starts_from_a_trained_cascade_with_its_networks(trained, good_cohort, tmp_path, monkeypatch):
    workdir, output = tmp_path / "start", tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    model = json.loads((workdir / MODEL_FILE).read_text()) | {"licence": "CC BY-NC-SA 4.0: trained on EMIDEC"}
    (workdir / MODEL_FILE).write_text(json.dumps(model))
    config = tiny_config(good_cohort)
    config.init_from, config.all_cases = str(workdir), True
    config.plan.slices.features = (16, 32, 64)  # those of the trained cascade take their place
    config.plan.slices.batch_size = config.plan.volumes.batch_size = 2
    for stage in (config.stage1, config.stage2):
        with stage.unlocked():
            # Nothing is learnt, so what comes out is what went in.
            stage.update(learning_rate=0.0, steps=1, steps_per_dispatch=1, validate_every=1, checkpoint_every=1)
    known = []
    choose_rules = postprocess.choose_rules

    def choose(*args, **kwargs):
        known.append(kwargs["known"])
        return choose_rules(*args, **kwargs)

    monkeypatch.setattr(postprocess, "choose_rules", choose)
    train.run_training(config, output, lambda iterable, _: iterable)
    source = cascade_jax.load(workdir)
    assert known == [source.rules]
    for folder in (output, output / "all"):
        assert cascade_jax.load(folder).licence == "CC BY-NC-SA 4.0: trained on EMIDEC"
    restored = checkpoint.restore_params(output / "stage1" / "fold1" / "params")
    jax.tree.map(np.testing.assert_array_equal, restored, source.fold_params(0, 1))
    plan = json.loads((output / "prepared" / "plan.json").read_text())
    assert plan["slices"]["features"] == [4, 8]
    assert plan["spacing"][1:] == [4.0, 4.0]

    def again(figures):
        config.figures = figures
        return train.run_training(config, output, lambda iterable, _: iterable)

    assert "nothing was left to do" in again(0) and not (output / "report.html").exists()
    assert "Figures are in" in again(1) and (output / "report.html").exists()
    assert "nothing was left to do" in again(0)


def test_training_from_a_folder_without_a_model_says_so(good_cohort, tmp_path):
    config = tiny_config(good_cohort)
    config.init_from = str(tmp_path / "nothing")
    with pytest.raises(CaseError, match="has no trained model"):
        train.run_training(config, tmp_path / "run", lambda iterable, _: iterable)


def image_file(root, name="Case_N003"):
    return root / name / "Images" / f"{name}.nii.gz"


def contour_file(root, name="Case_N003"):
    return root / name / "Contours" / f"{name}.nii.gz"


def rewrite(path, change, zooms=None):
    image = nib.load(path)
    header = image.header.copy()
    array = change(image.get_fdata())
    changed = nib.Nifti1Image(array, image.affine, header)
    if zooms is not None:
        changed.header["pixdim"][1:4] = zooms
    changed.to_filename(path)
    if zooms is not None:  # nibabel writes the absolute value
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[80:92] = np.array(zooms, np.float32).tobytes()
        path.write_bytes(gzip.compress(bytes(content)))


def put(value):
    def change(array):
        array[5, 5, 0] = value
        return array

    return change


BAD = {
    "truncated file": (lambda r: image_file(r).write_bytes(image_file(r).read_bytes()[:5000]), image_file),
    "not NIfTI": (lambda r: image_file(r).write_text("hello"), image_file),
    "4D image": (lambda r: rewrite(image_file(r), lambda a: np.stack([a, a], -1)), image_file),
    "NaN": (lambda r: rewrite(image_file(r), put(np.nan)), image_file),
    "infinite": (lambda r: rewrite(image_file(r), put(np.inf)), image_file),
    "constant": (lambda r: rewrite(image_file(r), np.ones_like), image_file),
    "zero spacing": (lambda r: rewrite(image_file(r), np.array, (1.5, 0, 10)), image_file),
    "negative spacing": (lambda r: rewrite(image_file(r), np.array, (1.5, 1.5, -10)), image_file),
    "different shapes": (lambda r: rewrite(contour_file(r), lambda a: a[1:]), contour_file),
    "label 5": (lambda r: rewrite(contour_file(r), put(5)), contour_file),
    "negative label": (lambda r: rewrite(contour_file(r), put(-1)), contour_file),
    "half a label": (lambda r: rewrite(contour_file(r), put(1.5)), contour_file),
    "missing contour": (lambda r: contour_file(r).unlink(), lambda r: "Case_N003"),
    "missing image": (lambda r: image_file(r).unlink(), lambda r: "Case_N003"),
    "same name twice": (lambda r: (r / "Case_N003").rename(r / "case_p001"), lambda r: "ase_"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_stops_training_before_it_starts_and_is_named(good_cohort, tmp_path, fault):
    root = tmp_path / "cohort"
    simulated.write_cohort(root, 3, 0, field_of_view_mm=90)
    assert image_file(root).exists()
    damage, named = BAD[fault]
    damage(root)
    with pytest.raises(CaseError) as error:
        train.run_training(tiny_config(root), tmp_path / "run", lambda iterable, _: iterable)
    assert str(named(root)) in str(error.value)
    assert "\n" not in str(error.value)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {".lock"}, "nothing half-prepared stays behind"


def test_a_missing_or_empty_folder_or_too_few_cases_stop_training(good_cohort, tmp_path):
    def fault(root, **changes):
        config = tiny_config(root)
        config.update(changes)
        with pytest.raises(CaseError) as error:
            train.run_training(config, tmp_path / f"run{len(list(tmp_path.iterdir()))}", lambda iterable, _: iterable)
        return str(error.value)

    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "nowhere") in fault(tmp_path / "nowhere")
    assert str(tmp_path / "empty") in fault(tmp_path / "empty")
    assert "has 3 cases, fewer than the 5 folds" in fault(good_cohort, num_folds=5)


def test_a_share_of_the_start_beyond_the_whole_is_refused(good_cohort, tmp_path):
    config = tiny_config(good_cohort)
    config.init_share = 1.5
    with pytest.raises(ConfigError, match=r"init_share is 1\.5"):
        train.run_training(config, tmp_path, lambda iterable, _: iterable)


def test_a_workdir_that_cannot_be_written_is_refused(good_cohort, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CaseError, match="cannot be written to"):
        train.run_training(tiny_config(good_cohort), tmp_path / "file" / "run", lambda iterable, _: iterable)


def test_a_folder_that_holds_something_else_is_no_workdir(good_cohort, tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "mine.txt").write_text("mine")
    with pytest.raises(CaseError, match="is no working folder, for it holds predictions"):
        train.run_training(tiny_config(good_cohort), tmp_path, lambda iterable, _: iterable)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["predictions"]
