"""True shares of the variance per level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import unknown_name
from rmm.simulation.outcomes.true_predictor import term_rows, weights
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    from rmm.simulation.data_sets import Drawn, Recipe
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]
_GUMBEL, _LOGISTIC = np.pi**2 / 6, np.pi**2 / 3

#: Family -> variance of the outcome's own noise on the scale of the linear predictor, from the true
#: parameters and the mean outcome of the data set.
NOISE: dict[str, Callable[[Mapping[str, float], float], float]] = {
    "gaussian": lambda b, mean: b["sigma_l2"] ** 2,
    "binomial": lambda b, mean: _LOGISTIC,
    "condlogit": lambda b, mean: _GUMBEL,
    "weibull": lambda b, mean: _GUMBEL / b["shape"] ** 2,
    "cox": lambda b, mean: _GUMBEL,
    # Variance of the log of a log-normal variable with the mean and variance of the count.
    "poisson": lambda b, mean: np.log(1 + 1 / mean),
    "negbinomial": lambda b, mean: np.log(1 + 1 / mean + 1 / b["shape"]),
    "ordinal": lambda b, mean: _LOGISTIC,
}


def variance_share(drawn: Drawn, *, component: str) -> float:
    """Variance of one component over the sum of all."""
    variances = expected_variances(drawn).values()
    found = dict(zip(_names(drawn.truth), variances, strict=True))
    return found[component] / sum(found.values())


def check_share(recipe: Recipe, *, component: str) -> None:
    """Check the component's name."""
    known = _names(recipe.truth)
    if component not in known:
        raise RecipeError(
            "component", unknown_name(component, "a variance component of the truth", known)
        )


def _names(truth: Truth) -> list[str]:
    out = []
    for part in truth.spec.members:
        out += [f"members{part.suffix}"] * part.random
        out += [f"members{part.suffix}, slope of {t.label}" for t in part.block.slopes]
    out += [f"nesting units{nest.suffix}" for nest in truth.spec.nestings]
    return [*out, "residual"]


def expected_variances(drawn: Drawn) -> dict[str, float]:
    """What each kind of effect adds to the variance of a group, on average over the groups.

    Parameters
    ----------
    drawn : Drawn

    Returns
    -------
    dict
        Name of the effects as in `Drawn.effects`, and ``residual`` -> variance on the scale of the
        linear predictor, given memberships, covariates and parameters.
    """
    truth, m, out = drawn.truth, drawn.memberships, {}
    b = truth.parameters
    for part in truth.spec.members:
        w = weights(part, b, m, drawn.columns)

        def spread(factor: Array | float, w: Array = w) -> float:
            return float(np.add.reduceat(w**2 * factor, m.start[:-1]).mean())

        if part.random:
            steps = _steps(drawn, part.block.autoregressive)
            out[part.u] = b[part.sigma] ** 2 * spread(steps)
        for term in part.block.slopes:
            sd = b[f"{part.sigma_slope}[{term.label}]"]
            x = term_rows(term, m, drawn.columns)
            out[f"{part.u_slope}[{term.label}]"] = sd**2 * spread(x**2)
    for nest in truth.spec.nestings:
        out[nest.u] = b[nest.sigma] ** 2
    out["residual"] = noise(truth, float(np.mean(drawn.outcome)))
    return out


def noise(truth: Truth, mean: float) -> float:
    """Variance of the outcome's own noise on the scale of the linear predictor.

    Parameters
    ----------
    truth : Truth
    mean : float
        Of the outcome.
    """
    if truth.options.get("link") == "probit":
        return 1.0
    return float(NOISE[truth.spec.family.name](truth.parameters, mean))


def _steps(drawn: Drawn, autoregressive: bool | str) -> Array | float:
    """(M,) steps that a random walk has taken: how many groups of the member are not later."""
    if autoregressive is False:
        return 1.0
    m = drawn.memberships
    time = np.arange(m.counts["group"], dtype=float)
    if isinstance(autoregressive, str):
        time = drawn.by_group(autoregressive)
    rows, out = time[m.group], np.empty(len(m.member))
    for member in np.unique(m.member):
        here = np.flatnonzero(m.member == member)
        out[here[np.argsort(rows[here], kind="stable")]] = np.arange(1, len(here) + 1)
    return out
