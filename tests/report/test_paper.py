"""One page of PDF a patient."""

import dataclasses
import datetime
import re
import zlib

import numpy as np
import pytest

from cascade_jax.case_warnings import CaseWarning
from cascade_jax.confidence import Confidence
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC
from cascade_jax.report.account import Account
from cascade_jax.report.cases import read_cases
from cascade_jax.report.paper import write_papers
from tests.report.phantom_report import phantom_sources, silent

DAY = datetime.date(2024, 2, 29)


def words_of(path):
    """What is written on the pages of a PDF by Matplotlib."""
    words = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        for run in re.findall(rb"BT\n.*?\nET", content, re.DOTALL):
            strings = re.findall(rb"\(((?:\\.|[^\\)])*)\)", run, re.DOTALL)
            words.append(re.sub(rb"\\(.)", rb"\1", b"".join(strings), flags=re.DOTALL).decode("utf-16-be", "replace"))
    return words


def pages_of(path):
    return len(re.findall(rb"/Type /Page\b", path.read_bytes()))


@pytest.fixture(scope="module")
def told(report, tmp_path_factory):
    """(cases, sources, folder of their pages); the cascade gives an interval for the first."""
    sources = dataclasses.replace(phantom_sources(report[0].parent), weights="runs/phantom")
    cases, _ = read_cases(sources, silent)
    dice = dict.fromkeys(EMIDEC.targets, 0.4)
    account = Account(Confidence(dice, dice, {"infarction": (3.0, 12.0)}, {"infarction": 0.75}, doubtful="a reason"), 0)
    warnings = [CaseWarning("a-code", account.reason), *(CaseWarning("few", str(number)) for number in range(5))]
    cases[0] = dataclasses.replace(cases[0], account=account, warnings=warnings)
    cases[1] = dataclasses.replace(cases[1], sides={"left": "R", "right": "L", "top": "AH", "bottom": "PF"})
    folder = tmp_path_factory.mktemp("papers")
    write_papers(cases[:2], sources, folder, DAY, silent)
    return cases, sources, folder


def test_every_patient_has_one_page_of_a4(told):
    cases, _, folder = told
    assert sorted(path.name for path in folder.glob("*.pdf")) == sorted(f"{case.name}.pdf" for case in cases[:2])
    for path in folder.glob("*.pdf"):
        assert pages_of(path) == 1
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", path.read_bytes())
        assert [float(side) * 25.4 / 72 for side in box.groups()] == pytest.approx([210, 297], abs=0.1)


def test_the_page_says_who_what_when_and_how(told):
    cases, _, folder = told
    words = words_of(folder / f"{cases[0].name}.pdf")
    text = " ".join(words)
    assert words.count(cases[0].name) == 1
    assert words.count("Not a medical device. For research only.") == 2
    assert "2024-02-29" in text
    for part in (
        "90 % interval: 3.15 to 12.6",
        "75 %",
        "Warning: a-code: a reason",
        "and 2 more, which the HTML page",
    ):
        assert part in text
    for part in ("weights: runs/phantom", "Zhang 2020", "version: cascade_jax", "full width at half maximum"):
        assert part in text
    assert "Sides of the body: unknown" in text
    assert "counted from the right ventricle" in text
    for part in ("LAD", "RCA", "LCX", "20 mm", "slice", "0 to 100 %"):
        assert part in text
    slices = [word for word in words if re.fullmatch(r"\d+( base| apex)?", word)]
    assert {word for word in slices if " " in word} == {
        f"1 {cases[0].ends[0]}",
        f"{len(cases[0].image)} {cases[0].ends[1]}",
    }


def test_known_sides_are_written_at_every_slice(told):
    cases, _, folder = told
    words = words_of(folder / f"{cases[1].name}.pdf")
    for letters in ("AH", "PF"):
        assert words.count(letters) == len(cases[1].image)
    assert "Sides of the body" not in " ".join(words)


def test_a_tall_stack_and_one_without_image_stay_on_one_page(told, tmp_path):
    cases, sources, _ = told
    case = cases[2]
    tall = dataclasses.replace(
        case,
        name="tall",
        image=np.zeros((24, *case.image.shape[1:]), np.float32),
        layers={"prediction": np.repeat(case.layers["prediction"][:8], 3, axis=0)},
        measured=None,
    )
    write_papers([tall], sources, tmp_path, DAY, silent)
    assert pages_of(tmp_path / "tall.pdf") == 1
    assert "24" in words_of(tmp_path / "tall.pdf")


def test_a_file_that_is_not_ours_is_kept(told, tmp_path):
    cases, sources, _ = told
    (tmp_path / f"{cases[0].name}.pdf").write_text("a letter")
    with pytest.raises(CaseError, match="was not made by this command"):
        write_papers(cases, sources, tmp_path, DAY, silent)
    assert [path.name for path in tmp_path.iterdir()] == [f"{cases[0].name}.pdf"]
