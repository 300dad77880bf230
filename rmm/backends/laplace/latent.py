"""Draws of the latent vector given hyperparameter values, and what their weights are made of.

The posterior of z is exactly normal where the outcome is. Elsewhere it leans away from its mode:
the normal approximation is moved to where the expected gradient of the log posterior is zero, the
mean of the best normal approximation with that covariance (van Niekerk & Rue 2024, "Low-rank
variational Bayes correction to the Laplace method", Journal of Machine Learning Research 25(62)),
and made a little wider, so that its tails are not too thin. Weights by the exact density are more
even then.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmm.backends.laplace.integrand import Affine, Inner, Integrand
from rmm.tables import Array

_SHIFTS, _SHIFT_DRAWS = 2, 8
_WIDER = 0.05  # times 2 / P is the squared relative widening: all dimensions together cost as much
_FARTHEST = 1.0  # times the root of P: a shift beyond is none

Values = Mapping[str, Array]


def latent_draws(
    integrand: Integrand,
    values: Values,
    inner: Inner,
    affine: Affine,
    rng: np.random.Generator,
    count: int,
) -> tuple[Array, Array]:
    """Draws about the modes of S hyperparameter values.

    Returns
    -------
    z : (S, count, P)
    ratio : (S, count)
        log p(y, z | theta) - log q(z | theta); the integral itself where it is exact. -inf where
        there is no mode.
    """
    S, P = inner.mode.shape
    good = np.flatnonzero(np.isfinite(inner.value))
    centre, wider = inner.mode, 1.0
    if not integrand.exact:
        centre = centre + mean_shift(integrand, values, inner, affine, rng)
        wider = 1.0 + np.sqrt(_WIDER / max(P, 1))
    z, square = np.zeros((S, count, P)), np.zeros((S, count))
    for s in good:
        moved, square[s] = integrand.around(inner, affine, int(s), rng, count)
        z[s] = centre[s] + wider * moved
    if integrand.exact:
        return z, np.repeat(inner.value[:, None], count, axis=1)
    proposal = 0.5 * (inner.logdet[:, None] - square - P * np.log(2 * np.pi)) - P * np.log(wider)
    joint = [integrand.log_joint(affine, values, z[:, m]) for m in range(count)]
    ratio = np.full((S, count), -np.inf)
    ratio[good] = (np.column_stack(joint) - proposal)[good]
    return z, ratio


def mean_shift(
    integrand: Integrand, values: Values, inner: Inner, affine: Affine, rng: np.random.Generator
) -> Array:
    """(S, P) from the mode to the mean of the best normal approximation; 0 where there is none."""
    S, P = inner.mode.shape
    good = np.flatnonzero(np.isfinite(inner.value))
    shift = np.zeros((S, P))
    for _ in range(_SHIFTS):
        moved = np.zeros((S, _SHIFT_DRAWS, P))
        for s in good:
            moved[s] = integrand.around(inner, affine, int(s), rng, _SHIFT_DRAWS)[0]
        slope = np.zeros((S, P))
        for m in range(_SHIFT_DRAWS):
            at = inner.mode + shift + moved[:, m]
            slope += integrand.slope(affine, values, at) / _SHIFT_DRAWS
        for s in good:
            if np.isfinite(slope[s]).all():
                shift[s] += inner.factors.solve(int(s), slope[s])
    length = np.sqrt(np.sum(shift**2, axis=1))
    shift[~(length <= _FARTHEST * np.sqrt(P))] = 0.0
    return shift
