"""Draws of the latent vector given hyperparameter values, and what their weights are made of.

The posterior of z is exactly normal where the outcome is. Elsewhere it leans away from its mode:
the normal approximation is moved to where the expected gradient of the log posterior is zero, the
mean of the best normal approximation with that covariance (van Niekerk & Rue 2024, "Low-rank
variational Bayes correction to the Laplace method", Journal of Machine Learning Research 25(62)),
and made a little wider, so that its tails are not too thin. Weights by the exact density are more
even then.

Where they are uneven still, draws walk from that approximation q to the posterior by steps, the
densities q^(1 - k / K) p^(k / K), and their weights are those of annealed importance sampling
(Neal 2001, Statistics and Computing 11, 125-139). A step is a Metropolis step that leaves q as it
is (preconditioned Crank-Nicolson; Cotter, Roberts, Stuart & White 2013, Statistical Science 28):
every other one forgets where it was, those between explore around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rmm.backends.laplace.factors import DenseFactors
from rmm.backends.laplace.integrand import Affine, Inner, Integrand
from rmm.tables import Array

_SHIFTS, _SHIFT_DRAWS = 2, 8
_WIDER = 0.05  # times 2 / P is the squared relative widening: all dimensions together cost as much
_FARTHEST = 1.0  # times the root of P: a shift beyond is none
_NEW = (1.0, 0.6)  # how much of a proposal is new noise, step by step

Values = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class State:
    """Where draws are, about the centres of S hyperparameter values.

    Attributes
    ----------
    moved : (S, M, P)
        Differences from the centre; normal with covariance H^-1 under q.
    metric : (S, M, n)
        A linear map of `moved`, whose squared length is that in the metric of H.
    ratio : (S, M)
        log p(y, z | theta) - log q(z | theta).
    """

    moved: Array
    metric: Array
    ratio: Array


@dataclass(frozen=True, eq=False)
class Approximation:
    """q: normal approximations at S hyperparameter values, `wider` than H^-1 about `centre`."""

    integrand: Integrand
    values: Values
    affine: Affine
    inner: Inner
    centre: Array
    wider: float

    def at(self, moved: Array, metric: Array) -> State:
        """The densities there."""
        P, inner = self.centre.shape[1], self.inner
        square = np.sum(metric**2, axis=2)
        proposal = 0.5 * (inner.logdet[:, None] - square - P * np.log(2 * np.pi))
        proposal -= P * np.log(self.wider)
        z = self.z(moved)
        joint = [
            self.integrand.log_joint(self.affine, self.values, z[:, m]) for m in range(z.shape[1])
        ]
        ratio = np.column_stack(joint) - proposal
        return State(moved, metric, np.where(np.isfinite(ratio), ratio, -np.inf))

    def z(self, moved: Array) -> Array:
        """(S, M, P) of differences from the centre."""
        return self.centre[:, None] + self.wider * moved

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Array, Array]:
        """New `moved` and `metric`."""
        return around(self.integrand, self.inner, self.affine, rng, count)

    def step(self, state: State, power: float, new: float, rng: np.random.Generator) -> State:
        """A Metropolis step that leaves q^(1 - power) p^power as it is."""
        kept = np.sqrt(1 - new**2)
        moved, metric = self.draw(rng, state.ratio.shape[1])
        tried = self.at(kept * state.moved + new * moved, kept * state.metric + new * metric)
        rise = np.where(np.isfinite(state.ratio), tried.ratio - state.ratio, 0.0)
        taken = np.log(rng.random(rise.shape)) < power * rise
        return State(
            np.where(taken[:, :, None], tried.moved, state.moved),
            np.where(taken[:, :, None], tried.metric, state.metric),
            np.where(taken, tried.ratio, state.ratio),
        )


def latent_draws(
    integrand: Integrand,
    values: Values,
    inner: Inner,
    affine: Affine,
    rng: np.random.Generator,
    count: int,
    steps: int = 1,
) -> tuple[Array, Array]:
    """Draws at S hyperparameter values.

    Parameters
    ----------
    count : int
        M, even: for each hyperparameter value.
    steps : int
        From the normal approximation to the posterior; 1 is plain importance sampling.

    Returns
    -------
    z : (S, M, P)
    weight : (S, M)
        Logs of weights, of which exp has the expectation p(y | theta) at each value; the integral
        itself where it is exact. -inf where there is no mode.
    """
    if integrand.exact:
        q = Approximation(integrand, values, affine, inner, inner.mode, 1.0)
        return q.z(q.draw(rng, count)[0]), np.repeat(inner.value[:, None], count, axis=1)
    centre = inner.mode + mean_shift(integrand, values, inner, affine, rng)
    wider = 1.0 + np.sqrt(_WIDER / max(inner.mode.shape[1], 1))
    q = Approximation(integrand, values, affine, inner, centre, wider)
    state = q.at(*q.draw(rng, count))
    weight = state.ratio / steps
    for k in range(1, steps):
        state = q.step(state, k / steps, _NEW[k % len(_NEW)], rng)
        weight = weight + state.ratio / steps
    return q.z(state.moved), np.where(np.isfinite(inner.value)[:, None], weight, -np.inf)


def around(
    integrand: Integrand, inner: Inner, affine: Affine, rng: np.random.Generator, count: int
) -> tuple[Array, Array]:
    """Normal draws of covariance H^-1, in pairs of opposite sign; zeros where there is no mode.

    Where factors are sparse a draw is H^-1 (e + B' W^1/2 f) of normal e and f, whose covariance
    is H^-1 (I + B' W B) H^-1 = H^-1.

    Returns
    -------
    moved : (S, count, P)
    metric : (S, count, n)
        Linear in `moved`, its squared length in the metric of H.
    """
    S, P = inner.mode.shape
    good = np.flatnonzero(np.isfinite(inner.value))
    noise = rng.standard_normal((len(good), count // 2, P))
    factors = inner.factors
    if isinstance(factors, DenseFactors):
        found = np.array([factors.half_solve(int(s), e) for s, e in zip(good, noise, strict=True)])
        length = noise
    else:
        part, spread = affine.take(good), np.sqrt(inner.weight[good])
        for m in range(count // 2):
            noise[:, m] += integrand.back(part, rng.standard_normal(spread.shape) * spread)
        found = np.array([factors.solve(int(s), e.T).T for s, e in zip(good, noise, strict=True)])
        reached = [spread * integrand.reached(part, found[:, m]) for m in range(count // 2)]
        length = np.concatenate([found, np.stack(reached, axis=1)], axis=2)
    moved, metric = np.zeros((S, count, P)), np.zeros((S, count, length.shape[2]))
    if len(good):
        moved[good] = np.concatenate([found, -found], axis=1)
        metric[good] = np.concatenate([length, -length], axis=1)
    return moved, metric


def mean_shift(
    integrand: Integrand, values: Values, inner: Inner, affine: Affine, rng: np.random.Generator
) -> Array:
    """(S, P) from the mode to the mean of the best normal approximation; 0 where there is none."""
    S, P = inner.mode.shape
    good = np.flatnonzero(np.isfinite(inner.value))
    shift = np.zeros((S, P))
    for _ in range(_SHIFTS):
        moved, _ = around(integrand, inner, affine, rng, _SHIFT_DRAWS)
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
