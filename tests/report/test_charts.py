"""The page's charts."""

import re

from cascade_jax.report.charts import COLOURS, bland_altman, bullseyes, learning_curves


def test_one_case_has_a_bias_and_no_limits_of_agreement():
    svg = bland_altman({"infarct, ml": ([3.0], [2.0])})
    assert "bias 1" in svg
    assert "SD" not in svg


def test_charts_say_the_bias_and_every_segment():
    svg = bland_altman({"infarct, ml": ([3.0, 5.0, 8.0], [2.0, 4.0, 7.0])})
    assert "bias 1" in svg
    svg = bullseyes({"prediction": {1: 37.0, 17: 92.0}, "truth": {1: 0.0}}, "bullseyes of a case")
    assert ">37<" in svg
    assert ">92<" in svg
    assert svg.count(">-<") == 15 + 16


def test_learning_curves_have_a_colour_for_each_fold_and_a_line_for_each_stage():
    points = [(1, 0.1), (2, 0.2)]
    curves = {(stage, fold): {"loss": points, "validation_dice": points} for stage in (1, 2) for fold in range(3)}
    svg = learning_curves(curves)
    drawn = re.findall(r"stroke: (#[0-9a-f]{6})[^\"]*", svg)
    for colour in COLOURS[:3]:
        assert drawn.count(colour.lower()) >= 5, "loss and Dice of two stages, and the legend"
    for colour in COLOURS[3:]:
        assert colour.lower() not in drawn
    for label in ("stage 1", "stage 2", "fold 0", "fold 1", "fold 2"):
        assert svg.count(f">{label}<") == 1
    assert learning_curves(dict(list(curves.items())[:3])).count("stroke-dasharray") < svg.count("stroke-dasharray")
