"""True values of ready estimands in simulated data; a new one is a function and a row.

Names and options are those of `rmm.posterior.estimands`, less those that give several numbers. No
code is shared: a mistake in one shows against the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.errors import unknown_name
from rmm.simulation.estimands.true_outcomes import (
    check_contrast,
    check_marginal,
    contrast,
    marginal_effect,
)
from rmm.simulation.estimands.true_ranks import check_rank, rank
from rmm.simulation.estimands.true_shares import check_share, variance_share
from rmm.simulation.estimands.true_weights import (
    check_effective,
    check_largest,
    check_member_weight,
    effective_members,
    largest_weight,
    member_weight,
)
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    from rmm.simulation.data_sets import Drawn


@dataclass(frozen=True)
class TrueEstimand:
    """One row.

    Attributes
    ----------
    value : callable
        ``(drawn, **options) -> float``; NaN where a data set has no such member or group.
    check : callable
        ``(recipe, **options)``: raises `RecipeError` for what no data set can have.
    effects : bool
        Whether its estimate needs draws of the random effects.
    positive : bool
        Whether it is never below 0, so that a test against 0 has no meaning.
    whole : bool
        Whether it is a whole number: intervals then hold it more often than they say.
    """

    value: Callable[..., float]
    check: Callable[..., None]
    effects: bool = False
    positive: bool = False
    whole: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Option -> default; `inspect.Parameter.empty` where it is needed."""
        parameters = inspect.signature(self.value).parameters
        return {name: p.default for name, p in parameters.items() if name != "drawn"}


TRUE_ESTIMANDS: dict[str, TrueEstimand] = {
    "largest_weight": TrueEstimand(largest_weight, check_largest, positive=True),
    "member_weight": TrueEstimand(member_weight, check_member_weight, positive=True),
    "effective_members": TrueEstimand(effective_members, check_effective, positive=True),
    "variance_share": TrueEstimand(variance_share, check_share, positive=True),
    "marginal_effect": TrueEstimand(marginal_effect, check_marginal, effects=True),
    "contrast": TrueEstimand(contrast, check_contrast, effects=True),
    "rank": TrueEstimand(rank, check_rank, effects=True, positive=True, whole=True),
}


def true_value(drawn: Drawn, name: str, options: Mapping[str, Any]) -> float:
    """The true value of an estimand in a data set, from its true parameters and effects."""
    return TRUE_ESTIMANDS[name].value(drawn, **options)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for an unknown estimand or option, or one that is missing."""
    if name not in TRUE_ESTIMANDS:
        raise RecipeError("estimand", unknown_name(name, "an estimand", TRUE_ESTIMANDS))
    known = TRUE_ESTIMANDS[name].options
    for option in options:
        if option not in known:
            raise RecipeError(option, unknown_name(option, f"an option of {name!r}", known))
    for option, default in known.items():
        if default is inspect.Parameter.empty and options.get(option) is None:
            raise RecipeError(option, f"`{option}` is missing.", f"The estimand {name} needs it.")
