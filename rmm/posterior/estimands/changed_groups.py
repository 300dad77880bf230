"""Expected outcomes of groups whose rows are changed, on the scales that people report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rmm.arguments import shortened
from rmm.design.prepare import Model
from rmm.errors import BackendError, quoted, unknown_name
from rmm.families import Family
from rmm.families.variants.varying_sd import sigma_columns
from rmm.formula.parse_formula import columns_of
from rmm.posterior.estimands.quantity import Source, found_code
from rmm.posterior.prediction.linear_predictor import (
    Draws,
    Layout,
    eta_draws,
    layout_of,
    predictor_chunks,
)
from rmm.posterior.prediction.new_groups import lay_out
from rmm.posterior.prediction.predict import level_labels, of_new_groups
from rmm.tables.read import Array

SCALES = ("mean", "median", "survival", "linear", "probability")


def scales_of(family: Family) -> tuple[str, ...]:
    """Scales on which a family's outcome has an expectation, the default first."""
    if family.needs_strata:  # probabilities hang on the other choices
        return ("linear",)
    if family.ordered:
        return ("linear", "probability", "mean")
    out = [] if family.baseline is not None else ["mean"]
    if family.median is not None:  # the mean of durations depends on those not seen
        out.insert(0 if family.survival is not None else len(out), "median")
    if family.survival is not None:
        out.append("survival")
    return (*out, "linear")


@dataclass(frozen=True)
class Expected:
    """Expected outcomes of one posterior on one scale.

    Attributes
    ----------
    source : Source
    scale : str
        ``"mean"`` (a probability of family binomial), ``"median"``, ``"survival"`` at `time`,
        ``"linear"``, or the ``"probability"`` of a level of family ordinal, whose mean is that of
        the levels' numbers.
    time : float or None
    baseline : array or None
        (S, K) draws of a baseline hazard, the same for all tables.
    """

    source: Source
    scale: str
    time: float | None
    baseline: Array | None
    level: int = 0

    @staticmethod
    def of(source: Source, scale: str | None, time: float | None, level: Any = None) -> Expected:
        """Checked; the default scale is the family's first, with `time` it is ``"survival"``, and
        with `level` ``"probability"``.

        Raises
        ------
        BackendError
            For a scale that the family does not have, or a time that is missing.
        """
        family = source.model.spec.family
        allowed = scales_of(family)
        chosen = scale or (allowed[0] if time is None else "survival")
        if scale is None and level is not None:
            chosen = "probability"
        if chosen not in allowed:
            raise BackendError(
                unknown_name(chosen, f"a scale of family {family.name!r}", allowed)
                if chosen in SCALES
                else unknown_name(chosen, "a scale", SCALES)
            )
        if chosen == "survival":
            _check_time(time)
        elif time is not None:
            raise BackendError(f"`time` is for scale='survival', not for {chosen!r}.")
        baseline = None
        if chosen == "survival" and family.baseline is not None:
            baseline = _baseline(source)
        return Expected(source, chosen, time, baseline, _place_of_level(source, chosen, level))

    @property
    def linear(self) -> bool:
        """Whether expectations are linear predictors."""
        same = self.source.model.spec.family.linear_mean
        return self.scale == "linear" or (self.scale == "mean" and same)

    def of_fit(self, table: pd.DataFrame) -> Array:
        """(S, J) of the groups of the fit with other covariates; members and groups are the same.

        Random effects are the members' own, those of random walks and AR(1) processes too.
        """
        model = self.source.model
        _refuse_missing(model)
        for parameter in model.spec.parameters:
            if parameter.role == "effect":
                self.source.need(parameter.name, "this estimand")
        layout = lay_out(_without_last(model), table).layout
        return self._values(_with_series(model, layout), self.source.draws)

    def of_new(self, table: pd.DataFrame) -> tuple[Array, Array]:
        """Labels (J,) and (S, J) of other groups; new members have effects from N(0, sigma^2)."""
        source = self.source
        _refuse_missing(source.model)
        new = lay_out(source.model, table)
        layout, draws = of_new_groups(source.model, dict(source.draws), new, "all", source.seed)
        return layout.design.coords["group"], self._values(layout, draws)

    def _values(self, layout: Layout, draws: Draws) -> Array:
        source, parts = self.source, []
        for rows, own, eta in predictor_chunks(source.model, layout, draws, source.totals):
            parts.append(self._function(layout, rows)(eta, own))
        return np.concatenate(parts)

    def _function(self, layout: Layout, rows: slice) -> Callable[[Array, Draws], Array]:
        family = self.source.model.spec.family
        if self.scale == "linear":
            return lambda eta, own: eta
        # Of one trial, and without an upper limit.
        plain = family.outcome_of_new(self.source.model.design.outcome, None, None, 0)
        plain |= sigma_columns(layout.design.outcome)
        if self.scale == "mean":
            return lambda eta, own: family.mean(eta, own, plain)
        if self.scale == "probability":
            assert family.probabilities is not None  # see `scales_of`
            probabilities = family.probabilities
            return lambda eta, own: probabilities(eta, own, plain)[:, :, self.level]
        if self.scale == "median":
            assert family.median is not None
            return family.median
        assert family.survival is not None and self.time is not None
        survival, time, outcome = family.survival, self.time, dict(self.source.model.design.outcome)
        if self.baseline is not None:
            outcome["baseline"] = self.baseline[rows]
        if "stratum" in outcome:
            outcome["stratum"] = layout.design.outcome["stratum"]
        return lambda eta, own: survival(eta, own, outcome, time)


def _place_of_level(source: Source, scale: str, level: Any) -> int:
    """Place of a level among those of the outcome, from 0."""
    if scale != "probability":
        if level is not None:
            raise BackendError(f"`level` is for scale='probability', not for {scale!r}.")
        return 0
    levels = level_labels(source.model)
    if level is None:
        shown = ", ".join(quoted(v) for v in levels)
        raise BackendError(f"scale='probability' needs `level`, one of: {shown}.")
    return found_code(levels, level, "a level of the outcome")


def _check_time(time: Any) -> None:
    number = isinstance(time, int | float | np.number) and not isinstance(time, bool)
    if not number or not np.isfinite(time) or time <= 0:
        raise BackendError(
            "scale='survival' needs `time`, a positive number in the unit of the durations"
            + (f", not {shortened(time)}." if time is not None else ".")
        )


def _baseline(source: Source) -> Array:
    """(S, K) draws of what outcomes of all groups share."""
    model = source.model
    family, rng = model.spec.family, np.random.default_rng([source.seed, 0xBA5E])
    assert family.baseline is not None
    eta = eta_draws(model, layout_of(model), source.draws, source.totals)
    own = {p.name: source.need(p.name, "the baseline hazard") for p in family.parameters}
    return family.baseline(eta, own, model.design.outcome, rng)


def table_of(model: Model) -> pd.DataFrame:
    """The formula's columns of the table of the fit, one row per membership."""
    return model.grouped.frame[list(columns_of(model.spec.formula))]


def _refuse_missing(model: Model) -> None:
    """The table of the fit does not have the values that were missing."""
    if model.spec.imputed:
        raise BackendError(
            'Contrasts and marginal effects are not available for a fit with missing="impute", '
            "because they change rows of the table, and its missing values are parameters. Impute "
            "them several times and pool the fits: rmm.pool(fits).estimand(...)."
        )


def _with_series(model: Model, layout: Layout) -> Layout:
    """The layout of the fit's groups, in which members have the fit's effects at changed times."""
    members = zip(layout.design.members, model.design.members, strict=True)
    own = tuple(replace(new, series=fitted.series) for new, fitted in members)
    return replace(layout, design=replace(layout.design, members=own))


def _without_last(model: Model) -> Model:
    """The model for its own groups: random walks start again, instead of going on."""
    blocks = tuple(replace(block, last=None) for block in model.recipe.fitted.members)
    fitted = replace(model.recipe.fitted, members=blocks)
    return replace(model, recipe=replace(model.recipe, fitted=fitted))
