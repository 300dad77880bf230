"""Text of a hypothesis -> a linear combination of parameters, and where it should lie.

``2*b_l2[a] - b_l2[b] > 0.1``, ``b_w[b1] = 0``, ``-0.1 < b_l1[x] < 0.1``. Names are those of
summaries; labels in brackets may hold any characters, so names are found by comparing with the
names of the fit. Nothing here evaluates user text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from rmm.arguments import shortened
from rmm.errors import FormulaError, did_you_mean

MAX_LENGTH = 2_000  # characters
_MOST_DEPTH = 50  # parentheses
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_OPERATOR = re.compile(r"<=|>=|==|!=|[<>=+\-*/()]")
_NAME = re.compile(r"[^\W\d]\w*(?:\[[^\]]*\]?)?")
_COMPARISONS = ("<", "<=", ">", ">=", "=", "==")
_EXAMPLES = 'Write, for example, "b > 0", "b = 0", "a - 2*b < 1" or "-0.1 < b < 0.1".'


@dataclass(frozen=True)
class Statement:
    """A hypothesis.

    Attributes
    ----------
    text : str
    kind : {"direction", "point", "interval"}
    factors : mapping
        Parameter -> its factor in the linear combination; none is 0.
    low, high : float
        Where the combination lies if the hypothesis is true; both are the same for a point.
    """

    text: str
    kind: str
    factors: Mapping[str, float]
    low: float
    high: float


@dataclass(frozen=True)
class _Token:
    kind: str  # number, name, operator or end
    text: str
    position: int


@dataclass(frozen=True)
class _Sum:
    """A constant plus parameters times factors; `at` is where it begins."""

    constant: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict)
    at: int = 0

    def plus(self, other: _Sum, sign: float) -> _Sum:
        factors = dict(self.factors)
        for name, factor in other.factors.items():
            factors[name] = factors.get(name, 0.0) + sign * factor
        return _Sum(self.constant + sign * other.constant, factors, self.at)

    def times(self, number: float) -> _Sum:
        factors = {name: number * factor for name, factor in self.factors.items()}
        return _Sum(number * self.constant, factors, self.at)


def parse_statement(text: str, names: Sequence[str]) -> Statement:
    """The hypothesis of a text.

    Parameters
    ----------
    text : str
    names : sequence of str
        Parameters that it may name.

    Raises
    ------
    FormulaError
        If it is not one; with a caret under the place.
    """
    if not isinstance(text, str):
        raise FormulaError(f"A hypothesis must be text, not {shortened(text)}.", hint=_EXAMPLES)
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"The hypothesis has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed."
        )
    return _Reader(text, names).statement()


class _Reader:
    """One pass over the tokens of one text."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names = text, sorted(names, key=len, reverse=True)
        self.tokens = self._tokens()
        self.at, self.depth = 0, 0

    def fail(self, problem: str, token: _Token, hint: str | None = None) -> NoReturn:
        raise FormulaError(problem, self.text, token.position, len(token.text), hint)

    def _tokens(self) -> list[_Token]:
        found, at = [], 0
        while at < len(self.text):
            if self.text[at].isspace():
                at += 1
                continue
            token = self._token(at)
            found.append(token)
            at += len(token.text)
        return [*found, _Token("end", "", len(self.text.rstrip()))]

    def _token(self, at: int) -> _Token:
        for name in self.names:
            after = self.text[at + len(name) : at + len(name) + 1]
            if self.text.startswith(name, at) and not (after.isalnum() or after in ("_", "[")):
                return _Token("name", name, at)
        for kind, pattern in (("number", _NUMBER), ("operator", _OPERATOR)):
            match = pattern.match(self.text, at)
            if match is not None:
                return _Token(kind, match.group(), at)
        match = _NAME.match(self.text, at)
        if match is not None:
            self._unknown(_Token("name", match.group(), at))
        self.fail(
            f"The character {self.text[at]!r} cannot be used in a hypothesis.",
            _Token("character", self.text[at], at),
            "Allowed: names of summary(), numbers, ( ) + - * / and < <= > >= =.",
        )

    def _unknown(self, token: _Token) -> NoReturn:
        own = [n for n in self.names if n.partition("[")[0] == token.text]
        listed = ", ".join(sorted(own or self.names, key=self.names.index)[:30])
        if own:
            self.fail(f"`{token.text}` is a vector.", token, f"Name one of its elements: {listed}.")
        near = did_you_mean(token.text, self.names)
        self.fail(
            f"`{token.text}` is not a parameter of this fit.{near}", token, f"Allowed: {listed}."
        )

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def advance(self) -> _Token:
        token = self.token
        self.at += token.kind != "end"
        return token

    def statement(self) -> Statement:
        if self.token.kind == "end":
            raise FormulaError("The hypothesis is empty.", hint=_EXAMPLES)
        sides, signs = [self.sum()], []
        while self.token.text in _COMPARISONS:
            signs.append(self.advance())
            sides.append(self.sum())
        token = self.token
        if token.text == "!=":
            self.fail(
                "`!=` is not available.", token, "Write `=`: its Bayes factor is that of the point."
            )
        if token.text == ")":
            self.fail("This `)` has no `(` before it.", token)
        if token.kind != "end":
            self.fail(
                f"`{token.text}` cannot follow here.",
                token,
                "An operator (+ - * / < <= > >= =) or the end must follow.",
            )
        if not signs:
            self.fail("The hypothesis has no comparison.", _Token("end", "", 0), _EXAMPLES)
        if len(signs) > 2:
            self.fail("A hypothesis has at most two comparisons.", signs[2])
        return self._between(sides, signs) if len(signs) == 2 else self._two(sides, signs[0])

    def _two(self, sides: list[_Sum], sign: _Token) -> Statement:
        """``left < right``: parameters go to the left, numbers to the right."""
        whole = sides[0].plus(sides[1], -1.0)
        factors = self._factors(whole)
        value, operator = -whole.constant, sign.text
        if next(iter(factors.values())) < 0:  # the first parameter that is named is positive
            factors = {name: -factor for name, factor in factors.items()}
            value = -value
            operator = operator.translate(str.maketrans("<>", "><"))
        if operator in ("=", "=="):
            return Statement(self.text.strip(), "point", factors, value, value)
        limits = (-math.inf, value) if operator[0] == "<" else (value, math.inf)
        return Statement(self.text.strip(), "direction", factors, *limits)

    def _between(self, sides: list[_Sum], signs: list[_Token]) -> Statement:
        """``number < combination < number``, or both comparisons the other way round."""
        if signs[0].text[0] != signs[1].text[0] or signs[0].text[0] == "=":
            self.fail(
                "An interval needs two comparisons of one direction.",
                signs[1],
                "Write low < parameter < high.",
            )
        for side in (sides[0], sides[2]):
            if side.factors:
                self.fail(
                    "The limits of an interval must be numbers.",
                    _Token("name", self.text[side.at : side.at + 1], side.at),
                    "Write low < parameter < high.",
                )
        factors, shift = self._factors(sides[1]), sides[1].constant
        limits = (sides[0].constant - shift, sides[2].constant - shift)
        low, high = limits if signs[0].text[0] == "<" else limits[::-1]
        if not low < high:
            self.fail(
                f"The interval from {low:g} to {high:g} is empty.", signs[0], "Swap its limits."
            )
        return Statement(self.text.strip(), "interval", factors, low, high)

    def _factors(self, whole: _Sum) -> dict[str, float]:
        found = {name: factor for name, factor in whole.factors.items() if factor != 0}
        if not found:
            self.fail(
                "The hypothesis has no parameter, or all parameters cancel.",
                _Token("end", "", whole.at),
                _EXAMPLES,
            )
        return found

    def sum(self) -> _Sum:
        found = self.product()
        while self.token.text in ("+", "-"):
            sign = -1.0 if self.advance().text == "-" else 1.0
            found = found.plus(self.product(), sign)
        return found

    def product(self) -> _Sum:
        found = self.factor()
        while self.token.text in ("*", "/"):
            operator = self.advance()
            other = self.factor()
            if operator.text == "/":
                if other.factors or other.constant == 0:
                    self.fail("Only division by a number other than 0 is allowed.", operator)
                found = found.times(1 / other.constant)
            elif found.factors and other.factors:
                self.fail(
                    "Two parameters cannot be multiplied: hypotheses are linear.",
                    operator,
                    "For other functions of parameters use the draws: fit.draws['posterior'].",
                )
            elif other.factors:
                found = _Sum(*_parts(other.times(found.constant)), found.at)
            else:
                found = found.times(other.constant)
        return found

    def factor(self) -> _Sum:
        token = self.advance()
        if token.kind == "number":
            value = float(token.text)
            if not math.isfinite(value):
                self.fail(f"The number {token.text} is too large.", token)
            return _Sum(value, {}, token.position)
        if token.kind == "name":
            return _Sum(0.0, {token.text: 1.0}, token.position)
        if token.text in ("-", "+"):
            self._deeper(token)
            inner = self.factor().times(-1.0 if token.text == "-" else 1.0)
            self.depth -= 1
            return _Sum(*_parts(inner), token.position)
        if token.text == "(":
            self._deeper(token)
            inner = self.sum()
            if self.token.text != ")":
                self.fail("This `(` is never closed.", token)
            self.advance()
            self.depth -= 1
            return _Sum(*_parts(inner), token.position)
        if token.kind == "end":
            before = self.tokens[-2]
            self.fail(
                f"The hypothesis ends after `{before.text}`, but something must follow.", before
            )
        self.fail(
            f"`{token.text}` cannot be here.", token, "A parameter, a number or `(` must be here."
        )

    def _deeper(self, token: _Token) -> None:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            self.fail(f"The hypothesis is nested more than {_MOST_DEPTH} levels deep.", token)


def _parts(found: _Sum) -> tuple[float, Mapping[str, float]]:
    return found.constant, found.factors
