"""Formula, family, priors and table put together: the description that a backend runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.design.columns.encode import TRANSFORMS
from rmm.design.columns.imputed_columns import imputation_labels, impute
from rmm.design.columns.outcome import with_third_column_read
from rmm.design.columns.predictor_levels import without_what_cancels
from rmm.design.columns.predictors import (
    coefficient_labels,
    encode_predictors,
    labels_without_table,
)
from rmm.design.design import Design, build_design, with_imputed
from rmm.design.members.known_covariances import KnownCovariance, read_covariances
from rmm.design.members.smooth_functions import add_smooth_members
from rmm.design.plan import ModelPlan
from rmm.design.priors.group_sizes import with_typical_sizes
from rmm.design.priors.places import IN_PROGRAMS, hold_coefficients, place_priors
from rmm.design.priors.prior_scales import scales_of, unit_scales
from rmm.design.priors.priors import Resolved, centred_intercept, centred_sigma, resolve
from rmm.design.recipe import DesignRecipe, make_recipe
from rmm.design.rows.filled_values import FilledColumn, fill_missing
from rmm.design.rows.group_rows import Grouped, group_table
from rmm.design.rows.likelihood_weights import observation_weights
from rmm.design.rows.missing_values import WAYS, Dropped, drop_incomplete
from rmm.design.rows.table_checks import check_table
from rmm.design.weight_warnings import warn_of_weights
from rmm.errors import DataError, FormulaError, counted, unknown_name
from rmm.families import find_family
from rmm.formula.parse_formula import columns_of, id_columns, parse_formula
from rmm.formula.prior_syntax import PriorChoice, read_priors
from rmm.model.spec import ModelSpec, build_spec, with_family
from rmm.tables.data_files import is_text_file
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import read_table
from rmm.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Model:
    """Everything about a fit that is known before an engine starts.

    Attributes
    ----------
    formula : str
        As the user wrote it.
    spec : ModelSpec
    grouped : Grouped
        The checked table in canonical order.
    design : Design
    recipe : DesignRecipe
        The labels of all coefficients.
    choice : PriorChoice
        Priors as the user stated them.
    priors : Resolved
    transform : str or None
    whole : Table
        The user's table, dropped groups included.
    missing : str
        ``"error"``, ``"drop"`` or ``"impute"``.
    dropped : Dropped or None
        Groups left out for missing values.
    na : tuple of str or None
        Texts that mean a missing value in text files, those of new data too.
    wide : bool
        Whether the table looks like a wide one, which the user has been warned of.
    covariances : mapping of str to KnownCovariance
        Of `cov =` in the formula.
    """

    formula: str
    spec: ModelSpec
    grouped: Grouped
    design: Design
    recipe: DesignRecipe
    choice: PriorChoice
    priors: Resolved
    transform: str | None
    whole: Table
    missing: str = "error"
    dropped: Dropped | None = None
    na: tuple[str, ...] | None = None
    wide: bool = False
    covariances: Mapping[str, KnownCovariance] = field(default_factory=dict)

    @property
    def imputed(self) -> str:
        """How many values of which columns are missing and parameters; empty if none are."""
        pairs = zip(self.spec.imputed, self.design.imputed, strict=True)
        return ", ".join(
            f"{one.column} ({len(found.labels)} of {counted(found.total, one.unit)})"
            for one, found in pairs
        )

    @property
    def as_written(self) -> str:
        """The formula, that of sigma and observation weights, as printed fits show them."""
        sigma, weights = self.spec.family.sigma, self.spec.family.observation_weights
        lines = [self.formula]
        if sigma is not None:
            lines.append(f"sigma ~ {sigma.text.partition('~')[2].strip()}")
        return "\n".join([*lines, *([f"observation weights: {weights}"] if weights else [])])

    @cached_property
    def used(self) -> pd.DataFrame:
        """The used columns of the user's table, in the user's order; dropped groups included."""
        written = with_family(parse_formula(self.formula), self.spec.family)
        return self.whole.frame[list(columns_of(written))]


def prepare(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    *,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
    na: Sequence[str] | None = None,
    cov: Mapping[str, pd.DataFrame] | None = None,
) -> Model:
    """Check a formula against a table and lay out the arrays.

    Parameters are those of `rmm.fit`.

    Raises
    ------
    FormulaError, DataError, PriorError
    """
    if transform is not None and (not isinstance(transform, str) or transform not in TRANSFORMS):
        raise FormulaError(unknown_name(transform, "a value of `transform`", [*TRANSFORMS, None]))
    if not isinstance(missing, str) or missing not in WAYS:
        raise DataError(unknown_name(missing, "a value of `missing`", WAYS))
    choice = read_priors(priors)
    known = find_family(family)
    written = with_family(parse_formula(formula), known)
    covariances = read_covariances(cov, written)
    ids = id_columns(written)
    frame = read_table(data, ids=ids, na=na)
    frame = simplify_columns(frame, columns_of(written), ids)
    dropped, rows = None, frame
    filled: tuple[FilledColumn, ...] = ()
    if missing == "drop":
        rows, dropped = drop_incomplete(written, frame)
    if missing == "impute":
        _check_transform(transform)
        rows, filled = fill_missing(written, frame)
    table = Table(rows)
    model = lay_out(ModelPlan(written, known, choice, transform, covariances, filled), table)
    in_file = is_text_file(data)
    wide = check_table(
        model.grouped, table, from_text=in_file and na is None, in_memory=not in_file
    )
    warn_of_weights(model.spec, model.grouped, model.design)
    return replace(
        model,
        whole=table if rows is frame else Table(frame),
        missing=missing,
        dropped=dropped,
        na=None if na is None else tuple(na),
        wide=wide,
    )


def lay_out(plan: ModelPlan, table: Table) -> Model:
    """Check a formula against a table and lay out the arrays, without warnings of the table.

    Parameters
    ----------
    plan : ModelPlan
    table : Table
        Its columns are in plain types: see `rmm.tables.plain_columns`.

    Returns
    -------
    Model

    Raises
    ------
    FormulaError, DataError, PriorError
    """
    grouped = without_what_cancels(group_table(plan.formula, table))
    weights = observation_weights(plan.formula, grouped.first_rows)
    if weights is not None and (weights == 1).all():  # the ordinary model, to the last bit
        plan = plan.unweighted()
        grouped = replace(grouped, formula=replace(grouped.formula, observation_weights=""))
    grouped = with_third_column_read(grouped)
    spec = plan.spec(grouped)
    grouped = add_smooth_members(spec, grouped)
    codings, encoded = encode_predictors(spec, grouped, transform=plan.transform)
    labels = coefficient_labels(spec, encoded)
    if plan.filled:
        spec = impute(spec, encoded, grouped, plan.filled)
        labels |= imputation_labels(spec)
    spec, placed = plan.place(spec, labels)
    design = build_design(
        spec,
        grouped,
        encoded,
        centre=centred_intercept(placed.choice),
        centre_sigma=centred_sigma(placed.choice),
        covariances=plan.covariances,
    )
    design = with_imputed(spec, grouped, encoded, design, plan.filled)
    recipe = make_recipe(spec, grouped, labels, codings, design)
    design = replace(design, members=with_typical_sizes(spec, design.members, placed.choice))
    resolved = resolve(placed.choice, spec, scales_of(design))
    _check_scale(resolved)
    return Model(
        plan.formula.text,
        spec,
        grouped,
        design,
        recipe,
        plan.choice,
        resolved,
        plan.transform,
        whole=table,
        covariances=plan.covariances,
    )


def _check_transform(transform: str | None) -> None:
    if transform is not None:
        raise DataError(
            f'missing="impute" cannot be used with transform="{transform}": mean and standard '
            "deviation of a column with missing values are not known. Centre or scale the columns "
            "of the table."
        )


def _check_scale(priors: Resolved) -> None:
    """Scales of priors follow from the data's, whose squares may be beyond what numbers hold."""
    for name, value in priors.data.items():
        if not np.isfinite(value).all():
            raise DataError(
                "The values of the outcome or of a predictor are so large that the default prior "
                f"of `{_shown(name)}` is not finite. Divide them by a constant."
            )


def _shown(name: str) -> str:
    """The parameter, by its name in `summary()`, whose prior has a number of this name."""
    parameter = re.sub("^prior_|_(location|scale|rate|shape|df|lower|upper)$", "", name)
    return IN_PROGRAMS.get(parameter, parameter)


def prepare_without_data(
    formula: str, family: Any = "gaussian", *, priors: Any = "weakly_informative"
) -> tuple[ModelSpec, Mapping[str, tuple[str, ...]]]:
    """Spec and prior forms of a formula alone: all that a program's text depends on.

    Without data every predictor outside `mm()` counts as level 2 unless `hm(vars=)` names it,
    and as one column.
    """
    known = find_family(family)
    spec = build_spec(with_family(parse_formula(formula), known), known)
    labels = labels_without_table(spec)
    placed = place_priors(read_priors(priors), spec, labels, table=False)
    spec = hold_coefficients(spec, labels, placed.held)
    return spec, resolve(placed.choice, spec, unit_scales(spec, labels)).forms
