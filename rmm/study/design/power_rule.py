"""What a power study asks: the key `power` of a study file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rmm.study.design.method_settings import is_of_method
from rmm.study.files.messages import StudyFileErrors

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
        raise file_errors.name(
            "power.parameter", "an estimand of this study", said["parameter"], list(levels)
        )
    tested = [e.parameter for e in estimands if e.tested]
    if said["parameter"] not in tested:
        raise file_errors.about(
            "power.parameter",
            f"{said['parameter']} has no test: it cannot be both above and below its null value.",
            f"Allowed: {', '.join(tested) or 'none of the estimands'}.",
        )
    alpha = levels[said["parameter"]]
    if said["alpha"] not in alpha:
        levels_of = f"`alpha` of the estimand {said['parameter']}"
        raise file_errors.about(
            "power.alpha",
            f"{said['alpha']:g} is not a value of {levels_of}.",
            f"Allowed: {', '.join(f'{a:g}' for a in alpha)}.",
        )
    for index, method in enumerate(said["methods"]):
        if method not in names:
            key = f"power.methods[{index}]"
            raise file_errors.name(key, "a method of this study", method, names)
    if config["measures"] and "rejection" not in config["measures"]:
        raise file_errors.about(
            "measures", "`rejection` is missing. A power study needs it: it is the power."
        )
    _check_size(said["size"], config["vary"], file_errors)
    if said.get("search") and config["design"]["kind"] != "full":
        raise file_errors.about(
            "design",
            "`power.search` tries sizes that are no levels.",
            "Set `kind: full`, or remove `power.search`.",
        )
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
        raise file_errors.name("power.size", "a factor of `vary`", name, list(factors))
    values = factors[name].get("values")
    if values is None:
        raise file_errors.about(
            f"vary.{name}",
            "power.size names this factor, which has `levels`; `path` and `values` are needed.",
        )
    path = factors[name]["path"]
    if path == "replications" or is_of_method(path):
        what = "a key of a method" if is_of_method(path) else "the number of replications"
        raise file_errors.about(
            f"vary.{name}.path",
            f"power.size names this factor, which varies {what}.",
            "Vary a size of the data, such as membership.groups.",
        )
    for index, value in enumerate(values):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            key = f"vary.{name}.values[{index}]"
            why = "power.size names this factor."
            raise file_errors.value(key, value, "a whole number of at least 1", why)


def _read_search(said: Mapping[str, Any] | None, file_errors: StudyFileErrors) -> Search | None:
    if said is None:
        return None
    low, high = said["low"], said["high"]
    if low >= high:
        raise file_errors.value("power.search.high", high, f"a number above `low`, which is {low}")
    middle = round(((math.sqrt(low) + math.sqrt(high)) / 2) ** 2)
    start = said.get("start", middle)
    if not low <= start <= high:
        raise file_errors.value("power.search.start", start, f"a number from {low} to {high}")
    if said["maximum"] < said["replications"]:
        allowed = f"at least `replications`, which is {said['replications']}"
        raise file_errors.value("power.search.maximum", said["maximum"], allowed)
    return Search(low, high, start, said["precision"], said["replications"], said["maximum"])
