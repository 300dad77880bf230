"""True average marginal effects, and true contrasts of two compositions of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import unknown_name
from rmm.formula.expression import Node, TableCall, leaf_columns, walk
from rmm.simulation.covariates.covariates import Column
from rmm.simulation.estimands.true_weights import member_code, part_of
from rmm.simulation.memberships.structures import Memberships
from rmm.simulation.outcomes.outcomes import OUTCOMES
from rmm.simulation.outcomes.true_predictor import Totals, linear_predictor, weight_totals
from rmm.simulation.recipe_errors import RecipeError, listed

if TYPE_CHECKING:
    from rmm.simulation.data_sets import Drawn, Recipe
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]
_STEP = 1e-5  # of a covariate, for central differences
_FINE = ("member", "membership")


# -- scales of the outcome -------------------------------------------------------------------


def _scale(truth: Truth, scale: str | None, time: float | None, level: int | None) -> str:
    if scale is None and time is not None:
        return "survival"
    if scale is None and level is not None:
        return "probability"
    return scale or next(iter(OUTCOMES[truth.spec.family.name].expected))


def _expected(
    drawn: Drawn, eta: Array, scale: str | None, time: float | None, level: int | None
) -> Array:
    known = OUTCOMES[drawn.truth.spec.family.name].expected
    chosen = _scale(drawn.truth, scale, time, level)
    return known[chosen](eta, drawn.truth, level if chosen == "probability" else time)


def _check_scale(truth: Truth, scale: str | None, time: float | None, level: int | None) -> None:
    family = truth.spec.family.name
    known, chosen = OUTCOMES[family].expected, _scale(truth, scale, time, level)
    if chosen not in known:
        raise RecipeError("scale", unknown_name(chosen, f"a scale of family {family!r}", known))
    if (chosen == "survival") != (time is not None):
        raise RecipeError("time", "`time` is needed for scale survival, and for no other scale.")
    if chosen == "survival" and truth.formula.strata:
        raise RecipeError("scale", "Scale survival is not available for a truth with strata().")
    if (chosen == "probability") != (level is not None):
        raise RecipeError(
            "level", "`level` is needed for scale probability, and for no other scale."
        )
    levels = truth.spec.family.options.get("levels", ())
    if level is not None and level not in levels:
        raise RecipeError("level", unknown_name(level, "a level of the outcome", levels))


# -- average marginal effects ----------------------------------------------------------------


def marginal_effect(
    drawn: Drawn,
    *,
    variable: str,
    member: Any = None,
    values: Sequence[float] | None = None,
    scale: str | None = None,
    time: float | None = None,
    level: int | None = None,
    block: int = 1,
) -> float:
    """Mean over groups of the derivative in a covariate, or of the difference of two values."""
    m, column = drawn.memberships, drawn.columns[variable]
    chosen, groups = np.ones(len(column.values), dtype=bool), np.arange(m.counts["group"])
    if member is not None:
        code = member_code(m, member)
        groups = m.group[m.member == code]
        if not len(groups):
            return float("nan")
        chosen = np.arange(len(column.values)) == code
        if column.level == "membership":
            chosen = m.member == code
    totals = weight_totals(drawn.truth, m, drawn.columns)

    def mean(moved: Array) -> float:
        columns = {**drawn.columns, variable: replace(column, values=moved)}
        eta = linear_predictor(drawn.truth, m, columns, drawn.effects, totals)
        return float(_expected(drawn, eta, scale, time, level)[groups].mean())

    x = np.asarray(column.values, dtype=float)
    if values is not None:
        return mean(np.where(chosen, values[1], x)) - mean(np.where(chosen, values[0], x))
    step = _STEP * chosen
    return (mean(x + step) - mean(x - step)) / (2 * _STEP)


def check_marginal(
    recipe: Recipe,
    *,
    variable: str,
    member: Any = None,
    values: Sequence[float] | None = None,
    scale: str | None = None,
    time: float | None = None,
    level: int | None = None,
    block: int = 1,
) -> None:
    """Check the covariate, the scale, and that no constant of the data set depends on it."""
    used = {c for node in _expressions(recipe.truth) for c in leaf_columns(node)}
    known = [name for name in recipe.levels if name in used]
    if variable not in known:
        raise RecipeError("variable", unknown_name(variable, "a covariate of the truth", known))
    if member is not None:
        part_of(recipe.truth, block)
        if recipe.levels[variable] not in _FINE:
            raise RecipeError(
                "member", f"`{variable}` is a covariate of level {recipe.levels[variable]}."
            )
    if values is not None and len(values) != 2:
        raise RecipeError("values", f"There are {len(values)} values.", "Give two: [from, to].")
    _check_scale(recipe.truth, scale, time, level)
    _refuse_constants(recipe.truth, "variable", lambda node: variable in leaf_columns(node))


# -- contrasts -------------------------------------------------------------------------------


def contrast(
    drawn: Drawn,
    *,
    group: Any,
    without: Sequence[Any] | None = None,
    swap: Sequence[Any] | None = None,
    joins: Mapping[str, Sequence[Any]] | None = None,
    scale: str | None = None,
    time: float | None = None,
    level: int | None = None,
    block: int = 1,
) -> float:
    """Change of a group's expected outcome; NaN where a data set has no such group or members."""
    m = drawn.memberships
    places = [k for k, label in enumerate(m.group_labels) if str(label) == str(group)]
    if not places:
        return float("nan")
    rows = np.arange(m.start[places[0]], m.start[places[0] + 1])
    members = m.member[rows].copy()
    kept = np.ones(len(rows), dtype=bool)
    for label in without or ():
        kept &= members != member_code(m, label)
    if kept.all() == (without is not None) or not (kept.any() or joins):
        return float("nan")
    if swap is not None:
        one, two = (member_code(m, label) for label in swap)
        if one is None or two is None or one not in members[kept]:
            return float("nan")
        members = np.where(members == one, two, np.where(members == two, one, members))
    new = [member_code(m, label) for label in (joins or {}).get(m.names.member, ())]
    if None in new or set(new) & set(members[kept].tolist()):
        return float("nan")
    given = {k: v for k, v in (joins or {}).items() if k != m.names.member}
    totals = weight_totals(drawn.truth, m, drawn.columns)
    before = _of_one_group(drawn, places[0], rows, m.member[rows], totals)
    joined = np.append(members[kept], np.array(new, dtype=members.dtype))
    after = _of_one_group(drawn, places[0], rows[kept], joined, totals, given)
    change = [_expected(drawn, eta, scale, time, level)[0] for eta in (before, after)]
    return float(change[1] - change[0])


def _of_one_group(
    drawn: Drawn,
    group: int,
    rows: Array,
    members: Array,
    totals: Totals,
    given: Mapping[str, Sequence[Any]] | None = None,
) -> Array:
    """(1,) linear predictor of one group with some members, each at the place of a row.

    The last members have no row: they join, with the values that are `given`.
    """
    m = drawn.memberships
    alone = Memberships(
        names=m.names,
        member=members,
        group=np.zeros(len(members), dtype=np.int64),
        start=np.array([0, len(members)]),
        nesting=None if m.nesting is None else m.nesting[[group]],
        member_labels=m.member_labels,
        group_labels=m.group_labels[[group]],
        nesting_labels=m.nesting_labels,
    )
    columns = {name: _of_rows(c, group, rows) for name, c in drawn.columns.items()}
    for name, values in (given or {}).items():
        own = columns[name].values
        if columns[name].level == "member":
            own = own[members[: len(rows)]]
        both = np.append(own, np.asarray(values, dtype=float))
        columns[name] = replace(columns[name], values=both, level="membership")
    return linear_predictor(drawn.truth, alone, columns, drawn.effects, totals)


def _of_rows(column: Column, group: int, rows: Array) -> Column:
    places: Mapping[str, Array] = {"membership": rows, "group": np.array([group])}
    if column.level not in places:
        return column
    return replace(column, values=column.values[places[column.level]])


def check_contrast(
    recipe: Recipe,
    *,
    group: Any,
    without: Sequence[Any] | None = None,
    swap: Sequence[Any] | None = None,
    joins: Mapping[str, Sequence[Any]] | None = None,
    scale: str | None = None,
    time: float | None = None,
    level: int | None = None,
    block: int = 1,
) -> None:
    """Check the scale, and that a group alone has the predictor that it has in the data set."""
    part_of(recipe.truth, block)
    if without is None and swap is None and joins is None:
        raise RecipeError(
            "group", "Nothing changes in the group.", "Give `without`, `swap` or `joins`."
        )
    if joins is not None:
        _check_joins(recipe, joins)
    if swap is not None and len(swap) != 2:
        raise RecipeError("swap", f"There are {len(swap)} members.", "Give two.")
    _check_scale(recipe.truth, scale, time, level)
    if any(part.in_time for part in recipe.truth.spec.members):
        raise RecipeError("group", "A contrast is not available with `ar =`.")
    _refuse_constants(recipe.truth, "group", lambda node: True)


def _check_joins(recipe: Recipe, joins: Mapping[str, Sequence[Any]]) -> None:
    """A value of each member who joins for every covariate of members in the truth."""
    used = {c for node in _expressions(recipe.truth) for c in leaf_columns(node)}
    needed = [n for n, level in recipe.levels.items() if n in used and level in _FINE]
    allowed = [recipe.names.member, *needed]
    for name in joins:
        if name not in allowed:
            raise RecipeError("joins", unknown_name(name, "a column of members", allowed))
    for name in allowed:
        if name not in joins:
            raise RecipeError("joins", f"`{name}` is missing.", f"Needed: {listed(allowed)}.")
    sizes = {name: len(values) for name, values in joins.items()}
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        found = ", ".join(f"{name} has {n}" for name, n in sizes.items())
        raise RecipeError("joins", f"{found} values.", "Give one value per member who joins.")


# -- what is not available -------------------------------------------------------------------


def _expressions(truth: Truth) -> Iterator[Node]:
    """All expressions of covariates in the formula."""
    formula = truth.formula
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    for nest in formula.nestings:
        terms += [*(nest.terms or ()), *(f.term for f in nest.fixed)]
    for block in formula.members:
        terms += [*block.terms, *block.slopes, *(f.term for f in block.fixed)]
        yield block.weight.expression
        yield from (f.atom.expression for f in block.features if f.atom is not None)
    yield from (atom.expression for term in terms for atom in term.atoms)


def _refuse_constants(truth: Truth, key: str, moved: Callable[[Node], bool]) -> None:
    """Raise `RecipeError` for functions whose constants a changed data set would change."""
    found = [
        node.function
        for expression in _expressions(truth)
        for node in walk(expression)
        if isinstance(node, TableCall) and not node.own_group and moved(node)
    ]
    found += [
        feature.label
        for block in truth.formula.members
        for feature in block.features
        if feature.function == "threshold"
        and feature.value is None
        and feature.atom is not None
        and moved(feature.atom.expression)
    ]
    if found:
        raise RecipeError(
            key,
            f"The truth contains {listed(found)}, whose constants are those of each data set.",
            "Its true value is not available. Use covariates that are centred already.",
        )
