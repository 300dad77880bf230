"""log p(y, theta) of a fitted model: coefficients and effects are integrated out.

theta are the hyperparameters on the scale on which the fast engine samples them
(`rmm.backends.laplace.hyperparameters`). The integral is exact for normal outcomes; for others it
is estimated at each theta by weighted draws of the latent vector, without bias.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import logsumexp

from rmm.backends.base import Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.laplace.hyperparameters import from_values
from rmm.backends.laplace.importance import mixture_density, uniforms
from rmm.backends.laplace.kernels.integrals import compiled_pattern, integrals_of
from rmm.backends.laplace.latent_model import latent_model
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.backends.laplace.run import wanted_draws
from rmm.backends.laplace.sampler import Proposals, Sampler
from rmm.design.design import at_centres
from rmm.design.prepare import Model
from rmm.errors import BackendError
from rmm.families.variants.observation_weights import WEIGHT
from rmm.tables.read import Array


class IntegratedPosterior:
    """The density of hyperparameters and outcomes of one model.

    Parameters
    ----------
    model : Model
    seed : int

    Raises
    ------
    BackendError
        If the fast engine does not cover the model.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self.model, self.seed = model, seed
        _check_counts(model)
        latent = latent_model(model.spec, model.design, model.priors)
        integrand, nothing = Integrand(latent), np.arange(0)  # of the latent vector is kept
        compiled = integrals_of(integrand, compiled_pattern(integrand))
        self._sampler = Sampler(integrand, seed, lambda: None, nothing, compiled)
        self.hyper = latent.hyper

    def proposals(self, settings: Settings, known: Proposals | None = None) -> Proposals | None:
        """Proposals that cover the posterior; None of a model without hyperparameters.

        `known` are those of the fit itself. Where they are not at hand they are found again, from
        the settings of the fit: the same.
        """
        if not self.hyper:
            return None
        if known is None:
            starts = initial_values(self.model, settings.chains, settings.seed)
            sample = self._sampler.sample(starts, wanted_draws(settings), smooth=False)
            known = self._sampler.found(sample)
            assert known is not None
        self._sampler.effort, self._sampler.modes = known.effort, known.modes
        return known

    def log_density(self, theta: Array) -> Array:
        """(S,) values at (S, d) points; of outcomes that are not normal with a random error."""
        if self._sampler.integrand.exact:
            return self._sampler.log_density(theta)
        _, ratio = self._sampler.draw(theta)
        return np.asarray(logsumexp(ratio, axis=1) - np.log(ratio.shape[1]))

    def points_of(self, draws: Mapping[str, Array]) -> Array:
        """(S, d) points of (S, ...) draws of structural parameters by name."""
        given = dict(draws) | at_centres(self.model.spec, self.model.design, draws)
        count = len(next(iter(draws.values())))
        rows = [{h.name: np.atleast_1d(given[h.name][s]) for h in self.hyper} for s in range(count)]
        return np.array([from_values(row, self.hyper) for row in rows]).reshape(count, -1)

    def randomised(self, known: Proposals, points: int, times: int) -> Array:
        """Log weights (times, n) of about `points` fresh points of fixed proposals; their mean in
        each row is p(y).

        Points are Sobol's, shifted at random for each row; each proposal has a share of them, and
        the density that divides is that of all (Owen and Zhou 2000, JASA 95, 135-143).
        """
        share = points / sum(known.counts)
        sizes = [max(1, round(share * count)) for count in known.counts]
        fresh = np.concatenate(
            [
                [proposal.draw(self._uniforms(size, k, place)) for k in range(times)]
                for place, (proposal, size) in enumerate(zip(known.proposals, sizes, strict=True))
            ],
            axis=1,
        )
        theta = fresh.reshape(-1, fresh.shape[2])  # of all rows at once: a few large calls
        self._sampler.rng = np.random.default_rng([self.seed, _RANDOMISED])
        logs = self.log_density(theta) - mixture_density(known.proposals, sizes, theta)
        return np.asarray(logs.reshape(times, -1))

    def _uniforms(self, size: int, row: int, place: int) -> Array:
        """Points of the unit cube for one proposal in one row."""
        entropy = [self.seed, _RANDOMISED, row, place]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        return uniforms(size, len(self.hyper) + 1, seed)


_RANDOMISED = 0xE71DE


def _check_counts(model: Model) -> None:
    """Raise `BackendError` for observation weights that are no counts: there is no evidence."""
    weights = model.design.outcome.get(WEIGHT)
    if weights is not None and (weights % 1 != 0).any():
        raise BackendError(
            f"The observation weights `{model.spec.family.observation_weights}` are not whole "
            "numbers, so the likelihood is a pseudo-likelihood, which has no evidence and no Bayes "
            "factors."
        )
