"""What is kept of finished studies, and what the README says of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from rmm.backends.laplace.results_version import RESULTS_VERSION
from rmm.study import load_study
from rmm.study.measures.proportions import acceptance_band
from rmm.study.methods.bayesian import engine_version
from tests import ROOT

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


def test_frequentist_comparators_of_the_headline_design() -> None:
    """REML: a referee's 3,000 data sets by another program, z .062 and t .055, each (.004).

    Robust errors of least squares on group means do not rescue it, those of shared members neither.
    """
    found = measured("shared_members_comparators", "rejection", "b_l1[x]").set_index("method")
    for method, value in {"reml_z": 0.062, "reml_t": 0.055}.items():
        row = found.loc[method]
        assert (row["n"], row["n_failed"]) == (4000, 0)
        assert abs(row["value"] - value) < 3 * np.hypot(row["mcse"], 0.004)
    for method in ("least_squares", "robust", "shared_members"):
        assert found.loc[method, "value"] > 0.12, method


def test_drawn_weight_coefficients_are_covered_in_six_designs() -> None:
    """Truths from the prior: coverage .95; six comparisons at 3 errors, false alarm .016."""
    table = measured("weight_designs_prior", "coverage", "b_w[b1]")
    assert len(table) == 6
    for row in table.itertuples():
        assert abs(row.value - 0.95) < 3 * np.sqrt(0.95 * 0.05 / row.n), row


def test_weight_coefficients_of_zero_are_tested_at_their_level() -> None:
    """Twelve comparisons at 3 errors, one-sided: false alarm .016."""
    for measure, sign in (("coverage", -1), ("rejection", 1)):
        table = measured("weight_designs_fixed", measure, "b_w[b1]")
        table = table[table["design"].str.endswith(", 0")]
        assert len(table) == 6
        level = 0.05 if measure == "rejection" else 0.95
        for row in table.itertuples():
            assert sign * (row.value - level) < 3 * np.sqrt(0.95 * 0.05 / row.n), row


def test_the_table_of_six_designs_is_that_of_the_kept_results() -> None:
    text = (ROOT / "docs" / "explanation" / "identification.md").read_text(encoding="utf-8")
    for measure in ("coverage", "rejection"):
        for row in measured("weight_designs_fixed", measure, "b_w[b1]").itertuples():
            design, truth = row.design.rsplit(", ", 1)
            (line,) = (x for x in text.splitlines() if x.startswith(f"| {design} | {truth} |"))
            assert f"{row.value:.3f} ({row.mcse:.3f})" in line


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
        table = table[(table["icc"] == ".30") & (table["mobility"] == mobility)]
        row = table.set_index("method").loc["first_school"]
        value, error = expected[measure]
        assert abs(row["value"] - value) < 3 * np.hypot(error, row["mcse"]), measure


@pytest.mark.parametrize(("mobility", "printed"), [(0, 0.959), (0.25, 0.691), (0.5, 0.439)])
def test_printed_coverages_are_those_of_two_standard_errors(
    mobility: float, printed: float
) -> None:
    """With 1,000 replications in the paper, which does not print a Monte Carlo error."""
    value, error = ordinary_multilevel(mobility, 2000)["wald"]
    assert abs(printed - value) < 3 * np.hypot(error, np.sqrt(printed * (1 - printed) / 1000))


#: Study -> (heading of its table in the README, parameter, methods in the order of the rows).
QUOTED = {
    "shared_members_mmmm": (
        "The first study uses simulated groups",
        "b_l1[x]",
        ["aggregation", "mm", "mmmm", "mm_jags", "mmmm_jags"],
    ),
    "coalitions": (
        "The second study uses 628 real governments",
        "b_l1[finance]",
        [
            "aggregation",
            "aggregation_by_country",
            "disaggregation",
            "disaggregation_by_group",
            "disaggregation_two_way",
            "mm",
            "mmmm",
            "mmmm_stan",
        ],
    ),
}


def quoted(study: str) -> pd.DataFrame:
    """Rejection rates of a study in the order of its table."""
    _, parameter, methods = QUOTED[study]
    table = measured(study, "rejection", parameter)
    return table[table["alpha"] == 0.05].set_index("method").loc[methods]


@pytest.mark.parametrize("study", QUOTED)
def test_the_tables_of_the_readme_are_those_of_the_kept_results(study: str) -> None:
    """Every method of the study has a row, those by which another engine confirms included."""
    text = (ROOT / "README.md").read_text().split(QUOTED[study][0])[1].split("\n\n")[1]
    rows = re.findall(
        r"^\| [^|]+ \| `(\w+)` \| (\.\d+) \((\.\d+)\)[^|]*\| ([\d,]+) \|$", text, flags=re.MULTILINE
    )
    table = quoted(study)
    methods = {m["name"]: m for m in yaml_of(study)["methods"]}
    assert set(table.index) == set(methods)
    assert [engine for engine, *_ in rows] == [methods[m]["backend"] for m in table.index]
    found = [
        (f"{row.value:.3f}".lstrip("0"), f"{row.mcse:.3f}".lstrip("0"), f"{row.n:,}")
        for row in table.itertuples()
    ]
    assert [tuple(row[1:]) for row in rows] == found


def yaml_of(study: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / f"config/studies/{study}.yaml").read_text())
    return found


def test_models_keep_the_level_where_members_are_shared() -> None:
    table = quoted("shared_members_mmmm")
    low, high = acceptance_band(0.05, 4000)
    assert table.loc[["mm", "mmmm"], "value"].between(low, high).all()
    assert abs(table.loc["aggregation", "value"] - table.loc["aggregation", "reference"]) < 0.018


def test_models_keep_the_level_on_real_coalitions() -> None:
    """And all other analyses do not. What the README says of Stan's hundred data sets holds."""
    table = quoted("coalitions")
    low, high = acceptance_band(0.05, 990)
    assert table.loc[["mm", "mmmm"], "value"].between(low, high).all()
    others = table.drop(["mm", "mmmm", "mmmm_stan"])
    assert (others["value"] > high + 3 * others["mcse"]).all()
    found = round(100 * table.loc["mmmm_stan", "value"])
    chance = stats.binom.sf(found - 1, 100, 0.05)
    text = " ".join((ROOT / "README.md").read_text().split())
    assert (
        f"rejects in {found} or more of 100 data sets with a probability of only {chance:.2%}."
        in text
    )


#: Kept results that an earlier version of laplace made, and when they are made again.
EARLIER = {
    "coalitions": "with the other changes of this version",
    "shared_members_mmmm": "with the other changes of this version",
    "power_weights": "after the work on speed",
}


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_kept_results_are_of_the_present_laplace(folder: Path) -> None:
    name = folder.name
    record = json.loads((folder / "provenance.json").read_text())
    engines = {method.get("backend") for method in yaml_of(name)["methods"]}
    assert ("laplace_results" in record) == ("laplace" in engines)
    if "laplace" not in engines:
        return
    present = record["laplace_results"] == RESULTS_VERSION
    again = f"rm -r results/{name}; {record['command']}"
    assert present or name in EARLIER, (
        f"made by results version {record['laplace_results']}: {again}"
    )
    assert not present or name not in EARLIER, f"{name} is up to date: take it out of EARLIER"


def test_estimates_say_which_results_of_laplace_they_are() -> None:
    fit = SimpleNamespace(run=SimpleNamespace(engine={"version": "0.9"}))
    assert engine_version(fit, "laplace") == f"0.9 (results {RESULTS_VERSION})"
    assert engine_version(fit, "jags") == "0.9"
