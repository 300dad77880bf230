"""Lines of a Stan program that add the members' part to the linear predictor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rmm.backends.program_data import weight_names
from rmm.backends.stan.effects import (
    by_membership,
    slopes_by_membership,
    weighted_effects,
    weighted_slopes,
)
from rmm.backends.stan.program import features as stan_features
from rmm.formula.weights.render import is_vector, to_stan
from rmm.formula.weights.rewrite import log_of_size_power
from rmm.model.spec import MemberPart


def columns(part: MemberPart) -> str:
    """Name of the number of columns of `X_l1`, which come first in `b_l1`."""
    return f"K_x_l1{part.suffix}" if part.features_in_program else f"K_l1{part.suffix}"


def _slopes(part: MemberPart) -> str:
    """Coefficients of the columns."""
    return f"{part.b}[1:{columns(part)}]" if part.features_in_program else part.b


def _sums(part: MemberPart, values: str) -> str:
    """Sums of a vector within groups.

    The matrix of 0 and 1 that sums is data: with raw weights in it instead, the gradient would
    fill a dense J x M matrix (10 times slower at 628 groups).
    """
    s = part.suffix
    return f"csr_matrix_times_vector(J, M{s}, ones{s}, membership{s}, start{s}, {values})"


def known_sum(part: MemberPart, sampled: bool = True) -> list[str]:
    """Lines that add the sums of a block with known weights to `eta`.

    Parameters
    ----------
    part : MemberPart
    sampled : bool
        Whether its effects are sampled; else the lines leave them out.
    """
    s, lines = part.suffix, []
    if part.columns:
        lines.append(f"eta += X_l1{s} * {_slopes(part)};")
    if part.random and sampled:
        lines.append(f"eta += {weighted_effects(part)};")
    if part.slopes:
        lines += weighted_slopes(part)
    if part.features_in_program:
        found = stan_features.statements(part, partial(_sums, part))
        lines += ["{", *(f"  {line}" for line in found), "}"]
    return lines


def estimated_sum(part: MemberPart, sampled: bool = True, imputed: Sequence[str] = ()) -> list[str]:
    """Lines that compute the weights of a block and add its sums to `eta`.

    Parameters
    ----------
    part : MemberPart
    sampled : bool
        Whether its effects are sampled; else the lines leave them out, and define `weight`.
    imputed : sequence of str
        Lines that add missing values of covariates to the effects.
    """
    s = part.suffix
    effect = [f"X_l1{s} * {_slopes(part)}"] if part.columns else []
    effect += [f"offset_l1{s}"] if part.offset else []
    effect += [by_membership(part)] if part.random and sampled else []
    weighted = _sums(part, f"uw{s} .* effect{s}")
    total, groups = _sums(part, f"uw{s}"), "J"
    if part.partial:  # the sum of a group without such a member is 0, not 0/0
        total, groups = f"({total} + absent{s})", f"J_l1{s}"
    share = {
        "group": f"{weighted}\n         ./ {total}",
        "total": f"{weighted} * ({groups} / sum(uw{s}))",
        "none": weighted,
    }[part.weight.constraint]
    comment = {
        "group": f"// for each group: sum of uw{s} * effect{s}, divided by the sum of uw{s}"
        if sampled
        else "// raw weights divided by their sum in the group: the weights of a group sum to 1",
        "total": f"// raw weights times a constant: all weights sum to {groups}",
        "none": "// the weights are not normalised",
    }[part.weight.constraint]
    by_row = {
        "group": f"uw{s} ./ {total}[group{s}]",
        "total": f"uw{s} * ({groups} / sum(uw{s}))",
        "none": f"uw{s}",
    }[part.weight.constraint]
    return [
        *([] if sampled else [f"vector[M{s}] weight{s};"]),
        "{",
        *_raw_weights(part),
        *([] if sampled else [f"  {comment}", f"  weight{s} = {by_row};"]),
        f"  vector[M{s}] effect{s} = {' + '.join(effect) or f'rep_vector(0, M{s})'};",
        *slopes_by_membership(part),
        *imputed,
        *([f"  {comment}"] if sampled else []),
        f"  eta += {share if sampled else _sums(part, f'weight{s} .* effect{s}')};",
        *(f"  {line}" for line in stan_features.statements(part, partial(_sums, part))),
        "}",
    ]


def _raw_weights(part: MemberPart) -> list[str]:
    """Lines that define `uw`, the raw weights."""
    s, expression, names = part.suffix, part.weight.expression, weight_names(part)
    log_raw = log_of_size_power(expression) if part.weight.constraint != "none" else None
    if log_raw is None:
        raw = to_stan(expression, names)
        if not is_vector(expression):
            raw = f"rep_vector({raw}, M{s})"
        return [f"  vector[M{s}] uw{s} = {raw};  // raw weights"]
    # All weights 1/n^X of a group may underflow: they are divided by the largest before exp().
    lines = [f"  vector[M{s}] uw{s} = {to_stan(log_raw, names)};  // log raw weights"]
    if part.weight.constraint == "total":
        return [
            *lines,
            f"  uw{s} = exp(uw{s} - max(uw{s}));  // raw weights divided by the largest",
        ]
    rows = f"uw{s}[first:last]"
    some = f"if (start{s}[j + 1] > start{s}[j]) " if part.partial else ""
    return [
        *lines,
        f"  for (j in 1:J) {some}{{",
        f"    int first = start{s}[j];",
        f"    int last = start{s}[j + 1] - 1;",
        f"    {rows} = exp({rows} - max({rows}));  // divided by the largest",
        "  }",
    ]
