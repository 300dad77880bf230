"""Regressions by maximum likelihood: Weibull, Cox and conditional logit without member effects.

Each gives estimates, the contributions of rows (or strata) to the score, and the information;
errors of every kind follow from these by the sandwich of statsmodels. Why not lifelines for
Weibull: its model has neither a fixed predictor nor two-way clusters, and it would bring four more
packages; the likelihood with its derivatives is a page, and SciPy finds the maximum.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Largest standard error per sd of a regressor; where a likelihood has no maximum it is far above.
_LARGEST = 100.0
_NO_TIME = 1e-300  # stands for an entry at 0, which has a log so
_LOG_SD = np.pi / np.sqrt(6)  # sd of the log of a Weibull time of shape 1


@dataclass(frozen=True, eq=False)
class Maximum:
    """A likelihood at its maximum.

    Attributes
    ----------
    params : (k,) array
    scores : callable
        ``() -> (N, k)`` contributions of the units that the likelihood treats as independent, rows
        or strata; classical errors do without.
    inverse : (k, k) array
        Inverse of the observed information.
    first : int array or None
        (N,) first row of each unit, where units are not rows.
    result : object
        What the library returned.
    """

    params: Array
    scores: Callable[[], Array]
    inverse: Array
    result: Any
    first: Array | None = None


def sandwich(maximum: Maximum, errors: str, clusters: Array | None) -> Array:
    """Covariance of the estimates.

    Parameters
    ----------
    errors : str
        ``classical`` (inverse information), ``robust`` (Huber 1967, White 1982: scores of units)
        or ``cluster``: scores summed within clusters (Liang & Zeger 1986), times
        G/(G - 1) (N - 1)/(N - k); two ways are A + B - (A and B) of Cameron, Gelbach & Miller
        (2011), Journal of Business & Economic Statistics 29, equation 2.11.
    clusters : (N, 1) or (N, 2) int array or None
    """
    # Late: the extra `study` may be absent.
    from statsmodels.stats import sandwich_covariance as robust

    if errors == "classical":
        return maximum.inverse
    scores, bread = maximum.scores(), maximum.inverse
    if errors == "robust":
        return np.asarray(bread @ scores.T @ scores @ bread)
    assert clusters is not None
    parts = (scores, bread)
    if clusters.shape[1] == 1:
        return np.asarray(robust.cov_cluster(parts, clusters[:, 0]))
    return np.asarray(robust.cov_cluster_2groups(parts, clusters)[0])


def check_finite(inverse: Array, matrix: Array, names: Sequence[str]) -> None:
    """Raise ValueError where a coefficient runs away: the predictors separate the outcomes.

    Parameters
    ----------
    inverse : (k or more, k or more) array
        Inverse of the information.
    """
    k = matrix.shape[1]
    centre, spread = matrix.mean(axis=0), np.std(matrix, axis=0)
    scaled = np.sqrt(np.diag(inverse)[:k]) * spread
    # A constant is judged where the covariates are, however far from 0 that is.
    level = np.sqrt(centre @ inverse[:k, :k] @ centre)
    for values in (np.where(spread > 0, scaled, 0.0), np.where(spread > 0, 0.0, level)):
        values = np.nan_to_num(values, nan=np.inf)
        if values.max() > _LARGEST:
            raise ValueError(
                "the likelihood has no finite maximum: the estimate of "
                f"{names[int(np.argmax(values))]} goes to infinity, because the predictors "
                "separate the outcomes"
            )


def check_rank(matrix: Array, names: Sequence[str], what: str) -> None:
    """Raise ValueError if a combination of regressors is constant."""
    if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise ValueError(f"the {len(names)} regressors {', '.join(names)} are {what}")


# -- Weibull ---------------------------------------------------------------------------------


def weibull(
    time: Array, event: Array, matrix: Array, offset: Array, entry: Array | None = None
) -> Maximum:
    """Accelerated failure time S(t) = exp(-(t / exp(eta))^shape), right censoring.

    Of a row that enters late the likelihood is that given survival until then: its log is greater
    by (entry / exp(eta))^shape.

    Parameters
    ----------
    time, event : (N,) arrays
    matrix : (N, k) array
    offset : (N,) array
        Part of eta that is known.
    entry : (N,) array, optional
        When each row enters; default 0.

    Returns
    -------
    Maximum
        ``params`` (k + 1,): coefficients, and the log of the shape.

    Raises
    ------
    ValueError
        Without an event, or if the maximum is not found.
    """
    # Late: reading a study file needs no libraries of fits.
    from scipy.optimize import minimize

    _check_events(event)
    log_t = np.log(time)
    basis, triangle = np.linalg.qr(matrix)  # a scale on which all coefficients are alike
    basis, triangle = basis * np.sqrt(len(basis)), triangle / np.sqrt(len(basis))
    first = np.linalg.lstsq(basis, log_t - offset, rcond=None)[0]
    left = max(float(np.std(log_t - offset - basis @ first)), 1e-3)
    late = None if entry is None else np.log(np.maximum(entry, _NO_TIME))
    found = minimize(
        lambda p: -_weibull_values(p, log_t, event, basis, offset, late),
        np.append(first, np.log(_LOG_SD / left)),
        jac=lambda p: -_weibull_scores(p, log_t, event, basis, offset, late).sum(axis=0),
        hess=lambda p: -_weibull_hessian(p, log_t, event, basis, offset, late),
        method="trust-exact",
        options={"gtol": 1e-7 * len(basis), "maxiter": 500},
    )
    if not found.success:
        raise ValueError(f"the maximum of the likelihood was not found: {found.message}")
    params = np.append(np.linalg.solve(triangle, found.x[:-1]), found.x[-1])
    return Maximum(
        params,
        lambda: _weibull_scores(params, log_t, event, matrix, offset, late),
        _inverse(-_weibull_hessian(params, log_t, event, matrix, offset, late)),
        found,
    )


def _weibull_parts(
    p: Array, log_t: Array, matrix: Array, offset: Array
) -> tuple[float, Array, Array]:
    """Shape, log z and z = (t / exp(eta))^shape, the cumulative hazard."""
    shape = float(np.exp(np.clip(p[-1], -50, 50)))
    log_z = shape * (log_t - offset - matrix @ p[:-1])
    return shape, log_z, np.exp(np.clip(log_z, -700, 300))


def _weibull_values(
    p: Array, log_t: Array, event: Array, matrix: Array, offset: Array, late: Array | None
) -> float:
    _, log_z, z = _weibull_parts(p, log_t, matrix, offset)
    total = float(np.sum(event * (p[-1] + log_z - log_t) - z))
    if late is not None:
        total += float(np.sum(_weibull_parts(p, late, matrix, offset)[2]))
    return total


def _weibull_scores(
    p: Array, log_t: Array, event: Array, matrix: Array, offset: Array, late: Array | None
) -> Array:
    """(N, k + 1) derivatives by the coefficients and log shape."""
    shape, log_z, z = _weibull_parts(p, log_t, matrix, offset)
    by_shape = event * (1 + log_z) - z * log_z
    scores = np.column_stack([matrix * (shape * (z - event))[:, None], by_shape])
    if late is not None:  # minus those of a row that is censored when it enters
        scores -= _weibull_scores(p, late, np.zeros_like(event), matrix, offset, None)
    return scores


def _weibull_hessian(
    p: Array, log_t: Array, event: Array, matrix: Array, offset: Array, late: Array | None
) -> Array:
    shape, log_z, z = _weibull_parts(p, log_t, matrix, offset)
    out = np.empty((len(p), len(p)))
    out[:-1, :-1] = -(matrix.T * (shape**2 * z)) @ matrix
    out[:-1, -1] = out[-1, :-1] = matrix.T @ (shape * (z - event + z * log_z))
    out[-1, -1] = np.sum(event * log_z - z * log_z * (1 + log_z))
    if late is not None:
        out -= _weibull_hessian(p, late, np.zeros_like(event), matrix, offset, None)
    return out


def _inverse(information: Array) -> Array:
    try:
        np.linalg.cholesky(information)
    except np.linalg.LinAlgError as error:
        raise ValueError("the likelihood has no maximum: its information is singular") from error
    return np.linalg.inv(information)


def _check_events(event: Array) -> None:
    if not event.any():
        raise ValueError(f"there is no event: all {len(event)} durations are censored")


# -- Cox -------------------------------------------------------------------------------------


def cox(
    time: Array,
    event: Array,
    matrix: Array,
    offset: Array,
    names: Sequence[str],
    entry: Array | None = None,
    strata: Array | None = None,
) -> Maximum:
    """Proportional hazards by the partial likelihood, ties as Breslow's.

    Rows that enter late (`entry`, (N,)) are at risk from then on. With `strata` (N,) the product
    of the partial likelihoods of the strata, in which means cancel.
    """
    # Late: the extra `study` may be absent.
    from statsmodels.duration.hazard_regression import PHReg

    _check_events(event)
    everyone = np.zeros(len(time), dtype=int) if strata is None else strata
    check_rank(matrix - _means(matrix, everyone), names, "collinear, or constant")
    # statsmodels counts rows that enter at the very time of an event; they are not yet at risk.
    after = None if entry is None else np.nextafter(entry, np.inf)
    model = PHReg(
        time, matrix, status=event, ties="breslow", offset=offset, entry=after, strata=strata
    )
    result = _without_warnings(model.fit)
    params = np.asarray(result.params)
    risk = np.exp(offset + matrix @ params)
    start = np.full(len(time), -np.inf) if entry is None else entry

    def scores() -> Array:
        found = np.zeros_like(matrix)
        for stratum in np.unique(everyone[event == 1]):  # the others say nothing
            rows = everyone == stratum
            parts = (a[rows] for a in (time, event, start, matrix, risk))
            found[rows] = _score_residuals(*parts)
        return found

    return Maximum(params, scores, _inverse(-model.hessian(params)), result)


def _score_residuals(time: Array, event: Array, entry: Array, matrix: Array, risk: Array) -> Array:
    """(N, k) derivatives of the partial likelihood, each row's part in all risk sets counted.

    Lin & Wei (1989), Journal of the American Statistical Association 84, 1074-1078, equation 2.8,
    a row being at risk in (entry, time]. statsmodels has them without late entries alone: its means
    over risk sets count rows that have not entered.
    """
    at, number = np.unique(time[event == 1], return_counts=True)

    def at_risk(values: Array) -> Array:
        """Sums of values over the rows at risk, at each time of an event."""
        total = np.zeros((len(at), values.shape[1]))
        for moment, sign in ((time, 1), (entry, -1)):
            order = np.argsort(-moment)
            sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(values[order], axis=0)])
            total += sign * sums[np.searchsorted(-moment[order], -at, side="right")]
        return total

    size = at_risk(risk[:, None])
    mean = at_risk(risk[:, None] * matrix) / size
    hazard = number[:, None] / size
    before = np.zeros((1, 1 + matrix.shape[1]))
    sums = np.vstack([before, np.cumsum(np.hstack([hazard, hazard * mean]), axis=0)])
    last, first = (sums[np.searchsorted(at, moment, side="right")] for moment in (time, entry))
    during = last - first
    own = np.where(
        event[:, None] == 1, matrix - mean[np.searchsorted(at, time).clip(max=len(at) - 1)], 0.0
    )
    return np.asarray(own - risk[:, None] * (matrix * during[:, :1] - during[:, 1:]))


# -- conditional logit -----------------------------------------------------------------------


def conditional_logit(
    chosen: Array, matrix: Array, offset: Array, strata: Array, names: Sequence[str]
) -> Maximum:
    """P(chosen rows | how many of a stratum are chosen); the units of the scores are strata.

    With one chosen row this is McFadden's conditional logit; with several (a chosen group's rows
    in disaggregated data) it is the exact conditional likelihood.
    """
    # Late: the extra `study` may be absent.
    from statsmodels.discrete.conditional_models import ConditionalLogit

    within = matrix - _means(matrix, strata)
    check_rank(within, names, "collinear, or constant, within strata")
    model = ConditionalLogit(chosen, within, groups=strata, offset=offset - _means(offset, strata))
    result = _without_warnings(model.fit, method="newton")
    params = np.asarray(result.params)
    # statsmodels keeps strata in the order in which they appear.
    first = np.sort(np.unique(strata, return_index=True)[1])

    def scores() -> Array:
        return np.array([model.score_grp(g, params) for g in range(len(first))])

    return Maximum(params, scores, _inverse(-model.hessian(params)), result, first)


def _means(values: Array, strata: Array) -> Array:
    """Means of strata, one per row: a shift that the likelihood does not see, against overflow."""
    _, code, size = np.unique(strata, return_inverse=True, return_counts=True)
    columns = values.reshape(len(values), -1).T
    means = np.stack([np.bincount(code, c) / size for c in columns])
    return means[:, code].T.reshape(values.shape)


def _without_warnings(fit: Any, **keywords: Any) -> Any:
    """Run `fit`; what statsmodels says about convergence is an error."""
    # Late: the extra `study` may be absent.
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        warnings.simplefilter("error", HessianInversionWarning)
        try:
            return fit(disp=False, **keywords)
        except (ConvergenceWarning, HessianInversionWarning) as found:
            raise ValueError(
                "Newton's method found no maximum of the likelihood; the predictors may separate "
                "the outcomes"
            ) from found
        except np.linalg.LinAlgError as found:
            raise ValueError(
                "the likelihood has no maximum: its information is singular"
            ) from found
