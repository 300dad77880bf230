"""Data that the JAGS and the Stan program of a model have in common, and their names.

Indices are 1-based, and vectors by membership have M elements. Each language adds the data that
only its programs have (`rmm.backends.jags.program`, `rmm.backends.stan.program`).

Names of a user never meet names of a program: variables of weight functions are ``x_seats``, and
``x_seats__party`` in a block of several. No other name begins with ``x_``. Names of blocks are
appended to names of the model, as in ``sigma_l1_party``.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from rmm.backends import feature_data
from rmm.design.columns.imputed_columns import ImputedValues
from rmm.design.design import Design, Nesting
from rmm.design.members.memberships import Membership
from rmm.design.priors.group_sizes import at_typical_size
from rmm.formula.expression import describe
from rmm.formula.weights.render import input_key, uses_log_size, uses_size
from rmm.formula.weights.weight_function import LOG_N1_OF_ONE
from rmm.model.spec import MemberPart, ModelSpec, NestingPart


def shared_data(spec: ModelSpec, design: Design) -> dict[str, Any]:
    """Values by the names that both languages use, without those of the outcome and priors."""
    out: dict[str, Any] = {"J": design.J}
    if spec.offset:
        out["offset_l2"] = design.offset
    if spec.terms:
        out |= {"K_l2": design.X_l2.shape[1], "X_l2": design.X_l2, "center_l2": design.center_l2}
    for part, member in zip(spec.members, design.members, strict=True):
        s = part.suffix
        out |= {f"{name}{s}": value for name, value in _predictors(part, member).items()}
        out |= {f"{name}{s}": value for name, value in _effects(part, member).items()}
        out |= _weight_values(part, member)
        out |= feature_data.values(part, member)
    out |= {f"K_pair_l1{roles.suffix}": len(roles.pairs) for roles in spec.roles}
    for one, found in zip(spec.imputed, design.imputed, strict=True):
        out |= {f"{name}{one.suffix}": value for name, value in _imputed(found).items()}
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        out |= {f"{n}{nest.suffix}": value for n, value in _nesting(nest, nesting).items()}
    return out


def standard_name(b_w: str) -> str:
    """Name of the standardised weight coefficients: ``b_w`` divided by ``scale_b_w``."""
    return f"std_{b_w}"


def input_name(identifier: str, suffix: str) -> str:
    """Name of a weight variable's data vector: ``x_seats``, or ``x_seats__party`` in a block.

    Identifiers and names of blocks have no two underscores in a row, so that no two are equal.
    """
    return f"{identifier}_{suffix}" if suffix else identifier


def raw_name(name: str) -> str:
    """Name of what is sampled in place of a parameter: ``sigma_l1_raw``.

    In a block of several it is ``sigma_l1_party__raw``: ``sigma_l1_party_raw`` is the standard
    deviation of a block called ``party_raw``.
    """
    return f"{name}_raw" if re.fullmatch(r"[a-z]+(_slope)?_l\d", name) else f"{name}__raw"


def weight_vectors(part: MemberPart) -> dict[str, str]:
    """Names of the (M,) data vectors of an estimated weight function, and comments on them."""
    s = part.suffix
    out = {input_name(name, s): describe(leaf) for name, leaf in part.weight.inputs}
    if uses_size(part.weight.expression):
        relative = " divided by n_bar (see above)" if at_typical_size(part) else ""
        out[f"n{s}"] = f"n: size of the group{relative}"
    if uses_log_size(part.weight.expression):
        out[f"log_n1{s}"] = f"log(n - 1), n: size of the group; {LOG_N1_OF_ONE:g} for n = 1"
    return out


def weight_names(part: MemberPart) -> dict[str, str]:
    """Names of a weight function's numbers in programs, for `to_jags` and `to_stan`."""
    s = part.suffix
    names = {"n": f"n{s}", "log_n1": f"log_n1{s}"}
    for number, parameter in enumerate(part.weight.parameters, start=1):
        names[f"param:{parameter}"] = f"{part.b_w}[{number}]"
    for identifier, leaf in part.weight.inputs:
        names[f"input:{input_key(leaf)}"] = input_name(identifier, s)
    return names


def _predictors(part: MemberPart, m: Membership) -> dict[str, Any]:
    """Member covariates: by membership where weights are estimated, else sums by group."""
    out: dict[str, Any] = {}
    if part.covariates:
        out |= {"K_l1": len(m.b_center), "center_l1": m.b_center}
    if part.columns:
        out["X_l1"] = m.X
    if part.estimated and part.offset:
        out["offset_l1"] = m.offset
    return out


def _effects(part: MemberPart, m: Membership) -> dict[str, Any]:
    """The members of the memberships, and known weights."""
    out: dict[str, Any] = {}
    if part.estimated or part.features_in_program or part.walk or part.slopes:
        out["M"] = len(m.member)
    if m.walk is not None:
        out["place_l1"] = m.walk.place + 1
    elif part.effects:
        index = "occasion" if part.series else "member"
        out |= {"N_l1": m.n_effects, index: m.effect + 1}
    if m.series is not None:
        out["gap_l1"] = np.where(m.series.first, 0.0, m.series.gap)
    if m.root is not None:
        out["root_l1"] = m.root
    if m.slopes is not None:
        out["K_slope_l1"] = m.slopes.values.shape[1]
        if part.correlated:
            out["K_pair_l1"] = len(part.pairs(m.slopes.labels))
    if part.random and not part.estimated:
        out["weight"] = m.weight
    if part.estimated and part.partial and part.weight.constraint == "total":
        out["J_l1"] = m.n_groups
    return out


def _weight_values(part: MemberPart, m: Membership) -> dict[str, Any]:
    """The data vectors of an estimated weight function, by their names."""
    if not part.estimated:
        return {}
    s = part.suffix
    known = {input_name(name, s): m.inputs[name] for name, _ in part.weight.inputs}
    known |= {f"n{s}": m.n, f"log_n1{s}": m.log_n1}
    return {name: known[name] for name in weight_vectors(part)}


def _imputed(found: ImputedValues) -> dict[str, Any]:
    """A covariate with missing values: those that are known, and what their mean depends on."""
    return {
        "K": found.X.shape[1],
        "N_known": len(found.known),
        "known": found.known,
        "X_known": found.X_known,
        "N": len(found.X),
        "X": found.X,
        "fill": found.fill,
        "column": found.column + 1,
    }


def _nesting(nest: NestingPart, n: Nesting) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if nest.random:
        out |= {"H": n.n_units, "nesting": n.unit + 1}
    if nest.covariates:
        out |= {"K_l3": n.X.shape[1], "X_l3": n.X, "center_l3": n.center}
    return out
