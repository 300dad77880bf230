"""What a study measures: parameters, their true values and the nulls that are tested."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmm.simulation.estimands import TRUE_ESTIMANDS

#: Keys of an estimand in a study file that are not options of a ready one.
_COMMON = ("parameter", "estimand", "baseline", "null", "alpha", "truth")


@dataclass(frozen=True)
class Estimand:
    """A parameter that is measured; `truth` is None where the truth has the same name.

    Attributes
    ----------
    ready : str
        Key of `rmm.simulation.estimands.TRUE_ESTIMANDS`, whose true value is that of each data
        set; "" for a parameter. Its name is then `label_of`.
    options : mapping
        Of the ready estimand.
    baseline : str
        Method that paired measures compare with; "": that of the study.
    """

    parameter: str
    null: float
    alpha: tuple[float, ...]
    truth: float | str | None = None
    ready: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    baseline: str = ""

    @property
    def tested(self) -> bool:
        """False for what is never below a null of 0: every posterior of it is above."""
        if self.null != 0:
            return True
        positive = TRUE_ESTIMANDS.get(self.parameter.partition("[")[0])
        if positive is not None:
            return not positive.positive
        return not self.parameter.startswith(("sigma", "shape"))

    @property
    def whole(self) -> bool:
        """Whether it is a whole number, which intervals hold more often than they say."""
        return bool(self.ready) and TRUE_ESTIMANDS[self.ready].whole

    def true_value(self, parameters: Mapping[str, float]) -> float | None:
        """Its value in a scenario or data set; None where parameters alone do not say it."""
        if isinstance(self.truth, (int, float)):
            return float(self.truth)
        name = self.parameter if self.truth is None else self.truth
        sd = sd_of(name)
        if sd is not None and sd in parameters:
            return parameters[sd] ** 2
        return parameters.get(name)

    def has_truth(self, names: Collection[str]) -> bool:
        """Whether a truth with parameters of these names says its value."""
        wanted = self.parameter if self.truth is None else self.truth
        known = isinstance(wanted, (int, float)) or wanted in names or sd_of(wanted) in names
        return known or (bool(self.ready) and self.truth is None)


def sd_of(name: str) -> str | None:
    """``sigma_l1`` of the variance ``sigma_l1^2``; None for other names."""
    return name[:-2] if name.startswith("sigma") and name.endswith("^2") else None


def options_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a ready estimand in a study file, less those at their default."""
    given = {k: v for k, v in entry.items() if k not in _COMMON and v is not None}
    ready = TRUE_ESTIMANDS.get(entry.get("estimand", ""))
    defaults = {} if ready is None else ready.options
    return {k: v for k, v in given.items() if k not in defaults or v != defaults[k]}


def label_of(entry: Mapping[str, Any]) -> str:
    """Name of an estimand of a study file: ``b_l1[x]``, ``largest_weight[by=power]``."""
    if "estimand" not in entry:
        return str(entry.get("parameter"))
    options = options_of(entry)
    said = ", ".join(f"{name}={_text(options[name])}" for name in sorted(options))
    return f"{entry['estimand']}[{said}]" if said else str(entry["estimand"])


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "/".join(f"{name}:{_text(value[name])}" for name in sorted(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "+".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
