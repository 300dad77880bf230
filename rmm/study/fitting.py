"""Method x replication -> estimates, whatever happens: a fit that fails is a row."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import rmm
from rmm.errors import BackendTimeout, RmmError
from rmm.simulation import Drawn
from rmm.study.layouts import LAYOUTS, parameter_of
from rmm.study.methods import CLASSICAL, ENGINES, Method
from rmm.study.ranks import rank
from rmm.study.regressions import fit_regression
from rmm.study.results import FAILED, NOT_CONVERGED, OK, TIMEOUT
from rmm.study.tasks import INTERVALS, Outcome, Task, parsed
from rmm.terms import Formula, Term

Array = np.ndarray[Any, Any]
_MESSAGE = 500  # characters of an error that are kept


def fit_task(task: Task, *, keep: bool = False) -> Outcome:
    """Run one fit; no error of it gets out.

    Parameters
    ----------
    keep : bool
        Whether the fitted object stays in the outcome (for a replay).
    """
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            # Convergence is a status here, and 10,000 warnings are no information.
            warnings.simplefilter("ignore")
            outcome = BACKENDS[task.method.backend](task)
    except BackendTimeout as error:
        outcome = Outcome(TIMEOUT, message=_short(error))
    except Exception as error:  # noqa: BLE001  one method's error must not stop the others
        outcome = Outcome(FAILED, message=_short(error))
    outcome = replace(outcome, seconds=time.perf_counter() - started)
    return outcome if keep else replace(outcome, fit=None)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    name = "" if isinstance(error, RmmError) else f"{type(error).__name__}: "
    return (name + text)[:_MESSAGE]


# -- Bayesian engines ------------------------------------------------------------------------


def fit_engine(task: Task) -> Outcome:
    """A Bayesian fit through `rmm.fit`."""
    method, drawn = task.method, task.drawn
    sampler = method.config["sampler"]
    formula = parsed(task.formula)
    result = rmm.fit(
        task.formula,
        engine_data(method, drawn, formula),
        family=drawn.truth.spec.family.name,
        backend=method.backend,
        priors=method.priors(drawn.truth),
        chains=sampler["chains"],
        warmup=sampler["warmup"],
        draws=sampler["draws"],
        thin=sampler["thin"],
        seed=task.seed,
        cores=1,
        monitor="structural",
        progress=False,
        timeout=sampler["timeout"],
        **sampler["options"],
    )
    renamed = _renamed(formula, drawn) if method.kind.layout in LAYOUTS else {}
    table = result.summary()
    table.index = [renamed.get(str(name), str(name)) for name in table.index]
    _check_levels(task, table.index)
    values = parameter_draws(result, renamed)
    rows = [_draw_row(str(n), table.loc[n], values[str(n)], task) for n in table.index]
    divergences = int(result.diagnostics().get("divergences", 0))
    reason = _unconverged(method.config["gate"], table, sampler["chains"], divergences, task.nulls)
    return Outcome(
        NOT_CONVERGED if reason else OK,
        tuple(rows),
        message=reason,
        divergences=divergences,
        engine=str(result.run.engine.get("version", method.backend)),
        fit=result,
    )


def _check_levels(task: Task, estimated: Any) -> None:
    """A predictor that is constant within nesting units in one data set changes its level there.

    Such a fit has no estimate of the estimand: it is a failed one, not one that goes missing.
    """
    for name in task.nulls:
        other = name.replace("b_l2[", "b_l3[") if "b_l2[" in name else name.replace("b_l3", "b_l2")
        if name not in estimated and other != name and other in estimated:
            raise ValueError(
                f"{name} is {other} in this data set: the predictor's level is read from the data"
            )


def engine_data(method: Method, drawn: Drawn, formula: Formula) -> Any:
    """The table that `rmm.fit` gets for a method."""
    if method.kind.layout not in LAYOUTS:
        return drawn.frame()
    flat = LAYOUTS[method.kind.layout](drawn, formula, method.config["summary"])
    nesting = drawn.memberships.names.nesting if formula.nestings else None
    return flat.frame(nesting)


def _renamed(formula: Formula, drawn: Drawn) -> dict[str, str]:
    """`b_l2[x]` of a regression on one row per unit -> the name that the truth has for it."""
    nested: list[Term] = [t for block in formula.nestings for t in block.terms or ()]
    out: dict[str, str] = {}
    for term in (*formula.terms, *nested):
        wanted = parameter_of(term, drawn.truth, drawn)
        out |= {f"{b}[{term.label}]": wanted for b in ("b_l2", "b_l3")}
    return out


def parameter_draws(result: Any, renamed: Mapping[str, str]) -> dict[str, Array]:
    """Parameter -> all its draws."""
    from rmm.summary import flatten

    out: dict[str, Array] = {}
    posterior = result.draws["posterior"].to_dataset()
    for name in posterior.data_vars:
        labels, values = flatten(posterior[name])
        for index, label in enumerate(labels):
            out[renamed.get(label, label)] = values[:, :, index].ravel()
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
    }
    if name in truth.priors:
        out["rank"] = rank(values, truth.parameters[name])
    for label, level in INTERVALS:
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        out[f"lower{label}"], out[f"upper{label}"] = float(low), float(high)
    return out


def _unconverged(
    gate: Mapping[str, Any], table: Any, chains: int, divergences: int, nulls: Mapping[str, float]
) -> str:
    """Why a fit does not count as converged; empty if it does."""
    if gate["parameters"] == "estimands":
        table = table.loc[[n for n in table.index if n in nulls]]
    if divergences > gate["divergences"]:
        return f"{divergences} divergences"
    if len(table) == 0:
        return ""
    rhat = table["rhat"].fillna(np.inf)
    if rhat.max() > gate["rhat"]:
        return f"R-hat {rhat.max():.3f} of {rhat.idxmax()}"
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1).fillna(0.0)
    wanted = gate["ess_per_chain"] * chains
    if ess.min() < wanted:
        return f"ESS {ess.min():.0f} of {ess.idxmin()}, {wanted:.0f} wanted"
    return ""


#: Backend -> how one task is fitted.
BACKENDS: dict[str, Callable[[Task], Outcome]] = {
    **dict.fromkeys(CLASSICAL, fit_regression),
    **dict.fromkeys(ENGINES, fit_engine),
}
