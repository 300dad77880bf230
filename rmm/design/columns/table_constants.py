"""Means, standard deviations, ... that functions such as `center()` take from a fit's table.

They are put into the expressions themselves: wherever these are computed afterwards, for new
tables or some groups of the fit, the constants are those of the fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rmm.design.columns.encode import atom_values, code_category, input_columns
from rmm.design.columns.sigma_columns import sigma_table
from rmm.design.rows.group_rows import Grouped
from rmm.design.rows.units import Members
from rmm.errors import DataError, FormulaError, counted
from rmm.formula.column_bases import Categories
from rmm.formula.expression import (
    OWN_GROUP,
    Node,
    TableCall,
    children,
    describe,
    walk,
    with_table_constants,
)
from rmm.formula.terms import Atom, FeatureTerm, FixedTerm, MemberBlock, SigmaFormula, Term
from rmm.formula.weights.evaluate import constants_of, evaluate, levels_of, moved_by_constants
from rmm.formula.weights.rewrite import rebuilt
from rmm.model.spec import MemberPart, ModelSpec
from rmm.tables.read import Array
from rmm.tables.table import Table


def with_constants(spec: ModelSpec, grouped: Grouped) -> ModelSpec:
    """The model in which `center(x)`, `scale(x)`, ... hold the constants of a table.

    Constants are those of the units of a predictor's level: groups outside `mm()`, nesting units
    for level 3, memberships inside `mm()` and in weight functions. Those of `within =` are taken
    within the values of that column; constants within the groups of `mm()` are never kept, since
    every group has its own.

    Parameters
    ----------
    spec : ModelSpec
    grouped : Grouped
        The table of the fit.

    Raises
    ------
    DataError
        If a column is not numeric, values are not finite, or do not vary and `scale()` divides by
        their standard deviation.
    FormulaError
        If `within = group` could mean two things.
    """
    _refuse_two_groups(spec, grouped)
    table = grouped.first_rows
    whole = _Rows(table)
    formula = spec.formula
    outcome = replace(formula.outcome, parts=whole.atoms(formula.outcome.parts))
    nestings = []
    for nest, units in zip(spec.nestings, grouped.nestings, strict=True):
        own = _Rows(table, once=units.first)
        block = replace(nest.block, fixed=own.fixed(nest.block.fixed))
        nestings.append(replace(nest, block=block, terms=own.terms(nest.terms)))
    members = [_member_part(*pair) for pair in zip(spec.blocks, grouped.blocks, strict=True)]
    smooths = [replace(p, block=whole.smooth(p.block)) for p in spec.members if p.smooth]
    return replace(
        spec,
        formula=replace(
            formula,
            outcome=outcome,
            offset=whole.atoms(formula.offset),
            sigma=_sigma(formula.sigma, grouped),
        ),
        written=whole.terms(spec.written),
        fixed=whole.fixed(spec.fixed),
        nestings=tuple(nestings),
        members=(*members, *smooths),
    )


def _sigma(sigma: SigmaFormula | None, grouped: Grouped) -> SigmaFormula | None:
    if sigma is None:
        return None
    return replace(sigma, terms=_Rows(sigma_table(grouped)).terms(sigma.terms))


def _member_part(part: MemberPart, units: Members) -> MemberPart:
    block = part.block
    own = _Rows(units.table, block.group)
    weight = block.weight
    if any(isinstance(n, TableCall) for n in walk(weight.expression)):
        weight = replace(weight, expression=own.node(weight.expression))
    return replace(
        part,
        block=replace(
            block,
            terms=own.terms(block.terms),
            slopes=own.terms(block.slopes),
            fixed=own.fixed(block.fixed),
            features=tuple(own.feature(f) for f in block.features),
            weight=weight,
        ),
    )


def _refuse_two_groups(spec: ModelSpec, grouped: Grouped) -> None:
    """`within = group` is about the groups of `mm()`; another column may have that name."""
    if OWN_GROUP not in grouped.table:
        return
    for part in spec.members:
        block = part.block
        terms = (*block.terms, *block.slopes, *(f.term for f in block.fixed))
        atoms = [a for t in terms for a in t.atoms] + [f.atom for f in block.features if f.atom]
        for expression in (block.weight.expression, *(a.expression for a in atoms)):
            for node in walk(expression):
                both = isinstance(node, TableCall) and node.own_group and node.within == OWN_GROUP
                if both and block.group != OWN_GROUP:
                    raise FormulaError(
                        f"`{describe(node)}` can mean the groups of mm(), or the column "
                        f"`{OWN_GROUP}` of the table, which is not the group id.",
                        spec.formula.text,
                        node.position,
                        hint=f"Write within = {block.group} for the groups of mm(), or "
                        f"within = `{OWN_GROUP}`, in backquotes, for the column.",
                    )


@dataclass(frozen=True)
class _Rows:
    """Rows of one level, from which constants are taken.

    Attributes
    ----------
    table : (N, ...) Table
    group : str or None
        Id of the groups of `mm()`; None where every row is one.
    once : int array or None
        The rows that count, one per unit; None for all.
    settled : dict
        Calls that have their constants already.
    """

    table: Table
    group: str | None = None
    once: Array | None = None
    settled: dict[Any, TableCall] = field(default_factory=dict)

    def node(self, node: Node) -> Node:
        """The expression with constants, innermost first."""
        node = rebuilt(node, [self.node(child) for child in children(node)])
        if not isinstance(node, TableCall):
            return node
        if self.group is not None and node.within == self.group:
            node = replace(node, own_group=True)
        return node if node.own_group else self.with_constants(node)

    def with_constants(self, node: TableCall) -> TableCall:
        """The call with its constants, and its values kept with the table."""
        key = with_table_constants(node)
        if key not in self.settled:
            self.settled[key] = self._settle(node)
        return self.settled[key]

    def _settle(self, node: TableCall) -> TableCall:
        known = self.table.computed.setdefault(TableCall, {})
        columns = input_columns(describe(node), node, self.table)
        every = np.broadcast_to(
            evaluate(node.argument, columns, self.table.pointer, known=known), len(self.table)
        )
        _check_finite(node, every, self.table)
        place, labels = levels_of(node, columns, self.table.pointer)
        once = slice(None) if self.once is None else self.once
        values, level = every[once], place[once]
        found = constants_of(replace(node, constants=None), values, level, labels)
        if any(numbers[-1] == 0 for numbers in found):
            raise DataError(
                f"`{describe(node)}` cannot be computed: `{describe(node.argument)}` is "
                f"{values[0]:g} in every row, so its standard deviation is 0."
            )
        settled = replace(node, constants=tuple(zip(labels, found, strict=True)))
        known[with_table_constants(settled)] = moved_by_constants(every, place, found)
        return settled

    def atoms(self, atoms: Iterable[Atom]) -> tuple[Atom, ...]:
        return tuple(self.atom(a) for a in atoms)

    def atom(self, atom: Atom) -> Atom:
        atom = replace(atom, expression=self.node(atom.expression))
        if isinstance(atom.basis, Categories):
            return replace(atom, basis=code_category(atom, self.table)[1])
        if atom.basis is None:
            return atom
        once = slice(None) if self.once is None else self.once
        values = atom_values(atom, self.table)[once]
        return replace(atom, basis=atom.basis.settled(atom.label, values))

    def term(self, term: Term) -> Term:
        return replace(term, atoms=self.atoms(term.atoms))

    def terms(self, terms: Iterable[Term]) -> tuple[Term, ...]:
        return tuple(self.term(t) for t in terms)

    def fixed(self, items: Iterable[FixedTerm]) -> tuple[FixedTerm, ...]:
        return tuple(replace(f, term=self.term(f.term)) for f in items)

    def smooth(self, block: MemberBlock) -> MemberBlock:
        return block if block.smooth is None else replace(block, smooth=self.atom(block.smooth))

    def feature(self, item: FeatureTerm) -> FeatureTerm:
        return item if item.atom is None else replace(item, atom=self.atoms((item.atom,))[0])


def _check_finite(node: TableCall, values: Array, table: Table) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(table.index[bad].min()) + 1
        raise DataError(
            f"`{describe(node.argument)}` in `{describe(node)}` is not a finite number in "
            f"{counted(int(bad.sum()), 'row')}; the first is row {row}."
        )
