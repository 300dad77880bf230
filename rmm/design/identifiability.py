"""What the data cannot tell: collinear predictors, weight coefficients that do nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmm.errors import DataError, counted
from rmm.model.spec import MemberPart
from rmm.tables.read import Array, first_varying

_ROUNDING = 8 * float(np.finfo(float).eps)  # of a column's largest value
_LEAST = 1e-140  # squares of values below it, or above its inverse, are not finite
_RELATIVE = 1e-9  # a column this close to the span of others, relative to its length, is in it


def always_together(member: Array, group: Array) -> list[list[int]]:
    """Sets of members that are in exactly the same groups.

    With known weights their effects are identified only in (weighted) sum.

    Parameters
    ----------
    member, group : (M,) int arrays

    Returns
    -------
    list of lists of member codes, each of two or more
    """
    groups: dict[int, list[int]] = {}
    for one, where in zip(member.tolist(), group.tolist(), strict=True):
        groups.setdefault(one, []).append(where)
    sets: dict[tuple[int, ...], list[int]] = {}
    for one, places in sorted(groups.items()):
        sets.setdefault(tuple(sorted(places)), []).append(one)
    return [members for members in sets.values() if len(members) > 1]


def check_magnitude(label: str, values: Array) -> None:
    """Raise `DataError` for values whose squares are beyond what numbers can hold.

    Parameters
    ----------
    label : str
        Of a predictor or the outcome.
    values : array
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest > 0 and not _LEAST < largest < 1 / _LEAST:
        what = "large" if largest > 1 else "small"
        raise DataError(
            f"The values of `{label}` are too {what} for computations: the largest is {largest:g}. "
            f"{'Divide' if what == 'large' else 'Multiply'} `{label}` by a constant."
        )


def check_rank(labels: list[str], columns: Array, strata: Array | None = None) -> None:
    """Raise `DataError` if a column is a linear combination of those before it.

    Parameters
    ----------
    labels : list of str
        `Intercept` first, if there is one.
    columns : (J, len(labels)) array
    strata : (J,) int array, optional
        Only differences within strata count then, and there is no `Intercept`.
    """
    constant = labels[:1] == ["Intercept"]
    units = np.zeros(len(columns), dtype=np.int64) if constant else strata
    rest, precision = _deviations(columns, units)
    if constant:
        rest[:, 0] = 1.0  # deviations are at right angles to it
    lengths = np.linalg.norm(rest, axis=0)
    scaled = rest / np.where(lengths > 0, lengths, 1.0)
    left = np.abs(np.diag(np.linalg.qr(scaled, mode="r")))
    if len(left) < len(labels):
        raise DataError(
            f"The model has {counted(len(labels), 'coefficient')}, but only "
            f"{counted(len(columns), 'group')}. Drop predictors. The coefficients are: "
            f"{', '.join(labels[:8])} ..."
        )
    limit = np.maximum(_RELATIVE, np.maximum.accumulate(precision))
    within = np.flatnonzero((left < limit) | (lengths == 0))
    if len(within) == 0:
        return
    last = int(within[0])
    share = np.linalg.lstsq(scaled[:, :last], scaled[:, last], rcond=None)[0]
    others = [labels[i] for i in np.flatnonzero(np.abs(share) > 1e-6)]
    if constant and lengths[last] == 0:
        others = ["Intercept"] if columns[:, last].any() else []
    if not others and strata is not None:
        raise DataError(
            f"The predictor `{labels[last]}` is constant within every stratum, so it cannot "
            "explain differences between the groups of a stratum. Drop it."
        )
    if not others:
        raise DataError(f"The predictor `{labels[last]}` is 0 in every group. Drop it.")
    if others == ["Intercept"]:
        raise DataError(
            f"The predictor `{labels[last]}` is the same in every group, so it cannot explain "
            "differences between groups. Drop it."
        )
    raise DataError(
        f"`{labels[last]}` is a linear combination of {', '.join(f'`{o}`' for o in others)}, so "
        "the data cannot separate their coefficients. Drop one of them."
    )


def _deviations(columns: Array, units: Array | None) -> tuple[Array, Array]:
    """Columns less their means in units, and how precise these are relative to their length.

    They are 0 where nothing but rounding is left: a year or a time stamp, x + 1e12, keeps the
    digits of x that a float has. Columns are first divided by their largest value, so that the
    squares of x * 1e300 are finite.
    """
    largest = np.abs(columns).max(axis=0, initial=0.0)
    scaled = columns / np.where(largest > 0, largest, 1.0)
    if units is None:
        return scaled, np.zeros(columns.shape[1])
    # First less a row of the unit, which is exact where values are close.
    if units.any():
        first = np.unique(units, return_index=True)[1]
        rest = scaled - scaled[first][units]
        count = np.bincount(units).astype(float)
        means = [np.bincount(units, column) / count for column in rest.T]
        rest = rest - np.stack(means, axis=1)[units] if means else rest
    else:
        rest = scaled - scaled[:1]
        rest -= rest.mean(axis=0)
    lengths = np.linalg.norm(rest, axis=0)
    noise = _ROUNDING * np.sqrt(len(columns)) * (largest > 0)
    rest[:, lengths <= noise] = 0.0
    return rest, noise / np.where(lengths > noise, lengths, np.inf)


def check_weight_variables(part: MemberPart, group: Array, inputs: Mapping[str, Array]) -> None:
    """Under constraint 1 a weight variable must vary within groups, or `b_w` is not identified.

    Parameters
    ----------
    part : MemberPart
    group : (M,) int array
        Group of each membership of the block; sorted.
    inputs : mapping
        Weight variables, each (M,).

    Raises
    ------
    DataError
        If none does.
    """
    weight = part.weight
    if weight.constraint != "group":
        return
    varies = {k: first_varying(v, group) is not None for k, v in inputs.items()}
    if group[-1] + 1 >= len(group) and len(np.unique(group)) == len(group):
        raise DataError(
            f"Every group (column `{part.block.group}`) has only one member (column "
            f"`{part.block.member}`). Every weight is therefore 1, and {part.b_w} cannot be "
            "estimated. If your groups have more members, add the missing rows: the table needs "
            "one row per membership, not one row per group. rmm.to_long() converts a wide table to "
            "this form. If the groups really have only one member each, use fn(w ~ 1/n)."
        )
    if not any(varies.values()):
        named = ", ".join(f"`{c}`" for c in weight.variables)
        found = (
            f"No variable of the weight function `{weight.text}` varies within groups (variables: "
            f"{named})."
            if named
            else f"The weight function `{weight.text}` has no variable of the members."
        )
        raise DataError(
            f"{found} Under constraint 1 all weights are then 1/n for every value of {part.b_w}. "
            "Use a variable that differs between the members of a group, or constraint 2."
        )
