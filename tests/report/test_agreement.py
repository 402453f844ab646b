"""What is said of predicted infarcts against the reader's, on hearts small enough to count."""

import math

import numpy as np
import pytest

from cascade_jax.metrics import evaluate_labels
from cascade_jax.report.agreement import infarct_sizes, infarct_statistics, make_tables
from cascade_jax.report.text_tables import aligned, in_markdown

SPACING = (10.0, 2.0, 1.0)  # slice, y, x: a voxel is 20 mm3 and weighs 0.021 g
GRAM = 0.021


def heart(infarct=0, no_reflow=0):
    """100 voxels of myocardium, some of them infarcted, some of these without reflow."""
    labels = np.zeros((2, 5, 12), np.uint8)
    labels.reshape(-1)[:100] = 2
    labels.reshape(-1)[:infarct] = 3
    labels.reshape(-1)[:no_reflow] = 4
    return labels


def statistics_of(pairs, spacing=SPACING):
    """Of {case: (prediction, truth)}."""
    cases = {name: evaluate_labels(*pair, spacing) for name, pair in pairs.items()}
    return infarct_statistics(cases, {name: infarct_sizes(*pair, spacing) for name, pair in pairs.items()})


# Two infarcts, one without reflow in part; three normal hearts, one of which is given an infarct.
COHORT = {
    "P1": (heart(30, 10), heart(10)),
    "P2": (heart(20), heart(40, 5)),
    "N1": (heart(), heart()),
    "N2": (heart(), heart()),
    "N3": (heart(8), heart()),
}


def test_sizes_are_the_volumes_of_infarction_and_no_reflow_together():
    sizes = infarct_sizes(heart(20), heart(40, 5), SPACING)
    assert sizes["truth"]["infarction"] == pytest.approx({"present": True, "g": 40 * GRAM, "percent": 40})
    assert sizes["truth"]["no_reflow"] == pytest.approx({"present": True, "g": 5 * GRAM, "percent": 5})
    assert sizes["prediction"]["no_reflow"] == {"present": False, "g": 0, "percent": 0}


def test_of_a_slice_of_unknown_thickness_the_mass_alone_is_unknown():
    sizes = infarct_sizes(heart(20), heart(), (math.nan, 2.0, 1.0))
    assert sizes["prediction"]["infarction"]["present"] is True
    assert sizes["truth"]["infarction"]["present"] is False
    assert sizes["prediction"]["infarction"]["percent"] == pytest.approx(20)
    assert math.isnan(sizes["prediction"]["infarction"]["g"])
    found = statistics_of(COHORT, (math.nan, 2.0, 1.0))
    assert found["agreement"]["all"]["g"]["n"] == 0
    assert found["agreement"]["all"]["percent"]["n"] == 5
    assert found["detection"]["infarction"]["sensitivity"] == 1
    assert math.isnan(found["detection"]["infarction"]["area_under_curve"])


def test_infarcted_hearts_are_those_of_the_reader_and_normal_ones_do_not_lift_their_dice():
    infarcted = statistics_of(COHORT)["infarcted"]
    assert infarcted["infarction"]["n"] == infarcted["no_reflow"]["n"] == 2
    first, second = 2 * 10 / 40, 2 * 20 / 60
    assert infarcted["infarction"]["dice"] == pytest.approx((first + second) / 2)
    assert infarcted["infarction"]["interval"] == pytest.approx((first, second))
    assert infarcted["no_reflow"]["dice"] == 0
    assert infarcted["no_reflow_where_present"]["n"] == 1
    assert np.isnan(infarcted["no_reflow_where_present"]["interval"]).all()
    normal = infarcted["normal"]
    assert (normal["n"], normal["left_alone"], normal["share"]) == (3, 2, pytest.approx(2 / 3))


def test_bias_is_the_prediction_minus_the_reader_over_all_and_over_infarcted_hearts():
    agreement = statistics_of(COHORT)["agreement"]
    assert agreement["all"]["g"]["n"] == 5
    assert agreement["all"]["g"]["mean_prediction"] == pytest.approx(58 / 5 * GRAM)
    assert agreement["all"]["g"]["mean_truth"] == pytest.approx(50 / 5 * GRAM)
    assert agreement["all"]["g"]["bias"] == pytest.approx(8 / 5 * GRAM)
    spread = 1.96 * np.std([20, -20, 0, 0, 8], ddof=1)
    assert agreement["all"]["percent"]["limits"] == pytest.approx([1.6 - spread, 1.6 + spread], rel=1e-4)
    assert agreement["infarcted"]["percent"]["n"] == 2
    assert agreement["infarcted"]["percent"]["bias"] == pytest.approx(0)
    assert agreement["all"]["g"]["icc"] == pytest.approx(agreement["all"]["percent"]["icc"])


def test_detection_counts_a_single_voxel_and_ranks_by_predicted_mass():
    found = statistics_of(COHORT | {"P3": (heart(), heart(1))})["detection"]["infarction"]
    assert (found["n"], found["present"], found["found"], found["absent"], found["left_alone"]) == (6, 3, 2, 3, 2)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(2 / 3)
    # The two found ones are above all three normal hearts; the missed one ties with two and is below the third.
    assert found["area_under_curve"] == pytest.approx((3 + 3 + 1) / 9)
    no_reflow = statistics_of(COHORT)["detection"]["no_reflow"]
    assert (no_reflow["present"], no_reflow["found"], no_reflow["left_alone"]) == (1, 0, 3)


def test_a_cohort_of_normal_hearts_has_dashes_where_nothing_is_defined():
    found = statistics_of({"N1": (heart(), heart()), "N2": (heart(), heart())})
    hearts, agreement, detection = (in_markdown(table).splitlines() for table in make_tables({"": found}))
    assert "| infarction Dice %, infarcted hearts | 0 | - | - |" in hearts
    assert "| normal hearts left alone % | 2 | 100.00 (2 of 2) | 34.24 to 100.00 |" in hearts
    assert "| infarct mass g, all hearts | 2 | 0.00 | 0.00 | 0.00 | 0.00 to 0.00 | - |" in agreement
    assert "| infarct mass g, infarcted hearts | 0 | - | - | - | - | - |" in agreement
    assert "| infarct | 2 | 0 | - | 100.00 (34.24 to 100.00) | - |" in detection


def test_rows_name_their_result_and_a_terminal_has_them_in_columns():
    found = statistics_of(COHORT)
    tables = make_tables({"stage one": found, "final result": found})
    assert [row[0] for row in tables[2].rows] == [
        "stage one: infarct",
        "stage one: no-reflow",
        "final result: infarct",
        "final result: no-reflow",
    ]
    for table in tables:
        assert in_markdown(table).splitlines()[2].startswith("| | cases |")
        title, *lines = aligned(table).splitlines()
        lines, note = lines[: len(table.rows) + 1], lines[len(table.rows) + 1 :]
        assert (title, " ".join(note)) == (table.title, table.note)
        assert len({len(line) for line in lines}) == 1
