"""Restricted maximum likelihood (REML) of the linear mixed model with crossed random effects.

The model is that of lme4's `lmer`, with any matrices of random effects: known weights of members
make it the multiple-membership model. Bates, Mächler, Bolker & Walker (2015), Journal of
Statistical Software 67(1), section 3.4. No library of Python has it at this speed: `MixedLM` of
statsmodels takes such matrices, but works with dense matrices of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: More random effects than this are factored as a sparse matrix.
_DENSE = 300
#: Values of theta / (1 + theta) at which the search may start, the same for all components.
_STARTS = (0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.95)
_LARGEST = 1 - 1e-4
#: A larger slope of the criterion at the end, per unit of theta / (1 + theta), is no optimum.
_SLOPE = 1e-2


@dataclass(frozen=True, eq=False)
class Restricted:
    """A model at the maximum of its restricted likelihood.

    Attributes
    ----------
    b : (p,) array
        Coefficients, by generalised least squares.
    covariance : (p, p) array
        Of the coefficients, as if the standard deviations were known (that of lme4).
    sigmas : (k,) array
        Standard deviations of the components of random effects.
    residual : float
        Standard deviation of the residuals.
    effects : sequence of (q,) arrays
        Best linear unbiased predictors of each component.
    criterion : float
        Minus twice the log of the restricted likelihood.
    """

    b: Array
    covariance: Array
    sigmas: Array
    residual: float
    effects: Sequence[Array]
    criterion: float


@dataclass(frozen=True, eq=False)
class _Solved:
    """The criterion at given ratios of standard deviations, and what it rests on."""

    criterion: float
    rss: float
    b: Array
    inverse: Array
    effects: Array


def restricted_maximum(y: Array, X: Array, matrices: Sequence[Any]) -> Restricted:
    """Fit y = X b + sum_j Z_j u_j + e, with u_j ~ N(0, sigma_j^2 I) and e ~ N(0, sigma^2 I).

    Parameters
    ----------
    y : (n,) array
    X : (n, p) array
        Of full rank.
    matrices : sequence of (n, q_j) sparse arrays
        One for each component of random effects.

    Returns
    -------
    Restricted

    Raises
    ------
    ValueError
        If there are no residual degrees of freedom, or no maximum is found.
    """
    n, p = X.shape
    if n <= p:
        raise ValueError(f"there are {n} groups for {p} coefficients, so no residual variance")
    # Of small outcomes, sums of squares lose no digits.
    first = np.linalg.lstsq(X, y, rcond=None)[0]
    solve = _criterion(y - X @ first, X, matrices)
    theta = _best_ratios(lambda ratios: solve(ratios).criterion, len(matrices))
    found = solve(theta)
    sigma = float(np.sqrt(found.rss / (n - p)))
    sizes = np.cumsum([Z.shape[1] for Z in matrices])[:-1]
    constant = (n - p) * (1 + np.log(2 * np.pi / (n - p)))
    return Restricted(
        b=first + found.b,
        covariance=sigma**2 * found.inverse,
        sigmas=sigma * theta,
        residual=sigma,
        effects=np.split(found.effects, sizes),
        criterion=found.criterion + constant,
    )


def _criterion(y: Array, X: Array, matrices: Sequence[Any]) -> Callable[[Array], _Solved]:
    """The profiled criterion as a function of theta_j = sigma_j / sigma.

    With Z = [Z_1 theta_1, ...] and A = Z'Z + I it is log|A| + log|X'V^-1 X| + (n - p) log(rss),
    V^-1 = I - Z A^-1 Z'; the only matrix that is factored has a row per random effect.
    """
    # Late: reading a study file needs no libraries of fits.
    from scipy import sparse

    Xy = np.column_stack([X, y])
    parts = [sparse.csc_array((len(y), 0)), *map(sparse.csc_array, matrices)]
    Z = sparse.hstack(parts, format="csc")
    ZZ, ZXy, crossed = (Z.T @ Z).tocsc(), Z.T @ Xy, Xy.T @ Xy
    sizes = [one.shape[1] for one in matrices]
    df = len(y) - X.shape[1]
    factor = _factors(ZZ)

    def solve(theta: Array) -> _Solved:
        scale = np.repeat(theta, sizes)
        log_A, A_solve = factor(scale)
        right = scale[:, None] * ZXy
        half = A_solve(right)
        inner = crossed - right.T @ half
        root = np.linalg.cholesky(inner[:-1, :-1])
        inverse = np.linalg.inv(inner[:-1, :-1])
        b = inverse @ inner[:-1, -1]
        rss = float(inner[-1, -1] - inner[:-1, -1] @ b)
        logs = log_A + 2 * np.log(np.diag(root)).sum() + df * np.log(rss)
        return _Solved(float(logs), rss, b, inverse, scale * (half[:, -1] - half[:, :-1] @ b))

    return solve


#: (q,) scale -> log |A| and x -> A^-1 x, where A = diag(scale) Z'Z diag(scale) + I.
type _Factor = Callable[[Array], tuple[float, Callable[[Array], Array]]]


def _factors(ZZ: Any) -> _Factor:
    """How A is factored: as a dense matrix, or as a sparse one if it is large."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import linalg, sparse
    from scipy.sparse.linalg import splu

    q = ZZ.shape[0]
    whole = ZZ.toarray() if q <= _DENSE else None

    def dense(scale: Array) -> tuple[float, Callable[[Array], Array]]:
        root = linalg.cho_factor(scale[:, None] * whole * scale + np.eye(q), lower=True)
        return 2 * float(np.log(np.diag(root[0])).sum()), lambda x: linalg.cho_solve(root, x)

    def thin(scale: Array) -> tuple[float, Callable[[Array], Array]]:
        diagonal = sparse.diags_array(scale)
        A = (diagonal @ ZZ @ diagonal + sparse.eye_array(q)).tocsc()
        # Symmetric and positive definite: pivots stay on the diagonal.
        parts = splu(
            A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        return float(np.log(parts.U.diagonal()).sum()), parts.solve

    return dense if whole is not None else thin


def _best_ratios(criterion: Callable[[Array], float], count: int) -> Array:
    """Ratios theta of standard deviations at the minimum, searched as theta / (1 + theta)."""
    # Late: reading a study file needs no libraries of fits.
    from scipy.optimize import minimize

    if count == 0:
        return np.zeros(0)

    def at(share: Array) -> float:
        return criterion(share / (1 - share))

    start = min(_STARTS, key=lambda value: at(np.full(count, value)))
    found = minimize(
        at,
        np.full(count, start),
        jac="3-point",
        bounds=[(0.0, _LARGEST)] * count,
        method="L-BFGS-B",
        options={"ftol": 1e-13, "gtol": 1e-5, "maxiter": 500},
    )
    share, slope = found.x, np.asarray(found.jac)
    free = np.where((share <= 0) & (slope > 0), 0.0, slope)
    if not found.success and np.abs(free).max() > _SLOPE:
        raise ValueError(f"the maximum of the restricted likelihood was not found: {found.message}")
    if (share >= _LARGEST).any():
        raise ValueError("the residual variance is 0: random effects fit the outcome exactly")
    return np.asarray(share / (1 - share))
