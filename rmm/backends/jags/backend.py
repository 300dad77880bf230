"""JAGS as a backend: its programs, their data and initial values, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.backends.base import Backend, Language, PreparedModel
from rmm.backends.jags.program import (
    data,
    engine_options,
    initial,
    monitored,
    unmodelled_initial,
    write,
)
from rmm.backends.jags.run import OPTIONS, available, check_adapt, run
from rmm.design.prepare import Model


def prepare(model: Model) -> PreparedModel:
    """The program of a model, which samples all effects."""
    spec, forms = model.spec, model.priors.forms
    return PreparedModel(
        program=write(spec, forms),
        data=lambda design: data(spec, design, model.priors.data),
        options=engine_options(spec, forms),
    )


def initial_values(model: Model, values: Mapping[str, Any]) -> dict[str, Any]:
    """Initial values of what the program samples, nodes outside the model among it."""
    own = initial(model.spec, model.priors.forms, model.priors.data, values)
    return {**unmodelled_initial(model.spec, model.design), **own}


LANGUAGE = Language(
    name="jags",
    title="JAGS's language",
    endings=(".jags", ".bug"),
    mark="",
    comment=r"#[^\n]*|/\*.*?\*/",
    starts=r"\s*(\[[^\]]*\])?\s*~",
)

BACKEND = Backend(
    name="jags",
    program=write,
    prepare=prepare,
    initial=initial_values,
    monitored=lambda model: monitored(model.spec, model.priors.forms),
    run=run,
    available=available,
    language=LANGUAGE,
    options=OPTIONS,
    check_values=check_adapt,
)
