"""Draws of the latent vector given hyperparameter values, and what their weights are made of.

The posterior of z is exactly normal where the outcome is. Elsewhere it leans away from its mode.
Where that makes weights uneven the normal approximation is moved to where the expected gradient of
the log posterior is zero, the mean of the best normal approximation with that covariance (van
Niekerk & Rue 2024, "Low-rank variational Bayes correction to the Laplace method", Journal of
Machine Learning Research 25(62)); it is always a little wider, so that its tails are not too thin.

Where they are uneven still, draws walk from that approximation q to the posterior by steps, the
densities q^(1 - k / K) p^(k / K), and their weights are those of annealed importance sampling
(Neal 2001, Statistics and Computing 11, 125-139). A step is one of Hamiltonian Monte Carlo about
the normal approximation: its motion under q is an exact rotation, only log(p / q) kicks it (Beskos,
Pinski, Sanz-Serna & Stuart 2011, Stochastic Processes and their Applications 121, 2201-2230).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rmm.backends.laplace.factorisation.factors import DenseFactors
from rmm.backends.laplace.marginal_likelihood import Affine, Inner, Integrand
from rmm.tables.read import Array

SHIFT_DRAWS = 8
WIDER = 0.05  # times 2 / P is the squared relative widening: all dimensions together cost as much
FARTHEST = 1.0  # times the root of P: a shift beyond is none
# Rotations of a step, and the angle of one, which varies by a quarter. Of those tried with three
# choice models of the parity study (large effects): the least variance for their cost.
LEAPS, ANGLE, VARIES = 3, 0.8, 0.25

Values = Mapping[str, Array]


@dataclass(frozen=True)
class Effort:
    """What the draws at one hyperparameter value are worth.

    Attributes
    ----------
    draws : int
        Even.
    shifts : int
        Rounds in which the normal approximation is moved to the mean; none leave it at the mode.
    steps : int
        From the normal approximation to the posterior; 1 is plain importance sampling.
    """

    draws: int
    shifts: int
    steps: int = 1


@dataclass(frozen=True, eq=False)
class State:
    """Where draws are, about the centres of S hyperparameter values.

    Attributes
    ----------
    moved : (S, M, P)
        Differences from the centre; normal with covariance H^-1 under q.
    ratio : (S, M)
        log p(y, z | theta) - log q(z | theta).
    force : (S, M, P)
        H^-1 times the gradient of `ratio` in `moved`.
    """

    moved: Array
    ratio: Array
    force: Array


@dataclass(frozen=True, eq=False)
class Approximation:
    """q: normal approximations at S hyperparameter values, `wider` than H^-1 about `centre`."""

    integrand: Integrand
    values: Values
    affine: Affine
    inner: Inner
    centre: Array
    wider: float

    def z(self, moved: Array) -> Array:
        """(S, M, P) of differences from the centre."""
        return self.centre[:, None] + self.wider * moved

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """(S, M, P) new differences from the centre."""
        return around(self.integrand, self.inner, self.affine, rng, count)

    def ratio(self, moved: Array, joint: Array) -> Array:
        """(S, M) logs of densities, those of p given."""
        P = self.centre.shape[1]
        proposal = 0.5 * (self.inner.logdet[:, None] - P * np.log(2 * np.pi))
        proposal = proposal - 0.5 * self.squared(moved) - P * np.log(self.wider)
        ratio = joint - proposal
        return np.where(np.isfinite(ratio), ratio, -np.inf)

    def squared(self, moved: Array) -> Array:
        """(S, M) squared lengths in the metric of H."""
        factors = self.inner.factors
        if isinstance(factors, DenseFactors):
            return np.asarray(np.sum((moved @ factors.lower[: len(moved)]) ** 2, axis=2))
        length = np.sum(moved**2, axis=2)
        for m in range(moved.shape[1]):
            reached = self.integrand.reached(self.affine, moved[:, m])
            length[:, m] += np.sum(self.inner.weight * reached**2, axis=1)
        return np.asarray(length)

    def joint(self, moved: Array) -> Array:
        """(S, M) log p(y, z | theta)."""
        z = self.z(moved)
        columns = range(z.shape[1])
        return np.column_stack(
            [self.integrand.log_joint(self.affine, self.values, z[:, m]) for m in columns]
        )

    def at(self, moved: Array) -> State:
        """The densities there, and where they push."""
        z = self.z(moved)
        joint, slope = np.empty(z.shape[:2]), np.empty(z.shape)
        for m in range(z.shape[1]):
            found = self.integrand.log_joint_and_slope(self.affine, self.values, z[:, m])
            joint[:, m], slope[:, m] = found
        force = np.zeros(z.shape)
        for s in np.flatnonzero(np.isfinite(self.inner.value)):
            pushed = self.inner.factors.solve(int(s), np.asfortranarray(slope[s].T)).T
            force[s] = self.wider * pushed + moved[s]
        return State(moved, self.ratio(moved, joint), np.where(np.isfinite(force), force, 0.0))

    def step(self, state: State, power: float, rng: np.random.Generator) -> State:
        """A step that leaves q^(1 - power) p^power as it is."""
        speed = self.draw(rng, state.ratio.shape[1])
        here = self._energy(state, speed, power)
        angle = ANGLE * rng.uniform(1 - VARIES, 1 + VARIES)
        tried = state
        for _ in range(LEAPS):
            speed = speed + 0.5 * angle * power * tried.force
            tried, speed = (
                self.at(np.cos(angle) * tried.moved + np.sin(angle) * speed),
                np.cos(angle) * speed - np.sin(angle) * tried.moved,
            )
            speed = speed + 0.5 * angle * power * tried.force
        rise = here - self._energy(tried, speed, power)
        taken = np.log(rng.random(rise.shape)) < rise
        return State(
            np.where(taken[:, :, None], tried.moved, state.moved),
            np.where(taken, tried.ratio, state.ratio),
            np.where(taken[:, :, None], tried.force, state.force),
        )

    def _energy(self, state: State, speed: Array, power: float) -> Array:
        """(S, M) of the motion, which turns about the centre where `power` is 0."""
        turning = 0.5 * self.squared(state.moved) + 0.5 * self.squared(speed)
        return np.asarray(turning - power * state.ratio)


def latent_draws(
    integrand: Integrand,
    values: Values,
    inner: Inner,
    affine: Affine,
    rng: np.random.Generator,
    effort: Effort,
) -> tuple[Array, Array]:
    """Draws at S hyperparameter values.

    Returns
    -------
    z : (S, M, P)
        M is `effort.draws`.
    weight : (S, M)
        Logs of weights, of which exp has the expectation p(y | theta) at each value; the integral
        itself where it is exact. -inf where there is no mode.
    """
    count, steps = effort.draws, effort.steps
    if integrand.exact:
        q = Approximation(integrand, values, affine, inner, inner.mode, 1.0)
        return q.z(q.draw(rng, count)), np.repeat(inner.value[:, None], count, axis=1)
    centre = inner.mode + mean_shift(integrand, values, inner, affine, rng, effort.shifts)
    wider = 1.0 + np.sqrt(WIDER / max(inner.mode.shape[1], 1))
    q = Approximation(integrand, values, affine, inner, centre, wider)
    moved = q.draw(rng, count)
    if steps == 1:
        weight = q.ratio(moved, q.joint(moved))
    else:
        state = q.at(moved)
        weight = state.ratio / steps
        for k in range(1, steps):
            state = q.step(state, k / steps, rng)
            weight = weight + state.ratio / steps
        moved = state.moved
    return q.z(moved), np.where(np.isfinite(inner.value)[:, None], weight, -np.inf)


def around(
    integrand: Integrand, inner: Inner, affine: Affine, rng: np.random.Generator, count: int
) -> Array:
    """Normal draws (S, count, P) of covariance H^-1, in pairs of opposite sign; zeros where there
    is no mode.

    Where factors are sparse a draw is H^-1 (e + B' W^1/2 f) of normal e and f, whose covariance
    is H^-1 (I + B' W B) H^-1 = H^-1.
    """
    S, P = inner.mode.shape
    good = np.flatnonzero(np.isfinite(inner.value))
    noise = rng.standard_normal((len(good), count // 2, P))
    factors = inner.factors
    if isinstance(factors, DenseFactors):
        found = [factors.half_solve(int(s), e) for s, e in zip(good, noise, strict=True)]
    else:
        part, spread = affine.take(good), np.sqrt(inner.weight[good])
        for m in range(count // 2):
            noise[:, m] += integrand.back(part, rng.standard_normal(spread.shape) * spread)
        found = [factors.solve(int(s), e.T).T for s, e in zip(good, noise, strict=True)]
    moved = np.zeros((S, count, P))
    if len(good):
        moved[good] = np.concatenate([found, np.negative(found)], axis=1)
    return moved


def mean_shift(
    integrand: Integrand,
    values: Values,
    inner: Inner,
    affine: Affine,
    rng: np.random.Generator,
    rounds: int,
) -> Array:
    """(S, P) from the mode to the mean of the best normal approximation; 0 where there is none."""
    S, P = inner.mode.shape
    good = np.flatnonzero(np.isfinite(inner.value))
    shift = np.zeros((S, P))
    for _ in range(rounds):
        moved = around(integrand, inner, affine, rng, SHIFT_DRAWS)
        slope = np.zeros((S, P))
        for m in range(SHIFT_DRAWS):
            at = inner.mode + shift + moved[:, m]
            slope += integrand.slope(affine, values, at) / SHIFT_DRAWS
        for s in good:
            if np.isfinite(slope[s]).all():
                shift[s] += inner.factors.solve(int(s), slope[s])
    length = np.sqrt(np.sum(shift**2, axis=1))
    shift[~(length <= FARTHEST * np.sqrt(P))] = 0.0
    return shift
