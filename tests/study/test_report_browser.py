"""The report in a browser: headless Chromium, from a file path, without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import pytest

from rmm.study.report import write_report, write_table_report
from tests.invented import write_study
from tests.study.test_front import a_study_of, write_parity_study, write_power_study
from tests.study.test_table_report import a_table, results_of

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
METHODS = ("aggregation", "mm", "mmmm")
FACTORS = {"overlap": [0.0, 0.5, 1.0], "group_size": [3, 5, 10]}
#: Violations of accessibility that axe-core finds.
AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"], elementRef: false}).then(found => done(
  found.violations.map(v => `${v.id}: ${v.nodes[0].target.join(" ")} (${v.nodes.length})`)));
"""
EVIL = "<script>alert(1)</script>"
QUOTES = "\"a' & $b$ {c} %d"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM.is_file() and DRIVER.is_file()):
        pytest.skip(f"{CHROMIUM} or {DRIVER} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "study"
    return write_report(*write_study(folder, FACTORS, METHODS, 60, ranks=True))


def visit(browser: Any, page: Path, width: int = 1280, address: str = "") -> None:
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri() + address)


def numbers(page: Path) -> Path:
    """The page of all numbers, which has the filter."""
    return page.with_name("numbers.html")


def open_parts(browser: Any) -> None:
    """Open the parts below the first screen, as a reader does."""
    for summary in browser.find_elements("css selector", "details.part > summary"):
        summary.click()


def requests(browser: Any) -> list[str]:
    """Addresses that the page has asked for since the last visit."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


def shown(browser: Any, selector: str) -> int:
    """How many elements of a selector take up room."""
    script = (
        "return [...document.querySelectorAll(arguments[0])]"
        ".filter(e => e.getClientRects().length).length"
    )
    return int(browser.execute_script(script, selector))


def tick(browser: Any, key: str) -> None:
    """Click the box of a choice, as a reader does: open the bar, then the label."""
    browser.execute_script("document.querySelector('#filter details').open = true")
    box = next(
        b
        for b in browser.find_elements("css selector", "#filter input")
        if b.get_attribute("data-key") == key
    )
    box.click()


@pytest.mark.thorough
@pytest.mark.parametrize("width", [1280, 400])
def test_page_opens_without_errors_or_network_and_fits(
    browser: Any, page: Path, width: int
) -> None:
    visit(browser, page, width)
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.get_log("browser") == []
    assert requests(browser) == [page.as_uri()]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    small = browser.execute_script(
        "return [...document.querySelectorAll('p, li, td, th, figcaption, dd, summary, pre')]"
        ".filter(e => parseFloat(getComputedStyle(e).fontSize) < 14).length"
    )
    assert small == 0


@pytest.mark.thorough
@pytest.mark.parametrize("width", [1280, 400])
def test_every_figure_is_there_and_has_a_size(browser: Any, page: Path, width: int) -> None:
    visit(browser, numbers(page), width)
    files = {path.stem for path in (page.parent / "figures").glob("*.svg")}
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => [f.id, "
        "...[...f.querySelectorAll('.panel svg')].map(s => s.getBoundingClientRect())"
        ".map(r => Math.min(r.width, r.height))])"
    )
    assert {name for name, *_ in sizes} == files
    assert {"type1_error", "zip", "nested_bias", "heat_bias", "calibration", "seconds"} <= files
    for name, *panels in sizes:
        assert panels, name
        assert min(panels) > 60, name


@pytest.mark.thorough
def test_a_method_goes_from_tables_and_figures(browser: Any, page: Path) -> None:
    visit(browser, numbers(page))
    rows, zips = shown(browser, "#b_l1_x_tests tbody tr"), shown(browser, "#zip .panel")
    assert rows == 27
    lines = shown(browser, "#type1_error svg .m1")
    assert lines > 0
    tick(browser, "method:mm")
    assert shown(browser, "#b_l1_x_tests tbody tr") == 18
    assert shown(browser, "#type1_error svg .m1") == 0
    assert shown(browser, "#type1_error svg .m2") == lines
    assert shown(browser, "#zip .panel") == zips - 1 * zips // 3
    assert "2 of 3 methods, 9 of 9 scenarios" in browser.find_element("id", "shown").text
    tick(browser, "method:mm")
    assert shown(browser, "#b_l1_x_tests tbody tr") == 27


@pytest.mark.thorough
def test_factor_levels_go_from_tables_panels_and_the_axis(browser: Any, page: Path) -> None:
    visit(browser, numbers(page))
    dots = shown(browser, "#bias svg .f0-1")
    tick(browser, "group_size:5")
    assert shown(browser, "#bias .panel") == 2
    assert shown(browser, "#b_l1_x_estimates tbody tr") == 18
    tick(browser, "overlap:0.5")
    assert dots > 0
    assert shown(browser, "#bias svg .f0-1") == 0
    assert shown(browser, "#b_l1_x_estimates tbody tr") == 12
    assert "4 of 9 scenarios" in browser.find_element("id", "shown").text
    for size in (3, 10):
        tick(browser, f"group_size:{size}")
    assert browser.find_element("css selector", "#bias .none").is_displayed()


@pytest.mark.thorough
def test_the_address_restores_what_was_chosen(browser: Any, page: Path) -> None:
    visit(browser, numbers(page))
    tick(browser, "method:aggregation")
    tick(browser, "overlap:0")
    browser.find_element("css selector", "nav a[href='#estimates']").click()
    address = "#" + browser.current_url.partition("#")[2]
    chosen = parse_qs(address[1:])
    assert chosen == {"at": ["estimates"], "hide": ["method:aggregation", "overlap:0"]}
    visit(browser, numbers(page), 1280, address)  # it opens the part that it points into
    assert shown(browser, "#b_l1_x_tests tbody tr") == 12
    assert shown(browser, "#type1_error svg .m0") == 0
    place = "return document.getElementById('estimates').getBoundingClientRect().top"
    assert abs(browser.execute_script(place)) < 120
    browser.execute_script("document.querySelector('#filter details').open = true")
    browser.find_element("css selector", "#filter button").click()
    assert shown(browser, "#b_l1_x_tests tbody tr") == 27
    assert browser.get_log("browser") == []


@pytest.mark.thorough
def test_without_javascript_everything_is_shown(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit(browser, numbers(page), 1280, "#hide=method%3Amm")
        form = browser.find_element("id", "filter")
        assert not form.is_displayed()
        rows = browser.find_elements("css selector", "#b_l1_x_tests tbody tr")
        assert sum(row.is_displayed() for row in rows) == 27
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.thorough
def test_a_script_put_into_the_page_does_not_run(browser: Any, page: Path, tmp_path: Path) -> None:
    """The Content Security Policy, shown to work: it stops what escaping would have let through."""
    evil = tmp_path / "index.html"
    text = page.read_text(encoding="utf-8")
    evil.write_text(
        text.replace(
            "<header>",
            "<script>document.title = 'broken'</script>"
            "<img src='http://localhost:9/x.png'><header>",
        )
    )
    visit(browser, evil)
    assert browser.title == "Invented results"
    said = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "script-src" in said and "default-src" in said


@pytest.mark.thorough
def test_hostile_labels_are_text_everywhere(browser: Any, tmp_path: Path) -> None:
    factors = {EVIL: [QUOTES, "</script>", "</style>"], "n": [1, 2, 3]}
    invented = write_study(
        tmp_path / "hostile",
        factors,
        (EVIL, QUOTES, "plain"),
        30,
        f"b_l1[{EVIL}]",
        title=EVIL,
        aims=EVIL,
    )
    hostile = write_report(*invented)
    visit(browser, hostile)
    open_parts(browser)
    assert browser.get_log("browser") == []
    assert browser.find_elements("tag name", "script") == []
    assert browser.find_elements("css selector", "img, iframe, [onerror], [onload]") == []
    assert browser.find_element("tag name", "h1").text == EVIL
    visit(browser, numbers(hostile))
    assert browser.get_log("browser") == []
    assert len(browser.find_elements("tag name", "script")) == 1
    assert browser.find_elements("css selector", "img, iframe, [onerror], [onload]") == []
    tick(browser, f"method:{QUOTES}")
    table = "#b_l1_script_alert_1_script_tests tbody tr"
    assert shown(browser, table) == 18
    address = "#" + browser.current_url.partition("#")[2]
    visit(browser, numbers(hostile), 400, address)
    assert shown(browser, table) == 18
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400


def null_effect(folder: Path) -> Path:
    return write_report(*write_study(folder, FACTORS, METHODS, 60))


def power(folder: Path) -> Path:
    return write_report(*write_power_study(folder, lambda e, g: 0.05 + e * g / 500))


def recovery(folder: Path) -> Path:
    """Six facets: a phone shows four at once."""
    factors = {"overlap": [0.0, 0.5, 1.0], "group_size": [3, 5]}
    return write_report(*write_study(folder, factors, METHODS, 120, truth=0.5))


def calibration(folder: Path) -> Path:
    """18 panels: a phone shows the 8 with the smallest p values at once."""
    return write_report(*write_study(folder, FACTORS, METHODS, 60, ranks=True))


def closed_form(folder: Path) -> Path:
    invented = write_study(folder, FACTORS, METHODS[:1], 60)
    scores = pd.read_parquet(folder / "performance.parquet")
    known = scores["measure"].eq("rejection")
    scores["reference"] = scores["value"].where(known) + scores["mcse"].where(known)
    scores.assign(reference_source="a formula").to_parquet(folder / "performance.parquet")
    page = write_report(*invented)
    assert (
        "All 9 values agree with the known ones, within 1.0 Monte Carlo errors."
        in page.read_text(encoding="utf-8")
    )
    return page


def parity(folder: Path) -> Path:
    """One data set, 22 methods."""
    return write_report(*write_parity_study(folder))


def table(folder: Path) -> Path:
    command = "rmm study report table.csv --truth 0.5"
    return write_table_report(results_of(a_table()), folder, command)


def many_methods(folder: Path) -> Path:
    """All that can be long: 12 methods, 8 scenarios, faults in some, and a long question."""
    rates = {f"regression {i}": (0.05, 0.3, 0.1, 0.05, 0.05, 0.2, 0.05, 0.05) for i in range(12)}
    study, results = a_study_of(folder, rates, {"overlap": [i / 8 for i in range(8)]})
    aims = "Which of these analyses keep the level of the test where groups share members? " * 3
    return write_report(replace(study, config={**study.config, "aims": aims}), results)


KINDS_OF_STUDY: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (
        null_effect,
        power,
        recovery,
        calibration,
        closed_form,
        parity,
        table,
        many_methods,
    )
}
#: Boxes that are cut off: outside of the window, or with content that is wider than they are.
CUT_OFF = """
return [...document.querySelectorAll("body *")]
  .filter(e => e.checkVisibility() && !e.closest("svg, .hear")
    && getComputedStyle(e).display !== "inline")
  .filter(e => { const r = e.getBoundingClientRect();
    return r.left < -1 || r.right > window.innerWidth + 1
      || e.clientWidth && e.scrollWidth > e.clientWidth + 1; })
  .map(e => e.tagName + " " + e.textContent.trim().slice(0, 40))
"""


@pytest.fixture(scope="module", params=KINDS_OF_STUDY)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one kind of study."""
    return KINDS_OF_STUDY[request.param](tmp_path_factory.mktemp(request.param) / "study")


@pytest.mark.thorough
@pytest.mark.parametrize("width", [400, 1280, 1920])
def test_with_details_closed_a_report_is_short_and_nothing_is_cut_off(
    browser: Any, report: Path, width: int
) -> None:
    """At most 3,000 pixels, also on a phone; every box lies in the window."""
    visit(browser, report, width)
    assert browser.execute_script(CUT_OFF) == []
    assert browser.execute_script("return document.documentElement.scrollHeight") <= 3000


@pytest.mark.thorough
def test_a_phone_shows_on_request_what_is_folded(browser: Any, report: Path) -> None:
    visit(browser, report, 400)
    boxes = browser.find_elements("css selector", ".more input")
    folded = len(browser.find_elements("css selector", "body .later"))
    assert bool(boxes) == bool(folded)
    assert shown(browser, ".later") == 0
    for box in boxes:
        box.click()
    assert shown(browser, ".later") == folded
    assert browser.execute_script(CUT_OFF) == []


@pytest.mark.thorough
def test_wide_screens_and_paper_show_everything(browser: Any, report: Path) -> None:
    """Nothing is folded; printed, all parts are open."""
    visit(browser, report, 1280)
    everything = "body .later:not(.only-narrow *), td.gap"
    count = len(browser.find_elements("css selector", everything))
    assert shown(browser, everything) == count and shown(browser, ".more") == 0
    closed = "details:not([open]) > :not(summary)"
    assert shown(browser, "details.part") > 2
    visible = (
        f"return [...document.querySelectorAll('{closed}')].filter(e => e.checkVisibility()).length"
    )
    assert browser.execute_script(visible) == 0
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        visit(browser, report, 700)  # A4 in pixels is narrow
        parts = len(browser.find_elements("css selector", closed))
        assert parts and browser.execute_script(visible) == parts
        assert shown(browser, everything) == count and shown(browser, ".more") == 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.thorough
@pytest.mark.parametrize("width", [400, 1280])
def test_every_kind_of_report_is_accessible(browser: Any, report: Path, width: int) -> None:
    axe = pytest.importorskip("axe_selenium_python")
    script = Path(axe.__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
    visit(browser, report, width)
    browser.set_script_timeout(120)
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    browser.execute_script(script.read_text(encoding="utf-8"))
    found = browser.execute_async_script(AXE)
    assert found == []


@pytest.mark.thorough
@pytest.mark.parametrize("width", [400, 1280])
def test_the_first_screen_has_the_figure_of_its_width(
    browser: Any, page: Path, tmp_path: Path, width: int
) -> None:
    few = write_report(*write_study(tmp_path / "few", {"overlap": [0.0, 1.0]}, METHODS, 120))
    visit(browser, few, width)
    assert shown(browser, "#figure_1 svg") == 1
    assert shown(browser, "#figure_1 .only-wide svg") == (width > 768)
