"""The report, as a user has it made."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.phantom_report import write_phantom_report

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_phantom_report(tmp_path_factory.mktemp("report"))


def test_predictions_alone_make_a_page_too(report, tmp_path):
    command = [sys.executable, "-m", "launch.report", f"--prediction={report[0].parent / 'prediction'}"]
    result = subprocess.run(
        [*command, f"--output={tmp_path / 'page.html'}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Bland-Altman" not in (tmp_path / "page.html").read_text()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "--output is needed" in result.stderr


def test_one_page_of_pdf_a_patient_with_or_without_the_page(report, tmp_path):
    root, names = report[0].parent, report[1]
    command = [
        sys.executable,
        "-m",
        "launch.report",
        f"--prediction={root / 'prediction'}",
        f"--pdf={tmp_path / 'pdf'}",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "pdf").glob("*.*")) == sorted(
        [".cascade_jax.json", *(f"{name}.pdf" for name in names)]
    )
    (tmp_path / "pdf" / f"{names[0]}.pdf").write_text("a letter")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert len([line for line in result.stderr.splitlines() if line.startswith("error")]) == 1
    assert f"{names[0]}.pdf" in result.stderr
    assert (tmp_path / "pdf" / f"{names[0]}.pdf").read_text() == "a letter"


def test_insertions_are_taken_from_a_table(report, tmp_path):
    root, names = report[0].parent, report[1]
    command = [
        sys.executable,
        "-m",
        "launch.report",
        f"--prediction={root / 'prediction'}",
        f"--truth={root / 'cohort'}",
    ]
    command += [f"--output={tmp_path / 'page.html'}", f"--insertions={tmp_path / 'insertions.csv'}"]
    (tmp_path / "insertions.csv").write_text(f"case,insertion_degrees\n{names[1]},123\n")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "page.html").read_text()
    assert text.count("counted from the given insertion of the right ventricle, 123 degrees") == 1
    (tmp_path / "page.html").unlink()
    (tmp_path / "insertions.csv").write_text(f"case,insertion_degrees\n{names[1]},north\n")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "insertions.csv" in result.stderr
    assert "north" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "page.html").exists()
