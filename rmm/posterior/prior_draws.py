"""What the priors alone say of the outcome: parameters, then outcomes, drawn before any fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.arguments import check_seed, readable
from rmm.backends.base import Run
from rmm.design.design import at_zero
from rmm.design.members.memberships import Membership
from rmm.design.prepare import Model, prepare
from rmm.design.priors.group_sizes import reported_draws
from rmm.errors import DataError, PriorError
from rmm.families import find_family, is_family
from rmm.formula.prior_distributions import draw
from rmm.model.correlated_effects import Roles
from rmm.model.correlations import cholesky_factor
from rmm.model.spec import CUT, MemberPart
from rmm.posterior.prediction.predict import predict
from rmm.tables.read import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Probabilities outside of it are next to certainty.
EXTREME = (0.01, 0.99)
#: Durations beyond this factor of their median are implausible.
FACTOR = 1000.0
_QUANTILES = {"q2.5": 0.025, "q25": 0.25, "median": 0.5, "q75": 0.75, "q97.5": 0.975}
_SALT = 0x9121
_MOST_DRAWS = 1_000_000


def quantiles(values: Array, at: list[float]) -> Array:
    """Quantiles of values of which some may be infinite: nothing is interpolated."""
    return np.asarray(np.quantile(values, at, method="nearest"))


@dataclass(frozen=True)
class PriorPredictive:
    """Draws from the priors of a model, and what they make of each group's outcome.

    Attributes
    ----------
    model : rmm.design.prepare.Model
    seed : int
    parameters : mapping
        Parameter, as in summaries (``b_l1``, ``sigma_l1``) -> ``(S, *dims)`` draws; effects of
        members and nesting units too.
    groups : (J,) array
        Labels of the groups.
    linear : (S, J) array
        Linear predictors.
    mean : (S, J) array
        Expected outcomes: probabilities (with ``cbind()``, numbers of successes), choice
        probabilities within each stratum, mean durations; of family cox hazards relative to a
        linear predictor of 0.
    outcome : (S, J) array or None
        Outcomes, durations not censored. None for family cox: its prior leaves the baseline hazard
        to the data, so that there are no prior durations.
    """

    model: Model
    seed: int
    parameters: dict[str, Array] = field(repr=False)
    groups: Array = field(repr=False)
    linear: Array = field(repr=False)
    mean: Array = field(repr=False)
    outcome: Array | None = field(repr=False)

    @cached_property
    def shown(self) -> tuple[str, Array]:
        """What plots show, and its (S, J) values: name of the quantity, then draws.

        Probabilities of 0/1 outcomes, successes and choices; relative hazards; else outcomes.
        """
        if self.outcome is None:
            return "relative hazard", self.mean
        if self.model.spec.family.check == "shares":
            return "probability", self.mean / self.model.design.outcome.get("trials", 1)
        return "outcome", self.outcome

    def summary(self) -> pd.DataFrame:
        """Quantiles over draws and groups of the linear predictor and of what follows from it.

        Returns
        -------
        pandas.DataFrame
            Rows ``linear predictor`` and ``probability``, ``relative hazard`` or ``outcome``;
            columns q2.5, q25, median, q75, q97.5, in the unit of each.
        """
        name, values = self.shown
        rows = {"linear predictor": self.linear, name: values}
        table = {k: quantiles(v, list(_QUANTILES.values())) for k, v in rows.items()}
        index = pd.Index(_QUANTILES, name="quantile")
        return pd.DataFrame(table, index=index).T

    @property
    def implausible(self) -> float | None:
        """Share of draws that no data look like; None where there is no such limit.

        Of probabilities those outside .01 to .99, of durations and other positive numbers those
        beyond a thousandfold of the median in either direction.
        """
        name, values = self.shown
        if name == "probability":
            return float(np.mean((values < EXTREME[0]) | (values > EXTREME[1])))
        if not self.model.spec.family.log_scale or self.outcome is None:
            return None
        with np.errstate(all="ignore"):  # outcomes of 0 and infinite ones are beyond it
            logs = np.log(values) - np.log(quantiles(values, [0.5]))
            return float(1 - np.mean(np.abs(logs) <= math.log(FACTOR)))

    def plot(self) -> Figure:
        """A histogram of the draws, with what was observed.

        Returns
        -------
        matplotlib.figure.Figure
        """
        # Late: a fit by itself does not need it.
        from rmm.posterior.plots import need_matplotlib

        need_matplotlib()
        # Late: a fit by itself does not need it.
        from rmm.posterior.plots.prior_predictive import figure_of

        return figure_of(self)

    def __str__(self) -> str:
        table = self.summary().to_string(float_format="{:.4g}".format)
        lines = [self.model.as_written, self._headline(), "", table]
        return "\n".join([*lines, *(f"\n{remark}" for remark in self._remarks())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text, as a table."""
        table = self.summary().to_html(float_format="{:.4g}".format, border=0)
        head = f"<p><code>{escape(self.model.as_written)}</code><br>{escape(self._headline())}</p>"
        return head + table + "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks())

    def _headline(self) -> str:
        family = self.model.spec.family.name
        return f"{family}, priors alone: {len(self.linear)} draws, {len(self.groups)} groups"

    def _remarks(self) -> list[str]:
        share = self.implausible
        if share is None:
            return []
        what = (
            f"Probabilities outside {EXTREME[0]:g} to {EXTREME[1]:g}"
            if self.shown[0] == "probability"
            else f"Durations beyond {FACTOR:,.0f} times or under 1/{FACTOR:,.0f} of the median"
        )
        return [f"{what}: {100 * share:.0f}%."]


@readable(DataError, is_family=is_family)
def prior_predictive(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    *,
    priors: Any = "weakly_informative",
    draws: int = 1000,
    seed: int = 1,
    transform: str | None = None,
    missing: str = "error",
    cov: Mapping[str, pd.DataFrame] | None = None,
    **options: Any,
) -> PriorPredictive:
    """What the priors of a model say of the outcome of each group, before any fit.

    Parameters are drawn from their priors, effects from their distributions, then outcomes from
    the family: Gabry, Simpson, Vehtari, Betancourt and Gelman (2019), "Visualization in Bayesian
    workflow", Journal of the Royal Statistical Society A 182, 389-402, section 3. No engine runs.

    Parameters
    ----------
    formula, data, family, priors, transform, missing, cov
        As for `rmm.fit`. The outcome decides scales of default priors, as in a fit.
    draws : int
        Number of draws.
    seed : int
    **options
        Those of the family: ``intervals=10`` for ``"cox"``.

    Returns
    -------
    PriorPredictive
        Printed it is a table; ``plot()`` draws it. Durations of family cox are not drawn: its
        prior says nothing of the baseline hazard, so hazards relative to a linear predictor of 0
        stand in for them.

    Raises
    ------
    FormulaError, DataError, PriorError
        As `rmm.fit` does; `PriorError` also where a draw of the weight coefficients gives no
        finite weights.

    Examples
    --------
    >>> import rmm
    >>> data = {"win": [0, 1, 1, 0, 1, 0], "x": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    >>> default = rmm.prior_predictive("win ~ 1 + x", data, family="binomial", seed=1)
    >>> vague = rmm.prior_predictive("win ~ 1 + x", data, family="binomial", priors="rmm", seed=1)
    >>> bool(default.implausible < 0.05), bool(vague.implausible > 0.9)
    (True, True)
    """
    known = find_family(family, options)
    model = prepare(
        formula, data, known, priors=priors, transform=transform, missing=missing, cov=cov
    )
    return draw_prior_predictive(model, draws, seed)


def draw_prior_predictive(model: Model, draws: int, seed: int) -> PriorPredictive:
    """`prior_predictive` of a model that is prepared.

    Raises
    ------
    PriorError
        Where a draw of the weight coefficients gives no finite weights.
    """
    whole = isinstance(draws, int | np.integer) and not isinstance(draws, bool)
    if not whole or not 1 <= draws <= _MOST_DRAWS:
        raise PriorError(
            f"`draws` must be a whole number between 1 and {_MOST_DRAWS:,}, but is {draws!r}."
        )
    check_seed(seed, PriorError)
    if seed is None:
        raise PriorError("`seed` must be a whole number of at least 0, but is None.")
    parameters = draw_parameters(model, draws, np.random.default_rng([seed, _SALT]))
    run = Run({name: values[None] for name, values in parameters.items()}, {}, 0.0, {})
    kinds = ["linear", "mean"]
    if model.spec.family.prior_outcomes:
        kinds.append("outcome")
    found: dict[str, Array] = {}
    with np.errstate(all="ignore"):  # of vague priors: infinite durations and hazards
        for kind in kinds:
            groups, found[kind] = _predicted(model, run, kind, seed)
    return PriorPredictive(
        model, seed, parameters, groups, found["linear"], found["mean"], found.get("outcome")
    )


def _predicted(model: Model, run: Run, kind: str, seed: int) -> tuple[Array, Array]:
    try:
        return predict(model, run, None, kind, "all", seed)
    except DataError as error:  # weights that are not finite
        raise PriorError(
            "Some values of the weight coefficients that were drawn from their priors give weights "
            f"that cannot be used. {error} Or use narrower priors of the weight coefficients."
        ) from error


def draw_parameters(model: Model, draws: int, rng: np.random.Generator) -> dict[str, Array]:
    """Parameter -> (S, *dims) draws from the priors, and of effects given their sds.

    Parameters
    ----------
    model : Model
    draws : int
        S.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        By the names of summaries; ``b_l2`` has its intercept at zero of all predictors.
    """
    found: dict[str, Array] = {}
    for name, priors in model.priors.elements.items():
        columns = [draw(prior, draws, rng) for prior in priors]
        scalar = {p.name for p in model.spec.sampled if not p.dims}
        found[name] = columns[0] if name in scalar else np.column_stack(columns)
        if name == CUT:
            found[name] = np.sort(found[name], axis=1)
    found |= at_zero(model.spec, model.design, found)
    for part, member in zip(model.spec.members, model.design.members, strict=True):
        found |= _member_effects(part, member, found, rng)
    for roles in model.spec.roles:
        found |= _role_effects(roles, model.design.members[roles.blocks[0]].n_members, found, rng)
    for nest, nesting in zip(model.spec.nestings, model.design.nestings, strict=True):
        if nest.random:
            sd = found[nest.sigma][:, None]
            found[nest.u] = sd * rng.standard_normal((draws, nesting.n_units))
    for one, values in zip(model.spec.imputed, model.design.imputed, strict=True):
        mean, sd = found[one.b] @ values.X.T, found[one.sigma][:, None]
        found[one.x] = mean + sd * rng.standard_normal(mean.shape)
    found = reported_draws(model.spec, model.design.members, found)
    wanted = {p.name for p in model.spec.parameters}
    return {name: values for name, values in found.items() if name in wanted}


def _member_effects(
    part: MemberPart, member: Membership, found: dict[str, Array], rng: np.random.Generator
) -> dict[str, Array]:
    """Effects of members: independent, in time (`ar =`), slopes, correlated."""
    out: dict[str, Array] = {}
    if part.in_role:
        return out
    if part.correlated:
        u = _standard_effects(found[part.pcor], member.n_members, rng)
        first = int(part.random)
        if part.random:
            out[part.u] = found[part.sigma][:, None] * u[:, :, 0]
        return out | {part.u_slope: found[part.sigma_slope][:, None, :] * u[:, :, first:]}
    if part.random:
        count = member.n_effects
        steps = found[part.sigma][:, None] * rng.standard_normal((len(found[part.sigma]), count))
        out[part.u] = steps if member.walk is None else _walked(steps, member)
        if member.root is not None:
            out[part.u] = steps @ member.root.T
        if member.series is not None:
            out[part.u] = member.series.effects(steps, found[part.rho])
    if part.slopes:
        sd = found[part.sigma_slope][:, None, :]
        shape = (len(sd), member.n_members, sd.shape[2])
        out[part.u_slope] = sd * rng.standard_normal(shape)
    return out


def _role_effects(
    roles: Roles, members: int, found: Mapping[str, Array], rng: np.random.Generator
) -> dict[str, Array]:
    """Effects of members in their roles, which are correlated."""
    u = _standard_effects(found[roles.pcor], members, rng)
    sds = [found[name][:, None] for name in roles.sds]
    return {name: sds[k] * u[:, :, k] for k, name in enumerate(roles.effects)}


def _standard_effects(partial: Array, members: int, rng: np.random.Generator) -> Array:
    """(S, members, K) correlated effects of standard deviation 1."""
    factor = cholesky_factor(partial)
    z = rng.standard_normal((len(factor), members, factor.shape[-1]))
    return np.asarray(np.einsum("smk,slk->sml", z, factor))


def _walked(steps: Array, member: Membership) -> Array:
    """Sums of the steps along each member's memberships."""
    walk = member.walk
    assert walk is not None
    out = steps.copy()
    for row in np.argsort(walk.place):
        if walk.previous[row] >= 0:
            out[:, walk.effect[row]] += out[:, walk.previous[row]]
    return out
