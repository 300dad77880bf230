"""True ranks of members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.simulation.estimands.true_weights import member_code, part_of
from rmm.simulation.outcomes.true_predictor import contributions, weights
from rmm.simulation.recipe_errors import RecipeError, check_name

if TYPE_CHECKING:
    from rmm.simulation.data_sets import Drawn, Recipe


def rank(drawn: Drawn, *, member: Any, of: str = "effect", block: int = 1) -> float:
    """Rank of a member, 1 for the largest; NaN where a data set does not have it.

    Among the members of the data set: those that are in some group.
    """
    m, part = drawn.memberships, part_of(drawn.truth, block)
    code, present = member_code(m, member), np.unique(m.member)
    if code is None or code not in present:
        return np.nan
    if of == "effect":
        values = drawn.effects[part.u][present]
    else:
        w = weights(part, drawn.truth.parameters, m, drawn.columns)
        each = w * contributions(part, drawn.truth, m, drawn.columns, drawn.effects)
        values = np.array([each[m.member == k].mean() for k in present])
    own = values[np.searchsorted(present, code)]
    return float(1 + np.sum(values > own))


def check_rank(recipe: Recipe, *, member: Any, of: str = "effect", block: int = 1) -> None:
    """Check what is ranked."""
    part = part_of(recipe.truth, block)
    check_name("of", "a value of `of`", of, ("effect", "contribution"))
    if of == "effect" and (not part.random or part.in_time):
        raise RecipeError(
            "of", "The members of the truth have no effect each.", "Use `of: contribution`."
        )
