"""True shares of the variance per level."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import unknown_name
from rmm.simulation.outcomes.outcomes import OUTCOMES
from rmm.simulation.outcomes.true_predictor import (
    correlated_covariance,
    roles_covariance,
    term_rows,
    weights,
)
from rmm.simulation.recipe_errors import RecipeError

if TYPE_CHECKING:
    from rmm.model.correlated_effects import Roles
    from rmm.model.spec import MemberPart
    from rmm.simulation.data_sets import Drawn, Recipe
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]


def variance_share(drawn: Drawn, *, component: str) -> float:
    """Variance of one component over the sum of all."""
    found = _components(drawn)
    if np.isinf(found[component]):
        return 1.0
    return found[component] / sum(found.values())


def check_share(recipe: Recipe, *, component: str) -> None:
    """Check the component's name."""
    known = _names(recipe.truth)
    if component not in known:
        raise RecipeError(
            "component", unknown_name(component, "a variance component of the truth", known)
        )


def _names(truth: Truth) -> list[str]:
    out = []
    for part in truth.spec.members:
        out += [f"members{part.suffix}"] * (part.random or part.correlated)
        if part.correlated:  # one component
            continue
        out += [f"members{part.suffix}, slope of {t.label}" for t in part.block.slopes]
    out += [
        f"members{first.suffix}, covariance with members{second.suffix}"
        for _, _, first, second in _role_pairs(truth)
    ]
    out += [f"nesting units{nest.suffix}" for nest in truth.spec.nestings]
    return [*out, "residual"]


def _role_pairs(truth: Truth) -> list[tuple[Roles, int, MemberPart, MemberPart]]:
    """Pairs of blocks whose effects are correlated (`cor =`), each with its number."""
    return [
        (roles, pair, truth.spec.members[i], truth.spec.members[j])
        for roles in truth.spec.roles
        for pair, (i, j) in enumerate(itertools.combinations(roles.blocks, 2))
    ]


def _components(drawn: Drawn) -> dict[str, float]:
    """Variance of each component; correlated effects of members are one, with covariances."""
    variances, truth, m = expected_variances(drawn), drawn.truth, drawn.memberships
    out = []
    for part in truth.spec.members:
        slopes = [variances.pop(f"{part.u_slope}[{t.label}]") for t in part.block.slopes]
        own = [variances.pop(part.u)] if part.random else []
        if not part.correlated:
            out += [*own, *slopes]
            continue
        _, covariance = correlated_covariance(part, truth.parameters)
        x = [np.ones(len(m.member))] * part.random
        x += [term_rows(t, m, drawn.columns) for t in part.block.slopes]
        c = np.column_stack(x)
        each = weights(part, truth.parameters, m, drawn.columns) ** 2 * np.sum(
            (c @ covariance) * c, 1
        )
        out.append(float(np.add.reduceat(each, m.start[:-1]).mean()))
    for roles, pair, first, second in _role_pairs(truth):
        w = [weights(part, truth.parameters, m, drawn.columns) for part in (first, second)]
        above = np.triu_indices(len(roles.blocks), 1)
        covariance = roles_covariance(roles, truth.parameters)[above][pair]
        out.append(2 * covariance * float(np.add.reduceat(w[0] * w[1], m.start[:-1]).mean()))
    return dict(zip(_names(truth), [*out, *variances.values()], strict=True))


def expected_variances(drawn: Drawn) -> dict[str, float]:
    """What each kind of effect adds to the variance of a group, on average over the groups.

    Parameters
    ----------
    drawn : Drawn

    Returns
    -------
    dict
        Name of the effects as in `Drawn.effects`, and ``residual`` -> variance on the scale of the
        linear predictor, given memberships, covariates and parameters.
    """
    truth, m, out = drawn.truth, drawn.memberships, {}
    b = truth.parameters
    for part in truth.spec.members:
        w = weights(part, b, m, drawn.columns)

        def spread(factor: Array | float, w: Array = w) -> float:
            return float(np.add.reduceat(w**2 * factor, m.start[:-1]).mean())

        if part.block.covariance is not None:
            covariance = truth.covariances[part.block.covariance].of(m.member_labels)
            out[part.u] = b[part.sigma] ** 2 * _related_spread(w, m.member, m.start, covariance)
        elif part.random:
            steps = _steps(drawn, part.block.autoregressive)
            out[part.u] = b[part.sigma] ** 2 * spread(steps)
        for term in part.block.slopes:
            sd = b[f"{part.sigma_slope}[{term.label}]"]
            x = term_rows(term, m, drawn.columns)
            out[f"{part.u_slope}[{term.label}]"] = sd**2 * spread(x**2)
    for nest in truth.spec.nestings:
        out[nest.u] = b[nest.sigma] ** 2
    out["residual"] = own_noise(drawn)
    return out


def _related_spread(w: Array, member: Array, start: Array, covariance: Array) -> float:
    """Mean over groups of w'Aw."""
    total = 0.0
    for first, last in itertools.pairwise(start):
        who = member[first:last]
        total += float(w[first:last] @ covariance[np.ix_(who, who)] @ w[first:last])
    return total / (len(start) - 1)


def own_noise(drawn: Drawn) -> float:
    """Variance of the outcome's own noise on the scale of the linear predictor."""
    truth = drawn.truth
    return float(OUTCOMES[truth.spec.family.name].noise(truth, float(np.mean(drawn.outcome))))


def _steps(drawn: Drawn, autoregressive: bool | str) -> Array | float:
    """(M,) steps that a random walk has taken: how many groups of the member are not later."""
    if autoregressive is False:
        return 1.0
    m = drawn.memberships
    time = np.arange(m.counts["group"], dtype=float)
    if isinstance(autoregressive, str):
        time = drawn.by_group(autoregressive)
    rows, out = time[m.group], np.empty(len(m.member))
    for member in np.unique(m.member):
        here = np.flatnonzero(m.member == member)
        out[here[np.argsort(rows[here], kind="stable")]] = np.arange(1, len(here) + 1)
    return out
