"""Formulas: both spellings, terms as in R, blocks, errors with a caret, columns."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmm.errors import FormulaError, SpecificationWarning
from rmm.formula.parse_formula import check_columns, columns_of, parse_formula
from rmm.formula.weights.weight_function import Column, describe
from tests import SHARED

DATA = SHARED / "data"
OLD = (
    "Surv(govdur, earlyterm) ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/offset(n), constraint=1))"
    " + majority + hm(id=cid, name=cname, type=RE, showFE=F)"
)
NEW = (
    "Surv(govdur, earlyterm) ~ 1 + majority + mm(id=id(pid, gid), vars=vars(fdep), "
    'fn=fn(w ~ 1/n, c=TRUE), RE=TRUE) + hm(id=id(cid), name=cname, type="RE")'
)


def labels(text):
    return [term.label for term in parse_formula(text).terms]


def block(inside):
    (found,) = parse_formula(f"y ~ 1 + mm(id(p, g){inside})").members
    return found


def unit(inside):
    (found,) = parse_formula(f"y ~ 1 + hm({inside})").nestings
    return found


# -- both spellings --------------------------------------------------------------------------


def test_both_spellings_mean_the_same_model():
    old, new = parse_formula(OLD), parse_formula(NEW)
    for name in ("outcome", "intercept", "terms", "fixed", "nestings", "strata", "offset"):
        assert getattr(old, name) == getattr(new, name), name
    (a,), (b,) = old.members, new.members
    assert (a.member, a.group, a.terms, a.random) == (b.member, b.group, b.terms, b.random)
    assert a.weight.expression == b.weight.expression
    assert a.weight.constraint == b.weight.constraint == "group"
    assert (a.member, a.group) == ("pid", "gid")
    assert old.outcome.kind == "surv"
    assert old.nestings[0].label_column == "cname"


@pytest.mark.parametrize(
    ("inside", "random"),
    [
        ("", True),
        (", vars = NULL", True),
        (", vars(x)", False),
        (", vars(x), RE = TRUE", True),
        (", vars(x), RE = T", True),
        (", vars(x), fn(w ~ 1/n)", False),
        (", mmc(x)", True),
        (", mmc(x), mmw(w ~ 1/n)", True),
        (", mmc(x), RE = F", False),
        (", vars(x), ar = TRUE", True),
    ],
)
def test_when_members_have_random_effects(inside, random):
    assert block(inside).random is random


def test_weights_of_a_block():
    default = block("").weight
    assert (default.text, default.constraint) == ("1/n", "group")
    given_ = block(", fn(w ~ 1/n^exp(-(b1*x)), c = FALSE)").weight
    assert (given_.text, given_.constraint) == ("1/n^exp(-(b1*x))", "none")
    assert block(", mmw(w ~ 1/offset(n)^exp(-x))").weight.constraint == "total"
    assert block(", mmw(w ~ 1/offset(n)^exp(-x), constraint = 1)").weight.constraint == "group"
    assert block(", fn = fn(w ~ 1/n, constraint = 2)").weight.constraint == "total"
    assert block(", fn(w ~ 1/n, c = T)").weight.constraint == "group"
    for word in ("group", "total", "none"):
        assert block(f", fn(w ~ 1/n, c = {word})").weight.constraint == word


def test_variables_of_a_block():
    found = block(", vars(a*b + I(x^2), fix(z, -1/2), fix(a:z, 2))")
    assert [t.label for t in found.terms] == ["a", "b", "I(x^2)", "a:b"]
    assert [(f.term.label, f.value) for f in found.fixed] == [("z", -0.5), ("a:z", 2.0)]
    assert [t.label for t in block(", mmc(a, b)").terms] == ["a", "b"]
    assert block(", vars(a), name = party").name == "party"
    assert block(", vars(a), name = 'party'").name == "party"


def test_autoregressive_effects():
    assert block("").autoregressive is False
    assert block(", ar = TRUE").autoregressive is True
    assert block(", ar = year").autoregressive == "year"
    assert block(", fn(w ~ 1/n, ar = TRUE)").autoregressive is True


def test_several_blocks():
    formula = parse_formula(
        "y ~ x + mm(id(p, g), name = a) + mm(id(q, g), vars(z), name = b) + hm(c) + "
        "hm(id(d), block = e)"
    )
    assert [b.member for b in formula.members] == ["p", "q"]
    assert [b.name for b in formula.members] == ["a", "b"]
    assert [(n.unit, n.name) for n in formula.nestings] == [("c", None), ("d", "e")]


def test_nesting_blocks():
    assert unit("id = cid, type = FE, showFE = TRUE").effect == "FE"
    assert unit("id = cid, type = 'FE', showFE = TRUE").show is True
    assert unit("cid").terms is None
    assert [t.label for t in unit("cid, vars = vars(a, b)").terms] == ["a", "b"]
    with pytest.warns(SpecificationWarning, match="`a` is left out"):
        assert unit("cid, type = FE, vars = vars(a)").terms is None


# -- terms -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ a + b + a", ["a", "b"]),
        ("y ~ a*b", ["a", "b", "a:b"]),
        ("y ~ a:b + c", ["c", "a:b"]),
        ("y ~ a:b + b:a", ["a:b"]),
        ("y ~ a:a", ["a"]),
        ("y ~ a*b - a", ["b", "a:b"]),
        ("y ~ a + b - a + a", ["b", "a"]),
        ("y ~ (a + b)^2", ["a", "b", "a:b"]),
        ("y ~ (a + b)*c", ["a", "b", "c", "a:c", "b:c"]),
        ("y ~ (a + b + c - b):d", ["a:d", "c:d"]),
        ("y ~ a*b*c - a:b:c", ["a", "b", "c", "a:b", "a:c", "b:c"]),
        ("y ~ I(x ^ 2) + log( x )", ["I(x^2)", "log(x)"]),
        ("y ~ I(x>3):a", ["I(x > 3):a"]),
        ("y ~ +a", ["a"]),
        ("y ~ `my col` + sim.y", ["my col", "sim.y"]),
        ("y ~ 1", []),
        ("y ~ n + b1", ["n", "b1"]),
    ],
)
def test_terms_expand_as_in_r(text, expected):
    assert labels(text) == expected


@pytest.mark.parametrize(
    ("text", "intercept"),
    [
        ("y ~ x", True),
        ("y ~ 1 + x", True),
        ("y ~ 0 + x", False),
        ("y ~ x + 0", False),
        ("y ~ x - 1", False),
        ("y ~ -1 + x", False),
        ("y ~ x - 1 + 1", True),
        ("y ~ x - 0", True),
        ("y ~ 0", False),
    ],
)
def test_intercept(text, intercept):
    assert parse_formula(text).intercept is intercept


def test_outcomes():
    assert parse_formula("sim.y ~ 1").outcome.label == "sim.y"
    assert parse_formula("log(y) ~ 1").outcome.label == "log(y)"
    assert parse_formula("Surv(t, e, u) ~ 1").outcome.label == "Surv(t, e, u)"
    assert parse_formula("cbind(a, b) ~ 1").outcome.kind == "cbind"
    assert parse_formula("Surv(t, e == 1) ~ 1").outcome.parts[1].label == "e == 1"


def test_strata_offset_and_fix():
    formula = parse_formula("y ~ x + strata(s) + offset(log(e)) + offset(f) + fix(z, 1e-1)")
    assert formula.strata == ("s",)
    assert [a.label for a in formula.offset] == ["log(e)", "f"]
    assert [(f.term.label, f.value) for f in formula.fixed] == [("z", 0.1)]


def test_expressions_of_terms_hold_columns_only():
    (atom,) = parse_formula("y ~ I(n + b1)").terms[0].atoms
    assert describe(atom.expression) == "n + b1"
    assert [type(p) for p in (atom.expression.left, atom.expression.right)] == [Column, Column]


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "pointed"),
    [
        ("y", "no `~`", "y"),
        ("~ x", "no outcome", "~"),
        ("y ~ x ~ z", "two `~`", "~ z"),
        ("3 ~ x", "must be a column of the data", "3"),
        ("y ~ x^2", r"I\(x\^2\)", "^2"),
        ("y ~ (a + b)^z", "power must be a number from 1 to 10", "^z"),
        ("y ~ a/b", r"I\(a/b\)", "/b"),
        ("y ~ x > 3", r"I\(x > 3\)", "> 3"),
        ("y ~ 2 + x", "must be 0, 1 or -1, not 2", "2"),
        ("y ~ .", "not available", "."),
        ("y ~ TRUE", "must be a predictor", "TRUE"),
        ("y ~ lgo(x)", "Did you mean `log`", "lgo"),
        ("y ~ MM(id(p, g))", "Did you mean `mm`", "MM"),
        ("y ~ max(x)", "only in weight functions", "max"),
        ("y ~ I(max(x))", "only in weight functions", "max"),
        ("y ~ vars(x)", "only inside mm", "vars"),
        ("y ~ I(3)", "contains no column", "I"),
        ("y ~ a:mm(id(p, g))", "cannot be used here", "mm"),
        ("y ~ a - hm(c)", "cannot be used here", "hm"),
        ("y ~ mm(id(p))", "has 1 column. Write id", "id"),
        ("y ~ mm(vars(x))", r"needs id\(member, group\)", "mm"),
        ("y ~ mm(id(p, 3))", "a column", "3"),
        ("y ~ mm(ids(p, g))", "Did you mean `id`", "ids"),
        ("y ~ mm(id(p, g), x)", "cannot be used in mm", "x"),
        ("y ~ mm(id(p, g), re = TRUE)", "no argument `re =`.*Did you mean `RE`", "re"),
        ("y ~ mm(id(p, g), RE = 1)", "TRUE or FALSE", "1"),
        ("y ~ mm(id(p, g), vars(x), mmc(z))", "names of the same argument", "mmc"),
        ("y ~ mm(id(p, g), RE = TRUE, RE = TRUE)", "given twice", "RE = TRUE)"),
        ("y ~ mm(id(p, g), vars(0 + x))", "cannot include an intercept", "0"),
        ("y ~ mm(id(p, g), vars = x)", r"vars = vars\(a, b\)", "x"),
        ("y ~ mm(id(p, g), RE = FALSE)", "adds nothing", "mm"),
        ("y ~ mm(id(p, g), ar = TRUE, RE = FALSE)", "needs random effects", "FALSE"),
        ("y ~ mm(id(p, g), name = 'a b')", "cannot be the name", "'a"),
        ("y ~ mm(id(p, g), fn(1/n))", "must start with `w ~`", "/n"),
        ("y ~ mm(id(p, g), fn(w ~ 1/n, c = 3))", r"`c` in fn\(\) cannot be `3`", "3"),
        (
            "y ~ mm(id(p, g), fn(w ~ 1/n, c = 'none'))",
            r"(?s)`c` in fn\(\) is the text `'none'`, in quotes\. Write it without quotes\..*"
            r"1, TRUE or group .*; 2 or total .*; FALSE or none ",
            "'none",
        ),
        (
            "y ~ mm(id(p, g), fn(w ~ 1/n, c = nne))",
            r"(?s)`c` in fn\(\) cannot be `nne`\..*normalised\)\.$",
            "nne",
        ),
        (
            "y ~ mm(id(p, g), fn(w ~ 1/n, c = 1, constraint = 1))",
            "names of the same argument",
            "constraint",
        ),
        ("y ~ mm(id(p, g), fn(w ~ 1/n, k = 1))", r"fn\(\) has no argument `k =`", "k"),
        ("y ~ mm(id(p, g), fn(w ~ 1/foo(n)))", r"`foo\(\)` is not an available function", "foo"),
        ("y ~ mm(id(p, g), vars(x), w(1/n))", "one formula that starts with `~`", "w(1/n)"),
        ("y ~ mm(id(p, g), vars(x), w = x )", r"must be a call of w\(\)", "x )"),
        ("y ~ mm(id(p, g), w(~ x, scal = T))", "no argument `scal =`. Did you mean `scale`", "w(~"),
        ("y ~ mm(id(p, g), w(~ x, scale = 2))", "must be TRUE or FALSE", "2"),
        ("y ~ mm(id(p, g), w(~ x, scale = T, scale = F))", "`scale` is given twice", "w(~"),
        ("y ~ mm(id(p, g), w(~ x), fn(w ~ x))", "`fn` and `w` are two names", "fn(w"),
        ("y ~ mm(id(p, g), w(~ x), fn('var'))", r"write vars = vars\(variance\(x\)\)", "fn('var"),
        ("y ~ mm(id(p, g), vars(x), fn('cov'))", r"`fn\('cov'\)` is not available", "fn('cov"),
        ("y ~ mm(id(p, g), vars(x), fn('sum', k = 1))", "is not available", "fn('sum"),
        ("y ~ mm(id(p, g), vars(x), FE = fe(1))", "no fixed effects of members", "fe(1)"),
        ("y ~ mm(id(p, g), RE = re(1, ar = year))", "RE = TRUE, ar = year", "year"),
        ("y ~ mm(id(p, g), RE = re(1, ar = T), ar = T)", "given twice", "ar = T)"),
        ("y ~ hm(id(c), RE = re(1 + x))", r"must be TRUE or re\(1\)", "re(1 +"),
        ("y ~ hm(id(c), RE = FALSE)", r"must be TRUE or re\(1\)", "FALSE"),
        ("y ~ hm(id(c), FE = fe(1 + x))", r"must be fe\(1\)", "fe(1 +"),
        ("y ~ hm(id(c), FE = TRUE)", r"must be fe\(1\)", "TRUE"),
        ("y ~ hm(id(c), RE = TRUE, type = FE)", "`type` is given twice", "type = FE"),
        ("y ~ hm(cid, typ = RE)", "Did you mean `type`", "typ"),
        ("y ~ hm(cid, type = XX)", "must be RE or FE", "XX"),
        ("y ~ hm(id(a, b))", "has 2 columns", "id"),
        ("y ~ hm(type = RE)", "needs id", "hm"),
        ("y ~ fix(x)", "a term and a number", "fix"),
        ("y ~ fix(x, z)", "must be a number", "z"),
        ("y ~ fix(x, 1/0)", "must be finite", "/0"),
        ("y ~ fix(a + b, 1)", "one term, but has 2", "+ b"),
        ("y ~ x + fix(x, 2)", "twice, once with a fixed coefficient", "x, 2"),
        ("y ~ strata(a) + strata(b)", "given twice", "strata(b)"),
        ("y ~ strata(3)", "a column", "3"),
        ("y ~ offset(a, b)", "needs exactly one argument", "offset"),
        ("Surv(t) ~ x", "Write Surv", "Surv"),
        ("cbind(a, b, c) ~ x", "Write cbind", "cbind"),
        ("y ~ a*b*c*d*e*f*g*h*i*j*k*l*m*n", "more than 1000 terms", "y"),
    ],
)
def test_errors_point_at_the_place(text, message, pointed):
    with pytest.raises(FormulaError, match=message) as caught:
        parse_formula(text)
    assert text[caught.value.position :].startswith(pointed)
    assert "^" in str(caught.value).splitlines()[2]


def test_an_error_lists_what_is_allowed():
    with pytest.raises(
        FormulaError, match="arguments of mm\\(\\) are: id\\(member, group\\); vars"
    ):
        parse_formula("y ~ mm(id(p, g), wheight = 3)")


def test_long_products_are_refused_and_long_sums_are_not():
    assert len(labels("y ~ " + "+".join(f"x{i}" for i in range(2000)))) == 2000
    with pytest.raises(FormulaError, match="more than 200 variables"):
        parse_formula("y ~ " + ":".join(f"x{i}" for i in range(2000)))


_WORDS_TEXT = """
    y ~ + - * / ^ : ( ) , = == < mm( hm( id( vars( mmc( fn( mmw( w ~ fix( I( offset( strata(
    Surv( cbind( max( exp( quantile( p g x n b1 1 0 2 .5 RE TRUE F NULL type = FE c = vars =
    name = fn = ar = `a b` 'text' " . |
"""
_WORDS = [*_WORDS_TEXT.split(), "\n"]


@pytest.mark.thorough
@settings(max_examples=400, derandomize=True)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join),
        st.lists(st.sampled_from(_WORDS), max_size=25).map(lambda p: "y ~ " + " ".join(p)),
        st.lists(st.sampled_from(_WORDS), max_size=12).map(
            lambda p: "y ~ x + mm(id(p, g), " + " ".join(p) + ")"
        ),
    )
)
@pytest.mark.filterwarnings("ignore::rmm.errors.SpecificationWarning")
def test_any_text_is_read_or_refused_politely(text):
    try:
        formula = parse_formula(text)
    except FormulaError as error:
        assert str(error).strip()
        assert error.position is None or 0 <= error.position <= len(text)
    else:
        assert formula.text == text
        assert all(isinstance(column, str) for column in columns_of(formula))


# -- columns ---------------------------------------------------------------------------------


def test_columns_of_finds_every_role():
    formula = parse_formula(
        "Surv(t, e) ~ a*I(b^2) + fix(c, 1) + offset(log(d)) + strata(s) + mm(id(p, g), vars(m, "
        "fix(f, 1)), fn(w ~ 1/n^exp(-(b1*v + max(u)))), ar = time, RE = TRUE) + hm(h, name = lab, "
        "vars = vars(k))"
    )
    singles = set("teabcdspgmfvuhk")
    assert set(columns_of(formula)) == singles | {"time", "lab"}


def test_unknown_columns_are_pointed_at_with_close_matches():
    formula = parse_formula("y ~ 1 + mm(id(pid, gid), vars(fdpe), RE = TRUE)")
    with pytest.raises(FormulaError, match="Did you mean `fdep`") as caught:
        check_columns(formula, ["y", "pid", "gid", "fdep"])
    assert formula.text[caught.value.position :].startswith("fdpe")
    with pytest.raises(FormulaError, match="Did you mean `Y`"):
        check_columns(formula, ["Y", "pid", "gid", "fdpe"])


def test_a_keyword_is_not_taken_for_a_column():
    formula = parse_formula("y ~ hm(id = cid, name = name)")
    with pytest.raises(FormulaError, match="no column `name`") as caught:
        check_columns(formula, ["y", "cid"])
    assert caught.value.position == formula.text.index("name)")


def test_group_size_is_counted_in_weights_only():
    weights = parse_formula("y ~ mm(id(p, g), fn(w ~ 1/n))")
    check_columns(weights, ["y", "p", "g"])
    assert "n" not in columns_of(weights)
    with pytest.raises(FormulaError, match="and only there, `n` is the number of"):
        check_columns(parse_formula("y ~ n"), ["y"])


def test_real_columns():
    path = DATA / "coalgov_bml.parquet"
    if not path.is_file():
        pytest.skip("the shared coalition data are not here")
    import pyarrow.parquet as pq

    available = pq.read_schema(path).names
    formula = parse_formula(
        "Surv(dur_wkb, event_wkb) ~ 1 + majority + mm(id = id(pid, gid), "
        "vars = vars(finance + rile), fn = fn(w ~ 1/(1 + (n-1)*exp(-(b0 + b1*pseat + b2*prime))), "
        "c = TRUE), RE = TRUE) + "
        "hm(id = id(cid), name = cname, type = 'RE')"
    )
    check_columns(formula, available)
    assert formula.members[0].weight.parameters == ("b0", "b1", "b2")
    with pytest.raises(FormulaError, match="Did you mean `pseat`"):
        check_columns(parse_formula("dur_wkb ~ pseats"), available)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("mm(id(p, g), vars(x), w(~ 1/n), RE = re(1))", "mm(id(p, g), vars(x), RE = TRUE)"),
        ("mm(id(p, g), vars(x), w = w(~ q))", "mm(id(p, g), vars(x), fn(w ~ q, c = TRUE))"),
        (
            "mm(id(p, g), vars(x), w = w(formula = ~ q, scale = F), fn = fn(type = 'sum'))",
            "mm(id(p, g), vars(x), fn(w ~ q, c = FALSE))",
        ),
        ("mm(id(p, g), RE = re(1, ar = TRUE))", "mm(id(p, g), RE = TRUE, ar = TRUE)"),
        ("mm(id(p, g), RE = re(1, ar = FALSE))", "mm(id(p, g), RE = TRUE)"),
        ("hm(id = id(c), RE = re(1))", "hm(id = c)"),
        ("hm(id = id(c), RE = TRUE)", "hm(id = c, type = RE)"),
        ("hm(id(c), FE = fe(1))", "hm(c, type = FE)"),
        (
            "hm(id(c), FE = fe(1, showFE = TRUE), labels = name)",
            "hm(c, type = FE, showFE = TRUE, name = name)",
        ),
    ],
)
def test_the_later_grammar_of_bml_is_read_as_the_same_model(there: str, here: str) -> None:
    def blocks(term: str) -> tuple[object, ...]:
        found = parse_formula(f"y ~ 1 + {term}")
        texts = [replace(b, weight=replace(b.weight, text="")) for b in found.members]
        return *texts, *found.nestings

    one, other = blocks(there), blocks(here)
    assert without_places(repr(one)) == without_places(repr(other))


def without_places(text: str) -> str:
    return re.sub(r"position=\d+", "", text)
