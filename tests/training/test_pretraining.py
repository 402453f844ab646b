"""Pretraining from config to released weights, on tiny networks."""

import json
import shutil
import zipfile

import jax
import numpy as np
import pytest

import cascade_jax
from cascade_jax import weights
from cascade_jax.commands import train
from cascade_jax.commands.release import release
from cascade_jax.data.case import CaseError
from cascade_jax.errors import ConfigError
from launch.configs import pretrain


def silent(iterable, _):
    return iterable


def tiny_config(**changes):
    config = pretrain.get_config()
    config.plan.shape = (3, 32, 32)
    config.plan.spacing = (10.0, 6.0, 6.0)
    for stage, kernels, strides in (
        (config.plan.slices, None, None),
        (config.plan.volumes, ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2))),
    ):
        stage.features = (4, 8)
        stage.batch_size = 2
        if kernels:
            stage.kernel_sizes, stage.strides = kernels, strides
    for stage in (config.stage1, config.stage2):
        stage.steps, stage.validate_every, stage.checkpoint_every = 4, 2, 2
    config.validation_phantoms, config.postprocessing_phantoms, config.held_out_phantoms = 3, 3, 4
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrain")
    return workdir, train.run_training(tiny_config(), workdir, silent)


def leaves(cascade):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(cascade.params)]


def test_a_run_ends_with_a_model_and_the_held_out_phantoms_table(pretrained):
    workdir, text = pretrained
    assert "4 held-out random phantoms" in text
    results = json.loads((workdir / "phantoms.json").read_text())
    assert set(results["cases"]) == {"stage 1", "stage 2", "final"}
    assert len(results["confidence"]) == 4
    labels = cascade_jax.load(workdir).segment(np.random.default_rng(0).normal(100, 10, (50, 40, 4)), (4, 4, 8))
    assert labels.shape == (50, 40, 4)


def test_a_finished_run_is_not_done_again_and_an_interrupted_one_ends_alike(pretrained, tmp_path):
    workdir, text = pretrained
    assert "nothing was left to do" in train.run_training(tiny_config(), workdir, silent)
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stage2")
    (tmp_path / "run" / "tables.md").unlink()
    assert train.run_training(tiny_config(), tmp_path / "run", silent) == text
    for one, other in zip(leaves(cascade_jax.load(workdir)), leaves(cascade_jax.load(tmp_path / "run")), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_folder_of_before_there_were_kinds_goes_on(pretrained, tmp_path):
    shutil.copytree(pretrained[0], tmp_path / "old")
    settings = json.loads((tmp_path / "old" / "config.json").read_text())
    assert settings.pop("kind") == "pretraining"
    (tmp_path / "old" / "config.json").write_text(json.dumps(settings | {"pretraining": True}))
    assert "nothing was left to do" in train.run_training(tiny_config(), tmp_path / "old", silent)


def test_another_config_is_refused_in_the_same_folder(pretrained):
    with pytest.raises(CaseError, match="seed"):
        train.run_training(tiny_config(seed=1), pretrained[0], silent)


LICENCE = "CC BY-NC-SA 4.0: trained on EMIDEC"


@pytest.fixture(scope="module")
def gone_on(pretrained, tmp_path_factory):
    """A run whose weights are under a licence, and one that went on from it with other phantoms."""
    folder = tmp_path_factory.mktemp("licensed")
    shutil.copytree(pretrained[0], folder / "start")
    model = json.loads((folder / "start" / "model.json").read_text())
    assert model["licence"] == ""
    (folder / "start" / "model.json").write_text(json.dumps(model | {"licence": LICENCE}))
    train.run_training(tiny_config(init_from=str(folder / "start"), seed=1), folder / "end", silent)
    return folder / "start", folder / "end"


def test_both_stages_go_on_from_another_runs(gone_on):
    config = tiny_config()
    before, after = (cascade_jax.load(folder).params for folder in gone_on)
    for stage, settings in enumerate((config.stage1, config.stage2)):
        pairs = zip(jax.tree.leaves(before[stage]), jax.tree.leaves(after[stage]), strict=True)
        moved = max(np.abs(one - other).max() for one, other in pairs)
        # Adam moves a weight by the learning rate a step at most, or little more; other random weights lie far off.
        assert 0 < moved < 2 * settings.steps * settings.learning_rate


@pytest.mark.parametrize("part", ["slices", "volumes"])
def test_another_network_cannot_go_on(pretrained, tmp_path, part):
    config = tiny_config(**{"init_from": str(pretrained[0]), f"plan.{part}.features": (4, 16)})
    with pytest.raises(ConfigError, match="another network"):
        train.run_training(config, tmp_path, silent)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"plan.spacing": (10.0, 6.0, 5.0)}, "square pixels"),
        ({"stage1.steps": 0}, "steps is 0"),
        ({"compute_dtype": "float8"}, "float8"),
        ({"init_share": 1.5}, "init_share is 1.5"),
        ({"kind": "pretrain"}, "kind is 'pretrain'; known: cross-validation, pretraining"),
        ({"parallel": "xmap"}, "parallel is 'xmap'; known: jit, pmap"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path, change, fault):
    with pytest.raises(ConfigError, match=fault):
        train.run_training(tiny_config(**change), tmp_path, silent)


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="tpu"):
        pretrain.get_config("tpu")


def test_a_licence_is_handed_on_by_training_and_release(gone_on, tmp_path):
    trained, released = gone_on[1], tmp_path / "release"
    assert cascade_jax.load(trained).licence == LICENCE
    release(trained, released)
    assert cascade_jax.load(released).licence == LICENCE
    assert (released / "LICENCE").read_text().startswith(f"{LICENCE}\n")
    release(released, released, "CC BY 4.0:\nof somebody else")
    both = f"CC BY 4.0: of somebody else; trained from weights under {LICENCE}"
    assert cascade_jax.load(released).licence == both
    assert (released / "LICENCE").read_text().startswith(f"{both}\n")


def test_a_release_without_a_licence_takes_an_earlier_ones_file_away(pretrained, tmp_path):
    release(pretrained[0], tmp_path, LICENCE)
    assert (tmp_path / "LICENCE").exists()
    release(pretrained[0], tmp_path)
    assert cascade_jax.load(tmp_path).licence == "" and not (tmp_path / "LICENCE").exists()


def test_a_release_holds_the_cascade_as_plain_float16_arrays(pretrained, tmp_path):
    workdir, _ = pretrained
    path = release(workdir, tmp_path / "release")
    assert {path.name for path in (tmp_path / "release").glob("[!.]*")} == {"model.json", "weights.npz"}
    with np.load(path, allow_pickle=False) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float16)}
    original, released = cascade_jax.load(workdir), cascade_jax.load(tmp_path / "release")
    assert jax.tree.structure(original.params) == jax.tree.structure(released.params)
    for one, other in zip(leaves(original), leaves(released), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
    assert (released.plan, released.rules) == (original.plan, original.rules)


@pytest.mark.parametrize("content", [b"", b"no archive", "pickle"])
def test_a_damaged_file_of_weights_is_refused(pretrained, tmp_path, content):
    release(pretrained[0], tmp_path)
    path = tmp_path / weights.WEIGHTS_FILE
    if content == "pickle":
        np.savez(path, **{"stage1/kernel": np.array([{"code": 1}], dtype=object)})
    else:
        path.write_bytes(content)
    with pytest.raises(CaseError, match="is not a file of weights"):
        cascade_jax.load(tmp_path)


def test_a_truncated_file_of_weights_is_refused(pretrained, tmp_path):
    path = release(pretrained[0], tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CaseError, match="is not a file of weights"):
        cascade_jax.load(tmp_path)
    assert not zipfile.is_zipfile(path)
