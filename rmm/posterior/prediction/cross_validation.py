"""Leave-one-out cross-validation of a fit: PSIS, exact refits of what it cannot do, WAIC.

The unit is what the likelihood factorises over given effects: the group, or the stratum.
Vehtari, Gelman and Gabry (2017), Statistics and Computing 27, 1413-1432.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import logsumexp

from rmm.backends import find_backend
from rmm.backends.base import PreparedModel, Run, Settings
from rmm.backends.convergence import effective_size, pareto_k_limit
from rmm.backends.initial_values import initial_values
from rmm.backends.progress_bar import progress_bar
from rmm.backends.user_program import drawn_only
from rmm.design.prepare import Model
from rmm.design.priors.group_sizes import reported_draws
from rmm.design.subset_groups import some_groups, some_rows
from rmm.errors import BackendError, ConvergenceWarning, DataError, SpecificationWarning, counted
from rmm.families import FAMILIES, Family
from rmm.families.variants.observation_weights import WEIGHT
from rmm.posterior.diagnostics.summary import weighing
from rmm.posterior.prediction.predict import log_likelihood, unit_labels
from rmm.posterior.prediction.psis import left_out
from rmm.tables.read import Array

_NAMED = 8  # units that a message names
_RHAT = 1.05  # of a refit's log likelihood of one unit


@dataclass(frozen=True)
class Refits:
    """What a refit without a unit needs: the fit's program, settings and engine."""

    model: Model
    program: str
    settings: Settings
    backend: str

    @cached_property
    def _prepared(self) -> PreparedModel:
        """Of the whole model, whose program all refits run."""
        return find_backend(self.backend).prepare(self.model)

    def without(self, unit: int) -> Run:
        """Sample again without the outcome of one unit.

        Priors, centres, scales and baselines stay those of the fit, and so do its members and
        nesting units: a member of no other group has its prior. Under constraint 2 the total of
        the weights is that of the rows that are left.

        Raises
        ------
        BackendError
            With random walks of members (`ar =`): a unit is a part of them.
        """
        if any(part.walk for part in self.model.spec.members):
            raise BackendError(
                "loo(refit=True) is not available with the random walks of `ar =`, because a "
                "walk connects the groups of a member, so no group can be left out alone. Use "
                "loo() without refits, or waic()."
            )
        model, engine = without_unit(self.model, unit), find_backend(self.backend)
        prepared = self._prepared
        values = prepared.data(model.design)
        neutral = initial_values(model, self.settings.chains, self.settings.seed)
        starts = [prepared.initial(model.design, v) for v in neutral]
        if engine.language and self.program != prepared.program:  # the user's own
            both = [{**v, **start} for v, start in zip(neutral, starts, strict=True)]
            starts = [drawn_only(self.program, engine.language, s) for s in both]
        run = engine.run(self.program, values, starts, self.settings, None)
        return replace(run, draws=reported_draws(model.spec, model.design.members, run.draws))


def without_unit(model: Model, unit: int) -> Model:
    """The model without the groups of one unit of its likelihood."""
    groups = np.flatnonzero(unit_codes(model) != unit)
    design = some_groups(model.design, model.grouped, groups, model.spec)
    outcome = model.spec.family.outcome_of_some(model.design.outcome, groups)
    return replace(
        model,
        design=replace(design, outcome=outcome),
        grouped=some_rows(model.grouped, groups),
    )


def unit_codes(model: Model) -> Array:
    """(J,) unit of the likelihood of each group."""
    strata = model.grouped.strata
    if model.spec.family.unit == "group" or strata is None:
        return np.arange(model.design.J)
    return strata.code


@dataclass(frozen=True)
class Pointwise:
    """What cross-validation needs of a fit.

    Attributes
    ----------
    values : (S, units) array
        Log likelihood by draw and unit.
    unit : str
        ``group`` or ``stratum``.
    labels : (units,) array
        Of the units.
    relative_size : float
        Effective sample size of means over the number of draws; see `relative_size`.
    """

    values: Array
    unit: str
    labels: Array
    relative_size: float = 1.0

    def of_units(self, values: Array) -> Any:
        """(units,) values with their labels, as ArviZ keeps them."""
        # Late: a fit by itself does not need it.
        from xarray import DataArray

        return DataArray(values, dims=(self.unit,), coords={self.unit: self.labels})


def loo(each: Pointwise, refits: Refits | None) -> Any:
    """PSIS-LOO with `refits` of the units whose Pareto k is too large.

    Parameters
    ----------
    each : Pointwise
    refits : Refits or None
        None: a warning names the units instead.

    Returns
    -------
    arviz_stats.ELPDData
        Pointwise. Units that were refitted have Pareto k 0, as in `arviz_stats.reloo`.
    """
    result = _smoothed(each)
    bad = _too_large(result)
    if len(bad) == 0:
        return result
    if refits is None:
        _warn_of_pareto(result, bad)
        return result
    return _refitted(result, each.values, refits, bad)


def _too_large(result: Any) -> Array:
    """Numbers of the units whose Pareto k is above the threshold, or none."""
    return np.flatnonzero(~(result.pareto_k.to_numpy() <= result.good_k))


def _smoothed(each: Pointwise) -> Any:
    """PSIS-LOO of all units, as ArviZ keeps it."""
    # Late: a fit by itself does not need it.
    from arviz_stats.utils import ELPDDataLOO

    count = len(each.values)
    elpd, lpd, k = left_out(each.values, each.relative_size)
    limit = pareto_k_limit(count)
    return ELPDDataLOO(
        elpd=float(elpd.sum()),
        se=float(np.sqrt(len(elpd) * np.var(elpd, ddof=1))),
        p=float((lpd - elpd).sum()),
        n_samples=count,
        n_data_points=len(elpd),
        scale="log",
        warning=bool((~(k <= limit)).any()),
        good_k=limit,
        elpd_i=each.of_units(elpd),
        pareto_k=each.of_units(k),
        p_loo_i=each.of_units(lpd - elpd),
    )


def relative_size(draws: Array) -> float:
    """Effective sample size of means over the number of draws, averaged over the parameters.

    Parameters
    ----------
    draws : (chains, draws, parameters) array
    """
    chains, length, count = draws.shape
    if chains == 1 or not count:
        return 1.0
    sizes = [effective_size(draws[:, :, i]) for i in range(count)]
    return float(np.mean(sizes) / (chains * length))


def _named(result: Any, units: Sequence[int] | Array) -> str:
    """Labels of units, the first few of them."""
    labels = result.pareto_k[result.pareto_k.dims[0]].to_numpy()[units]
    return ", ".join(map(str, labels[:_NAMED])) + (", ..." if len(labels) > _NAMED else "")


def _warn_of_pareto(result: Any, bad: Array) -> None:
    named = _named(result, bad)
    warnings.warn(
        f"Pareto k is above {result.good_k:.2f} for {len(bad)} of {result.n_data_points} units "
        f"({named}). The importance weights of these units are not reliable, so elpd can be too "
        "high or too low. loo(refit=True) is exact: it fits the model again without each of these "
        f"units ({counted(len(bad), 'fit')}).",
        SpecificationWarning,
        stacklevel=5,
    )


def _refitted(result: Any, together: Array, refits: Refits, bad: Array) -> Any:
    """Exact values of some units: log mean p(y_i | draws without i)."""
    elpd = result.elpd_i.to_numpy().copy()
    everything = logsumexp(together, axis=0) - np.log(len(together))
    p, mixed, doubts = everything - elpd, {}, {}
    with progress_bar(None, "loo: refits") as listener:
        for done, unit in enumerate(bad, start=1):
            run = refits.without(int(unit))
            each = log_likelihood(refits.model, run)[:, unit]
            elpd[unit] = logsumexp(each) - np.log(len(each))
            p[unit] = everything[unit] - elpd[unit]
            result.pareto_k[int(unit)] = 0.0
            weighed = weighing(run)
            if weighed is None:
                mixed[int(unit)] = _rhat(each, refits.settings.chains)
            else:  # there are no chains that could be apart
                doubts[int(unit)] = weighed.doubt()
            if listener is not None:
                listener(done, len(bad))
    _warn_of_refits(result, mixed)
    _warn_of_weights(result, doubts)
    result.elpd_i = result.elpd_i.copy(data=elpd)
    result.p_loo_i = result.elpd_i.copy(data=p)
    result.elpd, result.p = float(elpd.sum()), float(p.sum())
    result.se = float(np.sqrt(len(elpd) * np.var(elpd, ddof=1)))
    result.warning = False
    return result


def _rhat(values: Array, chains: int) -> float:
    """R-hat of draws of all chains, one after the other; NaN for a single chain."""
    # Late: a fit by itself does not need it.
    from arviz_stats.base import array_stats

    each = values.reshape(chains, -1)
    return float(np.squeeze(array_stats.rhat(each, chain_axis=0, draw_axis=1)))


def _warn_of_refits(result: Any, mixed: Mapping[int, float]) -> None:
    """Refits whose chains do not agree on the one number that they are for."""
    stuck = [unit for unit, rhat in mixed.items() if rhat > _RHAT]
    if not stuck:
        return
    named, verb = _named(result, stuck), "has" if len(stuck) == 1 else "have"
    warnings.warn(
        f"{len(stuck)} of {len(mixed)} refits (without {named}) {verb} not converged. R-hat of "
        "the log likelihood of the unit that was left out is up to "
        f"{max(mixed[u] for u in stuck):.2f}; it should be at most {_RHAT}. Refits use the "
        "settings of the fit: fit with more warmup and more draws.",
        ConvergenceWarning,
        stacklevel=6,
    )


def _warn_of_weights(result: Any, doubts: Mapping[int, str]) -> None:
    """Refits whose draws have weights that are not to be trusted, or too few of them."""
    doubtful = [unit for unit, doubt in doubts.items() if doubt]
    if not doubtful:
        return
    verb = "is" if len(doubtful) == 1 else "are"
    warnings.warn(
        f"{len(doubtful)} of {len(doubts)} refits with weighted draws (without "
        f"{_named(result, doubtful)}) {verb} not reliable: {doubts[doubtful[0]]}. Refits use the "
        "settings of the fit: fit with more effective draws (ess=), or with "
        'backend="stan" or backend="jags".',
        ConvergenceWarning,
        stacklevel=6,
    )


def waic(each: Pointwise) -> Any:
    """The widely applicable information criterion, on the scale of elpd.

    elpd = sum (lpd_i - p_i), lpd_i = log mean p(y_i | draws), p_i = var log p(y_i | draws):
    Watanabe (2010); Vehtari, Gelman and Gabry (2017), equations 11 to 13.

    Parameters
    ----------
    each : Pointwise

    Returns
    -------
    arviz_stats.ELPDData
    """
    # Late: a fit by itself does not need it.
    from arviz_stats.utils import ELPDData

    values = each.values
    lpd = logsumexp(values, axis=0) - np.log(len(values))
    p = values.var(axis=0, ddof=1)
    elpd = lpd - p
    if (p > 0.4).any():
        warnings.warn(
            f"The variance of the log likelihood is above 0.4 in {(p > 0.4).sum()} of {len(p)} "
            "units, so waic() is not reliable. Use loo().",
            SpecificationWarning,
            stacklevel=4,
        )
    return ELPDData(
        elpd=float(elpd.sum()),
        se=float(np.sqrt(len(p) * np.var(elpd, ddof=1))),
        p=float(p.sum()),
        n_samples=len(values),
        n_data_points=len(p),
        scale="log",
        warning=bool((p > 0.4).any()),
        good_k=np.nan,
        elpd_i=each.of_units(elpd),
    )


def check_measures(one: tuple[str, Family], two: tuple[str, Family]) -> None:
    """Raise `DataError` unless likelihoods of two families, each with its model's name, compare."""
    (name, family), (other_name, other) = one, two
    if family.name == other.name or (family.measure and family.measure == other.measure):
        return
    alike = {f.name for f in FAMILIES.values() if f.measure and f.measure == family.measure}
    raise DataError(
        f"{name!r} has family {family.name!r}, but {other_name!r} has family {other.name!r}. "
        f"Their likelihoods cannot be compared. Models comparable with {name!r} have a family of "
        f"these: {', '.join(sorted(alike | {family.name}))}."
    )


def _label(model: Model) -> str:
    return model.spec.formula.outcome.label


def _check_kinds(one: tuple[str, Model], two: tuple[str, Model]) -> None:
    """Raise `DataError` if outcomes of one measure are of two kinds.

    Durations have densities, intervals of time probabilities; a duration after an entry has a
    density given the entry; and counts of several trials have other probabilities than one trial.
    """
    (name, model), (other_name, other) = one, two
    if model.spec.family.observed == other.spec.family.observed:
        return
    raise DataError(
        f"{name!r} has the outcome `{_label(model)}`, but {other_name!r} has the outcome "
        f"`{_label(other)}`. These are different kinds of outcomes, so the likelihoods of the two "
        "models cannot be compared. Fit both with the same outcome."
    )


def check_comparable(models: Mapping[str, Model]) -> None:
    """Raise `DataError` unless likelihoods are comparable, and of the same outcomes and units.

    Those of different families are if both are densities of a number, or both are probabilities of
    a count. A density of durations, a probability of 0 and 1, and a piecewise-constant baseline are
    on different scales.
    """
    if len(models) < 2:
        raise DataError('A comparison needs two fits or more: rmm.compare({"a": one, "b": two}).')
    names = list(models)
    first = models[names[0]]
    for name in names[1:]:
        other = models[name]
        check_measures((names[0], first.spec.family), (name, other.spec.family))
        _check_kinds((names[0], first), (name, other))
        ours, theirs = list(unit_labels(first)), list(unit_labels(other))
        if ours != theirs:
            odd = next(iter(set(map(str, ours)) ^ set(map(str, theirs))), None)
            what = "their orders are different" if odd is None else f"only one of the two has {odd}"
            raise DataError(
                f"{names[0]!r} has {len(ours)} units, and {name!r} has {len(theirs)}; {what}. "
                "Models can be compared only on the same units. Fit both to the same table."
            )
        weights, theirs_too = (m.design.outcome.get(WEIGHT, 1.0) for m in (first, other))
        if not np.array_equal(weights, theirs_too):
            raise DataError(
                f"{names[0]!r} and {name!r} have different observation weights, so their "
                "likelihoods cannot be compared. Fit both with the same weights."
            )
        for key in first.spec.family.observed:
            one, two = first.design.outcome[key], other.design.outcome[key]
            if not np.array_equal(np.asarray(one), np.asarray(two)):
                raise DataError(
                    f"{names[0]!r} and {name!r} have different outcomes: `{_label(first)}` does "
                    f"not have the same values in both tables as `{_label(other)}`. Their elpd "
                    "cannot be compared. Fit both to the same outcome of the same table."
                )
