"""Standard deviations that the data know in sum only, or not at all.

Given the weights, the groups' outcomes (their linear predictors, for other families than gaussian)
have the covariance matrix sum_k sigma_k^2 V_k, one V_k = A_k A_k' for each kind of effects and the
identity for the residual. Let M project on what the fixed effects leave over. The expected
information on the sigma_k^2 in restricted likelihood, where all are small but the residual, is half
the Gram matrix of the M V_k M (Searle, Casella & McCulloch 1992, "Variance Components", sec. 6.6):

* M V_k M = 0: the effects can be taken up by coefficients. sigma_k is its prior.
* M V_k M and M V_l M proportional: only a sum of sigma_k^2 and sigma_l^2 is known.
* M V_k M in the span of several others: only sums of these are known.
* V_k diagonal: no two groups share an effect. That the variance of a group depends on its weights,
  as 1/n on its size, is all that tells sigma_k from the residual.

Nearly so counts as so: from all variance in one component to all in the other is then less than
`_LEAST` standard errors. A family without a residual variance of its own has the identity as well,
with another consequence: a 0/1 outcome's chance, a hazard's baseline, a Weibull's shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from rmm.design.design import Design
from rmm.design.fixed_effects import FixedEffects
from rmm.design.members.autoregressive import OccasionSeries, find_steps
from rmm.design.members.known_covariances import entries
from rmm.design.members.memberships import Membership
from rmm.design.rows.group_rows import Grouped
from rmm.model.spec import MemberPart, ModelSpec, NestingPart
from rmm.tables.read import Array

_LEAST = 0.5  # standard errors between the ends of a split that is known at all
_ZERO = 1e-9  # of the trace: what projecting leaves of a matrix that lies in the span
_DENSE = 300  # groups up to which matrices of all pairs of groups are the fastest
_MOST_PAIRS = 20_000_000  # products of entries: beyond it nothing is checked
_COEFFICIENTS = 3  # coefficients that a message names


@dataclass(frozen=True)
class Component:
    """One kind of effects: A (J, n), as entries.

    Attributes
    ----------
    name : str
        The standard deviation, by its name in `summary()`.
    what : str
        Whose effects they are, for messages.
    row, column, value : arrays
    size : int
        n, the number of effects.
    alone : bool
        Whether every effect is in one group only.
    """

    name: str
    what: str
    row: Array
    column: Array
    value: Array
    size: int
    alone: bool


@dataclass(frozen=True)
class Unidentified:
    """What the data do not tell of standard deviations.

    Attributes
    ----------
    names : tuple of str
        Standard deviations; the family's residual is ``"residual"``.
    factors : tuple of float
        Of the squares in the sum that is known; empty where no single sum is.
    by_size : bool
        Whether they are told apart only by how the variance of a group depends on its weights.
    absorbing : tuple of str
        Coefficients that take up the effects, where there is one name only.
    """

    names: tuple[str, ...]
    factors: tuple[float, ...] = ()
    by_size: bool = False
    absorbing: tuple[str, ...] = ()


RESIDUAL = "residual"


def components(spec: ModelSpec, design: Design, weights: Iterable[Array]) -> list[Component]:
    """The kinds of effects of a model, at given weights of its `mm()` blocks."""
    out: list[Component] = []
    for part, member, weight in zip(spec.members, design.members, weights, strict=True):
        out += _member_components(part, member, weight, design)
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        if nest.random:
            count = np.bincount(nesting.unit, minlength=nesting.n_units)
            out.append(
                Component(
                    nest.sigma,
                    _whose(nest),
                    np.arange(design.J),
                    nesting.unit,
                    np.ones(design.J),
                    nesting.n_units,
                    bool(count.max() == 1),
                )
            )
    return out


def _whose(part: MemberPart | NestingPart) -> str:
    if isinstance(part, NestingPart):
        return f"nesting unit of `{part.block.unit}`"
    what = "member" if part.smooth is None else "function"
    return f"{what} of `{part.block.member}`"


def _member_components(
    part: MemberPart, member: Membership, weight: Array, design: Design
) -> list[Component]:
    count = np.bincount(member.member, minlength=member.n_members)
    alone = bool(count.max(initial=0) == 1)
    base = Component(
        part.sigma, _whose(part), member.group, member.member, weight, member.n_members, alone
    )
    out = []
    if part.random:
        out.append(_of_independent(base, member))
    if member.slopes is not None:
        for label, x in zip(member.slopes.labels, member.slopes.values.T, strict=True):
            name = f"{part.sigma_slope}[{label}]"
            out.append(replace(base, name=name, value=weight * x))
    return out


def _of_independent(base: Component, member: Membership) -> Component:
    """The entries of independent effects: the members' own, or what these are sums of."""
    if member.root is not None:
        row, column, value = entries(member.root, member.member)
        groups = sparse.csr_array(
            (np.ones(len(row)), (base.row[row], column)), shape=(int(base.row[-1]) + 1, base.size)
        )
        return replace(
            base,
            row=base.row[row],
            column=column,
            value=base.value[row] * value,
            alone=bool((groups.tocsc().indptr[1:] - groups.tocsc().indptr[:-1]).max() == 1),
        )
    if member.series is not None:
        return _series_component(base, member.series)
    return base if member.walk is None else _walk_component(base, member)


def _series_component(base: Component, series: OccasionSeries) -> Component:
    """Independent innovations instead of effects, at a correlation of one half between occasions
    that are as far apart as most.
    """
    steps = find_steps(series)
    rho = 0.5 ** (1 / np.median(series.gap[~series.first]))
    values = steps.values(np.array([rho]))[0]
    return replace(
        base,
        row=base.row[steps.membership],
        column=steps.column,
        value=base.value[steps.membership] * values[steps.value],
        size=series.count,
    )


def _walk_component(base: Component, member: Membership) -> Component:
    """Independent steps instead of effects: an effect is the sum of its member's steps so far."""
    walk = member.walk
    assert walk is not None
    length = walk.order
    row = np.repeat(np.arange(len(length)), length)
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    return replace(
        base,
        row=base.row[row],
        column=walk.begin[row] + within,
        value=base.value[row],
        size=len(length),
    )


def find_unidentified(
    spec: ModelSpec, grouped: Grouped, design: Design, fixed: FixedEffects, known: frozenset[str]
) -> list[Unidentified]:
    """What the data do not tell of the standard deviations of a model.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
    design : Design
    fixed : FixedEffects
    known : frozenset of str
        Standard deviations that are held at a number.

    Returns
    -------
    list of Unidentified
        Empty too where the model is too large to look: more than 20 million pairs of entries.
    """
    related = [m for m in design.members if m.root is not None]
    if sum(len(m.member) * m.n_members for m in related) > _MOST_PAIRS:
        return []
    found = [c for c in components(spec, design, fixed.weights) if c.name not in known]
    if not found or sum(_pairs(c, design.J) for c in found) > _MOST_PAIRS:
        return []
    strata = None if grouped.strata is None else grouped.strata.code
    basis = _basis(spec, fixed, strata)
    residual = _has_residual(spec, design) and spec.family.normal_sd not in known
    names = [*(c.name for c in found), *([RESIDUAL] if residual else [])]
    gram = _gram(found, basis, strata, residual, design.J)
    trace = np.array([*(np.sum(c.value**2) for c in found), *([design.J] if residual else [])])
    absorbed = np.diag(gram) <= (_ZERO * trace) ** 2
    out = [
        Unidentified((c.name,), absorbing=_absorbing(c, fixed, strata))
        for c, gone in zip(found, absorbed, strict=False)
        if gone
    ]
    left = np.flatnonzero(~absorbed)
    per_group = trace[left] / design.J
    scaled = gram[np.ix_(left, left)] / np.outer(per_group, per_group)
    out += _in_sum([names[k] for k in left], scaled, per_group)
    return out + (_by_size(found, absorbed, out) if residual else [])


def _by_size(
    found: list[Component], absorbed: Array, known: list[Unidentified]
) -> list[Unidentified]:
    """Effects that no two groups share, and that have another variance than the residual."""
    in_sum = {name for one in known if RESIDUAL in one.names for name in one.names}
    return [
        Unidentified((c.name, RESIDUAL), by_size=True)
        for c, gone in zip(found, absorbed, strict=False)
        if c.alone and not gone and c.name not in in_sum
    ]


def _pairs(component: Component, groups: int) -> float:
    """Number of products in A'A: entries of the same group."""
    return float(np.sum(np.bincount(component.row, minlength=groups).astype(float) ** 2))


def _has_residual(spec: ModelSpec, design: Design) -> bool:
    """Whether effects of single groups are, or look like, a residual: not with several trials."""
    looks = bool(spec.family.normal_sd or spec.family.like_residual)
    return looks and bool(np.all(np.asarray(design.outcome.get("trials", 1)) == 1))


def _basis(spec: ModelSpec, fixed: FixedEffects, strata: Array | None) -> Array:
    """(J, P) orthonormal columns that span the fixed effects (less their means in strata)."""
    values = fixed.values
    if strata is not None:
        values = values - _stratum_means(values, strata)
    elif spec.spanned and not spec.intercept:  # a baseline takes up a constant
        values = np.column_stack([np.ones(len(values)), values])
    return np.asarray(np.linalg.qr(values)[0])


def _stratum_means(values: Array, strata: Array) -> Array:
    count = np.bincount(strata)
    means = np.stack([np.bincount(strata, column) / count for column in values.T], axis=1)
    return np.asarray(means[strata])


def _gram(
    found: list[Component], basis: Array, strata: Array | None, residual: bool, groups: int
) -> Array:
    """tr(M V_k M V_l) for all pairs of components, the residual last."""
    if groups <= _DENSE:
        return _dense_gram(found, basis, strata, residual, groups)
    parts = [_sparse(c, strata, groups) for c in found]
    if residual:
        identity = sparse.eye_array(groups, format="csr")
        parts.append(identity if strata is None else _within(identity, strata))
    projected = [a.T @ basis for a in parts]
    gram = np.zeros((len(parts), len(parts)))
    for k, (a, p) in enumerate(zip(parts, projected, strict=True)):
        for m in range(k + 1):
            b, q = parts[m], projected[m]
            product = (a.T @ b).tocoo()
            cross = np.einsum("ij,ij->i", p[product.coords[0]], q[product.coords[1]])
            total = np.sum(product.data**2) - 2 * product.data @ cross
            gram[k, m] = gram[m, k] = total + np.sum((p.T @ p) * (q.T @ q))
    return gram


def _dense_gram(
    found: list[Component], basis: Array, strata: Array | None, residual: bool, groups: int
) -> Array:
    matrices = []
    for c in found:
        entries = np.bincount(c.row * c.size + c.column, c.value, groups * c.size)
        a = entries.reshape(groups, c.size)
        a = a if strata is None else a - _stratum_means(a, strata)
        a -= basis @ (basis.T @ a)
        matrices.append(a @ a.T)
    if residual:
        left = np.eye(groups)
        left = left if strata is None else left - _stratum_means(left, strata)
        matrices.append(left - basis @ basis.T)
    flat = np.array([m.ravel() for m in matrices])
    return np.asarray(flat @ flat.T)


def _sparse(component: Component, strata: Array | None, groups: int) -> sparse.csr_array:
    entries = (component.value, (component.row, component.column))
    matrix = sparse.csr_array(entries, shape=(groups, component.size))
    return matrix if strata is None else _within(matrix, strata)


def _within(matrix: sparse.csr_array, strata: Array) -> sparse.csr_array:
    """A less its means in strata."""
    root = np.bincount(strata) ** -0.5
    entries = (root[strata], (np.arange(len(strata)), strata))
    stratum = sparse.csr_array(entries, shape=(len(strata), len(root)))
    return sparse.csr_array(matrix - stratum @ (stratum.T @ matrix))


def _absorbing(component: Component, fixed: FixedEffects, strata: Array | None) -> tuple[str, ...]:
    """Coefficients whose columns take up the effects: those of the first effect that has a part."""
    first = component.column == component.column[np.argmax(component.value != 0)]
    column = np.bincount(component.row[first], component.value[first], len(fixed.values))
    share = np.linalg.lstsq(fixed.values, column, rcond=None)[0]
    at = np.flatnonzero(np.abs(share) > 1e-6 * max(float(np.abs(share).max(initial=0)), 1e-300))
    return tuple(fixed.labels[k] for k in at[:_COEFFICIENTS])


def _in_sum(names: list[str], gram: Array, per_group: Array) -> list[Unidentified]:
    """Components that are told apart neither in pairs nor in larger sets.

    `gram` is that of components which add 1 to a group's variance on average.
    """
    limit = _LEAST**2
    cluster = list(range(len(names)))
    for k in range(len(names)):
        for m in range(k):
            if cluster[k] != cluster[m] and _least(gram, [k, m]) <= limit:
                old, new = max(cluster[k], cluster[m]), min(cluster[k], cluster[m])
                cluster = [new if c == old else c for c in cluster]
    out = []
    for c in sorted(set(cluster)):
        inside = [k for k in range(len(names)) if cluster[k] == c]
        if len(inside) > 1:
            last = inside[-1]
            factors = tuple(
                float(gram[k, last] / gram[last, last] * per_group[k] / per_group[last])
                for k in inside
            )
            out.append(Unidentified(tuple(names[k] for k in inside), factors))
    rest = sorted(set(cluster))
    if len(rest) > 2 and _least(gram, rest) <= limit:
        vectors = np.linalg.eigh(gram[np.ix_(rest, rest)])[1]
        weight = np.abs(vectors[:, 0])
        some = [names[rest[k]] for k in np.flatnonzero(weight > 0.05 * weight.max())]
        out.append(Unidentified(tuple(some)))
    return out


def _least(gram: Array, some: list[int]) -> float:
    """Information along the direction in which a set of components is known least.

    Half the smallest eigenvalue, times the squared length (2) of the way from one to another.
    """
    return float(np.linalg.eigvalsh(gram[np.ix_(some, some)])[0])
