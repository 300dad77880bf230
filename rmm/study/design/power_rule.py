"""What a power study asks: the key `power` of a study file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.study.files.messages import StudyFileErrors, shown

if TYPE_CHECKING:
    from rmm.study.design.estimand import Estimand


@dataclass(frozen=True)
class Search:
    """How a size is searched for: see the key `power.search` of study files."""

    low: int
    high: int
    start: int
    precision: float
    replications: int
    maximum: int


@dataclass(frozen=True)
class Power:
    """What a power study asks: see the key `power` of study files."""

    parameter: str
    alpha: float
    target: float
    size: str
    methods: tuple[str, ...]
    search: Search | None


def read_power(
    config: Mapping[str, Any],
    estimands: Sequence[Estimand],
    names: Sequence[str],
    file_errors: StudyFileErrors,
) -> Power | None:
    """The key `power` of a study file with defaults said; None where it has none.

    Raises
    ------
    StudyError
    """
    said = config.get("power")
    if said is None:
        return None
    levels = {e.parameter: e.alpha for e in estimands}
    if said["parameter"] not in levels:
        raise file_errors.name("power.parameter", "estimand", said["parameter"], list(levels))
    tested = [e.parameter for e in estimands if e.tested]
    if said["parameter"] not in tested:
        allowed = f"one that can be on both sides of its null: {', '.join(tested) or 'none here'}"
        raise file_errors.about("power.parameter", shown(said["parameter"]), allowed)
    alpha = levels[said["parameter"]]
    if said["alpha"] not in alpha:
        raise file_errors.about(
            "power.alpha",
            shown(said["alpha"]),
            f"a level of the estimand {said['parameter']}: {', '.join(f'{a:g}' for a in alpha)}",
        )
    for index, method in enumerate(said["methods"]):
        if method not in names:
            raise file_errors.name(f"power.methods[{index}]", "method of this study", method, names)
    if config["measures"] and "rejection" not in config["measures"]:
        raise file_errors.about("measures", "no rejection, which is power", "rejection among them")
    _check_size(said["size"], config["vary"], file_errors)
    return Power(
        said["parameter"],
        said["alpha"],
        said["target"],
        said["size"],
        tuple(said["methods"]) or tuple(names),
        _read_search(said.get("search"), file_errors),
    )


def _check_size(name: str, factors: Mapping[str, Any], file_errors: StudyFileErrors) -> None:
    if name not in factors:
        raise file_errors.name("power.size", "factor", name, list(factors))
    values = factors[name].get("values")
    if values is None:
        raise file_errors.about(f"vary.{name}", "`levels`", "`path` and `values`, as power.size")
    if factors[name]["path"] == "replications":
        raise file_errors.about(f"vary.{name}.path", "replications", "a size of the data")
    for index, value in enumerate(values):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            key = f"vary.{name}.values[{index}]"
            raise file_errors.about(key, shown(value), "whole numbers from 1, as power.size")


def _read_search(said: Mapping[str, Any] | None, file_errors: StudyFileErrors) -> Search | None:
    if said is None:
        return None
    low, high = said["low"], said["high"]
    if low >= high:
        raise file_errors.about("power.search.high", shown(high), f"above low, {low}")
    middle = round(((math.sqrt(low) + math.sqrt(high)) / 2) ** 2)
    start = said.get("start", middle)
    if not low <= start <= high:
        raise file_errors.about("power.search.start", shown(start), f"{low} to {high}")
    if said["maximum"] < said["replications"]:
        allowed = f"at least `replications`, {said['replications']}"
        raise file_errors.about("power.search.maximum", shown(said["maximum"]), allowed)
    return Search(low, high, start, said["precision"], said["replications"], said["maximum"])
