"""Tokenizer and parser: precedence as in R, spans, and errors with a caret."""

import pytest

from rmm.errors import FormulaError
from rmm.formula.parser import Call, Infix, Literal, Name, Prefix, parse, source, walk


def shape(node):
    """The tree as nested tuples."""
    match node:
        case Name():
            return node.name
        case Literal():
            return node.value
        case Prefix():
            return (node.operator, shape(node.operand))
        case Infix():
            return (node.operator, shape(node.left), shape(node.right))
    return (node.function, *((a.keyword, shape(a.value)) for a in node.arguments))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a - b - c", ("-", ("-", "a", "b"), "c")),
        ("a + b * c", ("+", "a", ("*", "b", "c"))),
        ("a ^ b ^ c", ("^", "a", ("^", "b", "c"))),
        ("a ** 2", ("^", "a", 2.0)),
        ("-a^2", ("-", ("^", "a", 2.0))),
        ("2^-1", ("^", 2.0, ("-", 1.0))),
        ("-a:b", (":", ("-", "a"), "b")),
        ("-a * b", ("*", ("-", "a"), "b")),
        ("a:b * c", ("*", (":", "a", "b"), "c")),
        ("a + b == c", ("==", ("+", "a", "b"), "c")),
        ("y ~ a + b", ("~", "y", ("+", "a", "b"))),
        ("(a + b) * c", ("*", ("+", "a", "b"), "c")),
        ("f(a, c = TRUE, v = NULL)", ("f", (None, "a"), ("c", True), ("v", None))),
        ("sim.y + .x + `my col`", ("+", ("+", "sim.y", ".x"), "my col")),
        ("1L + .5 + 2. + 1e-3", ("+", ("+", ("+", 1.0, 0.5), 2.0), 1e-3)),
        ("f()", ("f",)),
        ("größe\n + 'text'", ("+", "größe", "text")),
    ],
)
def test_precedence_and_spelling(text, expected):
    assert shape(parse(text)) == expected


def test_spans_give_back_the_source():
    text = "y ~ f(a,  b) + ((c - d))"
    found = {source(text, node) for node in walk(parse(text))}
    assert {"y", "f(a,  b)", "a", "b", "((c - d))", text} <= found


def test_quoted_names_are_marked():
    assert parse("`b1`") == Name("b1", quoted=True)
    assert parse("b1") == Name("b1")


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("", "empty", None),
        ("   ", "empty", None),
        ("f(x, c=TRUE", r"`\(` is never closed", 1),
        ("a * (b + (c)", r"`\(` is never closed", 4),
        ("a)", r"`\)` has no `\(` before it", 1),
        ("a b", "`b` cannot follow here", 2),
        ("a +", "ends after `\\+`", 2),
        ("f(,)", "`,` cannot be used after", 2),
        ("a == b == c", "cannot follow each other", 7),
        ("a $ b", "'\\$' cannot be used in a formula", 2),
        ("(1 | g)", r"mm\(id\(member, group\), \.\.\.\)", 3),
        ("'x", "a string that does not end: the line has no second '", 0),
        ("`x", "backquoted name", 0),
        ("1e999", "too large", 0),
        ("f(x=)", "`\\)` cannot be used after", 4),
        ("a = b", "`=` cannot follow here", 2),
    ],
)
def test_errors_point_at_the_place(text, message, position):
    with pytest.raises(FormulaError, match=message) as caught:
        parse(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    "text",
    ["(" * 150 + "x" + ")" * 150, "-" * 5000 + "x", "f(" * 3000, "a^" * 4000 + "a"],
)
def test_deep_nesting_is_refused_without_recursion_error(text):
    with pytest.raises(FormulaError, match="nested more than 100"):
        parse(text)


def test_long_texts_are_refused_and_long_sums_are_not():
    with pytest.raises(FormulaError, match="at most 20,000"):
        parse("a" * 20_001)
    assert sum(1 for _ in walk(parse("+".join(["a"] * 9000)))) == 17_999


def test_only_text_is_parsed():
    with pytest.raises(FormulaError, match="must be text, not int"):
        parse(3)  # type: ignore[arg-type]


def test_the_caret_stands_below_the_place_in_long_lines():
    with pytest.raises(FormulaError, match="cannot be used in a formula") as caught:
        parse("a + " * 100 + "a $ b" + " + c" * 100)
    _, line, carets, *_ = str(caught.value).splitlines()
    assert line[carets.index("^")] == "$"
    assert len(line) < 120


def test_calls_are_trees_of_arguments():
    tree = parse("mm(id(a, b), RE = TRUE)")
    assert isinstance(tree, Call)
    assert [a.keyword for a in tree.arguments] == [None, "RE"]
