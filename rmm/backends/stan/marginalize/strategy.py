"""Stan code contributed by a marginalisation strategy."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rmm.backends.stan.marginalize.choose import Marginalization
from rmm.design.design import Design
from rmm.model.spec import MemberPart, ModelSpec, NestingPart

Lines = list[str]


def _none(spec: ModelSpec, chosen: Marginalization) -> Lines:
    return []


def _no_data(spec: ModelSpec, design: Design, chosen: Marginalization) -> dict[str, Any]:
    return {}


def _no_draws(spec: ModelSpec, chosen: Marginalization, eta: Lines) -> Lines:
    return []


@dataclass(frozen=True)
class MarginalizationStrategy:
    """Stan code contributed by a marginalisation strategy.

    Except for `functions`, attributes are functions of the model and the choice of effects.

    Attributes
    ----------
    functions : str
        Definitions of Stan functions.
    declared, transformed_data : callable
        Declarations of data, and lines that transform data.
    data : callable
        ``(spec, design, chosen) -> dict``: values of the data that the program that samples all
        effects does not have.
    declarations : callable
        Declarations of the parameters that replace the effects.
    effects : callable
        Lines of the model that define the effects, before the linear predictor.
    likelihood : callable
        Lines of the model block that add the likelihood to the target, after the linear
        predictor. If there are none, the lines are those of the family.
    generated : callable
        ``(spec, chosen, eta) -> lines`` that compute the effects in the generated quantities;
        `eta` are the lines of the linear predictor.
    """

    declared: Callable[[ModelSpec, Marginalization], Lines] = _none
    data: Callable[[ModelSpec, Design, Marginalization], dict[str, Any]] = _no_data
    functions: str = ""
    transformed_data: Callable[[ModelSpec, Marginalization], Lines] = _none
    declarations: Callable[[ModelSpec, Marginalization], Lines] = _none
    effects: Callable[[ModelSpec, Marginalization], Lines] = _none
    likelihood: Callable[[ModelSpec, Marginalization], Lines] = _none
    generated: Callable[[ModelSpec, Marginalization, Lines], Lines] = _no_draws


def indented(lines: Lines) -> Lines:
    """Lines of a block within braces."""
    return [f"  {line}" for text in lines for line in text.splitlines()]


def comment(text: str) -> Lines:
    """A comment of as many lines as it needs."""
    return [f"// {line}" for line in textwrap.wrap(text, 90, break_long_words=False)]


def blocks(spec: ModelSpec, chosen: Marginalization) -> tuple[MemberPart, list[NestingPart]]:
    """The block of members that has directions, and the nesting blocks that contain them."""
    return spec.members[chosen.members[0]], [spec.nestings[i] for i in chosen.nestings]


def direction_indices(part: MemberPart) -> Lines:
    """Column indices of the sparse matrices that sum directions within nesting units."""
    s = part.suffix
    return [
        *comment(
            "In the model block, csr_matrix_times_vector() sums over the directions of each "
            f"nesting unit. direction_l1{s} has the column indices for these sums."
        ),
        f"array[N_l1{s}] int direction_l1{s} = linspaced_int_array(N_l1{s}, 1, N_l1{s});",
    ]


def effect_declarations(spec: ModelSpec, chosen: Marginalization) -> Lines:
    """Declarations of effects that are not parameters of the program."""
    members = [spec.members[i] for i in chosen.members]
    nestings = [spec.nestings[i] for i in chosen.nestings]
    lines = [f"vector[N_l1{p.suffix}] {p.u};" for p in members]
    return lines + [f"vector[H{n.suffix}] {n.u};" for n in nestings]


def effect_names(spec: ModelSpec, chosen: Marginalization) -> str:
    """Names of the effects, for comments: ``"u_l1 and u_l3"``."""
    names = [spec.members[i].u for i in chosen.members]
    return " and ".join(names + [spec.nestings[i].u for i in chosen.nestings])


def drawn_effects(spec: ModelSpec, chosen: Marginalization) -> Lines:
    """Declarations of effects that are drawn in the generated quantities."""
    return [
        *comment(
            f"{effect_names(spec, chosen)}, drawn given the parameters and the outcome. First, "
            "lines of the model block are repeated, because Stan keeps no variables of that block."
        ),
        *effect_declarations(spec, chosen),
    ]
