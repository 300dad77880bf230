"""The data-generating model: formula and parameter values, checked, ready to draw from.

This file shares the names of parameters with the package (`rmm.model.spec`), but no code that turns
data into a linear predictor: a mistake in one then shows against the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rmm.formula.prior_syntax import Prior
from rmm.formula.terms import Formula, Term
from rmm.formula.weights.weight_function import (
    leaf_columns,
    value_columns,
)
from rmm.model.spec import ModelSpec
from rmm.simulation.covariates.endogenous import Dependence
from rmm.simulation.related_effects import EffectCovariance
from rmm.simulation.truth_priors import draw_values


@dataclass(frozen=True)
class Truth:
    """A data-generating model.

    Attributes
    ----------
    outcomes : tuple of str
        Names of the outcome columns: one, two for ``Surv(time, event)``, three with an
        entry.
    parameters : mapping
        True values, by name (``b_l1[x]``), in the order of the model: those that are the same in
        every data set, and after `drawn` all of them.
    effects : mapping
        Distribution of the random effects, by name.
    priors : mapping
        Parameter -> prior from which its true value is drawn for each data set.
    options : mapping
        The family's own keys, such as ``censoring``.
    endogenous : mapping
        Random effect -> how it depends on covariates; see `Dependence`.
    covariances : mapping
        Known covariance matrices of member effects, by their names in the formula.
    """

    formula: Formula
    spec: ModelSpec
    outcomes: tuple[str, ...]
    parameters: Mapping[str, float]
    effects: Mapping[str, Mapping[str, Any]]
    priors: Mapping[str, Prior] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    endogenous: Mapping[str, Dependence] = field(default_factory=dict)
    covariances: Mapping[str, EffectCovariance] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, in the order of the model."""
        return parameter_names(self.spec)

    def drawn(self, rng: np.random.Generator) -> Truth:
        """The truth of one data set; without priors it is the same, and `rng` is not touched."""
        if not self.priors:
            return self
        values = {**self.parameters, **draw_values(self.priors, rng)}
        return replace(self, parameters={name: values[name] for name in self.names})


def level3(formula: Formula, levels: Mapping[str, str]) -> dict[str, int]:
    """Terms outside `mm()` that belong to the first `hm()` with random effects."""
    blocks = [i for i, block in enumerate(formula.nestings) if block.effect == "RE"]
    if not blocks:
        return {}
    explicit = {t.label for b in formula.nestings for t in b.terms or ()}
    return {
        term.label: blocks[0]
        for term in formula.terms
        if term.label not in explicit
        and all(levels.get(c) == "nesting" for c in term_columns(term))
        # What `within =` names besides covariates outside mm() is the nesting unit.
        and all(
            levels.get(c, "nesting") == "nesting"
            for a in term.atoms
            for c in leaf_columns(a.expression)
        )
    }


def term_columns(term: Term) -> tuple[str, ...]:
    """Columns whose values are those of a term."""
    return tuple(c for atom in term.atoms for c in value_columns(atom.expression))


def parameter_names(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the structural parameters, one per element, in the order of summaries."""
    elements: dict[str, list[str]] = {
        "b_l2": ["Intercept"] * spec.intercept + [t.label for t in spec.terms]
    }
    for member in spec.members:
        # In the order of the programs.
        features = (*member.precomputed_features, *member.features_in_program)
        elements[member.b] = [t.label for t in member.block.terms]
        elements[member.b] += [f.label for f in features]
        elements[member.sigma_slope] = [t.label for t in member.block.slopes]
        elements[member.cor] = list(member.pairs(elements[member.sigma_slope]))
        elements[member.b_f] = [f.label for f in member.parametric_features]
        elements[member.b_w] = list(member.block.weight.parameters)
    elements |= {roles.cor: list(roles.pairs) for roles in spec.roles}
    levels = [str(v) for v in spec.family.options.get("levels", ())]
    elements["tau"] = [f"{a}|{b}" for a, b in itertools.pairwise(levels)]
    for nesting in spec.nestings:
        elements[nesting.b] = [t.label for t in nesting.terms]
    out: list[str] = []
    for parameter in spec.parameters:
        if parameter.structural:
            named = [f"{parameter.name}[{e}]" for e in elements.get(parameter.name, [])]
            out += named if parameter.dims else [parameter.name]
    return tuple(out)
