"""Candidates averaged or selected as a method: weights, mixtures, and what is common to all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import rmm
from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.task import Outcome
from rmm.study.run.replicate import make_task

MEAN, POWER = "w ~ 1/n", "w ~ 1/(1 + (n-1)*exp(-(b1*power)))"


def study(folder: Path, **method: Any) -> Study:
    config = {
        "seed": 5,
        "replications": 2,
        "membership": {
            "kind": "synthetic",
            "groups": 120,
            "members": 40,
            "size": {"distribution": "uniform", "low": 2, "high": 5},
        },
        "covariates": {"x": {"level": "membership"}, "power": {"level": "membership"}},
        "truth": {
            "formula": f"y ~ 1 + mm(id(member, group), vars(x), fn({POWER}), RE = TRUE)",
            "parameters": {
                "b_l2[Intercept]": 0,
                "b_l1[x]": 1,
                "b_w[b1]": 1,
                "sigma_l1": 0.5,
                "sigma_l2": 1,
            },
        },
        "methods": [
            {
                "name": "one",
                "kind": "average",
                "backend": "laplace",
                "sampler": {"chains": 2, "draws": 200},
                "gate": {"ess_per_chain": 50},
                "candidates": {"mean": MEAN, "power": POWER},
                **method,
            }
        ],
        "estimands": [
            {"parameter": "b_l1[x]"},
            {"parameter": "weight[power]"},
            {"estimand": "largest_weight", "by": "power"},
        ],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def fitted(found: Study) -> tuple[dict[str, dict[str, Any]], Outcome]:
    outcome = fit_task(make_task(found, found.scenarios[0], found.methods[0], 1), keep=True)
    assert outcome.status == "ok", outcome.message
    return {row["parameter"]: dict(row) for row in outcome.estimates}, outcome


@pytest.mark.parametrize("by", ["stacking", "evidence"])
def test_weights_and_mixture_are_those_of_an_average_of_the_fits(by: str, tmp_path: Path) -> None:
    rows, outcome = fitted(study(tmp_path, by=by))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = rmm.average(outcome.fit, by)
        table = wanted.estimand("largest_weight", by="power")
    for name, weight in wanted.weights.items():
        assert rows[f"weight[{name}]"]["mean"] == pytest.approx(weight)
    row = rows["largest_weight[by=power]"]
    assert row["mean"] == pytest.approx(table["mean"].iloc[0])
    assert row["sd"] == pytest.approx(table["sd"].iloc[0])
    assert row["lower"] == pytest.approx(table["q2.5"].iloc[0])
    # Only the parameters that all candidates have.
    assert {"b_l1[x]", "b_l2[Intercept]", "sigma_l1", "sigma_l2"} <= set(rows)
    assert "b_w[b1]" not in rows


def test_selection_has_the_estimates_of_the_largest_elpd(tmp_path: Path) -> None:
    rows, outcome = fitted(study(tmp_path, by="selection"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        elpd = {name: fit.loo().elpd for name, fit in outcome.fit.items()}
    best = max(elpd, key=lambda name: elpd[name])
    assert {n: rows[f"weight[{n}]"]["mean"] for n in elpd} == {n: float(n == best) for n in elpd}
    summary = outcome.fit[best].summary()
    for name in ("b_l1[x]", "sigma_l2"):
        assert rows[name]["mean"] == pytest.approx(summary.loc[name, "mean"])
        assert rows[name]["sd"] == pytest.approx(summary.loc[name, "sd"])


def test_a_mixture_has_the_moments_of_its_parts(tmp_path: Path) -> None:
    """Means and quantiles of the pooled draws, each model with its share of them."""
    rows, outcome = fitted(
        study(tmp_path, by="evidence", candidates={"mean": MEAN, "power": "w ~ power^2"})
    )
    weights = {n: rows[f"weight[{n}]"]["mean"] for n in ("mean", "power")}
    means = {n: outcome.fit[n].summary().loc["b_l1[x]", "mean"] for n in weights}
    wanted = sum(weights[n] * means[n] for n in weights)
    # Shares are whole numbers of the 400 draws.
    spread = abs(means["mean"] - means["power"]) / 400 + 3 * rows["b_l1[x]"]["sd"] / np.sqrt(400)
    assert abs(rows["b_l1[x]"]["mean"] - wanted) < spread


def test_one_candidate_that_has_not_converged_makes_the_fit_unusable(tmp_path: Path) -> None:
    found = study(
        tmp_path, gate={"ess_per_chain": 101, "parameters": "all"}, sampler={"draws": 100}
    )
    outcome = fit_task(make_task(found, found.scenarios[0], found.methods[0], 1))
    assert outcome.status == "not_converged"
    assert outcome.message.startswith("candidate mean: ESS")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"candidates": None}, "`candidates` is missing"),
        ({"by": "bic"}, "Allowed: stacking, evidence, selection"),
        ({"kind": "mmmm", "candidates": None, "by": "evidence"}, "Kinds that can have `by`: aver"),
        (
            {"fallback": {"backend": "stan"}},
            "`fallback` cannot be used in a method of kind average",
        ),
    ],
)
def test_messages(method: dict[str, Any], said: str, tmp_path: Path) -> None:
    if method.get("candidates", "") is None:
        study(tmp_path)
        config = yaml.safe_load((tmp_path / "study.yaml").read_text())
        del config["methods"][0]["candidates"]
        given = {k: v for k, v in method.items() if v is not None}
        config["methods"][0] |= given
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(StudyError, match=said):
            load_study(tmp_path / "study.yaml")
        return
    with pytest.raises(StudyError, match=said):
        study(tmp_path, **method)


def test_estimands_can_have_a_baseline_of_their_own(tmp_path: Path) -> None:
    """Regressions have no largest weight: other methods are compared with the one that has it."""
    from rmm.study import collect, plan, run_batch, write_performance

    study(tmp_path)
    config = yaml.safe_load((tmp_path / "study.yaml").read_text())
    sampler = {"sampler": {"chains": 2, "draws": 200}, "gate": {"ess_per_chain": 50}}
    config["methods"] = [
        {"name": "ols", "kind": "aggregation", "backend": "ols"},
        {"name": "mm", "kind": "mm", "backend": "laplace", **sampler},
        {"name": "mmmm", "kind": "mmmm", "backend": "laplace", **sampler},
    ]
    config["estimands"] = [
        {"parameter": "b_l1[x]"},
        {"estimand": "largest_weight", "by": "power", "baseline": "mm"},
    ]
    config["replications"] = 4
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    found = load_study(tmp_path / "study.yaml")
    paths = []
    for job in plan(found):
        paths.append(tmp_path / job.path)
        run_batch(found, job.scenario, job.method, job.first, job.last, paths[-1])
    collect(found, paths, tmp_path / "estimates.parquet")
    frame = write_performance(found, tmp_path / "estimates.parquet", tmp_path / "p.parquet")
    rows = frame[(frame["measure"] == "difference_bias") & (frame["policy"] == "per_method")]
    known = rows.set_index(["parameter", "method"])["value"].dropna()
    assert set(known.index) == {
        ("b_l1[x]", "mm"),
        ("b_l1[x]", "mmmm"),
        ("largest_weight[by=power]", "mmmm"),
    }
    import pandas as pd

    table = pd.read_parquet(tmp_path / "estimates.parquet")
    mine = table[table["parameter"] == "largest_weight[by=power]"].pivot_table(
        index="replication", columns="method", values="mean"
    )
    wanted = (mine["mmmm"] - mine["mm"]).mean()
    assert known["largest_weight[by=power]", "mmmm"] == pytest.approx(wanted)
    config["estimands"][1]["baseline"] = "nobody"
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(StudyError, match=r"estimands\[1\]\.baseline\n.*Allowed: ols, mm, mmmm"):
        load_study(tmp_path / "study.yaml")
