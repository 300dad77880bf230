"""True values that are drawn from priors for every data set.

The notation is that of `rmm.fit`; the random numbers come from NumPy's own samplers, written here
once more, so that a prior which programs write wrongly shows in calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rmm.errors import PriorError
from rmm.families import Parameter
from rmm.formula.prior_syntax import PRIOR_FAMILIES, Prior, read_priors
from rmm.simulation.recipe_errors import RecipeError, check_keys, listed

Generator = np.random.Generator

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
}


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
    positive = support == "positive" or (support == "interval" and prior.hyper["lower"] >= 0)
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
    """
    drawn = {
        name: float(SAMPLERS[prior.family](rng, *prior.values)) for name, prior in priors.items()
    }
    names = [name for name in drawn if name.startswith("tau[")]
    return drawn | dict(zip(names, sorted(drawn[name] for name in names), strict=True))
