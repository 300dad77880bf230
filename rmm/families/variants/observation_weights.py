"""Observation weights: the log likelihood of group j counts w_j times, as brms' `y | weights(w)`.

With whole numbers the posterior is that of a table in which group j is there w_j times, with one
effect of each member for all copies. With other weights (inverse probabilities, reliabilities)
the product of p(y_j)^w_j is a pseudo-likelihood: its posterior has no guaranteed coverage (Savitsky
and Toth 2016, Electronic Journal of Statistics 10, 1677-1708). These weights have nothing to do
with those of members in a group.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rmm.errors import FormulaError, quoted
from rmm.families.base import Array, Curvature, Family, KernelOutcome, Outcome, Values

#: Entry of the outcome, and name in programs, of the (J,) weights.
WEIGHT = "observation_weight"
OPTION = "observation_weights"


def check_takes_weights(family: Family, column: Any) -> None:
    """Raise `FormulaError` for a column that is no name, or a family without a term per group."""
    if not isinstance(column, str) or not column:
        raise FormulaError(
            f"`{OPTION}` must be the name of a column with the weights of the groups, not "
            f"{quoted(column)}."
        )
    if family.unit != "group" or family.baseline is not None:
        raise FormulaError(
            f"`{OPTION}` is not available with family {family.name!r}: its likelihood is not a "
            "product over groups that can be weighted one by one. Repeat the rows of the table "
            "instead, if weights are counts."
        )


#: p(y | u)^w with w > 1 grows without bound where u fits each outcome exactly and sd goes to 0.
_LIKE_RESIDUAL = (
    "With observation weights above 1 they can fit the outcome of each group exactly; the residual "
    "standard deviation then goes to 0, and there may be no posterior distribution."
)


def with_observation_weights(family: Family, column: str) -> Family:
    """The family with the likelihood of each group to the power of its weight.

    Parameters
    ----------
    family : Family
        One with a term of the likelihood per group.
    column : str
        Name of the column of weights, for messages and saved fits.

    Returns
    -------
    Family
        Its outcome has the entry `observation_weight`.
    """
    return replace(
        family,
        observation_weights=column,
        options={**family.options, OPTION: column},
        log_likelihood=partial(_log_likelihood, known=family.log_likelihood),
        curvature=family.curvature and partial(_curvature, known=family),
        kernel=family.kernel and family.sds and partial(_kernel, known=family),
        normal_sd="",
        like_residual=_LIKE_RESIDUAL if family.sds is not None else family.like_residual,
        working=None,
        some_groups=partial(_some_groups, known=family.outcome_of_some),
        stan_data=f"{family.stan_data}\n"
        f"vector<lower=0>[J] {WEIGHT};  // how often each group counts",
        stan_model=_stan_model(family.stan_density),
        example={**family.example, WEIGHT: np.ones(2)},
    )


def _log_likelihood(eta: Array, values: Values, outcome: Outcome, known: Any) -> Array:
    return np.asarray(outcome[WEIGHT] * known(eta, values, outcome))


def _curvature(eta: Array, values: Values, outcome: Outcome, known: Family) -> Curvature:
    """Value, gradient and weight of each group times its weight."""
    assert known.curvature is not None
    found, w = known.curvature(eta, values, outcome), outcome[WEIGHT]
    value = _log_likelihood(eta, values, outcome, known.log_likelihood).sum(axis=1)
    return Curvature(value, w * found.gradient, w * found.weight)


def _kernel(outcome: Outcome, known: Family) -> KernelOutcome:
    """Of a normal outcome; the kernels of others do not count groups."""
    assert known.kernel is not None
    w = outcome[WEIGHT]
    constant = float(np.sum(w * known.log_jacobian(outcome)))
    return replace(known.kernel(outcome), known=w, constant=constant)


def _some_groups(outcome: Outcome, groups: Array, known: Any) -> dict[str, Any]:
    rest = known({k: v for k, v in outcome.items() if k != WEIGHT}, groups)
    return {**rest, WEIGHT: outcome[WEIGHT][groups]}


def _stan_model(density: str) -> str:
    """Lines of the likelihood; none where the family has no text for one group."""
    if not density:
        return ""
    return (
        f"{{\n  // log likelihood of each group, which counts {WEIGHT}[j] times\n"
        "  vector[J] log_lik;\n"
        f"  for (j in 1:J) log_lik[j] = {density};\n"
        f"  target += dot_product({WEIGHT}, log_lik);\n}}"
    )
