"""Two studies of weights in docs/studies: kept results, pages, and answers on a fresh seed.

The fresh runs are part of the long tests. Where a test asks that a value lies within 3 Monte Carlo
errors of what is right, it fails by chance with probability .0027 per comparison; where it asks
that a difference is beyond 3 errors, the kept results have it beyond 5.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import ROOT
from tests.evidence import fresh_study


@pytest.fixture(scope="module")
def flagship() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import flagship_weights
    finally:
        sys.path.pop(0)
    return flagship_weights


# -- pages and figures -------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["estimated-weights.md", "wrong-weight-function.md"])
def test_tables_of_the_pages_are_those_of_the_kept_results(page: str, flagship: ModuleType) -> None:
    text = (flagship.PAGES / page).read_text(encoding="utf-8")
    assert flagship.flagship_pages.with_tables(text, flagship.TABLES[page]) == text


@pytest.mark.parametrize("study", ["estimated_weights", "wrong_weight_function"])
def test_figures_show_the_kept_results(study: str, flagship: ModuleType) -> None:
    """Every number of a heat map is in it, and the page shows the figure."""
    figure = flagship.DRAWINGS[study]()
    shown = {text.get_text() for axes in figure.axes for text in axes.texts}
    if study == flagship.PAY:
        rows = pd.concat([rows for _, rows in flagship.settings_of_study()])
        numbers = np.concatenate([rows["ratio"], rows["weight"]])
    else:
        tables = (flagship.regret()[0] + 1, flagship.wrong_measure("coverage")[0])
        numbers = np.concatenate([t.to_numpy().ravel() for t in tables])
    assert {flagship.cell_text(value) for value in numbers} <= shown
    page = flagship.PAGES / f"{study.replace('_', '-')}.md"
    assert f"../figures/{study}.svg" in page.read_text(encoding="utf-8")
    assert (flagship.FIGURES / f"{study}.svg").is_file()


def test_regret_is_the_ratio_of_root_mean_squared_errors(flagship: ModuleType) -> None:
    """All methods have the same data sets unless a fit failed, so paired and plain errors agree."""
    found, errors = flagship.regret()
    rmse, _ = flagship.wrong_measure("rmse")
    for truth in found.index:
        wanted = rmse.loc[truth] / rmse.loc[truth, truth] - 1
        np.testing.assert_allclose(found.loc[truth], wanted, atol=0.02)
        assert (errors.loc[truth].drop(truth) > 0).all()


def test_the_answer_about_estimated_weights(flagship: ModuleType) -> None:
    """They pay from 50 groups on in the main setting; not where members weigh the same."""
    found = {
        (flagship.setting_words(s), s["b_w"]): rows for s, rows in flagship.settings_of_study()
    }
    for b_w in (0.5, 1, 2):
        rows = found["main setting", b_w]
        assert flagship.groups_needed(rows)[0].groups == 0
    same = found["main setting", 0]
    assert (same["gain"] > -3 * same["gain_error"]).all()
    apart = found["x and power independent", 0.5]
    assert apart["gain"].iloc[0] > -3 * apart["gain_error"].iloc[0]


def test_the_answer_about_wrong_functions(flagship: ModuleType) -> None:
    """Up to seven times the error, intervals that miss; selection loses 26%, stacking 19%."""
    cost, error = flagship.regret()
    assert 6 < cost[list(flagship.FUNCTIONS)].max().max() < 6.5
    assert f"{cost['selection'].max():.0%}, {cost['stacking'].max():.0%}" == "26%, 19%"
    assert cost["selection"].idxmax() == cost["stacking"].idxmax() == "equal"
    assert flagship.wrong_measure("coverage")[0].min().min() < 0.02
    assert f"{flagship.selection_rates()[0].loc['equal', 'equal']:.0%}" == "61%"
    for _, errors in (flagship.wrong_measure("coverage"), flagship.selection_rates()):
        assert errors.max().max() < 0.015
    for truth, method in COSTS:
        assert cost.loc[truth, method] > 5 * error.loc[truth, method]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1.0, 0.5, -0.5], np.exp((np.log(100) + np.log(400)) / 2)),
        ([-1.0, -1.0, -1.0], 0),
        ([1.0, 1.0, 1.0], np.inf),
        ([-1.0, 1.0, -1.0], 200),  # from where on it stays below
    ],
)
def test_crossings(values: list[float], wanted: float, flagship: ModuleType) -> None:
    groups = [50, 100, 400]
    found = flagship.crossing(groups, values, [1e-9] * 3)
    assert found.groups == pytest.approx(wanted)
    assert (found.low, found.high) == pytest.approx((found.groups, found.groups))


def test_the_interval_of_a_crossing_has_its_monte_carlo_error(flagship: ModuleType) -> None:
    """Values on a line over log(groups), with slope s and errors e: the crossing has the error e/s.

    200 draws, of which 95% should be in their intervals: 3 binomial errors are .046.
    """
    groups, rng = [50, 100, 200, 400, 800], np.random.default_rng(4)
    line = (np.log(200) - np.log(groups)) + 0.15
    true, inside = 200 * np.exp(0.15), 0
    for _ in range(200):
        found = flagship.crossing(groups, line + rng.normal(0, 0.1, 5), [0.1] * 5)
        inside += found.low <= true <= found.high
    assert abs(inside / 200 - 0.95) < 0.046
    words = flagship.Crossing(130.2, 0.0, np.inf).text(50, 800)
    assert words == "130 (below 50 to above 800)"


# -- the answers on a fresh seed ---------------------------------------------------------------

type Fresh = Callable[..., Path]
#: Setting of the first study.
MAIN = {"signal": "both", "correlation": 0.5, "overlap": 1}
#: Truth and fitted function of the second, where the wrong one costs most.
COSTS = [("exponential", "equal"), ("largest", "equal"), ("ces", "equal")]
#: Truths that selection finds in most data sets.
OFTEN_SELECTED = ["exponential", "largest", "ces"]


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    """A study of config/studies with another seed and fewer data sets: a folder like KEPT."""

    def run(name: str, **changes: Any) -> Path:
        keep = changes.pop("methods", None)
        config = fresh_study.config_of(name, batch=1000, **changes)
        config["methods"] = [m for m in config["methods"] if keep is None or m["name"] in keep]
        averaged = any(m["kind"] == "average" for m in config["methods"])
        config["estimands"] = [
            e
            for e in config["estimands"]
            if averaged or not str(e.get("parameter")).startswith("weight[")
        ]
        fresh_study.run(name, config, tmp_path)
        return tmp_path

    return run


def row_of(table: pd.DataFrame, method: str, **factors: Any) -> Any:
    """The only row of a method in the scenarios with some levels."""
    for name, level in factors.items():
        table = table[table[name] == level]
    (found,) = table[table["method"] == method].itertuples()
    return found


@pytest.mark.slow
def test_estimated_weights_pay_on_a_fresh_seed(fresh: Fresh, flagship: ModuleType) -> None:
    """Two comparisons with what is right at 3 errors: false alarm .006."""
    folder = fresh(
        "estimated_weights",
        replications=60,
        methods=["equal", "known", "estimated"],
        design={
            "kind": "list",
            "scenarios": [
                {**MAIN, "b_w": 0, "groups": 100},
                {**MAIN, "b_w": 2, "groups": 50},
                {**MAIN, "b_w": 1, "groups": 400},
                {**MAIN, "correlation": 0, "b_w": 1, "groups": 400},
            ],
        },
    )

    def table(measure: str, parameter: str = flagship.EFFECT) -> pd.DataFrame:
        return flagship.measured(flagship.PAY, measure, parameter, folder)

    gain, bias = table("difference_mse"), table("bias")
    # They pay with few groups where weights differ much, and never where they are equal.
    strong = row_of(gain, "estimated", b_w=2)
    assert strong.value < -3 * strong.mcse
    none = row_of(gain, "estimated", b_w=0)
    assert none.value > -3 * none.mcse
    # Equal weights are biased where x is correlated with power, and only there.
    biased = row_of(bias, "equal", b_w=1, correlation=0.5)
    assert biased.value > 3 * biased.mcse
    unbiased = row_of(bias, "equal", b_w=1, correlation=0)
    assert abs(unbiased.value) < 3 * unbiased.mcse


@pytest.mark.slow
def test_wrong_functions_cost_on_a_fresh_seed(fresh: Fresh, flagship: ModuleType) -> None:
    """No comparison with what is right: each difference is beyond 5 errors in the kept results."""
    folder = fresh(
        "wrong_weight_function",
        replications=40,
        methods=[*flagship.FUNCTIONS, "selection"],
        design={"kind": "list", "scenarios": [{"function": truth} for truth in dict(COSTS)]},
    )
    cost, error = flagship.regret(folder)
    rates, _ = flagship.selection_rates(folder)
    for truth, method in COSTS:
        assert cost.loc[truth, method] > 3 * error.loc[truth, method], (truth, method)
    for truth in OFTEN_SELECTED:
        assert rates.loc[truth, truth] > 0.5, truth
