"""The built documentation: links on the disk, then in headless Chromium without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests import ROOT
from tests.study.test_report_browser import browser, requests, visit  # noqa: F401  (browser is a fixture)

DOCS = ROOT / "docs"
pytestmark = pytest.mark.docs

# What a reader would see as a fault of a page: run in the page, gives sentences.
FAULTS = r"""
const found = [], article = document.querySelector("article") || document.body;
const name = (e) => `${e.tagName} ${e.textContent.trim().slice(0, 40)}`;
const scrolls = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX);
if (document.documentElement.scrollWidth > innerWidth) found.push("wider than the screen");
for (const image of document.images)
  if (!image.naturalWidth) found.push(`no image: ${image.src}`);
for (const equation of document.querySelectorAll("math")) {
  const box = equation.getBoundingClientRect();
  if (Math.min(box.width, box.height) < 3) found.push(`not drawn: ${name(equation)}`);
}
for (const e of article.querySelectorAll("*")) {
  let within = e.parentElement;
  while (within && within !== article && !scrolls(within)) within = within.parentElement;
  if (within === article && e.getBoundingClientRect().right > innerWidth + 1)
    found.push(`cut off: ${name(e)}`);
}
for (const table of article.querySelectorAll("table"))
  if (innerWidth >= 1400 && table.scrollWidth > table.parentElement.clientWidth + 1)
    found.push(`scrolls on a wide screen: ${name(table)}`);
const prose = article.cloneNode(true);
prose.querySelectorAll("pre, code, math, script").forEach((e) => e.remove());
const tex = prose.textContent.match(/\\[a-z]+[{_ ]|\$[^$\n]+\$/);
if (tex) found.push(`TeX in the text: ${tex[0]}`);
return found;
"""


class Page(HTMLParser):
    """What a page links to or loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("href", "src") and value is not None:
                self.links.append(value)
            elif (key == "id" or (tag == "a" and key == "name")) and value:
                self.anchors.add(value)


def pages_of(site: Path) -> list[Path]:
    """All pages; below `_static` are templates of the theme."""
    return [p for p in sorted(site.rglob("*.html")) if "_static" not in p.relative_to(site).parts]


def broken_links(site: Path) -> list[str]:
    """Links, images, scripts and styles that lead nowhere, anchors included."""
    pages = {path.resolve(): Page(path) for path in pages_of(site)}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:|//", target):
                if re.search(r"\.(js|css|woff2?|png|svg)$", target):
                    broken.append(f"{path.relative_to(site.resolve())} loads {link}")
                continue
            target = target.partition("?")[0]  # what keeps browsers from an old copy
            there = (path.parent / unquote(target)).resolve() if target else path
            lost = anchor and there in pages and unquote(anchor) not in pages[there].anchors
            if not there.exists() or lost:
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken


def faults(browser: Any, page: Path, width: int) -> list[str]:  # noqa: F811
    """What is wrong with a page in the browser, or was fetched from elsewhere."""
    visit(browser, page, width)
    said = [e["message"] for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    away = [f"fetched: {u}" for u in requests(browser) if not u.startswith(("file:", "data:"))]
    return [*said, *away, *browser.execute_script(FAULTS)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a warning is a failure."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-d", str(folder / "trees")]
    built = subprocess.run(
        [*command, str(DOCS), str(folder / "site")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder / "site"


def test_links_lead_somewhere(site: Path) -> None:
    assert len(pages_of(site)) > 40
    assert broken_links(site) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text('<p id="here"><a href="#here">x</a><a name="old">')
    (tmp_path / "bad.html").write_text(
        '<a href="good.html#here">1</a> <a href="good.html?v=1#old">2</a> <a href="good.html#no">3'
        '</a> <a href=gone.html>4</a> <img src="gone.png"> <script src="https://a.example/b.js">'
    )
    assert broken_links(tmp_path) == [
        "bad.html: good.html#no",
        "bad.html: gone.html",
        "bad.html: gone.png",
        "bad.html loads https://a.example/b.js",
    ]


def test_types_and_errors_link_where_they_should(site: Path) -> None:
    """To the page of errors; "path" in a docstring is a word, not somebody's attribute."""
    links = Page(site / "reference" / "api" / "fitting.html").links
    assert "../errors.html#dataerror" in links
    assert not [link for link in links if link.endswith(".path")]


@pytest.fixture
def dark(browser: Any) -> Iterator[None]:  # noqa: F811
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    yield
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [1400, 390])
def test_no_page_has_a_fault(site: Path, browser: Any, width: int) -> None:  # noqa: F811
    found = {p.relative_to(site).as_posix(): faults(browser, p, width) for p in pages_of(site)}
    assert {page: said for page, said in found.items() if said} == {}


@pytest.mark.usefixtures("dark")
def test_pages_are_dark_where_the_system_is(site: Path, browser: Any) -> None:  # noqa: F811
    assert faults(browser, site / "tutorials" / "coalitions.html", 390) == []
    paper, ink = browser.execute_script(
        "const s = getComputedStyle(document.querySelector('article p'));"
        "return [getComputedStyle(document.body).backgroundColor, s.color]"
    )
    grey = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (paper, ink)]
    assert grey[0] < 60
    assert grey[1] > 160


def test_faults_are_found(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><script>nonsense()</script><article><img src='gone.png'>"
        "<math style='display: none'><mi>x</mi></math><p>An $x$.</p>"
        "<div style='overflow: hidden'><p style='width: 2000px'>Wide.</p></div>"
        "<div style='overflow: auto'><table><td style='min-width: 2000px'>Table.</table></div>"
    )
    said = "\n".join(faults(browser, page, 1400))
    for words in (
        "nonsense is not defined",
        "no image: ",
        "not drawn: ",
        "TeX in the text: $x$",
        "cut off: P Wide.",
        "scrolls on a wide screen: TABLE",
    ):
        assert words in said
    page.write_text("<!doctype html><article><p style='width: 400px'>Wide.</p>")
    assert faults(browser, page, 390) == ["wider than the screen", "cut off: P Wide."]
    text = page.read_text().replace("<article>", "<div style='overflow: auto'><article>")
    page.write_text(text)  # as the theme does: all of the text would scroll sideways
    assert faults(browser, page, 390) == ["cut off: P Wide."]


def test_equations_are_drawn(site: Path, browser: Any) -> None:  # noqa: F811
    visit(browser, site / "explanation" / "model.html", 390)
    assert browser.execute_script("return document.querySelectorAll('math').length") > 15


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("herfindahl", "reference/features.html"),
        ("weights", "reference/weights.html"),
        ("prior", "reference/priors.html"),
        ("cox", "reference/api/families.html"),
        ("power", "tutorials/power.html"),
        ("ConvergenceWarning", "reference/errors.html"),
    ],
)
def test_search_finds_without_a_server(site: Path, browser: Any, word: str, page: str) -> None:  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    visit(browser, site / "search.html", address=f"?q={word}")
    wait = WebDriverWait(browser, 20)
    done = "return /found|match/i.test(document.querySelector('.search-summary')?.textContent)"
    wait.until(lambda b: b.execute_script(done))
    links = browser.find_elements("css selector", "#search-results li > a")
    hits = [link.get_attribute("href") for link in links]
    assert any(page in hit for hit in hits), hits
    for hit in hits:
        parts = urlsplit(hit)
        there = Path(unquote(parts.path))
        assert there.is_file(), hit
        assert not parts.fragment or unquote(parts.fragment) in Page(there).anchors, hit
    links[0].click()
    wait.until(lambda b: "search.html" not in b.current_url)
    text = browser.execute_script("return document.querySelector('article').textContent")
    assert word.lower() in text.lower()
