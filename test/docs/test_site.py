"""The documentation's site builds without a warning, and its pages are those of the navigation."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as strictly as the linters do."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def shown(page: Path) -> str:
    """The text of a page, without tags."""
    return unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))


def test_every_page_is_in_the_navigation(site: Path) -> None:
    pages = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = {name for entry in pages for name in entry.values()}
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_no_markdown_is_left_in_the_pages(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = re.sub(r"<(code|pre|script).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        left = re.search(r"\n\|.*\||```|--8&lt;--|\]\((?!\))", text)
        assert left is None, f"{page.relative_to(site)}: {left[0]}"


def test_the_patches_of_contributing_are_on_the_site(site: Path) -> None:
    text = shown(site / "adding" / "index.html")
    assert all(heading in text for heading in ("Add a task", "Add a corpus", "Add an encoder"))
    assert text.count("diff --git") == (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").count("\ndiff --git")


def test_the_site_needs_no_other_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:link|script|img)[^>]*(?:href|src)=\"(https?:[^\"]+)", page.read_text(encoding="utf-8")
        )
        assert loaded == [], page
