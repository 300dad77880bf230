"""Predictions of known and new groups, posterior predictive draws and the log likelihood."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.backends.base import Run
from rmm.design.members.autoregressive import OccasionSeries, between
from rmm.design.members.memberships import Membership
from rmm.design.members.random_walks import Walk
from rmm.design.prepare import Model
from rmm.errors import BackendError, unknown_name
from rmm.model.correlated_effects import CorrelationNames, Roles
from rmm.model.correlations import cholesky_factor, partial_correlations
from rmm.model.spec import MemberPart
from rmm.posterior.diagnostics.summary import spread
from rmm.posterior.prediction.linear_predictor import (
    Draws,
    Layout,
    Totals,
    count_draws,
    eta_draws,
    flat_draws,
    layout_of,
    need,
    predictor_chunks,
)
from rmm.posterior.prediction.new_groups import NewGroups, lay_out
from rmm.posterior.prediction.new_units import check_new_units
from rmm.tables.read import Array

KINDS = ("mean", "outcome", "linear", "probability")
EFFECTS = ("all", "known", "none")


def predict(
    model: Model,
    run: Run,
    newdata: Any,
    kind: str,
    effects: str,
    seed: int,
    totals: Totals | None = None,
    expected: Any = True,
) -> tuple[Array, Array]:
    """Draws of predictions.

    Parameters
    ----------
    newdata : table or None
        None: the groups of the fit.
    kind : str
        ``"mean"``, ``"outcome"``, ``"linear"`` or, of ordered levels, ``"probability"``.
    effects : str
        ``"all"``, ``"known"`` or ``"none"``; see `rmm.Fit.predict`.
    seed : int
    totals : mapping, optional
        Of `weight_totals`, for all draws of the run: sums over the table of the fit, so that a
        prediction of few groups does not go through it.
    expected : bool, id or collection of ids
        Ids of members and nesting units that may be new without a warning.

    Returns
    -------
    labels : (J,) object array
    values : (S, J) array, of probabilities (S, J, K)

    Raises
    ------
    BackendError
        For an unknown kind or value of `effects`, or probabilities of an outcome without levels.
    DataError
        For a table that does not fit the model, or an id of the fit among those `expected`.
    """
    _choice("kind", kind, KINDS)
    if kind == "probability" and model.spec.family.probabilities is None:
        raise BackendError(
            f"Family {model.spec.family.name!r} has no probabilities of ordered levels. "
            "kind='probability' is for family 'ordinal'; use kind='mean'."
        )
    _choice("effects", effects, EFFECTS)
    new = None if newdata is None else lay_out(model, newdata)
    layout = layout_of(model) if new is None else new.layout
    draws = flat_draws(run, model)
    if new is None:
        draws = _of_fit(model, draws, effects)
    else:
        check_new_units(model, new, effects, expected)
        layout, draws = of_new_groups(model, draws, new, effects, seed)
    if new is not None and kind == "outcome" and model.spec.family.baseline is not None:
        fitted = _of_fit(model, flat_draws(run, model), "all")
        values = _with_baseline(model, layout, draws, fitted, seed, totals)
    else:
        values = _of_chunks(model, layout, draws, _function(model, layout, kind, seed), totals)
    labels = layout.design.coords["group"]
    if not model.spec.blocks:  # groups are rows: in the user's order
        order = np.argsort(labels.astype(int), kind="stable")
        labels, values = labels[order], values[:, order]
    return labels, values


def log_likelihood(model: Model, run: Run) -> Array:
    """Pointwise log likelihood, (S, units); units are groups, or strata."""
    family, outcome, layout = model.spec.family, model.design.outcome, layout_of(model)
    draws = _of_fit(model, flat_draws(run, model), "all")
    return _of_chunks(
        model, layout, draws, lambda eta, own: family.log_likelihood(eta, own, outcome)
    )


def unit_labels(model: Model) -> Array:
    """Labels of the units of the log likelihood: groups, or strata."""
    strata = model.grouped.strata
    if model.spec.family.unit == "group" or strata is None:
        return model.design.coords["group"]
    return strata.labels


def table(labels: Array, values: Array) -> pd.DataFrame:
    """One row per group: mean, sd, q2.5, median, q97.5."""
    return pd.DataFrame(spread(values), index=pd.Index(labels, name="group"))


def level_labels(model: Model) -> Array:
    """(K,) ordered levels of the outcome, as the table has them."""
    return np.asarray(model.design.outcome["levels"], dtype=object)


def probability_table(labels: Array, levels: Array, values: Array) -> pd.DataFrame:
    """One row per group and level, of (S, J, K) draws."""
    index = pd.MultiIndex.from_product([labels, levels], names=["group", "level"])
    return pd.DataFrame(spread(values.reshape(len(values), -1)), index=index)


def _choice(name: str, given: Any, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise BackendError(unknown_name(given, f"a value of `{name}`", allowed))


def _function(
    model: Model, layout: Layout, kind: str, seed: int
) -> Callable[[Array, Draws], Array]:
    """``(eta, own parameters) -> (S, J)`` of a kind of prediction."""
    family, outcome = model.spec.family, layout.design.outcome
    rng = np.random.default_rng([seed, 0x0DD5])
    return {
        "mean": lambda eta, own: family.mean(eta, own, outcome),
        "outcome": lambda eta, own: family.draw(eta, own, outcome, rng),
        "linear": lambda eta, own: eta,
        "probability": lambda eta, own: family.probabilities(eta, own, outcome),  # type: ignore[misc]
    }[kind]


def _of_chunks(
    model: Model,
    layout: Layout,
    draws: Draws,
    function: Callable[[Array, Draws], Array],
    totals: Totals | None = None,
) -> Array:
    """A function of the linear predictor, a few draws at a time; (S, units)."""
    parts = [function(eta, own) for _, own, eta in predictor_chunks(model, layout, draws, totals)]
    return np.concatenate(parts)


def _with_baseline(
    model: Model, layout: Layout, draws: Draws, fitted: Draws, seed: int, totals: Totals | None
) -> Array:
    """Outcomes of new groups that share a baseline with those of the fit; (S, J)."""
    family, rng = model.spec.family, np.random.default_rng([seed, 0x0DD5])
    assert family.baseline is not None
    known, out = eta_draws(model, layout_of(model), fitted, totals), []
    for rows, own, eta in predictor_chunks(model, layout, draws, totals):
        shared = family.baseline(known[rows], own, model.design.outcome, rng)
        out.append(family.draw(eta, own, {**layout.design.outcome, "baseline": shared}, rng))
    return np.concatenate(out)


# ---- effects of known and new units ----------------------------------------------------------


def _for_known_units(effect: str) -> str:
    """What needs the draws of an effect, for a message."""
    units = "nesting units" if "_l3" in effect else "members"
    return f"a prediction for {units} that were in the data of the fit"


def _of_fit(model: Model, draws: dict[str, Array], effects: str) -> dict[str, Array]:
    """The draws for the groups of the fit: with all effects, which must be there, or without."""
    names = model.spec.unit_effects
    if effects == "none":
        return {name: values for name, values in draws.items() if name not in names}
    for name in names:
        need(draws, name, _for_known_units(name))
    return draws


def of_new_groups(
    model: Model, draws: dict[str, Array], new: NewGroups, effects: str, seed: int
) -> tuple[Layout, dict[str, Array]]:
    """The layout of new groups, and draws with the effects of their members and units alone.

    Units are numbered among themselves, so that nothing has the length of the fit's table.
    """
    spec, design = model.spec, new.layout.design
    out = {name: values for name, values in draws.items() if name not in spec.unit_effects}
    if effects == "none":
        return new.layout, out
    members, nestings = [], []
    for i, (part, member) in enumerate(zip(spec.members, design.members, strict=True)):
        if part.smooth is not None:  # all groups have the functions of the fit
            members.append(member)
            continue
        units = _Present.of(member.member, model.design.members[i].n_members, new.new_members[i])
        if part.walk:
            labels = new.layout.grouped.members[i].labels[member.member]
            out[part.u] = _walked(draws, part, member, labels, effects, seed)
            member = replace(member, walk=_counted_from_0(member))
        elif part.series:
            fitted, labels = model.design.members[i].series, new.layout.grouped.members[i].labels
            assert fitted is not None and member.series is not None
            out[part.u] = _in_series(draws, part, fitted, member.series, labels, effects, seed)
        elif part.correlated:
            out |= _correlated(draws, part, units, effects, seed)
        elif part.related:
            out |= _related(model, i, draws, units, effects, seed)
        elif part.in_role:
            roles = next(r for r in spec.roles if i in r.blocks)
            out |= _in_role(draws, roles, roles.blocks.index(i), units, effects, seed)
        elif part.random:
            out |= _effect(draws, part.u, part.sigma, units, effects, seed)
        if part.slopes and not part.correlated:
            out |= _effect(draws, part.u_slope, part.sigma_slope, units, effects, seed)
        members.append(replace(member, member=units.code))
    for i, (nest, nesting) in enumerate(zip(spec.nestings, design.nestings, strict=True)):
        units = _Present.of(nesting.unit, model.design.nestings[i].n_units, new.new_units[i])
        if nest.random:
            out |= _effect(draws, nest.u, nest.sigma, units, effects, seed)
        nestings.append(replace(nesting, unit=units.code))
    design = replace(design, members=tuple(members), nestings=tuple(nestings))
    return replace(new.layout, design=design), out


@dataclass(frozen=True)
class _Present:
    """The units of one kind that new groups have: those of the fit first, then new ones.

    Attributes
    ----------
    code : int array
        Number of the unit of each membership or group, among these units.
    known : int array
        Numbers that the units of the fit have there.
    fresh : array
        Labels of the new units.
    """

    code: Array
    known: Array
    fresh: Array

    @staticmethod
    def of(code: Array, count: int, fresh: Array) -> _Present:
        """Of the codes of a layout, for a fit with `count` units; `fresh` come after them."""
        present, own = np.unique(code, return_inverse=True)
        return _Present(own.reshape(-1), present[present < count], fresh)


def _effect(
    draws: Draws, name: str, sigma: str, units: _Present, effects: str, seed: int
) -> dict[str, Array]:
    """Effects of the units that new groups have, (S, units); slopes are (S, units, covariates)."""
    if len(units.known):
        known = need(draws, name, _for_known_units(name))[:, units.known]
    elif len(units.fresh):  # new units alone: their distribution is enough
        sds = need(draws, sigma, "an effect of a new unit")
        known = np.zeros((count_draws(draws), 0, *sds.shape[1:]))
    else:  # groups without a member of this kind
        return {}
    if not len(units.fresh):
        return {name: known}
    rest = np.zeros((len(known), len(units.fresh), *known.shape[2:]))
    if effects == "all":
        sd = need(draws, sigma, "an effect of a new unit")
        for i, label in enumerate(units.fresh):
            rest[:, i] = sd * _stream(seed, name, label).standard_normal(sd.shape)
    return {name: np.hstack([known, rest])}


def _correlated(
    draws: Draws, part: MemberPart, units: _Present, effects: str, seed: int
) -> dict[str, Array]:
    """As `_effect`, of intercepts and slopes that are correlated."""
    names = {part.u: part.sigma} if part.random else {}
    names |= {part.u_slope: part.sigma_slope}
    expected = [_effect(draws, name, sigma, units, "known", seed) for name, sigma in names.items()]
    out = {name: values for one in expected for name, values in one.items()}
    if effects != "all" or not len(units.fresh):
        return out
    fresh = _of_new_units(draws, part, tuple(names.values()), units.fresh, seed)
    for i, u in enumerate(fresh):
        place = len(units.known) + i
        if part.random:
            out[part.u][:, place] = u[:, 0]
        out[part.u_slope][:, place] = u[:, int(part.random) :]
    return out


def _in_role(
    draws: Draws, roles: Roles, role: int, units: _Present, effects: str, seed: int
) -> dict[str, Array]:
    """As `_effect`, of members in one of their roles.

    A new member has the same random numbers in each role, so that its effects are correlated.
    """
    name = roles.effects[role]
    out = _effect(draws, name, roles.sds[role], units, "known", seed)
    if effects != "all":
        return out
    for i, u in enumerate(_of_new_units(draws, roles, roles.sds, units.fresh, seed)):
        out[name][:, len(units.known) + i] = u[:, role]
    return out


def _of_new_units(
    draws: Draws, found: CorrelationNames, sigmas: tuple[str, ...], fresh: Array, seed: int
) -> Iterator[Array]:
    """(S, K) correlated effects of each new unit."""
    if not len(fresh):
        return
    why = "an effect of a new unit"
    sd = np.column_stack([need(draws, sigma, why) for sigma in sigmas])
    factor = sd[:, :, None] * cholesky_factor(partial_correlations(need(draws, found.cor, why)))
    for label in fresh:
        z = _stream(seed, found.standard, label).standard_normal(sd.shape)
        yield np.einsum("slk,sk->sl", factor, z)


def _related(
    model: Model, block: int, draws: Draws, units: _Present, effects: str, seed: int
) -> dict[str, Array]:
    """As `_effect`, where the covariance of members is known: new effects given those of the fit.

    With ``effects="known"`` they have their expectation given these.
    """
    part = model.spec.members[block]
    if not len(units.fresh):
        return _effect(draws, part.u, part.sigma, units, effects, seed)
    seen = need(draws, part.u, "a prediction for new members with a known covariance")
    assert part.block.covariance is not None
    matrix, labels = model.covariances[part.block.covariance], model.grouped.members[block].labels
    others, coefficients, factor = matrix.given(labels, units.fresh, part.block.member)
    fresh = seen @ coefficients.T
    if effects == "all":
        sd = need(draws, part.sigma, "an effect of a new unit")
        z = [_stream(seed, part.u, label).standard_normal(len(sd)) for label in others]
        fresh += sd[:, None] * (np.column_stack(z) @ factor.T)
    place = {label: k for k, label in enumerate(others)}
    wanted = [place[label] for label in units.fresh]
    return {part.u: np.hstack([seen[:, units.known], fresh[:, wanted]])}


def _walked(
    draws: Draws, part: MemberPart, member: Membership, labels: Array, effects: str, seed: int
) -> Array:
    """(S, M) effects of the memberships of new groups: each is a step from the one before.

    With ``effects="known"`` the expected steps are taken, 0.
    """
    assert member.walk is not None
    walk, known = member.walk, need(draws, part.u, "a prediction with autoregressive effects")
    count = known.shape[1]
    sd = need(draws, part.sigma, "the next step of a member's effect")
    out = np.zeros((len(known), len(labels)))
    for row in np.argsort(walk.place):
        previous, order = walk.previous[row], walk.order[row]
        if previous >= 0:
            out[:, row] = known[:, previous] if previous < count else out[:, previous - count]
        if effects == "all":
            stream = _stream(seed, part.u, f"{labels[row]}, {order}")
            out[:, row] += sd * stream.standard_normal(len(known))
    return out


def _in_series(
    draws: Draws,
    part: MemberPart,
    fitted: OccasionSeries,
    new: OccasionSeries,
    labels: Array,
    effects: str,
    seed: int,
) -> Array:
    """(S, N) effects of the occasions of new groups, given those of the fit.

    An effect at a time of the fit is that of the fit; any other is drawn given the member's effects
    just before and after it, those of new groups with them. With ``effects="known"`` it has its
    expectation.
    """
    why = "a prediction with effects that change in time"
    known, rho = need(draws, part.u, why), need(draws, part.rho, why)
    sd = need(draws, part.sigma, why)
    out = np.zeros((len(known), new.count))
    times: list[float] = []
    values: list[Array] = []
    for k, (member, time) in enumerate(zip(new.member, new.time, strict=True)):
        if new.first[k]:
            own = np.flatnonzero(fitted.member == member)
            times, values = list(fitted.time[own]), list(known[:, own].T)
        at = bisect.bisect_left(times, time)
        if at < len(times) and times[at] == time:
            out[:, k] = values[at]
            continue
        before = time - times[at - 1] if at > 0 else np.inf
        after = times[at] - time if at < len(times) else np.inf
        left, right, own_sd = between(rho, before, after)
        if at > 0:
            out[:, k] += left * values[at - 1]
        if at < len(times):
            out[:, k] += right * values[at]
        if effects == "all":
            stream = _stream(seed, part.u, f"{labels[member]}, {time:.15g}")
            out[:, k] += sd * own_sd * stream.standard_normal(len(known))
        times.insert(at, time)
        values.insert(at, out[:, k])
    return out


def _counted_from_0(member: Membership) -> Walk:
    """The walks of new groups, whose effects are numbered from 0."""
    assert member.walk is not None
    return replace(member.walk, effect=np.arange(len(member.member)))


def _stream(seed: int, name: str, label: Any) -> np.random.Generator:
    """Randomness of one new unit: it hangs on its label, not on rows or on other units."""
    key = hashlib.sha256(f"{seed}/{name}/{label}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big"))
