"""Effects that an engine need not sample one by one: which, and the matrices that it needs.

An outcome that is normal given its linear predictor has normal effects given everything else, so
that they can be integrated out of the likelihood and drawn afterwards: sampling is over a handful
of structural parameters, which mix several times better. Two ways:

``"spectrum"``
    One block of members with known weights W (J, N). With the singular values W = V' diag(s) Q',
    V (N, J) and Q (N, N), the effects are independent of each other in the directions Q, whatever
    the standard deviations are. If all groups that a direction touches lie in one nesting unit,
    the units' effects are independent given those, and are integrated out too.
``"components"``
    Any blocks, weights estimated or not. Effects of members of one group alone add to its
    variance. Groups and other units that share nothing with others make a component of their own;
    the effects of each are integrated out by the Cholesky factor of I + Z'Z, Z (groups, units) the
    weights times sd over the group's sd.

Where the outcome is not normal, effects are sampled in directions like these, about a normal
approximation: way ``"approximation"``, see `rmm.backends.stan.marginalize.normal_approximation`.

Sources: Searle, Casella & McCulloch (1992), Variance Components, section 6.2 (marginal
likelihood) and 7.4 (effects given the data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from rmm.design.design import Design
from rmm.design.members.memberships import Membership
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array

# What an evaluation may cost, in multiples of what it costs with sampled effects (one step for
# each membership and group): up to here it pays, by `python benchmarks/integration.py`.
LIMITS = {"directions": 18.0, "components": 250.0}
# Most parameters for which Stan learns a dense metric in the usual warm-up.
_FEW = 50


@dataclass(frozen=True)
class Integration:
    """Which effects a program integrates out, or samples about their normal approximation.

    Attributes
    ----------
    way : str
        ``"spectrum"``, ``"components"`` or ``"approximation"``.
    members, nestings : tuple of int
        Places of the blocks in `ModelSpec.members` and `.nestings`.
    dense : bool
        Whether what is left are so few parameters that a dense metric can be learnt.
    """

    way: str
    members: tuple[int, ...]
    nestings: tuple[int, ...]
    dense: bool

    @property
    def exact(self) -> bool:
        """Whether the effects are integrated out: the outcome is normal."""
        return self.way != "approximation"


@dataclass(frozen=True)
class Spectrum:
    """The directions in which a block's effects are independent; D = N of them.

    Attributes
    ----------
    basis : (D, J) sparse
        V: rows of length 1, or of 0 where the data say nothing about a direction.
    turn : (N, D) sparse
        Q: member effects by directions; orthonormal.
    singular : (D,)
    unit : (D,) int
        Nesting unit of each direction, sorted; zeros without one.
    """

    basis: Any
    turn: Any
    singular: Array
    unit: Array


@dataclass(frozen=True)
class Components:
    """Where the entries of Z stand. Units are nesting units, and members of several groups.

    Attributes
    ----------
    n_groups, n_units : (C,) int arrays
        Sizes of the components that have units.
    alone : int array
        Groups without units: they are in no component.
    place : int array
        For each cell of the components' matrices (Z, and a last column of residuals), column after
        column: 0 for zero, else the 1-based entry. Entries are the memberships of the blocks, then
        the groups for each nesting, then the groups for the residuals.
    column : tuple of int arrays
        For each block, then each nesting: where its units stand among all components' units.
    shared, own : tuple of int arrays
        For each block: its members that are units; the memberships of its other members.
    """

    n_groups: Array
    n_units: Array
    alone: Array
    place: Array
    column: tuple[Array, ...]
    shared: tuple[Array, ...]
    own: tuple[Array, ...]


@dataclass(frozen=True)
class Shared:
    """The members of a block who are in several groups, numbered again; see `Membership`.

    Attributes
    ----------
    at : int array
        Their memberships, among all.
    group, member : int arrays
        Of these.
    code : (n_members,) int
        Their numbers in the block.
    """

    at: Array
    group: Array
    member: Array
    code: Array

    @property
    def n_members(self) -> int:
        """How many they are."""
        return len(self.code)


def _shared(m: Membership) -> Shared:
    alone = np.bincount(m.member, minlength=m.n_members) == 1
    at = np.flatnonzero(~alone[m.member])
    number = np.cumsum(~alone) - 1
    return Shared(at, m.group[at], number[m.member[at]], np.flatnonzero(~alone))


def find_integration(
    spec: ModelSpec, design: Design, limits: Mapping[str, float] = LIMITS
) -> Integration | None:
    """Which effects of a model are best not sampled; None if all are.

    Parameters
    ----------
    spec : ModelSpec
    design : Design
    limits : mapping
        What an evaluation may cost: with ``directions`` (ways ``"spectrum"`` and
        ``"approximation"``), and with ``components``.
    """
    exact = bool(spec.family.normal_sd)
    if not exact and spec.family.working is None:
        return None
    members = [i for i, p in enumerate(spec.members) if p.random and not p.walk]
    nestings = [i for i, n in enumerate(spec.nestings) if n.random]
    if not members and not nestings:
        return None
    spectrum = _find_spectrum(spec, design, members, nestings, limits["directions"])
    if not exact:
        return None if spectrum is None else _chosen("approximation", *spectrum, spec, design)
    if spectrum is not None and spectrum == (members, nestings):
        return _chosen("spectrum", members, nestings, spec, design)
    if _components_work(design, members, nestings) <= limits["components"]:
        return _chosen("components", members, nestings, spec, design)
    return None if spectrum is None else _chosen("spectrum", *spectrum, spec, design)


def _chosen(
    way: str, members: list[int], nestings: list[int], spec: ModelSpec, design: Design
) -> Integration:
    exact = bool(spec.family.normal_sd)
    gone = {spec.members[i].u for i in members} if exact else set()
    gone |= {spec.nestings[i].u for i in nestings} if exact else set()
    left = sum(
        int(np.prod([len(design.coords[d]) for d in p.dims], dtype=int))
        for p in spec.sampled
        if p.name not in gone
    )
    return Integration(way, tuple(members), tuple(nestings), exact and left <= _FEW)


def _find_spectrum(
    spec: ModelSpec, design: Design, members: list[int], nestings: list[int], most: float
) -> tuple[list[int], list[int]] | None:
    """The block, and the nesting within whose units its members stay."""
    if spec.family.normal_sd:
        members = [i for i in members if not spec.members[i].estimated]
    if not members:
        return None
    block = max(members, key=lambda i: design.members[i].n_members)
    m = design.members[block]
    groups, units = _linked(design, [m], [])
    size, cells = np.bincount(units), np.bincount(groups, minlength=units.max() + 1)
    if (size * cells[: len(size)]).sum() > most * (len(m.member) + design.J):
        return None
    within = [i for i in nestings if _one_unit_each(groups, design.nestings[i].unit)]
    return [block], within[:1]


def _one_unit_each(component: Array, unit: Array) -> bool:
    """Whether the groups of each component lie in one unit."""
    pairs = np.unique(np.column_stack([component, unit]), axis=0)
    return len(pairs) == len(np.unique(component))


def _components_work(design: Design, members: list[int], nestings: list[int]) -> float:
    blocks = [design.members[i] for i in members]
    shared = [_shared(m) for m in blocks]
    groups, units = _linked(design, shared, [design.nestings[i] for i in nestings])
    n_units = np.bincount(units).astype(float)
    n_groups = np.bincount(groups, minlength=len(n_units))[: len(n_units)]
    work = float((n_units**2 * (n_units + n_groups)).sum())
    return work / (design.J + sum(len(m.member) for m in blocks))


def _linked(design: Design, blocks: Sequence[Membership | Shared], nestings: Sequence[Any]) -> Any:
    """Component of each group, and of each unit: those of the blocks, then those of nestings."""
    J = design.J
    rows = [m.group for m in blocks] + [np.arange(J)] * len(nestings)
    codes, first = [], J
    for code, count in [(m.member, m.n_members) for m in blocks] + [
        (n.unit, n.n_units) for n in nestings
    ]:
        codes.append(first + code)
        first += count
    row, column = np.concatenate(rows), np.concatenate(codes)
    links = sparse.coo_matrix((np.ones(len(row)), (row, column)), shape=(first, first))
    label = connected_components(links, directed=False)[1]
    # Components with units come first: groups without any are alone.
    order = np.unique(np.concatenate([label[J:], label[:J]]), return_index=True)
    number = np.empty(len(order[0]), dtype=int)
    number[order[0][np.argsort(order[1])]] = np.arange(len(order[0]))
    return number[label[:J]], number[label[J:]]


# ---- matrices ----------------------------------------------------------------------------------


def spectrum(
    integration: Integration, spec: ModelSpec, design: Design, root: Array | None = None
) -> Spectrum:
    """The directions of a block; by equal weights where they are estimated.

    Parameters
    ----------
    integration : Integration
        Of way ``"spectrum"`` or ``"approximation"``.
    spec : ModelSpec
    design : Design
    root : (J,) array, optional
        By which the weights of each group are multiplied.
    """
    m = design.members[integration.members[0]]
    weight = 1 / m.n if m.weight is None else m.weight
    shape = (design.J, m.n_members)
    W = sparse.csr_matrix((weight, (m.group, m.member)), shape=shape)
    scaled = W if root is None else sparse.diags_array(root) @ W
    groups, members = _linked(design, [m], [])
    unit_of = (
        design.nestings[integration.nestings[0]].unit
        if integration.nestings
        else np.zeros(design.J, dtype=int)
    )
    found = [
        _directions(scaled, np.flatnonzero(groups == c), np.flatnonzero(members == c), unit_of)
        for c in range(members.max() + 1)
    ]
    singular = np.concatenate([f[2] for f in found])
    unit = np.concatenate([f[3] for f in found])
    order = np.argsort(unit, kind="stable")
    basis = _stacked([f[0] for f in found], design.J)[order]
    turn = _stacked([f[1] for f in found], m.n_members)[order].T.tocsr()
    return Spectrum(basis, turn, singular[order], unit[order])


def _directions(W: Any, rows: Array, columns: Array, unit: Array) -> tuple[Any, Any, Array, Array]:
    """Of one component: rows of V and Q' with their places, singular values, nesting units."""
    block = W[rows][:, columns].toarray()
    left, found, right = scipy.linalg.svd(block, full_matrices=len(rows) < len(columns))
    count = len(columns)
    singular = np.zeros(count)
    singular[: len(found)] = np.where(found > 1e-10 * max(found.max(initial=0.0), 1e-300), found, 0)
    basis = np.zeros((count, len(rows)))
    seen = np.flatnonzero(singular)
    basis[seen] = left[:, seen].T
    where = np.full(count, unit[rows[0]] if len(rows) else 0)
    return (basis, rows), (right, columns), singular, where


def _stacked(blocks: list[tuple[Array, Array]], width: int) -> Any:
    """Blocks of rows, each with the columns that it fills, as one sparse matrix."""
    parts = []
    for values, columns in blocks:
        part = sparse.coo_matrix(values)
        parts.append(
            sparse.coo_matrix(
                (part.data, (part.row, columns[part.col])), shape=(len(values), width)
            )
        )
    return sparse.vstack(parts, format="csr")


def components(integration: Integration, spec: ModelSpec, design: Design) -> Components:
    """Where the entries of Z stand in the components' matrices.

    Parameters
    ----------
    integration : Integration
        Of way ``"components"``.
    spec : ModelSpec
    design : Design
    """
    blocks = [design.members[i] for i in integration.members]
    shared = [_shared(m) for m in blocks]
    nestings = [design.nestings[i] for i in integration.nestings]
    groups, units = _linked(design, shared, nestings)
    n_units = np.bincount(units)
    together = groups < len(n_units)
    order = np.flatnonzero(together)
    order = order[np.argsort(groups[order], kind="stable")]
    n_groups = np.bincount(groups[order], minlength=len(n_units))
    row = np.zeros(design.J, dtype=int)
    row[order] = _within(n_groups)
    column_of = np.empty(len(units), dtype=int)
    by_component = np.argsort(units, kind="stable")
    column_of[by_component] = np.arange(len(units))
    first_column = np.concatenate([[0], np.cumsum(n_units)[:-1]])
    first_cell = np.concatenate([[0], np.cumsum((n_units + 1) * n_groups)])
    place = np.zeros(first_cell[-1], dtype=int)
    at, entry, columns = 0, 1, []
    everyone = np.arange(design.J)
    for group, code, count, entries, of in [
        (b.group, b.member, b.n_members, b.at, len(m.member))
        for b, m in zip(shared, blocks, strict=True)
    ] + [(everyone, n.unit, n.n_units, everyone, design.J) for n in nestings]:
        columns.append(column_of[at : at + count])
        c = groups[group]
        column = columns[-1][code] - first_column[c]
        place[first_cell[c] + column * n_groups[c] + row[group]] = entry + entries
        at, entry = at + count, entry + of
    c = groups[order]
    place[first_cell[c] + n_units[c] * n_groups[c] + row[order]] = entry + order
    own = [
        np.setdiff1d(np.arange(len(m.member)), b.at) for b, m in zip(shared, blocks, strict=True)
    ]
    return Components(
        n_groups, n_units, np.flatnonzero(~together), place, tuple(columns),
        tuple(b.code for b in shared), tuple(own),
    )  # fmt: skip


def _within(counts: Array) -> Array:
    """0, 1, ... within each of the runs of these lengths."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def integrated(spec: ModelSpec, integration: Integration | None) -> frozenset[str]:
    """Names of the effects that are not sampled as they stand."""
    if integration is None:
        return frozenset()
    members: list[MemberPart] = [spec.members[i] for i in integration.members]
    return frozenset([p.u for p in members] + [spec.nestings[i].u for i in integration.nestings])
