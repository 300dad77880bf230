"""Posteriors that are nearly normal: computed at some points, polynomials in between.

With many groups the log posterior of the hyperparameters is nearly quadratic, and a draw of the
latent vector, for given noise, nearly linear in them. Where one value costs a large dense factor
both are computed at points about the mode only. Anywhere else they are those of the polynomials
that weighted least squares fit to them; each is a linear combination of the computed ones.
Their error is known from the residuals of points that are left out of the fit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from rmm.backends.laplace.importance import Mode, uniforms
from rmm.tables.read import Array

_RADIUS = 4.5  # standard deviations from the mode: 1e-4 of a normal of three is beyond
_SPREAD, _WIDER = 1.7, 1.15  # standard deviations of computed points, and of draws
_DEGREE = 4
_POINTS_PER_TERM = 2
_MOST_POINTS = 160  # else the degree is one less
_FURTHER = 1000  # between seeds of the points and of the draws


@dataclass(frozen=True, eq=False)
class Interpolation:
    """From N computed points to S draws.

    Attributes
    ----------
    points : (N, d)
    draws : (S, d)
        Normal about the mode, wider than the posterior.
    log_proposal : (S,)
        Log density of the draws, up to a constant.
    operator : (S, N)
        Times the values at the points gives those at the draws.
    """

    points: Array
    draws: Array
    log_proposal: Array
    operator: Array
    _hat: Array
    _weight: Array

    def error(self, values: Array) -> float:
        """Root of the mean squared residual of points (N,) that are left out of the fit.

        The mean is that over a normal posterior.
        """
        left_out = (values - self._hat @ values) / (1 - np.diag(self._hat))
        return float(np.sqrt(np.average(left_out**2, weights=self._weight)))


def interpolation(mode: Mode, count: int, seed: int) -> Interpolation:
    """Points and at most `count` draws about a mode.

    Parameters
    ----------
    mode : Mode
        Its covariance is the scale of both.
    count, seed : int
    """
    d = len(mode.centre)
    terms = _terms(d)
    away = _SPREAD * special.ndtri(uniforms(point_count(d), d, seed))
    length = np.sqrt(np.sum(away**2, axis=1))
    away *= np.minimum(1.0, _RADIUS / length)[:, None]
    weight = np.exp(-0.5 * (1 - 1 / _SPREAD**2) * np.sum(away**2, axis=1))
    drawn = _WIDER * special.ndtri(uniforms(count, d, seed + _FURTHER))
    squares = np.sum(drawn**2, axis=1)
    drawn, squares = drawn[squares < _RADIUS**2], squares[squares < _RADIUS**2]
    rooted = np.sqrt(weight)
    basis = _polynomials(away, terms)
    fit = np.linalg.pinv(rooted[:, None] * basis) * rooted
    factor = np.linalg.cholesky(mode.covariance)
    return Interpolation(
        mode.centre + away @ factor.T,
        mode.centre + drawn @ factor.T,
        -0.5 * squares / _WIDER**2,
        _polynomials(drawn, terms) @ fit,
        basis @ fit,
        weight,
    )


def point_count(dimension: int) -> int:
    """N, which depends on the number of hyperparameters only."""
    return _POINTS_PER_TERM * len(_terms(dimension))


def _terms(dimension: int) -> list[tuple[int, ...]]:
    """Factors of each term of the polynomials: (), (0,), (1,), ..., (0, 0), (0, 1), ..."""
    degree = _DEGREE
    if _POINTS_PER_TERM * math.comb(dimension + degree, degree) > _MOST_POINTS:
        degree -= 1
    return [
        term
        for power in range(degree + 1)
        for term in itertools.combinations_with_replacement(range(dimension), power)
    ]


def _polynomials(points: Array, terms: list[tuple[int, ...]]) -> Array:
    """(n, terms) values of the terms at (n, d) points."""
    return np.column_stack([np.prod(points[:, list(term)], axis=1) for term in terms])
