"""The report: what the page says, and what it does in a real browser."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascade_jax.data import emidec, phantom
from cascade_jax.data.case import CaseError
from cascade_jax.data.labels import EMIDEC
from cascade_jax.report import Sources, write_report
from cascade_jax.report.charts import bland_altman, bullseye
from cascade_jax.report.slices import outlines, outlines_of
from cascade_jax.report.steps import postprocessing_note, vote_note
from cascade_jax.report.warnings import stack_warnings

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def silent(iterable, _):
    return iterable


def phantom_sources(root):
    cohort, earlier = root / "cohort", {"stage one": root / "stage1", "before postprocessing": root / "stage2"}
    return Sources("three <phantoms>", root / "prediction", cohort, cohort, earlier)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Three phantoms, and predictions of growing quality: shifted by 3, 2 and 1 pixels."""
    root = tmp_path_factory.mktemp("report")
    phantom.write_cohort(root / "cohort", 3, 2, field_of_view_mm=115)
    names = []
    for index, file in enumerate(emidec.find_cases(root / "cohort")):
        case = emidec.read_case(file)
        names.append(case.name)
        labels = np.roll(case.labels, 3 - index, axis=2)
        emidec.write_labels(root / "prediction", labels, case)
        emidec.write_labels(root / "stage1", np.roll(case.labels, 4, axis=1), case)
        emidec.write_labels(root / "stage2", np.where(np.arange(len(labels))[:, None, None] > 1, labels, 0), case)
        emidec.write_disagreement(root / "prediction", (labels != case.labels).astype(np.float32), case)
    (root / "prediction" / "expected_dice.csv").write_text(f"case,myocardium\n{names[0]},0.41\n{names[1]},0.95\n")
    assert write_report(phantom_sources(root), root / "report.html", silent) == {}
    return root / "report.html", names


def test_the_page_needs_nothing_else_and_is_small(report):
    text = report[0].read_text()
    for word in ('src="http', 'href="http', "@import", "url(http"):
        assert word not in text
    assert "three &lt;phantoms&gt;" in text
    assert len(text) / 3 < 2e5, "100 cases are to stay below 20 MB"
    assert "expects a Dice of 0.41" in text


def test_the_same_folders_give_the_same_page(report, tmp_path):
    write_report(phantom_sources(report[0].parent), tmp_path / "again.html", silent)
    assert (tmp_path / "again.html").read_text() == report[0].read_text()


def test_the_page_says_what_each_step_changed(report):
    text = report[0].read_text()
    assert "What each step changed, mean of 3 cases" in text
    assert text.index("<th>stage one</th><th>before postprocessing</th><th>prediction</th>") > 0


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    faults = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or faults.append(request.url))
    page.goto(report[0].as_uri())
    yield page
    page.close()
    assert faults == []


def is_open(page, name):
    page.wait_for_selector(f"main:not([hidden]) h1:has-text('{name}')", timeout=5000)


def drawn(page, layer):
    return page.locator(f"main:not([hidden]) .stage g.{layer} path").count()


def test_the_worst_case_comes_first_and_opens(page, report):
    assert page.locator(".cards strong").all_text_contents() == report[1]
    page.click("text=" + report[1][0])
    is_open(page, report[1][0])
    assert "0.41" in page.locator("main:not([hidden]) .warning").first.text_content()
    page.click("main:not([hidden]) >> text=Next")
    is_open(page, report[1][1])
    page.go_back()
    is_open(page, report[1][0])
    page.click("main:not([hidden]) >> text=All cases")
    page.wait_for_selector("#cohort", state="visible", timeout=5000)


def test_layers_are_toggled_by_keyboard_and_mouse(page, report):
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
    assert drawn(page, "prediction") >= 2
    assert drawn(page, "truth") >= 2
    assert drawn(page, "stage-one") == 0
    page.keyboard.press("p")
    assert drawn(page, "prediction") == 0
    page.keyboard.press("o")
    assert drawn(page, "stage-one") >= 2
    assert drawn(page, "before-postprocessing") == 0
    page.keyboard.press("b")
    assert drawn(page, "before-postprocessing") >= 2
    page.uncheck("main:not([hidden]) input[value=truth]")
    assert drawn(page, "truth") == 0
    page.keyboard.press("f")
    assert page.locator("main:not([hidden]) g.filled").count() == 2
    heat = page.locator("main:not([hidden]) .stage img").nth(1)
    assert heat.is_hidden()
    page.keyboard.press("d")
    assert heat.is_visible()


def test_the_slider_and_the_arrows_go_through_the_slices(page, report):
    page.click("a[data-case='1']")
    is_open(page, report[1][1])
    output, image = page.locator("main:not([hidden]) output"), page.locator("main:not([hidden]) .stage img").first
    before = output.text_content(), image.get_attribute("src")
    page.keyboard.press("ArrowRight")
    after = output.text_content(), image.get_attribute("src")
    assert int(after[0].split()[0]) == int(before[0].split()[0]) + 1
    assert before[1] != after[1]
    page.locator("main:not([hidden]) .slice").fill("0")
    assert output.text_content().startswith("1 of")
    page.keyboard.press("ArrowLeft")
    assert output.text_content().startswith("1 of")


def test_window_level_and_blend_change_the_picture(page, report):
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
    image = page.locator("main:not([hidden]) .stage img").first
    page.locator("main:not([hidden]) .window").fill("200")
    assert "contrast(200%)" in image.get_attribute("style")
    page.locator("main:not([hidden]) .level").fill("150")
    assert "brightness(150%)" in image.get_attribute("style")
    page.locator("main:not([hidden]) .blend").fill("100")
    assert page.locator("main:not([hidden]) g.truth").get_attribute("style") == "opacity: 0;"
    assert page.locator("main:not([hidden]) g.prediction").get_attribute("style") == "opacity: 1;"


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


def test_a_case_that_does_not_fit_is_named_and_the_others_are_shown(report, tmp_path):
    root, names = report[0].parent, report[1]
    shutil.copytree(root / "cohort", tmp_path / "cohort")
    case = emidec.read_case(emidec.find_cases(tmp_path / "cohort")[1])
    emidec.contour_path(tmp_path / "cohort", names[1]).write_bytes(b"no labels")
    sources = Sources("faults", root / "prediction", None, tmp_path / "cohort")
    failed = write_report(sources, tmp_path / "report.html", silent)
    assert list(failed) == [names[1]]
    text = (tmp_path / "report.html").read_text()
    assert f"{names[1]} could not be shown" in text
    assert case.name == names[1]
    with pytest.raises(CaseError):
        write_report(Sources("nothing", tmp_path / "nowhere"), tmp_path / "other.html", silent)
    assert not (tmp_path / "other.html").exists()


def test_outlines_lie_on_the_borders_of_voxels_in_mm():
    plane = np.zeros((10, 12), np.uint8)
    plane[2:6, 3:9] = 2
    paths = dict(
        zip([line.title for line in outlines_of(EMIDEC)], outlines(plane, (1.5, 2.0), outlines_of(EMIDEC)), strict=True)
    )
    assert [title for title, path in paths.items() if path] == ["epicardium"]
    points = np.array([pair.split() for pair in paths["epicardium"].strip("MZ").split("L")], float)
    np.testing.assert_allclose(points.min(0), (6, 3), atol=0.06)
    np.testing.assert_allclose(points.max(0), (18, 9), atol=0.06)


def test_warnings_name_the_slice():
    labels = np.zeros((5, 40, 40), np.uint8)
    labels[:, 10:20, 10:20] = 2
    assert stack_warnings(labels, (10.0, 1.5, 1.5)) == []
    shifted = labels.copy()
    shifted[2] = np.roll(labels[2], 8, axis=1)
    assert any("slice 3 lies 12 mm" in warning for warning in stack_warnings(shifted, (10.0, 1.5, 1.5)))
    labels[1] = 0
    assert stack_warnings(labels, (10.0, 1.5, 1.5)) == ["no myocardium in slice 2, between slices that have some"]
    assert stack_warnings(np.zeros_like(labels), (10.0, 1.5, 1.5)) == ["no myocardium was found"]


def test_the_steps_are_put_into_words(tmp_path):
    target = {"a": {"dice": 0.5}}
    columns = {"ensemble": {"a": {"dice": 0.7125}}, "final, mean of folds": target}
    assert vote_note(columns).endswith("on their own: a +21.25.")
    before, after = np.ones((1, 2, 2)), np.eye(2)[None]
    layers = {
        "x": {"before postprocessing": before, "prediction": after},
        "y": dict.fromkeys(("before postprocessing", "prediction"), before),
    }
    rules = [{"name": "small_infarction", "minimum_mm3": 400.0}, {"name": "largest_heart", "minimum_mm3": 0.0}]
    (tmp_path / "model.json").write_text(json.dumps({"rules": rules}))
    note = postprocessing_note(tmp_path, layers)
    assert note == "Postprocessing: small infarction (below 400 mm3), largest heart; it changed 1 of 2 cases."
    (tmp_path / "model.json").write_text(json.dumps({"rules": []}))
    assert "none is applied" in postprocessing_note(tmp_path, layers)


def test_charts_say_the_bias_and_every_segment():
    svg = bland_altman({"infarct, ml": ([3.0, 5.0, 8.0], [2.0, 4.0, 7.0])})
    assert "bias 1" in svg
    svg = bullseye({1: 37.0, 17: 92.0}, "maximum transmurality")
    assert ">37<" in svg
    assert ">92<" in svg
    assert svg.count(">-<") == 15
