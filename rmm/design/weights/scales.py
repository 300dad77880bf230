"""Scales of what weight coefficients multiply: units of default priors and of sampled numbers.

Under constraint 1 only differences within groups move weights that are proportional to exp(b*x),
so the scale is the pooled standard deviation within groups; otherwise it is the total one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmm.formula.weights.weight_function import WeightFunction, evaluate
from rmm.tables.read import Array

#: Relative to the total sd: a smaller sd within groups is rounding, and the total sd is used.
LEAST_WITHIN = 1e-6
#: Relative to the largest value: a smaller sd is rounding of a constant.
_ROUNDING = 8 * np.finfo(float).eps


def multiplier_values(
    weight: WeightFunction, parameter: str, columns: Mapping[str, Array], start: Array
) -> Array | None:
    """(M,) values of what a weight coefficient multiplies; None for an intercept.

    Parameters
    ----------
    weight : WeightFunction
    parameter : str
        Such as ``"b1"``.
    columns : mapping
        Weight variables, (M,) each, rows sorted by group.
    start : (J+1,) int array
        Row pointer of the groups that have members.
    """
    node = weight.multiplier(parameter)
    if node is None:
        return None
    return evaluate(node, columns, start)


def multiplier_scales(weight: WeightFunction, columns: Mapping[str, Array], start: Array) -> Array:
    """(K,) standard deviation of what each weight coefficient multiplies; 1 for intercepts.

    Under constraint 1 it is `within_sd`, or `total_sd` where that one is below `LEAST_WITHIN` of
    the total; under 2 and FALSE it is `total_sd`. Parameters are those of `multiplier_values`.
    """
    scales = []
    for name in weight.parameters:
        values = multiplier_values(weight, name, columns, start)
        total = 0.0 if values is None else total_sd(values)
        scale = total
        if values is not None and weight.constraint == "group":
            within = within_sd(values, start)
            scale = within if within > LEAST_WITHIN * total else total
        scales.append(scale if np.isfinite(scale) and scale > 0 else 1.0)
    return np.array(scales)


def total_sd(values: Array) -> float:
    """Standard deviation over the finite values, with divisor M - 1; 0 where they are constant."""
    kept = values[np.isfinite(values)]
    if len(kept) < 2:
        return 0.0
    return _root_mean_square(kept - kept.mean(), len(kept) - 1, np.abs(kept).max())


def within_sd(values: Array, start: Array) -> float:
    """Pooled standard deviation within groups, sqrt(SS_within / sum(n_j - 1)).

    Over the finite values, in groups with two or more of them; 0 where they are constant within
    every group.
    """
    group = np.repeat(np.arange(len(start) - 1), np.diff(start))
    finite = np.isfinite(values)
    kept, group = values[finite], group[finite]
    count = np.bincount(group, minlength=len(start) - 1)
    freedom = int(np.maximum(count - 1, 0).sum())
    if freedom == 0:
        return 0.0
    moved = kept - kept.mean()  # means of large values would lose digits
    means = np.bincount(group, moved, minlength=len(count)) / np.maximum(count, 1)
    return _root_mean_square(moved - means[group], freedom, np.abs(kept).max())


def _root_mean_square(deviations: Array, freedom: int, largest: float) -> float:
    """sqrt(sum of squares / freedom) that does not overflow; 0 where it is rounding."""
    top = float(np.abs(deviations).max())
    if top <= _ROUNDING * largest:
        return 0.0
    return top * float(np.sqrt(np.sum((deviations / top) ** 2) / freedom))
