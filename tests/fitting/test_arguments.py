"""Calls that are wrong: whatever an argument is, the error is ours and says what to do."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.arguments import meant, readable
from rmm.errors import BackendError, DataError, FormulaError, RmmError
from rmm.families import find_family
from tests.coalitions import made_up_coalitions

FORMULA = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = FALSE)"
TABLE = made_up_coalitions(40, 12)
SIDES = TABLE.assign(side=np.array(["a", "b", "c"])[TABLE.groupby("gid").ngroup() % 3])
TRUTH = {"b_l2[Intercept]": 0.0, "b_l1[x]": 1.0, "sigma_l2": 0.5}
MEMBERSHIP = {"kind": "synthetic", "groups": 20, "members": 10, "size": 2}


class Odd:
    """An object that is nothing that a function takes."""


#: Values that few arguments take; those that one takes are listed in TAKEN.
WRONG = [
    None, True, False, 3, -1, 0, 2.5, float("nan"), "", "nonsense", b"bytes", [], [1], ["a"],
    {}, {"a": 1}, {1: 2}, (), (1, 2), set(), {"a"}, object(), Odd(), Odd, print, np.array([1, 2]),
    np.array(["a"]), pd.DataFrame({"a": [1]}), pd.Series([1.0]), 10**30, 1j, range(3), ...,
    np.float64("inf"), Path("nowhere.csv"),
]  # fmt: skip

FIT = {"backend": "laplace", "seed": 1, "chains": 1, "draws": 20, "ess": 50}
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "fit": (rmm.fit, {"formula": FORMULA, "data": TABLE, **FIT}),
    "fit by choice": (rmm.fit, {"formula": FORMULA, "data": TABLE, **FIT, "backend": "auto"}),
    "program": (rmm.program, {"formula": FORMULA}),
    "program_data": (rmm.program_data, {"formula": FORMULA, "data": TABLE}),
    "simulate": (
        rmm.simulate,
        {
            "formula": FORMULA.replace("pid, gid", "member, group"),
            "parameters": TRUTH,
            "membership": MEMBERSHIP,
            "covariates": {"x": {"level": "member"}},
            "seed": 1,
        },
    ),
    "simulate, categories": (
        rmm.simulate,
        {
            "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = FALSE)",
            "parameters": {"b_l2[b:Intercept]": 0.0, "b_l1[b:x]": 1.0},
            "membership": MEMBERSHIP,
            "covariates": {"x": {"level": "member"}},
            "family": "multinomial",
            "categories": ["a", "b"],
            "seed": 1,
        },
    ),
    "multinomial": (
        rmm.multinomial,
        {"formula": FORMULA.replace("y", "side"), "data": SIDES, **FIT},
    ),
    "load": (rmm.load, {"path": "nowhere.nc"}),
    "compare": (rmm.compare, {"fits": {}}),
    "prior_predictive": (rmm.prior_predictive, {"formula": FORMULA, "data": TABLE, "draws": 20}),
    "to_long": (
        rmm.to_long,
        {
            "table": pd.DataFrame(
                {"g": [1, 2], "a": [1, 2], "b": [3, 1], "s": [1, 2], "t": [3, 4]}
            ),
            "members": ["a", "b"],
            "covariates": {"seats": ["s", "t"]},
            "group": "g",
        },
    ),
    "datasets.load": (rmm.datasets.load, {"name": "coalitions"}),
}


def small_fit() -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        formula = FORMULA.replace("FALSE", "TRUE") + " + hm(id = cid)"
        return rmm.fit(formula, TABLE, **{**FIT, "chains": 2})


def small_multinomial_fit() -> rmm.MultinomialFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        formula = FORMULA.replace("y", "side").replace("FALSE", "TRUE")
        return rmm.multinomial(formula, SIDES, **FIT)


ONE, SEVERAL = small_fit(), small_multinomial_fit()
CALLS |= {
    "compare, two fits": (rmm.compare, {"fits": {"a": ONE, "b": ONE}}),
    "pool": (rmm.pool, {"fits": [ONE, ONE]}),
    "Fit.predict": (ONE.predict, {}),
    "Fit.posterior_predictive": (ONE.posterior_predictive, {}),
    "Fit.loo": (ONE.loo, {}),
    "Fit.conditional_effects": (ONE.conditional_effects, {"variable": "x"}),
    "Fit.check": (ONE.check, {}),
    "Fit.summary": (ONE.summary, {}),
    "Fit.prior_sensitivity": (ONE.prior_sensitivity, {}),
    "Fit.weights": (ONE.weights, {}),
    "Fit.member_effects": (ONE.member_effects, {}),
    "Fit.nesting_effects": (ONE.nesting_effects, {}),
    "MultinomialFit.predict": (SEVERAL.predict, {}),
    "MultinomialFit.summary": (SEVERAL.summary, {}),
    "MultinomialFit.loo": (SEVERAL.loo, {}),
}


def arguments(function: Callable[..., Any]) -> list[str]:
    kinds = inspect.signature(function).parameters.items()
    return [name for name, p in kinds if p.kind is not p.VAR_KEYWORD]


@pytest.mark.parametrize(
    ("call", "argument"), [(c, a) for c, (f, _) in CALLS.items() for a in arguments(f)]
)
def test_a_wrong_value_gets_our_error_or_is_taken(call: str, argument: str) -> None:
    function, right = CALLS[call]
    for value in WRONG:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(**{**right, argument: value})
        except RmmError as error:
            assert str(error)
        except Exception as error:  # noqa: BLE001 (what a user would see)
            pytest.fail(f"{call}({argument}={value!r}): {type(error).__name__}: {error}")


@pytest.mark.parametrize(
    "call",
    [
        lambda: rmm.fit(FORMULA, "Gaussian", data=TABLE, **FIT),
        lambda: rmm.fit(FORMULA, "LINEAR", TABLE, **FIT),
        lambda: rmm.fit(FORMULA, TABLE, "gaussian", **FIT),
        lambda: rmm.fit(FORMULA, family="Gaussian", data=TABLE, **FIT),
        lambda: rmm.fit(FORMULA, find_family("gaussian"), data=TABLE.to_dict("list"), **FIT),
        lambda: rmm.fit(formula=FORMULA, data=TABLE, monitor=True, **FIT),
    ],
)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_family_and_data_in_either_order(call: Callable[[], rmm.Fit]) -> None:
    assert call().summary().equals(rmm.fit(FORMULA, TABLE, "gaussian", **FIT).summary())


def test_programs_take_either_order() -> None:
    wanted = rmm.program(FORMULA, "binomial")
    one = TABLE.assign(y=TABLE["y"] > 0)
    assert rmm.program(FORMULA, "Logit") == wanted
    assert rmm.program(FORMULA, one, family="Binomial") == rmm.program(
        FORMULA, "binomial", data=one
    )
    found = rmm.program_data(FORMULA, "Binomial", one)
    assert np.array_equal(found["y"], rmm.program_data(FORMULA, one, "binomial")["y"])


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Gaussian", "gaussian"),
        ("Linear", "gaussian"),
        ("Binomial", "binomial"),
        ("Logit", "binomial"),
        ("CondLogit", "condlogit"),
        ("conditional logit", "condlogit"),
        ("Weibull", "weibull"),
        ("Cox", "cox"),
        ("COXPH", "cox"),
        ("Bernoulli", "binomial"),
    ],
)
def test_families_have_rs_names(name: str, family: str) -> None:
    assert find_family(name).name == family


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("weibul", "Did you mean 'weibull'"),
        ("tweedie", "'tweedie' is not a family.*Allowed: gaussian, "),
        (3, "3 is not a family.*Allowed: gaussian, "),
    ],
)
def test_an_unknown_family_is_named(name: Any, hint: str) -> None:
    with pytest.raises(FormulaError, match=hint):
        rmm.fit(FORMULA, TABLE, family=name)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rmm.fit(FORMULA), BackendError, r"fit\(\) was called without its argument `data`"),
        (lambda: rmm.fit(), BackendError, r"fit\(\) was called without its argument `formula`"),
        (lambda: rmm.fit(FORMULA, "weibull"), BackendError, r"without its argument `data`"),
        (lambda: rmm.fit(FORMULA, TABLE, "gaussian", 5), BackendError, "4 arguments without a"),
        (
            lambda: rmm.fit(FORMULA, TABLE, formula=FORMULA),
            BackendError,
            "with `formula` twice: as argument 1 and by name",
        ),
        (lambda: rmm.program(FORMULA, prior="rmm"), BackendError, "Did you mean `priors`"),
        (lambda: rmm.program_data(FORMULA, TABLE, chain=1), BackendError, "no argument `chain`"),
        (lambda: rmm.load(), DataError, r"load\(\) was called without its argument `path`"),
        (lambda: rmm.load("a", "b"), DataError, "2 arguments without a name. Only `path` can"),
        (lambda: rmm.compare({}, refits=True), DataError, "Did you mean `refit`"),
        (lambda: rmm.simulate(FORMULA, {}, members=3), RmmError, "Did you mean `membership`"),
        (lambda: ONE.predict(newdat=TABLE), BackendError, r"Fit.predict\(\) has no argument"),
        (lambda: ONE.weights(3.5), BackendError, "`block` must be a whole number"),
        (
            lambda: ONE.report(1),
            BackendError,
            r"Fit.report\(\) takes no arguments, but was called with 1\.",
        ),
    ],
)
def test_calls_that_do_not_fit(call: Any, error: type[RmmError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_r_calls_an_argument_is_known() -> None:
    assert "`draws`" in meant("n.iter", [])
    assert meant("chians", ["chains"]) == " Did you mean `chains`?"
    assert meant("zzz", ["chains"]) == ""


def test_a_decorated_function_is_the_same_to_readers() -> None:
    @readable(DataError)
    def double(x: int, *, by: int = 2) -> int:
        """Times two."""
        return by * x

    assert double(3) == 6
    assert (double.__doc__, list(inspect.signature(double).parameters)) == (
        "Times two.",
        ["x", "by"],
    )
    with pytest.raises(DataError, match="without its argument `x`"):
        double()  # type: ignore[call-arg]
