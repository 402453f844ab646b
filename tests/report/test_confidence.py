"""The table of what a cascade says of each result."""

import csv

import numpy as np
import pytest

from cascade_jax.confidence import Confidence, most_doubtful_first, uncalibrated
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC, make_label_table
from cascade_jax.report.confidence import CONFIDENCE_TABLE, columns, read_confidence, write_confidence
from tests.report.phantom_report import DOUBTFUL, SURE


def test_what_is_written_is_read_and_the_most_doubtful_case_comes_first(tmp_path):
    unlike = Confidence(dict.fromkeys(EMIDEC.targets, 0.97), SURE.volume_ml, doubtful="it looks unlike, in commas")
    cases = {"sure": SURE, "unlike": unlike, "doubtful": DOUBTFUL}
    write_confidence(tmp_path, cases, EMIDEC)
    with (tmp_path / CONFIDENCE_TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == columns(EMIDEC)
    assert [row["case"] for row in rows] == ["doubtful", "unlike", "sure"]
    assert (rows[0]["infarction_low_ml"], rows[0]["infarction_high_ml"]) == ("0.00", "31.50")
    assert rows[2]["no_reflow_expected_dice"] == rows[2]["infarction_probability"] == rows[2]["distance"] == ""
    read = read_confidence(tmp_path, EMIDEC)
    assert list(read) == ["doubtful", "unlike", "sure"]
    assert read["doubtful"] == DOUBTFUL
    assert read["unlike"].doubtful == unlike.doubtful
    assert read["sure"].interval_ml == read["sure"].probability == {}
    assert np.isnan(read["sure"].expected_dice["no_reflow"])


def test_without_a_calibration_the_main_targets_dice_ranks_and_doubt_starts_at_0_8():
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[:, 2:6, 2:6] = 2
    said = {}
    for sure in (0.6, 0.75, 0.95):
        probabilities = np.full((*labels.shape, 5), (1 - sure) / 4)
        np.put_along_axis(probabilities, labels[..., None].astype(np.int64), sure, axis=-1)
        said[str(sure)] = uncalibrated(probabilities, labels, (10.0, 1.0, 1.0))
    assert [said[name].doubtful is None for name in ("0.6", "0.75", "0.95")] == [False, False, True]
    assert list(most_doubtful_first(dict(reversed(said.items())))) == ["0.6", "0.75", "0.95"]
    assert said["0.95"].volume_ml["myocardium"] == pytest.approx(0.32)
    nothing = uncalibrated(np.eye(5)[np.zeros_like(labels)], np.zeros_like(labels), (10.0, 1.0, 1.0))
    assert nothing.doubtful == "no myocardium was found"


@pytest.mark.parametrize("text", ["", "case,myocardium\na,0.9\n", "case\n\x00\n", None])
def test_another_file_of_that_name_is_refused(tmp_path, text):
    if text is None:
        table = make_label_table(("background", "liver"), [("liver", ("liver",))])
        write_confidence(tmp_path, {"a": Confidence({"liver": 0.9}, {"liver": 1.0})}, table)
    else:
        (tmp_path / CONFIDENCE_TABLE).write_text(text)
    if text == "":
        assert read_confidence(tmp_path, EMIDEC) == {}
        return
    with pytest.raises(CaseError, match=r"confidence\.csv: is no table of a cascade's confidence in these labels"):
        read_confidence(tmp_path, EMIDEC)
