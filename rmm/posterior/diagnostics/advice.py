"""What to try when draws cannot be trusted: rules, one row each, from what a fit shows.

A rule looks at a fit and says, in a short message, which parameter is the problem, what that means
in this model and what to do; or it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from rmm.backends import find_backend
from rmm.backends.base import Settings
from rmm.design import identifiability
from rmm.design.prepare import Model
from rmm.model.spec import MemberPart
from rmm.posterior.diagnostics.contraction import MOSTLY_PRIOR, mostly_prior
from rmm.posterior.diagnostics.summary import INNER_LIMIT, RHAT_LIMIT, Diagnostics
from rmm.tables.read import Array

FLAT_TAIL = 4.0  # posterior sd of a standardised weight coefficient that no data would leave
_WIDE = 2.0  # sd of a prior per standard deviation of its variable; the default's is 1
FEW_UNITS = 10  # so few units say next to nothing about their standard deviation
_NEAR_ZERO = 0.08  # 2.5% quantile of a sd, in its 97.5% quantiles: it reaches down to zero
_APART = 1.05  # R-hat above which chains are in different places rather than short
_MOST_FACTOR = 20  # more draws than this factor are no plan
_DEFAULT_DELTA = 0.8
_NAMED = 3  # parameters that a sentence names
_POINTS_PER_DRAW = 4  # at most, that laplace takes for an effective draw that is wanted
_MOST_ESS = 1_000_000  # the largest `ess` that laplace accepts


@dataclass(frozen=True)
class Evidence:
    """What the rules look at.

    Attributes
    ----------
    model : Model
    backend : str
    settings : Settings
    table : pandas.DataFrame
        Summary of all structural parameters.
    diagnostics : Diagnostics
    points : int
        Points that have weights, where draws have been weighted.
    """

    model: Model
    backend: str
    settings: Settings
    table: pd.DataFrame
    diagnostics: Diagnostics
    points: int = 0

    @cached_property  # few rules look at it, and none where a fit has converged
    def together(self) -> dict[str, list[list[Any]]]:
        """Name of member effects -> sets of members (labels) that are always together."""
        found: dict[str, list[list[Any]]] = {}
        for part, units in zip(self.model.spec.blocks, self.model.grouped.blocks, strict=True):
            if part.random:
                sets = identifiability.always_together(units.code, units.group)
                found[part.u] = [[units.labels[code] for code in members] for members in sets]
        return found

    @property
    def wanted(self) -> int:
        """Effective draws wanted of each parameter."""
        return int(self.diagnostics.ess_wanted)

    @property
    def weighted(self) -> bool:
        """Whether draws have been weighted: there are no chains that mix well or badly."""
        return self.diagnostics.pareto_k is not None

    @property
    def gibbs(self) -> bool:
        """Whether draws are those of a Gibbs sampler, which mixes slowly in some models."""
        engine = find_backend(self.backend)
        return not (engine.weighted_draws or engine.hamiltonian)

    def poor(self, prefix: str = "") -> list[str]:
        """Parameters without enough effective draws or with chains apart, worst first."""
        if self.weighted:
            return []
        table = self.table[self.table.index.str.startswith(prefix)]
        rhat = table["rhat"].fillna(np.inf)
        ess = table[["ess_bulk", "ess_tail"]].min(axis=1).fillna(0.0)
        bad = (rhat > RHAT_LIMIT) | (ess < self.wanted)
        return [str(name) for name in ess[bad].sort_values(kind="stable").index]

    def near_zero(self, name: str) -> bool:
        """Whether a standard deviation's posterior reaches down to zero."""
        return float(self.table["q2.5"][name]) < _NEAR_ZERO * float(self.table["q97.5"][name])

    @property
    def units(self) -> dict[str, tuple[int, str]]:
        """Standard deviation of effects -> number of units that have them, and what they are."""
        spec, design = self.model.spec, self.model.design
        out = {
            part.sigma: (
                member.n_effects,
                "memberships"
                if part.walk
                else "members at different times"
                if part.series
                else "members",
            )
            for part, member in zip(spec.members, design.members, strict=True)
            if part.random and part.smooth is None
        }
        for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
            if nest.random:
                out[nest.sigma] = (nesting.n_units, "nesting units")
        return out


def flat_weights(evidence: Evidence) -> str | None:
    """A weight coefficient so wide that no data left it: the likelihood is flat in its tail."""
    found = wide_weights(evidence.model, evidence.table)
    if not found:
        return None
    (name, sd), (vector, _, _) = found[0], found[0][0].partition("[")
    return (
        f"{name} has a posterior sd of {sd:.0f} per standard deviation of its variable. At such "
        "large values the weights no longer change, the likelihood is flat, and only the prior "
        "decides. Do not report this coefficient; fit again with a narrower prior, such as "
        f'"{vector} ~ normal(0, 1)".'
    )


def wide_weights(model: Model, table: pd.DataFrame) -> list[tuple[str, float]]:
    """Weight coefficients with a flat tail, and their sd per sd of what they multiply."""
    out = []
    for part, member in zip(model.spec.members, model.design.members, strict=True):
        for name, scale in _scaled(part, member.multiplier_scale):
            if name in table.index and float(table["sd"][name]) * scale > FLAT_TAIL:
                out.append((name, float(table["sd"][name]) * scale))
    return out


def _scaled(part: MemberPart, scales: Array) -> list[tuple[str, float]]:
    names = [f"{part.b_w}[{p}]" for p in part.weight.parameters]
    return [(n, float(s)) for n, s in zip(names, scales, strict=False)] if part.estimated else []


def unmoved(evidence: Evidence) -> str | None:
    """A parameter that kept one value in all draws."""
    still = evidence.table.index[evidence.table["q2.5"] == evidence.table["q97.5"]]
    if not len(still):
        return None
    return (
        f"{still[0]} has the same value in all draws: its chains are stuck. Give other initial "
        "values (`inits=`), or a narrower prior."
    )


def survival_on_jags(evidence: Evidence) -> str | None:
    """JAGS mixes slowly: no block for the outcome, or durations (see `rmm.families.weibull`)."""
    family = evidence.model.spec.family
    slow = not family.jags_block or "surv" in family.outcome_kinds
    if evidence.diagnostics.converged or not evidence.gibbs or not slow:
        return None
    return (
        f"JAGS mixes slowly in {family.name} models, most of all for standard deviations of "
        'random effects. Use backend="stan" for this family.'
    )


def divergences(evidence: Evidence) -> str | None:
    """Stan's integrator left the posterior: it did not get into some corner."""
    count = evidence.diagnostics.divergences
    if count == 0:
        return None
    delta = float(evidence.settings.options.get("adapt_delta", _DEFAULT_DELTA))
    small = [
        name for name in evidence.units if name in evidence.table.index and evidence.near_zero(name)
    ]
    where = f", most likely where {small[0]} is near zero" if small else ""
    step = 0.95 if delta < 0.95 else 0.99
    what = (
        f"Let Stan take smaller steps: adapt_delta={step:g} (now {delta:g})"
        if delta < 0.99
        else f"adapt_delta is already {delta:g}: give narrower priors or drop a random effect"
    )
    return f"{count} divergences: Stan did not reach a part of the posterior{where}. {what}."


def always_together(evidence: Evidence) -> str | None:
    """Members in exactly the same groups, where their standard deviation mixes badly."""
    for part in evidence.model.spec.members:
        sets = evidence.together.get(part.u, [])
        if sets and evidence.poor(part.sigma):
            some = " and ".join(str(v) for v in sets[0][:3])
            return (
                f"{part.sigma}: {sum(map(len, sets))} members (sets: {len(sets)}) are always in "
                f"the same groups ({some}, ...). The data inform only the sum of their effects. "
                f"Merge each set into one member, or give {part.sigma} a narrower prior."
            )
    return None


def few_units(evidence: Evidence) -> str | None:
    """A standard deviation of a handful of effects."""
    for name, (count, what) in evidence.units.items():
        if count <= FEW_UNITS and evidence.poor(name):
            scale = evidence.model.spec.family.scale(evidence.model.design.outcome)[1]
            return (
                f"{name} is estimated from only {count} {what}, so the prior decides its upper "
                f'tail. Give a prior that you consider realistic, such as "{name} ~ '
                f'half_normal({scale:.2g})", or use fixed effects instead.'
            )
    return None


def funnel(evidence: Evidence) -> str | None:
    """A standard deviation near zero: it and its effects form a funnel."""
    for name in evidence.poor("sigma_l"):
        if name not in evidence.units or not evidence.near_zero(name):
            continue
        way = (
            'mixes slowly near zero. Try backend="stan"'
            if evidence.gibbs
            else "needs small steps near zero. Try adapt_delta=0.99"
        )
        upper = float(evidence.table["q97.5"][name])
        return (
            f"The posterior of {name} reaches zero (97.5% quantile {upper:.2g}), so the model may "
            f"not need these effects. {evidence.backend} {way}, or leave the effects out."
        )
    return None


def weights_without_effect(evidence: Evidence) -> str | None:
    """A weight coefficient where there is nothing to be weighted."""
    spec, design = evidence.model.spec, evidence.model.design
    for part, member in zip(spec.members, design.members, strict=True):
        if not part.estimated or not evidence.poor(part.b_w):
            continue
        rows = evidence.table[evidence.table.index.str.startswith(f"{part.b}[")]
        nothing = bool(((rows["q2.5"] < 0) & (rows["q97.5"] > 0)).all())
        sigma = part.sigma
        if nothing and (sigma not in evidence.table.index or evidence.near_zero(sigma)):
            way = (
                f'give "{part.b_w} ~ normal(0, 1)"'
                if _wide_prior(evidence, part.b_w, member.multiplier_scale)
                else "report that these data do not show which members have larger weights"
            )
            return (
                f"{part.b_w}: the weights multiply {part.b} and the member effects, which may "
                f"all be zero. Then the data do not inform {part.b_w}, and its posterior is its "
                f"prior. Use fixed weights (1/n), or {way}."
            )
    return None


def _wide_prior(evidence: Evidence, b_w: str, scales: Array) -> bool:
    """Whether a weight coefficient's prior reaches further than the default, twice over."""
    return any(
        prior.family != "normal" or prior.hyper["scale"] * scale > _WIDE
        for prior, scale in zip(evidence.model.priors.elements[b_w], scales, strict=True)
    )


def chains_apart(evidence: Evidence) -> str | None:
    """Chains in different places: more draws do not help."""
    d = evidence.diagnostics
    if not _APART < d.max_rhat < math.inf:
        return None
    more = max(1000, 2 * evidence.settings.warmup)
    return (
        f"{d.worst_rhat}: the chains are in different places (see fit.plot(parameters="
        f'"{d.worst_rhat}")). Increase `warmup` to {more}; if that does not help, give a narrower '
        "prior."
    )


def few_draws(evidence: Evidence) -> str | None:
    """Chains agree and are too short: by how much to multiply the draws."""
    d = evidence.diagnostics
    poor = evidence.poor()
    if not poor or not d.max_rhat <= _APART:
        return None
    both = evidence.table[["ess_bulk", "ess_tail"]].min(axis=1)
    ess = max(1.0, float(both[poor[0]]))
    # R-hat - 1 falls like 1 / draws; half as many again for the noise of both estimates.
    rhat = (float(d.max_rhat) - 1) / (RHAT_LIMIT - 1)
    factor = math.ceil(max(1.5 * evidence.wanted / ess, rhat, 2.0))
    if factor > _MOST_FACTOR:
        other = "stan" if evidence.gibbs else "jags"
        return (
            f"{poor[0]} has an ESS of {ess:.0f} and needs {evidence.wanted}. This would take "
            f'{factor} times the draws: try backend="{other}" or a narrower prior first.'
        )
    return (
        f"{poor[0]} has an ESS of {ess:.0f} and needs {evidence.wanted}: multiply the draws "
        f"by {factor} (draws={factor * evidence.settings.draws})."
    )


def little_from_the_data(evidence: Evidence) -> str | None:
    """Parameters whose posterior is nearly as wide as their prior."""
    table = evidence.table
    names = mostly_prior(table) if "contraction" in table else []
    if not names:
        return None
    shown = ", ".join(f"{n} ({table['contraction'][n]:.2f})" for n in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"{shown}{more}: mostly decided by the prior (contraction below {MOSTLY_PRIOR:g}: the "
        "posterior sd is more than 0.8 of the prior sd). With another prior, mean and interval "
        "would be different. Report the prior with them, and do not conclude that there is or is "
        "not an effect; see fit.prior_sensitivity()."
    )


def uneven_weights(evidence: Evidence) -> str | None:
    """Weights with a tail that no number of draws makes reliable."""
    d = evidence.diagnostics
    if d.pareto_k is None or d.pareto_k_limit is None or d.inner_variance is None:
        return None
    if d.pareto_k <= d.pareto_k_limit and d.inner_variance <= INNER_LIMIT:
        return None
    return (
        "More draws do not help: laplace cannot approximate this posterior well enough. "
        'Fit with backend="stan" or backend="jags".'
    )


def few_effective_draws(evidence: Evidence) -> str | None:
    """Weighted draws that are worth too few."""
    d = evidence.diagnostics
    if d.pareto_k is None or d.min_ess_bulk >= evidence.wanted or uneven_weights(evidence):
        return None
    kept = d.chains * d.draws
    if kept < evidence.wanted:
        return (
            f"Only {kept} draws are kept (chains={d.chains}, draws={d.draws}), but "
            f"{evidence.wanted} are needed: fit with "
            f"draws={math.ceil(evidence.wanted / d.chains)}."
        )
    asked = float(evidence.settings.options.get("ess", evidence.wanted))
    points = evidence.points * 1.5 * evidence.wanted / max(d.min_ess_bulk, 1.0)
    more = math.ceil(max(1.25 * evidence.wanted, points / _POINTS_PER_DRAW, 1.25 * asked))
    if asked >= evidence.wanted and more > min(_MOST_FACTOR * asked, _MOST_ESS):
        return (
            f"{evidence.points:,} weighted points give only {d.min_ess_bulk:.0f} effective draws: "
            'use backend="stan" or backend="jags".'
        )
    return f"Ask for more effective draws: ess={more}."


#: In the order in which they are said: causes before remedies.
RULES: Mapping[str, Callable[[Evidence], str | None]] = {
    rule.__name__: rule
    for rule in (
        uneven_weights,
        few_effective_draws,
        unmoved,
        flat_weights,
        survival_on_jags,
        divergences,
        always_together,
        weights_without_effect,
        few_units,
        funnel,
        chains_apart,
        few_draws,
        little_from_the_data,
    )
}


def advise(evidence: Evidence) -> dict[str, str]:
    """What the rules say of a fit, by rule; empty where nothing is to be said."""
    said = {name: rule(evidence) for name, rule in RULES.items()}
    return {name: sentence for name, sentence in said.items() if sentence is not None}
