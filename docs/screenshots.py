"""The documents' pictures of pages, made anew from simulated hearts: report.png, cohort.png, paper.png, review.png.

pip install playwright pillow, Chromium and poppler's pdftoppm beside it
python docs/screenshots.py
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_SIZE = {"width": 1280, "height": 860}
_CASE = "Case_P005"


def _command(name: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "launch.console", name, *flags]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_CHROMIUM, args=_FLAGS)
        root = Path(folder)
        scans, segmented, page, papers = root / "scans", root / "segmented", root / "report.html", root / "papers"
        seen = [f"--prediction={segmented}", f"--images={scans}", f"--truth={scans}"]
        for command in (
            _command("phantom", f"--output={scans}", "--cases=5", "--seed=7"),
            _command("predict", "--weights=phantom", f"--input={scans}", f"--output={segmented}"),
            _command("report", *seen, f"--output={page}", f"--pdf={papers}"),
            ["pdftoppm", "-r", "80", "-png", "-singlefile", str(papers / f"{_CASE}.pdf"), str(DOCS / "paper")],
        ):
            subprocess.run(command, cwd=DOCS.parent, check=True)
        report = browser.new_page(viewport=_SIZE)
        report.goto(page.as_uri())
        report.screenshot(path=DOCS / "cohort.png")
        report.click(f"text={_CASE}")
        report.wait_for_timeout(1000)
        report.screenshot(path=DOCS / "report.png")

        command = _command("review", str(segmented), f"--images={scans}", "--no_browser", "--reader=Ada")
        with subprocess.Popen(command, cwd=DOCS.parent, stdout=subprocess.PIPE, text=True) as server:
            review = browser.new_page(viewport=_SIZE)
            review.goto(re.search(r"http://127\.0\.0\.1:\d+/\S+/", server.stdout.readline())[0])
            review.click(f"text={_CASE}")
            review.wait_for_timeout(4000)
            review.screenshot(path=DOCS / "review.png")
            server.send_signal(signal.SIGINT)
        browser.close()


if __name__ == "__main__":
    main()
