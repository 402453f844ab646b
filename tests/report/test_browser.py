"""The report's page in a real browser."""

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
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or faults.append(request.url))
    page.goto(report[0].as_uri())
    yield page
    page.close()
    assert faults == []


def is_open(page, name):
    page.wait_for_selector(f"main:not([hidden]) h1:has-text('{name}')", timeout=5000)


def drawn(page, layer):
    return page.locator(f"main:not([hidden]) .stage g.{layer} path.core").count()


def grey(page):
    """The picture on the screen without outlines, float (height, width)."""
    for box in page.locator("main:not([hidden]) .layer").all():
        box.uncheck()
    shot = page.locator("main:not([hidden]) .stage").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("L"), float)


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
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
    marks = page.locator("main:not([hidden]) .stage g.insertion text")
    assert marks.all_text_contents() == ["A", "I"]
    page.keyboard.press("i")
    assert marks.count() == 0
    page.keyboard.press("i")
    assert marks.count() == 2


def test_the_slider_and_the_arrows_go_through_the_slices(page, report):
    page.click("a[data-case='1']")
    is_open(page, report[1][1])
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
    page.click("a[data-case='1']")
    is_open(page, report[1][1])
    output = page.locator("main:not([hidden]) output").first
    before = output.text_content()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("scrollY > 0", timeout=5000)
    assert output.text_content() == before


def test_a_wider_window_has_less_contrast_and_a_higher_level_is_darker(page, report):
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
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
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
    keys = page.locator("main:not([hidden]) .legend li").all()
    titles = [key.text_content().strip() for key in keys]
    assert titles[:4] == ["epicardium", "cavity", "infarction", "no-reflow"]
    assert titles[4:8] == ["truth", "prediction", "stage one", "before postprocessing"]
    assert "doubt of the networks" in titles[8]
    get = "path => { const s = getComputedStyle(path); return [s.strokeWidth, s.strokeOpacity, s.stroke === 'none']; }"
    styles = [str([path.evaluate(get) for path in key.locator("path").all()]) for key in keys[4:8]]
    assert len(set(styles)) == 4


def test_the_dark_scheme_is_for_screens_and_print_leaves_the_controls_out(page, report):
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
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
    details = page.locator("main:not([hidden]) details")
    assert details.get_attribute("open") is None
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert details.get_attribute("open") is not None


def test_the_blend_fades_one_for_the_other(page, report):
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
    page.locator("main:not([hidden]) .blend").fill("100")
    assert page.locator("main:not([hidden]) g.truth").get_attribute("style") == "opacity: 0;"
    assert page.locator("main:not([hidden]) g.prediction").get_attribute("style") == "opacity: 1;"


def test_the_keyboard_blends_too(page, report):
    page.click("a[data-case='0']")
    is_open(page, report[1][0])
    page.locator("main:not([hidden]) .blend").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.locator("main:not([hidden]) .blend").input_value() == "60"
    assert page.locator("main:not([hidden]) g.truth").get_attribute("style") == "opacity: 0.8;"
