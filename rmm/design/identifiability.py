"""What the data cannot tell: collinear predictors, weight coefficients that do nothing."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping

import numpy as np

from rmm.design.weights.scales import LEAST_WITHIN, multiplier_values, total_sd, within_sd
from rmm.errors import DataError, SpecificationWarning
from rmm.formula.weights.render import input_key
from rmm.formula.weights.weight_function import Aggregate, Column, TableCall, describe, walk
from rmm.model.spec import MemberPart
from rmm.tables.read import Array, first_varying

_ORDERED = ("first", "last")
_STEP = 1e-4  # of a weight coefficient, per scale of its variable, for central differences
_SCALES = 1e-6  # weights this close to the span of their derivatives, relative, are in it
_TOGETHER, _SHARE = 1e-7, 1e-4  # singular value of no direction; part of one that counts
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
            f"The model has {len(labels)} coefficients, but only {len(columns)} groups. Drop "
            f"predictors. The coefficients are: {', '.join(labels[:8])} ..."
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
            "explain which group is chosen. Drop it."
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
    first = np.unique(units, return_index=True)[1]
    rest = scaled - scaled[first][units]  # exact where values are close
    count = np.bincount(units).astype(float)
    means = [np.bincount(units, column) / count for column in rest.T]
    rest = rest - np.stack(means, axis=1)[units] if means else rest
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
        Group of each membership of the block.
    inputs : mapping
        Weight variables, each (M,).

    Raises
    ------
    DataError
        If none does.

    Warns
    -----
    SpecificationWarning
        For a data column that does not.
    """
    weight = part.weight
    if weight.constraint != "group":
        return
    varies = {k: first_varying(v, group) is not None for k, v in inputs.items()}
    if len(np.unique(group)) == len(group):
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
    for identifier, node in weight.inputs:
        if isinstance(node, Column | TableCall) and not varies[identifier]:
            warnings.warn(
                f"The weight variable `{input_key(node)}` is constant within every group. Under "
                "constraint 1 its coefficient then changes the weights only through the curvature "
                "of the function, or not at all, so it may be weakly identified. The default prior "
                "of the coefficient uses the total standard deviation of the variable.",
                SpecificationWarning,
                stacklevel=2,
            )


def warn_of_total_scales(part: MemberPart, columns: Mapping[str, Array], start: Array) -> None:
    """Warn of default priors that are scaled by all differences, for there are none within groups.

    Columns of the data that are constant within groups have the warning of
    `check_weight_variables`.
    """
    if part.weight.constraint != "group":
        return
    for name in part.weight.parameters:
        node = part.weight.multiplier(name)
        values = multiplier_values(part.weight, name, columns, start)
        if values is None or node is None or isinstance(node, Column | TableCall):
            continue
        within, total = within_sd(values, start), total_sd(values)
        if within <= LEAST_WITHIN * total and total > 0:
            warnings.warn(
                f"{part.b_w}[{name}] multiplies `{describe(node)}`, which does not vary within "
                f"groups (sd {within:.3g} within groups, {total:.3g} in total). Under constraint 1 "
                "the coefficient then changes the weights only through the curvature of the "
                "function, or not at all, so it may be weakly identified. Its default prior is "
                f"normal(0, {1 / total:.3g}), from the total sd.",
                SpecificationWarning,
                stacklevel=2,
            )


def warn_of_order(part: MemberPart) -> None:
    """Warn of `first()` and `last()`: rows have no order here, members are sorted by id."""
    nodes = walk(part.weight.expression)
    named = [n.function for n in nodes if isinstance(n, Aggregate) and n.function in _ORDERED]
    if named:
        warnings.warn(
            f"`{named[0]}()` in `{part.weight.text}` means the member with the "
            f"{'lowest' if named[0] == 'first' else 'highest'} id, because the order of rows has "
            "no meaning. For another order use a column, such as x == max(x).",
            SpecificationWarning,
            stacklevel=2,
        )


def warn_of_means(part: MemberPart) -> None:
    """Warn of `vars(x, softmax(x))`: at one value of its number the feature is the mean of x."""
    means = {"softmax": "0", "genmean": "1"}
    present = {t.label for t in part.block.terms}
    for feature in part.parametric_features:
        if feature.function in means and feature.atom and feature.atom.label in present:
            warnings.warn(
                f"The model contains both `{feature.label}` and `{feature.atom.label}`, which are "
                f"the same if {part.b_f}[{feature.label}] = {means[feature.function]}. At this "
                "value the data cannot separate their coefficients. Keep one of the two, or give "
                "the feature a number.",
                SpecificationWarning,
                stacklevel=2,
            )


def warn_of_idle_coefficients(
    part: MemberPart, columns: Mapping[str, Array], start: Array, scales: Array
) -> list[str]:
    """Warn of weight coefficients that no weight depends on: their posterior is their prior.

    Each coefficient is moved by one unit of its variable's scale from two starting points; it is
    idle if no weight moves at either. Returns the names of those that are.
    """
    names = part.weight.parameters
    rng = np.random.default_rng(0)
    moved = dict.fromkeys(names, False)
    for _ in range(2):
        at = dict(zip(names, rng.uniform(-0.5, 0.5, len(names)) / scales, strict=True))
        here = part.weight.weights(columns, start, at)
        for name, scale in zip(names, scales, strict=True):
            there = part.weight.weights(columns, start, {**at, name: at[name] + 1 / scale})
            if not (np.isfinite(here) & np.isfinite(there)).all():
                return []  # outside the function's domain: initial values will say so
            moved[name] |= not np.allclose(here, there, rtol=1e-9, atol=0)
    idle = [name for name in names if not moved[name]]
    for name in idle:
        warnings.warn(
            f"No weight depends on {part.b_w}[{name}], because it cancels in `{part.weight.text}` "
            "under this constraint. Its posterior is its prior.",
            SpecificationWarning,
            stacklevel=2,
        )
    return idle


def warn_of_joint_coefficients(
    part: MemberPart,
    columns: Mapping[str, Array],
    start: Array,
    scales: Array,
    idle: Collection[str],
) -> list[str]:
    """Warn of weight coefficients that move weights together, such as those of x and 2*x.

    At two places the derivatives of all weights by the coefficients are of less than full rank.
    `idle` coefficients, which have a warning already, are left out. Returns the names.
    """
    names = [name for name in part.weight.parameters if name not in idle]
    rng = np.random.default_rng(0)
    joint: set[str] = set()
    for _ in range(2):
        at = dict(
            zip(part.weight.parameters, rng.uniform(0.2, 0.5, len(scales)) / scales, strict=True)
        )
        matrix = _slopes(part, columns, start, at, scales)
        matrix = matrix[:, [name not in idle for name in part.weight.parameters]]
        lengths = np.linalg.norm(matrix, axis=0)
        if len(names) < 2 or not np.isfinite(lengths).all() or not lengths.all():
            return []
        _, sizes, directions = np.linalg.svd(matrix / lengths, full_matrices=False)
        null = directions[sizes < _TOGETHER * sizes[0]]
        if not len(null):
            return []
        shares = np.abs(null).max(axis=0)
        joint |= {n for n, share in zip(names, shares, strict=True) if share > _SHARE}
    found = [name for name in names if name in joint]
    shown = [f"{part.b_w}[{name}]" for name in found]
    warnings.warn(
        f"{' and '.join(shown)} change the weights `{part.weight.text}` in the same way. The data "
        "can estimate only their joint effect; the single coefficients depend on their priors. "
        "Keep one of the variables, or use variables that are not linear combinations of each "
        "other.",
        SpecificationWarning,
        stacklevel=2,
    )
    return found


def _slopes(
    part: MemberPart,
    columns: Mapping[str, Array],
    start: Array,
    at: Mapping[str, float],
    scales: Array,
) -> Array:
    """(M, K) derivatives of weights by the coefficients, each in units of its prior's sd."""
    slopes = []
    for name, scale in zip(part.weight.parameters, scales, strict=True):
        low, high = (
            part.weight.weights(columns, start, {**at, name: at[name] + step / scale})
            for step in (-_STEP, _STEP)
        )
        slopes.append((high - low) / (2 * _STEP))
    return np.stack(slopes, axis=1)


def warn_of_free_scale(
    part: MemberPart, columns: Mapping[str, Array], start: Array, scales: Array
) -> None:
    """Warn of weights that are not normalised and hold a free factor, such as ``exp(b0 + b1*x)``.

    Some change of `b_w` then multiplies all weights by one number: w is in the span of its
    derivatives. Effects that are divided by this number give the same outcome.
    """
    free = part.weight.constraint == "none" and (part.covariates or part.effects)
    if not free or part.offset:  # what is fixed gives the factor a meaning
        return
    names = part.weight.parameters
    rng = np.random.default_rng(0)
    for _ in range(2):
        at = dict(zip(names, rng.uniform(0.2, 0.5, len(names)) / scales, strict=True))
        weights = part.weight.weights(columns, start, at)
        matrix = _slopes(part, columns, start, at, scales)
        if not (np.isfinite(weights).all() and np.isfinite(matrix).all()):
            return  # outside the function's domain: initial values will say so
        left = weights - matrix @ np.linalg.lstsq(matrix, weights, rcond=None)[0]
        few = len(np.unique(weights)) <= len(names)  # so few weights are in any span
        if few or np.linalg.norm(left) > _SCALES * np.linalg.norm(weights):
            return
    effects = [part.b] * part.covariates + [part.sigma] * part.random
    effects += [part.sigma_slope] * part.slopes
    warnings.warn(
        f"The scale of the weights `{part.weight.text}` is not identified: a change of {part.b_w} "
        "can multiply all weights by one number, and the weights are not normalised. The data can "
        f"estimate only the product of this number and {' and '.join(effects)}. Normalise the "
        "weights (c = TRUE), or remove the part that only multiplies all weights: for example b0 "
        "from exp(b0 + b1*x).",
        SpecificationWarning,
        stacklevel=2,
    )


def warn_of_weights_of_constants(part: MemberPart, columns: Array, group: Array) -> None:
    """Warn if weights that sum to 1 weigh nothing that differs within groups."""
    weighed = any(f.weighted for f in part.block.features)
    if part.effects or part.weight.constraint != "group" or part.offset or weighed:
        return
    if all(first_varying(column, group) is None for column in columns.T):
        warnings.warn(
            f"All covariates of the mm() with {part.b_w} are constant within groups, and it has no "
            "member effects. The weights therefore change nothing, and the posterior of "
            f"{part.b_w} is its prior.",
            SpecificationWarning,
            stacklevel=2,
        )
