"""Columns with missing values that are parameters: the arrays of their model and of the outcome's.

See `rmm.model.imputation` for the model, and `rmm.design.rows.filled_values` for which they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmm.design.columns.predictors import BlockColumns, Encoded
from rmm.design.rows.filled_values import FilledColumn
from rmm.design.rows.group_rows import Grouped
from rmm.errors import DataError, counted
from rmm.model.imputation import ImputedColumn, parameter_names
from rmm.model.spec import INTERCEPT, ModelSpec
from rmm.tables.read import Array


@dataclass(frozen=True, eq=False)
class ImputedValues:
    """Arrays of one column with missing values.

    Attributes
    ----------
    known : (n,) array
        Values of the units that have one.
    X_known, X : (n, K) and (N, K) arrays
        1 and the complete covariates of the level, less their means over all units; of units with
        a value and without.
    fill, scale : float
        Mean and standard deviation of `known`. The mean stands for missing values in the design.
    predictor_scale : (K - 1,) array
        Standard deviations of the complete covariates over all units.
    column : int
        Place of its coefficient among the columns of its block, from 0.
    row : (L,) int array
        Groups, or memberships of the block, whose value is missing.
    value : (L,) int array
        Which missing value it is.
    labels : (N,) array
        Of the missing values.
    total : int
        Number of units.
    """

    known: Array
    X_known: Array
    X: Array
    fill: float
    scale: float
    predictor_scale: Array
    column: int
    row: Array
    value: Array
    labels: Array
    total: int

    def some(self, rows: Array) -> ImputedValues:
        """All values, of some groups or memberships; `rows` are in the order of the new ones."""
        place = np.full(int(max(rows.max(initial=-1), self.row.max(initial=-1))) + 1, -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.row] >= 0
        return replace(self, row=place[self.row[kept]], value=self.value[kept])

    def differences(self, x: Array, rows: int) -> Array:
        """(S, rows) differences of missing values (S, N) and what stands for them; else 0."""
        out = np.zeros((len(x), rows))
        out[:, self.row] = x[:, self.value] - self.fill
        return out


def impute(
    spec: ModelSpec, encoded: Encoded, grouped: Grouped, filled: Sequence[FilledColumn]
) -> ModelSpec:
    """The model whose missing values are parameters.

    Raises
    ------
    DataError
        For a covariate of nesting units.
    """
    names = parameter_names(tuple(one.column for one in filled))
    found = []
    for one, name in zip(filled, names, strict=True):
        if one.block is None and one.column not in encoded.level2.terms.labels:
            raise DataError(
                f"Column `{one.column}` has {counted(len(one.missing), 'missing value')}, and it "
                'is a covariate of nesting units. missing="impute" is for covariates of groups '
                "and members. Impute it beforehand, several times, and pool the fits with "
                "rmm.pool."
            )
        block = encoded.level2 if one.block is None else encoded.members[one.block]
        others = _predictors(one, block, grouped, {other.column for other in filled})
        found.append(ImputedColumn(one.column, name, one.unit, one.block, tuple(others)))
    return replace(spec, imputed=tuple(found))


def imputation_labels(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Names of the elements of the coefficients of the columns' means."""
    return {one.b: (INTERCEPT, *one.predictors) for one in spec.imputed}


def _predictors(
    one: FilledColumn, block: BlockColumns, grouped: Grouped, incomplete: set[str]
) -> list[str]:
    """The complete covariates of a level that are not constant; of members, theirs alone."""
    place, labels = _units(one, grouped), []
    for label, values in zip(block.terms.labels, block.terms.values.T, strict=True):
        once = np.zeros(place.max() + 1)
        once[place] = values
        own = np.array_equal(once[place], values)
        if label not in incomplete and own and np.ptp(once) > 0:
            labels.append(label)
    return labels


def _units(one: FilledColumn, grouped: Grouped) -> Array:
    """Unit of each row of the block, from 0."""
    if one.block is None:
        return np.arange(grouped.groups.count)
    members = grouped.members[one.block]
    if one.unit == "member":
        return np.unique(members.code, return_inverse=True)[1].reshape(-1)
    return np.arange(len(members.code))


def imputed_values(
    spec: ModelSpec,
    grouped: Grouped,
    encoded: Encoded,
    filled: Sequence[FilledColumn],
    coords: Mapping[str, Array],
) -> tuple[ImputedValues, ...]:
    """The arrays of the columns of `impute`.

    Parameters
    ----------
    coords : mapping
        Of the design: labels of the columns whose coefficients are estimated.

    Raises
    ------
    DataError
        For a column whose coefficient is held at a number.
    """
    return tuple(
        _values(own, one, spec, grouped, encoded, coords)
        for own, one in zip(spec.imputed, filled, strict=True)
    )


def _values(
    own: ImputedColumn,
    one: FilledColumn,
    spec: ModelSpec,
    grouped: Grouped,
    encoded: Encoded,
    coords: Mapping[str, Array],
) -> ImputedValues:
    part = None if own.block is None else spec.members[own.block]
    labels = list(coords["slope_l2" if part is None else f"covariate_l1{part.suffix}"])
    if own.column not in labels:
        raise DataError(
            f"The coefficient of `{own.column}` is fixed, and the column has missing values. "
            'missing="impute" needs a coefficient that is estimated. Impute the column beforehand, '
            "and pool the fits with rmm.pool."
        )
    block = encoded.level2 if own.block is None else encoded.members[own.block]
    at = [block.terms.labels.index(label) for label in (own.column, *own.predictors)]
    place = _units(one, grouped)
    first = np.unique(place, return_index=True)[1]
    values, names = block.terms.values[first][:, at], _names(one, grouped)[first]
    gone = np.array([name in one.missing for name in _keys(one, grouped)[first]], dtype=bool)
    others = values[:, 1:]
    X = np.column_stack([np.ones(len(first)), others - others.mean(axis=0)])
    number = np.cumsum(gone) - 1
    row = np.flatnonzero(gone[place])
    known = values[~gone, 0]
    return ImputedValues(
        known=known,
        X_known=X[~gone],
        X=X[gone],
        fill=one.fill,
        scale=float(known.std(ddof=1)),
        predictor_scale=others.std(axis=0, ddof=1),
        column=labels.index(own.column),
        row=row,
        value=number[place[row]],
        labels=names[gone],
        total=len(first),
    )


def _keys(one: FilledColumn, grouped: Grouped) -> Array:
    """What identifies the unit of each row of the block: ids, or the user's row numbers."""
    if one.block is None:
        if one.key is None:
            return grouped.first_rows.index
        return grouped.groups.labels
    members = grouped.members[one.block]
    if one.unit == "member":
        return members.labels[members.code]
    return members.table.index


def _names(one: FilledColumn, grouped: Grouped) -> Array:
    """Labels of the units: ids; of memberships those of the member and the group."""
    if one.unit != "membership":
        return np.array([str(key) for key in _keys(one, grouped)], dtype=object)
    assert one.block is not None
    members = grouped.members[one.block]
    pairs = zip(members.labels[members.code], grouped.groups.labels[members.group], strict=True)
    return np.array([f"{member}, {group}" for member, group in pairs], dtype=object)
