"""Posterior predictive check: replicated outcomes beside those observed, as fits the family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import PlotError
from rmm.posterior.plots.figure import Sheet, density, in_style
from rmm.posterior.plots.style import FILL, INK, LOOKS, RULE
from rmm.posterior.prediction.predictive_checks import (
    in_order_of_predictions,
    interval_survival,
    survival,
)

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

Array = np.ndarray[Any, Any]
Check = Callable[..., None]
_MOST_BINS, _LEAST_IN_BIN = 10, 10
_BAND = (0.025, 0.975)
_MOST_STEPS = 40  # of counts


@in_style
def draw(fit: FitTables, replications: int = 50, seed: int | None = None) -> Sheet:
    """Outcomes that the model draws for the groups of the fit, against the observed ones.

    A number: densities of `replications` replicated outcomes and of the observed one, those of
    logs where the family has positive numbers. Counts:
    number of groups with each count, with the interval in which 95% of replicated numbers lie. 0/1,
    successes of trials, and choices: observed shares over predicted probabilities in bins of as
    many groups, with the interval in which 95% of replicated shares lie. Durations: Kaplan-Meier
    curve of the observed ones, in the band of 95% of the replicated curves (whose durations are not
    censored).

    Parameters
    ----------
    replications : int
        Number of curves; the other checks use all draws.
    seed : int, optional
        Of the replicated outcomes; default: the fit's.
    """
    if isinstance(replications, bool) or not isinstance(replications, int) or replications < 1:
        raise PlotError(
            f"`replications` must be a whole number of at least 1, but is {replications!r}."
        )
    replicated = fit.predict(kind="outcome", draws=True, seed=seed).to_numpy()
    replicated = replicated.reshape(-1, replicated.shape[2]).astype(float)
    sheet = Sheet(figsize=(5.4, 3.3), layout="constrained")
    cell = sheet.subplots()
    family = fit.model.spec.family
    CHECKS[family.check](cell, fit, replicated, replications)
    cell.set_title(
        f"Posterior predictive check, {family.name}", loc="left", fontweight="bold", color=INK
    )
    cell.legend(frameon=False, fontsize=7.5, loc="best")
    return sheet


def _label(fit: FitTables) -> str:
    return str(fit.model.spec.formula.outcome.label)


# ---- numbers ---------------------------------------------------------------------------------


def _densities(cell: Any, fit: FitTables, replicated: Array, replications: int) -> None:
    logs = fit.model.spec.family.log_scale

    def curve(outcomes: Array) -> tuple[Array, Array]:
        x, y = density(np.log(outcomes) if logs else outcomes)
        return (np.exp(x) if logs else x), y

    every = np.linspace(0, len(replicated) - 1, min(replications, len(replicated))).astype(int)
    for i, draw_number in enumerate(every):
        x, y = curve(replicated[draw_number])
        cell.plot(
            x,
            y,
            color=LOOKS[6].colour,
            lw=0.5,
            alpha=0.5,
            label=f"{len(every)} replicated" if i == 0 else None,
        )
    x, y = curve(np.asarray(fit.model.design.outcome["y"], dtype=float))
    cell.plot(x, y, color=INK, lw=1.8, label="observed")
    if logs:
        cell.set_xscale("log")
    cell.set_yticks([])
    cell.set_ylim(bottom=0)
    cell.spines["left"].set_visible(False)
    cell.set_xlabel(_label(fit))


# ---- counts ----------------------------------------------------------------------------------


def _counts(cell: Any, fit: FitTables, replicated: Array, replications: int) -> None:
    table = frequencies(np.asarray(fit.model.design.outcome["y"]), replicated)
    middle = (table["first"] + table["last"]) / 2
    cell.vlines(middle, table["low"], table["high"], color=FILL, lw=6, label="95% of replications")
    cell.plot(middle, table["observed"], "o", color=INK, ms=4.5, label="observed")
    cell.set_ylim(bottom=0)
    cell.set_xlabel(_label(fit))
    wide = int((table["last"] - table["first"])[0]) + 1
    cell.set_ylabel("groups" if wide == 1 else f"groups, in steps of {wide}")


def frequencies(observed: Array, replicated: Array) -> dict[str, Array]:
    """How many groups have each count, or a count in each of at most 40 equal steps.

    Parameters
    ----------
    observed : (J,) array
    replicated : (S, J) array

    Returns
    -------
    dict
        Per step: ``first`` and ``last`` count, number of groups ``observed``, and ``low`` and
        ``high``, between which 95% of replicated numbers lie. Replicated counts beyond the last
        step are in none.
    """
    largest = int(max(observed.max(), np.quantile(replicated.max(axis=1), 0.5)))
    wide = -(-(largest + 1) // _MOST_STEPS)
    first = np.arange(0, largest + 1, wide)
    steps = len(first)

    def groups(values: Array) -> Array:
        step = np.minimum(values // wide, steps).astype(int)
        return np.bincount(step, minlength=steps + 1)[:steps]

    low, high = np.quantile([groups(one) for one in replicated], _BAND, axis=0)
    last = first + wide - 1
    return {"first": first, "last": last, "observed": groups(observed), "low": low, "high": high}


# ---- ordered levels --------------------------------------------------------------------------


def _levels(cell: Any, fit: FitTables, replicated: Array, replications: int) -> None:
    outcome = fit.model.design.outcome
    scores, place = outcome["score"], np.arange(len(outcome["score"]))
    low, high = np.quantile(
        [[np.count_nonzero(one == score) for score in scores] for one in replicated], _BAND, axis=0
    )
    observed = [np.count_nonzero(outcome["y"] == score) for score in scores]
    cell.vlines(place, low, high, color=FILL, lw=6, label="95% of replications")
    cell.plot(place, observed, "o", color=INK, ms=4.5, label="observed")
    cell.set_xticks(place, [str(v) for v in outcome["levels"]])
    cell.set_ylim(bottom=0)
    cell.set_xlabel(_label(fit))
    cell.set_ylabel("groups")


# ---- shares ----------------------------------------------------------------------------------


def _shares(cell: Any, fit: FitTables, replicated: Array, replications: int) -> None:
    outcome = fit.model.design.outcome
    trials = np.broadcast_to(outcome.get("trials", 1), outcome["y"].shape).astype(float)
    mean = fit.predict(kind="mean", draws=True).to_numpy()
    predicted = mean.reshape(-1, mean.shape[2]).mean(axis=0) / trials
    bins = calibration(predicted, outcome["y"], trials, replicated)
    cell.plot([0, 1], [0, 1], color=RULE, lw=0.8, zorder=0)
    cell.vlines(
        bins["predicted"],
        bins["low"],
        bins["high"],
        color=FILL,
        lw=6,
        zorder=1,
        label="95% of replications",
    )
    cell.plot(bins["predicted"], bins["observed"], "o", color=INK, ms=4.5, label="observed")
    top = 1.05 * float(max(bins["high"].max(), bins["observed"].max(), bins["predicted"].max()))
    low = float(min(bins["low"].min(), bins["observed"].min(), bins["predicted"].min()))
    low = 0.0 if low < 0.3 else low - 0.05 * (top - low)
    cell.set_xlim(low, min(1.02, top))
    cell.set_ylim(low, min(1.02, top))
    cell.set_xlabel("predicted probability")
    what = "of successes" if "trials" in outcome else f"with {_label(fit)} = 1"
    cell.set_ylabel("share chosen" if fit.model.spec.family.unit == "stratum" else f"share {what}")


def calibration(
    predicted: Array, successes: Array, trials: Array, replicated: Array
) -> dict[str, Array]:
    """Observed and replicated shares in bins of about as many groups, by predicted probability.

    Parameters
    ----------
    predicted, successes, trials : (J,) arrays
    replicated : (S, J) array of replicated successes

    Returns
    -------
    dict
        Per bin: ``predicted`` (mean probability, weighted by trials), ``observed`` share, and
        ``low``, ``high``, between which 95% of the replicated shares lie.
    """
    count = int(np.clip(len(predicted) // _LEAST_IN_BIN, 1, _MOST_BINS))
    members = np.array_split(np.argsort(predicted, kind="stable"), count)
    rows = []
    for groups in members:
        total = trials[groups].sum()
        shares = replicated[:, groups].sum(axis=1) / total
        rows.append(
            (
                float((predicted * trials)[groups].sum() / total),
                float(successes[groups].sum() / total),
                *(float(q) for q in np.quantile(shares, _BAND)),
            )
        )
    names = ("predicted", "observed", "low", "high")
    return dict(zip(names, np.array(rows).T, strict=True))


# ---- durations -------------------------------------------------------------------------------


def _durations(cell: Any, fit: FitTables, replicated: Array, replications: int) -> None:
    outcome, estimate = fit.model.design.outcome, "Kaplan-Meier"
    if "upper_end" in outcome:
        estimate, intervals = "Turnbull", [outcome["lower"], outcome["upper_end"]]
        lower, upper = in_order_of_predictions(fit.model, intervals)
        table = interval_survival(lower, upper, replicated, points=300)
    else:
        names = [name for name in ("time", "event", "entry") if name in outcome]
        parts = in_order_of_predictions(fit.model, [outcome[name] for name in names])
        time, event, *entry = parts
        table = survival(time, event, replicated, points=300, entry=entry[0] if entry else None)
    time = table.index.to_numpy()
    cell.fill_between(
        time, table["q2.5"], table["q97.5"], color=FILL, lw=0, label="95% of replications"
    )
    cell.plot(
        time,
        table["median"],
        color=LOOKS[0].colour,
        lw=1.0,
        ls=LOOKS[1].line,
        label="median of replications",
    )
    cell.step(
        time, table["observed"], where="post", color=INK, lw=1.5, label=f"observed ({estimate})"
    )
    cell.set_xlim(0, time[-1])
    cell.set_ylim(0, 1.02)
    cell.set_xlabel("time")
    cell.set_ylabel("share not ended")


#: `Family.check` -> check.
CHECKS: Mapping[str, Check] = {
    "densities": _densities,
    "shares": _shares,
    "counts": _counts,
    "durations": _durations,
    "levels": _levels,
}
