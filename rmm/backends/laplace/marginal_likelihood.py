"""The latent vector integrated out: exactly where the outcome is normal, else by Laplace.

Everything is done for S hyperparameter values at once. With z = (x - location) / scale, a priori
standard normal, and B = A diag(scale), the posterior of z given the hyperparameters has its mode
z^ where B' grad = z^ and the precision H = I + B' W B, W minus the Hessian of the log likelihood
in eta; then

    log p(y | theta) = log p(y | z^) - |z^|^2 / 2 - log|H| / 2 + correction,

without correction for a normal outcome. Tierney & Kadane (1986), Journal of the American
Statistical Association 81, 82-86; Rue, Martino & Chopin (2009), JRSS B 71, 319-392.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sparse

from rmm.backends.laplace.factorisation.factors import (
    Factors,
    Pattern,
    factors_for,
    largest,
    lower_pattern,
)
from rmm.backends.laplace.factorisation.fixed_design import FixedMap
from rmm.backends.laplace.latent_model import Feature, LatentModel
from rmm.backends.laplace.single_group_effects import find_private, normal_curvature
from rmm.families import Curvature
from rmm.families.variants.varying_sd import AT_CENTRES, at_zero
from rmm.model.spec import CUT
from rmm.tables.read import Array

_NEWTON_STEPS, _HALVINGS = 60, 30
#: What a further Newton step may still gain of the log posterior: where values are compared, where
#: a mode of the hyperparameters is searched, and where the mode is the centre of weighted draws.
EXACTLY, NEARLY, ROUGHLY = 1e-9, 1e-4, 1e-2
_TINY = 1e-300
_NUMBERS_AT_ONCE = 1_000_000  # arrays that stay near the processor are faster

Values = Mapping[str, Array]
Start = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Affine:
    """eta = offset + B z for S hyperparameter values; slots are the entries of A.

    Attributes
    ----------
    offset : (S, J) or (1, J)
        The location of the latent vector is in it.
    A : (S, slots) or (1, slots)
    scale : (S, P)
    private : (S, n)
        What multiplies the elements that are not in z (`single_group_effects`).
    """

    offset: Array
    A: Array
    scale: Array
    private: Array

    def take(self, keep: Array) -> Affine:
        """Some of the hyperparameter values."""
        offset = self.offset if len(self.offset) == 1 else self.offset[keep]
        A = self.A if len(self.A) == 1 else self.A[keep]
        return Affine(offset, A, self.scale[keep], self.private[keep])


@dataclass(frozen=True, eq=False)
class Inner:
    """The posterior of z at S hyperparameter values.

    Attributes
    ----------
    value : (S,)
        log p(y | theta), by Laplace; -inf where no mode was found.
    mode, scale : (S, P)
        Of z, and what multiplies it.
    logdet : (S,)
        log|H|.
    factors : Factors
        Of H; those of this integrand are overwritten by its next integral.
    weight : (S, J) array
        Diagonal of W.
    """

    value: Array
    mode: Array
    scale: Array
    logdet: Array
    factors: Factors
    weight: Array


class Integrand:
    """The integrals of one model; what does not depend on hyperparameters is computed once.

    Attributes
    ----------
    kept : (P,) int array
        Elements of the model's latent vector that are in z: all but the private ones.
    private : Private
        None of them for an outcome that is not normal.
    """

    def __init__(self, model: LatentModel) -> None:
        self.model = model
        rows, columns = [model.entry_row], [model.entry_column]
        groups = np.arange(model.groups)
        for feature in model.features:
            rows.append(groups)
            columns.append(np.full(model.groups, feature.column))
        row, column = np.concatenate(rows), np.concatenate(columns)
        slots, where = np.unique(row * max(model.size, 1) + column, return_inverse=True)
        self.slot_count = len(slots)
        all_rows, all_columns = np.divmod(slots, max(model.size, 1))
        count = len(model.entry_row)
        self.entry_slot = where[:count]
        self.feature_slots = [
            where[count + k * model.groups : count + (k + 1) * model.groups]
            for k in range(len(model.features))
        ]
        alone = self.exact and not model.family.observation_weights
        candidate = (model.scale_of >= 0) & (model.location == 0) & alone
        self.private = find_private(all_rows, all_columns, candidate, model.groups)
        self.kept = _others(model.size, self.private.column)
        self.size = len(self.kept)
        self.slots = _others(len(slots), self.private.slots)
        self.row = all_rows[self.slots]
        self.column = np.searchsorted(self.kept, all_columns[self.slots])
        self._plain = model.fixed_design
        self._factors: Factors | None = None
        self._map: FixedMap | None = None

    @cached_property
    def gather(self) -> Any:
        """Adds entries up to slots of A."""
        count = len(self.entry_slot)
        shape = (self.slot_count, count)
        return sparse.csr_matrix((np.ones(count), (self.entry_slot, np.arange(count))), shape=shape)

    @cached_property
    def by_row(self) -> Any:
        """Adds slots up to groups."""
        return self._added(self.row, self.model.groups)

    @cached_property
    def by_column(self) -> Any:
        """Adds slots up to elements of z."""
        return self._added(self.column, self.size)

    def _added(self, place: Array, count: int) -> Any:
        at = np.arange(len(place))
        return sparse.csr_matrix((np.ones(len(at)), (place, at)), shape=(count, len(at)))

    @cached_property
    def pairs(self) -> tuple[Array, Array, Array, Any, Pattern]:
        """Pairs of slots of one group: left, right, group, the sum of their products by cell, and
        the cells: those of the lower triangle of I + A'WA that can differ from 0.
        """
        size = np.bincount(self.row, minlength=self.model.groups)
        first = np.concatenate([[0], np.cumsum(size)[:-1]])
        left = np.repeat(np.arange(len(self.row)), size[self.row])
        step = np.arange(len(left)) - np.repeat(
            np.cumsum(size[self.row]) - size[self.row], size[self.row]
        )
        right = first[self.row[left]] + step
        lower = self.column[left] >= self.column[right]
        left, right = left[lower], right[lower]
        pattern, place = lower_pattern(self.size, self.column[left], self.column[right])
        total = sparse.csr_matrix(
            (np.ones(len(left)), (place, np.arange(len(left)))),
            shape=(len(pattern.row), len(left)),
        )
        return left, right, self.row[left], total, pattern

    @cached_property
    def dense(self) -> bool:
        """Whether factors are dense: minus the Hessian of this family is no diagonal matrix."""
        family = self.model.family
        outcome = self.model.outcome
        assert family.curvature is not None
        found = family.curvature(
            np.zeros((1, self.model.groups)), family.some_values(outcome), outcome
        )
        return found.shared is not None

    @property
    def at_once(self) -> int:
        """Hyperparameter values whose arrays fit into memory together."""
        left, *_, pattern = self.pairs
        most = max(largest(pattern, dense=self.dense), len(left), len(self.model.entry_row), 1)
        return max(1, _NUMBERS_AT_ONCE // most)

    # ---- the affine map ----------------------------------------------------------------------

    def affine(self, values: Values, count: int) -> Affine:
        """The map of S hyperparameter values.

        Parameters
        ----------
        values : mapping
            Hyperparameter -> (S, K).
        count : int
            S.
        """
        model = self.model
        weights = [w.of(values[w.name]) for w in model.weights]
        loadings = model.correlated_sources(values, weights, count)
        one = np.ones((1 if self._plain else count, 1))
        source = np.concatenate([one, *weights, *loadings], axis=1)
        entries = model.entry_value * source[:, model.entry_source]
        A = np.ascontiguousarray((self.gather @ entries.T).T)
        for slots, feature in zip(self.feature_slots, model.features, strict=True):
            A[:, slots] = self._feature(feature, weights, values)
        offset = np.broadcast_to(model.offset, (len(A), model.groups)).copy()
        for w, weight in zip(model.weights, weights, strict=True):
            if w.offset is not None:
                for s in range(len(offset)):
                    offset[s] += np.bincount(w.group, weight[s] * w.offset, model.groups)
        kept = A[:, self.slots]
        location = self._location(values)
        offset = offset + self.rows_total(kept * location[:, self.kept][:, self.column])
        scale = np.broadcast_to(model.scale, (count, model.size)).copy()
        free = np.flatnonzero(model.scale_of >= 0)
        if len(free):
            sds = self.scalars(values)
            scale[:, free] *= sds[:, model.scale_of[free]]
        private = A[:, self.private.slots] * scale[:, self.private.column]
        return Affine(offset, kept, scale[:, self.kept], private)

    def sources(self, values: Values, count: int) -> Array:
        """(S, sources) or (1, 1): 1, the weights of each block, the loadings of correlated effects
        and of AR(1) processes, and the columns of each feature.
        """
        model = self.model
        weights = [w.of(values[w.name]) for w in model.weights]
        loadings = model.correlated_sources(values, weights, count)
        features = [
            np.broadcast_to(self._feature(f, weights, values), (count, model.groups))
            for f in model.features
        ]
        one = np.ones((1 if self._plain else count, 1))
        return np.concatenate([one, *weights, *loadings, *features], axis=1)

    def _location(self, values: Values) -> Array:
        """(S, P) or (1, P) locations of the latent vector."""
        model = self.model
        free = np.flatnonzero(model.location_of >= 0)
        if not len(free):
            return model.location[None, :]
        scalars = self.scalars(values)
        location = np.repeat(model.location[None, :], len(scalars), axis=0)
        location[:, free] = scalars[:, model.location_of[free]]
        return location

    def scalars(self, values: Values) -> Array:
        """(S, hyperparameters) values in the order of the model."""
        return np.column_stack([values[h.key][:, h.column] for h in self.model.hyper])

    def _feature(self, feature: Feature, weights: list[Array], values: Values) -> Array:
        if feature.weights is not None:
            weight = weights[feature.weights]
        else:
            assert feature.known is not None
            weight = feature.known[None, :]
        sums = np.add.reduceat(weight, np.unique(feature.start)[:-1], axis=1)
        share = weight / np.repeat(sums, np.diff(np.unique(feature.start)), axis=1)
        number = None
        if feature.number is not None:
            number = values[feature.number[0]][:, [feature.number[1]]]
        found = feature.arrays.values(share, number)
        return np.asarray(found - feature.arrays.center)

    def rows_total(self, slots: Array) -> Array:
        """(S, J) sums of (S, slots) over the slots of each group."""
        return np.ascontiguousarray((self.by_row @ slots.T).T)

    def predictor(self, affine: Affine, z: Array) -> Array:
        """(S, J) offset + B z."""
        return affine.offset + self.reached(affine, z)

    def reached(self, affine: Affine, z: Array) -> Array:
        """(S, J) B z."""
        if self._plain:
            return self._fixed(affine).reached(affine.scale * z)
        return self.rows_total(affine.A * (affine.scale * z)[:, self.column])

    def back(self, affine: Affine, v: Array) -> Array:
        """(S, P) B' v of (S, J) values."""
        if self._plain:
            return self._fixed(affine).back(v) * affine.scale
        found = (self.by_column @ (affine.A * v[:, self.row]).T).T
        return np.ascontiguousarray(found) * affine.scale

    def _fixed(self, affine: Affine) -> FixedMap:
        if self._map is None:
            left, right, _, total, _ = self.pairs
            shape = (self.model.groups, self.size)
            A = sparse.csr_matrix((affine.A[0], (self.row, self.column)), shape=shape)
            self._map = FixedMap(A, (left, right), total)
        return self._map

    def _precision(self, affine: Affine, weight: Array) -> Array:
        """(S, cells) of I + B' diag(weight) B."""
        left, right, group, total, pattern = self.pairs
        weight = np.broadcast_to(weight, (len(weight), self.model.groups))
        if self._plain:
            sums = self._fixed(affine).sums(weight)
        else:
            sums = (total @ (affine.A[:, left] * affine.A[:, right] * weight[:, group]).T).T
        H = sums * affine.scale[:, pattern.row] * affine.scale[:, pattern.column]
        H[:, pattern.diagonal] += 1.0
        return np.asarray(H)

    def _dense(self, affine: Affine, s: int) -> Array:
        """(J, P) B of one hyperparameter value."""
        B = np.zeros((self.model.groups, self.size))
        A = affine.A[s if len(affine.A) > 1 else 0]
        B[self.row, self.column] = A * affine.scale[s, self.column]
        return B

    # ---- the integral ------------------------------------------------------------------------

    def inner(
        self, values: Values, count: int, start: Start | None = None, gain: float = EXACTLY
    ) -> Inner:
        """Modes, factors and integrals of S hyperparameter values.

        Parameters
        ----------
        start : tuple, optional
            A mode elsewhere and its scale, (P,) or (S, P): where Newton's method starts. Where the
            scale here is larger, z is made smaller: steps from a predictor far out are too long.
        gain : float
            Of the log posterior, that is too little for another step.
        """
        affine = self.affine(values, count)
        z = np.zeros((count, self.size))
        if start is not None and not self.exact:
            mode, scale = start
            z[:] = mode * np.minimum(1.0, scale / np.maximum(affine.scale, _TINY))
        factors = self._room(count)
        value, logdet = np.full(count, -np.inf), np.zeros(count)
        weight = np.zeros((count, self.model.groups))
        active, curvature = np.arange(count), None
        for _ in range(_NEWTON_STEPS):
            part, own = affine.take(active), _some(values, active)
            if curvature is None:
                curvature = self.curvature(self.predictor(part, z[active]), own, part)
            slope = self.back(part, curvature.gradient) - z[active]
            here = curvature.value - 0.5 * np.sum(z[active] ** 2, axis=1)
            less = self._less(part, curvature)
            good = factors.refactor(
                active,
                self._precision(part, curvature.weight),
                less,
                definite=less is None and bool((curvature.weight >= 0).all()),
            )
            good &= np.isfinite(here)
            step = np.zeros_like(slope)
            for i in np.flatnonzero(good):
                step[i] = factors.solve(active[i], slope[i])
            weight[active] = curvature.weight
            if self.exact:  # one step is all of it, and gains half its slope
                z[active] += step
                logdet[good] = factors.logdet(active[good])
                top = here + 0.5 * np.sum(step * slope, axis=1) - 0.5 * logdet
                value = np.where(good, top, -np.inf)
                break
            rise = np.sum(step * slope, axis=1)
            done = ~good | (rise < 2 * gain)
            keep = done & good
            logdet[active[keep]] = factors.logdet(active[keep])
            top = here + 0.5 * rise  # with what a last step would gain
            value[active[keep]] = top[keep] - 0.5 * logdet[active[keep]]
            going = ~done
            if not going.any():
                break
            active = active[going]
            z[active], curvature = self._uphill(
                affine.take(active), _some(own, going), z[active], step[going], here[going]
            )
        return Inner(value, z, affine.scale, logdet, factors, weight)

    def _room(self, count: int) -> Factors:
        """Room for the factors of `count` hyperparameter values, kept from one call to the next."""
        if self._factors is None or len(self._factors) < count:
            self._factors = factors_for(self.pairs[-1], count, dense=self.dense)
        return self._factors

    def _less(self, affine: Affine, curvature: Curvature) -> Callable[[int], Array] | None:
        """What is no diagonal matrix in minus the Hessian, by hyperparameter value."""
        shared = curvature.shared
        if shared is None:
            return None
        return lambda s: shared(s, self._dense(affine, s))

    def _uphill(
        self, affine: Affine, values: Values, z: Array, step: Array, here: Array
    ) -> tuple[Array, Curvature | None]:
        """Newton's step, halved until the log posterior rises; the curvature there, if known."""
        tried, length = z + step, 1.0
        worse, whole = np.arange(len(z)), None
        for _ in range(_HALVINGS):
            part, own = affine.take(worse), _some(values, worse)
            found = self.curvature(self.predictor(part, tried[worse]), own, part)
            there = found.value - 0.5 * np.sum(tried[worse] ** 2, axis=1)
            whole = found if len(worse) == len(z) else None
            worse = worse[~(there >= (here - 1e-10 * np.abs(here))[worse])]
            if not len(worse):
                return tried, whole
            length *= 0.5
            tried[worse] = z[worse] + length * step[worse]
        return tried, None

    @property
    def exact(self) -> bool:
        """Whether the outcome is normal."""
        return self.model.family.sds is not None

    def own_values(self, values: Values, count: int) -> dict[str, Array]:
        """The family's own parameters, (S,) each; thresholds (S, K - 1), `b_sigma` (S, K)."""
        own = {}
        for p in self.model.family.parameters:
            if p.role == "threshold":
                own[p.name] = values[CUT]
                continue
            if p.role == "log_sd":
                center = self.model.outcome["center_sigma"]
                own[p.name] = at_zero(values[AT_CENTRES], center)
                continue
            held = self.model.fixed.get(p.name)
            own[p.name] = np.full(count, held[0]) if held is not None else values[p.name][:, 0]
        return own

    def curvature(self, eta: Array, values: Values, affine: Affine) -> Curvature:
        """Log likelihood, private elements integrated out, and its derivatives in eta."""
        family = self.model.family
        own = self.own_values(values, len(eta))
        if len(self.private):
            assert family.sds is not None  # only normal outcomes have private elements
            variance = family.sds(own, self.model.outcome) ** 2
            variance = variance + self.private.total(affine.private**2)
            found = normal_curvature(eta, self.model.outcome[family.normal_y], variance)
            moved = np.sum(family.log_jacobian(self.model.outcome))
            return replace(found, value=found.value + moved)
        assert (
            family.curvature is not None
        )  # the model says so: `rmm.backends.laplace.latent_model`
        return family.curvature(eta, own, self.model.outcome)

    def private_draws(
        self, values: Values, affine: Affine, z: Array, rng: np.random.Generator
    ) -> Array:
        """(S, n) draws of the private elements, given the others (S, P)."""
        family = self.model.family
        assert family.sds is not None  # only normal outcomes have private elements
        sd = family.sds(self.own_values(values, len(z)), self.model.outcome)
        residual = self.model.outcome[family.normal_y] - self.predictor(affine, z)
        return self.private.draw(affine.private, residual, sd, rng)

    def slope(self, affine: Affine, values: Values, z: Array) -> Array:
        """(S, P) gradient of log p(y, z | theta) in z."""
        curvature = self.curvature(self.predictor(affine, z), values, affine)
        return self.back(affine, curvature.gradient) - z

    def log_joint(self, affine: Affine, values: Values, z: Array) -> Array:
        """(S,) log p(y, z | theta)."""
        value = self.curvature(self.predictor(affine, z), values, affine).value
        return value + _log_prior(z)

    def log_joint_and_slope(self, affine: Affine, values: Values, z: Array) -> tuple[Array, Array]:
        """(S,) log p(y, z | theta), and its (S, P) gradient in z."""
        curvature = self.curvature(self.predictor(affine, z), values, affine)
        joint = curvature.value + _log_prior(z)
        return joint, self.back(affine, curvature.gradient) - z


def _log_prior(z: Array) -> Array:
    """(S,) log densities of standard normal (S, P)."""
    return np.asarray(-0.5 * np.sum(z**2, axis=1) - 0.5 * z.shape[1] * np.log(2 * np.pi))


def _some(values: Values, keep: Array) -> dict[str, Array]:
    return {name: value[keep] for name, value in values.items()}


def _others(count: int, places: Array) -> Array:
    """All of `count` places but some, in order."""
    kept = np.ones(count, dtype=bool)
    kept[places] = False
    return np.flatnonzero(kept)
