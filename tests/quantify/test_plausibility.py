"""Which labels can be a heart by the challenge's table."""

from pathlib import Path

import numpy as np
import pytest

from cascade_jax.data import emidec, folders
from cascade_jax.quantify.plausibility import implausibility
from tests.quantify.hearts import grid, ring

REAL = Path(__file__).parents[3] / "shared" / "data" / "emidec"


@pytest.mark.parametrize("gap", [0, 90, 180, 270])
@pytest.mark.parametrize("infarct", [0.0, 10.0])
def test_a_wall_open_on_one_side_is_a_heart(gap, infarct):
    labels = ring(infarct, gap, 360)
    labels[(grid()[1] < gap) & (labels >= 2)] = 0
    for stack in (labels, labels[25:125, 30:130], labels[:, :, :1]):
        assert implausibility(emidec.from_file_axes(stack)) is None
    myocardium = np.where(labels == 1, 3, labels)  # beyond the cavity
    assert implausibility(emidec.from_file_axes(myocardium)) is None
    assert implausibility(emidec.from_file_axes(0 * labels)) is None


@pytest.mark.parametrize(
    ("others", "fault"),
    [
        ([0, 1, 0, 0, 0], "holds a cavity (1) and no myocardium"),
        ([0, 2, 1, 1, 1], "the cavity (1) surrounds the myocardium (2 to 4)"),
        ([0, 3, 2, 1, 1], "lies away from the cavity"),
    ],
)
def test_labels_by_another_table_are_no_heart(others, fault):
    _, angle = grid()
    labels = ring(10.0, 0, 120)
    if others == [0, 3, 2, 1, 1]:  # blood as infarct within a wall, and a cavity outside it
        labels = np.where((labels == 0) & (angle < 20), 3, np.minimum(labels, 2))
    assert fault in implausibility(emidec.from_file_axes(np.choose(labels, others)))


@pytest.mark.skipif(not REAL.exists(), reason="the real cases are not beside the project")
def test_every_real_heart_and_every_slice_of_it_is_a_heart():
    for path in folders.find_contours(REAL).values():
        labels, _ = emidec.read_labels(path)
        assert implausibility(labels) is None
        for index in range(len(labels)):
            assert implausibility(labels[index : index + 1]) is None
        other = np.choose(labels, [0, 2, 1, 1, 1])
        assert "surrounds" in implausibility(other)
