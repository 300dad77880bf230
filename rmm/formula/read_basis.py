"""`factor(x)`, `poly(x, 2)`, `ns(x, 4)`, `s(x)` in a formula -> the atom with its basis."""

from __future__ import annotations

from rmm.formula import parser as syntax
from rmm.formula.column_bases import (
    BASES,
    MAX_DEGREE,
    MAX_DF,
    Basis,
    Categories,
    NaturalSpline,
    Polynomial,
    Powers,
    Smooth,
)
from rmm.formula.expression import describe
from rmm.formula.expression_reader import Reader
from rmm.formula.terms import Atom

_LEAST_SIZE = 3  # of s(): a constant, a line, and a function that bends


def read_basis(tree: syntax.Call, reader: Reader) -> Atom:
    """The atom of a call of one of `BASES`.

    Its label is what R calls it: the arguments as given, without the names `degree` and `df`.

    Raises
    ------
    FormulaError
        With a caret, and how it is written.
    """
    name, usage = tree.function, f"Write {BASES[tree.function].usage}."
    if not tree.arguments or tree.arguments[0].keyword is not None:
        reader.fail(f"`{name}()` needs a column.", tree, usage)
    expression = reader.read(tree.arguments[0].value)
    basis: Basis
    if name == "poly":
        basis, written = _polynomial(tree, reader, usage)
    elif name == "ns":
        basis, written = _natural_spline(tree, reader, usage)
    elif name == "s":
        basis, written = _smooth(tree, reader, usage)
    else:
        basis, written = _categories(tree, reader, usage)
    return Atom(f"{name}({', '.join([describe(expression), *written])})", expression, basis)


def _polynomial(
    tree: syntax.Call, reader: Reader, usage: str
) -> tuple[Polynomial | Powers, list[str]]:
    rest = tree.arguments[1:]
    degree = rest[0].value if rest and rest[0].keyword in (None, "degree") else None
    count = _count(degree, MAX_DEGREE)
    if count is None:
        reader.fail(f"`poly()` needs a degree from 1 to {MAX_DEGREE}.", tree, usage)
    if len(rest) == 1:
        return Polynomial(count), [str(count)]
    raw = rest[1].value.value if isinstance(rest[1].value, syntax.Literal) else None
    if len(rest) > 2 or rest[1].keyword != "raw" or not isinstance(raw, bool):
        reader.fail("`poly()` does not have this argument.", rest[-1].value, usage)
    return (Powers(count), [str(count), "raw = TRUE"]) if raw else (Polynomial(count), [str(count)])


def _natural_spline(
    tree: syntax.Call, reader: Reader, usage: str
) -> tuple[NaturalSpline, list[str]]:
    rest = tree.arguments[1:]
    if len(rest) != 1 or rest[0].keyword not in (None, "df", "knots"):
        found = "`ns()` needs the number of its coefficients, or its knots, and nothing else."
        reader.fail(found, tree, usage)
    value = rest[0].value
    if rest[0].keyword != "knots":
        count = _count(value, MAX_DF)
        if count is None:
            reader.fail(f"`ns()` needs a number of coefficients from 1 to {MAX_DF}.", tree, usage)
        return NaturalSpline(count), [str(count)]
    items = [value]
    if isinstance(value, syntax.Call) and value.function == "c":
        items = [a.value for a in value.arguments]
    knots = tuple(_number(item, reader, usage) for item in items)
    if not 1 <= len(knots) < MAX_DF or list(knots) != sorted(set(knots)):
        found = f"`ns()` needs from 1 to {MAX_DF - 1} knots, in increasing order."
        reader.fail(found, value, usage)
    shown = ", ".join(f"{knot:.15g}" for knot in knots)
    return NaturalSpline(knots=knots), [f"knots = {shown if len(knots) == 1 else f'c({shown})'}"]


def _smooth(tree: syntax.Call, reader: Reader, usage: str) -> tuple[Smooth, list[str]]:
    rest = tree.arguments[1:]
    if not rest:
        return Smooth(), []
    other = next((a for a in rest if a.keyword != "k"), None)
    if other is not None:
        what = "a second column" if other.keyword is None else f"the argument `{other.keyword} =`"
        found = f"`s()` cannot have {what}: it is a smooth function of one column."
        reader.fail(found, other.value, usage)
    count = _count(rest[0].value, MAX_DF)
    if len(rest) > 1 or count is None or count < _LEAST_SIZE:
        found = f"`s()` needs a number k of basis functions from {_LEAST_SIZE} to {MAX_DF}."
        reader.fail(found, tree, usage)
    return Smooth(count), [f"k = {count}"]


def _count(tree: syntax.Syntax | None, most: int) -> int | None:
    """A whole number from 1 to `most`, or None."""
    value = tree.value if isinstance(tree, syntax.Literal) else None
    known = isinstance(value, float) and value in range(1, most + 1)
    return int(value) if known and isinstance(value, float) else None


def _number(tree: syntax.Syntax, reader: Reader, usage: str) -> float:
    """A number, perhaps with a sign."""
    sign, inner = 1.0, tree
    if isinstance(tree, syntax.Prefix) and tree.operator in "+-":
        sign, inner = (-1.0 if tree.operator == "-" else 1.0), tree.operand
    value = inner.value if isinstance(inner, syntax.Literal) else None
    if not isinstance(value, float) or not abs(value) < float("inf"):
        reader.fail("A knot must be a finite number.", tree, usage)
    return sign * value


def _categories(tree: syntax.Call, reader: Reader, usage: str) -> tuple[Categories, list[str]]:
    base, levels, written = None, None, list[str]()
    for argument in tree.arguments[1:]:
        match argument.keyword:
            case "base" if base is None:
                base = _level(argument.value, reader, usage)
            case "levels" if levels is None:
                levels = _levels(argument.value, reader, usage)
            case _:
                found = f"`{tree.function}()` does not have this argument."
                reader.fail(found, argument.value, usage)
        written.append(f"{argument.keyword} = {syntax.source(reader.text, argument.value)}")
    return Categories(base, levels), written


def _level(tree: syntax.Syntax, reader: Reader, usage: str) -> str | float | bool:
    if isinstance(tree, syntax.Literal) and tree.value is not None:
        return tree.value
    reader.fail("A level must be a text in quotes or a number.", tree, usage)


def _levels(tree: syntax.Syntax, reader: Reader, usage: str) -> tuple[str | float | bool, ...]:
    if not isinstance(tree, syntax.Call) or tree.function != "c":
        reader.fail("Levels must be written as c(...).", tree, usage)
    found = tuple(_level(a.value, reader, usage) for a in tree.arguments)
    if len(set(found)) < max(2, len(found)):
        reader.fail("There must be at least two levels, and each only once.", tree, usage)
    return found
