"""`factor()`, `C()`, `poly()` and interactions of categories: R's numbers, ranks, new tables."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.columns.encode import encode
from rmm.design.prepare import prepare
from rmm.errors import DataError, SpecificationWarning
from rmm.formula.column_bases import Polynomial
from rmm.formula.parse_formula import parse_formula
from rmm.tables.table import Table

OPTIONS: dict[str, Any] = {"backend": "laplace", "draws": 400, "seed": 3, "progress": False}


def fields(rows: int = 120, seed: int = 2) -> pd.DataFrame:
    """Fields of crops; every combination of soil, crop and year is there."""
    rng = np.random.default_rng(seed)
    cells = np.array(list(product(("clay", "loam"), ("oats", "rye", "wheat"), (1, 2, 3))), object)
    picked = cells[np.arange(rows) % len(cells)]
    table = pd.DataFrame({"soil": picked[:, 0], "crop": picked[:, 1]})
    return table.assign(
        year=picked[:, 2].astype(int),
        rain=rng.normal(700, 90, rows),
        size=rng.lognormal(0, 0.5, rows),
        y=rng.normal(0, 1, rows),
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return fields()


def matrix(formula: str, table: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Columns of a formula without mm(), the intercept among them."""
    parsed = parse_formula(f"y ~ {formula}")
    found = encode(parsed.terms, Table(table), intercept=parsed.intercept)[1]
    ones = np.ones((len(table), int(parsed.intercept)))
    return ["Intercept"] * int(parsed.intercept) + list(found.labels), np.hstack(
        [ones, found.values]
    )


# -- polynomials -------------------------------------------------------------------------------


def test_polynomials_are_those_of_r() -> None:
    """R: poly(1:5, 2), predict(poly(1:5, 2), 6) and poly(c(1, 2, 4, 8), 3)."""
    x = np.arange(1.0, 6.0)
    basis = Polynomial(2).settled("poly(x, 2)", x)
    expected = [
        [-0.6324555, 0.5345225],
        [-0.3162278, -0.2672612],
        [0.0, -0.5345225],
        [0.3162278, -0.2672612],
        [0.6324555, 0.5345225],
    ]
    np.testing.assert_allclose(basis.columns("", x), expected, atol=5e-8)
    np.testing.assert_allclose(basis.columns("", np.array([6.0])), [[0.9486833, 1.8708287]])


@pytest.mark.parametrize(("shift", "unit"), [(0, 1), (2000, 1), (0, 1e200), (1e6, 1e-3)])
def test_polynomials_span_powers(shift: float, unit: float) -> None:
    """Orthonormal, orthogonal to a constant, in the space of the powers, in any unit."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 30, 200).astype(float)
    columns = Polynomial(5).columns("poly", x * unit + shift)
    np.testing.assert_allclose(columns.T @ columns, np.eye(5), atol=1e-6)
    np.testing.assert_allclose(columns.sum(axis=0), 0, atol=1e-6)
    powers = np.vander((x - 15) / 10, 6)
    left = columns - powers @ np.linalg.lstsq(powers, columns, rcond=None)[0]
    assert np.abs(left).max() < 1e-6


def test_polynomials_in_formulas(table: pd.DataFrame) -> None:
    labels, _ = matrix("poly(log(size), 3)*soil", table)
    assert labels == [
        "Intercept",
        "poly(log(size), 3)1",
        "poly(log(size), 3)2",
        "poly(log(size), 3)3",
        "soil=loam",
        *(f"poly(log(size), 3){k}:soil=loam" for k in (1, 2, 3)),
    ]
    with pytest.raises(
        rmm.DataError, match=r"`poly\(year, 3\)` needs more than 3 different values"
    ):
        prepare("y ~ poly(year, 3)", table)


# -- categories --------------------------------------------------------------------------------


def test_numbers_as_categories(table: pd.DataFrame) -> None:
    labels, values = matrix("factor(year)", table)
    assert labels == ["Intercept", "factor(year)=2", "factor(year)=3"]
    np.testing.assert_array_equal(values[:, 2], table["year"] == 3)
    labels, values = matrix('C(year, base = 3) + C(crop, base = "rye")', table)
    assert labels == [
        "Intercept",
        "C(year, base = 3)=1",
        "C(year, base = 3)=2",
        'C(crop, base = "rye")=oats',
        'C(crop, base = "rye")=wheat',
    ]
    np.testing.assert_array_equal(values[:, 1], table["year"] == 1)
    labels, _ = matrix('factor(crop, levels = c("wheat", "rye", "oats")):rain', table)
    assert [label.split("=")[-1] for label in labels[1:]] == ["wheat:rain", "rye:rain", "oats:rain"]
    labels, _ = matrix("factor(rain > 700) + factor(round(size))", table)
    assert labels[1] == "factor(rain > 700)=1"
    category = table.assign(
        year=pd.Categorical(
            table["year"].map({1: "c", 2: "b", 3: "a"}), categories=["c", "b", "a", "z"]
        )
    )
    assert matrix("factor(year)", category)[0][1:] == ["factor(year)=b", "factor(year)=a"]


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("factor()", r"(?s)`factor\(\)` needs a column.*Write factor\(x\), factor\(x, base"),
        ("C(crop, contr.sum)", r"`C\(\)` does not have this argument"),
        ("C(crop, base = rye)", r"A level must be a text in quotes or a number"),
        ('factor(crop, levels = "rye")', r"Levels must be written as c\(\.\.\.\)"),
        ('factor(crop, levels = c("rye", "rye"))', r"There must be at least two levels"),
        ("poly(rain)", r"`poly\(\)` needs a degree from 1 to 20"),
        ("poly(rain, 2.5)", r"`poly\(\)` needs a degree from 1 to 20"),
        ("poly(rain, 2, simple = TRUE)", r"`poly\(\)` does not have this argument"),
        ("poly(rain, 2, raw = 1)", r"(?s)`poly\(\)` does not.*poly\(x, 2, raw = TRUE\)"),
        ("fix(poly(rain, 2), 1)", r"`poly\(rain, 2\)` has several coefficients"),
        ("fix(ns(rain, 2), 1)", r"`ns\(rain, 2\)` has several coefficients"),
        ("ns()", r"`ns\(\)` needs a column"),
        ("ns(rain)", r"(?s)`ns\(\)` needs the number of its coef.*Write ns\(x, 4\)"),
        ("ns(rain, 3, 4)", r"`ns\(\)` needs the number of its coefficients, or its knots"),
        ("ns(rain, intercept = TRUE)", r"`ns\(\)` needs the number of its coefficients"),
        ("ns(rain, 0)", r"`ns\(\)` needs a number of coefficients from 1 to 50"),
        ("ns(rain, year)", r"`ns\(\)` needs a number of coefficients from 1 to 50"),
        ("ns(rain, knots = c(700, 600))", r"needs from 1 to 49 knots, in increasing order"),
        ("ns(rain, knots = c())", r"needs from 1 to 49 knots"),
        ("ns(rain, knots = c(700, year))", r"A knot must be a finite number"),
        ("log(ns(rain, 2))", r"`ns\(\)` makes several columns"),
        ("I(factor(year) + 1)", r"`factor\(\)` makes several columns"),
        ("offset(poly(rain, 2))", r"`poly\(\)` makes several columns"),
        ("as.factor(year)", r"Did you mean `factor`\?"),
        ("relevel(crop, 2)", r'Write C\(x, base = "b"\)'),
        ("crop %in% soil", r"(?s)Operators with `%`, such as %in% and.*a \+ a:b"),
        ("soil/crop", r"for b nested in a, as R's a/b, write a \+ a:b"),
    ],
)
def test_messages(table: pd.DataFrame, term: str, message: str) -> None:
    with pytest.raises(rmm.FormulaError, match=message):
        prepare(f"y ~ 1 + {term}", table)


def test_messages_about_levels(table: pd.DataFrame) -> None:
    with pytest.raises(
        rmm.DataError, match=r"'barley' is not a level of the column. The levels are: oats, rye"
    ):
        prepare('y ~ C(crop, base = "barley")', table)
    with pytest.raises(
        rmm.DataError, match=r"'wheat' in row 7 is not a level of `factor\(crop, .*oats, rye\."
    ):
        prepare('y ~ factor(crop, levels = c("oats", "rye"))', table)
    mm = "mm(id(soil, year), vars(variance(factor(rain))), fn(w ~ 1/n))"
    with pytest.raises(rmm.FormulaError, match="needs one variable"):
        prepare(f"y ~ 1 + {mm}", table)


# -- interactions ------------------------------------------------------------------------------


def test_two_categories_alone(table: pd.DataFrame) -> None:
    """One combination is the base of the others; without intercept each has its own mean."""
    labels, values = matrix("soil:crop", table)
    cells = [f"soil={a}:crop={b}" for a in ("clay", "loam") for b in ("oats", "rye", "wheat")]
    assert labels == ["Intercept", *cells[1:]]
    np.testing.assert_array_equal(
        values[:, 3], (table["soil"] == "loam") & (table["crop"] == "oats")
    )
    assert matrix("0 + soil:crop", table)[0] == cells


def test_one_main_effect_as_in_r(table: pd.DataFrame) -> None:
    """R: colnames(model.matrix(~ soil + soil:crop)): contrasts of crop in each soil."""
    labels = matrix("soil + soil:crop", table)[0]
    assert labels[:2] == ["Intercept", "soil=loam"]
    assert sorted(labels[2:]) == [
        f"soil={s}:crop={c}" for s in ("clay", "loam") for c in ("rye", "wheat")
    ]


FORMULAS = (
    "soil:crop", "0 + soil:crop", "soil + soil:crop", "crop + soil:crop", "soil*crop",
    "soil:crop + crop:factor(year)", "soil + crop:factor(year)", "soil + soil:crop:factor(year)",
    "0 + soil + crop:factor(year)", "soil:crop:factor(year)", "rain + soil:crop:rain",
    "soil:rain", "rain:soil + soil:crop:rain", "rain + soil:rain + crop:rain + soil:crop:rain",
    "soil:crop + soil:factor(year) + crop:factor(year)", "(soil + crop + factor(year))^2",
    "soil:crop + soil:crop:factor(year)", "poly(rain, 2) + soil:crop:poly(rain, 2)",
    "0 + rain + soil:crop", "crop:factor(year) + soil:crop:factor(year)",
)  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_product_is_of_full_rank(table: pd.DataFrame, formula: str) -> None:
    """And spans what all columns of all levels span, whichever terms are in the model."""
    scaled = table.assign(rain=(table["rain"] - 700) / 90)
    labels, values = matrix(formula, scaled)
    assert len(set(labels)) == len(labels)
    parsed = parse_formula(f"y ~ {formula}")
    every = [np.ones((len(table), int(parsed.intercept)))]
    for term in parsed.terms:
        columns = np.ones((len(table), 1))
        for atom in term.atoms:
            own = encode((type(term)((atom,)),), Table(scaled), intercept=False)[1].values
            columns = (columns[:, :, None] * own[:, None, :]).reshape(len(table), -1)
        every.append(columns)
    assert np.linalg.matrix_rank(values) == values.shape[1]
    assert np.linalg.matrix_rank(np.hstack(every)) == values.shape[1]
    assert np.linalg.matrix_rank(np.hstack([*every, values])) == values.shape[1]


def test_combinations_that_no_row_has(table: pd.DataFrame) -> None:
    """They have no column, the base is the first that there is, and new rows are refused."""
    some = table[(table["soil"] == "loam") | (table["crop"] == "wheat")].reset_index(drop=True)
    with pytest.warns(
        rmm.SpecificationWarning, match=r"No row of the table has soil=clay:crop=oat"
    ):
        fit = rmm.fit("y ~ 1 + soil:crop", some, **OPTIONS)
    assert list(fit.summary().index)[:4] == [
        "b_l2[Intercept]",
        "b_l2[soil=loam:crop=oats]",
        "b_l2[soil=loam:crop=rye]",
        "b_l2[soil=loam:crop=wheat]",
    ]
    new = pd.DataFrame({"soil": ["loam", "clay"], "crop": ["rye", "rye"]})
    with pytest.raises(rmm.DataError, match=r"soil=clay:crop=rye\. No row of the fit has"):
        fit.predict(new)
    assert len(fit.predict(new[:1])) == 1


# -- new tables --------------------------------------------------------------------------------


def test_predictions_use_the_bases_of_the_fit(table: pd.DataFrame, tmp_path: Any) -> None:
    """Rows of another range, with some of the levels only: by hand from the coefficients."""
    formula = "y ~ 1 + poly(rain, 2) + C(year, base = 2) + soil:crop"
    fit = rmm.fit(formula, table, **OPTIONS)
    b = fit.summary()["mean"]
    new = pd.DataFrame({"rain": [900.0, 1000.0], "year": [3, 2], "soil": "loam", "crop": "rye"})
    basis = Polynomial(2).settled("", table["rain"].to_numpy())
    expected = b["b_l2[Intercept]"] + b["b_l2[soil=loam:crop=rye]"]
    expected += basis.columns("", new["rain"].to_numpy()) @ [
        b["b_l2[poly(rain, 2)1]"],
        b["b_l2[poly(rain, 2)2]"],
    ]
    expected += np.array([1, 0]) * b["b_l2[C(year, base = 2)=3]"]
    np.testing.assert_allclose(fit.predict(new)["mean"], expected, rtol=1e-6)
    fit.save(tmp_path / "fit.nc")
    again = rmm.load(tmp_path / "fit.nc").predict(new)
    np.testing.assert_array_equal(again["mean"], fit.predict(new)["mean"])
    with pytest.raises(
        rmm.DataError, match=r"4 in row 1 is not a level of `C\(year, .* levels are: 2, 1, 3\."
    ):
        fit.predict(new.assign(year=4))
    effects = fit.conditional_effects("year")["mean"]
    step = b["b_l2[C(year, base = 2)=3]"] - b["b_l2[C(year, base = 2)=1]"]
    assert effects.iloc[2] - effects.iloc[0] == pytest.approx(step)


def test_members_and_slopes(table: pd.DataFrame) -> None:
    rows = table.assign(field=np.arange(len(table)) // 4, owner=np.arange(len(table)) % 30)
    rows["y"] = rows.groupby("field")["y"].transform("first")
    model = prepare(
        "y ~ 1 + mm(id(owner, field), vars(factor(year) + poly(rain, 2)), fn(w ~ 1/n),"
        " RE = re(1 + poly(rain, 2)))",
        rows,
    )
    labels = list(model.design.coords["covariate_l1"])
    assert labels == ["factor(year)=2", "factor(year)=3", "poly(rain, 2)1", "poly(rain, 2)2"]
    slopes = model.design.members[0].slopes
    assert slopes.labels == ("poly(rain, 2)1", "poly(rain, 2)2")
    ordered = model.grouped.frame["rain"].to_numpy()
    np.testing.assert_allclose(slopes.values, Polynomial(2).columns("", ordered), atol=1e-12)


def test_a_truth_has_one_coefficient_per_term() -> None:
    with pytest.raises(rmm.RmmError, match=r"poly\(z, 2\) cannot be used in a truth"):
        rmm.simulate(
            "y ~ 1 + poly(z, 2) + mm(id(member, group), RE = TRUE)",
            {"b_l2[Intercept]": 0, "b_l2[poly(z, 2)]": 1, "sigma_l1": 1, "sigma_l2": 1},
            membership={
                "kind": "synthetic",
                "groups": 10,
                "members": 9,
                "size": {"distribution": "uniform", "low": 2, "high": 3},
            },
            covariates={"z": {"level": "group"}},
            seed=1,
        )


def test_dates_are_categories_where_factor_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    days = pd.to_datetime(["2000-01-01", "2000-02-01", "2000-03-01"] * 8)
    table = pd.DataFrame({"y": rng.normal(size=24), "day": days})
    with pytest.raises(DataError, match=r"contains dates.*factor\(day\)"):
        rmm.fit("y ~ day", table, backend="laplace", seed=1)
    fit = rmm.fit("y ~ factor(day)", table, backend="laplace", seed=1)
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    new = again.predict(table.drop(columns="y"))["mean"].to_numpy()
    assert new == pytest.approx(fit.predict()["mean"].to_numpy())
    assert np.diff(new[[0, 1]]) == pytest.approx(
        fit.summary()["mean"].filter(like="2000-02-01").to_numpy()
    )


def test_a_loaded_fit_does_not_repeat_the_warnings_of_fitting(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"y": rng.normal(size=24), "c": ["a", "a ", "b"] * 8})
    with pytest.warns(SpecificationWarning, match="blanks"):
        fit = rmm.fit("y ~ c", table, backend="laplace", seed=1)
    path = fit.save(tmp_path / "fit.nc")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rmm.load(path)
