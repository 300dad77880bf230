"""Formula, family, priors and table put together: the description that a backend runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.design import Design, build_design
from rmm.encoding import TRANSFORMS, Columns
from rmm.errors import DataError, FormulaError
from rmm.families import find_family
from rmm.formula import columns_of, parse_formula
from rmm.grouping import Grouped, group_table
from rmm.integration import Integration, find_integration
from rmm.levels import coefficient_labels, find_levels, without_what_cancels
from rmm.missing import WAYS, Dropped, drop_incomplete
from rmm.prior_language import PriorChoice, read_priors
from rmm.priors import Resolved, apply_fixed, centred_intercept, numbered, resolve
from rmm.spec import ModelSpec, build_spec
from rmm.table_constants import with_constants
from rmm.tables import read_table


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
    choice : PriorChoice
        Priors as the user stated them.
    priors : Resolved
    transform : str or None
    used : pandas.DataFrame
        The used columns of the user's table, in the user's order; dropped groups included.
    missing : str
        ``"error"`` or ``"drop"``.
    dropped : Dropped or None
        Groups left out for missing values.
    integration : Integration or None
        Effects that an engine need not sample as they stand.
    """

    formula: str
    spec: ModelSpec
    grouped: Grouped
    design: Design
    choice: PriorChoice
    priors: Resolved
    transform: str | None
    used: pd.DataFrame
    missing: str = "error"
    dropped: Dropped | None = None
    integration: Integration | None = None


def prepare(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    *,
    priors: Any = "weakly_informative",
    transform: str | None = None,
    missing: str = "error",
) -> Model:
    """Check a formula against a table and lay out the arrays.

    Parameters are those of `rmm.fit`.

    Raises
    ------
    FormulaError, DataError, PriorError
    """
    if transform is not None and (not isinstance(transform, str) or transform not in TRANSFORMS):
        raise FormulaError(
            f"Unknown transform {transform!r}.", hint=f"Known: {', '.join(TRANSFORMS)} or None."
        )
    if not isinstance(missing, str) or missing not in WAYS:
        raise DataError(f"missing={missing!r} is not known. Known: {', '.join(WAYS)}.")
    choice = read_priors(priors)
    frame, known = read_table(data), find_family(family)
    written, dropped, rows = parse_formula(formula), None, frame
    if missing == "drop":
        rows, dropped = drop_incomplete(written, frame)
    grouped = without_what_cancels(group_table(written, rows))
    levelled, levels = find_levels(grouped)
    spec = with_constants(build_spec(levelled, known, levels), grouped)
    # Numbers of coefficients count the model as written; only then may some be held fixed.
    rest = numbered(choice, coefficient_labels(spec, grouped))
    parsed, rest = apply_fixed(levelled, rest)
    if parsed != levelled:
        grouped = replace(grouped, formula=parsed)
        spec = with_constants(build_spec(parsed, known, levels), grouped)
    design = build_design(spec, grouped, centre=centred_intercept(rest), transform=transform)
    resolved = resolve(rest, spec, design)
    _check_scale(resolved)
    used = frame[list(columns_of(written))]
    return Model(
        formula, spec, grouped, design, choice, resolved, transform, used, missing, dropped,
        find_integration(spec, design),
    )  # fmt: skip


def _check_scale(priors: Resolved) -> None:
    """Scales of priors follow from the data's, whose squares may be beyond what numbers hold."""
    for name, value in priors.data.items():
        if not np.isfinite(value).all():
            raise DataError(
                f"The values of the outcome or of a predictor are so large that `{name}` is not "
                "finite. Divide them by a constant."
            )


def prepare_without_data(
    formula: str, family: Any = "gaussian", *, priors: Any = "weakly_informative"
) -> tuple[ModelSpec, Mapping[str, tuple[str, ...]]]:
    """Spec and prior forms of a formula alone: all that a program's text depends on.

    Without data every predictor outside `mm()` counts as level 2 unless `hm(vars=)` names it,
    and as one column.
    """
    known, written = find_family(family), parse_formula(formula)
    labels = {name: list(v) for name, v in _labels(build_spec(written, known)).items()}
    parsed, rest = apply_fixed(written, numbered(read_priors(priors), labels))
    spec = build_spec(parsed, known)
    return spec, resolve(rest, spec, _placeholder(spec)).forms


def _labels(spec: ModelSpec) -> dict[str, list[str]]:
    """Coefficient labels where every term is one column."""
    out = {"b_l2": ["Intercept"] * spec.intercept + [t.label for t in spec.terms]}
    for part in spec.members:
        features = (*part.known, *part.live)
        out[part.b] = [t.label for t in part.block.terms] + [f.label for f in features]
        out[part.b_f] = [f.label for f in part.shaped]
        out[part.b_w] = list(part.weight.parameters)
    return out


def _placeholder(spec: ModelSpec) -> Design:
    """A design of one column per term, good for the families of priors and nothing else."""
    from rmm.design import Nesting
    from rmm.memberships import Membership

    none = np.zeros(0)
    coords: dict[str, Any] = {
        "slope_l2": [t.label for t in spec.terms],
        "covariate_l2": ["Intercept"] * spec.intercept + [t.label for t in spec.terms],
    }
    members, nestings = [], []
    for part in spec.members:
        labels = _labels(spec)[part.b]
        coords[f"covariate_l1{part.suffix}"] = labels
        coords[f"coefficient_w{part.suffix}"] = part.weight.parameters
        coords[f"coefficient_f{part.suffix}"] = [f.label for f in part.shaped]
        ones = np.ones(len(labels))
        weights = np.ones(len(part.weight.parameters))
        slopes = [t.label for t in part.block.slopes]
        coords[f"slope_l1{part.suffix}"] = slopes
        # Two rows, 0 and 1, have a standard deviation for the priors of slopes.
        found = Columns(tuple(slopes), np.outer([0.0, 1.0], np.ones(len(slopes))))
        members.append(
            Membership(none, none, none, 1, None, none, ones, ones, 1.0, {}, weights, none, none,
                       None, none, slopes=found)
        )  # fmt: skip
    for nest in spec.nestings:
        labels = [t.label for t in nest.terms] if nest.random else ["unit"]
        coords[f"covariate_l3{nest.suffix}"] = labels
        nestings.append(Nesting(none, 1, none, none, np.ones(len(labels))))
    coords = {name: np.asarray(labels, dtype=object) for name, labels in coords.items()}
    outcome = spec.family.example
    return Design(2, outcome, none, none, np.ones(len(spec.terms)), None, tuple(members),
                  tuple(nestings), coords, none)  # fmt: skip
