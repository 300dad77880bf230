"""`center()` and `scale()`: values by hand, levels, new tables, simulation, messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.formula.expression import LogisticSize, TableCall
from rmm.formula.functions import TABLE_FUNCTIONS
from rmm.formula.weights.evaluate import evaluate
from rmm.formula.weights.weight_function import (
    Column,
    describe,
    parse_weights,
)
from rmm.simulation import simulate
from tests.weight_texts import render_jags, render_stan

X = np.array([1.0, 2.0, 4.0, 9.0, 3.0, 5.0])
START = np.array([0, 1, 3, 6])
PLACE = np.array(["a", "b", "a", "b", "b", "a"], dtype=object)
SEASON = np.array([1990.0, 1991.0, 1990.0, 1991.0, 1990.0, 1991.0])


def invented(groups: int = 40, seed: int = 5) -> pd.DataFrame:
    """Crews of players in towns; every column far from zero."""
    rng = np.random.default_rng(seed)
    size = rng.integers(2, 6, groups)
    crew = np.repeat(np.arange(groups), size)
    player = np.concatenate([rng.choice(30, n, replace=False) for n in size])
    town = rng.integers(0, 6, groups)
    table = pd.DataFrame(
        {
            "crew": [f"crew{c:02d}" for c in crew],
            "player": player,
            "town": town[crew],
            "born": rng.integers(1960, 2000, len(crew)).astype(float),
            "fee": rng.lognormal(8, 1, len(crew)),
            "side": rng.choice(["left", "right", "both"], len(crew)),
            "budget": rng.normal(500, 80, groups)[crew],
            "height": rng.normal(300, 50, 6)[town][crew],
            "style": np.array(["calm", "wild", "odd"])[town % 3][crew],
        }
    )
    about = table.groupby("crew")["born"].mean() / 20 + rng.normal(0, 1, groups)
    return table.assign(y=table["crew"].map(about))


@pytest.fixture(scope="module")
def crews() -> pd.DataFrame:
    return invented()


MM = "mm(id(player, crew), vars({}), fn(w ~ {}), RE=FALSE)"


def columns(model: Any, place: str) -> dict[str, np.ndarray]:
    """Design columns by label: as they are before the intercept is moved."""
    if place == "members":
        part = model.design.members[0]
        labels, values = model.design.coords["covariate_l1"], part.X + part.center
    elif place == "nesting":
        part = model.design.nestings[0]
        labels, values = model.design.coords["covariate_l3"], part.X + part.center
    else:
        labels = model.design.coords["slope_l2"]
        values = model.design.X_l2 + model.design.center_l2
    return dict(zip(map(str, labels), values.T, strict=True))


# -- the language ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("center(x)", X - X.mean()),
        ("scale(x)", (X - X.mean()) / X.std(ddof=1)),
        ("center(x, within = group)", X - np.array([1, 3, 3, 17 / 3, 17 / 3, 17 / 3])),
        ("center(x, within = place)", X - np.where(PLACE == "a", 10 / 3, 14 / 3)),
        ("center(x, within = `season`)", X - np.where(SEASON == 1990, 8 / 3, 16 / 3)),
        ("scale(log(x))", (np.log(X) - np.log(X).mean()) / np.log(X).std(ddof=1)),
        ("center(max(x))", np.array([1, 4, 4, 9, 9, 9]) - 36 / 6),
        ("max(center(x))", np.array([1, 4, 4, 9, 9, 9]) - X.mean()),
        ("center(n)", np.array([1, 2, 2, 3, 3, 3]) - 14 / 6),
        ("scale(center(x, within = group))", None),
    ],
)
def test_values(text: str, expected: np.ndarray | None) -> None:
    weight = parse_weights(text)
    given = {"x": X, "place": PLACE, "season": SEASON}
    found = weight.raw({name: given[name] for name in weight.columns}, START)
    if expected is None:
        inner = X - np.array([1, 3, 3, 17 / 3, 17 / 3, 17 / 3])
        expected = inner / inner.std(ddof=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert parse_weights(describe(weight.expression)).expression == weight.expression


@pytest.mark.parametrize("name", sorted(TABLE_FUNCTIONS))
@pytest.mark.parametrize(("shift", "unit"), [(1e12, 1.0), (0.0, 1e300), (0.0, 1e-300)])
def test_any_unit(name: str, shift: float, unit: float) -> None:
    node = parse_weights(f"{name}(x)").expression
    expected = evaluate(node, {"x": X}, START) * (unit if name == "center" else 1.0)
    found = evaluate(node, {"x": X * unit + shift}, START)
    np.testing.assert_allclose(found, expected, rtol=1e-3 if shift else 1e-12)


def test_they_are_data_of_programs() -> None:
    weight = parse_weights("exp(b1*center(year.born) + b2*scale(x))")
    assert [name for name, _ in weight.inputs] == ["x_center_year_born", "x_scale_x"]
    text = "exp(b_w[1] * x_center_year_born{0} + b_w[2] * x_scale_x{0})"
    assert render_jags(weight) == text.format("[r]")
    assert render_stan(weight) == text.format("")
    assert weight.columns == ("year.born", "x")
    assert describe(weight.multiplier("b1")) == "center(year.born)"
    assert weight.multiplier("b2") == TableCall("scale", Column("x"))


def test_forms_are_recognised_around_them() -> None:
    logistic = parse_weights("1/(1 + (n-1)*exp(-(b1*center(year))))")
    assert isinstance(logistic.expression, LogisticSize)
    assert logistic.uses_log_size
    offset = parse_weights("1/offset(n)^exp(-center(year, within = place))")
    assert offset.parameters == ("b1",)
    by_hand = parse_weights("1/n^exp(-(b1*center(year, within = place)))", constraint=2)
    given = {"year": SEASON + X, "place": PLACE}
    np.testing.assert_allclose(
        offset.weights(given, START, {"b1": 0.4}), by_hand.weights(given, START, {"b1": 0.4})
    )
    bare = parse_weights("offset(center(x))^2")
    assert bare.parameters == ()
    assert bare.with_fixed("b1", 1.0).expression == bare.expression


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "center(b1*x)",
            r"`b1` cannot be inside `center\(\)`: `center\(\)` is computed from the data",
        ),
        ("center(x, within = b1 + 1)", r"`within =` must name a column"),
        ("center(x, place)", r"Write center\(x\), or center\(x, within = a column\)"),
        ("scale(x, within = place)", r"(?s)`scale\(\)` takes one expression.*Write scale\(x\)$"),
        ("center()", r"takes one expression of columns, but has 0 arguments"),
        ("scale(2)", r"`scale\(\)` contains no column"),
        (
            "centre(x)",
            r"(?s)`centre\(\)` is not an available function. Did you mean `center`\?.*\^{6}",
        ),
        ("standardize(x)", r"Did you mean `scale`\?"),
        ("ln(x)", r"Did you mean `log`\?"),
        ("ns(x, 3)", r"`ns\(\)` makes several columns, so it cannot be used inside"),
        ("s(x)", r"`s\(\)` makes several columns, so it cannot be used inside"),
        ("gp(x)", r"This smooth is not available\. Smooth functions of one column are: s\(x\)"),
        (
            "log1p(x)",
            r"(?s)Write log\(1 \+ x\).*Allowed: exp, .* center, scale\. Group aggregates: min,",
        ),
    ],
)
def test_messages_of_weights(text: str, message: str) -> None:
    with pytest.raises(rmm.FormulaError, match=message):
        parse_weights(text)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ Scale(budget)", r"(?s)Did you mean `scale`\?.*Allowed: mm, hm, .* center"),
        ("y ~ demean(budget)", r"Did you mean `center`\?"),
        (
            "y ~ bs(budget)",
            r"(?s)This smooth is not available. Smooth functions of one column are: s\(x\).*\^\^",
        ),
        ("y ~ center(budget, within = group)", r"is outside mm\(\), where a group has only one"),
        (
            f"y ~ center(budget, within = crew) + {MM.format('born', '1/n')}",
            r"`center\(budget, within = crew\)` is outside mm\(\)",
        ),
        (
            f"y ~ {MM.format('born', '1/n')} + hm(id = town, vars = vars(center(height, within = "
            "group)))",
            r"`center\(height, within = group\)` is outside mm\(\), where a group has only one",
        ),
    ],
)
def test_messages_of_formulas(crews: pd.DataFrame, formula: str, message: str) -> None:
    with pytest.raises(rmm.FormulaError, match=message):
        prepare(formula, crews)


# -- levels ------------------------------------------------------------------------------------


def test_constants_are_those_of_the_predictors_level(crews: pd.DataFrame) -> None:
    """Groups outside mm(), nesting units for level 3, memberships inside mm() and in weights."""
    model = prepare(
        "y ~ 1 + scale(budget) + center(log(budget)) + scale(height)"
        " + center(budget, within = town)"
        f" + {MM.format('scale(born) + center(fee, within = side)', 'exp(b1*scale(fee))')}"
        " + hm(id = town)",
        crews,
    )
    groups = model.grouped.group_frame
    units = crews.groupby("town")["height"].first()
    found = columns(model, "groups")
    assert list(found) == ["scale(budget)", "center(log(budget))", "center(budget, within = town)"]
    budget = groups["budget"]
    expected = {
        "scale(budget)": (budget - budget.mean()) / budget.std(),
        "center(log(budget))": np.log(budget) - np.log(budget).mean(),
        "center(budget, within = town)": budget - budget.groupby(groups["town"]).transform("mean"),
    }
    for label, values in expected.items():
        np.testing.assert_allclose(found[label], values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        columns(model, "nesting")["scale(height)"], (groups["height"] - units.mean()) / units.std()
    )
    rows = model.grouped.frame
    fee = rows["fee"]
    found = columns(model, "members")
    np.testing.assert_allclose(
        found["scale(born)"], (rows["born"] - rows["born"].mean()) / rows["born"].std()
    )
    by_side = fee - fee.groupby(rows["side"]).transform("mean")
    np.testing.assert_allclose(found["center(fee, within = side)"], by_side, atol=1e-8)
    np.testing.assert_allclose(
        model.design.members[0].inputs["x_scale_fee"], (fee - fee.mean()) / fee.std()
    )


@pytest.mark.parametrize("within", ["group", "crew"])
def test_within_the_groups_of_mm(crews: pd.DataFrame, within: str) -> None:
    text = f"center(born, within = {within})"
    model = prepare(f"y ~ 1 + {MM.format(f'{text}*scale(fee)', f'exp(b1*{text})')}", crews)
    rows = model.grouped.frame
    own = rows["born"] - rows.groupby("crew")["born"].transform("mean")
    np.testing.assert_allclose(columns(model, "members")[text], own, atol=1e-9)
    fee = (rows["fee"] - rows["fee"].mean()) / rows["fee"].std()
    product = columns(model, "members")[f"{text}:scale(fee)"]
    np.testing.assert_allclose(product, own * fee, atol=1e-8)
    (values,) = model.design.members[0].inputs.values()
    np.testing.assert_allclose(values, own, atol=1e-9)


def test_a_column_called_group_that_is_not_the_group(crews: pd.DataFrame) -> None:
    table = crews.rename(columns={"side": "group"})
    with pytest.raises(rmm.FormulaError, match=r"(?s)can mean the groups of mm\(\), or the.*crew"):
        prepare(f"y ~ 1 + {MM.format('center(born, within = group)', '1/n')}", table)
    text = "center(born, within = `group`)"
    model = prepare(f"y ~ 1 + {MM.format(text, 'exp(b1*fee/1e4)')}", table)
    rows = model.grouped.frame
    expected = rows["born"] - rows.groupby("group")["born"].transform("mean")
    np.testing.assert_allclose(columns(model, "members")[text], expected, atol=1e-9)


def test_slopes_offsets_features_and_outcomes(crews: pd.DataFrame) -> None:
    """Wherever a formula takes an expression."""
    model = prepare(
        "scale(y) ~ 1 + offset(center(budget)) + fix(scale(height), 0.5)"
        " + mm(id(player, crew), vars(scale(born) + variance(center(fee))), fn(w ~ 1/n),"
        " RE = re(1 + scale(born)))",
        crews,
    )
    groups, rows = model.grouped.group_frame, model.grouped.frame
    y, height = groups["y"], groups["height"]
    np.testing.assert_allclose(model.design.outcome["y"], (y - y.mean()) / y.std())
    offset = groups["budget"] - groups["budget"].mean()
    offset += 0.5 * (height - height.mean()) / height.std()
    np.testing.assert_allclose(model.design.offset, offset, atol=1e-9)
    born = (rows["born"] - rows["born"].mean()) / rows["born"].std()
    np.testing.assert_allclose(model.design.members[0].slopes.values[:, 0], born)
    variance = rows.groupby("crew")["fee"].var(ddof=0)
    np.testing.assert_allclose(columns(model, "members")["variance(center(fee))"], variance)


def test_what_has_no_mean_or_no_spread(crews: pd.DataFrame) -> None:
    flat = crews.assign(budget=7.0)
    with pytest.raises(rmm.DataError, match=r"`scale\(budget\)` cannot be .* is 7 in every row"):
        prepare("y ~ 1 + scale(budget)", flat.drop_duplicates("crew"))
    with pytest.raises(rmm.DataError, match=r"`side` in `center\(side\)` contains text"):
        prepare(f"y ~ 1 + {MM.format('center(side)', '1/n')}", crews)
    late = crews.assign(fee=crews["fee"].where(crews.index != 17, -1.0))
    with pytest.raises(rmm.DataError, match=r"`log\(fee\)` in .* in 1 row; the first is row 18"):
        prepare(f"y ~ 1 + {MM.format('center(log(fee))', '1/n')}", late)
    gaps = crews.assign(side=crews["side"].where(crews.index != 3))
    with pytest.raises(rmm.DataError, match="`side`"):
        prepare(f"y ~ 1 + {MM.format('center(fee, within = side)', '1/n')}", gaps)


# -- new tables --------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {"backend": "laplace", "draws": 400, "seed": 3, "progress": False}


def test_predictions_use_the_constants_of_the_fit(crews: pd.DataFrame, tmp_path: Any) -> None:
    """New means, sds and levels of `within =` change nothing; save and load neither."""
    groups = crews.drop_duplicates("crew")
    budget, born, fee = groups["budget"], crews["born"], crews["fee"]
    written = "y ~ 1 + scale(budget) + " + MM.format(
        "scale(born)", "1/(1 + (n-1)*exp(-(b1*center(fee)/3000)))"
    )
    by_hand = (
        f"y ~ 1 + I((budget - {float(budget.mean())!r})/{float(budget.std())!r}) + "
        + MM.format(
            f"I((born - {float(born.mean())!r})/{float(born.std())!r})",
            f"1/(1 + (n-1)*exp(-(b1*(fee - {float(fee.mean())!r})/3000)))",
        )
    )
    fits = [rmm.fit(text, crews, **OPTIONS) for text in (written, by_hand)]
    new = invented(groups=7, seed=8).drop(columns="y")
    new = new.assign(budget=new["budget"] * 3, born=new["born"] + 40, fee=new["fee"] * 5)
    first, second = (fit.predict(new)["mean"].to_numpy() for fit in fits)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    one = new[new["crew"] == new["crew"].iloc[0]]  # alone it has no spread at all
    np.testing.assert_allclose(fits[0].predict(one)["mean"], first[:1], rtol=1e-6)
    fits[0].save(tmp_path / "fit.nc")
    again = rmm.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.predict(new)["mean"], first)


def test_new_levels_of_within_have_their_own_mean(crews: pd.DataFrame) -> None:
    fit = rmm.fit(
        "y ~ 1 + center(budget, within = style)", crews.drop_duplicates("crew"), **OPTIONS
    )
    groups = crews.drop_duplicates("crew")
    calm = groups.loc[groups["style"] == "calm", "budget"].mean()
    new = pd.DataFrame({"style": ["calm", "new", "new"], "budget": [calm + 1, 10.0, 12.0]})
    x = fit.predict(new)["mean"].to_numpy()
    centred = np.array([1.0, -1.0, 1.0])
    b = fit.summary()["mean"]
    np.testing.assert_allclose(
        x, b["b_l2[Intercept]"] + centred * b["b_l2[center(budget, within = style)]"], rtol=1e-6
    )


def test_new_groups_are_centred_within_themselves(crews: pd.DataFrame) -> None:
    """Also a group whose id is that of one of the fit."""
    formula = f"y ~ 1 + {MM.format('center(born, within = crew)', 'fee')}"
    fit = rmm.fit(formula, crews, **OPTIONS)
    new = crews[crews["crew"] == "crew03"].drop(columns="y")
    moved = new.assign(born=new["born"] + 100)
    pd.testing.assert_frame_equal(fit.predict(moved), fit.predict(new))


# -- simulation --------------------------------------------------------------------------------


def test_simulated_outcomes_hold_them() -> None:
    """Without noise, outcomes are the sums written by hand; units of each level count once."""
    data = simulate(
        "y ~ 1 + scale(z) + center(q) + center(z, within = nesting)"
        " + mm(id(member, group), vars(scale(x) + center(x, within = group)),"
        " fn(w ~ 1/(1 + (n-1)*exp(-(b1*center(year))))), RE = FALSE) + hm(id = nesting)",
        {"b_l2[Intercept]": 1, "b_l2[scale(z)]": 2, "b_l2[center(z, within = nesting)]": -1,
         "b_l3[center(q)]": 0.5, "b_l1[scale(x)]": 3, "b_l1[center(x, within = group)]": -2,
         "b_w[b1]": 0.3, "sigma_l3": 0, "sigma_l2": 0},
        membership={"kind": "synthetic", "groups": 60, "members": 40, "units": 8,
                    "size": {"distribution": "uniform", "low": 1, "high": 5}},
        covariates={"x": {"level": "member", "mean": 4}, "z": {"level": "group", "sd": 3},
                    "q": {"level": "nesting", "mean": -5},
                    "year": {"level": "membership", "mean": 1990, "sd": 4}},
        seed=4,
    ).data  # fmt: skip
    by, n = data["group"], data.groupby("group")["x"].transform("size")
    raw = 1 / (1 + (n - 1) * np.exp(-0.3 * (data["year"] - data["year"].mean())))
    w = raw / raw.groupby(by).transform("sum")
    inside = 3 * (data["x"] - data["x"].mean()) / data["x"].std()
    inside -= 2 * (data["x"] - data["x"].groupby(by).transform("mean"))
    groups = data.groupby("group").first()
    z = groups["z"]
    expected = (
        1
        + 2 * (z - z.mean()) / z.std()
        - (z - z.groupby(groups["nesting"]).transform("mean"))
        + 0.5 * (groups["q"] - groups.groupby("nesting")["q"].first().mean())
        + (w * inside).groupby(by).sum()
    )
    np.testing.assert_allclose(groups["y"], expected, rtol=1e-9, atol=1e-9)
    # The package's own design says the same of the same table.
    model = prepare(
        "y ~ 1 + center(q) + mm(id(member, group), fn(w ~ exp(b1*center(year)))) + hm(id=nesting)",
        data,
    )
    np.testing.assert_allclose(
        columns(model, "nesting")["center(q)"],
        groups["q"] - groups.groupby("nesting")["q"].first().mean(),
    )


def test_within_names_something_in_a_truth() -> None:
    with pytest.raises(
        rmm.RmmError, match=r"'plcae' is not a column .*Allowed: member, group, x\."
    ):
        simulate(
            "y ~ 1 + mm(id(member, group), vars(center(x, within = plcae)), RE = FALSE)",
            {"b_l2[Intercept]": 0, "b_l1[center(x, within = plcae)]": 1, "sigma_l2": 1},
            membership={
                "kind": "synthetic",
                "groups": 10,
                "members": 9,
                "size": {"distribution": "uniform", "low": 2, "high": 3},
            },
            covariates={"x": {"level": "member"}},
            seed=1,
        )


def test_codes_of_within_stay_as_they_are_written(crews: pd.DataFrame, tmp_path: Any) -> None:
    """07 and 7 are two labels in a text file, also where they only say within what to centre."""
    code = np.where(crews["side"] == "left", "07", np.where(crews["side"] == "both", "7", "8"))
    table = crews.assign(code=code)
    table.to_csv(tmp_path / "crews.csv", index=False)
    formula = f"y ~ 1 + {MM.format('center(born, within = code)', '1/n')}"
    model = prepare(formula, tmp_path / "crews.csv")
    expected = prepare(formula, table)
    label = "center(born, within = code)"
    np.testing.assert_allclose(
        columns(model, "members")[label], columns(expected, "members")[label], atol=1e-9
    )
    rows = expected.grouped.frame
    by_side = rows["born"] - rows.groupby("side")["born"].transform("mean")
    (sums,) = columns(expected, "members").values()
    np.testing.assert_allclose(sums, by_side.groupby(rows["crew"]).mean(), atol=1e-9)
