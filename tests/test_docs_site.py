"""The built documentation: links on the disk, then in headless Chromium without a network."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from test_report_browser import browser, requests, visit  # noqa: F401  (browser is a fixture)

DOCS = Path(__file__).resolve().parents[1] / "docs"
pytestmark = pytest.mark.docs
PAGES = (
    "index.html", "start/first-fit.html", "tutorials/coalitions.html", "howto/from-r.html",
    "reference/formula.html", "reference/study-file.html", "reference/measures.html",
    "reference/errors.html", "reference/command-line.html", "reference/api/fitting.html",
    "explanation/model.html", "explanation/aggregation.html", "benchmarks.html",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a warning is a failure."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-d", str(folder / "trees")]
    built = subprocess.run([*command, str(DOCS), str(folder / "site")], capture_output=True,
                           text=True, check=False)  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder / "site"


def test_links_lead_somewhere(site: Path) -> None:
    """Every link, image, script and style of every page, anchors included."""
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")
             if "_static" not in path.parts}  # there: templates of the theme # fmt: skip
    assert len(texts) > 40
    broken, outside = [], []
    for path, text in texts.items():
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            target, anchor = urldefrag(html.unescape(link))
            if re.match(r"[a-z]+:", target):
                outside.append((path.name, target))
                continue
            target = target.partition("?")[0]  # what keeps browsers from an old copy
            there = (path.parent / unquote(target)).resolve() if target else path
            if not there.exists() or (
                anchor and there in texts and f'id="{unquote(anchor)}"' not in texts[there]
            ):
                broken.append((path.relative_to(site).as_posix(), link))
    assert not broken
    assert not [link for link in outside if re.search(r"\.(js|css|woff2?|png|svg)$", link[1])]


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_in_a_browser(site: Path, browser: Any, page: str, width: int) -> None:  # noqa: F811
    """No error, nothing fetched, every image there, no page wider than the screen."""
    visit(browser, site / page, width)
    severe = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert not severe
    assert all(url.startswith(("file:", "data:")) for url in requests(browser))
    script = "return [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
    assert browser.execute_script(script) == []
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width


def test_equations_are_drawn(site: Path, browser: Any) -> None:  # noqa: F811
    visit(browser, site / "explanation" / "model.html", 400)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().width)"
    )
    assert len(sizes) > 15
    assert min(sizes) > 3


def test_search_finds_without_a_server(site: Path, browser: Any) -> None:  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    visit(browser, site / "search.html", address="?q=herfindahl")
    hits = WebDriverWait(browser, 20).until(
        lambda b: b.execute_script(
            "return [...document.querySelectorAll('#search-results a')].map(a => a.href)"
        )
    )
    assert any("reference/features.html" in hit for hit in hits)
