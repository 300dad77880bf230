"""What a way of not sampling effects as they stand adds to a Stan program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rmm.design.design import Design
from rmm.design.integration import Integration
from rmm.model.spec import MemberPart, ModelSpec, NestingPart

Lines = list[str]


def _none(spec: ModelSpec, integration: Integration) -> Lines:
    return []


def _no_data(spec: ModelSpec, design: Design, integration: Integration) -> dict[str, Any]:
    return {}


def _no_draws(spec: ModelSpec, integration: Integration, eta: Lines) -> Lines:
    return []


@dataclass(frozen=True)
class Way:
    """Lines of a way of `rmm.design.integration`; each a function of the model and the integration.

    Attributes
    ----------
    functions : str
        Texts of functions.
    declared, transformed_data : callable
        Declarations of data, and what is computed of them once.
    data : callable
        ``(spec, design, integration) -> dict``: values of the declared data, besides those of the
        program that samples all effects.
    declarations : callable
        Parameters in place of the effects.
    effects : callable
        Lines of the model that define the effects, before the linear predictor.
    likelihood : callable
        Lines of the model that give the likelihood, after the rest of the linear predictor; with
        none the family gives it.
    generated : callable
        ``(spec, integration, eta) -> lines``: what draws the effects; `eta` are the lines of the
        linear predictor.
    """

    declared: Callable[[ModelSpec, Integration], Lines] = _none
    data: Callable[[ModelSpec, Design, Integration], dict[str, Any]] = _no_data
    functions: str = ""
    transformed_data: Callable[[ModelSpec, Integration], Lines] = _none
    declarations: Callable[[ModelSpec, Integration], Lines] = _none
    effects: Callable[[ModelSpec, Integration], Lines] = _none
    likelihood: Callable[[ModelSpec, Integration], Lines] = _none
    generated: Callable[[ModelSpec, Integration, Lines], Lines] = _no_draws


def indented(lines: Lines) -> Lines:
    """Lines of a block within braces."""
    return [f"  {line}" for text in lines for line in text.splitlines()]


def blocks(spec: ModelSpec, integration: Integration) -> tuple[MemberPart, list[NestingPart]]:
    """The one block of members that has directions, and the units within which they stay."""
    return spec.members[integration.members[0]], [spec.nestings[i] for i in integration.nestings]


def effect_declarations(spec: ModelSpec, integration: Integration) -> Lines:
    """Declarations of the effects, where they are no parameters."""
    members = [spec.members[i] for i in integration.members]
    nestings = [spec.nestings[i] for i in integration.nestings]
    lines = [f"vector[N_l1{p.suffix}] {p.u};" for p in members]
    return lines + [f"vector[H{n.suffix}] {n.u};" for n in nestings]
