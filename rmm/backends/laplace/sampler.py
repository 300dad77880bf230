"""A run: mode, rounds of proposals, weighted draws of hyperparameters and latent vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from rmm.backends.convergence import pareto_k_limit
from rmm.backends.laplace.factorisation.factors import DenseFactors, Factors
from rmm.backends.laplace.hyperparameters import folded, log_prior, starting_points, to_values
from rmm.backends.laplace.importance import (
    Mixture,
    Mode,
    Proposal,
    around_one,
    beside,
    find_mode,
    other_modes,
    smoothed,
    systematic,
    uniforms,
)
from rmm.backends.laplace.interpolation import interpolation
from rmm.backends.laplace.kernels.integrals import CompiledIntegrals, Integrals
from rmm.backends.laplace.kernels.latent_chains import LatentChains
from rmm.backends.laplace.latent_draws import Effort, latent_draws
from rmm.backends.laplace.marginal_likelihood import (
    EXACTLY,
    NEARLY,
    ROUGHLY,
    Inner,
    Integrand,
    Start,
)
from rmm.tables.read import Array

LEAST_POINTS, MOST_POINTS = 256, 8192
_POINTS_PER_DRAW = 4  # at most, of effective draws that are wanted
_ROUNDS = 12
_WORTH, _MARGIN = 0.75, 1.1  # effective draws of a point of the second proposal, and reserve
_EXACT_DRAWS = 2  # latent vectors per hyperparameter value where they need no weights
# Where they do: plain ones where their log weights vary little, else few, but in as many steps as
# it takes for the weight of a hyperparameter value to have no more than this variance from them.
_UNEVEN, _PLAIN_DRAWS = 0.5, 4
_INNER_VARIANCE = 0.25
_STEPWISE_DRAWS, _LEAST_STEPS, _MOST_STEPS = 2, 4, 64
_SHIFTS = 1
_REDRAWN = 0.8  # quantile of a standard deviation, beyond which draws are made again
_TAIL, _TAIL_VARIANCE, _TAIL_POINTS, _TRIES = 0.95, 1.0, 8, 3
_PILOT_QUANTILE = 0.9
_PILOT_STEPS = 8  # the variance that so many leave falls with their number
_PILOT, _PILOT_OF, _PILOT_DRAWS, _STEPWISE_PILOT_DRAWS = 16, 128, 16, 8
_REAL = ("normal", "student_t")  # priors on both sides of 0
# Prior sds, and units of a weight coefficient, at which searches for further modes start.
_REACH, _MOST_REACH = 2.0, 12.0
_WIDE = 2.0  # units of a weight coefficient; the default prior's sd is 1
# Polynomials in place of values: for so many rows, standard deviations from 0, and draws (of those
# that are wanted), and with this error of the log posterior.
_LARGE, _FROM_0, _MORE_DRAWS, _MOST_ERROR = 700, 6.0, 1.6, 0.02
# Chains in place of weighted draws of z: for so many elements of it. Draws by which the mode is
# searched, and for each hyperparameter value: more where steps of chains depend on each other. At
# so many standard deviations beyond the mode of those of effects weights are evenest; of those that
# were tried with condlogit and weibull models of 5,000 groups.
_MANY, _MODE_DRAWS, _CHAIN_DRAWS, _BEYOND = 1000, 8, (2, 4, 8), 0.6
_LOCAL_K = 0.5  # from which a further proposal is a local one


@dataclass(frozen=True, eq=False)
class Sample:
    """Weighted draws.

    Attributes
    ----------
    theta : (S, d)
    latent : (S, M, columns)
        Draws of z for each hyperparameter value, at the places that are kept.
    weights : (S, M)
        They sum to one.
    variance : (S,)
        Of the M log weights of a hyperparameter value.
    pareto_k, ess : float
        Of the hyperparameter values; where chains draw z, at most their effective sample size.
    evaluations : int
        Integrals over the latent vector that were computed.
    inner_variance : float
        Of the log weights at one hyperparameter value: their weighted mean, or that over the upper
        tail of a standard deviation where it is larger; 0 where the integral is exact.
    mixture : Mixture or None
        Whose points `theta` are; None of a model without hyperparameters, and where weights are
        not those of p(y).
    """

    theta: Array
    latent: Array
    weights: Array
    variance: Array
    pareto_k: float
    ess: float
    evaluations: int
    inner_variance: float = 0.0
    mixture: Mixture | None = None


@dataclass(frozen=True, eq=False)
class Proposals:
    """What a sampler has found out about a posterior: enough to draw from it again.

    Attributes
    ----------
    proposals : tuple of Proposal
    counts : tuple of int
        Points of each.
    effort : Effort
    modes : Modes or None
        Where searches of the latent vector's mode start.
    """

    proposals: tuple[Proposal, ...]
    counts: tuple[int, ...]
    effort: Effort
    modes: Modes | None


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Latent vectors (S, M, columns) at the points of a mixture of proposals.

    `ratio` (S, M) has the logs of p(y, z, theta) / q(z | theta), `weighted` what they make: weights
    (S, M), k^ and effective sample size of the hyperparameter values.
    """

    mixture: Mixture
    latent: Array
    ratio: Array
    weighted: tuple[Array, float, float]


@dataclass(frozen=True, eq=False)
class Modes:
    """Modes of z at some hyperparameter values, where searches at others start.

    Attributes
    ----------
    theta : (n, d)
    mode, scale : (n, P)
    """

    theta: Array
    mode: Array
    scale: Array

    def next_to(self, theta: Array) -> Start:
        """Of the nearest values to some others (S, d): (S, P) each."""
        spread = np.std(self.theta, axis=0) + 1e-12
        known, asked = self.theta / spread, theta / spread
        squares = np.sum(known**2, axis=1) - 2 * asked @ known.T  # less those of `asked`
        nearest = np.argmin(squares, axis=1)
        return self.mode[nearest], self.scale[nearest]


class Sampler:
    """Draws from one model."""

    def __init__(
        self,
        integrand: Integrand,
        seed: int,
        check: Callable[[], None],
        columns: Array | None = None,
        compiled: CompiledIntegrals | None = None,
    ) -> None:
        """`columns` are the places of the latent vector that are kept: all of them by default.

        Without `compiled` integrals NumPy computes.
        """
        self.integrand = integrand
        self.compiled = compiled
        self.columns = np.arange(integrand.model.size) if columns is None else columns
        kept = np.zeros(integrand.model.size, dtype=bool)
        kept[self.columns] = True
        self.looked_at = kept[integrand.private.column].any()
        at = kept[integrand.kept]
        self.from_z = np.flatnonzero(at)
        self.to_columns = np.searchsorted(self.columns, integrand.kept[at])
        everything = np.arange(len(self.columns))
        self.as_z = np.array_equal(self.from_z, everything) and len(everything) == integrand.size
        self.hyper = integrand.model.hyper
        self.folded = folded(self.hyper)
        self.check = check
        self.rng = np.random.default_rng([seed, 0x1A91ACE])
        self.private_rng = np.random.default_rng([seed, 0x5E1F])  # what is kept changes no draw
        self.seed = seed
        self.start: Start | None = None
        self.modes: Modes | None = None
        self.chains: LatentChains | None = None
        self.evaluations = 0
        self.effort = Effort(_EXACT_DRAWS if integrand.exact else _PILOT_DRAWS, shifts=0)

    def log_density(self, theta: Array) -> Array:
        """(S,) Laplace approximation of log p(theta, y); the best mode starts the next search."""
        out = np.full(len(theta), -np.inf)
        for rows in self._chunks(len(theta)):
            inner, prior = self._inner(theta[rows], modes=not self.integrand.exact)
            out[rows] = inner.value + prior
            if not self.integrand.exact and np.isfinite(out[rows]).any():
                best = int(np.argmax(np.where(np.isfinite(out[rows]), out[rows], -np.inf)))
                self.start = inner.mode[best], inner.scale[best]
        return np.where(np.isnan(out), -np.inf, out)

    def _start(self, theta: Array) -> Start | None:
        """The best start that is known."""
        return self.start if self.modes is None else self.modes.next_to(theta)

    def _inner(self, theta: Array, *, modes: bool = True) -> tuple[Integrals | Inner, Array]:
        """Integrals, from the best start that is known, and log priors."""
        start = self._start(theta)
        if self.compiled is not None:
            found = self.compiled.integrals(theta, start, NEARLY, modes=modes)
            return found, found.prior
        values = to_values(theta, self.hyper)
        inner = self.integrand.inner(values, len(theta), start, NEARLY)
        return inner, log_prior(theta, self.hyper)

    def _chunks(self, count: int) -> list[slice]:
        self.check()
        self.evaluations += count
        if self.compiled is None:
            size = self.integrand.at_once
        else:
            few = self.integrand.exact or self.chains is not None
            size = self.compiled.at_once(2 * self.effort.draws if few else _MOST_STEPS)
        return [slice(i, min(i + size, count)) for i in range(0, count, size)]

    def draw(self, theta: Array) -> tuple[Array, Array]:
        """Latent draws (S, M, P), and (S, M) logs of p(y, z, theta) / q(z | theta)."""
        S, M, P = len(theta), self.effort.draws, len(self.columns)
        latent, ratio = np.zeros((S, M, P)), np.full((S, M), -np.inf)
        for rows in self._chunks(S):
            z, ratio[rows] = self._latent(theta[rows])
            if self.as_z:
                latent[rows] = z
                continue
            latent[rows][:, :, self.to_columns] = z[:, :, self.from_z]
            if self.looked_at:
                private = self.integrand.private.column
                at = np.flatnonzero(np.isin(private, self.columns))
                place = np.searchsorted(self.columns, private[at])
                latent[rows][:, :, place] = self._private(theta[rows], z)[:, :, at]
        return latent, np.where(np.isnan(ratio), -np.inf, ratio)

    def _private(self, theta: Array, z: Array) -> Array:
        """(S, M, n) draws of the effects that one group alone has, given the others (S, M, P)."""
        if self.compiled is not None:
            return self.compiled.private_draws(theta, z, self.private_rng)
        values = to_values(theta, self.hyper)
        affine = self.integrand.affine(values, len(z))
        draws = (
            self.integrand.private_draws(values, affine, z[:, m], self.private_rng)
            for m in range(z.shape[1])
        )
        return np.stack(list(draws), axis=1)

    def _latent(self, theta: Array) -> tuple[Array, Array]:
        """As `latent_draws`, with log priors."""
        start, effort = self._start(theta), self.effort
        if self.chains is not None:
            noise, ratio = self.chains.draw(len(theta) * effort.draws)
            shape = (len(theta), effort.draws)
            noise, ratio = noise.reshape(*shape, -1), ratio.reshape(shape)
            return self.chains.weights(theta, noise, ratio)
        if self.compiled is not None:
            return self.compiled.draws(theta, start, ROUGHLY, self.rng, effort)
        values = to_values(theta, self.hyper)
        inner = self.integrand.inner(values, len(theta), start, ROUGHLY)
        affine = self.integrand.affine(values, len(theta))
        z, weight = latent_draws(self.integrand, values, inner, affine, self.rng, effort)
        return z, weight + log_prior(theta, self.hyper)[:, None]

    def sample(
        self, starts: Sequence[Mapping[str, Any]], wanted: float, *, smooth: bool = True
    ) -> Sample:
        """Draw until the effective sample size is `wanted`, or the limit is reached.

        `smooth` says whether a posterior that is dear to compute may be interpolated, or drawn by
        chains: then weights are not those of p(y).
        """
        if not self.hyper:
            return self._without_hyperparameters(wanted)
        points = starting_points(starts, self.hyper)
        fold = self.folded
        mode = find_mode(self.log_density, points, fold)
        assert mode is not None  # none is known before
        modes = self._modes(mode, fold)
        first = [Proposal(m.centre, np.linalg.cholesky(m.covariance * 1.2), fold) for m in modes]
        first += self._as_wide_as_priors(modes[0])
        if smooth and len(first) == 1 and self._interpolates(modes[0]):
            interpolated = self._interpolated(modes[0], wanted)
            if interpolated is not None:
                return interpolated
        if smooth and len(first) == 1 and self._has_many_effects():
            chained = self._chained(modes[0], wanted)
            if chained is not None:
                return chained
        if not self.integrand.exact:
            self.effort = self._enough(self._pilot(first[0]))
        for _ in range(_TRIES - 1):
            drawn = self._rounds(first, modes[0].covariance, wanted)
            sample = self._sample(drawn)
            more = self._more(sample)
            if more is None:
                return sample
            sample = self._sample(self._with_better_tails(drawn, sample, more))
            if sample.ess >= wanted and self._more(sample) is None:
                return sample
            self.effort = more
        return self._sample(self._rounds(first, modes[0].covariance, wanted))

    def _modes(self, first: Mode, fold: Array) -> list[Mode]:
        """The mode, and others on either side of 0 of the weight coefficients."""
        places = self._two_sided()
        wide = [self.hyper[k].prior.hyper["scale"] / self.hyper[k].unit for k in places]
        reach = np.clip(_REACH * np.array(wide), _REACH, _MOST_REACH)
        return [first, *other_modes(self.log_density, first, places, reach, fold)]

    def _as_wide_as_priors(self, mode: Mode) -> list[Proposal]:
        """For each weight coefficient with a wide prior, a proposal that covers all of it.

        Far from 0 the likelihood is flat, and nearly all of such a prior lies there: beyond a
        valley no local proposal reaches it, and weights of points that are missing show nowhere.
        Defensive importance sampling: Hesterberg (1995), Technometrics 37, 185-194.
        """
        out = []
        for place in self._two_sided():
            prior, unit = self.hyper[place].prior, self.hyper[place].unit
            width = prior.hyper["scale"] / unit
            if width > _WIDE:
                centre, scale = mode.centre.copy(), mode.covariance.copy()
                centre[place] = prior.hyper["location"] / unit
                scale[place], scale[:, place] = 0.0, 0.0
                scale[place, place] = width**2
                out.append(Proposal(centre, np.linalg.cholesky(scale), self.folded))
        return out

    def _two_sided(self) -> Array:
        """Places of the weight coefficients with priors on both sides of 0."""
        real = [h.role == "weight" and h.prior.family in _REAL for h in self.hyper]
        return np.flatnonzero(real)

    def _interpolates(self, mode: Mode) -> bool:
        """Whether each value takes a large dense factor, and standard deviations are not near 0."""
        integrand = self.integrand
        if self.compiled is not None or not integrand.exact or self.looked_at:
            return False
        if integrand.size <= _LARGE or integrand.pairs[-1].is_sparse:
            return False
        sd = np.sqrt(np.diag(mode.covariance))
        return bool((mode.centre > _FROM_0 * sd)[self.folded].all())

    def _interpolated(self, mode: Mode, wanted: float) -> Sample | None:
        """The draws of `interpolation`; None where the posterior is not smooth enough for it."""
        grid = interpolation(mode, int(np.ceil(_MORE_DRAWS * wanted)), self.seed)
        count, size = len(grid.draws), self.integrand.size
        few = len(self.from_z) < min(count, size)
        noise = self.rng.standard_normal((count, len(self.from_z) if few else size))
        latent = np.zeros((count, _EXACT_DRAWS, len(self.columns)))
        height = np.empty(len(grid.points))
        for n in range(len(height)):
            self._chunks(1)
            theta = grid.points[[n]]
            inner, prior = self._inner(theta)
            assert isinstance(inner, Inner)
            height[n] = (inner.value + prior)[0]
            if not np.isfinite(height[n]):
                return None
            spread = self._spread(inner.factors, noise, few=few)
            share = grid.operator[:, [n]]
            centre = inner.mode[0, self.from_z]
            for m, sign in enumerate((1, -1)):
                latent[:, m, self.to_columns] += share * (centre + sign * spread)
        weights, k = smoothed(grid.operator @ height - grid.log_proposal)
        ess = float(1 / np.sum(weights**2))
        if grid.error(height) > _MOST_ERROR or ess < wanted or k > pareto_k_limit(count):
            return None
        return Sample(
            grid.draws,
            latent,
            np.repeat(weights[:, None] / _EXACT_DRAWS, _EXACT_DRAWS, axis=1),
            np.zeros(count),
            k,
            ess,
            self.evaluations,
        )

    def _spread(self, factors: Factors, noise: Array, *, few: bool) -> Array:
        """(S, kept) of the covariance of the elements of z that are kept, by normal noise: as many
        numbers as these elements if they are `few`, else as many as z has.
        """
        if not few:
            assert isinstance(factors, DenseFactors)
            return factors.half_solve(0, noise)[:, self.from_z]
        kept = np.zeros((self.integrand.size, len(self.from_z)), order="F")
        kept[self.from_z, np.arange(len(self.from_z))] = 1.0
        covariance = factors.solve(0, kept)[self.from_z]
        return np.asarray(noise @ np.linalg.cholesky(covariance).T)

    def _has_many_effects(self) -> bool:
        """Whether weights of all of z together are the wrong tool, and kernels can do without."""
        known = self.compiled is not None and not self.integrand.exact
        return known and self.integrand.size >= _MANY

    def _chained(self, mode: Mode, wanted: float) -> Sample | None:
        """Draws of z by chains; None where steps do not move, or weights are uneven still."""
        assert self.compiled is not None and self.start is not None
        chains = LatentChains(self.compiled, mode.centre, self.start, self.rng)
        if not chains.settle():
            return None
        noise, ratio = chains.draw(_MODE_DRAWS)

        def density(theta: Array) -> Array:
            """(S,) log p(theta, y) up to a constant, by the same few draws for all."""
            out = np.full(len(theta), -np.inf)
            for rows in self._chunks(len(theta)):
                count = len(theta[rows])
                noises, ratios = (np.repeat(x[None], count, axis=0) for x in (noise, ratio))
                logs = chains.weights(theta[rows], noises, ratios, EXACTLY)[1]
                out[rows] = special.logsumexp(logs, axis=1)
            return np.where(np.isnan(out), -np.inf, out)

        mode = find_mode(density, mode.centre[None], self.folded) or mode
        first = [Proposal(mode.centre, np.linalg.cholesky(mode.covariance * 1.2), self.folded)]
        for draws in _CHAIN_DRAWS:
            sd = np.sqrt(np.diag(mode.covariance))
            if not chains.move(self._with_large_effects(mode), sd):
                return None
            self.chains, self.effort = chains, Effort(draws, shifts=0)
            sample = self._sample(self._rounds(first, mode.covariance, wanted))
            self.chains = None
            if chains.ess() >= wanted:
                break
        k_limit = pareto_k_limit(len(sample.theta))
        if sample.inner_variance > _TAIL_VARIANCE or sample.pareto_k > k_limit:
            return None
        return replace(sample, ess=min(sample.ess, chains.ess()), mixture=None)

    def _with_large_effects(self, mode: Mode) -> Array:
        """(d,) beside the mode, on the side on which log densities of effects change faster."""
        upwards = self.folded / np.sqrt(np.diag(mode.covariance))
        length = float(np.sqrt(upwards @ mode.covariance @ upwards))
        beside = mode.centre + _BEYOND * (mode.covariance @ upwards) / max(length, 1e-300)
        return np.where(self.folded, np.abs(beside), beside)

    def _rounds(self, first: list[Proposal], covariance: Array, wanted: float) -> _Drawn:
        """Draws of one proposal after the other, until their weights are good enough."""
        most = max(MOST_POINTS, int(_POINTS_PER_DRAW * wanted))
        mixture, waiting = Mixture(), list(first[1:])
        proposal, count = first[0], LEAST_POINTS // 2
        latents: list[Array] = []
        ratios: list[Array] = []
        for number in range(_ROUNDS):
            uniform = uniforms(count, len(self.hyper) + 1, self.seed + number)
            theta = proposal.draw(uniform)
            mixture.add(proposal, theta)
            latent, ratio = self.draw(theta)
            latents.append(latent)
            ratios.append(ratio)
            if waiting:
                proposal, count = waiting.pop(0), LEAST_POINTS // 2
                continue
            ratio = np.concatenate(ratios)
            weighted = self._weighted(mixture, ratio)
            weights, k, ess = weighted
            total = len(mixture.theta)
            if number and ((ess >= wanted and k <= pareto_k_limit(total)) or total >= most):
                break
            by_value, fold = weights.sum(axis=1), first[0].folded
            if number and k >= _LOCAL_K:
                proposal = beside(mixture.theta, by_value, LEAST_POINTS // 2, fold)
            else:
                proposal = around_one(mixture.theta, by_value, covariance, first, number)
            count = self._next_count(total, ess, wanted, adapted=number > 0)
            count = max(1, min(count, most - total))
        return _Drawn(mixture, np.concatenate(latents), ratio, weighted)

    def _next_count(self, total: int, ess: float, wanted: float, *, adapted: bool) -> int:
        """Points of the next round: as many as are missing, but not many more than there are.

        The second proposal is made after the points of the first, and wastes fewer.
        """
        if ess >= wanted:  # k is what is missing
            return LEAST_POINTS // 2
        worth = ess / total if adapted else max(ess / total, _WORTH)
        more = total if ess <= 0 else int(np.ceil(_MARGIN * max(wanted - ess, 0) / worth))
        return int(np.clip(more, LEAST_POINTS // 4, 2 * total))

    def _sample(self, drawn: _Drawn) -> Sample:
        """The draws, weighted by the mixture of all proposals."""
        weights, k, ess = drawn.weighted
        variance = drawn.ratio.var(axis=1, ddof=1)
        return Sample(
            drawn.mixture.theta,
            drawn.latent,
            weights,
            variance,
            k,
            ess,
            self.evaluations,
            self._unevenness(drawn.mixture.theta, weights.sum(axis=1), variance),
            drawn.mixture,
        )

    def _with_better_tails(self, drawn: _Drawn, sample: Sample, effort: Effort) -> _Drawn:
        """The draws, those of large standard deviations made again with more effort.

        Which ones depends on their place alone, so that every weight keeps its expectation.
        """
        weight = sample.weights.sum(axis=1)
        uneven = np.zeros(len(weight), dtype=bool)
        for place in np.flatnonzero(self.folded):
            values = drawn.mixture.theta[:, place]
            order = np.argsort(values)
            before = np.cumsum(weight[order])
            start = values[order[int(np.searchsorted(before, _REDRAWN * before[-1]))]]
            uneven |= values >= start
        own, self.effort = self.effort, replace(effort, draws=self.effort.draws)
        latent, ratio = drawn.latent.copy(), drawn.ratio.copy()
        latent[uneven], ratio[uneven] = self.draw(drawn.mixture.theta[uneven])
        self.effort = own
        return _Drawn(drawn.mixture, latent, ratio, self._weighted(drawn.mixture, ratio))

    def _pilot(self, proposal: Proposal) -> Array:
        """Some hyperparameter values of the posterior and its tails, by roots of rough weights."""
        theta = proposal.draw(uniforms(_PILOT_OF, len(self.hyper) + 1, self.seed))
        inner, prior = self._inner(theta)
        good = np.isfinite(inner.value)
        if good.any():
            self.modes = Modes(theta[good], inner.mode[good], inner.scale[good])
        density = inner.value + prior
        weights, _ = smoothed(density - proposal.log_density(theta))
        return theta[systematic(np.sqrt(weights), _PILOT, self.rng)]

    def _enough(self, theta: Array) -> Effort:
        """The least effort that makes weights even, by draws at a pilot's hyperparameter values."""
        for shifts in (0, _SHIFTS):
            if self._inner_variance(theta, Effort(_PILOT_DRAWS, shifts)) < _UNEVEN:
                return Effort(_PLAIN_DRAWS, shifts)
        left = self._inner_variance(theta, Effort(_STEPWISE_PILOT_DRAWS, _SHIFTS, _PILOT_STEPS))
        steps = _PILOT_STEPS * left / (_INNER_VARIANCE * _STEPWISE_DRAWS)
        steps = np.clip(np.ceil(steps), _LEAST_STEPS, _MOST_STEPS)
        return Effort(_STEPWISE_DRAWS, _SHIFTS, int(steps))

    def _more(self, sample: Sample) -> Effort | None:
        """What it takes where effects are large, if that is more: a tail whose weights are uneven
        has too few draws, and neither a pilot nor Pareto's k may see it.
        """
        if self.integrand.exact or self.effort.steps >= _MOST_STEPS:
            return None
        left = self._tail_variance(sample.theta, sample.weights.sum(axis=1), sample.variance)
        if left <= _TAIL_VARIANCE:
            return None
        steps = max(self.effort.steps * left / (_INNER_VARIANCE * _STEPWISE_DRAWS), _PILOT_STEPS)
        return Effort(_STEPWISE_DRAWS, _SHIFTS, int(np.ceil(min(steps, _MOST_STEPS))))

    def _tail_variance(self, theta: Array, weights: Array, variance: Array) -> float:
        """The largest mean variance of log weights over the upper tail of a standard deviation."""
        tails = (_upper_tail(theta[:, j], weights, variance) for j in np.flatnonzero(self.folded))
        return max(tails, default=0.0)

    def _unevenness(self, theta: Array, weights: Array, variance: Array) -> float:
        """See `Sample.inner_variance`."""
        if self.integrand.exact:
            return 0.0
        inside = (weights > 0) & np.isfinite(variance)
        if not inside.any():
            return np.inf
        mean = float(np.average(variance[inside], weights=weights[inside]))
        return max(mean, self._tail_variance(theta, weights, variance))

    def _inner_variance(self, theta: Array, effort: Effort) -> float:
        """Of the log weights at one hyperparameter value, where it is large; inf without any."""
        self.effort = effort
        ratio = self.draw(theta)[1]
        kept = ratio[np.isfinite(ratio).all(axis=1)]
        if not len(kept):
            return np.inf
        variances = np.sort(kept.var(axis=1, ddof=1))
        return float(variances[int(_PILOT_QUANTILE * (len(variances) - 1) + 0.5)])

    def _weighted(self, mixture: Mixture, ratios: Array) -> tuple[Array, float, float]:
        """Weights (S, M), k^ and effective sample size of the hyperparameter values."""
        logs = ratios - mixture.log_density[:, None]
        top = np.max(logs, axis=1, initial=-np.inf)
        inside = np.exp(logs - np.where(np.isfinite(top), top, 0.0)[:, None])
        by_value = np.where(np.isfinite(top), top + np.log(inside.mean(axis=1)), -np.inf)
        outer, k = smoothed(by_value)
        share = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1e-300)
        if not self.integrand.exact:
            k = max(k, smoothed(logs.ravel())[1])
        return outer[:, None] * share, k, float(1 / np.sum(outer**2))

    def _without_hyperparameters(self, wanted: float) -> Sample:
        if not self.integrand.exact:
            self.effort = self._enough(np.zeros((_PILOT, 0)))
        count = int(np.ceil(2 * wanted / self.effort.draws))
        theta = np.zeros((count, 0))
        latent, ratio = self.draw(theta)
        weights, k = smoothed(ratio.ravel())
        shape = ratio.shape
        variance = ratio.var(axis=1, ddof=1)
        weights = weights.reshape(shape)
        return Sample(
            theta,
            latent,
            weights,
            variance,
            k,
            float(1 / np.sum(weights**2)),
            self.evaluations,
            self._unevenness(theta, weights.sum(axis=1), variance),
        )

    def found(self, sample: Sample) -> Proposals | None:
        """The proposals of a sample; None of a posterior that was not drawn from proposals."""
        if sample.mixture is None:
            return None
        mixture = sample.mixture
        counts = tuple(mixture.counts)
        return Proposals(tuple(mixture.proposals), counts, self.effort, self.modes)

    def resampled(self, sample: Sample, count: int) -> tuple[Array, Array]:
        """(count, d) hyperparameters and (count, P) latent vectors of equal weights."""
        S, M = sample.weights.shape
        places = systematic(sample.weights.ravel(), count, self.rng)
        return sample.theta[places // M], sample.latent.reshape(S * M, -1)[places]


def _upper_tail(values: Array, weights: Array, of: Array) -> float:
    """The weighted mean of something over the points beyond a quantile; 0 if they are too few."""
    order = np.argsort(values)
    beyond = order[np.cumsum(weights[order]) > _TAIL * weights.sum()]
    beyond = beyond[np.isfinite(of[beyond])]
    if len(beyond) < _TAIL_POINTS or not weights[beyond].sum() > 0:
        return 0.0
    return float(np.average(of[beyond], weights=weights[beyond]))
