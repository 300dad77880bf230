"""Prior predictive check: what the priors alone say of outcomes, and what was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rmm.posterior.plots.figure import Sheet, in_style
from rmm.posterior.plots.style import FILL, INK, LOOKS

if TYPE_CHECKING:
    from rmm.design.prepare import Model

Array = np.ndarray[Any, Any]
_BINS = 60
_MOST_DIGITS = 300
_INSIDE = (0.005, 0.995)  # quantiles between which a histogram of unbounded values is drawn


class PriorDraws(Protocol):
    """What is drawn here of a `PriorPredictive`."""

    @property
    def model(self) -> Model:
        """Whose priors they are."""

    @property
    def shown(self) -> tuple[str, Array]:
        """Name of the quantity, and its (S, J) values."""

    @property
    def implausible(self) -> float | None:
        """Share of draws that hardly any data set would have."""


class WithPriors(Protocol):
    """A `Fit`, of which only its priors are drawn here."""

    def prior_predictive(self, draws: int = 1000, seed: int | None = None) -> PriorDraws:
        """Draw from the priors."""


def draw(fit: WithPriors, draws: int = 1000, seed: int | None = None) -> Sheet:
    """A histogram of what the fit's priors say of its groups' outcomes; see `figure_of`.

    Parameters
    ----------
    draws : int
        From the priors.
    seed : int, optional
        Default: the fit's.
    """
    return figure_of(fit.prior_predictive(draws, seed))


@in_style
def figure_of(found: PriorDraws) -> Sheet:
    """A histogram over draws and groups, with what was observed.

    Probabilities: between 0 and 1, with the observed share. Other numbers: with the observed ones
    as ticks; durations, other positive numbers and relative hazards on a logarithmic scale.
    """
    sheet = Sheet(figsize=(5.4, 3.0), layout="constrained")
    cell = sheet.subplots()
    name, values = found.shown
    logs = name == "relative hazard" or found.model.spec.family.log_scale
    x = _log10(values.ravel()) if logs else values.ravel()
    bins = _bins(x, name)
    cell.hist(
        np.clip(x, bins[0], bins[-1]),
        list(bins),
        weights=np.full(x.size, 100 / x.size),
        color=FILL,
        edgecolor=LOOKS[0].colour,
        lw=0.4,
        label="prior draws",
    )
    if logs:
        cell.xaxis.set_major_formatter(_as_number)
        cell.locator_params(axis="x", nbins=7, integer=True)
    _observed(cell, found, name)
    cell.set_ylabel("per cent of draws")
    cell.set_xlabel(_label(found, name))
    cell.set_title(_title(found), loc="left", fontweight="bold", color=INK)
    cell.legend(frameon=False, fontsize=7.5, loc="best")
    return sheet


def _log10(values: Array) -> Array:
    """Logarithms of what may be 0 or infinite under vague priors."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log10(values), -_MOST_DIGITS, _MOST_DIGITS)


def _as_number(log10: float, place: float) -> str:
    return f"{10 ** float(np.clip(log10, -_MOST_DIGITS, _MOST_DIGITS)):.4g}"


def _bins(x: Array, name: str) -> Array:
    if name == "probability":
        return np.linspace(0, 1, _BINS + 1)
    low, high = np.quantile(x, _INSIDE)
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _observed(cell: Any, found: PriorDraws, name: str) -> None:
    outcome = found.model.design.outcome
    if name == "relative hazard":
        return
    if name == "probability":
        share = np.sum(outcome["y"]) / np.sum(
            np.broadcast_to(outcome.get("trials", 1), outcome["y"].shape)
        )
        cell.axvline(float(share), color=INK, lw=1.4, label="observed share")
        return
    seen = np.asarray(outcome["time"] if "time" in outcome else outcome["y"], dtype=float)
    seen = _log10(seen) if found.model.spec.family.log_scale else seen
    ticks = cell.get_xaxis_transform()
    cell.plot(
        seen,
        np.full(len(seen), 0.02),
        "|",
        color=INK,
        ms=7,
        mew=0.6,
        transform=ticks,
        label="observed",
    )


def _label(found: PriorDraws, name: str) -> str:
    label = str(found.model.spec.formula.outcome.label)
    return {
        "probability": "probability that a group is chosen"
        if found.model.spec.family.unit == "stratum"
        else f"probability of {label}",
        "relative hazard": "hazard relative to a linear predictor of 0",
        "outcome": "duration" if "time" in found.model.design.outcome else label,
    }[name]


def _title(found: PriorDraws) -> str:
    text = f"Prior predictive check, {found.model.spec.family.name}"
    share = found.implausible
    if share is None:
        return text
    what = "outside .01 to .99" if found.shown[0] == "probability" else "1,000-fold off the median"
    return f"{text}: {100 * share:.0f}% {what}"
