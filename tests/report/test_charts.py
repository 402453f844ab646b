"""The page's charts."""

import re

from cascade_jax.report.charts import COLOURS, Point, bland_altman, box_plots, learning_curves

CASES = [Point("A & B", "#case-0"), Point("C", "#case-1"), Point("D", "#case-2")]


def test_one_case_has_a_bias_and_no_limits_of_agreement():
    svg = bland_altman({"infarct, ml": ([3.0], [2.0])}, {"infarct, ml": CASES[:1]})
    assert "bias 1" in svg
    assert "SD" not in svg


def test_a_point_names_its_case_and_leads_to_it():
    svg = bland_altman({"infarct, ml": ([3.0, 5.0, 8.0], [2.0, 4.0, 7.5])}, {"infarct, ml": CASES})
    assert "bias 0.83" in svg
    links = re.findall(r'<a href="([^"]+)"><title>([^<]+)</title><use ', svg)
    assert links == [
        ("#case-0", "A &amp; B: 3 predicted, 2 true"),
        ("#case-1", "C: 5 predicted, 4 true"),
        ("#case-2", "D: 8 predicted, 7.5 true"),
    ]


def test_a_case_without_a_value_has_no_point_and_the_others_keep_their_names():
    svg = box_plots({"myocardium HSD mm": {"prediction": [4.0, float("nan"), 6.0]}}, CASES)
    links = re.findall(r'<a href="([^"]+)"><title>([^<]+)</title><use ', svg)
    assert links == [
        ("#case-0", "A &amp; B, prediction: myocardium HSD mm 4"),
        ("#case-2", "D, prediction: myocardium HSD mm 6"),
    ]
    assert box_plots({"myocardium HSD mm": {"prediction": [float("nan")] * 3}}, CASES).count("<a ") == 0


def test_lines_and_letters_take_the_colour_of_the_page():
    svg = box_plots({"Dice": {"prediction": [4.0, 5.0, 6.0]}}, CASES)
    assert "currentColor" in svg
    assert set(re.findall("#[0-9a-f]{6}", svg)) == {COLOURS[0].lower()}, "no black, and no white behind"


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
