"""The report's page in a real browser."""

import csv
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from cascade_jax.data.labels import EMIDEC
from cascade_jax.report.slices import outlines_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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
    page.on(
        "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or faults.append(request.url)
    )
    page.goto(report[0].as_uri())
    yield page
    page.close()
    assert faults == []


def is_open(page, name):
    page.wait_for_selector(f"main:not([hidden]) h1:has-text('{name}')", timeout=5000)


def names_in_the_table(page):
    return page.locator(".cases tbody tr td:first-child span").all_text_contents()


def open_case(page, report, index):
    page.click(f"tr[data-case='{index}'] a")
    is_open(page, report[1][index])


def drawn(page, layer):
    return page.locator(f"main:not([hidden]) .stage g.{layer} path.core").count()


def grey(page):
    """The picture on the screen without outlines, float (height, width)."""
    for box in page.locator("main:not([hidden]) .layer").all():
        box.uncheck()
    shot = page.locator("main:not([hidden]) .stage").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("L"), float)


def test_the_worst_case_comes_first_and_opens(page, report):
    assert names_in_the_table(page) == report[1]
    page.click("text=" + report[1][0])
    is_open(page, report[1][0])
    assert "0.54" in page.locator("main:not([hidden]) .warning").first.text_content()
    page.click("main:not([hidden]) >> text=Next")
    is_open(page, report[1][1])
    page.go_back()
    is_open(page, report[1][0])
    page.click("main:not([hidden]) >> text=All cases")
    page.wait_for_selector("#cohort", state="visible", timeout=5000)


def test_layers_are_toggled_by_keyboard_and_mouse(page, report):
    open_case(page, report, 0)
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
    assert page.locator("main:not([hidden]) .stage g.filled").count() == 2
    doubt, disagreement = (page.locator("main:not([hidden]) .stage img").nth(place) for place in (1, 2))
    assert doubt.is_hidden()
    assert disagreement.is_hidden()
    page.keyboard.press("d")
    assert doubt.is_visible()
    assert disagreement.is_hidden()
    page.keyboard.press("v")
    assert disagreement.is_visible()
    assert doubt.is_hidden()
    assert doubt.get_attribute("src") != disagreement.get_attribute("src")


def test_insertions_are_drawn_and_toggled(page, report):
    open_case(page, report, 0)
    marks = page.locator("main:not([hidden]) .stage g.insertion text")
    assert marks.all_text_contents() == ["A", "I"]
    page.keyboard.press("i")
    assert marks.count() == 0
    page.keyboard.press("i")
    assert marks.count() == 2


def test_the_slider_and_the_arrows_go_through_the_slices(page, report):
    open_case(page, report, 1)
    output, image = (page.locator(f"main:not([hidden]) {kind}").first for kind in ("output", ".stage img"))
    before = output.text_content(), image.get_attribute("src")
    page.keyboard.press("ArrowRight")
    after = output.text_content(), image.get_attribute("src")
    assert int(after[0].split()[0]) == int(before[0].split()[0]) + 1
    assert before[1] != after[1]
    page.locator("main:not([hidden]) .slice").fill("0")
    assert output.text_content().startswith("1 of")
    page.keyboard.press("ArrowLeft")
    assert output.text_content().startswith("1 of")
    page.keyboard.press("]")
    assert output.text_content().startswith("2 of")
    page.keyboard.press("[")
    assert output.text_content().startswith("1 of")


def test_up_and_down_scroll_the_page_and_leave_the_slice(page, report):
    page.set_viewport_size({"width": 800, "height": 400})
    open_case(page, report, 1)
    output = page.locator("main:not([hidden]) output").first
    before = output.text_content()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("scrollY > 0", timeout=5000)
    assert output.text_content() == before


def test_a_wider_window_has_less_contrast_and_a_higher_level_is_darker(page, report):
    open_case(page, report, 0)
    sliders = {name: page.locator(f"main:not([hidden]) .{name}") for name in ("window", "level")}
    numbers = {name: page.locator(f"main:not([hidden]) .{name} + output") for name in sliders}
    start, said = grey(page), {name: float(number.text_content()) for name, number in numbers.items()}
    sliders["window"].fill("200")
    wide = grey(page)
    assert wide.std() < 0.7 * start.std()
    assert float(numbers["window"].text_content()) > said["window"]
    sliders["level"].fill("80")
    dark = grey(page)
    assert dark.mean() < wide.mean() - 10
    assert float(numbers["level"].text_content()) > said["level"]
    sliders["level"].fill("0")
    assert grey(page).mean() > wide.mean() + 10


def test_structures_and_layers_differ_in_more_than_colour(page, report):
    dashes = [outline.dashes for outline in outlines_of(EMIDEC)]
    assert len(set(dashes)) == len(dashes)
    open_case(page, report, 0)
    legend = page.locator("main:not([hidden]) .legend")
    assert legend.locator("thead th").all_text_contents() == [
        *("", "truth", "prediction", "stage one", "before postprocessing")
    ]
    assert legend.locator("tbody th").all_text_contents()[:4] == ["epicardium", "cavity", "infarction", "no-reflow"]
    assert "doubt of the networks" in legend.text_content()
    get = "path => { const s = getComputedStyle(path); return [s.strokeWidth, s.strokeOpacity, s.stroke === 'none']; }"
    row = legend.locator("tbody tr").nth(0).locator("td").all()
    styles = [str([path.evaluate(get) for path in key.locator("path").all()]) for key in row]
    assert len(set(styles)) == 4


def test_the_legend_shows_each_line_as_it_is_drawn(page, report):
    open_case(page, report, 0)
    get = """path => { const s = getComputedStyle(path);
        return [s.stroke, s.strokeWidth, s.strokeOpacity, s.strokeDasharray]; }"""
    for layer in ("truth", "prediction"):
        for stroke in ("edge", "core"):
            kind = f"{layer} path.{stroke}.outline-0"
            drawn_line = page.locator(f"main:not([hidden]) .stage g.{kind}").first.evaluate(get)
            assert page.locator(f"main:not([hidden]) .legend svg.{kind}").evaluate(get) == drawn_line


def test_the_dark_scheme_is_for_screens_and_print_leaves_the_controls_out(page, report):
    open_case(page, report, 0)
    background = "getComputedStyle(document.body).backgroundColor"
    controls = page.locator("main:not([hidden]) .controls")
    page.emulate_media(media="screen", color_scheme="light")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.emulate_media(media="screen", color_scheme="dark")
    assert page.evaluate(background) == "rgb(20, 23, 27)"
    assert controls.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert controls.is_hidden()
    assert page.locator("main:not([hidden]) .legend").first.is_visible()
    assert page.locator("main:not([hidden]) .stage").is_hidden()
    tiles = page.locator("main:not([hidden]) .tile")
    assert tiles.count() >= 5, "on paper all slices are there"
    assert all(tile.is_visible() for tile in tiles.all())
    details = page.locator("main:not([hidden]) details")
    assert details.get_attribute("open") is None
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert details.get_attribute("open") is not None


def test_the_blend_fades_one_for_the_other(page, report):
    open_case(page, report, 0)
    page.locator("main:not([hidden]) .blend").fill("100")
    assert page.locator("main:not([hidden]) .stage g.truth").get_attribute("style") == "opacity: 0;"
    assert page.locator("main:not([hidden]) .stage g.prediction").get_attribute("style") == "opacity: 1;"


def test_the_keyboard_blends_too(page, report):
    open_case(page, report, 0)
    page.locator("main:not([hidden]) .blend").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.locator("main:not([hidden]) .blend").input_value() == "60"
    assert page.locator("main:not([hidden]) .stage g.truth").get_attribute("style") == "opacity: 0.8;"


def test_a_columns_title_sorts_by_it_and_again_the_other_way(page, report):
    head = page.locator(".cases th", has_text="infarct, g").first
    place = head.evaluate("cell => cell.cellIndex")

    def values():
        return [float(text) for text in page.locator(f".cases tbody td:nth-child({place + 1})").all_text_contents()]

    start = values()
    head.locator("button").click()
    assert values() == sorted(start, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert values() == sorted(start)
    page.locator(".cases th button").first.click()
    assert names_in_the_table(page) == sorted(report[1])
    assert head.get_attribute("aria-sort") is None


def test_what_is_not_known_comes_last_either_way(page, report):
    head = page.locator(".cases th", has_text="doubt").first
    place = head.evaluate("cell => cell.cellIndex")
    for expected in (["0.46", "0.05", "-"], ["0.05", "0.46", "-"]):
        head.locator("button").click()
        assert page.locator(f".cases tbody td:nth-child({place + 1})").all_text_contents() == expected


def test_a_row_opens_its_case(page, report):
    page.locator("tr[data-case='2'] td").nth(3).click()
    is_open(page, report[1][2])


def test_every_table_can_be_had_as_csv(page, report, tmp_path):
    assert page.locator("#cohort .csv").count() == page.locator("#cohort table").count()
    with page.expect_download() as download:
        page.locator("#cohort .csv").first.click()
    assert download.value.suggested_filename == "three_phantoms_Cases.csv"
    download.value.save_as(tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == report[1]
    assert float(rows[0]["infarct, g"]) >= 0
    assert rows[2]["doubt"] == ""
    assert "0.54" in rows[0]["warnings"]
    open_case(page, report, 0)
    assert (
        page.locator("main:not([hidden]) .csv").count() == page.locator("main:not([hidden]) table:not(.legend)").count()
    )
    with page.expect_download() as download:
        page.locator("main:not([hidden]) .slices .csv").click()
    assert download.value.suggested_filename == f"{report[1][0]}_By_slice.csv"
    download.value.save_as(tmp_path / "slices.csv")
    with (tmp_path / "slices.csv").open(newline="", encoding="utf-8-sig") as file:
        slices = list(csv.reader(file))
    assert slices[0][:3] == ["slice", "prediction: ring", "prediction: myocardium, g"]
    assert {len(row) for row in slices} == {len(slices[0])}


def test_a_field_that_a_spreadsheet_would_run_is_a_text(page):
    fields = {"=1+1": "'=1+1", "@SUM(A1)": "'@SUM(A1)", "+cmd|x": "'+cmd|x", "-x": "'-x", "-1.5": "-1.5", "-": ""}
    fields |= {"a,b": '"a,b"', 'say "no"': '"say ""no"""', "trans\u00admurality": "transmurality"}
    assert {field: page.evaluate("csvField", field) for field in fields} == fields


def test_all_slices_stand_beside_the_large_one_and_choose_it(page, report):
    open_case(page, report, 0)
    tiles = page.locator("main:not([hidden]) .tile")
    count = int(page.locator("main:not([hidden]) output").first.text_content().split()[-1])
    assert tiles.count() == count
    assert page.locator("main:not([hidden]) .tile g.prediction").count() == count
    tiles.nth(1).click()
    assert page.locator("main:not([hidden]) output").first.text_content() == f"2 of {count}"
    assert tiles.nth(1).get_attribute("aria-current") == "true"
    page.locator("main:not([hidden]) tr[data-slice='4'] td").first.click()
    assert page.locator("main:not([hidden]) output").first.text_content() == f"4 of {count}"
    page.keyboard.press("p")
    assert page.locator("main:not([hidden]) .tile g.prediction").count() == 0
    labels = " ".join(page.locator("main:not([hidden]) .tile span").all_text_contents())
    assert "base" in labels
    assert "apex" in labels


def test_the_wheel_goes_through_the_slices_and_with_ctrl_it_zooms(page, report):
    open_case(page, report, 0)
    stage, scene = (page.locator(f"main:not([hidden]) {kind}") for kind in (".stage", ".scene"))
    output, scale = (page.locator(f"main:not([hidden]) {kind}").first for kind in ("output", ".over.scale"))
    before, size = int(output.text_content().split()[0]), scene.bounding_box()["width"]
    bar = float(scale.text_content().split()[0]) / scale.bounding_box()["width"]
    stage.hover()
    page.mouse.wheel(0, 100)
    page.wait_for_function(
        f"() => document.querySelector('main:not([hidden]) output').textContent.startsWith('{before + 1} ')"
    )
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_function(f"() => document.querySelector('main:not([hidden]) .scene').clientWidth > {1.5 * size}")
    zoomed = scene.bounding_box()["width"] / size
    assert output.text_content().startswith(f"{before + 1} ")
    finer = float(scale.text_content().split()[0]) / scale.bounding_box()["width"]
    assert bar / finer == pytest.approx(zoomed, rel=0.05), "the scale bar keeps its length in mm"
    page.keyboard.press("0")
    assert scene.bounding_box()["width"] == pytest.approx(size, abs=1)


def test_dragging_sets_window_and_level_and_with_shift_it_moves(page, report):
    open_case(page, report, 0)
    values = {name: page.locator(f"main:not([hidden]) .{name}") for name in ("window", "level")}
    before = {name: float(slider.input_value()) for name, slider in values.items()}
    box = page.locator("main:not([hidden]) .stage").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(across, down):
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + across, middle[1] + down, steps=4)
        page.mouse.up()

    drag(60, 0)
    assert float(values["window"].input_value()) > before["window"]
    drag(0, -60)
    assert float(values["level"].input_value()) < before["level"], "upwards is brighter"
    kept = [slider.input_value() for slider in values.values()]
    page.keyboard.press("+")
    place = page.locator("main:not([hidden]) .scene").bounding_box()
    page.keyboard.down("Shift")
    drag(20, 10)
    page.keyboard.up("Shift")
    moved = page.locator("main:not([hidden]) .scene").bounding_box()
    assert (moved["x"] - place["x"], moved["y"] - place["y"]) == pytest.approx((20, 10), abs=2)
    assert [slider.input_value() for slider in values.values()] == kept
    page.locator("main:not([hidden]) .stage").dblclick()
    assert {name: float(slider.input_value()) for name, slider in values.items()} == before


def test_charts_are_legible_on_the_dark_page_and_their_points_lead_to_cases(page, report):
    colour = "() => getComputedStyle(document.querySelector('.chart text')).fill"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) == "rgb(232, 235, 238)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(colour) == "rgb(27, 31, 36)"
    point = page.locator(".chart a").first
    assert report[1][0] in point.locator("title").text_content()
    point.dispatch_event("click")
    is_open(page, report[1][0])
