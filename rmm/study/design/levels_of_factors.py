"""The levels of a factor, and what each sets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rmm.simulation.schema import schema
from rmm.study.design.method_settings import METHODS, check_method_path, is_of_method, name_in
from rmm.study.files import seeds
from rmm.study.files.messages import StudyFileErrors

#: Keys of a study file that a factor can set and that make up its data, or their number.
HEADS = ("membership", "covariates", "truth", "data", "replications")


@dataclass(frozen=True)
class Level:
    """One level of a factor: what it is called, and what it sets."""

    name: Any
    patch: Mapping[str, Any]
    key: str


def levels_of(
    name: str, factor: Mapping[str, Any], config: Mapping[str, Any], file_errors: StudyFileErrors
) -> list[Level] | Range:
    """The levels of a factor, or its range."""
    key, given = f"vary.{name}", set(factor)
    used = given - {"log"} if "range" in given or not factor.get("log") else given
    if used not in ({"path", "values"}, {"path", "range"}, {"levels"}):
        raise file_errors.about(
            key,
            f"The factor has the keys {', '.join(factor)}.",
            "Give either `path` and `values`, or `path` and `range`, or `levels`.",
        )
    if name == "scenario":
        raise file_errors.about(
            key, "A factor cannot be called `scenario`.", "Give it another name."
        )
    if "range" in factor:
        return _range(factor, key, config, file_errors)
    if "values" in factor:
        _check_path(factor["path"], f"{key}.path", config, file_errors)
        return [
            Level(_label(value), {factor["path"]: value}, f"{key}.values[{i}]")
            for i, value in enumerate(factor["values"])
        ]
    for label, patch in factor["levels"].items():
        for path in patch:
            _check_path(path, f"{key}.levels.{label}", config, file_errors)
    return [Level(n, p, f"{key}.levels.{n}") for n, p in factor["levels"].items()]


def _label(value: Any) -> Any:
    """A level as a cell of a table: lists and mappings as text."""
    return value if isinstance(value, (int, float, str, bool)) else seeds.canonical(value)


def split_path(path: str) -> list[str]:
    """Parts of a dotted path; dots inside brackets do not part: truth.parameters.b_l1[a.b]."""
    return re.findall(r"(?:[^.\[]|\[[^\]]*\])+", path)


def method_path(path: str, config: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Name of the method, and parts of the key in it, of a path such as methods.mmmm.priors."""
    name = name_in(path, [str(one.get("name")) for one in config.get(METHODS, [])])
    return name, split_path(path.removeprefix(f"{METHODS}.{name}.")) if name else []


def _check_path(
    path: str, key: str, config: Mapping[str, Any], file_errors: StudyFileErrors
) -> None:
    if is_of_method(path):
        _, inside = method_path(path, config)
        check_method_path(path, inside, key, config.get(METHODS, []), file_errors)
        return
    parts = split_path(path)
    if not parts or parts[0] not in HEADS:
        allowed = (*HEADS, f"{METHODS}.NAME")
        raise file_errors.name(key, "a path that starts with an allowed key", path, allowed)
    value: Any = config
    for depth, part in enumerate(parts[:-1]):
        inner = value.get(part)
        if not isinstance(inner, Mapping):
            known = [k for k, v in value.items() if isinstance(v, Mapping)]
            known = [k for k in known if depth or k in HEADS]
            raise file_errors.name(f"{key} {path!r}", "a key that contains other keys", part, known)
        value = inner
    rule = _rule(parts[:-1])
    known = [*rule.get("properties", {}), *value]
    if parts[-1] not in known and not isinstance(rule.get("additionalProperties"), dict):
        raise file_errors.name(f"{key} {path!r}", "a key that is allowed here", parts[-1], known)


def _rule(parts: list[str]) -> Mapping[str, Any]:
    rule: Mapping[str, Any] = schema()
    for part in parts:
        rule = rule.get("properties", {}).get(part) or rule.get("additionalProperties") or {}
        if "$ref" in rule:
            rule = schema()["$defs"][rule["$ref"].rsplit("/", 1)[1]]
    return rule


@dataclass(frozen=True)
class Range:
    """A factor that takes any value of a range.

    Attributes
    ----------
    path : str
    low, high : int or float
        Values are whole numbers if both are.
    log : bool
        Whether values are spread evenly by their logarithms.
    key : str
        Of the factor in the study file.
    """

    path: str
    low: float
    high: float
    log: bool
    key: str

    def level(self, u: float, digits: int) -> Level:
        """The level at a share of the way, its value rounded to digits of the range's width."""
        low, high = (math.log(x) if self.log else x for x in (self.low, self.high))
        value = low + u * (high - low)
        value = math.exp(value) if self.log else value
        if isinstance(self.low, int) and isinstance(self.high, int):
            value = round(value)
        else:
            value = round(value, digits - math.ceil(math.log10(self.high - self.low)))
        return Level(value, {self.path: value}, self.key)


def _range(
    factor: Mapping[str, Any], key: str, config: Mapping[str, Any], file_errors: StudyFileErrors
) -> Range:
    _check_path(factor["path"], f"{key}.path", config, file_errors)
    (low, high), log = factor["range"], bool(factor.get("log", False))
    if low >= high:
        raise file_errors.value(f"{key}.range", factor["range"], "two numbers, the smaller first")
    if log and low <= 0:
        raise file_errors.value(
            f"{key}.range", factor["range"], "numbers above 0", "`log` is true."
        )
    return Range(factor["path"], low, high, log, key)
