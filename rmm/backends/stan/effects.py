"""Member effects in Stan programs: intercepts, random walks, AR(1) processes, slopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rmm.backends.program_data import raw_name
from rmm.design.members.memberships import Membership
from rmm.families import Parameter
from rmm.model.correlated_effects import Roles
from rmm.model.spec import MemberPart

Lines = list[str]


def effect_data(part: MemberPart) -> Lines:
    """Declarations of the data that link memberships and member effects."""
    s = part.suffix
    if part.walk:
        return [
            "// places in the order of all memberships by member, then time:",
            f"array[M{s}] int<lower=1, upper=M{s}> place_l1{s};  // place of each membership",
            f"array[M{s}] int<lower=1, upper=M{s}> begin_l1{s};  // place of the member's first",
        ]
    if part.series:
        return [
            f"int<lower=1> N_l1{s};  // number of occasions (a member at a time)",
            f"array[M{s}] int<lower=1, upper=N_l1{s}> occasion{s};  // occasion of each membership",
            f"vector<lower=0>[N_l1{s}] gap_l1{s};  // time since the one before; 0 for a first one",
        ]
    lines = []
    if part.effects:
        lines += [
            f"int<lower=1> N_l1{s};  // number of members",
            f"array[M{s}] int<lower=1, upper=N_l1{s}> member{s};  // member of each membership",
        ]
    if part.related:
        lines.append(
            f"matrix[N_l1{s}, N_l1{s}] root_l1{s};  // Cholesky factor of {part.block.covariance}"
        )
    if part.correlated:
        lines.append(f"int<lower=1> K_pair_l1{s};  // number of correlations between effects")
    if part.slopes:
        what = "these covariates" + ("" if part.estimated else " times the known weights")
        lines += [
            f"int<lower=1> K_slope_l1{s};  // number of covariates with random slopes",
            f"array[K_slope_l1{s}] vector[M{s}] Z_l1{s};  // {what}",
        ]
    return lines


def effect_values(part: MemberPart, m: Membership) -> Mapping[str, Any]:
    """Values of those of these data that JAGS programs lack, by names without suffix."""
    if m.walk is not None:
        return {"begin_l1": m.walk.begin + 1}
    if m.slopes is None:
        return {}
    Z = m.slopes.values.T
    return {"Z_l1": Z if m.weight is None else Z * m.weight}


def walk_lines(part: MemberPart) -> Lines:
    """Lines that compute random walks from independent steps (non-centred).

    They take one cumulative sum over all members, and subtract the sum before each member's first
    step.
    """
    if not part.walk:
        return []
    s = part.suffix
    return [
        f"vector[M{s}] {part.u};  // by membership: sum of the member's steps up to it",
        "{",
        f"  vector[M{s}] path = cumulative_sum({part.step});",
        f"  {part.u} = path[place_l1{s}] - path[begin_l1{s}] + {part.step}[begin_l1{s}];",
        "}",
    ]


def series_lines(part: MemberPart) -> Lines:
    """Lines that compute AR(1) processes from independent innovations (non-centred)."""
    if not part.series:
        return []
    s, u, e = part.suffix, part.u, part.independent
    return [
        f"vector[N_l1{s}] {u} = {e};  // by occasion",
        f"for (i in 1:N_l1{s}) {{",
        f"  if (gap_l1{s}[i] > 0) {{",
        f"    real log_r = gap_l1{s}[i] * log({part.rho});  // r: correlation with the one before",
        f"    {u}[i] = exp(log_r) * {u}[i - 1] + sqrt(-expm1(2 * log_r)) * {e}[i];",
        "  }",
        "}",
    ]


def related_lines(part: MemberPart) -> Lines:
    """Lines that compute effects with a known covariance from independent ones."""
    if not part.related:
        return []
    size = f"N_l1{part.suffix}"
    return [f"vector[{size}] {part.u} = root_l1{part.suffix} * {part.independent};"]


def by_membership(part: MemberPart) -> str:
    """The member effect of each membership, as a vector expression."""
    return part.u if part.walk else f"{part.u}[{part.effect_index}]"


def weighted_effects(part: MemberPart) -> str:
    """The sums of member effects with known weights, a sparse product."""
    s = part.suffix
    columns = f"N_l1{s}, weight{s}, {part.effect_index}"
    if part.walk:
        columns = f"M{s}, weight{s}, membership{s}"
    return f"csr_matrix_times_vector(J, {columns}, start{s}, {part.u})"


def sd_name(effect: str) -> str:
    """Name of an effect's standard deviation: that of ``u_l1``, ``step_l1``, ``e_l1``."""
    return "sigma" + effect.removeprefix("u").removeprefix("step").removeprefix("e")


def slope_declaration(parameter: Parameter, *, correlated: bool) -> str:
    """Declaration of the members' slopes divided by their sds: (members, covariates)."""
    rows, columns = _sizes(parameter)
    what = "standard normals: see u_slope" if correlated else "u_slope divided by its sds"
    return f"matrix[{rows}, {columns}] {raw_name(parameter.name)};  // {what}"


def slope_lines(part: MemberPart) -> Lines:
    """Lines that compute the members' slopes from standardised ones (non-centred).

    `multiplier` would do this for one sd only: with a matrix of sds the program does not compile
    under Stan's optimisations (2.39).
    """
    if not part.slopes:
        return []
    if part.correlated:
        return _correlated_lines(part)
    s, sd = part.suffix, part.sigma_slope
    scaled = f"diag_post_multiply({raw_name(part.u_slope)}, {sd})"
    return [f"matrix[N_l1{s}, K_slope_l1{s}] {part.u_slope} = {scaled};"]


def factor_name(correlations: str) -> str:
    """Name of the Cholesky factor of correlations: ``pcor_l1`` -> ``chol_l1``."""
    return "chol" + correlations.removeprefix("pcor")


def _correlated_lines(part: MemberPart) -> Lines:
    """Lines that compute correlated effects of members from standard normals."""
    k, count = f"K_slope_l1{part.suffix}", f"N_l1{part.suffix}"
    raw, factor = raw_name(part.u_slope), factor_name(part.pcor)
    if not part.random:
        scaled = f"diag_post_multiply({raw} * {factor}', {part.sigma_slope})"
        return [f"matrix[{count}, {k}] {part.u_slope} = {scaled};"]
    own = raw_name(part.u)
    return [
        f"vector[{count}] {part.u} = {part.sigma} * {own};",
        f"matrix[{count}, {k}] {part.u_slope};",
        "{",
        f"  matrix[{count}, {k} + 1] effects = append_col({own}, {raw}) * {factor}';",
        f"  {part.u_slope} = diag_post_multiply(effects[, 2:({k} + 1)], {part.sigma_slope});",
        "}",
    ]


def role_lines(roles: Roles, members: Sequence[MemberPart]) -> Lines:
    """Lines that compute the correlated effects of members in their roles."""
    factor, lines = factor_name(roles.pcor), []
    for k, i in enumerate(roles.blocks):
        part, raw = members[i], [raw_name(effect) for effect in roles.effects]
        if k == 0:
            lines.append(f"vector[N_l1{part.suffix}] {part.u} = {part.sigma} * {raw[0]};")
            continue
        parts = [f"{factor}[{k + 1}, {m + 1}] * {raw[m]}" for m in range(k + 1)]
        lines.append(f"vector[N_l1{part.suffix}] {part.u} = {part.sigma} * (")
        lines += [f"    {'+ ' * (m > 0)}{text}" for m, text in enumerate(parts)]
        lines[-1] += ");"
    return lines


def correlation_lines(part: MemberPart | Roles) -> Lines:
    """Lines that compute the reported correlations, those above the diagonal, by row."""
    factor, k = factor_name(part.pcor), effect_count(part)
    last = f"({k} - 1)"
    if isinstance(part, Roles):
        last = str(len(part.blocks) - 1)
    elif part.random:
        last = f"K_slope_l1{part.suffix}"
    return [
        f"vector[K_pair_l1{part.suffix}] {part.cor};  // correlations above the diagonal, by row",
        "{",
        f"  matrix[{k}, {k}] cor = multiply_lower_tri_self_transpose({factor});",
        "  int pair = 0;",
        f"  for (a in 1:{last}) {{",
        f"    for (b in (a + 1):({k})) {{",
        "      pair += 1;",
        f"      {part.cor}[pair] = cor[a, b];",
        "    }",
        "  }",
        "}",
    ]


def effect_count(part: MemberPart | Roles) -> str:
    """The number of correlated effects of a member, as an expression."""
    if isinstance(part, Roles):
        return str(len(part.blocks))
    return f"K_slope_l1{part.suffix}" + " + 1" * part.random


def factor_declaration(part: MemberPart | Roles) -> str:
    """Declaration of the Cholesky factor of the correlation matrix."""
    name = factor_name(part.pcor)
    what = "of the correlation matrix of a member's effects"
    return f"cholesky_factor_corr[{effect_count(part)}] {name};  // {what}"


def factor_density(part: MemberPart | Roles) -> str:
    """LKJ prior: eta is the last number of the priors of partial correlations."""
    eta = f"prior_{part.pcor}_eta[K_pair_l1{part.suffix}]"
    return f"{factor_name(part.pcor)} ~ lkj_corr_cholesky({eta});"


def slope_density(parameter: Parameter) -> str:
    """Density of the members' slopes divided by their sds; correlated ones are standard normals."""
    return f"to_vector({raw_name(parameter.name)}) ~ std_normal();"


def _sizes(parameter: Parameter) -> tuple[str, str]:
    suffix = parameter.dims[0].removeprefix("member")
    return f"N_l1{suffix}", f"K_slope_l1{suffix}"


def weighted_slopes(part: MemberPart) -> Lines:
    """Lines that add sums of w x u_slope with known weights: a sparse product per covariate."""
    s = part.suffix
    product = f"J, N_l1{s}, Z_l1{s}[k], member{s}, start{s}, {part.u_slope}[, k]"
    return [
        f"for (k in 1:K_slope_l1{s}) {{",
        f"  eta += csr_matrix_times_vector({product});",
        "}",
    ]


def slopes_by_membership(part: MemberPart) -> Lines:
    """Lines that add x u_slope to the effect of each membership."""
    if not part.slopes:
        return []
    s = part.suffix
    return [
        f"  for (k in 1:K_slope_l1{s}) {{",
        f"    effect{s} += Z_l1{s}[k] .* {part.u_slope}[member{s}, k];",
        "  }",
    ]
