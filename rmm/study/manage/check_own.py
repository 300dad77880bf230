"""A user's own methods and data, tried on the first data sets before a study starts.

Nothing of it runs unless it is allowed. A trial finds what every fit would stumble over: arguments
that do not fit, names that are no estimand, columns that a formula needs, random numbers that do
not come from `rng`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rmm.errors import BackendError, BackendTimeout, RmmError, StudyError
from rmm.simulation import Drawn
from rmm.study.design.check_methods import check_columns_known
from rmm.study.design.study import DATA
from rmm.study.files.messages import StudyFileErrors
from rmm.study.files.parquet import FAILED
from rmm.study.methods.own_methods import (
    allowed_names,
    fit_rscript,
    python_answer,
    wanted_names,
)
from rmm.study.methods.task import Task, parsed
from rmm.study.own.answers import rows_of_answer, status_of
from rmm.study.own.estimates_file import check_table
from rmm.study.own.given_data import GivenData
from rmm.study.own.named_code import ALLOW, NamedCode
from rmm.study.own.process_pool import call, end_all
from rmm.study.own.rscript import installed
from rmm.study.run.replicate import draw_replication, make_task

if TYPE_CHECKING:
    from rmm.study.design.scenarios import Scenario
    from rmm.study.design.study import Study
    from rmm.study.methods.method import Method

#: Data sets of which one must be usable: an own function may fail on some.
_DATA_SETS = 3
_TRIAL = 20.0  # seconds of a trial; a slower function is not judged
_TWICE = 2.0  # seconds of a call that is made a second time
_SEED = {"entropy": [0], "spawn_key": []}


def check_allowed(study: Study, *, only_data: bool = False) -> None:
    """Refuse a study whose code may not run, before its first job.

    Parameters
    ----------
    study : Study
    only_data : bool
        Whether data sets are drawn, and nothing is fitted.

    Raises
    ------
    StudyError
        It lists the code, and says how to allow it.
    """
    asked = study.code if not only_data else {k: c for k, c in study.code.items() if k == DATA}
    refused = {what: code for what, code in asked.items() if not code.allowed}
    if refused:
        lines = "".join(f"  {line}\n" for line in code_lines(refused))
        raise StudyError(
            f"{study.file} names code that has not been allowed to run:\n{lines}"
            f"  Read it first. Then allow it with {ALLOW}."
        )


def code_lines(code: Mapping[str, NamedCode]) -> list[str]:
    """``method gee: my_methods.py:fit_gee`` of each function and script."""
    return [f"{what}: {one.written}" for what, one in code.items()]


def own_errors(study: Study, *, tables: bool = True) -> Iterator[StudyError]:
    """What is wrong with own data, methods and tables of estimates, one error each.

    Parameters
    ----------
    tables : bool
        Whether tables of other programs' estimates must be there.
    """
    try:
        yield from _errors(study, tables)
    finally:
        end_all()


def _errors(study: Study, tables: bool) -> Iterator[StudyError]:
    file_errors = StudyFileErrors(study.file)
    if tables:
        yield from _table_errors(study, file_errors)
    if not study.code or not study.code_allowed:
        return
    drawn: dict[str, Drawn] = {}
    for scenario in study.scenarios:
        if scenario.own is None and drawn:
            break  # simulated data: methods are tried in one scenario
        found = _first_data(study, scenario, file_errors)
        if isinstance(found, StudyError):
            yield found
            return
        drawn[scenario.id] = found
        yield from _column_errors(study, scenario, found, file_errors)
    first = study.scenarios[0]
    for index, method in enumerate(study.methods):
        for version in study.versions_of(method.name) if method.code is not None else ():
            within = file_errors.within(f"method {method.name}")
            key = f"methods[{index}].{method.kind.source}"
            yield from _method_errors(study, first, version, drawn[first.id], key, within)


# -- tables ------------------------------------------------------------------------------------


def _table_errors(study: Study, file_errors: StudyFileErrors) -> Iterator[StudyError]:
    simulated = [s for s in study.scenarios if s.own is None]
    names = dict.fromkeys(n for s in simulated for n in s.recipe.truth.names)
    names |= dict.fromkeys(e.parameter for e in study.estimands)
    for index, method in enumerate(study.methods):
        if method.table is None:
            continue
        try:
            key = f"methods[{index}].estimates"
            scenarios = {place: n for (place, name), n in study.fits.items() if name == method.name}
            check_table(key, method.table, scenarios, list(names), file_errors)
        except StudyError as error:
            yield error


# -- data --------------------------------------------------------------------------------------


def _first_data(
    study: Study, scenario: Scenario, file_errors: StudyFileErrors
) -> Drawn | StudyError:
    """The first usable data set of a scenario, or why there is none."""
    words = ", ".join(f"{k} = {v}" for k, v in scenario.factors.items())
    within = file_errors.within(f"scenario {words}") if words else file_errors
    problem: RmmError | None = None
    for replication in range(1, _DATA_SETS + 1):
        try:
            if scenario.own is not None and replication == 1:
                call(scenario.own.code, "accepts data", _SEED)
            began = time.monotonic()
            drawn = draw_replication(study.seed, scenario, replication)
            quick = time.monotonic() - began < _TWICE
        except BackendError as error:
            problem = error
            continue
        given = quick and isinstance(drawn, GivenData)
        if given and not _same(study, scenario, replication, drawn):
            return within.about("data.function", _not_again("a data set"), _USE_RNG)
        return drawn
    return within.about("data.function", str(problem))


def _same(study: Study, scenario: Scenario, replication: int, drawn: Drawn) -> bool:
    """Whether a second call draws the same data."""
    again = draw_replication(study.seed, scenario, replication)
    assert isinstance(again, GivenData) and isinstance(drawn, GivenData)
    tables = all(again.tables[name].equals(table) for name, table in drawn.tables.items())
    return tables and again.truth.parameters == drawn.truth.parameters


_USE_RNG = "All random numbers must come from `rng`, and nothing be kept between calls."


def _not_again(what: str) -> str:
    return f"A second call for the same replication gave {what} with other values."


def _column_errors(
    study: Study, scenario: Scenario, drawn: Drawn, file_errors: StudyFileErrors
) -> Iterator[StudyError]:
    """Columns that formulas need, in data that are not simulated."""
    if scenario.own is None:
        return
    levels = {name: column.level for name, column in drawn.columns.items()}
    for index, method in enumerate(study.methods):
        if method.kind.own:
            continue
        settled = study.method_in(scenario, method.name)
        for name, text in settled.formulas(scenario.recipe).items():
            key = f"methods[{index}]." + (f"candidates.{name}" if name else "formula")
            within = file_errors.within(f"method {method.name}")
            try:
                check_columns_known(key, parsed(text), scenario.recipe, levels, within)
            except StudyError as error:
                yield error


# -- methods -----------------------------------------------------------------------------------


def _method_errors(
    study: Study,
    scenario: Scenario,
    method: Method,
    drawn: Drawn,
    key: str,
    file_errors: StudyFileErrors,
) -> Iterator[StudyError]:
    """What a trial of a method finds: an error of all of the first data sets, or its answer's."""
    if method.kind.name == "rscript" and not installed():
        yield file_errors.about(
            key, "Rscript is not installed.", "It comes with R (Debian: r-base-core)."
        )
        return
    problem = ""
    for replication in range(1, _DATA_SETS + 1):
        try:
            task = make_task(study, scenario, method, replication, drawn)
            problem = _TRIALS[method.kind.name](task)
        except BackendTimeout:
            return
        except RmmError as error:
            problem = str(error)
        if not problem:
            return
        try:
            drawn = draw_replication(study.seed, scenario, replication + 1)
        except BackendError:
            break
    yield file_errors.about(key, f"A trial on the first data sets failed: {problem}")


def _try_python(task: Task) -> str:
    assert task.method.code is not None
    call(task.method.code, "accepts method", _SEED)
    began = time.monotonic()
    limit = min(_TRIAL, task.method.code.timeout)
    answer = python_answer(task, limit)
    if time.monotonic() - began < _TWICE:
        again = python_answer(task, limit)
        if json.dumps(again["rows"]) != json.dumps(answer["rows"]):
            return f"{_not_again('estimates')} {_USE_RNG}"
    return _answer_problem(task, answer["rows"], answer["said"])


def _answer_problem(task: Task, rows: Sequence[Mapping[str, Any]], said: Mapping[str, Any]) -> str:
    try:
        if status_of(said)[0] != FAILED:
            rows_of_answer(rows, allowed_names(task), wanted_names(task), task.nulls)
    except BackendError as error:
        return str(error)
    return ""


def _try_rscript(task: Task) -> str:
    outcome = fit_rscript(task)
    return outcome.message if outcome.status == FAILED else ""


_TRIALS = {"python": _try_python, "rscript": _try_rscript}
