"""True weights of named and largest members, and true effective numbers of members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import counted, unknown_name
from rmm.model.spec import MemberPart
from rmm.simulation.outcomes.true_predictor import weights
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    from rmm.simulation.data_sets import Drawn, Recipe
    from rmm.simulation.memberships.structures import Memberships
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]


def part_of(truth: Truth, block: int) -> MemberPart:
    """An `mm()` block of the truth, counted from 1.

    Raises
    ------
    RecipeError
        If there is no such block.
    """
    parts = truth.spec.members
    if not 1 <= block <= len(parts):
        raise RecipeError(
            "block", f"The truth has {counted(len(parts), 'mm() block')}, but `block` is {block}."
        )
    return parts[block - 1]


def member_code(memberships: Memberships, label: Any) -> int | None:
    """Code of a member by its id; None where a data set does not have it."""
    found = [k for k, known in enumerate(memberships.member_labels) if str(known) == str(label)]
    return found[0] if found else None


def largest_weight(drawn: Drawn, *, by: str, block: int = 1, share: bool = False) -> float:
    """Mean over groups of the weight of the member with the largest `by`; ties share alike."""
    m, w = drawn.memberships, _weights(drawn, block, share)
    x = drawn.rows(by)
    found = []
    for first, last in zip(m.start[:-1], m.start[1:], strict=True):
        here = x[first:last]
        found.append(w[first:last][here == here.max()].mean())
    return float(np.mean(found))


def check_largest(recipe: Recipe, *, by: str, block: int = 1, share: bool = False) -> None:
    """Check the column and the block."""
    part_of(recipe.truth, block)
    if by not in recipe.levels:
        raise RecipeError("by", unknown_name(by, "a covariate of the simulation", recipe.levels))


def member_weight(drawn: Drawn, *, member: Any, block: int = 1, share: bool = False) -> float:
    """Mean weight of a member over its groups; NaN where a data set does not have it."""
    code = member_code(drawn.memberships, member)
    here = drawn.memberships.member == code
    return float(_weights(drawn, block, share)[here].mean()) if here.any() else np.nan


def check_member_weight(
    recipe: Recipe, *, member: Any, block: int = 1, share: bool = False
) -> None:
    """Check the block."""
    part_of(recipe.truth, block)


def effective_members(drawn: Drawn, *, block: int = 1) -> float:
    """Mean over groups of 1 / (sum of squared shares); 0 where all weights are 0."""
    m, w = drawn.memberships, _weights(drawn, block, False)
    found = []
    for first, last in zip(m.start[:-1], m.start[1:], strict=True):
        own = w[first:last]
        shares = own / own.sum() if own.any() else own
        found.append(1 / np.sum(shares**2) if own.any() else 0.0)
    return float(np.mean(found))


def check_effective(recipe: Recipe, *, block: int = 1) -> None:
    """Check the block."""
    part_of(recipe.truth, block)


def _weights(drawn: Drawn, block: int, share: bool) -> Array:
    m = drawn.memberships
    w = weights(part_of(drawn.truth, block), drawn.truth.parameters, m, drawn.columns)
    return w / np.add.reduceat(w, m.start[:-1])[m.group] if share else w
