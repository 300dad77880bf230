"""Stan as a backend: its programs, their data and initial values, and how it is run.

What it does not sample one by one is decided here, once for a model: `marginalize.choose`.
"""

from __future__ import annotations

from rmm.backends.base import Backend, Compiler, Language, PreparedModel
from rmm.backends.stan import cpu
from rmm.backends.stan.compile import compile_programs, maker, use_executables
from rmm.backends.stan.marginalize.choose import choose_marginalization
from rmm.backends.stan.program.priors import prior_values
from rmm.backends.stan.program.program import data, engine_options, initial, monitored, write
from rmm.backends.stan.run import OPTIONS, available, check_options, run
from rmm.design.prepare import Model


def prepare(model: Model) -> PreparedModel:
    """The program of a model; effects that need not be sampled are integrated out of it."""
    spec, forms, priors = model.spec, model.priors.forms, prior_values(model)
    chosen = choose_marginalization(spec, model.design)
    return PreparedModel(
        program=write(spec, forms, chosen),
        data=lambda design: data(spec, design, priors, chosen),
        initial=lambda design, values: initial(spec, forms, priors, values),
        monitored=monitored(spec, forms),
        options=engine_options(chosen),
    )


LANGUAGE = Language(
    name="stan",
    title="Stan's language",
    endings=(".stan",),
    mark=r"\bparameters\s*\{",
    comment=r"//[^\n]*|/\*.*?\*/",
    starts=r"\b",
    include=r"#\s*include\b",
)

COMPILER = Compiler(
    compile=compile_programs,
    processor=lambda executable: maker(executable).processor,
    use=use_executables,
    this_processor=lambda: cpu.this_kind(),
)

BACKEND = Backend(
    name="stan",
    program=write,
    prepare=prepare,
    run=run,
    available=available,
    language=LANGUAGE,
    options=OPTIONS,
    check_values=check_options,
    hamiltonian=True,
    compiler=COMPILER,
)
