"""Changes of a scan that say nothing about its heart: they move image and labels alike, and hardly move the result."""

import os
from pathlib import Path

import numpy as np
import pytest

import cascade_jax
from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case
from cascade_jax.training.robustness import CHANGES, change_case, compare, differences, table_of

COHORT = Path(__file__).parents[3] / "shared" / "data" / "emidec"


@pytest.fixture
def case():
    """A heart whose labels can be read off its image."""
    labels = np.zeros((6, 60, 80), np.uint8)
    labels[1:5, 20:40, 30:52] = 2
    labels[1:5, 25:35, 36:46] = 1
    labels[1:5, 21:25, 36:46] = 3
    return Case("case", labels.astype(np.float32) * 10, labels, (10.0, 1.5, 1.25))


@pytest.mark.parametrize("name", CHANGES)
def test_image_and_labels_are_changed_alike(case, name):
    changed = change_case(CHANGES[name], case)
    assert changed.image.shape == changed.labels.shape
    levels = [changed.image[changed.labels == label] for label in (0, 1, 2, 3)]
    assert [np.median(level) for level in levels] == sorted({float(np.median(level)) for level in levels}), (
        "every label has a level of its own, in the order that they had"
    )
    if "slice" not in name:
        volumes = [np.prod(one.spacing) * (one.labels > 0).sum() for one in (case, changed)]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.1)


def test_the_slice_left_out_is_within_the_heart(case):
    changed = change_case(CHANGES["one slice less"], case)
    assert len(changed.labels) == 5 and (changed.labels > 0).any((1, 2)).sum() == 3


def test_what_a_change_does_to_the_mean_is_told(case):
    ones = {"8 bits": {target: np.array([0.8, 0.7]) for target in ("myocardium", "infarction", "no_reflow")}}
    twos = {"8 bits": {target: np.array([0.6, 0.9]) for target in ("myocardium", "infarction", "no_reflow")}}
    assert differences([ones, twos])["8 bits"]["infarction"] == pytest.approx(0.1)
    [row] = table_of([ones, twos], cascade_jax.data.labels.EMIDEC).rows
    assert row == ["8 bits", *["70.0 to 80.0 (+10.0)"] * 3]


@pytest.mark.skipif(not COHORT.exists(), reason="the real cases are not beside the project")
def test_results_of_real_scans_hardly_depend_on_how_they_were_stored():
    cascade = cascade_jax.load("pretrained")
    files = {file.name: file for file in folders.find_cases(COHORT, labelled=True)}
    names = ("3 x image + 100", "8 bits", "mirrored", "upside down", "pixels of 1.5 mm")
    cases = ("Case_P008", "Case_P044", *(("Case_N012",) if os.environ.get("CASCADE_JAX_LONG") else ()))
    compared = [compare(cascade, emidec.read_case(files[name]), names) for name in cases]
    for name, of_targets in differences(compared).items():
        for target, difference in of_targets.items():
            assert abs(difference) < 0.02, (name, target)
