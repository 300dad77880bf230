"""The map from the latent vector to the predictor where it never changes: all weights are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sparse

from rmm.tables.read import Array

_FEW_CLASSES = 64  # of groups with the same weight


class FixedMap:
    """A (J, P), and what is computed of it once."""

    def __init__(self, A: Any, pairs: tuple[Array, Array], total: Any) -> None:
        """The matrix; pairs of its elements, in the order of their rows; their sums by cell."""
        self.rows = A.tocsr()
        self.columns = A.T.tocsr()
        value = A.data[pairs[0]] * A.data[pairs[1]]
        group = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))[pairs[0]]
        each = sparse.csr_matrix((value, (np.arange(len(value)), group)), (len(value), A.shape[0]))
        self.cells = (total @ each).tocsr()
        self._added: tuple[Array, Array] | None = None

    def reached(self, z: Array) -> Array:
        """(S, J) A z of (S, P)."""
        return np.ascontiguousarray((self.rows @ z.T).T)

    def back(self, v: Array) -> Array:
        """(S, P) A' v of (S, J)."""
        return np.ascontiguousarray((self.columns @ v.T).T)

    def sums(self, weight: Array) -> Array:
        """(S, cells) of A' diag(weight) A.

        Groups of one weight are added up only once, where they are the same at all S: those whose
        private elements are alike, if the outcome is normal.
        """
        classes, first, of = np.unique(weight[0], return_index=True, return_inverse=True)
        alike = len(classes) <= _FEW_CLASSES and np.array_equal(weight[:, first][:, of], weight)
        if not alike:
            return np.asarray((self.cells @ weight.T).T)
        if self._added is None or not np.array_equal(self._added[0], of):
            belongs = sparse.csr_matrix((np.ones(len(of)), (np.arange(len(of)), of)))
            self._added = of, (self.cells @ belongs).toarray().T
        return np.asarray(weight[:, first] @ self._added[1])
