"""Smooth terms `s(x)` as blocks of memberships: every group has all functions of the smooth.

f(x) = b x + sum of u_k Z_k(x) with u_k ~ normal(0, sd) is the sum of "members" k with effects u_k
and known weights Z_k(x), which may be negative. All that works for members with known weights works
for smooth terms therefore: engines, the marginal likelihood, leave-one-out. See
`rmm.formula.column_bases.Smooth` for the functions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rmm.design.columns.encode import atom_values
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members
from rmm.formula.column_bases import Smooth
from rmm.formula.terms import Atom
from rmm.model.spec import ModelSpec
from rmm.tables.read import Array


def add_smooth_members(spec: ModelSpec, grouped: Grouped) -> Grouped:
    """The groups, with the functions of each smooth term as members of all of them.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
        With the members of `mm()` blocks alone.
    """
    added = tuple(_functions(part.smooth, grouped) for part in spec.members if part.smooth)
    return replace(grouped, members=(*grouped.members, *added)) if added else grouped


def _functions(atom: Atom, grouped: Grouped) -> Members:
    """The functions of a smooth term as members, numbered from 1."""
    assert isinstance(atom.basis, Smooth)
    count, groups = atom.basis.size - 2, grouped.groups.count
    rows, start = np.repeat(grouped.first, count), count * np.arange(groups + 1)
    labels = np.empty(count, dtype=object)
    labels[:] = range(1, count + 1)
    return Members(
        code=np.tile(np.arange(count), groups),
        labels=labels,
        rows=rows,
        group=np.repeat(np.arange(groups), count),
        start=start,
        table=grouped.table.some(rows, start),
    )


def function_values(atom: Atom, grouped: Grouped) -> Array:
    """(J * functions,) values of the functions at each group's x, by group.

    Parameters
    ----------
    atom : Atom
        Its smooth has its knots.
    grouped : Grouped
    """
    assert isinstance(atom.basis, Smooth)
    return atom.basis.functions(atom_values(atom, grouped.first_rows)).reshape(-1)
