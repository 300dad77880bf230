"""Formulas, weights and priors: any text gets an answer or a message, and soon."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import rmm
from rmm.design.prepare import prepare
from rmm.formula.parse_formula import check_columns, columns_of, parse_formula
from rmm.formula.prior_syntax import read_priors
from rmm.formula.weights.render import stan_definitions
from rmm.formula.weights.weight_function import (
    Parameter,
    describe,
    parse_weights,
    walk,
)
from tests.coalitions import made_up_coalitions
from tests.fuzzing import (
    FEW,
    MANY,
    SECONDS,
    cpu_seconds,
    formula_texts,
    hostile_texts,
    only_messages,
    prior_texts,
    weight_texts,
)
from tests.weight_texts import render_jags, render_stan

#: The fast tests look at a few examples, `make fuzz` at many.
EXAMPLES = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=pytest.mark.fuzz)], ids=["few", "many"]
)
FAMILIES = ("gaussian", "binomial", "weibull", "cox", "condlogit")
START = np.array([0, 1, 3, 6])
COLUMNS = {name: np.array([0.5, -1.0, 2.0, 0.0, 3.0, 3.0]) for name in ("x", "s", "y", "z", "q")}


@functools.cache
def table():
    return made_up_coalitions(groups=24, members=12)


def parsed(parse: Callable[[Any], Any], text: Any) -> Any:
    """What a parser gives, within a second of CPU time whether it is a message or not.

    What took longer is tried again: now and then Python tidies up in the middle of it.
    """
    started = time.process_time()
    try:
        return parse(text)
    finally:
        if time.process_time() - started >= SECONDS:
            assert cpu_seconds(lambda: parse(text)) < SECONDS


def read_formula(text: str) -> None:
    """All that is done with a formula before data, and with a small table."""
    formula = parsed(parse_formula, text)
    assert formula.text == text
    columns_of(formula)
    for family in FAMILIES:
        for backend in ("jags", "stan"):
            try:
                program = rmm.program(text, family, backend)
            except rmm.RmmError:
                continue
            assert re.sub(r"//.*", "", program).isascii()  # names are ours, comments the user's
            assert all(c.isprintable() or c == "\n" for c in program)
    check_columns(formula, list(table().columns))
    prepare(text, table())


def read_weights(text: str) -> None:
    """Values, canonical text and both programs of a weight function."""
    function = parsed(parse_weights, text)
    values = dict.fromkeys(function.parameters, 0.3)
    again = parse_weights(describe(function.expression)) if function.dialect != "offset" else None
    if again is not None:
        assert describe(again.expression) == describe(function.expression)
    for name in function.parameters:
        function.multiplier(name)
        function.with_fixed(name, 1.0)
    assert render_jags(function).isascii()
    assert render_stan(function).isascii()
    stan_definitions(function.expression)
    assert all(
        n.name in function.parameters for n in walk(function.expression) if isinstance(n, Parameter)
    )
    if set(function.columns) <= set(COLUMNS):
        function.weights(COLUMNS, START, values)


MODEL = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s))), RE=TRUE) + hm(id=cid)"


def read_all_priors(priors: object) -> None:
    """Priors by themselves, and as those of a model."""
    parsed(read_priors, priors)
    prepare(MODEL, table(), priors=priors)


@pytest.mark.thorough
@EXAMPLES
def test_formulas(examples: int) -> None:
    only_messages(hostile_texts(formula_texts), read_formula, examples, seconds=10.0)


@EXAMPLES
def test_weights(examples: int) -> None:
    only_messages(hostile_texts(weight_texts), read_weights, examples, seconds=5.0)


@EXAMPLES
def test_priors(examples: int) -> None:
    text = hostile_texts(prior_texts)
    values = st.one_of(
        text, st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**5000)
    )
    priors = st.one_of(
        text, st.lists(text, max_size=3), st.dictionaries(text, values, max_size=3), values
    )
    only_messages(priors, read_all_priors, examples, seconds=5.0)


# -- time against length ---------------------------------------------------------------------


def balanced(parts: list[str], operator: str = "+") -> str:
    """A sum in parentheses that is as shallow as can be."""
    middle = len(parts) // 2
    if not middle:
        return parts[0]
    left, right = balanced(parts[:middle], operator), balanced(parts[middle:], operator)
    return f"({left}{operator}{right})"


def some(count: int, text: str) -> list[str]:
    return [text.format(i) for i in range(count)]


#: Texts of the largest sizes that are allowed, and somewhat above, in shapes that could take long.
FORMULAS = {
    "sum": "y ~ " + "+".join(some(3000, "a{}")),
    "difference": "y ~ " + "+".join(some(500, "a{}")) + "-" + "-".join(some(500, "a{}")),
    "products": f"y ~ ({'+'.join(some(900, 'a{}'))}):({'+'.join(some(900, 'b{}x'))})",
    "powers": "y ~ " + "+".join(["(a+b+c+d+e+f+g+h+i)^9"] * 200),
    "expression": f"y ~ I({balanced(['z'] * 4000)})",
    "blocks": "y ~ " + "+".join(some(500, "mm(id(p,g),RE=TRUE,name=p{})")),
    "name": "y ~ " + "a" * 19_000,
    "blanks": "y ~ " + " " * 19_000 + "z z",
    "digits": "y ~ " + "9" * 19_000,
    "backquotes": "y ~ " + "`" * 19_000,
    "parentheses": "y ~ " + "(" * 19_000,
}
WEIGHTS = {
    "rounding": "round(" * 40 + "x" + ")" * 40,
    "rounding of all kinds": "floor(round(ceiling(" * 12 + "x" + ")))" * 12,
    "parameters": "+".join(some(198, "(b{}*x)")),
    "shallow parameters": balanced(some(149, "b{}*x")),
    "columns": balanced(some(300, "c{}")),
    "exponents": "exp(-(" * 30 + "x" + "))" * 30,
    "comparisons": "(" * 90 + "x" + "<x)" * 90,
    "logistic": "1/(1+(n-1)*exp(-(" * 15 + "x" + ")))" * 15,
}
PRIORS = {
    "blanks": "b_w[" + " " * 1900 + "~",
    "brackets": "b_w[" + "] " * 900 + "~",
    "tildes": "b_w[" + "]~" * 900,
    "too long": "b_w[" + " " * 100_000,
    "lines": "b_w ~ normal(0, 1)\n" * 3000,
    "digits": "b_w[1] <- " + "9" * 1900,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_long_formulas_take_no_time(name: str) -> None:
    assert cpu_seconds(lambda: parse_formula(FORMULAS[name])) < SECONDS


@pytest.mark.parametrize("name", WEIGHTS)
def test_long_weights_take_no_time(name: str) -> None:
    """Programs, too: JAGS's text of a rounding repeats its argument seven times."""
    assert cpu_seconds(lambda: read_weights(WEIGHTS[name])) < SECONDS


@pytest.mark.parametrize("name", PRIORS)
def test_long_priors_take_no_time(name: str) -> None:
    assert cpu_seconds(lambda: read_priors(PRIORS[name])) < SECONDS


def test_time_grows_with_the_length_of_a_sum() -> None:
    """Ten times the terms take about ten times as long; a quadratic reader took a hundred times."""

    def seconds(count: int) -> float:
        text = "y ~ " + "+".join(some(count, "a{}"))
        return min(cpu_seconds(lambda: columns_of(parse_formula(text))) for _ in range(5))

    assert seconds(1000) < 40 * seconds(100) + 0.01


def test_rounding_may_be_nested_twice() -> None:
    read_weights("2 + abs(round(floor(x))) + round(x)^2")
    with pytest.raises(rmm.FormulaError, match="nested more than 2"):
        parse_weights("round(floor(ceiling(x)))")
