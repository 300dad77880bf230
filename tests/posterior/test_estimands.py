"""Ready estimands: against plain pandas on the draws, differences of predictions, statsmodels.

Where it does not matter what draws mean, they come from the fake backend (gaussian models alone),
or are few.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import special

import rmm
from rmm.posterior.estimands import ESTIMANDS
from rmm.posterior.estimands.changed_groups import Expected, table_of
from rmm.posterior.estimands.marginal_effect import _own_slope
from rmm.posterior.estimands.quantity import Source
from rmm.simulation.estimands import TRUE_ESTIMANDS
from tests.coalitions import made_up_coalitions

LOGISTIC = "1/(1 + (n - 1)*exp(-(b1*s)))"
FORMULA = (
    "{y} ~ 1 + z*region + mm(id(pid, gid), vars(x + lead), fn(w ~ {w}, c = {c}), RE = TRUE)"
    " + hm(id = cid)"
)


def faked(formula: str, table: pd.DataFrame, family: str = "gaussian", **options: Any) -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            formula,
            table,
            family,
            backend="fake" if family == "gaussian" else "laplace",
            chains=2,
            draws=20,
            seed=1,
            progress=False,
            **options,
        )


@pytest.fixture(scope="module")
def governments() -> pd.DataFrame:
    table = made_up_coalitions(groups=50, members=15).drop(columns="n")
    first = table.groupby("gid")["y"].transform("first")
    return table.assign(
        lead=table["lead"].astype(int),
        party="p" + table["pid"].astype(str),
        won=(first > 1).astype(int),
        t=np.exp(first / 2),
        e=(first < 2.5).astype(int),
    )


@pytest.fixture(scope="module")
def fit(governments: pd.DataFrame) -> rmm.Fit:
    return faked(FORMULA.format(y="y", w=LOGISTIC, c="TRUE"), governments)


def posterior(fit: rmm.Fit) -> Any:
    return fit.draws["posterior"].to_dataset().stack(s=("chain", "draw"))


def raw_weights(rows: pd.DataFrame, b: np.ndarray) -> np.ndarray:
    """(M, S) raw weights of `LOGISTIC`."""
    n = rows.groupby("gid")["x"].transform("size").to_numpy()[:, None]
    return 1 / (1 + (n - 1) * np.exp(-b * rows["s"].to_numpy()[:, None]))


def shares(rows: pd.DataFrame, raw: np.ndarray) -> np.ndarray:
    return raw / pd.DataFrame(raw).groupby(rows["gid"].to_numpy()).transform("sum").to_numpy()


def flat(found: Any) -> np.ndarray:
    """(labels, S) draws, or (S,)."""
    return np.asarray(found.stack(s=("chain", "draw")).to_numpy())


# -- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["TRUE", "2", "FALSE"])
def test_weights_are_those_of_plain_pandas(governments: pd.DataFrame, constraint: str) -> None:
    fit = faked(FORMULA.format(y="y", w=LOGISTIC, c=constraint), governments)
    rows = governments.sort_values(["gid", "pid"]).reset_index(drop=True)
    raw = raw_weights(rows, posterior(fit)["b_w"].to_numpy()[0])
    share = shares(rows, raw)
    w = {"TRUE": share, "2": raw * rows["gid"].nunique() / raw.sum(axis=0), "FALSE": raw}
    weight = pd.DataFrame(w[constraint])
    groups = rows["gid"].to_numpy()

    largest = rows.groupby("gid")["s"].idxmax().to_numpy()
    each = fit.estimand("largest_weight", by="s", average=False, draws=True)
    assert each.dims == ("chain", "draw", "group")
    np.testing.assert_allclose(flat(each), weight.to_numpy()[largest])
    mean = fit.estimand("largest_weight", by="s", draws=True)
    assert mean.dims == ("chain", "draw")
    np.testing.assert_allclose(flat(mean), weight.to_numpy()[largest].mean(axis=0))
    shared = fit.estimand("largest_weight", by="s", share=True, draws=True)
    np.testing.assert_allclose(flat(shared), share[largest].mean(axis=0))

    own = weight[rows["pid"] == 7]
    np.testing.assert_allclose(
        flat(fit.estimand("member_weight", member=7, draws=True)), own.mean()
    )
    table = fit.estimand("member_weight", member="7", average=False)
    assert list(table.index) == list(groups[own.index])
    np.testing.assert_allclose(table["q2.5"], own.quantile(0.025, axis=1))

    number = 1 / (pd.DataFrame(share) ** 2).groupby(groups).sum()
    found = fit.estimand("effective_members", average=False, draws=True)
    np.testing.assert_allclose(flat(found), number)
    np.testing.assert_allclose(
        flat(fit.estimand("effective_members", draws=True)), number.mean(axis=0)
    )


def test_members_that_tie_share_the_largest_weight(fit: rmm.Fit, governments: pd.DataFrame) -> None:
    rows = governments.sort_values(["gid", "pid"]).reset_index(drop=True)
    w = shares(rows, raw_weights(rows, posterior(fit)["b_w"].to_numpy()[0]))
    top = rows["lead"] == rows.groupby("gid")["lead"].transform("max")
    expected = pd.DataFrame(w[top]).groupby(rows["gid"][top].to_numpy()).mean()
    found = fit.estimand("largest_weight", by="lead", average=False, draws=True)
    np.testing.assert_allclose(flat(found), expected)


def test_known_weights_have_no_uncertainty(governments: pd.DataFrame) -> None:
    """An interval is one point then, and the effective number that of members: a bound."""
    fit = faked(FORMULA.format(y="y", w="1/n", c="TRUE"), governments)
    found = fit.estimand("effective_members", average=False)
    np.testing.assert_allclose(found["q2.5"], governments.groupby("gid").size())
    np.testing.assert_allclose(found["sd"], 0, atol=1e-12)
    assert fit.estimand("largest_weight", by="s", draws=True).shape == (2, 20)


def test_groups_without_weight_and_negative_weights(governments: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ {w}, c = FALSE), RE = TRUE)"
    table = governments.assign(k=np.where(governments["gid"] == "g004", 0, 1 + governments["lead"]))
    fit = faked(formula.format(w="k"), table)
    found = fit.estimand("effective_members", average=False)["mean"]
    assert found["g004"] == 0
    k = table[table["gid"] == "g005"]["k"]
    assert found["g005"] == pytest.approx(k.sum() ** 2 / (k**2).sum())
    with pytest.raises(rmm.BackendError, match="of group 'g004' sum to 0"):
        fit.estimand("member_weight", member=7, share=True)
    negative = faked(formula.format(w="s"), table)
    with pytest.raises(rmm.BackendError, match="negative in 100% of the draws"):
        negative.estimand("effective_members")


# -- variance shares ---------------------------------------------------------------------------


def test_variance_shares_are_those_of_the_components(fit: rmm.Fit) -> None:
    table = fit.estimand("variance_share")
    pd.testing.assert_frame_equal(table, fit.variance_components()["share"], check_names=False)
    one = fit.estimand("variance_share", component="nesting units")
    assert one.to_numpy() == pytest.approx(table.loc[["nesting units"]].to_numpy())
    draws = fit.estimand("variance_share", draws=True)
    np.testing.assert_allclose(draws.sum("component"), 1)
    with pytest.raises(rmm.BackendError, match=r"Did you mean 'members'\? Allowed: members, nest"):
        fit.estimand("variance_share", component="member")


# -- average marginal effects ------------------------------------------------------------------


def difference(
    fit: rmm.Fit, table: pd.DataFrame, low: dict[str, Any], high: dict[str, Any], **options: Any
) -> np.ndarray:
    """(S, J) differences of predictions for two tables."""
    one, two = (fit.predict(table.assign(**c), draws=True, **options) for c in (low, high))
    return flat(two - one).T


@pytest.mark.parametrize("constraint", ["TRUE", "2", "FALSE"])
def test_marginal_effects_are_differences_of_predictions(
    governments: pd.DataFrame, constraint: str
) -> None:
    formula = FORMULA.format(y="won", w=LOGISTIC, c=constraint)
    fit = faked(formula, governments, "binomial")
    h = 1e-4
    for name in ("x", "z", "s"):
        moved = [{name: governments[name] + sign * h} for sign in (-1, 1)]
        expected = difference(fit, governments, *moved).mean(axis=1) / (2 * h)
        found = flat(fit.estimand("marginal_effect", variable=name, draws=True))
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    # One member's covariate alone, in its groups.
    rows = governments["pid"] == 7
    moved = [{"x": governments["x"] + sign * h * rows} for sign in (-1, 1)]
    inside = np.isin(sorted(governments["gid"].unique()), governments["gid"][rows])
    expected = difference(fit, governments, *moved)[:, inside].mean(axis=1) / (2 * h)
    found = flat(fit.estimand("marginal_effect", variable="x", member=7, draws=True))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    # A category, and two values of a number.
    table = fit.estimand("marginal_effect", variable="region")
    assert list(table.index) == ["north", "west"]
    expected = difference(fit, governments, {"region": "east"}, {"region": "west"})
    assert table.loc["west", "mean"] == pytest.approx(expected.mean())
    expected = difference(fit, governments, {"lead": 0}, {"lead": 1}).mean(axis=1)
    found = flat(fit.estimand("marginal_effect", variable="lead", values=(0, 1), draws=True))
    np.testing.assert_allclose(found, expected)


def test_marginal_effects_of_durations(governments: pd.DataFrame) -> None:
    formula = FORMULA.format(y="Surv(t, e)", w=LOGISTIC, c="TRUE")
    fit = faked(formula, governments, "weibull")
    h, shape = 1e-4, posterior(fit)["shape"].to_numpy()
    low, high = (
        flat(fit.predict(governments.assign(x=governments["x"] + s * h), "linear", draws=True))
        for s in (-1, 1)
    )
    scales = {
        "median": lambda eta: np.exp(eta) * np.log(2) ** (1 / shape),
        "mean": lambda eta: np.exp(eta) * special.gamma(1 + 1 / shape),
        "survival": lambda eta: np.exp(-((1.5 / np.exp(eta)) ** shape)),
        "linear": lambda eta: eta,
    }
    for scale, value in scales.items():
        time = {"time": 1.5} if scale == "survival" else {}
        expected = (value(high) - value(low)).mean(axis=0) / (2 * h)
        found = fit.estimand("marginal_effect", variable="x", scale=scale, draws=True, **time)
        np.testing.assert_allclose(flat(found), expected, rtol=1e-4)
    assert fit.estimand("marginal_effect", variable="x").equals(
        fit.estimand("marginal_effect", variable="x", scale="median")
    )
    with pytest.raises(rmm.BackendError, match="needs `time`, a positive number"):
        fit.estimand("marginal_effect", variable="x", scale="survival")


@pytest.mark.parametrize("family", ["binomial", "gaussian"])
def test_marginal_effects_of_regressions_are_those_of_statsmodels(family: str) -> None:
    """Without random effects, with vague priors and 2,000 rows.

    Posterior means and sds differ from maximum likelihood by O(1/n) of a sd, and by Monte Carlo
    errors: 4 of these, for 4,000 draws, are .063 sd of a mean and 4.5% of a sd.
    """
    rng = np.random.default_rng(4)
    count = 2000
    table = pd.DataFrame({"x": rng.normal(size=count), "k": rng.choice(["a", "b", "c"], count)})
    eta = -0.5 + 0.8 * table["x"] + 0.7 * (table["k"] == "c")
    table["y"] = eta + rng.normal(size=count)
    if family == "binomial":
        table["y"] = (rng.random(count) < special.expit(eta)).astype(int)
    square = " + I(x^2)" if family == "gaussian" else ""
    fit = rmm.fit(
        f"y ~ 1 + x + k{square}",
        table,
        family,
        backend="laplace",
        priors={"b_l2": "normal(0, 100)"},
        chains=4,
        draws=1000,
        ess=4000,
        seed=2,
        progress=False,
    )
    found = pd.concat([fit.estimand("marginal_effect", variable=v) for v in ("x", "k")])
    if family == "binomial":
        margins = smf.logit("y ~ x + k", table).fit(disp=0).get_margeff(dummy=True)
        means, sds = margins.margeff[[2, 0, 1]], margins.margeff_se[[2, 0, 1]]
    else:  # OLS has no get_margeff; the derivative is b + 2 c mean(x)
        ols = smf.ols("y ~ k + x + I(x**2)", table).fit()
        at = np.array([[0, 0, 0, 1, 2 * table["x"].mean()], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]])
        means, sds = at @ ols.params, np.sqrt(np.diag(at @ ols.cov_params() @ at.T))
    assert (np.abs(found["mean"] - means) < 0.08 * sds).all()
    np.testing.assert_allclose(found["sd"], sds, rtol=0.05)


def test_survival_of_the_cox_family_is_that_of_kaplan_and_meier() -> None:
    """S(t), averaged over groups, is about the share of longer durations where none is censored.

    At ends of intervals, between which a piecewise constant hazard differs from it. The sd of the
    share is below .5/sqrt(300) = .029; half of it is far from what another baseline gives.
    """
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"x": rng.normal(size=300), "t": rng.exponential(2, 300), "e": 1})
    for options in ({}, {"intervals": 8}):
        fit = rmm.fit(
            "Surv(t, e) ~ x", table, "cox", backend="laplace", seed=1, progress=False, **options
        )
        ends = np.quantile(table["t"], [0.25, 0.5, 0.75], method="inverted_cdf")
        for time in map(float, ends):
            whole = Expected.of(Source(fit.model, fit.run, 1), None, time)
            values = whole.of_fit(table_of(fit.model)).mean(axis=1)
            share = np.mean(table["t"] > time)
            assert values.mean() == pytest.approx(share, abs=0.014)
            assert values.std() == pytest.approx(np.sqrt(share * (1 - share) / 300), rel=0.25)
        effect = fit.estimand("marginal_effect", variable="x", time=2.0)
        slope = fit.summary().loc["b_l2[x]", "mean"]  # dS/dx = S log(S) b
        share = np.mean(table["t"] > 2)
        expected = share * np.log(share) * slope
        assert effect["mean"].iloc[0] == pytest.approx(expected, rel=0.15)
        with pytest.raises(rmm.BackendError, match="Choose an earlier `time`"):
            fit.estimand("marginal_effect", variable="x", time=1e3)
        with pytest.raises(rmm.BackendError, match="'mean' is not a scale of family 'cox'"):
            fit.estimand("marginal_effect", variable="x", scale="mean")


def test_random_walks_keep_their_effects(governments: pd.DataFrame) -> None:
    """With weights that sum to one and no other use of x its effect is the coefficient."""
    table = governments.assign(when=governments["gid"].str[1:].astype(int))
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE, ar = when)"
    fit = faked(formula, table)
    same = Expected.of(Source(fit.model, fit.run), None, None).of_fit(table_of(fit.model))
    np.testing.assert_allclose(same.T, flat(fit.predict(draws=True)))
    found = flat(fit.estimand("marginal_effect", variable="x", draws=True))
    np.testing.assert_allclose(found, posterior(fit)["b_l1"].to_numpy()[0], rtol=1e-6)
    with pytest.raises(rmm.BackendError, match="not available with random walks"):
        fit.estimand("contrast", group="g003", without=[7])


# -- contrasts ---------------------------------------------------------------------------------


def members_part(rows: pd.DataFrame, draws: Any, raw: np.ndarray) -> np.ndarray:
    """(S,) sum of w (x'b + u) of one group, with weights that sum to 1."""
    b, u = draws["b_l1"].to_numpy(), draws["u_l1"].to_pandas()
    each = np.outer(rows["x"], b[0]) + np.outer(rows["lead"], b[1]) + u.loc[rows["pid"]].to_numpy()
    return (raw / raw.sum(axis=0) * each).sum(axis=0)


def test_contrasts_are_those_of_plain_pandas(fit: rmm.Fit, governments: pd.DataFrame) -> None:
    draws = posterior(fit)
    b_w = draws["b_w"].to_numpy()[0]
    rows = governments[governments["gid"] == "g003"].sort_values("pid").reset_index(drop=True)
    gone, stays = rows["pid"].iloc[0], rows["pid"].iloc[1]
    other = next(p for p in governments["pid"].unique() if p not in set(rows["pid"]))
    before = members_part(rows, draws, raw_weights(rows, b_w))

    def changed(new: pd.DataFrame) -> np.ndarray:
        return members_part(new, draws, raw_weights(new, b_w)) - before

    cases = {
        "leaves": ({"without": [gone]}, rows[rows["pid"] != gone]),
        # x, lead and s differ between the groups of a member: they stay at the place.
        "swap inside": ({"swap": (gone, stays)}, rows.replace({"pid": {gone: stays, stays: gone}})),
        "replaced": ({"swap": (gone, other)}, rows.replace({"pid": {gone: other}})),
        "joins": (
            {"joins": {"pid": [other], "x": [0.5], "lead": [1], "s": [-0.2]}},
            pd.concat(
                [rows, rows.iloc[[0]].assign(pid=other, x=0.5, lead=1, s=-0.2)], ignore_index=True
            ),
        ),
    }
    for options, new in cases.values():
        found = fit.estimand("contrast", group="g003", draws=True, **options)
        np.testing.assert_allclose(flat(found.sel(composition="change")), changed(new), atol=1e-10)
        before_of_fit = fit.predict(kind="linear", draws=True).sel(group="g003")
        np.testing.assert_allclose(flat(found.sel(composition="before")), flat(before_of_fit))
        tables = fit.estimand("contrast", before=rows, after=new, draws=True)
        np.testing.assert_allclose(flat(tables), flat(found), atol=1e-10)
    table = fit.estimand("contrast", group="g003", without=[gone])
    assert list(table.index) == ["before", "after", "change"]


def test_what_belongs_to_members_goes_with_them(governments: pd.DataFrame) -> None:
    """`own` is constant within parties, `x` is not."""
    table = governments.assign(own=np.sin(governments["pid"]))
    formula = "won ~ 1 + mm(id(party, gid), vars(x + own), fn(w ~ 1/n), RE = TRUE)"
    fit = faked(formula, table, "binomial")
    rows = table[table["gid"] == "g003"].reset_index(drop=True)
    other = next(p for p in table["pid"].unique() if p not in set(rows["pid"]))
    new = rows.copy()
    new.loc[0, ["party", "own"]] = [f"p{other}", np.sin(other)]
    expected = flat(fit.predict(new, draws=True) - fit.predict(rows, draws=True))[0]
    swap = (rows["party"].iloc[0], f"p{other}")
    found = fit.estimand("contrast", group="g003", swap=swap, draws=True)
    np.testing.assert_allclose(flat(found.sel(composition="change")), expected, atol=1e-12)


def test_a_member_that_joins_unknown_has_an_effect_of_the_population(fit: rmm.Fit) -> None:
    joins = {"pid": [99], "x": [0.5], "lead": [1], "s": [-0.2]}
    one, two = (
        fit.estimand("contrast", group="g003", joins=joins, seed=seed, draws=True)
        for seed in (1, 2)
    )
    assert not np.allclose(one.sel(composition="after"), two.sel(composition="after"))
    np.testing.assert_allclose(one.sel(composition="before"), two.sel(composition="before"))


def test_totals_of_weights_are_those_of_the_fit(governments: pd.DataFrame) -> None:
    """Under constraint 2 those who stay keep their weights."""
    fit = faked(FORMULA.format(y="y", w=LOGISTIC, c="2"), governments)
    rows = governments[governments["gid"] == "g003"]
    gone = rows["pid"].iloc[0]
    new = rows[rows["pid"] != gone]
    expected = flat(fit.predict(new, draws=True) - fit.predict(rows, draws=True))[0]
    found = fit.estimand("contrast", group="g003", without=[gone], draws=True)
    np.testing.assert_allclose(flat(found.sel(composition="change")), expected, atol=1e-12)


# -- ranks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["1/n", LOGISTIC])
def test_ranks_are_those_of_plain_pandas(governments: pd.DataFrame, weights: str) -> None:
    fit = faked(FORMULA.format(y="y", w=weights, c="TRUE"), governments)
    draws = posterior(fit)
    u = draws["u_l1"].to_pandas()
    found = fit.estimand("rank", draws=True)
    np.testing.assert_array_equal(flat(found), u.rank(ascending=False).to_numpy())
    rows = governments.sort_values(["gid", "pid"]).reset_index(drop=True)
    slope = draws["b_w"].to_numpy()[0] if weights == LOGISTIC else np.zeros(u.shape[1])
    w = shares(rows, raw_weights(rows, slope))
    b = draws["b_l1"].to_numpy()
    each = np.outer(rows["x"], b[0]) + np.outer(rows["lead"], b[1]) + u.loc[rows["pid"]].to_numpy()
    mean = pd.DataFrame(w * each).groupby(rows["pid"].to_numpy()).mean()
    expected = mean.rank(ascending=False)
    found = fit.estimand("rank", of="contribution", draws=True)
    np.testing.assert_array_equal(flat(found), expected.to_numpy())
    one = fit.estimand("rank", of="contribution", member=7)
    assert one["mean"].iloc[0] == pytest.approx(expected.loc[7].mean())


# -- calls -------------------------------------------------------------------------------------


def test_a_mapping_of_a_study_file_is_the_same_call(fit: rmm.Fit) -> None:
    spec = {"estimand": "largest_weight", "by": "s", "null": 0.5, "alpha": 0.1}
    assert fit.estimand(spec).equals(fit.estimand("largest_weight", by="s"))
    assert fit.estimand(spec, average=False).index.name == "group"


def test_a_loaded_fit_gives_the_same(fit: rmm.Fit, tmp_path: Any) -> None:
    loaded = rmm.load(fit.save(tmp_path / "fit.nc"))
    for name, options in {
        "effective_members": {},
        "marginal_effect": {"variable": "x"},
        "contrast": {"group": "g003", "without": [7]},
        "rank": {"of": "contribution"},
    }.items():
        one, two = (f.estimand(name, **options) for f in (fit, loaded))
        np.testing.assert_allclose(one, two, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("largest", {}, rmm.BackendError, "'largest' is not an estimand. Did you mean"),
        (1, {}, rmm.BackendError, "must be a name, such as 'largest_weight', or a mapping"),
        ("rank", {"off": "effect"}, rmm.BackendError, "not an option of estimand 'rank'"),
        ("largest_weight", {}, rmm.BackendError, "'largest_weight' needs `by`"),
        ("largest_weight", {"by": "power"}, rmm.DataError, "not a column of the table of the fit"),
        ("largest_weight", {"by": "region"}, rmm.DataError, "`region` is not numeric"),
        ("member_weight", {"member": 77}, rmm.DataError, "77 is not a member of column `pid`"),
        (
            "effective_members",
            {"block": 2},
            rmm.BackendError,
            r"has 1 mm\(\) block, but `block` is 2",
        ),
        ("marginal_effect", {"variable": "pid"}, rmm.DataError, "'pid' is not a covariate"),
        ("marginal_effect", {"variable": "y"}, rmm.DataError, "'y' is not a covariate"),
        ("marginal_effect", {"variable": "z", "member": 7}, rmm.DataError, "used outside mm"),
        ("marginal_effect", {"variable": "x", "values": 1}, rmm.DataError, "must be two values"),
        ("marginal_effect", {"variable": "x", "scale": "odds"}, rmm.BackendError, "not a scale."),
        (
            "marginal_effect",
            {"variable": "x", "scale": "survival"},
            rmm.BackendError,
            "'survival' is not a scale of family 'gaussian'",
        ),
        (
            "marginal_effect",
            {"variable": "x", "scale": "mean", "time": 1},
            rmm.BackendError,
            "`time` is for scale='survival'",
        ),
        ("contrast", {}, rmm.DataError, "Two compositions are needed"),
        ("contrast", {"group": "g003"}, rmm.DataError, "Nothing changes in group 'g003'"),
        ("contrast", {"group": "g9", "without": [1]}, rmm.DataError, "not a group of column `gid`"),
        ("contrast", {"group": "g003", "without": [77]}, rmm.DataError, "not a member of this"),
        ("contrast", {"group": "g003", "without": "a"}, rmm.DataError, "must be a list of members"),
        ("contrast", {"group": "g003", "swap": [1]}, rmm.DataError, "must be two members"),
        ("contrast", {"group": "g003", "joins": {"pid": [99]}}, rmm.DataError, "no column `x`"),
        ("rank", {"of": "weight"}, rmm.BackendError, "'weight' is not a value of `of`"),
    ],
)
def test_mistakes(
    fit: rmm.Fit, name: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit.estimand(name, **options)


def test_models_without_what_is_asked_for(governments: pd.DataFrame) -> None:
    plain = faked("y ~ 1 + z", governments.groupby("gid").first().reset_index())
    with pytest.raises(
        rmm.BackendError, match=r"Without mm\(\) there are no members and no weights"
    ):
        plain.estimand("effective_members")
    fixed = faked("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = FALSE)", governments)
    with pytest.raises(rmm.BackendError, match="no random effects to rank"):
        fixed.estimand("rank")
    structural = faked(FORMULA.format(y="y", w="1/n", c="TRUE"), governments, monitor="structural")
    with pytest.raises(rmm.BackendError, match="kept no draws of the random effects"):
        structural.estimand("contrast", group="g003", without=[1])


@pytest.mark.parametrize("constraint", ["TRUE", "2", "FALSE"])
@pytest.mark.parametrize("weights", ["1/n", "exp(b1*s)"])
def test_own_slopes_are_differences_of_predictions(
    governments: pd.DataFrame, weights: str, constraint: str
) -> None:
    """The slope of a covariate of members alone, and the general calculation beside it."""
    formula = FORMULA.format(y="y", w=weights, c=constraint)
    fit, h = faked(formula, governments), 1e-4
    moved = [{"x": governments["x"] + sign * h} for sign in (-1, 1)]
    expected = difference(fit, governments, *moved).mean(axis=1) / (2 * h)
    found = flat(fit.estimand("marginal_effect", variable="x", draws=True))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert _own_slope(Source(fit.model, fit.run), "x") is not None
    for name in ("s", "z", "region"):  # in weights, an interaction, a factor
        assert _own_slope(Source(fit.model, fit.run), name) is None
    # A variable of the formula and of the weights has no slope of its own.
    both = faked(formula.replace(weights, "exp(b1*x)"), governments)
    assert _own_slope(Source(both.model, both.run), "x") is None


def test_own_slopes_need_no_effects(governments: pd.DataFrame) -> None:
    structural = faked(FORMULA.format(y="y", w="1/n", c="TRUE"), governments, monitor="structural")
    found = flat(structural.estimand("marginal_effect", variable="x", draws=True))
    place = structural.model.design.coords["covariate_l1"].tolist().index("x")
    np.testing.assert_allclose(found.ravel(), structural.run.draws["b_l1"][..., place].ravel())
    with pytest.raises(rmm.BackendError, match="kept no draws of the random effects"):
        structural.estimand("marginal_effect", variable="z")


def test_options_of_true_values_are_those_of_estimates() -> None:
    """A study file says both by the same words."""
    assert list(TRUE_ESTIMANDS) == list(ESTIMANDS)
    for name, row in TRUE_ESTIMANDS.items():
        theirs = ESTIMANDS[name].options
        for option, default in row.options.items():
            assert option in theirs, (name, option)
            needed = default is inspect.Parameter.empty  # where an estimate may be of several
            assert needed or default == theirs[option], (name, option)


# -- several kinds of members ------------------------------------------------------------------


def test_kinds_of_members(governments: pd.DataFrame) -> None:
    """Parties and ministers: a block has its own members, and some groups have no minister."""
    rng = np.random.default_rng(8)
    few = governments[governments["gid"] < "g030"]
    groups = sorted(few["gid"].unique())[:25]
    ministers = pd.DataFrame(
        {
            "gid": np.repeat(groups, 2),
            "mid": np.concatenate([rng.choice(9, 2, replace=False) for _ in groups]),
            "age": rng.normal(size=50),
        }
    )
    first = few.groupby("gid")[["y", "z"]].first()
    parties = few[["gid", "pid", "x", "s"]]
    table = pd.concat([parties, ministers], ignore_index=True).join(first, on="gid")
    formula = (
        f"y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ {LOGISTIC}), RE = TRUE)"
        " + mm(id(mid, gid), vars(age), fn(w ~ 1/n), RE = TRUE)"
    )
    fit = faked(formula, table)
    found = fit.estimand("effective_members", block=2, average=False)
    assert list(found.index) == groups
    np.testing.assert_allclose(found["mean"], 2)
    assert len(fit.estimand("effective_members", average=False)) == 30
    b = posterior(fit)["b_l1_2"].to_numpy()[0]
    # The mean over all groups, of which 25 of 30 have ministers; their weights sum to 1.
    effect = flat(fit.estimand("marginal_effect", variable="age", draws=True))
    np.testing.assert_allclose(effect, b * 25 / 30, rtol=1e-6)
    one = flat(fit.estimand("marginal_effect", variable="age", member=3, block=2, draws=True))
    np.testing.assert_allclose(one, b / 2, rtol=1e-6)
    rows = table[table["gid"] == "g003"]
    gone = rows["mid"].dropna().iloc[0]
    new = rows[rows["mid"] != gone]
    expected = flat(fit.predict(new, draws=True) - fit.predict(rows, draws=True))[0]
    change = fit.estimand("contrast", group="g003", without=[gone], block=2, draws=True)
    np.testing.assert_allclose(flat(change.sel(composition="change")), expected, atol=1e-12)
    ranks = fit.estimand("rank", block=2)
    assert sorted(ranks.index) == list(range(9))


@pytest.fixture(scope="module")
def mixed() -> pd.DataFrame:
    """Rows with a party and a minister each; both columns have whole numbers."""
    rng = np.random.default_rng(3)
    gid = np.repeat(np.arange(30), 2)
    pid, mid = (np.concatenate([rng.choice(8, 2, replace=False) for _ in range(30)]) for _ in "ab")
    table = pd.DataFrame({"gid": gid, "pid": pid, "mid": mid + 50, "y": rng.normal(size=30)[gid]})
    return table.assign(x=rng.normal(size=60), age=rng.normal(size=60))


def test_a_member_of_one_kind_joins_alone(mixed: pd.DataFrame) -> None:
    """The new row has no minister, though every row of the fit has one."""
    fit = faked(
        "y ~ 1 + mm(id(pid, gid), vars(x), RE = TRUE) + mm(id(mid, gid), vars(age), RE = TRUE)",
        mixed,
    )
    rows = mixed[mixed["gid"] == 4]
    other = next(p for p in range(8) if p not in set(rows["pid"]))
    new = pd.concat([rows, rows.iloc[[0]].assign(pid=other, x=0.5, mid=None, age=None)])
    expected = flat(fit.predict(new, draws=True) - fit.predict(rows, draws=True))[0]
    joins = {"pid": [other], "x": [0.5]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit.estimand("contrast", group=4, joins=joins, draws=True)
    np.testing.assert_allclose(flat(found.sel(composition="change")), expected, atol=1e-12)
    with pytest.raises(rmm.DataError, match="no column `x`"):
        fit.estimand("contrast", group=4, joins={"pid": [other]})


@pytest.fixture(scope="module")
def cabinets() -> pd.DataFrame:
    """Governments of one head and two partners; party 0 is never a head, party 7 only a head."""
    rng = np.random.default_rng(6)
    rows = []
    for g in range(40):
        head = 7 if g % 5 == 0 else int(rng.integers(1, 7))
        partners = rng.choice([p for p in range(7) if p != head], 2, replace=False)
        y = rng.normal()
        rows.append({"gid": g, "y": y, "head": f"p{head}"})
        rows += [{"gid": g, "y": y, "partner": f"p{p}", "x": rng.normal()} for p in partners]
    table = pd.DataFrame(rows)
    return table.assign(size=table["partner"].str[1:].astype(float) ** 2)


HEAD = "mm(id(head, gid), RE = TRUE, cor = party, name = head)"
PARTNER = "mm(id(partner, gid), vars({x}), RE = TRUE, cor = party, name = partner)"


def test_members_of_other_roles(cabinets: pd.DataFrame) -> None:
    fit = faked(f"y ~ 1 + {HEAD} + {PARTNER.format(x='x')}", cabinets)
    for name, options in {
        "member_weight": {},
        "rank": {"of": "contribution"},
        "marginal_effect": {"variable": "x"},
    }.items():
        with pytest.raises(
            rmm.DataError,
            match=r"'p7' is in no row of column `partner` \(block=2\), only of column `head` "
            r"\(block=1\)",
        ):
            fit.estimand(name, member="p7", block=2, **options)
    assert fit.estimand("member_weight", member="p7", block=1)["mean"].item() == 1
    ranks = fit.estimand("rank", of="contribution", block=2)
    assert list(ranks.index) == [f"p{i}" for i in range(7)]
    assert ranks["mean"].sum() == pytest.approx(7 * 8 / 2)
    one = fit.estimand("rank", of="contribution", block=1, member="p7")
    everyone = fit.estimand("rank", of="contribution", block=1)
    assert one["mean"].item() == everyone.loc["p7", "mean"]


def test_a_member_of_another_role_swaps_in(cabinets: pd.DataFrame) -> None:
    """Only its id changes, as in the two tables."""
    fit = faked(f"y ~ 1 + {HEAD} + {PARTNER.format(x='x')}", cabinets)
    rows = cabinets[cabinets["gid"] == 1]
    assert "p7" not in set(rows["head"])
    partner = rows["partner"].dropna().iloc[0]
    after = rows.replace({"partner": {partner: "p7"}})
    swapped = fit.estimand("contrast", group=1, swap=(partner, "p7"), block=2)
    tables = fit.estimand("contrast", before=rows, after=after)
    pd.testing.assert_frame_equal(swapped, tables)
    sized = faked(f"y ~ 1 + {HEAD} + {PARTNER.format(x='size')}", cabinets)
    with pytest.raises(rmm.DataError, match=r"no row of column `partner`.* of `size` is"):
        sized.estimand("contrast", group=1, swap=(partner, "p7"), block=2)
