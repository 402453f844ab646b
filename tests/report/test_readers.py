"""How readers agree, on hearts whose outlines are known."""

import numpy as np
import pytest

from cascade_jax.metrics import evaluate_case
from cascade_jax.quantify import quantify
from cascade_jax.report.readers import compare_readers, make_tables, reader_statistics, rows_of
from cascade_jax.report.text_tables import in_markdown
from tests.quantify.hearts import SPACING, ring

DEPTH_FIRST = SPACING[::-1]


def heart(**infarct):
    return np.ascontiguousarray(ring(**infarct).transpose(2, 1, 0))


def normal():
    return np.minimum(heart(), 2)


def compared(**outlines):
    return compare_readers(outlines, DEPTH_FIRST)


def test_a_pair_is_compared_as_prediction_and_truth_are():
    first, second = heart(stop=90), heart(stop=120)
    case = compared(Ann=first, Bob=second)
    expected = evaluate_case(first.T, second.T, SPACING)
    for target in ("myocardium", "infarction", "no_reflow"):
        assert case["pairs"]["Ann - Bob"][target]["dice"] == expected[target]["dice"]
    # From 90 to 120 degrees at the infarct's outer radius, 25 mm, which is a chord of 12.9 mm.
    assert case["pairs"]["Ann - Bob"]["infarction"]["hausdorff_mm"] == pytest.approx(50 * np.sin(np.pi / 12), abs=0.7)
    assert case["pairs"]["Ann - Bob"]["cavity"] == {"dice": 1, "hausdorff_mm": 0, "mean_distance_mm": 0, "drawn": 2}
    assert case["pairs"]["Ann - Bob"]["no_reflow"]["drawn"] == 0
    assert case["sizes"]["Bob"]["infarct_g"] == quantify(second.T, SPACING).case["infarct_g"]


def test_the_segments_of_all_readers_are_counted_from_the_same_place():
    """From the x axis, where basal segment 2 begins: 90 degrees are one segment and a half, 130 go into a third."""
    case = compared(Ann=heart(stop=90), Bob=heart(start=0, stop=130))
    basal = {reader: [number for number in range(1, 7) if found[number]] for reader, found in case["segments"].items()}
    assert basal == {"Ann": [2, 3], "Bob": [2, 3, 4]}
    assert case["segments_from"] == "x axis"


def test_bias_and_limits_are_the_first_readers_minus_the_seconds():
    cases = {
        f"case{stop}": compared(Ann=heart(stop=stop), Bob=heart(stop=stop + 30), Cid=heart(stop=stop))
        for stop in (30, 60, 90, 180)
    }
    found = reader_statistics(["Ann", "Bob", "Cid"], cases)
    assert list(found) == ["Ann - Bob", "Ann - Cid", "Bob - Cid", "all"]
    of = found["Ann - Bob"]["infarct_g"]
    # 30 degrees of a ring from 20 to 25 mm, 60 mm long, at 1.05 g/ml
    missing = np.pi * (25**2 - 20**2) / 12 * 60 / 1000 * 1.05
    assert of["bias"]["value"] == pytest.approx(-missing, rel=0.02)
    assert of["mean_second"]["value"] - of["mean_first"]["value"] == pytest.approx(missing, rel=0.02)
    assert of["lower_limit"]["value"] < of["bias"]["value"] < of["upper_limit"]["value"]
    assert of["reproducibility"]["value"] == pytest.approx(1.96 * missing, rel=0.02)
    assert found["Ann - Cid"]["infarct_g"]["icc"]["value"] == pytest.approx(1)
    assert found["Ann - Cid"]["infarct_g"]["icc"]["interval"] == pytest.approx((1, 1))
    assert of["icc"]["value"] < found["all"]["infarct_g"]["icc"]["value"] < 1
    assert "bias" not in found["all"]["infarct_g"]


def test_hearts_in_which_nobody_drew_an_infarct_do_not_raise_its_dice():
    cases = {
        "both": compared(Ann=heart(), Bob=heart(stop=120)),
        "one": compared(Ann=heart(), Bob=normal()),
        "none": compared(Ann=normal(), Bob=normal()),
    }
    of = reader_statistics(["Ann", "Bob"], cases)["Ann - Bob"]
    dice = cases["both"]["pairs"]["Ann - Bob"]["infarction"]["dice"]
    assert of["infarction"]["dice"]["n"] == 2
    assert of["infarction"]["dice"]["value"] == pytest.approx(dice / 2)
    assert of["infarction"]["hausdorff_mm"]["n"] == 1
    assert of["no_reflow"]["dice"]["n"] == 0
    assert np.isnan(of["no_reflow"]["dice"]["value"])
    # Two of three hearts alike; by chance 2/3 x 1/3 + 1/3 x 2/3.
    assert of["infarct_in_heart"]["same_answer"]["value"] == pytest.approx(2 / 3)
    assert of["infarct_in_heart"]["kappa"]["value"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))


def test_kappa_by_segment_counts_the_segments_that_all_readers_reach():
    segments = {"A": {1: True, 2: False, 3: True, 17: True}, "B": {1: True, 2: False, 3: False}}
    drawn = compared(A=heart(), B=heart()) | {"segments": segments}
    cases = {"one": drawn | {"segments_from": "given"}, "two": drawn | {"segments_from": "x axis"}}
    of = reader_statistics(["A", "B"], cases)["A - B"]
    # Of three segments each: A has yes, no, yes; B yes, no, no.
    assert of["infarct_in_segment"]["kappa"]["n"] == 6
    assert of["infarct_in_segment"]["same_answer"]["value"] == pytest.approx(2 / 3)
    assert of["infarct_in_segment"]["kappa"]["value"] == pytest.approx((2 / 3 - 4 / 9) / (5 / 9))
    alone = of["infarct_in_segment_3"]["same_answer"]
    assert (alone["n"], alone["value"]) == (1, 0), "of the heart whose segments lie where their names say"
    assert "infarct_in_segment_17" not in of


def test_tables_show_pairs_together_and_a_row_of_the_file_for_every_measure():
    cases = {f"case{stop}": compared(Ann=heart(stop=stop), Bob=heart(stop=stop + 20)) for stop in (40, 90)}
    found = reader_statistics(["Ann", "Bob"], cases)
    text = "\n".join(in_markdown(table) for table in make_tables(found))
    assert "nan" not in text
    assert "| infarction: Ann - Bob | 2 |" in text
    assert "Kappa of an infarct by AHA segment" not in text, "nobody knows where the segments lie"
    for case in cases.values():
        case["segments_from"] = "right ventricle"
    text = "\n".join(in_markdown(table) for table in make_tables(reader_statistics(["Ann", "Bob"], cases)))
    assert "| 1 basal anterior |" in text
    rows = list(rows_of(found))
    (row,) = [row for row in rows if row["of"] == "infarct_g" and row["measure"] == "bias"]
    assert (row["readers"], row["n"]) == ("Ann - Bob", 2)
    assert row["value"] == pytest.approx(row["from_95_percent"]) == pytest.approx(row["to_95_percent"])


def test_readers_who_share_no_heart_have_no_figures():
    found = reader_statistics(["Ann", "Bob"], {})
    assert all(np.isnan(row["value"]) for row in rows_of(found))
    assert "nan" not in "".join(in_markdown(table) for table in make_tables(found))
