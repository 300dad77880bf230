"""One fit: each stage is called once, in order, and each column is encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends import find_backend
from rmm.backends.initial_values import initial_values
from rmm.design.checks.design_warnings import warn_of_design
from rmm.design.columns.predictors import encode_predictors
from rmm.design.columns.table_constants import with_constants
from rmm.design.design import build_design
from rmm.design.prepare import lay_out, prepare
from rmm.design.priors.priors import resolve
from rmm.design.recipe import make_recipe
from rmm.design.rows.group_rows import group_table
from rmm.formula.column_bases import Categories, Polynomial
from rmm.formula.expression import TableCall, describe
from rmm.formula.parse_formula import parse_formula
from rmm.formula.prior_syntax import read_priors
from rmm.formula.weights.evaluate import constants_of, evaluate
from rmm.posterior.draws import check_draws
from rmm.posterior.fit import Fit
from rmm.tables.plain_columns import simplify_columns
from rmm.tables.read import numeric, read_table
from rmm.tables.table import SourceColumn
from tests.call_counts import recorded

FORMULA = (
    "y ~ 1 + poly(z, 2) + factor(dec, base = 2) + region + center(q) + I(q^2):region"
    " + mm(id(pid, gid), vars(scale(x) + kind), fn(w ~ exp(b1*center(s))), RE = re(1 + scale(x)))"
    " + hm(id = cid, name = cname)"
)
OPTIONS: dict[str, Any] = {"seed": 1, "chains": 2, "draws": 50, "warmup": 10, "progress": False}


@pytest.fixture(scope="module")
def table(coalitions: pd.DataFrame) -> pd.DataFrame:
    return coalitions.assign(kind=np.array(["l", "r"])[coalitions["pid"] % 2])


def fit(table: pd.DataFrame, backend: str) -> Fit:
    return rmm.fit(FORMULA, table, backend=backend, transform="center", **OPTIONS)


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
@pytest.mark.parametrize("backend", ["fake", "laplace"])
def test_each_stage_is_called_once_and_in_order(table: pd.DataFrame, backend: str) -> None:
    engine = find_backend(backend)
    stages: dict[str, Callable[..., Any]] = {
        "prepare": prepare,
        "read priors": read_priors,
        "parse the formula": parse_formula,
        "read the table": read_table,
        "simplify columns": simplify_columns,
        "lay out": lay_out,
        "group rows": group_table,
        "constants": with_constants,
        "encode": encode_predictors,
        "arrays": build_design,
        "recipe": make_recipe,
        "priors": resolve,
        "warn": warn_of_design,
        "initial values": initial_values,
        "backend.prepare": engine.prepare,
        "backend.run": engine.run,
        "check the draws": check_draws,
        "posterior": Fit.__init__,
        "warn of convergence": Fit.warn,
    }
    with recorded(stages) as calls:
        fit(table, backend)
    assert [name for name, _ in calls] == list(stages)


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_each_column_is_encoded_once(table: pd.DataFrame) -> None:
    """Ids, categories, levels, constants of the table, polynomials, transforms, expressions.

    Weight functions are left out: they are evaluated for many values of their coefficients.
    """
    encoders: dict[str, Callable[..., Any]] = {
        "column": SourceColumn.__init__,
        "numbers": numeric,
        "codes": SourceColumn.codes.func,
        "places": SourceColumn.places.func,
        "levels": Categories.settled,
        "polynomial columns": Polynomial.columns,
        "constants": constants_of,
        "expression": evaluate,
    }
    with recorded(encoders) as calls:
        fit(table, "laplace")
    counts = Counter(f"{name} {_about(given)}" for name, given in calls if not _is_known(given))
    names = ["y", "z", "dec", "region", "q", "x", "kind", "s", "pid", "gid", "cid", "cname"]
    encoded = [f"column {name}" for name in names]
    encoded += [f"numbers {name}" for name in ("y", "z", "region", "q", "x", "kind", "s")]
    encoded += [f"codes {name}" for name in ("dec", "region", "kind", "pid", "gid", "cid")]
    encoded += [f"places {name}" for name in ("region", "kind", "gid", "cname")]
    encoded += [f"levels {name}" for name in ("region", "kind", "factor(dec, base = 2)")]
    encoded += ["polynomial columns poly(z, 2)"]
    encoded += [f"constants {call}" for call in ("center(q)", "scale(x)", "center(s)")]
    encoded += [f"expression {text}" for text in ("y", "z", "q", "q^2", "x", "s")]
    encoded += [f"expression {call}" for call in ("center(q)", "scale(x)")]
    assert counts == dict.fromkeys(encoded, 1)


def _is_known(given: dict[str, Any]) -> bool:
    """Whether a call computes nothing of a column, or a weight function."""
    node = given.get("node")
    if "known" in given:  # of `evaluate`
        return "b1" in describe(node) or describe(node) == "center(s)"
    return isinstance(node, TableCall) and node.constants is not None


def _about(given: dict[str, Any]) -> str:
    if "node" in given:
        return describe(given["node"])
    if "label" in given:
        return str(given["label"])
    series = given.get("given", given.get("column"))
    return str(given["self"].name if series is None else series.name)
