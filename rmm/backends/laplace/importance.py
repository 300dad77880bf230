"""Adaptive importance sampling of the hyperparameters, and of the latent vector given them.

Proposals are multivariate t around the mode, then around the weighted sample; all draws are
weighted by the mixture of all proposals (Owen & Zhou 2000, JASA 95; Cornuet, Marin, Mira & Robert
2012, Scandinavian Journal of Statistics 39). For outcomes that are not normal each hyperparameter
value has several draws of the latent vector from its normal approximation, weighted by the exact
density: the Laplace error is corrected, not only estimated. Weights are Pareto smoothed; k^ and the
effective sample size are the diagnostics (Vehtari et al. 2024, JMLR 25).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from scipy import special

from rmm.backends.laplace.pareto import smoothed_logs
from rmm.errors import BackendError
from rmm.tables.read import Array

LogDensity = Callable[[Array], Array]

_DF = 5.0
_DIFFERENCE, _LEAST_DIFFERENCE = 0.02, 1e-6
_SHORTER = 0.25  # by which differences are, where they reach beyond a narrow density
_BEYOND, _WITHIN = 2.0, 0.03  # logs by which their ends are below the middle: too much, little
_NEWTON_STEPS, _HALVINGS = 100, 20
_LITTLE, _LONGEST, _AT_IT = 1e-3, 1.5, 0.5
_LEAST_CURVATURE = 1e-3
_OFF_SADDLE, _LENGTHS = 0.8, 10  # the farthest point that is looked at, to both sides, of so many
_WAY = 12  # points of the way from a start to the first mode
_BOTH_SIDES = 0.5  # units of a weight coefficient
_NEAR = 1.0  # standard deviations between modes that are one
_NEGLIGIBLE = 12.0  # logs of mass by which a mode is below the first and is left out
_EQUAL = 1e-6  # range of log weights that differ by rounding only
_FEW = 25  # weights, of which a fifth are too few for a tail
_BITS = 30  # of the coordinates of points
_FAR = 8.0  # scales from 0 at which folding makes no difference
# Sobol points of 2 to 16 dimensions: a primitive polynomial for each, its coefficients as the bits
# of a number, and the first direction numbers (Joe & Kuo 2008, SIAM Journal on Scientific Computing
# 30, 2635-2654).
_DIRECTIONS = (
    (3, (1,)),
    (7, (1, 3)),
    (11, (1, 3, 1)),
    (13, (1, 1, 1)),
    (19, (1, 1, 3, 3)),
    (25, (1, 3, 5, 13)),
    (37, (1, 1, 5, 5, 17)),
    (41, (1, 1, 5, 5, 5)),
    (47, (1, 1, 7, 11, 19)),
    (55, (1, 1, 5, 1, 1)),
    (59, (1, 1, 1, 3, 11)),
    (61, (1, 3, 5, 5, 31)),
    (67, (1, 3, 3, 9, 7, 49)),
    (91, (1, 1, 1, 15, 21, 21)),
    (97, (1, 3, 1, 13, 27, 49)),
)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A multivariate t, folded at 0: centre (d,), lower factor (d, d) of its scale matrix.

    `folded` (d,) says which elements are not negative.
    """

    centre: Array
    factor: Array
    folded: Array

    def draw(self, uniform: Array) -> Array:
        """(S, d) points of (S, d + 1) uniform numbers."""
        normal = special.ndtri(uniform[:, 1:])
        chi = special.chdtri(_DF, 1 - uniform[:, [0]])
        theta = np.asarray(self.centre + normal / np.sqrt(chi / _DF) @ self.factor.T)
        return np.where(self.folded, np.abs(theta), theta)

    def log_density(self, theta: Array) -> Array:
        """(S,) log densities: sums over what is folded onto a point.

        By the factor: SciPy's law refuses scales of 1 and of 1e-5 together (posteriors of which one
        direction is a ridge).
        """
        d = len(self.centre)
        near = np.abs(self.centre) < _FAR * np.linalg.norm(self.factor, axis=1)
        places = np.flatnonzero(self.folded & near)
        signs = np.ones((1 << len(places), 1, d))
        signs[:, 0, places] = list(itertools.product((1.0, -1.0), repeat=len(places)))
        moved = (signs * theta - self.centre).reshape(-1, d).T
        for i, row in enumerate(self.factor):  # forward substitution: d is small
            moved[i] = (moved[i] - row[:i] @ moved[:i]) / row[i]
        squares = np.einsum("ij,ij->j", moved, moved).reshape(len(signs), -1)
        constant = special.gammaln((_DF + d) / 2) - special.gammaln(_DF / 2)
        constant -= d / 2 * np.log(_DF * np.pi) + np.sum(np.log(np.diag(self.factor)))
        # Sums of powers: densities are far from 0 and from the largest number.
        powers = np.sum((1 + squares / _DF) ** (-(_DF + d) / 2), axis=0)
        return np.asarray(constant + np.log(powers))


@dataclass(frozen=True, eq=False)
class Mode:
    """A mode of a log density, its inverse curvature there, and how many values that took."""

    centre: Array
    covariance: Array
    evaluations: int
    height: float

    @property
    def log_mass(self) -> float:
        """Log of the mass of the normal of this height and covariance, up to a constant."""
        return self.height + 0.5 * float(np.linalg.slogdet(self.covariance)[1])


def find_mode(
    density: LogDensity, starts: Array, folded: Array, known: Mode | None = None
) -> Mode | None:
    """The mode by Newton's method from the best of some starts.

    Derivatives are differences of values around a point, all computed at once. Directions in which
    the density does not curve down are climbed as if they did (Dennis and Schnabel 1996, Numerical
    Methods for Unconstrained Optimization, 5.5). Where it curves up it is no mode, but a saddle:
    without effects, say, as the density is symmetric in a standard deviation that is folded at 0.
    The search goes on beside it, along that direction (Nocedal and Wright 2006, Numerical
    Optimization, 3.4).

    Parameters
    ----------
    density : callable
    starts : (n, d) array
    folded : (d,) bool array
        Where the density is taken at the absolute value.
    known : Mode, optional
        The search ends with None where it comes near this one.
    """
    heights = density(np.where(folded, np.abs(starts), starts))
    if not np.isfinite(heights).any():
        raise BackendError(
            "The posterior is not finite at any initial value. Look at the sizes of the numbers in "
            "the table, above all in offset() and fix(). If they are right, give initial values "
            "with `inits`."
        )
    best = starts[int(np.nanargmax(np.where(np.isfinite(heights), heights, -np.inf)))]
    around = _Stencil.at(density, best, folded, np.full(len(best), _DIFFERENCE))
    count = len(starts) + around.evaluations
    for _ in range(_NEWTON_STEPS):
        if known is not None and _near(around.centre, known):
            return None
        step, gain = around.step()
        higher = None if gain < _LITTLE else _along(density, around, step, folded)
        if higher is None:
            higher = _beside_saddle(density, around, folded)
        if higher is None:
            break
        around = higher
        count += around.evaluations
    if known is not None and _near(around.centre, known):
        return None
    return Mode(around.centre, around.covariance, count, around.height)


def _along(density: LogDensity, around: _Stencil, step: Array, folded: Array) -> _Stencil | None:
    """A higher point on the way of a step, which is halved until there is one; None if never."""
    length, evaluations = min(1.0, _LONGEST / float(np.linalg.norm(step))), 0
    for _ in range(_HALVINGS):
        tried = _Stencil.at(density, around.centre + length * step, folded, around.reach)
        evaluations += tried.evaluations
        if tried.height > around.height:
            return replace(tried, evaluations=evaluations)
        length *= 0.5
    return None


def _beside_saddle(density: LogDensity, around: _Stencil, folded: Array) -> _Stencil | None:
    """The best of some points along the direction in which the density curves up, if it is higher;
    None at a mode.
    """
    points = around.upwards()
    if points is None:
        return None
    heights = density(np.where(folded, np.abs(points), points))
    heights = np.where(np.isfinite(heights), heights, -np.inf)
    best = int(np.argmax(heights))
    if not heights[best] > around.height + _LITTLE:
        return None
    found = _Stencil.at(density, points[best], folded, around.reach)
    return replace(found, evaluations=found.evaluations + len(heights))


def _near(point: Array, mode: Mode) -> bool:
    """Whether a point is within half a standard deviation of a mode."""
    away = point - mode.centre
    return bool(away @ np.linalg.solve(mode.covariance, away) < _AT_IT**2)


@dataclass(frozen=True, eq=False)
class _Stencil:
    """A log density at a point, and its first and second derivatives by differences.

    `reach` (d,) are the differences: as long as possible, for their rounding, but not beyond a
    density that is narrower.
    """

    centre: Array
    height: float
    slope: Array
    hessian: Array
    evaluations: int
    reach: Array

    @classmethod
    def at(cls, density: LogDensity, centre: Array, folded: Array, reach: Array) -> _Stencil:
        """At the centre, to both sides of it, and in both directions of each pair."""
        d, evaluations = len(centre), 0
        away, left, right = _around(d)
        centre = np.where(folded, np.abs(centre), centre)
        while True:
            points = centre + away * reach
            found = density(np.abs(points, out=points, where=folded))
            evaluations += len(points)
            height, above, below = found[0], found[1 : d + 1], found[d + 1 : 2 * d + 1]
            ends = above + below - 2 * height
            beyond = ~(ends > -2 * _BEYOND) & (reach > _LEAST_DIFFERENCE)
            if not beyond.any() or not np.isfinite(height):
                break
            reach = np.where(beyond, _SHORTER * reach, reach)
        hessian = np.empty((d, d))
        hessian.flat[:: d + 1] = ends / reach**2
        if d > 1:
            pairs = found[2 * d + 1 :].reshape(2, -1).sum(axis=0) - 2 * height
            hessian[left, right] = hessian[right, left] = (pairs - ends[left] - ends[right]) / (
                2 * reach[left] * reach[right]
            )
        slope = (above - below) / (2 * reach)
        if not np.isfinite(found).all():
            slope = np.where(np.isfinite(slope), slope, 0.0)
            hessian = np.where(np.isfinite(hessian), hessian, 0.0)
        wider = np.where(ends > -2 * _WITHIN, np.minimum(reach / _SHORTER, _DIFFERENCE), reach)
        return cls(centre, float(height), slope, hessian, evaluations, wider)

    @cached_property
    def _curves(self) -> tuple[Array, Array]:
        """Eigenvalues and vectors of minus the Hessian."""
        values, vectors = np.linalg.eigh(-self.hessian)
        return values, vectors

    def step(self) -> tuple[Array, float]:
        """Newton's step, and twice what it gains of the log density."""
        values, vectors = self._curves
        along = vectors.T @ self.slope
        step = along / np.maximum(np.abs(values), _LEAST_CURVATURE * 10)
        return vectors @ step, float(step @ along)

    def upwards(self) -> Array | None:
        """Points along the direction in which the density curves up most; None if in none."""
        values, vectors = self._curves
        if values[0] > -_LEAST_CURVATURE * 10:
            return None
        nearest = _SHORTER * float(np.abs(vectors[:, 0]) @ self.reach)
        lengths = np.geomspace(nearest, _OFF_SADDLE, _LENGTHS)
        lengths = np.concatenate([-lengths, lengths])[:, None]
        return np.asarray(self.centre + lengths * vectors[:, 0])

    @property
    def covariance(self) -> Array:
        """Inverse of minus the Hessian; directions without curvature are cut."""
        values, vectors = self._curves
        return np.asarray((vectors / np.maximum(values, _LEAST_CURVATURE * 10)) @ vectors.T)


@lru_cache(maxsize=64)
def _around(d: int) -> tuple[Array, Array, Array]:
    """(d^2 + d + 1, d) directions of a stencil's points from its centre, and the pairs."""
    eye = np.eye(d)
    left, right = np.tril_indices(d, -1)
    pairs = eye[left] + eye[right]
    return np.concatenate([np.zeros((1, d)), eye, -eye, pairs, -pairs]), left, right


def other_modes(
    density: LogDensity, first: Mode, weights: Array, reach: Array, folded: Array
) -> list[Mode]:
    """Further modes, for which weight coefficients are searched on both sides of 0.

    Far from 0 weights no longer change, and a second mode may lie beyond a valley. Where the
    density only rises on the straight way to the first mode there is no valley, and no search.

    Parameters
    ----------
    density : callable
    first : Mode
        The search starts there, but for one weight coefficient.
    weights : int array
        Places of the weight coefficients.
    reach : array
        Absolute values at which each of them starts, on both sides.
    """
    starts = []
    for place, far in zip(weights, reach, strict=True):
        here = first.centre[place]
        # The first search has come from its own side, unless it ended near 0.
        for value in (far, -far) if abs(here) < _BOTH_SIDES else (-far * np.sign(here),):
            point = first.centre.copy()
            point[place] = value
            starts.append(point)
    if not starts:
        return []
    steps = np.linspace(0, 1, _WAY, endpoint=False)[:, None]
    ways = np.array([(1 - steps) * start + steps * first.centre for start in starts])
    heights = density(ways.reshape(-1, len(first.centre))).reshape(len(starts), _WAY)
    found = [first]
    for start, way in zip(starts, heights, strict=True):
        rises = np.diff(way, append=first.height) > 0
        if not np.isfinite(way[0]) or rises.all():
            continue
        mode = find_mode(density, start[None], folded, first)
        known = mode is None or any(_same(mode, other) for other in found)
        if mode is not None and not known and mode.log_mass > first.log_mass - _NEGLIGIBLE:
            found.append(mode)
    return found[1:]


def _same(mode: Mode, other: Mode) -> bool:
    """Whether two modes are within each other's reach."""
    away = mode.centre - other.centre
    return bool(away @ np.linalg.solve(other.covariance + mode.covariance, away) < _NEAR**2)


def around(theta: Array, weights: Array, least: Array, folded: Array) -> Proposal:
    """A proposal by the weighted mean and covariance of a sample, a tenth of `least` added."""
    mean = weights @ theta
    spread = (theta - mean).T @ (weights[:, None] * (theta - mean)) + 0.1 * least
    return Proposal(mean, np.linalg.cholesky(spread * (_DF - 2) / _DF * 1.2), folded)


def fitted_proposal(theta: Array, folded: Array) -> Proposal:
    """A proposal by the mean and covariance of draws (S, d) of equal weights."""
    d = theta.shape[1]
    return around(theta, np.full(len(theta), 1 / len(theta)), np.zeros((d, d)), folded)


def around_one(
    theta: Array, weights: Array, least: Array, modes: list[Proposal], number: int
) -> Proposal:
    """As `around`, by the points nearest to one of several modes; of these the next in turn."""
    if len(modes) == 1:
        return around(theta, weights, least, modes[0].folded)
    away = np.array([m.log_density(theta) for m in modes])
    own = np.argmax(away, axis=0) == number % len(modes)
    share = np.where(own, weights, 0.0)
    if not share.sum() > 1 / len(theta):
        share = weights
    return around(theta, share / share.sum(), least, modes[0].folded)


def beside(theta: Array, weights: Array, count: int, folded: Array) -> Proposal:
    """A proposal about the point that the mixture misses most, by the `count` points next to it.

    Incremental mixture importance sampling: Raftery & Bao (2010), Biometrics 66, 1162-1173.
    Ridges, such as of standard deviations of which the data tell only a sum of squares, and the two
    ends of them, are covered piece by piece.
    """
    centre = theta[int(np.argmax(weights))]
    spread = np.cov(theta, rowvar=False, aweights=weights + 1 / len(weights), ddof=0)
    spread = np.atleast_2d(spread) + 1e-12 * np.eye(theta.shape[1])
    moved = np.linalg.solve(np.linalg.cholesky(spread), (theta - centre).T)
    near = np.argsort(np.sum(moved**2, axis=0))[:count]
    share = weights[near] + 1 / len(weights)
    away = theta[near] - centre
    local = away.T @ ((share / share.sum())[:, None] * away) + 1e-6 * spread
    return Proposal(centre, np.linalg.cholesky(local * (_DF - 2) / _DF), folded)


class Mixture:
    """Points of several proposals, and their log densities under each."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.counts: list[int] = []
        self.theta = np.zeros((0, 0))
        self._each: list[Array] = []

    def add(self, proposal: Proposal, theta: Array) -> None:
        """A proposal and the points (S, d) that it has made."""
        added = [p.log_density(theta) for p in self.proposals]
        self._each = [np.append(old, new) for old, new in zip(self._each, added, strict=True)]
        self.theta = np.concatenate([self.theta, theta]) if self.proposals else theta
        self._each.append(proposal.log_density(self.theta))
        self.proposals.append(proposal)
        self.counts.append(len(theta))

    @property
    def log_density(self) -> Array:
        """(S,) log density of the mixture, each proposal by its number of points."""
        return _mixed(np.array(self._each), self.counts)


def mixture_density(proposals: Sequence[Proposal], counts: Sequence[int], theta: Array) -> Array:
    """(S,) log density at (S, d) points of a mixture, each proposal by its number of points."""
    return _mixed(np.array([proposal.log_density(theta) for proposal in proposals]), counts)


def _mixed(each: Array, counts: Sequence[int]) -> Array:
    """(S,) log density of a mixture of (proposals, S) log densities."""
    share = np.log(np.array(counts) / sum(counts))
    return np.asarray(np.logaddexp.reduce(each + share[:, None]))


def uniforms(count: int, dimension: int, seed: int) -> Array:
    """(count, dimension) Sobol points inside the unit cube, moved by a random digital shift.

    Dick and Pillichshammer (2010), Digital Nets and Sequences, 4.3.2 and 12: each point alone is
    uniform, all together remain as even as they were.
    """
    power = int(np.ceil(np.log2(max(count, 2))))
    shift = np.random.default_rng(seed).integers(0, 1 << _BITS, dimension)
    points = ((_sobol(dimension, power)[:count] ^ shift) + 0.5) / (1 << _BITS)
    return np.clip(points, 1e-9, 1 - 1e-9)


@lru_cache(maxsize=64)
def _sobol(dimension: int, power: int) -> Array:
    """(2^power, dimension) Sobol points as whole numbers, in the order of SciPy's."""
    if dimension > len(_DIRECTIONS) + 1:
        from scipy.stats import qmc  # a third of a second that fits with few dimensions do without

        points = qmc.Sobol(dimension, scramble=False, bits=_BITS).random_base2(power)
        return np.asarray(points * (1 << _BITS), dtype=np.int64)
    directions = np.ones((dimension, power), dtype=np.int64)
    for row, (polynomial, first) in zip(directions[1:], _DIRECTIONS, strict=False):
        degree = len(first)
        row[:degree] = first[:power]
        for k in range(degree, power):
            row[k] = row[k - degree]
            for i in range(1, degree + 1):
                if polynomial >> (degree - i) & 1:
                    row[k] ^= row[k - i] << i
    directions <<= _BITS - 1 - np.arange(power)
    number = np.arange(1 << power)
    code = number ^ (number >> 1)  # Gray's, of which neighbours differ in one bit
    points = np.zeros((len(code), dimension), dtype=np.int64)
    for k in range(power):
        points ^= (code >> k & 1)[:, None] * directions[:, k]
    return points


def smoothed(log_weights: Array) -> tuple[Array, float]:
    """Pareto smoothed, normalised weights, and k^.

    k^ is 0 where all weights are equal, and infinite where they are too few to have a tail.
    """
    finite = np.isfinite(log_weights)
    weights = np.zeros(len(log_weights))
    if not finite.any():
        return weights, float("inf")
    logs = log_weights[finite]
    weights[finite] = np.exp(logs - logs.max())
    weights /= weights.sum()
    if np.ptp(logs) < _EQUAL and finite.all():  # draws of the posterior itself
        return weights, 0.0
    if len(logs) < _FEW:
        return weights, float("inf")
    smooth, k = smoothed_logs(logs)
    if np.isnan(k) or not np.isfinite(smooth).all():  # nearly all is in one or two weights
        return weights, float("inf")
    weights[finite] = np.exp(smooth)
    return weights / weights.sum(), k


def systematic(weights: Array, count: int, rng: np.random.Generator) -> Array:
    """Places of `count` draws by systematic resampling, in random order."""
    at = (np.arange(count) + rng.random()) / count
    places = np.searchsorted(np.cumsum(weights), at * weights.sum())
    return rng.permutation(np.minimum(places, len(weights) - 1))
