"""Member effects in JAGS programs: intercepts, random walks, AR(1) processes, slopes.

Walks have steps with standard deviation 1, and are multiplied by their standard deviation in the
linear predictor. All elements of a walk have flat priors; an observed 0 for each step makes
neighbours differ by a standard normal. In this form the glm module samples all walks and
coefficients in one block with a sparse precision matrix. Other forms are slow. Effects whose
mean is the effect before get single-site samplers. Sums of independent steps make the precision
matrix dense (300 groups did not end within minutes). AR(1) processes are written in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmm.backends.jags.priors import tau
from rmm.backends.program_header import plain_text
from rmm.design.members.memberships import Membership
from rmm.model.correlated_effects import CorrelationNames, Roles
from rmm.model.spec import MemberPart
from rmm.tables.read import Array


def effect_lines(part: MemberPart, *, standard: bool) -> list[str]:
    """Section with the effects of a block's members; empty for those of roles, see `role_lines`.

    Parameters
    ----------
    part : MemberPart
    standard : bool
        Whether effects are their standard deviation times standard normals.
    """
    if part.in_role:
        return []
    if part.walk:
        return _walk_lines(part)
    if part.series:
        return _series_lines(part)
    if part.correlated:
        return _correlated_lines(part)
    if part.related:
        return _related_lines(part, standard)
    s, lines = part.suffix, [""]
    if part.random:
        lines += [
            f"  # ---- {_whose(part)} {part.u}, with sd {part.sigma}",
            f"  for (i in 1:N_l1{s}) {{ {normal(part.u, 'i', part.sigma, standard=standard)} }}",
        ]
    return lines + (_slope_lines(part, standard) if part.slopes else [])


def _whose(part: MemberPart) -> str:
    if part.smooth is None:
        return "member effects"
    return f"coefficients of the functions of {plain_text(part.smooth.label)}:"


def normal(effect: str, index: str, sd: str, *, standard: bool) -> str:
    """An effect ~ N(0, sd^2), directly or as sd times a standard normal."""
    if not standard:
        return f"{effect}[{index}] ~ dnorm(0, {tau(sd)})"
    z = standard_node(effect)
    return f"{z}[{index}] ~ dnorm(0, 1); {effect}[{index}] <- {sd} * {z}[{index}]"


def standard_node(effect: str) -> str:
    """Name of the standard normals of an effect: ``u_l1`` or ``e_l1`` -> ``z_l1``."""
    return "z" + effect.removeprefix("u").removeprefix("e")


def _related_lines(part: MemberPart, standard: bool) -> list[str]:
    """Effects with a known covariance as sums of independent ones, which a glm block samples."""
    s, own = part.suffix, normal(part.independent, "i", part.sigma, standard=standard)
    product = f"inprod(root_l1{s}[i, 1:i], {part.independent}[1:i])"
    return [
        "",
        f"  # ---- member effects {part.u}, with covariance {part.sigma}^2 * "
        f"{part.block.covariance}",
        f"  # {part.independent}: independent, with sd {part.sigma}",
        f"  for (i in 1:N_l1{s}) {{ {own} }}",
        f"  for (i in 1:N_l1{s}) {{ {part.u}[i] <- {product} }}",
    ]


def _slope_lines(part: MemberPart, standard: bool) -> list[str]:
    s, columns, sd = part.suffix, f"1:K_slope_l1{part.suffix}", part.sigma_slope
    own = normal(part.u_slope, "i, k", f"{sd}[k]", standard=standard)
    meaning, *products = _products(part)
    return [
        f"  # ---- random slopes {part.u_slope} of members, with sds {sd}",
        meaning,
        f"  for (i in 1:N_l1{s}) {{ for (k in {columns}) {{ {own} }} }}",
        *products,
    ]


def _products(part: MemberPart) -> list[str]:
    """Lines that multiply slopes by covariates."""
    s, columns = part.suffix, f"1:K_slope_l1{part.suffix}"
    last = f"(M{s} + 1)" if part.partial else f"M{s}"
    slopes = f"{part.u_slope}[member{s}[r], {columns}]"
    return [
        f"  # {slope_node(part)}: covariates Z_l1{s} times slopes, by membership",
        f"  for (r in 1:{last}) {{",
        f"    {slope_node(part)}[r] <- inprod(Z_l1{s}[r, {columns}], {slopes})",
        "  }",
    ]


def _correlated_lines(part: MemberPart) -> list[str]:
    """Effects as sd * L z, L the Cholesky factor of their correlations, z standard normals."""
    s, z, shift = part.suffix, part.standard, int(part.random)
    count = f"K_slope_l1{s}" if not shift else f"(K_slope_l1{s} + 1)"
    k, until = ("k + 1", "1:(k + 1)") if shift else ("k", "1:k")
    intercept = [f"  for (i in 1:N_l1{s}) {{ {part.u}[i] <- {part.sigma} * {z}[i, 1] }}"] * shift
    sds = f"{part.sigma}, {part.sigma_slope}" if shift else part.sigma_slope
    what = f"{part.u}, {part.u_slope}" if shift else part.u_slope
    slope = f"inprod(chol_l1{s}[{k}, {until}], {z}[i, {until}])"
    return [
        "",
        f"  # ---- correlated effects {what} of members, with sds {sds}",
        *_factor_words(part),
        f"  for (i in 1:N_l1{s}) {{ for (k in 1:{count}) {{ {z}[i, k] ~ dnorm(0, 1) }} }}",
        *intercept,
        f"  for (i in 1:N_l1{s}) {{ for (k in 1:K_slope_l1{s}) {{ {part.u_slope}[i, k] <- "
        f"{part.sigma_slope}[k] * {slope} }} }}",
        *_factor_lines(part, count),
        *_products(part),
    ]


def role_lines(roles: Roles, members: Sequence[MemberPart]) -> list[str]:
    """Section with the correlated effects of members in their roles: all blocks have the same."""
    s, z, count = roles.suffix, roles.standard, len(roles.blocks)
    rows = [f"1:N_l1{members[i].suffix}" for i in roles.blocks]
    each = zip(roles.effects, roles.sds, rows, strict=True)
    return [
        "",
        f"  # ---- correlated effects {', '.join(roles.effects)} of members in their roles, with "
        f"sds {', '.join(roles.sds)}",
        *_factor_words(roles),
        f"  for (i in {rows[0]}) {{ for (k in 1:{count}) {{ {z}[i, k] ~ dnorm(0, 1) }} }}",
        *(
            f"  for (i in {own}) {{ {effect}[i] <- {sd} * "
            + (f"{z}[i, 1] }}" if k == 1 else f"inprod(chol_l1{s}[{k}, 1:{k}], {z}[i, 1:{k}]) }}")
            for k, (effect, sd, own) in enumerate(each, start=1)
        ),
        *_factor_lines(roles, str(count)),
    ]


def _factor_words(found: CorrelationNames) -> list[str]:
    """Comments on what makes correlated effects."""
    s = found.suffix
    return [
        f"  # {found.standard}: standard normals. chol_l1{s}: Cholesky factor of the correlation "
        "matrix of the",
        f"  # effects, of partial correlations {found.pcor}. pair_l1{s}: the number of each pair "
        "of",
        f"  # effects; effect_l1{s}: the effects of each pair.",
    ]


def _factor_lines(found: CorrelationNames, count: str) -> list[str]:
    """Lines that compute the Cholesky factor of `count` effects, and the correlations."""
    s, partial = found.suffix, f"{found.pcor}[pair_l1{found.suffix}[a, b]]"
    first = f"effect_l1{s}[k, 1]"
    return [
        f"  chol_l1{s}[1, 1] <- 1",
        f"  for (b in 2:{count}) {{",
        f"    rest_l1{s}[b, 1] <- 1",
        "    for (a in 1:(b - 1)) {",
        f"      chol_l1{s}[b, a] <- {partial} * rest_l1{s}[b, a]",
        f"      rest_l1{s}[b, a + 1] <- rest_l1{s}[b, a] * sqrt(1 - pow({partial}, 2))",
        "    }",
        f"    chol_l1{s}[b, b] <- rest_l1{s}[b, b]",
        "  }",
        f"  for (k in 1:K_pair_l1{s}) {{ {found.cor}[k] <- inprod(chol_l1{s}[{first}, 1:{first}], "
        f"chol_l1{s}[effect_l1{s}[k, 2], 1:{first}]) }}",
    ]


def slope_node(part: MemberPart) -> str:
    """Name of the effect of a membership that is due to random slopes."""
    return f"slope_l1{part.suffix}"


def _walk_lines(part: MemberPart) -> list[str]:
    s, sd = part.suffix, part.sigma
    path, later = part.path, f"later_l1{s}[k]"
    return [
        "",
        f"  # ---- member effects {part.u}: random walks with steps of sd {sd}",
        f"  # {path}: walks with steps of sd 1, by member, then time. Its elements are flat;",
        f"  # the data zero_l1{s}, all 0, make each step (element minus the one before) N(0, 1).",
        f"  for (i in 1:N_l1{s}) {{ {path}[earliest_l1{s}[i]] ~ dnorm(0, 1) }}",
        f"  for (k in 1:L_l1{s}) {{",
        f"    {path}[{later}] ~ dnorm(0, 1.0E-8)  # flat",
        f"    zero_l1{s}[k] ~ dnorm({path}[{later}] - {path}[{later} - 1], 1)",
        "  }",
        f"  for (r in 1:M{s}) {{ {part.u}[r] <- {sd} * {path}[place_l1{s}[r]] }}",
    ]


def _series_lines(part: MemberPart) -> list[str]:
    s, sd = part.suffix, part.sigma
    path, later, log = part.path, f"later_l1{s}[k]", f"log_r_l1{s}[k]"
    return [
        "",
        f"  # ---- member effects {part.u}: AR(1) processes with sd {sd} and correlations",
        f"  # {part.rho}^time, by occasion (a member at a time)",
        f"  # {path}: processes with sd 1, by member, then time. Its elements are flat; the data",
        f"  # zero_l1{s}, all 0, make each element minus r times the one before N(0, 1 - r^2).",
        f"  # r is {part.rho}^gap_l1{s}, gap_l1{s} the time between both, {log[:-3]} is log(r).",
        f"  for (i in 1:P_l1{s}) {{ {path}[earliest_l1{s}[i]] ~ dnorm(0, 1) }}",
        f"  for (k in 1:L_l1{s}) {{",
        f"    {log} <- gap_l1{s}[{later}] * log({part.rho})",
        f"    {path}[{later}] ~ dnorm(0, 1.0E-8)  # flat",
        f"    zero_l1{s}[k] ~ dnorm({path}[{later}] - exp({log}) * {path}[{later} - 1],",
        f"      1 / (1 - exp(2 * {log})))",
        "  }",
        f"  for (i in 1:N_l1{s}) {{ {part.u}[i] <- {sd} * {path}[i] }}",
    ]


def effect_node(part: MemberPart) -> str:
    """The effects' node that the glm module must sample in a block."""
    return part.path if part.in_time else part.u


def weighted_effects(part: MemberPart, weights: str, rows: str) -> str:
    """The weighted sum of the member effects of a group's memberships."""
    s = part.suffix
    if part.walk:
        return f"{part.sigma} * inprod({weights}, {part.path}[place_l1{s}[{rows}]])"
    if part.series:
        return f"{part.sigma} * inprod({weights}, {part.path}[{part.effect_index}[{rows}]])"
    return f"inprod({weights}, {part.u}[member{s}[{rows}]])"


def effect_values(part: MemberPart, m: Membership) -> dict[str, Any]:
    """Data of the effects that Stan programs lack, by names without suffix."""
    if m.slopes is not None:
        own = {"Z_l1": padded(part, m.slopes.values, 0)}
        count = len(m.slopes.labels) + part.random
        return own | (pair_values(count) if part.correlated else {})
    if m.series is not None:
        later = np.flatnonzero(~m.series.first)
        return {
            "P_l1": int(m.series.first.sum()),
            "L_l1": len(later),
            "earliest_l1": np.flatnonzero(m.series.first) + 1,
            "later_l1": later + 1,
            "zero_l1": np.zeros(len(later)),
        }
    if m.walk is None:
        return {}
    earliest = np.unique(m.walk.begin)
    later = np.setdiff1d(m.walk.place, earliest)
    return {
        "N_l1": m.n_members,
        "L_l1": len(later),
        "earliest_l1": earliest + 1,
        "later_l1": later + 1,
        "zero_l1": np.zeros(len(later)),
    }


def pair_values(count: int) -> dict[str, Array]:
    """(K, K) numbers of the pairs of `count` effects above the diagonal, by row, 0 elsewhere; and
    the (pairs, 2) effects of each pair. All are counted from 1.
    """
    above = np.triu_indices(count, 1)
    number = np.zeros((count, count), dtype=int)
    number[above] = np.arange(1, len(above[0]) + 1)
    return {"pair_l1": number, "effect_l1": np.column_stack(above) + 1}


def padded(part: MemberPart, values: Array | None, idle: float) -> Array:
    """Values by membership and, in a partial block, one for groups without such a member."""
    assert values is not None
    if not part.partial:
        return values
    more = np.full((1, *values.shape[1:]), idle, dtype=values.dtype)
    return np.concatenate([values, more])
