"""Replications until Monte Carlo errors are small enough: decisions, and where scenarios end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from rmm.errors import counted
from rmm.study.design.stopping_rule import Target
from rmm.study.evaluate.score import current_truth
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.score_cells import PER_METHOD, score_estimates

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.design.scenarios import Scenario
    from rmm.study.design.study import Study


#: Proportions of all usable fits.
PROPORTIONS = ("coverage", "be_coverage", "rejection")


@dataclass(frozen=True)
class Aim:
    """How far one target of one method is at one level of alpha.

    Attributes
    ----------
    mcse : float
        At `n` usable fits; nan where it is not known.
    capped : bool
        Whether the method has fitted all data sets that it may, so that more cannot help.
    """

    measure: str
    parameter: str
    method: str
    alpha: float
    target: float
    mcse: float
    n: int
    reached: bool
    capped: bool


@dataclass(frozen=True)
class Standing:
    """Where one scenario stands.

    Attributes
    ----------
    replications : int
        What it ends at, or what the next decision needs.
    maximum : int
    decided : bool
        Whether it ends there.
    aims : tuple of Aim
        At the last decision; empty before the first.
    """

    scenario: str
    replications: int
    maximum: int
    decided: bool
    aims: tuple[Aim, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether all targets are reached."""
        return bool(self.aims) and all(aim.reached for aim in self.aims)

    def words(self) -> str:
        """Such as ``stopped at 600 of at most 2,000 replications: all targets reached``."""
        open_ = sum(not aim.reached for aim in self.aims)
        upto = f"{self.replications:,} of at most {counted(self.maximum, 'replication')}"
        if not self.decided:
            after = f"; {open_} of {len(self.aims)} targets not reached yet" if self.aims else ""
            return f"continues to {upto}{after}"
        why = (
            "all targets reached"
            if self.reached
            else f"{open_} of {len(self.aims)} targets not reached"
        )
        if not self.reached and self.replications < self.maximum:
            why += ", by methods that have run all their replications"
        return f"stopped at {upto}: {why}"


def standing(study: Study, scenario: Scenario, estimates: pd.DataFrame) -> Standing:
    """Walk the stages of a scenario as far as its estimates reach.

    Parameters
    ----------
    estimates : pandas.DataFrame
        Rows of this scenario, columns of `results.ESTIMATES`; there may be more replications
        than the rule asks for, they are not looked at.
    """
    assert study.stopping is not None
    there = _replications(estimates)
    found = Standing(scenario.id, 0, scenario.replications, False)
    for stage in study.stopping.stages(scenario.replications):
        if any(
            not set(range(1, min(stage, study.replications_of(scenario, m)) + 1))
            <= there.get(m.name, set())
            for m in study.methods
        ):
            return replace(found, replications=stage)
        found = decision(study, scenario, estimates, stage)
        if found.decided:
            return found
    raise AssertionError("the last stage is the maximum")


def _replications(estimates: pd.DataFrame) -> dict[str, set[int]]:
    groups = estimates.groupby("method", sort=False)["replication"]
    return {str(method): set(part.unique().tolist()) for method, part in groups}


def aims_at(
    study: Study, scenario: Scenario, estimates: pd.DataFrame, stage: int
) -> tuple[Aim, ...]:
    """Every target at one stage of a scenario, from its first `stage` replications alone."""
    assert study.stopping is not None
    targets = study.stopping.targets
    caps = {m.name: study.replications_of(scenario, m) for m in study.methods}
    part = estimates[estimates["replication"] <= estimates["method"].map(caps).clip(upper=stage)]
    part = part.assign(scenario=scenario.id)  # fits may be shared with another one
    part = part.assign(truth=current_truth(study, part))
    parameters = list(dict.fromkeys(t.parameter for t in targets))
    scores = score_estimates(
        part,
        alpha={e.parameter: e.alpha for e in study.estimands},
        measures=list(dict.fromkeys(t.measure for t in targets)),
        parameters=parameters,
        baseline={p: study.baseline_of(p) for p in parameters},
    )
    scores = scores[scores["policy"] == PER_METHOD]
    return tuple(aim for target in targets for aim in _aims(target, scores, study, caps, stage))


def _aims(
    target: Target, scores: pd.DataFrame, study: Study, caps: Mapping[str, int], stage: int
) -> Iterable[Aim]:
    pair = MEASURES[target.measure].of == "pair"
    mine = scores[(scores["measure"] == target.measure) & (scores["parameter"] == target.parameter)]
    base = study.baseline_of(target.parameter)
    for method in target.methods:
        if pair and method == base:
            continue
        capped = stage >= min(caps[method], caps[base] if pair else caps[method])
        for row in mine[mine["method"] == method].to_dict("records"):
            error = usable_error(target.measure, row["value"], row["mcse"], row["n"])
            yield Aim(
                target.measure,
                target.parameter,
                method,
                row["alpha"],
                target.mcse,
                row["mcse"],
                int(row["n"]),
                0 < error <= target.mcse,
                capped,
            )


def usable_error(measure: str, value: float, mcse: float, n: int) -> float:
    """The Monte Carlo error that a decision takes; 0 and nan reach no target.

    A proportion of 0 or 1 has no Monte Carlo standard error. So proportions are taken with two
    hits and two misses more (Agresti & Coull 1998) where that error is larger, or the only one.
    """
    if measure not in PROPORTIONS or not n:
        return mcse
    p = (value * n + 2) / (n + 4)
    floor = float((p * (1 - p) / (n + 4)) ** 0.5)
    return floor if math.isnan(mcse) else max(mcse, floor)


def decision(study: Study, scenario: Scenario, estimates: pd.DataFrame, stage: int) -> Standing:
    """Whether a scenario has enough at one stage, from its first `stage` replications."""
    assert study.stopping is not None
    aims = aims_at(study, scenario, estimates, stage)
    enough = bool(aims) and all(aim.reached or aim.capped for aim in aims)
    later = [n for n in study.stopping.stages(scenario.replications) if n > stage]
    if enough or not later:
        return Standing(scenario.id, stage, scenario.replications, True, aims)
    return Standing(scenario.id, later[0], scenario.replications, False, aims)


#: One row per scenario, target, method and alpha: `results/NAME/stopping.parquet`.
TABLE = pa.schema(
    [
        pa.field("scenario", pa.string(), nullable=False),
        ("replications", pa.int64()),
        ("maximum", pa.int64()),
        ("reached_all", pa.bool_()),
        ("words", pa.string()),
        ("measure", pa.string()),
        ("parameter", pa.string()),
        ("method", pa.string()),
        ("alpha", pa.float64()),
        ("target", pa.float64()),
        ("mcse", pa.float64()),
        ("n", pa.int64()),
        ("reached", pa.bool_()),
        ("capped", pa.bool_()),
    ]
)


def stopping_table(standings: Iterable[Standing]) -> pa.Table:
    """Where the scenarios ended, and the errors that they ended with."""
    rows = [
        {
            "scenario": s.scenario,
            "replications": s.replications,
            "maximum": s.maximum,
            "reached_all": s.reached,
            "words": s.words(),
            **asdict(aim),
        }
        for s in standings
        for aim in s.aims
    ]
    return pa.Table.from_pylist(rows, schema=TABLE)
