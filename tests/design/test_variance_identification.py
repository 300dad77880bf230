"""Standard deviations that the data know in sum only: against the definition, and known designs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.checks import variance_identification
from rmm.design.checks.design_warnings import Look, standard_deviations
from rmm.design.checks.variance_identification import (
    RESIDUAL,
    Component,
    Unidentified,
    components,
    find_unidentified,
)
from rmm.design.prepare import Model, prepare
from tests.coalitions import made_up_coalitions

RE = "mm(id(m, g), RE=TRUE)"


def model_of(formula: str, table: Any, family: str = "gaussian", priors: Any = None) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(formula, table, family, priors=priors)


def found(model: Model) -> list[Unidentified]:
    look = Look(model)
    return find_unidentified(model.spec, model.grouped, model.design, look.fixed, look.held)


def teams(groups: int = 60, size: int = 3, members: int | None = None) -> pd.DataFrame:
    """Groups of one size; every member in one group, or members drawn from so many."""
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(groups), size)
    member = np.arange(groups * size)
    if members is not None:
        draws = [rng.choice(members, size, replace=False) for _ in range(groups)]
        member = np.concatenate(draws)
    table = pd.DataFrame({"g": group, "m": member, "c": group // 5, "d": group})
    table["y"] = rng.normal(size=groups)[group]
    table["z"] = rng.normal(size=groups)[group]
    table["b"] = (table["y"] > 0).astype(int)
    table["s"] = rng.normal(size=len(table))
    table["t"] = np.exp(table["y"])
    return table


def matrix(component: Component, groups: int) -> np.ndarray[Any, Any]:
    out = np.zeros((groups, component.size))
    for row, column, value in zip(component.row, component.column, component.value, strict=True):
        out[row, column] += value
    return out


@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize("family", ["gaussian", "condlogit"])
def test_gram_matrix_is_that_of_the_definition(
    dense: int, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tr(M V_k M V_l), with M = I - X (X'X)^-1 X' and X with the strata's dummies."""
    table = teams(60, 3, 25).assign(chosen=lambda d: (d["g"] % 5 == 0).astype(int))
    outcome = {"gaussian": "y ~ 1 + ", "condlogit": "chosen ~ strata(c) + "}[family]
    model = model_of(f"{outcome}z + mm(id(m, g), vars(s), RE=re(1 + s)) + hm(id=d)", table, family)
    monkeypatch.setattr(variance_identification, "_DENSE", dense)
    look, strata = Look(model), model.grouped.strata
    kinds = components(model.spec, model.design, look.fixed.weights)
    code = None if strata is None else strata.code
    basis = variance_identification._basis(model.spec, look.fixed, code)
    gram = variance_identification._gram(kinds, basis, code, True, model.design.J)
    X = look.fixed.values
    if code is not None:
        X = np.column_stack([X, code[:, None] == np.unique(code)])
    M = np.eye(len(X)) - X @ np.linalg.pinv(X)
    A = [matrix(c, len(X)) for c in kinds]
    V = [M @ a @ a.T @ M for a in A] + [M]
    assert gram == pytest.approx(np.array([[np.trace(a @ b) for b in V] for a in V]), rel=1e-9)


@pytest.mark.parametrize("size", [2, 3])
def test_members_of_one_group_each(size: int) -> None:
    [one] = found(model_of(f"y ~ 1 + z + {RE}", teams(60, size)))
    assert one.names == ("sigma_l1", RESIDUAL)
    assert one.factors == pytest.approx((1 / size, 1.0))


def test_likelihood_depends_on_the_sum_alone() -> None:
    """The sum that is reported: the normal likelihood is equal wherever it is."""
    model = model_of(f"y ~ 1 + {RE}", teams(60, 3))
    [one] = found(model)
    y, J = model.design.outcome["y"], model.design.J

    def log_likelihood(member: float, residual: float) -> float:
        A = matrix(components(model.spec, model.design, Look(model).fixed.weights)[0], J)
        V = member * A @ A.T + residual * np.eye(J)
        return float(-0.5 * (np.linalg.slogdet(V)[1] + y @ np.linalg.solve(V, y)))

    total = one.factors[0] * 0.9 + one.factors[1] * 0.5
    others = [log_likelihood(s, total - one.factors[0] * s) for s in (0.0, 0.9, 2.0)]
    assert others == pytest.approx([others[0]] * 3, rel=1e-12)


def test_nesting_units_of_one_group_each() -> None:
    [one] = found(model_of(f"y ~ 1 + z + {RE} + hm(id=d)", teams(60, 3, 25)))
    assert one.names == ("sigma_l3", RESIDUAL) and one.factors == pytest.approx((1.0, 1.0))


def test_three_that_are_known_in_sum() -> None:
    [one] = found(model_of(f"y ~ 1 + {RE} + hm(id=d)", teams(60, 2)))
    assert one.names == ("sigma_l1", "sigma_l3", RESIDUAL)
    assert one.factors == pytest.approx((0.5, 1.0, 1.0))


def test_members_who_are_the_nesting_units() -> None:
    """All members of a nesting unit are in all its groups: their sum is the unit's effect."""
    table = pd.concat(
        [
            pd.DataFrame({"g": g, "m": [2 * (g // 6), 2 * (g // 6) + 1], "c": g // 6})
            for g in range(60)
        ]
    )
    table["y"] = np.random.default_rng(2).normal(size=60)[table["g"]]
    [one] = found(model_of(f"y ~ 1 + {RE} + hm(id=c)", table))
    assert one.names == ("sigma_l1", "sigma_l3") and one.factors == pytest.approx((0.5, 1.0))


def test_one_member_in_all_groups_is_the_intercept() -> None:
    [one] = found(model_of(f"y ~ 1 + z + {RE}", teams(40, 1).assign(m="only")))
    assert one == Unidentified(("sigma_l1",), absorbing=("b_l2[Intercept]",))


def test_random_effects_beside_fixed_effects_of_smaller_units() -> None:
    table = teams(60, 3, 25).assign(e=lambda d: d["c"] // 2)
    [one] = found(model_of(f"y ~ 1 + {RE} + hm(id=c, type=FE) + hm(id=e)", table))
    assert one.names == ("sigma_l3_2",)
    assert one.absorbing and all(n.startswith(("b_l3_1", "b_l2")) for n in one.absorbing)


def test_three_whose_sums_alone_are_known() -> None:
    """Two kinds of singles that are halves of the groups: together they are the residual."""
    table = teams(60, 1)
    table = table.assign(
        half=(table["g"] < 30).astype(float), other=(table["g"] >= 30).astype(float)
    )
    formula = (
        "y ~ 1 + z + mm(id(m, g), vars(half), RE=re(0 + half), name=a)"
        " + mm(id(m, g), vars(other), RE=re(0 + other), name=b)"
    )
    [one] = found(model_of(formula.replace("vars(other), ", "vars(fix(other, 0)), "), table))
    assert set(one.names) == {"sigma_slope_l1_a[half]", "sigma_slope_l1_b[other]", RESIDUAL}
    assert one.factors == ()


def test_nearly_so_counts_as_so() -> None:
    """49 couples and one triple: one group with another variance tells nothing."""
    table = teams(50, 2)
    more = table.iloc[:1].assign(m=1000)
    [one] = found(model_of(f"y ~ 1 + {RE}", pd.concat([table, more])))
    assert one.names == ("sigma_l1", RESIDUAL) and one.factors[0] == pytest.approx(0.5, abs=0.01)


def test_groups_of_different_sizes_without_a_common_member() -> None:
    """Variances 1/n tell them apart, and nothing else does."""
    rng = np.random.default_rng(3)
    sizes = np.array([2, 3, 5])[np.arange(90) % 3]
    group = np.repeat(np.arange(90), sizes)
    table = pd.DataFrame({"g": group, "m": np.arange(len(group)), "y": rng.normal(size=90)[group]})
    model = model_of(f"y ~ 1 + {RE}", table)
    assert found(model) == [Unidentified(("sigma_l1", RESIDUAL), by_size=True)]
    [text] = standard_deviations(Look(model))
    assert "sigma_l1 and sigma_l2 are hard to separate, because every member of `m`" in text
    assert "Only differences in variance between groups of different sizes" in text


def test_what_is_held_is_known() -> None:
    table = teams(60, 2)
    assert found(model_of(f"y ~ 1 + {RE}", table, priors={"sigma_l2": 1})) == []
    assert found(model_of(f"y ~ 1 + {RE}", table, priors={"sigma_l1": 1})) == []


IDENTIFIED = {
    "members in several groups": ("y ~ 1 + z + mm(id(m, g), RE=TRUE)", teams(60, 3, 25)),
    "few members": ("y ~ 1 + mm(id(m, g), RE=TRUE)", teams(15, 2, 5)),
    "units of five groups": ("y ~ 1 + mm(id(m, g), RE=TRUE) + hm(id=c)", teams(60, 3, 25)),
    "walks": ("y ~ 1 + mm(id(m, g), RE=TRUE, ar=TRUE)", teams(60, 3, 25)),
    "several trials": ("cbind(k, f) ~ 1 + mm(id(m, g), RE=TRUE)", teams(60, 2).assign(k=2, f=1)),
}


@pytest.mark.parametrize("name", IDENTIFIED)
def test_identified_designs_are_left_alone(name: str) -> None:
    formula, table = IDENTIFIED[name]
    assert found(model_of(formula, table, "binomial" if "cbind" in formula else "gaussian")) == []


MESSAGES = {
    "gaussian": ("y ~ 1", r"can estimate sigma_l1\^2/2 \+ sigma_l2\^2, .* every member of `m`"),
    "binomial": ("b ~ 1", r"estimate the coefficients \(b_\*\) only relative to the total spread"),
    "weibull": (
        "Surv(t, one) ~ 1",
        r"divided between sigma_l1 and shape depends mostly on the priors",
    ),
    "cox": ("Surv(t, one) ~ z", "Only the assumption of proportional hazards"),
    "condlogit": ("chosen ~ strata(c) + z", "only relative to the total spread"),
}


@pytest.mark.parametrize("family", MESSAGES)
def test_what_follows_is_said_for_every_family(family: str) -> None:
    outcome, message = MESSAGES[family]
    table = teams(60, 2).assign(one=1, chosen=lambda d: (d["g"] % 5 == 0).astype(int))
    [text] = standard_deviations(Look(model_of(f"{outcome} + {RE}", table, family)))
    assert pd.Series([text]).str.contains(message).all(), text


def test_fits_warn_and_name_the_users_own_ids() -> None:
    table = teams(40, 1).assign(m="the one")
    with pytest.warns(rmm.SpecificationWarning) as told:
        rmm.fit(f"y ~ 1 + {RE}", table, backend="laplace", seed=1, chains=2, draws=100)
    texts = " ".join(str(w.message) for w in told)
    assert "`m` has only one member (the one)" in texts
    assert "Every group (column `g`) has only one member (column `m`)" in texts


def test_a_large_table_is_looked_at_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(f"y ~ 1 + z + {RE} + hm(id=c)", teams(4000, 2))
    [one] = found(model)
    assert one.names == ("sigma_l1", RESIDUAL)
    monkeypatch.setattr(variance_identification, "_MOST_PAIRS", 1000)
    assert found(model) == []


def test_predictions_are_not_checked() -> None:
    """New groups may well be couples of new members."""
    table = made_up_coalitions(40, 12).drop(columns="n")
    formula = "y ~ 1 + z + mm(id(pid, gid), vars(x), RE=TRUE)"
    fit = rmm.fit(formula, table, backend="laplace", seed=1, chains=2, draws=100)
    new = table.iloc[:2].assign(gid="new", pid=[100, 101])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fit.predict(new.drop(columns="y"), new=True)) == 1
