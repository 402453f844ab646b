"""The review page in a real browser: a contour is corrected by pen, measured, saved and found again."""

import shutil
import threading

import numpy as np
import pytest

from cascade_jax.data import emidec
from cascade_jax.data.corrections import find_correction
from cascade_jax.review.cases import find_cases
from cascade_jax.review.server import ReviewServer
from tests.review.hearts import write_predictions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# WebGL without a graphics card.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE = 60_000  # ms


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        flags = [*FLAGS, "--ignore-gpu-blocklist", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, tmp_path):
    """The list of cases; nothing is loaded from elsewhere, and nothing goes wrong unseen."""
    write_predictions(tmp_path)
    server = ReviewServer(tmp_path / "out", find_cases(tmp_path / "out", tmp_path / "scans")[0], "Ada")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    faults = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: request.url.startswith((server.url, "data:")) or faults.append(request.url))
    page.goto(server.url)
    page.wait_for_selector("#rows tr")
    yield page
    page.close()
    server.shutdown()
    server.server_close()
    # What the driver says of its speed, and a refusal that the page tells its reader.
    expected = ("GL Driver Message", "status of 422")
    assert [fault for fault in faults if not any(text in fault for text in expected)] == []


def open_case(page, name):
    page.click(f"#rows a:text-is('{name}')")
    settled(page)


def settled(page):
    """Waits until the numbers are of what is drawn."""
    page.wait_for_selector("#quantities tr", state="attached")
    page.wait_for_selector("#numbers:not(.stale)")


def at(page, x, y):
    """Where a voxel of the file lies on the screen."""
    return page.evaluate(
        """([x, y]) => {
          const at = placement(), box = document.getElementById("stage").getBoundingClientRect();
          return [x * at.a + at.b + box.left, y * at.c + at.d + box.top];
        }""",
        [x, y],
    )


def stroke(page, *voxels):
    places = [at(page, x, y) for x, y in voxels]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def infarct_grams(page):
    rows = [row.locator("td, th").all_text_contents() for row in page.locator("#quantities tr").all()]
    return next([float(value) for value in row[1:3]] for row in rows if row[0] == "infarct")


def saved_labels(tmp_path, name="bad"):
    return emidec.read_labels(find_correction(tmp_path / "out", name).path)[0]


def test_a_contour_is_corrected_by_pen_measured_saved_and_found_again(page, tmp_path):
    prediction = emidec.read_labels(emidec.contour_path(tmp_path / "out", "bad"))[0]
    assert page.locator("#rows a").all_text_contents() == ["bad", "good"]
    open_case(page, "bad")
    predicted, now = infarct_grams(page)
    assert now == predicted
    shown = page.evaluate("slice")
    stroke(page, (20, 44), (25, 43))  # normal myocardium, below the cavity
    settled(page)
    assert infarct_grams(page)[1] > predicted
    page.keyboard.press("s")
    page.wait_for_selector("#state:text-is('saved')")
    labels = saved_labels(tmp_path)
    changed = np.argwhere(labels != prediction)
    assert {*labels[labels != prediction]} == {3}
    assert {*changed[:, 0]} == {shown}
    assert [shown, 44, 20] in changed.tolist()
    assert [shown, 43, 25] in changed.tolist()
    assert np.isin(changed[:, 1], (43, 44)).all()
    after = infarct_grams(page)
    page.reload()
    settled(page)
    assert infarct_grams(page) == after
    assert "Ada" in page.locator("#who").text_content()
    page.keyboard.press("l")
    page.wait_for_selector("#rows td:has-text('Ada')")


def test_undo_and_redo_go_through_strokes_and_insertions(page):
    open_case(page, "bad")
    states = [page.evaluate("[...viewer.drawBitmap].join('')")]
    stroke(page, (20, 44), (24, 44))
    settled(page)
    states.append(page.evaluate("[...viewer.drawBitmap].join('')"))
    page.keyboard.press("a")
    page.keyboard.press("ArrowLeft")
    angle = page.evaluate("open.insertions")
    assert angle["dragged"]
    page.keyboard.press("z")
    assert not page.evaluate("open.insertions")["dragged"]
    page.keyboard.press("z")
    assert page.evaluate("[...viewer.drawBitmap].join('')") == states[0]
    assert page.locator("#save").is_disabled()
    page.keyboard.press("y")
    page.keyboard.press("y")
    assert page.evaluate("[...viewer.drawBitmap].join('')") == states[1]
    assert page.evaluate("open.insertions") == angle
    assert page.locator("#save").is_enabled()


def test_infarct_stays_in_the_muscle_unless_told_otherwise(page):
    count = "[...viewer.drawBitmap].filter((value) => value === 3).length"
    open_case(page, "bad")
    before = page.evaluate(count)
    stroke(page, (20, 28), (24, 28))  # in the cavity
    assert page.evaluate(count) == before
    page.keyboard.press("m")
    stroke(page, (20, 28), (24, 28))
    assert page.evaluate(count) == before + 5


def test_an_outline_is_filled_and_the_eraser_takes_away(page, tmp_path):
    open_case(page, "bad")
    shown = page.evaluate("slice")
    page.keyboard.press("f")
    page.keyboard.press("1")
    stroke(page, (2, 2), (6, 2), (6, 6), (2, 6), (2, 3))
    page.keyboard.press("e")
    page.keyboard.press("]")
    stroke(page, (20, 28), (20, 29))
    page.keyboard.press("s")
    page.wait_for_selector("#state:text-is('saved')")
    labels = saved_labels(tmp_path)[shown]
    assert (labels[2:7, 2:7] == 1).all()
    assert (labels[27:31, 19:22] == 0).all()
    assert labels[31, 20] == 1


def test_an_insertion_is_dragged_and_recorded(page, tmp_path):
    open_case(page, "bad")
    handle = page.locator("[data-insertion=anterior] circle").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(*at(page, 20, 2), steps=4)  # straight above the centre
    page.mouse.up()
    settled(page)
    assert "as you put it" in page.locator("#counted").text_content()
    page.keyboard.press("s")
    page.wait_for_selector("#state:text-is('saved')")
    assert find_correction(tmp_path / "out", "bad").insertion == pytest.approx(90, abs=1)


def test_the_keyboard_alone_draws(page, tmp_path):
    open_case(page, "bad")
    page.evaluate("pointer = { x: 18, y: 44 }")
    page.keyboard.press("4")
    page.keyboard.press(" ")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    page.keyboard.press("s")
    page.wait_for_selector("#state:text-is('saved')")
    where = np.argwhere(saved_labels(tmp_path) == 4)
    assert where[:, 1:].tolist() == [[44, 18], [44, 19], [44, 20], [44, 21]]


def test_a_save_that_fails_is_said_and_what_was_drawn_stays(page, tmp_path):
    open_case(page, "bad")
    stroke(page, (20, 44), (24, 44))
    settled(page)
    folder = tmp_path / "out" / "bad" / "Corrected"
    folder.mkdir()
    folder.joinpath("theirs.nii.gz").write_bytes(emidec.contour_path(tmp_path / "out", "bad").read_bytes())
    with page.expect_response("**/save**") as answer:
        page.keyboard.press("s")
    assert answer.value.status == 422
    page.wait_for_selector("#message:not([hidden])")
    assert page.locator("#state").text_content() == "not saved"
    assert page.locator("#save").is_enabled()
