"""Invented results of studies of any size, for tests of the report."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from rmm.study import Study, load_study
from rmm.study.design.estimand import Estimand
from rmm.study.measures.score_cells import score_estimates
from rmm.study.methods.method import KINDS

Factors = Mapping[str, Sequence[Any]]


def scenario_frame(factors: Factors) -> pd.DataFrame:
    grid = list(itertools.product(*factors.values()))
    columns = {name: [row[i] for row in grid] for i, name in enumerate(factors)}
    return pd.DataFrame({"scenario": [f"s{i:010x}" for i in range(len(grid))], **columns})


def estimate_frame(
    scenarios: pd.DataFrame,
    methods: Sequence[str],
    replications: int,
    parameter: str = "b_l1[x]",
    truth: float = 0.0,
    ranks: bool = False,
) -> pd.DataFrame:
    """Normal estimates whose standard errors are too small by 10% per method and scenario level."""
    rng = np.random.default_rng(1)
    parts = []
    for place, scenario in enumerate(scenarios["scenario"]):
        for number, method in enumerate(methods):
            spread = 0.1 * (1 + 0.1 * number * (1 + place % 4))
            mean = truth + rng.normal(0, spread, replications)
            status = np.where(rng.random(replications) < 0.03, "not_converged", "ok")
            status[6] = "failed" if number == 1 else status[6]
            part = pd.DataFrame(
                {
                    "scenario": scenario,
                    "method": method,
                    "backend": "ols",
                    "replication": np.arange(1, replications + 1),
                    "parameter": parameter,
                    "truth": truth,
                    "mean": np.where(status == "failed", np.nan, mean),
                    "sd": 0.1,
                    "null": 0.0,
                    "seconds": rng.gamma(4, 0.1 * (1 + number)),
                    "status": status,
                    "message": np.where(status == "failed", "singular <design>", None),
                    "rmm_version": "0.1.0",
                    "ess_bulk": 400.0 if number % 2 else np.nan,
                    "rank": rng.integers(0, 100, replications) if ranks else np.nan,
                }
            )
            parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    failed = table["status"] == "failed"
    table.loc[failed, ["ess_bulk", "rank"]] = np.nan
    for suffix, width in (("", 1.96), ("90", 1.645), ("99", 2.576)):
        table[f"lower{suffix}"] = table["mean"] - width * table["sd"]
        table[f"upper{suffix}"] = table["mean"] + width * table["sd"]
    return table


#: A study that is valid; all that its report shows is put in its place.
BASE: dict[str, Any] = {
    "seed": 1,
    "replications": 40,
    "membership": {"kind": "synthetic", "groups": 30, "members": 15, "size": 3},
    "covariates": {"x": {"level": "member"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars(x), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0, "sigma_l1": 1, "sigma_l2": 1},
    },
    "methods": [{"name": "ols", "kind": "disaggregation"}],
    "estimands": [{"parameter": "b_l1[x]"}],
}


class Invented(NamedTuple):
    """A study and the folder of its results: `read_results(*invented)`."""

    study: Study
    folder: Path


def invent_study(
    folder: Path,
    scenarios: pd.DataFrame,
    methods: Mapping[str, str] | Sequence[str],
    parameter: str = "b_l1[x]",
    truth: float | None = 0.0,
    **config: Any,
) -> Study:
    """A study with these scenarios and methods (name -> kind), whatever they are called.

    Without a `truth`, that of b_l1[x] is drawn from a prior for each data set.
    """
    kinds = dict(methods) if isinstance(methods, Mapping) else {}
    file = folder / "base.yaml"
    config_of_base = copy.deepcopy(BASE)
    drawn = {"prior": "normal(0, 1)"}
    config_of_base["truth"]["parameters"]["b_l1[x]"] = 0 if truth is not None else drawn
    file.write_text(yaml.safe_dump(config_of_base, sort_keys=False), encoding="utf-8")
    base = load_study(file)
    (scenario,), (method,) = base.scenarios, base.methods
    factors = [name for name in scenarios if name != "scenario"]
    shown = {
        "title": "Invented results",
        "aims": "To look at a report.",
        "truth": {
            **base.config["truth"],
            "parameters": {parameter: drawn if truth is None else truth, "sigma_l1": 1.0},
        },
        "vary": {
            name: {"path": f"membership.{name}", "values": scenarios[name].tolist()}
            for name in factors
        },
    }
    made = [
        replace(scenario, id=row["scenario"], factors={f: row[f] for f in factors})
        for row in scenarios.to_dict("records")
    ]
    named = [replace(method, name=m, kind=KINDS[kinds.get(m, "disaggregation")]) for m in methods]
    return replace(
        base,
        name=folder.name,
        config={**base.config, **shown, **config},
        scenarios=tuple(made),
        methods=tuple(named),
        estimands=(Estimand(parameter, 0.0, (0.05,), truth),),
        baseline=named[0].name,
    )


def write_study(
    folder: Path,
    factors: Factors,
    methods: Sequence[str],
    replications: int = 40,
    parameter: str = "b_l1[x]",
    truth: float = 0.0,
    ranks: bool = False,
    **config: Any,
) -> Invented:
    """A study and its results folder as the workflow leaves it."""
    folder.mkdir(parents=True)
    scenarios = scenario_frame(factors)
    study = invent_study(folder, scenarios, methods, parameter, truth, **config)
    estimates = estimate_frame(scenarios, methods, replications, parameter, truth, ranks)
    scored = score_estimates(
        estimates, alpha={parameter: (0.05,)}, parameters=[parameter], baseline=methods[0]
    )
    estimates.to_parquet(folder / "estimates.parquet")
    scored.to_parquet(folder / "performance.parquet")
    return Invented(study, folder)
