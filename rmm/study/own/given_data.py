"""A table that is given -> a data set with the arrays of a simulated one.

Ids are those that the formula names: `mm(id(member, group))` and `hm(id = unit)`. Without `mm()`
each row is a group of one member.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rmm.errors import DataError, RmmError
from rmm.families import FAMILIES
from rmm.formula.parse_formula import parse_formula
from rmm.model.spec import build_spec
from rmm.simulation import Drawn, Recipe, RecipeError
from rmm.simulation.covariates.covariates import Column, column_of_rows
from rmm.simulation.memberships.arrays import IdNames, Memberships
from rmm.simulation.memberships.empirical import memberships_of
from rmm.simulation.true_model import Truth, level3
from rmm.simulation.truth_config import outcome_columns

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
#: Names of ids where the formula names none: each row is a group of one member.
_ROW = IdNames("(row)", "(row)", None)


@dataclass(frozen=True, eq=False)
class GivenData(Drawn):
    """A data set of a user's function.

    Attributes
    ----------
    tables : mapping
        Name -> table, as the function returned them; `data` is the one that models are fitted to.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def arrays(self) -> dict[str, Array]:
        """Column -> (M,) values: ids, outcome and the numeric columns."""
        ids = {k: v for k, v in self.memberships.ids().items() if k != _ROW.group}
        return ids | {name: self.rows(name) for name in (*self.columns, *self.outcomes)}

    def frame(self) -> pd.DataFrame:
        """The table `data`, as the function returned it."""
        return self.tables["data"]


def given_recipe(config: Mapping[str, Any]) -> Recipe:
    """What is known of own data before they are drawn: ids, outcome and model of the formula.

    Parameters
    ----------
    config : mapping
        `data` of a study file, defaults said.

    Raises
    ------
    RmmError
        If the formula does not parse, or cannot be used.
    """
    family = config["family"]
    if family not in FAMILIES:
        raise RecipeError("data.family", f"{family!r} is not a family.", _listed(FAMILIES))
    formula = parse_formula(config.get("formula", "y ~ 1"))
    for block in formula.members:
        if block.covariance is not None:
            raise RecipeError(
                "data.formula",
                f"The formula has `cov = {block.covariance}`.",
                "Studies cannot use known covariance matrices: leave `cov =` out.",
            )
    truth = Truth(formula, build_spec(formula, FAMILIES[family], {}), (), {}, {})
    if "formula" in config:
        try:
            truth = replace(truth, outcomes=outcome_columns(formula, family))
        except RecipeError as error:
            raise RecipeError("data.formula", error.problem, error.advice) from None
    return Recipe(_not_by_itself, False, _id_names(truth), {}, {}, truth)


def _listed(names: Any) -> str:
    return f"Allowed: {', '.join(names)}."


def _not_by_itself(rng: np.random.Generator) -> Memberships:
    raise DataError("The memberships are those of the data that the study's function draws.")


def _id_names(truth: Truth) -> IdNames:
    formula = truth.formula
    units = list(dict.fromkeys(block.unit for block in formula.nestings))
    pairs = list(dict.fromkeys((block.member, block.group) for block in formula.members))
    for found, what in ((units, "hm()"), (pairs, "mm()")):
        if len(found) > 1:
            raise RecipeError(
                "data.formula",
                f"The {what} name different ids: {found[0]} and {found[1]}.",
                "The data of a study have one kind of members, and one of nesting units.",
            )
    member, group = pairs[0] if pairs else (_ROW.member, _ROW.group)
    return IdNames(member, group, units[0] if units else None)


def given_data(
    recipe: Recipe, tables: Mapping[str, pd.DataFrame], truth: Mapping[str, float]
) -> GivenData:
    """A data set of a user's function.

    Parameters
    ----------
    recipe : Recipe
        Of `given_recipe`.
    tables : mapping
        What the function returned; `data` has one row per membership (without `mm()` in the
        formula: per group).
    truth : mapping
        True values of its estimands.

    Raises
    ------
    DataError
        If the table lacks an id or an outcome, or an outcome varies within a group.
    """
    try:
        memberships = _memberships(recipe.names, tables["data"])
    except RecipeError as error:
        raise DataError(f"{error.problem} {error.advice}".strip()) from None
    columns = _columns(memberships, set(recipe.truth.outcomes))
    levels = {name: column.level for name, column in columns.items()}
    formula, family = recipe.truth.formula, recipe.truth.spec.family
    spec = build_spec(formula, family, _outer_levels(recipe, levels))
    return GivenData(
        memberships=memberships,
        columns=columns,
        outcomes={name: _outcome(name, memberships) for name in recipe.truth.outcomes},
        truth=replace(recipe.truth, spec=spec, parameters=dict(truth)),
        eta=np.full(memberships.counts["group"], np.nan),
        effects={},
        tables=tables,
    )


def _outer_levels(recipe: Recipe, levels: Mapping[str, str]) -> dict[str, int]:
    try:
        return level3(recipe.truth.formula, levels)
    except RmmError:
        return {}


def _memberships(names: IdNames, frame: pd.DataFrame) -> Memberships:
    # Late: reading a study file needs no pandas.
    from rmm.tables.plain_columns import simplify_columns
    from rmm.tables.read import read_table

    if names.group == _ROW.group:
        frame = frame.assign(**{_ROW.group: np.arange(1, len(frame) + 1)})
    ids = [name for name in (names.member, names.group, names.nesting) if name is not None]
    return memberships_of(simplify_columns(read_table(frame, ids=ids), ids, ids), names)


def _columns(memberships: Memberships, outcomes: set[str]) -> dict[str, Column]:
    """Numeric columns without missing values, each at the coarsest level that it is constant in."""
    ids = {memberships.names.member, memberships.names.group, memberships.names.nesting}
    return {
        name: column_of_rows(values, memberships)
        for name, values in memberships.columns.items()
        if name not in ids | outcomes and np.isfinite(values).all()
    }


def _outcome(name: str, memberships: Memberships) -> Array:
    values = memberships.columns.get(name)
    if values is None:
        known = ", ".join(memberships.columns) or "none"
        raise DataError(
            f"The data have no numeric column {name!r}, the outcome of `data.formula`. Numeric "
            f"columns: {known}."
        )
    if not np.isfinite(values).all():
        raise DataError(f"The outcome {name!r} has missing or infinite values.")
    found = values[memberships.start[:-1]]
    varying = np.flatnonzero(found[memberships.group] != values)
    if len(varying):
        group = memberships.group_labels[memberships.group[varying[0]]]
        raise DataError(f"The outcome {name!r} varies within group {group!r}.")
    return cast(Array, found)
