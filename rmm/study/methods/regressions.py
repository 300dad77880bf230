"""Regressions without member effects, by statsmodels and SciPy: what is done in practice.

`REGRESSIONS` has a row for each: least squares, logistic, Weibull and Cox regression, conditional
logit. A new one is a function and a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmm.formula.terms import Formula
from rmm.simulation import Drawn
from rmm.study.methods.frequentist import maximum_likelihood
from rmm.study.methods.frequentist.maximum_likelihood import Maximum
from rmm.study.methods.frequentist.shared_member_errors import SharedMembers
from rmm.study.methods.layouts import Flat, parameter_of

Array = np.ndarray[Any, Any]
UNITS = ("group", "member", "nesting")
#: Kinds of standard errors.
ERRORS = ("classical", "robust", "cluster", "shared_members", "bootstrap")
#: Those with clusters.
CLUSTERED = ("cluster", "bootstrap")


@dataclass(frozen=True, eq=False)
class Problem:
    """What a regression gets.

    Attributes
    ----------
    outcome : (N,) or (N, 2) array
        Values; successes and failures; or times and events.
    matrix : (N, k) array
    names : sequence of str
        Of its columns.
    offset : (N,) array
    strata : (N,) int array or None
        Choice sets.
    errors : str
        One of `ERRORS`.
    clusters : (N, 1) or (N, 2) int array or None
    shared : SharedMembers or None
        Which rows depend on each other, for ``shared_members``.
    correlation : str
        Working correlation of `gee` within clusters.
    family : str
        Of the truth.
    """

    outcome: Array
    matrix: Array
    names: Sequence[str]
    offset: Array
    strata: Array | None
    errors: str
    clusters: Array | None
    shared: SharedMembers | None = None
    correlation: str = "exchangeable"
    family: str = "gaussian"


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates, their standard errors, residual degrees of freedom, and the library's result."""

    mean: Array
    sd: Array
    df: float
    result: Any


@dataclass(frozen=True)
class Regression:
    """One row of `REGRESSIONS`.

    Attributes
    ----------
    fit : callable
        ``problem -> estimates``: of the regressors, then of `positive`.
    outcomes : tuple of str
        Kinds of outcomes that it takes (`rmm.formula.terms.Outcome`).
    families : tuple of str
        Families of the truth that it can be fitted to; empty: all that have such an outcome.
    scale : tuple of str
        Families whose parameters it estimates on their own scale, where these are not `families`.
    student : bool
        Tests and intervals by Student's t (with clusters: their smallest number less one degrees
        of freedom), or by the normal distribution.
    positive : tuple of str
        Parameters besides the coefficients, estimated on the log scale.
    clusters : tuple of str
        Units by which errors can be clustered.
    errors : tuple of str
        Kinds of standard errors that it has.
    intercept : bool
        Whether the model has one.
    """

    fit: Callable[[Problem], Estimates]
    outcomes: tuple[str, ...]
    families: tuple[str, ...]
    student: bool
    positive: tuple[str, ...] = ()
    clusters: tuple[str, ...] = UNITS
    intercept: bool = True
    scale: tuple[str, ...] = ()
    errors: tuple[str, ...] = ("classical", "robust", "cluster", "shared_members")

    def estimates(self, family: str) -> bool:
        """Whether its estimates are on the scale of a family's parameters."""
        return family in (self.scale or self.families)


_LEAST_ALPHA = 1e-6  # 1 / shape, below which there is no overdispersion to estimate

# statsmodels knows HC3 for least squares; for GLM it would silently give HC0.
_HC3: dict[str, Any] = {"cov_type": "HC3", "use_t": True}
_HC0: dict[str, Any] = {"cov_type": "HC0"}


def _least_squares(problem: Problem) -> Estimates:
    # Late: the extra `study` may be absent.
    from statsmodels.regression.linear_model import OLS

    keywords = _keywords(problem, _HC3, {"use_t": True})
    result = OLS(problem.outcome - problem.offset, problem.matrix).fit(**keywords)
    return _of_statsmodels(result, problem, lambda: problem.matrix * result.resid[:, None])


def _least_squares_of_logs(problem: Problem) -> Estimates:
    return _least_squares(replace(problem, outcome=np.log(problem.outcome)))


def _generalised(problem: Problem) -> Estimates:
    """Regressions of a binomial outcome (three links), Poisson and gamma, by maximum likelihood.

    Complete separation, where there is no maximum, is a failed fit.
    """
    # Late: the extra `study` may be absent.
    from statsmodels.genmod.families import Binomial, Gamma, Poisson
    from statsmodels.genmod.families.links import CLogLog, Log, Probit
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    keywords = _keywords(problem, _HC0, {})
    families = {
        "poisson": Poisson(),
        "gamma": Gamma(Log()),
        "probit": Binomial(Probit()),
        "cloglog": Binomial(CLogLog()),
    }
    family = families.get(problem.family, Binomial())
    model = GLM(problem.outcome, problem.matrix, family=family, offset=problem.offset)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PerfectSeparationWarning)
        try:
            result = model.fit(**keywords)
        except PerfectSeparationWarning as found:
            raise ValueError("the predictors separate the outcome completely") from found
    if not result.converged:
        raise ValueError("iteratively reweighted least squares has not converged")
    # Where some of the outcomes are separated, the iterations stop on the way to infinity.
    maximum_likelihood.check_finite(result.normalized_cov_params, problem.matrix, problem.names)
    return _of_statsmodels(result, problem, lambda: model.score_obs(result.params))


def _negative_binomial(problem: Problem) -> Estimates:
    """Maximum likelihood of Cameron & Trivedi's NB2; statsmodels has alpha = 1 / shape."""
    # Late: the extra `study` may be absent.
    from statsmodels.discrete.discrete_model import NegativeBinomial
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning

    keywords = _keywords(problem, _HC0, {})
    model = NegativeBinomial(problem.outcome, problem.matrix, offset=problem.offset)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        warnings.simplefilter("error", HessianInversionWarning)
        try:
            result = model.fit(disp=0, maxiter=500, **keywords)
        except (ConvergenceWarning, HessianInversionWarning, np.linalg.LinAlgError) as found:
            raise ValueError(f"the likelihood has no maximum that was found: {found}") from found
    mean, sd = np.array(result.params), np.array(result.bse)
    if not mean[-1] > _LEAST_ALPHA:
        raise ValueError("the counts vary no more than those of a Poisson distribution")
    mean[-1], sd[-1] = -np.log(mean[-1]), sd[-1] / mean[-1]  # log shape
    return Estimates(mean, sd, float("inf"), result)


def _beta(problem: Problem) -> Estimates:
    """Maximum likelihood of Ferrari & Cribari-Neto (2004); the precision on the log scale."""
    # Late: the extra `study` may be absent.
    from statsmodels.othermod.betareg import BetaModel
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning

    if problem.offset.any():
        raise ValueError("statsmodels has no beta regression with an offset")
    model = BetaModel(problem.outcome, problem.matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        warnings.simplefilter("error", HessianInversionWarning)
        try:
            result = model.fit(disp=0, maxiter=500)
        except (ConvergenceWarning, HessianInversionWarning, np.linalg.LinAlgError) as found:
            raise ValueError(f"the likelihood has no maximum that was found: {found}") from found
    return Estimates(np.asarray(result.params), np.asarray(result.bse), float("inf"), result)


def _keywords(
    problem: Problem, robust: Mapping[str, Any], cluster: Mapping[str, Any]
) -> dict[str, Any]:
    """Keywords of statsmodels' `fit` for the kind of errors."""
    if problem.errors == "robust":
        return dict(robust)
    if problem.clusters is not None:
        codes = problem.clusters
        groups = codes[:, 0] if codes.shape[1] == 1 else codes
        return {"cov_type": "cluster", "cov_kwds": {"groups": groups}, **cluster}
    return {}


def _of_statsmodels(
    result: Any, problem: Problem, scores: Callable[[], Array] | None = None
) -> Estimates:
    mean, sd = np.asarray(result.params), np.asarray(result.bse)
    if problem.shared is not None and scores is not None:
        sd = _sds(problem.shared.covariance(scores(), np.asarray(result.normalized_cov_params)))
    return Estimates(mean, sd, float(result.df_resid), result)


def _sds(covariance: Array) -> Array:
    """Standard errors; NaN where a variance is negative."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.diag(covariance)))


def _estimating_equations(problem: Problem) -> Estimates:
    """GEE of Liang & Zeger (1986), Biometrika 73, with their robust errors."""
    # Late: the extra `study` may be absent.
    from statsmodels.genmod.cov_struct import Exchangeable, Independence
    from statsmodels.genmod.families import Binomial, Gaussian
    from statsmodels.genmod.generalized_estimating_equations import GEE
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    assert problem.clusters is not None, "checked with the study file"
    binary = problem.family == "binomial"
    structure = Exchangeable() if problem.correlation == "exchangeable" else Independence()
    model = GEE(
        problem.outcome,
        problem.matrix,
        groups=problem.clusters[:, 0],
        family=Binomial() if binary else Gaussian(),
        cov_struct=structure,
        offset=problem.offset,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            result = model.fit(maxiter=100)
        except (ConvergenceWarning, np.linalg.LinAlgError) as found:
            raise ValueError(f"the estimating equations have not converged: {found}") from found
    if binary:
        maximum_likelihood.check_finite(result.cov_naive, problem.matrix, problem.names)
    return _of_statsmodels(result, problem)


def _weibull(problem: Problem) -> Estimates:
    time, event, *entry = problem.outcome.T
    found = maximum_likelihood.weibull(time, event, problem.matrix, problem.offset, *entry)
    return _of_maximum(found, problem)


def _cox(problem: Problem) -> Estimates:
    time, event, *late = problem.outcome.T
    found = maximum_likelihood.cox(
        time,
        event,
        problem.matrix,
        problem.offset,
        problem.names,
        late[0] if late else None,
        problem.strata,
    )
    return _of_maximum(found, problem)


def _conditional_logit(problem: Problem) -> Estimates:
    assert problem.strata is not None, "checked with the study file"
    found = maximum_likelihood.conditional_logit(
        problem.outcome, problem.matrix, problem.offset, problem.strata, problem.names
    )
    return _of_maximum(found, problem)


def _of_maximum(found: Maximum, problem: Problem) -> Estimates:
    maximum_likelihood.check_finite(found.inverse, problem.matrix, problem.names)
    clusters = problem.clusters
    if clusters is not None and found.first is not None:
        clusters = _by_stratum(clusters, problem.strata, found.first)
    if problem.shared is not None:
        covariance = problem.shared.covariance(found.scores(), found.inverse)
    else:
        covariance = maximum_likelihood.sandwich(found, problem.errors, clusters)
    return Estimates(found.params, _sds(covariance), float("inf"), found.result)


def _by_stratum(clusters: Array, strata: Array | None, first: Array) -> Array:
    """Cluster of each stratum, given those of rows."""
    assert strata is not None
    place = np.searchsorted(strata[first], strata, sorter=np.argsort(strata[first]))
    own = clusters[first][np.argsort(strata[first])[place]]
    if (own != clusters).any():
        raise ValueError(
            "some strata lie in more than one cluster, so clusters are not independent"
        )
    return np.asarray(clusters[first])


def _regressors(
    regression: Regression, formula: Formula, flat: Flat, drawn: Drawn
) -> tuple[list[str], Array]:
    names = [parameter_of(term, drawn.truth, drawn) for term in formula.terms]
    values = [flat.term(term) for term in formula.terms]
    if formula.intercept and regression.intercept:
        names, values = ["b_l2[Intercept]", *names], [np.ones(len(flat.outcome)), *values]
    return names, np.column_stack(values)


#: Durations, also of rows that enter late: columns time, event and entry.
_TIMES = ("surv", "spell")

REGRESSIONS: dict[str, Regression] = {
    "ols": Regression(
        _least_squares, ("plain",), (), student=True, scale=("gaussian", "student"), errors=ERRORS
    ),
    "log_ols": Regression(
        _least_squares_of_logs, ("plain",), ("lognormal",), student=True, errors=ERRORS
    ),
    "glm": Regression(
        _generalised,
        ("plain", "cbind"),
        ("binomial", "probit", "cloglog", "poisson", "gamma"),
        student=False,
    ),
    "negbin_ml": Regression(
        _negative_binomial,
        ("plain",),
        ("negbinomial",),
        student=False,
        positive=("shape",),
        errors=("classical", "robust", "cluster"),
    ),
    "beta_ml": Regression(
        _beta,
        ("plain",),
        ("beta",),
        student=False,
        positive=("phi",),
        errors=("classical",),
    ),
    "weibull_ml": Regression(_weibull, _TIMES, ("weibull",), student=False, positive=("shape",)),
    "phreg": Regression(_cox, _TIMES, ("cox",), student=False, intercept=False),
    # A stratum's rows share one choice: only clusters that hold whole strata make sense.
    "clogit": Regression(
        _conditional_logit,
        ("plain",),
        ("condlogit",),
        student=False,
        clusters=("nesting",),
        intercept=False,
        errors=("classical", "robust", "cluster"),
    ),
    "gee": Regression(
        _estimating_equations,
        ("plain",),
        ("gaussian", "binomial"),
        student=False,
        errors=("cluster",),
    ),
}


#: Backend that is the default regression of each scenario's family.
BY_FAMILY = "regression"


def regression_of(backend: str, family: str) -> Regression:
    """The regression of a backend; `KeyError` for an engine."""
    name = default_regression(family) if backend == BY_FAMILY else backend
    return REGRESSIONS[name or backend]


def default_regression(family: str) -> str | None:
    """The regression of a family: the first on its parameters' scale that needs no clusters."""
    rows = REGRESSIONS.items()
    found = (n for n, row in rows if row.estimates(family) and "classical" in row.errors)
    return next(found, None)
