"""Draws of a run -> estimates of the structural parameters, as plain arrays.

`Fit` shows them as tables; a simulation study, which fits thousands of times, takes the arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rmm.backends.base import Run
from rmm.design.prepare import Model
from rmm.posterior.diagnostics.contraction import contraction
from rmm.posterior.diagnostics.summary import Weighing, ascending, summary_columns, weighing
from rmm.posterior.draws import Elements, structural_draws

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Estimates:
    """Estimates of all structural parameters of a run; each part is computed when it is asked for.

    Attributes
    ----------
    model : Model
    run : Run
    own_program : bool
        Whether the program, and so its priors, are the user's own.
    """

    model: Model
    run: Run
    own_program: bool = False

    @cached_property
    def elements(self) -> Elements:
        """Labels and draws."""
        return structural_draws(self.run, self.model)

    @cached_property
    def weighing(self) -> Weighing | None:
        """How good the weights of the draws are, where they have been weighted."""
        return weighing(self.run)

    @cached_property
    def contraction(self) -> tuple[Array, Array]:
        """As `contraction`; NaN where priors are not known."""
        if self.own_program:
            count = len(self.elements.labels)
            return np.full(count, np.nan), np.zeros(count, dtype=bool)
        return contraction(self.model, self.elements.parameters)

    @cached_property
    def ordered(self) -> Array:
        """(elements, S) draws of each element in ascending order."""
        values = self.elements.values
        return ascending(values.reshape(-1, values.shape[2]))

    @cached_property
    def columns(self) -> Mapping[str, Array]:
        """Columns of `summary()`, ``contraction`` last, each (elements,)."""
        found = summary_columns(self.elements.values, self.weighing, self.ordered)
        return {**found, "contraction": self.contraction[0]}

    @cached_property
    def shown(self) -> Array:
        """(elements,) whether `summary()` shows them: fixed effects of units only on request."""
        parts = self.model.spec.nestings
        hidden = {p.b for p in parts if not p.random and not p.block.show}
        labels = self.elements.labels
        return np.array([name.split("[")[0] not in hidden for name in labels], dtype=bool)
