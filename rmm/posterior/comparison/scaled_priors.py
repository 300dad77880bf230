"""The evidence over the scale of a prior: how much of a Bayes factor did the prior say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rmm.arguments import readable
from rmm.backends.laplace.run import computing
from rmm.design.prepare import Model
from rmm.errors import DataError, PriorError, unknown_name
from rmm.formula.prior_syntax import Prior
from rmm.posterior.comparison.bayes_factors import check_fits
from rmm.posterior.comparison.outcome_scale import places
from rmm.posterior.evidence.evidence import by_importance, settings_of
from rmm.posterior.evidence.integrated_posterior import IntegratedPosterior
from rmm.posterior.fit import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)

#: Prior family -> its values with a scale that is `c` times as large; the location stays.
_SCALED: dict[str, Callable[..., tuple[float, ...]]] = {
    "normal": lambda c, location, scale: (location, c * scale),
    "student_t": lambda c, df, location, scale: (df, location, c * scale),
    "half_normal": lambda c, scale: (c * scale,),
    "half_t": lambda c, df, scale: (df, c * scale),
    "half_cauchy": lambda c, scale: (c * scale,),
    "exponential": lambda c, rate: (rate / c,),
    "gamma": lambda c, shape, rate: (shape, rate / c),
    "precision_gamma": lambda c, shape, rate: (shape, rate * c**2),
}


@dataclass(frozen=True)
class EvidenceCurve:
    """The evidence of some models over the scale of a prior that they share.

    Attributes
    ----------
    parameter : str
    table : pandas.DataFrame
        Index ``scale``: by what the prior's scale is multiplied. Columns (model, ``log_evidence``
        or ``mcse``).
    """

    parameter: str
    table: pd.DataFrame

    def plot(self) -> Figure:
        """Log Bayes factors against the first model, over the scale of the prior.

        Returns
        -------
        matplotlib.figure.Figure
        """
        # Late: figures need matplotlib, the numbers do not.
        from rmm.posterior.comparison.evidence_figure import draw

        return draw(self.parameter, self.table)


@readable(DataError)
def evidence_curve(
    fits: Mapping[str, Fit],
    parameter: str,
    *,
    scales: Sequence[float] = SCALES,
    seed: int | None = None,
) -> EvidenceCurve:
    """The evidence of fits whose prior of one parameter is made narrower and wider.

    Parameters
    ----------
    fits : mapping of str to Fit
        As for `bayes_factor`. Models without the parameter keep their evidence.
    parameter : str
        As in `fit.summary()`, ``"b_w[b1]"``; or the name of a vector for all of it, ``"b_w"``.
    scales : sequence of float
        What the scale of the prior is multiplied by; its location and family stay.
    seed : int, optional
        Default: each fit's own.

    Returns
    -------
    EvidenceCurve

    Raises
    ------
    DataError
        If no model has the parameter, or the fits cannot be compared.
    PriorError
        If its prior has no scale (uniform, or a fixed value).
    BackendError
        If an evidence cannot be trusted.
    """
    check_fits(fits, seed)
    factors = np.asarray(scales, dtype=float)
    if factors.ndim != 1 or not len(factors) or not (np.isfinite(factors) & (factors > 0)).all():
        raise DataError("`scales` must be positive numbers, such as (0.5, 1, 2).")
    known = {name: places(fit.model) for name, fit in fits.items()}
    every = list(dict.fromkeys(k for one in known.values() for k in one))
    if not any(_matching(parameter, one) for one in known.values()):
        raise DataError(unknown_name(str(parameter), "a parameter of any of the fits", every))
    columns: dict[tuple[str, str], list[float]] = {}
    for name, fit in fits.items():
        own = seed if seed is not None else fit.settings.seed
        chosen = [place for _, place in _matching(parameter, known[name])]
        found = [
            _evidence(with_scaled_prior(fit.model, chosen, c), fit, own)
            for c in (factors if chosen else factors[:1])
        ]
        found *= 1 if chosen else len(factors)
        columns[name, "log_evidence"] = [one[0] for one in found]
        columns[name, "mcse"] = [one[1] for one in found]
    table = pd.DataFrame(columns, index=pd.Index(factors, name="scale"))
    return EvidenceCurve(parameter, table)


def _matching(parameter: str, known: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The elements that a name says: one, or all of a vector."""
    return [
        (label, place)
        for label, place in known.items()
        if label == parameter or label.split("[")[0] == parameter
    ]


def _evidence(model: Model, fit: Fit, seed: int) -> tuple[float, float]:
    """The log evidence of a changed model, and its error."""
    with computing():
        posterior = IntegratedPosterior(model, seed)
        found = by_importance(posterior, posterior.proposals(settings_of(fit)))
    return found.value, found.mcse


def with_scaled_prior(model: Model, chosen: Sequence[tuple[str, int]], factor: float) -> Model:
    """The model with wider priors of some elements (sampled parameter, index)."""
    elements = {name: list(priors) for name, priors in model.priors.elements.items()}
    for name, index in chosen:
        elements[name][index] = _scaled(name, elements[name][index], factor)
    changed = {name: tuple(priors) for name, priors in elements.items()}
    return replace(model, priors=replace(model.priors, elements=changed))


def _scaled(name: str, prior: Prior, factor: float) -> Prior:
    """The prior with its scale multiplied."""
    if prior.family not in _SCALED:
        raise PriorError(
            f"The prior of `{name}` is {prior}, which has no scale. Only the scale of "
            f"{', '.join(_SCALED)} can be changed."
        )
    return Prior(prior.family, _SCALED[prior.family](factor, *prior.values))
