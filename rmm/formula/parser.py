"""R-like expressions: text -> syntax tree, with the place of every node for carets.

A tokenizer and a Pratt parser (Pratt 1973, "Top down operator precedence"), shared by formulas
and weight functions. It knows spelling and precedence only; what a name or a call means is
decided by its callers. Nothing here evaluates user text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NoReturn

from rmm.errors import FormulaError

MAX_LENGTH = 20_000  # characters: longer texts are mistakes
MAX_NESTING = 100  # parentheses, calls and prefix operators: Python's own stack is not the limit


@dataclass(frozen=True)
class Span:
    """Where a node stands: `position` for a caret, `start:end` for its text."""

    position: int
    start: int
    end: int
    depth: int = 1  # height of the tree, so that callers can refuse what they cannot recurse into


_NOWHERE = Span(0, 0, 0)


@dataclass(frozen=True)
class Name:
    """A name; `quoted` when written in backquotes."""

    name: str
    quoted: bool = False
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Literal:
    """A number (float), a string (str), TRUE / FALSE (bool) or NULL (None)."""

    value: float | str | bool | None
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Argument:
    """An argument of a call; `keyword` is None for a positional one."""

    keyword: str | None
    value: Syntax
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Call:
    """`function(arguments)`."""

    function: str
    arguments: tuple[Argument, ...]
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Prefix:
    """A prefix operator: ``-``, ``+`` or ``~``."""

    operator: str
    operand: Syntax
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Infix:
    """An infix operator."""

    operator: str
    left: Syntax
    right: Syntax
    span: Span = field(default=_NOWHERE, compare=False)


type Syntax = Name | Literal | Call | Prefix | Infix


@dataclass(frozen=True)
class Token:
    """A piece of text: kind is number, name, quoted, string, operator or end."""

    kind: str
    text: str
    position: int

    @property
    def end(self) -> int:
        """Offset after the token."""
        return self.position + len(self.text)


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?L?)
      | (?P<name>(?:[^\W\d_]|\.(?![0-9]))[\w.]*)
      | (?P<quoted>`[^`\n]+`)
      | (?P<string>"[^"\n]*"|'[^'\n]*')
      | (?P<operator>\*\*|==|!=|<=|>=|[-~+*/^:<>(),=])
    """,
    re.VERBOSE,
)

# Binding powers as in R's ?Syntax, loosest first.
_INFIX: dict[str, int] = {"~": 10}
_INFIX |= dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 20)
_INFIX |= {"+": 30, "-": 30, "*": 40, "/": 40, ":": 50, "^": 70}
_PREFIX: dict[str, int] = {"~": 10, "-": 60, "+": 60}
_LITERALS: dict[str, bool | None] = {"TRUE": True, "FALSE": False, "NULL": None}
OPERATORS = "~ + - * / ^ : == != < <= > >="


def parse(text: str) -> Syntax:
    """Syntax tree of an expression or formula.

    Parameters
    ----------
    text : str
        At most `MAX_LENGTH` characters, nested at most `MAX_NESTING` deep.

    Raises
    ------
    FormulaError
        If it is not one whole expression; with a caret under the place.
    """
    if not isinstance(text, str):
        raise FormulaError(
            f"A formula must be text, not {type(text).__name__}.", hint='Write it in quotes: "..."'
        )
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"The formula has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed."
        )
    return _Parser(text).whole()


def source(text: str, node: Syntax) -> str:
    """The text of a node as written."""
    return text[node.span.start : node.span.end]


def children(node: Syntax) -> tuple[Syntax, ...]:
    """Direct parts of a node."""
    match node:
        case Call():
            return tuple(argument.value for argument in node.arguments)
        case Prefix():
            return (node.operand,)
        case Infix():
            return (node.left, node.right)
    return ()


def walk(node: Syntax) -> Iterator[Syntax]:
    """Every node, from left to right; iterative, because sums may be long."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))


def tokens(text: str) -> list[Token]:
    """Tokens of a text, ended by one of kind ``end``."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            _bad_character(text, at)
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    found.append(Token("end", "", len(text.rstrip())))
    return found


def _bad_character(text: str, at: int) -> NoReturn:
    character = text[at]
    if character in "\"'`":
        kind = "backquoted name" if character == "`" else "string"
        raise FormulaError(
            f"This {character} starts a {kind} that does not end: the line has no second "
            f"{character}.",
            text,
            at,
        )
    if character == "|":
        raise FormulaError(
            "Random effects cannot be written with `|`.",
            text,
            at,
            hint="For effects of members write mm(id(member, group), ...); for effects of nesting "
            "units, such as countries, write hm(id = unit).",
        )
    if character == "%":
        raise FormulaError(
            "Operators with `%`, such as %in% and %%, are not available.",
            text,
            at,
            hint="For b nested in a write a + a:b. For several values of x write I((x == 1) + (x "
            "== 2)).",
        )
    raise FormulaError(
        f"The character {character!r} cannot be used in a formula.",
        text,
        at,
        hint=f"Allowed: names, numbers, texts in quotes, ( ) , = and the operators {OPERATORS}. "
        "Write the name of a column with other characters in backquotes: `my column`.",
    )


class _Parser:
    """One pass over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.at = 0
        self.nesting = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def advance(self) -> Token:
        token = self.token
        self.at += token.kind != "end"
        return token

    def fail(self, problem: str, token: Token, hint: str | None = None) -> NoReturn:
        raise FormulaError(problem, self.text, token.position, len(token.text), hint)

    def whole(self) -> Syntax:
        if self.token.kind == "end":
            raise FormulaError("The formula is empty.", hint="Write, for example, y ~ 1 + x.")
        node = self.expression(0)
        token = self.token
        if token.text == ")":
            self.fail("This `)` has no `(` before it.", token)
        if token.kind != "end":
            self.fail(
                f"{_shown(token)} cannot follow here.",
                token,
                f"An operator ({OPERATORS}) or the end of the formula must follow.",
            )
        return node

    def expression(self, power: int) -> Syntax:
        """An expression whose operators bind tighter than `power`."""
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            self.fail(f"The formula is nested more than {MAX_NESTING} levels deep.", self.token)
        left = self.operand()
        while self.token.kind == "operator":
            token = self.token
            operator = "^" if token.text == "**" else token.text
            binding = _INFIX.get(operator)
            if binding is None or binding <= power:
                break
            self.advance()
            # `^` is right-associative: its right side may hold another `^`.
            right = self.expression(binding - 1 if operator == "^" else binding)
            depth = 1 + max(left.span.depth, right.span.depth)
            span = Span(token.position, left.span.start, right.span.end, depth)
            left = Infix(operator, left, right, span)
            if binding == 20 and _INFIX.get(self.token.text) == 20:
                self.fail(
                    "Two comparisons cannot follow each other.", self.token, "Use parentheses."
                )
        self.nesting -= 1
        return left

    def operand(self) -> Syntax:
        token = self.advance()
        span = Span(token.position, token.position, token.end)
        if token.kind == "number":
            return Literal(self.number(token), span)
        if token.kind == "string":
            return Literal(token.text[1:-1], span)
        if token.kind == "quoted":
            return Name(token.text[1:-1], True, span)
        if token.kind == "name":
            if self.token.text == "(":
                return self.call(token)
            if token.text in _LITERALS:
                return Literal(_LITERALS[token.text], span)
            return Name(token.text, False, span)
        if token.text == "(":
            return self.parenthesis(token)
        if token.text in _PREFIX:
            inner = self.expression(_PREFIX[token.text])
            end, depth = inner.span.end, inner.span.depth + 1
            return Prefix(token.text, inner, Span(token.position, token.position, end, depth))
        return self.nothing(token)

    def nothing(self, token: Token) -> NoReturn:
        before = self.tokens[self.at - 2] if self.at > 1 else None
        if token.kind == "end":
            last = self.tokens[-2]
            if last.text == "(":
                self.fail("This `(` is never closed.", last)
            self.fail(f"The formula ends after {_shown(last)}, but something must follow.", last)
        after = f" after {_shown(before)}" if before is not None else ""
        self.fail(
            f"{_shown(token)} cannot be used{after or ' here'}.",
            token,
            "A name, a number, a function or `(` must be here.",
        )

    def number(self, token: Token) -> float:
        value = float(token.text.removesuffix("L"))
        if value == float("inf"):
            self.fail(f"The number {token.text} is too large.", token)
        return value

    def parenthesis(self, opening: Token) -> Syntax:
        inner = self.expression(0)
        closing = self.close(opening)
        span = replace(inner.span, start=opening.position, end=closing.end)
        return replace(inner, span=span)

    def close(self, opening: Token) -> Token:
        if self.token.text == ")" and self.token.kind == "operator":
            return self.advance()
        if self.token.kind == "end":
            self.fail("This `(` is never closed.", opening)
        self.fail(
            f"{_shown(self.token)} cannot follow here.",
            self.token,
            "An operator, `,` or `)` must follow.",
        )

    def call(self, name: Token) -> Syntax:
        opening = self.advance()
        arguments: list[Argument] = []
        if self.token.text != ")":
            arguments.append(self.argument())
            while self.token.text == "," and self.token.kind == "operator":
                self.advance()
                arguments.append(self.argument())
        closing = self.close(opening)
        depth = 1 + max((a.span.depth for a in arguments), default=0)
        span = Span(name.position, name.position, closing.end, depth)
        return Call(name.text, tuple(arguments), span)

    def argument(self) -> Argument:
        token, following = self.token, self.tokens[min(self.at + 1, len(self.tokens) - 1)]
        keyword = None
        if token.kind == "name" and following.text == "=":
            keyword = token.text
            self.at += 2
        value = self.expression(0)
        span = Span(token.position, token.position, value.span.end, value.span.depth)
        return Argument(keyword, value, span)


def _shown(token: Token) -> str:
    return "end of the formula" if token.kind == "end" else f"`{token.text}`"
