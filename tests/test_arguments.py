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
from coalitions import made_up_coalitions

import rmm
from rmm.errors import RmmError

FORMULA = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = FALSE)"
TABLE = made_up_coalitions(40, 12)
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
        {"formula": FORMULA.replace("pid, gid", "member, group"), "parameters": TRUTH,
         "membership": MEMBERSHIP, "covariates": {"x": {"level": "member"}}, "seed": 1},
    ),
    "load": (rmm.load, {"path": "nowhere.nc"}),
    "compare": (rmm.compare, {"fits": {}}),
    "datasets.load": (rmm.datasets.load, {"name": "coalitions"}),
}  # fmt: skip


def small_fit() -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        formula = FORMULA.replace("FALSE", "TRUE") + " + hm(id = cid)"
        return rmm.fit(formula, TABLE, **{**FIT, "chains": 2})


ONE = small_fit()
CALLS |= {
    "compare, two fits": (rmm.compare, {"fits": {"a": ONE, "b": ONE}}),
    "Fit.predict": (ONE.predict, {}),
    "Fit.posterior_predictive": (ONE.posterior_predictive, {}),
    "Fit.loo": (ONE.loo, {}),
    "Fit.conditional_effects": (ONE.conditional_effects, {"variable": "x"}),
    "Fit.check": (ONE.check, {}),
    "Fit.weights": (ONE.weights, {}),
    "Fit.member_effects": (ONE.member_effects, {}),
    "Fit.nesting_effects": (ONE.nesting_effects, {}),
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
