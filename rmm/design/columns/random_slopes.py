"""Random slopes of member covariates: their columns, and what must be told about them."""

from __future__ import annotations

import warnings

import numpy as np

from rmm.design.columns.encode import Coding, Columns, encode
from rmm.design.rows.units import Members
from rmm.errors import DataError, SpecificationWarning
from rmm.model.spec import MemberPart
from rmm.tables.read import first_varying


def encode_slopes(
    part: MemberPart, units: Members, transform: str | None
) -> tuple[Coding, Columns] | None:
    """Coding and (M, K) columns x with random slopes: member i's effect is u_i0 + sum_k u_ik x_rk.

    They are not centred: unless they are correlated, intercepts and slopes are independent where x
    is 0, so moving that point would be another model.

    Parameters
    ----------
    part : MemberPart
    units : Members
    transform : str or None
        As for `rmm.design.recipe.encode_predictors`; ``"center"`` moves the point where x is 0.

    Returns
    -------
    tuple or None
        None for a block without random slopes.

    Raises
    ------
    DataError
        If a covariate is the same in every membership, or correlated effects are fewer than two.

    Warns
    -----
    SpecificationWarning
        If a covariate has no common slope, or never varies within a member.
    """
    if not part.slopes:
        return None
    coding, columns = encode(
        part.block.slopes,
        units.table,
        intercept=part.random,
        transform=transform,
    )
    if part.correlated and not part.pairs(columns.labels):
        raise DataError(
            f"`cor = TRUE` in re() needs two or more effects of a member, but there is only "
            f"`{columns.labels[0]}`. Remove `cor = TRUE`."
        )
    _check(part, columns, units)
    return coding, columns


def _check(part: MemberPart, columns: Columns, units: Members) -> None:
    for label, values in zip(columns.labels, columns.values.T, strict=True):
        if np.ptp(values) == 0:
            raise DataError(
                f"`{label}` in re() is {values[0]:g} in every row, so its random slopes would be "
                "random intercepts. Write RE = TRUE."
            )
    _warn_of_missing_means(part)
    if part.random:
        _warn_of_constants(columns, units)


def _warn_of_missing_means(part: MemberPart) -> None:
    common = {t.label for t in (*part.block.terms, *(f.term for f in part.block.fixed))}
    for term in part.block.slopes:
        if term.label not in common:
            warnings.warn(
                f"`{term.label}` has random slopes but no common slope, so the slopes of the "
                f"members are assumed to be 0 on average. Add `{term.label}` to vars(). If 0 is "
                f"intended, write vars(fix({term.label}, 0)).",
                SpecificationWarning,
                stacklevel=2,
            )


def _warn_of_constants(columns: Columns, units: Members) -> None:
    for label, values in zip(columns.labels, columns.values.T, strict=True):
        if first_varying(values, units.code) is None:
            warnings.warn(
                f"`{label}` in re() does not vary within any member. The data therefore cannot "
                "separate the intercept and the slope of a member: only the priors do. "
                "sigma_slope_l1 describes only how the spread between members changes with "
                f"`{label}`.",
                SpecificationWarning,
                stacklevel=2,
            )
