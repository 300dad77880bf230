"""Replication -> the table that a method sees: one row per group, or per membership."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rmm.formula.terms import Formula, Term
from rmm.formula.weights.weight_function import Column, evaluate, leaf_columns
from rmm.simulation import Drawn
from rmm.simulation.true_model import Truth, term_columns
from rmm.study.methods.frequentist.adjusted_means import adjusted_means

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
    strata : int array or None
        (N,) stratum of each row, where the formula has `strata()`.
    made : mapping
        Term's label -> (N,) values that take the place of those computed from columns.
    """

    outcomes: Mapping[str, Array]
    columns: Mapping[str, Array]
    units: Mapping[str, Array]
    strata: Array | None = None
    made: Mapping[str, Array] = field(default_factory=dict)

    @property
    def outcome(self) -> Array:
        """(N,) values of the outcome, or of its first column."""
        return next(iter(self.outcomes.values()))

    def term(self, term: Term) -> Array:
        """(N,) values of a term: the product of its atoms."""
        if term.label in self.made:
            return self.made[term.label]
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

    def arrays(self, nesting: str | None, strata: tuple[str, ...] = ()) -> dict[str, Array]:
        """The columns under the names of the study; no id of groups, each row is a unit."""
        data: dict[str, Array] = dict(self.outcomes)
        if self.strata is not None:
            data |= dict.fromkeys(strata, self.strata)
        data |= self.columns
        if nesting is not None:
            data[nesting] = self.units["nesting"]
        return data


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
    return Flat(drawn.outcomes, columns, units, strata_codes(drawn, formula))


def by_membership(drawn: Drawn, formula: Formula, summary: str) -> Flat:
    """One row per membership, the group's outcome copied; `summary` is not used."""
    m = drawn.memberships
    units = {"group": m.group, "member": m.member}
    if m.nesting is not None:
        units["nesting"] = m.nesting[m.group]
    columns = {name: drawn.rows(name) for name in flat_columns(formula)}
    outcomes = {name: values[m.group] for name, values in drawn.outcomes.items()}
    strata = strata_codes(drawn, formula)
    return Flat(outcomes, columns, units, None if strata is None else strata[m.group])


def adjusted(drawn: Drawn, formula: Formula, summary: str) -> Flat:
    """One row per group, member terms as Croon & van Veldhoven's adjusted means.

    Raises
    ------
    ValueError
        If a term mixes levels, or the data do not say how reliable group means are.
    """
    groups, rows = by_group(drawn, formula, summary), by_membership(drawn, formula, summary)
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    fine = [t for t in terms if is_fine(t, drawn)]
    for term in fine:
        if not all(drawn.columns[c].level in _FINE for c in term_columns(term)):
            raise ValueError(
                f"{term.label} contains columns of members and of groups, so it has no adjusted "
                "group mean"
            )
    if not fine:
        return groups
    coarse = [t for t in terms if not is_fine(t, drawn)]
    empty = np.empty((len(groups.outcome), 0))
    found = adjusted_means(
        np.column_stack([rows.term(t) for t in fine]),
        drawn.memberships.group,
        np.column_stack([groups.term(t) for t in coarse]) if coarse else empty,
        [t.label for t in fine],
    )
    made = {t.label: found[:, i] for i, t in enumerate(fine)}
    return replace(groups, made=made)


def is_fine(term: Term, drawn: Drawn) -> bool:
    """Whether a term differs between the members of a group."""
    return any(drawn.columns[c].level in _FINE for c in term_columns(term))


def strata_codes(drawn: Drawn, formula: Formula) -> Array | None:
    """(J,) stratum of each group, numbered from 0; None without `strata()`."""
    if not formula.strata:
        return None
    nesting = drawn.memberships.names.nesting
    values = [
        np.asarray(drawn.memberships.nesting if name == nesting else drawn.by_group(name))
        for name in formula.strata
    ]
    codes = [np.unique(v, return_inverse=True)[1] for v in values]
    return np.unique(codes, axis=1, return_inverse=True)[1].reshape(-1)


#: Layout -> (replication, formula, summary) -> table. Models with `mm()` take the data as they are.
LAYOUTS: dict[str, Callable[[Drawn, Formula, str], Flat]] = {
    "groups": by_group,
    "memberships": by_membership,
    "adjusted": adjusted,
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
    return f"b_l1[{label}]" if is_fine(term, drawn) else f"b_l2[{label}]"
