"""Correlation matrices by canonical partial correlations, and the LKJ prior of these.

The partial correlation p_ij of effects i < j, given effects 1 to i - 1, may be any number between
-1 and 1, whatever the others are. With the Cholesky factor L of the correlation matrix

    L_ji = p_ij r_ij,  L_jj = r_jj,  r_ij^2 = (1 - p_1j^2) ... (1 - p_i-1,j^2).

The matrix has the LKJ(eta) density, proportional to det^(eta - 1), where all p_ij are independent
and (p_ij + 1) / 2 ~ beta(b, b), b = eta + (K - 1 - i) / 2 for K effects; each correlation is then
(r + 1) / 2 ~ beta(b, b), b = eta + (K - 2) / 2, whatever the order of the effects. Lewandowski,
Kurowicka and Joe (2009), "Generating random correlation matrices based on vines and extended onion
method", Journal of Multivariate Analysis 100, 1989-2001, section 2.4.

Arrays of pairs have the elements above the diagonal row by row: (1, 2), (1, 3), ..., (K - 1, K).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def effects_of(pairs: int) -> int:
    """The number of effects K with K (K - 1) / 2 pairs."""
    return round((1 + (1 + 8 * pairs) ** 0.5) / 2)


def lkj_shapes(eta: float, pairs: int) -> Array:
    """(pairs,) numbers b of the beta priors of partial correlations.

    The first is that of every correlation, too; the last is eta.
    """
    count = effects_of(pairs)
    first, _ = np.triu_indices(count, 1)
    return eta + (count - 2 - first) / 2


def cholesky_factor(partial: Array) -> Array:
    """(..., K, K) lower triangular factors of (..., pairs) partial correlations."""
    count = effects_of(partial.shape[-1])
    out = np.zeros((*partial.shape[:-1], count, count))
    place = {pair: k for k, pair in enumerate(itertools.combinations(range(count), 2))}
    out[..., 0, 0] = 1.0
    for j in range(1, count):
        rest = np.ones(partial.shape[:-1])
        for i in range(j):
            p = partial[..., place[i, j]]
            out[..., j, i] = p * rest
            rest = rest * np.sqrt((1 - p) * (1 + p))
        out[..., j, j] = rest
    return out


def correlations(partial: Array) -> Array:
    """(..., pairs) correlations of partial ones."""
    factor = cholesky_factor(partial)
    first, second = np.triu_indices(factor.shape[-1], 1)
    return np.asarray((factor @ np.swapaxes(factor, -1, -2))[..., first, second])


def correlation_matrix(pairs: Array) -> Array:
    """(..., K, K) matrices of (..., pairs) correlations."""
    count = effects_of(pairs.shape[-1])
    first, second = np.triu_indices(count, 1)
    out = np.broadcast_to(np.eye(count), (*pairs.shape[:-1], count, count)).copy()
    out[..., first, second] = pairs
    out[..., second, first] = pairs
    return out


def partial_correlations(pairs: Array) -> Array:
    """(..., pairs) partial correlations of plain ones; undoes `correlations`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix of them is not positive definite.
    """
    factor = np.linalg.cholesky(correlation_matrix(pairs))
    count = factor.shape[-1]
    out = np.empty(pairs.shape)
    for place, (i, j) in enumerate(itertools.combinations(range(count), 2)):
        rest = np.sqrt(1 - np.sum(factor[..., j, :i] ** 2, axis=-1))
        out[..., place] = factor[..., j, i] / rest
    return out
