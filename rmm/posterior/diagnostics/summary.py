"""Draws -> tidy tables: estimates, convergence, effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.backends.base import Run
from rmm.backends.convergence import convergence, pareto_k_limit

if TYPE_CHECKING:
    import xarray

Array = np.ndarray[Any, Any]
QUANTILES = (0.025, 0.5, 0.975)
RHAT_LIMIT = 1.01
ESS_PER_CHAIN = 100
ESS_OF_WEIGHTS = 400  # wanted where draws are weighted, whatever `chains` is
INNER_LIMIT = 1.0  # variance of the log weights at one hyperparameter value
_LONG = 1e6  # numbers that are not written out
_LEGACY_POINTS = 10_000  # fits saved before their number was kept: the limit is 0.7


@dataclass(frozen=True)
class Weighing:
    """How good the weights are of draws that importance sampling made.

    Attributes
    ----------
    pareto_k : float
        Shape of the weights' tail.
    points : int
        Hyperparameter values that have been weighted.
    ess : float
        Effective draws of their weights.
    inner_variance : float
        Of the log weights of the latent vector at one hyperparameter value, averaged over the
        posterior, or over the upper tail of a standard deviation where that is larger; 0 where
        the latent vector is integrated out exactly.
    """

    pareto_k: float
    points: int
    ess: float
    inner_variance: float

    @property
    def limit(self) -> float:
        """The largest Pareto k that these points allow."""
        return pareto_k_limit(self.points)

    def problem(self) -> str:
        """What keeps the draws from being trusted, however many there are; empty if nothing."""
        if not self.pareto_k <= self.limit:
            return (
                f"Pareto k of the importance weights is {self.pareto_k:.2f} (with "
                f"{self.points:,} points, at most {self.limit:.2f} is allowed)"
            )
        if not self.inner_variance <= INNER_LIMIT:
            varies = self.inner_variance
            shown = f"{varies:.1f}" if varies < _LONG else f"{varies:.0e}"
            return (
                f"the log importance weights of the effects have variance {shown} given the other "
                f"parameters (at most {INNER_LIMIT:g} is allowed)"
            )
        return ""

    def doubt(self) -> str:
        """The same, or that effective draws are too few; empty if nothing."""
        if self.problem() or self.ess >= ESS_OF_WEIGHTS:
            return self.problem()
        return f"{self.ess:.0f} effective draws, {ESS_OF_WEIGHTS} needed"


def weighing(run: Run) -> Weighing | None:
    """What an engine says of its weights; None where draws have none."""
    engine = run.engine
    if engine.get("ess") is None:
        return None
    return Weighing(
        float(engine.get("pareto_k", np.nan)),
        int(engine.get("points", _LEGACY_POINTS)),
        float(engine["ess"]),
        float(engine.get("inner_variance", 0.0)),
    )


@dataclass(frozen=True)
class Diagnostics:
    """What the flag `converged` rests on.

    Attributes
    ----------
    converged : bool
        Of chains: R-hat <= 1.01 and bulk and tail ESS >= 100 per chain on all structural
        parameters, and no divergences (Vehtari et al. 2021). Of weighted draws: Pareto k at most
        `pareto_k_limit`, 400 effective draws, and even weights of the latent vector.
    chains, draws : int
        Chains, and draws kept of each.
    max_rhat : float
        Largest rank-normalised split R-hat; NaN for weighted draws, which have no chains.
    min_ess_bulk, min_ess_tail : float
        Smallest effective sample sizes, in draws of all chains.
    worst_rhat, worst_ess : str
        The parameters that decide; empty for weighted draws, whose sizes are all the same.
    divergences : int
    ess_wanted : float
        Effective draws that are wanted.
    pareto_k, pareto_k_limit : float or None
        k^ of the importance weights and the largest one allowed, where draws have been weighted:
        min(1 - 1 / log10(points), 0.7) (Vehtari et al. 2024).
    inner_variance : float or None
        See `Weighing`; at most 1 is allowed.
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
    ess_wanted: float
    pareto_k: float | None = None
    pareto_k_limit: float | None = None
    inner_variance: float | None = None

    @property
    def short(self) -> str:
        """In a few words, as a fit's headline says it."""
        ess = min(self.min_ess_bulk, self.min_ess_tail)
        if self.pareto_k is None:
            return f"R-hat <= {self.max_rhat:.3f}, ESS >= {ess:.0f}"
        return f"Pareto k {self.pareto_k:z.2f}, {ess:.0f} effective draws"


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


COLUMNS = (
    "mean",
    "sd",
    "q2.5",
    "median",
    "q97.5",
    "rhat",
    "ess_bulk",
    "ess_tail",
    "mcse_mean",
)


def summarise(
    posterior: xarray.Dataset, names: list[str], found: Weighing | None = None
) -> pd.DataFrame:
    """One row per element of the named variables.

    Parameters
    ----------
    posterior : xarray.Dataset
        Draws, (chain, draw, ...).
    names : list of str
    found : Weighing or None
        Of draws that have been weighted.

    Returns
    -------
    pandas.DataFrame
        Index ``parameter``, columns of `summary_columns`.
    """
    labels: list[str] = []
    blocks: list[Array] = []
    for name in names:
        own, values = flatten(posterior[name])
        labels += own
        blocks.append(values)
    if not blocks:
        return pd.DataFrame(columns=list(COLUMNS), index=pd.Index([], name="parameter"))
    columns = summary_columns(np.concatenate(blocks, axis=2), found)
    return pd.DataFrame(columns, index=pd.Index(labels, name="parameter"))


def summary_columns(
    draws: Array, found: Weighing | None, ordered: Array | None = None
) -> dict[str, Array]:
    """Columns of a summary, straight from draws.

    Draws that are resampled by their weights are no chain: R-hat is missing, and effective sizes
    are those of the weights, at most the number of draws. What chains would say of them is more
    than what they are worth.

    Parameters
    ----------
    draws : array, shape (chains, draws, elements)
    found : Weighing or None
        Of draws that have been weighted.
    ordered : array, shape (elements, chains * draws), optional
        The draws of each element in ascending order, where they are known.

    Returns
    -------
    dict of array, shape (elements,)
        mean, sd, q2.5, median, q97.5, rhat (rank-normalised split R-hat), ess_bulk, ess_tail and
        mcse_mean: Vehtari et al. (2021), Bayesian Analysis 16, 667-718
        (`rmm.backends.convergence` names the equations).
    """
    chains, length, count = draws.shape
    values = draws.reshape(-1, count)
    low, median, high = quantiles(ascending(values) if ordered is None else ordered, QUANTILES)
    table = {
        "mean": values.mean(axis=0),
        "sd": values.std(axis=0, ddof=1),
        "q2.5": low,
        "median": median,
        "q97.5": high,
    }
    if found is None:
        table |= convergence(draws)
    else:
        size = float(min(found.ess, chains * length))
        table |= {
            "rhat": np.full(count, np.nan),
            "ess_bulk": np.full(count, size),
            "ess_tail": np.full(count, size),
            "mcse_mean": table["sd"] / size**0.5,
        }
    return {name: table[name] for name in COLUMNS}


def ascending(values: Array) -> Array:
    """(elements, S) draws of each element in ascending order, of (S, elements) draws."""
    return np.sort(np.ascontiguousarray(values.T), axis=1)


def quantiles(ordered: Array, levels: Sequence[float]) -> Array:
    """(levels, elements) quantiles of `ascending` draws, to the last bit those of `np.quantile`.

    It is ten times faster for a thousand draws that are sorted once for all levels.
    """
    place = np.asarray(levels, dtype=float) * (ordered.shape[1] - 1)
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, ordered.shape[1] - 1)
    share = (place - before)[:, None]
    low, high = ordered[:, before].T, ordered[:, after].T
    step = high - low
    return np.where(share < 0.5, low + step * share, high - step * (1 - share))


def diagnose(
    table: pd.DataFrame, chains: int, draws: int, divergences: int, found: Weighing | None = None
) -> Diagnostics:
    """Convergence from a summary table of the structural parameters."""
    if found is not None:
        return _of_weights(found, chains, draws)
    rhat = table["rhat"].fillna(np.inf)
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1).fillna(0.0)
    wanted = ESS_PER_CHAIN * chains
    enough = bool((rhat <= RHAT_LIMIT).all() and (ess >= wanted).all())
    return Diagnostics(
        converged=enough and divergences == 0,
        chains=chains,
        draws=draws,
        max_rhat=float(rhat.max()),
        worst_rhat=str(rhat.idxmax()),
        min_ess_bulk=float(table["ess_bulk"].min()),
        min_ess_tail=float(table["ess_tail"].min()),
        worst_ess=str(ess.idxmin()),
        divergences=divergences,
        ess_wanted=wanted,
    )


def _of_weights(found: Weighing, chains: int, draws: int) -> Diagnostics:
    ess = float(min(found.ess, chains * draws))
    return Diagnostics(
        converged=not found.problem() and ess >= ESS_OF_WEIGHTS,
        chains=chains,
        draws=draws,
        max_rhat=float("nan"),
        worst_rhat="",
        min_ess_bulk=ess,
        min_ess_tail=ess,
        worst_ess="",
        divergences=0,
        ess_wanted=ESS_OF_WEIGHTS,
        pareto_k=found.pareto_k,
        pareto_k_limit=found.limit,
        inner_variance=found.inner_variance,
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
