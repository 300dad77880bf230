"""Wild cluster bootstrap of least squares, with the null hypothesis imposed.

Cameron, Gelbach & Miller (2008), Review of Economics and Statistics 90, 414-427; Roodman, Nielsen,
MacKinnon & Webb (2019), Stata Journal 19, 4-60, whose formulas make it fast. The package
`wildboottest` has no intervals and needs numba; statsmodels has no such bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Up to so many clusters Webb's six weights are used: Rademacher's two give few distinct draws.
_FEW = 11
_WEBB = np.sqrt([0.5, 1.0, 1.5])
_DOUBLINGS = 40


@dataclass(frozen=True, eq=False)
class Bootstrapped:
    """Test and intervals of one coefficient.

    Attributes
    ----------
    p_value : float
        Share of bootstrap samples whose |t| is larger than that of the data.
    bounds : sequence of (lower, upper)
        Of each level: the values that a test at 1 - level does not reject; infinite where no
        value is.
    """

    p_value: float
    bounds: Sequence[tuple[float, float]]


def cluster_weights(clusters: int, draws: int, rng: np.random.Generator) -> Array:
    """(draws, clusters) weights of mean 0 and variance 1: Rademacher's, or Webb's for few."""
    signs = rng.choice([-1.0, 1.0], (draws, clusters))
    return signs if clusters > _FEW else signs * rng.choice(_WEBB, (draws, clusters))


def wild_bootstrap(
    y: Array,
    X: Array,
    codes: Array,
    nulls: Array,
    levels: Sequence[float],
    draws: int,
    rng: np.random.Generator,
) -> list[Bootstrapped]:
    """Bootstrap tests of y = X b + e with clusters; all coefficients have the same weights.

    Parameters
    ----------
    y : (N,) array
    X : (N, k) array
    codes : (N,) int array
        Cluster of each row, from 0.
    nulls : (k,) array
        The value that is tested for each coefficient.
    levels : sequence of float
        Of the intervals.
    draws : int
        Bootstrap samples; (1 - level) (draws + 1) should be a whole number.
    rng : numpy.random.Generator

    Returns
    -------
    list of Bootstrapped
        One for each coefficient.
    """
    weights = cluster_weights(int(codes.max()) + 1, draws, rng)
    inverse = np.linalg.inv(X.T @ X)
    b = inverse @ (X.T @ y)
    residual = y - X @ b
    return [
        _Test.of(X, codes, inverse, residual, k, weights).result(b[k], nulls[k], levels)
        for k in range(len(b))
    ]


@dataclass(frozen=True, eq=False)
class _Test:
    """One coefficient's t statistics as functions of d = estimate - null value.

    The residuals under the null hypothesis are e + c d, so numerators of the bootstrap are linear
    in d, and their variances are quadratic.

    Attributes
    ----------
    variance : float
        Of the estimate, cluster-robust without a factor, which cancels.
    top : (2, B) array
    below : (3, B) array
    """

    variance: float
    top: Array
    below: Array

    @staticmethod
    def of(
        X: Array, codes: Array, inverse: Array, residual: Array, k: int, weights: Array
    ) -> _Test:
        a = X @ inverse[:, k]
        imposed = a / inverse[k, k]

        def summed(values: Array) -> Array:
            """(clusters, k) sums of X times values."""
            return np.stack([np.bincount(codes, x * values) for x in X.T], axis=1)

        tops, scores = [], []
        lever = summed(a) @ inverse
        for part in (residual, imposed):
            within = summed(part)
            own = within @ inverse[:, k]
            tops.append(weights @ own)
            scores.append(weights * own - (weights @ within) @ lever.T)
        first, second = scores
        below = [(first**2).sum(1), 2 * (first * second).sum(1), (second**2).sum(1)]
        variance = float((np.bincount(codes, a * residual) ** 2).sum())
        return _Test(variance, np.array(tops), np.array(below))

    def p_value(self, d: float) -> float:
        """Of the null value that is the estimate less d."""
        top = self.top[0] + d * self.top[1]
        below = self.below[0] + d * self.below[1] + d**2 * self.below[2]
        # Not as quotients: with very few clusters a variance may be 0.
        return float(np.mean(top**2 * self.variance > d**2 * below))

    def result(self, b: float, null: float, levels: Sequence[float]) -> Bootstrapped:
        """Its test, and the values that are not rejected."""
        bounds = [
            (float(b - self._end(1 - level, 1.0)), float(b - self._end(1 - level, -1.0)))
            for level in levels
        ]
        return Bootstrapped(self.p_value(b - null), bounds)

    def _end(self, alpha: float, side: float) -> float:
        """Largest distance d (of a sign) whose null value is not rejected, by bisection."""
        inside, outside = 0.0, side * np.sqrt(self.variance)
        for _ in range(_DOUBLINGS):
            if self.p_value(outside) < alpha:
                break
            inside, outside = outside, 2 * outside
        else:
            return side * np.inf
        for _ in range(50):
            middle = (inside + outside) / 2
            if self.p_value(middle) < alpha:
                outside = middle
            else:
                inside = middle
        return float(inside)
