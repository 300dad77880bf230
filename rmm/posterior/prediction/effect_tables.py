"""Conditional effects as tables: of one covariate, by a second one, and of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

from rmm.arguments import shortened
from rmm.backends.base import Run
from rmm.design.prepare import Model
from rmm.errors import DataError, unknown_name
from rmm.posterior.diagnostics.summary import spread
from rmm.posterior.prediction.conditional_effects import few_values, reference_groups
from rmm.posterior.prediction.linear_predictor import Totals, flat_draws, weights_of
from rmm.posterior.prediction.new_groups import lay_out
from rmm.posterior.prediction.predict import level_labels

WEIGHT = "weight"


class Fitted(Protocol):
    """What is needed of a fit."""

    model: Model
    run: Run

    @property
    def _weight_totals(self) -> Totals: ...

    def predict(self, newdata: Any, kind: str, *, effects: str, new: Any) -> Any:
        """See `rmm.Fit.predict`."""


def effect_table(
    fit: Fitted,
    variable: str,
    by: str | None,
    by_values: Any,
    kind: str | None,
    effects: str,
    options: Mapping[str, Any],
) -> pd.DataFrame:
    """The table of `rmm.Fit.conditional_effects`; `options` are values, at and points.

    Raises
    ------
    DataError
        If a column is no predictor, or `by` is held by `at` or is the variable itself; or for
        effects of members whose covariance is known.
    """
    if by is None:
        if by_values is not None:
            raise DataError("`by_values` are the values of a second covariate: name it in `by`.")
        return _one(fit, variable, kind, effects, options)
    at = options["at"] or {}
    if by == variable or by in at:
        which = "the variable itself" if by == variable else "held by `at`"
        raise DataError(f"`by` is {by!r}, which is {which}. Name another covariate.")
    reference_groups(fit.model, by, None, None, 1)  # that it is a predictor
    if by_values is not None and np.ndim(by_values) != 1:
        raise DataError(f"`by_values` must be a list of values, not {shortened(by_values)}.")
    values = few_values(fit.model, by) if by_values is None else list(by_values)
    tables = [
        _one(fit, variable, kind, effects, {**options, "at": {**at, by: value}}) for value in values
    ]
    rest = list(tables[0].index.names)
    return pd.concat(dict(zip(values, tables, strict=True)), names=[by, *rest])


def _one(
    fit: Fitted, variable: str, kind: str | None, effects: str, options: Mapping[str, Any]
) -> pd.DataFrame:
    if kind == WEIGHT:
        return _weights(fit, variable, options)
    if effects != "none":
        _refuse_made_up_members(fit.model)
    grid, groups = reference_groups(fit.model, variable, **options)
    family = fit.model.spec.family
    default = "linear" if family.needs_strata else "mean"
    chosen = kind or ("probability" if family.ordered else default)
    found: pd.DataFrame = fit.predict(groups, chosen, effects=effects, new=True)
    if chosen == "probability":
        levels = level_labels(fit.model)
        return found.set_axis(pd.MultiIndex.from_product([grid, levels], names=[variable, "level"]))
    return found.set_axis(pd.Index(grid, name=variable))


def _refuse_made_up_members(model: Model) -> None:
    """The members of reference groups are in no matrix of known covariances."""
    for part in model.spec.members:
        if part.related:
            raise DataError(
                f"The effects of members (column `{part.block.member}`) have the known covariance "
                f"`{part.block.covariance}`. Conditional effects are those of groups with made-up "
                'members, whose covariance is not known: use effects="none", the default, or '
                "predict() with a table of groups."
            )


def _weights(fit: Fitted, variable: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """The weight of one member of a group, the other members at their reference."""
    spec = fit.model.spec
    blocks = [i for i, part in enumerate(spec.members) if variable in part.weight.variables]
    if not blocks:
        known = [v for part in spec.members for v in part.weight.variables]
        raise DataError(unknown_name(variable, "a weight variable of this model", known))
    index = blocks[0]
    grid, table = reference_groups(fit.model, variable, **options, one_member=True)
    layout = lay_out(fit.model, table).layout
    draws = flat_draws(fit.run, fit.model)
    weights = weights_of(layout, index, spec.members[index], draws, fit._weight_totals)
    rows = layout.design.members[index].rows
    size = len(table) // len(grid)
    place = np.empty(len(table), dtype=int)
    place[rows] = np.arange(len(rows))
    moved = weights[:, place[::size]]
    if len(moved) == 1:  # known weights
        moved = np.repeat(moved, 2, axis=0)
    return pd.DataFrame(spread(moved), index=pd.Index(grid, name=variable))
