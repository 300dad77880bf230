"""Stan lines of effects that are sampled about a normal approximation: see `normal_approximation`.

The lines that compute the effects stand twice in a program: in the model, and in the generated
quantities, so that only scores are parameters.
"""

from __future__ import annotations

from typing import Any

from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.backends.stan.marginalize.normal_approximation import approximate, coefficients
from rmm.backends.stan.marginalize.strategy import (
    Lines,
    MarginalizationStrategy,
    blocks,
    effect_declarations,
    effect_names,
    indented,
)
from rmm.backends.stan.sparse import declared_sparse, product, row_starts, sparse_values
from rmm.design.design import Design
from rmm.model.spec import MemberPart, ModelSpec, NestingPart


def _declared(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    s = part.suffix
    n = f"N_l1{s}"
    lines = [
        f"// {part.u} is sampled along {n} directions in which it is nearly independent given the",
        "// rest, by a normal approximation of the likelihood. They are sorted by nesting unit.",
        f"vector[{n}] singular_l1{s};  // singular values of the weights",
        f"vector[{n}] along_l1{s};  // working response along the directions",
        "int<lower=0> K_fixed;  // coefficients of predictors",
        f"matrix[{n}, K_fixed] fixed_l1{s};  // predictors along the directions",
        *declared_sparse(f"turn_l1{s}", n, n, "member effects from directions"),
    ]
    for nest in nestings:
        h = nest.suffix
        lines += [
            f"vector[{n}] load_l1{s};  // nesting effects along the directions",
            f"array[{n}] int<lower=1, upper=H{h}> unit_l1{s};  // nesting unit of each direction",
            f"array[H{h} + 1] int<lower=1> unit_start_l1{s};  // first direction of each unit",
            f"vector[H{h}] information_l3{h};  // precision of the working response by unit",
            f"vector[H{h}] along_l3{h};  // working response by unit, times precision",
            f"matrix[H{h}, K_fixed] fixed_l3{h};  // predictors by unit, times precision",
        ]
    return lines


def _transformed_data(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    s = part.suffix
    return (
        [f"array[N_l1{s}] int direction_l1{s} = linspaced_int_array(N_l1{s}, 1, N_l1{s});"]
        if nestings
        else []
    )


def _declarations(spec: ModelSpec, chosen: Marginalization) -> Lines:
    part, nestings = blocks(spec, chosen)
    return [
        f"vector[N_l1{part.suffix}] score_{part.u};  // {part.u} by direction, standardised",
        *(f"vector[H{n.suffix}] score_{n.u};  // {n.u}, standardised" for n in nestings),
    ]


def _effects(spec: ModelSpec, chosen: Marginalization, density: bool = True) -> Lines:
    """Lines that define the effects, and add their density given the sds to the target."""
    part, nestings = blocks(spec, chosen)
    s = part.suffix
    n = f"N_l1{s}"
    found = [
        f"vector[{n}] signal_l1{s} = {part.sigma} * singular_l1{s};",
        "// precision in the approximation over precision of the prior, by direction",
        f"vector[{n}] gain_l1{s} = 1 + square(signal_l1{s});",
    ]
    coefs = coefficients(spec)
    if coefs:
        found.append(f"vector[K_fixed] fixed = {_stacked(coefs)};")
    minus = " - fixed_{} * fixed" if coefs else ""
    found.append(f"vector[{n}] rest_l1{s} = along_l1{s}{minus.format(f'l1{s}')};")
    rest, squares, gains = f"rest_l1{s}", f"dot_self(effect_l1{s})", f"sum(log(gain_l1{s}))"
    for nest in nestings:
        h = nest.suffix
        found += _nested(part, nest, f"along_l3{h}{minus.format(f'l3{h}')}")
        rest = f"(rest_l1{s} - load_l1{s} .* {nest.u}[unit_l1{s}])"
        squares += f" + dot_self(effect_l3{h})"
        gains += f" + sum(log(gain_l3{h}))"
    found += [
        f"vector[{n}] effect_l1{s} = signal_l1{s} .* {rest} ./ gain_l1{s}",
        f"      + score_{part.u} .* inv_sqrt(gain_l1{s});",
        f"{part.u} = {part.sigma} * {product(f'turn_l1{s}', n, n, f'effect_l1{s}')};",
    ]
    if density:
        found.append("// prior of the effects, and the Jacobian of their scores")
        found.append(f"target += -0.5 * ({squares} + {gains});")
    names = effect_names(spec, chosen)
    return [
        f"// {names}: mean of a normal approximation, plus its sd times the scores",
        *effect_declarations(spec, chosen),
        "{",
        *indented(found),
        "}",
    ]


def _stacked(coefs: tuple[str, ...]) -> str:
    """The coefficients as one vector."""
    if coefs == ("alpha",):
        return "[alpha]'"
    text = coefs[0]
    for name in coefs[1:]:
        text = f"append_row({text}, {name})"
    return text


def _nested(part: MemberPart, nest: NestingPart, rest: str) -> Lines:
    """Effects of nesting units, those of members out of the way."""
    s, h = part.suffix, nest.suffix
    units = f"H{h}, N_l1{s}, {{}}, direction_l1{s}, unit_start_l1{s},\n{' ' * 30}{{}}"
    taken = units.format(f"load_l1{s}", f"rest_l1{s} - rest_l1{s} ./ gain_l1{s}")
    used = units.format(f"square(load_l1{s})", f"1 - inv(gain_l1{s})")
    return [
        f"vector[H{h}] gain_l3{h} = 1 + square({nest.sigma})\n"
        f"    * (information_l3{h} - csr_matrix_times_vector({used}));",
        f"vector[H{h}] effect_l3{h} = {nest.sigma}\n"
        f"    * ({rest} - csr_matrix_times_vector({taken})) ./ gain_l3{h}\n"
        f"    + score_{nest.u} .* inv_sqrt(gain_l3{h});",
        f"{nest.u} = {nest.sigma} * effect_l3{h};",
    ]


def _data(spec: ModelSpec, design: Design, chosen: Marginalization) -> dict[str, Any]:
    part, nestings = blocks(spec, chosen)
    found, s = approximate(chosen, spec, design), part.suffix
    out: dict[str, Any] = {
        f"singular_l1{s}": found.singular,
        f"along_l1{s}": found.along,
        "K_fixed": found.fixed.shape[1],
        f"fixed_l1{s}": found.fixed,
    }
    out |= sparse_values(f"turn_l1{s}", found.turn)
    for i, nest in zip(chosen.nestings, nestings, strict=True):
        h, count = nest.suffix, design.nestings[i].n_units
        out |= {
            f"load_l1{s}": found.load,
            f"unit_l1{s}": found.unit + 1,
            f"unit_start_l1{s}": row_starts(found.unit, count),
            f"information_l3{h}": found.unit_information,
            f"along_l3{h}": found.unit_along,
            f"fixed_l3{h}": found.unit_fixed,
        }
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
