"""Formula text -> `rmm.formula.terms.Formula`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import NoReturn

from rmm.errors import FormulaError, counted, did_you_mean
from rmm.formula import parser as syntax
from rmm.formula.column_bases import Categories, Smooth
from rmm.formula.expression import Column, TableCall, describe, leaf_columns, value_columns, walk
from rmm.formula.expression_reader import Reader
from rmm.formula.mm_hm import read_member_block, read_nesting_block
from rmm.formula.term_expansion import expand, ordered, read_fix, refuse_both, summands, without
from rmm.formula.terms import (
    INTERVAL,
    Atom,
    FixedTerm,
    Formula,
    MemberBlock,
    NestingBlock,
    Outcome,
    Term,
)

_SURV = (
    "Surv(time, event), Surv(time, event, upper = limit), Surv(start, stop, event), "
    "Surv(stop, event, entry = start) or "
    f'Surv(lower, upper, type = "{INTERVAL}")'
)
_EXAMPLE = "A formula is: outcome ~ 1 + predictors + mm(...) + hm(...)."


def parse_formula(text: str) -> Formula:
    """Read a formula in either spelling (rmm's `mmc`/`mmw`, bml's `vars`/`fn`).

    Blocks with different member ids and the same group id, ``mm(id(party, gov), ...) +
    mm(id(minister, gov), ...)``, are several kinds of members: `rmm.design.rows.units.Members`.

    Parameters
    ----------
    text : str
        Such as ``"y ~ 1 + x + mm(id(member, group), vars(z), fn(w ~ 1/n), RE = TRUE)"``.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        With a caret under the place, and what is allowed.

    Warns
    -----
    SpecificationWarning
        If fixed effects of nesting units are given level-3 predictors.
    """
    tree = syntax.parse(text)
    if isinstance(tree, syntax.Prefix) and tree.operator == "~":
        raise FormulaError("The formula has no outcome.", text, tree.span.position, 1, _EXAMPLE)
    if not isinstance(tree, syntax.Infix) or tree.operator != "~":
        raise FormulaError("The formula has no `~`.", text, tree.span.start, 1, _EXAMPLE)
    if isinstance(tree.left, syntax.Infix) and tree.left.operator == "~":
        raise FormulaError("The formula has two `~`.", text, tree.span.position, 1, _EXAMPLE)
    return _RightSide(text).read(tree.right, _outcome(tree.left, text))


def _outcome(tree: syntax.Syntax, text: str) -> Outcome:
    reader = Reader(text)
    if not isinstance(tree, syntax.Call) or tree.function not in ("Surv", "cbind"):
        return Outcome("plain", (_expression(tree, reader),))
    if tree.function == "Surv":
        return _survival(tree, reader)
    keywords = [a.keyword for a in tree.arguments if a.keyword]
    if keywords or len(tree.arguments) != 2:
        _refuse_arguments(tree, keywords, "cbind(successes, failures)", reader)
    return Outcome("cbind", tuple(_expression(a.value, reader) for a in tree.arguments))


def _survival(tree: syntax.Call, reader: Reader) -> Outcome:
    """`Surv()`: what its third argument is, is known from its name, or later from its values."""
    plain = [a for a in tree.arguments if a.keyword is None]
    named = {a.keyword: a for a in tree.arguments if a.keyword is not None}
    if "type" in named:
        return _between_two_times(tree, plain, named, reader)
    strange = [name for name in named if name not in ("entry", "upper")]
    count = len(plain) + len(named)
    if strange or len(named) < len(tree.arguments) - len(plain) or len(plain) not in (2, 3):
        _refuse_arguments(tree, strange, _SURV, reader)
    if len(plain) == 3 and named:
        reader.fail(
            f"`Surv()` has {count} arguments, of which only some have names.",
            tree,
            f"Name each after the second: Surv(stop, event, entry = start, upper = limit), or "
            f"write {_SURV}.",
        )
    parts = [_expression(a.value, reader) for a in plain]
    parts += [_expression(named[n].value, reader) for n in ("entry", "upper") if n in named]
    if len(plain) == 3:
        return Outcome("surv", tuple(parts), "open")
    return Outcome("spell" if "entry" in named else "surv", tuple(parts))


def _between_two_times(
    tree: syntax.Call,
    plain: list[syntax.Argument],
    named: dict[str, syntax.Argument],
    reader: Reader,
) -> Outcome:
    """`Surv(lower, upper, type = "interval2")`: the event lies between two times."""
    usage = f'Surv(lower, upper, type = "{INTERVAL}")'
    node = named["type"].value
    if not isinstance(node, syntax.Literal) or node.value != INTERVAL:
        reader.fail(
            f"`type = {syntax.source(reader.text, node)}` is not available in `Surv()`.",
            node,
            f"Write {usage} if an event lies between two times. Other outcomes have no `type`: "
            f"{_SURV}.",
        )
    others = [name for name in named if name != "type"]
    if others or len(plain) != 2 or len(plain) + len(named) < len(tree.arguments):
        _refuse_arguments(tree, others, usage, reader)
    parts = tuple(_expression(a.value, reader) for a in plain)
    for part, argument in zip(parts, plain, strict=True):
        if not isinstance(part.expression, Column):
            reader.fail(
                f"`{part.label}` is not a column of the data.",
                argument.value,
                f"In {usage}, lower and upper must be columns, because a missing value in them "
                "has a meaning. Compute a new column first.",
            )
    return Outcome("interval", parts)


def _refuse_arguments(
    tree: syntax.Call, keywords: list[str], usage: str, reader: Reader
) -> NoReturn:
    reader.fail(
        f"`{tree.function}()` has {counted(len(tree.arguments), 'argument')}"
        + (f", one of them with the name `{keywords[0]} =`." if keywords else "."),
        tree,
        f"Write {usage}.",
    )


def _expression(tree: syntax.Syntax, reader: Reader) -> Atom:
    """One expression of columns; `I()` around it is allowed."""
    if isinstance(tree, syntax.Call) and tree.function == "I" and len(tree.arguments) == 1:
        tree = tree.arguments[0].value
    node = reader.read(tree)
    if not leaf_columns(node):
        reader.fail("This must be a column of the data.", tree)
    label = tree.name if isinstance(tree, syntax.Name) else describe(node)
    return Atom(label, node)


class _RightSide:
    """Collects the summands right of `~`."""

    def __init__(self, text: str) -> None:
        self.text, self.reader = text, Reader(text)
        self.intercept = True
        self.terms: list[Term] = []
        self.fixed: list[FixedTerm] = []
        self.members: list[MemberBlock] = []
        self.nestings: list[NestingBlock] = []
        self.strata: tuple[str, ...] = ()
        self.strata_at = 0
        self.offset: list[Atom] = []

    def read(self, tree: syntax.Syntax, outcome: Outcome) -> Formula:
        for part in summands(tree):
            if isinstance(part.tree, syntax.Literal) and isinstance(part.tree.value, float):
                self.constant(part.tree, part.sign)
            elif part.sign == "-":
                self.terms = without(self.terms, expand(part.tree, self.text))
            elif isinstance(part.tree, syntax.Call):
                self.call(part.tree)
            else:
                self.terms.extend(expand(part.tree, self.text))
        terms = ordered(self.terms)
        refuse_both(terms, self.fixed, self.text)
        formula = Formula(
            text=self.text,
            outcome=outcome,
            intercept=self.intercept,
            terms=terms,
            fixed=tuple(self.fixed),
            members=tuple(self.members),
            nestings=tuple(self.nestings),
            strata=self.strata,
            strata_at=self.strata_at,
            offset=tuple(self.offset),
        )
        _refuse_means_of_one(formula)
        _check_roles(formula)
        _check_smooths(formula)
        return formula

    def constant(self, tree: syntax.Literal, sign: str) -> None:
        if tree.value not in (0.0, 1.0):
            self.reader.fail(
                f"A number among the predictors must be 0, 1 or -1, not {tree.value:g}.",
                tree,
                "For a known part of the linear predictor write offset(x) or fix(x, value).",
            )
        self.intercept = (tree.value == 1.0) == (sign == "+")

    def call(self, tree: syntax.Call) -> None:
        match tree.function:
            case "mm":
                self.members.append(read_member_block(tree, self.text))
            case "hm":
                self.nestings.append(read_nesting_block(tree, self.text))
            case "fix":
                self.fixed.append(read_fix(tree, self.text))
            case "offset":
                self.offset.append(_expression(self.only_argument(tree), self.reader))
            case "strata":
                self.read_strata(tree)
            case _:
                self.terms.extend(expand(tree, self.text))

    def only_argument(self, tree: syntax.Call) -> syntax.Syntax:
        if len(tree.arguments) != 1 or tree.arguments[0].keyword is not None:
            self.reader.fail(f"`{tree.function}()` needs exactly one argument.", tree)
        return tree.arguments[0].value

    def read_strata(self, tree: syntax.Call) -> None:
        if self.strata:
            self.reader.fail("`strata()` is given twice.", tree, "Write strata(a, b).")
        if not tree.arguments or any(a.keyword is not None for a in tree.arguments):
            self.reader.fail("`strata()` must contain columns.", tree, "Write strata(a, b).")
        found = []
        for argument in tree.arguments:
            column = argument.value
            if not isinstance(column, syntax.Name):
                self.reader.fail(
                    "`strata()` must contain columns, not expressions.",
                    column,
                    "Add a column with the strata to the table.",
                )
            found.append(column.name)
        self.strata = tuple(dict.fromkeys(found))
        self.strata_at = tree.span.start


def _refuse_means_of_one(formula: Formula) -> None:
    """Raise `FormulaError` for `within =` the groups of `mm()` outside of it."""
    groups = {block.group for block in formula.members}
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    for nest in formula.nestings:
        terms += [*(nest.terms or ()), *(f.term for f in nest.fixed)]
    atoms = [*formula.outcome.parts, *formula.offset, *(a for t in terms for a in t.atoms)]
    for node in (n for atom in atoms for n in walk(atom.expression)):
        if isinstance(node, TableCall) and (node.own_group or node.within in groups):
            raise FormulaError(
                f"`{describe(node)}` is outside mm(), where a group has only one value. The "
                "difference from the mean of the group is therefore always 0.",
                formula.text,
                node.position,
                len(node.function),
                "Centre member covariates within groups, in vars() or in the weight function of "
                "mm(); outside, write center(x), or within = the id of larger units.",
            )


def _check_roles(formula: Formula) -> None:
    """Raise `FormulaError` for `cor = NAME` of one `mm()` alone, or with the name of a block."""
    names = [block.roles for block in formula.members]
    own = {block.name for block in formula.members}
    for block in formula.members:
        if block.roles is None:
            continue
        if names.count(block.roles) < 2:
            others = sorted({f"`{n}`" for n in names if n not in (None, block.roles)})
            raise FormulaError(
                f"`cor = {block.roles}` is in only one mm() term, so there are no other effects "
                "with which its effects could correlate."
                + f" Other names in the formula: {', '.join(others)}."
                * bool(others),
                formula.text,
                block.position,
                2,
                f"Write `cor = {block.roles}` in each mm() term whose effects of a member are "
                "correlated, or leave it out.",
            )
        if block.roles in own:
            raise FormulaError(
                f"`cor = {block.roles}` and `name = {block.roles}` have the same name.",
                formula.text,
                block.position,
                2,
                "Both become parts of parameter names: cor_l1_NAME, sigma_l1_NAME. Choose another "
                "name for one of them.",
            )


def _check_smooths(formula: Formula) -> None:
    """Raise `FormulaError` for `s(x)` in an interaction, in `mm()` or in `hm()`."""
    inside = [t for b in formula.members for t in (*b.terms, *b.slopes)]
    inside += [t for nest in formula.nestings for t in nest.terms or ()]
    products = [t for t in (*formula.terms, *inside) if len(t.atoms) > 1]
    for term in (*products, *inside):
        smooth = next((a for a in term.atoms if isinstance(a.basis, Smooth)), None)
        if smooth is None:
            continue
        if len(term.atoms) > 1:
            problem = f"`{smooth.label}` is in an interaction, where it is not available."
            hint = "For a curve that differs between categories use ns(x, 3) in the interaction."
        else:
            problem = f"`{smooth.label}` is in mm() or hm(), where it is not available."
            hint = (
                "A smooth function must be a summand of the formula, of a column that is the same "
                "in all rows of a group. For covariates of members use ns(x, 3) or poly(x, 2)."
            )
        raise FormulaError(problem, formula.text, term.position, 1, hint)


# -- columns ---------------------------------------------------------------------------------


def columns_of(formula: Formula) -> tuple[str, ...]:
    """Every data column that a formula uses, once, outcome first.

    `n` of weight functions is counted, not read, and is not among them.
    """
    found: list[str] = [c for part in formula.outcome.parts for c in leaf_columns(part.expression)]
    found += _columns_of_terms(formula.terms, formula.fixed)
    for block in formula.members:
        found += [block.member, block.group]
        found += _columns_of_terms((*block.terms, *block.slopes), block.fixed)
        found += [c for f in block.features if f.atom for c in leaf_columns(f.atom.expression)]
        found += block.weight.columns
        found += [block.time_column] if block.time_column is not None else []
    for nesting in formula.nestings:
        found.append(nesting.unit)
        found += [nesting.label_column] if nesting.label_column is not None else []
        found += _columns_of_terms(nesting.terms or (), nesting.fixed)
    found += formula.strata
    found += [c for atom in formula.offset for c in leaf_columns(atom.expression)]
    found += formula.sigma.columns if formula.sigma is not None else ()
    found += [formula.observation_weights] if formula.observation_weights else []
    return tuple(dict.fromkeys(found))


def id_columns(formula: Formula) -> frozenset[str]:
    """Columns whose values are names: ids of members, groups and nesting units, strata, labels.

    Parameters
    ----------
    formula : Formula
    """
    found = {c for block in formula.members for c in (block.member, block.group)}
    for nesting in formula.nestings:
        found |= {nesting.unit, nesting.label_column or nesting.unit}
    found |= set(formula.strata)
    return frozenset(found | _factor_columns(formula))


def _factor_columns(formula: Formula) -> set[str]:
    """Columns that stand in `factor()` or `within =` alone, so that their values are names."""
    terms = [*formula.terms, *(f.term for f in formula.fixed)]
    for block in formula.members:
        terms += [*block.terms, *block.slopes, *(f.term for f in block.fixed)]
    for nesting in formula.nestings:
        terms += [*(nesting.terms or ()), *(f.term for f in nesting.fixed)]
    terms += formula.sigma.terms if formula.sigma is not None else ()
    atoms = [atom for term in terms for atom in term.atoms]
    others = [*(a for a in atoms if not isinstance(a.basis, Categories)), *formula.outcome.parts]
    expressions = [a.expression for a in (*others, *formula.offset)]
    expressions += [block.weight.expression for block in formula.members]
    numbers = {c for e in expressions for c in value_columns(e)}
    expressions += [a.expression for a in atoms]
    return {c for e in expressions for c in leaf_columns(e)} - numbers


def _columns_of_terms(terms: Iterable[Term], fixed: Iterable[FixedTerm]) -> list[str]:
    every = [*terms, *(item.term for item in fixed)]
    return [c for term in every for atom in term.atoms for c in leaf_columns(atom.expression)]


def check_columns(formula: Formula, available: Collection[str]) -> None:
    """Raise `FormulaError`, with a caret and close matches, for a column the data lack.

    Parameters
    ----------
    formula : Formula
    available : collection of str
        Names of the table's columns.
    """
    texts = dict.fromkeys(columns_of(replace(formula, sigma=None)), formula.text)
    if formula.sigma is not None:
        texts = dict.fromkeys(formula.sigma.columns, formula.sigma.text) | texts
    for column, text in texts.items():
        if column not in available:
            _unknown_column(column, text, list(map(str, available)))


def _unknown_column(column: str, text: str, available: list[str]) -> NoReturn:
    # A column reads as a name that is neither called nor a keyword.
    tokens = syntax.tokens(text)
    places = [
        (token.position, len(token.text))
        for token, following in pairwise(tokens)
        if token.kind in ("name", "quoted", "string")
        and token.text.strip("`\"'") == column
        and following.text not in ("(", "=")
    ]
    position, length = places[0] if places else (None, 1)
    folded = [name for name in available if name.lower() == column.lower()]
    hints = [did_you_mean(column, folded or available, most=3).strip()]
    if column == "n":
        hints.append(
            "In weight functions and in the formula of sigma, and only there, `n` is the number of "
            "members of the group. Elsewhere `n` must be a column."
        )
    shown = ", ".join(available[:30]) + (", ..." if len(available) > 30 else "")
    hints.append(f"The columns of the table are: {shown}.")
    raise FormulaError(
        f"The table has no column `{column}`.",
        text,
        position,
        length,
        " ".join(filter(None, hints)),
    )
