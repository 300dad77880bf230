"""Reports and figures of tables of estimates, against the numbers that they are made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate

from rmm.cli import main
from rmm.errors import StudyError
from rmm.study import performance
from rmm.study.estimate_tables.score_table import read_table_of
from rmm.study.estimate_tables.table_options import split_arguments
from rmm.study.report import write_table_figure, write_table_report
from rmm.study.report.data.table_results import TableResults, table_results
from rmm.study.report.figures.chart import Chart
from rmm.study.report.figures.registry import TABLE_FIGURES, table_charts
from rmm.study.report.figures.single_estimates.usable_estimates import (
    MOST_POINTS,
    limits_of,
    thinned,
)
from rmm.study.report.page.sections import SECTIONS

NAMES: dict[str, Any] = {
    "by": ["n", "base.line"],
    "method": "model",
    "replication": "i",
    "estimate": "b",
    "se": "s",
    "truth": 0.5,
}


def a_table(replications: int = 40, sizes: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = pd.MultiIndex.from_product(
        [[50 * 2**k for k in range(sizes)], ["exp", "weibull"], [1, 2, "<b>"], range(replications)],
        names=["n", "base.line", "model", "i"],
    ).to_frame(index=False)
    rows["model"] = rows["model"].astype(str)
    rows = rows.assign(b=rng.normal(0.5, 0.2, len(rows)), s=rng.gamma(40, 0.005, len(rows)))
    rows.loc[rows.index.isin([3, 50]), "b"] = np.nan
    return rows


def results_of(table: Any, **changes: Any) -> TableResults:
    columns, options = split_arguments({**NAMES, **changes})
    return table_results(read_table_of(table, columns, options), options, "a table")


@pytest.fixture(scope="module")
def results() -> TableResults:
    return results_of(a_table())


def named(made: list[Chart], name: str) -> Any:
    return next(chart for chart in made if chart.name == name)


def usable(results: TableResults, panel: Any) -> pd.DataFrame:
    """Rows of the table behind a panel of one method: `1, n = 50, base line = exp`."""
    method, size, base = panel.title.split(", ")
    table = a_table()
    chosen = (table["model"] == method) & (table["n"] == int(size.split(" = ")[1]))
    rows = table[chosen & (table["base.line"] == base.split(" = ")[1])]
    return rows[rows["b"].notna()]


def test_all_figures_are_there_with_names_of_their_own(results: TableResults) -> None:
    made = table_charts(results)
    names = [chart.name for chart in made]
    assert len(set(names)) == len(names)
    assert {*TABLE_FIGURES, "power", "coverage", "bias", "zip", "nested_bias", "heat_bias"} <= {
        *names
    }
    assert {chart.section for chart in made} <= set(SECTIONS)


def test_measures_in_figures_are_those_of_performance(results: TableResults) -> None:
    table = a_table()
    scores = performance(table, **NAMES)
    wanted = scores[(scores["measure"] == "bias") & (scores["policy"] == "per_method")]
    found = [
        dot.value
        for panel in named(table_charts(results), "bias").panels
        for line in panel.lines
        for dot in line.dots
    ]
    assert sorted(found) == pytest.approx(sorted(wanted["value"]))
    assert wanted["n"].sum() == len(table) - 2


def test_scatter_has_every_usable_fit(results: TableResults) -> None:
    chart = named(table_charts(results), "scatter")
    assert len(chart.panels) == 6  # of the two scenarios with the lowest and highest coverage
    for panel in chart.panels:
        rows = usable(results, panel)
        np.testing.assert_array_equal(panel.x, rows["b"])
        np.testing.assert_array_equal(panel.y, rows["s"])
        assert panel.truth == 0.5


def test_bland_altman_is_about_complete_pairs(results: TableResults) -> None:
    chart = named(table_charts(results), "bland_altman")
    assert chart.title.startswith("Differences from 1 ")
    table = a_table()
    for panel in chart.panels:
        rows = usable(results, panel)
        base = table[(table["model"] == "1") & (table["n"] == rows["n"].iloc[0])]
        base = base[base["base.line"] == rows["base.line"].iloc[0]]
        pairs = rows.merge(base, on="i", suffixes=("", "_base")).dropna(subset=["b", "b_base"])
        difference = pairs["b"] - pairs["b_base"]
        np.testing.assert_allclose(panel.y, difference)
        np.testing.assert_allclose(panel.x, (pairs["b"] + pairs["b_base"]) / 2)
        assert panel.center == pytest.approx(difference.mean())
        assert panel.spread == pytest.approx(difference.std())


def test_densities_have_an_area_of_one(results: TableResults) -> None:
    chart = named(table_charts(results), "density")
    for panel in chart.panels:
        assert {curve.method for curve in panel.curves} == {"1", "2", "<b>"}
        for curve in panel.curves:
            area = integrate.trapezoid(curve.heights, panel.at)
            assert 0.9 < area <= 1.001  # tails of the kernel lie outside the axis


def test_running_means_end_in_the_mean_and_its_error(results: TableResults) -> None:
    chart = named(table_charts(results), "running")
    scores = performance(a_table(), **NAMES, measures=["mean"])
    scores = scores[scores["policy"] == "per_method"]
    for panel in chart.panels:
        size, base = (part.split(" = ")[1] for part in panel.title.split(", "))
        for run in panel.runs:
            row = scores[(scores["factor.n"] == int(size)) & (scores["base.line"] == base)]
            row = row[row["method"] == run.method].iloc[0]
            assert run.at[0] == 10 and run.at[-1] == row["n"]
            assert (run.mean[-1], run.error[-1]) == pytest.approx((row["value"], row["mcse"]))


def test_zip_plots_at_other_levels_and_by_df() -> None:
    results = results_of(a_table(sizes=1), alpha=0.2, df=5)
    panel = named(table_charts(results), "zip").panels[0]
    assert panel.nominal == 0.8
    widths = [interval.high - interval.low for interval in panel.intervals]
    rows = a_table(sizes=1).dropna()
    rows = rows[(rows["model"] == "1") & (rows["base.line"] == "exp")]
    assert sorted(widths) == pytest.approx(sorted(2 * 1.475884 * rows["s"]))


def test_figures_show_the_fits_that_count() -> None:
    table = a_table(sizes=1).assign(status="ok")
    table.loc[table["i"] < 10, "status"] = "not_converged"
    for usable, count in ((["ok"], 30), (["ok", "not_converged"], 39)):
        made = table_charts(results_of(table, usable=usable))
        assert len(named(made, "scatter").panels[0].x) == count
        assert len(named(made, "zip").panels[0].intervals) == count


def test_figures_without_what_they_need_are_left_out() -> None:
    table = a_table(replications=5, sizes=1).drop(columns="s")
    names = {chart.name for chart in table_charts(results_of(table, se=None, truth=None))}
    assert names & {"scatter", "zip", "bias", "coverage", "density", "running"} == set()
    one = a_table(replications=30, sizes=1).query("model == '1'")
    names = {chart.name for chart in table_charts(results_of(one))}
    assert "bland_altman" not in names and {"density", "running", "scatter"} <= names
    unpaired = results_of(a_table(sizes=1), replication=None)
    assert "bland_altman" not in {chart.name for chart in table_charts(unpaired)}


def test_many_points_are_thinned_and_far_ones_do_not_set_the_axis() -> None:
    assert len(thinned(np.arange(10_000))) == MOST_POINTS
    assert thinned(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    values = np.append(np.linspace(0, 1, 100), 1e6)
    low, high = limits_of([values])
    assert -0.1 < low < 0 and 1 < high < 1.1


@pytest.mark.thorough
def test_the_report_is_one_page_with_files(tmp_path: Path) -> None:
    results = results_of(a_table(sizes=1))
    page = write_table_report(results, tmp_path / "out", "rmm study report t.csv --truth 0.5")
    text = page.read_text(encoding="utf-8")
    numbers = page.with_name("numbers.html").read_text(encoding="utf-8")
    for chart in table_charts(results):
        assert f'<figure id="{chart.name}">' in numbers
        assert (tmp_path / "out" / "figures" / f"{chart.name}.svg").is_file()
    assert "2 rows count as failed because the estimate is missing." in text
    assert "rmm study report t.csv --truth 0.5" in text
    assert "Performance measures were computed with rmm" in text and "Fits used rmm" not in text
    assert "&lt;b&gt;" in numbers and "<b>, n" not in text + numbers
    loaded = set(re.findall(r'(?:src|href)="(?!#)([^"]*)', text + numbers))
    assert loaded == {"index.html", "numbers.html"}, "nothing else is loaded"
    scores = pd.read_csv(tmp_path / "out" / "tables" / "performance.csv")
    assert set(scores["measure"]) >= {"bias", "crps", "median_bias"}
    robust = pd.read_csv(tmp_path / "out" / "tables" / "b_scores.csv")
    wanted = scores[(scores["measure"] == "crps") & (scores["policy"] == "per_method")]
    assert robust["crps"].to_numpy() == pytest.approx(wanted["value"].to_numpy())
    again = write_table_report(results, tmp_path / "out", "rmm study report t.csv --truth 0.5")
    assert again.read_text(encoding="utf-8") == text
    (tmp_path / "mine" / "figures").mkdir(parents=True)
    with pytest.raises(StudyError, match="was not written by rmm"):
        write_table_report(results, tmp_path / "mine", "")


@pytest.mark.parametrize("ending", ["svg", "pdf", "png", "html"])
def test_single_figures(results: TableResults, tmp_path: Path, ending: str) -> None:
    path = write_table_figure(results, "scatter", tmp_path / f"scatter.{ending}")
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG", "html": b"<!DOCTYPE html>"}
    assert path.read_bytes().startswith(starts[ending])
    if ending == "html":
        text = path.read_text(encoding="utf-8")
        assert text.count("<figure") == 1 and "Files:" not in text


def test_figures_that_are_refused(results: TableResults, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"'scater' is not a figure of this table.*'scatter'"):
        write_table_figure(results, "scater", tmp_path / "x.svg")
    with pytest.raises(StudyError, match=r"must end in \.html, \.svg, \.pdf, \.png, not"):
        write_table_figure(results, "scatter", tmp_path / "x.jpg")


COLUMNS = [
    "--by", "n", "base.line", "--method", "model", "--replication", "i", "--estimate", "b",
    "--se", "s", "--truth", "0.5",
]  # fmt: skip


def test_the_command_for_one_figure(tmp_path: Path) -> None:
    table, figure = tmp_path / "my table.csv", tmp_path / "zip.svg"
    a_table(sizes=1).to_csv(table, index=False)
    command = ["study", "report", str(table), *COLUMNS, "--figure", "zip"]
    assert main([*command, "--output", str(figure)]) == 0
    assert figure.is_file()


@pytest.mark.thorough
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "my table.csv"
    a_table(sizes=1).to_csv(table, index=False)
    out = tmp_path / "report"
    command = ["study", "report", str(table), *COLUMNS, "--alpha", "0.1", "--dropbig"]
    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "--by n base.line --method model" in text and "--alpha 0.1" in text
    assert "--dropbig robust" in text and "--mcse" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t.csv", *COLUMNS, "--figure", "zip"], "--figure needs a file, such as --out zip.svg"),
        (["s.yaml", "--by", "n"], "--by is an option of tables of estimates, but s.yaml is"),
        (["s.yaml", "--figure", "zip"], "--figure is an option of tables of estimates"),
    ],
)
def test_commands_that_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    a_table(sizes=1).to_csv("t.csv", index=False)
    assert main(["study", "report", *arguments]) == 2
    assert message in capsys.readouterr().err


#: Names and labels that are no names of files.
HOSTILE = ["../../up", "a/b", "..", "x" * 300, "X" * 300, "$(touch it)", "CON", "\u202e\u0301", "/"]


def test_names_of_files_do_not_come_from_labels(tmp_path: Path) -> None:
    """Parameters, methods and levels of factors of any text: files stay in the report's folder."""
    rng = np.random.default_rng(3)
    rows = pd.MultiIndex.from_product(
        [HOSTILE, HOSTILE[:3], HOSTILE[:2], range(6)], names=["parameter", "model", "n", "i"]
    ).to_frame(index=False)
    rows = rows.assign(b=rng.normal(0.5, 0.2, len(rows)), s=0.2)
    made = results_of(rows, by=["n"], parameter="parameter")
    out = tmp_path / "deep" / "inside" / "report"
    write_table_report(made, out, "a command")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in files} == {out, out / "figures", out / "tables"}
    assert all(re.fullmatch(r"[A-Za-z0-9_]{1,100}\.(html|svg|pdf|csv|tex)", p.name) for p in files)
    starts = [name.lower() for name in made.file_names.values()]
    assert len(set(starts)) == len(HOSTILE), "alike if capitals are ignored"


@pytest.mark.parametrize("labels", [["a", "b"], [10, 20]])
def test_a_column_of_scenarios_may_be_called_so(labels: list[Any], tmp_path: Path) -> None:
    """The name is that of the column of ids that reports add themselves."""
    table = a_table(sizes=2)
    table["scenario"] = table["n"].map(dict(zip((50, 100), labels, strict=True)))
    plain, named = (
        results_of(table, by=[by, "base.line"], parameter=None) for by in ("n", "scenario")
    )
    write_table_report(named, tmp_path / "report", "a command")
    assert [f.rpartition(".")[2] for f in named.factors] == ["scenario", "base_line"]
    assert named.scenarios[named.factors[0]].tolist() == [v for v in labels for _ in range(2)]
    for scenario in ("0", "3"):
        assert named.truth(scenario, named.study.estimands[0].parameter) == 0.5
    column = ["scenario", "method", "measure", "value"]
    assert named.performance[column].equals(plain.performance[column])


def test_missing_standard_errors_are_counted_and_named(tmp_path: Path) -> None:
    table = a_table(sizes=1).drop(columns="base.line").query("b == b").reset_index(drop=True)
    table["i"] = table.groupby("model").cumcount()
    table.loc[table["model"].eq("1") & (table["i"] % 3 == 0), "s"] = np.nan
    lacking = int(table["s"].isna().sum())
    made = results_of(table, by=["n"])
    assert any(
        note.startswith(f"{lacking} rows have an estimate, but no standard error")
        for note in made.table.notes
    )
    page = write_table_report(made, tmp_path / "report", "a command").read_text()
    assert "depends on what standard errors that are missing would have shown" in page
    assert "lost fits would have shown" not in page


@pytest.mark.parametrize(
    ("column", "parameter"),
    [("b", "b"), ("est_{method}", "theta"), ("mean", "theta")],
)
def test_a_parameter_without_a_name_is_theta_or_called_as_its_column(
    column: str, parameter: str
) -> None:
    rng = np.random.default_rng(1)
    names = [column.replace("{method}", m) for m in (("x", "y") if "{" in column else ("",))]
    table = pd.DataFrame({name: rng.normal(size=10) for name in names}).assign(i=range(10))
    made = results_of(table, by=None, method=None, se=None, estimate=column)
    assert list(made.table.parameters) == [parameter]


def test_names_of_columns_share_a_part() -> None:
    table = {"ols": [0.1, 0.2], "mm": [0.2, 0.1], "i": [1, 2]}
    with pytest.raises(StudyError, match=r"every column of the table(.|\n)*estimate=\"b_\{method"):
        results_of(table, by=None, method=None, se=None, estimate="{method}")
