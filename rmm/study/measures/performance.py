"""Estimates -> performance: every measure with its Monte Carlo error and its n."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from rmm.errors import StudyError, unknown_name
from rmm.study.files.parquet import FAILED, NOT_CONVERGED, OK, TIMEOUT
from rmm.study.measures.measure_values import NAN, NONE, Sample, bounds, known_to, rate_of
from rmm.study.measures.measures import MEASURES, ON_COMMON_SCALE, ON_TRUE_SCALE, Measure

Array = np.ndarray[Any, Any]
PER_METHOD, COMPLETE_CASE = "per_method", "complete_case"
#: Bounds of rates over all fits: no fit that is not usable is a hit (a rejection, a covered truth,
#: ...), or all of them are.
LOWER, UPPER = "lower_bound", "upper_bound"
POLICIES = (PER_METHOD, COMPLETE_CASE)
_STORED = {0.05: "", 0.1: "90", 0.01: "99"}  # alpha -> suffix of the interval's columns
_NEEDED = ("replication", "method", "mean", "sd")
_DEFAULTS: dict[str, Any] = {
    "scenario": "all",
    "parameter": "theta",
    "null": 0.0,
    "status": OK,
    "truth": NAN,
    "p_value": NAN,
    "df": NAN,
    "ess_bulk": NAN,
    "contraction": NAN,
    "seconds": NAN,
}


def performance(
    estimates: pd.DataFrame,
    *,
    alpha: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.05,
    measures: Sequence[str] | None = None,
    parameters: Sequence[str] | None = None,
    baseline: str | Mapping[str, str] | None = None,
    truth: float | None = None,
    null_scenarios: Mapping[tuple[str, str], str] | None = None,
    usable: Sequence[str] = (OK,),
    columns: Mapping[str, str] | None = None,
    untested: Collection[str] = (),
    having: Collection[tuple[str, str]] | None = None,
    scenarios: Collection[str] | None = None,
    other_scales: Mapping[tuple[str, str, str], str] | None = None,
) -> pd.DataFrame:
    """Score a table of estimates.

    Formulas of measures and their Monte Carlo errors, with sources: `measures`, mostly
    Morris, White and Crowther (2019), Statistics in Medicine 38, 2074-2102, table 6.

    Parameters
    ----------
    estimates : pandas.DataFrame
        One row per fit and parameter, columns as `rmm.study.files.parquet.ESTIMATES`. Only
        replication, method, mean and sd are needed: without intervals they are mean -+ z sd,
        without p_value a test rejects where the interval excludes the null.
    alpha : float, sequence, or mapping of parameter -> sequence
        Levels of tests and intervals.
    measures, parameters : sequence of str, optional; all by default
    baseline : str, or mapping of parameter -> str, optional
        Method that paired measures compare with; the first in the table by default.
    truth : float, optional
        The truth, where the table has no such column.
    null_scenarios : mapping, optional
        (scenario, parameter) -> scenario where only that parameter differs, at its null.
    usable : sequence of str
        Statuses of fits that count.
    columns : mapping, optional
        Our name -> name in the table, such as ``{"mean": "b", "sd": "se"}``.
    untested : collection of str
        Parameters without measures of tests, such as variances, which are never 0.
    having : collection of (method, parameter), optional
        What each method estimates (`estimated`), where the table is part of a larger one.
    scenarios : collection of str, optional
        Those that are scored, not only compared with; all by default.
    other_scales : mapping, optional
        (scenario, method, parameter) -> scale of estimates that are not on that of the truth. They
        have no measures of `measures.ON_TRUE_SCALE`, and are compared only with methods on the
        same scale.

    Returns
    -------
    pandas.DataFrame
        scenario, method, parameter, measure, alpha, policy, value, mcse, lower, upper, n,
        n_failed, n_not_converged. `lower` and `upper` are a 95% Monte Carlo interval: Wilson's for
        rates, which have no mcse at 0 and 1, and value -+ 1.96 mcse for others. Two policies:
        ``per_method`` takes all usable fits of each method, ``complete_case`` leaves out the
        replications in which a method that has the parameter has a fit that is not usable; a
        method that was not to fit a replication takes nothing from the others. Rates have two
        more rows, ``lower_bound`` and ``upper_bound``: all fits count, and of those that are not
        usable none or all are hits (Pawel, Bartos, Siepe & Lohmann 2026, The American
        Statistician 80, 31-48). A method without usable fits has value nan, never 0.

    Raises
    ------
    StudyError
        If a column is missing or a measure is not known.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"replication": [1, 2, 3], "method": "ols", "parameter": "b",
    ...                       "mean": [0.9, 1.1, 1.3], "sd": 0.1})
    >>> performance(table, truth=1.0, measures=["bias"]).query("policy == 'per_method'")[
    ...     ["method", "parameter", "measure", "value", "mcse"]].round(3)
      method parameter measure  value   mcse
    0    ols         b    bias    0.1  0.115
    """
    table = _prepared(estimates, truth, columns or {})
    rows = _rows(measures)
    having = estimated(table) if having is None else having
    cells = _cells(table, usable, parameters, having, scenarios)
    scorer = _Scorer(
        cells=cells,
        rows=rows,
        alpha=alpha,
        baseline=baseline or str(table["method"].iloc[0]),
        null_scenarios=null_scenarios or {},
        untested=untested,
        other_scales=other_scales or {},
    )
    return pd.DataFrame([*scorer.scored(), *_of_fits(cells, rows)], columns=_COLUMNS)


def _rows(measures: Sequence[str] | None) -> list[Measure]:
    names = list(measures or MEASURES)
    unknown = [n for n in names if n not in MEASURES]
    if unknown:
        raise StudyError(unknown_name(unknown[0], "a measure", MEASURES))
    return [MEASURES[n] for n in names]


_COLUMNS = [
    "scenario",
    "method",
    "parameter",
    "measure",
    "alpha",
    "policy",
    "value",
    "mcse",
    "lower",
    "upper",
    "n",
    "n_failed",
    "n_not_converged",
]


def _prepared(
    estimates: pd.DataFrame, truth: float | None, columns: Mapping[str, str]
) -> pd.DataFrame:
    table = estimates.rename(columns={theirs: ours for ours, theirs in columns.items()})
    missing = [c for c in _NEEDED if c not in table]
    if missing or len(table) == 0:
        raise StudyError(
            f"The table of estimates has no {f'column {missing[0]!r}' if missing else 'rows'}.\n"
            f"  Its columns are: {', '.join(map(str, estimates.columns))}."
        )
    table = table.assign(**{c: v for c, v in _DEFAULTS.items() if c not in table})
    if truth is not None:
        table["truth"] = truth
    return table


@dataclass(frozen=True, eq=False)
class _Cells:
    """The table cut by scenario, method and parameter."""

    usable: Mapping[tuple[str, str, str], pd.DataFrame]
    fits: Mapping[tuple[str, str], pd.DataFrame]
    methods: Sequence[str]
    parameters: Sequence[str]
    scored: Collection[str]

    @cached_property
    def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(scenario, method) -> fits that failed, fits that did not converge."""
        return {key: _counts(fits["status"]) for key, fits in self.fits.items()}


def _counts(status: pd.Series[str]) -> tuple[int, int]:
    values = status.to_numpy(dtype=object)
    failed = int((values == FAILED).sum() + (values == TIMEOUT).sum())
    return failed, int((values == NOT_CONVERGED).sum())


def estimated(table: pd.DataFrame) -> set[tuple[str, str]]:
    """(method, parameter) of whatever a method has estimates of, by columns of these names.

    A method has a parameter if any of its fits estimated it; one that never did anything has
    them all, so that its rows say nan.
    """
    pairs = table.assign(there=table["mean"].notna())[["method", "parameter", "there"]]
    return having_of(set(pairs.drop_duplicates().itertuples(index=False, name=None)))


def having_of(rows: Collection[tuple[str, str, bool]]) -> set[tuple[str, str]]:
    """`estimated` from the distinct (method, parameter, whether there is an estimate)."""
    found = {(str(m), str(p)) for m, p, there in rows if there}
    idle = {m for m, _, _ in rows} - {m for m, _ in found}
    return found | {(str(m), str(p)) for m, p, _ in rows if m in idle}


def _cells(
    table: pd.DataFrame,
    usable: Sequence[str],
    parameters: Sequence[str] | None,
    having: Collection[tuple[str, str]],
    scenarios: Collection[str] | None,
) -> _Cells:
    known = list(parameters) if parameters is not None else list(dict.fromkeys(table["parameter"]))
    fits = {
        (str(s), str(m)): g
        for (s, m), g in table.drop_duplicates(["scenario", "method", "replication"]).groupby(
            ["scenario", "method"], sort=False
        )
    }
    methods = list(dict.fromkeys(table["method"]))
    kept = table[table["status"].isin(list(usable)) & table["mean"].notna()]
    cut = {
        (str(s), str(m), str(p)): g.sort_values("replication")
        for (s, m, p), g in kept.groupby(["scenario", "method", "parameter"], sort=False)
    }
    empty = table.iloc[:0]
    whole = {
        (s, m, p): cut.get((s, m, p), empty) for s, m in fits for p in known if (m, p) in having
    }
    scored = set(scenarios) if scenarios is not None else {s for s, _ in fits}
    return _Cells(whole, fits, methods, known, scored)


@dataclass(frozen=True, eq=False)
class _Scorer:
    cells: _Cells
    rows: Sequence[Measure]
    alpha: float | Sequence[float] | Mapping[str, Sequence[float]]
    baseline: str | Mapping[str, str]
    null_scenarios: Mapping[tuple[str, str], str]
    untested: Collection[str]
    other_scales: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    _samples: dict[tuple[str, str, str, str, float], Sample] = field(default_factory=dict)
    _pairs: dict[tuple[str, str, str, str, float], tuple[Sample, Sample]] = field(
        default_factory=dict
    )
    _complete: dict[tuple[str, str], Array] = field(default_factory=dict)

    def levels(self, parameter: str) -> Sequence[float]:
        found = self.alpha
        if isinstance(found, Mapping):
            found = found.get(parameter, (0.05,))
        return [found] if isinstance(found, (int, float)) else list(found)

    def scored(self) -> Iterator[tuple[Any, ...]]:
        for scenario, method, parameter in self.cells.usable:
            if scenario not in self.cells.scored:
                continue
            rows = [row for row in self.rows if self.has(row, scenario, method, parameter)]
            for policy in POLICIES:
                for number, alpha in enumerate(self.levels(parameter)):
                    for row in rows:
                        if row.by_alpha or number == 0:
                            yield self.one(row, scenario, method, parameter, policy, alpha)
            for alpha in self.levels(parameter):
                for row in rows:
                    if row.hits is not None and (
                        row.by_alpha or alpha == self.levels(parameter)[0]
                    ):
                        yield from self.bounds(row, scenario, method, parameter, alpha)

    def has(self, row: Measure, scenario: str, method: str, parameter: str) -> bool:
        """Whether a measure has a meaning for the estimates of a method."""
        if row.of == "fits" or not parameter.startswith(row.prefix):
            return False
        if row.tests and parameter in self.untested:
            return False
        scale = self.other_scales.get((scenario, method, parameter), "")
        if row.name in ON_TRUE_SCALE or (row.tests and scale and self._tests_a_value(parameter)):
            return not scale
        return True

    def _tests_a_value(self, parameter: str) -> bool:
        """Whether a null value is not 0, so that its test depends on the scale."""
        tables = (t for (_, _, p), t in self.cells.usable.items() if p == parameter)
        return any((table["null"].to_numpy(dtype=float) != 0).any() for table in tables)

    def base_of(self, parameter: str) -> str:
        """The method that paired measures of a parameter compare with."""
        return self.baseline if isinstance(self.baseline, str) else self.baseline[parameter]

    def one(
        self, row: Measure, scenario: str, method: str, parameter: str, policy: str, alpha: float
    ) -> tuple[Any, ...]:
        s = self.sample(scenario, method, parameter, policy, alpha)
        value = NONE
        assert row.compute is not None
        if row.of == "sample":
            value = row.compute(s)
        elif row.of == "pair" and self.comparable(row, scenario, method, parameter):
            base, s = self.pair(scenario, method, parameter, policy, alpha)
            value = row.compute(base, s) if s.n else NONE
        elif row.of == "null" and (scenario, parameter) in self.null_scenarios:
            null = self.null_scenarios[scenario, parameter]
            value = row.compute(self.sample(null, method, parameter, policy, alpha), s)
        counts = self.cells.counts[scenario, method]
        level = alpha if row.by_alpha else NAN
        return (scenario, method, parameter, row.name, level, policy, *value, s.n, *counts)

    def comparable(self, row: Measure, scenario: str, method: str, parameter: str) -> bool:
        """Whether a method can be compared with the baseline."""
        base = self.base_of(parameter)
        if method == base:
            return False
        mine, theirs = (self.other_scales.get((scenario, m, parameter), "") for m in (method, base))
        return mine == theirs or row.name not in ON_TRUE_SCALE | ON_COMMON_SCALE

    def bounds(
        self, row: Measure, scenario: str, method: str, parameter: str, alpha: float
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of the bounds of a rate over all fits."""
        assert row.hits is not None
        samples = [self.sample(scenario, method, parameter, PER_METHOD, alpha)]
        if row.of == "null":
            if (scenario, parameter) not in self.null_scenarios:
                return
            null = self.null_scenarios[scenario, parameter]
            samples.insert(0, self.sample(null, method, parameter, PER_METHOD, alpha))
        hits = row.hits(*samples)
        lost = len(self.cells.fits[scenario, method]) - samples[-1].n
        counts = self.cells.counts[scenario, method]
        level = alpha if row.by_alpha else NAN
        for policy, value in zip((LOWER, UPPER), bounds(hits, lost), strict=True):
            n = len(hits) + lost
            yield (scenario, method, parameter, row.name, level, policy, *value, n, *counts)

    def pair(
        self, scenario: str, method: str, parameter: str, policy: str, alpha: float
    ) -> tuple[Sample, Sample]:
        """Baseline and method on the replications that both have."""
        key = (scenario, method, parameter, policy, alpha)
        if key not in self._pairs:
            s = self.sample(*key)
            base = self.sample(scenario, self.base_of(parameter), parameter, policy, alpha)
            _, left, right = np.intersect1d(base.replication, s.replication, return_indices=True)
            self._pairs[key] = base.take(left), s.take(right)
        return self._pairs[key]

    def sample(
        self, scenario: str, method: str, parameter: str, policy: str, alpha: float
    ) -> Sample:
        key = (scenario, method, parameter, policy, alpha)
        if key not in self._samples:
            self._samples[key] = self._sample(*key)
        return self._samples[key]

    def _sample(
        self, scenario: str, method: str, parameter: str, policy: str, alpha: float
    ) -> Sample:
        found = self.cells.usable.get((scenario, method, parameter))
        if found is None:
            found = next(iter(self.cells.usable.values())).iloc[:0]
        if policy == PER_METHOD:
            return _sample(found, alpha)
        sample = self.sample(scenario, method, parameter, PER_METHOD, alpha)
        common = self.complete(scenario, parameter)
        return sample.take(np.flatnonzero(np.isin(sample.replication, common)))

    def complete(self, scenario: str, parameter: str) -> Array:
        """Replications in which every method that has the parameter, and fitted, is usable."""
        if (scenario, parameter) not in self._complete:
            self._complete[scenario, parameter] = self._common(scenario, parameter)
        return self._complete[scenario, parameter]

    def _common(self, scenario: str, parameter: str) -> Array:
        tried, lost = np.array([], dtype=int), np.array([], dtype=int)
        for method in self.cells.methods:
            found = self.cells.usable.get((scenario, method, parameter))
            if found is not None:
                fits = self.cells.fits[scenario, method]["replication"].to_numpy()
                tried = np.union1d(tried, fits)
                lost = np.union1d(lost, np.setdiff1d(fits, found["replication"].to_numpy()))
        return np.setdiff1d(tried, lost)


def _sample(table: pd.DataFrame, alpha: float) -> Sample:
    def column(name: str) -> Array:
        return table[name].to_numpy(dtype=float, na_value=np.nan)

    estimate, sd, null = column("mean"), column("sd"), column("null")
    lower, upper = _interval(table, estimate, sd, column("df"), alpha)
    p = column("p_value")
    by_interval = ((lower > null) | (upper < null)).astype(float)
    by_interval[np.isnan(lower)] = NAN
    return Sample(
        replication=table["replication"].to_numpy(),
        estimate=estimate,
        variance=sd**2,
        truth=column("truth"),
        null=null,
        lower=lower,
        upper=upper,
        p_value=p,
        significant=np.where(np.isnan(p), by_interval, (p < alpha).astype(float)),
        ess=column("ess_bulk"),
        contraction=column("contraction"),
        seconds=column("seconds"),
        alpha=alpha,
    )


def _interval(
    table: pd.DataFrame, estimate: Array, sd: Array, df: Array, alpha: float
) -> tuple[Array, Array]:
    """Stored bounds; else mean -+ t sd where df is known; normal where nothing is stored."""
    suffix = _STORED.get(round(alpha, 10))
    if suffix is not None and f"lower{suffix}" in table and f"upper{suffix}" in table:
        names = (f"lower{suffix}", f"upper{suffix}")
        low, high = (table[n].to_numpy(dtype=float, na_value=np.nan) for n in names)
        return low, high
    half = special.stdtrit(df, 1 - alpha / 2) * sd
    if "lower" not in table:
        half = np.where(np.isnan(df), special.ndtri(1 - alpha / 2) * sd, half)
    return estimate - half, estimate + half


def _of_fits(cells: _Cells, rows: Sequence[Measure]) -> Iterator[tuple[Any, ...]]:
    """Convergence (share of all attempted fits) and mean seconds, per scenario and method."""
    wanted = {row.name for row in rows if row.of == "fits"}
    for (scenario, method), fits in cells.fits.items():
        if scenario not in cells.scored:
            continue
        counts = cells.counts[scenario, method]
        n = len(fits)
        p = float((fits["status"] == OK).mean())
        seconds = fits["seconds"].to_numpy(dtype=float, na_value=np.nan)
        spread = float(seconds.std(ddof=1) / np.sqrt(n)) if n > 1 else NAN
        values = {
            "convergence": rate_of(p, n),
            "seconds": known_to(float(seconds.mean()), spread),
        }
        for name, value in values.items():
            if name in wanted:
                yield (scenario, method, "", name, NAN, PER_METHOD, *value, n, *counts)
