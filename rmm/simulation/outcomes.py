"""Weights -> linear predictor -> outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import DataError
from rmm.simulation.choices import (
    BINOMIAL_KEYS,
    check_binomial,
    draw_binomial,
    draw_choices,
)
from rmm.simulation.covariates import Column
from rmm.simulation.distributions import shaped
from rmm.simulation.membership import Memberships
from rmm.simulation.survival import SURVIVAL_KEYS, check_survival, draw_cox, draw_weibull
from rmm.spec import MemberPart
from rmm.terms import Term
from rmm.weights import Column as ColumnNode
from rmm.weights import evaluate, leaf_columns

if TYPE_CHECKING:
    from rmm.simulation.truth import Truth

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Setting:
    """What outcomes may depend on besides the linear predictor: strata, censoring, ..."""

    truth: Truth
    memberships: Memberships
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class OutcomeModel:
    """How the outcomes of one family are drawn.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of `rmm.terms.Outcome` that can be simulated; parts must be plain names.
    draw : callable
        ``(eta, setting, rng) -> ((J,) array, ...)``, one per part of the outcome.
    keys : tuple of str
        Keys of a truth that this family has besides the common ones.
    check : callable
        ``(options)``: raises `RecipeError` for values of those keys that make no sense.
    """

    kinds: tuple[str, ...]
    draw: Callable[[Array, Setting, np.random.Generator], tuple[Array, ...]]
    keys: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Any]], None] = field(default=lambda options: None)


def draw_outcome(
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> tuple[Array, dict[str, Array]]:
    """(J,) linear predictor, and outcome column -> (J,) values.

    Raises
    ------
    DataError
        If a weight or the linear predictor is not finite.
    """
    eta = linear_predictor(truth, memberships, columns, rng)
    if not np.isfinite(eta).all():
        group = memberships.group_labels[int(np.argmin(np.isfinite(eta)))]
        raise DataError(
            f"The linear predictor of group {group} is not finite: the true weights "
            f"{[p.block.weight.text for p in truth.spec.members]} cannot be computed there."
        )
    setting = Setting(truth, memberships, columns)
    drawn = OUTCOMES[truth.spec.family.name].draw(eta, setting, rng)
    return eta, dict(zip(truth.outcomes, drawn, strict=True))


def linear_predictor(
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> Array:
    """(J,) x'b_l2 + sum over members of w (x'b_l1 + u) + z'b_l3 + v, random effects drawn."""
    spec, b = truth.spec, truth.parameters
    eta = np.full(memberships.counts["group"], b["b_l2[Intercept]"] if spec.intercept else 0.0)
    for term in spec.terms:
        eta += b[f"b_l2[{term.label}]"] * _product(term, memberships, columns, "group")
    for fixed in spec.fixed:
        eta += fixed.value * _product(fixed.term, memberships, columns, "group")
    for part in spec.members:
        eta += _member_part(part, truth, memberships, columns, rng)
    for nesting in spec.nestings:
        for term in nesting.terms:
            eta += b[f"{nesting.b}[{term.label}]"] * _product(term, memberships, columns, "group")
        for fixed in nesting.block.fixed:
            eta += fixed.value * _product(fixed.term, memberships, columns, "group")
        v = _effects(nesting.u, b[nesting.sigma], memberships.counts["nesting"], truth, rng)
        assert memberships.nesting is not None
        eta += v[memberships.nesting]
    return eta


def _member_part(
    part: MemberPart,
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> Array:
    b, rows = truth.parameters, np.zeros(memberships.counts["membership"])
    for term in part.block.terms:
        slope = b[f"{part.b}[{term.label}]"]
        if slope:
            rows += slope * _product(term, memberships, columns, "membership")
    for fixed in part.block.fixed:
        rows += fixed.value * _product(fixed.term, memberships, columns, "membership")
    if part.random and part.block.autoregressive is not False:
        rows += _walks(part, truth, memberships, columns, rng)
    elif part.random:
        u = _effects(part.u, b[part.sigma], memberships.counts["member"], truth, rng)
        rows += u[memberships.member]
    for term in part.block.slopes:
        sd = b[f"{part.sigma_slope}[{term.label}]"]
        u = _effects(part.u_slope, sd, memberships.counts["member"], truth, rng)
        rows += u[memberships.member] * _product(term, memberships, columns, "membership")
    return np.add.reduceat(weights(part, b, memberships, columns) * rows, memberships.start[:-1])


def _walks(
    part: MemberPart,
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> Array:
    """(M,) effects that walk: in each of its groups, in order of time, a member takes a step."""
    steps = _effects(part.u, truth.parameters[part.sigma], len(memberships.member), truth, rng)
    time = np.arange(memberships.counts["group"], dtype=float)
    if isinstance(part.block.autoregressive, str):
        column = columns[part.block.autoregressive]
        time = memberships.expand(column.values, column.level, "group")
    now = np.zeros(memberships.counts["member"])
    effects = np.empty(len(steps))
    for group in np.argsort(time, kind="stable"):
        here = slice(memberships.start[group], memberships.start[group + 1])
        now[memberships.member[here]] += steps[here]
        effects[here] = now[memberships.member[here]]
    return effects


def weights(
    part: MemberPart,
    parameters: Mapping[str, float],
    memberships: Memberships,
    columns: Mapping[str, Column],
) -> Array:
    """(M,) true weights of one `mm()` block."""
    fn = part.block.weight
    values = {
        c: memberships.expand(columns[c].values, columns[c].level, "membership") for c in fn.columns
    }
    b_w = {name: parameters[f"{part.b_w}[{name}]"] for name in fn.parameters}
    # Weights that are not finite are found by `draw_outcome`, which can name the group.
    with np.errstate(all="ignore"):
        raw = np.asarray(evaluate(fn.expression, values, memberships.start, b_w), dtype=float)
        raw = np.broadcast_to(raw, memberships.member.shape)
        if fn.constraint == "none":
            return raw
        if fn.constraint == "total":
            return raw * memberships.counts["group"] / raw.sum()
        return raw / np.add.reduceat(raw, memberships.start[:-1])[memberships.group]


def _effects(name: str, sd: float, count: int, truth: Truth, rng: np.random.Generator) -> Array:
    return sd * shaped(rng.standard_normal(count), truth.effects.get(name, {}))


def _product(
    term: Term, memberships: Memberships, columns: Mapping[str, Column], level: str
) -> Array:
    """Values of a term: the product of its atoms."""
    count = memberships.counts[level]
    size = memberships.size if level == "group" else memberships.size[memberships.group]
    start = np.arange(count + 1)
    return _multiplied(
        atom_values(atom.expression, columns, memberships, level, size, start)
        for atom in term.atoms
    )


def _multiplied(parts: Iterable[Array]) -> Array:
    out: Array | None = None
    for part in parts:
        out = part if out is None else out * part
    assert out is not None
    return out


def atom_values(
    expression: Any,
    columns: Mapping[str, Column],
    memberships: Memberships,
    level: str,
    size: Array,
    start: Array,
) -> Array:
    """Values of one atom: a column, or an `I()` expression of columns, at a level."""
    values = {
        c: memberships.expand(columns[c].values, columns[c].level, level)
        for c in leaf_columns(expression)
    }
    if isinstance(expression, ColumnNode):
        return values[expression.name]
    return np.broadcast_to(evaluate(expression, values, start), size.shape)


def _gaussian(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    return (eta + setting.truth.parameters["sigma_l2"] * rng.standard_normal(len(eta)),)


def _binomial(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    return draw_binomial(eta, len(truth.outcomes), truth.options.get("trials"), rng)


def _condlogit(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    memberships, name = setting.memberships, setting.truth.formula.strata
    assert name is not None
    if name == memberships.names.nesting:
        assert memberships.nesting is not None
        return draw_choices(eta, memberships.nesting, rng)
    column = setting.columns[name]
    return draw_choices(eta, memberships.expand(column.values, column.level, "group"), rng)


def _weibull(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    return draw_weibull(eta, truth.parameters["shape"], truth.options.get("censoring"), rng)


def _cox(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    options = setting.truth.options
    return draw_cox(eta, options.get("baseline"), options.get("censoring"), rng)


#: Family -> how its outcomes are drawn.
OUTCOMES: dict[str, OutcomeModel] = {
    "gaussian": OutcomeModel(("plain",), _gaussian),
    "binomial": OutcomeModel(("plain", "cbind"), _binomial, BINOMIAL_KEYS, check_binomial),
    "condlogit": OutcomeModel(("plain",), _condlogit),
    "weibull": OutcomeModel(("surv",), _weibull, SURVIVAL_KEYS["weibull"], check_survival),
    "cox": OutcomeModel(("surv",), _cox, SURVIVAL_KEYS["cox"], check_survival),
}
