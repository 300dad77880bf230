"""Known covariance matrices of member effects, `cov = A`: effects ~ normal(0, sigma_l1^2 A).

With A = LL' effects are u = L e, where e are independent with the standard deviation sigma_l1. All
engines sample e, so that they need only the matrix L as data: the model is that of independent
effects with the weights W L in place of W.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.sparse as sparse

from rmm.errors import DataError, counted, quoted, unknown_name
from rmm.formula.terms import Formula, MemberBlock
from rmm.tables.read import Array

_SHOWN = 5  # labels that a message names
_ROUNDING = 1e-8  # of the two standard deviations: a difference of A and A' that is rounding
#: Share of a member's variance that the others leave over, below which the matrix counts as
#: singular: numbers computed with it would consist of rounding.
_LEAST = 1e-10
_LABELS = ("string", "integer", "floating", "datetime64", "date", "datetime", "empty")


@dataclass(frozen=True, eq=False)
class KnownCovariance:
    """A checked matrix.

    Attributes
    ----------
    name : str
        As in the formula.
    labels : (n,) object array
        Members, as in the data.
    values : (n, n) array
    """

    name: str
    labels: Array
    values: Array

    @cached_property
    def places(self) -> dict[Any, int]:
        """Label -> row."""
        return {label: place for place, label in enumerate(self.labels)}

    def frame(self) -> pd.DataFrame:
        """The matrix as users give it."""
        labels = pd.Index(list(self.labels))
        return pd.DataFrame(self.values, index=labels, columns=labels)

    def same(self, other: KnownCovariance) -> bool:
        """Whether both give the same covariance to the same members, in any order."""
        if set(self.places) != set(other.places):
            return False
        rows = [other.places[label] for label in self.labels]
        return np.array_equal(self.values, other.values[np.ix_(rows, rows)])

    def root(self, labels: Array, column: str) -> Array:
        """(K, K) lower Cholesky factor L of the matrix of some members, in their order.

        Parameters
        ----------
        labels : (K,) array
            Members of the data.
        column : str
            Their column, for messages.

        Raises
        ------
        DataError
            For members that the matrix lacks.
        """
        absent = [label for label in labels if label not in self.places]
        if absent:
            raise DataError(
                f"The matrix `{self.name}` in `cov` lacks {counted(len(absent), 'member')} of the "
                f"data (column `{column}`): {_named(absent)}. {self._hint(absent)}"
            )
        rows = [self.places[label] for label in labels]
        return np.asarray(np.linalg.cholesky(self.values[np.ix_(rows, rows)]))

    def given(self, known: Array, fresh: Array, column: str) -> tuple[Array, Array, Array]:
        """The distribution of effects of new members, given those of the members of the fit.

        It is normal with mean C u and covariance sigma_l1^2 F F'. New members of the matrix come
        in the order of their labels' texts, so that F, and draws with it, do not depend on which
        other new members are predicted.

        Parameters
        ----------
        known : (K,) array
            Members of the fit.
        fresh : (n,) array
            New members.
        column : str
            Their column, for messages.

        Returns
        -------
        labels : (E,) array
            New members up to the last one of `fresh`.
        coefficients : (E, K) array
            C.
        factor : (E, E) array
            F, lower triangular.

        Raises
        ------
        DataError
            For new members that the matrix lacks.
        """
        absent = [label for label in fresh if label not in self.places]
        if absent:
            raise DataError(
                f"The matrix `{self.name}` in `cov` lacks {counted(len(absent), 'new member')} "
                f"(column `{column}`): {_named(absent)}. The covariance of their effects with "
                "those of the other members is therefore unknown. Fit again with a matrix that has "
                'these members, or predict without effects: effects="none".'
            )
        seen, wanted = set(known), set(fresh)
        others = sorted((label for label in self.labels if label not in seen), key=str)
        last = max(place for place, label in enumerate(others) if label in wanted)
        labels = np.empty(last + 1, dtype=object)
        labels[:] = others[: last + 1]
        rows = [self.places[label] for label in (*known, *labels)]
        factor = np.linalg.cholesky(self.values[np.ix_(rows, rows)])
        count = len(known)
        own, cross = factor[:count, :count], factor[count:, :count]
        coefficients = scipy.linalg.solve_triangular(own, cross.T, lower=True, trans="T").T
        return labels, np.asarray(coefficients), np.asarray(factor[count:, count:])

    def _hint(self, absent: list[Any]) -> str:
        texts = {str(label) for label in self.labels}
        if str(absent[0]) in texts:
            return (
                f"It has {str(absent[0])!r} as another type (a number or a text). Give the labels "
                "of the matrix the type of the column."
            )
        return "Add a row and a column for each of them."


def entries(root: Array, member: Array) -> tuple[Array, Array, Array]:
    """Entries of L in the rows of the members of memberships that are not 0.

    Parameters
    ----------
    root : (K, K) array
        L.
    member : (M,) int array

    Returns
    -------
    membership, column, value : arrays
    """
    rows = sparse.csr_array(root)
    count = np.diff(rows.indptr)[member]
    membership = np.repeat(np.arange(len(member)), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    at = rows.indptr[member][membership] + step
    return membership, rows.indices[at].astype(np.int64), rows.data[at]


@dataclass(frozen=True, eq=False)
class GroupPairs:
    """Pairs of memberships of a group whose effects have a covariance other than 0.

    Attributes
    ----------
    first, second : int arrays
        Memberships; every pair of two is there twice, and a membership with itself once.
    value : array
        Element of A.
    start : (J + 1,) int array
        First pair of each group.
    """

    first: Array
    second: Array
    value: Array
    start: Array

    def terms(self, weight: Array) -> Array:
        """(..., pairs) terms of w'Aw of (..., M) weights; their sums by group are w'Aw."""
        return np.asarray(weight[..., self.first] * weight[..., self.second] * self.value)


def group_pairs(root: Array, member: Array, start: Array) -> GroupPairs:
    """The pairs of memberships of each group; of w A w' it has the terms that are not 0.

    Parameters
    ----------
    root : (K, K) array
        L, with A = LL'.
    member : (M,) int array
    start : (J + 1,) int array
        Row pointer of the groups.
    """
    size = np.diff(start)
    each = np.repeat(size, size)
    first = np.repeat(np.arange(len(member)), each)
    step = np.arange(len(first)) - np.repeat(np.cumsum(each) - each, each)
    second = np.repeat(np.repeat(start[:-1], size), each) + step
    group = np.repeat(np.repeat(np.arange(len(size)), size), each)
    value = (root @ root.T)[member[first], member[second]]
    kept = value != 0
    pointer = np.concatenate([[0], np.cumsum(np.bincount(group[kept], minlength=len(size)))])
    return GroupPairs(first[kept], second[kept], value[kept], pointer)


# ---- what users give -----------------------------------------------------------------------------


def read_covariances(given: Any, formula: Formula) -> dict[str, KnownCovariance]:
    """The matrices that `cov=` gives, by the names that the formula has for them.

    Parameters
    ----------
    given : mapping of str to pandas.DataFrame, or None
    formula : Formula

    Raises
    ------
    DataError
        For matrices that the formula does not name, or that are no covariance matrices.
    """
    names = covariance_names(formula)
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise DataError(
            "`cov` must be a mapping of names in the formula to matrices, such as "
            f'cov={{"A": matrix}}, not of type {type(given).__name__}.'
        )
    for name in given:
        if name not in names:
            raise DataError(
                unknown_name(name, "a matrix that the formula names with `cov =`", names)
                if names
                else f"`cov` has the matrix {name!r}, but the formula has no `cov =`. Write "
                f"mm(..., RE = TRUE, cov = {name}) in the formula, or leave `cov` out."
            )
    for name in names:
        if name not in given:
            raise missing_matrix(name)
    return {name: read_covariance(name, given[name]) for name in names}


def covariance_names(formula: Formula) -> tuple[str, ...]:
    """Names of the matrices of a formula."""
    found = (block.covariance for block in formula.members)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def missing_matrix(name: str) -> DataError:
    """The error of a formula with `cov =` whose matrix is not given."""
    return DataError(
        f"The formula has `cov = {name}`, but there is no matrix `{name}`. Give it, in Python, as "
        "a pandas DataFrame whose rows and columns are labelled with the members: "
        f'rmm.fit(..., cov={{"{name}": matrix}}).'
    )


def root_of(
    block: MemberBlock, labels: Array, known: Mapping[str, KnownCovariance]
) -> Array | None:
    """The Cholesky factor of the matrix of a block's members; None without `cov =`.

    Raises
    ------
    DataError
        If the matrix is not given, or lacks members.
    """
    name = block.covariance
    if name is None:
        return None
    if name not in known:
        raise missing_matrix(name)
    return known[name].root(labels, block.member)


def read_covariance(name: str, given: Any) -> KnownCovariance:
    """A matrix, checked.

    Parameters
    ----------
    name : str
    given : pandas.DataFrame

    Raises
    ------
    DataError
        That names the labels of what is wrong.
    """
    what = f"The matrix `{name}` in `cov`"
    if not isinstance(given, pd.DataFrame):
        raise DataError(
            f"{what} must be a pandas DataFrame whose rows and columns are labelled with the "
            f"members, not of type {type(given).__name__}."
        )
    labels = _labels(given.index, what, "rows")
    columns = _labels(given.columns, what, "columns")
    _check_same(labels, columns, what)
    place = {label: k for k, label in enumerate(columns)}
    values = _numbers(given, what)[:, [place[label] for label in labels]]
    _check_finite(values, labels, what)
    sd = _standard_deviations(values, labels, what)
    apart = np.abs(values - values.T) > _ROUNDING * np.outer(sd, sd)
    if apart.any():
        i, j = np.unravel_index(int(np.argmax(apart)), apart.shape)
        raise DataError(
            f"{what} is not symmetric: row {quoted(labels[i])}, column {quoted(labels[j])} is "
            f"{values[i, j]:.15g}, but row {quoted(labels[j])}, column {quoted(labels[i])} is "
            f"{values[j, i]:.15g}."
        )
    values = (values + values.T) / 2
    _check_definite(values / np.outer(sd, sd), labels, what)
    return KnownCovariance(name, labels, values)


def _labels(index: pd.Index, what: str, where: str) -> Array:
    kind = pd.api.types.infer_dtype(index, skipna=False)
    if kind == "categorical":
        kind = pd.api.types.infer_dtype(index.astype(object), skipna=False)
    labels = np.empty(len(index), dtype=object)
    labels[:] = list(index)
    if len(labels) == 0:
        raise DataError(f"{what} has no {where}.")
    if isinstance(index, pd.MultiIndex) or pd.isna(labels).any() or kind not in _LABELS:
        raise DataError(
            f"The labels of the {where} of {what[0].lower()}{what[1:]} must be the members as in "
            "the data: all text, all numbers or all dates, none missing."
        )
    twice = index[index.duplicated()]
    if len(twice):
        raise DataError(
            f"{what} has {counted(len(twice.unique()), 'label')} twice in its {where}: "
            f"{_named(list(twice.unique()))}. Each member must have one row and one column."
        )
    return labels


def _check_same(rows: Array, columns: Array, what: str) -> None:
    for here, there, kind in ((rows, columns, "row"), (columns, rows, "column")):
        known = set(there)
        alone = [label for label in here if label not in known]
        if alone:
            other = "column" if kind == "row" else "row"
            raise DataError(
                f"{what} has {counted(len(alone), 'label')} with a {kind} but without a {other}: "
                f"{_named(alone)}. Rows and columns must be labelled with the same members. Of a "
                "file whose first column has the members: pandas.read_csv(path, index_col=0)."
            )


def _numbers(given: pd.DataFrame, what: str) -> Array:
    plain = [pd.api.types.is_numeric_dtype(t) and t.kind != "c" for t in given.dtypes]
    if not all(plain):
        bad = given.columns[int(np.argmin(plain))]
        raise DataError(f"{what} must consist of numbers, but column {quoted(bad)} does not.")
    return given.to_numpy(dtype=float, na_value=np.nan)


def _check_finite(values: Array, labels: Array, what: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        i, j = np.unravel_index(int(np.argmax(bad)), bad.shape)
        kind = "missing" if np.isnan(values[i, j]) else "infinite"
        raise DataError(
            f"{what} has {counted(int(bad.sum()), 'value')} that are missing or infinite: row "
            f"{quoted(labels[i])}, column {quoted(labels[j])} is {kind}. Give every covariance; 0 "
            "for members whose effects are independent."
        )


def _standard_deviations(values: Array, labels: Array, what: str) -> Array:
    variance = np.diag(values)
    if (variance <= 0).any():
        k = int(np.argmax(variance <= 0))
        raise DataError(
            f"{what} is not positive definite: the variance of {quoted(labels[k])} (the element on "
            f"the diagonal) is {variance[k]:g}. Variances must be above 0; a correlation matrix "
            "has 1."
        )
    return np.asarray(np.sqrt(variance))


def _check_definite(correlation: Array, labels: Array, what: str) -> None:
    """Every member must have variance of its own, given the members before it."""
    factor, info = scipy.linalg.lapack.dpotrf(correlation, lower=1)
    done = len(labels) if info == 0 else info - 1
    own = np.diag(factor)[:done] ** 2
    low = np.flatnonzero(own < _LEAST)
    if info == 0 and len(low) == 0:
        return
    k = int(low[0]) if len(low) else done
    above = np.abs(correlation - np.eye(len(labels)))
    i, j = np.unravel_index(int(np.argmax(above)), above.shape)
    if above[i, j] >= 1 - _LEAST:
        raise DataError(
            f"{what} is not positive definite: the correlation of {quoted(labels[i])} and "
            f"{quoted(labels[j])} is {correlation[i, j]:.10g}; it must be between -1 and 1. If the "
            "two are one member, give them one id in the data."
        )
    raise DataError(
        f"{what} is not positive definite: its smallest eigenvalue, as a correlation matrix, is "
        f"{np.linalg.eigvalsh(correlation)[0]:.3g}. Up to member {quoted(labels[k])}, its rows and "
        "columns contradict each other or determine each other. Check the values."
    )


def _named(labels: Collection[Any]) -> str:
    shown = ", ".join(quoted(label) for label in list(labels)[:_SHOWN])
    more = len(labels) - _SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown
