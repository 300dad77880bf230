"""Latent vectors of many effects: chains at one hyperparameter value, and maps of them to others.

The weight of a draw of z from its normal approximation has a variance that grows with the number of
effects P: z has as many chances to differ from the posterior. Chains have no weights. They run at
one value theta0, on z = T(e; theta0), where T is the normal approximation: standard normal e makes
z of it. At any other value T(e; theta), of the same e, needs a weight only for what the posterior
of e differs at theta from that at theta0,

    p(y, z, theta) / q(z | theta) at theta, divided by the same at theta0,

and between values of which all are within the posterior that does not grow with P: its log is a sum
of P terms that each change by about 1 / sqrt(P). These are weights of importance sampling on an
extended space, exact for any T. Maps for such ratios: Meng & Schilling (2002), "Warp bridge
sampling", Journal of Computational and Graphical Statistics 11, 552-586.

Steps are those of `latent_draws.Approximation.step` at power 1. Rotations of one step add up to
about a right angle, after which a normal z has forgotten where it was.
"""

from __future__ import annotations

import numpy as np

from rmm.backends.convergence import convergence
from rmm.backends.laplace.kernels.integrals import CompiledIntegrals, Motion
from rmm.backends.laplace.kernels.library import WIDEST
from rmm.backends.laplace.marginal_likelihood import EXACTLY, NEARLY, Start
from rmm.tables.read import Array

_CHAINS = WIDEST  # as many as any build computes at once
_TURN, _VARIES = np.pi / 2, 0.1  # of all rotations of a step; by chance as much more or less
_LEAST_LEAPS, _MOST_LEAPS, _MORE_LEAPS = 2, 32, 1.4
_MOVES = 0.75  # share of the steps that move, below which rotations are made shorter
_TRIED, _FORGOTTEN = 8, 8  # steps by which moves are counted, and that forget the start
_SHIFT_PAIRS = 4
_STEPS = 16  # that are made at once


class LatentChains:
    """Draws of noise e at one hyperparameter value, of which T makes the posterior of z."""

    def __init__(
        self,
        compiled: CompiledIntegrals,
        theta: Array,
        start: Start,
        rng: np.random.Generator,
    ) -> None:
        """At `theta` (d,), from standard normal noise; `start` is near the mode there."""
        self.compiled, self.theta, self.start, self.rng = compiled, theta, start, rng
        self.size = compiled.integrand.size
        self.state = rng.standard_normal((_CHAINS, self.size))
        self.shift_noise = rng.standard_normal((_SHIFT_PAIRS, self.size))
        self.leaps = _LEAST_LEAPS
        integrand = compiled.integrand
        effects = integrand.model.is_effect[integrand.kept[compiled.model.elimination]]
        self._coefficients = np.flatnonzero(~effects)
        self._slope = np.zeros((len(theta), self.size))
        self._noise, self._ratio = np.zeros((0, self.size)), np.zeros(0)
        self._looked_at: list[Array] = []

    def settle(self) -> bool:
        """Whether steps move; their rotations are made as short as that takes."""
        while self.leaps <= _MOST_LEAPS:
            if self._run(_TRIED)[2] >= _MOVES:
                self._run(_FORGOTTEN)
                return True
            self.leaps = int(np.ceil(_MORE_LEAPS * self.leaps))
        return False

    def move(self, theta: Array, sd: Array) -> bool:
        """Go on at another value near by; as `settle`. `sd` (d,) is how far others will be."""
        found = self.compiled.integrals(theta[None], self.start, EXACTLY)
        if not np.isfinite(found.value).all():
            return False
        self.theta, self.start = theta, (found.mode[0], found.scale[0])
        ends = self.compiled.integrals(theta + np.diag(sd), self.start, EXACTLY)
        slope = (ends.mode - self.start[0]) / sd[:, None]
        self._slope = np.where(np.isfinite(slope), slope, 0.0)
        self._forget()
        return self.settle()

    def draw(self, count: int) -> tuple[Array, Array]:
        """(count, P) draws of e, and (count,) logs of p(y, z | theta0) / q(z | theta0)."""
        while len(self._ratio) < count:
            states, ratio, _ = self._run(_STEPS)
            looked_at = [ratio[:, :, None], states[:, :, self._coefficients]]
            self._looked_at.append(np.concatenate(looked_at, axis=2))
            # Neighbours are of different chains.
            states = np.swapaxes(states, 0, 1).reshape(-1, self.size)
            self._noise = np.concatenate([self._noise, states])
            self._ratio = np.concatenate([self._ratio, ratio.T.ravel()])
        noise, ratio = self._noise[:count], self._ratio[:count]
        self._noise, self._ratio = self._noise[count:], self._ratio[count:]
        return noise, ratio

    def ess(self) -> float:
        """The least effective sample size of what `draw` has drawn: of the log density and of the
        elements of e that belong to coefficients.
        """
        found = convergence(np.concatenate(self._looked_at, axis=1))["ess_bulk"]
        return float(np.min(found))

    def weights(
        self, theta: Array, noise: Array, ratio: Array, gain: float = NEARLY
    ) -> tuple[Array, Array]:
        """Latent vectors T(e; theta) (S, M, P) of draws, and logs of their weights (S, M), the
        prior of theta in them.

        Parameters
        ----------
        theta : (S, d)
        noise : (S, M, P)
        ratio : (S, M)
            Of the same draws.
        gain : float
            How near the mode T is centred; all are exact, but only the mode itself is smooth.
        """
        start = self._near(theta)
        latent, weight = self.compiled.draws_of(theta, start, gain, noise, self.shift_noise)
        return latent, weight - ratio

    def _near(self, theta: Array) -> Start:
        """Where searches for the modes at (S, d) values start: on the line that modes follow."""
        mode = self.start[0] + (theta - self.theta) @ self._slope
        return mode, np.full(mode.shape, np.inf)  # as large as the mode may be there

    def _run(self, steps: int) -> tuple[Array, Array, float]:
        motion = Motion(
            self.rng.standard_normal((_CHAINS, steps, self.size)),
            np.log(self.rng.random((_CHAINS, steps))),
            _TURN / self.leaps * self.rng.uniform(1 - _VARIES, 1 + _VARIES, steps),
            self.leaps,
            self.shift_noise,
        )
        found = self.compiled.chains(self.theta, self.start, EXACTLY, self.state, motion)
        self.state = found[0][:, -1]
        return found

    def _forget(self) -> None:
        """What was drawn at another value is not given out."""
        self._noise, self._ratio = np.zeros((0, self.size)), np.zeros(0)
        self._looked_at = []
