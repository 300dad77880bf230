"""Weights, member parts and random effects -> linear predictor.

Effects are drawn first, so that the predictor of the same units under other covariates, or in
other groups, is the same function of other arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import counted
from rmm.formula.terms import FeatureTerm, Term
from rmm.formula.weights.weight_function import Column as ColumnNode
from rmm.formula.weights.weight_function import evaluate, leaf_columns
from rmm.model.correlated_effects import Roles
from rmm.model.spec import MemberPart
from rmm.simulation.covariates.covariates import Column
from rmm.simulation.covariates.distributions import shaped
from rmm.simulation.memberships.structures import Memberships
from rmm.simulation.outcomes.group_features import by_group, check_domain
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]


def draw_all_effects(
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Random effects by name: (members,), (M,) of effects in time, (units,) of nesting units."""
    spec, b, out = truth.spec, truth.parameters, {}
    for part in spec.members:
        count = memberships.counts["member"]
        if part.in_role:
            continue
        if part.random and part.block.autoregressive is not False:
            out[part.u] = _walks(part, truth, memberships, columns, rng)
        elif part.block.series is not None:
            out[part.u] = _autoregressive(part, truth, memberships, columns, rng)
        elif part.correlated:
            out |= _jointly_normal(*correlated_covariance(part, b), count, rng)
            continue
        elif part.block.covariance is not None:
            matrix = truth.covariances[part.block.covariance]
            out[part.u] = matrix.draw(memberships.member_labels, b[part.sigma], rng)
        elif part.random:
            out[part.u] = draw_effects(part.u, b[part.sigma], count, truth, columns, rng)
        for term in part.block.slopes:
            sd = b[f"{part.sigma_slope}[{term.label}]"]
            name = f"{part.u_slope}[{term.label}]"
            out[name] = draw_effects(name, sd, count, truth, columns, rng)
    for roles in spec.roles:
        covariance = roles_covariance(roles, b)
        out |= _jointly_normal(roles.effects, covariance, memberships.counts["member"], rng)
    for nesting in spec.nestings:
        count = memberships.counts["nesting"]
        out[nesting.u] = draw_effects(nesting.u, b[nesting.sigma], count, truth, columns, rng)
    return out


def correlated_covariance(part: MemberPart, b: Mapping[str, float]) -> tuple[list[str], Array]:
    """Names of the correlated effects of a member, and their (K, K) covariance matrix."""
    labels = ["Intercept"] * part.random + [t.label for t in part.block.slopes]
    names = [part.u] * part.random + [f"{part.u_slope}[{t.label}]" for t in part.block.slopes]
    sds = [b[part.sigma]] * part.random
    sds += [b[f"{part.sigma_slope}[{t.label}]"] for t in part.block.slopes]
    return names, _covariance(part.cor, labels, sds, b)


def roles_covariance(roles: Roles, b: Mapping[str, float]) -> Array:
    """(K, K) covariance matrix of the effects of a member in K roles."""
    return _covariance(roles.cor, roles.labels, [b[sd] for sd in roles.sds], b)


def _covariance(
    cor: str, labels: Sequence[str], sds: Sequence[float], b: Mapping[str, float]
) -> Array:
    covariance = np.diag(np.square(sds))
    for i, j in itertools.combinations(range(len(sds)), 2):
        value = b[f"{cor}[{labels[i]}, {labels[j]}]"] * sds[i] * sds[j]
        covariance[i, j] = covariance[j, i] = value
    return covariance


def _jointly_normal(
    names: Sequence[str], covariance: Array, count: int, rng: np.random.Generator
) -> dict[str, Array]:
    """Jointly normal effects, by the symmetric root of their covariance matrix."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    u = rng.standard_normal((count, len(names))) @ root.T
    return {name: u[:, k] for k, name in enumerate(names)}


#: Suffix of a block whose weights sum to the number of groups -> (sum of raw weights, groups).
type Totals = Mapping[str, tuple[float, int]]


def linear_predictor(
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    effects: Mapping[str, Array],
    totals: Totals | None = None,
) -> Array:
    """(J,) x'b_l2 + sum over members of w (x'b_l1 + u) + z'b_l3 + v.

    Parameters
    ----------
    effects : mapping
        Of `draw_all_effects`.
    totals : mapping, optional
        Of `weight_totals` of the data set, where the groups are not all of it.
    """
    spec, b = truth.spec, truth.parameters
    eta = np.full(memberships.counts["group"], b["b_l2[Intercept]"] if spec.intercept else 0.0)
    for term in spec.terms:
        eta += b[f"b_l2[{term.label}]"] * _product(term, memberships, columns, "group")
    for fixed in spec.fixed:
        eta += fixed.value * _product(fixed.term, memberships, columns, "group")
    for part in spec.members:
        eta += _member_part(part, truth, memberships, columns, effects, totals)
    for nesting in spec.nestings:
        assert memberships.nesting is not None
        # Means and standard deviations are those of the units, each once.
        once = np.unique(memberships.nesting, return_index=True)[1]
        for term in nesting.terms:
            values = _product(term, memberships, columns, "group", once)
            eta += b[f"{nesting.b}[{term.label}]"] * values
        for fixed in nesting.block.fixed:
            eta += fixed.value * _product(fixed.term, memberships, columns, "group", once)
        eta += effects[nesting.u][memberships.nesting]
    return eta


def contributions(
    part: MemberPart,
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    effects: Mapping[str, Array],
) -> Array:
    """(M,) x'b_l1 + u of each membership, before it is weighted."""
    b, rows = truth.parameters, np.zeros(memberships.counts["membership"])
    for term in part.block.terms:
        slope = b[f"{part.b}[{term.label}]"]
        if slope:
            rows += slope * _product(term, memberships, columns, "membership")
    for fixed in part.block.fixed:
        rows += fixed.value * _product(fixed.term, memberships, columns, "membership")
    if part.random and part.in_time:
        rows += effects[part.u]
    elif part.random:
        rows += effects[part.u][memberships.member]
    for term in part.block.slopes:
        u = effects[f"{part.u_slope}[{term.label}]"]
        rows += u[memberships.member] * _product(term, memberships, columns, "membership")
    return rows


def _member_part(
    part: MemberPart,
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    effects: Mapping[str, Array],
    totals: Totals | None,
) -> Array:
    b = truth.parameters
    rows = contributions(part, truth, memberships, columns, effects)
    w = weights(part, b, memberships, columns, None if totals is None else totals.get(part.suffix))
    total = np.add.reduceat(w * rows, memberships.start[:-1])
    for feature in part.block.features:
        slope = b[f"{part.b}[{feature.label}]"]
        total += slope * _aggregate(feature, part, truth, w, memberships, columns)
    return total


def _aggregate(
    feature: FeatureTerm,
    part: MemberPart,
    truth: Truth,
    w: Array,
    memberships: Memberships,
    columns: Mapping[str, Column],
) -> Array:
    """(J,) values of an aggregate of members, such as their variance."""
    x = np.zeros(0)
    if feature.atom is not None:
        x = _product(Term((feature.atom,)), memberships, columns, "membership")
    check_domain(feature, x)
    if feature.weighted and (w < 0).any():
        raise RecipeError(
            "truth.formula",
            f"{feature.label} needs weights of 0 or more, but weights are negative in "
            f"{counted(int((w < 0).sum()), 'membership')}.",
            "Choose another weight function.",
        )
    number = feature.value
    if feature.parameter is not None:
        number = truth.parameters[f"{part.b_f}[{feature.label}]"]
    smooth = feature.function == "threshold" and feature.value is None
    return by_group(feature.function, w, x, number, memberships.start, smooth=smooth)


def _walks(
    part: MemberPart,
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> Array:
    """(M,) effects that walk: in each of its groups, in order of time, a member takes a step."""
    sd, count = truth.parameters[part.sigma], memberships.counts["membership"]
    steps = draw_effects(part.u, sd, count, truth, columns, rng)
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


def _autoregressive(
    part: MemberPart,
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> Array:
    """(M,) effects of AR(1) processes: of each member at its times, jointly normal.

    Without a time column the groups of a member are one unit of time apart.
    """
    sd, rho = truth.parameters[part.sigma], truth.parameters[part.rho]
    m, out = memberships, np.empty(memberships.counts["membership"])
    time = np.arange(m.counts["group"], dtype=float)
    assert part.block.series is not None
    name = part.block.series.time
    if name is not None:
        time = m.expand(columns[name].values, columns[name].level, "group")
    for member in range(m.counts["member"]):
        here = np.flatnonzero(m.member == member)
        times, place = np.unique(time[m.group[here]], return_inverse=True)
        if name is None:
            times = np.arange(len(times), dtype=float)
        covariance = sd**2 * rho ** np.abs(times[:, None] - times[None, :])
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        out[here] = (root @ rng.standard_normal(len(times)))[place.reshape(-1)]
    return out


def weights(
    part: MemberPart,
    parameters: Mapping[str, float],
    memberships: Memberships,
    columns: Mapping[str, Column],
    total: tuple[float, int] | None = None,
) -> Array:
    """(M,) true weights of one `mm()` block; `total` is that of `weight_totals`."""
    constraint = part.block.weight.constraint
    # Weights that are not finite are found by `draw_outcome`, which can name the group.
    with np.errstate(all="ignore"):
        raw = _raw_weights(part, parameters, memberships, columns)
        if constraint == "none":
            return raw
        if constraint == "total":
            whole, groups = (raw.sum(), memberships.counts["group"]) if total is None else total
            return raw * groups / whole
        return raw / np.add.reduceat(raw, memberships.start[:-1])[memberships.group]


def weight_totals(
    truth: Truth, memberships: Memberships, columns: Mapping[str, Column]
) -> dict[str, tuple[float, int]]:
    """Sums of raw weights and numbers of groups of a data set, where weights sum to these."""
    return {
        part.suffix: (
            float(_raw_weights(part, truth.parameters, memberships, columns).sum()),
            memberships.counts["group"],
        )
        for part in truth.spec.members
        if part.block.weight.constraint == "total"
    }


def _raw_weights(
    part: MemberPart,
    parameters: Mapping[str, float],
    memberships: Memberships,
    columns: Mapping[str, Column],
) -> Array:
    fn = part.block.weight
    values = {c: _column(c, columns, memberships, "membership") for c in fn.columns}
    b_w = {name: parameters[f"{part.b_w}[{name}]"] for name in fn.parameters}
    raw = np.asarray(evaluate(fn.expression, values, memberships.start, b_w), dtype=float)
    return np.broadcast_to(raw, memberships.member.shape)


def draw_effects(
    name: str,
    sd: float,
    count: int,
    truth: Truth,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> Array:
    """Random effects of all units; covariates that are endogenous to them have been drawn."""
    z = rng.standard_normal(count)
    if name in truth.endogenous:
        z = truth.endogenous[name].latent(z, columns)
    return sd * shaped(z, truth.effects.get(name) or truth.effects.get(name.split("[")[0], {}))


def term_rows(term: Term, memberships: Memberships, columns: Mapping[str, Column]) -> Array:
    """(M,) values of a term."""
    return _product(term, memberships, columns, "membership")


def _product(
    term: Term,
    memberships: Memberships,
    columns: Mapping[str, Column],
    level: str,
    once: Array | None = None,
) -> Array:
    """Values of a term: the product of its atoms; `once` is that of `evaluate`."""
    start = memberships.start
    if level == "group":  # one row each
        start = np.arange(memberships.counts["group"] + 1)
    return _multiplied(
        atom_values(atom.expression, columns, memberships, level, start, once)
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
    start: Array,
    once: Array | None = None,
) -> Array:
    """Values of one atom: a column, or an expression of columns, at a level."""
    values = {c: _column(c, columns, memberships, level) for c in leaf_columns(expression)}
    if isinstance(expression, ColumnNode):
        return values[expression.name]
    found = evaluate(expression, values, start, once=once)
    return np.broadcast_to(found, (memberships.counts[level],))


def _column(
    name: str, columns: Mapping[str, Column], memberships: Memberships, level: str
) -> Array:
    """Values of a covariate at a level, or codes of an id that `within =` names."""
    names = memberships.names
    ids = {names.member: "member", names.group: "group", names.nesting: "nesting"}
    if name not in columns and name in ids:
        codes = np.arange(memberships.counts[ids[name]])
        return memberships.expand(codes, ids[name], level)
    return memberships.expand(columns[name].values, columns[name].level, level)
