"""The columns of the log of the residual standard deviation, and the table that they come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.design.columns.encode import Columns
from rmm.design.identifiability import check_magnitude, check_rank
from rmm.design.rows.group_rows import Grouped
from rmm.formula.terms import SIZE_NAME
from rmm.model.spec import INTERCEPT
from rmm.tables.table import Table


def sigma_table(grouped: Grouped) -> Table:
    """(J, ...) one row per group; `n` is the number of members where the formula of sigma uses it.

    A column `n` that contradicts the counted sizes has been refused by `group_table`.
    """
    table, sigma = grouped.first_rows, grouped.formula.sigma
    if sigma is None or not sigma.uses_size:
        return table
    frame = table.frame[list(sigma.columns)]
    return Table(frame.assign(**{SIZE_NAME: np.diff(grouped.start).astype(float)}))


def sigma_arrays(columns: Columns | None, centre: bool) -> dict[str, Any]:
    """`X_sigma`, `center_sigma` and `K_sigma` of the outcome; {} without a formula of sigma.

    Parameters
    ----------
    columns : Columns or None
        (J, K - 1), without the intercept.
    centre : bool
        Whether the prior of the intercept is stated at the means of the predictors.
    """
    if columns is None:
        return {}
    values = columns.values
    means = values.mean(axis=0) if centre and len(values) else np.zeros(values.shape[1])
    return {
        "X_sigma": np.column_stack([np.ones(len(values)), values - means]),
        "center_sigma": np.concatenate([[0.0], means]),
        "K_sigma": 1 + values.shape[1],
    }


def check_sigma(columns: Columns) -> None:
    """Raise `DataError` for predictors that are too large, or linear combinations of others."""
    labels = [f"b_sigma[{label}]" for label in columns.labels]
    for label, values in zip(labels, columns.values.T, strict=True):
        check_magnitude(label, values)
    check_rank(
        [INTERCEPT, *labels], np.column_stack([np.ones(len(columns.values)), columns.values])
    )
