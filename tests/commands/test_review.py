"""The review command as a user starts and ends it, and the commands that take what was corrected."""

import configparser
import csv
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import cascade_jax.review
from cascade_jax.commands.quantify import quantify_folder
from cascade_jax.data import emidec
from cascade_jax.data.corrections import save_correction
from cascade_jax.data.folders import CaseFiles
from cascade_jax.quantify.orientations import Orientation
from cascade_jax.report.cases import Sources, read_cases
from tests.commands.command_line import ROOT
from tests.review.hearts import write_predictions

REVIEW = Path(cascade_jax.review.__file__).parent
STATIC = REVIEW / "static"


def silent(iterable, _):
    return iterable


def start(*flags):
    return subprocess.Popen(
        [sys.executable, "-m", "launch.console", "review", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def corrected_folder(root, insertion=None):
    """Predictions of two hearts, of which the case "bad" has been corrected: it has no infarct."""
    labels = write_predictions(root)
    case = emidec.read_case(CaseFiles("bad", root / "scans" / "bad" / "Images" / "bad.nii.gz", None))
    corrected = np.where(labels == 3, 2, labels).astype(np.uint8)
    contour = emidec.contour_path(root / "out", "bad")
    save_correction(root / "out", case, corrected, labels, contour, reader="Ada", insertion=insertion)
    return root / "out", root / "scans"


def rows_of(output):
    with (output / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_the_page_is_served_until_ctrl_c_which_ends_it_quietly(tmp_path):
    write_predictions(tmp_path)
    process = start(str(tmp_path / "out"), f"--images={tmp_path / 'scans'}", "--no_browser", "--reader=Ada")
    first, second = (process.stdout.readline() for _ in range(2))
    url = re.search(r"http://127\.0\.0\.1:\d+/\S+/", first)[0]
    assert "Ada" in second
    with urllib.request.urlopen(url, timeout=60) as page:
        assert b"Review of outlines" in page.read()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == ""


@pytest.mark.parametrize("flags", [(), ("nowhere",), ("one", "two")])
def test_without_a_folder_of_predictions_it_says_so_in_a_line(tmp_path, flags):
    process = start(*flags, "--no_browser")
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert {0: "folder of predictions", 1: "nowhere", 2: "2 are given"}[len(flags)] in line


def test_a_port_that_is_taken_is_named(tmp_path):
    write_predictions(tmp_path)
    flags = (str(tmp_path / "out"), f"--images={tmp_path / 'scans'}", "--no_browser")
    first = start(*flags)
    port = re.search(r"127\.0\.0\.1:(\d+)", first.stdout.readline())[1]
    _, err = start(*flags, f"--port={port}").communicate(timeout=60)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert err.startswith(f"error: port {port} cannot be used")


def test_quantify_takes_corrected_labels_and_the_insertion_that_was_dragged(tmp_path):
    out, scans = corrected_folder(tmp_path, insertion=77.0)
    assert quantify_folder(out, scans, tmp_path / "corrected", None, silent) == {}
    assert quantify_folder(out, scans, tmp_path / "predicted", None, silent, corrected=False) == {}
    corrected, predicted = rows_of(tmp_path / "corrected"), rows_of(tmp_path / "predicted")
    assert float(corrected["bad"]["infarct_ml"]) == 0 < float(predicted["bad"]["infarct_ml"])
    assert corrected["good"] == predicted["good"]
    assert corrected["bad"]["insertion_degrees"] == "77"
    assert corrected["bad"]["segments_from"] == "given"


def test_an_insertion_from_a_table_goes_before_the_one_that_was_dragged_and_that_before_one_for_all(tmp_path):
    out, scans = corrected_folder(tmp_path, insertion=77.0)
    table = {"bad": Orientation(insertion=200.0)}
    quantify_folder(out, scans, tmp_path / "table", 30.0, silent, orientations=table)
    quantify_folder(out, scans, tmp_path / "all", 30.0, silent)
    assert rows_of(tmp_path / "table")["bad"]["insertion_degrees"] == "200"
    assert {name: row["insertion_degrees"] for name, row in rows_of(tmp_path / "all").items()} == {
        "bad": "77",
        "good": "30",
    }


def test_a_case_whose_correction_is_damaged_fails_and_is_not_measured_as_predicted(tmp_path):
    out, scans = corrected_folder(tmp_path)
    (out / "bad" / "Corrected" / "bad.json").write_text("{}")
    failed = quantify_folder(out, scans, tmp_path / "output", None, silent)
    assert "is damaged" in failed["bad"]
    assert list(rows_of(tmp_path / "output")) == ["good"]


def test_the_report_shows_the_correction_and_says_so(tmp_path):
    out, scans = corrected_folder(tmp_path, insertion=77.0)
    cases, failed = read_cases(Sources("title", out, scans, corrected=True), silent)
    assert failed == {}
    bad, good = sorted(cases, key=lambda case: case.name)
    assert not (bad.layers["prediction"] == 3).any()
    assert bad.measured.insertions == {"A": 77.0}
    assert any(str(warning).startswith("corrected: by Ada") for warning in bad.warnings)
    assert not any("corrected" in str(warning) for warning in good.warnings)
    uncorrected, _ = read_cases(Sources("title", out, scans), silent)
    assert all((case.layers["prediction"] == 3).any() for case in uncorrected)


def test_the_page_and_the_viewer_with_its_licence_come_with_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "cascade_jax.review" in setup["options"]["packages"].split()
    pattern = setup["options.package_data"]["cascade_jax.review"]
    packed = {path.name for path in REVIEW.glob(pattern)}
    assert packed == {"index.html", "review.css", "review.js", "niivue.js", "niivue.LICENSE.txt"}
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 5e6
    assert "BSD 2-Clause" in (STATIC / "niivue.LICENSE.txt").read_text()


def test_the_page_names_nothing_on_the_network():
    for name in ("index.html", "review.css", "review.js"):
        text = (STATIC / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.[a-z]", text), name
