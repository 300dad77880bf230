"""Stan code contributed by a marginalisation strategy."""

from __future__ import annotations

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
    """Stan code contributed by a marginalisation strategy; each a function of model and choice.

    Attributes
    ----------
    functions : str
        Texts of functions.
    declared, transformed_data : callable
        Declarations of data, and what is computed of them once.
    data : callable
        ``(spec, design, chosen) -> dict``: values of the declared data, besides those of the
        program that samples all effects.
    declarations : callable
        Parameters in place of the effects.
    effects : callable
        Lines of the model that define the effects, before the linear predictor.
    likelihood : callable
        Lines of the model that give the likelihood, after the rest of the linear predictor; with
        none the family gives it.
    generated : callable
        ``(spec, chosen, eta) -> lines``: what draws the effects; `eta` are the lines of the
        linear predictor.
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


def blocks(spec: ModelSpec, chosen: Marginalization) -> tuple[MemberPart, list[NestingPart]]:
    """The one block of members that has directions, and the units within which they stay."""
    return spec.members[chosen.members[0]], [spec.nestings[i] for i in chosen.nestings]


def effect_declarations(spec: ModelSpec, chosen: Marginalization) -> Lines:
    """Declarations of the effects, where they are no parameters."""
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
    comment = f"// {effect_names(spec, chosen)}, drawn given the parameters and the outcome"
    return [comment, *effect_declarations(spec, chosen)]
