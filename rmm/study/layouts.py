"""Replication -> the table that a method sees: one row per group, or per membership."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.simulation import Drawn
from rmm.simulation.truth import Truth, term_columns
from rmm.terms import Formula, Term
from rmm.weights import Column, evaluate, leaf_columns

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
_FINE = ("member", "membership")
_SUMMARIES: dict[str, Any] = {"sum": np.add, "min": np.minimum, "max": np.maximum}


@dataclass(frozen=True, eq=False)
class Flat:
    """A table in which every row is a unit of an ordinary regression.

    Attributes
    ----------
    outcomes : mapping
        Outcome column -> (N,) array; one column, or two of a `Surv()`.
    columns : mapping
        Covariate -> (N,) array.
    units : mapping
        ``group``, ``member``, ``nesting`` -> (N,) codes, for cluster-robust errors.
    """

    outcomes: Mapping[str, Array]
    columns: Mapping[str, Array]
    units: Mapping[str, Array]

    @property
    def outcome(self) -> Array:
        """(N,) values of the outcome, or of its first column."""
        return next(iter(self.outcomes.values()))

    def term(self, term: Term) -> Array:
        """(N,) values of a term: the product of its atoms."""
        out: Array | None = None
        for atom in term.atoms:
            if isinstance(atom.expression, Column):
                values = self.columns[atom.expression.name]
            else:
                used = {c: self.columns[c] for c in leaf_columns(atom.expression)}
                start = np.arange(len(self.outcome) + 1)
                values = np.broadcast_to(evaluate(atom.expression, used, start), self.outcome.shape)
            out = values if out is None else out * values
        assert out is not None
        return out

    def frame(self, nesting: str | None) -> pd.DataFrame:
        """The table under the names of the study; no id of groups, each row is a unit."""
        import pandas as pd

        data: dict[str, Array] = {**self.outcomes, **self.columns}
        if nesting is not None:
            data[nesting] = self.units["nesting"]
        return pd.DataFrame(data)


def flat_columns(formula: Formula) -> tuple[str, ...]:
    """Covariates of a formula without `mm()`."""
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    for block in formula.nestings:
        terms += [*(block.terms or ()), *(f.term for f in block.fixed)]
    return tuple(dict.fromkeys(c for t in terms for c in term_columns(t)))


def by_group(drawn: Drawn, formula: Formula, summary: str) -> Flat:
    """One row per group; member and membership covariates are averaged (or sum, min, max)."""
    m = drawn.memberships
    columns: dict[str, Array] = {}
    for name in flat_columns(formula):
        if drawn.columns[name].level not in _FINE:
            columns[name] = drawn.by_group(name)
            continue
        reduce = _SUMMARIES.get(summary, np.add).reduceat
        values = reduce(drawn.rows(name), m.start[:-1])
        columns[name] = values / m.size if summary == "mean" else values
    units = {} if m.nesting is None else {"nesting": m.nesting}
    return Flat(drawn.outcomes, columns, units)


def by_membership(drawn: Drawn, formula: Formula, summary: str) -> Flat:
    """One row per membership, the group's outcome copied; `summary` is not used."""
    m = drawn.memberships
    units = {"group": m.group, "member": m.member}
    if m.nesting is not None:
        units["nesting"] = m.nesting[m.group]
    columns = {name: drawn.rows(name) for name in flat_columns(formula)}
    outcomes = {name: values[m.group] for name, values in drawn.outcomes.items()}
    return Flat(outcomes, columns, units)


#: Layout -> (replication, formula, summary) -> table. Models with `mm()` take the data as they are.
LAYOUTS: dict[str, Callable[[Drawn, Formula, str], Flat]] = {
    "groups": by_group,
    "memberships": by_membership,
}


def parameter_of(term: Term, truth: Truth, drawn: Drawn) -> str:
    """Name of a regression coefficient as in the truth, so that estimates join on it."""
    label = term.label
    for member in truth.spec.members:
        if label in (t.label for t in member.block.terms):
            return f"{member.b}[{label}]"
    for nesting in truth.spec.nestings:
        if label in (t.label for t in nesting.terms):
            return f"{nesting.b}[{label}]"
    fine = any(drawn.columns[c].level in _FINE for c in term_columns(term))
    return f"b_l1[{label}]" if fine else f"b_l2[{label}]"
