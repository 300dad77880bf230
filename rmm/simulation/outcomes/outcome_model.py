"""What the simulator knows of a family: one row of `rmm.simulation.outcomes.outcomes.OUTCOMES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rmm.simulation.covariates.covariates import Column
from rmm.simulation.memberships.structures import Memberships

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]
type Scale = Callable[[Array, Truth, float | None], Array]


@dataclass(frozen=True, eq=False)
class Setting:
    """What outcomes may depend on besides the linear predictor: strata, censoring, ..."""

    truth: Truth
    memberships: Memberships
    columns: Mapping[str, Column]


def strata_of(setting: Setting) -> Array:
    """(J,) stratum of each group: a nesting unit, or a value of a covariate."""
    memberships, (name,) = setting.memberships, setting.truth.formula.strata
    if name == memberships.names.nesting:
        assert memberships.nesting is not None
        return memberships.nesting
    column = setting.columns[name]
    return memberships.expand(column.values, column.level, "group")


class Replication(Protocol):
    """What a log density needs of `rmm.simulation.data_sets.Drawn`."""

    @property
    def truth(self) -> Truth:
        """The true model."""

    @property
    def memberships(self) -> Memberships:
        """Who is in which group."""

    @property
    def eta(self) -> Array:
        """(J,) true linear predictor."""

    @property
    def outcomes(self) -> Mapping[str, Array]:
        """Outcome column -> (J,) values."""

    @property
    def outcome(self) -> Array:
        """(J,) values of the first of these."""

    def by_group(self, name: str) -> Array:
        """(J,) values of a covariate of groups."""


@dataclass(frozen=True)
class OutcomeModel:
    """How the outcomes of one family are drawn, and what is true of them.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of `rmm.formula.terms.Outcome` that can be simulated; parts must be plain names.
    draw : callable
        ``(eta, setting, rng) -> ((J,) array, ...)``, one per part of the outcome.
    expected : mapping
        Scale -> ``(eta, truth, time) -> (J,)`` expectation; the first is the default.
    noise : callable
        ``(truth, mean outcome of the data set) -> variance`` of the outcome's own noise on the
        scale of the linear predictor.
    log_density : callable or None
        ``(drawn) -> array`` of log p(y | truth) by SciPy, whose sum is the log likelihood; None
        where a fit has no such likelihood.
    keys : tuple of str
        Keys of a truth that this family has besides the common ones.
    check : callable
        ``(options)``: raises `RecipeError` for values of those keys that make no sense.
    """

    kinds: tuple[str, ...]
    draw: Callable[[Array, Setting, np.random.Generator], tuple[Array, ...]]
    expected: Mapping[str, Scale]
    noise: Callable[[Truth, float], float]
    log_density: Callable[[Replication], Array] | None
    keys: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Any]], None] = field(default=lambda options: None)


def linear(eta: Array, truth: Truth, time: float | None) -> Array:
    """The linear predictor itself."""
    return eta


def exponential(eta: Array, truth: Truth, time: float | None) -> Array:
    """The mean under a log link."""
    return np.asarray(np.exp(eta))
