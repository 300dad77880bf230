"""Bayes factors of fits of the same outcomes, and their sensitivity to the scale of a prior."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from rmm.arguments import check_seed, readable
from rmm.design.prepare import Model
from rmm.errors import DataError, PriorError, SpecificationWarning, unknown_name
from rmm.posterior.comparison.outcome_scale import prior_table
from rmm.posterior.evidence.evidence import GOOD, Evidence, evidence_of, scaled_priors
from rmm.posterior.fit import Fit
from rmm.posterior.prediction.cross_validation import check_comparable

_ALIKE = 1.02  # ratio of two priors' widths that are the same but for rounding


@dataclass(frozen=True)
class BayesFactors:
    """Models compared by their evidence.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per model, the best first: ``log_evidence`` and its Monte Carlo error ``mcse``;
        ``log_bayes_factor`` and ``bayes_factor`` against the best; ``prior`` and ``probability`` of
        the model, and ``probability_mcse``.
    priors : pandas.DataFrame
        Index (parameter, model): ``prior``, and its width ``on_outcome``, the scale of the group's
        outcome, on which common parameters of all models should have the same.
    notes : tuple of str
        What a reader must know: common parameters whose priors differ, priors scaled by the data.
    """

    table: pd.DataFrame
    priors: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [self.table.to_string(float_format="{:.4g}".format)]
        parts += ["Priors:", self.priors.to_string(float_format="{:.3g}".format)]
        return "\n\n".join([*parts, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.table.to_html(float_format="{:.4g}".format, border=0)
        priors = self.priors.to_html(float_format="{:.3g}".format, border=0)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"{table}<p>Priors:</p>{priors}{notes}"


@readable(DataError)
def bayes_factor(
    fits: Mapping[str, Fit],
    *,
    probabilities: Mapping[str, float] | None = None,
    seed: int | None = None,
) -> BayesFactors:
    """Compare fits by their evidence.

    Parameters
    ----------
    fits : mapping of str to Fit
        Two or more, of the same outcomes of the same groups. Their families may differ where both
        have densities of a number, or both have probabilities of a count.
    probabilities : mapping of str to float, optional
        Prior probabilities of the models, in any proportion; default: all the same.
    seed : int, optional
        Default: each fit's own.

    Returns
    -------
    BayesFactors

    Raises
    ------
    DataError
        If the fits cannot be compared.
    BackendError
        If the evidence of one cannot be trusted.

    Warns
    -----
    SpecificationWarning
        If common parameters have other priors on the scale of the outcome.

    Examples
    --------
    >>> import rmm
    >>> data = {"y": [1.1, 1.9, 3.2, 3.8, 5.1, 6.0, 6.9, 8.2], "x": [1.0, 2, 3, 4, 5, 6, 7, 8]}
    >>> priors = {"b_l2": "normal(0, 5)", "sigma_l2": "half_normal(5)"}
    >>> fits = {
    ...     f: rmm.fit(f, data, priors=priors, backend="laplace", seed=1)
    ...     for f in ("y ~ 1", "y ~ 1 + x")
    ... }
    >>> rmm.bayes_factor(fits).table["bayes_factor"] < 0.01
    model
    y ~ 1 + x    False
    y ~ 1         True
    Name: bayes_factor, dtype: bool
    """
    check_fits(fits, seed)
    found = {
        name: evidence_of(fit, fit.settings.seed if seed is None else seed, GOOD)
        for name, fit in fits.items()
    }
    priors, notes = compared_priors({name: fit.model for name, fit in fits.items()})
    for note in notes:
        warnings.warn(note, SpecificationWarning, stacklevel=3)
    return BayesFactors(evidence_table(found, _shares(fits, probabilities)), priors, notes)


def evidence_table(found: Mapping[str, Evidence], shares: Mapping[str, float]) -> pd.DataFrame:
    """Evidence, Bayes factors against the best and probabilities of models, the best first."""
    logs = np.array([one.value for one in found.values()])
    error = np.array([one.mcse for one in found.values()])
    prior = np.array([shares[name] for name in found])
    best = int(np.argmax(logs))
    joint = logs + np.log(prior)
    probability = np.exp(joint - logsumexp(joint))
    # d p_i = p_i (d log Z_i - sum of p_k d log Z_k)
    spread = probability * np.sqrt(
        error**2 * (1 - 2 * probability) + np.sum((probability * error) ** 2)
    )
    table = pd.DataFrame(
        {
            "log_evidence": logs,
            "mcse": error,
            "log_bayes_factor": logs - logs[best],
            "bayes_factor": np.exp(logs - logs[best]),
            "prior": prior,
            "probability": probability,
            "probability_mcse": spread,
        },
        index=pd.Index(list(found), name="model"),
    )
    return table.sort_values("log_evidence", ascending=False, kind="stable")


def check_fits(fits: Any, seed: Any) -> None:
    """Raise `DataError` or `PriorError` for what is no fits by name whose evidence compares."""
    check_seed(seed, DataError)
    if not isinstance(fits, Mapping) or not all(isinstance(f, Fit) for f in fits.values()):
        raise DataError("`fits` must map names to fits, as in {'one': fit1, 'two': fit2}.")
    for name, fit in fits.items():
        if fit.own_program:
            raise PriorError(
                f"{name!r} was fitted with a program of your own, whose priors are not known, so "
                "it has no evidence that could be computed."
            )
    check_comparable({name: fit.model for name, fit in fits.items()})
    _check_baselines({name: fit.model for name, fit in fits.items()})


def _check_baselines(models: Mapping[str, Model]) -> None:
    """Cox's likelihood contains the prior of the baseline: it must be the same."""
    names = list(models)
    first = models[names[0]].design.outcome
    for name in names[1:]:
        for key in ("ends", "prior_dH"):
            one, two = first.get(key), models[name].design.outcome.get(key)
            if one is not None and (two is None or not np.array_equal(one, two)):
                raise DataError(
                    f"{names[0]!r} and {name!r} have different priors of the baseline hazard "
                    "(`intervals`), so their evidence cannot be compared. Give both the same."
                )


def _shares(fits: Mapping[str, Fit], given: Mapping[str, float] | None) -> dict[str, float]:
    """Prior probabilities of the models."""
    if given is None:
        return {name: 1 / len(fits) for name in fits}
    for name in given:
        if name not in fits:
            raise DataError("In `probabilities`, " + unknown_name(name, "a model", list(fits)))
    missing = [name for name in fits if name not in given]
    if missing:
        raise DataError(f"`probabilities` has no entry for {missing[0]!r}.")
    values = {name: float(given[name]) for name in fits}
    if not all(np.isfinite(v) and v > 0 for v in values.values()):
        raise DataError("`probabilities` must be positive numbers.")
    total = sum(values.values())
    return {name: value / total for name, value in values.items()}


def compared_priors(models: Mapping[str, Model]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Priors of the models' parameters, and what to say of those that they have in common."""
    tables = {name: prior_table(model) for name, model in models.items()}
    whole = pd.concat(tables, names=["model"]).swaplevel()
    order = list(dict.fromkeys(k for table in tables.values() for k in table.index))
    whole = whole.loc[[(k, m) for k in order for m in models if (k, m) in whole.index]]
    notes = []
    for parameter in order:
        widths = whole.loc[parameter, "on_outcome"].dropna()
        if len(widths) > 1 and widths.max() > _ALIKE * widths.min():
            notes.append(
                f"The priors of {parameter} differ on the scale of the outcome: from "
                f"{widths.min():.3g} ({widths.idxmin()}) to {widths.max():.3g} "
                f"({widths.idxmax()}). Part of the Bayes factor is due to that."
            )
    scaled = list(dict.fromkeys(n for model in models.values() for n in scaled_priors(model)))
    if scaled:
        notes.append(
            f"The priors of {', '.join(scaled)} are defaults that are scaled by the data. The "
            "evidence depends on them; give priors as numbers in `priors` to decide yourself."
        )
    return whole, tuple(notes)
