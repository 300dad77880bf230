"""Predictions: the linear predictor against plain pandas and an engine, new groups, closed forms.

Where it does not matter what draws mean, they come from the fake backend.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.families.gaussian import GAUSSIAN
from rmm.posterior.prediction.linear_predictor import (
    eta_draws,
    flat_draws,
    layout_of,
    weight_totals,
)
from rmm.posterior.prediction.predict import predict
from tests.call_counts import recorded
from tests.coalitions import made_up_coalitions

FORMULA = (
    "y ~ 1 + z*region + q + offset(o) + fix(f, 0.7)"
    " + mm(id(pid, gid), vars(x + lead + fix(s, 0.3)), fn(w ~ {w}, c={c}), RE=TRUE)"
    " + hm(id=cid) + hm(id=dec, type={dec})"
)
LOGISTIC = "1/(1 + (n - 1)*exp(-(b0 + b1*(s - max(s)))))"


def faked(formula: str, table: pd.DataFrame, **options: Any) -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            formula, table, backend="fake", chains=2, draws=30, seed=1, progress=False, **options
        )


def with_offsets(table: pd.DataFrame) -> pd.DataFrame:
    code = table["gid"].str[1:].astype(int)
    return table.assign(o=np.sin(code), f=np.cos(code), lead=table["lead"].astype(int))


@pytest.fixture(scope="module")
def governments() -> pd.DataFrame:
    return with_offsets(made_up_coalitions(groups=60, members=15))


def raw_weight(rows: pd.DataFrame, b0: float, b1: float, estimated: bool) -> pd.Series:
    n = rows.groupby("gid")["x"].transform("size")
    if not estimated:
        return 1 / n
    top = rows.groupby("gid")["s"].transform("max")
    return 1 / (1 + (n - 1) * np.exp(-(b0 + b1 * (rows["s"] - top))))


def by_hand(
    fit: rmm.Fit,
    rows: pd.DataFrame,
    draw: int,
    constraint: str,
    estimated: bool,
    fixed: bool,
    fitted: pd.DataFrame,
    new_effects: dict[Any, float] | None = None,
) -> pd.Series:
    """One draw's predictor by group, with nothing of the package's design."""
    one = fit.draws["posterior"].to_dataset().isel(chain=0, draw=draw)
    b2, b1 = one["b_l2"].to_series(), one["b_l1"].to_series()
    u = {**one["u_l1"].to_series().to_dict(), **(new_effects or {})}
    b0, slope = one["b_w"].to_numpy() if estimated else (0.0, 0.0)
    raw = raw_weight(rows, b0, slope, estimated)
    if constraint == "TRUE":
        w = raw / raw.groupby(rows["gid"]).transform("sum")
    elif constraint == "2":
        w = raw * fitted["gid"].nunique() / raw_weight(fitted, b0, slope, estimated).sum()
    else:
        w = raw
    each = b1["x"] * rows["x"] + b1["lead"] * rows["lead"] + 0.3 * rows["s"] + rows["pid"].map(u)
    eta = (w * each).groupby(rows["gid"]).sum()
    first = rows.groupby("gid").first()
    eta = eta + b2["Intercept"] + b2["z"] * first["z"] + first["o"] + 0.7 * first["f"]
    for level in ("north", "west"):
        here = first["region"] == level
        eta = eta + here * (b2[f"region={level}"] + b2[f"z:region={level}"] * first["z"])
    level3 = one["b_l3_1"].to_series()
    eta = eta + level3["q"] * first["q"] + first["cid"].map(one["u_l3_1"].to_series())
    if fixed:
        means = {0: 0.0, **{int(k): v for k, v in one["b_l3_2"].to_series().items()}}
        return eta + first["dec"].map(means)
    return eta + first["dec"].map(one["u_l3_2"].to_series())


@pytest.mark.parametrize("dec", ["RE", "FE"])
@pytest.mark.parametrize("constraint", ["TRUE", "2", "FALSE"])
@pytest.mark.parametrize("weights", ["1/n", LOGISTIC], ids=["known", "estimated"])
def test_linear_predictor_is_that_of_plain_pandas(
    governments: pd.DataFrame, weights: str, constraint: str, dec: str
) -> None:
    fit = faked(FORMULA.format(w=weights, c=constraint, dec=dec), governments)
    arguments = (constraint, "b1" in weights, dec == "FE")
    eta = fit.predict(kind="linear", draws=True)
    for draw in (0, 29):
        expected = by_hand(fit, governments, draw, *arguments, fitted=governments)
        np.testing.assert_allclose(eta.isel(chain=0, draw=draw), expected, rtol=1e-9)
    # New groups of known members, without their outcome and in any order.
    some = governments[governments["gid"].isin(["g003", "g017", "g040"])]
    new = some.assign(gid="x" + some["gid"], z=some["z"] + 1).drop(columns="y")
    eta = fit.predict(new.sample(frac=1, random_state=1), "linear", draws=True)
    expected = by_hand(fit, new, 7, *arguments, fitted=governments)
    assert list(eta["group"].to_numpy()) == list(expected.index)
    np.testing.assert_allclose(eta.isel(chain=0, draw=7), expected, rtol=1e-9)


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
@pytest.mark.parametrize("constraint", ["TRUE", "2", "FALSE"])
def test_linear_predictor_is_that_of_the_engine(governments: pd.DataFrame, constraint: str) -> None:
    """`eta` of our own program, monitored beside the parameters."""
    formula = FORMULA.format(w=LOGISTIC, c=constraint, dec="RE")
    fit = rmm.fit(
        formula, governments, seed=1, chains=1, warmup=50, draws=20, progress=False, backend="jags"
    )
    draws = run_with_eta(fit)
    ours = eta_draws(fit.model, layout_of(fit.model), flat_draws(draws, fit.model))
    theirs = draws.draws["eta"].reshape(ours.shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def run_with_eta(fit: rmm.Fit) -> Any:
    from rmm.backends import find_backend

    settings = replace(fit.settings, monitor=(*fit.settings.monitor, "eta"))
    assert re.search(r"\beta\[j\] <-", fit.program)
    return find_backend("jags").run(fit.program, fit.program_data, [{}], settings, None)


@pytest.mark.parametrize("transform", ["center", "std", "std2"])
def test_transform_of_new_groups_is_that_of_the_fit(
    governments: pd.DataFrame, transform: str
) -> None:
    formula = "y ~ 1 + z + I(z^2) + q + mm(id(pid, gid), vars(x), fn(w ~ 1/n)) + hm(id=cid)"
    fit = faked(formula, governments, transform=transform)
    some = governments[governments["gid"].isin(["g003", "g017"])]
    known = fit.predict(kind="linear", draws=True).sel(group=["g003", "g017"])
    new = fit.predict(some, "linear", draws=True)
    np.testing.assert_allclose(new, known, rtol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "mean", "outcome"])
def test_sums_over_the_table_of_the_fit_are_computed_once(
    governments: pd.DataFrame, kind: str
) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ exp(b1*s), c=2), RE=TRUE)"
    fit, some = faked(formula, governments), governments[governments["gid"] == "g003"]
    expected = predict(fit.model, fit.run, some, kind, "all", 1)[1]
    with recorded({"sum": weight_totals}) as calls:
        found = [fit.predict(some, kind, draws=True, seed=1).to_numpy() for _ in range(3)]
    assert len(calls) == 1
    for values in found:
        assert (values.reshape(expected.shape) == expected).all()


def test_new_members_and_units_have_their_distribution(governments: pd.DataFrame) -> None:
    """Effects of new ones are N(0, sigma) by draw, shared by groups, gone on request."""
    formula = "y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)"
    fit = faked(formula, governments)
    new = pd.DataFrame(
        {"gid": ["a", "b", "c", "c"], "pid": [900, 900, 901, 1], "cid": [0, 0, 99, 99]}
    )
    every = fit.predict(new, "linear", draws=True)
    np.testing.assert_allclose(every.sel(group="a"), every.sel(group="b"))
    none = fit.predict(new, "linear", effects="none", draws=True)
    intercept = fit.draws["posterior"]["b_l2"].to_numpy()[..., 0]
    np.testing.assert_allclose(none.sel(group="c"), intercept)
    known = fit.predict(new, "linear", effects="known", draws=True)
    u = fit.draws["posterior"]["u_l1"].sel(member=1).to_numpy()
    np.testing.assert_allclose(known.sel(group="c"), intercept + u / 2)
    # Alone or with others, first or last: a new member has the same draws.
    alone = fit.predict(new[new["gid"] == "b"], "linear", draws=True)
    np.testing.assert_allclose(alone.sel(group="b"), every.sel(group="b"))
    assert not np.allclose(fit.predict(new, "linear", draws=True, seed=7), every)
    # Standardised effects of 300 new members and 60 draws are normal: KS at a false alarm of 1e-3.
    many = pd.DataFrame({"gid": np.arange(300), "pid": np.arange(1000, 1300), "cid": 0})
    difference = fit.predict(many, "linear", draws=True) - fit.predict(
        many, "linear", effects="known", draws=True
    )
    z = (difference / fit.draws["posterior"]["sigma_l1"]).to_numpy().ravel()
    assert stats.kstest(z, "norm").pvalue > 1e-3


LETTERS = [
    ({"z": None}, rmm.DataError, r"no column `z`\. It needs these columns: z, region, pid, gid"),
    (
        {"region": "south"},
        rmm.DataError,
        r"`region` is 'south' in row 1 .* in the fit are: east, no",
    ),
    ({"region": 3}, rmm.DataError, "`region` contains numbers in the new table, but text"),
    ({"pid": "p1"}, rmm.DataError, "`pid` contains text or categories in the new table, but"),
    (
        {"dec": 77},
        rmm.DataError,
        r"nesting unit 77 \(column `dec`\) was not in the data of the fit",
    ),
    ({"x": np.nan}, rmm.DataError, "`x` has 2 missing values"),
]


@pytest.mark.parametrize(("change", "error", "words"), LETTERS, ids=lambda v: str(v)[:24])
def test_messages_about_new_tables(
    governments: pd.DataFrame, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    fit = faked(
        "y ~ 1 + z + region + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"
        " + hm(id=dec, type=FE)",
        governments,
    )
    new = governments.drop(columns=["y", "n"]).groupby("gid").head(1).head(2)
    name, value = next(iter(change.items()))
    new = new.drop(columns=name) if value is None else new.assign(**{name: value})
    with pytest.raises(error, match=words):
        fit.predict(new)


def test_ids_are_the_same_in_columns_of_categories(governments: pd.DataFrame) -> None:
    """Whole numbers as categories, in the fit, in the new table, and in both."""
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)"
    tables = [governments, governments.astype({"pid": "category", "cid": "category"})]
    fits = [faked(formula, table) for table in tables]
    plain = fits[0].predict(governments, "linear")
    for fit in fits:
        for table in tables:
            pd.testing.assert_frame_equal(fit.predict(table, "linear"), plain)


def test_messages_about_what_was_not_kept(governments: pd.DataFrame) -> None:
    formula = "y ~ 1 + z + mm(id(pid, gid), fn(w ~ 1/n), RE=TRUE)"
    fit = faked(formula, governments, monitor="structural")
    with pytest.raises(
        rmm.BackendError,
        match=r'`u_l1`, because it was run with monitor="structural".*prediction for members that '
        r'were in .*Fit again with monitor="summary".*without random effects',
    ):
        fit.predict()
    assert len(fit.predict(effects="none")) == 60
    assert len(fit.predict(governments.assign(pid=lambda t: t["pid"] + 1000))) == 60
    with pytest.raises(
        rmm.BackendError, match=r"'median' is not a value of `kind`\. .*Allowed: mean, outcome"
    ):
        fit.predict(kind="median")
    with pytest.raises(
        rmm.BackendError, match=r"'some' is not a value of `effects`. Allowed: all, known, none"
    ):
        fit.predict(effects="some")


@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_loaded_fit_predicts_the_same(governments: pd.DataFrame, tmp_path: Path) -> None:
    fit = faked(FORMULA.format(w=LOGISTIC, c="2", dec="RE"), governments, transform="std")
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    new = governments.assign(pid=governments["pid"] + 5, cid=governments["cid"] + 3).query(
        "gid<'g2'"
    )
    for kind in ("mean", "outcome"):
        pd.testing.assert_frame_equal(again.predict(new, kind), fit.predict(new, kind))


@pytest.mark.parametrize("constraint", ["TRUE", "2"])
def test_several_kinds_of_members(governments: pd.DataFrame, constraint: str) -> None:
    """New groups with and without a member of a kind, as the same groups of the fit."""
    parties = governments.drop(columns="n").assign(mid=None, age=np.nan)
    ministers = parties.groupby("gid").head(1).query("gid < 'g040'")
    ministers = ministers.assign(
        mid="m" + (ministers["pid"] % 7).astype(str),
        age=ministers["x"],
        pid=np.nan,
        x=np.nan,
        s=np.nan,
    )
    both = pd.concat([parties, ministers], ignore_index=True)
    fit = faked(
        f"y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*s)), c={constraint}), RE=TRUE)"
        " + mm(id(mid, gid), vars(age), fn(w ~ 1/n), RE=TRUE)",
        both,
    )
    known = fit.predict(kind="linear")
    pd.testing.assert_frame_equal(fit.predict(both.drop(columns="y"), "linear"), known)
    without = fit.predict(both[both["gid"] >= "g040"], "linear")
    pd.testing.assert_frame_equal(without, known.loc["g040":])


def test_rows_without_members_keep_their_order(governments: pd.DataFrame) -> None:
    table = governments.drop_duplicates("gid").reset_index(drop=True)
    fit = faked("y ~ 1 + z", table)
    b = fit.draws["posterior"]["b_l2"].to_numpy().reshape(-1, 2).mean(axis=0)
    for eta in (fit.predict(kind="linear"), fit.predict(table[["z"]], "linear")):
        np.testing.assert_allclose(eta["mean"], b[0] + b[1] * table["z"])


def test_new_groups_share_the_baseline_of_the_fit(governments: pd.DataFrame) -> None:
    """What a family draws from the fit's predictor reaches the outcomes of new groups."""
    family = replace(
        GAUSSIAN,
        baseline=lambda eta, own, outcome, rng: eta.mean(axis=1, keepdims=True),
        draw=lambda eta, own, outcome, rng: eta + outcome["baseline"],
    )
    fit = faked("y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n), RE=TRUE)", governments, family=family)
    new = governments[governments["gid"] < "g003"]
    eta = fit.predict(kind="linear", draws=True)
    outcome = fit.predict(new, "outcome", draws=True)
    np.testing.assert_allclose(outcome, eta[..., :3] + eta.mean("group"))


# ---- checks that are for fitting alone -----------------------------------------------------------


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    rng = np.random.default_rng(9)
    group = np.repeat(np.arange(40), 2)
    member = np.concatenate([rng.choice(8, 2, replace=False) for _ in range(40)])
    return pd.DataFrame(
        {
            "g": group,
            "m": member,
            "c": (group % 5),
            "x": rng.normal(size=80),
            "z": rng.normal(size=40)[group],
            "v": (group % 5) * 1.5,
            "y": rng.normal(size=40)[group],
        }
    )


ODD_NEW = {
    "no outcome": lambda t: t.drop(columns="y"),
    "an outcome that varies": lambda t: t.assign(y=range(len(t))),
    "an outcome of text": lambda t: t.assign(y="unknown"),
    "an outcome that is infinite": lambda t: t.assign(y=np.inf),
    "an outcome of dates": lambda t: t.assign(y=pd.Timestamp("2031-01-01")),
    "one group": lambda t: t[t["g"] == 3],
    "groups of one": lambda t: t.drop_duplicates("g"),
    "a constant predictor": lambda t: t.assign(z=0.0, x=1.0),
    "groups that are alike": lambda t: pd.concat([t[t["g"] == 0].assign(g=i) for i in range(15)]),
    "new members": lambda t: t.assign(m=t["m"] + 50, c=t["c"] + 50),
    "a covariate that varies in its unit": lambda t: t.assign(v=t["z"]),
    "columns named like the member": lambda t: t.drop_duplicates("g").assign(m1=1, m2=2),
}


@pytest.mark.parametrize("name", ODD_NEW)
def test_new_data_are_not_checked_like_those_of_a_fit(name: str, pairs: pd.DataFrame) -> None:
    fit = faked("y ~ z + mm(id(m, g), vars(x), RE=TRUE) + hm(id=c, vars=vars(v))", pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = fit.predict(ODD_NEW[name](pairs), new=True)
    assert np.isfinite(predicted["mean"]).all()


def test_a_grid_of_equal_rows_is_predicted_without_a_warning(pairs: pd.DataFrame) -> None:
    fit = faked("y ~ z", pairs.drop_duplicates("g"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fit.predict({"z": [0.0] * 30})) == 30
