"""Which columns the predictors of each block have: the one source of the coefficients' labels.

`encode_predictors` decides it on the table of a fit: contrasts, the level that is left out,
centres, dummies of nesting units. The `Codings` that it returns give the same columns of any
other rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rmm.design.columns.encode import Coding, Columns, encode
from rmm.design.columns.random_slopes import encode_slopes
from rmm.design.columns.sigma_columns import sigma_table
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members, Units
from rmm.errors import DataError, FormulaError
from rmm.families.variants.varying_sd import B_SIGMA
from rmm.formula.terms import FixedTerm
from rmm.model.spec import INTERCEPT, Held, MemberPart, ModelSpec, NestingPart
from rmm.tables.read import Array
from rmm.tables.table import Table


@dataclass(frozen=True)
class UnitDummies:
    """Dummies of the nesting units of fixed effects: units from number `first` on have one."""

    first: int
    labels: tuple[str, ...]

    def columns(self, units: Units) -> Columns:
        """(J, units - first) dummies."""
        numbers = np.arange(self.first, self.first + len(self.labels))
        dummies = (units.code[:, None] == numbers[None, :]).astype(float)
        return Columns(self.labels, dummies, full=self.first == 0)


@dataclass(frozen=True)
class BlockCoding:
    """How the predictors of one block become columns.

    Attributes
    ----------
    terms : Coding or UnitDummies
    fixed : tuple of (number, Coding)
        Terms of `fix()` and what their columns are multiplied with.
    slopes : Coding or None
        Covariates with random slopes.
    """

    terms: Coding | UnitDummies
    fixed: tuple[tuple[float, Coding], ...] = ()
    slopes: Coding | None = None

    def columns(self, table: Table, units: Units | None = None) -> BlockColumns:
        """The columns of other rows; `units` are the nesting units of dummies."""
        if isinstance(self.terms, UnitDummies):
            assert units is not None
            terms = self.terms.columns(units)
        else:
            terms = self.terms.columns(table)
        slopes = None if self.slopes is None else self.slopes.columns(table)
        fixed = [(number, coding.columns(table)) for number, coding in self.fixed]
        return BlockColumns(terms, _sum(len(table), fixed), slopes)


@dataclass(frozen=True)
class BlockColumns:
    """The columns of one block.

    Attributes
    ----------
    terms : Columns
        (rows, K): groups, or memberships of an `mm()` block.
    fixed : (rows,) array
        Known sum of `fix()` terms.
    slopes : Columns or None
    """

    terms: Columns
    fixed: Array
    slopes: Columns | None = None


@dataclass(frozen=True)
class Codings:
    """How the predictors of all blocks become columns; level 2 and sigma without the intercept."""

    level2: BlockCoding
    nestings: tuple[BlockCoding, ...]
    members: tuple[BlockCoding, ...]
    sigma: Coding | None = None

    def columns(self, grouped: Grouped) -> Encoded:
        """The columns of other groups than those of the fit.

        Parameters
        ----------
        grouped : Grouped
            Nesting units have the codes that they have in the fit.

        Raises
        ------
        DataError
            For a level, or a combination of levels, that has no coefficient.
        """
        table = grouped.first_rows
        nestings = zip(self.nestings, grouped.nestings, strict=True)
        members = zip(self.members, grouped.members, strict=True)
        return Encoded(
            self.level2.columns(table),
            tuple(block.columns(table, units) for block, units in nestings),
            tuple(block.columns(kind.table) for block, kind in members),
            None if self.sigma is None else self.sigma.columns(sigma_table(grouped)),
        )


@dataclass(frozen=True)
class Encoded:
    """The columns of all blocks; level 2 and sigma without the intercept."""

    level2: BlockColumns
    nestings: tuple[BlockColumns, ...]
    members: tuple[BlockColumns, ...]
    sigma: Columns | None = None


def encode_predictors(
    spec: ModelSpec, grouped: Grouped, *, transform: str | None = None
) -> tuple[Codings, Encoded]:
    """How the predictors of a model become columns on the table of its fit, and these columns.

    Without an intercept the first category of the model, wherever it stands, has a column for
    every level; so have categories whose columns, weighted, do not sum to the intercept.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
    transform : str, optional
        ``"center"``, ``"std"`` or ``"std2"``: of the continuous predictors.

    Returns
    -------
    codings : Codings
    encoded : Encoded

    Raises
    ------
    DataError
        For predictors that are not finite numbers or proper categories.
    FormulaError
        For `fix()` of a category with several coefficients.
    """
    table = grouped.first_rows
    level3 = tuple(t for nest in spec.nestings for t in nest.terms)
    spanned = spec.contrasts
    coding, columns = encode(
        spec.written, table, intercept=spanned, margins=level3, transform=transform
    )
    level2 = _block(coding, columns, spec.fixed, table)
    spanned = spanned or columns.full
    nestings, members = [], []
    for nest, units in zip(spec.nestings, grouped.nestings, strict=True):
        dummies, columns = _encode_nesting(nest, grouped, units, spanned, transform)
        nestings.append(_block(dummies, columns, nest.block.fixed, table))
        spanned = spanned or columns.full
    for part, kind in zip(spec.members, grouped.members, strict=True):
        one = sums_to_one(part, kind)
        coding, columns = encode(
            part.block.terms, kind.table, intercept=spanned and one, transform=transform
        )
        slopes = encode_slopes(part, kind, transform)
        members.append(_block(coding, columns, part.block.fixed, kind.table, slopes))
        spanned = spanned or (columns.full and one)
    codings = Codings(level2[0], tuple(c for c, _ in nestings), tuple(c for c, _ in members))
    encoded = Encoded(level2[1], tuple(e for _, e in nestings), tuple(e for _, e in members))
    if spec.formula.sigma is not None:
        terms = spec.formula.sigma.terms
        own, columns = encode(terms, sigma_table(grouped), transform=transform)
        return replace(codings, sigma=own), replace(encoded, sigma=columns)
    return codings, encoded


def _block(
    coding: Coding | UnitDummies,
    columns: Columns,
    fixed: tuple[FixedTerm, ...],
    table: Table,
    slopes: tuple[Coding, Columns] | None = None,
) -> tuple[BlockCoding, BlockColumns]:
    """Coding and columns of a block, its `fix()` terms among them."""
    found = [(item.value, *_encode_fixed(item, table)) for item in fixed]
    codings = tuple((number, own) for number, own, _ in found)
    known = _sum(len(table), [(number, own) for number, _, own in found])
    first, second = (None, None) if slopes is None else slopes
    return BlockCoding(coding, codings, first), BlockColumns(columns, known, second)


def _encode_fixed(item: FixedTerm, table: Table) -> tuple[Coding, Columns]:
    coding, columns = encode((item.term,), table)
    if len(columns.labels) != 1:
        raise FormulaError(
            f"fix({item.term.label}, {item.value:g}): a categorical predictor has several "
            "coefficients. Make a 0/1 column for the level whose coefficient is fixed."
        )
    return coding, columns


def _sum(count: int, fixed: list[tuple[float, Columns]]) -> Array:
    """(count,) known sum of `fix()` terms."""
    total = np.zeros(count)
    for number, columns in fixed:
        total += number * columns.values[:, 0]
    return total


def _encode_nesting(
    part: NestingPart, grouped: Grouped, units: Units, spanned: bool, transform: str | None
) -> tuple[Coding | UnitDummies, Columns]:
    """Level-3 covariates, or the dummies of units with fixed effects."""
    if part.random:
        once = units.first
        return encode(
            part.terms, grouped.first_rows, intercept=spanned, transform=transform, once=once
        )
    first = 1 if spanned else 0  # without an intercept every unit has its own mean
    names = unit_labels(unit_names(part, grouped, units), units.labels)
    dummies = UnitDummies(first, tuple(str(v) for v in names[first:]))
    return dummies, dummies.columns(units)


def unit_names(part: NestingPart, grouped: Grouped, units: Units) -> Array:
    """Names of the nesting units by the column `name=`, or their ids; of units that have a row."""
    column = part.block.label_column
    if column is None:
        return units.labels
    return grouped.first_rows[column].series.iloc[units.first].astype(str).to_numpy(dtype=object)


def unit_labels(names: Array, ids: Array) -> Array:
    """Readable labels of units: their names, with the ids where a name is that of two units."""
    if len(set(names)) < len(names):
        return np.array([f"{a} ({b})" for a, b in zip(names, ids, strict=True)], dtype=object)
    return np.asarray(names)


def coefficient_labels(spec: ModelSpec, encoded: Encoded) -> dict[str, tuple[str, ...]]:
    """Names of the elements of each coefficient vector, as `summary()` shows them.

    In the model as written, before a coefficient is held at a number.

    Raises
    ------
    DataError
        If two predictors have one name.
    """
    labels: dict[str, tuple[str, ...]] = {}
    labels["b_l2"] = (INTERCEPT,) * spec.intercept + encoded.level2.terms.labels
    for nest, block in zip(spec.nestings, encoded.nestings, strict=True):
        labels[nest.b] = block.terms.labels
    for part, block in zip(spec.members, encoded.members, strict=True):
        slopes = () if block.slopes is None else block.slopes.labels
        labels |= _member_labels(part, block.terms.labels, slopes)
    labels |= {roles.cor: roles.pairs for roles in spec.roles}
    if encoded.sigma is not None:
        labels[B_SIGMA] = (INTERCEPT, *encoded.sigma.labels)
    for names in labels.values():
        _check_distinct(names)
    return labels


def labels_without_table(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """Names of the elements where every term is one column, for programs without data."""
    labels: dict[str, tuple[str, ...]] = {}
    labels["b_l2"] = (INTERCEPT,) * spec.intercept + tuple(t.label for t in spec.written)
    for nest in spec.nestings:
        labels[nest.b] = tuple(t.label for t in nest.terms) if nest.random else ("unit",)
    for part in spec.members:
        block = part.block
        labels |= _member_labels(
            part, tuple(t.label for t in block.terms), tuple(t.label for t in block.slopes)
        )
    labels |= {roles.cor: roles.pairs for roles in spec.roles}
    if spec.family.sigma is not None:
        labels[B_SIGMA] = (INTERCEPT, *(t.label for t in spec.family.sigma.terms))
    return labels


def _member_labels(
    part: MemberPart, columns: tuple[str, ...], slopes: tuple[str, ...]
) -> Mapping[str, tuple[str, ...]]:
    features = tuple(f.label for f in (*part.precomputed_features, *part.features_in_program))
    found = {
        part.b: (*columns, *features),
        part.b_w: part.weight.parameters,
        part.b_f: tuple(f.label for f in part.parametric_features),
        part.sigma_slope: slopes,
    }
    return found | ({part.cor: part.pairs(slopes)} if part.correlated else {})


def _check_distinct(labels: tuple[str, ...]) -> None:
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"Two predictors have the name `{twice}`. Rename the column.")


def take_out_held(columns: Columns, held: Held) -> Columns:
    """The columns whose coefficients are estimated; those that are held become a known sum."""
    values = dict(held)
    at = [k for k, label in enumerate(columns.labels) if label in values]
    if not at:
        return columns
    known = columns.values[:, at] @ np.array([values[columns.labels[k]] for k in at])
    kept = [k for k in range(len(columns.labels)) if k not in at]
    return replace(
        columns,
        labels=tuple(columns.labels[k] for k in kept),
        values=columns.values[:, kept],
        known=known if columns.known is None else columns.known + known,
    )


def sums_to_one(part: MemberPart, units: Members) -> bool:
    """Whether the weights of a block sum to one in every group, so that a constant stays one."""
    return part.weight.constraint == "group" and units.everywhere
