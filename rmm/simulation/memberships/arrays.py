"""Memberships as arrays, and what a structure of them must say about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


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
        Columns that come with the memberships, (M,) float arrays: those of the real table.
    levels : mapping
        Level of such a column where the structure knows it; else it is found from the values.
    table : Memberships or None
        What these are resampled from: levels and standardisation of columns are taken there.
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
    levels: Mapping[str, str] = field(default_factory=dict)
    table: Memberships | None = None

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

    def ids(self) -> dict[str, Array]:
        """Column -> (M,) ids of members, groups and nesting units, as users see them."""
        data = {
            self.names.member: self.member_labels[self.member],
            self.names.group: self.group_labels[self.group],
        }
        if self.nesting is not None and self.names.nesting and self.nesting_labels is not None:
            data[self.names.nesting] = self.nesting_labels[self.nesting][self.group]
        return data

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
    redrawn: Callable[[Mapping[str, Any]], bool] = field(default=lambda config: config["redraw"])
