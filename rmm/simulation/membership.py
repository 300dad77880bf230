"""Who belongs to whom: drawn structures, and the memberships of a real table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rmm.simulation.recipes import RecipeError, check_keys, check_name

Array = np.ndarray[Any, Any]
_CELLS_AT_ONCE = 4_000_000  # of the groups x members matrix of random keys


@dataclass(frozen=True)
class IdNames:
    """Names of the id columns; `nesting` is None without nesting units."""

    member: str
    group: str
    nesting: str | None


@dataclass(frozen=True, eq=False)
class Memberships:
    """M memberships of members in J groups, in canonical order: by group, then member.

    Attributes
    ----------
    member, group : (M,) int array
        Codes from 0; `group` is sorted.
    start : (J+1,) int array
        Row pointer of the groups.
    nesting : (J,) int array or None
        Code of each group's nesting unit.
    member_labels, group_labels, nesting_labels : array
        Ids as users see them, by code.
    columns : mapping
        Columns of the real table, (M,) float arrays; empty for drawn structures.
    """

    names: IdNames
    member: Array
    group: Array
    start: Array
    nesting: Array | None
    member_labels: Array
    group_labels: Array
    nesting_labels: Array | None
    columns: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def size(self) -> Array:
        """(J,) members of each group."""
        return np.diff(self.start)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Units of each level."""
        return {
            "member": len(self.member_labels),
            "membership": len(self.member),
            "group": len(self.start) - 1,
            "nesting": 0 if self.nesting_labels is None else len(self.nesting_labels),
        }

    def expand(self, values: Array, level: str, to: str) -> Array:
        """Values of the units of a level, at a finer level (`membership` is the finest)."""
        if level == to:
            return values
        if level == "nesting":
            assert self.nesting is not None
            values = values[self.nesting]
            return values if to == "group" else values[self.group]
        return values[self.member if level == "member" else self.group]


Draw = Callable[[np.random.Generator], Memberships]


@dataclass(frozen=True)
class Structure:
    """One row of `STRUCTURES`.

    Attributes
    ----------
    required : tuple of str
    optional : mapping
        Key -> default.
    prepare : callable
        ``(config with defaults, folder of relative paths) -> draw``; checks everything that
        can be checked without drawing, and raises `RecipeError`.
    """

    name: str
    required: tuple[str, ...]
    optional: Mapping[str, Any]
    prepare: Callable[[Mapping[str, Any], Path], Draw]


def prepare_membership(config: Mapping[str, Any], root: Path) -> tuple[Draw, bool]:
    """How memberships are drawn, and whether they are the same in every replication.

    Parameters
    ----------
    config : mapping
        ``kind`` and its keys; see ``study.schema.json``.
    root : Path
        Folder that relative paths start from.

    Raises
    ------
    RecipeError
    """
    check_name("membership.kind", "structure", str(config.get("kind")), STRUCTURES)
    structure = STRUCTURES[config["kind"]]
    given = {k: v for k, v in config.items() if k != "kind"}
    check_keys("membership", given, structure.required, structure.optional)
    whole = {**structure.optional, **given}
    return structure.prepare(whole, root), not whole.get("redraw", False)


# -- synthetic -------------------------------------------------------------------------------


def _prepare_synthetic(config: Mapping[str, Any], root: Path) -> Draw:
    sizes = _sizes(config["size"])
    units, overlap = config["units"] or 1, config["overlap"]
    pool = config["members"] if overlap > 0 else 0
    if pool is None:
        raise RecipeError(
            "membership.members", "the key is missing", "Needed where `overlap` is above 0."
        )
    if units > config["groups"]:
        raise RecipeError("membership.units", f"{units} units for {config['groups']} groups")
    within = config["within"] and units > 1
    available = pool // units if within else pool
    largest = sizes.largest
    if overlap > 0 and largest is not None and largest > available:
        raise RecipeError(
            "membership.members",
            f"groups of {largest} members need a pool of so many; there are {available}"
            + (f" in each of the {units} nesting units" if within else ""),
            "Raise `members`, lower `size`, or set `within: false`.",
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
                f"a group of {count.max()} members was drawn, the pool has fewer",
                "Raise `members` or lower `size`.",
            )
        order = np.argsort(-keys, axis=1)
        chosen = np.arange(pool)[None, :] < count[:, None]
        # Sorted within the group: members first by code, seats that are not taken last.
        picked = np.sort(np.where(chosen, order, pool), axis=1)
        out.append(picked[picked < pool])
    return np.concatenate(out)


@dataclass(frozen=True)
class Sizes:
    """Distribution of group sizes; `largest` is None where it has no upper end."""

    draw: Callable[[int, np.random.Generator], Array]
    largest: int | None


def _sizes(config: Any) -> Sizes:
    if isinstance(config, int):
        return Sizes(lambda groups, rng: np.full(groups, config), config)
    key, given = "membership.size", {k: v for k, v in config.items() if k != "distribution"}
    check_name(f"{key}.distribution", "distribution of sizes", config["distribution"], SIZES)
    required, optional, make = SIZES[config["distribution"]]
    check_keys(key, given, required, optional)
    return make(given)


def _uniform_sizes(config: Mapping[str, Any]) -> Sizes:
    low, high = config["low"], config["high"]
    if low > high:
        raise RecipeError("membership.size.low", f"{low} is above `high`, {high}")
    return Sizes(lambda groups, rng: rng.integers(low, high + 1, size=groups), high)


def _poisson_sizes(config: Mapping[str, Any]) -> Sizes:
    least = config.get("minimum", 1)
    if config["mean"] < least:
        raise RecipeError("membership.size.mean", f"{config['mean']} is below the minimum {least}")
    rate = config["mean"] - least
    return Sizes(lambda groups, rng: least + rng.poisson(rate, size=groups), None)


def _table_sizes(config: Mapping[str, Any]) -> Sizes:
    values = np.asarray(config["values"])
    chances = np.asarray(config.get("probabilities", np.ones(len(values))), dtype=float)
    if len(chances) != len(values) or chances.sum() <= 0:
        raise RecipeError(
            "membership.size.probabilities",
            f"{len(chances)} numbers with sum {chances.sum():g} for {len(values)} values",
            "Give one probability per value.",
        )
    chances = chances / chances.sum()
    return Sizes(lambda groups, rng: rng.choice(values, size=groups, p=chances), int(values.max()))


#: Distribution of sizes: required keys, optional keys, maker.
SIZES: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Mapping[str, Any]], Sizes]]] = {
    "uniform": (("low", "high"), (), _uniform_sizes),
    "poisson": (("mean",), ("minimum",), _poisson_sizes),
    "table": (("values",), ("probabilities",), _table_sizes),
}


# -- empirical -------------------------------------------------------------------------------


def _prepare_empirical(config: Mapping[str, Any], root: Path) -> Draw:
    memberships = _read_empirical(config, root)
    return lambda rng: memberships


def _read_empirical(config: Mapping[str, Any], root: Path) -> Memberships:
    from rmm.tables import codes, read_table

    path = root / config["file"]
    if not path.is_file():
        raise RecipeError(
            "membership.file",
            f"there is no file {config['file']!r}",
            f"Looked in {root}. A path is relative to the project root.",
        )
    frame = read_table(path)
    names = IdNames(config["member"], config["group"], config["nesting"])
    for role in ("member", "group", "nesting"):
        column = getattr(names, role)
        if column is not None:
            check_name(f"membership.{role}", "column", column, list(frame.columns))
            if frame[column].isna().any():
                raise RecipeError(f"membership.{role}", f"column {column!r} has missing values")
    member, member_labels = codes(frame[names.member])
    group, group_labels = codes(frame[names.group])
    order = np.lexsort([member, group])
    member, group = member[order], group[order]
    if ((np.diff(group) == 0) & (np.diff(member) == 0)).any():
        raise RecipeError("membership.member", "a member is in one group twice", "Merge such rows.")
    start = np.searchsorted(group, np.arange(len(group_labels) + 1))
    nesting, nesting_labels = None, None
    if names.nesting is not None:
        rows, nesting_labels = codes(frame[names.nesting])
        rows = rows[order]
        nesting = rows[start[:-1]]
        if (nesting[group] != rows).any():
            raise RecipeError(
                "membership.nesting", f"column {names.nesting!r} varies within a group"
            )
    columns = _numeric_columns(frame.iloc[order])
    return Memberships(
        names, member, group, start, nesting, member_labels, group_labels, nesting_labels, columns
    )


def _numeric_columns(frame: Any) -> dict[str, Array]:
    from rmm.tables import numeric

    found = {str(name): numeric(frame[name]) for name in frame.columns}
    return {name: values for name, values in found.items() if values is not None}


STRUCTURES: dict[str, Structure] = {
    "synthetic": Structure(
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
    ),
    "empirical": Structure(
        "empirical",
        ("file",),
        {"member": "member", "group": "group", "nesting": None},
        _prepare_empirical,
    ),
}
