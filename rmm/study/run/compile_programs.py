"""Compiling the programs of a study before its fits need them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rmm.backends import find_backend
from rmm.fitting.pipeline import program
from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.files import seeds
from rmm.study.files.records import read_record, write_record
from rmm.study.methods.bayesian import engine_data
from rmm.study.methods.method import COMPILED, Method
from rmm.study.methods.task import parsed
from rmm.study.run.replicate import make_task

if TYPE_CHECKING:
    from rmm.backends import Compiler


def compile_method(study: Study, method_name: str, marker: Path) -> None:
    """Compile what a method will run, once for every program that its scenarios need.

    The executables go to the user's cache; `marker` gets their paths and digests as JSON, and for
    which processors they were made. The program depends on the levels of the covariates in the
    data, so it is written for the first replication of each scenario.

    Raises
    ------
    ProgramError, BackendError
        If the engine is missing or refuses a program.
    """
    versions = {m: s for m, s in study.versions_of(method_name).items() if m.compiled}
    compiler = _compiler(_compiled(next(iter(versions))))
    texts: dict[str, None] = {}
    for method, scenarios in versions.items():
        texts |= dict.fromkeys(_programs(study, _compiled(method), scenarios))
    made = compiler.compile(list(texts))
    facts = {
        "method": study.method(method_name).id,
        "processors": sorted({compiler.processor(path) for path in made}),
        "programs": [str(path) for path in made],
        "digests": [seeds.file_digest(path) for path in made],
    }
    write_record(facts, marker)


def use_compiled(study: Study, scenario_id: str, method_name: str, marker: Path) -> str:
    """Let the fits of this process run the executables that `marker` names.

    All fits of a study then run the same executables, on nodes with another C++ compiler or with
    none as well. Only where these cannot run, the scenario's programs are compiled, by one of the
    processes that need them while the others wait.

    Returns
    -------
    str
        What was compiled here and why; as a rule, nothing.

    Raises
    ------
    BackendError
        If executables cannot run here, and cannot be compiled here.
    """
    scenario = study.scenario(scenario_id)
    settled = study.method_in(scenario, method_name)
    if not settled.compiled:
        return ""
    method = _compiled(settled)
    compiler = _compiler(method)
    record = read_record(marker)
    if record is None or "digests" not in record:  # damaged, or of an earlier version
        unfit = {marker: ""}
    else:
        made_before = dict(zip(map(Path, record["programs"]), record["digests"], strict=True))
        unfit = _changed(made_before)
        unchanged = [path for path in made_before if path not in unfit]
        unfit |= dict.fromkeys(compiler.use(unchanged), "")
    if not unfit:
        return ""
    made = compiler.compile(_programs(study, method, [scenario]))
    lines = [
        f"These executables of {marker} cannot run on this {compiler.this_processor()} processor:",
        *(f"    {path}{why}" for path, why in unfit.items()),
        "In their place, compiled now or before:",
        *(f"    {path}" for path in made),
        "Set RMM_CACHE to a folder that all nodes share, and no processor compiles twice.",
    ]
    return "\n".join(lines)


def _changed(digests: Mapping[Path, str]) -> dict[Path, str]:
    """Executables that are missing, or not those that were compiled -> which of the two."""
    found = {}
    for path, digest in digests.items():
        if not path.is_file():
            found[path] = " (not there)"
        elif seeds.file_digest(path) != digest:
            found[path] = " (not the file that was compiled)"
    return found


def _compiled(method: Method) -> Method:
    """The method, or its fallback: the one whose programs are compiled."""
    return next(one for one in method.attempts if one.backend in COMPILED)


def _compiler(method: Method) -> Compiler:
    compiler = find_backend(method.backend).compiler
    assert compiler is not None, method.backend  # `Method.compiled`
    return compiler


def _programs(study: Study, method: Method, scenarios: Iterable[Scenario]) -> list[str]:
    """Texts of all programs of a method, each once."""
    texts: dict[str, None] = {}
    for scenario in scenarios:
        task = make_task(study, scenario, method, 1)
        for formula in task.candidates.values() or [task.formula]:
            text = program(
                formula,
                task.drawn.truth.spec.family.name,
                method.backend,
                data=engine_data(method, task.drawn, parsed(formula)),
                priors=method.priors(task.drawn.truth),
            )
            texts[text] = None
    return list(texts)
