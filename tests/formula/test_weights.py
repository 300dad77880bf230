"""The weight language: parsing, numbers, and texts for JAGS and Stan."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from rmm.errors import FormulaError
from rmm.formula.expression import LogisticSize, leaf_columns
from rmm.formula.functions import AGGREGATES, FUNCTIONS
from rmm.formula.weights.evaluate import evaluate, normalise
from rmm.formula.weights.render import stan_definitions
from rmm.formula.weights.weight_function import (
    Column,
    Parameter,
    describe,
    parse_weights,
)
from tests import SHARED
from tests.stan_function_table import VALUES, cases, stan_program
from tests.weight_texts import render_jags, render_stan

START = np.array([0, 1, 3, 6])
SIZE = np.array([1.0, 2, 2, 3, 3, 3])
X = np.array([0.5, -1.0, 2.0, 0.0, 3.0, 3.0])
DATA = SHARED / "data"

ROSCHE = "w ~ 1/n^exp(-(b0 + b1*x))"
LOGISTIC = "w ~ 1/(1 + (n - 1)*exp(-(b0 + b1*x)))"


# -- what is read ----------------------------------------------------------------------------


def test_explicit_dialect():
    weight = parse_weights("w ~ 1/n^exp(-(b0 + b10*x + b2*pseat.sq))")
    assert weight.parameters == ("b0", "b2", "b10")
    assert weight.columns == ("x", "pseat.sq")
    assert weight.text == "1/n^exp(-(b0 + b10*x + b2*pseat.sq))"
    assert (weight.constraint, weight.dialect, weight.estimated) == ("group", "explicit", True)
    assert weight.uses_size


def test_offset_dialect_gives_every_bare_column_a_coefficient_in_order():
    weight = parse_weights("w ~ 1/offset(n)^exp(-(x1 + offset(z) + x2 + max(x1) + x1))")
    assert describe(weight.expression) == (
        "1/n^exp(-(b1 * x1 + z + b2 * x2 + b3 * max(x1) + b1 * x1))"
    )
    assert (weight.constraint, weight.dialect) == ("total", "offset")
    assert weight.parameters == ("b1", "b2", "b3")


def test_the_two_dialects_mean_the_same():
    offset = parse_weights("w ~ 1/offset(n)^exp(-(x1 + x2))")
    explicit = parse_weights("w ~ 1/n^exp(-(b1*x1 + b2*x2))", constraint=2)
    assert offset.expression == explicit.expression
    assert offset.constraint == explicit.constraint


@pytest.mark.parametrize(
    ("text", "constraint", "expected"),
    [
        ("1/n", None, "group"),
        ("1/offset(n)", None, "group"),
        ("1/offset(n)^x", None, "total"),
        ("1/offset(n)^x", 1, "group"),
        ("1/n", 2, "total"),
        ("1/n", True, "group"),
        ("1/n", False, "none"),
        ("1/n", "none", "none"),
    ],
)
def test_constraints(text, constraint, expected):
    assert parse_weights(text, constraint=constraint).constraint == expected


def test_a_number_in_quotes_is_refused():
    with pytest.raises(FormulaError, match=r"is the text '2'. Write the number without quotes: 2"):
        parse_weights("1/n", constraint="2")


@pytest.mark.parametrize("value", [0, 3, "two", 1.5, np.nan])
def test_other_constraints_are_refused(value):
    with pytest.raises(
        FormulaError, match=rf"`c` in fn\(\) cannot be (the text )?{value!r}\.\nAllowed: 1, TRUE"
    ):
        parse_weights("1/n", constraint=value)


@pytest.mark.parametrize(
    "text",
    [
        "1/(1 + (n - 1)*exp(-(b0 + b1*x)))",
        "1/((n-1)*exp(-(b0 + b1*x)) + 1)",
        "1/(1 + exp(-(b0 + b1*x))*(n - 1))",
        "1/(exp(-b0 - b1*x)*(n - 1) + 1)",
        "1/(1 + (n - 1)/exp(b0 + b1*x))",
        "(1 + (-1 + n)*exp(-(b0 + b1*x)))^-1",
        "ilogit(b0 + b1*x - log(n - 1))",
        "ilogit((b0 + b1*x) - log(n - 1))",
    ],
)
def test_spellings_of_the_canonical_logistic_form(text):
    assert parse_weights(text).expression == parse_weights(LOGISTIC).expression
    assert isinstance(parse_weights(text).expression, LogisticSize)


@pytest.mark.parametrize(
    "text",
    [
        "1/(1 + n*exp(-b1*x))",
        "2/(1 + (n-1)*exp(-b1*x))",
        "1/(2 + (n-1)*exp(-b1*x))",
        "1/(1+(n-1)*b1*x)",
    ],
)
def test_other_forms_are_left_alone(text):
    assert not isinstance(parse_weights(text).expression, LogisticSize)


@pytest.mark.parametrize(
    ("text", "message", "pointed"),
    [
        ("1/m(n)", "`m\\(\\)` is not an available function", "m"),
        ("lgo(x)", "Did you mean `log`", "lgo"),
        ("max(min(x))", "cannot be nested", "min"),
        ("max(b1*x)", "`b1` cannot be inside `max\\(\\)`", "b1"),
        ("exp(x, y)", "has 2 arguments, but needs 1", "exp"),
        ("pow(x)", "has 1 argument, but needs 2", "pow"),
        ("max(x, y)", "has 2 arguments, but needs 1", "max"),
        ("quantile(x, 2)", "must be from 0 to 1", "2"),
        ("quantile(x)", "needs 2", "quantile"),
        ("exp(x = 3)", "has no argument `x =`", "exp"),
        ("b1*x + offset(z)", "cannot be used together", "b1"),
        ("x:y", "cannot be used in an arithmetic", ":"),
        ("x + 'text'", "A number or a column was expected", "'"),
        ("x + TRUE", "A number or a column was expected", "TRUE"),
        ("w + v ~ x", "left side of a weight function must be a name", "w"),
        ("w ~ (x ~ y)", "cannot be used in an arithmetic", "~ y"),
    ],
)
def test_errors_point_at_the_place(text, message, pointed):
    with pytest.raises(FormulaError, match=message) as caught:
        parse_weights(text)
    assert text[caught.value.position :].startswith(pointed)
    assert "^" in str(caught.value).splitlines()[2]


def test_an_unknown_function_lists_what_is_allowed():
    with pytest.raises(FormulaError, match=r"Allowed: exp, log, .* Group aggregates: min, max"):
        parse_weights("foo(x)")


def test_long_chains_are_refused_without_recursion_error():
    with pytest.raises(FormulaError, match="more than 200 operations"):
        parse_weights("+".join(["x"] * 5000))
    assert leaf_columns(parse_weights("+".join(["x"] * 150)).expression) == ("x",)


# -- inputs and slopes -----------------------------------------------------------------------


def test_inputs_are_distinct_identifiers_of_columns_and_aggregates():
    weight = parse_weights(
        "b1*pseat + pseat.sq + pseat_sq + max(pseat) + `for` + `b1` + `2x` + max(pseat)"
    )
    assert [name for name, _ in weight.inputs] == [
        "x_pseat",
        "x_pseat_sq",
        "x_pseat_sq_2",
        "x_max_pseat",
        "x_for",
        "x_b1",
        "x_2x",
    ]
    assert weight.inputs[0][1] == Column("pseat")


@pytest.mark.parametrize(
    "name",
    ["n", "w", "model", "in", "lower", "T", "exp", "naïve", "ж", "a b", "_", "ab__", "data", "b_w"],
)
def test_any_column_name_becomes_a_valid_identifier(name):
    ((identifier, leaf),) = parse_weights(f"`{name}`*b1").inputs
    assert leaf == Column(name)
    assert identifier.isascii()
    assert identifier.isidentifier()
    assert identifier.startswith("x_")
    assert "__" not in identifier and not identifier.endswith("_")


@pytest.mark.parametrize(
    ("text", "slope"),
    [
        ("b1*x", "x"),
        ("1/n^exp(-(b0 + x*b1))", "x"),
        ("1/n^exp(-(b0 + b1*x/2*z))", "x/2 * z"),
        ("b1*max(x)", "max(x)"),
        ("exp(-b1*(x - y))", "x - y"),
        ("exp(-(b1*x))", "x"),
        (LOGISTIC, "x"),
        ("b0 + b1", None),
        ("b0*b1", None),
        ("x/b1", None),
        ("b1*x + b1*y", None),
        ("b1*x/(1 + b1*x)", "x"),
        ("x^b1", "log(x)"),
        ("pow(x, 2*b1)", "2 * log(x)"),
        ("1/n^b1", "log(n)"),
        ("b1^x", None),
    ],
)
def test_multiplier(text, slope):
    found = parse_weights(text).multiplier("b1")
    assert (None if found is None else describe(found)) == slope


def test_fixing_a_parameter():
    weight = parse_weights(LOGISTIC).with_fixed("b0", -1.0)
    assert weight.parameters == ("b1",)
    by_hand = parse_weights("1/(1 + (n-1)*exp(-(-1 + b1*x)))")
    b1 = {"b1": 0.3}
    assert np.array_equal(weight.raw({"x": X}, START, b1), by_hand.raw({"x": X}, START, b1))
    assert "(-1.0)" in render_jags(weight)


# -- numbers ---------------------------------------------------------------------------------


def test_aggregates():
    expected = {
        "min": [0.5, -1, -1, 0, 0, 0],
        "max": [0.5, 2, 2, 3, 3, 3],
        "mean": [0.5, 0.5, 0.5, 2, 2, 2],
        "sum": [0.5, 1, 1, 6, 6, 6],
        "sd": [0, *[math.sqrt(4.5)] * 2, *[math.sqrt(3)] * 3],
        "var": [0, 4.5, 4.5, 3, 3, 3],
        "first": [0.5, -1, -1, 0, 0, 0],
        "last": [0.5, 2, 2, 3, 3, 3],
        "median": [0.5, 0.5, 0.5, 3, 3, 3],
        "mode": [0.5, -1, -1, 3, 3, 3],
        "range": [0, 3, 3, 3, 3, 3],
        "quantile": [0.5, *[-0.25] * 2, *[1.5] * 3],
    }
    assert set(expected) == set(AGGREGATES)
    for name, values in expected.items():
        call = f"{name}(x, 0.25)" if name == "quantile" else f"{name}(x)"
        node = parse_weights(call).expression
        np.testing.assert_allclose(evaluate(node, {"x": X}, START), values, rtol=1e-14)


def test_every_function_against_the_standard_library():
    references = {
        "ilogit": lambda x: 1 / (1 + math.exp(-x)),
        "logit": lambda p: math.log(p / (1 - p)),
        "iprobit": lambda x: 0.5 * math.erfc(-x / math.sqrt(2)),
        "icloglog": lambda x: 1 - math.exp(-math.exp(x)),
        "cloglog": lambda p: math.log(-math.log(1 - p)),
        "abs": abs,
        "ceiling": math.ceil,
        "round": round,
        "pow": lambda x: x**1.7,
    }
    from statistics import NormalDist

    references["probit"] = NormalDist().inv_cdf
    for name, function in FUNCTIONS.items():
        reference = references.get(name) or getattr(math, name)
        x = np.array(function.domain)
        second = (1.7,) * (function.arity - 1)
        found = function.numpy(x, *second)
        np.testing.assert_allclose(found, [reference(v) for v in x], rtol=1e-9, err_msg=name)


def test_draws_of_parameters_broadcast_on_the_left():
    weight = parse_weights(ROSCHE)
    b0, b1 = np.array([0.0, 1.0, -2.0])[:, None], np.array([0.5, 0.0, 1.0])[:, None]
    many = weight.weights({"x": X}, START, {"b0": b0, "b1": b1})
    assert many.shape == (3, 6)
    for draw in range(3):
        one = weight.weights({"x": X}, START, {"b0": b0[draw, 0], "b1": b1[draw, 0]})
        np.testing.assert_array_equal(many[draw], one)
    constant = parse_weights("b0").raw({}, START, {"b0": b0})
    assert constant.shape == (3, 6)


def test_constraints_sum_to_what_they_say():
    raw = np.array([[3.0, 1, 2, 5, 1, 1], [1, 1, 1, 1, 2, 3]])
    group = normalise(raw, "group", START)
    np.testing.assert_allclose(np.add.reduceat(group, START[:-1], axis=-1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(normalise(raw, "total", START).sum(axis=-1), 3.0, rtol=1e-15)
    np.testing.assert_array_equal(normalise(raw, "none", START), raw)
    with pytest.raises(ValueError, match="constraint must be one of"):
        normalise(raw, "mean", START)


def test_normalising_keeps_digits_beside_huge_groups():
    """Differences of one cumulative sum would give 0 here (peers, bug 16)."""
    raw = np.array([1e17, 1e17, 1.0, 3.0])
    assert normalise(raw, "group", np.array([0, 2, 4])).tolist() == [0.5, 0.5, 0.25, 0.75]


def test_even_powers_of_negative_columns_are_positive():
    """Peers, bug 15."""
    node = parse_weights("x^2 + pow(x, 2)").expression
    np.testing.assert_array_equal(evaluate(node, {"x": X}, START), 2 * X * X)


def test_weights_of_a_group_whose_raw_weights_all_underflow():
    """1/n^exp(8) is 0 in double precision; the proportions within the group are not."""
    weight = parse_weights("1/n^exp(-(b0 + b1*x))")
    given_ = {"b0": np.array([[-8.0], [0.5]]), "b1": 0.0001}
    assert (weight.raw({"x": X}, START, given_)[0, 1:] == 0).all()
    found = weight.weights({"x": X}, START, given_)
    logs = -np.exp(-(-8.0 + 0.0001 * X)) * np.log(SIZE)
    ratio = np.exp(logs[2] - logs[1])
    np.testing.assert_allclose(found[0, 2] / found[0, 1], ratio, rtol=1e-9)
    np.testing.assert_allclose(np.add.reduceat(found, START[:-1], axis=-1), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(
        found[1], weight.weights({"x": X}, START, {"b0": 0.5, "b1": 0.0001})
    )


def test_empty_groups_are_refused():
    with pytest.raises(ValueError, match="every group has at least one row"):
        evaluate(parse_weights("1/n").expression, {}, np.array([0, 2, 2]))


etas = st.floats(-1000, 1000)


@settings(max_examples=200, derandomize=True)
@given(text=st.sampled_from([ROSCHE, LOGISTIC]), b0=etas, b1=st.floats(-50, 50))
def test_canonical_weights_are_proportions_without_nan(text, b0, b1):
    raw = parse_weights(text).raw({"x": X}, START, {"b0": b0, "b1": b1})
    assert np.isfinite(raw).all()
    assert (raw >= 0).all()
    assert (raw <= 1).all()
    assert raw[0] == 1.0  # a group of one
    if abs(b0) < 6 and abs(b1) < 1:
        assert (raw[1:] > 0).all()
        assert (raw[1:] < 1).all()


@pytest.mark.parametrize("text", [ROSCHE, LOGISTIC])
def test_canonical_weights_are_equal_at_zero(text):
    raw = parse_weights(text).raw({"x": X}, START, {"b0": 0.0, "b1": 0.0})
    np.testing.assert_allclose(raw, 1 / SIZE, rtol=1e-15)


@settings(max_examples=100, derandomize=True)
@given(b0=st.floats(-30, 30), b1=st.floats(-5, 5))
def test_logistic_form_agrees_with_its_definition(b0, b1):
    raw = parse_weights(LOGISTIC).raw({"x": X}, START, {"b0": b0, "b1": b1})
    np.testing.assert_allclose(raw, 1 / (1 + (SIZE - 1) * np.exp(-(b0 + b1 * X))), rtol=1e-12)


# Random expressions with their values by hand: (text, values).
_Y = np.array([1.0, 2.0, 0.5, 4.0, 1.5, 0.25])
_LEAVES = [
    ("x", X),
    ("`odd name`", _Y),
    ("n", SIZE),
    ("b1", np.full(6, 0.7)),
    ("max(x)", np.array([0.5, 2, 2, 3, 3, 3])),
]


def _combined(children):
    def binary(parts):
        op, (left, a), (right, b) = parts
        with np.errstate(all="ignore"):
            values = {"+": a + b, "-": a - b, "*": a * b, "/": a / b, "<": (a < b) * 1.0}[op]
        return f"({left}) {op} ({right})", values

    functions = {"exp": np.exp, "sin": np.sin, "ilogit": expit, "abs": np.abs, "tanh": np.tanh}
    return st.one_of(
        st.tuples(st.sampled_from("+-*/<"), children, children).map(binary),
        st.tuples(st.sampled_from(sorted(functions)), children).map(
            lambda p: (f"{p[0]}({p[1][0]})", functions[p[0]](p[1][1]))
        ),
        children.map(lambda p: (f"-({p[0]})", -p[1])),
        children.map(lambda p: (f"({p[0]})^2", p[1] * p[1])),
    )


_numbers = st.integers(0, 9).map(lambda v: (str(v), np.full(6, float(v))))
expressions = st.recursive(st.one_of(st.sampled_from(_LEAVES), _numbers), _combined, max_leaves=8)


@settings(max_examples=300, derandomize=True)
@given(pair=expressions)
def test_evaluation_agrees_with_values_by_hand(pair):
    text, expected = pair
    columns = {"x": X, "odd name": _Y}
    weight = parse_weights(text, constraint=False)
    found = weight.raw(columns, START, {"b1": 0.7})
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-12)
    again = parse_weights(describe(weight.expression))
    assert again.expression == weight.expression


# -- programs --------------------------------------------------------------------------------

GOLDEN = {
    ROSCHE: (
        "1.0 / n[r] ^ exp(-(b_w[1] + b_w[2] * x_x[r]))",
        "1.0 ./ n .^ exp(-(b_w[1] + b_w[2] * x_x))",
    ),
    LOGISTIC: (
        "ilogit(b_w[1] + b_w[2] * x_x[r] - log_n1[r])",
        "inv_logit(b_w[1] + b_w[2] * x_x - log_n1)",
    ),
    "w ~ b1*(x == max(x))": (
        "b_w[1] * (x_x[r] == x_max_x[r])",
        "b_w[1] * rmm_compare(1, x_x, x_max_x)",
    ),
    "w ~ x*b1/2*z/(n*b2)": (
        "x_x[r] * b_w[1] / 2.0 * x_z[r] / (n[r] * b_w[2])",
        "(x_x * b_w[1] / 2.0) .* x_z ./ (n * b_w[2])",
    ),
    "w ~ 1/2 - (b1 - x) - -x^2": (
        "1.0 / 2.0 - (b_w[1] - x_x[r]) - (-(x_x[r] ^ 2.0))",
        "1.0 / 2.0 - (b_w[1] - x_x) - (-(x_x .^ 2.0))",
    ),
    "w ~ exp(b1)": ("exp(b_w[1])", "rep_vector(exp(b_w[1]), M)"),
    "w ~ ilogit(b2*pseat.sq + b1)": (
        "ilogit(b_w[2] * x_pseat_sq[r] + b_w[1])",
        "inv_logit(b_w[2] * x_pseat_sq + b_w[1])",
    ),
}


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_texts(text):
    weight = parse_weights(text)
    assert (render_jags(weight), render_stan(weight)) == GOLDEN[text]


def test_prefix_and_coefficient_of_texts():
    weight = parse_weights(LOGISTIC)
    assert render_jags(weight, "b_w_2", "wx_", "i") == (
        "ilogit(b_w_2[1] + b_w_2[2] * wx_x_x[i] - wx_log_n1[i])"
    )


def test_stan_definitions_only_where_needed():
    assert stan_definitions(parse_weights(LOGISTIC).expression) == ""
    assert "rmm_compare" in stan_definitions(parse_weights("x > b1").expression)
    assert "rmm_round" in stan_definitions(parse_weights("round(b1*x)").expression)


def test_the_table_of_cases_has_every_function():
    found = {case.name.removeprefix("f_") for case in cases()}
    assert set(FUNCTIONS) <= found
    program, data, expected = stan_program()
    assert all(name in program for name in (*data, *expected))
    assert all(np.isfinite(values).all() for values in expected.values())


def test_jags_agrees_with_numpy_on_every_row():
    pyjags = pytest.importorskip("pyjags", reason="JAGS is an extra")
    for module in ("basemod", "bugs"):
        pyjags.load_module(module)
    table = cases()
    lines = [f"for (r in 1:{c.start[-1]}) {{ out_{c.name}[r] <- {c.jags} }}" for c in table]
    text = "model {\n" + "\n".join(lines) + "\nz ~ dnorm(0, 1)\n}"
    data = {"b_w": np.array(VALUES)}
    for case in table:
        data |= {name: values for name, values in case.data.items() if f"{name}[r]" in text}
    model = pyjags.Model(text, data=data, chains=1, adapt=0, progress_bar=False)
    samples = model.sample(1, vars=[f"out_{c.name}" for c in table])
    for case in table:
        found = samples[f"out_{case.name}"][:, 0, 0]
        np.testing.assert_allclose(
            found, case.expected, rtol=1e-12, atol=1e-13, err_msg=f"{case.name}: {case.jags}"
        )


def test_stan_translates_every_row(tmp_path):
    """Syntax and types only; `stan_program` is run where Stan is compiled."""
    import subprocess

    httpstan = pytest.importorskip("httpstan", reason="stanc comes with httpstan")
    stanc = Path(httpstan.__file__).parent / "stanc"
    if not stanc.is_file():
        pytest.skip("this httpstan has no stanc")
    path = tmp_path / "table.stan"
    path.write_text(stan_program()[0])
    command = [str(stanc), str(path), f"--o={tmp_path / 'table.hpp'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- real data -------------------------------------------------------------------------------


def test_rmm_simulated_weights_are_reproduced():
    path = DATA / "coalgov_rmm.parquet"
    if not path.is_file():
        pytest.skip("the shared coalition data are not here")
    import pandas as pd

    frame = pd.read_parquet(path)
    frame = frame.sort_values("gid", kind="stable")
    start = np.r_[0, np.flatnonzero(np.diff(frame["gid"].to_numpy())) + 1, len(frame)]
    for text in (
        "w ~ 1/n^exp(-(b1*pseatrel+b2*hetero+b3*pmpower))",
        "w ~ 1/offset(n)^exp(-(pseatrel+hetero+pmpower))",
    ):
        weight = parse_weights(text, constraint=2)
        columns = {name: frame[name].to_numpy(dtype=float) for name in weight.columns}
        found = weight.weights(columns, start, {"b1": 1.0, "b2": 1.0, "b3": 1.0})
        np.testing.assert_allclose(found, frame["sim.w"].to_numpy(), rtol=0, atol=1e-12)


def test_parameters_are_leaves():
    assert parse_weights("b").expression == Parameter("b")
    assert parse_weights("b + b1 + b0").parameters == ("b", "b0", "b1")
