"""Variance components: how much of the outcome's variation is members', units', groups'."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.backends.base import Run
from rmm.design.members.known_covariances import GroupPairs, group_pairs
from rmm.design.members.memberships import Membership
from rmm.design.prepare import Model
from rmm.model.correlated_effects import Roles
from rmm.model.spec import MemberPart
from rmm.posterior.diagnostics.summary import spread
from rmm.posterior.prediction.linear_predictor import (
    Draws,
    chunks,
    flat_draws,
    group_totals,
    layout_of,
    need,
    some_draws,
    some_totals,
    weight_totals,
    weights_of,
)
from rmm.tables.read import Array


def variance_components(model: Model, run: Run) -> pd.DataFrame:
    """Variances and shares per level, by draw.

    Of members: sigma_l1^2 times the mean over groups of sum w^2, which is the variance of a sum
    of independent effects (Browne, Goldstein and Rasbash 2001, Statistical Modelling 1, 103-124,
    section 2), with the weights of each draw; the variance of a random walk grows by a step with
    each membership, that of an AR(1) process is the same at all times, and slopes of x count
    sigma_slope_l1^2 x^2. Correlated intercepts and slopes of members are one component, with their
    covariances: c'Sc in place of sigma_l1^2, c = (1, x).
    With a known covariance A of the members w'Aw takes the place of sum w^2. Where members have
    correlated effects in two roles (`cor =`), and both roles in one group, twice their covariance
    times the mean of sum v w, v and w the weights of both roles, is a component of its own, which
    may be negative.
    Of nesting units: sigma_l3^2. Of
    groups: the family's residual variance on the scale of the linear predictor (gaussian
    sigma_l2^2, logit pi^2/3, weibull pi^2/(6 shape^2), proportional hazards pi^2/6; Nakagawa,
    Johnson and Schielzeth 2017, Journal of the Royal Society Interface 14, 20170213). Covariates
    are held fixed, and with them smooth functions `s(x)`: shares are of what they leave.

    Parameters
    ----------
    model : Model
    run : Run

    Returns
    -------
    pandas.DataFrame
        One row per component: variance, in squared units of the linear predictor, and share,
        each with mean, sd and quantiles.
    """
    return variance_table(variance_draws(model, run))


def variance_table(parts: Mapping[str, Array]) -> pd.DataFrame:
    """The table of `variance_components`, of draws (S,) of the variance of each component."""
    with np.errstate(invalid="ignore"):  # an infinite variance has no sd
        variance = spread(np.column_stack(list(parts.values())))
    total = np.sum(list(parts.values()), axis=0)
    share = spread(np.column_stack([share_of(v, total) for v in parts.values()]))
    table = pd.DataFrame(
        {
            **{("variance", k): v for k, v in variance.items()},
            **{("share", k): v for k, v in share.items()},
        }
    )
    return table.set_axis(pd.Index(list(parts), name="component"), axis=0)


def share_of(variance: Array, total: Array) -> Array:
    """(S,) shares of a variance in a total; one that is infinite has all of it."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(variance), 1.0, variance / total)


def variance_draws(model: Model, run: Run) -> dict[str, Array]:
    """Component -> (S,) draws of its variance; see `variance_components`."""
    draws = flat_draws(run, model)
    parts: dict[str, Array] = {}
    squares = _sums_of_squares(model, draws)
    shared = _shared_roles(model)
    for part, member in zip(model.spec.members, model.design.members, strict=True):
        for one in _components(part, member):
            size = one.size(draws) * squares[one.key]
            parts[one.name] = parts[one.name] + size if one.name in parts else size
    parts |= {one.name: one.size(draws) * squares[one.name] for one in shared}
    for nest in model.spec.nestings:
        if nest.random:
            sd = need(draws, nest.sigma, "the units' variance")
            parts[f"nesting units{nest.suffix}"] = sd**2
    family = model.spec.family
    own = {p.name: need(draws, p.name, "the residual variance") for p in family.parameters}
    count = len(next(iter(draws.values())))
    residual = family.residual_variance(own, model.design.outcome)
    parts["residual"] = np.broadcast_to(np.asarray(residual), (count,))
    return parts


@dataclass(frozen=True)
class _Component:
    """Members' effects with one standard deviation, `sigma` (its `element` of a vector).

    The effect in a membership has variance sigma^2 times `factor`, (M,): 1; for random walks the
    number of steps so far; for random slopes x^2. For a pair of correlated effects (two elements
    of `sigmas`) it is twice their covariance times the product of what multiplies them, and `pair`
    is the place of their correlation in `cor`. `related` are the pairs of memberships of effects
    with a known covariance.
    """

    name: str
    sigmas: tuple[tuple[str, int | None], ...]
    factor: Array
    cor: str = ""
    pair: int = 0
    related: GroupPairs | None = None

    @property
    def key(self) -> tuple[str, tuple[tuple[str, int | None], ...]]:
        """Which it is among those that add up to one component."""
        return self.name, self.sigmas

    def sums(self, weight: Array, start: Array) -> Array:
        """(S, J) variance of each group's sum over sigma^2, of (S, M) weights."""
        if self.related is not None:
            return group_totals(self.related.terms(weight), self.related.start)
        return group_totals(weight**2 * self.factor, start)

    def size(self, draws: Draws) -> Array:
        """(S,) sigma^2, or twice the covariance."""
        sds = []
        for name, k in self.sigmas:
            found = need(draws, name, "the members' variance")
            sds.append(found if k is None else found[:, k])
        if len(sds) == 1:
            return np.asarray(sds[0] ** 2)
        cor = need(draws, self.cor, "the members' variance")[:, self.pair]
        return np.asarray(2 * cor * sds[0] * sds[1])


def _components(part: MemberPart, member: Membership) -> list[_Component]:
    out: list[_Component] = []
    if part.smooth is not None:
        return out
    if part.random:
        steps = np.ones(len(member.member)) if member.walk is None else member.walk.order
        related = None
        if member.root is not None:
            related = group_pairs(member.root, member.member, member.start)
        name = f"members{part.suffix}"
        out.append(_Component(name, ((part.sigma, None),), steps, related=related))
    if part.correlated:
        return _correlated_components(part, member)
    if member.slopes is not None:
        columns = zip(member.slopes.labels, member.slopes.values.T, strict=True)
        for k, (label, x) in enumerate(columns):
            name = f"members{part.suffix}, slope of {label}"
            out.append(_Component(name, ((part.sigma_slope, k),), x**2))
    return out


def _correlated_components(part: MemberPart, member: Membership) -> list[_Component]:
    """Variances and covariances of a member's effects, all of one component."""
    assert member.slopes is not None
    x = member.slopes.values
    sigmas: list[tuple[str, int | None]] = [(part.sigma_slope, k) for k in range(x.shape[1])]
    if part.random:
        x, sigmas = np.column_stack([np.ones(len(x)), x]), [(part.sigma, None), *sigmas]
    name = f"members{part.suffix}"
    out = [_Component(name, (s,), x[:, k] ** 2) for k, s in enumerate(sigmas)]
    pairs = enumerate(zip(*np.triu_indices(len(sigmas), 1), strict=True))
    return out + [
        _Component(name, (sigmas[a], sigmas[b]), x[:, a] * x[:, b], part.cor, place)
        for place, (a, b) in pairs
    ]


@dataclass(frozen=True)
class _SharedRoles:
    """Members' effects in two roles, correlated, that add to the same groups.

    Attributes
    ----------
    name : str
    roles : Roles
    pair : int
        Place of their correlation.
    blocks : tuple of int
        Places of both blocks in `ModelSpec.members`.
    first, second : int arrays
        Memberships of a member in one group, in either block.
    start : (J + 1,) int array
        First pair of each group.
    """

    name: str
    roles: Roles
    pair: int
    blocks: tuple[int, int]
    first: Array
    second: Array
    start: Array

    def size(self, draws: Draws) -> Array:
        """(S,) twice the covariance of both effects."""
        why = "the members' variance"
        own = [self.roles.blocks.index(i) for i in self.blocks]
        a, b = (need(draws, self.roles.sds[k], why) for k in own)
        return np.asarray(2 * need(draws, self.roles.cor, why)[:, self.pair] * a * b)

    def sums(self, first: Array, second: Array) -> Array:
        """(S, J) sums of products of weights, (S, M) of each block."""
        return group_totals(first[..., self.first] * second[..., self.second], self.start)


def _shared_roles(model: Model) -> list[_SharedRoles]:
    """Pairs of roles that some member has in one group, with weights that are not known as 0."""
    out, parts = [], model.spec.members
    for roles in model.spec.roles:
        for pair, (i, j) in enumerate(itertools.combinations(roles.blocks, 2)):
            a, b = model.design.members[i], model.design.members[j]
            own, other = (m.group * a.n_members + m.member for m in (a, b))
            key, first, second = np.intersect1d(own, other, return_indices=True)
            known = [np.ones(len(m.member)) if m.weight is None else m.weight for m in (a, b)]
            kept = known[0][first] * known[1][second] != 0
            if kept.any():
                name = f"members{parts[i].suffix}, covariance with members{parts[j].suffix}"
                group = key[kept] // a.n_members
                start = np.searchsorted(group, np.arange(model.design.J + 1))
                out.append(
                    _SharedRoles(name, roles, pair, (i, j), first[kept], second[kept], start)
                )
    return out


def _sums_of_squares(model: Model, draws: Draws) -> dict[Any, Array]:
    """Mean over groups of sum w^2 factor, by `_Component.key`; (S,), (1,) of known weights.

    And of sums of products of two blocks' weights, by the name of `_SharedRoles`.
    """
    layout, totals = layout_of(model), weight_totals(model, draws)
    roles = _shared_roles(model)
    out: dict[Any, list[Array]] = {}
    for rows in chunks(model, layout, draws):
        some, sums = some_draws(draws, rows), some_totals(totals, rows)
        for index, part in enumerate(model.spec.members):
            member = layout.design.members[index]
            if rows.start > 0 and not part.estimated:
                continue
            for one in _components(part, member):
                weight = weights_of(layout, index, part, some, sums)
                squares = one.sums(weight, member.start)
                out.setdefault(one.key, []).append(squares.mean(axis=1))
        for shared in roles:
            both = [(i, model.spec.members[i]) for i in shared.blocks]
            if rows.start > 0 and not any(part.estimated for _, part in both):
                continue
            products = shared.sums(*(weights_of(layout, i, p, some, sums) for i, p in both))
            out.setdefault(shared.name, []).append(products.mean(axis=1))
    return {name: np.concatenate(parts) for name, parts in out.items() if parts}
