"""What fits that are not usable could change: bounds of rates, their table, figure and sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rmm.study.measures.measures import MEASURES
from rmm.study.measures.proportions import wilson
from rmm.study.measures.score_cells import LOWER, PER_METHOD, UPPER, score_estimates
from rmm.study.performance import performance
from rmm.study.report import write_report
from rmm.study.report.data.results import FALLBACK, Results
from rmm.study.report.figures.dots import DotPanel
from rmm.study.report.figures.failures import endings, who_fails_where
from rmm.study.report.tables.bounds_table import bounds_table
from rmm.study.report.text.facts import fit_rows, messages
from rmm.study.report.text.lost_fits import lost_fit_findings
from tests.invented import invent_study
from tests.results import both_pages


def fits(method: str, rejecting: int, usable: int, lost: int, scenario: str = "s1") -> Any:
    """Fits that reject b = 0 (the truth), those that do not, and those that are lost."""
    rows = []
    for r in range(1, usable + lost + 1):
        row = {"scenario": scenario, "replication": r, "method": method, "parameter": "b_l1[x]"}
        row |= {"truth": 0.0, "sd": 1.0, "null": 0.0, "backend": "laplace", "seconds": 1.0}
        mean = 3.0 if r <= rejecting else 0.1
        status = "ok" if r <= usable else ("failed", "not_converged")[r % 2]
        row |= {"mean": mean if status == "ok" else np.nan, "status": status, "message": None}
        row["p_value"] = (0.01 if mean == 3.0 else 0.9) if status == "ok" else np.nan
        bounds = (mean - 1.96, mean + 1.96) if status == "ok" else (np.nan, np.nan)
        rows.append({**row, "lower": bounds[0], "upper": bounds[1]})
    return rows


def value(frame: pd.DataFrame, measure: str, policy: str, column: str = "value") -> float:
    (found,) = frame[(frame["measure"] == measure) & (frame["policy"] == policy)][column]
    return float(found)


def test_bounds_count_all_fits(tmp_path: Path) -> None:
    """8 of 80 usable fits reject, 20 are lost: .10, at least 8/100, at most 28/100."""
    frame = performance(pd.DataFrame(fits("a", 8, 80, 20)))
    rates = {"rejection": (8, 28), "coverage": (72, 92), "be_coverage": (72, 92)}
    for measure, (low, high) in rates.items():
        for policy, hits in ((LOWER, low), (UPPER, high)):
            assert value(frame, measure, policy) == pytest.approx(hits / 100)
            assert value(frame, measure, policy, "n") == 100
            error = np.sqrt(hits * (100 - hits) / 100**3)
            assert value(frame, measure, policy, "mcse") == pytest.approx(error)
            ends = (value(frame, measure, policy, end) for end in ("lower", "upper"))
            assert tuple(ends) == pytest.approx(wilson(hits / 100, 100))
    assert value(frame, "rejection", PER_METHOD) == pytest.approx(0.1)


def test_bounds_of_a_method_that_loses_nothing_are_its_rate() -> None:
    frame = performance(pd.DataFrame(fits("a", 8, 80, 0)))
    for measure in ("rejection", "coverage", "be_coverage"):
        found = {value(frame, measure, policy) for policy in (PER_METHOD, LOWER, UPPER)}
        assert len(found) == 1


def test_bounds_of_signs_and_size_adjusted_power() -> None:
    """Signs: 2 of 10 significant fits are wrong, 5 lost; power: of p below the null quantile."""
    null = pd.DataFrame(fits("a", 0, 100, 0, "s0"))
    null["p_value"] = (np.arange(100) + 0.5) / 100
    rows = pd.DataFrame(fits("a", 10, 40, 5)).assign(truth=1.0)
    rows.loc[:1, "mean"] = -3.0
    both = pd.concat([null, rows])
    frame = score_estimates(both, null_scenarios={("s1", "b_l1[x]"): "s0"}, scenarios=["s1"])
    assert value(frame, "type_s", PER_METHOD) == pytest.approx(2 / 10)
    assert value(frame, "type_s", LOWER) == pytest.approx(2 / 15)
    assert value(frame, "type_s", UPPER) == pytest.approx(7 / 15)
    # The .05 quantile of the null's p values is .0545 (NumPy's interpolation): 10 of 40 are below.
    assert value(frame, "size_adjusted_power", LOWER) == pytest.approx(10 / 45)
    assert value(frame, "size_adjusted_power", UPPER) == pytest.approx(15 / 45)


def test_every_rate_of_usable_fits_has_bounds() -> None:
    rates = {name for name, row in MEASURES.items() if row.rate and row.of != "fits"}
    assert rates == {name for name, row in MEASURES.items() if row.hits is not None}


def test_bounds_of_a_choice() -> None:
    rows = pd.DataFrame(fits("a", 0, 20, 5)).assign(parameter="choice[m]")
    rows["mean"] = np.where(rows["mean"].notna(), (rows["replication"] <= 15) * 1.0, np.nan)
    frame = performance(rows, measures=["selection"])
    found = [value(frame, "selection", policy) for policy in (PER_METHOD, LOWER, UPPER)]
    assert found == pytest.approx([15 / 20, 15 / 25, 20 / 25])


# -- in the report ---------------------------------------------------------------------------

SCENARIOS = pd.DataFrame({"scenario": ["s1", "s2"], "groups": [50, 100]})


def results(folder: Path, *parts: list[dict[str, Any]]) -> Results:
    estimates = pd.DataFrame([row for part in parts for row in part])
    methods = list(dict.fromkeys(estimates["method"]))
    study = invent_study(folder, SCENARIOS, dict.fromkeys(methods, "mm"))
    frame = performance(estimates, measures=["rejection", "coverage", "bias", "convergence"])
    return Results(study, estimates, frame)


@pytest.fixture
def invented(tmp_path: Path) -> Results:
    """`lossy` loses a fifth where groups = 100; at 50 groups it loses nothing."""
    return results(
        tmp_path,
        fits("lossy", 10, 200, 0),
        fits("lossy", 8, 160, 40, "s2"),
        fits("safe", 10, 200, 0),
        fits("safe", 10, 198, 2, "s2"),
    )


def test_the_finding_names_bounds_where_they_change_the_verdict(invented: Results) -> None:
    """.05 of 160 usable is within the band; 8/200 is too, 48/200 = .24 is not. 2 lost change no
    verdict of `safe`."""
    (estimand,) = invented.study.estimands
    found = lost_fit_findings(invented, estimand)
    assert {method for method, _ in found} == {"lossy"}
    rejection, coverage = (words for _, words in found)
    assert rejection == (
        "has no usable fit of 20.0% of the data sets at groups = 100: the rejection rate of "
        "b_l1[x] is .050 of the others, and over all fits between .040 (no lost fit rejects) and "
        ".240 (every lost fit rejects). The verdict depends on the lost fits."
    )
    assert "coverage of b_l1[x] is .950 of the others" in coverage
    assert "between .760 (no lost fit holds the truth) and .960" in coverage


def test_no_verdict_no_sentence(tmp_path: Path) -> None:
    """Fewer than 10 usable fits have no verdict that could change."""
    few = results(tmp_path, fits("lossy", 1, 9, 100), fits("lossy", 0, 9, 0, "s2"))
    assert lost_fit_findings(few, few.study.estimands[0]) == []


def test_the_table_has_bounds_beside_both_policies(invented: Results) -> None:
    (table,) = bounds_table(invented)
    columns = dict(zip(table.plain_columns, zip(*table.rows, strict=True), strict=True))
    rows = [
        {name: columns[name][k].value for name in columns}
        for k in range(len(table.rows))
        if columns["measure"][k].value == "rejection_0.05"
    ]
    assert [(r["groups"], r["method"]) for r in rows] == [(100, "lossy"), (100, "safe")]
    lossy, safe = rows
    assert lossy["lost"] == pytest.approx(0.2)
    names = ("per_method", "complete_case", "lower_bound", "upper_bound")
    # Complete cases: the 160 data sets that both have; 10 of them reject in `safe`, 8 in `lossy`.
    assert [lossy[n] for n in names] == pytest.approx([8 / 160, 8 / 160, 8 / 200, 48 / 200])
    assert [safe[n] for n in names] == pytest.approx([10 / 198, 10 / 160, 10 / 200, 12 / 200])


def test_no_lost_fits_no_table_and_no_figure(tmp_path: Path) -> None:
    whole = results(tmp_path, fits("a", 5, 50, 0), fits("a", 5, 50, 0, "s2"))
    assert bounds_table(whole) == []
    assert who_fails_where(whole) == []


def test_the_figure_has_shares_of_lost_fits_by_level(invented: Results) -> None:
    (chart,) = who_fails_where(invented)
    (panel,) = chart.panels
    assert isinstance(panel, DotPanel)
    found = {line.method: [(d.at, d.value) for d in line.dots] for line in panel.lines}
    assert found == {"lossy": [(0, 0), (1, 0.2)], "safe": [(0, 0), (1, 0.01)]}
    last = panel.lines[0].dots[1]
    assert (last.low, last.high) == pytest.approx(wilson(0.2, 200))
    assert panel.axis.labels == ("50", "100")


def test_fits_of_the_fallback_are_counted_and_drawn(invented: Results) -> None:
    lossy, safe = invented.study.methods
    lossy = replace(lossy, fallback=replace(safe, backend="stan"))
    study = replace(invented.study, methods=(lossy, safe))
    estimates = invented.estimates.copy()
    place = (estimates["method"] == "lossy") & (estimates["replication"] <= 30)
    estimates.loc[place & (estimates["scenario"] == "s2"), "backend"] = "stan"
    found = Results(study, estimates, invented.performance)
    assert [(row["method"], row["ok"], row["fallback"]) for row in fit_rows(found)] == [
        ("lossy", "360", "30"),
        ("safe", "398", ""),
    ]
    why = estimates["message"].mask(place & (estimates["scenario"] == "s2"), "laplace: <k>")
    said = messages(Results(study, estimates.assign(message=why), invented.performance))
    assert [(m["count"], m["method"], m["status"], m["message"]) for m in said] == [
        ("30", "lossy", "ok, by the fallback", "laplace: <k>")
    ]
    (chart,) = endings(found)
    bars = {bar.label: dict(bar.shares) for panel in chart.panels for bar in panel.bars}  # type: ignore[attr-defined]
    assert bars["lossy, groups = 100"] == {"failed": 10, "not_converged": 10, FALLBACK: 15}
    assert "fallback" in chart.caption


@pytest.mark.thorough
def test_the_page_shows_all_of_it(invented: Results, tmp_path: Path) -> None:
    lossy, safe = invented.study.methods
    lossy = replace(lossy, fallback=replace(safe, backend="stan"))
    study = replace(invented.study, methods=(lossy, safe))
    folder = tmp_path / "results"
    folder.mkdir()
    estimates = invented.estimates.assign(ess_bulk=np.nan, rmm_version="0")
    place = (estimates["method"] == "lossy") & (estimates["replication"] <= 30)
    estimates.loc[place, "backend"] = "stan"
    estimates.to_parquet(folder / "estimates.parquet")
    invented.performance.to_parquet(folder / "performance.parquet")
    page = both_pages(write_report(study, folder))
    assert "every lost fit rejects" in page
    assert "of these by fallback" in page
    assert "usable by the fallback" in page
    assert 'id="who_fails_where"' in page
    assert 'id="bounds"' in page
    assert (folder / "report" / "tables" / "bounds.csv").is_file()
