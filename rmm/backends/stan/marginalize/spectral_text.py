"""Stan lines of effects that are integrated out direction by direction: see `choose`.

Lines that compute distributions of the effects occur twice in a program: in the model, for the
likelihood, and in the generated quantities, where the effects are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.backends.stan.marginalize.spectrum import spectrum
from rmm.backends.stan.marginalize.strategy import (
    Lines,
    MarginalizationStrategy,
    blocks,
    comment,
    direction_indices,
    drawn_effects,
    effect_names,
    indented,
)
from rmm.backends.stan.sparse import declared_sparse, product, row_starts, sparse_values
from rmm.design.design import Design
from rmm.model.spec import ModelSpec


def _declared(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    s = part.suffix
    n = f"N_l1{s}"
    effects = [f"{part.u} ~ normal(0, {part.sigma})"]
    effects += [f"{nest.u} ~ normal(0, {nest.sigma})" for nest in nestings]
    lines = [
        *comment(
            "For efficiency only, effects are integrated out of the likelihood and drawn "
            "afterwards. "
            "The model is the one in the comment at the top of the program, with "
            f"{' and '.join(effects)}. "
            "The known weights are a matrix (groups x members) with singular value decomposition "
            f"basis_l1{s}' * diag(singular_l1{s}) * rotation_l1{s}'. There are {n} directions: the "
            f"coordinates rotation_l1{s}' * {part.u} are independent of each other, given the "
            "outcome and the other parameters."
        ),
        f"vector[{n}] singular_l1{s};  // singular values of the weights",
        *declared_sparse(f"basis_l1{s}", n, "J", "left singular vectors (in rows)"),
        *declared_sparse(
            f"rotation_l1{s}", n, n, "directions, right singular vectors (in columns)"
        ),
    ]
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
                f"the mean of element d of basis_l1{s} * {spec.family.normal_y} increases by "
                f"loading_l1{s}[d]"
            ),
            f"vector[{n}] loading_l1{s};",
            f"array[J] int<lower=1, upper=J> order_l3{h};  // groups, sorted by nesting unit",
            f"array[H{h} + 1] int<lower=1> order_start_l3{h};  // first of these of each unit",
            f"vector[H{h}] count_l3{h};  // number of groups of each nesting unit",
        ]
    return lines


def _transformed_data(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    lines = []
    for nest in nestings:
        h = nest.suffix
        lines += [
            *comment(
                "sparse matrix of ones that adds up the groups of a unit: values and column indices"
            ),
            f"vector[J] ones_l3{h} = rep_vector(1, J);",
            f"array[J] int group_l3{h} = linspaced_int_array(J, 1, J);",
            *direction_indices(part),
        ]
    return lines


def _data(spec: ModelSpec, design: Design, chosen: Marginalization) -> dict[str, Any]:
    part, nestings = blocks(spec, chosen)
    found, s = spectrum(chosen, spec, design), part.suffix
    out: dict[str, Any] = {f"singular_l1{s}": found.singular}
    out |= sparse_values(f"basis_l1{s}", found.basis) | sparse_values(
        f"rotation_l1{s}", found.rotation
    )
    for i, nest in zip(chosen.nestings, nestings, strict=True):
        n, h = design.nestings[i], nest.suffix
        out |= {
            f"order_l3{h}": np.argsort(n.unit, kind="stable") + 1,
            f"order_start_l3{h}": row_starts(n.unit, n.n_units),
            f"unit_l1{s}": found.unit + 1,
            f"unit_start_l1{s}": row_starts(found.unit, n.n_units),
            f"loading_l1{s}": found.basis @ np.ones(design.J),
            f"count_l3{h}": np.bincount(n.unit, minlength=n.n_units),
        }
    return out


def _distributions(spec: ModelSpec, chosen: Marginalization) -> Lines:
    """Lines for the distributions of the effects given the outcome and the other parameters."""
    part, nestings = blocks(spec, chosen)
    s, n, sd = part.suffix, f"N_l1{part.suffix}", spec.family.normal_sd
    lines = [
        f"vector[J] residual = ({spec.family.normal_y} - eta) / {sd};",
        *comment(
            f"z_l1{s}: coordinates of {part.u} / {part.sigma} along the directions. "
            f"sd_ratio_l1{s}: for each direction, the prior sd of what {part.u} adds to "
            f"projected_l1{s}. It is a ratio because the residual sd of projected_l1{s} is 1."
        ),
        f"vector[{n}] sd_ratio_l1{s} = {part.sigma} / {sd} * singular_l1{s};",
        f"// posterior precision of z_l1{s} divided by its prior precision",
        f"vector[{n}] precision_ratio_l1{s} = 1 + square(sd_ratio_l1{s});",
        f"vector[{n}] projected_l1{s} = {product(f'basis_l1{s}', n, 'J', 'residual')};",
        f"// part of the projected residuals that is attributed to {part.u}",
        f"vector[{n}] shrunk_l1{s} = projected_l1{s} - projected_l1{s} ./ precision_ratio_l1{s};",
    ]
    for nest in nestings:
        h = nest.suffix
        units = f"H{h}, {n}, {{}}, direction_l1{s}, unit_start_l1{s},\n{' ' * 40}{{}}"
        taken = units.format(f"loading_l1{s}", f"shrunk_l1{s}")
        used = units.format(f"square(loading_l1{s})", f"1 - inv(precision_ratio_l1{s})")
        lines += [
            *comment(
                f"z_l3{h} is {nest.u} / {nest.sigma}. precision_ratio_l3{h} is the posterior "
                f"precision of z_l3{h} divided by its prior precision, with {part.u} integrated "
                f"out. gradient_l3{h} is the gradient of the log likelihood at z_l3{h} = 0. The "
                f"posterior mean of z_l3{h} is gradient_l3{h} / precision_ratio_l3{h}."
            ),
            f"real sd_ratio_l3{h} = {nest.sigma} / {sd};",
            f"vector[H{h}] gradient_l3{h}",
            f"    = sd_ratio_l3{h} * (csr_matrix_times_vector(H{h}, J, ones_l3{h}, group_l3{h}, "
            f"order_start_l3{h},",
            f"{' ' * 40}residual[order_l3{h}])",
            f"                   - csr_matrix_times_vector({taken}));",
            f"vector[H{h}] precision_ratio_l3{h}",
            f"    = 1 + square(sd_ratio_l3{h})",
            f"          * (count_l3{h} - csr_matrix_times_vector({used}));",
        ]
    return lines


def _likelihood(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    s, sd, y = part.suffix, spec.family.normal_sd, spec.family.normal_y
    ratios = f"sum(log(precision_ratio_l1{s}))"
    explained = f"dot_product(projected_l1{s}, shrunk_l1{s})"
    for nest in nestings:
        h = nest.suffix
        ratios += f" + sum(log(precision_ratio_l3{h}))"
        explained += (
            f"\n      + dot_product(gradient_l3{h}, gradient_l3{h} ./ precision_ratio_l3{h})"
        )
    found = [
        *_distributions(spec, chosen),
        f"// multivariate normal log density of {y}: determinant and quadratic form",
        f"target += -J * log({sd}) - 0.5 * ({ratios});",
        f"target += -0.5 * (dot_self(residual) - ({explained}));",
    ]
    what = f"likelihood, with {effect_names(spec, chosen)} integrated out direction by direction"
    return ["{", f"  // {what}", *indented(found), "}"]


def _generated(spec: ModelSpec, chosen: Marginalization, eta: Lines) -> Lines:
    """Lines that draw the effects divided by their sds: nesting units first, then directions."""
    part, nestings = blocks(spec, chosen)
    s, n = part.suffix, f"N_l1{part.suffix}"
    found, residual = [*eta, *_distributions(spec, chosen)], f"projected_l1{s}"
    for nest in nestings:
        h = nest.suffix
        found += [
            f"vector[H{h}] z_l3{h} = gradient_l3{h} ./ precision_ratio_l3{h}",
            f"      + {_normals(f'H{h}')} .* inv_sqrt(precision_ratio_l3{h});",
            f"{nest.u} = {nest.sigma} * z_l3{h};",
        ]
        taken = f"sd_ratio_l3{h} * loading_l1{s} .* z_l3{h}[unit_l1{s}]"
        residual = f"(projected_l1{s} - {taken})"
    found += [
        f"vector[{n}] z_l1{s} = sd_ratio_l1{s} .* {residual} ./ precision_ratio_l1{s}",
        f"      + {_normals(n)} .* inv_sqrt(precision_ratio_l1{s});",
        f"{part.u} = {part.sigma} * {product(f'rotation_l1{s}', n, n, f'z_l1{s}')};",
    ]
    return [*drawn_effects(spec, chosen), "{", *indented(found), "}"]


def _normals(size: str) -> str:
    return f"to_vector(normal_rng(zeros_vector({size}), 1))"


STRATEGY = MarginalizationStrategy(
    declared=_declared,
    data=_data,
    transformed_data=_transformed_data,
    likelihood=_likelihood,
    generated=_generated,
)
