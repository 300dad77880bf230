"""Searching for input that is not answered by a message: strategies, and the rule for answers.

Texts are made from a grammar, so that they reach deep code, and then cut, doubled and spliced.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import rmm

#: Examples in the fast tests, and in `make fuzz`.
FEW, MANY = 200, 10_000
#: CPU seconds that any one text may take, and characters that a message may have.
SECONDS, MESSAGE_LENGTH = 1.0, 4000
SEED = int(os.environ.get("FUZZ_SEED", "1"))


class TooSlow(Exception):
    """An input took more CPU time than `SECONDS`."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Break off with `TooSlow` after so many CPU seconds of this process."""

    def stop(number: int, frame: Any) -> None:
        raise TooSlow(f"more than {seconds} s of CPU time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def cpu_seconds(act: Callable[[], Any]) -> float:
    """CPU time of one call, messages included."""
    started = time.process_time()
    with suppress(rmm.RmmError):
        act()
    return time.process_time() - started


def only_messages(
    strategy: SearchStrategy[Any],
    act: Callable[[Any], Any],
    examples: int,
    seconds: float = SECONDS,
) -> None:
    """Fail if `act` of any example raises anything but an `RmmError`, or takes too long."""

    @seed(SEED)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def run(value: Any) -> None:
        with warnings.catch_warnings(), at_most(seconds):
            warnings.simplefilter("ignore")
            try:
                act(value)
            except rmm.RmmError as error:
                message = str(error)
        if "message" in locals():
            assert message.strip(), "an empty message"
            assert len(message) <= MESSAGE_LENGTH, f"a message of {len(message)} characters"

    try:
        run()
    except Exception:  # noqa: BLE001  workers of pytest can tell each other ASCII only
        said = traceback.format_exc(limit=-4)
        raise AssertionError(said.encode("ascii", "backslashreplace").decode()) from None


# -- texts -----------------------------------------------------------------------------------

HOSTILE = (
    "", " ", "\t", "\n", "\r", "\x00", "\x0b", "\x1b[2J", "\u2028", "\u202e", "\ufeff", "\ud800",
    "'", '"', "`", "\\", "{", "}", "{0}", "{{", "%s", "$(id)", "`id`", ";", "//", "/*", "*/", "#",
    "__import__('os').system('id')", "}\nmodel { y ~ normal(0, 1); }", "<script>alert(1)</script>",
    "=1+1", "../..", "ж", "größe", "𝔵", "²", "١", "ﬁ", "e\u0301",
    "0x10", "1e999", "-1e999", "1e-999",
    "9" * 400, "1_000", "nan", "inf", "NaN", "Inf", "TRUE", "NULL", "T", "b" + "9" * 5000, "b01",
    "lambda", "model", "data", "target", "T(0,)", "x" * 3000, "(" * 99, "[" * 300,
)  # fmt: skip
_NAMES = (
    "y", "x", "z", "s", "q", "pid", "gid", "cid", "dec", "region", "lead", "n", "b", "b0", "b1",
    "b2", "w", "missing_column", "`x`", "`my col`", "`}{`", "`größe`", "ж", ".x", "x.y", "T", "F",
    "TRUE", "NULL", '"x"', "'x'", "`b1`", "`n`", "model", "lambda",
)  # fmt: skip
_NUMBERS = ("0", "1", "2", "-1", "0.5", "1e3", "1e-300", "1e300", "1L", ".5", "11", "1e999")
_INFIX = ("+", "-", "*", "/", "^", "**", ":", "==", "!=", "<", "<=", ">", ">=", "~", ",", "=")
_FUNCTIONS = (
    "exp", "log", "sqrt", "pow", "ilogit", "round", "floor", "abs", "min", "max", "mean", "sd",
    "quantile", "median", "mode", "first", "offset", "I", "fix", "strata", "variance", "herfindahl",
    "softmax", "threshold", "entropy", "id", "vars", "fn", "mm", "hm", "mmc", "mmw", "re", "Surv",
    "cbind", "unknown", "center", "scale", "factor", "C", "poly", "ns", "c", "centre",
)  # fmt: skip

names = st.sampled_from(_NAMES)
numbers = st.sampled_from(_NUMBERS)


def _calls(inner: SearchStrategy[str]) -> SearchStrategy[str]:
    arguments = st.lists(inner, max_size=3).map(", ".join)
    return st.builds("{}({})".format, st.sampled_from(_FUNCTIONS), arguments)


def _grown(inner: SearchStrategy[str]) -> SearchStrategy[str]:
    return st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(_INFIX), inner),
        st.builds("{}{}".format, st.sampled_from(("-", "+", "~")), inner),
        st.builds("({})".format, inner),
        _calls(inner),
    )


#: Expressions of anything, most of them without meaning.
expressions = st.recursive(st.one_of(names, numbers), _grown, max_leaves=12)

#: Expressions that mostly mean something: data, numbers and weight coefficients.
_arithmetic = st.recursive(
    st.sampled_from(("x", "s", "n", "b0", "b1", "b2", "1", "2", "0.5", "max(x)", "sd(s)",
                     "quantile(x, 0.9)", "center(x, within = group)", "center(s, within = q)")),
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(("+", "-", "*", "/", "^", "<", "==")),
                  inner),
        st.builds("({})".format, inner),
        st.builds("-{}".format, inner),
        st.builds("{}({})".format, st.sampled_from(("exp", "log", "sqrt", "ilogit", "round",
                                                    "offset", "abs", "center", "scale")), inner),
    ),
    max_leaves=10,
)  # fmt: skip
_canonical = st.builds(
    "{}".format,
    st.sampled_from(
        (
            "1/n",
            "1/n^exp(-(b0 + b1*x))",
            "1/(1 + (n - 1)*exp(-(b1*s)))",
            "1/offset(n)^exp(-x)",
            "x/sum(x)",
            "b1*x",
            "ilogit(b0 + b1*s - log(n-1))",
            "exp(b1*(x - mean(x)))",
            "1/(1 + (n - 1)*exp(-(b1*center(s))))",
            "exp(b1*scale(x))",
        )
    ),
)
weight_texts = st.one_of(
    _canonical, _arithmetic, expressions, st.builds("w ~ {}".format, _arithmetic)
)

_sums = st.lists(st.one_of(names, expressions), min_size=1, max_size=4).map(" + ".join)
_effects = st.sampled_from(
    ("TRUE", "FALSE", "T", "re(1 + x)", "re(0 + x + s, cor = TRUE)", "re()", "NULL", "1")
)
_member_parts = st.one_of(
    st.builds("vars({})".format, _sums),
    st.builds("mmc({})".format, _sums),
    st.builds("vars = vars({})".format, _sums),
    st.builds(
        "fn(w ~ {}, c = {})".format,
        st.one_of(_canonical, _arithmetic),
        st.sampled_from(("TRUE", "FALSE", "1", "2", "3", "NULL", "x")),
    ),
    st.builds("fn(w ~ {})".format, st.one_of(_canonical, _arithmetic)),
    st.builds("RE = {}".format, _effects),
    st.builds(
        "ar = {}".format,
        st.sampled_from(("TRUE", "FALSE", "dec", "1", "ar1(dec)", "ar1()", "ar1(1)", "ar(dec)")),
    ),
    st.builds("cov = {}".format, st.sampled_from(("A", "NULL", "TRUE", "1"))),
    st.builds("name = {}".format, names),
    expressions,
)
_member_blocks = st.builds(
    "mm(id({}, {}){})".format,
    st.sampled_from(("pid", "pid", "cid", "x", "1")),
    st.sampled_from(("gid", "gid", "pid", "missing_column")),
    st.lists(_member_parts, max_size=4).map(lambda parts: "".join(f", {p}" for p in parts)),
)
_nesting_blocks = st.builds(
    "hm({}{})".format,
    st.sampled_from(("id = cid", "cid", "id(cid)", "region", "dec")),
    st.lists(
        st.one_of(
            st.builds("type = {}".format, st.sampled_from(("RE", "FE", "XX"))),
            st.builds("vars = vars({})".format, _sums),
            st.builds("showFE = {}".format, st.sampled_from(("TRUE", "F", "x"))),
            st.builds("name = {}".format, names),
            st.builds("block = {}".format, names),
        ),
        max_size=3,
    ).map(lambda parts: "".join(f", {p}" for p in parts)),
)
_outcomes = st.sampled_from(
    (
        "y",
        "y",
        "y",
        "Surv(y, lead)",
        "Surv(y, lead, z)",
        "cbind(lead, n)",
        "log(y)",
        "I(y^2)",
        "1",
        "",
        "Surv(y)",
        "y ~ y",
    )
)
_plain_terms = st.sampled_from(
    ("1", "0", "z", "q", "region", "z*q", "I(z^2)", "log(abs(z))", "z:region", "(z + q)^2", "-1",
     "fix(q, 0.5)", "offset(z)", "dec", "- z", "`z`", "exp(z)", "I(z > 0)", "scale(z)",
     "center(z)*q", "factor(dec)", "poly(z, 2)", "ns(z, 3)", "region:dec", "region:factor(q > 0)",
     "center(z, within = cid)", 'C(region, base = "north")', "scale(log(abs(z)))",
     "poly(z, 2, raw = TRUE)", "s(z, k = 4)")
)  # fmt: skip
_plain_variables = st.lists(
    st.sampled_from(("x", "s", "lead", "x*s", "I(x^2)", "fix(s, 1)", "variance(x)", "softmax(x)",
                     "herfindahl()", "threshold(x, 0.5)", "log(abs(x))", "x:lead",
                     "center(x, within = group)", "scale(x)*s",
                     "factor(lead)", "poly(s, 3)", "ns(s, knots = 0)", "center(x, within = pid)")),
    min_size=1, max_size=3,
).map(" + ".join)  # fmt: skip
_plain_parts = st.one_of(
    st.builds("vars({})".format, _plain_variables),
    st.builds("fn(w ~ {})".format, st.one_of(_canonical, _arithmetic)),
    st.builds("fn(w ~ {}, c = {})".format, _canonical, st.sampled_from(("TRUE", "FALSE", "2"))),
    st.builds("RE = {}".format, st.sampled_from(("TRUE", "re(1 + x)", "re(1 + s, cor = TRUE)"))),
    st.sampled_from(("ar = TRUE", "ar = dec", "ar = ar1(dec)", "name = party")),
)
_plain_blocks = st.one_of(
    st.lists(_plain_parts, min_size=1, max_size=3, unique_by=lambda part: part[:2]).map(
        lambda parts: f"mm(id(pid, gid), {', '.join(parts)})"
    ),
    st.sampled_from(
        (
            "hm(cid)",
            "hm(id = cid, type = FE)",
            "hm(id = dec, vars = vars(q))",
            "hm(id = cid, name = cname, showFE = TRUE, type = FE)",
        )
    ),
)
#: Formulas most of which fit the made-up coalitions.
plain_formulas = st.builds(
    "{} ~ {}".format,
    st.sampled_from(("y", "y", "y", "log(abs(y))", "Surv(abs(y), n)")),
    st.lists(st.one_of(_plain_terms, _plain_terms, _plain_blocks), min_size=1, max_size=5).map(
        " + ".join
    ),
)
formula_texts = plain_formulas | st.builds(
    "{} ~ {}".format,
    _outcomes,
    st.lists(
        st.one_of(
            names,
            numbers,
            expressions,
            _member_blocks,
            _nesting_blocks,
            st.builds("fix({}, {})".format, names, numbers),
            st.builds("offset({})".format, _arithmetic),
            st.builds("strata({})".format, names),
            st.builds("({} + {}) ^ {}".format, names, names, numbers),
        ),
        min_size=1,
        max_size=5,
    ).map(" + ".join),
)

_families = ("normal", "student_t", "half_normal", "half_t", "half_cauchy", "exponential", "gamma",
             "uniform", "beta", "dbeta", "dnorm", "dt", "dunif", "dexp", "dgamma", "dscaled.gamma",
             "fixed", "nothing")  # fmt: skip
prior_texts = st.one_of(
    st.builds(
        "{}{}{}{}({}){}".format,
        st.sampled_from(("b_l1", "b.l1", "b_l2", "b_w", "b.w", "sigma_l1", "tau.l1", "tau.l2",
                         "b_l3", "u_l1", "shape", "zi", "b_f", "b_w_2", "alpha")),
        st.sampled_from(("", "", "[1]", "[x]", "[ 2 ]", "[b1]", "[Intercept]", "[²]", "[9]", "[]",
                         "[" + "9" * 5000 + "]", "[I(x^2)]", "[a[b]]")),
        st.sampled_from((" ~ ", "~", " <- ", "=")),
        st.sampled_from(_families),
        st.lists(st.sampled_from((*_NUMBERS, "-2", "1e308", "5e-324", "x", "")), max_size=4)
        .map(", ".join),
        st.sampled_from(("", "", "T(0,)", "I(0, )", "T(1,2)", " T ( 0 , ) ", ";")),
    ),
    st.builds("{} <- {}".format, st.sampled_from(("b_w[1]", "tau.l1", "b_l1[x]", "sigma_l2",
                                                  "b_l2", "b_l2[1]", "u_l3", "b_f[1]")), numbers),
    st.sampled_from(("weakly_informative", "rmm", "vague")),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, texts: SearchStrategy[str]) -> str:
    """A text with pieces cut, doubled, repeated, replaced, and taken from another one."""
    text = draw(texts)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = text[start:end]
        match draw(st.sampled_from(("cut", "insert", "repeat", "splice", "many"))):
            case "cut":
                text = text[:start] + text[end:]
            case "insert":
                text = text[:start] + draw(st.sampled_from(HOSTILE)) + text[start:]
            case "repeat":
                text = text[:start] + piece * draw(st.integers(2, 40)) + text[end:]
            case "many":
                text = text[:start] + piece * draw(st.sampled_from((300, 1000, 3000))) + text[end:]
            case _:
                other = draw(texts)
                text = text[:start] + other[min(start, len(other)) :]
    return text


def hostile_texts(texts: SearchStrategy[str]) -> SearchStrategy[str]:
    """Texts of a grammar as they are and mutated, and now and then any text."""
    anything = st.text(max_size=80) | st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join)
    return st.one_of(texts, texts, texts, mutated(texts), mutated(texts), anything)
