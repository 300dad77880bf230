"""The evidence (marginal likelihood) of a fitted model, and its Monte Carlo error.

p(y) = integral of p(y | theta, z) p(z | theta) p(theta) over all parameters theta and effects z,
with all constants. Of laplace's fits it is the mean of importance weights, unsmoothed, of fresh
points of proposals that the engine has found; several independent randomisations of the points
give its error. Of Stan's and JAGS's fits it is found by bridge sampling over the hyperparameters.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from rmm.backends.base import Settings
from rmm.backends.convergence import pareto_k_limit
from rmm.backends.laplace.hyperparameters import folded
from rmm.backends.laplace.importance import smoothed
from rmm.backends.laplace.run import computing
from rmm.backends.laplace.sampler import Proposals
from rmm.design.prepare import Model
from rmm.errors import BackendError, ConvergenceWarning, PriorError, SpecificationWarning
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.model.spec import CUT
from rmm.posterior.evidence.bridge import bridge
from rmm.posterior.evidence.integrated_posterior import IntegratedPosterior
from rmm.tables.read import Array

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

_RANDOMISATIONS = 8
#: Points of a randomisation at first, where evidences are only compared and otherwise, and at most.
_FEW, _MANY, _MOST = 64, 512, 16_384
#: Error of the log that is aimed at: of an evidence, and of those that are only compared.
PRECISE, GOOD = 0.01, 0.02


@dataclass(frozen=True)
class Evidence:
    """The log of the evidence.

    Attributes
    ----------
    value : float
        Natural log of p(y).
    mcse : float
        Monte Carlo standard error of `value`: about the relative error of p(y).
    method : str
        ``importance sampling`` or ``bridge sampling``.
    pareto_k : float or None
        Of the importance weights, bounded by what the share of the largest says.
    """

    value: float
    mcse: float
    method: str
    pareto_k: float | None = None

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.2f} (Monte Carlo error {self.mcse:.2g}, {self.method})"


def log_evidence(fit: FitTables, seed: int) -> Evidence:
    """The log evidence of a fit; see `rmm.Fit.log_evidence`."""
    if fit.own_program:
        raise PriorError(
            "This fit was run with your own program, whose priors are not known, so it has no "
            "evidence that could be computed. Fit the formula without `program`."
        )
    if fit.model.spec.imputed:
        raise BackendError(
            'log_evidence() is not available with missing="impute": products of missing values and '
            "coefficients cannot be integrated out like normal effects. Compare fits by loo(), or "
            "fit imputed tables."
        )
    warn_of_scaled_priors(fit.model)
    return evidence_of(fit, seed)


def evidence_of(fit: FitTables, seed: int, error: float = PRECISE) -> Evidence:
    """As `log_evidence`, without checks of priors; `error` is aimed at."""
    with computing():
        posterior = IntegratedPosterior(fit.model, seed)
        if fit.backend == "laplace" or not posterior.hyper:
            known = posterior.proposals(settings_of(fit), fit.run.proposals)
            return by_importance(posterior, known, error)
        return _by_bridge(posterior, fit, seed)


def settings_of(fit: FitTables) -> Settings:
    """Of a fit by the fast engine: its own, or those of as many chains."""
    own = fit.backend == "laplace"
    return fit.settings if own else replace(fit.settings, options={})


def by_importance(
    posterior: IntegratedPosterior, known: Proposals | None, wanted: float = PRECISE
) -> Evidence:
    """Mean weights of fresh points, in independent randomisations.

    Parameters
    ----------
    posterior : IntegratedPosterior
    known : Proposals or None
        Of `IntegratedPosterior.proposals`.
    wanted : float
        Error of the log that is aimed at.

    Raises
    ------
    BackendError
        If Pareto's k of the weights is too large for their mean to be trusted.
    """
    if known is None:
        return _without_hyperparameters(posterior)
    points = _MANY if wanted < GOOD else _FEW
    while True:
        logs = posterior.randomised(known, points, _RANDOMISATIONS)
        each = logsumexp(logs, axis=1) - np.log(logs.shape[1])
        value, error = _mean(each)
        if error <= wanted or 2 * points > _MOST:
            break
        points *= 2
    k, limit = _tail(logs.ravel()), pareto_k_limit(logs.size)
    if not k <= limit:
        raise BackendError(
            f"The evidence of this model cannot be trusted: Pareto k of its importance weights is "
            f"{k:.2f} (with {logs.size:,} points, at most {limit:.2f} is allowed). Fit with "
            'backend="stan" and ask for the evidence of that fit.'
        )
    return Evidence(value, error, "importance sampling", k)


def _tail(logs: Array) -> float:
    """Pareto k of some log weights, or what the share of the largest says if that is less.

    Of S weights with a tail of shape k the largest has a share of about S^(k - 1). The fit of the
    tail alone calls weights heavy that crowd below a bound, as those of a mixture which is wider
    than the posterior do.
    """
    share = float(logs.max() - logsumexp(logs))
    return min(smoothed(logs)[1], 1 + share / float(np.log(len(logs))))


def _mean(logs: Array) -> tuple[float, float]:
    """Log of the mean of some values given by their logs, and the standard error of that log."""
    value = float(logsumexp(logs) - np.log(len(logs)))
    return value, float(np.std(np.exp(logs - value), ddof=1) / np.sqrt(len(logs)))


def _without_hyperparameters(posterior: IntegratedPosterior) -> Evidence:
    """The integral itself: exact, or the mean of independent estimates."""
    logs = posterior.log_density(np.zeros((_MANY, 0)))
    value, error = _mean(logs)
    return Evidence(value, error, "importance sampling", _tail(logs))


def _by_bridge(posterior: IntegratedPosterior, fit: FitTables, seed: int) -> Evidence:
    """By the fit's draws of the hyperparameters."""
    if not fit.converged:
        warnings.warn(
            "The fit has not converged, so its evidence is not to be trusted.",
            ConvergenceWarning,
            stacklevel=4,
        )
    structural = {p.name for p in fit.model.spec.parameters if p.structural}
    kept = {name: values for name, values in fit.run.draws.items() if name in structural}
    chains, length = next(iter(kept.values())).shape[:2]
    flat = {name: v.reshape(chains * length, *v.shape[2:]) for name, v in kept.items()}
    points = posterior.points_of(flat).reshape(chains, length, -1)
    posterior.proposals(settings_of(fit))  # how many draws of effects an integral needs
    value, error = bridge(points, posterior.log_density, folded(posterior.hyper), seed)
    return Evidence(value, error, "bridge sampling")


def warn_of_scaled_priors(model: Model) -> None:
    """Name the parameters whose priors are defaults that the data scale."""
    names = scaled_priors(model)
    if names:
        warnings.warn(
            f"The priors of {', '.join(names)} are defaults that are scaled by the data. The "
            "evidence depends on them. Give priors as numbers in `priors` to decide yourself.",
            SpecificationWarning,
            stacklevel=4,
        )


def scaled_priors(model: Model) -> list[str]:
    """Sampled structural parameters that have the default prior of a set, not the user's own.

    Probabilities are left out: their default, such as beta(1, 1), does not depend on the data.
    """
    own = {statement.target for statement in model.choice.statements}
    public = {"alpha": "b_l2", "beta_l2": "b_l2", CUT: "tau", AT_CENTRES: B_SIGMA}
    unscaled = {found.pcor for found in model.spec.correlated}
    unscaled |= {p.name for p in model.spec.sampled if p.support == "probability"}
    sampled = [p.name for p in model.spec.sampled if p.structural and p.name not in unscaled]
    names = (public.get(name, name) for name in sampled)
    return [name for name in dict.fromkeys(names) if name not in own]
