"""Which level a predictor belongs to."""

from __future__ import annotations

import warnings
from dataclasses import replace

from rmm.design.rows.group_rows import Grouped
from rmm.errors import SpecificationWarning
from rmm.formula.terms import DURATIONS, Formula, Term
from rmm.formula.weights.weight_function import leaf_columns
from rmm.tables.read import first_varying


def find_levels(grouped: Grouped) -> tuple[Formula, dict[str, int]]:
    """Which predictors outside `mm()` are level 3.

    A predictor that is constant within the units of an `hm(type=RE)` block belongs to that block
    (the first such one). One that is constant within the units of an `hm(type=FE)` block is
    collinear with its dummies: it is dropped, with a `SpecificationWarning`.

    Returns
    -------
    formula : Formula
        Without the dropped terms.
    levels : dict
        Term label -> index of its `hm()` block.
    """
    formula, table = grouped.formula, grouped.first_rows
    levels: dict[str, int] = {}
    dropped: list[str] = []
    for term in formula.terms:
        columns = [c for a in term.atoms for c in leaf_columns(a.expression)]
        constant = [
            all(table[c].varying(units.code) is None for c in columns) for units in grouped.nestings
        ]
        blocks = list(enumerate(formula.nestings))
        fixed = [b.unit for i, b in blocks if constant[i] and b.effect == "FE"]
        random = [i for i, b in blocks if constant[i] and b.effect == "RE" and b.terms is None]
        if fixed:
            dropped.append(term.label)
            warnings.warn(
                f"`{term.label}` is constant within `{fixed[0]}` and is left out: the fixed "
                "effects of hm(type = FE) already contain all differences between nesting units.",
                SpecificationWarning,
                stacklevel=2,
            )
        elif random:
            levels[term.label] = random[0]
    if not dropped:
        return formula, levels
    kept = tuple(t for t in formula.terms if t.label not in dropped)
    return replace(formula, terms=kept), levels


def without_what_cancels(grouped: Grouped) -> Grouped:
    """Drop what is constant within strata: it cancels in comparisons of their groups.

    Predictors outside `mm()` and whole `hm()` blocks are dropped, each with a
    `SpecificationWarning`. Without `strata()` nothing is.
    """
    strata, formula = grouped.strata, grouped.formula
    if strata is None:
        return grouped

    def constant(term: Term) -> bool:
        columns = [c for a in term.atoms for c in leaf_columns(a.expression)]
        return all(grouped.first_rows[c].varying(strata.code) is None for c in columns)

    dropped = [t.label for t in formula.terms if constant(t)]
    kept = []
    for block, units in zip(formula.nestings, grouped.nestings, strict=True):
        if first_varying(units.code, strata.code) is None:
            dropped.append(f"hm(id = {block.unit})")
            continue
        terms = block.terms or ()
        dropped += [t.label for t in terms if constant(t)]
        left = None if block.terms is None else tuple(t for t in terms if not constant(t))
        kept.append((replace(block, terms=left), units))
    reason = "a predictor that is the same for all groups of a stratum cannot explain the choice."
    if formula.outcome.kind in DURATIONS:
        reason = "the strata's own baseline hazards contain all differences between strata."
    for label in dropped:
        warnings.warn(
            f"`{label}` is constant within every stratum of `{', '.join(formula.strata)}` and is "
            f"left out: {reason}",
            SpecificationWarning,
            stacklevel=2,
        )
    terms = tuple(t for t in formula.terms if t.label not in dropped)
    formula = replace(formula, terms=terms, nestings=tuple(block for block, _ in kept))
    return replace(grouped, formula=formula, nestings=tuple(units for _, units in kept))
