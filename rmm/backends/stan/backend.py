"""Stan as a backend: its programs, their data and initial values, and how it is run.

What it does not sample one by one is decided here, once for a model: `marginalize.choose`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.backends.base import Backend, Language, PreparedModel
from rmm.backends.stan.marginalize.choose import choose_marginalization
from rmm.backends.stan.program.program import data, engine_options, initial, monitored, write
from rmm.backends.stan.run import OPTIONS, available, check_options, run
from rmm.design.prepare import Model


def prepare(model: Model) -> PreparedModel:
    """The program of a model; effects that need not be sampled are integrated out of it."""
    spec, forms = model.spec, model.priors.forms
    chosen = choose_marginalization(spec, model.design)
    return PreparedModel(
        program=write(spec, forms, chosen),
        data=lambda design: data(spec, design, model.priors.data, chosen),
        options=engine_options(chosen),
    )


def initial_values(model: Model, values: Mapping[str, Any]) -> dict[str, Any]:
    """Initial values by the program's names; effects without one start as Stan draws them."""
    return initial(model.spec, model.priors.forms, model.priors.data, values)


LANGUAGE = Language(
    name="stan",
    title="Stan's language",
    endings=(".stan",),
    mark=r"\bparameters\s*\{",
    comment=r"//[^\n]*|/\*.*?\*/",
    starts=r"\b",
    include=r"#\s*include\b",
)

BACKEND = Backend(
    name="stan",
    program=write,
    prepare=prepare,
    initial=initial_values,
    monitored=lambda model: monitored(model.spec, model.priors.forms),
    run=run,
    available=available,
    language=LANGUAGE,
    options=OPTIONS,
    check_values=check_options,
    hamiltonian=True,
)
