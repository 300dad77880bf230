"""Posterior predictive checks: the data beside data that the fitted model would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rmm.errors import DataError, unknown_name
from rmm.formula.terms import DURATIONS
from rmm.posterior.diagnostics.summary import QUANTILES, spread
from rmm.posterior.prediction.turnbull import turnbull
from rmm.tables.read import Array

if TYPE_CHECKING:
    from rmm.design.prepare import Model

STATISTICS: Mapping[str, Callable[[Array], Array]] = {
    "mean": lambda y: y.mean(axis=-1),
    "sd": lambda y: y.std(axis=-1, ddof=1),
    "min": lambda y: y.min(axis=-1),
    "max": lambda y: y.max(axis=-1),
}


def statistics(observed: Array, replicated: Array) -> pd.DataFrame:
    """Statistics of the outcome and of its replications.

    Parameters
    ----------
    observed : (J,) array
    replicated : (S, J) array

    Returns
    -------
    pandas.DataFrame
        Index ``statistic`` (mean, sd, min, max; the share of ones where all are 0 or 1); columns
        observed, then mean, sd and quantiles of the replications, and ``p``: the share of
        replications above the data, ties half (Gelman, Meng and Stern 1996).

    Examples
    --------
    >>> import numpy as np
    >>> table = statistics(np.array([0, 1, 1]), np.array([[0, 0, 1], [1, 1, 1]]))
    >>> table[["observed", "p"]].round(2)
                   observed    p
    statistic
    share of ones      0.67  0.5
    """
    binary = bool(np.isin(observed, (0, 1)).all())
    chosen = {"share of ones": STATISTICS["mean"]} if binary else STATISTICS
    rows = {}
    for name, statistic in chosen.items():
        here, there = float(statistic(observed)), statistic(replicated)
        p = float(np.mean(there > here) + 0.5 * np.mean(there == here))
        each = {k: float(v) for k, v in spread(there).items()}
        rows[name] = {"observed": here, **each, "p": p}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("statistic")


def in_order_of_predictions(model: Model, parts: Sequence[Array]) -> tuple[Array, ...]:
    """(J,) arrays over the groups of a fit in the order of `Fit.predict`.

    Without members the groups are rows, in the user's order.
    """
    if model.spec.members:
        return tuple(parts)
    order = np.argsort(model.design.coords["group"].astype(int), kind="stable")
    return tuple(part[order] for part in parts)


def survival(
    time: Array,
    event: Array,
    replicated: Array,
    points: int = 100,
    entry: Array | None = None,
) -> pd.DataFrame:
    """Kaplan-Meier curve of the data, and survival curves of replications with bands.

    Replications are not censored, so that theirs is the share that is longer; the data's is the
    product-limit estimate, which censoring that does not depend on the outcome leaves unbiased.
    With entries, replications last beyond them and are at risk from then on, and end where the
    data of their group are censored: a spell says nothing of the time after its end.

    Parameters
    ----------
    time, event : (J,) arrays
        `event` 1 where the end was seen.
    replicated : (S, J) array
    points : int
        Of the grid, from 0 to the longest time, in the unit of `time`.
    entry : (J,) array, optional
        Times from which groups are at risk.

    Returns
    -------
    pandas.DataFrame
        Index ``time``; columns observed, mean, q2.5, median, q97.5.
    """
    grid = np.linspace(0.0, float(time.max()), points)
    if entry is None:
        longer = np.array([_longer(row, grid) for row in replicated])
    else:
        end = np.where(event == 1, np.inf, time)
        longer = np.array(
            [kaplan_meier(np.minimum(row, end), row <= end, grid, entry) for row in replicated]
        )
    return _beside(kaplan_meier(time, event, grid, entry), longer, grid)


def interval_survival(
    lower: Array, upper: Array, replicated: Array, points: int = 100
) -> pd.DataFrame:
    """Turnbull's curve of events known to lie between two times, and curves of replications.

    Parameters
    ----------
    lower, upper : (J,) arrays
        Equal where the time is known; `upper` is infinite where no event was seen.
    replicated : (S, J) array
    points : int
        Of the grid, from 0 to the longest time, in the unit of `lower`.

    Returns
    -------
    pandas.DataFrame
        As of `survival`.
    """
    last = max(float(lower.max()), float(upper[np.isfinite(upper)].max()))
    grid = np.linspace(0.0, last, points)
    longer = np.array([_longer(row, grid) for row in replicated])
    return _beside(turnbull(lower, upper, grid), longer, grid)


def _longer(row: Array, grid: Array) -> Array:
    return 1.0 - np.searchsorted(np.sort(row), grid, side="right") / len(row)


def _beside(observed: Array, longer: Array, grid: Array) -> pd.DataFrame:
    """The table of a curve of the data and (S, points) curves of replications."""
    low, median, high = np.quantile(longer, QUANTILES, axis=0)
    columns = {
        "observed": observed,
        "mean": longer.mean(axis=0),
        "q2.5": low,
        "median": median,
        "q97.5": high,
    }
    return pd.DataFrame(columns, index=pd.Index(grid, name="time"))


def kaplan_meier(time: Array, event: Array, grid: Array, entry: Array | None = None) -> Array:
    """S(t) = product over event times up to t of 1 - d/n (Kaplan and Meier 1958).

    With entries those are at risk at t who entered before it (Klein & Moeschberger 2003, 4.6).
    """
    times = np.unique(time[event == 1])
    at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
    if entry is not None:
        at_risk = at_risk - (len(time) - np.searchsorted(np.sort(entry), times, side="left"))
    ends = np.searchsorted(np.sort(time[event == 1]), times, side="right")
    deaths = np.diff(np.concatenate([[0], ends]))
    steps = np.concatenate([[1.0], np.cumprod(1.0 - deaths / at_risk)])
    return np.asarray(steps[np.searchsorted(times, grid, side="right")])


def check(
    kind: str, outcome_kind: str, parts: tuple[Array, ...], replicated: Array
) -> pd.DataFrame:
    """The table of a kind of check; ``"auto"`` is survival for `Surv()`, else statistics.

    Raises
    ------
    DataError
        For a kind that is unknown or does not fit the outcome.
    """
    if kind == "auto":
        kind = "survival" if outcome_kind in DURATIONS else "statistics"
    if kind not in ("statistics", "survival"):
        raise DataError(unknown_name(kind, "a kind of check", ("auto", "statistics", "survival")))
    if (kind == "survival") != (outcome_kind in DURATIONS):
        raise DataError(
            f'The check {kind!r} cannot be used with this outcome. Use "survival" for censored '
            'durations, and "statistics" for all other outcomes.'
        )
    if outcome_kind == "interval":
        return interval_survival(parts[0], parts[1], replicated)
    if kind == "survival":
        entry = parts[2] if outcome_kind == "spell" else None
        return survival(parts[0], parts[1], replicated, entry=entry)
    return statistics(parts[0], replicated)
