"""Predictions of known and new groups, posterior predictive draws and the log likelihood."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from rmm.backends.base import Run
from rmm.design.members.memberships import Membership
from rmm.design.prepare import Model
from rmm.errors import BackendError
from rmm.model.spec import MemberPart
from rmm.posterior.diagnostics.summary import spread
from rmm.posterior.prediction.linear_predictor import (
    Draws,
    Layout,
    count_draws,
    eta_draws,
    flat_draws,
    layout_of,
    need,
    predictor_chunks,
)
from rmm.posterior.prediction.new_groups import NewGroups, lay_out
from rmm.tables.read import Array

KINDS = ("mean", "outcome", "linear")
EFFECTS = ("all", "known", "none")


def predict(
    model: Model, run: Run, newdata: Any, kind: str, effects: str, seed: int
) -> tuple[Array, Array]:
    """Draws of predictions.

    Parameters
    ----------
    newdata : table or None
        None: the groups of the fit.
    kind : str
        ``"mean"``, ``"outcome"`` or ``"linear"``.
    effects : str
        ``"all"``, ``"known"`` or ``"none"``; see `rmm.Fit.predict`.
    seed : int

    Returns
    -------
    labels : (J,) object array
    values : (S, J) array
    """
    _choice("kind", kind, KINDS)
    _choice("effects", effects, EFFECTS)
    new = None if newdata is None else lay_out(model, newdata)
    layout = layout_of(model) if new is None else new.layout
    draws = _with_effects(model, flat_draws(run, model), layout, new, effects, seed)
    if new is not None and kind == "outcome" and model.spec.family.baseline is not None:
        values = _with_baseline(model, layout, draws, _with_effects(
            model, flat_draws(run, model), layout_of(model), None, "all", seed), seed)  # fmt: skip
    else:
        values = _of_chunks(model, layout, draws, _function(model, layout, kind, seed))
    labels = layout.design.coords["group"]
    if not model.spec.members:  # groups are rows: in the user's order
        order = np.argsort(labels.astype(int), kind="stable")
        labels, values = labels[order], values[:, order]
    return labels, values


def log_likelihood(model: Model, run: Run) -> Array:
    """Pointwise log likelihood, (S, units); units are groups, or strata."""
    family, outcome, layout = model.spec.family, model.design.outcome, layout_of(model)
    draws = _with_effects(model, flat_draws(run, model), layout, None, "all", 0)
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


def _choice(name: str, given: Any, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise BackendError(f"Unknown {name} {given!r}. Known: {', '.join(allowed)}.")


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
    }[kind]


def _of_chunks(
    model: Model, layout: Layout, draws: Draws, function: Callable[[Array, Draws], Array]
) -> Array:
    """A function of the linear predictor, a few draws at a time; (S, units)."""
    parts = [function(eta, own) for _, own, eta in predictor_chunks(model, layout, draws)]
    return np.concatenate(parts)


def _with_baseline(model: Model, layout: Layout, draws: Draws, fitted: Draws, seed: int) -> Array:
    """Outcomes of new groups that share a baseline with those of the fit; (S, J)."""
    family, rng = model.spec.family, np.random.default_rng([seed, 0x0DD5])
    assert family.baseline is not None
    known, out = eta_draws(model, layout_of(model), fitted), []
    for rows, own, eta in predictor_chunks(model, layout, draws):
        shared = family.baseline(known[rows], own, model.design.outcome, rng)
        out.append(family.draw(eta, own, {**layout.design.outcome, "baseline": shared}, rng))
    return np.concatenate(out)


# ---- effects of known and new units ----------------------------------------------------------


def _with_effects(
    model: Model,
    draws: dict[str, Array],
    layout: Layout,
    new: NewGroups | None,
    effects: str,
    seed: int,
) -> dict[str, Array]:
    """The draws with effects long enough for new units, or without effects."""
    out = dict(draws)
    spec, design = model.spec, layout.design
    nothing: tuple[Array, ...] = ()
    new_members = nothing if new is None else new.new_members
    new_units = nothing if new is None else new.new_units
    for i, part in enumerate(spec.members):
        fresh = new_members[i] if new_members else np.zeros(0)
        code, count = design.members[i].member, model.design.members[i].n_members
        if part.walk:
            out.update(_walked(out, part, design.members[i], layout, i, effects, seed))
        elif part.random:
            out.update(_effect(out, part.u, part.sigma, code, count, fresh, effects, seed))
        if part.slopes:
            slopes = (part.u_slope, part.sigma_slope)
            out.update(_effect(out, *slopes, code, count, fresh, effects, seed))
    for i, nest in enumerate(spec.nestings):
        if nest.random:
            fresh = new_units[i] if new_units else np.zeros(0)
            code, count = design.nestings[i].unit, model.design.nestings[i].n_units
            out.update(_effect(out, nest.u, nest.sigma, code, count, fresh, effects, seed))
    if effects == "none":
        names = {p.name for p in spec.parameters if p.role == "effect"}
        out = {name: values for name, values in out.items() if name not in names}
    return out


def _effect(
    draws: Draws,
    name: str,
    sigma: str,
    code: Array,
    count: int,
    fresh: Array,
    effects: str,
    seed: int,
) -> dict[str, Array]:
    """Effects of `count` known units and those of the new ones, (S, count + len(fresh)).

    Slopes are (S, units, covariates).
    """
    if effects == "none":
        return {}
    known = draws.get(name)
    if (code < count).any():
        known = need(draws, name, "a prediction for units of the fit")
    if known is None:  # new units alone: their distribution is enough
        sds = need(draws, sigma, "an effect of a new unit")
        known = np.zeros((count_draws(draws), count, *sds.shape[1:]))
    if not len(fresh):
        return {name: known}
    rest = np.zeros((len(known), len(fresh), *known.shape[2:]))
    if effects == "all":
        sd = need(draws, sigma, "an effect of a new unit")
        for i, label in enumerate(fresh):
            rest[:, i] = sd * _stream(seed, name, label).standard_normal(sd.shape)
    return {name: np.hstack([known, rest])}


def _walked(
    draws: Draws,
    part: MemberPart,
    member: Membership,
    layout: Layout,
    index: int,
    effects: str,
    seed: int,
) -> dict[str, Array]:
    """Effects of memberships, those of new groups too: each is a step from the one before.

    With ``effects="known"`` the expected steps are taken, 0.
    """
    assert member.walk is not None
    if effects == "none":
        return {}
    known = need(draws, part.u, "a prediction with autoregressive effects")
    new = np.flatnonzero(member.walk.effect >= known.shape[1])
    if not len(new):
        return {part.u: known}
    sd = need(draws, part.sigma, "the next step of a member's effect")
    units = layout.grouped.members[index]
    added = int(member.walk.effect.max()) + 1 - known.shape[1]
    out = np.hstack([known, np.zeros((len(known), added))])
    for row in new[np.argsort(member.walk.place[new])]:
        previous, order = member.walk.previous[row], member.walk.order[row]
        value = out[:, previous] if previous >= 0 else np.zeros(len(known))
        if effects == "all":
            label = f"{units.labels[units.code[row]]}, {order}"
            value = value + sd * _stream(seed, part.u, label).standard_normal(len(known))
        out[:, member.walk.effect[row]] = value
    return {part.u: out}


def _stream(seed: int, name: str, label: Any) -> np.random.Generator:
    """Randomness of one new unit: it hangs on its label, not on rows or on other units."""
    key = hashlib.sha256(f"{seed}/{name}/{label}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big"))
