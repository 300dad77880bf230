"""A measure as a smooth function of two numeric factors, with its Monte Carlo error.

A polynomial is fitted to the measures of the scenarios by weighted least squares, with weights 1/v
for Monte Carlo error variances v, as they are known (Kleijnen 2015, Design and Analysis of
Simulation Experiments, chapters 2 and 3). It is quadratic, or cubic if a test of lack of fit
rejects that; see `fit_surface`. Its Monte Carlo errors are those of a polynomial: they do not hold
how far the truth is from one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from rmm.errors import StudyError, counted

Array = np.ndarray[Any, Any]
DEGREES = (1, 2, 3)
#: Degrees that are tried in turn, where there are scenarios enough for them.
_TRIED = (2, 3)
#: A degree is enough if the p value of its lack of fit is at least this.
ENOUGH = 0.05


@dataclass(frozen=True, eq=False)
class ResponseSurface:
    """A polynomial in two factors.

    Attributes
    ----------
    degree : int
    coefficients, covariance : (p,) and (p, p) arrays
        Of the terms ``x^i y^j``, i + j <= degree, in coordinates of -1 to 1; on the logit scale if
        `rate`. The covariance has the factor `inflation`.
    bounds : tuple
        Smallest and largest x, and y, of the scenarios.
    log : (bool, bool)
        Whether the logarithm of a factor is used.
    rate : bool
        Whether the measure is a rate.
    lack_of_fit : float
        p value of the test that differences from the surface are Monte Carlo errors; nan if the
        scenarios are only as many as the terms.
    inflation : float
        Factor of the covariance: chi-square / df of the lack of fit if that is significant, as
        the surface then misses real differences; else 1.
    scenarios : int
    """

    degree: int
    coefficients: Array
    covariance: Array
    bounds: tuple[tuple[float, float], tuple[float, float]]
    log: tuple[bool, bool]
    rate: bool
    lack_of_fit: float
    inflation: float
    scenarios: int

    def at(self, x: Any, y: Any) -> tuple[Array, Array]:
        """Value and Monte Carlo standard error at some points.

        Parameters
        ----------
        x, y : float or arrays of the same shape
            Values of the factors.

        Returns
        -------
        value, mcse : arrays of this shape
            In units of the measure.
        """
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        terms = _terms(x.ravel(), y.ravel(), self.bounds, self.log, self.degree)
        value = terms @ self.coefficients
        error = np.sqrt(np.einsum("ij,jk,ik->i", terms, self.covariance, terms))
        if self.rate:
            value = special.expit(value)
            error = error * value * (1 - value)  # delta method
        return value.reshape(x.shape), error.reshape(x.shape)


def fit_surface(
    x: Array,
    y: Array,
    values: Array,
    errors: Array,
    *,
    n: Array | None = None,
    log: tuple[bool, bool] = (False, False),
) -> ResponseSurface:
    """Fit a surface to a measure.

    Parameters
    ----------
    x, y : (N,) arrays
        Levels of the factors in each scenario.
    values, errors : (N,) arrays
        The measure and its Monte Carlo standard errors.
    n : (N,) array, optional
        Of rates: usable fits. They are fitted on the scale of empirical logits,
        log((k + 1/2) / (n - k + 1/2)) for k hits, with variances 1/(k + 1/2) + 1/(n - k + 1/2)
        (Cox 1970, Analysis of Binary Data), which exist at rates of 0 and 1.
    log : (bool, bool)
        Whether to take the logarithm of x, and of y.

    Returns
    -------
    ResponseSurface
        Quadratic; cubic if the lack of fit of the quadratic one has a p value below .05 and there
        are scenarios enough; a plane if there are too few for a quadratic one. If the lack of fit
        of the last one is significant, too, standard errors are multiplied by
        sqrt(chi-square / df), as the surface misses real differences.

    Raises
    ------
    StudyError
        For fewer than 4 scenarios, a factor with fewer than 3 levels, or logarithms of numbers
        that are not above 0.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    value, variance = np.asarray(values, dtype=float), np.asarray(errors, dtype=float) ** 2
    if n is not None:
        hits = value * n
        value = np.log((hits + 0.5) / (n - hits + 0.5))
        variance = 1 / (hits + 0.5) + 1 / (n - hits + 0.5)
    known = np.isfinite(value) & np.isfinite(variance) & (variance > 0)
    x, y, value, variance = (one[known] for one in (x, y, value, variance))
    _check(x, y, log)
    bounds = ((float(x.min()), float(x.max())), (float(y.min()), float(y.max())))
    models = {degree: _terms(x, y, bounds, log, degree) for degree in DEGREES}
    possible = [d for d in _TRIED if len(x) > models[d].shape[1] and _estimable(models[d])]
    for degree in possible or DEGREES[:1]:
        coefficients, covariance, p, inflation = _fitted(models[degree], value, variance)
        if p >= ENOUGH:
            break
    return ResponseSurface(
        degree,
        coefficients,
        covariance,
        bounds,
        log,
        n is not None,
        p,
        inflation,
        len(x),
    )


def _check(x: Array, y: Array, log: tuple[bool, bool]) -> None:
    if len(x) < 4:
        raise StudyError(
            f"Only {counted(len(x), 'scenario')} with a value and its Monte Carlo error; a surface "
            "needs at least 4."
        )
    for name, levels, logs in (("first", x, log[0]), ("second", y, log[1])):
        if len(np.unique(levels)) < 3:
            raise StudyError(
                f"The {name} factor has {counted(len(np.unique(levels)), 'level')}; a surface "
                "needs at least 3 levels of both factors."
            )
        if logs and levels.min() <= 0:
            raise StudyError(f"The {name} factor has levels that are not above 0: no logarithms.")


def _terms(
    x: Array,
    y: Array,
    bounds: tuple[tuple[float, float], tuple[float, float]],
    log: tuple[bool, bool],
    degree: int,
) -> Array:
    """(N, p) terms x^i y^j in coordinates of -1 to 1, by their degree."""
    a, b = (_scaled(v, *ends, logs) for v, ends, logs in zip((x, y), bounds, log, strict=True))
    powers = [(i - j, j) for i in range(degree + 1) for j in range(i + 1)]
    return np.column_stack([a**i * b**j for i, j in powers])


def _scaled(values: Array, low: float, high: float, log: bool) -> Array:
    if log:
        values, low, high = np.log(values), math.log(low), math.log(high)
    found: Array = 2 * (values - low) / (high - low) - 1
    return found


def _estimable(terms: Array) -> bool:
    return int(np.linalg.matrix_rank(terms)) == terms.shape[1]


def _fitted(terms: Array, value: Array, variance: Array) -> tuple[Array, Array, float, float]:
    """Coefficients, their covariance, p value of the lack of fit, and inflation."""
    weighted = terms / np.sqrt(variance)[:, None]
    inverse = np.linalg.pinv(weighted.T @ weighted)
    coefficients = inverse @ (weighted.T @ (value / np.sqrt(variance)))
    chi_square = float((((value - terms @ coefficients) ** 2) / variance).sum())
    df = len(value) - terms.shape[1]
    if df < 1:
        return coefficients, inverse, math.nan, 1.0
    p = float(special.chdtrc(df, chi_square))
    inflation = max(1.0, chi_square / df) if p < ENOUGH else 1.0
    return coefficients, inverse * inflation, p, inflation
