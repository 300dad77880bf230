"""Stan lines of effects that are integrated out direction by direction: see `choose`.

They stand twice in a program: in the model, where they give the likelihood, and in the generated
quantities, where the effects are drawn.
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
    lines = [
        f"// The known weights are a matrix W = V' diag(singular_l1{s}) Q' of groups x members.",
        f"// Given the sds, the elements of Q' {part.u} are independent of each other: there are",
        f"// {n} directions, sorted by nesting unit. V = basis_l1{s}, Q = turn_l1{s}, both sparse.",
        f"vector[{n}] singular_l1{s};  // singular values of the weights",
        *declared_sparse(f"basis_l1{s}", n, "J", "V: residuals along each direction"),
        *declared_sparse(f"turn_l1{s}", n, n, "Q: member effects from directions"),
    ]
    for nest in nestings:
        h = nest.suffix
        lines += [
            f"array[J] int<lower=1, upper=J> order_l3{h};  // groups, sorted by nesting unit",
            f"array[H{h} + 1] int<lower=1> order_start_l3{h};  // first group of each unit",
            f"array[{n}] int<lower=1, upper=H{h}> unit_l1{s};  // nesting unit of each direction",
            f"array[H{h} + 1] int<lower=1> unit_start_l1{s};  // first direction of each unit",
            f"vector[{n}] load_l1{s};  // V 1: nesting effects along each direction",
            f"vector[H{h}] count_l3{h};  // groups of each nesting unit",
        ]
    return lines


def _transformed_data(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    s, n, lines = part.suffix, f"N_l1{part.suffix}", []
    for nest in nestings:
        h = nest.suffix
        lines += [
            f"vector[J] one_l3{h} = rep_vector(1, J);",
            f"array[J] int row_l3{h} = linspaced_int_array(J, 1, J);",
            f"array[{n}] int direction_l1{s} = linspaced_int_array({n}, 1, {n});",
        ]
    return lines


def _data(spec: ModelSpec, design: Design, chosen: Marginalization) -> dict[str, Any]:
    part, nestings = blocks(spec, chosen)
    found, s = spectrum(chosen, spec, design), part.suffix
    out: dict[str, Any] = {f"singular_l1{s}": found.singular}
    out |= sparse_values(f"basis_l1{s}", found.basis) | sparse_values(f"turn_l1{s}", found.turn)
    for i, nest in zip(chosen.nestings, nestings, strict=True):
        n, h = design.nestings[i], nest.suffix
        out |= {
            f"order_l3{h}": np.argsort(n.unit, kind="stable") + 1,
            f"order_start_l3{h}": row_starts(n.unit, n.n_units),
            f"unit_l1{s}": found.unit + 1,
            f"unit_start_l1{s}": row_starts(found.unit, n.n_units),
            f"load_l1{s}": found.basis @ np.ones(design.J),
            f"count_l3{h}": np.bincount(n.unit, minlength=n.n_units),
        }
    return out


def _along(spec: ModelSpec, chosen: Marginalization) -> Lines:
    """Residuals along the directions and what they say about effects in units of their sds."""
    part, nestings = blocks(spec, chosen)
    s, n, sd = part.suffix, f"N_l1{part.suffix}", spec.family.normal_sd
    lines = [
        f"vector[J] residual = (y - eta) / {sd};",
        f"vector[{n}] signal_l1{s} = {part.sigma} / {sd} * singular_l1{s};",
        f"vector[{n}] along_l1{s} = {product(f'basis_l1{s}', n, 'J', 'residual')};",
        "// precision given the outcome over precision of the prior, by direction",
        f"vector[{n}] gain_l1{s} = 1 + square(signal_l1{s});",
        f"vector[{n}] shrunk_l1{s} = along_l1{s} - along_l1{s} ./ gain_l1{s};",
    ]
    for nest in nestings:
        h = nest.suffix
        units = f"H{h}, {n}, {{}}, direction_l1{s}, unit_start_l1{s},\n{' ' * 40}{{}}"
        taken = units.format(f"load_l1{s}", f"shrunk_l1{s}")
        used = units.format(f"square(load_l1{s})", f"1 - inv(gain_l1{s})")
        lines += [
            f"real signal_l3{h} = {nest.sigma} / {sd};",
            f"vector[H{h}] along_l3{h}",
            f"    = signal_l3{h} * (csr_matrix_times_vector(H{h}, J, one_l3{h}, row_l3{h},"
            f" order_start_l3{h},",
            f"{' ' * 40}residual[order_l3{h}])",
            f"                   - csr_matrix_times_vector({taken}));",
            f"vector[H{h}] gain_l3{h}",
            f"    = 1 + square(signal_l3{h})",
            f"          * (count_l3{h} - csr_matrix_times_vector({used}));",
        ]
    return lines


def _likelihood(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    s, sd = part.suffix, spec.family.normal_sd
    gains, explained = f"sum(log(gain_l1{s}))", f"dot_product(along_l1{s}, shrunk_l1{s})"
    for nest in nestings:
        h = nest.suffix
        gains += f" + sum(log(gain_l3{h}))"
        explained += f"\n      + dot_product(along_l3{h}, along_l3{h} ./ gain_l3{h})"
    found = [
        *_along(spec, chosen),
        f"target += -J * log({sd}) - 0.5 * ({gains});",
        f"target += -0.5 * (dot_self(residual) - ({explained}));",
    ]
    what = f"{effect_names(spec, chosen)} integrated out, direction by direction"
    return ["{", f"  // {what}", *indented(found), "}"]


def _generated(spec: ModelSpec, chosen: Marginalization, eta: Lines) -> Lines:
    """Effects in units of their sds, those of nesting units first, then those by direction."""
    part, nestings = blocks(spec, chosen)
    s, n = part.suffix, f"N_l1{part.suffix}"
    found, rest = [*eta, *_along(spec, chosen)], f"along_l1{s}"
    for nest in nestings:
        h = nest.suffix
        found += [
            f"vector[H{h}] effect_l3{h} = along_l3{h} ./ gain_l3{h}",
            f"      + {_normals(f'H{h}')} .* inv_sqrt(gain_l3{h});",
            f"{nest.u} = {nest.sigma} * effect_l3{h};",
        ]
        rest = f"(along_l1{s} - signal_l3{h} * load_l1{s} .* effect_l3{h}[unit_l1{s}])"
    found += [
        f"vector[{n}] effect_l1{s} = signal_l1{s} .* {rest} ./ gain_l1{s}",
        f"      + {_normals(n)} .* inv_sqrt(gain_l1{s});",
        f"{part.u} = {part.sigma} * {product(f'turn_l1{s}', n, n, f'effect_l1{s}')};",
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
