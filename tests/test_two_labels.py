"""Tasks with other labels than the challenge's: the same cascade, from raw data to the report."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest

import cascade_jax
from cascade_jax import metrics, postprocess
from cascade_jax.bundle import load_labels
from cascade_jax.case_warnings import in_one_line
from cascade_jax.commands import train
from cascade_jax.commands.evaluate import as_text, evaluate_folders
from cascade_jax.commands.predict import predict_cases
from cascade_jax.confidence import expected_dice
from cascade_jax.data import emidec, folders, nnunet
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC, make_label_table
from cascade_jax.errors import ConfigError
from cascade_jax.phantoms import simulated
from cascade_jax.report.cases import Sources
from cascade_jax.report.confidence import columns
from cascade_jax.report.figures import write_colour_tables
from cascade_jax.report.page import write_report
from launch.configs import two_labels

NAMES = ("background", "cavity", "myocardium")
MERGED = {"infarction": "myocardium", "no_reflow": "myocardium"}


def silent(iterable, _):
    return iterable


def test_every_target_of_another_table_has_dice_volume_and_distance():
    table = make_label_table(("background", "left", "right"), [("both", ("left", "right")), ("right", ("right",))])
    truth = np.zeros((8, 8, 2), np.uint8)
    truth[2:6, 2:4], truth[2:6, 4:6] = 1, 2
    shifted = np.roll(truth, 1, axis=0)
    result = metrics.evaluate_case(shifted, truth, (2.0, 2.0, 5.0), table)
    assert set(result) == {"both", "right"}
    for values in result.values():
        assert values == {"dice": 0.75, "volume_difference_mm3": 0.0, "hausdorff_mm": 2.0}
    with pytest.raises(ValueError, match="0 to 2"):
        metrics.evaluate_case(truth + 1, truth, (2.0, 2.0, 5.0), table)


def test_confidence_is_about_the_tables_targets():
    table = make_label_table(("background", "a", "b"), [("a", ("a",)), ("b", ("b",))])
    expected = expected_dice(np.full((2, 2, 3), 1 / 3), np.zeros((2, 2), np.uint8), table)
    assert expected["a"] == 0.0
    assert math.isnan(expected["b"])


def test_one_component_is_no_foregone_conclusion_for_other_labels():
    table = make_label_table(("background", "kidney"), [("kidneys", ("kidney",))])
    kidneys = np.zeros((3, 20, 20), np.uint8)
    kidneys[:, 2:6, 2:6] = kidneys[:, 12:15, 12:15] = 1
    assert postprocess.choose_rules([(kidneys, kidneys, (5.0, 1.0, 1.0))], table=table) == ()
    stray = kidneys.copy()
    stray[:, 12:15, 12:15] = 0
    assert postprocess.choose_rules([(kidneys, stray, (5.0, 1.0, 1.0))], table=table) == (
        postprocess.Rule("largest_heart"),
    )


def test_colour_tables_name_the_labels(tmp_path):
    write_colour_tables(tmp_path, make_label_table(("outside", "left ventricle"), [("heart", ("left ventricle",))]))
    assert (tmp_path / "labels.ctbl").read_text().splitlines()[1] == "0 outside 0 0 0 0"
    assert len((tmp_path / "labels.ctbl").read_text().splitlines()[2].split()) == 6
    write_colour_tables(tmp_path, make_label_table(NAMES, [("heart", NAMES[1:])]))
    slicer, bids = ((tmp_path / name).read_text().splitlines()[1:] for name in ("labels.ctbl", "dseg.tsv"))
    assert [line.split()[1] for line in slicer] == list(NAMES)
    assert len({line.split("\t")[2] for line in bids}) == 3


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Phantoms with two labels, by way of nnU-Net's raw format."""
    root = tmp_path_factory.mktemp("two_labels")
    simulated.write_cohort(root / "five", 4, 0, field_of_view_mm=90)
    nnunet.export_dataset(root / "five", root / "raw", silent)
    assert nnunet.import_dataset(root / "raw", root / "two", MERGED, silent, NAMES) == 4
    return root / "two"


def test_a_cohort_with_other_labels_comes_from_nnunet_and_goes_back(cohort, tmp_path):
    original = folders.find_contours(cohort.parent / "five")
    for name, path in folders.find_contours(cohort).items():
        np.testing.assert_array_equal(emidec.read_labels(path)[0], np.minimum(emidec.read_labels(original[name])[0], 2))
    nnunet.export_dataset(cohort, tmp_path / "raw", silent, NAMES)
    assert json.loads((tmp_path / "raw" / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "cavity": 1,
        "myocardium": 2,
    }
    with pytest.raises(CaseError, match="whole numbers from 0 to 2"):
        nnunet.export_dataset(cohort.parent / "five", tmp_path / "other", silent, NAMES)


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "run"
    config = two_labels.get_config()
    config.update_from_flattened_dict(
        {
            "data.root": str(cohort),
            "data.held_out": str(cohort),
            "num_folds": 2,
            "folds": (0, 1),
            "figures": 1,
            "plan.spacing": (10.0, 3.0, 3.0),
            "plan.slices.features": (8, 16),
            "plan.volumes.features": (8, 16),
            "plan.slices.batch_size": 4,
        }
    )
    for stage in (config.stage1, config.stage2):
        stage.steps, stage.validate_every, stage.checkpoint_every = 30, 30, 30
    return workdir, train.run_training(config, workdir, silent)


def test_the_cascade_trains_on_them_and_the_tables_have_their_targets(trained):
    workdir, text = trained
    for row in ("heart Dice %", "cavity HSD mm", "myocardium VolDif mm3"):
        assert f"| {row} |" in text
    assert "infarction" not in text
    assert load_labels(workdir).names == NAMES
    dice = json.loads((workdir / "tables.json").read_text())["table2"]["mean"]["mean"]
    assert dice["heart"]["dice"] > 0.3, "30 steps find the heart, if only roughly"


def test_the_report_leaves_out_what_only_infarcts_have(trained):
    for name in ("report.html", "report_held_out.html"):
        text = (trained[0] / name).read_text()
        assert "myocardium" in text
        for word in ("infarct", "Bland-Altman", "transmurality", "Quantities"):
            assert word not in text


def test_prediction_and_evaluation_know_the_labels(trained, cohort, tmp_path):
    workdir, _ = trained
    cascade = cascade_jax.load(workdir)
    warned, failed = predict_cases(cascade, cohort, tmp_path, True, silent)
    assert failed == {}
    with (tmp_path / "confidence.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == columns(cascade.plan.labels)
    assert {row["case"]: row["warnings"] for row in rows if row["warnings"]} == {
        name: in_one_line(warnings) for name, warnings in warned.items()
    }
    result = evaluate_folders(tmp_path, cohort, table=cascade.plan.labels)
    assert result["mean"]["heart"]["dice"] > 0.3
    assert "heart" in as_text(result)
    assert "*" not in as_text(result)
    page = Sources("two labels", tmp_path, cohort, labels=cascade.plan.labels)
    assert write_report(page, tmp_path / "page.html", silent) == {}
    with pytest.raises(CaseError, match="--labels_of"):
        write_report(dataclasses.replace(page, labels=EMIDEC), tmp_path / "other.html", silent)
    assert not (tmp_path / "other.html").exists()


def test_weights_of_other_labels_are_refused(cohort, tmp_path):
    config = two_labels.get_config()
    config.data.root, config.init_from = str(cohort), "pretrained"
    config.num_folds, config.folds = 2, (0, 1)
    with pytest.raises(ConfigError, match="knows the labels background, cavity, myocardium"):
        train.run_training(config, tmp_path / "run", silent)
