"""What is told of a table before a fit, and designs of which nothing is to be told."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.checks.design_warnings import CHECKS, Look, warn_of_design
from rmm.design.prepare import Model, prepare
from tests.backends.test_program_jags import MODELS, matrices, with_ministers
from tests.coalitions import made_up_coalitions
from tests.family_cases import MIXED


def model_of(formula: str, table: Any, family: str = "gaussian", priors: Any = None) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(formula, table, family, priors=priors, cov=matrices(formula))


def told(model: Model) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_design(model)
    assert all(w.category is rmm.SpecificationWarning for w in caught)
    return [str(w.message) for w in caught]


def groups(count: int, seed: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"g": np.arange(count), "y": rng.normal(size=count)})
    for k in range(5):
        table[f"z{k}"] = rng.normal(size=count)
    table["t"] = rng.exponential(1.0, count) + 0.1
    table["e"] = 0
    table.loc[0, "e"] = 1
    return table


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_told_of_the_golden_formulas(name: str) -> None:
    formula, priors = MODELS[name]
    table = with_ministers(made_up_coalitions())
    table = table if "mm(" in formula else table.drop_duplicates("gid")
    assert told(model_of(formula, table, priors=priors)) == []


def outcomes() -> pd.DataFrame:
    table = made_up_coalitions()
    number = table["gid"].str[1:].astype(int)
    more = {
        "b": (table["y"] > table["y"].median()).astype(int),
        "t": np.exp(table["y"]),
        "e": (number % 4 != 0).astype(int),
        "s4": number // 4,
    }
    table = table.assign(**more)
    return table.assign(ch=table["y"] == table.groupby("s4")["y"].transform("max"))


@pytest.mark.parametrize(
    ("outcome", "family"),
    [
        ("b ~ 1", "binomial"),
        ("Surv(t, e) ~ 1", "weibull"),
        ("Surv(t, e) ~ dec", "cox"),
        ("ch ~ strata(s4)", "condlogit"),
    ],
)
def test_nothing_is_told_of_the_other_families(outcome: str, family: str) -> None:
    table = outcomes()
    table = table.assign(ch=table["ch"].astype(int))
    assert told(model_of(f"{outcome} + {MIXED}", table, family)) == []


FIVE = "z0 + z1 + z2 + z3 + z4"
TOLD = {
    "one event": (
        f"Surv(t, e) ~ {FIVE}", groups(40), "cox",
        r"has only 1 event, but .* 5 parameters besides .* \(b_l2\[z0\], .* and 1 more\)",
    ),
    "few failures": (
        f"b ~ 1 + {FIVE}", groups(200).assign(b=lambda d: (d.index % 60 != 0).astype(int)),
        "binomial", "has only 4 failures, but the model has 5 parameters",
    ),
    "tied events": (
        "Surv(t, e) ~ z0", groups(60).assign(t=1.0, e=lambda d: d.index % 2), "cox",
        r"All 30 events of `Surv\(t, e\)` are at the same time \(1\)",
    ),
    "tied events of weibull": (
        "Surv(t, e) ~ 1 + z0",
        groups(60).assign(e=lambda d: d.index % 2, t=lambda d: np.where(d["e"], 2.0, d["t"])),
        "weibull", "Only the prior limits the shape",
    ),
    "two values": (
        "b ~ 1 + z0", groups(60).assign(b=lambda d: d.index % 2), "gaussian",
        r"`b` has only two values \(0 and 1\), but family \"gaussian\" is for measurements"
        r".* \"binomial\" is for 0/1",
    ),
    "two other values": (
        "b ~ 1 + z0", groups(60).assign(b=lambda d: 1 + d.index % 2), "gaussian",
        r"only two values \(1 and 2\)",
    ),
    "nearly as many levels as groups": (
        "y ~ 1 + factor(name)", groups(60).assign(name=lambda d: d["g"].clip(0, 50)), "gaussian",
        r"`factor\(name\)` has 50 coefficients, but .* 60 groups. Of these, 49 concern only one",
    ),
    "nearly as many units as groups": (
        "y ~ 1 + hm(id=u, type=FE)", groups(60).assign(u=lambda d: np.minimum(d["g"], 40)),
        "gaussian", "`b_l3` has 40 coefficients, but there are only 60 groups",
    ),
    "groups of one": (
        "y ~ 1 + mm(id(m, g), vars(z0), RE=TRUE)", groups(60).assign(m=lambda d: d["g"] % 12),
        "gaussian",
        r"Every group \(column `g`\) has only one member \(column `m`\)\. .* ordinary regression",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told(name: str) -> None:
    formula, table, family, message = TOLD[name]
    texts = told(model_of(formula, table, family))
    assert sum(pd.Series(texts).str.contains(message)) == 1, texts


def test_one_prime_minister_per_group_is_nothing_unusual() -> None:
    """With several kinds of members one kind may well have one member in each group."""
    table = made_up_coalitions(60, 15)
    first = table.drop_duplicates("gid").assign(pid=np.nan, mid=lambda d: d["cid"])
    both = pd.concat([table.assign(mid=np.nan), first], ignore_index=True).drop(columns="n")
    formula = "y ~ 1 + mm(id(pid, gid), RE=TRUE, name=p) + mm(id(mid, gid), RE=TRUE, name=m)"
    assert told(model_of(formula, both)) == []


def test_counts_as_measurements_are_nothing_unusual() -> None:
    assert told(model_of("k ~ 1 + z0", groups(60).assign(k=lambda d: d.index % 4))) == []


def test_a_held_standard_deviation_is_no_parameter() -> None:
    table = groups(40).assign(e=lambda d: (d.index < 2).astype(int), c=lambda d: d["g"] % 8)
    formula = "Surv(t, e) ~ z0 + z1 + hm(id=c)"
    assert any(
        "2 events, but the model has 3 parameters" in t
        for t in told(model_of(formula, table, "cox"))
    )
    held = told(model_of(formula, table, "cox", priors={"sigma_l3": 1}))
    assert not any("parameters besides" in t for t in held)


def test_checks_are_quick() -> None:
    """A millisecond for 100 groups; ten here, for a machine that does other things too."""
    model = model_of(
        "y ~ 1 + z + mm(id(pid, gid), vars(x), RE=TRUE) + hm(id=cid)", made_up_coalitions(100, 30)
    )
    seconds = []
    for _ in range(20):
        begin = time.perf_counter()
        assert [text for check in CHECKS for text in check(Look(model))] == []
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.010


def told_of(table: pd.DataFrame, member: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_design(prepare(f"y ~ 1 + mm(id({member}, deal), RE=TRUE)", table))
    return [str(w.message) for w in caught if "Every group" in str(w.message)]


def test_a_wide_table_has_one_warning() -> None:
    rng = np.random.default_rng(2)
    bank = np.array([f"bank {i}" for i in range(9)])
    table = pd.DataFrame({"deal": np.arange(40), "y": rng.normal(size=40)})
    table = table.assign(bank1=rng.choice(bank, 40), bank2=rng.choice(bank, 40))
    (message,) = told_of(table, "bank1")
    assert "rmm.to_long" in message
    (alone,) = told_of(table.drop(columns="bank2"), "bank1")
    assert "one row per membership" in alone
    assert "in one cell" not in alone


@pytest.mark.parametrize("separator", [";", ", ", " | "])
def test_several_members_in_one_cell_are_named(separator: str) -> None:
    rng = np.random.default_rng(2)
    bank = np.array([f"bank {i}" for i in range(9)])
    cells = [separator.join(rng.choice(bank, 1 + i % 4, replace=False)) for i in range(40)]
    table = pd.DataFrame({"deal": np.arange(40), "y": rng.normal(size=40), "banks": cells})
    (message,) = told_of(table, "banks")
    assert (
        f"Make one row for each member, with .str.split({separator.strip()!r}) and .explode()"
        in message
    )


def test_names_with_commas_are_no_lists() -> None:
    rng = np.random.default_rng(2)
    names = [f"Doe{i}, Jo{i}" for i in range(40)]
    table = pd.DataFrame({"deal": np.arange(40), "y": rng.normal(size=40), "boss": names})
    (message,) = told_of(table, "boss")
    assert "in one cell" not in message


@pytest.mark.parametrize(
    ("formula", "family", "far"),
    [
        ("n ~ 1 + offset(exposure)", "poisson", True),
        ("n ~ 1 + offset(log(exposure))", "poisson", False),
        ("b ~ 1 + fix(exposure, 1)", "binomial", True),
        ("t ~ 1 + offset(exposure)", "gamma", True),
        ("y ~ 1 + offset(exposure)", "gaussian", False),  # in the unit of the outcome
    ],
)
def test_an_exposure_without_its_log_is_told(formula: str, family: str, far: bool) -> None:
    table = groups(40)
    table["exposure"] = np.linspace(1, 5000, 40)
    table["n"] = np.arange(40) % 5
    table["b"] = np.arange(40) % 2
    found = [text for text in told(model_of(formula, table, family)) if "5000" in text]
    assert bool(found) == far
    if far:
        assert "offset(log(exposure))" in found[0]
