"""Images that are no late enhancement are what they are called, and the weights in the box are in doubt of them."""

import os
from pathlib import Path

import numpy as np
import pytest

import cascade_jax
from cascade_jax.data import emidec, folders
from cascade_jax.phantoms.simulated import simulate_case
from cascade_jax.training.other_images import KINDS, doubts, other_image, table_of

COHORT = Path(__file__).parents[3] / "shared" / "data" / "emidec"


@pytest.fixture(scope="module")
def case():
    return simulate_case(0, 1, field_of_view_mm=150)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_has_the_cases_grid_and_its_seed_makes_it(case, kind):
    image = other_image(kind, case, 3)
    assert image.image.shape == case.image.shape and image.spacing == case.spacing and image.labels is None
    assert np.isfinite(image.image).all() and image.image.std() > 0
    np.testing.assert_array_equal(image.image, other_image(kind, case, 3).image)


def test_on_cine_levels_muscle_is_dark_and_an_infarct_is_not_to_be_told_from_it(case):
    image = other_image("cine levels", case, 0).image
    blood, muscle, infarct = (np.median(image[case.labels == label]) for label in (1, 2, 3))
    assert muscle < 0.75 * blood
    assert abs(infarct - muscle) < 0.1 * (blood - muscle)


def test_the_table_counts():
    rows = table_of({"noise": [True, False, True]}).rows
    assert rows == [["noise", "2 of 3"]]


@pytest.mark.skipif(not COHORT.exists(), reason="the real cases are not beside the project")
def test_the_weights_in_the_box_are_in_doubt_of_other_images_of_real_size():
    cascade = cascade_jax.load("pretrained")
    files = {file.name: file for file in folders.find_cases(COHORT, labelled=True)}
    names = ("Case_N032", "Case_P044") if os.environ.get("CASCADE_JAX_LONG") else ("Case_P044",)
    told = doubts(cascade, [emidec.read_case(files[name]) for name in names])
    assert not any(told.pop("scans as they are"))
    assert all(all(doubtful) for doubtful in told.values()), told
