"""The memberships of a real table, as they are or resampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rmm.simulation.memberships.arrays import Draw, IdNames, Memberships, Structure
from rmm.simulation.memberships.real_tables import id_column, read_file
from rmm.simulation.recipe_errors import RecipeError, check_name

Array = np.ndarray[Any, Any]


def _prepare_empirical(config: Mapping[str, Any], root: Path) -> Draw:
    table = _read_empirical(config, root)
    how = config["resample"]
    if how is None:
        _check_alone(config)
        return lambda rng: table
    check_name("membership.resample", "something that can be resampled", how, RESAMPLED)
    of_other = {key for key, _ in RESAMPLED.values()} - {RESAMPLED[how][0]}
    for key in of_other:
        if config[key] is not None:
            raise RecipeError(
                f"membership.{key}",
                f"`{key}` cannot be used with `resample: {how}`.",
                f"The number to draw is given by `{RESAMPLED[how][0]}`.",
            )
    if how == "nesting" and table.nesting is None:
        raise RecipeError(
            "membership.resample",
            "The memberships have no nesting units that could be resampled.",
            "Name the column of their ids under membership.nesting.",
        )
    key, draw = RESAMPLED[how]
    return lambda rng: draw(table, config[key], rng)


def _check_alone(config: Mapping[str, Any]) -> None:
    """Keys of resampling without it."""
    for key in ("groups", "units", "redraw"):
        if config[key] is not None:
            raise RecipeError(
                f"membership.{key}",
                f"`{key}` can be used only with `resample`: without it all data sets have the "
                "memberships of the table.",
                f"Leave `{key}` out, or add `resample: {'` or `resample: '.join(RESAMPLED)}`.",
            )


def _groups_again(table: Memberships, count: int | None, rng: np.random.Generator) -> Memberships:
    """Groups drawn with replacement; each copy is a group of its own with the same members."""
    total = table.counts["group"]
    groups = rng.integers(total, size=count or total)
    return _copies(
        table,
        groups,
        None if table.nesting is None else table.nesting[groups],
        table.nesting_labels,
    )


def _units_again(table: Memberships, count: int | None, rng: np.random.Generator) -> Memberships:
    """Nesting units drawn with replacement, with all their groups; each copy is a new unit."""
    assert table.nesting is not None
    total = table.counts["nesting"]
    units = rng.integers(total, size=count or total)
    inside = [np.flatnonzero(table.nesting == unit) for unit in units]
    nesting = np.repeat(np.arange(len(units)), [len(groups) for groups in inside])
    return _copies(table, np.concatenate(inside), nesting, np.arange(1, len(units) + 1))


def _copies(
    table: Memberships, groups: Array, nesting: Array | None, nesting_labels: Array | None
) -> Memberships:
    """Groups of a table, some perhaps several times, with their rows and columns."""
    size = table.size[groups]
    start = np.concatenate([[0], np.cumsum(size)])
    rows = np.arange(start[-1]) + np.repeat(table.start[:-1][groups] - start[:-1], size)
    return replace(
        table,
        member=table.member[rows],
        group=np.repeat(np.arange(len(groups)), size),
        start=start,
        nesting=nesting,
        group_labels=np.arange(1, len(groups) + 1),
        nesting_labels=nesting_labels,
        columns={name: values[rows] for name, values in table.columns.items()},
        table=table,
    )


type _Resample = Callable[[Memberships, int | None, np.random.Generator], Memberships]

#: What is drawn with replacement -> key that says how many, and how.
RESAMPLED: dict[str, tuple[str, _Resample]] = {
    "groups": ("groups", _groups_again),
    "nesting": ("units", _units_again),
}


def _read_empirical(config: Mapping[str, Any], root: Path) -> Memberships:
    names = IdNames(config["member"], config["group"], config["nesting"])
    ids = [name for name in (names.member, names.group, names.nesting) if name is not None]
    return memberships_of(read_file("membership.file", config["file"], root, ids), names)


def memberships_of(frame: Any, names: IdNames) -> Memberships:
    """The memberships of a table with one row for each, and its numeric columns.

    Parameters
    ----------
    frame : pandas.DataFrame
    names : IdNames
        Its columns of ids.

    Raises
    ------
    RecipeError
        If an id is missing, a group has a member twice, or two nesting units.
    """
    from rmm.tables.read import codes  # pandas, which synthetic memberships do without

    for role in ("member", "group", "nesting"):
        column = getattr(names, role)
        if column is not None:
            id_column("membership", role, column, frame)
    member, member_labels = codes(frame[names.member])
    group, group_labels = codes(frame[names.group])
    order = np.lexsort([member, group])
    member, group = member[order], group[order]
    if ((np.diff(group) == 0) & (np.diff(member) == 0)).any():
        raise RecipeError(
            "membership.member",
            "A group has two rows for one member.",
            "Keep one row, and put the number of repetitions in a column. This column can be a "
            "weight variable.",
        )
    start = np.searchsorted(group, np.arange(len(group_labels) + 1))
    nesting, nesting_labels = None, None
    if names.nesting is not None:
        rows, nesting_labels = codes(frame[names.nesting])
        rows = rows[order]
        nesting = rows[start[:-1]]
        if (nesting[group] != rows).any():
            raise RecipeError(
                "membership.nesting", f"The column {names.nesting!r} varies within a group."
            )
    columns = _numeric_columns(frame.iloc[order])
    nesting_labels = None if nesting_labels is None else _typed(nesting_labels)
    return Memberships(
        names,
        member,
        group,
        start,
        nesting,
        _typed(member_labels),
        _typed(group_labels),
        nesting_labels,
        columns,
    )


def _typed(labels: Array) -> Array:
    """Labels that are numbers or dates in an array of these; whole numbers are int64."""
    # Late: reading a study file needs no libraries of fits.
    import pandas as pd

    return pd.Series(labels, dtype=object).infer_objects().to_numpy()


def _numeric_columns(frame: Any) -> dict[str, Array]:
    # Late: reading a study file needs no libraries of fits.
    from rmm.tables.read import numeric

    found = {str(name): numeric(frame[name]) for name in frame.columns}
    return {name: values for name, values in found.items() if values is not None}


def _redrawn(config: Mapping[str, Any]) -> bool:
    return config["resample"] is not None and config["redraw"] is not False


EMPIRICAL = Structure(
    "empirical",
    ("file",),
    {
        "member": "member",
        "group": "group",
        "nesting": None,
        "resample": None,
        "groups": None,
        "units": None,
        "redraw": None,
    },
    _prepare_empirical,
    _redrawn,
)
