"""Separation against closed forms for one predictor, on many small tables."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.checks.design_warnings import Look, separation
from rmm.design.checks.separation import separating
from rmm.design.prepare import Model, prepare

TABLES = 60  # of each family


def model_of(formula: str, table: pd.DataFrame, family: str) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(formula, table, family)


def names(model: Model) -> tuple[str, ...]:
    return separating(model.spec.family, model.design, Look(model).fixed)


def binary(rng: np.random.Generator) -> tuple[pd.DataFrame, bool]:
    """Zeros are on one side of all ones; both may share the limit."""
    x = rng.integers(0, 5, 7).astype(float)
    y = (x + rng.normal(0, 1.2, 7) > 2).astype(int)
    one, none = x[y == 1], x[y == 0]
    if len(one) == 0 or len(none) == 0:
        return binary(rng)
    return pd.DataFrame({"x": x, "y": y}), one.min() >= none.max() or one.max() <= none.min()


def counts(rng: np.random.Generator) -> tuple[pd.DataFrame, bool]:
    """Groups with both successes and failures hold the direction still: all at one x."""
    x = rng.integers(0, 4, 6).astype(float)
    k = np.where(x > 1, 3, 0) + np.where(rng.random(6) < 0.2, 1, 0)
    k = np.clip(k, 0, 3)
    if k.sum() in (0, 18):
        return counts(rng)
    high, low, mixed = x[k == 3], x[k == 0], x[(k > 0) & (k < 3)]
    up = [*mixed, *low], [*mixed, *high]
    rising = max(up[0], default=-np.inf) <= min(up[1], default=np.inf)
    falling = min(up[0], default=np.inf) >= max(up[1], default=-np.inf)
    one = len(set(mixed)) <= 1
    return pd.DataFrame({"x": x, "k": k, "f": 3 - k}), bool(one and (rising or falling))


def choices(rng: np.random.Generator) -> tuple[pd.DataFrame, bool]:
    """The chosen one has the largest x everywhere, or the smallest."""
    x = rng.integers(0, 4, (4, 3)).astype(float)
    chosen = np.argmax(x + rng.normal(0, 0.8, x.shape), axis=1)
    own = x[np.arange(4), chosen]
    table = pd.DataFrame({"s": np.repeat(range(4), 3), "x": x.ravel(), "y": 0})
    table.loc[np.arange(4) * 3 + chosen, "y"] = 1
    return table, bool((own == x.max(axis=1)).all() or (own == x.min(axis=1)).all())


def hazards(rng: np.random.Generator) -> tuple[pd.DataFrame, bool]:
    """Every event has the largest x of those at risk, or every one the smallest; not all alike."""
    x = rng.integers(0, 4, 6).astype(float)
    t = np.ceil(4 - x + rng.normal(0, 0.8, 6)).clip(1, 6)
    e = (rng.random(6) < 0.7).astype(int)
    if not e.any():
        return hazards(rng)
    events = [(x[i], x[t >= t[i]]) for i in np.flatnonzero(e)]
    high = all(own == risk.max() for own, risk in events)
    low = all(own == risk.min() for own, risk in events)
    told = any(np.ptp(risk) > 0 for _, risk in events)
    return pd.DataFrame({"x": x, "t": t, "e": e}), bool(told and (high or low))


def durations(rng: np.random.Generator) -> tuple[pd.DataFrame, bool]:
    """All events at one x, and all censored groups on one side of it."""
    x = rng.integers(0, 3, 6).astype(float)
    e = ((x == 1) | (rng.random(6) < 0.15)).astype(int)
    t = rng.exponential(1, 6) + 0.1
    if not e.any():
        return durations(rng)
    seen, other = x[e == 1], x[e == 0]
    apart = other.size and (other >= seen[0]).all() | (other <= seen[0]).all()
    return pd.DataFrame({"x": x, "t": t, "e": e}), bool(len(set(seen)) == 1 and apart)


def levels(rng: np.random.Generator) -> tuple[pd.DataFrame, bool]:
    """Each level is on one side of the next; both may share the limit."""
    x = rng.integers(0, 6, 7).astype(float)
    y = 1 + np.digitize(x + rng.normal(0, 0.9, 7), [1.7, 3.5])
    sets = [x[y == k] for k in (1, 2, 3)]
    if min(map(len, sets)) == 0:
        return levels(rng)
    pairs = list(itertools.pairwise(sets))
    up = all(a.max() <= b.min() for a, b in pairs)
    down = all(a.min() >= b.max() for a, b in pairs)
    return pd.DataFrame({"x": x, "y": y}), up or down


FAMILIES: dict[str, tuple[str, str, Callable[..., tuple[pd.DataFrame, bool]]]] = {
    "binomial": ("y ~ 1 + x", "binomial", binary),
    "counts": ("cbind(k, f) ~ 1 + x", "binomial", counts),
    "condlogit": ("y ~ x + strata(s)", "condlogit", choices),
    "cox": ("Surv(t, e) ~ x", "cox", hazards),
    "ordinal": ("y ~ x", "ordinal", levels),
    "weibull": ("Surv(t, e) ~ 1 + x", "weibull", durations),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_one_predictor(name: str) -> None:
    formula, family, make = FAMILIES[name]
    rng, seen = np.random.default_rng(8), []
    while len(seen) < TABLES:
        table, separated = make(rng)
        if table["x"].nunique() < 2 or (name == "condlogit" and constant_within(table)):
            continue
        assert names(model_of(formula, table, family)) == (("b_l2[x]",) if separated else ())
        seen.append(separated)
    assert 5 < sum(seen) < TABLES - 5  # both answers occur


def constant_within(table: pd.DataFrame) -> bool:
    return bool(table.groupby("s")["x"].nunique().max() == 1)


def test_pieces_of_a_constant_hazard() -> None:
    table = pd.DataFrame({"t": np.arange(1.0, 13.0), "e": [1, 1, 0] * 4})
    apart = table.assign(x=(table["t"] <= 6).astype(float), z=np.sin(table["t"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = prepare("Surv(t, e) ~ z", apart, rmm.families.Cox(intervals=3))
    assert names(model) == ()


def test_only_the_variables_of_the_direction_are_named() -> None:
    rng = np.random.default_rng(5)
    table = pd.DataFrame(rng.normal(size=(80, 3)), columns=["z1", "z2", "z3"])
    table["party"] = np.array(["a", "b", "c", "d"])[np.arange(80) % 4]
    table["y"] = (table["z1"] + rng.normal(size=80) > 0).astype(int)
    table.loc[table["party"] == "c", "y"] = 1
    model = model_of("y ~ 1 + z1 + z2 + z3 + party", table, "binomial")
    assert names(model) == ("b_l2[party=c]",)
    [text] = separation(Look(model))
    assert text.startswith("b_l2[party=c]: the zeros and ones of `y` are separated")
    assert "The size depends on the prior" in text


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_units_and_places_of_variables_do_not_matter(unit: float) -> None:
    x = np.arange(20.0)
    table = pd.DataFrame({"x": (x + 1000) * unit, "y": (x > 9).astype(int)})
    assert names(model_of("y ~ 1 + x", table, "binomial")) == ("b_l2[x]",)
    table["y"] = (np.arange(20) % 3 == 0).astype(int)
    assert names(model_of("y ~ 1 + x", table, "binomial")) == ()


def test_fixed_effects_of_units_with_one_outcome() -> None:
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"c": np.repeat(list("abcd"), 10), "y": rng.integers(0, 2, 40)})
    table.loc[table["c"] == "c", "y"] = 0
    assert names(model_of("y ~ 1 + hm(id=c, type=FE)", table, "binomial")) == ("b_l3[c]",)


def test_fits_warn(coalitions: pd.DataFrame) -> None:
    table = coalitions.assign(b=(coalitions["z"] > 0).astype(int))
    given: dict[str, Any] = {"backend": "laplace", "seed": 1, "chains": 2, "draws": 100}
    with pytest.warns(rmm.SpecificationWarning, match=r"b_l2\[z\]: the zeros and ones of `b`"):
        rmm.fit("b ~ 1 + z + mm(id(pid, gid), vars(x))", table, "binomial", **given)
