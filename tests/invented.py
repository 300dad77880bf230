"""Invented results of studies of any size, for tests of the report."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from rmm.study.measures.performance import performance

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


def write_study(
    folder: Path,
    factors: Factors,
    methods: Sequence[str],
    replications: int = 40,
    parameter: str = "b_l1[x]",
    truth: float = 0.0,
    ranks: bool = False,
    **config: Any,
) -> Path:
    """A results folder as the workflow leaves it."""
    folder.mkdir(parents=True)
    said = {
        "name": folder.name,
        "title": "Invented results",
        "aims": "To look at a report.",
        "seed": 1,
        "replications": replications,
        "truth": {
            "formula": "y ~ 1 + mm(id(m, g), mmc(x), RE = TRUE)",
            "parameters": {parameter: truth, "sigma_l1": 1.0},
        },
        "vary": {
            name: {"path": f"membership.{name}", "values": list(values)}
            for name, values in factors.items()
        },
        "methods": [{"name": m, "kind": "disaggregation", "backend": "ols"} for m in methods],
        "estimands": [{"parameter": parameter, "null": 0.0, "alpha": 0.05}],
        **config,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    scenarios = scenario_frame(factors)
    estimates = estimate_frame(scenarios, methods, replications, parameter, truth, ranks)
    scored = performance(
        estimates, alpha={parameter: (0.05,)}, parameters=[parameter], baseline=methods[0]
    )
    scenarios.to_parquet(folder / "scenarios.parquet")
    estimates.to_parquet(folder / "estimates.parquet")
    scored.to_parquet(folder / "performance.parquet")
    return folder
