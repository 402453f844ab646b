"""A calibration beside the weights: taken where it holds, packed with them, refused where it is damaged."""

import shutil

import pytest

import cascade_jax
from cascade_jax.bundle import folder_of
from cascade_jax.calibration import CONFIDENCE_FILE, write_calibration
from cascade_jax.commands.release import release
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC
from cascade_jax.training.calibrating import learn
from tests.accounts import folds, simulated_cases


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The cascade in the box, calibrated on simulated accounts."""
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(folder_of("pretrained"), folder)
    write_calibration(folder / CONFIDENCE_FILE, learn(simulated_cases(30), folds(30), EMIDEC))
    return folder


def test_a_calibration_holds_for_the_mirroring_that_it_was_learnt_with(folder):
    as_trained = cascade_jax.load(folder)
    assert as_trained.calibration.cases == 30
    assert cascade_jax.load(folder, mirror=as_trained.mirror).calibration == as_trained.calibration
    assert cascade_jax.load(folder, mirror=not as_trained.mirror).calibration is None


def test_release_packs_it_and_leaves_none_of_other_weights(folder, tmp_path):
    plain, output = tmp_path / "plain", tmp_path / "out"
    shutil.copytree(folder, plain)
    (plain / CONFIDENCE_FILE).unlink()
    release(folder, output)
    assert cascade_jax.load(output).calibration == cascade_jax.load(folder).calibration
    release(plain, output)
    assert not (output / CONFIDENCE_FILE).exists()


def test_a_damaged_one_is_named_before_anything_is_segmented(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / CONFIDENCE_FILE).write_text("{}")
    with pytest.raises(CaseError, match=r"confidence\.json: is damaged"):
        cascade_jax.load(tmp_path / "model")
