"""Data of a model that the programs of JAGS and of Stan both name, built once.

Indices are 1-based, and vectors by membership have M elements. Each language adds what it alone
needs (`rmm.backends.jags.program`, `rmm.backends.stan.program`).
"""

from __future__ import annotations

from typing import Any

from rmm.backends import feature_data
from rmm.backends.reserved_names import vector_name
from rmm.design.design import Design, Nesting
from rmm.design.members.memberships import Membership
from rmm.formula.weights.render import uses_log_size, uses_size
from rmm.model.spec import MemberPart, ModelSpec, NestingPart


def shared_data(spec: ModelSpec, design: Design) -> dict[str, Any]:
    """Values by the names that both languages use; outcome and priors are not among them."""
    out: dict[str, Any] = {"J": design.J}
    if spec.terms:
        out |= {"K_l2": design.X_l2.shape[1], "X_l2": design.X_l2, "center_l2": design.center_l2}
    for part, member in zip(spec.members, design.members, strict=True):
        s = part.suffix
        out |= {f"{name}{s}": value for name, value in _predictors(part, member).items()}
        out |= {f"{name}{s}": value for name, value in _effects(part, member).items()}
        out |= {vector_name(n, s): v for n, v in _weight_values(part, member).items()}
        out |= feature_data.values(part, member)
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        out |= {f"{n}{nest.suffix}": value for n, value in _nesting(nest, nesting).items()}
    return out


def weight_vectors(part: MemberPart) -> list[str]:
    """Identifiers of the data vectors of an estimated weight function, (M,) each."""
    names = [identifier for identifier, _ in part.weight.inputs]
    if uses_size(part.weight.expression):
        names.append("n")
    if uses_log_size(part.weight.expression):
        names.append("log_n1")
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
    """Which effects each membership has, and its known weight."""
    out: dict[str, Any] = {}
    if part.estimated or part.features_in_program or part.walk or part.slopes:
        out["M"] = len(m.member)
    if m.walk is not None:
        out["place_l1"] = m.walk.place + 1
    elif part.effects:
        out |= {"N_l1": m.n_members, "member": m.member + 1}
    if m.slopes is not None:
        out["K_slope_l1"] = m.slopes.values.shape[1]
    if part.random and not part.estimated:
        out["weight"] = m.weight
    if part.estimated and part.partial and part.weight.constraint == "total":
        out["J_l1"] = m.n_groups
    return out


def _weight_values(part: MemberPart, m: Membership) -> dict[str, Any]:
    """What the function of estimated weights is computed from."""
    if not part.estimated:
        return {}
    known = {**m.inputs, "n": m.n, "log_n1": m.log_n1}
    return {name: known[name] for name in weight_vectors(part)}


def _nesting(nest: NestingPart, n: Nesting) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if nest.random:
        out |= {"H": n.n_units, "nesting": n.unit + 1}
    if nest.covariates:
        out |= {"K_l3": n.X.shape[1], "X_l3": n.X, "center_l3": n.center}
    return out
