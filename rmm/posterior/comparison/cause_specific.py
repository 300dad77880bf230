"""Competing risks: one fit for each cause, and the cumulative incidence of the causes.

The likelihood of the cause-specific hazards factorises: that of a cause is the likelihood of a
model in which groups that end for another cause are censored then (Prentice, Kalbfleisch, Peterson,
Flournoy, Farewell and Breslow 1978, "The analysis of failure times in the presence of competing
risks", Biometrics 34). With independent priors the posteriors of the causes are independent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray

from rmm.arguments import check_seed, readable_methods
from rmm.design.prepare import Model
from rmm.errors import BackendError, DataError, quoted, unknown_name
from rmm.posterior.diagnostics.summary import spread
from rmm.posterior.fit import Fit
from rmm.posterior.load import load
from rmm.posterior.prediction.linear_predictor import (
    Draws,
    Layout,
    eta_draws,
    flat_draws,
    layout_of,
    some_draws,
)
from rmm.posterior.prediction.new_groups import lay_out
from rmm.posterior.prediction.new_units import check_new_units
from rmm.posterior.prediction.predict import EFFECTS, of_new_groups
from rmm.posterior.reporting.fit_text import formatted
from rmm.tables.read import Array

_POINTS = 400  # of the grid on which smooth hazards are integrated
_INDEX, _MOST_BYTES, _FORMAT = "causes.json", 1_000_000, 1
_MOST_CAUSES = 100


@readable_methods(DataError)
@dataclass(frozen=True)
class CompetingRisks:
    """Fits of the cause-specific hazards, as `rmm.competing_risks` returns them.

    Attributes
    ----------
    fits : mapping
        Cause, as the table has it -> its `Fit`, in which all other ends are censored.
    event : str
        Column of the causes.
    censored : object
        The value of that column which means that no cause was seen; None: there is none.
    """

    fits: Mapping[Any, Fit]
    event: str
    censored: Any = 0

    def __getitem__(self, cause: Any) -> Fit:
        """The fit of a cause."""
        if cause not in self.fits:
            raise DataError(unknown_name(cause, "a cause", list(self.fits)))
        return self.fits[cause]

    @property
    def causes(self) -> tuple[Any, ...]:
        """The causes, in the order of their labels."""
        return tuple(self.fits)

    @property
    def converged(self) -> bool:
        """Whether all of the fits have converged."""
        return all(fit.converged for fit in self.fits.values())

    def summary(
        self, prob: float = 0.95, columns: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Structural parameters of all causes: `Fit.summary` of each, after a column ``cause``.

        Parameters
        ----------
        prob : float
            Probability of the interval.
        columns : str or sequence of str, optional
            Columns besides ``cause``; default all.

        Returns
        -------
        pandas.DataFrame
            One row per cause and parameter; the index is ``parameter``.
        """
        tables = []
        for cause, fit in self.fits.items():
            table = fit.summary(prob=prob, columns=columns)
            table.insert(0, "cause", pd.Series([cause] * len(table), table.index, dtype=object))
            tables.append(table)
        return pd.concat(tables)

    def cumulative_incidence(
        self,
        times: Any,
        newdata: Any = None,
        *,
        effects: str = "all",
        new: Any = False,
        draws: bool = False,
        seed: int | None = None,
    ) -> Any:
        """Probability that a group has ended for a cause by a time, F_k(t) = P(T <= t, cause k).

        F_k(t) is the integral from 0 to t of S(u) dH_k(u), with H_k the cumulative hazard of cause
        k and S(u) = exp(-sum of all H_k(u)): Kalbfleisch and Prentice (2002), "The Statistical
        Analysis of Failure Time Data", 8.2. Draw s of F_k combines draw s of all causes, whose
        posteriors are independent. All F_k and S sum to 1. Groups are followed from time 0 with
        the covariates and members of their row, whatever their entry. Where all groups of a cox
        model enter late, time counts from the first entry, until which no group has ended.

        Parameters
        ----------
        times : float or sequence of float
            Positive, in the unit of the durations.
        newdata : frame, table, mapping or path, optional
            One row per membership, without the outcome; default: the groups of the fit.
        effects : {"all", "known", "none"}
            Random effects of members and nesting units, as for `Fit.predict`.
        new : bool, id or list of ids
            Members and nesting units that may be new, as for `Fit.predict`.
        draws : bool
            Whether to return draws.
        seed : int, optional
            Of effects of new members and of baseline hazards; default: that of the fits.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
            Columns mean, sd, q2.5, median and q97.5; the index is ``group``, ``time``, ``cause``.
            With `draws` an array (draw, group, time, cause).

        Raises
        ------
        BackendError
            For times that are not positive, or of which the data of a cox model say nothing.
        """
        moments = _check_times(times)
        check_seed(seed, BackendError)
        if effects not in EFFECTS:
            raise BackendError(unknown_name(effects, "a value of `effects`", EFFECTS))
        sources = [
            _Source.of(fit, newdata, effects, _own_seed(fit, seed, number), new)
            for number, fit in enumerate(self.fits.values())
        ]
        labels = sources[0].labels
        found = np.stack([_incidence(sources, j, moments) for j in range(len(labels))], axis=1)
        if draws:
            coords = {"group": labels, "time": moments, "cause": list(self.fits)}
            return xarray.DataArray(found, dims=("draw", "group", "time", "cause"), coords=coords)
        index = pd.MultiIndex.from_product(
            [labels, moments, list(self.fits)], names=["group", "time", "cause"]
        )
        return pd.DataFrame(spread(found.reshape(len(found), -1)), index=index)

    def save(self, path: str | Path) -> Path:
        """Write the fits into a new folder; `CompetingRisks.load` reads it back.

        Parameters
        ----------
        path : path
            A folder that does not exist, in one that does.

        Returns
        -------
        Path

        Raises
        ------
        DataError
            If the folder exists, or cannot be made.
        """
        folder = Path(path)
        if folder.exists() or not folder.parent.is_dir():
            what = "exists already" if folder.exists() else "cannot be made"
            raise DataError(f"{folder}: this folder {what}. Give a new folder in an existing one.")
        folder.mkdir()
        for number, fit in enumerate(self.fits.values(), start=1):
            fit.save(folder / f"cause_{number}.nc")
        about = {"format": _FORMAT, "event": self.event, "censored": self.censored}
        text = json.dumps({**about, "causes": list(self.fits)})
        (folder / _INDEX).write_text(text, encoding="utf-8")  # last: a folder without is not whole
        return folder

    @staticmethod
    def load(path: str | Path) -> CompetingRisks:
        """Read a folder that `save` wrote.

        Parameters
        ----------
        path : path

        Returns
        -------
        CompetingRisks

        Raises
        ------
        DataError
            If it is no such folder, or a file in it cannot be read.
        """
        folder = Path(path)
        about = _read_index(folder)
        fits = {
            cause: load(folder / f"cause_{number}.nc")
            for number, cause in enumerate(about["causes"], start=1)
        }
        return CompetingRisks(fits, about["event"], about["censored"])

    def __str__(self) -> str:
        return f"{self._formula()}\n{self._headline()}\n\n{self._shown().to_string()}"

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text, as a table."""
        table = self._shown().rename_axis(None).to_html(border=0)
        head = f"<code>{escape(self._formula())}</code><br>{escape(self._headline())}"
        return f"<p>{head}</p>{table}"

    def _shown(self) -> pd.DataFrame:
        table = self.summary(columns=["mean", "sd", "q2.5", "q97.5", "rhat"])
        cause = table.pop("cause")
        text = formatted(table)
        text.insert(0, "cause", cause)
        return text

    def _formula(self) -> str:
        return next(iter(self.fits.values())).model.formula

    def _headline(self) -> str:
        family = next(iter(self.fits.values())).model.spec.family.name
        causes = ", ".join(quoted(cause) for cause in self.fits)
        return (
            f"Competing risks, one {family} fit for each of the causes {causes} of `{self.event}`"
        )

    def __repr__(self) -> str:
        return str(self)


def _read_index(folder: Path) -> dict[str, Any]:
    """`causes.json`, checked."""
    file = folder / _INDEX
    if not file.is_file() or file.stat().st_size > _MOST_BYTES:
        raise DataError(f"{folder}: this is not a folder that `CompetingRisks.save` wrote.")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        causes, known = about["causes"], about["format"] == _FORMAT
        plain = all(isinstance(c, str | int | float) for c in causes)
        valid = known and plain and isinstance(about["event"], str) and "censored" in about
    except (ValueError, KeyError, TypeError, RecursionError):  # of text nested without end
        valid = False
    if not valid or not 0 < len(set(causes)) == len(causes) <= _MOST_CAUSES:
        raise DataError(f"{file}: this file has changed since it was saved. Save the fits again.")
    return dict(about)


def _check_times(times: Any) -> Array:
    """(T,) times."""
    given = [times] if np.ndim(times) == 0 else list(times)
    number = all(
        isinstance(t, int | float | np.number) and not isinstance(t, bool) and 0 < t < np.inf
        for t in given
    )
    if not given or not number:
        raise BackendError(
            "`times` must be positive numbers in the unit of the durations, such as [365, 730]."
        )
    return np.array(given, dtype=float)


def _own_seed(fit: Fit, seed: int | None, number: int) -> int:
    """Random numbers of one cause that are not those of another."""
    used = fit.settings.seed if seed is None else seed
    return int(np.random.SeedSequence([used, number]).generate_state(1)[0])


@dataclass(frozen=True, eq=False)
class _Source:
    """One cause: what is needed of its hazard for some groups.

    Attributes
    ----------
    model : Model
    labels : (J,) array
    eta : (S, J) array
    own : mapping
        (S,) draws of the family's own parameters.
    outcome : mapping
        Of the groups, with (S, K) draws of the baseline where the family has one.
    """

    model: Model
    labels: Array
    eta: Array
    own: Draws
    outcome: Mapping[str, Any]

    @staticmethod
    def of(fit: Fit, newdata: Any, effects: str, seed: int, new: Any) -> _Source:
        """The groups of `newdata`, or of the fit, in the order of `Fit.predict`."""
        model, fitted = fit.model, flat_draws(fit.run, fit.model)
        family = model.spec.family
        assert family.cumulative_hazard is not None, "durations"
        names = model.spec.unit_effects
        layout: Layout = layout_of(model)
        draws: Draws = fitted
        if newdata is not None:
            rows = lay_out(model, newdata)
            check_new_units(model, rows, effects, new)
            layout, draws = of_new_groups(model, fitted, rows, effects, seed)
        elif effects == "none":
            draws = {name: values for name, values in fitted.items() if name not in names}
        eta, outcome = eta_draws(model, layout, draws), dict(model.design.outcome)
        own = {p.name: fitted[p.name] for p in family.parameters}
        if family.baseline is not None:
            known = eta_draws(model, layout_of(model), fitted)
            rng = np.random.default_rng([seed, 0xBA5E])
            outcome["baseline"] = family.baseline(known, own, model.design.outcome, rng)
        if "stratum" in outcome:
            outcome["stratum"] = layout.design.outcome["stratum"]
        labels = layout.design.coords["group"]
        if not model.spec.blocks:  # groups are rows: in the user's order
            order = np.argsort(labels.astype(int), kind="stable")
            labels, eta = labels[order], eta[:, order]
            if "stratum" in outcome:
                outcome["stratum"] = outcome["stratum"][order]
        return _Source(model, labels, eta, own, outcome)

    def hazard(self, group: int, times: Array, count: int) -> Array:
        """(S, T) cumulative hazard of a group at some times, of the first `count` draws."""
        family, outcome = self.model.spec.family, dict(self.outcome)
        assert family.cumulative_hazard is not None
        rows = slice(0, count)
        if "stratum" in outcome:
            outcome["stratum"] = outcome["stratum"][[group]]
        if "baseline" in outcome:
            outcome["baseline"] = outcome["baseline"][rows]
        eta, own = self.eta[rows, group][:, None], some_draws(self.own, rows)
        return family.cumulative_hazard(eta, own, outcome, times)[:, 0]

    def check(self, group: int, times: Array) -> None:
        """Raise `BackendError` for times that a baseline does not reach, or before all entries."""
        if "baseline" not in self.outcome:
            return
        data, of = self.model.design.outcome, ""
        here = np.ones(len(data["time"]), dtype=bool)
        if "stratum" in data:
            code = self.outcome["stratum"][group]
            here, of = data["stratum"] == code, f" of stratum {quoted(data['strata'][code])}"
        last = float(np.max(data["time"], where=here, initial=0.0))
        first = float(np.min(np.broadcast_to(data.get("entry", 0.0), here.shape)[here]))
        if times.max() > last or (first > 0 and times.min() <= first):
            raise BackendError(
                f"The cumulative incidence of group {quoted(self.labels[group])} is not known at "
                f"all times: the data{of} are from {first:g} to {last:g}, and the baseline hazard "
                "of family 'cox' is known only there. Choose `times` between them."
            )


def _incidence(sources: Sequence[_Source], group: int, times: Array) -> Array:
    """(S, T, causes) cumulative incidence of one group."""
    for source in sources:
        source.check(group, times)
    count = min(len(source.eta) for source in sources)
    grid = np.unique(np.concatenate([times, *_knots(sources, float(times.max()))]))
    hazards = [source.hazard(group, grid, count) for source in sources]
    return incidence_of(hazards)[:, np.searchsorted(grid, times)]


def _knots(sources: Iterable[_Source], last: float) -> Iterator[Array]:
    """Times between which the ratio of the hazards is constant, or nearly so."""
    for source in sources:
        if "baseline" in source.outcome:
            ends = source.outcome["ends"]
            yield ends[ends <= last]
        else:  # short steps next to 0, where hazards may be infinite
            yield last * np.linspace(0, 1, _POINTS + 1)[1:] ** 3


def incidence_of(hazards: Sequence[Array]) -> Array:
    """Cumulative incidence from the cumulative hazards of all causes.

    In a step in which all hazards are constant, or in proportion, it rises by
    S(start) (1 - exp(-dH)) dH_k / dH, with dH the sum of all dH_k. This is exact for piecewise
    constant hazards; a jump at one time is as a step of them.

    Parameters
    ----------
    hazards : sequence of (S, T) arrays
        At times that rise; at time 0 they are 0.

    Returns
    -------
    (S, T, causes) array
    """
    own = np.diff(np.stack(hazards, axis=-1), axis=1, prepend=0.0)
    total = own.sum(axis=2)
    before = np.exp(-(np.cumsum(total, axis=1) - total))
    rise = before * -np.expm1(-total) / np.where(total > 0, total, 1.0)
    return np.asarray(np.cumsum(rise[:, :, None] * own, axis=1))
