"""What the members add to the linear predictor of a Stan program."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rmm.backends.reserved_names import vector_name
from rmm.backends.stan.effects import (
    by_membership,
    slopes_by_membership,
    weighted_effects,
    weighted_slopes,
)
from rmm.backends.stan.program import features as stan_features
from rmm.formula.weights.render import input_key, is_vector, to_stan
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
    return f"csr_matrix_times_vector(J, M{s}, one{s}, row{s}, start{s}, {values})"


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


def estimated_sum(part: MemberPart, sampled: bool = True) -> list[str]:
    """Lines that compute the weights of a block and add its sums to `eta`.

    Parameters
    ----------
    part : MemberPart
    sampled : bool
        Whether its effects are sampled; else the lines leave them out, and leave the weights.
    """
    s = part.suffix
    names = {f"param:{p}": f"{part.b_w}[{i}]" for i, p in enumerate(part.weight.parameters, 1)}
    for identifier, leaf in part.weight.inputs:
        names[f"input:{input_key(leaf)}"] = vector_name(identifier, s)
    names |= {"n": f"n{s}", "log_n1": f"log_n1{s}"}
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
        "group": "sum to 1 in each group",
        "total": f"sum to {groups} over all memberships",
        "none": "are not normalised",
    }[part.weight.constraint]
    by_row = {
        "group": f"uw{s} ./ {total}[group{s}]",
        "total": f"uw{s} * ({groups} / sum(uw{s}))",
        "none": f"uw{s}",
    }[part.weight.constraint]
    return [
        *([] if sampled else [f"vector[M{s}] weight{s};"]),
        "{",
        *_raw_weights(part, names),
        f"  // the weights {comment}",
        *([] if sampled else [f"  weight{s} = {by_row};"]),
        f"  vector[M{s}] effect{s} = {' + '.join(effect) or f'rep_vector(0, M{s})'};",
        *slopes_by_membership(part),
        f"  eta += {share if sampled else _sums(part, f'weight{s} .* effect{s}')};",
        *(f"  {line}" for line in stan_features.statements(part, partial(_sums, part))),
        "}",
    ]


def _raw_weights(part: MemberPart, names: Mapping[str, str]) -> list[str]:
    """Lines that define `uw`, the raw weights."""
    s, expression = part.suffix, part.weight.expression
    log_raw = log_of_size_power(expression) if part.weight.constraint != "none" else None
    if log_raw is None:
        raw = to_stan(expression, names)
        if not is_vector(expression):
            raw = f"rep_vector({raw}, M{s})"
        return [f"  vector[M{s}] uw{s} = {raw};  // raw weights"]
    # 1/n^X of a whole group may underflow: the largest weight is taken out before exp().
    lines = [f"  vector[M{s}] uw{s} = {to_stan(log_raw, names)};  // log raw weights"]
    if part.weight.constraint == "total":
        return [*lines, f"  uw{s} = exp(uw{s} - max(uw{s}));  // raw weights over the largest"]
    rows = f"uw{s}[first:last]"
    some = f"if (start{s}[j + 1] > start{s}[j]) " if part.partial else ""
    return [
        *lines,
        f"  for (j in 1:J) {some}{{",
        f"    int first = start{s}[j];",
        f"    int last = start{s}[j + 1] - 1;",
        f"    {rows} = exp({rows} - max({rows}));  // raw weights over the largest",
        "  }",
    ]
