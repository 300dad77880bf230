"""One fit of a study: what is asked of a backend, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rmm.formula.parse_formula import parse_formula
from rmm.formula.terms import Formula
from rmm.simulation import Drawn

if TYPE_CHECKING:
    from rmm.study.methods.method import Method

#: Suffix of the bounds' columns -> level of the interval.
INTERVALS = (("", 0.95), ("90", 0.90), ("99", 0.99))


@dataclass(frozen=True)
class Task:
    """One fit: a method, a replication, the values that are tested, and the chains' seed.

    Attributes
    ----------
    candidates : mapping
        Formulas by name of a method that chooses among them; others have one `formula`.
    adaptation : mapping
        What the method's pilot fit found (`rmm.study.methods.pilot_fits`); empty without a pilot,
        or if it failed.
    ready : mapping
        Ready estimands by their names in estimates: (estimand, options).
    truths : mapping
        Their true values in this data set; NaN where it has no such member or group.
    fallback : Task, optional
        The same by the method's other engine, where this fit is not usable.
    scenario, replication : str, int
        Where the data are from.
    factors : mapping
        Levels of the scenario's factors that do not set the truth.
    """

    method: Method
    drawn: Drawn
    formula: str
    nulls: Mapping[str, float]
    seed: int
    candidates: Mapping[str, str] = field(default_factory=dict)
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    ready: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    truths: Mapping[str, float] = field(default_factory=dict)
    fallback: Task | None = None
    scenario: str = ""
    replication: int = 0
    factors: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a fit.

    Attributes
    ----------
    status : str
        ok, not_converged, failed or timeout.
    estimates : tuple of dict
        Columns of `results.ESTIMATES` that depend on the parameter, one entry per parameter.
    backend : str
        The fallback, where it answered; empty: the method's own.
    """

    status: str
    estimates: tuple[Mapping[str, Any], ...] = ()
    message: str = ""
    divergences: int | None = None
    engine: str = ""
    seconds: float = 0.0
    backend: str = ""
    fit: Any = field(default=None, repr=False)


def answering(task: Task, outcome: Outcome) -> Task:
    """The task that gave an outcome: the method's own, or that of its fallback."""
    return task.fallback if outcome.backend and task.fallback is not None else task


@lru_cache(maxsize=256)
def parsed(text: str) -> Formula:
    """A formula, parsed once per process."""
    return parse_formula(text)
