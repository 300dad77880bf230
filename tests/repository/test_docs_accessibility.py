"""Every page of the built documentation, for readers with a phone, a keyboard or a screen reader.

axe-core checks names of links, buttons and pictures, contrast, order of headings, landmarks and
more. Each page is checked at the width of a phone, where tables and code scroll, and one page of
each kind at that of a desktop, where the side bars are shown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.repository.test_docs_site import pages_of, site  # noqa: F401  (a fixture)
from tests.study.test_report_browser import browser, visit  # noqa: F401  (a fixture)

axe_selenium_python = pytest.importorskip("axe_selenium_python")
AXE = Path(axe_selenium_python.__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
RUN = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"], elementRef: false}).then(found => done(
  found.violations.map(v => `${v.id}: ${v.nodes[0].target.join(" ")} (${v.nodes.length})`)));
"""
PHONE, DESKTOP = 400, 1280  # pixels
KINDS = (
    "index",  # no side bar on the left
    "search",
    "genindex",
    "howto/score",  # side bars, code and tables
    "explanation/model",  # equations
    "reference/api/fitting",  # signatures
)

pytestmark = pytest.mark.thorough


@pytest.fixture
def violations(browser: Any) -> Callable[[Path, int], list[str]]:  # noqa: F811
    """What axe finds on a page at a width, and whether the page scrolls sideways."""
    script = AXE.read_text(encoding="utf-8")
    browser.set_script_timeout(120)

    def found(page: Path, width: int) -> list[str]:
        visit(browser, page, width)
        browser.execute_script(script)
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        sideways = [f"scrolls sideways: {wide} pixels"] * (wide > width)
        return [*sideways, *browser.execute_async_script(RUN)]

    return found


def test_every_page_is_accessible_on_a_phone(
    site: Path,  # noqa: F811
    violations: Callable[[Path, int], list[str]],
) -> None:
    pages = pages_of(site)
    assert len(pages) > 70
    found = {page.relative_to(site).as_posix(): violations(page, PHONE) for page in pages}
    assert {page: words for page, words in found.items() if words} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_page_is_accessible_on_a_desktop(
    site: Path,  # noqa: F811
    violations: Callable[[Path, int], list[str]],
    kind: str,
) -> None:
    assert violations(site / f"{kind}.html", DESKTOP) == []


def test_violations_are_found(violations: Callable[[Path, int], list[str]], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><title>Page</title><main><h1>One</h1><h4>Two</h4><img src='x.png'>"
        "<p style='color: #aaa; background: #fff'>Pale text.</p><a href='#x'></a>"
        "<button></button><p style='width: 900px'>Wide.</p></main>"
    )
    said = " ".join(violations(page, PHONE))
    for rule in (
        "scrolls sideways: 9",
        "html-has-lang",
        "heading-order",
        "image-alt",
        "color-contrast",
        "link-name",
        "button-name",
    ):
        assert rule in said, rule
