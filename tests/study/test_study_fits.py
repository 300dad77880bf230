"""A study's fit has the numbers of `rmm.fit` on the same data and seed, draw by draw."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.posterior.diagnostics.summary import ascending, quantiles
from rmm.posterior.fit import Fit
from rmm.study import Study
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.task import Task
from rmm.study.run.replicate import make_task
from tests.study.test_engines import FAMILIES, study

SAMPLER = {"chains": 2, "draws": 40, "warmup": 10, "options": {}}
Config = dict[str, Any]


def by_hand(task: Task) -> Fit:
    """What a user does with the data of a replication, as a table."""
    method, sampler = task.method, task.method.config["sampler"]
    data: Any = task.drawn.frame()
    if method.kind.name == "aggregation":
        rows = data.groupby("group")
        data = rows[["z", "y"]].first().assign(x=rows["x"].sum() / rows.size())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            task.formula,
            data,
            task.drawn.truth.spec.family.name,
            backend=method.backend,
            priors=method.priors(task.drawn.truth),
            seed=task.seed,
            chains=sampler["chains"],
            draws=sampler["draws"],
            warmup=sampler["warmup"],
            monitor="structural",
            progress=False,
            **({"ess": 125 * sampler["chains"]} if method.backend == "laplace" else {}),
        )


def compare(found: Study, method: str, replications: int = 2) -> None:
    """Draws bit by bit, and each number of a row that a summary has."""
    for replication in range(1, replications + 1):
        task = make_task(found, found.scenarios[0], found.method(method), replication)
        outcome, wanted = fit_task(task, keep=True), by_hand(task)
        assert outcome.fit is not None, outcome.message
        assert outcome.fit.run.draws.keys() == wanted.run.draws.keys()
        for name, values in wanted.run.draws.items():
            np.testing.assert_array_equal(outcome.fit.run.draws[name], values, err_msg=name)
        table = wanted.summary().rename(columns={"mcse_mean": "mcse"})
        rows = pd.DataFrame([dict(row) for row in outcome.estimates]).set_index("parameter")
        if task.method.kind.name == "aggregation":
            table = table.rename(index={"b_l2[x]": "b_l1[x]"})  # as the truth has it
        assert list(rows.index) == list(table.index)
        for column in table.columns.intersection(rows.columns):
            np.testing.assert_array_equal(rows[column], table[column], err_msg=column)
        label = next(name for name in rows.index if name.startswith("sigma"))
        sigma = wanted.run.draws[label]
        bounds = np.quantile(sigma, [(1 - 0.9) / 2, (1 + 0.9) / 2])
        assert rows.loc[label, ["lower90", "upper90"]].tolist() == bounds.tolist()
        assert rows.loc[label, "p_value"] == 2 * min(np.mean(sigma > 0), np.mean(sigma < 0))


def method(backend: str, **settings: Any) -> Config:
    return {"name": "m", "kind": "mmmm", "backend": backend, "sampler": SAMPLER} | settings


@pytest.mark.parametrize("family", FAMILIES)
def test_data_of_every_family_reach_the_engine_as_those_of_a_table(
    family: str, tmp_path: Path
) -> None:
    """Draws of the fake engine follow from the content of its data."""
    compare(study(tmp_path, [method("fake")], family), "m")


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
@pytest.mark.parametrize("kind", ["mm", "mmmm"])
def test_draws_and_rows_are_those_of_a_fit(family: str, kind: str, tmp_path: Path) -> None:
    compare(study(tmp_path, [method("laplace", kind=kind)], family), "m", 1)


def _memberships_once(config: Config) -> None:
    config["membership"]["redraw"] = False
    config["covariates"]["x"]["redraw"] = False


def _nested(config: Config) -> None:
    config["truth"]["formula"] += " + hm(id = nesting)"
    config["truth"]["parameters"]["sigma_l3"] = 0.5
    config["covariates"]["z"]["level"] = "nesting"
    config["truth"]["parameters"]["b_l3[z]"] = config["truth"]["parameters"].pop("b_l2[z]")


def _features(config: Config) -> None:
    config["truth"]["formula"] = config["truth"]["formula"].replace(
        "vars(x)", "vars(x + variance(x))"
    )
    config["truth"]["parameters"]["b_l1[variance(x)]"] = 0.2


def _two_blocks(config: Config) -> None:
    config["truth"]["formula"] += " + mm(id(member, group), vars(power), fn(w ~ n), RE = FALSE)"
    names = {"b_l1[x]": "b_l1_1[x]", "b_w[b1]": "b_w_1[b1]", "sigma_l1": "sigma_l1_1"}
    parameters = config["truth"]["parameters"]
    for old, new in names.items():
        parameters[new] = parameters.pop(old)
    parameters["b_l1_2[power]"] = 0.3


def _truth_priors(config: Config) -> None:
    parameters = config["truth"]["parameters"]
    for name in parameters:
        law = "half_normal(1)" if name.startswith("sigma") else "normal(0, 0.5)"
        parameters[name] = {"prior": law}
    config["methods"][0]["priors"] = "truth"


@pytest.mark.parametrize(
    "edit", [_memberships_once, _nested, _features, _two_blocks, _truth_priors]
)
def test_designs_are_those_of_a_fit(edit: Any, tmp_path: Path) -> None:
    compare(study(tmp_path, [method("fake")], edit=edit), "m", 3)


def test_ids_that_are_texts_are_those_of_a_fit(tmp_path: Path) -> None:
    """Members of a real table in another order than that of the alphabet."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(40), 3)
    names = np.array([f"p{k}" for k in range(20)])
    member = np.concatenate([rng.permutation(20)[:3] for _ in range(40)])
    frame = pd.DataFrame({"who": names[member], "where": group * 7 + 1})
    frame["country"] = np.array(["b", "a", "c"])[group % 3]
    frame["size"] = rng.standard_normal(40)[group]
    frame.to_parquet(tmp_path / "real.parquet")

    def edit(config: Config) -> None:
        config["membership"] = {
            "kind": "empirical",
            "file": str(tmp_path / "real.parquet"),
            "member": "who",
            "group": "where",
            "nesting": "country",
        }
        config["covariates"]["z"] = {"column": "size"}
        formula = config["truth"]["formula"].replace("(member, group)", "(who, where)")
        config["truth"]["formula"] = formula

    compare(study(tmp_path, [method("fake")], edit=edit), "m")


def test_aggregated_data_are_those_of_a_fit(tmp_path: Path) -> None:
    compare(study(tmp_path, [method("laplace", kind="aggregation")]), "m")


def test_a_problem_of_one_data_set_is_a_failed_row(tmp_path: Path) -> None:
    """With the message of `rmm.fit`."""

    def edit(config: Config) -> None:
        config["covariates"]["z"] = {
            "level": "group",
            "distribution": "binary",
            "probability": 0.02,
        }

    found = study(tmp_path, [method("fake")], edit=edit)
    tasks = [make_task(found, found.scenarios[0], found.method("m"), r) for r in range(1, 9)]
    constant = next(t for t in tasks if np.ptp(t.drawn.by_group("z")) == 0)
    outcome = fit_task(constant)
    assert outcome.status == "failed"
    with pytest.raises(rmm.DataError, match="`z` is 0 in every group") as error:
        by_hand(constant)
    assert outcome.message == str(error.value)


def test_sorted_quantiles_are_numpys() -> None:
    rng = np.random.default_rng(1)
    levels = [0.0, 0.005, 0.025, (1 - 0.95) / 2, 0.25, 0.5, 0.975, 1.0]
    for count in (1, 2, 3, 100, 999, 1000):
        values = rng.standard_normal((count, 5)) * 10.0 ** rng.uniform(-5, 5, 5)
        found = quantiles(ascending(values), levels)
        np.testing.assert_array_equal(found, np.quantile(values, levels, axis=0))
