"""What notebooks show of fits and simulated data: compact, and with every label escaped."""

from __future__ import annotations

import pandas as pd
import pytest

import rmm

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def simulated() -> rmm.SimulatedData:
    return rmm.simulate(
        "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n))",
        {"b_l2[Intercept]": 0, "b_l1[x]": 1, "sigma_l2": 0.5},
        membership={"kind": "synthetic", "groups": 200, "members": 50, "size": 3},
        covariates={"x": {"level": "member"}},
        seed=1,
    )


def test_simulated_data_show_sizes_truth_and_the_first_rows(simulated: rmm.SimulatedData) -> None:
    html = simulated._repr_html_()
    assert "200 groups, 50 members, 600 memberships" in html
    assert html.count("<table") == 2
    assert html.count("<tr") == (1 + len(simulated.truth)) + (1 + 5)
    assert "<th>b_l1[x]</th>" in html
    assert len(html) < 5000
    assert "b_l1[x]" in repr(simulated)  # text elsewhere
    assert "<table" not in repr(simulated)


def test_simulated_data_escape_labels_and_values() -> None:
    data = pd.DataFrame({"<script>": [EVIL, "a"], "y": [1.0, 2.0]})
    html = rmm.SimulatedData(data, {EVIL: 1.0})._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 3
    assert "2 memberships" in html


def test_a_fit_shows_its_formula_state_and_one_row_per_parameter() -> None:
    data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
    fit = rmm.fit("y ~ 1 + x", data, backend="laplace", seed=1)
    html = fit._repr_html_()
    assert "<code>y ~ 1 + x</code>" in html
    assert html.count("<tr") == 1 + len(fit.summary())
    assert len(html) < 5000
    assert "<table" not in repr(fit)


def test_a_fit_escapes_columns_and_levels_of_categories() -> None:
    data = {
        "y": [1.0, 2.0, 3.0, 4.0, 6.0, 5.0],
        "<script>": [1.0, 2.0, 0.0, 4.0, 3.0, 7.0],
        "c": ["a", "b" + EVIL] * 3,
    }
    fit = rmm.fit("y ~ 1 + c + `<script>`", data, backend="laplace", seed=1)
    assert any(EVIL in name for name in fit.summary().index)
    assert any(name == "b_l2[<script>]" for name in fit.summary().index), fit.summary().index
    html = fit._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 3  # the formula, the column, the level
