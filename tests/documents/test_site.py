"""The pages build as a site, without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
pytest.importorskip("furo")

DOCS = Path(__file__).parents[2] / "docs"


def test_the_site_builds_without_a_warning_and_has_every_page(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for page in DOCS.glob("*.md"):
        assert (tmp_path / "site" / f"{page.stem}.html").exists()


def test_no_page_has_a_blank_left():
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        assert not re.search(r"\{[A-Z ]+\}|^<{7}|^>{7}", page.read_text(encoding="utf-8"), re.MULTILINE), page.name


def test_links_between_pages_lead_somewhere():
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            if "{" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
