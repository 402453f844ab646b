"""The paper's tables as Markdown and JSON."""

import json
import math

import numpy as np
import pytest

from cascade_jax import metrics
from cascade_jax.report import tables
from cascade_jax.report.agreement import infarct_sizes


def case(dice_share, empty=False):
    truth = np.full((10, 1, 1), 2, np.uint8)
    prediction = np.zeros_like(truth)
    prediction[: 0 if empty else int(10 * dice_share)] = 2
    return metrics.evaluate_case(prediction, truth, (1, 1, 10))


def markdown(table, columns):
    return tables.markdown(table, columns, tables.intervals(list(columns.values())))


FOLDS = {"fold 0": {"a": case(1.0), "b": case(0.5)}, "fold 1": {"c": case(0.2), "d": case(0, empty=True)}}


def test_a_column_is_the_mean_of_its_cases_and_the_mean_that_of_the_folds():
    table = markdown("table2", FOLDS)
    row = next(line for line in table.splitlines() if line.startswith("| myocardium Dice"))
    first, second = (1 + 2 / 3) / 2, (2 * 0.2 / 1.2) / 2
    cells = f"{100 * first:.2f} | {100 * second:.2f} | {100 * (first + second) / 2:.2f}"
    assert row.startswith(f"| myocardium Dice % | {cells} | ")


def test_the_mean_has_an_interval_and_none_where_a_fold_has_a_single_value():
    table = markdown("table2", FOLDS).splitlines()
    assert "| | fold 0 | fold 1 | mean | 95 % interval |" in table
    dice, distance = (next(row for row in table if name in row) for name in ("myocardium Dice", "myocardium HSD mm |"))
    # A fold of two cases is one or the other, or their mean; the ends are both folds' lower and higher case.
    lowest, highest = (2 / 3 + 0) / 2, (1 + 2 * 0.2 / 1.2) / 2
    assert dice.endswith(f" | {100 * lowest:.2f} to {100 * highest:.2f} |")
    assert distance.endswith(" | - |")


def test_cases_that_a_mean_leaves_out_are_named():
    table = markdown("table2", FOLDS)
    assert "myocardium HSD mm, fold 1: mean over 1 of 2 cases, undefined for d." in table
    assert "undefined" not in markdown("table2", {"fold 0": FOLDS["fold 0"]})


def test_table_1_has_dice_only_and_only_the_folds_given():
    table = markdown("table1", {"fold 0": FOLDS["fold 0"]})
    assert "VolDif" not in table
    assert "| | fold 0 | mean | 95 % interval |" in table


def test_table_3s_interval_is_of_the_ensemble_and_stands_beside_it(tmp_path):
    ensemble, alone = {"a": case(1.0), "b": case(0.5)}, {"a": case(0.2), "b": case(0.4)}
    columns = {"ensemble": ensemble, "stage 1, fold 0": alone, "final, fold 0": alone}
    table = tables.write(tmp_path, {"table3": columns})
    assert "| | ensemble | 95 % interval | stage 1, mean of folds | final, mean of folds |" in table
    assert "| myocardium Dice % | 83.33 | 66.67 to 100.00 | 45.24 | 45.24 |" in table


def test_table_3_sets_the_vote_beside_the_means_of_single_folds():
    columns = {
        "ensemble": {"a": case(1.0)},
        "stage 1, fold 0": {"a": case(0.2)},
        "stage 1, fold 1": {"a": case(0.4)},
        "final, fold 0": {"a": case(0.6)},
        "final, fold 1": {"a": case(0.8)},
    }
    means = tables.summary_columns("table3", columns)
    assert list(means) == ["ensemble", "stage 1, mean of folds", "final, mean of folds"]
    single = [2 * share / (1 + share) for share in (0.2, 0.4, 0.6, 0.8)]
    assert means["stage 1, mean of folds"]["myocardium"]["dice"] == pytest.approx(np.mean(single[:2]))
    assert means["final, mean of folds"]["myocardium"]["dice"] == pytest.approx(np.mean(single[2:]))


def test_files_hold_what_was_computed_and_no_nan(tmp_path):
    text = tables.write(tmp_path, {"table1": FOLDS, "table2": FOLDS})
    assert (tmp_path / "tables.md").read_text() == text
    stored = json.loads((tmp_path / "tables.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert stored["table2"]["cases"]["fold 1"]["d"]["myocardium"]["hausdorff_mm"] is None
    assert math.isclose(stored["table1"]["mean"]["fold 0"]["myocardium"]["dice"], (1 + 2 / 3) / 2)
    assert stored["table1"]["interval"]["myocardium"]["dice"] == pytest.approx([1 / 3, 2 / 3])
    assert stored["table1"]["interval"]["myocardium"]["hausdorff_mm"] == [None, None]
    assert set(stored["table1"]) == {"mean", "interval", "cases"}
    assert "nfarct" not in text.replace("infarction", "")


def test_of_infarcts_there_is_more_to_say_below_the_tables(tmp_path):
    infarcted, normal = np.full((2, 5, 5), 2, np.uint8), np.full((2, 5, 5), 2, np.uint8)
    infarcted[0] = 3
    sizes = {name: infarct_sizes(infarcted, normal, (10, 1, 1)) for name in "abcd"}
    text = tables.write(tmp_path, {"table1": FOLDS, "table2": FOLDS}, {"table1": sizes, "table2": sizes})
    titles = [line for line in text.splitlines() if line.startswith("**")]
    assert titles[2:] == [
        "**Infarcted hearts alone**",
        "**Infarct size against the reader**",
        "**Detection of infarct and no-reflow**",
    ]
    for result in ("stage one", "final result"):
        assert f"| {result}: normal hearts left alone % | 4 | 0.00 (0 of 4) |" in text
    stored = json.loads((tmp_path / "tables.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert stored["table2"]["agreement"]["all"]["percent"]["bias"] == 50
    assert stored["table2"]["agreement"]["infarcted"]["g"] == {
        "n": 0,
        "mean_prediction": None,
        "mean_truth": None,
        "bias": None,
        "limits": [None, None],
        "icc": None,
    }
    assert stored["table2"]["detection"]["infarction"]["specificity"] == 0
    assert stored["table2"]["sizes"]["a"]["prediction"]["infarction"]["percent"] == 50
