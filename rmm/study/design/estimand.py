"""What a study measures: parameters, their true values and the nulls that are tested."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimand:
    """A parameter that is measured; `truth` is None where the truth has the same name."""

    parameter: str
    null: float
    alpha: tuple[float, ...]
    truth: float | str | None = None

    @property
    def tested(self) -> bool:
        """False for what is never below a null of 0: every posterior of it is above."""
        return self.null != 0 or not self.parameter.startswith(("sigma", "shape"))

    def true_value(self, parameters: Mapping[str, float]) -> float | None:
        """Its value in a scenario or data set; None where the truth does not have it."""
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
        return isinstance(wanted, (int, float)) or wanted in names or sd_of(wanted) in names


def sd_of(name: str) -> str | None:
    """``sigma_l1`` of the variance ``sigma_l1^2``; None for other names."""
    return name[:-2] if name.startswith("sigma") and name.endswith("^2") else None
