"""What a report is made from: the files of a results folder, read once, and simple questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pyarrow.parquet as pq

from rmm.errors import StudyError
from rmm.study.design.scale_notes import other_scales
from rmm.study.files.environment import FACTS
from rmm.study.files.parquet import read_table
from rmm.study.measures.read_performance import read_performance
from rmm.study.report.data.filters import Filters
from rmm.study.report.data.labels import is_numeric
from rmm.study.report.data.where_stopped import stopping_facts
from rmm.study.run.pilot import read_pilot
from rmm.study.run.provenance import last_run

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.design.estimand import Estimand
    from rmm.study.design.study import Study

#: One row per fit; every other row of a fit repeats these.
FIT = ["scenario", "replication", "method"]
#: Columns of the estimates that are shown, those that are texts first.
_TEXTS = [
    "scenario",
    "method",
    "backend",
    "parameter",
    "status",
    "message",
    "rmm_version",
    "engine",
]
_SHOWN = [
    *_TEXTS, "replication", "truth", "mean", "sd", "lower", "upper", "lower90", "upper90",
    "lower99", "upper99", "p_value", "rank", "ess_bulk", "seconds",
]  # fmt: skip
STATUSES = ("ok", "not_converged", "failed", "timeout")
#: What a usable fit is called that the method's fallback has made.
FALLBACK = "fallback"


#: Characters of a file name that come from a parameter.
_LONGEST = 60


class Described(Protocol):
    """What figures and tables know of what was studied: a study, or a table of estimates."""

    @property
    def name(self) -> str:
        """A short name."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Settings, among them those of the report."""

    @property
    def scenarios(self) -> Sequence[Any]:
        """Scenarios, each with an `id`."""

    @property
    def methods(self) -> Sequence[Any]:
        """Methods, each with a `name` and a `fallback`, or None."""

    @property
    def estimands(self) -> Sequence[Estimand]:
        """Parameters; the first is the main one."""

    @property
    def baseline(self) -> str:
        """The method that others are compared with."""

    def baseline_of(self, parameter: str) -> str:
        """The method that paired measures of a parameter compare with."""

    def truth_of(self, scenario: Any) -> Mapping[str, float]:
        """True values of a scenario by parameter."""

    def scenario_columns(self) -> Mapping[str, Sequence[Any]]:
        """`scenario` and the factors, a value for each scenario."""


@dataclass(frozen=True)
class Results:
    """What was studied, and what its fits gave.

    Attributes
    ----------
    study : Study, or the description of a table of estimates
        What was studied.
    estimates, performance : pandas.DataFrame
        As written by collection.
    ran_on : mapping
        What the batches say of the Python and the machines that ran them: `environment`.
    stopping : list of (what, how much)
        Where scenarios ended, in a study that stops at Monte Carlo errors.
    pilots : mapping
        (scenario, method) -> what its pilot fit found, and why it failed (`read_pilot`).
    usable : tuple of str
        Statuses of fits that count.
    """

    study: Described
    estimates: pd.DataFrame
    performance: pd.DataFrame
    ran_on: Mapping[str, str] = field(default_factory=dict)
    stopping: Sequence[tuple[str, str]] = ()
    pilots: Mapping[tuple[str, str], tuple[Mapping[str, Any], str]] = field(default_factory=dict)
    usable: tuple[str, ...] = ("ok",)

    @cached_property
    def scenarios(self) -> pd.DataFrame:
        """`scenario` and one column per factor, in the order of the study.

        A factor may be called like a column of the measures (`n`): the merged tables keep both.
        """
        taken = (set(self.performance.columns) | set(self.estimates.columns)) - {"scenario"}
        table = pd.DataFrame(self.study.scenario_columns())
        return table.rename(columns={c: f"factor.{c}" for c in table if c in taken})

    @cached_property
    def factors(self) -> list[str]:
        """Factors that differ between scenarios; what should be on the x axis comes first."""
        columns = [c for c in self.scenarios.columns if c != "scenario"]
        varying = [c for c in columns if self.scenarios[c].astype(str).nunique() > 1]
        wanted = (self.study.config.get("report") or {}).get("x")
        return sorted(
            varying,
            key=lambda c: (
                c not in (wanted, f"factor.{wanted}"),
                "overlap" not in c.lower(),
                varying.index(c),
            ),
        )

    @cached_property
    def methods(self) -> list[str]:
        """Names of the methods that have measures, in the order of the study."""
        present = set(self.performance["method"])
        return [m.name for m in self.study.methods if m.name in present]

    @cached_property
    def filters(self) -> Filters:
        """What readers can choose: methods, and levels of factors in the order of figures."""
        levels = {f: list(dict.fromkeys(self.scenarios[f].tolist())) for f in self.factors}
        return Filters(
            self.methods, {f: sorted(v) if is_numeric(v) else v for f, v in levels.items()}
        )

    @cached_property
    def parameters(self) -> list[str]:
        """Parameters with measures, estimands first."""
        first = [e.parameter for e in self.study.estimands]
        present = [p for p in dict.fromkeys(self.performance["parameter"].dropna()) if p]
        return [p for p in first if p in present] + [p for p in present if p not in first]

    @cached_property
    def file_names(self) -> dict[str, str]:
        """Parameter -> the start of its files' names: `b_l1[x]` -> `b_l1_x`.

        Short, of ASCII letters and digits. No two are alike, even if capitals are ignored.
        """
        found: dict[str, str] = {}
        for parameter in self.parameters:
            kept = "".join(c if c.isascii() and c.isalnum() else "_" for c in parameter)
            name = "_".join(part for part in kept.split("_") if part)[:_LONGEST] or "parameter"
            while name.lower() in (other.lower() for other in found.values()):
                name += "_"
            found[parameter] = name
        return found

    @cached_property
    def fits(self) -> pd.DataFrame:
        """One row per fit: scenario, replication, method, status, seconds, message, answer.

        `answer` is the status, or `FALLBACK` of a usable fit by the method's other engine.
        """
        wanted = [*FIT, "status", "seconds", "message", "backend"]
        columns = [c for c in wanted if c in self.estimates.columns]
        once = self.estimates[columns].drop_duplicates(FIT).reset_index(drop=True)
        once = once.astype({c: "str" for c in columns if once[c].dtype == "category"})
        other = {m.name: m.fallback.backend for m in self.study.methods if m.fallback is not None}
        if not other or "backend" not in columns:
            return once.assign(answer=once["status"])
        fell_back = (once["backend"] == once["method"].map(other)) & (once["status"] == "ok")
        return once.assign(answer=once["status"].mask(fell_back, FALLBACK))

    def truth(self, scenario: str, parameter: str) -> float:
        """True value of a parameter in a scenario; nan where none is known, or it is drawn."""
        return self._truths[scenario].get(parameter, math.nan)

    @cached_property
    def _truths(self) -> dict[str, Mapping[str, float]]:
        return {s.id: self.study.truth_of(s) for s in self.study.scenarios}

    def other_scales(self, parameter: str) -> dict[str, str]:
        """Method -> scale of its estimates of a parameter, where it is not that of the truth."""
        return {m: scale for (_, m, p), scale in self.scales.items() if p == parameter}

    @cached_property
    def scales(self) -> dict[tuple[str, str, str], str]:
        """(scenario, method, parameter) -> scale that is not that of the truth."""
        return {}

    def measure(self, measure: str, policy: str = "per_method") -> pd.DataFrame:
        """Rows of one measure under one policy."""
        found = self._by_measure.get((measure, policy))
        return self.performance.iloc[:0] if found is None else found

    @cached_property
    def _by_measure(self) -> dict[tuple[str, str], pd.DataFrame]:
        groups = self.performance.groupby(["measure", "policy"], sort=False, observed=True)
        return {(str(measure), str(policy)): rows for (measure, policy), rows in groups}


@dataclass(frozen=True)
class StudyResults(Results):
    """Results of a study file."""

    study: Study

    @cached_property
    def _truths(self) -> dict[str, Mapping[str, float]]:
        found = {s.id: dict(self.study.truth_of(s)) for s in self.study.scenarios}
        own = [s.id for s in self.study.scenarios if s.own is not None]
        if own:  # a user's function says it with each data set; it may be the same in all
            rows = self.estimates[["scenario", "parameter", "truth"]].dropna().drop_duplicates()
            once = rows.drop_duplicates(["scenario", "parameter"], keep=False)
            for scenario, name, value in once.itertuples(index=False, name=None):
                if scenario in own:
                    found[scenario].setdefault(name, float(value))
        return dict(found)

    @cached_property
    def scales(self) -> dict[tuple[str, str, str], str]:
        """(scenario, method, parameter) -> scale that is not that of the truth."""
        return other_scales(self.study)


def read_results(study: Study, folder: Path) -> StudyResults:
    """Read the results of a study.

    Raises
    ------
    StudyError
        Where a file that collection writes is missing, or the results are those of another
        version of the study.
    """
    names = ("estimates.parquet", "performance.parquet")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise StudyError(
            f"{folder} is not the folder of a finished study. Missing: {', '.join(missing)}.\n"
            f"Run it first: {study.run_command}"
        )
    # Engines are compared by the Monte Carlo errors of their means.
    more = ("mcse",) if "parity" in study.criteria else ()
    estimates = _estimates(folder / names[0], more)
    _check_same_study(study, folder, estimates)
    performance = read_performance(folder / names[1])
    order = {scenario.id: i for i, scenario in enumerate(study.scenarios)}
    performance = performance.sort_values("scenario", key=lambda s: s.map(order), kind="stable")
    stopping, pilots = stopping_facts(folder), _pilots(study, folder)
    return StudyResults(study, estimates, performance, _ran_on(folder), stopping, pilots)


def _pilots(study: Study, folder: Path) -> dict[tuple[str, str], tuple[Mapping[str, Any], str]]:
    """Pilot fits whose files are there."""
    found: dict[tuple[str, str], tuple[Mapping[str, Any], str]] = {}
    for scenario in study.scenarios:
        for name in (method.name for method in study.methods):
            method, fitted = study.method_in(scenario, name), study.fitted_in(scenario, name)
            batches = folder / "estimates" / fitted.id / name
            if "pilot" in method.config.get("sampler", {}):
                pilot = read_pilot(study, scenario, method, batches)
                found |= {} if pilot is None else {(scenario.id, name): pilot}
    return found


def _check_same_study(study: Study, folder: Path, estimates: pd.DataFrame) -> None:
    """Refuse results whose scenarios or methods are not those of the study."""
    asked = {"scenario": {s.id for s in study.scenarios}, "method": {m.name for m in study.methods}}
    for column, names in asked.items():
        found = set(estimates[column].unique())
        if found != names:
            some = ", ".join(sorted(names ^ found)[:3])
            where = f"only in {folder}" if found - names else f"not in {folder}"
            raise StudyError(
                f"The results in {folder} do not match {study.file}: {column} {some} is {where}.\n"
                f"Run the study again, or list the differences: rmm study check {study.file} "
                f"--against {folder}"
            )


def _estimates(path: Path, more: Sequence[str]) -> pd.DataFrame:
    """What a report shows of the estimates; texts that repeat are kept once.

    This is what takes most memory in a report: a million fits have millions of rows.
    """
    table = read_table(path, (*_SHOWN, *more), texts=_TEXTS)
    return table.to_pandas(self_destruct=True, split_blocks=True)


def _ran_on(folder: Path) -> dict[str, str]:
    """What batches and the last run say of themselves; little in results of earlier versions."""
    stored = pq.read_schema(folder / "estimates.parquet").metadata or {}
    found = {name: stored.get(f"rmm.{name}".encode(), b"").decode() for name in FACTS}
    run = last_run(folder)
    found |= {name: str(run[name]) for name in ("commit", "lock", "compiler") if run.get(name)}
    if run.get("engines"):
        found["engines"] = "; ".join(run["engines"].values())
    if run.get("cores"):
        found["host"] = f"{run['system']}, {run['cores']} cores"
    return {name: value for name, value in found.items() if value}
