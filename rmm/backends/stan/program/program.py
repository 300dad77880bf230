"""ModelSpec -> Stan program. The text depends on the model, and on which effects are not sampled.

Sizes and priors are data. For speed, weighted sums are products of a sparse matrix and a vector
(`csr_matrix_times_vector`), with known and with estimated weights. Effects are integrated out or
sampled around an approximation (`_STRATEGIES`), otherwise non-centred (`multiplier`). The output
holds parameters only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.backends.base import Forms
from rmm.backends.program_data import raw_name, shared_data, standard_name, weight_vectors
from rmm.backends.program_header import header, plain_text
from rmm.backends.stan.effects import (
    correlation_lines,
    effect_data,
    effect_values,
    factor_declaration,
    factor_density,
    factor_name,
    related_lines,
    role_lines,
    sd_name,
    series_lines,
    slope_declaration,
    slope_density,
    slope_lines,
    walk_lines,
)
from rmm.backends.stan.marginalize import blockwise_text as stan_components
from rmm.backends.stan.marginalize import normal_approximation_text as stan_approximated
from rmm.backends.stan.marginalize import spectral_text as stan_spectrum
from rmm.backends.stan.marginalize.choose import Marginalization, marginalized
from rmm.backends.stan.marginalize.strategy import MarginalizationStrategy
from rmm.backends.stan.program import features as stan_features
from rmm.backends.stan.program import imputed_text as stan_imputed
from rmm.backends.stan.program.members import columns, estimated_sum, known_sum
from rmm.backends.stan.program.priors import (
    bound_lines,
    is_bounded,
    is_fixed,
    is_in_units,
    is_raw,
    prior_data,
    prior_lines,
    raw_constants,
    raw_from_sd,
    raw_functions,
    sd_from_raw,
    size_name,
    weight_declaration,
    weight_lines,
)
from rmm.design.design import Design
from rmm.design.members.memberships import Membership
from rmm.design.priors.weight_priors import scale_name
from rmm.errors import BackendError
from rmm.families import Parameter
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.formula.weights.render import stan_definitions
from rmm.model.correlated_effects import Roles
from rmm.model.correlations import cholesky_factor
from rmm.model.spec import CUT, MemberPart, ModelSpec, NestingPart

_STRATEGIES = {
    "spectrum": stan_spectrum.STRATEGY,
    "components": stan_components.STRATEGY,
    "approximation": stan_approximated.STRATEGY,
}


def _strategy(chosen: Marginalization | None) -> MarginalizationStrategy:
    return MarginalizationStrategy() if chosen is None else _STRATEGIES[chosen.strategy]


def _lines(spec: ModelSpec, chosen: Marginalization | None, what: str) -> list[str]:
    """Lines that an attribute of the chosen `MarginalizationStrategy` gives; none without one."""
    if chosen is None:
        return []
    found: list[str] = getattr(_strategy(chosen), what)(spec, chosen)
    return found


def write(spec: ModelSpec, forms: Forms, chosen: Marginalization | None = None) -> str:
    """The Stan program of a model.

    Parameters
    ----------
    spec : ModelSpec
    forms : mapping
        Sampled parameter -> prior families, one for all elements or one per element.
    chosen : Marginalization, optional
        Effects that are not sampled one by one; by default all are sampled.

    Raises
    ------
    BackendError
        With observation weights, for an outcome without a density of one group.
    """
    if not spec.family.stan_model:
        raise BackendError(
            f"Backend 'stan' has no observation weights for an outcome of family "
            f"{spec.family.name!r} with delayed entry or intervals. Use backend='laplace'."
        )
    scales = _raw_sds(spec, forms)
    gone = marginalized(spec, chosen)
    blocks: dict[str, list[str]] = {
        "functions": _functions(spec, forms, chosen),
        "data": _data_block(spec, forms, chosen),
        "transformed data": _transformed_data(spec, forms, chosen),
        "parameters": [
            _declaration(spec, p, forms, scales)
            for p in spec.sampled
            if not is_fixed(p, forms) and p.name not in gone
        ]
        + _lines(spec, chosen, "declarations"),
        "transformed parameters": _transformed_parameters(spec, forms),
        "model": _model_block(spec, forms, chosen),
        "generated quantities": _generated(spec, chosen),
    }
    text = header(spec, "Stan", "//")
    for name, lines in blocks.items():
        body = "\n".join(f"  {line}" if line else "" for line in lines)
        if body.strip():
            text.append(f"{name} {{\n{body}\n}}")
    return "\n".join(text) + "\n"


# -- data -----------------------------------------------------------------------------------


def _functions(spec: ModelSpec, forms: Forms, chosen: Marginalization | None) -> list[str]:
    raw = [p for p in spec.sampled if is_raw(p, forms)]
    texts = [_strategy(chosen).functions, *raw_functions(raw)]
    texts += [stan_definitions(p.weight.expression) for p in spec.members if p.estimated]
    texts.append(spec.family.stan_functions)
    unique = dict.fromkeys(text.strip() for text in texts if text)
    return [line.removeprefix("  ") for text in unique for line in text.splitlines()]


def _data_block(spec: ModelSpec, forms: Forms, chosen: Marginalization | None) -> list[str]:
    lines = ["int<lower=1> J;  // number of groups", *spec.family.stan_data.splitlines()]
    if spec.terms:
        lines += [
            "int<lower=1> K_l2;  // number of group predictors",
            "matrix[J, K_l2] X_l2;  // group predictors, centred",
            "vector[K_l2] center_l2;  // their centres, which were subtracted",
        ]
    if spec.offset:
        lines.append("vector[J] offset_l2;  // known part of the linear predictor")
    for part in spec.members:
        lines += _member_data(part)
    lines += [
        f"int<lower=1> K_pair_l1{roles.suffix};  // number of correlations between roles"
        for roles in spec.roles
    ]
    for nest in spec.nestings:
        lines += _nesting_data(nest)
    for one in spec.imputed:
        lines += stan_imputed.declared(spec, one)
    lines += _lines(spec, chosen, "declared")
    lines += raw_constants([p for p in spec.sampled if is_raw(p, forms)])
    lines.append("// priors: prior_<parameter>_<hyperparameter>")
    for parameter in spec.sampled:
        lines += prior_data(parameter, forms)
    return lines


def _member_data(part: MemberPart) -> list[str]:
    s, lines = part.suffix, [f"// members{_named(part.suffix)}"]
    if part.smooth is not None:
        lines = [f"// functions of {plain_text(part.smooth.label)}, as if they were members"]
    if part.effects or part.estimated or part.features_in_program:
        lines += [
            f"int<lower=1> M{s};  // number of memberships (sorted by group)",
            f"array[J + 1] int<lower=1> start{s};  // first membership of each group; the last "
            f"element is M{s} + 1",
        ]
    lines += effect_data(part)
    if part.random and not part.estimated:
        what = "known weights" if part.smooth is None else "values of the functions"
        lines.append(f"vector[M{s}] weight{s};  // {what}")
    lines += stan_features.declared(part)
    if part.covariates:
        more = " and features" if part.features_in_program else ""
        lines.append(f"int<lower=1> K_l1{s};  // number of member covariates{more}")
    if part.columns:
        rows = f"M{s}" if part.estimated else "J"
        what = "by membership" if part.estimated else "weighted sums of each group"
        lines.append(
            f"matrix[{rows}, {columns(part)}] X_l1{s};  // member covariates, {what}, centred"
        )
    if part.covariates:
        lines.append(f"vector[K_l1{s}] center_l1{s};  // their centres, which were subtracted")
    if part.estimated:
        if part.partial and part.weight.constraint == "group":
            lines.append(f"vector[J] absent{s};  // 1 for groups without such a member, else 0")
        if part.partial and part.weight.constraint == "total":
            lines.append(f"int<lower=1> J_l1{s};  // number of groups with such a member")
        lines.append(f"int<lower=1> K_w{s};  // number of weight coefficients")
        for name, comment in weight_vectors(part).items():
            lines.append(f"vector[M{s}] {name};  // {plain_text(comment)}")
        if part.offset:
            lines.append(f"vector[M{s}] offset_l1{s};  // known part of the member effects")
    return lines


def _nesting_data(nest: NestingPart) -> list[str]:
    s, lines = nest.suffix, [f"// nesting units{_named(nest.suffix)}"]
    if nest.random:
        lines += [
            f"int<lower=1> H{s};  // number of nesting units",
            f"array[J] int<lower=1, upper=H{s}> nesting{s};  // nesting unit of each group",
        ]
    if nest.covariates:
        what = "predictors of the unit" if nest.random else "dummies of all units but the first"
        lines += [
            f"int<lower=1> K_l3{s};  // number of columns of X_l3{s}",
            f"matrix[J, K_l3{s}] X_l3{s};  // {what}, by group, centred",
            f"vector[K_l3{s}] center_l3{s};  // their centres, which were subtracted",
        ]
    return lines


def _named(suffix: str) -> str:
    return f" of block {suffix[1:]}" if suffix else ""


def _transformed_data(spec: ModelSpec, forms: Forms, chosen: Marginalization | None) -> list[str]:
    lines: list[str] = spec.family.stan_transformed_data.splitlines()
    for part in spec.members:
        m = f"M{part.suffix}"
        sums = part.estimated or bool(part.features_in_program)
        if sums:
            lines += [
                f"// sparse matrix of ones (J x {m}) that adds up the memberships of each group. "
                "Its",
                "// values are `ones`, its columns `membership`, its row starts "
                f"`start{part.suffix}`.",
                f"vector[{m}] ones{part.suffix} = rep_vector(1, {m});",
            ]
        if sums or part.walk:
            lines.append(
                f"array[{m}] int membership{part.suffix} = linspaced_int_array({m}, 1, {m});"
                + ("" if sums else f"  // 1, ..., {m}")
            )
    for parameter in spec.sampled:
        own = parameter.role == "correlation"  # has a type of its own
        if parameter.dims and parameter.structural and not own and is_bounded(parameter, forms):
            lines += bound_lines(parameter, forms[parameter.name])
    return lines + _lines(spec, chosen, "transformed_data")


# -- parameters and model ---------------------------------------------------------------------


def _raw_sds(spec: ModelSpec, forms: Forms) -> dict[str, str]:
    """The sds that are sampled as unconstrained parameters, as expressions of these."""
    return {p.name: sd_from_raw(p) for p in spec.sampled if is_raw(p, forms)}


def _transformed_parameters(spec: ModelSpec, forms: Forms) -> list[str]:
    lines = [f"real<lower=0> {p} = {value};" for p, value in _raw_sds(spec, forms).items()]
    for parameter in spec.sampled:
        lines += weight_lines(parameter, forms)
    for part in spec.members:
        lines += [*walk_lines(part), *series_lines(part)]
        lines += [*related_lines(part), *slope_lines(part)]
    for roles in spec.roles:
        lines += role_lines(roles, spec.members)
    return lines


def _correlated(spec: ModelSpec, name: str) -> MemberPart | Roles | None:
    """The block or roles whose correlated effects or correlations a parameter is."""
    for found in spec.correlated:
        effects = found.effects if isinstance(found, Roles) else (found.u,)
        if name in (*effects, found.pcor):
            return found
    return None


def _declaration(
    spec: ModelSpec, parameter: Parameter, forms: Forms, scales: Mapping[str, str]
) -> str:
    p, block = parameter.name, _correlated(spec, parameter.name)
    if block is not None and parameter.role == "correlation":
        return factor_declaration(block)
    if block is not None:
        comment = f"{p} divided by its sd"
        if isinstance(block, Roles):
            comment = f"standard normals: see {p}"
        return f"vector[{size_name(parameter)}] {raw_name(p)};  // {comment}"
    if parameter.role == "imputed":
        return stan_imputed.declaration(next(one for one in spec.imputed if one.x == p))
    if parameter.role == "effect":
        if len(parameter.dims) == 2:
            correlated = {part.u_slope for part in spec.members if part.correlated}
            return slope_declaration(parameter, correlated=p in correlated)
        sd = scales.get(sd_name(p), sd_name(p))
        size = size_name(parameter)
        split = "\n      " if len(sd + size + p) > 70 else ""
        return f"vector<multiplier={sd}>{split}[{size}] {p};  // non-centred"
    if p in scales:
        return f"real {raw_name(p)};  // unconstrained; see sd_from_raw()"
    if parameter.role == "weight":
        return weight_declaration(parameter, forms)
    comment = _comment(parameter)
    if parameter.role == "threshold":
        return f"ordered[{size_name(parameter)}] {p};{comment}"
    if parameter.dims:
        bounds = f"<lower=lower_{p}, upper=upper_{p}>" if is_bounded(parameter, forms) else ""
        return f"vector{bounds}[{size_name(parameter)}] {p};{comment}"
    if forms[p] == ("uniform",):
        return f"real<lower=prior_{p}_lower, upper=prior_{p}_upper> {p};{comment}"
    if parameter.support == "probability":
        return f"real<lower=0, upper=1> {p};{comment}"
    bounded = parameter.support == "positive" or is_bounded(parameter, forms)
    return f"real{'<lower=0>' if bounded else ''} {p};{comment}"


def _comment(parameter: Parameter) -> str:
    """What a parameter is, where its name does not tell."""
    p = parameter.name
    if parameter.role == "coefficient":
        meaning = (
            "intercept where all predictors are equal to center_*"
            if p == "alpha"
            else f"coefficients of {_predictors(p)}"
        )
    else:
        meaning = {
            "feature": "estimated numbers of features: a cut, a kappa or an exponent each",
            "threshold": "thresholds where all predictors are equal to center_*",
            "log_sd": "coefficients of the log of the residual sd: X_sigma * beta_sigma",
        }.get(parameter.role, "")
    return f"  // {meaning}" if meaning else ""


def _predictors(coefficients: str) -> str:
    """The predictors of coefficients: ``b_l1_party`` -> ``X_l1_party``."""
    return "X" + coefficients.removeprefix("beta").removeprefix("b")


def _predictor(spec: ModelSpec, chosen: Marginalization | None) -> list[str]:
    """Lines that compute `eta`, without the effects that are integrated out."""
    gone = marginalized(spec, chosen) if chosen and chosen.exact else frozenset()
    lines = [f"vector[J] eta = rep_vector({'alpha' if spec.intercept else '0'}, J);"]
    if spec.offset:
        lines.append("eta += offset_l2;")
    if spec.terms:
        lines.append("eta += X_l2 * beta_l2;")
    for part in spec.members:
        own = stan_imputed.by_membership(spec, part)
        sampled = part.u not in gone
        lines += estimated_sum(part, sampled, own) if part.estimated else known_sum(part, sampled)
    for one in spec.imputed:
        lines += stan_imputed.in_predictor(spec, one)
    for nest in spec.nestings:
        if nest.covariates:
            lines.append(f"eta += X_l3{nest.suffix} * {nest.b};")
        if nest.random and nest.u not in gone:
            lines.append(f"eta += {nest.u}[nesting{nest.suffix}];")
    return lines


def _model_block(spec: ModelSpec, forms: Forms, chosen: Marginalization | None) -> list[str]:
    gone = marginalized(spec, chosen)
    likelihood = _lines(spec, chosen, "likelihood")
    lines = _lines(spec, chosen, "effects") + _predictor(spec, chosen)
    lines += likelihood or ["", *spec.family.stan_model.splitlines()]
    effects = [p for p in spec.sampled if p.role == "effect" and p.name not in gone]
    if effects:
        lines += ["", "// random effects"]
    lines += [_effect_density(spec, p) for p in effects]
    if spec.imputed:
        lines += ["", "// covariates with missing values"]
    for one in spec.imputed:
        lines += stan_imputed.densities(one)
    lines += ["", "// priors"]
    for parameter in spec.sampled:
        block = _correlated(spec, parameter.name)
        if block is not None and parameter.role == "correlation":
            lines.append(factor_density(block))
        elif parameter.structural and not is_fixed(parameter, forms):
            lines += prior_lines(parameter, forms[parameter.name])
    return lines


def _effect_density(spec: ModelSpec, parameter: Parameter) -> str:
    if len(parameter.dims) == 2:
        return slope_density(parameter)
    if _correlated(spec, parameter.name) is not None:
        return f"{raw_name(parameter.name)} ~ std_normal();"
    return f"{parameter.name} ~ normal(0, {sd_name(parameter.name)});"


def _generated(spec: ModelSpec, chosen: Marginalization | None) -> list[str]:
    lines = [*_coefficients(spec), *_sd_coefficients(spec)]
    lines += [line for found in spec.correlated for line in correlation_lines(found)]
    if chosen is not None:
        eta = _predictor(spec, chosen)
        lines += _strategy(chosen).generated(spec, chosen, eta)
    return lines


def _coefficients(spec: ModelSpec) -> list[str]:
    """`b_l2` and `tau`, from what is sampled at the predictors' centres."""
    if not spec.intercept:
        slopes = ["vector[K_l2] b_l2 = beta_l2;"] if spec.terms else []
        return slopes + _thresholds(spec)
    intercept = "\n      - ".join(["alpha", *_shifts(spec)])
    both = "append_row(intercept, beta_l2)" if spec.terms else "[intercept]'"
    return [
        "// intercept where all predictors are 0" + (", then beta_l2" if spec.terms else ""),
        "vector[K_l2 + 1] b_l2;" if spec.terms else "vector[1] b_l2;",
        "{",
        f"  real intercept = {intercept};",
        f"  b_l2 = {both};",
        "}",
    ]


def _thresholds(spec: ModelSpec) -> list[str]:
    if not spec.thresholds:
        return []
    tau = "\n      + ".join([CUT, *_shifts(spec)])
    return [f"vector[K_tau] tau = {tau};  // thresholds where all predictors are 0"]


def _sd_coefficients(spec: ModelSpec) -> list[str]:
    """`b_sigma`, from what is sampled at the centres of its predictors."""
    if spec.family.sigma is None:
        return []
    return [
        f"vector[K_sigma] {B_SIGMA} = {AT_CENTRES};  // the first where all predictors are 0",
        f"{B_SIGMA}[1] -= dot_product(center_sigma, {AT_CENTRES});",
    ]


def _shifts(spec: ModelSpec) -> list[str]:
    """What the predictors contribute at their centres."""
    shifts = ["dot_product(center_l2, beta_l2)"] if spec.terms else []
    shifts += [f"dot_product(center_l1{p.suffix}, {p.b})" for p in spec.members if p.covariates]
    shifts += [f"dot_product(center_l3{n.suffix}, {n.b})" for n in spec.nestings if n.covariates]
    return shifts


# -- data and initial values --------------------------------------------------------------------


def data(
    spec: ModelSpec,
    design: Design,
    priors: Mapping[str, Any],
    chosen: Marginalization | None = None,
) -> dict[str, Any]:
    """Data of the program by name, 1-based where they are indices.

    With `chosen` the data of the program that samples all effects are among them, too.
    """
    outcome = spec.family.program_data(design.outcome, "stan")
    out: dict[str, Any] = {**shared_data(spec, design), **outcome, **priors}
    for part, m in zip(spec.members, design.members, strict=True):
        out |= {f"{name}{part.suffix}": value for name, value in _member_values(part, m).items()}
    out |= stan_imputed.values(spec, design)
    return out if chosen is None else out | _strategy(chosen).data(spec, design, chosen)


def _member_values(part: MemberPart, m: Membership) -> dict[str, Any]:
    """Data of a block that only Stan programs have, by names without suffix."""
    out: dict[str, Any] = {}
    if part.effects or part.estimated or part.features_in_program:
        out |= {"M": len(m.member), "start": m.start + 1}
    out |= effect_values(part, m)
    if part.features_in_program:
        out["group"] = m.group + 1
    if part.parametric_features:
        out["K_f"] = len(part.parametric_features)
    if part.estimated:
        out["K_w"] = len(part.weight.parameters)
        if part.partial and part.weight.constraint == "group":
            out["absent"] = (np.diff(m.start) == 0).astype(float)
    return out


def initial(
    spec: ModelSpec, forms: Forms, priors: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Initial values by the program's names; effects without one start as Stan draws them."""
    out: dict[str, Any] = {}
    for parameter in spec.sampled:
        p = parameter.name
        if p not in values or is_fixed(parameter, forms):
            continue
        if parameter.role == "correlation":
            out[factor_name(p)] = cholesky_factor(np.asarray(values[p], dtype=float))
        elif is_raw(parameter, forms):
            scale, soft = priors[f"base_{p}"], priors["base_soft"]
            out[raw_name(p)] = raw_from_sd(float(values[p]), scale, soft)
        elif is_in_units(parameter, forms):
            out[standard_name(p)] = values[p] / priors[scale_name(p)]
        else:
            out[p] = values[p]
    return out


def engine_options(chosen: Marginalization | None) -> dict[str, Any]:
    """A dense metric if few parameters are sampled: these are correlated, and it costs little."""
    return {"metric": "dense"} if chosen is not None and chosen.dense else {}


def monitored(spec: ModelSpec, forms: Forms) -> tuple[str, ...]:
    """Variables whose draws are kept: all parameters that are not held fixed."""
    return tuple(p.name for p in spec.parameters if not is_fixed(p, forms))
