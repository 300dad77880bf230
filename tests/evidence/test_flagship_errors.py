"""The studies of honest uncertainty in docs/studies: page, rule of thumb, answers on a fresh seed.

The fresh run is part of the long tests.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from tests import ROOT
from tests.coalitions import shared_file
from tests.evidence import fresh_study


@pytest.fixture(scope="module")
def flagship() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import flagship_errors
    finally:
        sys.path.pop(0)
    return flagship_errors


@pytest.fixture(scope="module")
def real() -> None:
    """Skips a test that needs the real memberships."""
    for name in ("coalgov_bml", "schoolnets_edges"):
        shared_file("data", f"{name}.parquet")


def test_tables_of_the_page_are_those_of_the_kept_results(flagship: ModuleType, real: None) -> None:
    text = flagship.PAGE.read_text(encoding="utf-8")
    assert flagship.flagship_pages.with_tables(text, flagship.TABLES) == text


def test_the_figure_shows_the_kept_results(flagship: ModuleType, real: None) -> None:
    """Each rate of its line of designs is a point, and so is each rate of least squares."""
    figure = flagship.draw()
    shown = {
        round(float(y), 6) for axes in figure.axes for line in axes.lines for y in line.get_ydata()
    }
    rates = flagship.rates_at_null()
    line = flagship.on_line(rates)
    methods = {method for _, methods in flagship.PANELS for method in methods}
    line = line[line["method"].isin(methods)]
    assert len(line) == 4 * len(methods)
    assert {round(v, 6) for v in line["value"]} <= shown
    assert {round(v, 6) for v in flagship.rule_and_rates()["value"]} <= shown
    assert "../figures/honest_errors.svg" in flagship.PAGE.read_text(encoding="utf-8")
    assert flagship.FIGURE.is_file()


@pytest.mark.slow
def test_the_answers_hold_on_a_fresh_seed(flagship: ModuleType, tmp_path: Path) -> None:
    """300 data sets of each of two designs.

    Six rates of valid tests within 3 binomial errors of .05: false alarm .016 in all. Least squares
    within 3 combined Monte Carlo errors of its kept rates: .0054. Others are far above .05 in the
    kept results, by more than 6 errors of 300 data sets.
    """
    null = {"groups": 200, "activity": 0, "sd": 1, "effect": 0}
    found = fresh(flagship, tmp_path, [{**null, "members": m} for m in (20, 50)])
    kept = flagship.measured(flagship.SYNTHETIC, "rejection")
    kept = kept[(kept[list(null)] == pd.Series(null)).all(axis=1)]
    kept = kept.set_index(["members", "method"])
    band = 3 * np.sqrt(0.05 * 0.95 / 300)
    for members in (20, 50):
        rates = found[found["members"] == members].set_index("method")
        for method in ("reml_t", "mm", "mmmm"):
            assert rates.loc[method, "n"] >= 290
            assert abs(rates.loc[method, "value"] - 0.05) < band, (members, method)
        before, now = kept.loc[(members, "least_squares")], rates.loc["least_squares"]
        assert abs(now["value"] - before["value"]) < 3 * np.hypot(now["mcse"], before["mcse"])
        for method in ("least_squares", "hc3", "cluster_group"):
            assert rates.loc[method, "value"] > 0.05 + band, (members, method)


def fresh(flagship: ModuleType, folder: Path, scenarios: list[dict[str, float]]) -> pd.DataFrame:
    """Rejection rates of scenarios with another seed."""
    design = {"kind": "list", "scenarios": scenarios}
    config = fresh_study.config_of(flagship.SYNTHETIC, replications=300, batch=300, design=design)
    slow = ("wild_bootstrap", "reml_z")
    config["methods"] = [m for m in config["methods"] if m["name"] not in slow]
    fresh_study.run(flagship.SYNTHETIC, config, folder)
    return flagship.measured(flagship.SYNTHETIC, "rejection", folder)
