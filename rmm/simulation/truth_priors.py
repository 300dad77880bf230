"""True values that are drawn from priors for every data set.

The notation is that of `rmm.fit`; the random numbers come from NumPy's own samplers, written here
once more, so that a prior which programs write wrongly shows in calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rmm.errors import PriorError
from rmm.families import Parameter
from rmm.formula.prior_syntax import PRIOR_FAMILIES, Prior, read_priors
from rmm.simulation.recipe_errors import RecipeError, check_keys, listed

Generator = np.random.Generator
Array = np.ndarray[Any, Any]

#: Family of the prior language -> (generator, hyperparameters in its order) -> one value.
SAMPLERS: dict[str, Callable[..., float]] = {
    "normal": lambda rng, location, scale: rng.normal(location, scale),
    "student_t": lambda rng, df, location, scale: location + scale * rng.standard_t(df),
    "half_normal": lambda rng, scale: abs(rng.normal(0, scale)),
    "half_t": lambda rng, df, scale: abs(scale * rng.standard_t(df)),
    "half_cauchy": lambda rng, scale: abs(scale * rng.standard_cauchy()),
    "exponential": lambda rng, rate: rng.exponential(1 / rate),
    "gamma": lambda rng, shape, rate: rng.gamma(shape, 1 / rate),
    "uniform": lambda rng, lower, upper: rng.uniform(lower, upper),
    "beta": lambda rng, alpha, beta: rng.beta(alpha, beta),
    "lkj": lambda rng, eta: 0.0,  # together: `_correlations`
}


def correlation_matrix(above: Sequence[float]) -> Array:
    """Of the correlations above the diagonal, row by row."""
    count = round((1 + (1 + 8 * len(above)) ** 0.5) / 2)
    matrix = np.eye(count)
    matrix[np.triu_indices(count, 1)] = above
    return np.asarray(matrix + matrix.T - np.eye(count))


def _correlations(rng: Generator, eta: float, pairs: int) -> list[float]:
    """An LKJ matrix, those above its diagonal, by the onion: effect after effect is added.

    Lewandowski, Kurowicka and Joe (2009), Journal of Multivariate Analysis 100, 1989-2001,
    section 3.2.
    """
    count = round((1 + (1 + 8 * pairs) ** 0.5) / 2)
    b = eta + (count - 2) / 2
    r = 2 * rng.beta(b, b) - 1
    matrix = np.array([[1.0, r], [r, 1.0]])
    for k in range(2, count):
        b -= 0.5
        radius = np.sqrt(rng.beta(k / 2, b))
        direction = rng.standard_normal(k)
        direction *= radius / np.linalg.norm(direction)
        column = np.linalg.cholesky(matrix) @ direction
        matrix = np.block([[matrix, column[:, None]], [column[None], np.ones((1, 1))]])
    return [float(v) for v in matrix[np.triu_indices(count, 1)]]


def read_truth_prior(name: str, given: Mapping[str, Any], parameter: Parameter) -> Prior:
    """The prior of one true value, checked.

    Parameters
    ----------
    name : str
        As in summaries: ``b_l1[x]``.
    given : mapping
        ``{"prior": "normal(0, 1)"}``.
    parameter : Parameter
        The parameter that it is an element of.

    Raises
    ------
    RecipeError
        If it cannot be read, or puts mass where the parameter cannot be.
    """
    key = f"truth.parameters.{name}"
    check_keys(key, given, ("prior",), ())
    text = str(given["prior"])
    try:
        (statement,) = read_priors([f"{parameter.name} ~ {text}"]).statements
    except PriorError as error:
        raise RecipeError(f"{key}.prior", str(error)) from error
    prior = statement.prior
    if prior.family not in SAMPLERS:
        raise RecipeError(
            f"{key}.prior",
            f"Values cannot be drawn from {text!r}.",
            f"Allowed: {listed(SAMPLERS)}.",
        )
    support = PRIOR_FAMILIES[prior.family].support
    bounded = support == "interval" and prior.hyper["lower"] >= 0
    share = support == "probability" or (bounded and prior.hyper["upper"] <= 1)
    positive = support in ("positive", "probability") or bounded
    if (prior.family == "lkj") != (parameter.support == "correlation"):
        raise RecipeError(
            f"{key}.prior",
            f"{text!r} cannot be the prior of `{name}`.",
            "lkj(eta) is the prior of correlations, and they have no other.",
        )
    if parameter.support == "probability" and not share:
        raise RecipeError(
            f"{key}.prior",
            f"{text!r} can give values outside of 0 to 1, but `{name}` is a probability.",
            "Use beta, or uniform with limits from 0 to 1.",
        )
    if parameter.support == "positive" and not positive:
        raise RecipeError(
            f"{key}.prior",
            f"{text!r} can give negative values, but `{name}` must be positive.",
            "Use half_normal, half_t, half_cauchy, exponential, gamma, or uniform with a lower "
            "limit of 0 or more.",
        )
    return prior


def draw_values(priors: Mapping[str, Prior], rng: Generator) -> dict[str, float]:
    """One value of each prior, in their order; nothing is drawn where there are none.

    Thresholds are sorted afterwards: they have one prior, that of draws in their order.
    Correlations of a block have one prior too, that of their matrix.
    """
    drawn = {
        name: float(SAMPLERS[prior.family](rng, *prior.values)) for name, prior in priors.items()
    }
    blocks: dict[str, list[str]] = {}
    for name in drawn:
        if name.startswith("cor_l1"):
            blocks.setdefault(name.partition("[")[0], []).append(name)
    for names in blocks.values():
        found = _correlations(rng, priors[names[0]].values[0], len(names))
        drawn |= dict(zip(names, found, strict=True))
    names = [name for name in drawn if name.startswith("tau[")]
    return drawn | dict(zip(names, sorted(drawn[name] for name in names), strict=True))
