"""The package's own engine as a backend: no program, one object that holds the model in arrays."""

from __future__ import annotations

from rmm.backends.base import Backend, PreparedModel
from rmm.backends.laplace.latent_model import describe, latent_model
from rmm.backends.laplace.results_version import RESULTS_VERSION
from rmm.backends.laplace.run import OPTIONS, available, run, wanted_draws
from rmm.design.prepare import Model


def prepare(model: Model) -> PreparedModel:
    """A model in arrays, under the one name ``model``."""
    return PreparedModel(
        program=describe(model.spec, model.priors.forms),
        data=lambda design: {"model": latent_model(model.spec, design, model.priors)},
        initial=lambda design, values: dict(values),
        monitored=tuple(p.name for p in model.spec.parameters),
    )


BACKEND = Backend(
    name="laplace",
    program=describe,
    prepare=prepare,
    run=run,
    available=available,
    options=OPTIONS,
    check_values=wanted_draws,
    weighted_draws=True,
    results_version=RESULTS_VERSION,
)
