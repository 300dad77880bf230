"""Factors of the latent vector's precision, dense or sparse, for several hyperparameter values.

Sparse ones by QDLDL (Stellato et al. 2020, Mathematical Programming Computation 12), of which each
hyperparameter value keeps one object: what a refactoring needs of the pattern is found only once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import qdldl
import scipy.sparse as sparse
from scipy.linalg import lapack

from rmm.backends.laplace.factorisation.fill import factor_counts
from rmm.tables.read import Array

_SMALL = 100  # rows up to which dense factors are faster whatever the pattern
SOON = 1_000  # rows from which a factor is not computed only to see what it takes
_DENSE_SPEED = 1e10  # operations on dense factors in a second, about
_SLOWER = 8.0  # an operation on sparse factors takes so much longer than one on dense ones


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which cells of the lower triangle can differ from 0, row by row; the diagonal is among them.

    Attributes
    ----------
    size : int
        P, rows of the matrix.
    row, column : (cells,) int arrays
    """

    size: int
    row: Array
    column: Array

    @cached_property
    def diagonal(self) -> Array:
        """Places of the diagonal's cells."""
        return np.flatnonzero(self.row == self.column)

    @cached_property
    def start(self) -> Array:
        """Row pointer, (P + 1,)."""
        return np.searchsorted(self.row, np.arange(self.size + 1))

    @cached_property
    def _upper(self) -> sparse.csc_matrix:
        shape = (self.size, self.size)
        return sparse.csc_matrix((np.zeros(len(self.row)), self.column, self.start), shape=shape)

    def upper(self, values: Array) -> sparse.csc_matrix:
        """The upper triangle as columns: the lower one's rows as they are. The next call's is the
        same object, since making one takes as long as a small factor.
        """
        self._upper.data = np.ascontiguousarray(values)  # QDLDL's update takes it for granted
        return self._upper

    @cached_property
    def _counts(self) -> Array:
        """(P,) numbers in the columns of a sparse factor, which is not computed."""
        return factor_counts(self.size, self.row, self.column)

    def seconds(self, *, dense: bool) -> float:
        """About how long a factor takes; 0 for one that is small."""
        if self.size <= SOON:
            return 0.0
        full = self.size**3 / 3 / _DENSE_SPEED
        if dense or not self.is_sparse:
            return full
        return float(np.sum(self._counts.astype(float) ** 2)) * _SLOWER / _DENSE_SPEED

    @property
    def filled(self) -> int:
        """Numbers of a sparse factor."""
        return int(self._counts.sum())

    @cached_property
    def is_sparse(self) -> bool:
        """Whether sparse factors are the faster ones, by the operations that both take."""
        if self.size <= _SMALL:
            return False
        if self.size > SOON:
            return _SLOWER * float(np.sum(self._counts.astype(float) ** 2)) < self.size**3 / 3
        values = np.zeros(len(self.row))
        values[self.diagonal] = 1.0
        lower = qdldl.Solver(self.upper(values), upper=True).factors()[0]
        operations = float(np.sum(np.diff(lower.indptr).astype(float) ** 2))
        return _SLOWER * operations < self.size**3 / 3


class DenseFactors:
    """Lower Cholesky factors, (S, P, P), each in Fortran's order: LAPACK works in their place."""

    def __init__(self, pattern: Pattern, count: int) -> None:
        self.pattern = pattern
        self.lower = np.zeros((count, pattern.size, pattern.size)).transpose(0, 2, 1)
        self._cell = pattern.column * pattern.size + pattern.row  # in that order

    def __len__(self) -> int:
        return len(self.lower)

    def refactor(
        self, at: Array, values: Array, less: Callable[[int], Array] | None, *, definite: bool
    ) -> Array:
        """Whether there are factors: of values (n, cells), for the places `at`.

        Parameters
        ----------
        less : callable, optional
            i of n -> (K, P) matrix C; C'C is taken away.
        definite : bool
            Whether there must be, if the values are finite.
        """
        good = np.ones(len(at), dtype=bool)
        for i, s in enumerate(at):
            H = self.lower[s]
            H[:] = 0.0
            H.T.reshape(-1)[self._cell] = values[i]
            if less is not None:
                C = less(i)
                H -= C.T @ C
            failed = lapack.dpotrf(H, lower=1, clean=less is not None, overwrite_a=1)[1]
            good[i] = not failed
        return good

    def logdet(self, at: Array) -> Array:
        """(n,) log determinants."""
        return np.array([2 * np.log(self.lower[s].diagonal()).sum() for s in at])

    def solve(self, s: int, b: Array) -> Array:
        """H^-1 b of (P,) or (P, n)."""
        return np.asarray(lapack.dpotrs(self.lower[s], b, lower=1)[0])

    def half_solve(self, s: int, noise: Array) -> Array:
        """(M, P) normal noise -> (M, P) of covariance H^-1."""
        return np.asarray(lapack.dtrtrs(self.lower[s], noise.T, lower=1, trans=1)[0]).T


class SparseFactors:
    """LDL' factors with a fill-reducing order."""

    def __init__(self, pattern: Pattern, count: int) -> None:
        self.pattern = pattern
        self.solvers: list[Any] = [None] * count

    def __len__(self) -> int:
        return len(self.solvers)

    def refactor(
        self, at: Array, values: Array, less: Callable[[int], Array] | None, *, definite: bool
    ) -> Array:
        """As `DenseFactors.refactor`; nothing can be taken away."""
        assert less is None
        good = np.isfinite(values).all(axis=1)
        for i in np.flatnonzero(good):
            s = at[i]
            good[i] = self._factored(s, self.pattern.upper(values[i]))
            if good[i] and not definite:
                good[i] = bool((self._pivots(s) > 0).all())
        return np.asarray(good)

    def _factored(self, s: int, upper: sparse.csc_matrix) -> bool:
        """False where the matrix is too far from one that has a factor."""
        try:
            if self.solvers[s] is None:
                self.solvers[s] = qdldl.Solver(upper, upper=True)
            else:
                self.solvers[s].update(upper, upper=True)
        except RuntimeError:
            self.solvers[s] = None
            return False
        return True

    def _pivots(self, s: int) -> Array:
        """The diagonal of D. QDLDL makes a matrix of L too, which takes as long as a factor."""
        return np.asarray(self.solvers[s].factors()[1])

    def logdet(self, at: Array) -> Array:
        """(n,) log determinants."""
        return np.array([np.log(self._pivots(s)).sum() for s in at])

    def solve(self, s: int, b: Array) -> Array:
        """H^-1 b of (P,) or (P, n)."""
        if b.ndim == 1:
            return np.asarray(self.solvers[s].solve(b))
        columns = [self.solvers[s].solve(np.ascontiguousarray(column)) for column in b.T]
        return np.column_stack(columns)


type Factors = DenseFactors | SparseFactors


def lower_pattern(size: int, row: Array, column: Array) -> tuple[Pattern, Array]:
    """The pattern of some cells of the lower triangle, and the place of each cell in it."""
    cells, place = np.unique(
        np.concatenate([row * size + column, np.arange(size) * (size + 1)]), return_inverse=True
    )
    return Pattern(size, *np.divmod(cells, max(size, 1))), place[: len(row)]


def factors_for(pattern: Pattern, count: int, *, dense: bool) -> Factors:
    """Room for the factors of `count` hyperparameter values."""
    if dense or not pattern.is_sparse:
        return DenseFactors(pattern, count)
    return SparseFactors(pattern, count)


def largest(pattern: Pattern, *, dense: bool) -> int:
    """Numbers that the factors of one hyperparameter value take."""
    return pattern.size**2 if dense or not pattern.is_sparse else len(pattern.row)
