"""Warnings of weights: coefficients that the data cannot tell, or not one by one.

They look at a complete design and evaluate weight functions at several places, which takes longer
than laying out a small table. So they are apart from it: a simulation study does without.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping

import numpy as np

from rmm.design.design import Design
from rmm.design.members.memberships import weight_columns
from rmm.design.priors.group_sizes import warn_of_equal_sizes
from rmm.design.rows.group_rows import Grouped
from rmm.design.weights.location import warn_of_location
from rmm.design.weights.scales import LEAST_WITHIN, multiplier_values, total_sd, within_sd
from rmm.errors import SpecificationWarning
from rmm.formula.weights.render import input_key
from rmm.formula.weights.weight_function import Aggregate, Column, TableCall, describe, walk
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array, first_varying

_ORDERED = ("first", "last")
_STEP = 1e-4  # of a weight coefficient, per scale of its variable, for central differences
_SCALES = 1e-6  # weights this close to the span of their derivatives, relative, are in it
_TOGETHER, _SHARE = 1e-7, 1e-4  # singular value of no direction; part of one that counts


def warn_of_weights(spec: ModelSpec, grouped: Grouped, design: Design) -> None:
    """Warn of what the weights can and cannot tell.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
    design : Design

    Warns
    -----
    SpecificationWarning
        One per finding.
    """
    own = design.members[: len(spec.blocks)]
    for part, units, member in zip(spec.blocks, grouped.blocks, own, strict=True):
        warn_of_order(part)
        warn_of_means(part)
        if part.estimated:
            start, scales = units.segments, member.multiplier_scale
            columns = weight_columns(part, grouped, units)
            warn_of_constant_variables(part, units.group, member.inputs)
            warn_of_total_scales(part, columns, start)
            idle = warn_of_idle_coefficients(part, columns, start, scales)
            idle += warn_of_joint_coefficients(part, columns, start, scales, idle)
            warn_of_free_scale(part, columns, start, scales)
            warn_of_location(part, columns, start, scales, idle)
            warn_of_weights_of_constants(part, member.X + member.center, units.group)
        warn_of_equal_sizes(part, member)


def warn_of_constant_variables(part: MemberPart, group: Array, inputs: Mapping[str, Array]) -> None:
    """Warn of a data column that does not vary within groups, under constraint 1."""
    if part.weight.constraint != "group":
        return
    for identifier, node in part.weight.inputs:
        constant = first_varying(inputs[identifier], group) is None
        if isinstance(node, Column | TableCall) and constant:
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
