"""Bayesian R2: shares of the variance of the linear predictor and the residual."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rmm.backends.base import Run
from rmm.design.prepare import Model
from rmm.posterior.diagnostics.summary import spread
from rmm.posterior.prediction.linear_predictor import eta_draws, flat_draws, layout_of
from rmm.posterior.prediction.variance_components import share_of, variance_draws
from rmm.tables.read import Array


def explained_variance(model: Model, run: Run) -> pd.DataFrame:
    """Bayesian R2 of covariates, of effects, and of both, by draw.

    Gelman, Goodrich, Gabry and Vehtari (2019), "R-squared for Bayesian regression models", The
    American Statistician 73, 307-309: the variance of the fit over itself plus the modelled
    residual variance, for each draw. With effects, as in Nakagawa, Johnson and Schielzeth (2017),
    Journal of the Royal Society Interface 14, 20170213:

    V = V_fixed + V_members + V_units + V_residual

    * V_fixed: variance over groups of the linear predictor without effects (n - 1); with strata
      within strata, since what is the same in a stratum cancels, or is in its baseline;
    * V_members, V_units, V_residual: those of `variance_components`.

    All are on the scale of the linear predictor.

    Parameters
    ----------
    model : Model
    run : Run

    Returns
    -------
    pandas.DataFrame
        Rows ``marginal`` (V_fixed / V), one row per kind of effects (its variance over V),
        ``conditional`` (1 - V_residual / V); columns mean, sd, q2.5, median, q97.5.
    """
    parts = variance_draws(model, run)
    effects = model.spec.unit_effects
    known = {n: v for n, v in flat_draws(run, model).items() if n not in effects}
    fixed = _variance(eta_draws(model, layout_of(model), known), model)
    total = fixed + np.sum(list(parts.values()), axis=0)
    shares = {"marginal": fixed / total}
    shares |= {name: share_of(v, total) for name, v in parts.items() if name != "residual"}
    shares["conditional"] = 1 - share_of(parts["residual"], total)
    table = pd.DataFrame(spread(np.column_stack(list(shares.values()))))
    return table.set_axis(pd.Index(list(shares), name="r2"), axis=0)


def _variance(eta: Array, model: Model) -> Array:
    """(S,) variance of (S, J) predictors over groups, or pooled within strata."""
    strata = model.grouped.strata
    if strata is None:
        return np.var(eta, axis=1, ddof=1)
    count = len(strata.labels)
    which = np.zeros((count, eta.shape[1]))
    which[strata.code, np.arange(eta.shape[1])] = 1.0
    means = (eta @ which.T) / which.sum(axis=1)
    rest = eta - means[:, strata.code]
    return np.asarray(np.sum(rest**2, axis=1) / max(eta.shape[1] - count, 1))
