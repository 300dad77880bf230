"""Linear predictor -> outcome, family by family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import DataError, quoted
from rmm.simulation.covariates.covariates import Column
from rmm.simulation.covariates.endogenous import RESIDUAL
from rmm.simulation.memberships.structures import Memberships
from rmm.simulation.outcomes.choices import (
    BINOMIAL_KEYS,
    check_binomial,
    draw_binomial,
    draw_choices,
)
from rmm.simulation.outcomes.counts import draw_negative_binomial, draw_poisson
from rmm.simulation.outcomes.ordered_levels import (
    ORDINAL_KEYS,
    check_ordinal,
    draw_levels,
    thresholds,
)
from rmm.simulation.outcomes.survival import SURVIVAL_KEYS, check_survival, draw_cox, draw_weibull
from rmm.simulation.outcomes.true_predictor import (
    draw_all_effects,
    draw_effects,
    linear_predictor,
)
from rmm.simulation.recipe_errors import listed

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Setting:
    """What outcomes may depend on besides the linear predictor: strata, censoring, ..."""

    truth: Truth
    memberships: Memberships
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class OutcomeModel:
    """How the outcomes of one family are drawn.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of `rmm.formula.terms.Outcome` that can be simulated; parts must be plain names.
    draw : callable
        ``(eta, setting, rng) -> ((J,) array, ...)``, one per part of the outcome.
    keys : tuple of str
        Keys of a truth that this family has besides the common ones.
    check : callable
        ``(options)``: raises `RecipeError` for values of those keys that make no sense.
    """

    kinds: tuple[str, ...]
    draw: Callable[[Array, Setting, np.random.Generator], tuple[Array, ...]]
    keys: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Any]], None] = field(default=lambda options: None)


def draw_outcome(
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """(J,) linear predictor, outcome column -> (J,) values, and random effects by name.

    Raises
    ------
    DataError
        If a weight, the linear predictor or an outcome is not finite.
    """
    with np.errstate(all="ignore"):
        return _drawn(truth, memberships, columns, rng)


def _drawn(
    truth: Truth,
    memberships: Memberships,
    columns: Mapping[str, Column],
    rng: np.random.Generator,
) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    effects = draw_all_effects(truth, memberships, columns, rng)
    eta = linear_predictor(truth, memberships, columns, effects)
    if not np.isfinite(eta).all():
        group = memberships.group_labels[int(np.argmin(np.isfinite(eta)))]
        weights = [part.block.weight.text for part in truth.spec.members]
        raise DataError(
            f"The linear predictor of group {quoted(group)} is not finite, because a weight or a "
            f"term has no value there. The weight functions are: {listed(weights)}."
        )
    setting = Setting(truth, memberships, columns)
    drawn = OUTCOMES[truth.spec.family.name].draw(eta, setting, rng)
    for name, values in zip(truth.outcomes, drawn, strict=True):
        bad = int(np.argmin(np.isfinite(values)))
        if not np.isfinite(values[bad]):
            raise DataError(
                f"The outcome {name} of group {quoted(memberships.group_labels[bad])} is not "
                f"finite. The linear predictor of this group is {eta[bad]:.3g}. Make "
                "the true parameters or the covariates smaller."
            )
    return eta, dict(zip(truth.outcomes, drawn, strict=True)), effects


def _gaussian(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    sd = truth.parameters["sigma_l2"]
    return (eta + draw_effects(RESIDUAL, sd, len(eta), truth, setting.columns, rng),)


def _binomial(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    return draw_binomial(eta, len(truth.outcomes), truth.options.get("trials"), rng)


def _condlogit(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    memberships, name = setting.memberships, setting.truth.formula.strata
    assert name is not None
    if name == memberships.names.nesting:
        assert memberships.nesting is not None
        return draw_choices(eta, memberships.nesting, rng)
    column = setting.columns[name]
    return draw_choices(eta, memberships.expand(column.values, column.level, "group"), rng)


def _weibull(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    return draw_weibull(eta, truth.parameters["shape"], truth.options.get("censoring"), rng)


def _cox(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    options = setting.truth.options
    return draw_cox(eta, options.get("baseline"), options.get("censoring"), rng)


def _poisson(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    return draw_poisson(eta, rng)


def _negbinomial(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    return draw_negative_binomial(eta, setting.truth.parameters["shape"], rng)


def _ordinal(eta: Array, setting: Setting, rng: np.random.Generator) -> tuple[Array, ...]:
    truth = setting.truth
    return draw_levels(eta, thresholds(truth.parameters), truth.options.get("link", "logit"), rng)


#: Family -> how its outcomes are drawn.
OUTCOMES: dict[str, OutcomeModel] = {
    "gaussian": OutcomeModel(("plain",), _gaussian),
    "binomial": OutcomeModel(("plain", "cbind"), _binomial, BINOMIAL_KEYS, check_binomial),
    "condlogit": OutcomeModel(("plain",), _condlogit),
    "weibull": OutcomeModel(("surv",), _weibull, SURVIVAL_KEYS["weibull"], check_survival),
    "cox": OutcomeModel(("surv",), _cox, SURVIVAL_KEYS["cox"], check_survival),
    "poisson": OutcomeModel(("plain",), _poisson),
    "negbinomial": OutcomeModel(("plain",), _negbinomial),
    "ordinal": OutcomeModel(("plain",), _ordinal, ORDINAL_KEYS, check_ordinal),
}
