"""ModelSpec -> JAGS program: text, data, initial values.

The linear predictor is written so that JAGS's glm module samples all coefficients and effects in
one block. Memberships of a group are slices ``first[j]:last[j]`` with nested indices, the fastest
of five forms that were tried. For Gaussian outcomes, precisions of effects have ``dscaled.gamma``
priors, whose sampler mixes several times better than slice samplers of standard deviations. That
sampler is wrong for counts and logits, and JAGS has none for choices: there, effects are standard
deviations times standard normals (`Family.jags_standard_effects`). All effects are sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.backends.base import Forms
from rmm.backends.jags import features as jags_features
from rmm.backends.jags import imputed_nodes as jags_imputed
from rmm.backends.jags.effects import (
    effect_lines,
    effect_node,
    effect_values,
    normal,
    padded,
    pair_values,
    role_lines,
    slope_node,
    standard_node,
    weighted_effects,
)
from rmm.backends.jags.priors import UNSORTED, on_precision, prior_lines, tau
from rmm.backends.program_data import shared_data, standard_name, weight_names
from rmm.backends.program_header import header
from rmm.design.design import Design
from rmm.design.members.memberships import Membership
from rmm.design.priors.weight_priors import scale_name
from rmm.errors import BackendError, PriorError
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.formula.expression import Node
from rmm.formula.weights.render import to_jags
from rmm.formula.weights.rewrite import log_of_size_power
from rmm.model.spec import CUT, MemberPart, ModelSpec, NestingPart

Array = np.ndarray[Any, Any]

_COMMENT_COLUMN = 76


def write(spec: ModelSpec, forms: Forms) -> str:
    """The JAGS program of a model; it depends on the model and the families of its priors only.

    Parameters
    ----------
    spec : ModelSpec
    forms : mapping
        Sampled parameter -> prior families, one for all elements or one per element.

    Raises
    ------
    BackendError
        For observation weights.
    """
    if spec.family.observation_weights:
        raise BackendError(
            "Backend 'jags' has no observation weights: its language has no power of a density, "
            "and the samplers of its glm module need plain distributions. Use backend='laplace' "
            "or 'stan', or repeat the rows of the table if weights are counts."
        )
    standard = spec.family.jags_standard_effects
    sections = [
        header(spec, "JAGS", "#"),
        ["model {"],
        _outcome(spec),
        *(_weights(part) for part in spec.members if part.estimated),
        *(jags_features.section(part, _rows(part.suffix)) for part in spec.members),
        *(effect_lines(part, standard=standard) for part in spec.members if part.effects),
        *(role_lines(roles, spec.members) for roles in spec.roles),
        *(_nesting_effects(nest, standard) for nest in spec.nestings if nest.random),
        *(jags_imputed.section(one) for one in spec.imputed),
        prior_lines(spec, forms),
        _derived(spec),
        ["}"],
    ]
    return "\n".join(line for section in sections for line in section) + "\n"


def data(spec: ModelSpec, design: Design, priors: Mapping[str, Any]) -> dict[str, Any]:
    """Data of the program by name; indices are 1-based.

    Raises
    ------
    PriorError
        If a standard deviation is held at 0, which has no precision.
    """
    shares = {p.name for p in spec.parameters if p.support == "probability"}
    for name, value in priors.items():
        if not name.startswith("prior_") and name not in shares and np.min(value) <= 0:
            raise PriorError(
                f"JAGS cannot fix `{name}` at {np.min(value):g}. Leave the random effects out "
                "instead: write RE=FALSE, or remove hm()."
            )
    out = {**shared_data(spec, design), **spec.family.program_data(design.outcome, "jags")}
    for name in _unused_centres(spec):
        del out[name]
    for part, member in zip(spec.members, design.members, strict=True):
        out |= _padded(part, out)
        imputed = bool(jags_imputed.in_block(spec, part))
        own = _member_data(part, member, imputed=imputed)
        out |= {f"{n}{part.suffix}": v for n, v in own.items()}
    out |= jags_imputed.values(spec, design)
    for roles in spec.roles:
        pairs = pair_values(len(roles.blocks))
        out |= {f"{name}{roles.suffix}": value for name, value in pairs.items()}
    return {**out, **priors}


def initial(
    spec: ModelSpec, forms: Forms, priors: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Initial values of the sampled nodes, which for some standard deviations are precisions."""
    known = {p.name: p for p in spec.sampled}
    out: dict[str, Any] = {}
    for name, value in values.items():
        parameter = known[name]
        if forms[name] == ("fixed",):
            continue
        number = np.asarray(value, dtype=float)
        if parameter.role == "weight":
            out[standard_name(name)] = number / priors[scale_name(name)]
            continue
        if parameter.role == "threshold":
            out[UNSORTED] = number
            continue
        if parameter.role == "correlation":
            out[f"half_{name}"] = (1 + number) / 2
            continue
        precision = np.array(on_precision(spec, parameter, forms))
        if precision.any():
            out[tau(name)] = np.where(precision, number**-2.0, np.nan)
        if not precision.all():
            out[name] = np.where(precision, np.nan, number)
    return out


def unmodelled_initial(spec: ModelSpec, design: Design) -> dict[str, Any]:
    """Initial values of nodes that are no parameters of the model, such as a baseline hazard."""
    return spec.family.jags_initial(design.outcome)


def monitored(spec: ModelSpec, forms: Forms) -> tuple[str, ...]:
    """Variables whose draws are kept: all parameters that are not held fixed."""
    return tuple(p.name for p in spec.parameters if forms.get(p.name) != ("fixed",))


def engine_options(spec: ModelSpec, forms: Forms) -> dict[str, Any]:
    """Nodes that must be in a glm block: effects, and coefficients with normal priors.

    ``multiplied`` are coefficients whose covariates are summed with weights that are not
    normalised, and those weights' coefficients: their product is linear in either, so that JAGS may
    put the weight coefficients in the block instead.
    """
    if not spec.family.jags_block:
        return {}
    nodes: list[str] = []
    standard = spec.family.jags_standard_effects
    walks = {part.step: effect_node(part) for part in spec.members if part.walk}
    walks |= {part.independent: effect_node(part) for part in spec.members if part.series}
    correlated = [part for part in spec.members if part.correlated]
    made = {name for part in correlated for name in (part.u, part.u_slope)}
    made |= {name for roles in spec.roles for name in roles.effects}
    # Times a missing value a coefficient is no linear term: one of both is outside the block.
    made |= {"beta_l2" if p is None else spec.members[p].b for p in {i.block for i in spec.imputed}}
    nodes += [found.standard for found in spec.correlated]
    for parameter in spec.sampled:
        families = forms.get(parameter.name, ("normal",))
        if parameter.role not in ("coefficient", "effect") or parameter.name in made:
            continue
        if parameter.role == "effect" and parameter.name not in walks and standard:
            nodes.append(standard_node(parameter.name))
        elif set(families) == {"normal"}:
            nodes.append(walks.get(parameter.name, parameter.name))
        else:
            numbered = enumerate(families, start=1)
            nodes += [f"{parameter.name}[{k}]" for k, f in numbered if f == "normal"]
    free = [p for p in spec.members if p.estimated and p.weight.constraint == "none"]
    return {"require_block": tuple(nodes), "multiplied": {p.b: p.b_w for p in free if p.covariates}}


# ---- text ------------------------------------------------------------------------------------


def _outcome(spec: ModelSpec) -> list[str]:
    likelihood = spec.family.jags_model
    for parameter in spec.family.parameters:
        if parameter.role == "sd":
            likelihood = likelihood.replace(f"pow({parameter.name}, -2)", tau(parameter.name))
    terms = _linear_predictor(spec) or [("0", "")]
    width = min(_COMMENT_COLUMN, max(len(text) for text, _ in terms) + 17)
    lines = ["  # ---- outcome", "  for (j in 1:J) {"]
    lines += [f"    {line}" for line in likelihood.splitlines()]
    for number, (text, comment) in enumerate(terms):
        start = "    eta[j] <- " if number == 0 else "      + "
        line = f"{start}{text}"
        lines.append(f"{line:<{width}}  # {comment}" if comment else line)
    outside = [f"  {line}" for line in spec.family.jags_outside.splitlines()]
    return [*lines, "  }", *outside]


def _linear_predictor(spec: ModelSpec) -> list[tuple[str, str]]:
    """Terms of eta[j], each with its meaning."""
    terms = []
    if spec.intercept:
        terms.append(("alpha", "intercept"))
    if spec.terms:
        terms.append((_product("X_l2[j, 1:K_l2]", "beta_l2", "K_l2"), "group predictors"))
    if spec.offset:
        terms.append(("offset_l2[j]", "known part"))
    terms += jags_imputed.of_groups(spec)
    for part in spec.members:
        terms += _member_terms(part)
        s = part.suffix
        weights = f"{'w' if part.estimated else 'weight'}{s}[{_rows(s)}]"
        terms += jags_imputed.of_members(spec, part, weights, _rows(s))
    for nest in spec.nestings:
        s = nest.suffix
        if nest.covariates:
            what = "level-3 predictors" if nest.random else "fixed effects of nesting units"
            terms.append((_product(f"X_l3{s}[j, 1:K_l3{s}]", nest.b, f"K_l3{s}"), what))
        if nest.random:
            terms.append((f"{nest.u}[nesting{s}[j]]", "effect of the nesting unit"))
    return terms


def _member_terms(part: MemberPart) -> list[tuple[str, str]]:
    s, rows = part.suffix, _rows(part.suffix)
    terms: list[tuple[str, str]] = []
    weights = f"{'w' if part.estimated else 'weight'}{s}[{rows}]"
    if part.columns:
        column, size = "xw" if part.estimated else "X_l1", _columns(part)
        terms.append((_product(f"{column}{s}[j, 1:{size}]", part.b, size), "weighted covariates"))
    terms += jags_features.terms(part)
    if part.estimated and part.offset:
        terms.append((f"inprod({weights}, offset_l1{s}[{rows}])", "weighted known part"))
    if part.random:
        what = "weighted member effects" if part.smooth is None else "functions of a smooth term"
        terms.append((weighted_effects(part, weights, rows), what))
    if part.slopes:
        slopes = f"inprod({weights}, {slope_node(part)}[{rows}])"
        terms.append((slopes, "weighted random slopes"))
    return terms


def _columns(part: MemberPart) -> str:
    """Name of the number of columns of `X_l1`, which come first in `b_l1`."""
    return f"K_x_l1{part.suffix}" if part.features_in_program else f"K_l1{part.suffix}"


def _rows(suffix: str) -> str:
    return f"first{suffix}[j]:last{suffix}[j]"


def _product(row: str, coefficients: str, size: str) -> str:
    return f"inprod({row}, {coefficients}[1:{size}])"


def _weights(part: MemberPart) -> list[str]:
    s, rows = part.suffix, _rows(part.suffix)
    log_raw = _log_raw(part)
    raw = to_jags(log_raw or part.weight.expression, weight_names(part), "r")
    scaled = {
        "group": f"uw{s}[r] / total{s}[group{s}[r]]",
        "total": f"{f'J_l1{s}' if part.partial else 'J'} * uw{s}[r] / total{s}",
        "none": f"uw{s}[r]",
    }[part.weight.constraint]
    lines = ["", f"  # ---- weights w{s} of the memberships", f"  for (r in 1:M{s}) {{"]
    inside = []
    if log_raw is not None:
        # All weights 1/n^X of a group may underflow: they are divided by the largest before exp().
        top = f"top{s}[group{s}[r]]" if part.weight.constraint == "group" else f"top{s}"
        lines += [
            f"    lw{s}[r] <- {raw}  # log raw weight",
            f"    uw{s}[r] <- exp(lw{s}[r] - {top})  # raw weight, divided by the largest",
        ]
    else:
        lines.append(f"    uw{s}[r] <- {raw}  # raw weight")
    lines += [f"    w{s}[r] <- {scaled}", "  }"]
    if part.partial:
        lines += _idle_membership(part, log_raw is not None)
    if log_raw is not None and part.weight.constraint == "group":
        inside.append(f"    top{s}[j] <- max(lw{s}[{rows}])")
    if part.weight.constraint == "group":
        inside.append(f"    total{s}[j] <- sum(uw{s}[{rows}])")
    if part.columns:
        inside.append(
            f"    for (k in 1:{_columns(part)}) "
            f"{{ xw{s}[j, k] <- inprod(w{s}[{rows}], X_l1{s}[{rows}, k]) }}"
        )
    if inside:
        lines += ["  for (j in 1:J) {", *inside, "  }"]
    if part.weight.constraint == "total":
        lines.append(f"  total{s} <- sum(uw{s}[1:M{s}])")
        if log_raw is not None:
            lines.append(f"  top{s} <- max(lw{s}[1:M{s}])")
    return lines


def _idle_membership(part: MemberPart, logs: bool) -> list[str]:
    """Lines for one more membership, of weight 0, of all groups without such a member.

    JAGS has no empty ranges `first[j]:last[j]`.
    """
    s = part.suffix
    lines = [f"  # membership M{s} + 1, of weight 0, stands for the members of groups without any"]
    if part.weight.constraint == "group":
        lines += [f"  lw{s}[M{s} + 1] <- 0"] * logs + [f"  uw{s}[M{s} + 1] <- 1"]
    return [*lines, f"  w{s}[M{s} + 1] <- 0"]


def _log_raw(part: MemberPart) -> Node | None:
    """Log of the raw weights where they may underflow and are normalised."""
    if part.weight.constraint == "none":
        return None
    return log_of_size_power(part.weight.expression)


def _nesting_effects(nest: NestingPart, standard: bool) -> list[str]:
    own = normal(nest.u, "h", nest.sigma, standard=standard)
    return [
        "",
        f"  # ---- effects {nest.u} of nesting units, with sd {nest.sigma}",
        f"  for (h in 1:H{nest.suffix}) {{ {own} }}",
    ]


def _centred_blocks(spec: ModelSpec) -> list[tuple[str, str, str]]:
    """(centre, coefficients, size) of every block of predictors."""
    blocks = [("center_l2", "beta_l2", "K_l2")] if spec.terms else []
    for part in spec.members:
        if part.covariates:
            blocks.append((f"center_l1{part.suffix}", part.b, f"K_l1{part.suffix}"))
    for nest in spec.nestings:
        if nest.covariates:
            blocks.append((f"center_l3{nest.suffix}", nest.b, f"K_l3{nest.suffix}"))
    return blocks


def _derived(spec: ModelSpec) -> list[str]:
    """`b_l2` and `tau`, with the intercept or thresholds at zero of all predictors."""
    if not (spec.intercept or spec.terms):
        return [*_thresholds(spec), *_sd_coefficients(spec)]
    lines = [
        "",
        "  # ---- reported coefficients b_l2, with the intercept where all predictors are 0",
    ]
    lines = lines if spec.intercept else ["", "  # ---- reported coefficients b_l2"]
    if spec.intercept:
        lines.append("  b_l2[1] <- alpha")
        for centre, coefficients, size in _centred_blocks(spec):
            lines.append(f"    - {_product(f'{centre}[1:{size}]', coefficients, size)}")
    if spec.terms:
        place = "k + 1" if spec.intercept else "k"
        lines.append(f"  for (k in 1:K_l2) {{ b_l2[{place}] <- beta_l2[k] }}")
    return lines + _thresholds(spec) + _sd_coefficients(spec)


def _sd_coefficients(spec: ModelSpec) -> list[str]:
    if spec.family.sigma is None:
        return []
    return [
        "",
        f"  # ---- reported {B_SIGMA}, the first where all predictors of the sd are 0",
        "  for (k in 1:K_sigma) {",
        f"    {B_SIGMA}[k] <- {AT_CENTRES}[k]",
        f"      - equals(k, 1) * {_product('center_sigma[1:K_sigma]', AT_CENTRES, 'K_sigma')}",
        "  }",
    ]


def _thresholds(spec: ModelSpec) -> list[str]:
    if not spec.thresholds:
        return []
    lines = ["", "  # ---- reported thresholds tau, where all predictors are 0"]
    lines += ["  for (k in 1:K_tau) {", f"    tau[k] <- {CUT}[k]"]
    for centre, coefficients, size in _centred_blocks(spec):
        lines.append(f"      + {_product(f'{centre}[1:{size}]', coefficients, size)}")
    return [*lines, "  }"]


# ---- data ------------------------------------------------------------------------------------


#: Vectors and rows by membership -> their value for groups without a member.
_BY_MEMBERSHIP = {"member": 1, "occasion": 1, "place_l1": 1, "weight": 0, "offset_l1": 0}


def _padded(part: MemberPart, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Shared data of a block with one more membership, that of all groups without a member.

    JAGS has no empty ranges `first[j]:last[j]`.
    """
    idle = {**_BY_MEMBERSHIP, "X_l1": 0} if part.estimated else _BY_MEMBERSHIP
    names = {f"{name}{part.suffix}": value for name, value in idle.items()}
    return {n: padded(part, shared[n], value) for n, value in names.items() if n in shared}


def _member_data(part: MemberPart, member: Membership, *, imputed: bool) -> dict[str, Any]:
    """Data of a block that only JAGS programs have, by names without suffix.

    `imputed`: whether its covariates have missing values.
    """
    out: dict[str, Any] = dict(effect_values(part, member))
    if part.estimated or part.effects or part.features_in_program or imputed:
        out["first"], out["last"] = _segments(member)
    if (part.slopes or imputed) and not part.random and not part.estimated:
        out["weight"] = padded(part, member.weight, 0)
    by_group = part.estimated and part.weight.constraint == "group"
    if by_group or jags_features.reads_group(part):
        out["group"] = member.group + 1
    return out


def _unused_centres(spec: ModelSpec) -> list[str]:
    """Centres that no line uses: without a constant only features have theirs subtracted."""
    if spec.constant:
        return []
    of_features = {f"center_l1{part.suffix}" for part in spec.members if part.features_in_program}
    return [centre for centre, _, _ in _centred_blocks(spec) if centre not in of_features]


def _segments(member: Membership) -> tuple[Array, Array]:
    """(J,) first and last membership of each group; both M + 1 where it has none."""
    first, last = member.start[:-1] + 1, member.start[1:]
    none = first > last
    idle = len(member.member) + 1
    return np.where(none, idle, first), np.where(none, idle, last)
