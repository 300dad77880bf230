"""What is kept of finished studies, and what the README says of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rmm.study import load_study
from rmm.study.report.numbers import acceptance_band

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"
KEPT = sorted(path for path in (ROOT / "results" / "reference").glob("*") if path.is_dir())


def measured(name: str, measure: str, parameter: str) -> pd.DataFrame:
    """Rows of one measure of a kept study, with the factors of their scenarios."""
    folder = ROOT / "results" / "reference" / name
    table = pd.read_parquet(folder / "performance.parquet")
    table = table[(table["measure"] == measure) & (table["parameter"] == parameter)]
    table = table[table["policy"] == "per_method"]
    return table.merge(pd.read_parquet(folder / "scenarios.parquet"), on="scenario")


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_kept_results_belong_to_their_study(folder: Path) -> None:
    """Scenarios, methods and seed are those of the file; the record says what made them."""
    file = ROOT / "config" / "studies" / f"{folder.name}.yaml"
    if "../shared/data/" in file.read_text() and not REAL.is_dir():
        pytest.skip("the study's data are not beside the project (../shared/data)")
    study = load_study(file)
    record = json.loads((folder / "provenance.json").read_text())
    assert record["seed"] == study.seed
    assert re.fullmatch(r"[0-9a-f]{40}", record["commit"])
    table = pd.read_parquet(folder / "performance.parquet")
    assert set(table["scenario"]) == {s.id for s in study.scenarios}
    assert set(table["method"]) == {m.name for m in study.methods}
    fits = sum(study.replications_of(s, m) for s in study.scenarios for m in study.methods)
    assert sum(record["fits"].values()) == fits


def test_the_three_way_contrast_holds() -> None:
    """Aggregation and disaggregation above the band of a right test, the mmmm within it."""
    table = measured("three_way_contrast", "rejection", "b_l1[x]")
    assert set(table["family"]) == {"gaussian", "binomial", "weibull"}
    for row in table.itertuples():
        low, high = acceptance_band(0.05, row.n)
        assert row.n >= 990
        if row.method == "mmmm":
            assert low <= row.value <= high, row
        else:
            assert row.value > high + 3 * row.mcse, row


def test_the_figure_of_the_readme_is_that_of_the_kept_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import headline

    drawn = headline.draw(headline.rejections())
    labels = {text.get_text() for text in drawn.axes[0].texts}
    table = measured("three_way_contrast", "rejection", "b_l1[x]")
    assert {f"{v:.3f}".lstrip("0") for v in table["value"]} <= labels
    assert "docs/figures/three_way_contrast.svg" in (ROOT / "README.md").read_text()
    assert (ROOT / "docs" / "figures" / "three_way_contrast.svg").is_file()


def ordinary_multilevel(mobility: float, replications: int) -> dict[str, tuple[float, float]]:
    """Within-school variance of 50 x 50 students by its sum of squares, first schools only.

    An independent simulation of Johnson, Feng and Stapleton's design: value and Monte Carlo
    standard error of the mean, and of the coverage of exact and of two-standard-error intervals.
    """
    rng, schools, true = np.random.default_rng(5), 50, 7 / 3
    first = np.repeat(np.arange(schools), 50)
    df = len(first) - schools
    found = []
    for _ in range(replications):
        effect = rng.normal(0, 1, schools)
        second = (first + rng.choice([-1, 1], len(first))) % schools
        moves = (np.arange(len(first)) * mobility) % 1 + mobility >= 1 - 1e-9
        mean = np.where(moves, (effect[first] + effect[second]) / 2, effect[first])
        y = (mean + rng.normal(0, np.sqrt(true), len(first))).reshape(schools, 50)
        squares = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2)
        lower, upper = squares / stats.chi2.ppf((0.975, 0.025), df)
        wald = abs(squares / df - true) < 1.96 * squares / df * np.sqrt(2 / df)
        found.append((squares / df, lower < true < upper, wald))
    values, errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(replications)
    names = ("mean", "coverage", "wald")
    return {n: (float(v), float(e)) for n, v, e in zip(names, values, errors, strict=True)}


@pytest.mark.parametrize("mobility", [0, 0.25, 0.5])
def test_first_membership_only_agrees_with_sums_of_squares(mobility: float) -> None:
    """Kept results of the ordinary multilevel model; six comparisons, false alarm 0.016."""
    expected = ordinary_multilevel(mobility, 2000)
    for measure in ("mean", "coverage"):
        table = measured("first_membership_only", measure, "sigma_l2^2")
        row = table[(table["method"] == "first_school") & (table["mobility"] == mobility)].iloc[0]
        value, error = expected[measure]
        assert abs(row["value"] - value) < 3 * np.hypot(error, row["mcse"]), measure


def test_johnson_feng_and_stapleton_come_back() -> None:
    """All 21 printed values, within 3 Monte Carlo errors of both sides; false alarm below 0.06.

    The paper's replications are taken to be 1,000, which makes its errors small rather than large.
    """
    folder = ROOT / "results" / "reference" / "first_membership_only"
    table = pd.read_parquet(folder / "performance.parquet")
    table = table[table["reference"].notna() & (table["policy"] == "per_method")]
    assert len(table) == 21
    both = table["mcse"] * np.sqrt(1 + table["n"] / 1000)
    distance = (table["value"] - table["reference"]) / both
    assert distance.abs().max() < 3, table.assign(distance=distance).to_string()


@pytest.mark.parametrize(("mobility", "printed"), [(0, 0.959), (0.25, 0.691), (0.5, 0.439)])
def test_printed_coverages_are_those_of_two_standard_errors(
    mobility: float, printed: float
) -> None:
    """With 1,000 replications in the paper, which does not print a Monte Carlo error."""
    value, error = ordinary_multilevel(mobility, 2000)["wald"]
    assert abs(printed - value) < 3 * np.hypot(error, np.sqrt(printed * (1 - printed) / 1000))


def test_the_table_of_the_readme_is_that_of_the_kept_results() -> None:
    """Rejection rates of shared members; the models' hold the nominal level at 4,000 data sets."""
    rows = re.findall(
        r"^\| [^|]+ \| `(\w+)` \| (\.\d+) \((\.\d+)\)[^|]*\| ([\d,]+) \|$",
        (ROOT / "README.md").read_text(),
        flags=re.MULTILINE,
    )
    table = measured("shared_members_mmmm", "rejection", "b_l1[x]")
    table = table.set_index("method").loc[["aggregation", "mm", "mmmm", "mm_jags", "mmmm_jags"]]
    said = [(value, error) for _, value, error, _ in rows]
    found = [tuple(f"{v:.3f}".lstrip("0") for v in row) for row in table[["value", "mcse"]].values]
    assert said == found
    low, high = acceptance_band(0.05, 4000)
    assert table.loc[["mm", "mmmm"], "value"].between(low, high).all()
    assert abs(table.loc["aggregation", "value"] - table.loc["aggregation", "reference"]) < 0.018


def test_what_the_readme_says_of_coalitions() -> None:
    """Six rates in the order of the text; the models hold the nominal level, all others do not."""
    table = measured("coalitions", "rejection", "b_l1[finance]")
    table = table[table["alpha"] == 0.05].set_index("method")
    text = (ROOT / "README.md").read_text().split("Who sits with whom")[1].split("(Monte Carlo")[0]
    order = ["aggregation", "aggregation_by_country", "disaggregation", "disaggregation_two_way"]
    rates = table.loc[[*order, "mm", "mmmm"], "value"]
    assert re.findall(r"\.\d{3}", text) == [f"{v:.3f}".lstrip("0") for v in rates]
    assert table["mcse"].drop("mmmm_stan").max() <= 0.016
    low, high = acceptance_band(0.05, 990)
    assert table.loc[["mm", "mmmm"], "value"].between(low, high).all()
    assert (table.loc[order, "value"] > high + 3 * table.loc[order, "mcse"]).all()
