"""What notebooks show of fits and simulated data: compact, and with every label escaped."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.study import load_study
from rmm.study.evaluate.criteria.verdict import Verdict
from tests import ROOT

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


def words(text: str) -> Counter[str]:
    return Counter(text.split())


def words_of_page(html: str) -> Counter[str]:
    """Words that a browser shows."""
    return words(unescape(re.sub(r"<[^>]*>", " ", html)))


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """Results of each kind; a column has a name that would be markup."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 2)
    data = pd.DataFrame({"g": groups, "m": np.arange(80) % 13, "x": rng.standard_normal(80)})
    data[EVIL] = rng.standard_normal(40)[groups]
    data["y"] = (data["x"].to_numpy().reshape(-1, 2).sum(1) + rng.standard_normal(40))[groups]
    members = "mm(id(m, g), vars(x), fn(w ~ 1/n), RE = FALSE)"
    formula = f"y ~ 1 + `{EVIL}` + {members}"
    causes = f"Surv(time, cause) ~ `{EVIL}` + {members}"
    data["time"], data["cause"] = rng.exponential(size=40)[groups], (np.arange(40) % 3)[groups]
    quick: dict[str, Any] = {"backend": "laplace", "seed": 1, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two pooled tables are few, priors are scaled
        one = rmm.fit(formula, data, **quick)
        other = rmm.fit(f"y ~ 1 + {members}", data, **quick)
        fits = {EVIL: one, "without": other}
        weights = {EVIL: "w ~ 1/n", "sum": "w ~ 1"}
        return {
            "fit": one,
            "pooled fits": rmm.pool([one, rmm.fit(formula, data, **quick | {"seed": 2})]),
            "average": rmm.average(fits),
            "bayes factor": rmm.bayes_factor(fits, seed=1),
            "compared weights": rmm.compare_weights(formula, data, weights, seed=1),
            "prior predictive": rmm.prior_predictive(formula, data, seed=1),
            "competing risks": rmm.competing_risks(causes, data, "cox", **quick),
            "look": rmm.look(data, "m", "g"),
            "study": load_study(ROOT / "config" / "studies" / "quickstart.yaml"),
            "verdict": Verdict(EVIL, "recovery", pd.DataFrame({"passed": [False]}), (EVIL,)),
        }


KINDS = (
    "fit",
    "pooled fits",
    "average",
    "bayes factor",
    "compared weights",
    "prior predictive",
    "competing risks",
    "look",
    "study",
    "verdict",
)


@pytest.mark.parametrize("kind", KINDS)
def test_notebooks_show_what_print_shows(shown: dict[str, Any], kind: str) -> None:
    one = shown[kind]
    html = one._repr_html_()
    assert "<script" not in html
    # The name of the index is in text alone.
    named = Counter(["parameter"] * (kind in ("fit", "pooled fits", "competing risks")))
    assert words_of_page(html) == words(str(one)) - named
    assert repr(one) == str(one)


def test_names_of_users_are_escaped(shown: dict[str, Any]) -> None:
    """All but a study, whose file has no such name, show the name."""
    for kind in KINDS:
        if kind != "study":
            assert "&lt;script&gt;" in shown[kind]._repr_html_(), kind


def test_a_study_is_a_few_lines() -> None:
    study = load_study(ROOT / "config" / "studies" / "quickstart.yaml")
    text = str(study)
    assert len(text.splitlines()) == 4
    assert "3 scenarios (vary: overlap), 1,000 replications each" in text
    assert "b_l1[x]" in text
    assert "mmmm_jags" in text
