"""`rmm.competing_risks`: cause-specific fits of one event column with several codes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from rmm.arguments import check_seed, readable
from rmm.errors import BackendError, DataError, FormulaError, counted, quoted
from rmm.families import find_family, is_family
from rmm.fitting.pipeline import fit
from rmm.formula.parse_formula import check_columns, columns_of, id_columns, parse_formula
from rmm.formula.terms import Atom, Formula
from rmm.formula.weights.weight_function import Column
from rmm.posterior.comparison.cause_specific import CompetingRisks
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import read_table

_FAMILIES = ("weibull", "cox")
_MOST, _SHOWN = 20, 8  # causes; more values are no causes


@readable(BackendError, is_family=is_family)
def competing_risks(
    formula: str, data: Any, family: Any = "weibull", *, censored: Any = 0, **options: Any
) -> CompetingRisks:
    """Fit the cause-specific hazards of groups that can end for several causes.

    The event of `Surv()` is a column of causes. For each of them the model of the formula is
    fitted with all other ends as censored: `rmm.posterior.comparison.cause_specific`. Coefficients
    are about the hazard (cox) or the duration (weibull) of one cause, as if the others were
    removed at random; probabilities of causes are in `CompetingRisks.cumulative_incidence`.

    Parameters
    ----------
    formula : str
        With ``Surv(time, cause)``, ``Surv(start, stop, cause)`` or ``Surv(stop, cause, entry =
        start)``; the cause is a column of numbers or labels.
    data : frame, table, mapping or path
        As for `rmm.fit`.
    family : {"weibull", "cox"}
    censored : object
        The value of the cause that means a censored duration; None if no duration is censored.
    **options
        Those of `rmm.fit`, for all causes: ``backend``, ``priors``, ``seed``, ``draws``, ...

    Returns
    -------
    CompetingRisks

    Raises
    ------
    FormulaError
        For another family, or an outcome that is no `Surv()` with a column of causes.
    DataError
        If that column has no two causes, or `censored` is not in it.
    RmmError
        What `rmm.fit` raises.

    Warns
    -----
    ConvergenceWarning, SpecificationWarning
        Those of the fits, each with its cause.

    Examples
    --------
    >>> import numpy as np, rmm
    >>> rng = np.random.default_rng(1)
    >>> time, cause = rng.exponential(1.0, 200), rng.choice(["lost", "left"], 200)
    >>> data = {"time": time.clip(max=2), "cause": np.where(time > 2, "none", cause)}
    >>> risks = rmm.competing_risks(
    ...     "Surv(time, cause) ~ 1", data, censored="none", backend="laplace", seed=1
    ... )
    >>> risks.causes
    ('left', 'lost')
    >>> found = risks.cumulative_incidence(1.0, newdata=None)["mean"].groupby("cause").mean()
    >>> bool((abs(found - 0.5 * (1 - np.exp(-1))) < 0.1).all())
    True
    """
    known = find_family(family)
    if known.name not in _FAMILIES:
        raise FormulaError(
            f"Competing risks are fitted with families 'weibull' and 'cox', not {known.name!r}."
        )
    seed = options.pop("seed", None)
    check_seed(seed, BackendError)
    written = parse_formula(formula)
    ids = id_columns(written)
    frame = read_table(data, ids=ids, na=options.pop("na", None))
    check_columns(written, list(frame.columns))
    frame = simplify_columns(frame, columns_of(written), ids)
    event = _event_column(written, frame, censored)
    causes = _causes(event, frame[event], censored)
    base = int(np.random.default_rng().integers(2**31)) if seed is None else int(seed)
    fits = {}
    for number, cause in enumerate(causes):
        # Draws of different causes are combined, so they must not share random numbers.
        own = int(np.random.SeedSequence([base, number]).generate_state(1)[0] >> 1)
        column = frame[event]
        table = frame.assign(**{event: (column == cause).astype(float).where(column.notna())})
        fits[cause] = _fit_of_cause(cause, formula, table, family, seed=own, **options)
    return CompetingRisks(fits, event, censored)


def _fit_of_cause(cause: Any, formula: str, table: Any, family: Any, **options: Any) -> Any:
    """One fit; its warnings name the cause."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = fit(formula, table, family, **options)
    for one in found:
        warnings.warn(f"Cause {quoted(cause)}: {one.message}", one.category, stacklevel=4)
    return result


def _event_column(formula: Formula, frame: pd.DataFrame, censored: Any) -> str:
    """The column of the causes: the second of `Surv()`, or the third if the values say so."""
    outcome = formula.outcome
    if outcome.kind not in ("surv", "spell"):
        raise FormulaError(
            f"The outcome `{outcome.label}` has no causes. Write Surv(time, cause), Surv(start, "
            "stop, cause) or Surv(stop, cause, entry = start)."
        )
    candidates = [outcome.parts[1]]
    if outcome.reading == "open":
        fitting = [p for p in outcome.parts[1:] if _may_be_cause(p, frame, censored)]
        candidates = fitting if len(fitting) == 1 else []
    if not candidates:
        first, second, third = (part.label for part in outcome.parts)
        raise DataError(
            f"It is not clear which column of `{outcome.label}` contains the causes. Write "
            f"Surv({second}, {third}, entry = {first}) for a start, an end and a cause, and "
            f"Surv({first}, {second}, upper = {third}) for a time, a cause and an upper limit."
        )
    node = candidates[0].expression
    if not isinstance(node, Column):
        raise FormulaError(
            f"The cause `{candidates[0].label}` must be a column of the table, not an expression."
        )
    return node.name


def _may_be_cause(part: Atom, frame: pd.DataFrame, censored: Any) -> bool:
    """Whether a part is a column with a few values, the censored one among them."""
    if not isinstance(part.expression, Column):
        return False
    values = frame[part.expression.name].dropna().unique()
    return len(values) <= _MOST and (censored is None or censored in values)


def _causes(name: str, column: pd.Series, censored: Any) -> list[Any]:
    """The causes in the order of their labels, as plain numbers or text."""
    found = [v.item() if isinstance(v, np.generic) else v for v in column.dropna().unique()]
    try:
        found = sorted(found)
    except TypeError:
        raise DataError(
            f"The column `{name}` of the causes contains both numbers and text. Use one kind of "
            "labels."
        ) from None
    shown = ", ".join(quoted(v) for v in found[:_SHOWN]) + ", ..." * (len(found) > _SHOWN)
    if len(found) > _MOST:
        raise DataError(
            f"The column `{name}` of the causes has {len(found)} values: {shown}. Causes are codes "
            f"or labels, {_MOST} at most. Check the order of the columns in Surv()."
        )
    if censored is not None and censored not in found:
        raise DataError(
            f"`censored` is {quoted(censored)}, but the column `{name}` has only the values "
            f"{shown}. Set `censored` to the value that means a censored duration, or to None if "
            "no duration is censored."
        )
    causes = [v for v in found if v != censored]
    if len(causes) < 2:
        raise DataError(
            f"The column `{name}` has {counted(len(causes), 'cause')} besides the censored value, "
            "so there are no competing risks. Use rmm.fit() with an event that is 1 or 0."
        )
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in causes]
