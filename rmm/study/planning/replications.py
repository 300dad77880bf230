"""How many replications a study needs for its Monte Carlo errors, and how long they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from scipy import special

from rmm.study.design.stopping_rule import Target
from rmm.study.design.study import Study
from rmm.study.evaluate.score import current_truth
from rmm.study.evaluate.stopping_decision import PROPORTIONS, usable_error
from rmm.study.files.parquet import ESTIMATES, of_scenario, read_batches
from rmm.study.manage.jobs import plan
from rmm.study.measures.proportions import wilson
from rmm.study.measures.score_cells import PER_METHOD, score_estimates

if TYPE_CHECKING:
    import pandas as pd

_NORMAL = 1.959964


def replications_for_rate(mcse: float, rate: float = 0.5) -> int:
    """Replications for which a proportion near `rate` has the Monte Carlo error `mcse`.

    p (1 - p) / mcse^2 (Morris, White & Crowther 2019, table 6); the default is the worst case.
    """
    return math.ceil(round(rate * (1 - rate) / mcse**2, 6))


@dataclass(frozen=True)
class Need:
    """Replications that one method needs in one scenario for one target.

    Attributes
    ----------
    pilot : int
        Usable fits that this rests on.
    value, mcse : float
        Of the measure in the pilot.
    needed : int or None
        Replications at the pilot's spread or rate, fits that fail counted; None without usable
        pilot fits.
    up_to : int or None
        At the end of a 95% (one-sided) interval of that spread or rate.
    worst : int or None
        At any rate; None for what is no rate.
    """

    measure: str
    parameter: str
    alpha: float
    target: float
    scenario: str
    method: str
    pilot: int
    value: float
    mcse: float
    needed: int | None
    up_to: int | None
    worst: int | None


@dataclass(frozen=True)
class Pace:
    """What finished fits tell of the time of one method.

    Attributes
    ----------
    seconds, error : float
        Mean of a fit, and its standard error; nan without fits (the error: with one).
    """

    method: str
    fits: int
    seconds: float
    error: float

    def hours(self, fits: int, cores: int) -> tuple[float, float]:
        """Hours that fits take on some cores, and half the width of their 95% interval."""
        return tuple(fits * s / cores / 3600 for s in (self.seconds, _NORMAL * self.error))  # type: ignore[return-value]


def read_pilot(study: Study, folder: Path) -> pd.DataFrame:
    """Estimates of a study that exist, by its present scenarios and methods; maybe none.

    Raises
    ------
    StudyError
        If they were made with another version of the study file.
    """
    tables = [ESTIMATES.empty_table()]
    for job in plan(study, folder, to_maximum=True):
        path = folder / job.path
        if path.is_file():
            table = read_batches([path])
            for scenario in study.sharers(study.scenario(job.scenario), job.method):
                tables.append(of_scenario(table, scenario.id))
    return pa.concat_tables(tables).to_pandas()


def paces(study: Study, pilot: pd.DataFrame) -> list[Pace]:
    """The time of a fit of each method."""
    fits = pilot.drop_duplicates(["scenario", "method", "replication"])
    out = []
    for method in study.methods:
        seconds = fits.loc[fits["method"] == method.name, "seconds"].dropna()
        error = (
            float(seconds.std(ddof=1)) / math.sqrt(len(seconds)) if len(seconds) > 1 else math.nan
        )
        out.append(Pace(method.name, len(seconds), float(seconds.mean()), error))
    return out


def needs(study: Study, pilot: pd.DataFrame, targets: Sequence[Target]) -> list[Need]:
    """What every target needs per scenario and method, by a pilot."""
    if pilot.empty:
        return []
    scores = score_estimates(
        pilot.assign(truth=current_truth(study, pilot)),
        alpha={e.parameter: e.alpha for e in study.estimands},
        measures=list(dict.fromkeys(t.measure for t in targets)),
        parameters=list(dict.fromkeys(t.parameter for t in targets)),
        baseline={t.parameter: study.baseline_of(t.parameter) for t in targets},
    )
    scores = scores[scores["policy"] == PER_METHOD]
    fits = pilot.drop_duplicates(["scenario", "method", "replication"])
    tried = fits.groupby(["scenario", "method"]).size().to_dict()
    out = []
    for target in targets:
        chosen = scores["method"].isin(target.methods) & (scores["measure"] == target.measure)
        for row in scores[chosen & (scores["parameter"] == target.parameter)].to_dict("records"):
            out.append(_need(target, row, int(tried[row["scenario"], row["method"]])))
    return out


def _need(target: Target, row: dict[Any, Any], tried: int) -> Need:
    n, value = int(row["n"]), float(row["value"])
    error = usable_error(target.measure, value, row["mcse"], n)
    needed = up_to = None
    if n > 1 and error > 0:
        fits = n * (error / target.mcse) ** 2
        most = _most(target, value, n, fits)
        needed, up_to = (math.ceil(round(f * tried / n, 6)) for f in (fits, most))
    worst = replications_for_rate(target.mcse) if target.measure in PROPORTIONS else None
    return Need(
        target.measure,
        target.parameter,
        float(row["alpha"]),
        target.mcse,
        row["scenario"],
        row["method"],
        n,
        value,
        float(row["mcse"]),
        needed,
        up_to,
        worst,
    )


def _most(target: Target, value: float, n: int, fits: float) -> float:
    """Fits at the end of the pilot's 95% interval: of a rate, or of a variance (as of normal)."""
    if target.measure in PROPORTIONS:
        low, high = wilson(value, n, level=0.9)
        p = min(max(0.5, low), high)  # the rate in the interval that is nearest to a half
        return max(fits, p * (1 - p) / target.mcse**2)
    return fits * (n - 1) / float(special.chdtri(n - 1, 0.95))


@dataclass(frozen=True)
class ScenarioNeed:
    """Replications of one scenario, and the target that asks for most.

    Attributes
    ----------
    number : int or None
        Replications with which all targets are reached there; None where one has no pilot.
    deciding : Need
        The target and method that ask for most, or one without a usable pilot fit.
    """

    scenario: str
    number: int | None
    deciding: Need


def by_scenario(found: Sequence[Need], batch: int) -> list[ScenarioNeed]:
    """Replications of each scenario by its hardest target, in the order of the needs.

    As `recommended`, for each scenario by itself. A study with these targets under `stopping` ends
    a scenario at about this number.
    """
    groups: dict[str, list[Need]] = {}
    for need in found:
        groups.setdefault(need.scenario, []).append(need)
    return [
        ScenarioNeed(
            scenario,
            recommended(needs, batch),
            max(needs, key=lambda n: math.inf if n.up_to is None else _at_most(n)),
        )
        for scenario, needs in groups.items()
    ]


def _at_most(need: Need) -> float:
    """Replications of one target, with a margin for the pilot, at most those of the worst case."""
    return min(need.up_to or 0, need.worst or math.inf)


def recommended(found: Sequence[Need], batch: int) -> int | None:
    """Replications with which all targets are reached, as far as the pilot can tell.

    The largest `up_to`, but no more than the worst case; rounded up to whole batches of at most
    50. None where a target has no pilot.
    """
    if not found or any(need.up_to is None for need in found):
        return None
    most = max(map(_at_most, found))
    unit = min(batch, 50)
    return math.ceil(most / unit) * unit
