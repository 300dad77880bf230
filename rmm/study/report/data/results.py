"""What a report is made from: the files of a results folder, read once, and simple questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq

from rmm.errors import StudyError
from rmm.study.files.checked_yaml import read_yaml
from rmm.study.files.environment import FACTS
from rmm.study.measures.measures import RATES
from rmm.study.measures.proportions import wilson
from rmm.study.report.data.filters import Filters
from rmm.study.report.data.labels import is_numeric
from rmm.study.report.data.where_stopped import stopping_facts
from rmm.study.run.provenance import last_run

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class Results:
    """A finished study.

    Attributes
    ----------
    name : str
        Name of the study.
    config : mapping
        The resolved study file.
    scenarios : pandas.DataFrame
        `scenario` and one column per factor.
    estimates, performance : pandas.DataFrame
        As written by collection.
    ran_on : mapping
        What the batches say of the Python and the machines that ran them: `environment`.
    stopping : list of (what, how much)
        Where scenarios ended, in a study that stops at Monte Carlo errors.
    """

    name: str
    config: Mapping[str, Any]
    scenarios: pd.DataFrame
    estimates: pd.DataFrame
    performance: pd.DataFrame
    ran_on: Mapping[str, str] = field(default_factory=dict)
    stopping: Sequence[tuple[str, str]] = ()

    @cached_property
    def factors(self) -> list[str]:
        """Factors that differ between scenarios; what should be on the x axis comes first."""
        columns = [c for c in self.scenarios.columns if c != "scenario"]
        varying = [c for c in columns if self.scenarios[c].astype(str).nunique() > 1]
        wanted = (self.config.get("report") or {}).get("x")
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
        """Names of the methods in the order of the study file."""
        named = [m["name"] for m in self.config.get("methods", [])]
        present = list(dict.fromkeys(self.performance["method"]))
        return [m for m in named if m in present] + [m for m in present if m not in named]

    @cached_property
    def filters(self) -> Filters:
        """What readers can choose: methods, and levels of factors in the order of figures."""
        levels = {f: list(dict.fromkeys(self.scenarios[f].tolist())) for f in self.factors}
        return Filters(
            self.methods, {f: sorted(v) if is_numeric(v) else v for f, v in levels.items()}
        )

    @property
    def baseline(self) -> str:
        """The method that differences and relative precision compare with."""
        return str(self.config.get("baseline") or self.methods[0])

    @cached_property
    def estimands(self) -> list[Mapping[str, Any]]:
        """Estimands of the study file; without any, every parameter with null 0, alpha 0.05.

        Of several levels of an estimand, figures and findings show the first.
        """
        stated = [dict(e) for e in self.config.get("estimands") or []]
        if not stated:
            names = list(dict.fromkeys(self.performance["parameter"].dropna()))
            stated = [{"parameter": name} for name in names if name]
        whole = [{"null": 0.0, "alpha": 0.05, **e} for e in stated]
        return [{**e, "alpha": _first(e["alpha"])} for e in whole]

    @cached_property
    def parameters(self) -> list[str]:
        """Parameters with measures, estimands first."""
        first = [e["parameter"] for e in self.estimands]
        present = [p for p in dict.fromkeys(self.performance["parameter"].dropna()) if p]
        return [p for p in first if p in present] + [p for p in present if p not in first]

    @cached_property
    def file_names(self) -> dict[str, str]:
        """Parameter -> the start of its files' names, no two alike: `b_l1[x]` -> `b_l1_x`."""
        found: dict[str, str] = {}
        for parameter in self.parameters:
            kept = "".join(c if c.isascii() and c.isalnum() else "_" for c in parameter)
            name = "_".join(part for part in kept.split("_") if part) or "parameter"
            while name in found.values():
                name += "_"
            found[parameter] = name
        return found

    @cached_property
    def fits(self) -> pd.DataFrame:
        """One row per fit: scenario, replication, method, status, seconds, message."""
        wanted = [*FIT, "status", "seconds", "message", "backend"]
        columns = [c for c in wanted if c in self.estimates.columns]
        once = self.estimates[columns].drop_duplicates(FIT).reset_index(drop=True)
        return once.astype({c: "str" for c in columns if once[c].dtype == "category"})

    def truth(self, scenario: str, parameter: str) -> float:
        """True value of a parameter in a scenario; nan where none is known, or it is drawn."""
        table = self._truths
        return float(table.get((scenario, parameter), float("nan")))

    @cached_property
    def _truths(self) -> dict[tuple[str, str], float]:
        """Those that are the same in all data sets; a truth drawn for each is no one number."""
        known = self.estimates[["scenario", "parameter", "truth"]].dropna()
        found = known.groupby(["scenario", "parameter"], sort=False)["truth"].agg(["min", "max"])
        same = found[found["min"] == found["max"]]
        truths = same["min"].reset_index()
        columns = (truths[c] for c in ("scenario", "parameter", "min"))
        return {(str(s), str(p)): float(t) for s, p, t in zip(*columns, strict=True)}

    def measure(self, measure: str, policy: str = "per_method") -> pd.DataFrame:
        """Rows of one measure under one policy."""
        table = self.performance
        return table[(table["measure"] == measure) & (table["policy"] == policy)]


def _first(alpha: Any) -> float:
    return float(alpha[0] if isinstance(alpha, list) else alpha)


def read_results(folder: Path) -> Results:
    """Read a results folder.

    Raises
    ------
    StudyError
        Where a file that collection writes is missing.
    """
    names = ("config.yaml", "scenarios.parquet", "estimates.parquet", "performance.parquet")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise StudyError(
            f"{folder} is not the folder of a finished study. Missing: {', '.join(missing)}.\n"
            f"Run it first: snakemake --cores all --config study={folder.name}"
        )
    config, _ = read_yaml(folder / "config.yaml")
    scenarios, performance = (pd.read_parquet(folder / names[i]) for i in (1, 3))
    performance = with_intervals(performance)
    estimates = _estimates(folder / "estimates.parquet")
    # A factor may be called like a column of the measures (`n`): the merged tables keep both.
    taken = (set(performance.columns) | set(estimates.columns)) - {"scenario"}
    scenarios = scenarios.rename(columns={c: f"factor.{c}" for c in scenarios if c in taken})
    order = {scenario: i for i, scenario in enumerate(scenarios["scenario"])}
    performance = performance.sort_values("scenario", key=lambda s: s.map(order), kind="stable")
    return Results(
        folder.name,
        config,
        scenarios,
        estimates,
        performance,
        _ran_on(folder),
        stopping_facts(folder),
    )


def with_intervals(performance: pd.DataFrame) -> pd.DataFrame:
    """Measures with their Monte Carlo intervals, which files of earlier versions lack.

    There, a rate of 0 or 1 has a Monte Carlo error of 0, which is none. The number of fits behind
    `type_s`, those that are significant, is not in the file.
    """
    if "lower" in performance:
        return performance
    value, mcse, n = (performance[c].to_numpy(float) for c in ("value", "mcse", "n"))
    known, rates = performance["measure"] != "type_s", performance["measure"].isin(RATES)
    wilsons = [
        wilson(v, k) if is_rate and is_known else (v - 1.959964 * e, v + 1.959964 * e)
        for v, e, k, is_rate, is_known in zip(value, mcse, n, rates, known, strict=True)
    ]
    ends = rates & performance["value"].isin([0.0, 1.0])
    return performance.assign(
        mcse=performance["mcse"].mask(ends),
        lower=[low for low, _ in wilsons],
        upper=[high for _, high in wilsons],
    )


def _estimates(path: Path) -> pd.DataFrame:
    """What a report shows of the estimates; texts that repeat are kept once.

    This is what takes most memory in a report: a million fits have millions of rows.
    """
    schema = pq.read_schema(path)
    there = [name for name in _SHOWN if name in schema.names]
    texts = [name for name in _TEXTS if name in there]
    # The partitions of a path are not read: a folder may be called like `a=b`.
    table = pq.read_table(path, columns=there, read_dictionary=texts, partitioning=None)
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
