"""Stan lines of effects sampled around a normal approximation: see `normal_approximation`.

Parameters of the program are standardised values such as ``u_l1_raw``. The lines that compute the
effects from them occur twice: in the model, and in the generated quantities to be reported.
"""

from __future__ import annotations

from typing import Any

from rmm.backends.program_data import raw_name
from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.backends.stan.marginalize.normal_approximation import approximate, coefficients
from rmm.backends.stan.marginalize.strategy import (
    Lines,
    MarginalizationStrategy,
    blocks,
    comment,
    direction_indices,
    effect_declarations,
    effect_names,
    indented,
)
from rmm.backends.stan.sparse import declared_sparse, product, row_starts, sparse_values
from rmm.design.design import Design
from rmm.model.spec import MemberPart, ModelSpec, NestingPart


def _declared(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    s, u = part.suffix, part.u
    n, names = f"N_l1{s}", effect_names(spec, chosen)
    weights = "W is the matrix (groups x members) of the known weights."
    if part.estimated:
        weights = (
            "W is a matrix (groups x members) of equal weights, 1 / size of the group. They "
            "replace the estimated weights here."
        )
    effects = [f"{u} ~ normal(0, {part.sigma})"]
    effects += [f"{nest.u} ~ normal(0, {nest.sigma})" for nest in nestings]
    lines = [
        *comment(
            f"How {names} {'are' if nestings else 'is'} sampled. This affects only the speed of "
            "sampling. The model is the one in the comment at the top of the program: "
            f"{' and '.join(effects)}."
        ),
        *comment(
            "1. The likelihood of group j is approximated by a normal density, as in iteratively "
            "reweighted least squares: the working response of group j is normal with mean eta[j] "
            "and precision q[j]. Working responses and precisions are computed once, before "
            "sampling, from the outcome alone."
        ),
        *comment(
            f"2. {weights} The right singular vectors of diag(sqrt(q)) * W are also computed "
            f"before sampling. These {n} vectors are called directions below."
        ),
        *comment(
            f"3. Stan samples the coordinates of {u} along the directions, standardised by their "
            "posterior means and sds in the approximation, given all other parameters. There, the "
            "coordinates are independent. If "
            "the approximation is poor, sampling is slower, but the posterior is the same."
        ),
        *(
            line
            for nest in nestings
            for line in comment(
                f"4. Stan samples {nest.u} in standardised form, ({nest.u} - mean) / sd. Mean and "
                f"sd are those of the posterior in the approximation, with {u} integrated out."
            )
        ),
        f"vector[{n}] singular_l1{s};  // singular values of diag(sqrt(q)) * W",
        "// working responses, times sqrt(q) and projected on the left singular vectors",
        f"vector[{n}] response_l1{s};",
    ]
    coefs = coefficients(spec)
    if coefs:
        lines += [
            "int<lower=0> K_fixed;  // number of elements of "
            f"{', '.join(coefs)}{' together' * (len(coefs) > 1)}",
            f"matrix[{n}, K_fixed] predictors_l1{s};  // predictors, projected like response_l1{s}",
        ]
    lines += declared_sparse(f"rotation_l1{s}", n, n, "directions (in columns)")
    for nest in nestings:
        h = nest.suffix
        lines += [
            *comment(
                "All groups of a member are in the same nesting unit. Each direction has nonzero "
                "values only for the members of one unit. Directions are sorted by unit."
            ),
            f"array[{n}] int<lower=1, upper=H{h}> unit_l1{s};  // nesting unit of each direction",
            f"array[H{h} + 1] int<lower=1> unit_start_l1{s};  // first direction of each unit",
            *comment(
                f"loading_l1{s}[d]: if {nest.u} of the nesting unit of direction d increases by 1, "
                f"the mean of response_l1{s}[d] increases by loading_l1{s}[d]"
            ),
            f"vector[{n}] loading_l1{s};",
            f"vector[H{h}] information_l3{h};  // sum of q in each nesting unit",
            f"vector[H{h}] response_l3{h};  // sum of q times working response in each unit",
        ]
        if coefs:
            lines.append(f"matrix[H{h}, K_fixed] predictors_l3{h};  // sums of q times predictors")
    return lines


def _transformed_data(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    return direction_indices(part) if nestings else []


def _declarations(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    lines = comment(
        "standardised effects: (effect - mean) / sd. Mean and sd are those of the posterior in the "
        "normal approximation."
    )
    raw = f"vector[N_l1{part.suffix}] {raw_name(part.u)};"
    lines.append(f"{raw}  // standardised coordinates of {part.u} along the directions")
    return lines + [
        f"vector[H{n.suffix}] {raw_name(n.u)};  // standardised {n.u}" for n in nestings
    ]


def _effects(spec: ModelSpec, chosen: Marginalization, density: bool = True) -> Lines:
    """Lines that define the effects, and add their density given the sds to the target."""
    part, nestings = blocks(spec, chosen)
    s = part.suffix
    n = f"N_l1{s}"
    found = [
        *comment(
            f"z_l1{s}: coordinates of {part.u} / {part.sigma} along the directions. "
            f"sd_ratio_l1{s}: for each direction, the prior sd of what {part.u} adds to "
            f"response_l1{s}. It is a ratio because the residual sd of response_l1{s} is 1."
        ),
        f"vector[{n}] sd_ratio_l1{s} = {part.sigma} * singular_l1{s};",
        f"// posterior precision of z_l1{s} divided by its prior precision (in the approximation)",
        f"vector[{n}] precision_ratio_l1{s} = 1 + square(sd_ratio_l1{s});",
    ]
    coefs = coefficients(spec)
    if coefs:
        found.append(f"vector[K_fixed] b_fixed = {_stacked(coefs)};")
        found.append("// working response minus the predictors' part")
    minus = " - predictors_{} * b_fixed" if coefs else ""
    found.append(f"vector[{n}] residual_l1{s} = response_l1{s}{minus.format(f'l1{s}')};")
    residual, squares = f"residual_l1{s}", f"dot_self(z_l1{s})"
    ratios = f"sum(log(precision_ratio_l1{s}))"
    for nest in nestings:
        h = nest.suffix
        found += _nested(part, nest, f"response_l3{h}{minus.format(f'l3{h}')}")
        residual = f"(residual_l1{s} - loading_l1{s} .* {nest.u}[unit_l1{s}])"
        squares += f" + dot_self(z_l3{h})"
        ratios += f" + sum(log(precision_ratio_l3{h}))"
    found += [
        f"vector[{n}] z_l1{s} = sd_ratio_l1{s} .* {residual} ./ precision_ratio_l1{s}",
        f"      + {raw_name(part.u)} .* inv_sqrt(precision_ratio_l1{s});",
        f"{part.u} = {part.sigma} * {product(f'rotation_l1{s}', n, n, f'z_l1{s}')};",
    ]
    if density:
        found += [
            *comment(
                "standard normal log density of z, and log Jacobian of z as a function of the "
                "standardised effects"
            ),
            f"target += -0.5 * ({squares}\n    + {ratios});",
        ]
    names = effect_names(spec, chosen)
    head = (
        comment(
            f"{names}, computed from the standardised effects: mean + sd * standardised effect, "
            "with mean and sd of the normal approximation"
        )
        if density
        else comment(
            f"{names}, computed again with the lines of the model block, because Stan does not "
            "save the variables of that block"
        )
    )
    return [*head, *effect_declarations(spec, chosen), "{", *indented(found), "}"]


def _stacked(coefs: tuple[str, ...]) -> str:
    """The coefficients as one vector."""
    if coefs == ("alpha",):
        return "[alpha]'"
    text = coefs[0]
    for name in coefs[1:]:
        text = f"append_row({text}, {name})"
    return text


def _nested(part: MemberPart, nest: NestingPart, residual: str) -> Lines:
    """Effects of nesting units, with the member effects integrated out of the approximation."""
    s, h = part.suffix, nest.suffix
    units = f"H{h}, N_l1{s}, {{}}, direction_l1{s}, unit_start_l1{s},\n{' ' * 30}{{}}"
    taken = units.format(
        f"loading_l1{s}", f"residual_l1{s} - residual_l1{s} ./ precision_ratio_l1{s}"
    )
    used = units.format(f"square(loading_l1{s})", f"1 - inv(precision_ratio_l1{s})")
    return [
        *comment(
            f"z_l3{h} is {nest.u} / {nest.sigma}. precision_ratio_l3{h} is the posterior precision "
            f"of z_l3{h} divided by its prior precision, with {part.u} integrated out."
        ),
        f"vector[H{h}] precision_ratio_l3{h} = 1 + square({nest.sigma})\n"
        f"    * (information_l3{h} - csr_matrix_times_vector({used}));",
        f"vector[H{h}] z_l3{h} = {nest.sigma}\n"
        f"    * ({residual}\n       - csr_matrix_times_vector({taken})) ./ precision_ratio_l3{h}\n"
        f"    + {raw_name(nest.u)} .* inv_sqrt(precision_ratio_l3{h});",
        f"{nest.u} = {nest.sigma} * z_l3{h};",
    ]


def _data(spec: ModelSpec, design: Design, chosen: Marginalization) -> dict[str, Any]:
    part, nestings = blocks(spec, chosen)
    found, s = approximate(chosen, spec, design), part.suffix
    out: dict[str, Any] = {f"singular_l1{s}": found.singular, f"response_l1{s}": found.response}
    coefs = coefficients(spec)
    if coefs:
        out |= {"K_fixed": found.predictors.shape[1], f"predictors_l1{s}": found.predictors}
    out |= sparse_values(f"rotation_l1{s}", found.rotation)
    for i, nest in zip(chosen.nestings, nestings, strict=True):
        h, count = nest.suffix, design.nestings[i].n_units
        out |= {
            f"loading_l1{s}": found.loading,
            f"unit_l1{s}": found.unit + 1,
            f"unit_start_l1{s}": row_starts(found.unit, count),
            f"information_l3{h}": found.unit_information,
            f"response_l3{h}": found.unit_response,
        }
        if coefs:
            out[f"predictors_l3{h}"] = found.unit_predictors
    return out


def _generated(spec: ModelSpec, chosen: Marginalization, eta: Lines) -> Lines:
    return _effects(spec, chosen, density=False)


STRATEGY = MarginalizationStrategy(
    declared=_declared,
    data=_data,
    transformed_data=_transformed_data,
    declarations=_declarations,
    effects=_effects,
    generated=_generated,
)
