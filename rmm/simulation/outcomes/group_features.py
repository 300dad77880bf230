"""Aggregates of a group's members in a truth: variance, concentration, threshold, soft maximum, ...

The names and what they mean are those of `features`; the computation is written here once
more, from the definitions, group by group and in logarithms, so that a mistake in one shows.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special

from rmm.errors import counted
from rmm.formula.terms import FeatureTerm
from rmm.simulation.recipe_errors import RecipeError

Array = np.ndarray[Any, Any]

#: ``(shares, x, number) -> value`` of one group; x is empty for an aggregate of the weights.
type Aggregate = Callable[[Array, Array, float], float]

_SLOPE = 5.0  # of a threshold that is estimated, per standard deviation of x


def _variance(p: Array, x: Array, _: float) -> float:
    return float(np.dot(p, np.square(x)) - np.dot(p, x) ** 2)


def _own_shares(p: Array, x: Array) -> Array:
    return x / x.sum() if len(x) else p


def _herfindahl(p: Array, x: Array, _: float) -> float:
    s = _own_shares(p, x)
    return float(np.dot(s, s))


def _entropy(p: Array, x: Array, _: float) -> float:
    return float(special.entr(_own_shares(p, x)).sum())


def _threshold(p: Array, x: Array, cut: float) -> float:
    return float(p[x > cut].sum())


def _softmax(p: Array, x: Array, kappa: float) -> float:
    p, x = p[p > 0], x[p > 0]
    return float(np.dot(x, special.softmax(np.log(p) + kappa * x)))


def _genmean(p: Array, x: Array, exponent: float) -> float:
    logs = np.log(x)
    if abs(exponent) < 1e-6:
        return float(np.exp(np.dot(p, logs)))
    return float(np.exp(special.logsumexp(exponent * logs, b=p) / exponent))


AGGREGATES: dict[str, Aggregate] = {
    "variance": _variance,
    "herfindahl": _herfindahl,
    "entropy": _entropy,
    "threshold": _threshold,
    "softmax": _softmax,
    "genmean": _genmean,
}

#: Aggregates that need every x of their variable to be so.
DOMAINS: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "herfindahl": (">= 0", lambda x: x >= 0),
    "entropy": (">= 0", lambda x: x >= 0),
    "genmean": ("> 0", lambda x: x > 0),
}


def check_domain(feature: FeatureTerm, x: Array) -> None:
    """Raise `RecipeError` where values of the variable have no such aggregate."""
    text, inside = DOMAINS.get(feature.function, ("", np.isfinite))
    outside = ~inside(x)
    if feature.atom is not None and text and outside.any():
        raise RecipeError(
            "truth.formula",
            f"{feature.label} needs {feature.atom.label} {text}. This is not so in "
            f"{counted(int(outside.sum()), 'membership')} of {len(x):,}; the smallest value is "
            f"{x.min():.3g}.",
            "Choose another distribution, mean or sd, or transform the variable: I(exp(x)).",
        )


def by_group(
    function: str, weights: Array, x: Array, number: float | None, start: Array, *, smooth: bool
) -> Array:
    """Values of an aggregate.

    Parameters
    ----------
    function : str
        A key of `AGGREGATES`.
    weights : (M,) array
        Shares are these over their sum in each group.
    x : (M,) array
        Empty for an aggregate of the weights.
    number : float or None
        Cut, kappa or exponent, where it has one.
    start : (J+1,) array
        Row pointer of the groups.
    smooth : bool
        A threshold whose cut is a parameter: inv_logit(5 (x - c) / sd(x)) instead of 1(x > c),
        with the sd of x over all memberships (divisor M - 1).

    Returns
    -------
    (J,) array
        Not finite where it has no value.
    """
    inner = 0.0 if number is None else number
    compute = AGGREGATES[function]
    if smooth:
        x, compute = special.expit(_SLOPE / (np.std(x, ddof=1) or 1.0) * (x - inner)), _mean
    groups = [slice(a, b) for a, b in pairwise(start)]
    with np.errstate(all="ignore"):
        shares = [weights[g] / weights[g].sum() for g in groups]
        return np.array(
            [
                compute(p, x[g] if len(x) else x, inner) if np.isfinite(p).all() else np.nan
                for p, g in zip(shares, groups, strict=True)
            ]
        )


def _mean(p: Array, x: Array, _: float) -> float:
    return float(np.dot(p, x))
