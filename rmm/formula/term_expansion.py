"""Sums of predictors -> terms: `a*b`, `a:b`, `(a + b)^2`, `I(x^2)`, `- a`, as in R."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from rmm.errors import FormulaError, counted
from rmm.formula import parser as syntax
from rmm.formula.column_bases import BASES, Categories
from rmm.formula.expression import (
    Column,
    describe,
    has_parameters,
    leaf_columns,
)
from rmm.formula.expression_reader import MAX_DEPTH, Reader, advice_on_function
from rmm.formula.features import FEATURES, Feature
from rmm.formula.functions import AGGREGATES, COMPARISONS, FUNCTIONS, TABLE_FUNCTIONS
from rmm.formula.read_basis import read_basis
from rmm.formula.terms import Atom, FeatureTerm, FixedTerm, Term
from rmm.formula.weights.evaluate import evaluate

MAX_REMOVED = 100  # terms after a minus: each is looked for among all before it
MAX_TERMS = 1000  # products of sums grow fast; more terms than this are a mistake

# What may be called outside mm() and hm(); parts of mm() are named so that a misplaced one is told.
SPECIALS = ("mm", "hm", "fix", "offset", "strata", "I")
_BLOCK_PARTS = ("id", "vars", "fn", "mmc", "mmw")


@dataclass(frozen=True)
class Summand:
    """A signed part of a sum."""

    sign: str
    tree: syntax.Syntax


def summands(tree: syntax.Syntax) -> list[Summand]:
    """Parts of a sum from left to right. Iterative on the left: sums may be long."""
    found: list[Summand] = []
    while isinstance(tree, syntax.Infix) and tree.operator in "+-":
        found.append(Summand(tree.operator, tree.right))
        tree = tree.left
    if isinstance(tree, syntax.Prefix) and tree.operator in "+-":
        found.append(Summand(tree.operator, tree.operand))
    else:
        found.append(Summand("+", tree))
    if sum(part.sign == "-" for part in found) > MAX_REMOVED:
        raise FormulaError(f"The formula removes more than {MAX_REMOVED} terms.")
    out: list[Summand] = []
    for part in reversed(found):
        inner = isinstance(part.tree, syntax.Infix) and part.tree.operator in "+-"
        out.extend(summands(part.tree) if inner and part.sign == "+" else [part])
    return out


def ordered(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Distinct terms, main effects before interactions, as R orders them."""
    distinct = {_key(term): term for term in reversed(terms)}
    kept = [term for term in dict.fromkeys(terms) if distinct.get(_key(term)) is term]
    return tuple(sorted(kept, key=lambda term: len(term.atoms)))


def without(terms: Sequence[Term], removed: Sequence[Term]) -> list[Term]:
    """`terms` less those that are in `removed`."""
    keys = {_key(term) for term in removed}
    return [term for term in terms if _key(term) not in keys]


def _key(term: Term) -> frozenset[str]:
    return frozenset(atom.label for atom in term.atoms)


def refuse_both(terms: Iterable[Term], fixed: Iterable[FixedTerm], text: str) -> None:
    """Raise `FormulaError` for a term that is both estimated and fixed, or fixed twice."""
    taken = {term.label for term in terms}
    for item in fixed:
        if item.term.label in taken:
            raise FormulaError(
                f"`{item.term.label}` is given twice, once with a fixed coefficient.",
                text,
                item.term.position,
                len(item.term.label),
                "Keep one of them.",
            )
        taken.add(item.term.label)


def read_fix(tree: syntax.Call, text: str) -> FixedTerm:
    """`fix(x, value)`."""
    reader = Reader(text)
    names = [a.keyword for a in tree.arguments]
    if len(names) != 2 or names[0] is not None or names[1] not in (None, "value"):
        reader.fail("`fix()` needs a term and a number: fix(x, 1).", tree)
    terms = expand(tree.arguments[0].value, text)
    if len(terms) != 1:
        reader.fail(
            f"`fix()` needs one term, but has {len(terms)}.",
            tree.arguments[0].value,
            "Write one fix() for each term.",
        )
    for atom in terms[0].atoms:
        if atom.basis is not None and not isinstance(atom.basis, Categories):
            found = f"`{atom.label}` has several coefficients."
            reader.fail(found, tree, "Fix single terms: fix(I(x^2), 1).")
    return FixedTerm(terms[0], constant(tree.arguments[1].value, text))


def read_feature(tree: syntax.Call, text: str) -> FeatureTerm:
    """A feature of the members, such as `variance(x)` or `threshold(x, 0.5)`.

    Raises
    ------
    FormulaError
    """
    row, reader = FEATURES[tree.function], Reader(text)
    usage = f"Write {_usage(row)}."
    most = 1 + (row.parameter is not None)
    least = int(row.variable == "needed")
    keywords = [a.keyword for a in tree.arguments]
    if not least <= len(tree.arguments) <= most or keywords[:1] not in ([], [None]):
        found = counted(len(tree.arguments), "argument")
        reader.fail(f"`{row.name}()` cannot have {found}.", tree, usage)
    if not tree.arguments:
        return FeatureTerm(row.name, position=tree.span.position)
    terms = expand(tree.arguments[0].value, text)
    if len(terms) != 1 or len(terms[0].atoms) != 1 or terms[0].atoms[0].basis is not None:
        reader.fail(f"`{row.name}()` needs one variable.", tree.arguments[0].value, usage)
    value = None
    if len(tree.arguments) == 2:
        if keywords[1] not in (None, row.parameter):
            reader.fail(f"`{row.name}()` has no argument `{keywords[1]} =`.", tree, usage)
        value = constant(tree.arguments[1].value, text)
    estimated = row.parameter if value is None else None
    return FeatureTerm(row.name, terms[0].atoms[0], value, estimated, tree.span.position)


def _usage(row: Feature) -> str:
    one = f"{row.name}(x)"
    if row.parameter is not None:
        return f"{one} to estimate the parameter {row.parameter}, or {row.name}(x, a number)"
    return f"{one} or {row.name}() of the weights" if row.variable == "optional" else one


def constant(tree: syntax.Syntax, text: str) -> float:
    """The value of an expression of numbers alone, such as ``-1/2``."""
    reader = Reader(text)
    node = reader.read(tree)
    if leaf_columns(node) or has_parameters(node):
        reader.fail("This must be a number.", tree)
    value = float(evaluate(node, {}, np.array([0, 1]))[0])
    if not np.isfinite(value):
        reader.fail(f"This number is {value}; it must be finite.", tree)
    return value


def expand(tree: syntax.Syntax, text: str) -> list[Term]:
    """The terms of a sum or product of predictors.

    Raises
    ------
    FormulaError
        For what is not a predictor, with a caret; for more than `MAX_TERMS` terms.
    """
    reader = Reader(text)
    if isinstance(tree, syntax.Infix) and tree.operator in "+-":
        terms: list[Term] = []
        for part in summands(tree):
            found = expand(part.tree, text)
            terms = [*terms, *found] if part.sign == "+" else without(terms, found)
        return terms
    if tree.span.depth > MAX_DEPTH:
        reader.fail(f"This interaction has more than {MAX_DEPTH} variables.", tree)
    match tree:
        case syntax.Name():
            return [Term((_column(tree, reader),), tree.span.position)]
        case syntax.Call():
            return [Term((_called(tree, reader),), tree.span.position)]
        case syntax.Infix(operator=":"):
            left, right = expand(tree.left, text), expand(tree.right, text)
            _checked(range(len(left) * len(right)), reader)
            return _products(left, right)
        case syntax.Infix(operator="*"):
            return _crossed(expand(tree.left, text), expand(tree.right, text), reader)
        case syntax.Infix(operator="^"):
            return _power(tree, reader)
    return _no_term(tree, reader)


def _column(tree: syntax.Name, reader: Reader) -> Atom:
    if tree.name == "." and not tree.quoted:
        reader.fail("`.` (all other columns) is not available.", tree, "Name the predictors.")
    return Atom(tree.name, Column(tree.name, tree.span.position))


def _called(tree: syntax.Call, reader: Reader) -> Atom:
    """`I(...)`, a function such as `log(x)`, or a basis such as `factor(x)`."""
    name = tree.function
    if name in BASES:
        atom = read_basis(tree, reader)
    elif name == "I":
        if len(tree.arguments) != 1 or tree.arguments[0].keyword is not None:
            reader.fail("`I()` needs one expression: I(x^2).", tree)
        expression = reader.read(tree.arguments[0].value)
        atom = Atom(f"I({describe(expression)})", expression)
    elif name in SPECIALS:
        reader.fail(
            f"`{name}()` cannot be used here.",
            tree,
            "mm(), hm(), offset() and strata() must be summands of the formula. fix() must be a "
            "summand of the formula, of vars() or of mmc(). None of them can be in a product or in "
            "brackets.",
        )
    elif name in _BLOCK_PARTS:
        reader.fail(f"`{name}()` can be used only inside mm() or hm().", tree)
    elif name in FEATURES:
        reader.fail(
            f"`{name}()` is a feature of the members of a group and cannot be used here.",
            tree,
            "It must be a summand of vars() or mmc() in mm(). It cannot be in a product, in fix() "
            "or in another function.",
        )
    elif name not in (*FUNCTIONS, *TABLE_FUNCTIONS, *AGGREGATES):
        allowed = (*SPECIALS, *BASES, *TABLE_FUNCTIONS, *FUNCTIONS)
        reader.fail(
            f"`{name}()` is not a function of formulas.{advice_on_function(name, allowed)}",
            tree,
            f"Allowed: {', '.join(allowed)}.",
        )
    else:
        expression = reader.read(tree)
        atom = Atom(describe(expression), expression)
    if not leaf_columns(atom.expression):
        reader.fail(f"`{atom.label}` contains no column.", tree)
    return atom


def _products(left: list[Term], right: list[Term]) -> list[Term]:
    out = []
    for a in left:
        for b in right:
            known = {atom.label for atom in a.atoms}
            atoms = (*a.atoms, *(atom for atom in b.atoms if atom.label not in known))
            out.append(Term(atoms, a.position))
    return list(ordered(out))


def _crossed(left: list[Term], right: list[Term], reader: Reader) -> list[Term]:
    _checked(range(len(left) * len(right)), reader)
    return _checked(list(ordered([*left, *right, *_products(left, right)])), reader)


def _checked[S: Sequence[object]](terms: S, reader: Reader) -> S:
    if len(terms) > MAX_TERMS:
        reader.fail(
            f"The formula multiplies out to more than {MAX_TERMS} terms.",
            syntax.Name("", span=syntax.Span(0, 0, len(reader.text))),
        )
    return terms


def _power(tree: syntax.Infix, reader: Reader) -> list[Term]:
    exponent = tree.right.value if isinstance(tree.right, syntax.Literal) else None
    if not isinstance(exponent, float) or exponent not in range(1, 11):
        reader.fail(
            "As in R, `^` crosses predictors. The power must be a number from 1 to 10.",
            tree,
            "For a power of a column write I(x^2).",
        )
    base = expand(tree.left, reader.text)
    if len(base) == 1:
        reader.fail(
            f"As in R, `{syntax.source(reader.text, tree)}` means only `{base[0].label}`.",
            tree,
            f"For a power of a column write I({syntax.source(reader.text, tree)}).",
        )
    terms = base
    for _ in range(int(exponent) - 1):
        terms = _crossed(terms, base, reader)
    return terms


def _no_term(tree: syntax.Syntax, reader: Reader) -> NoReturn:
    found = syntax.source(reader.text, tree)
    operator = tree.operator if isinstance(tree, (syntax.Infix, syntax.Prefix)) else ""
    if operator in (*COMPARISONS, "-", "+"):
        problem = f"A comparison with `{operator}` is not a predictor."
        reader.fail(problem, tree, f"Write I({found}).")
    if operator == "/":
        hint = f"For a quotient write I({found}); for b nested in a, as R's a/b, write a + a:b."
        reader.fail("`/` is not available for predictors.", tree, hint)
    if operator == "~":
        reader.fail("A second `~` cannot be used here.", tree)
    reader.fail(
        f"This must be a predictor, not {found}.",
        tree,
        "The intercept (0, 1 or -1) must be a summand of the formula outside mm() and hm().",
    )
