"""The log likelihood of a data set at its true parameters and effects, for its rank among draws.

Ranks of parameters alone can be uniform though a posterior ignores a part of the data; the rank of
the joint log likelihood shows it: Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman & Vehtari
(2023), Bayesian Analysis, doi 10.1214/23-BA1404. The true value is computed from the simulator's
own linear predictor with densities of SciPy, and shares no code with the likelihood of fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from rmm.simulation import Drawn
from rmm.study.methods.layouts import strata_codes

Array = np.ndarray[Any, Any]

#: Name of the row in estimates.
LOG_LIKELIHOOD = "log_likelihood"


def true_log_likelihood(drawn: Drawn) -> float:
    """Sum over groups of log p(y | true parameters, true effects); DENSITIES has the families."""
    return float(np.sum(DENSITIES[drawn.truth.spec.family.name](drawn)))


# SciPy's distributions are imported where they are used: most jobs do without them.


def _gaussian(drawn: Drawn) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    return stats.norm.logpdf(drawn.outcome, drawn.eta, drawn.truth.parameters["sigma_l2"])


def _binomial(drawn: Drawn) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    successes, *failures = drawn.outcomes.values()
    trials = successes + failures[0] if failures else np.ones_like(successes)
    return stats.binom.logpmf(successes, trials, special.expit(drawn.eta))


def _weibull(drawn: Drawn) -> Array:
    """Density of events, survival function of censored durations."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    time, event = drawn.outcomes.values()
    law = stats.weibull_min(drawn.truth.parameters["shape"], scale=np.exp(drawn.eta))
    return np.where(event == 1, law.logpdf(time), law.logsf(time))


def _condlogit(drawn: Drawn) -> Array:
    """Log probability of the chosen group of each stratum."""
    strata = strata_codes(drawn, drawn.truth.formula)
    assert strata is not None, "the family has strata"
    each = [special.log_softmax(drawn.eta[strata == s]) for s in range(strata.max() + 1)]
    chosen = [drawn.outcome[strata == s] == 1 for s in range(strata.max() + 1)]
    return np.concatenate([p[c] for p, c in zip(each, chosen, strict=True)])


def _poisson(drawn: Drawn) -> Array:
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    return np.asarray(stats.poisson.logpmf(drawn.outcome, np.exp(drawn.eta)))


def _negbinomial(drawn: Drawn) -> Array:
    """Failures before `shape` successes."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    shape = drawn.truth.parameters["shape"]
    return np.asarray(
        stats.nbinom.logpmf(drawn.outcome, shape, shape / (shape + np.exp(drawn.eta)))
    )


def _ordinal(drawn: Drawn) -> Array:
    """Differences of distribution functions, from SciPy's logs on the side where they are small."""
    # Late: reading a study file needs no libraries of fits.
    from scipy import stats

    law = stats.norm if drawn.truth.options.get("link") == "probit" else stats.logistic
    cuts = np.sort([v for name, v in drawn.truth.parameters.items() if name.startswith("tau[")])
    ends, level = np.array([-np.inf, *cuts, np.inf]), drawn.outcome.astype(int)
    low, high = ends[level - 1] - drawn.eta, ends[level] - drawn.eta
    left = np.array([law.logcdf(high), law.logcdf(low)])
    right = np.array([law.logsf(low), law.logsf(high)])
    pairs = np.where(low + high < 0, left, right)
    return np.asarray(special.logsumexp(pairs, axis=0, b=np.array([[1.0], [-1.0]])))


#: Family -> log densities. Cox is missing: a fit puts a prior of its own on the baseline.
DENSITIES: dict[str, Callable[[Drawn], Array]] = {
    "gaussian": _gaussian,
    "binomial": _binomial,
    "weibull": _weibull,
    "condlogit": _condlogit,
    "poisson": _poisson,
    "negbinomial": _negbinomial,
    "ordinal": _ordinal,
}
