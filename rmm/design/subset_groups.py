"""Some of a model's groups, everything else (units, centres, scales, priors) as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rmm.design.design import Design
from rmm.design.members.memberships import Membership
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members, Units
from rmm.model.spec import ModelSpec
from rmm.tables.read import Array


def some_groups(design: Design, grouped: Grouped, groups: Array, spec: ModelSpec) -> Design:
    """The design of some groups.

    Parameters
    ----------
    design : Design
    grouped : Grouped
        The table of all groups.
    groups : (J',) int array, sorted
    spec : ModelSpec

    Returns
    -------
    Design
        Members and nesting units stay, also those that are in none of the groups. The outcome
        is left out: `Family.outcome_of_some` cuts it.
    """
    rows, _ = _rows(grouped.start, groups)
    coords = {
        **design.coords,
        "group": design.coords["group"][groups],
        "membership": np.arange(1, len(rows) + 1).astype(object),
    }
    return replace(
        design,
        J=len(groups),
        outcome={},
        X_l2=design.X_l2[groups],
        offset=None if design.offset is None else design.offset[groups],
        members=tuple(_membership(m, groups) for m in design.members),
        nestings=tuple(replace(n, unit=n.unit[groups], X=n.X[groups]) for n in design.nestings),
        coords=coords,
        imputed=tuple(
            found.some(
                groups if one.block is None else _rows(design.members[one.block].start, groups)[0]
            )
            for one, found in zip(spec.imputed, design.imputed, strict=True)
        ),
        rows=design.rows[rows],
    )


def some_rows(grouped: Grouped, groups: Array) -> Grouped:
    """The table of some groups; codes of members and nesting units stay."""
    rows, start = _rows(grouped.start, groups)
    place = np.full(len(grouped.table), -1)
    place[rows] = np.arange(len(rows))
    group = np.repeat(np.arange(len(groups)), np.diff(start))
    strata = grouped.strata
    return replace(
        grouped,
        table=grouped.table.some(rows),
        groups=Units(group, grouped.groups.labels[groups]),
        start=start,
        members=tuple(_members(m, groups, place) for m in grouped.members),
        nestings=tuple(replace(n, code=n.code[groups]) for n in grouped.nestings),
        strata=None if strata is None else replace(strata, code=strata.code[groups]),
    )


def _rows(start: Array, groups: Array) -> tuple[Array, Array]:
    """Rows of some groups, and their row pointer."""
    pointer = np.concatenate([[0], np.cumsum(np.diff(start)[groups])]).astype(np.int64)
    rows = [np.arange(start[g], start[g + 1]) for g in groups]
    return np.concatenate([np.zeros(0, dtype=np.int64), *rows]), pointer


def _members(members: Members, groups: Array, place: Array) -> Members:
    """Memberships of some groups; `place` is where a row of the whole table stands now."""
    rows, start = _rows(members.start, groups)
    group = np.repeat(np.arange(len(groups)), np.diff(start))
    return replace(
        members,
        code=members.code[rows],
        rows=place[members.rows[rows]],
        group=group,
        start=start,
        table=members.table.some(rows, np.unique(start)),
    )


def _membership(member: Membership, groups: Array) -> Membership:
    rows, start = _rows(member.start, groups)
    return replace(
        member,
        member=member.member[rows],
        group=np.repeat(np.arange(len(groups)), np.diff(start)),
        start=start,
        weight=None if member.weight is None else member.weight[rows],
        X=member.X[rows if member.weight is None else groups],
        inputs={name: values[rows] for name, values in member.inputs.items()},
        n=member.n[rows],
        log_n1=member.log_n1[rows],
        offset=None if member.offset is None else member.offset[rows],
        rows=member.rows[rows],
        walk=None if member.walk is None else member.walk.some(rows),
        series=None if member.series is None else member.series.some(rows),
        slopes=None
        if member.slopes is None
        else replace(member.slopes, values=member.slopes.values[rows]),
        features=tuple(f.of(rows, start, groups) for f in member.features),
    )
