"""`rmm.car`: the covariance matrix of a conditional autoregressive model of neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmm.arguments import readable
from rmm.errors import DataError, quoted
from rmm.tables.read import Array

_ROUNDING = 1e-10  # of the largest weight


@readable(DataError)
def car(neighbours: Any, rho: float, *, members: Sequence[Any] | None = None) -> pd.DataFrame:
    """The covariance matrix of members that resemble their neighbours, for ``cov =`` in `rmm.fit`.

    It is that of a proper conditional autoregressive (CAR) model. With W the matrix of weights (1
    for neighbours without one, 0 for others) and D the diagonal matrix of its row sums

        A = (D - rho W)^-1 / c

    so that, given the effects of all others, the expectation of an effect is rho times the weighted
    mean of its neighbours, and its variance is proportional to 1 / D_ii (Besag 1974, Journal of the
    Royal Statistical Society B 36, 192-236; Banerjee, Carlin and Gelfand 2014, Hierarchical
    Modeling and Analysis for Spatial Data, section 4.3). c makes the mean of the variances of
    members with neighbours 1, so that sigma_l1 is the standard
    deviation of a typical effect. Members without neighbours have independent effects with variance
    1.

    Parameters
    ----------
    neighbours : pandas.DataFrame, or iterable of pairs
        Pairs of neighbours: tuples, or a table with two columns, and a third with weights if they
        differ; each pair once or in both directions. Or a square table of weights whose rows and
        columns are labelled with the members.
    rho : float
        Between -1 and 1. 0 makes effects independent; nearer to 1, neighbours are more alike. It
        is not itself the correlation of two neighbours, which the result shows.
    members : sequence, optional
        All members in the order of the result, those without neighbours too. Default: those that
        occur.

    Returns
    -------
    pandas.DataFrame
        Rows and columns are labelled with the members.

    Raises
    ------
    DataError
        For weights that are negative or differ between directions, a member that is its own
        neighbour, and members that `members` lacks.

    Examples
    --------
    >>> import rmm
    >>> rmm.car([("a", "b"), ("b", "c")], 0.9).round(2)
          a     b     c
    a  1.06  0.80  0.72
    b  0.80  0.89  0.80
    c  0.72  0.80  1.06
    """
    number = isinstance(rho, int | float | np.number) and not isinstance(rho, bool)
    if not number or not -1 < rho < 1:
        raise DataError(f"`rho` must be a number between -1 and 1, but is {rho!r}.")
    labels, W = _weights(neighbours, members)
    D = W.sum(axis=1)
    linked = D > 0
    A = np.eye(len(labels))
    if linked.any():
        within = np.ix_(linked, linked)
        found = np.linalg.inv(np.diag(D[linked]) - rho * W[within])
        found = (found + found.T) / 2
        A[within] = found / np.mean(np.diag(found))
    index = pd.Index(labels)
    return pd.DataFrame(A, index=index, columns=index)


def _weights(neighbours: Any, members: Sequence[Any] | None) -> tuple[list[Any], Array]:
    """Members, and the symmetric matrix of the weights of their neighbours."""
    square = isinstance(neighbours, pd.DataFrame) and _same_labels(neighbours)
    pairs = _of_square(neighbours) if square else _of_pairs(neighbours)
    seen = dict.fromkeys(label for one, other, _ in pairs for label in (one, other))
    if square:
        seen = dict.fromkeys(neighbours.index)
    labels = list(seen) if members is None else list(members)
    if len(set(labels)) < len(labels):
        raise DataError("`members` has a member twice.")
    place = {label: k for k, label in enumerate(labels)}
    W = np.zeros((len(labels), len(labels)))
    for one, other, weight in pairs:
        for label in (one, other):
            if label not in place:
                raise DataError(f"{quoted(label)} is a neighbour, but not one of `members`.")
        if one == other:
            raise DataError(f"{quoted(one)} is given as its own neighbour. Leave that pair out.")
        i, j = place[one], place[other]
        if W[i, j] and abs(W[i, j] - weight) > _ROUNDING * max(W[i, j], weight):
            raise DataError(
                f"The neighbours {quoted(one)} and {quoted(other)} have two weights: {W[i, j]:g} "
                f"and {weight:g}. Weights must be the same in both directions."
            )
        W[i, j] = W[j, i] = weight
    if not labels:
        raise DataError("`neighbours` has no members.")
    return labels, W


def _same_labels(table: pd.DataFrame) -> bool:
    rows, columns = set(table.index), set(table.columns)
    return len(table) == len(table.columns) and rows == columns and len(rows) == len(table)


def _of_square(table: pd.DataFrame) -> list[tuple[Any, Any, float]]:
    """Both directions of every pair, of which one may be missing."""
    out = []
    values = table[list(table.index)]
    for (one, row), i in zip(values.iterrows(), range(len(values)), strict=True):
        for j, (other, weight) in enumerate(row.items()):
            found = _weight(one, other, weight)
            back = _weight(other, one, values.iloc[j, i])
            if abs(found - back) > _ROUNDING * max(found, back):
                raise DataError(
                    f"The weight of row {quoted(one)}, column {quoted(other)} is {found:g}, but "
                    f"that of row {quoted(other)}, column {quoted(one)} is {back:g}. Weights must "
                    "be the same in both directions."
                )
            if found > 0:
                out.append((one, other, found))
    return out


def _of_pairs(given: Any) -> list[tuple[Any, Any, float]]:
    rows: Iterable[Any]
    if isinstance(given, pd.DataFrame):
        rows = given.itertuples(index=False, name=None)
    elif isinstance(given, Iterable) and not isinstance(given, str):
        rows = given
    else:
        raise DataError(
            "`neighbours` must be pairs of members, or a table, not of type "
            f"{type(given).__name__}."
        )
    out: list[tuple[Any, Any, float]] = []
    for row in rows:
        if isinstance(row, str) or not isinstance(row, Sequence) or len(row) not in (2, 3):
            raise DataError(
                "Each row of `neighbours` must be a pair of members, or a pair and a weight, but "
                f"one is {row!r}. A square table of weights must have the same members as labels "
                "of rows and columns."
            )
        one, other = row[0], row[1]
        if pd.isna(one) or pd.isna(other):
            raise DataError(f"A member is missing in the pair {row!r} of `neighbours`.")
        weight = 1.0 if len(row) == 2 else _weight(one, other, row[2])
        if weight > 0:
            out.append((one, other, weight))
    return out


def _weight(one: Any, other: Any, given: Any) -> float:
    try:
        weight = float(given)
    except (TypeError, ValueError):
        weight = np.nan
    if not np.isfinite(weight) or weight < 0:
        raise DataError(
            f"The weight of the neighbours {quoted(one)} and {quoted(other)} must be a number of "
            f"0 or more, but is {given!r}."
        )
    return weight
