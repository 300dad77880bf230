"""How a table's predictors are encoded: the one source of the coefficients' labels.

`encode_predictors` is the only place that decides which columns a term has: contrasts, the level
that is left out, dummies of nesting units. A `DesignRecipe` keeps what summary, priors and
initial values need of it: the names of all coefficients, in the order in which `summary()` shows
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rmm.design.columns.encode import Columns, encode
from rmm.design.columns.random_slopes import slope_columns
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members, Units
from rmm.errors import DataError
from rmm.model.spec import INTERCEPT, Held, MemberPart, ModelSpec, NestingPart
from rmm.tables.read import Array


@dataclass(frozen=True)
class DesignRecipe:
    """What was decided about a table's predictors when it was encoded for a fit.

    Attributes
    ----------
    labels : mapping
        Name of a coefficient vector (``"b_l1"``) -> the names of its elements, in the order of
        `summary()`, before any of them is held at a number.
    table : bool
        Whether a table was there. Without one every term counts as one column.
    """

    labels: Mapping[str, tuple[str, ...]]
    table: bool = True


@dataclass(frozen=True)
class Encoded:
    """The columns of all predictors, one `Columns` per block.

    Attributes
    ----------
    level2 : Columns
        (J, K), without the intercept.
    nestings : tuple of Columns
        (J, K) each: level-3 covariates, or the dummies of fixed effects.
    members : tuple of Columns
        (M, K) each, over the block's memberships.
    slopes : tuple of Columns or None
        (M, K) each: covariates with random slopes.
    """

    level2: Columns
    nestings: tuple[Columns, ...]
    members: tuple[Columns, ...]
    slopes: tuple[Columns | None, ...]


def encode_predictors(
    spec: ModelSpec, grouped: Grouped, *, transform: str | None = None, known: int | None = None
) -> Encoded:
    """The columns of every block of a model.

    Without an intercept the first category of the model, wherever it stands, has a column for
    every level; so have categories whose columns, weighted, do not sum to the intercept.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
    transform, known
        As for `rmm.design.design.build_design`.

    Returns
    -------
    Encoded

    Raises
    ------
    DataError
        For predictors that are not finite numbers or proper categories.
    """
    frame = grouped.group_frame
    level3 = tuple(t for nest in spec.nestings for t in nest.terms)
    once = None if known is None else np.arange(known)
    spanned = spec.contrasts
    level2 = encode(
        spec.written, frame, intercept=spanned, margins=level3, transform=transform, once=once
    )
    spanned = spanned or level2.full
    nestings = []
    for nest, units in zip(spec.nestings, grouped.nestings, strict=True):
        nestings.append(_nesting_columns(nest, grouped, units, spanned, transform, known))
        spanned = spanned or nestings[-1].full
    members, slopes = [], []
    for part, kind in zip(spec.members, grouped.members, strict=True):
        rows, segments = kind.of(grouped.frame), kind.segments
        own = None if known is None else np.arange(kind.start[known])
        one = sums_to_one(part, kind, known)
        found = encode(
            part.block.terms, rows, intercept=spanned and one, start=segments,
            transform=transform, once=own,
        )  # fmt: skip
        members.append(found)
        slopes.append(slope_columns(part, rows, kind, transform, own))
        spanned = spanned or (found.full and one)
    return Encoded(level2, tuple(nestings), tuple(members), tuple(slopes))


def make_recipe(spec: ModelSpec, encoded: Encoded) -> DesignRecipe:
    """The recipe of a model whose predictors are encoded."""
    labels: dict[str, tuple[str, ...]] = {}
    labels["b_l2"] = (INTERCEPT,) * spec.intercept + encoded.level2.labels
    for nest, columns in zip(spec.nestings, encoded.nestings, strict=True):
        labels[nest.b] = columns.labels
    blocks = zip(spec.members, encoded.members, encoded.slopes, strict=True)
    for part, columns, slopes in blocks:
        labels |= _member_labels(part, columns.labels, () if slopes is None else slopes.labels)
    for names in labels.values():
        _check_distinct(names)
    return DesignRecipe(labels)


def _check_distinct(labels: tuple[str, ...]) -> None:
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"Two predictors have the name `{twice}`: rename the column.")


def recipe_without_table(spec: ModelSpec) -> DesignRecipe:
    """A recipe in which every term is one column, for programs that are written without data."""
    labels: dict[str, tuple[str, ...]] = {}
    labels["b_l2"] = (INTERCEPT,) * spec.intercept + tuple(t.label for t in spec.written)
    for nest in spec.nestings:
        labels[nest.b] = tuple(t.label for t in nest.terms) if nest.random else ("unit",)
    for part in spec.members:
        block = part.block
        labels |= _member_labels(
            part, tuple(t.label for t in block.terms), tuple(t.label for t in block.slopes)
        )
    return DesignRecipe(labels, table=False)


def _member_labels(
    part: MemberPart, columns: tuple[str, ...], slopes: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    features = tuple(f.label for f in (*part.precomputed_features, *part.features_in_program))
    return {
        part.b: (*columns, *features),
        part.b_w: part.weight.parameters,
        part.b_f: tuple(f.label for f in part.parametric_features),
        part.sigma_slope: slopes,
    }


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


def _nesting_columns(
    part: NestingPart,
    grouped: Grouped,
    units: Units,
    spanned: bool,
    transform: str | None,
    known: int | None,
) -> Columns:
    """Level-3 covariates, or the dummies of units with fixed effects."""
    if part.random:
        once = np.unique(units.code[:known], return_index=True)[1]
        return encode(
            part.terms, grouped.group_frame, intercept=spanned, transform=transform, once=once
        )
    first = 1 if spanned else 0  # without an intercept every unit has its own mean
    dummies = (units.code[:, None] == np.arange(first, units.count)[None, :]).astype(float)
    names = tuple(str(v) for v in unit_labels(part, grouped, units)[first:])
    return Columns(names, dummies, full=not spanned)


def unit_labels(part: NestingPart, grouped: Grouped, units: Units) -> Array:
    """Readable names of the nesting units (`name=`), or their ids."""
    column = part.block.label_column
    if column is None:
        return units.labels
    first = np.unique(units.code, return_index=True)[1]
    labels = grouped.group_frame[column].iloc[first].astype(str).to_numpy(dtype=object)
    if len(set(labels)) < len(labels):
        return np.array(
            [f"{a} ({b})" for a, b in zip(labels, units.labels, strict=True)], dtype=object
        )
    return np.asarray(labels)


def sums_to_one(part: MemberPart, units: Members, known: int | None = None) -> bool:
    """Whether the weights of a block sum to one in every group, so that a constant stays one.

    `known` is the number of leading groups that count; None for all.
    """
    return part.weight.constraint == "group" and bool(units.present[:known].all())
