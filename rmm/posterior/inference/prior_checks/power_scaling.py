"""How much a posterior depends on its priors and on its likelihood, by power scaling.

Raising the prior to a power above 1 makes it stronger, below 1 weaker; the same for the likelihood.
The changed posterior is had from the draws of the fit, by importance weights p(theta)^(power - 1).
Kallioinen, Paananen, Bürkner and Vehtari (2024), "Detecting and diagnosing prior and likelihood
sensitivity with power-scaling", Statistics and Computing 34, 57.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from rmm.arguments import shortened
from rmm.backends.base import Run, Settings
from rmm.backends.convergence import pareto_k_limit
from rmm.backends.laplace.pareto import smoothed_logs
from rmm.design.prepare import Model
from rmm.errors import BackendError, PriorError, unknown_name
from rmm.posterior.draw_estimates import Estimates
from rmm.posterior.inference.prior_checks.log_prior import elements, log_priors
from rmm.posterior.inference.prior_checks.refits import Refits
from rmm.posterior.prediction.linear_predictor import flat_draws
from rmm.posterior.prediction.predict import log_likelihood
from rmm.tables.read import Array

#: Powers between which sensitivities are derivatives, and above which a parameter is sensitive:
#: sections 2.3 and 4 of the paper.
NEARBY, THRESHOLD = (0.99, 1.01), 0.05
#: Powers at which means are computed: half and double the information of the prior.
WEAKER, STRONGER = 0.5, 2.0
_SHIFTS = 19  # the largest of so many is exceeded by chance once in 20 times
_LEAST = 100  # draws
NO_EFFECTS = "the fit kept no draws of the random effects"

NOT_SENSITIVE = "not sensitive to the priors"
BOTH = "sensitive to both: prior and data may conflict"
STRONG_PRIOR = "strong prior or weak data"
UNKNOWN = "sensitive to the priors"


@dataclass(frozen=True)
class PriorSensitivity:
    """Sensitivities of a fit to its priors and its likelihood; printed, it is a table with remarks.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per parameter of the summary:

        * ``prior``, ``likelihood``: change of the posterior's distribution function (its cumulative
          Jensen-Shannon distance, 0 to 1) per doubling of the power of the priors or of the
          likelihood, at power 1. From 0.05 a parameter is sensitive. For a normal posterior 0.05 is
          a move of the mean by about 0.3 sd with two or three times the information of the prior.
        * ``prior_noise``, ``likelihood_noise``: the largest of 19 such changes with the draws of
          the densities moved against those of the parameters, so that they do not belong together.
          A sensitivity below it is no more than chance.
        * ``weaker``, ``stronger``: posterior mean with the priors to the power 1/2 and 2. For a
          normal prior: its sd times or divided by 1.41. NaN where `k` is too large.
        * ``k``: Pareto k of the importance weights of both means; 0 where they are of refits.
        * ``diagnosis``: what the sensitivities mean.
    scaled : tuple of str
        Parameters whose priors were scaled.
    left_out : mapping
        Parameters whose priors were not scaled, and why.
    k_limit : float
        The largest k at which a mean is shown.
    k_likelihood : float
        Pareto k of the weights with the changed likelihood; NaN without effects.
    threshold : float
        From which a parameter is sensitive.
    """

    table: pd.DataFrame
    scaled: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    k_limit: float = 0.7
    k_likelihood: float = float("nan")
    threshold: float = THRESHOLD

    @property
    def sensitive(self) -> list[str]:
        """Parameters that are sensitive to the priors."""
        return [str(n) for n in self.table.index[self.table["diagnosis"] != NOT_SENSITIVE]]

    @property
    def remarks(self) -> list[str]:
        """Sentences that the table needs: which priors were left out, and which means."""
        out = [f"Priors scaled: {', '.join(self.scaled)}."]
        for why in dict.fromkeys(self.left_out.values()):
            names = [name for name, own in self.left_out.items() if own == why]
            out.append(f"Not scaled ({why}): {', '.join(names)}.")
        if self.table["likelihood"].isna().any():
            out.append(f"No likelihood sensitivity: {NO_EFFECTS}.")
        elif not self.k_likelihood <= self.k_limit:
            out.append(
                f"Pareto k of the likelihood's weights is {self.k_likelihood:.2f} (at most "
                f"{self.k_limit:.2f}): do not trust the column `likelihood`."
            )
        far = [str(name) for name in self.table.index[~(self.table["k"] <= self.k_limit)]]
        if far:
            out.append(
                f"Pareto k above {self.k_limit:.2f}: {', '.join(far)}. The draws do not reach as "
                "far as the posterior with these priors to the power 1/2 or 2. "
                "prior_sensitivity(refit=True) fits the model again with these priors."
            )
        return out

    def __str__(self) -> str:
        return "\n".join([self._shown().to_string(), "", *self.remarks])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = self._shown().rename_axis(None).to_html(border=0)
        return table + "".join(f"<p>{escape(line)}</p>" for line in self.remarks)

    def _shown(self) -> pd.DataFrame:
        """Sensitivities with three decimals, means with three digits; noise is in `table`."""
        shown = self.table.drop(columns=["prior_noise", "likelihood_noise"])
        forms = dict.fromkeys(("prior", "likelihood"), "{:.3f}") | {"k": "{:.2f}"}
        forms |= dict.fromkeys(("mean", "weaker", "stronger"), "{:.3g}")
        for name, form in forms.items():
            shown[name] = ["" if np.isnan(v) else form.format(v) for v in self.table[name]]
        return shown


class Fitted(Protocol):
    """What is needed of a fit."""

    model: Model
    run: Run
    backend: str
    settings: Settings
    own_program: bool

    @property
    def _estimates(self) -> Estimates: ...


def of_fit(fit: Fitted, priors: str | Sequence[str] | None, refit: bool) -> PriorSensitivity:
    """The sensitivities of a fit.

    Parameters
    ----------
    fit : Fit
    priors : str, sequence of str or None
        Parameters, or vectors, whose priors are scaled; None for all.
    refit : bool
        Whether means are those of fits with the changed priors.

    Raises
    ------
    PriorError
        For a name in `priors` that has no prior, if no prior can be scaled, or if the fit is of a
        program of the user's own.
    BackendError
        With fewer than 100 draws.
    """
    model, run, estimates = fit.model, fit.run, fit._estimates
    if fit.own_program:
        raise PriorError(
            "This fit was run with your own program, whose priors are not known, so they cannot "
            "be scaled."
        )
    draws = flat_draws(run, model)
    count = len(next(iter(draws.values())))
    if count < _LEAST:
        raise BackendError(
            f"Power scaling needs at least {_LEAST} draws, but the fit has {count}. Fit with more "
            "`draws`."
        )
    scaled, left_out = _to_scale(model, priors)
    logs = log_priors(model, draws)
    prior = np.sum([logs[label] for label in scaled], axis=0)
    likelihood = _total_log_likelihood(model, run)
    found, shown = estimates.elements, estimates.shown
    values = found.values.reshape(count, -1)[:, shown]
    labels = [label for label, kept in zip(found.labels, shown, strict=True) if kept]
    limit = pareto_k_limit(int(np.min(estimates.columns["ess_bulk"])))
    columns: dict[str, Array] = {"mean": values.mean(axis=0)}
    columns["prior"], columns["prior_noise"] = _sensitivity(values, prior)
    k_likelihood = np.nan
    if likelihood is None:
        columns["likelihood"] = columns["likelihood_noise"] = np.full(len(labels), np.nan)
    else:
        columns["likelihood"], columns["likelihood_noise"] = _sensitivity(values, likelihood)
        k_likelihood = max(_weights(likelihood, power)[1] for power in NEARBY)
    means, ks = zip(*(_means(values, prior, power) for power in (WEAKER, STRONGER)), strict=True)
    columns["k"] = np.maximum(*ks)
    if refit:
        refits = Refits(model, fit.settings, fit.backend)
        means = tuple(refits.means(scaled, power)[shown] for power in (WEAKER, STRONGER))
        columns["k"] = np.zeros(len(labels))
    for name, mean in zip(("weaker", "stronger"), means, strict=True):
        columns[name] = np.where(columns["k"] <= limit, mean, np.nan)
    order = ["prior", "likelihood", "mean", "weaker", "stronger", "k"]
    order += ["prior_noise", "likelihood_noise"]
    table = pd.DataFrame(columns, index=pd.Index(labels, name="parameter"))[order]
    table.insert(2, "diagnosis", _diagnoses(columns))
    return PriorSensitivity(table, tuple(scaled), left_out, limit, float(k_likelihood))


def _to_scale(model: Model, priors: str | Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Labels of the priors that are scaled, and of those that are not, with the reason."""
    known = elements(model)
    why = {"fixed": "fixed value", "uniform": "flat prior: a power does not change it"}
    estimated = {one.label for one in known}
    cor = {found.cor for found in model.spec.correlated}  # the priors are those of partial ones
    written = [f"{n}[{v}]" for n, own in model.recipe.labels.items() if n not in cor for v in own]
    left_out = {label: why["fixed"] for label in written if label not in estimated}
    left_out |= {one.label: why[one.prior.family] for one in known if one.prior.family in why}
    labels = [one.label for one in known if one.label not in left_out]
    if priors is not None:
        wanted = [priors] if isinstance(priors, str) else priors
        if not isinstance(wanted, Iterable) or isinstance(wanted, Mapping):
            raise PriorError(f"`priors` must be names of parameters, not {shortened(priors)}.")
        chosen = [label for name in wanted for label in _named(name, labels, left_out)]
        left_out |= {label: "not chosen" for label in labels if label not in chosen}
        labels = [label for label in labels if label in chosen]
    if not labels:
        raise PriorError("No prior can be scaled: all of them are flat, or values are fixed.")
    return labels, left_out


def _named(name: object, labels: Sequence[str], left_out: Mapping[str, str]) -> list[str]:
    """The labels of a name: an element, a vector or a scalar."""
    own = [label for label in labels if name in (label, label.partition("[")[0])]
    if own:
        return own
    if name in left_out:
        raise PriorError(f"The prior of `{name}` cannot be scaled ({left_out[str(name)]}).")
    raise PriorError(unknown_name(name, "a parameter with a prior that can be scaled", labels))


def _total_log_likelihood(model: Model, run: Run) -> Array | None:
    """(S,) given the effects; None where they were not kept."""
    kept = all(p.name in run.draws for p in model.spec.parameters if p.role == "effect")
    return np.sum(log_likelihood(model, run), axis=1) if kept else None


def _weights(logs: Array, power: float) -> tuple[Array, float]:
    """(S,) smoothed weights of a density to a power, their sum 1, and Pareto k (0 if all equal)."""
    raw = (power - 1) * logs
    if not np.ptp(raw) > 0:
        return np.full(len(logs), 1 / len(logs)), 0.0
    smooth, k = smoothed_logs(raw)
    return np.exp(smooth - logsumexp(smooth)), float(k)


def _sensitivity(values: Array, logs: Array) -> tuple[Array, Array]:
    """Of each column of (S, K) draws to a log density (S,), and the level of noise."""
    # Late: a fit by itself does not need it.
    from arviz_stats.base import array_stats

    weights = [_weights(logs, power)[0] for power in NEARBY]
    count = len(logs)

    def one(column: Array, shift: int) -> float:
        low, high = (np.roll(w, shift)[None] for w in weights)
        return float(array_stats.power_scale_sense(column[None], low, high, *NEARBY))

    shifts = [count * (i + 1) // (_SHIFTS + 1) for i in range(_SHIFTS)]
    found = np.array([one(column, 0) for column in values.T])
    noise = np.array([max(one(column, s) for s in shifts) for column in values.T])
    return found, noise


def _means(values: Array, logs: Array, power: float) -> tuple[Array, Array]:
    """(K,) weighted means, and the larger k of the weights and of weights times deviations.

    Both tails decide the error of a mean: Vehtari et al. (2024), Journal of Machine Learning
    Research 25(72), section 3.2.
    """
    weights, k = _weights(logs, power)
    away = np.abs(values - values.mean(axis=0))
    raw = (power - 1) * logs
    with np.errstate(divide="ignore"):
        ks = [_tail(raw + np.log(column)) for column in away.T]
    return weights @ values, np.maximum(ks, k)


def _tail(logs: Array) -> float:
    """Pareto k of weights, of which some may be 0."""
    return float(smoothed_logs(logs[np.isfinite(logs)])[1])


def _diagnoses(columns: Mapping[str, Array]) -> list[str]:
    """The words of each row."""
    prior = (columns["prior"] >= THRESHOLD) & (columns["prior"] > columns["prior_noise"])
    likelihood = columns["likelihood"]
    data = (likelihood >= THRESHOLD) & (likelihood > columns["likelihood_noise"])
    words = np.where(data, BOTH, np.where(np.isnan(likelihood), UNKNOWN, STRONG_PRIOR))
    return [str(w) if p else NOT_SENSITIVE for w, p in zip(words, prior, strict=True)]
