"""The density of draws at one point, with its Monte Carlo error.

The log density is quadratic plus natural cubic splines: a normal distribution with corrections of
its shape, which are linear beyond the outer knots. Where draws are few the tails are those of a
normal distribution, not those of a kernel. The coefficients are estimated by maximum likelihood:
exponential families for density estimation, Efron and Tibshirani (1996), Annals of Statistics 24,
2431-2461; log splines, Stone, Hansen, Kooperberg and Truong (1997), Annals of Statistics 25,
1371-1470. Log densities with 0 to 3 splines are averaged with Akaike weights, and the error has
the differences between them: Burnham and Anderson (2002), "Model selection and multimodel
inference", equations 2.9 and 4.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rmm.errors import BackendError
from rmm.tables.read import Array

#: Numbers of knots, evenly from one quantile to another; none is a normal distribution, n knots are
#: n - 2 splines.
_KNOTS, _ENDS = (0, 4, 5, 7), (0.01, 0.99)
_GRID, _BEYOND = 2001, 4.0  # points of the integral, and sds that it reaches beyond draws and point
_STEPS, _ENOUGH = 200, 1e-10
_CLOSE = 0.2  # sds from a limit of the support within which there are draws next to it
_LEAST = 50  # effective draws


@dataclass(frozen=True)
class PointDensity:
    """The density at a point.

    Attributes
    ----------
    log : float
        Log density.
    error : float
        Its Monte Carlo standard error.
    beyond : bool
        Whether no draws are on the other side of the point, so that the density is extrapolated.
    """

    log: float
    error: float
    beyond: bool


def density_at(
    draws: Array, point: float, size: float, support: tuple[float, float] = (-np.inf, np.inf)
) -> PointDensity:
    """The density of draws at a point.

    Parameters
    ----------
    draws : (S,) array
    point : float
        In the support.
    size : float
        Effective number of draws.
    support : tuple of float
        The least and the greatest value that is possible.

    Returns
    -------
    PointDensity

    Raises
    ------
    BackendError
        With fewer than 50 effective draws, or if draws do not vary.
    """
    mean, sd = float(np.mean(draws)), float(np.std(draws))
    if size < _LEAST or not sd > 0:
        raise BackendError(
            f"A density at a point needs at least {_LEAST} effective draws, but there are "
            f"{size:.0f}. Fit with more `draws`."
        )
    z, at = (draws - mean) / sd, (point - mean) / sd
    low, high = ((end - mean) / sd for end in support)
    grid = np.linspace(
        max(low, min(float(z.min()), at) - _BEYOND),
        min(high, max(float(z.max()), at) + _BEYOND),
        _GRID,
    )
    found = [_fitted(z, grid, _basis(z, knots)) for knots in _KNOTS]
    usable = [f for f in found if f is not None]
    if not usable:
        raise BackendError(
            "The density of these draws at a point could not be estimated. Look at them: "
            "fit.plot()."
        )
    aic = np.array([f.aic(size) for f in usable])
    weight = np.exp(-(aic - aic.min()) / 2)
    weight /= weight.sum()
    logs, errors = np.array([f.at(at, size) for f in usable]).T
    log = float(weight @ logs)
    error = float(weight @ np.hypot(errors, logs - log))
    return PointDensity(log - float(np.log(sd)), error, _is_beyond(z, at, low, high))


def _is_beyond(z: Array, at: float, low: float, high: float) -> bool:
    """At a limit of the support there is no other side: draws must be close."""
    if at <= low:
        return bool(z.min() > at + _CLOSE)
    if at >= high:
        return bool(z.max() < at - _CLOSE)
    return not z.min() <= at <= z.max()


def _basis(z: Array, count: int) -> Callable[[Array], Array]:
    """z, z^2 and natural cubic splines of (n,) points, as (n, K) array."""
    first, last = np.quantile(z, _ENDS)
    knots = np.linspace(first, last, count)

    def columns(x: Array) -> Array:
        out = [x, x**2]
        if len(knots):
            cubes = [np.maximum(x - k, 0.0) ** 3 for k in knots]
            slopes = [
                (c - cubes[-1]) / (last - k) for c, k in zip(cubes[:-1], knots[:-1], strict=True)
            ]
            out += [s - slopes[-1] for s in slopes[:-1]]
        return np.column_stack(out)

    return columns


@dataclass(frozen=True)
class _Fitted:
    """An exponential family on a grid.

    `fit` is the mean log likelihood of a draw, `information` the covariance of the features.
    """

    basis: Callable[[Array], Array]
    theta: Array
    constant: float
    mean: Array
    information: Array
    fit: float

    def aic(self, size: float) -> float:
        """With the effective number of draws."""
        return 2 * len(self.theta) - 2 * size * self.fit

    def at(self, point: float, size: float) -> tuple[float, float]:
        """Log density and its error by the delta method."""
        features = self.basis(np.array([point]))[0]
        away = features - self.mean
        variance = away @ np.linalg.solve(self.information, away) / size
        return float(features @ self.theta - self.constant), float(np.sqrt(variance))


def _fitted(z: Array, grid: Array, basis: Callable[[Array], Array]) -> _Fitted | None:
    """Maximum likelihood by Newton's method; None where it does not converge."""
    features, wanted = basis(grid), basis(z).mean(axis=0)
    weight = np.full(len(grid), grid[1] - grid[0])
    weight[[0, -1]] /= 2
    theta = np.zeros(features.shape[1])
    theta[1] = -0.5

    def moments(theta: Array) -> tuple[float, Array, Array]:
        logs = features @ theta
        top = logs.max()
        p = weight * np.exp(logs - top)
        total = p.sum()
        p /= total
        mean = p @ features
        centred = features - mean
        return float(top + np.log(total)), mean, (centred * p[:, None]).T @ centred

    constant, mean, information = moments(theta)
    value = theta @ wanted - constant
    for _ in range(_STEPS):
        try:
            step = np.linalg.solve(information, wanted - mean)
        except np.linalg.LinAlgError:
            return None
        gain = float(step @ (wanted - mean))
        if not np.isfinite(gain):
            return None
        if gain < _ENOUGH:
            return _Fitted(basis, theta, constant, mean, information, float(value))
        length = 1.0
        while length > 1e-8:  # the log likelihood is concave: a short enough step goes up
            tried = theta + length * step
            constant, mean, information = moments(tried)
            new = tried @ wanted - constant
            if new > value:
                break
            length /= 2
        theta, value = tried, new
    return None
