"""Fits by a user's own methods: a Python function, an R script, or another program's estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rmm.formula.expression import Column
from rmm.formula.terms import Atom, Formula, Term
from rmm.simulation import Drawn
from rmm.study.files.parquet import FAILED, OK, TIMEOUT
from rmm.study.methods.layouts import LAYOUTS
from rmm.study.methods.task import Outcome, Task
from rmm.study.own.answers import SAID, rows_of_answer, status_of
from rmm.study.own.estimates_file import rows_of_fit
from rmm.study.own.given_data import GivenData
from rmm.study.own.process_pool import call
from rmm.study.own.rscript import run_script

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.methods.method import Method

Rows = Sequence[Mapping[str, Any]]


def fit_python(task: Task, timeout: float | None = None) -> Outcome:
    """Call the function of a method of kind `python` with the data of a task."""
    answer = python_answer(task, timeout)
    return _outcome(task, answer["rows"], answer["said"])


def python_answer(task: Task, timeout: float | None = None) -> dict[str, Any]:
    """What the function returns: plain rows, and what it says of the fit."""
    assert task.method.code is not None
    seed = {"entropy": [task.seed], "spawn_key": []}
    tables, facts = tables_of(task), scenario_facts(task)
    return call(task.method.code, "method", seed, tables, facts, timeout)[0]


def fit_rscript(task: Task) -> Outcome:
    """Run the R script of a method of kind `rscript` on the data of a task."""
    assert task.method.code is not None
    return _of_table(task, run_script(task.method.code, tables_of(task), task.seed))


def fit_external(task: Task) -> Outcome:
    """Take the estimates of a task's data set from the table of another program."""
    path = task.method.table
    assert path is not None
    rows = rows_of_fit(path, task.method.config["sha256"], task.scenario, task.replication)
    if not rows:
        return Outcome(FAILED, message=f"{path.name} has no estimates of this data set")
    return _of_table(task, rows)


def _of_table(task: Task, rows: Rows) -> Outcome:
    """An outcome from rows of a table, in which `status` and `message` are those of the fit."""
    said: dict[str, Any] = {}
    for row in rows:
        said |= {k: row[k] for k in SAID if row.get(k) is not None}
    plain = [{k: v for k, v in row.items() if k not in SAID} for row in rows]
    return _outcome(task, plain, said)


def _outcome(task: Task, rows: Rows, said: Mapping[str, Any]) -> Outcome:
    status, message = status_of(said)
    if status in (FAILED, TIMEOUT):
        return Outcome(status, message=message)
    found = rows_of_answer(rows, allowed_names(task), wanted_names(task), task.nulls)
    return Outcome(OK if status == OK else status, tuple(found), message=message)


def wanted_names(task: Task) -> list[str]:
    """Estimands that a method answers."""
    return list(task.method.config.get("estimands") or task.nulls)


def allowed_names(task: Task) -> list[str]:
    """Names that its estimates may have: estimands, and parameters of the truth."""
    return list(dict.fromkeys([*task.nulls, *task.drawn.truth.parameters]))


def own_settings(method: Method) -> str:
    """What matters of an own method, in words: arguments, layout, its file's SHA-256."""
    config = method.config
    words = [f"{k} = {v}" for k, v in config["arguments"].items()]
    words += [f"layout {config['layout']}"] if method.code is not None else []
    return "; ".join([*words, f"SHA-256 {config['sha256'][:12]}"])


# -- what the code gets ------------------------------------------------------------------------


def scenario_facts(task: Task) -> dict[str, Any]:
    """What a method may know of a scenario: nothing of the truth's values."""
    recipe_names, truth = task.drawn.memberships.names, task.drawn.truth
    known = bool(truth.outcomes)
    return {
        "estimands": wanted_names(task),
        "outcome": list(truth.outcomes),
        "member": recipe_names.member if known and truth.formula.members else None,
        "group": recipe_names.group if known and truth.formula.members else None,
        "nesting": recipe_names.nesting if known else None,
        "formula": truth.formula.text if known else None,
        "family": truth.spec.family.name if known else None,
        "factors": dict(task.factors),
    }


def tables_of(task: Task) -> Mapping[str, pd.DataFrame]:
    """The tables of a task in the layout that the method asks for; `data` is the main one."""
    layout, drawn = task.method.config["layout"], task.drawn
    if layout in LAYOUTS:
        return {"data": _laid_out(drawn, layout, task.method.config["summary"])}
    return drawn.tables if isinstance(drawn, GivenData) else {"data": drawn.frame()}


def _laid_out(drawn: Drawn, layout: str, summary: str) -> pd.DataFrame:
    # Late: reading a study file needs no pandas.
    import pandas as pd

    flat = LAYOUTS[layout](drawn, _all_columns(drawn), summary)
    memberships = drawn.memberships
    if "member" in flat.units:  # one row per membership
        ids = memberships.ids()
    else:
        ids = {memberships.names.group: memberships.group_labels}
        if memberships.nesting is not None and memberships.nesting_labels is not None:
            name = str(memberships.names.nesting)
            ids[name] = memberships.nesting_labels[memberships.nesting]
    return pd.DataFrame({**ids, **flat.outcomes, **flat.columns, **flat.made})


def _all_columns(drawn: Drawn) -> Formula:
    """A model with every covariate, for layouts that follow a formula."""
    terms = tuple(Term((Atom(name, Column(name)),)) for name in drawn.columns)
    return replace(
        drawn.truth.formula, intercept=True, terms=terms, fixed=(), members=(), nestings=()
    )
