"""Replications until Monte Carlo errors are small enough: targets, decisions, where they end.

It is decided at fixed numbers of replications (`Stopping.stages`) from the estimates of the
replications up to there and from nothing else. So the number of cores, the batch size and what
else lies on disk change neither a decision nor an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.study.files.messages import StudyFileErrors
from rmm.study.measures.measures import MEASURES

if TYPE_CHECKING:
    from rmm.study.design.estimand import Estimand

#: Measures that a target may name: those that depend on one scenario, and not on the clock.
ALLOWED = tuple(
    m.name for m in MEASURES.values() if m.of in ("sample", "pair") and m.name != "ess_per_second"
)


@dataclass(frozen=True)
class Target:
    """A Monte Carlo error that `methods` are to reach."""

    measure: str
    parameter: str
    methods: tuple[str, ...]
    mcse: float


@dataclass(frozen=True)
class Stopping:
    """When a scenario has enough replications.

    Attributes
    ----------
    minimum, step : int
        It is decided at `minimum`, `minimum + step`, ... replications.
    """

    targets: tuple[Target, ...]
    minimum: int
    step: int

    def stages(self, maximum: int) -> tuple[int, ...]:
        """Numbers of replications at which a scenario may end; the last one is `maximum`."""
        return (*range(self.minimum, maximum, self.step), maximum)


def read_stopping(
    config: Mapping[str, Any],
    estimands: Sequence[Estimand],
    names: Sequence[str],
    file_errors: StudyFileErrors,
) -> Stopping | None:
    """The rule of a study file with defaults said; None where it has none.

    Raises
    ------
    StudyError
    """
    said = config.get("stopping")
    if said is None:
        return None
    targets = []
    for index, one in enumerate(said["targets"]):
        key = f"stopping.targets[{index}]"
        check_target(key, one, estimands, names, file_errors)
        methods = tuple(one["methods"]) or tuple(names)
        targets.append(Target(one["measure"], one["parameter"], methods, one["mcse"]))
    return Stopping(tuple(targets), said["minimum"], said["step"])


def check_target(
    key: str,
    one: Mapping[str, Any],
    estimands: Sequence[Estimand],
    names: Sequence[str],
    file_errors: StudyFileErrors,
) -> None:
    """Names of a target; `StudyError` says what is allowed."""
    if one["measure"] not in ALLOWED:
        what = "a measure that can be a stopping target"
        raise file_errors.name(f"{key}.measure", what, one["measure"], ALLOWED)
    known = [e.parameter for e in estimands]
    if one["parameter"] not in known:
        raise file_errors.name(
            f"{key}.parameter", "an estimand of this study", one["parameter"], known
        )
    for number, method in enumerate(one["methods"]):
        if method not in names:
            place = f"{key}.methods[{number}]"
            raise file_errors.name(place, "a method of this study", method, names)


# -- decisions -------------------------------------------------------------------------------


# -- as a table ------------------------------------------------------------------------------
