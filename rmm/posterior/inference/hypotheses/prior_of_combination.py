"""The prior of a linear combination of parameters: its density and probabilities.

In closed form for one parameter and for sums of normal ones. Otherwise all parameters but one are
drawn from their priors, and the exact density of the remaining one is averaged over these draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rmm.design.design import slope_centres
from rmm.design.prepare import Model
from rmm.design.priors.group_sizes import moved_by_sizes, size_changes, size_power
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.formula.prior_distributions import draw, log_density, probability_up_to, support, width
from rmm.formula.prior_syntax import Prior
from rmm.model.spec import INTERCEPT
from rmm.posterior.inference.prior_checks.log_prior import elements
from rmm.tables.read import Array

_DRAWS, _SALT = 40_000, 0x5DD
_INTERCEPT, _SIGMA_INTERCEPT = f"b_l2[{INTERCEPT}]", f"{B_SIGMA}[{INTERCEPT}]"
#: A parameter of the program and the index of its element.
type Place = tuple[str, int]


@dataclass(frozen=True)
class CombinationPrior:
    """The prior of ``shift + factor * x`` of one parameter x, averaged over draws of the others.

    Attributes
    ----------
    prior : Prior
        Of x.
    factor, shift : (N,) arrays
        N = 1 where the prior is in closed form.
    """

    prior: Prior
    factor: Array
    shift: Array

    def density(self, point: float) -> float:
        """The density at a point."""
        x = (point - self.shift) / self.factor
        return float(np.mean(np.exp(log_density(self.prior, x)) / np.abs(self.factor)))

    def probability(self, low: float, high: float) -> float:
        """The probability of an interval, whose limits may be infinite."""
        return self._below(high) - self._below(low)

    def _below(self, point: float) -> float:
        if np.isinf(point):
            return float(point > 0)
        p = probability_up_to(self.prior, (point - self.shift) / self.factor)
        return float(np.mean(np.where(self.factor > 0, p, 1 - p)))

    @property
    def support(self) -> tuple[float, float]:
        """The least and the greatest value that is possible."""
        ends = np.array([self.shift + self.factor * end for end in support(self.prior)])
        if len(self.factor) > 1:  # what the others make possible is not known from draws
            return -np.inf, np.inf
        return float(ends.min()), float(ends.max())


def combination_prior(
    model: Model, factors: Mapping[str, float], seed: int, *, stated: bool = False
) -> CombinationPrior:
    """The prior of a combination.

    Parameters
    ----------
    model : Model
    factors : mapping
        Parameter, by the names of summaries -> factor.
    seed : int
        Of the draws where there is no closed form.
    stated : bool
        Whether coefficients of a group of typical size are meant, not those that are reported.
    """
    known = {one.label: one for one in elements(model)}
    places = {(one.name, one.index): one.prior for one in known.values()}
    rng = np.random.default_rng([seed, _SALT])
    moved = moved_by_sizes(model.spec, model.design.members)
    # A power of the group size that changes the meaning of others is drawn once for all.
    drawn: dict[Place, Array] = {}
    changes: dict[str, Array] = {}
    if not stated and any(known[label].name in moved for label in factors):
        drawn, changes = _size_powers(model, rng)
    sums: dict[Place, Array] = {}

    def add(place: Place, factor: Array | float) -> None:
        sums[place] = sums.get(place, np.zeros(1)) + factor

    for label, factor in factors.items():
        one = known[label]
        add((one.name, one.index), factor * changes.get(one.name, np.ones(1)))
        if label == _INTERCEPT:
            for name, centre in slope_centres(model.spec, model.design).items():
                for index, value in enumerate(centre):
                    add((name, index), -factor * float(value))
        if label == _SIGMA_INTERCEPT:
            for index, value in enumerate(model.design.outcome["center_sigma"]):
                add((AT_CENTRES, index), -factor * float(value))
    return _averaged({p: f for p, f in sums.items() if np.any(f != 0)}, places, drawn, rng)


def _size_powers(
    model: Model, rng: np.random.Generator
) -> tuple[dict[Place, Array], dict[str, Array]]:
    """Draws of the powers of the group size, and what they make of other parameters."""
    drawn: dict[Place, Array] = {}
    values: dict[str, Array] = {}
    for part, member in zip(model.spec.members, model.design.members, strict=True):
        power = size_power(part.weight)
        if member.typical_size != 1 and power is not None:
            priors = model.priors.elements[part.b_w]
            values[part.b_w] = np.column_stack([draw(prior, _DRAWS, rng) for prior in priors])
            drawn[part.b_w, power.index] = values[part.b_w][:, power.index]
    return drawn, size_changes(model.spec, model.design.members, values)


def _averaged(
    sums: Mapping[Place, Array],
    places: Mapping[Place, Prior],
    drawn: Mapping[Place, Array],
    rng: np.random.Generator,
) -> CombinationPrior:
    """One parameter is left; the others are constants, a part of a normal sum, or drawn."""
    free = [p for p in sums if places[p].family != "fixed"]
    shift = np.zeros(1)
    for place in sums:
        if places[place].family == "fixed":
            shift = shift + sums[place] * places[place].values[0]
    normal = [p for p in free if places[p].family == "normal" and p not in drawn]
    rest = [p for p in free if p not in normal]
    if normal:  # a sum of normals is one, given what is drawn
        mean = np.sum([sums[p] * places[p].values[0] for p in normal], axis=0)
        sd = np.sqrt(np.sum([(sums[p] * places[p].values[1]) ** 2 for p in normal], axis=0))
        prior, factor, shift = Prior("normal", (0.0, 1.0)), sd, shift + mean
    else:
        widths = {p: float(np.median(np.abs(sums[p]))) * width(places[p]) for p in rest}
        kept = max((p for p in rest if p not in drawn), key=widths.__getitem__, default=rest[0])
        prior, factor = places[kept], sums[kept]
        rest = [p for p in rest if p != kept]
    for place in rest:
        values = drawn[place] if place in drawn else draw(places[place], _DRAWS, rng)
        shift = shift + sums[place] * values
    count = max(len(np.atleast_1d(factor)), len(shift))
    return CombinationPrior(prior, np.broadcast_to(factor, count), np.broadcast_to(shift, count))
