"""Drawn memberships: sizes, a shared pool of members, activity, nesting units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmm.simulation.memberships.arrays import Draw, IdNames, Memberships, Structure
from rmm.simulation.memberships.size_distributions import Sizes, prepare_sizes
from rmm.simulation.recipe_errors import RecipeError

Array = np.ndarray[Any, Any]
_CELLS_AT_ONCE = 4_000_000  # of the groups x members matrix of random keys


def _prepare_synthetic(config: Mapping[str, Any], root: Path) -> Draw:
    sizes = prepare_sizes(config["size"], root)
    units, overlap = config["units"] or 1, config["overlap"]
    pool = config["members"] if overlap > 0 else 0
    if pool is None:
        raise RecipeError(
            "membership.members",
            "`members` is missing.",
            "If `overlap` is above 0, the total number of members is needed.",
        )
    if units > config["groups"]:
        raise RecipeError(
            "membership.units",
            f"There are more nesting units ({units}) than groups ({config['groups']}).",
        )
    within = config["within"] and units > 1
    available = pool // units if within else pool
    largest = sizes.largest
    if overlap > 0 and largest is not None and largest > available:
        raise RecipeError(
            "membership.members",
            f"A group can have {largest} members, but there are only {available} to draw from"
            + (f" in each of the {units} nesting units." if within else "."),
            f"Raise `members` or lower `size`{', or set `within: false`' * within}.",
        )

    def draw(rng: np.random.Generator) -> Memberships:
        return _draw_synthetic(config, sizes, pool, units, within, rng)

    return draw


def _draw_synthetic(
    config: Mapping[str, Any],
    sizes: Sizes,
    pool: int,
    units: int,
    within: bool,
    rng: np.random.Generator,
) -> Memberships:
    groups = config["groups"]
    size = sizes.draw(groups, rng)
    start = np.concatenate([[0], np.cumsum(size)])
    group = np.repeat(np.arange(groups), size)
    unit = np.arange(groups) % units
    shared = np.zeros(len(group), dtype=bool)
    if config["overlap"] >= 1:
        shared[:] = True
    elif config["overlap"] > 0:
        shared = rng.random(len(group)) < config["overlap"]
    # Shared seats come first within a group: own members have the higher codes.
    wanted = np.bincount(group, weights=shared, minlength=groups).astype(np.int64)
    seat = np.arange(len(group)) - start[group]
    shared = seat < wanted[group]
    member = np.empty(len(group), dtype=np.int64)
    if wanted.any():
        member[shared] = _from_pool(wanted, pool, unit if within else None, config, rng)
    own = int((~shared).sum())
    member[~shared] = pool + np.arange(own)
    nested = config["units"] is not None
    return Memberships(
        names=IdNames(config["member"], config["group"], config["nesting"] if nested else None),
        member=member,
        group=group,
        start=start,
        nesting=unit if nested else None,
        member_labels=np.arange(1, pool + own + 1),
        group_labels=np.arange(1, groups + 1),
        nesting_labels=np.arange(1, units + 1) if nested else None,
    )


def _from_pool(
    wanted: Array,
    pool: int,
    unit: Array | None,
    config: Mapping[str, Any],
    rng: np.random.Generator,
) -> Array:
    """Members of the pool for each group's shared seats, none twice in a group.

    Sampling without replacement with unequal propensities: the largest of log propensity plus
    Gumbel noise (Efraimidis & Spirakis 2006; any noise where propensities are equal).
    """
    units = config["units"] or 1
    home = np.arange(pool) % units
    activity = config["activity"]
    propensity = activity * rng.standard_normal(pool) if activity else None
    out, at_once = [], max(1, _CELLS_AT_ONCE // pool)
    for first in range(0, len(wanted), at_once):
        count = wanted[first : first + at_once]
        shape = (len(count), pool)
        keys = rng.random(shape) if propensity is None else propensity + rng.gumbel(size=shape)
        if unit is not None:
            keys[home[None, :] != unit[first : first + at_once, None]] = -np.inf
        if count.max() > np.isfinite(keys).sum(axis=1).min():
            raise RecipeError(
                "membership.members",
                f"A group of {count.max()} members was drawn, but there are not so many members.",
                "Raise `members` or lower `size`.",
            )
        order = np.argsort(-keys, axis=1)
        chosen = np.arange(pool)[None, :] < count[:, None]
        # Sorted within the group: members first by code, seats that are not taken last.
        picked = np.sort(np.where(chosen, order, pool), axis=1)
        out.append(picked[picked < pool])
    return np.concatenate(out)


SYNTHETIC = Structure(
    "synthetic",
    ("groups", "size"),
    {
        "members": None,
        "overlap": 1.0,
        "activity": 0.0,
        "units": None,
        "within": True,
        "member": "member",
        "group": "group",
        "nesting": "nesting",
        "redraw": True,
    },
    _prepare_synthetic,
)
