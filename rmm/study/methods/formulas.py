"""Formulas of the named kinds of analysis, made from the truth's formula."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rmm.formula.terms import FixedTerm, Formula, MemberBlock, NestingBlock, Term
from rmm.simulation.true_model import Truth

_CONSTRAINTS = {"group": "TRUE", "total": "2", "none": "FALSE"}
_MEAN = "1/n"


def flat_formula(truth: Formula, *, nesting: bool) -> str:
    """The truth without `mm()`: member covariates stand beside the others.

    `nesting` says whether random effects of nesting units stay (a regression has none, and the
    covariates of `hm()` stand beside the others, too).
    """
    outside = [] if nesting else list(truth.nestings)
    blocks: list[MemberBlock | NestingBlock] = [*truth.members, *outside]
    inside = [t for block in blocks for t in block.terms or ()]
    fixed = [f for block in blocks for f in block.fixed]
    parts = _plain_parts(truth, inside, fixed)
    parts += [_nesting_text(block) for block in truth.nestings] if nesting else []
    return _joined(truth, parts)


def member_formula(truth: Formula, *, weights: str | None, estimated: bool) -> str:
    """The truth with member random effects and the weights of a conventional or estimated model.

    Parameters
    ----------
    weights : str or None
        Weight function; None means 1/n (`estimated` false) or the truth's own.
    """
    parts = _plain_parts(truth, (), ())
    for block in truth.members:
        written = weights
        if written is None:
            written = block.weight.text if estimated else _MEAN
            # Only the truth's own weights bring its constraint with them.
            own = _CONSTRAINTS[block.weight.constraint] if estimated else "TRUE"
            written = f"w ~ {written}, c = {own}"
        elif "~" not in written:
            written = f"w ~ {written}"
        parts.append(_member_text(block, written))
    parts += [_nesting_text(block) for block in truth.nestings]
    return _joined(truth, parts)


def true_weights_formula(truth: Truth) -> str:
    """The truth with member random effects and its own weights, at their true coefficients."""
    parts = _plain_parts(truth.formula, (), ())
    for part in truth.spec.members:
        weight = part.block.weight
        for name in weight.parameters:
            weight = weight.with_fixed(name, truth.parameters[f"{part.b_w}[{name}]"])
        constraint = _CONSTRAINTS[weight.constraint]
        parts.append(_member_text(part.block, f"w ~ {weight.text}, c = {constraint}"))
    parts += [_nesting_text(block) for block in truth.formula.nestings]
    return _joined(truth.formula, parts)


def candidate_formulas(truth: Formula, candidates: Mapping[str, str]) -> dict[str, str]:
    """Formula of each candidate of a choice, by its name.

    A candidate is a whole formula (it has `mm()`), or a weight function that takes the place of
    the truth's.
    """
    return {
        name: text if "mm(" in text else member_formula(truth, weights=text, estimated=True)
        for name, text in candidates.items()
    }


def _joined(truth: Formula, parts: list[str]) -> str:
    strata = [f"strata({', '.join(truth.strata)})"] if truth.strata else []
    return f"{truth.outcome.label} ~ {' + '.join([*parts, *strata])}"


def _plain_parts(truth: Formula, inside: Iterable[Term], fixed: Iterable[FixedTerm]) -> list[str]:
    parts = ["1" if truth.intercept else "0"]
    parts += [t.label for t in (*truth.terms, *inside)]
    parts += [_fixed_text(f) for f in (*truth.fixed, *fixed)]
    return list(dict.fromkeys(parts))


def _fixed_text(fixed: FixedTerm) -> str:
    return f"fix({fixed.term.label}, {fixed.value!r})"


def _member_text(block: MemberBlock, weight: str) -> str:
    terms = [t.label for t in block.terms] + [f.label for f in block.features]
    terms += [_fixed_text(f) for f in block.fixed]
    covariates = f"vars({' + '.join(terms)})" if terms else "NULL"
    name = f", name = {block.name!r}" if block.name else ""
    return (
        f"mm(id({block.member}, {block.group}), vars = {covariates}, fn = fn({weight}), "
        f"RE = TRUE{name})"
    )


def _nesting_text(block: NestingBlock) -> str:
    terms = [t.label for t in block.terms or ()] + [_fixed_text(f) for f in block.fixed]
    covariates = f", vars = vars({' + '.join(terms)})" if terms else ""
    name = f", block = {block.name!r}" if block.name else ""
    return f'hm(id = {block.unit}, type = "{block.effect}"{covariates}{name})'
