"""Fits of a model again with its priors to a power."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from rmm.backends import find_backend
from rmm.backends.base import Run, Settings
from rmm.backends.convergence import convergence
from rmm.backends.initial_values import initial_values
from rmm.design.prepare import Model
from rmm.design.priors.group_sizes import reported_draws
from rmm.design.priors.priors import with_elements
from rmm.errors import ConvergenceWarning, PriorError
from rmm.formula.prior_distributions import to_power
from rmm.posterior.diagnostics.summary import weighing
from rmm.posterior.draws import structural_draws
from rmm.posterior.inference.prior_checks.log_prior import elements
from rmm.tables.read import Array

_RHAT = 1.05


@dataclass(frozen=True)
class Refits:
    """What a refit needs: the fit's model, settings and engine."""

    model: Model
    settings: Settings
    backend: str

    def run(self, labels: Collection[str], power: float) -> Run:
        """Sample again with the priors of some elements to a power.

        Raises
        ------
        PriorError
            If a prior to that power has no finite integral.
        """
        model, engine = with_priors_to_power(self.model, labels, power), find_backend(self.backend)
        prepared = engine.prepare(model)
        neutral = initial_values(model, self.settings.chains, self.settings.seed)
        starts = [prepared.initial(model.design, v) for v in neutral]
        data = prepared.data(model.design)
        run = engine.run(prepared.program, data, starts, self.settings, None)
        return replace(run, draws=reported_draws(model.spec, model.design.members, run.draws))

    def means(self, labels: Collection[str], power: float) -> Array:
        """(elements,) posterior means of such a fit.

        Warns
        -----
        ConvergenceWarning
            If it is not to be trusted.
        """
        run = self.run(labels, power)
        draws = structural_draws(run, self.model).values
        found = weighing(run)
        doubt = found.doubt() if found is not None else _mixing(draws)
        if doubt:
            warnings.warn(
                f"The refit with priors to the power {power:g} has not converged: {doubt}.",
                ConvergenceWarning,
                stacklevel=5,
            )
        return np.asarray(draws.mean(axis=(0, 1)))


def _mixing(draws: Array) -> str:
    rhat = float(np.max(convergence(draws)["rhat"]))
    return f"largest R-hat {rhat:.3f}" if rhat > _RHAT else ""


def with_priors_to_power(model: Model, labels: Collection[str], power: float) -> Model:
    """The model with the priors of some elements to a power.

    Raises
    ------
    PriorError
        If a prior to that power has no finite integral.
    """
    changed = {name: list(priors) for name, priors in model.priors.elements.items()}
    for one in elements(model):
        if one.label in labels:
            prior = to_power(one.prior, power)
            if prior is None:
                raise PriorError(
                    f"The prior {one.prior} of `{one.label}` to the power {power:g} has no finite "
                    "integral, so the model cannot be fitted with it. Leave it out: "
                    "prior_sensitivity(priors=[...])."
                )
            changed[one.name][one.index] = prior
    return replace(model, priors=with_elements(model.priors, model.spec, changed))
