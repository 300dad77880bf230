"""Tokens of Stan programs: what the hash ignores, and positions in messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from rmm.backends.stan.compile import program_key
from rmm.backends.stan.program_text import moved_positions, tokens
from tests import ROOT

GOLDEN = sorted(ROOT.glob("tests/golden/stan/*.txt"))
GOLDEN += sorted(ROOT.glob("tests/golden/families/*stan.txt"))


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("a = 1; // one", "a = 1;", True),
        ("a = 1;  \n", "a = 1;", True),
        ("a = 1; /* one\n */", "a = 1;", True),
        ("a = 1; /* // */ b;", "a = 1; b;", True),
        ("a = 1; // /*\nb;", "a = 1; b;", True),
        ("a=1;", "a =\n\n  1 ;", True),
        ("x .* y", "x.*y", True),
        ("f(-1e-3)", "f( - 1e-3 )", True),
        ("1e-3", "1e -3", False),
        ("x <= y", "x < = y", False),
        ("x .* y", "x . * y", False),
        ("real a;", "reala;", False),
        ("a b", "a/**/b", True),
        ("ab", "a/**/b", False),
        ("1 .* x", "1.* x", False),  # 1. times x
        ("a = 2;", "a = 1;", False),
        ('print("// one");', 'print("// two");', False),
        ('print("/* one */");', 'print("");', False),
        ('print("a b");', 'print("a  b");', False),
        ('print("a", "b");', 'print("a","b");', True),
        ("x' * y", "x'*y", True),
        ("#include a.stan\nreal x;", "#include a.stan real x;", False),
        ("#include a.stan // why\nreal x;", "#include b.stan // why\nreal x;", False),
    ],
)
def test_only_tokens_matter_to_the_key(text: str, other: str, same: bool) -> None:
    assert (program_key(f"x;\n{text}\ny;") == program_key(f"x;\n{other}\ny;")) is same


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_tokens_are_all_that_is_not_comment_or_blank(path: Path) -> None:
    text = path.read_text()
    words = tokens(text)
    assert all(text[word.start : word.end] == word.text for word in words)
    code = "".join(line.partition("//")[0] for line in text.splitlines())  # no strings with //
    assert "".join(word.text for word in words) == "".join(code.split())
    bare = " ".join(word.text for word in words)
    assert program_key(bare) == program_key(text)
    assert program_key(bare.replace(" 0 ", " 1 ")) != program_key(text)


COMPILED = "model {\n  // why\n  a ~ normal(0,\n    s);\n}\n"
OTHER = "model { a ~\n\n normal(0, s); }"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Scale is 0 (in 'program.stan', line 3, column 2 to line 4, column 7)",
            "Scale is 0 (in 'program.stan', line 1, column 8 to line 3, column 14)",
        ),
        (
            "(in 'program.stan', line 4, column 4 to column 5)",
            "(in 'program.stan', line 3, column 11 to column 12)",
        ),
        ("(in 'p q', line 3, column 2)", "(in 'p q', line 1, column 8)"),
        ("(in 'program.stan', line 2, column 3)", "(in 'program.stan', line 2, column 3)"),
        ("line 3, column 2 of data.json", "line 3, column 2 of data.json"),
    ],
)
def test_positions_in_messages_are_those_of_the_users_text(message: str, expected: str) -> None:
    assert moved_positions(COMPILED, OTHER)(message) == expected
    assert moved_positions(COMPILED, COMPILED)(message) == message
    there_and_back = moved_positions(OTHER, COMPILED)(expected)
    assert there_and_back == message
