"""What a family is: a row of facts and its likelihood in both program languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model: programs declare it, draws take their shape from it.

    Attributes
    ----------
    name : str
        One spelling everywhere: ``b_l2``, ``sigma_l1``, ``u_l1_2``, ...
    dims : tuple of str
        Names of its dimensions (keys of `Design.coords`); ``()`` for a scalar.
    support : str
        ``"real"`` or ``"positive"``.
    role : str
        ``"coefficient"``, ``"weight"``, ``"sd"``, ``"shape"`` or ``"effect"``. All but
        effects are structural parameters.
    """

    name: str
    dims: tuple[str, ...]
    support: str
    role: str

    @property
    def structural(self) -> bool:
        """Whether the parameter belongs to the model rather than to one unit."""
        return self.role != "effect"


@dataclass(frozen=True)
class Family:
    """One row of the registry `rmm.families.FAMILIES`.

    Attributes
    ----------
    name : str
    outcome_kinds : tuple of str
        Kinds of `rmm.terms.Outcome` that it takes.
    intercept : bool
        Whether the linear predictor may have an intercept.
    parameters : tuple of Parameter
        Own parameters, such as ``sigma_l2``.
    stan_data, stan_model, jags_model : str
        Lines of program text. They may use ``eta`` (the linear predictor of the J groups) and
        the family's data and parameters; the JAGS lines stand inside ``for (j in 1:J)``.
    read_outcome : callable
        ``(label, parts) -> dict`` of program data; parts are arrays over the J groups.
        Raises `DataError`.
    scale : callable
        ``(outcome) -> (location, scale)`` that weakly informative priors start from.
    """

    name: str
    outcome_kinds: tuple[str, ...]
    intercept: bool
    parameters: tuple[Parameter, ...]
    stan_data: str
    stan_model: str
    jags_model: str
    read_outcome: Callable[[str, tuple[Array, ...]], Mapping[str, Any]]
    scale: Callable[[Mapping[str, Any]], tuple[float, float]]
