"""Components of groups and units, and where the weights of each stand in its matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.backends.stan.marginalize.connected import linked, members_of_several_groups
from rmm.design.design import Design
from rmm.model.spec import ModelSpec
from rmm.tables.read import Array


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


def components(chosen: Marginalization, spec: ModelSpec, design: Design) -> Components:
    """Where the entries of Z stand in the components' matrices.

    Parameters
    ----------
    chosen : Marginalization
        Of strategy ``"components"``.
    spec : ModelSpec
    design : Design
    """
    blocks = [design.members[i] for i in chosen.members]
    shared = [members_of_several_groups(m) for m in blocks]
    nestings = [design.nestings[i] for i in chosen.nestings]
    groups, units = linked(design, shared, nestings)
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
        n_groups,
        n_units,
        np.flatnonzero(~together),
        place,
        tuple(columns),
        tuple(b.code for b in shared),
        tuple(own),
    )


def _within(counts: Array) -> Array:
    """0, 1, ... within each of the runs of these lengths."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
