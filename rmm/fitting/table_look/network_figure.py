"""The membership network as a picture, beside the sizes of groups and the groups of members."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from rmm.errors import counted
from rmm.fitting.table_look.membership_facts import MembershipFacts
from rmm.posterior.plots.figure import Sheet, in_style, short
from rmm.posterior.plots.style import FILL, INK, LOOKS, RULE
from rmm.tables.read import Array

_LABELLED = 40  # groups and members with names beside them
_DRAWN, _TOGETHER = 2000, 700  # groups and members in all, and in one set, that are drawn as points
_STEPS = 120
_VECTORS = 200  # points up to which a picture has them as such; with more it is a megabyte


@in_style
def draw(seen: MembershipFacts) -> Sheet:
    """Groups and members as points, linked where a member is in a group.

    Sets of groups that share no member are drawn apart, the largest first, as many as fit. If one
    set is too large, the picture is the matrix of memberships, in an order that puts groups with
    common members side by side.
    """
    sheet = Sheet(figsize=(9.2, 5.6), layout="constrained")
    cells = sheet.subplot_mosaic([["net", "sizes"], ["net", "spread"]], width_ratios=[2.6, 1])
    if np.bincount(seen.sets).max() <= _TOGETHER:
        _points(cells["net"], seen)
    else:
        _matrix(cells["net"], seen)
    _counts(cells["sizes"], seen.sizes, "members of a group", "groups")
    _counts(cells["spread"], seen.spread, "groups of a member", "members")
    return sheet


def _title(cell: Any, seen: MembershipFacts, drawn: int | None = None) -> None:
    """Counts; and how many sets are drawn, if not all."""
    sets = len(seen.set_sizes)
    parts = [counted(len(seen.groups), "group"), counted(len(seen.members), "member")]
    parts += [f"{sets:,} sets that share no member"] * (sets > 1)
    if drawn is not None and drawn < sets:
        parts.append(f"the largest {drawn:,} drawn")
    cell.set_title(", ".join(parts), color=INK)


def _points(cell: Any, seen: MembershipFacts) -> None:
    groups = len(seen.groups)
    count = np.bincount(seen.sets)
    drawn = int(np.sum(np.cumsum(count) <= _DRAWN))
    every = places(seen, drawn)
    there = seen.sets < drawn
    place = every[there]
    member, group = every[groups:][there[groups:]], every[:groups][there[:groups]]
    ends = np.stack([every[seen.group], every[groups + seen.member]], axis=1)
    ends = ends[there[seen.group]]
    lines = LineCollection(list(ends), colors=RULE, linewidths=0.5, alpha=0.6, zorder=1)
    cell.add_collection(lines)
    many = len(place) > _VECTORS
    lines.set_rasterized(many)
    points: dict[str, Any] = {"s": float(np.clip(2500 / len(place), 4, 60)), "rasterized": many}
    colour = LOOKS[0].colour
    cell.scatter(*member.T, marker="o", c=colour, lw=0, zorder=2, label="member", **points)
    cell.scatter(
        *group.T, marker="s", c=FILL, edgecolors=INK, lw=0.6, zorder=3, label="group", **points
    )
    if len(every) <= _LABELLED:
        for at, label in zip(every, [*seen.groups, *seen.members], strict=True):
            cell.annotate(
                short(label, 18), at, (4, 4), textcoords="offset points", fontsize=7, color=INK
            )
    cell.set_aspect("equal")
    cell.axis("off")
    low, high = place.min(axis=0), place.max(axis=0)
    margin = 0.08 * float((high - low).max())
    for limits, a, b in zip((cell.set_xlim, cell.set_ylim), low, high, strict=True):
        half = max(float(b - a) / 2, 3 * margin) + margin  # no strip, however few there are
        limits((a + b) / 2 - half, (a + b) / 2 + half)
    cell.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, fontsize=8)
    _title(cell, seen, drawn)


def _matrix(cell: Any, seen: MembershipFacts) -> None:
    group, member = side_by_side(seen)
    size = float(np.clip(4000 / len(seen.member), 0.8, 4))
    at = (member[seen.member], group[seen.group])
    cell.scatter(*at, s=size, marker="s", c=LOOKS[0].colour, lw=0, rasterized=True)
    cell.set_xlim(-1, len(seen.members))
    cell.set_ylim(len(seen.groups), -1)
    cell.set_xlabel("members, those of common groups side by side")
    cell.set_ylabel("groups, those with common members side by side")
    _title(cell, seen)


def side_by_side(seen: MembershipFacts) -> tuple[Array, Array]:
    """Ranks of groups and of members that put memberships near the diagonal (Cuthill-McKee)."""
    groups, total = len(seen.groups), len(seen.sets)
    one, other = seen.group, seen.member + groups
    ends = (np.concatenate([one, other]), np.concatenate([other, one]))
    links = csr_array((np.ones(2 * len(one)), ends), shape=(total, total))
    place = np.argsort(reverse_cuthill_mckee(links, symmetric_mode=True))
    return np.argsort(np.argsort(place[:groups])), np.argsort(np.argsort(place[groups:]))


def _counts(cell: Any, numbers: Array, what: str, units: str) -> None:
    values, count = np.unique(numbers, return_counts=True)
    cell.bar(values, count, width=0.8, color=LOOKS[0].colour)
    cell.set_xlabel(what)
    cell.set_ylabel(units)
    low, high = int(values[0]), int(values[-1])
    cell.set_xlim(low - 0.7, high + 0.7)
    cell.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))
    cell.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=5))


def places(seen: MembershipFacts, drawn: int) -> Array:
    """(J + n, 2) places of groups, then members: each set in a square of its own.

    Squares have an area in proportion to their number of groups and members, and stand in rows.
    Only the first `drawn` sets have places.
    """
    side = np.sqrt(np.bincount(seen.sets)[:drawn])
    width = max(float(np.sqrt(np.sum(side**2))) * 1.1, float(side.max()))
    out = np.full((len(seen.sets), 2), np.nan)
    x = y = tall = 0.0
    for number in np.argsort(-side, kind="stable"):
        if x > 0 and x + side[number] > width:
            x, y, tall = 0.0, y - tall, 0.0
        tall = max(tall, float(side[number]))
        own = np.flatnonzero(seen.sets == number)
        centre = (x + side[number] / 2, y - side[number] / 2)
        out[own] = 0.42 * side[number] * _laid_out(own, seen) + centre  # with a margin
        x += float(side[number])
    return out


def _laid_out(own: Array, seen: MembershipFacts) -> Array:
    """Places of the groups and members of one set in [-1, 1]^2.

    Points repel each other and links pull (Fruchterman & Reingold 1991, Software: Practice and
    Experience 21: 1129-1164), from a start that is always the same.
    """
    number = len(own)
    rank = np.full(len(seen.sets), -1)
    rank[own] = np.arange(number)
    one, other = rank[seen.group], rank[len(seen.groups) + seen.member]
    inside = one >= 0
    one, other = one[inside], other[inside]
    angle = 2 * np.pi * np.arange(number) / number
    radius = 0.5 + 0.5 * np.random.default_rng(1).random(number)
    place = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    ideal = 1 / np.sqrt(number)
    for step in np.linspace(0.2, 0.002, _STEPS):
        away = place[:, None, :] - place[None, :, :]
        square = np.maximum(np.sum(away**2, axis=2), 1e-6)
        force = ideal**2 * np.sum(away / square[:, :, None], axis=1)
        link = place[one] - place[other]
        pull = link * (np.linalg.norm(link, axis=1, keepdims=True) / ideal)
        np.subtract.at(force, one, pull)
        np.add.at(force, other, pull)
        length = np.maximum(np.linalg.norm(force, axis=1, keepdims=True), 1e-9)
        place = place + force / length * np.minimum(length, step)
    place = place - (place.max(axis=0) + place.min(axis=0)) / 2
    return np.asarray(place / max(float(np.abs(place).max()), 1e-9))
