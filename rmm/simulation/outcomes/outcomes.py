"""Linear predictor -> outcome, family by family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import DataError, quoted
from rmm.simulation.covariates.covariates import Column
from rmm.simulation.memberships.structures import Memberships
from rmm.simulation.outcomes.choices import BETA, BINOMIAL, CLOGLOG, CONDLOGIT, PROBIT
from rmm.simulation.outcomes.counts import (
    HURDLE_NEGBINOMIAL,
    HURDLE_POISSON,
    NEGBINOMIAL,
    POISSON,
    ZERO_INFLATED_NEGBINOMIAL,
    ZERO_INFLATED_POISSON,
)
from rmm.simulation.outcomes.measurements import GAMMA, GAUSSIAN, LOGNORMAL, STUDENT
from rmm.simulation.outcomes.ordered_levels import ORDINAL
from rmm.simulation.outcomes.outcome_model import OutcomeModel, Setting
from rmm.simulation.outcomes.survival import COX, WEIBULL
from rmm.simulation.outcomes.true_predictor import draw_all_effects, linear_predictor
from rmm.simulation.recipe_errors import listed

if TYPE_CHECKING:
    from rmm.simulation.true_model import Truth

Array = np.ndarray[Any, Any]


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


#: Family -> what is simulated.
OUTCOMES: dict[str, OutcomeModel] = {
    "gaussian": GAUSSIAN,
    "binomial": BINOMIAL,
    "condlogit": CONDLOGIT,
    "weibull": WEIBULL,
    "cox": COX,
    "poisson": POISSON,
    "negbinomial": NEGBINOMIAL,
    "zero_inflated_poisson": ZERO_INFLATED_POISSON,
    "zero_inflated_negbinomial": ZERO_INFLATED_NEGBINOMIAL,
    "hurdle_poisson": HURDLE_POISSON,
    "hurdle_negbinomial": HURDLE_NEGBINOMIAL,
    "lognormal": LOGNORMAL,
    "gamma": GAMMA,
    "student": STUDENT,
    "beta": BETA,
    "probit": PROBIT,
    "cloglog": CLOGLOG,
    "ordinal": ORDINAL,
}
