"""Covariates with missing values in JAGS programs: their model, and what they add to `eta`."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.design.design import Design
from rmm.model.imputation import ImputedColumn
from rmm.model.spec import MemberPart, ModelSpec


def section(one: ImputedColumn) -> list[str]:
    """Section with the model of a column."""
    s, sd = one.suffix, f"pow({one.sigma}, -2)"
    known = f"inprod(X_known{s}[i, 1:K{s}], {one.b}[1:K{s}])"
    missing = f"inprod(X{s}[i, 1:K{s}], {one.b}[1:K{s}])"
    return [
        "",
        f"  # ---- a covariate with missing values {one.x}: see above",
        f"  # gap{s}: missing values less fill{s}, which stands for them in X_*; its last element,",
        "  # 0, is that of known values",
        f"  for (i in 1:N_known{s}) {{ known{s}[i] ~ dnorm({known}, {sd}) }}",
        f"  for (i in 1:N{s}) {{ {one.x}[i] ~ dnorm({missing}, {sd}) }}",
        f"  for (i in 1:N{s}) {{ gap{s}[i] <- {one.x}[i] - fill{s} }}",
        f"  gap{s}[N{s} + 1] <- 0",
    ]


def of_groups(spec: ModelSpec) -> list[tuple[str, str]]:
    """Terms of eta[j] of covariates of groups, each with its meaning."""
    return [
        (
            f"beta_l2[column{one.suffix}] * gap{one.suffix}[place{one.suffix}[j]]",
            f"missing values {one.x}",
        )
        for one in spec.imputed
        if one.block is None
    ]


def of_members(spec: ModelSpec, part: MemberPart, weights: str, rows: str) -> list[tuple[str, str]]:
    """The same of covariates of the members of a block."""
    return [
        (
            f"{part.b}[column{one.suffix}] * "
            f"inprod({weights}, gap{one.suffix}[place{one.suffix}[{rows}]])",
            f"missing values {one.x}",
        )
        for one in in_block(spec, part)
    ]


def in_block(spec: ModelSpec, part: MemberPart) -> list[ImputedColumn]:
    """The columns of a block that have missing values."""
    return [
        one
        for one in spec.imputed
        if one.block is not None and spec.members[one.block].suffix == part.suffix
    ]


def values(spec: ModelSpec, design: Design) -> dict[str, Any]:
    """Values of those of these data that Stan programs lack."""
    out: dict[str, Any] = {}
    for one, found in zip(spec.imputed, design.imputed, strict=True):
        rows = design.J
        if one.block is not None:  # and one for groups without a member of this kind
            part, member = spec.members[one.block], design.members[one.block]
            rows = len(member.member) + int(part.partial)
        place = np.full(rows, len(found.X) + 1)
        place[found.row] = found.value + 1
        out[f"place{one.suffix}"] = place
    return out
