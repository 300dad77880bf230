"""Draws -> tidy tables: estimates, convergence, effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.convergence import convergence

if TYPE_CHECKING:
    import xarray

Array = np.ndarray[Any, Any]
QUANTILES = (0.025, 0.5, 0.975)
RHAT_LIMIT = 1.01
ESS_PER_CHAIN = 100
PARETO_K_LIMIT = 0.7


@dataclass(frozen=True)
class Diagnostics:
    """What the flag `converged` rests on.

    Attributes
    ----------
    converged : bool
        R-hat <= 1.01 and bulk and tail ESS >= 100 per chain on all structural parameters, and no
        divergences (Vehtari et al. 2021); and for weighted draws k^ <= 0.7.
    chains, draws : int
        Chains, and draws kept of each.
    max_rhat : float
        Largest rank-normalised split R-hat.
    min_ess_bulk, min_ess_tail : float
        Smallest effective sample sizes, in draws of all chains.
    worst_rhat, worst_ess : str
        The parameters that decide.
    divergences : int
    pareto_k : float or None
        k^ of the importance weights, where draws have been weighted (Vehtari et al. 2024).
    """

    converged: bool
    chains: int
    draws: int
    max_rhat: float
    worst_rhat: str
    min_ess_bulk: float
    min_ess_tail: float
    worst_ess: str
    divergences: int
    pareto_k: float | None = None


def flatten(variable: xarray.DataArray) -> tuple[list[str], Array]:
    """Names ``b_l1[fdep]`` of the elements of a variable, and draws (chain, draw, element)."""
    dims = [d for d in variable.dims if d not in ("chain", "draw")]
    values = variable.transpose("chain", "draw", *dims).to_numpy()
    values = values.reshape(*values.shape[:2], -1)
    if not dims:
        return [str(variable.name)], values
    labels: list[str] = [""]
    for dim in dims:
        known = variable[dim].to_numpy() if dim in variable.coords else range(variable.sizes[dim])
        labels = [f"{a},{b}" if a else f"{b}" for a in labels for b in known]
    return [f"{variable.name}[{label}]" for label in labels], values


def summarise(posterior: xarray.Dataset, names: list[str]) -> pd.DataFrame:
    """One row per element of the named variables.

    Parameters
    ----------
    posterior : xarray.Dataset
        Draws, (chain, draw, ...).
    names : list of str

    Returns
    -------
    pandas.DataFrame
        Index ``parameter``; columns mean, sd, q2.5, median, q97.5, rhat (rank-normalised split
        R-hat), ess_bulk, ess_tail and mcse_mean: Vehtari et al. (2021), Bayesian Analysis 16,
        667-718 (`rmm.convergence` names the equations).
    """
    labels: list[str] = []
    blocks: list[Array] = []
    for name in names:
        found, values = flatten(posterior[name])
        labels += found
        blocks.append(values)
    columns = ["mean", "sd", "q2.5", "median", "q97.5", "rhat", "ess_bulk", "ess_tail", "mcse_mean"]
    if not blocks:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="parameter"))
    draws = np.concatenate(blocks, axis=2)
    table = {**spread(draws.reshape(-1, len(labels))), **convergence(draws)}
    return pd.DataFrame(table, index=pd.Index(labels, name="parameter"))[columns]


def of_weighted_draws(table: pd.DataFrame, effective: float | None) -> pd.DataFrame:
    """A summary with the effective sample size of the weights, where draws have been weighted.

    Draws that are resampled by their weights repeat: what a table says of them as a chain is more
    than what they are worth.
    """
    if effective is None:
        return table
    sizes = table[["ess_bulk", "ess_tail"]].clip(upper=effective)
    return table.assign(**sizes, mcse_mean=table["sd"] / sizes["ess_bulk"] ** 0.5)


def diagnose(
    table: pd.DataFrame,
    chains: int,
    draws: int,
    divergences: int,
    pareto_k: float | None = None,
) -> Diagnostics:
    """Convergence from a summary table of the structural parameters."""
    rhat = table["rhat"].fillna(np.inf)
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1).fillna(0.0)
    enough = bool((rhat <= RHAT_LIMIT).all() and (ess >= ESS_PER_CHAIN * chains).all())
    return Diagnostics(
        converged=enough and divergences == 0 and (pareto_k is None or pareto_k <= PARETO_K_LIMIT),
        chains=chains,
        draws=draws,
        max_rhat=float(rhat.max()),
        worst_rhat=str(rhat.idxmax()),
        min_ess_bulk=float(table["ess_bulk"].min()),
        min_ess_tail=float(table["ess_tail"].min()),
        worst_ess=str(ess.idxmin()),
        divergences=divergences,
        pareto_k=pareto_k,
    )


def spread(values: Array) -> dict[str, Array]:
    """mean, sd and quantiles over the first axis."""
    low, median, high = np.quantile(values, QUANTILES, axis=0)
    return {
        "mean": values.mean(axis=0),
        "sd": values.std(axis=0, ddof=1),
        "q2.5": low,
        "median": median,
        "q97.5": high,
    }
