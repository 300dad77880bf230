"""The report: made from invented estimates, so that it needs neither engine nor study."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rmm.errors import StudyError
from rmm.posterior.plots.style import LOOKS, looks_of
from rmm.study.measures.proportions import acceptance_band, wilson
from rmm.study.report import write_report
from rmm.study.report.data.format_numbers import (
    decimals_for,
    duration,
    fixed,
    rate,
    rate_known_to,
)
from rmm.study.report.figures.dots import spread_apart
from rmm.study.report.tables.table_files import latex
from tests.invented import Invented, invent_study
from tests.results import both_pages

METHODS = {"aggregation": 0.9, "disaggregation": 1.6, "mm": 0.1, "mmmm": 0.0}
OVERLAPS = (0.0, 0.25, 0.5, 1.0)
SIZES = (3, 10)
MEASURES = (
    "bias",
    "empirical_se",
    "model_se",
    "relative_error_se",
    "coverage",
    "rejection",
    "rmse",
    "convergence",
    "seconds",
)


def scenario_frame() -> pd.DataFrame:
    rows = [(o, s) for o in OVERLAPS for s in SIZES]
    return pd.DataFrame(
        {
            "scenario": [f"s{i:010x}" for i in range(len(rows))],
            "membership.overlap": [o for o, _ in rows],
            "membership.group_size": [s for _, s in rows],
        }
    )


def estimate_frame(scenarios: pd.DataFrame, replications: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for record in scenarios.to_dict("records"):
        for method, slope in METHODS.items():
            spread = 0.1 * (1 + slope * record["membership.overlap"])
            for replication in range(1, replications + 1):
                mean = rng.normal(0, spread)
                status = "ok" if rng.random() > 0.03 else "not_converged"
                if method == "mm" and replication == 7:
                    status, mean = "failed", np.nan
                rows.append(
                    {
                        "scenario": record["scenario"],
                        "replication": replication,
                        "method": method,
                        "backend": "ols",
                        "parameter": "b_l1[x]",
                        "truth": 0.0,
                        "mean": mean,
                        "median": mean,
                        "sd": 0.1,
                        "lower": mean - 0.196,
                        "upper": mean + 0.196,
                        "p_value": 0.5,
                        "rhat": 1.0,
                        "ess_bulk": 900.0,
                        "ess_tail": 800.0,
                        "divergences": 0,
                        "seconds": 0.5,
                        "status": status,
                        "message": "singular <design>" if status == "failed" else "",
                        "rmm_version": "0.1.0",
                    }
                )
    return pd.DataFrame(rows)


def performance_frame(estimates: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (scenario, method), part in estimates.groupby(["scenario", "method"], sort=False):
        ok = part[part["status"] == "ok"]
        mean, sd, n = ok["mean"].to_numpy(), float(ok["mean"].std()), len(ok)
        hit = float(np.mean(np.abs(mean) > 0.196))
        known = {
            "bias": (mean.mean(), sd / n**0.5),
            "empirical_se": (sd, sd / (2 * n) ** 0.5),
            "model_se": (0.1, 0.0),
            "relative_error_se": (100 * (0.1 / sd - 1), 8.0),
            "coverage": (1 - hit, (hit * (1 - hit) / n) ** 0.5),
            "rmse": (sd, 0.01),
            "rejection": (hit, (hit * (1 - hit) / n) ** 0.5),
            "convergence": (n / len(part), 0.01),
            "seconds": (0.5, 0.001),
        }
        for policy in ("per_method", "complete_case"):
            for measure in MEASURES:
                value, mcse = known[measure]
                rows.append(
                    {
                        "scenario": scenario,
                        "method": method,
                        "parameter": "b_l1[x]",
                        "measure": measure,
                        "policy": policy,
                        "value": value,
                        "mcse": mcse,
                        "alpha": 0.05 if measure in ("rejection", "coverage") else np.nan,
                        "n": n,
                        "n_failed": int((part["status"] == "failed").sum()),
                        "n_not_converged": int((part["status"] == "not_converged").sum()),
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture
def invented(tmp_path: Path) -> Invented:
    return write_invented(tmp_path / "invented")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the study as it is, for tests that only read."""
    return write_report(*write_invented(tmp_path_factory.mktemp("report") / "invented"))


def write_invented(folder: Path) -> Invented:
    folder.mkdir()
    scenarios = scenario_frame()
    estimates = estimate_frame(scenarios)
    estimates.to_parquet(folder / "estimates.parquet")
    performance_frame(estimates).to_parquet(folder / "performance.parquet")
    return Invented(invent_study(folder, scenarios, {m: m for m in METHODS}), folder)


def test_report_is_one_page_that_needs_no_network(page: Path) -> None:
    """The page beside it, of all numbers, neither."""
    for name, other in (("index.html", "numbers.html"), ("numbers.html", "index.html")):
        text = page.with_name(name).read_text()
        assert text.count("<svg") >= 2
        assert set(re.findall(r'(?:src|href)="(?!#)([^"]*)', text)) == {other}
        assert "@import" not in text and "url(http" not in text


def test_the_report_is_small_and_needs_no_script(page: Path) -> None:
    """Also of a study with many scenarios, whose tables are long."""
    assert page.stat().st_size < 200_000
    text = page.read_text()
    assert "<script" not in text and "script-src" not in text


def test_seconds_of_a_fit_stand_in_the_report(page: Path) -> None:
    text = page.read_text()
    part = text[text.index(">Median time<") : text.index('id="robust"')]
    rows = re.findall(r"<tr><th scope=\"row\">(\w+)</th>(.*?)</tr>", part)
    assert [name for name, _ in rows] == list(METHODS)
    fits = pd.read_parquet(page.parent.parent / "estimates.parquet")
    fits = fits.drop_duplicates(["scenario", "method", "replication"])
    for name, cells in rows:
        assert duration(fits.loc[fits["method"] == name, "seconds"].median()) in cells


def test_simulated_data_stand_beside_what_is_asked_for(page: Path) -> None:
    text = page.read_text()
    part = text.partition("beside what the study file asks for</h3>")[2].partition("<h3>")[0]
    assert "10 data sets of each scenario" in part
    assert re.search(r"<td>groups</td><td class=\"r\">\d+[^<]*</td><td class=\"r\">\d+", part)


def test_the_only_script_is_the_one_that_the_policy_names(page: Path) -> None:
    text = page.with_name("numbers.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert text.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    said = dict(part.strip().split(" ", 1) for part in html.unescape(policy).split(";"))
    assert said["default-src"] == "'none'"
    assert said["script-src"] == f"'sha256-{digest}'"
    assert not re.search(r"eval|innerHTML|document\.write|Function\(", script)


@pytest.mark.thorough
def test_same_results_give_the_same_bytes(invented: Invented, tmp_path: Path) -> None:
    first = write_report(*invented).parent
    second = write_report(*invented, tmp_path / "again").parent
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(files) > 12
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


def test_figures_and_tables_come_as_files(page: Path) -> None:
    folder, study = page.parent, page.parent.parent
    assert {p.suffix for p in (folder / "figures").iterdir()} == {".svg", ".pdf"}
    assert (folder / "figures" / "type1_error.svg").is_file()
    table = pd.read_csv(folder / "tables" / "b_l1_x_tests.csv")
    stored = pd.read_parquet(study / "performance.parquet")
    mine = stored[(stored.measure == "rejection") & (stored.policy == "per_method")]
    np.testing.assert_array_equal(table["rejection"], mine["value"])
    long = pd.read_csv(folder / "tables" / "performance.csv")
    assert len(long) == len(stored)


def test_failures_and_their_messages_are_shown_escaped(page: Path) -> None:
    text = page.read_text()
    assert "singular &lt;design&gt;" in text
    assert "singular <design>" not in text


@pytest.mark.thorough
def test_an_older_report_leaves_nothing_behind(invented: Invented) -> None:
    stale = invented.folder / "report" / "tables" / "gone.csv"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    write_report(*invented)
    assert not stale.exists()


@pytest.mark.thorough
def test_study_with_one_scenario_puts_methods_on_the_axis(invented: Invented) -> None:
    study, folder = invented
    study = replace(study, scenarios=study.scenarios[:1])
    for name in ("estimates", "performance"):
        table = pd.read_parquet(folder / f"{name}.parquet")
        table[table.scenario == study.scenarios[0].id].to_parquet(folder / f"{name}.parquet")
    text = both_pages(write_report(study, folder))
    assert "Table 1. The methods at a glance" in text
    assert text.count("<svg") >= 3


@pytest.mark.parametrize("column", ["scenario", "method"])
@pytest.mark.parametrize("left_out", ["results", "study"])
def test_results_of_another_study_are_refused(
    invented: Invented, column: str, left_out: str
) -> None:
    study, folder = invented
    name = study.scenarios[1].id if column == "scenario" else study.methods[1].name
    if left_out == "study":
        study = replace(
            study,
            scenarios=tuple(s for s in study.scenarios if s.id != name),
            methods=tuple(m for m in study.methods if m.name != name),
        )
    else:
        table = pd.read_parquet(folder / "estimates.parquet")
        table[table[column] != name].to_parquet(folder / "estimates.parquet")
    where = "not in" if left_out == "results" else "only in"
    with pytest.raises(
        StudyError, match=rf"do not match .*: {column} {name} is {where} .*\n.*--ag"
    ):
        write_report(study, folder)
    assert not (folder / "report").exists()


@pytest.mark.thorough
def test_a_method_without_usable_fits_is_missing_not_zero(invented: Invented) -> None:
    path = invented.folder / "performance.parquet"
    table = pd.read_parquet(path)
    lost = table.method == "mm"
    table.loc[lost, ["value", "mcse"]] = np.nan
    table.loc[lost, "n"] = 0
    table.to_parquet(path)
    folder = write_report(*invented).parent
    shown = pd.read_csv(folder / "tables" / "b_l1_x_tests.csv")
    assert shown.loc[shown.method == "mm", "rejection"].isna().all()


def test_unfinished_study_is_refused_with_a_message(invented: Invented) -> None:
    (invented.folder / "performance.parquet").unlink()
    with pytest.raises(
        StudyError, match=r"not the folder of a finished study\. Missing: performance\.parquet"
    ):
        write_report(*invented)


@pytest.mark.parametrize(
    ("alpha", "n", "expected"),
    [(0.05, 1000, (0.037, 0.064)), (0.05, 200, (0.02, 0.08)), (0.05, 20, (0.0, 0.15))],
)
def test_acceptance_band(alpha: float, n: int, expected: tuple[float, float]) -> None:
    assert acceptance_band(alpha, n) == pytest.approx(expected, abs=1e-9)


def test_wilson_interval_is_open_at_zero() -> None:
    low, high = wilson(0.0, 50)
    assert low == 0.0
    assert high == pytest.approx(0.07135, abs=1e-4)


def test_rates_of_0_and_1_are_shown_with_their_interval() -> None:
    assert rate_known_to(0.052, *wilson(0.052, 500)) == ".052"
    assert rate_known_to(0.0, *wilson(0.0, 50)) == ".000 [.000, .071]"
    assert rate_known_to(1.0, *wilson(1.0, 50)) == "1.00 [.929, 1.00]"


def no_error_of_zero(text: str) -> bool:
    return not re.search(r"(0\.0+|1\.0+|\.0+)\s*(</td>|<td[^>]*>|&|\s)*\(0?\.0+\)", text)


@pytest.mark.thorough
def test_no_rate_has_a_monte_carlo_error_of_zero(invented: Invented) -> None:
    """Rates of 0 and 1 in all tables, texts and files; older results have an error of 0 there."""
    study, folder = invented
    table = pd.read_parquet(folder / "performance.parquet")
    rates = table["measure"].isin(["rejection", "coverage", "convergence"])
    first = table["scenario"] == table["scenario"].iloc[0]
    table.loc[rates & first, ["value", "mcse"]] = [0.0, 0.0]
    table.loc[rates & ~first, ["value", "mcse"]] = [1.0, 0.0]
    table.to_parquet(folder / "performance.parquet")
    page = both_pages(write_report(study, folder))
    _, high = wilson(0.0, int(table.loc[rates & first, "n"].iloc[0]))
    assert f"[0.000, {high:.3f}]" in page
    assert f"0.0 (≤{100 * high:.1f})" in page
    assert no_error_of_zero(page)
    assert not no_error_of_zero("<td class=v>0.000<td class=e>(0.000)")
    for path in (folder / "report" / "tables").glob("*.tex"):
        assert no_error_of_zero(path.read_text()), path


def test_decimals_follow_the_monte_carlo_error() -> None:
    assert decimals_for([0.0153, 0.02]) == 3
    assert decimals_for([1.2, 3.0]) == 1
    assert decimals_for([float("nan"), 0.0], [12.0]) == 0


def test_numbers_are_set_with_a_true_minus() -> None:
    assert fixed(-0.123, 2) == "\N{MINUS SIGN}0.12"
    assert fixed(-0.0001, 2) == "0.00"
    assert fixed(float("nan"), 2) == "\N{EN DASH}"
    assert rate(0.052) == ".052"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.512, "0.51 s"), (42, "42 s"), (300, "5 min"), (9000, "2.5 h")]
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_names_beside_lines_do_not_touch() -> None:
    moved = spread_apart([0.50, 0.51, 0.52, 0.10], 0.05, 0.0, 1.0)
    ordered = sorted(moved)
    assert min(b - a for a, b in itertools.pairwise(ordered)) >= 0.05 - 1e-12
    assert moved[3] == pytest.approx(0.10)
    assert moved[1] == pytest.approx(0.51)


def test_a_method_added_last_changes_no_look() -> None:
    assert looks_of(["a", "b"]) == {"a": LOOKS[0], "b": LOOKS[1]}
    assert looks_of(["a", "b", "c"])["b"] == LOOKS[1]


def test_more_methods_than_colours_still_look_different() -> None:
    many = looks_of([f"m{i}" for i in range(40)]).values()
    assert len({(look.colour, look.marker, str(look.line)) for look in many}) == 40
    assert len({look.marker for look in LOOKS}) == len({str(x.line) for x in LOOKS}) == len(LOOKS)


def test_latex_is_escaped() -> None:
    assert latex("b_l1[x] & 5%") == r"b\_l1{[}x{]} \& 5\%"
    assert latex("<a>\n|") == r"\textless{}a\textgreater{} \textbar{}"


def test_intervals_hold_their_proportion_at_the_ends() -> None:
    for n in (1, 3, 30, 1000):
        assert wilson(0.0, n)[0] == 0.0
        assert wilson(1.0, n)[1] == 1.0


@pytest.mark.thorough
def test_a_factor_may_be_called_like_a_column(tmp_path: Path) -> None:
    folder = write_invented(tmp_path / "invented").folder
    scenarios = scenario_frame().rename(columns={"membership.overlap": "n"})
    study = invent_study(folder, scenarios, list(METHODS))
    assert "Figure 1" in write_report(study, folder).read_text()
    header = (folder / "report" / "tables" / "performance.csv").read_text().split("\n")[0]
    assert header.startswith("scenario,factor.n,membership.group_size,method")


@pytest.mark.thorough
def test_drawn_truths_without_tests_are_no_null_hypotheses(tmp_path: Path) -> None:
    """A study for calibration: each data set has its own truth, and nothing is rejected."""
    folder = write_invented(tmp_path / "invented").folder
    study = invent_study(folder, scenario_frame(), list(METHODS), truth=None)
    performance = pd.read_parquet(folder / "performance.parquet")
    performance[performance["measure"] != "rejection"].to_parquet(folder / "performance.parquet")
    text = write_report(study, folder).read_text()
    assert "True value " not in text
    assert "rejects the true null" not in text
