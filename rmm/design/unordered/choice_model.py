"""A multinomial logit as a conditional logit, whose strata are the groups of a table.

A group j with the outcome k becomes a stratum of K alternatives, one for each category, of which k
is chosen. Each predictor becomes K - 1 columns: its values in the rows of one category and 0
elsewhere. So do member covariates. Member effects are random slopes of the dummies of the
categories. All rows of the reference are 0, so

    P(y_j = k) = exp(eta_jk) / sum_l exp(eta_jl),   eta_j0 = 0,

(McFadden 1974). The members of a group, and their weights, are the same in all its alternatives.

The columns, their centres and the default priors are those of a binomial model of the same formula
and table: a category against the reference is a binomial outcome, and with two categories both
models are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from rmm.design.columns.encode import TRANSFORMS
from rmm.design.design import Design
from rmm.design.plan import ModelPlan
from rmm.design.prepare import Model, lay_out
from rmm.design.priors.group_sizes import at_typical_size
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.missing_values import WAYS, drop_incomplete
from rmm.design.rows.table_checks import check_table
from rmm.design.unordered.categories import Categories, find_categories
from rmm.design.unordered.choice_priors import CategoryPriors, column_name, states_intercept
from rmm.design.weight_warnings import warn_of_weights
from rmm.errors import DataError, FormulaError, unknown_name
from rmm.families import FAMILIES
from rmm.families.base import Parts
from rmm.formula.expression import Column, TableCall, walk
from rmm.formula.parse_formula import check_columns, columns_of, id_columns, parse_formula
from rmm.formula.parser import MAX_LENGTH
from rmm.formula.prior_syntax import PriorChoice, read_priors
from rmm.formula.terms import Formula, MemberBlock
from rmm.model.spec import INTERCEPT
from rmm.tables.data_files import is_text_file
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import Array, read_table
from rmm.tables.table import Table

CENTRED = "alpha"  # the intercept at the centres of the predictors
_CONSTRAINTS = {"group": "1", "total": "2", "none": "FALSE"}


def _read_codes(label: str, parts: Parts, strata: Array | None) -> dict[str, Any]:
    """Whether a group is not of the reference: the outcome of the binomial model."""
    return {"y": (parts[0] > 0).astype(np.int64)}


#: Of the model that decides columns, centres and scales; it is never fitted.
_FAMILY = replace(
    FAMILIES["binomial"],
    name="multinomial",
    outcome_kinds=("plain",),
    binary=False,
    for_outcome=None,
    read_outcome=_read_codes,
    like_residual=(
        "With an outcome in categories, such effects cannot be separated from chance. The data can "
        "estimate the coefficients (b_*) only relative to the total spread. The posterior of "
        "{which} is mostly its prior, and all coefficients grow with {which}. Predicted "
        "probabilities are not affected."
    ),
)


@dataclass(frozen=True)
class CategoryModel:
    """A model of an outcome in unordered categories, and its table.

    Attributes
    ----------
    formula : str
        As the user wrote it.
    outcome : str
        Its column.
    categories : Categories
    base : Model
        The binomial model of the same formula: columns, centres, weights, scales of priors.
    codes : (J,) int array
        Category of each group, in the order of the groups of `base`.
    choice : PriorChoice
        Priors as the user stated them.
    table : pandas.DataFrame
        The used columns of the user's table, dropped groups included.
    missing : str
    na : tuple of str or None
        Texts that mean a missing value in text files, those of new data too.
    """

    formula: str
    outcome: str
    categories: Categories
    base: Model
    codes: Array
    choice: PriorChoice
    table: pd.DataFrame
    missing: str
    na: tuple[str, ...] | None

    @property
    def block(self) -> MemberBlock | None:
        """The `mm()` block, if there is one."""
        return self.base.spec.members[0].block if self.base.spec.members else None

    @property
    def others(self) -> tuple[str, ...]:
        """Labels of the categories other than the reference."""
        return self.categories.labels[1:]

    @property
    def centred(self) -> bool:
        """Whether the intercepts are sampled at the predictors' centres (their prior says so)."""
        weak = self.choice.base == "weakly_informative"
        return weak and self.base.spec.intercept and not states_intercept(self.choice)

    @cached_property
    def centres(self) -> dict[str, float]:
        """What is taken off each predictor, by its name in `summary()` without the category."""
        level2, own = self._centres
        names = [*(f"b_l2[{v}]" for v in self.slopes), *(f"b_l1[{v}]" for v in self.covariates)]
        return dict(zip(names, (*level2, *own), strict=True))

    @property
    def _centres(self) -> tuple[Array, Array]:
        """Centres of level 2 and, where weights sum to 1, of members' covariates; else 0."""
        level2, own = np.zeros(len(self.slopes)), np.zeros(len(self.covariates))
        if not self.centred:
            return level2, own
        if self.block is not None and self.block.weight.constraint == "group":
            own = self.base.design.members[0].b_center
        return self.base.design.center_l2, own

    @property
    def slopes(self) -> tuple[str, ...]:
        """Labels of the predictors outside `mm()`, of each category."""
        return tuple(v for v in self.base.recipe.labels["b_l2"] if v != INTERCEPT)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Labels of the members' covariates, of each category."""
        return () if self.block is None else self.base.recipe.labels[self.base.spec.members[0].b]

    @property
    def intercept(self) -> str | None:
        """What the programs call the intercepts; None where there are none."""
        if not self.base.spec.intercept:
            return None
        return CENTRED if self.centred else INTERCEPT

    @cached_property
    def names(self) -> dict[str, str]:
        """Columns of the table of choices that have no name of the user's."""
        taken = {*self._columns, *self._kept}
        return {name: _free(name, taken) for name in ("alternative", "weight", "group")}

    @property
    def _columns(self) -> list[str]:
        """Columns of the predictors, all categories together."""
        first = [self.intercept] if self.intercept else []
        own = [*first, *self.slopes, *self.covariates]
        random = self.others if self.block is not None and self.block.random else ()
        return [*(column_name(k, v) for k in self.others for v in own), *random]

    @property
    def _kept(self) -> list[str]:
        """Columns of the user's table that the table of choices has."""
        if self.block is None:
            return [self.outcome]
        weights = self.block.weight.columns if self.block.weight.estimated else ()
        return [self.outcome, self.block.member, self.block.group, *weights]

    @cached_property
    def choices(self) -> str:
        """The formula of the conditional logit."""
        first = [self.intercept] if self.intercept else []
        terms = [_quoted(column_name(k, v)) for v in (*first, *self.slopes) for k in self.others]
        group = self.names["group"] if self.block is None else self.block.group
        parts = [*terms, *self._members(), f"strata({_quoted(group)})"]
        return f"{_quoted(self.outcome)} ~ 0 + {' + '.join(parts)}"

    def _members(self) -> list[str]:
        block = self.block
        if block is None:
            return []
        columns = [_quoted(column_name(k, v)) for v in self.covariates for k in self.others]
        weight = f"w ~ {_quoted(self.names['weight'])}, c = FALSE"
        if block.weight.estimated:
            weight = f"w ~ {block.weight.text}, c = {_CONSTRAINTS[block.weight.constraint]}"
        effects = " + ".join(map(_quoted, self.others))
        return [
            f"mm(id({_quoted(block.member)}, {_quoted(self.names['alternative'])}), "
            f"vars = {f'vars({", ".join(columns)})' if columns else 'NULL'}, fn({weight}), "
            f"RE = {f're(0 + {effects})' if block.random else 'FALSE'})"
        ]

    @cached_property
    def priors(self) -> CategoryPriors:
        """Priors, and the names of the parameters."""
        return CategoryPriors(
            self.base,
            self.others,
            np.bincount(self.codes, minlength=len(self.categories.labels)),
            self.slopes,
            self.covariates,
            self.intercept,
            self.choice,
        )

    def rows(
        self,
        grouped: Grouped | None = None,
        design: Design | None = None,
    ) -> pd.DataFrame:
        """The table of choices: of the fit's groups, or of new ones.

        Parameters
        ----------
        grouped : Grouped, optional
            New groups, with the units of `base`.
        design : Design, optional
            Their design.

        Returns
        -------
        pandas.DataFrame
            All memberships of the reference, then those of the next category, ...; without
            `mm()` all categories of the first group, then those of the next. New groups have no
            outcome, and numbers for labels.
        """
        new = grouped is not None
        grouped, design = grouped or self.base.grouped, design or self.base.design
        count, size = grouped.groups.count, len(self.categories.labels)
        group = grouped.members[0].group if self.block is not None else np.arange(count)
        values = self._values(grouped, design, group)
        blocks = []
        for k in range(size):
            block = dict(values.kept)
            block[self.names["alternative"]] = group * size + k
            if not new:
                block[self.outcome] = (self.codes[group] == k).astype(np.int64)
            for label, column in values.columns.items():
                for i, other in enumerate(self.others, start=1):
                    name = other if label is None else column_name(other, label)
                    block[name] = column if i == k else np.zeros(len(group))
            blocks.append(pd.DataFrame(block))
        table = pd.concat(blocks, ignore_index=True)
        if self.block is None:  # alternatives are rows: one group after the other
            table = table.sort_values(self.names["alternative"], ignore_index=True)
        return table

    def _values(self, grouped: Grouped, design: Design, group: Array) -> _Values:
        """Columns that all categories have, by membership; None stands for the dummies."""
        encoded = self.base.recipe.codings.columns(grouped)
        level2, own = self._centres
        columns: dict[str | None, Array] = {}
        if self.intercept is not None:
            columns[self.intercept] = np.ones(len(group))
        moved = (encoded.level2.terms.values - level2)[group]
        columns |= dict(zip(self.slopes, moved.T, strict=True))
        labels = grouped.groups.labels[group]
        if grouped is not self.base.grouped:  # theirs may be of another type than the fit's
            text = any(isinstance(v, str) for v in self.base.grouped.groups.labels)
            labels = np.array([str(j) for j in group], dtype=object) if text else group
        if self.block is None:
            return _Values({self.names["group"]: labels}, columns)
        units = grouped.members[0]
        moved = encoded.members[0].terms.values - own
        columns |= dict(zip(self.covariates, moved.T, strict=True))
        if self.block.random:
            columns[None] = np.ones(len(group))
        kept: dict[str, Any] = {
            self.block.group: labels,
            self.block.member: units.labels[units.code],
        }
        if self.block.weight.estimated:
            for name in self.block.weight.columns:
                kept.setdefault(name, units.table[name].series.to_numpy())
        else:
            kept[self.names["weight"]] = design.members[0].weight
        return _Values(kept, columns)


@dataclass(frozen=True)
class _Values:
    """Columns of the memberships that are as in the user's table, and those of categories."""

    kept: dict[str, Any]
    columns: dict[str | None, Array]


def _quoted(name: str) -> str:
    return f"`{name}`"


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def prepare_categories(
    formula: str,
    data: Any,
    *,
    reference: Any = None,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
    na: Sequence[str] | None = None,
) -> CategoryModel:
    """Check a formula against a table whose outcome has unordered categories.

    Parameters are those of `rmm.multinomial`.

    Raises
    ------
    FormulaError, DataError, PriorError
    """
    if transform is not None and (not isinstance(transform, str) or transform not in TRANSFORMS):
        raise FormulaError(unknown_name(transform, "a value of `transform`", [*TRANSFORMS, None]))
    if not isinstance(missing, str) or missing not in WAYS:
        raise DataError(unknown_name(missing, "a value of `missing`", WAYS))
    if missing == "impute":
        raise DataError(
            'missing="impute" is not available in rmm.multinomial(). Impute the missing values '
            'several times and pool the fits with rmm.pool, or use missing="drop".'
        )
    choice, written = read_priors(priors), parse_formula(formula)
    outcome = _check_formula(written)
    ids = id_columns(written)
    frame = read_table(data, ids=ids, na=na)
    check_columns(written, list(frame.columns))
    frame = simplify_columns(frame, columns_of(written), ids)
    rows, dropped = drop_incomplete(written, frame) if missing == "drop" else (frame, None)
    categories = find_categories(rows[outcome], reference)
    table = Table(rows.assign(**{outcome: categories.codes(rows[outcome])}))
    plan = ModelPlan(written, _FAMILY, PriorChoice(choice.base, ()), transform)
    base = replace(lay_out(plan, table), dropped=dropped, na=None if na is None else tuple(na))
    _check_sizes(base)
    in_file = is_text_file(data)
    text = in_file and na is None
    wide = check_table(base.grouped, table, from_text=text, in_memory=not in_file)
    base = replace(base, wide=wide)
    warn_of_weights(base.spec, base.grouped, base.design)
    codes = base.grouped.first_rows[outcome].numbers
    assert codes is not None, "numbers"
    model = CategoryModel(
        formula=formula,
        outcome=outcome,
        categories=categories,
        base=base,
        codes=codes.astype(np.int64),
        choice=choice,
        table=frame[list(columns_of(written))],
        missing=missing,
        na=base.na,
    )
    _check_names(model)
    _ = model.priors.of_choices()  # unknown names are found before the table is made
    return model


def _check_formula(formula: Formula) -> str:
    """The column of the outcome, of a formula that is supported."""
    text = formula.text

    def refuse(problem: str, position: int, length: int, hint: str) -> None:
        raise FormulaError(f"{problem} in a multinomial model.", text, position, length, hint)

    outcome = formula.outcome
    node = outcome.parts[0].expression
    if outcome.kind != "plain" or not isinstance(node, Column):
        raise FormulaError(
            f"The outcome `{outcome.label}` is not a column of categories.",
            text,
            0,
            len(text.split("~")[0].rstrip()),
            "Write one column of the table: outcome ~ ...",
        )
    if formula.strata:
        refuse("`strata()` cannot be used", formula.strata_at, 6, "Remove it.")
    if formula.nestings:
        unit, at = formula.nestings[0].unit, formula.nestings[0].position
        refuse("`hm()` is not available", at, 2, f"For fixed effects write factor({unit}).")
    if formula.smooths:
        first = next(t for t in formula.terms if t.atoms[0] in formula.smooths)
        hint = "Write ns(x, 4) or poly(x, 2)."
        refuse(f"`{first.label}` is not available", first.position, 1, hint)
    if formula.offset:
        hint = "A known part would have to differ between categories. Remove it."
        refuse("`offset()` is not available", text.find("offset("), 6, hint)
    if formula.fixed:
        hint = 'Fix the coefficient of a category by its prior: priors=["b_l2[category:x] = 1"].'
        refuse("`fix()` is not available", text.find("fix("), 3, hint)
    if len(formula.members) > 1:
        hint = "Keep one mm() block."
        refuse("Several mm() blocks are not available", formula.members[1].position, 2, hint)
    for block in formula.members:
        _check_block(block, refuse)
    return node.name


def _check_block(block: MemberBlock, refuse: Any) -> None:
    at = block.position
    if block.features:
        first = block.features[0]
        hint = "Compute the feature as a column of the table, and write it outside mm()."
        refuse(f"`{first.label}` is not available", first.position, len(first.function), hint)
    if block.fixed:
        refuse("`fix()` is not available", at, 2, "Remove it from vars().")
    if block.slopes:
        hint = "Write RE = TRUE: each category then has its own member effects."
        refuse("Random slopes, `re()`, are not available", at, 2, hint)
    if block.series is not None:
        refuse("AR(1) processes, `ar = ar1()`, are not available", at, 2, "Remove `ar =`.")
    if block.autoregressive is not False:
        refuse("Random walks, `ar =`, are not available", at, 2, "Remove `ar =`.")
    if block.covariance is not None:
        refuse("A known covariance, `cov =`, is not available", at, 2, "Remove `cov =`.")
    calls = [n for n in walk(block.weight.expression) if isinstance(n, TableCall)]
    if block.weight.estimated and calls:
        hint = "Make a column of the table with these values, and use it in the weight function."
        refuse(f"`{calls[0].function}()` is not available with estimated weights", at, 2, hint)


def _check_sizes(base: Model) -> None:
    """Default priors at a typical group size belong to coefficients that are sampled there."""
    for part in base.spec.members:
        if at_typical_size(part):
            raise FormulaError(
                f"Weights that are an estimated power of the group size, `{part.weight.text}`, "
                "are not available without a constraint in a multinomial model.",
                base.formula,
                part.block.position,
                2,
                "Write c = TRUE for the mean of the members, or a power that is known, such as "
                "1/n^0.5.",
            )


def _check_names(model: CategoryModel) -> None:
    """Names of columns must differ, and the formula must not be too long to be read."""
    names = [*model._columns, *model._kept]
    if len(set(names)) < len(set(model._columns)) + len(set(model._kept)):
        twice = next(n for n in model._columns if n in model._kept)
        raise DataError(
            f"The category or coefficient `{twice}` has the name of a column of the formula. "
            "Rename the category or the column."
        )
    for own in (model._columns, *(list(v) for v in model.priors.labels.values())):
        if len(set(own)) < len(own):
            twice = next(name for name in own if own.count(name) > 1)
            raise DataError(
                f"Two coefficients would have the name `{twice}`. Rename a category or a column."
            )
    if len(model.choices) > MAX_LENGTH:
        raise DataError(
            f"The model has {len(model._columns)} coefficients and kinds of effects, all "
            f"categories together. Their names have {len(model.choices):,} characters; at most "
            f"{MAX_LENGTH:,} are allowed. Combine categories, or shorten their labels."
        )
