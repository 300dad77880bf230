"""Estimates -> performance: every measure of every cell, with its Monte Carlo error and its n."""

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
from rmm.study.measures.significance import TESTS, Evidence

Array = np.ndarray[Any, Any]
PER_METHOD, COMPLETE_CASE = "per_method", "complete_case"
#: Bounds of rates over all fits: no fit that is not usable is a hit (a rejection, a covered truth,
#: ...), or all of them are.
LOWER, UPPER = "lower_bound", "upper_bound"
POLICIES = (PER_METHOD, COMPLETE_CASE)
_NEEDED = ("replication", "method", "mean")
_DEFAULTS: dict[str, Any] = {
    "scenario": "all",
    "parameter": "theta",
    "null": 0.0,
    "status": OK,
    "truth": NAN,
    "sd": NAN,
    "p_value": NAN,
    "df": NAN,
    "ess_bulk": NAN,
    "contraction": NAN,
    "seconds": NAN,
}


@dataclass(frozen=True)
class Rules:
    """How tests, Monte Carlo errors and counts are made.

    Attributes
    ----------
    test : str
        A name in `TESTS`: auto takes the p value, and the interval where there is none.
    mcse : str
        ``"normal"`` or ``"robust"``: whether Monte Carlo errors of spreads suppose normality.
    status_by_parameter : bool
        Whether rows of a fit may have statuses of their own, as a table may lack the estimate of
        one parameter; in a study all parameters of a fit have one status.
    """

    test: str = "auto"
    mcse: str = "normal"
    status_by_parameter: bool = False


DEFAULT_RULES = Rules()


def score_estimates(
    estimates: pd.DataFrame,
    *,
    alpha: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.05,
    measures: Sequence[str] | None = None,
    parameters: Sequence[str] | None = None,
    baseline: str | Mapping[str, str] | None = None,
    null_scenarios: Mapping[tuple[str, str], str] | None = None,
    usable: Sequence[str] = (OK,),
    untested: Collection[str] = (),
    having: Collection[tuple[str, str]] | None = None,
    scenarios: Collection[str] | None = None,
    other_scales: Mapping[tuple[str, str, str], str] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> pd.DataFrame:
    """Score estimates that are in the layout of studies.

    `rmm.study.performance.performance` documents what is common to both, and reads and checks
    tables of any layout first.

    Parameters
    ----------
    estimates : pandas.DataFrame
        One row per fit and parameter, columns as `rmm.study.files.parquet.ESTIMATES`. Only
        replication, method and mean are needed. No two rows are of the same scenario, method,
        parameter and replication.
    alpha, measures, parameters, null_scenarios, usable, untested
        As of `performance`.
    baseline : str, or mapping of parameter -> str, optional
        Method that paired measures compare with; the first in the table by default.
    having : collection of (method, parameter), optional
        What each method estimates (`estimated`), where the table is part of a larger one. Others
        are scored only if `rules.status_by_parameter`, and take nothing from complete cases.
    scenarios : collection of str, optional
        Those that are scored, not only compared with; all by default.
    other_scales : mapping, optional
        (scenario, method, parameter) -> scale of estimates that are not on that of the truth. They
        have no measures of `measures.ON_TRUE_SCALE`, and are compared only with methods on the
        same scale.
    rules : Rules
        How tests, Monte Carlo errors and counts are made.

    Returns
    -------
    pandas.DataFrame
        As of `performance`.

    Raises
    ------
    StudyError
        If a column is missing or a measure is not known.
    """
    table = _with_defaults(estimates)
    rows = measures_named(measures)
    having = estimated(table) if having is None else having
    cells = _cells(table, usable, parameters, having, scenarios, rules)
    scorer = _Scorer(
        cells=cells,
        rows=rows,
        alpha=alpha,
        baseline=baseline or str(table["method"].iloc[0]),
        null_scenarios=null_scenarios or {},
        untested=untested,
        other_scales=other_scales or {},
        rules=rules,
    )
    return pd.DataFrame([*scorer.scored(), *_of_fits(cells, rows)], columns=_COLUMNS)


def usable_samples(
    estimates: pd.DataFrame,
    parameter: str,
    alpha: float,
    usable: Sequence[str] = (OK,),
    rules: Rules = DEFAULT_RULES,
) -> dict[tuple[str, str], Sample]:
    """(scenario, method) -> its usable fits of a parameter, as `score_estimates` takes them."""
    table = _with_defaults(estimates)
    cells = _cells(table, usable, [parameter], estimated(table), None, rules)
    return {(s, m): _sample(found, alpha, rules) for (s, m, _), found in cells.usable.items()}


def paired_samples(
    estimates: pd.DataFrame,
    first: str,
    second: str,
    rows: Sequence[Measure],
    *,
    alpha: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.05,
    parameters: Sequence[str] | None = None,
    usable: Sequence[str] = (OK,),
    untested: Collection[str] = (),
    other_scales: Mapping[tuple[str, str, str], str] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> Iterator[tuple[tuple[str, str, Measure, float], Sample, Sample, int]]:
    """Usable fits of two methods on the data sets that both have, for measures that both have.

    Parameters
    ----------
    estimates : pandas.DataFrame
        As of `score_estimates`, as are the other arguments.
    first, second : str
        Methods.
    rows : sequence of Measure
        Of ``"sample"``.

    Yields
    ------
    (scenario, parameter, measure, alpha), first, second, tried
        Fits without what the measure needs are left out; `tried` counts the data sets that either
        method has fitted.
    """
    table = _with_defaults(estimates)
    cells = _cells(table, usable, parameters, estimated(table), None, rules)
    scorer = _Scorer(cells, rows, alpha, first, {}, untested, other_scales or {}, rules)
    for scenario, method, parameter in cells.usable:
        if method != second or (scenario, first, parameter) not in cells.usable:
            continue
        fits = [cells.fits[scenario, m]["replication"].to_numpy() for m in (first, second)]
        tried = len(np.union1d(*fits))
        for row in rows:
            if not all(scorer.has(row, scenario, m, parameter) for m in (first, second)):
                continue
            for level in scorer.levels(parameter):
                one, other = scorer.pair(scenario, second, parameter, PER_METHOD, level)
                both = one.knows(row.needs) & other.knows(row.needs)
                yield (scenario, parameter, row, level), one.take(both), other.take(both), tried


def measures_named(measures: Sequence[str] | None) -> list[Measure]:
    """Measures by their names, all for None; `StudyError` for a name that is none."""
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


def _with_defaults(estimates: pd.DataFrame) -> pd.DataFrame:
    missing = [c for c in _NEEDED if c not in estimates]
    if missing or len(estimates) == 0:
        raise StudyError(
            f"The table of estimates has no {f'column {missing[0]!r}' if missing else 'rows'}.\n"
            f"  Its columns are: {', '.join(map(str, estimates.columns))}."
        )
    return estimates.assign(**{c: v for c, v in _DEFAULTS.items() if c not in estimates})


@dataclass(frozen=True, eq=False)
class _Cells:
    """The table cut by scenario, method and parameter."""

    usable: Mapping[tuple[str, str, str], pd.DataFrame]
    fits: Mapping[tuple[str, str], pd.DataFrame]
    having: Collection[tuple[str, str]]
    methods: Sequence[str]
    parameters: Sequence[str]
    scored: Collection[str]
    #: (scenario, method, parameter) -> failed and not converged, where fits have no one status.
    by_parameter: Mapping[tuple[str, str, str], tuple[int, int]]

    @cached_property
    def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(scenario, method) -> fits that failed, fits that did not converge."""
        return {key: _counts(fits["status"]) for key, fits in self.fits.items()}

    def counts_of(self, scenario: str, method: str, parameter: str) -> tuple[int, int]:
        """Fits that failed and that did not converge, as far as this parameter is concerned."""
        return self.by_parameter.get((scenario, method, parameter), self.counts[scenario, method])


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
    rules: Rules,
) -> _Cells:
    known = list(parameters) if parameters is not None else list(dict.fromkeys(table["parameter"]))
    by_parameter: dict[tuple[str, str, str], tuple[int, int]] = {}
    each = table
    if rules.status_by_parameter:
        groups = table.groupby(["scenario", "method", "parameter"], sort=False)["status"]
        by_parameter = {(str(s), str(m), str(p)): _counts(g) for (s, m, p), g in groups}
        # A fit has the worst status of its parameters.
        each = table.sort_values("status", key=lambda c: c == OK, kind="stable")
    once = each.drop_duplicates(["scenario", "method", "replication"])
    once = once.sort_index() if rules.status_by_parameter else once
    fits = {(str(s), str(m)): g for (s, m), g in once.groupby(["scenario", "method"], sort=False)}
    methods = list(dict.fromkeys(table["method"]))
    kept = table[table["status"].isin(list(usable)) & table["mean"].notna()]
    cut = {
        (str(s), str(m), str(p)): g.sort_values("replication")
        for (s, m, p), g in kept.groupby(["scenario", "method", "parameter"], sort=False)
    }
    empty = table.iloc[:0]
    shown = having
    if rules.status_by_parameter:
        shown = set(table[["method", "parameter"]].itertuples(index=False, name=None))
    whole = {
        (s, m, p): cut.get((s, m, p), empty) for s, m in fits for p in known if (m, p) in shown
    }
    scored = set(scenarios) if scenarios is not None else {s for s, _ in fits}
    return _Cells(whole, fits, having, methods, known, scored, by_parameter)


@dataclass(frozen=True, eq=False)
class _Scorer:
    cells: _Cells
    rows: Sequence[Measure]
    alpha: float | Sequence[float] | Mapping[str, Sequence[float]]
    baseline: str | Mapping[str, str]
    null_scenarios: Mapping[tuple[str, str], str]
    untested: Collection[str]
    other_scales: Mapping[tuple[str, str, str], str]
    rules: Rules
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
            s = _known(s, row)
            value = row.compute(s)
        elif row.of == "pair" and self.comparable(row, scenario, method, parameter):
            base, s = self.pair(scenario, method, parameter, policy, alpha)
            both = base.knows(row.needs) & s.knows(row.needs)
            base, s = (base, s) if both.all() else (base.take(both), s.take(both))
            value = row.compute(base, s) if s.n else NONE
        elif row.of == "null" and (scenario, parameter) in self.null_scenarios:
            null = self.null_scenarios[scenario, parameter]
            beside, s = self.sample(null, method, parameter, policy, alpha), _known(s, row)
            value = row.compute(_known(beside, row), s)
        counts = self.cells.counts_of(scenario, method, parameter)
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
        samples = [_known(self.sample(scenario, method, parameter, PER_METHOD, alpha), row)]
        if row.of == "null":
            if (scenario, parameter) not in self.null_scenarios:
                return
            null = self.null_scenarios[scenario, parameter]
            beside = self.sample(null, method, parameter, PER_METHOD, alpha)
            samples.insert(0, _known(beside, row))
        hits = row.hits(*samples)
        lost = len(self.cells.fits[scenario, method]) - samples[-1].n
        counts = self.cells.counts_of(scenario, method, parameter)
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
            return _sample(found, alpha, self.rules)
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
            if found is not None and (method, parameter) in self.cells.having:
                fits = self.cells.fits[scenario, method]["replication"].to_numpy()
                tried = np.union1d(tried, fits)
                lost = np.union1d(lost, np.setdiff1d(fits, found["replication"].to_numpy()))
        return np.setdiff1d(tried, lost)


def _known(sample: Sample, row: Measure) -> Sample:
    """The fits that have what a measure needs."""
    known = sample.knows(row.needs)
    return sample if known.all() else sample.take(known)


def _sample(table: pd.DataFrame, alpha: float, rules: Rules) -> Sample:
    def column(name: str) -> Array:
        return table[name].to_numpy(dtype=float, na_value=np.nan)

    estimate, sd, null, df = (column(name) for name in ("mean", "sd", "null", "df"))
    lower, upper = _interval(table, estimate, sd, df, alpha)
    p = column("p_value")
    return Sample(
        replication=table["replication"].to_numpy(),
        estimate=estimate,
        variance=sd**2,
        truth=column("truth"),
        null=null,
        lower=lower,
        upper=upper,
        p_value=p,
        significant=TESTS[rules.test](
            Evidence(estimate - null, sd, df, lower - null, upper - null, p, alpha)
        ),
        ess=column("ess_bulk"),
        contraction=column("contraction"),
        seconds=column("seconds"),
        df=df,
        alpha=alpha,
        normal=rules.mcse == "normal",
    )


def bounds_of(alpha: float) -> tuple[str, str]:
    """Names of the columns that hold the bounds of intervals at a level."""
    level = 100 * (1 - alpha)
    suffix = "" if abs(alpha - 0.05) < 1e-10 else f"{level:.10g}"
    return f"lower{suffix}", f"upper{suffix}"


def interval_of(table: pd.DataFrame, alpha: float) -> tuple[Array, Array]:
    """(rows,) bounds of the intervals that a table of estimates is scored with."""
    full = _with_defaults(table)
    estimate, sd, df = (full[n].to_numpy(dtype=float, na_value=np.nan) for n in _OF_INTERVALS)
    return _interval(full, estimate, sd, df, alpha)


_OF_INTERVALS = ("mean", "sd", "df")


def _interval(
    table: pd.DataFrame, estimate: Array, sd: Array, df: Array, alpha: float
) -> tuple[Array, Array]:
    """Stored bounds; else mean -+ t sd where df is known; normal where nothing is stored."""
    names = bounds_of(alpha)
    if all(name in table for name in names):
        low, high = (table[n].to_numpy(dtype=float, na_value=np.nan) for n in names)
        return low, high
    half = special.stdtrit(df, 1 - alpha / 2) * sd
    if not any(str(name).startswith("lower") for name in table):
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
