"""What the figures of a report show, against the estimates they are made from."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rmm.study.evaluate.criteria.calibration import ecdf_null, ecdf_p
from rmm.study.report import read_results, write_report
from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import Chart
from rmm.study.report.figures.failures import endings
from rmm.study.report.figures.heat_map import heat_maps
from rmm.study.report.figures.nested_loop import nested_loops
from rmm.study.report.figures.rank_ecdf import rank_plots, simultaneous_band
from rmm.study.report.figures.registry import FIGURES, charts
from rmm.study.report.figures.runtime import runtime
from rmm.study.report.figures.zip_plot import MOST_INTERVALS, zips
from rmm.study.report.page.sections import SECTIONS
from rmm.study.report.tables.measure_tables import calibration_table, measure_tables
from tests.invented import write_study
from tests.results import both_pages

METHODS = ("aggregation", "mm", "mmmm")
FACTORS = {"overlap": [0.0, 0.5, 1.0], "group_size": [10, 3, 5]}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("figures") / "study"
    return read_results(*write_study(folder, FACTORS, METHODS, 60, ranks=True))


def named(made: list[Chart], name: str) -> Chart:
    return next(chart for chart in made if chart.name == name)


def test_every_chart_has_a_name_of_its_own_and_a_place(results: Results) -> None:
    made = charts(results)
    assert len({chart.name for chart in made}) == len(made)
    assert {chart.section for chart in made} <= set(SECTIONS)
    assert {c.name for f in FIGURES.values() for c in f(results)} == {c.name for c in made}
    assert made[0].name == "type1_error"


def test_labels_may_have_characters_that_files_of_figures_cannot_have(tmp_path: Path) -> None:
    """Dollars, which Matplotlib wraps as formulas; control characters; a byte order mark."""
    factors = {"$\\frac{$\x1b": ["\x1b[2J", "$\\alpha{$"], "\ufeffb": ["\ufeff", "\x07"]}
    made = write_study(tmp_path / "study", factors, ["m\x1b", "\ufeffm"], 20)
    figures = write_report(*made).parent / "figures"
    assert len(list(figures.glob("*.pdf"))) > 2
    for file in figures.glob("*.svg"):
        ET.parse(file)


def test_a_rate_of_hardly_any_fits_does_not_set_the_scale(tmp_path: Path) -> None:
    """Of 3 usable replications beside 400: in the tables, not in the figure, which says so."""
    invented = write_study(tmp_path / "study", FACTORS, METHODS, 400)
    path = invented.folder / "performance.parquet"
    table = pd.read_parquet(path)
    few = (table["method"] == "mmmm") & (table["scenario"] == table["scenario"].iloc[0])
    table.loc[few, "n"] = 3
    table.to_parquet(path)
    chart = named(charts(read_results(*invented)), "type1_error")
    dots = [len(line.dots) for panel in chart.panels for line in panel.lines]  # type: ignore[attr-defined]
    assert sorted(dots) == [2] + [3] * 8
    said = "Not drawn: 1 of fewer than 10 usable replications; see the tables."
    assert chart.caption.endswith(said)
    table["n"] = 3  # a trial run: all are few
    table.to_parquet(path)
    whole = named(charts(read_results(*invented)), "type1_error")
    assert "Not drawn" not in whole.caption
    assert {len(line.dots) for panel in whole.panels for line in panel.lines} == {3}  # type: ignore[attr-defined]


def test_nested_loops_show_every_scenario_in_nested_order(results: Results) -> None:
    chart = named(nested_loops(results), "nested_bias")
    panel: Any = chart.panels[0]
    assert [strip.name for strip in panel.strips] == ["group size: 3, 5, 10", "overlap: 0, 0.5, 1"]
    assert panel.strips[0].steps == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert panel.strips[1].steps == (0, 1, 2) * 3
    rows = results.measure("bias").merge(results.scenarios, on="scenario")
    for course in panel.courses:
        mine = rows[rows["method"] == course.method].sort_values(["group_size", "overlap"])
        np.testing.assert_array_equal(course.values, mine["value"])


def test_few_scenarios_or_one_factor_have_no_nested_loops(tmp_path: Path) -> None:
    few = write_study(tmp_path / "few", {"a": [1, 2], "b": [1, 2, 3]}, METHODS, 10)
    one = write_study(tmp_path / "one", {"a": list(range(9))}, METHODS, 10)
    assert nested_loops(read_results(*few)) == nested_loops(read_results(*one)) == []


def test_zip_plot_holds_each_interval_at_its_centile(results: Results) -> None:
    (chart,) = zips(results)
    coverage = results.measure("coverage").set_index(["scenario", "method"])["value"]
    assert len(chart.panels) == 2 * len(METHODS)
    for panel in chart.panels:
        every: Any = panel
        share = np.mean([i.covers for i in every.intervals])
        assert f"coverage {share:.3f}".replace("0.", ".") in every.title
        assert share in coverage.xs(every.method, level="method").to_numpy()
        centres = [abs(i.low + i.high) for i in every.intervals]  # all errors are 0.1 here
        assert centres == sorted(centres)
        assert every.intervals[-1].centile == 100
        misses = [i.centile for i in every.intervals if not i.covers]
        assert all(np.diff(misses) > 0) and min(misses) > 100 * share - 1e-9


def test_zip_plot_of_many_replications_is_thinned_evenly(tmp_path: Path) -> None:
    invented = write_study(tmp_path / "study", {}, METHODS, 1500)
    for panel in zips(read_results(*invented))[0].panels:
        every: Any = panel
        assert len(every.intervals) == MOST_INTERVALS
        share = 1 - np.mean([i.covers for i in every.intervals])
        assert share == pytest.approx(1 - every.coverage[0], abs=1.5 / MOST_INTERVALS)


def test_heat_map_holds_the_measure_by_both_factors(results: Results) -> None:
    chart = named(heat_maps(results), "heat_type1_error")
    rows = results.measure("rejection").merge(results.scenarios, on="scenario")
    assert [panel.title for panel in chart.panels] == list(METHODS)
    for panel in chart.panels:
        heat: Any = panel
        assert heat.columns == ("0", "0.5", "1") and heat.rows == ("3", "5", "10")
        mine = rows[rows["method"] == heat.title].set_index(["overlap", "group_size"])["value"]
        for cell in heat.cells:
            value = mine[(float(heat.columns[cell.column]), int(heat.rows[cell.row]))]
            assert float("0" + cell.text) == pytest.approx(value, abs=5e-3)
    far = (rows["value"] - 0.05).abs()
    assert max(c.shade for p in chart.panels for c in p.cells) == 1  # type: ignore[attr-defined]
    assert far.max() > 0


def test_runtime_says_median_and_range_of_fits(results: Results) -> None:
    seconds, speed = runtime(results)
    table = results.estimates
    for line in seconds.panels[0].lines:  # type: ignore[attr-defined]
        mine = table.loc[table["method"] == line.method, "seconds"]
        (dot,) = line.dots
        assert (dot.value, dot.low, dot.high) == pytest.approx(
            tuple(np.quantile(mine, [0.5, 0.05, 0.95]))
        )
    # Only the second method samples, in these results.
    assert [line.method for line in speed.panels[0].lines] == ["mm"]  # type: ignore[attr-defined]


def test_endings_show_the_worst_first_and_nothing_where_all_is_well(results: Results) -> None:
    (chart,) = endings(results)
    bars = chart.panels[0].bars  # type: ignore[attr-defined]
    shares = [sum(share for _, share in bar.shares) for bar in bars]
    assert shares == sorted(shares, reverse=True)
    fits = results.fits.assign(bad=results.fits["status"] != "ok")
    assert shares[0] == pytest.approx(
        100 * fits.groupby(["scenario", "method"])["bad"].mean().max()
    )
    well = results.estimates.assign(status="ok")
    fine = Results(results.study, well, results.performance)
    assert endings(fine) == []


def test_line_of_ranks_leaves_its_band_just_if_the_test_rejects() -> None:
    """Three in ten of these rank sets are not uniform; both ways must say the same of all."""
    rng = np.random.default_rng(20261125)
    rejected, nulls = 0, {n: ecdf_null(n) for n in (50, 120)}
    bands = {n: simultaneous_band(n) for n in nulls}
    for trial in range(300):
        n = (50, 120)[trial % 2]
        ranks = rng.integers(0, 100, n) if trial % 10 < 7 else rng.binomial(99, 0.5, n)
        low, high = bands[n]
        at = np.arange(1, 100) / 100
        difference = np.searchsorted(np.sort(ranks), np.arange(99), side="right") / n - at
        outside = bool(((difference < low - 1e-12) | (difference > high + 1e-12)).any())
        assert outside == (ecdf_p(ranks, nulls[n]) <= 0.05)
        rejected += outside and trial % 10 < 7
    # 210 uniform sets: Binomial(210, .05) exceeds 22 with probability 6e-4.
    assert rejected <= 22


def test_calibration_is_shown_and_said(results: Results) -> None:
    (chart,) = rank_plots(results)
    first: Any = chart.panels[0]
    table = results.estimates
    here = table[(table["scenario"] == results.scenarios["scenario"][0]) & table["rank"].notna()]
    for steps in first.steps:
        ranks = here.loc[here["method"] == steps.method, "rank"]
        assert steps.difference[9] == pytest.approx((ranks <= 9).mean() - 0.1)
    (shown,) = calibration_table(results)
    assert len(shown.rows) == 27


def test_a_measure_on_other_fits_says_its_n(results: Results) -> None:
    """Relative precision rests on the replications that both methods have."""
    table = next(t for t in measure_tables(results) if t.section == "computation")
    rows = results.measure("relative_precision").set_index(["scenario", "method"])
    mine = rows.loc[(results.scenarios["scenario"][0], "mm")]
    usable = results.measure("mse").set_index(["scenario", "method"])["n"]
    assert mine["n"] < usable[(results.scenarios["scenario"][0], "mm")]
    said = [cell.text for cell in table.rows[1]]
    assert said[2] == "mm"
    assert any(text.endswith(f" n {mine['n']}") for text in said)


@pytest.mark.thorough
def test_hostile_labels_are_escaped_in_every_file(tmp_path: Path) -> None:
    evil, quotes = "<script>alert(1)</script>", "\"a' & $b$ {c} %d \\x"
    factors = {evil: [quotes, "</svg>", "x"], "n": [1, 2, 3]}
    invented = write_study(
        tmp_path / "study", factors, (evil, quotes), 20, f"b_l1[{evil}]", title=evil, aims=evil
    )
    page = write_report(*invented)
    assert "<script" not in page.read_text(encoding="utf-8")
    text = both_pages(page)
    assert text.count("<script") == 1
    assert text.count("</script>") == 1
    assert "mathdefault" not in text
    for file in (page.parent / "figures").glob("*.svg"):
        names = {element.tag.rpartition("}")[2] for element in ET.parse(file).iter()}
        assert "script" not in names, file
    tables = list((page.parent / "tables").glob("*.tex"))
    assert tables
    for file in tables:
        body = "\n".join(x for x in file.read_text().splitlines() if not x.startswith("%"))
        assert "<" not in body and "&lt;" not in body
        assert r"\textless{}script\textgreater{}alert(1)" in body
