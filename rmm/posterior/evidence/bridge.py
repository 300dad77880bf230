"""Bridge sampling: the evidence from posterior draws and draws of a proposal.

Meng and Wong (1996), "Simulating ratios of normalizing constants via a simple identity",
Statistica Sinica 6, 831-860; Gronau and others (2017), "A tutorial on bridge sampling", Journal of
Mathematical Psychology 81, 80-97. The error is that of Frühwirth-Schnatter (2004), The
Econometrics Journal 7, 143-167, as in equation 16 of Gronau and others: for independent draws of
the proposal. Those here are Sobol points, which make it smaller.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from rmm.backends.convergence import effective_size
from rmm.backends.laplace.importance import fitted_proposal, uniforms
from rmm.errors import BackendError
from rmm.tables.read import Array

_STEPS, _ENOUGH = 1000, 1e-10
_LEAST = 50  # draws of each half


def bridge(
    draws: Array, log_density: Callable[[Array], Array], folded: Array, seed: int
) -> tuple[float, float]:
    """Log of the integral of a density, and the error of that log.

    The first half of each chain makes the proposal, a multivariate t; the other is weighed, so that
    both are independent.

    Parameters
    ----------
    draws : (chains, draws, d) array
        Of the density, normalised.
    log_density : callable
        (S, d) points -> (S,) logs.
    folded : (d,) bool array
        Elements that are not negative, whose density may be largest at 0.
    seed : int
        Of the proposal's draws.

    Returns
    -------
    float, float

    Raises
    ------
    BackendError
        With too few draws, or where the bridge finds no value.
    """
    chains, length, d = draws.shape
    half = length // 2
    if chains * half < _LEAST:
        raise BackendError(
            f"The fit has {chains * length} draws; bridge sampling needs at least {2 * _LEAST}, "
            "and a few thousand to be precise. Fit with more `draws`."
        )
    first, second = draws[:, :half].reshape(-1, d), draws[:, half:]
    proposal = fitted_proposal(first, folded)
    own = second.reshape(-1, d)
    made = proposal.draw(uniforms(len(own), d + 1, seed))
    posterior, proposed = (
        log_density(points) - proposal.log_density(points) for points in (own, made)
    )
    size = effective_size(posterior.reshape(chains, -1))
    return _bridged(posterior, proposed, size, chains)


def _bridged(posterior: Array, proposed: Array, size: float, chains: int) -> tuple[float, float]:
    """The fixed point of Meng and Wong's iteration: both arguments are log ratios of densities."""
    whole = size + len(proposed)
    ours, theirs = np.log(size / whole), np.log(len(proposed) / whole)
    found = float(np.median(posterior))
    for _ in range(_STEPS):
        above = logsumexp(proposed - np.logaddexp(ours + proposed, theirs + found))
        below = logsumexp(-np.logaddexp(ours + posterior, theirs + found))
        new = float(above - np.log(len(proposed)) - below + np.log(len(posterior)))
        done, found = abs(new - found) < _ENOUGH * max(abs(new), 1.0), new
        if done:
            break
    if not np.isfinite(found):
        raise BackendError("Bridge sampling finds no finite evidence. Fit with more `draws`.")
    one = np.exp(proposed - np.logaddexp(ours + proposed, theirs + found))
    two = np.exp(found - np.logaddexp(ours + posterior, theirs + found))
    autocorrelation = len(two) / effective_size(two.reshape(chains, -1))
    squares = one.var() / one.mean() ** 2 / len(one)
    squares += autocorrelation * two.var() / two.mean() ** 2 / len(two)
    return found, float(np.sqrt(squares))
