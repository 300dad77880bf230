"""Labels of factors, levels, methods and parameters: how they are called in a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmm.study.report.data.format_numbers import compact

_SLOPE = re.compile(r"b_(?:l\d+(?:\.\d+)?|fe)\[(.+)\]")
_WEIGHT = re.compile(r"b_w(?:\.\d+)?\[(.+)\]")
_READY = re.compile(r"(\w+)\[(?:\w+)=(.+)\]")
_KNOWN = {
    "sigma_l1": "the standard deviation of member effects",
    "sigma_l2": "the residual standard deviation",
    "sigma_l3": "the standard deviation of nesting units",
}


def readable(factor: str) -> str:
    """`membership.overlap` -> `overlap`: the last part of a dotted path, in words."""
    return factor.rsplit(".", 1)[-1].replace("_", " ")


def source_label(source: str) -> str:
    """`overlap x groups`, an interaction of factors, in the words of a report."""
    return " × ".join(readable(part) for part in source.split(" x "))


def is_numeric(levels: Sequence[Any]) -> bool:
    """Whether the levels of a factor are numbers, so that lines between them mean something."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)


@dataclass(frozen=True)
class Labels:
    """The author's words for names of the study, and ours where there are none.

    Attributes
    ----------
    given : mapping
        Key `report.labels` of a study file: `methods` and `parameters` -> name -> words, and
        factor -> level -> words.
    """

    given: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)

    def method(self, name: str) -> str:
        """A method."""
        return self.given.get("methods", {}).get(name, name)

    def parameter(self, name: str) -> str:
        """A parameter: `b_l1[x]` is x, `b_w[b1]` the weight coefficient b1."""
        words = self.given.get("parameters", {})
        if name in words:
            return words[name]
        if found := _SLOPE.fullmatch(name):
            return found[1]
        if found := _WEIGHT.fullmatch(name):
            return f"the weight coefficient {found[1]}"
        if found := _READY.fullmatch(name):
            return f"the {found[1].replace('_', ' ')} ({found[2]})"
        return _KNOWN.get(name, name)

    def short(self, name: str) -> str:
        """A parameter above a column: `b_l1[x]` is x, others are as in the study file."""
        words = self.given.get("parameters", {}).get(name)
        found = _SLOPE.fullmatch(name)
        return words or (found[1] if found else name)

    def level(self, factor: str, value: Any) -> str:
        """A level of a factor: the author's words, or `overlap 0.5`."""
        words = {compact(k): v for k, v in self._of_factor(factor).items()}
        text = compact(value)
        return words.get(text) or f"{readable(factor)} {text}"

    def _of_factor(self, factor: str) -> Mapping[Any, str]:
        name = factor.removeprefix("factor.")
        return self.given.get(name) or {}

    def scenario(self, row: Mapping[Any, Any], factors: Sequence[str]) -> str:
        """A scenario by the levels of some factors."""
        return ", ".join(self.level(factor, row[factor]) for factor in factors)


def labels_of(study: Any) -> Labels:
    """The words that the file of a study gives; that of a table of estimates gives none."""
    return Labels((study.config.get("report") or {}).get("labels") or {})
