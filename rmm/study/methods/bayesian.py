"""Bayesian methods: a fit through `rmm.fit` -> rows of estimates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray

import rmm
from rmm.backends import find_backend
from rmm.formula.terms import Formula, Term
from rmm.posterior.diagnostics.summary import (
    Weighing,
    flatten,
    of_weighted_draws,
    summarise,
    weighing,
)
from rmm.simulation import Drawn
from rmm.study.files.parquet import NOT_CONVERGED, OK
from rmm.study.methods.layouts import LAYOUTS, parameter_of
from rmm.study.methods.ranks import rank
from rmm.study.methods.task import INTERVALS, Outcome, Task, parsed
from rmm.study.methods.true_log_likelihood import LOG_LIKELIHOOD, true_log_likelihood

if TYPE_CHECKING:
    from rmm.study.methods.method import Method

Array = np.ndarray[Any, Any]
#: Effective draws per chain that laplace aims at in a study. The gate must not change the draws.
_ESS_PER_CHAIN = 125
#: Of a pilot fit; rmm.fit needs some.
_PILOT_DRAWS = 10


def fit_engine(task: Task) -> Outcome:
    """A Bayesian fit through `rmm.fit`."""
    method = task.method
    formula, likelihood = parsed(task.formula), method.config["log_likelihood"]
    result = sampled(task, task.formula, task.seed, "summary" if likelihood else "structural")
    renamed = _renamed(formula, task.drawn) if method.kind.layout in LAYOUTS else {}
    draws = parameter_draws(result, renamed)
    table = result.summary()
    table.index = [renamed.get(str(name), str(name)) for name in table.index]
    _check_levels(task, table.index)
    squares = {n: draws[n[:-2]] ** 2 for n in task.nulls if n.endswith("^2") and n[:-2] in draws}
    draws |= squares
    table = pd.concat([table, _summary(squares, result)])
    rows = [_draw_row(str(n), table.loc[n], draws[str(n)], task) for n in table.index]
    reason = unconverged(task, result, table)
    if likelihood:
        rows.append(_likelihood_row(result, task))
    return Outcome(
        NOT_CONVERGED if reason else OK,
        tuple(rows),
        message=reason,
        divergences=divergences(result),
        engine=engine_version(result, method.backend),
        fit=result,
    )


def sampled(task: Task, formula: str, seed: int, monitor: str) -> Any:
    """The `rmm.Fit` of a formula with the method's settings."""
    sampler, options = task.method.config["sampler"], _options(task.method)
    warmup = sampler["warmup"]
    if task.adaptation:
        options["adaptation"] = {**task.adaptation, "warmup": sampler["pilot"]}
    elif "pilot" in sampler:  # which failed
        warmup = sampler["pilot"]
    return _fit(task, formula, seed, monitor, warmup, sampler["draws"], options)


def adapt(task: Task) -> dict[str, Any]:
    """What the warm-up of a pilot fit adapts (`rmm.backends.base.Run.adaptation`)."""
    warmup = task.method.config["sampler"]["pilot"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: its draws are not used
        found = _fit(
            task, task.formula, task.seed, "structural", warmup, _PILOT_DRAWS, _options(task.method)
        )
    return dict(found.run.adaptation)


def _fit(
    task: Task,
    formula: str,
    seed: int,
    monitor: str,
    warmup: int,
    draws: int,
    options: Mapping[str, Any],
) -> Any:
    method, drawn = task.method, task.drawn
    sampler = method.config["sampler"]
    return rmm.fit(
        formula,
        engine_data(method, drawn, parsed(formula)),
        family=drawn.truth.spec.family.name,
        backend=method.backend,
        priors=method.priors(drawn.truth),
        chains=sampler["chains"],
        warmup=warmup,
        draws=draws,
        thin=sampler["thin"],
        seed=seed,
        cores=1,
        monitor=monitor,
        progress=False,
        timeout=sampler["timeout"],
        **options,
    )


def _options(method: Method) -> dict[str, Any]:
    """Options of the engine, as the study file gives them."""
    sampler = method.config["sampler"]
    given = dict(sampler["options"])
    if "ess" in find_backend(method.backend).options:
        given.setdefault("ess", _ESS_PER_CHAIN * sampler["chains"])
    return given


def divergences(result: Any) -> int:
    """Divergent transitions of a fit; 0 for engines that have none."""
    return int(result.diagnostics().get("divergences", 0))


def engine_version(result: Any, backend: str) -> str:
    """What the estimates say of the engine."""
    version = str(result.run.engine.get("version", backend))
    results = find_backend(backend).results_version
    return version if results is None else f"{version} (results {results})"


def _check_levels(task: Task, estimated: Any) -> None:
    """A predictor that is constant within nesting units in one data set changes its level there.

    Such a fit has no estimate of the estimand: it is a failed one, not one that goes missing.
    """
    for name in task.nulls:
        other = name.replace("b_l2[", "b_l3[") if "b_l2[" in name else name.replace("b_l3", "b_l2")
        if name not in estimated and other != name and other in estimated:
            raise ValueError(
                f"{name} is missing: in this data set the coefficient is {other}, because the "
                "level of a predictor is determined from the data"
            )


def engine_data(method: Method, drawn: Drawn, formula: Formula) -> Any:
    """The table that `rmm.fit` gets for a method."""
    if method.kind.layout not in LAYOUTS:
        return drawn.frame()
    flat = LAYOUTS[method.kind.layout](drawn, formula, method.config["summary"])
    nesting = drawn.memberships.names.nesting if formula.nestings else None
    return flat.frame(nesting, formula.strata)


def _renamed(formula: Formula, drawn: Drawn) -> dict[str, str]:
    """`b_l2[x]` of a regression on one row per unit -> the name that the truth has for it."""
    nested: list[Term] = [t for block in formula.nestings for t in block.terms or ()]
    out: dict[str, str] = {}
    for term in (*formula.terms, *nested):
        wanted = parameter_of(term, drawn.truth, drawn)
        out |= {f"{b}[{term.label}]": wanted for b in ("b_l2", "b_l3")}
    return out


def parameter_draws(result: Any, renamed: Mapping[str, str]) -> dict[str, Array]:
    """Parameter -> all its draws, (chains, draws)."""
    out: dict[str, Array] = {}
    posterior = result.draws["posterior"].to_dataset()
    for name in posterior.data_vars:
        labels, values = flatten(posterior[name])
        for index, label in enumerate(labels):
            out[renamed.get(label, label)] = values[:, :, index]
    return out


def _draw_row(name: str, row: Any, values: Array, task: Task) -> dict[str, Any]:
    null, truth = task.nulls.get(name, 0.0), task.drawn.truth
    above, below = float(np.mean(values > null)), float(np.mean(values < null))
    out: dict[str, Any] = {
        "parameter": name,
        "mean": float(row["mean"]),
        "median": float(row["median"]),
        "sd": float(row["sd"]),
        "null": null,
        "p_value": min(1.0, 2 * min(above, below)),
        "rhat": float(row["rhat"]),
        "ess_bulk": float(row["ess_bulk"]),
        "ess_tail": float(row["ess_tail"]),
        "mcse": float(row["mcse_mean"]),
        "contraction": float(row.get("contraction", np.nan)),
    }
    if name in truth.priors:
        out["rank"] = rank(values.ravel(), truth.parameters[name])
    for label, level in INTERVALS:
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        out[f"lower{label}"], out[f"upper{label}"] = float(low), float(high)
    return out


def _summary(draws: Mapping[str, Array], result: Any) -> pd.DataFrame:
    """`summary` of draws that are functions of the posterior's, (chains, draws) each."""
    dataset = xarray.Dataset({n: (("chain", "draw"), values) for n, values in draws.items()})
    table, kept = summarise(dataset, list(draws)), result.settings.chains * result.settings.draws
    return of_weighted_draws(table, weighing(result.run), kept)


def _likelihood_row(result: Any, task: Task) -> dict[str, Any]:
    """The joint log likelihood of the data, and its true value's rank among the draws."""
    values = {LOG_LIKELIHOOD: result.log_likelihood().to_numpy().sum(axis=2)}
    table, draws = _summary(values, result), values[LOG_LIKELIHOOD]
    row = _draw_row(LOG_LIKELIHOOD, table.loc[LOG_LIKELIHOOD], draws, task)
    truth = true_log_likelihood(task.drawn)
    return {**row, "truth": truth, "rank": rank(draws.ravel(), truth), "p_value": None}


def unconverged(task: Task, result: Any, table: pd.DataFrame) -> str:
    """Why a fit does not count as converged; empty if it does."""
    gate, chains, count = task.method.config["gate"], result.settings.chains, divergences(result)
    if gate["parameters"] == "estimands":
        table = table.loc[[n for n in table.index if n in task.nulls]]
    if count > gate["divergences"]:
        return f"{count} divergences"
    wanted, weighed = gate["ess_per_chain"] * chains, weighing(result.run)
    if weighed is not None:
        return _weights_problem(weighed, wanted, chains * result.settings.draws)
    if len(table) == 0:
        return ""
    rhat = table["rhat"].fillna(np.inf)
    if rhat.max() > gate["rhat"]:
        return f"R-hat {rhat.max():.3f} of {rhat.idxmax()}"
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1).fillna(0.0)
    if ess.min() < wanted:
        return f"ESS {ess.min():.0f} of {ess.idxmin()}, {wanted:.0f} wanted"
    return ""


def _weights_problem(weighed: Weighing, wanted: float, kept: int) -> str:
    """Why weighted draws do not count as converged: they have no R-hat."""
    size = min(weighed.ess, kept)
    if weighed.problem() or size >= wanted:
        return weighed.problem()
    return f"ESS {size:.0f} of the weights, {wanted:.0f} wanted"
