"""Covariates with missing values in Stan programs: their model, and what they add to `eta`."""

from __future__ import annotations

from typing import Any

from rmm.backends.program_header import plain_text
from rmm.design.design import Design
from rmm.model.imputation import ImputedColumn
from rmm.model.spec import MemberPart, ModelSpec

Lines = list[str]


def declared(spec: ModelSpec, one: ImputedColumn) -> Lines:
    """Declarations of the data of a column."""
    s, by_membership = one.suffix, _estimated(spec, one)
    what = "memberships" if by_membership or one.block is not None else "groups"
    which = "membership" if by_membership else "group"
    lines = [
        f"// covariate {plain_text(one.column)}, which has missing values",
        f"int<lower=1> K{s};  // number of columns of X{s}",
        f"int<lower=1> N_known{s};  // number of known values",
        f"vector[N_known{s}] known{s};",
        f"matrix[N_known{s}, K{s}] X_known{s};  // 1 and complete covariates, centred",
        f"int<lower=1> N{s};  // number of missing values",
        f"matrix[N{s}, K{s}] X{s};",
        f"real fill{s};  // stands for missing values in X_*: mean of the known ones",
        f"real<lower=0> scale{s};  // standard deviation of the known values",
        f"int<lower=1> column{s};  // place of its coefficient",
        f"int<lower=0> L{s};  // number of {what} with a missing value",
        f"array[L{s}] int<lower=1> row{s};  // {which} of each",
        f"array[L{s}] int<lower=1, upper=N{s}> value{s};  // number of its missing value",
    ]
    if one.block is not None and not by_membership:
        lines.append(f"vector[L{s}] share{s};  // its known weight")
    return lines


def values(spec: ModelSpec, design: Design) -> dict[str, Any]:
    """Values of those of these data that JAGS programs lack."""
    out: dict[str, Any] = {}
    for one, found in zip(spec.imputed, design.imputed, strict=True):
        own = {
            "scale": found.scale,
            "L": len(found.row),
            "row": found.row + 1,
            "value": found.value + 1,
        }
        if one.block is not None and not _estimated(spec, one):
            member = design.members[one.block]
            assert member.weight is not None
            own |= {"row": member.group[found.row] + 1, "share": member.weight[found.row]}
        out |= {f"{name}{one.suffix}": value for name, value in own.items()}
    return out


def declaration(one: ImputedColumn) -> str:
    """Declaration of the missing values, sampled about the mean of the known ones."""
    s = one.suffix
    return f"vector<offset=fill{s}, multiplier=scale{s}>[N{s}] {one.x};  // missing values"


def densities(one: ImputedColumn) -> Lines:
    """The model of known and missing values."""
    s, mean = one.suffix, f"* {one.b}, {one.sigma}"
    return [
        f"known{s} ~ normal(X_known{s} {mean});",
        f"{one.x} ~ normal(X{s} {mean});",
    ]


def in_predictor(spec: ModelSpec, one: ImputedColumn) -> Lines:
    """Lines that add a covariate's missing values to `eta`, but those of estimated weights."""
    s = one.suffix
    if _estimated(spec, one):
        return []
    difference = f"({one.x}[value{s}] - fill{s})"
    if one.block is None:
        return [f"eta[row{s}] += beta_l2[column{s}] * {difference};"]
    b = spec.members[one.block].b
    return [
        f"for (l in 1:L{s}) {{  // a group may have several members with a missing value",
        f"  eta[row{s}[l]] += {b}[column{s}] * share{s}[l] * ({one.x}[value{s}[l]] - fill{s});",
        "}",
    ]


def by_membership(spec: ModelSpec, part: MemberPart) -> Lines:
    """Lines that add missing values to the effect of each membership, where weights are
    estimated.
    """
    lines = []
    for one in spec.imputed:
        if one.block is not None and spec.members[one.block] is part and part.estimated:
            s = one.suffix
            lines.append(
                f"  effect{part.suffix}[row{s}] += {part.b}[column{s}] * "
                f"({one.x}[value{s}] - fill{s});"
            )
    return lines


def _estimated(spec: ModelSpec, one: ImputedColumn) -> bool:
    """Whether the weights of its block are estimated."""
    return one.block is not None and spec.members[one.block].estimated
