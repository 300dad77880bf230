"""What a fit's table decided, kept so that other rows become arrays as those of the fit did.

A `DesignRecipe` is made once, from a model and the table of its fit. It holds the codes of ids,
the levels and contrasts of categories, centres and scales, and the names of all coefficients.
`DesignRecipe.arrays` applies it to new rows without looking at the fit's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rmm.design.columns.column_kinds import ColumnKind, column_kinds
from rmm.design.columns.predictors import Codings, unit_names
from rmm.design.design import Design, FittedDesign, FittedNesting, build_design
from rmm.design.members.memberships import FittedBlock, Membership
from rmm.design.members.random_walks import find_last_effects
from rmm.design.members.smooth_functions import add_smooth_members
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members, Units
from rmm.errors import DataError, did_you_mean, quoted
from rmm.model.spec import MemberPart, ModelSpec, NestingPart
from rmm.tables.read import Array


@dataclass(frozen=True)
class UnitCodes:
    """Codes of the units of one kind: the place of an id among `labels`."""

    labels: Array

    @cached_property
    def places(self) -> dict[Any, int]:
        """Id -> code."""
        return {label: code for code, label in enumerate(self.labels)}

    def codes(self, labels: Array) -> tuple[Array, Array]:
        """Codes of some ids, and the ids that are new: their codes follow."""
        place, count = self.places, len(self.labels)
        found = [place.get(label, -1) for label in labels]
        fresh = [label for label, code in zip(labels, found, strict=True) if code < 0]
        code = np.array(found, dtype=np.int64)
        code[code < 0] = count + np.arange(len(fresh))
        added = np.empty(len(fresh), dtype=object)
        added[:] = fresh
        return code, added

    def recode[U: Units](self, units: U) -> tuple[U, Array]:
        """The units with the fit's codes, and the ids that are new."""
        code, added = self.codes(units.labels)
        return replace(
            units, code=code[units.code], labels=np.concatenate([self.labels, added])
        ), added


@dataclass(frozen=True)
class NewRows:
    """Groups that are not those of a fit, as arrays.

    Attributes
    ----------
    grouped : Grouped
        Members and nesting units of the fit have its codes, new ones those that follow.
    design : Design
        Not centred, and without the outcome.
    new_members, new_units : tuple of arrays
        Ids of the new members of each `mm()` block and the new units of each `hm()` block.
    """

    grouped: Grouped
    design: Design
    new_members: tuple[Array, ...]
    new_units: tuple[Array, ...]


@dataclass(frozen=True)
class DesignRecipe:
    """What the table of a fit decided.

    Attributes
    ----------
    labels : mapping
        Name of a coefficient vector (``"b_l1"``) -> the names of its elements, in the order of
        `summary()`, before any of them is held at a number.
    columns : mapping
        Column of the formula -> what it holds.
    members, nestings : tuples of UnitCodes
        Codes of the ids of each `mm()` and `hm()` block.
    codings : Codings
        How the predictors of each block become columns.
    fitted : FittedDesign
        Scales, totals, names and ends of random walks.
    """

    labels: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, ColumnKind]
    members: tuple[UnitCodes, ...]
    nestings: tuple[UnitCodes, ...]
    codings: Codings
    fitted: FittedDesign

    def arrays(self, spec: ModelSpec, grouped: Grouped) -> NewRows:
        """New groups as arrays: levels, means, sds and totals are those of the fit.

        Parameters
        ----------
        spec : ModelSpec
            Of the fit.
        grouped : Grouped
            The new groups, with codes of their own.

        Returns
        -------
        NewRows

        Raises
        ------
        DataError
            For levels of a category that the fit did not have, new nesting units where units
            have fixed effects, groups that are not after those of the fit where effects are
            random walks, and weights that are not finite.
        """
        grouped = add_smooth_members(spec, grouped)
        members = [u.recode(m) for u, m in zip(self.members, grouped.members, strict=True)]
        nestings = [u.recode(n) for u, n in zip(self.nestings, grouped.nestings, strict=True)]
        new_units = tuple(added for _, added in nestings)
        for nest, added, codes in zip(spec.nestings, new_units, self.nestings, strict=True):
            _refuse_new_fixed(nest, added, codes.labels)
        recoded = replace(
            grouped,
            members=tuple(found for found, _ in members),
            nestings=tuple(found for found, _ in nestings),
        )
        encoded = self.codings.columns(recoded)
        design = build_design(spec, recoded, encoded, centre=False, fitted=self.fitted)
        return NewRows(recoded, design, tuple(added for _, added in members), new_units)


def _refuse_new_fixed(nest: NestingPart, labels: Array, known: Array) -> None:
    if not nest.random and len(labels):
        texts = (label for label in known if isinstance(label, str))
        meant = did_you_mean(labels[0], texts, quote="'") if isinstance(labels[0], str) else ""
        raise DataError(
            f"The nesting unit {quoted(labels[0])} (column `{nest.block.unit}`) was not in the "
            f"data of the fit.{meant} The nesting units have fixed effects, which are not known "
            "for new units. To predict new units, use random effects: write hm(id = "
            f'{nest.block.unit}, type = "RE") in the formula and fit again.'
        )


def make_recipe(
    spec: ModelSpec,
    grouped: Grouped,
    labels: Mapping[str, tuple[str, ...]],
    codings: Codings,
    design: Design,
) -> DesignRecipe:
    """The recipe of a fit.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
        The table of the fit.
    labels : mapping
        Of `rmm.design.columns.predictors.coefficient_labels`.
    codings : Codings
        Of `rmm.design.columns.predictors.encode_predictors`.
    design : Design
        The fit's arrays.
    """
    nestings = zip(spec.nestings, grouped.nestings, design.nestings, strict=True)
    members = zip(spec.members, grouped.members, design.members, strict=True)
    return DesignRecipe(
        labels=labels,
        columns=column_kinds(spec.formula, grouped.table),
        members=tuple(UnitCodes(units.labels) for units in grouped.members),
        nestings=tuple(UnitCodes(units.labels) for units in grouped.nestings),
        codings=codings,
        fitted=FittedDesign(
            design.scale_l2,
            tuple(FittedNesting(n.scale, unit_names(p, grouped, u)) for p, u, n in nestings),
            tuple(_fitted_block(p, grouped, u, m) for p, u, m in members),
        ),
    )


def _fitted_block(
    part: MemberPart, grouped: Grouped, units: Members, member: Membership
) -> FittedBlock:
    if member.walk is None:
        return FittedBlock(member, None)
    labels = grouped.groups.labels
    return FittedBlock(
        member, find_last_effects(part.block, units.table, units, labels, member.walk)
    )
