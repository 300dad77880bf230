"""How many numbers a sparse Cholesky factor would have, without computing it.

Column counts of the factor from the elimination tree: Gilbert, Ng & Peyton (1994), "An efficient
algorithm to compute row and column counts for sparse Cholesky factorization", SIAM Journal on
Matrix Analysis and Applications 15, 1075-1091; as in Davis (2006), "Direct methods for sparse
linear systems", 4.4 and 4.5. The order is of minimum degree, found by SuperLU with an
incomplete factor that keeps next to nothing; rows that are nearly full (coefficients) come last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import spilu

from rmm.tables.read import Array

_FULL = 10.0  # times the root of the size: rows with more cells come last
_NONE = -1


def factor_counts(size: int, row: Array, column: Array) -> Array:
    """(P,) numbers in the columns of the factor of a symmetric matrix.

    Parameters
    ----------
    size : int
        P.
    row, column : (cells,) int arrays
        Cells of its lower triangle that can differ from 0.
    """
    shape = (size, size)
    lower = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=shape)
    whole = (lower + lower.T + sparse.identity(size)).tocsr()
    place = _order(whole)
    new = np.sort(np.stack([place[row], place[column]]), axis=0)
    off = new[0] != new[1]
    upper = sparse.csc_matrix((np.ones(off.sum()), (new[0][off], new[1][off])), shape=shape)
    upper.sum_duplicates()
    parent = _elimination_tree(upper)
    return _column_counts(upper.T.tocsc(), parent, _postorder(parent))


def _order(whole: Any) -> Array:
    """(P,) new place of each row: least degree first, full rows last."""
    size = whole.shape[0]
    cells = np.diff(whole.indptr)
    full = cells > max(_FULL * np.sqrt(size), 16)
    some = np.flatnonzero(~full)
    place = np.empty(size, dtype=int)
    if len(some):
        part = whole[some][:, some].tocsc()
        part.data[:] = 1e-6
        part.setdiag(1.0)
        found = spilu(
            part,
            drop_tol=1.0,
            fill_factor=1.0,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        place[some] = found.perm_c
    place[full] = len(some) + np.arange(int(full.sum()))
    return place


def _elimination_tree(upper: Any) -> list[int]:
    size = upper.shape[0]
    parent, ancestor = [_NONE] * size, [_NONE] * size
    start, rows = upper.indptr.tolist(), upper.indices.tolist()
    for k in range(size):
        for i in rows[start[k] : start[k + 1]]:
            while i != _NONE and i < k:
                following, ancestor[i] = ancestor[i], k
                if following == _NONE:
                    parent[i] = k
                i = following
    return parent


def _postorder(parent: list[int]) -> list[int]:
    children: list[list[int]] = [[] for _ in parent]
    roots: list[int] = []
    for node, above in enumerate(parent):
        (roots if above == _NONE else children[above]).append(node)
    order = []
    while roots:  # parents before children, and turned round at the end
        node = roots.pop()
        order.append(node)
        roots += children[node]
    return order[::-1]


def _column_counts(lower: Any, parent: list[int], post: list[int]) -> Array:
    size = len(parent)
    first, last_leaf, ancestor = [_NONE] * size, [_NONE] * size, list(range(size))
    delta = [0] * size
    for k, j in enumerate(post):
        delta[j] = int(first[j] == _NONE)  # a leaf
        while j != _NONE and first[j] == _NONE:
            first[j] = k
            j = parent[j]
    highest = [_NONE] * size
    start, rows = lower.indptr.tolist(), lower.indices.tolist()
    for j in post:
        if parent[j] != _NONE:
            delta[parent[j]] -= 1
        for i in rows[start[j] : start[j + 1]]:
            if i <= j or first[j] <= highest[i]:
                continue  # j is no leaf of the tree of row i
            highest[i], before, last_leaf[i] = first[j], last_leaf[i], j
            delta[j] += 1
            if before != _NONE:
                delta[_common(before, ancestor)] -= 1
        if parent[j] != _NONE:
            ancestor[j] = parent[j]
    for j in post:
        if parent[j] != _NONE:
            delta[parent[j]] += delta[j]
    return np.array(delta)


def _common(leaf: int, ancestor: list[int]) -> int:
    """The root of a leaf's set, with the way there made short."""
    root = leaf
    while root != ancestor[root]:
        root = ancestor[root]
    while leaf != root:
        leaf, ancestor[leaf] = ancestor[leaf], root
    return root


def factor_columns(
    size: int, row: Array, column: Array, most: float
) -> tuple[Array, Array, Array] | None:
    """The cells of a sparse Cholesky factor.

    Parameters
    ----------
    size : int
        P.
    row, column : (n,) int arrays
        Cells that can differ from 0, of either triangle; some may come more than once.
    most : float
        Operations from which a dense factor is faster.

    Returns
    -------
    place : (P,) int array
        Where each row comes in the elimination.
    start : (P + 1,) int array
        First cell of each column of the factor.
    rows : (cells,) int array
        In the order of the elimination, the diagonal first. None instead of all three where the
        factor takes more operations than `most`.
    """
    shape = (size, size)
    cells = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=shape)
    whole = (cells + cells.T + sparse.identity(size)).tocsr()
    place = _order(whole)
    moved = whole.tocoo()
    lower = sparse.csc_matrix(
        (np.ones(moved.nnz), (place[moved.row], place[moved.col])), shape=shape
    )
    lower.sort_indices()
    first, rows = lower.indptr.tolist(), lower.indices.tolist()
    children: list[list[int]] = [[] for _ in range(size)]
    columns: list[list[int]] = []
    operations = 0.0
    for k in range(size):
        found = {i for i in rows[first[k] : first[k + 1]] if i > k}
        for child in children[k]:
            found.update(columns[child][1:])
        below = sorted(found - {k})
        operations += len(below) ** 2
        if operations > most:
            return None
        columns.append([k, *below])
        if below:
            children[below[0]].append(k)
    start = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
    return place, start, np.array([i for c in columns for i in c], dtype=int)
