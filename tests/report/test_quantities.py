"""The page's quantities, measured in one frame."""

import numpy as np
import pytest

from cascade_jax.data import emidec
from cascade_jax.data.case import CAVITY
from cascade_jax.phantoms import simulated
from cascade_jax.quantify import aha
from cascade_jax.quantify.orientations import Orientation
from cascade_jax.report.quantities import bullseye_marks, measure


def test_prediction_and_truth_are_measured_in_one_frame(tmp_path):
    case = simulated.simulate_case(2, 0)
    truth = case.labels
    # With the upper half of its basal slices missing, the prediction's larger end is the other one.
    prediction = truth.copy()
    prediction[len(truth) // 2 :, : int(np.nonzero(truth[-1])[0].mean())] = 0
    prediction[len(truth) // 2 :][truth[len(truth) // 2 :] == CAVITY] = 0
    assert aha.base_comes_first(emidec.to_file_axes(prediction)) != aha.base_comes_first(emidec.to_file_axes(truth))
    layers = {"prediction": prediction, "truth": truth}
    measured = measure(layers, case.spacing, case.image, Orientation(), None)
    assert list(measured.layers) == ["prediction", "truth"]
    rings = {layer: {row["slice"]: row["ring"] for row in values.slices} for layer, values in measured.layers.items()}
    assert rings["truth"][len(truth)] == rings["prediction"][len(truth)] == "base"
    angles = [values.case["insertion_degrees"] for values in measured.layers.values()]
    assert angles[0] == angles[1]
    assert "found in the image with the truth's outline, for the prediction as for the truth" in measured.frame
    assert "The last slice is the base (the truth's larger end)" in measured.frame
    alone = measure({"prediction": truth}, case.spacing, None, Orientation(), None)
    assert "could be looked for without an image: segments are counted from the stack's x axis." in alone.frame
    given = measure(layers, case.spacing, case.image, Orientation(40.0, True), None)
    assert {values.case["insertion_degrees"] for values in given.layers.values()} == {40.0}
    assert "counted from the given insertion of the right ventricle, 40 degrees" in given.frame
    assert "The first slice is the base (as given)" in given.frame


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_marks_on_the_bullseye_go_the_segments_way(mirrored):
    case = simulated.simulate_case(2, 0, field_of_view_mm=115)
    measured = measure({"prediction": case.labels}, case.spacing, case.image, Orientation(), None)
    length = (measured.insertions["I"] - measured.insertions["A"]) % 360
    image, labels = (array[:, ::-1] if mirrored else array for array in (case.image, case.labels))
    told = measure({"prediction": labels}, case.spacing, image, Orientation(mirrored=mirrored), None)
    marks = bullseye_marks(told)
    assert marks["A"] == 120
    assert marks["I"] - 120 == pytest.approx(length)
    assert 60 < length < 170
