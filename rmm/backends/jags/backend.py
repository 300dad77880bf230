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
from rmm.design.design import Design
from rmm.design.prepare import Model


def prepare(model: Model) -> PreparedModel:
    """The program of a model, which samples all effects."""
    spec, forms, priors = model.spec, model.priors.forms, model.priors.data

    def starts(design: Design, values: Mapping[str, Any]) -> dict[str, Any]:
        own = initial(spec, forms, priors, values)
        return {**unmodelled_initial(spec, design), **own}

    return PreparedModel(
        program=write(spec, forms),
        data=lambda design: data(spec, design, priors),
        initial=starts,
        monitored=monitored(spec, forms),
        options=engine_options(spec, forms),
    )


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
    run=run,
    available=available,
    language=LANGUAGE,
    options=OPTIONS,
    check_values=check_adapt,
)
