"""How CPU time and memory of one fit grow with groups, members and weight coefficients.

usage: python -m benchmarks.speed.growth FAMILY STRUCTURE GROUPS MEMBERS SIZE COEFFICIENTS    (JSON)

All families, backend laplace. In the structure `nations`, members meet in nations of 50 groups and
20 members; with `anywhere`, all members may meet, so that no factor of the matrix is sparse.
Each fit is a process of its own; CPU seconds of all of `rmm.fit`, and peak memory of the process.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from dataclasses import astuple, dataclass
from statistics import linear_regression
from typing import Any

import numpy as np
import pandas as pd

import rmm
from benchmarks.speed.machine import run_module
from benchmarks.speed.records import RESULTS
from rmm.errors import BackendError
from rmm.tables.read import Array

NATION, NATION_MEMBERS = 50, 20
STRATUM = 5  # groups of a choice
OUTCOMES = {
    "gaussian": "y ~ 1 +",
    "binomial": "above ~ 1 +",
    "weibull": "Surv(time, event) ~ 1 +",
    "cox": "Surv(time, event) ~",
    "condlogit": "chosen ~",
}
#: What is measured of each fit.
FOUND = ("cpu_seconds", "memory_mb", "ess", "pareto_k", "inner_variance", "integrals")


@dataclass(frozen=True)
class Case:
    """One fit: `size` members per group, `coefficients` of estimated weights (0: known)."""

    family: str
    structure: str
    groups: int
    members: int
    size: int
    coefficients: int


def nations(groups: int, coefficients: int, family: str = "gaussian") -> Case:
    """Return a case whose members meet in nations: four members for every ten groups."""
    members = max(1, groups // NATION) * NATION_MEMBERS
    return Case(family, "nations", groups, members, 3, coefficients)


SHORT = (
    *(
        nations(groups, k, family)
        for family in OUTCOMES
        for k in (0, 1)
        for groups in (1_000, 5_000, 20_000)
    ),
    *(nations(5_000, k) for k in (2, 4)),
    *(Case("gaussian", "anywhere", 2_000, members, 3, 1) for members in (100, 300, 1_000)),
)
FULL = (
    *SHORT,
    *(nations(50_000, k, family) for family in OUTCOMES for k in (0, 1)),
    Case("gaussian", "anywhere", 20_000, 2_000, 5, 1),
)


def table_of(case: Case, seed: int = 1) -> pd.DataFrame:
    """Return memberships with an outcome whose weights depend on s1."""
    rng = np.random.default_rng(seed)
    number = np.arange(case.groups)
    if case.structure == "nations":
        last = case.members // NATION_MEMBERS - 1
        first, among = np.minimum(number // NATION, last) * NATION_MEMBERS, NATION_MEMBERS
    else:
        first, among = np.zeros(case.groups, dtype=int), case.members
    picks = (rng.choice(among, case.size, replace=False) for _ in number)
    member = np.concatenate([f + pick for f, pick in zip(first, picks, strict=True)])
    group = np.repeat(number, case.size)
    effect, x = rng.normal(size=(2, case.members))
    s = rng.normal(size=(max(1, case.coefficients), len(group)))
    z = rng.normal(size=case.groups)
    weight = 1 / (1 + (case.size - 1) * np.exp(-s[0]))
    weight /= np.repeat(weight.reshape(-1, case.size).sum(axis=1), case.size)
    eta = 0.5 * z + np.bincount(group, weight * effect[member])
    outcome = outcome_of(eta, case.family, rng)
    columns = {"gid": group, "pid": member, "x": x[member], "z": z[group]}
    columns |= {name: values[group] for name, values in outcome.items()}
    return pd.DataFrame(columns | {f"s{k + 1}": values for k, values in enumerate(s)})


def outcome_of(eta: Array, family: str, rng: np.random.Generator) -> dict[str, Array]:
    """Return the columns of an outcome, one value per group."""
    if family == "gaussian":
        return {"y": eta + rng.normal(size=len(eta))}
    if family == "binomial":
        return {"above": (eta + rng.logistic(size=len(eta)) > 0).astype(int)}
    if family == "condlogit":
        stratum = np.arange(len(eta)) // STRATUM
        utility = eta + rng.gumbel(size=len(eta))
        best = np.maximum.reduceat(utility, np.unique(stratum, return_index=True)[1])
        return {"chosen": (utility == best[stratum]).astype(int), "stratum": stratum}
    time = np.exp(eta + np.log(rng.exponential(size=len(eta))) / 1.5)  # Weibull of shape 1.5
    end = rng.exponential(5, len(eta))
    return {"time": np.minimum(time, end), "event": (time <= end).astype(int)}


def formula(coefficients: int, family: str = "gaussian") -> str:
    """Return the model with known weights, or with some coefficients in them."""
    terms = " + ".join(f"b{k}*s{k}" for k in range(1, coefficients + 1))
    weights = f"1/(1 + (n-1)*exp(-({terms})))" if terms else "1/n"
    strata = " + strata(stratum)" if family == "condlogit" else ""
    model = f"z + mm(id(pid, gid), vars(x), fn(w ~ {weights}), RE = TRUE){strata}"
    return f"{OUTCOMES[family]} {model}"


def measure(case: Case) -> dict[str, float | bool]:
    """Fit once, after a small fit that loads the libraries; NaN for a fit that is refused."""
    given: dict[str, Any] = {"seed": 1, "monitor": "structural", "progress": False}
    given |= {"backend": "laplace", "family": case.family}
    model = formula(case.coefficients, case.family)
    small = Case(case.family, "anywhere", 60, 20, case.size, case.coefficients)
    rmm.fit(model, table_of(small), **given)
    data = table_of(case)
    began = time.process_time()
    try:
        fit = rmm.fit(model, data, **given)
    except BackendError:  # it would need more time or memory than there is
        return dict.fromkeys(FOUND, float("nan")) | {"converged": False}
    return {
        "cpu_seconds": time.process_time() - began,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ess": float(fit.run.engine["ess"]),
        "pareto_k": float(fit.run.engine["pareto_k"]),
        "inner_variance": float(fit.run.engine["inner_variance"]),
        "converged": bool(fit.converged),
        "integrals": float(fit.run.engine["integrals"]),
    }


def collect(cases: tuple[Case, ...], name: str, identity: dict[str, str]) -> pd.DataFrame:
    """Return a row per case, kept in NAME.csv as soon as it is known."""
    rows = []
    for case in cases:
        found = json.loads(run_module("growth", *astuple(case)))
        rows.append({**case.__dict__, **found, **identity})
        size = f"{case.groups:7,} groups{case.members:7,} members {case.coefficients} coefficients"
        print(
            f"growth    {case.family:10}{case.structure:10}{size}{found['cpu_seconds']:9.2f} s "
            f"{found['memory_mb']:7.0f} MB",
            flush=True,
        )
        pd.DataFrame(rows).to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.6g")
    return pd.DataFrame(rows)


def exponent(table: pd.DataFrame, coefficients: int, family: str = "gaussian") -> float:
    """Return the power of the number of groups that CPU time grows with, by least squares.

    NaN where fewer than two sizes were measured.
    """
    rows = table[(table["structure"] == "nations") & (table["coefficients"] == coefficients)]
    rows = rows[(rows["family"] == family) & rows["cpu_seconds"].notna()]
    if rows["groups"].nunique() < 2:
        return float("nan")
    return linear_regression(np.log(rows["groups"]), np.log(rows["cpu_seconds"])).slope


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        family, structure, *numbers = sys.argv[1:]
        print(json.dumps(measure(Case(family, structure, *map(int, numbers)))))
