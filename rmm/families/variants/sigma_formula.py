"""`sigma = "~ 1 + z"`: text -> terms of the log of the residual standard deviation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rmm.errors import FormulaError, quoted
from rmm.formula import parser as syntax
from rmm.formula.column_bases import Smooth
from rmm.formula.expression import TableCall, describe, walk
from rmm.formula.expression_reader import Reader
from rmm.formula.term_expansion import expand, ordered, summands, without
from rmm.formula.terms import Formula, SigmaFormula, Term

_EXAMPLE = 'Write sigma="~ 1 + z": the log of the residual standard deviation is linear in z.'
_ELSEWHERE = ("mm", "hm", "fix", "offset", "strata")


def parse_sigma(text: Any) -> SigmaFormula:
    """Read the formula of the residual standard deviation.

    Parameters
    ----------
    text : str
        ``"~ 1 + z"``, or ``"sigma ~ 1 + z"`` as in brms. The intercept is always there.

    Returns
    -------
    SigmaFormula

    Raises
    ------
    FormulaError
        With a caret under the place, and what is allowed.
    """
    if not isinstance(text, str):
        raise FormulaError(f"`sigma` must be the text of a formula, not {quoted(text)}. {_EXAMPLE}")
    return SigmaFormula(text, ordered(_terms(_right_side(text), text)))


def _right_side(text: str) -> syntax.Syntax:
    tree = syntax.parse(text)
    if isinstance(tree, syntax.Prefix) and tree.operator == "~":
        return tree.operand
    if isinstance(tree, syntax.Infix) and tree.operator == "~":
        left = tree.left
        if isinstance(left, syntax.Name) and left.name == "sigma":
            return tree.right
        found = syntax.source(text, left)
        raise FormulaError(
            f"Left of `~` there is {quoted(found)}, but the formula is that of sigma.",
            text,
            left.span.start,
            max(len(found), 1),
            _EXAMPLE,
        )
    raise FormulaError("The formula of sigma has no `~`.", text, tree.span.start, 1, _EXAMPLE)


def _terms(tree: syntax.Syntax, text: str) -> list[Term]:
    reader, terms = Reader(text), list[Term]()
    for part in summands(tree):
        if isinstance(part.tree, syntax.Literal) and isinstance(part.tree.value, float):
            _check_constant(part.tree, part.sign, reader)
        elif part.sign == "-":
            terms = without(terms, expand(part.tree, text))
        elif isinstance(part.tree, syntax.Call) and part.tree.function in _ELSEWHERE:
            reader.fail(
                f"`{part.tree.function}()` cannot be used in the formula of sigma.",
                part.tree,
                "Allowed: columns that are the same in all rows of a group, functions of them, "
                "their interactions, and the group size `n`.",
            )
        else:
            terms.extend(expand(part.tree, text))
    for term in terms:
        _check_term(term, text)
    return terms


def _check_constant(tree: syntax.Literal, sign: str, reader: Reader) -> None:
    if tree.value == 1.0 and sign == "+":
        return
    reader.fail(
        "The formula of sigma always has an intercept.",
        tree,
        "Write `1`, or leave the number out. The standard deviation of each category of x is "
        "exp(b_sigma[Intercept] + b_sigma[x=category]).",
    )


def _check_term(term: Term, text: str) -> None:
    problem = ""
    for atom in term.atoms:
        calls = [n for n in walk(atom.expression) if isinstance(n, TableCall)]
        if isinstance(atom.basis, Smooth):
            problem = f"`{atom.label}` cannot be used in the formula of sigma."
        elif any(call.own_group for call in calls):
            call = next(call for call in calls if call.own_group)
            problem = f"`{describe(call)}` is always 0 in the formula of sigma."
    if problem:
        hint = "Use ns(x, 3) or poly(x, 2) for a curve, and center(x) for a centred column."
        raise FormulaError(problem, text, term.position, 1, hint)


def with_sigma(formula: Formula, sigma: SigmaFormula | None) -> Formula:
    """The formula with that of its residual standard deviation.

    Parameters
    ----------
    formula : Formula
    sigma : SigmaFormula or None
        Of the family: `rmm.families.Family.sigma`.

    Raises
    ------
    FormulaError
        If sigma depends on the group size `n`, and there is no group size, or several.
    """
    if sigma is None:
        return formula
    if sigma.uses_size and (not formula.members or formula.kinds):
        why = "The formula has several kinds of members" if formula.kinds else "There is no mm()"
        raise FormulaError(
            f"{why}, so the group size `n` in the formula of sigma is not known.",
            sigma.text,
            next(t.position for t in sigma.terms if SigmaFormula("", (t,)).uses_size),
            1,
            "Add a column with the size that you mean, with a name other than n.",
        )
    return replace(formula, sigma=sigma)
