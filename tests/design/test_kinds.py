"""Several kinds of members: parties and ministers in one stacked table.

Sums are checked by pandas code that knows nothing of the package's arrays.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends.base import Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.jags import program as jags
from rmm.backends.jags import run as jags_engine
from rmm.backends.stan import run as stan_engine
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.design.prepare import Model, prepare
from rmm.simulation import simulate
from rmm.simulation.recipe_errors import RecipeError
from tests.family_cases import half_normal_by_raw

PARTY = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE, name=party)"
MINISTER = "mm(id(mid, gid), vars(age), fn(w ~ 1/n^exp(-b1*rank)), RE=TRUE, name=minister)"
FORMULA = f"y ~ 1 + z + {PARTY} + {MINISTER}"
TRUTH = {
    "b_l2[Intercept]": 1.0,
    "b_l2[z]": 0.5,
    "b_l1_party[x]": 0.8,
    "b_l1_minister[age]": -0.6,
    "b_w_minister[b1]": 0.7,
    "sigma_l1_party": 0.7,
    "sigma_l1_minister": 0.5,
    "sigma_l2": 0.4,
}


def cabinets(groups: int = 90, seed: int = 11) -> pd.DataFrame:
    """Parties and ministers of governments, stacked: ids and covariates of the others missing.

    Every third government has no minister, every tenth other one no party.
    """
    rng = np.random.default_rng(seed)
    u, m = rng.normal(0, 0.7, 20), rng.normal(0, 0.5, 40)
    tables = []
    for group in range(groups):
        z, eta = rng.normal(), 1.0
        parts = []
        if group % 10 != 1:
            pid = rng.choice(20, rng.integers(1, 5), replace=False)
            x = rng.normal(size=len(pid))
            eta += np.mean(0.8 * x + u[pid])
            parts.append(pd.DataFrame({"pid": [f"p{i}" for i in pid], "x": x}))
        if group % 3 != 0:
            mid = rng.choice(40, rng.integers(1, 7), replace=False)
            age, rank = rng.normal(size=(2, len(mid)))
            raw = len(mid) ** -np.exp(-0.7 * rank)
            eta += raw @ (-0.6 * age + m[mid]) / raw.sum()
            parts.append(pd.DataFrame({"mid": mid, "age": age, "rank": rank}))
        y = eta + 0.5 * z + rng.normal(0, 0.4)
        tables += [part.assign(gid=f"g{group:02d}", y=y, z=z) for part in parts]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return cabinets().sample(frac=1, random_state=2).reset_index(drop=True)


def predictor(table: pd.DataFrame, draw: dict[str, Any], model: Model) -> pd.Series:
    """The linear predictor by group, from the user's table by pandas alone."""
    intercept, z = draw["b_l2"]
    groups = table.groupby("gid", sort=True)
    eta = intercept + z * groups["z"].first()
    labels = {dim: list(model.design.coords[dim]) for dim in ("member_party", "member_minister")}
    party = table.dropna(subset="pid")
    effect = party["x"] * draw["b_l1_party"][0]
    effect += [draw["u_l1_party"][labels["member_party"].index(i)] for i in party["pid"]]
    eta = eta.add(effect.groupby(party["gid"]).mean(), fill_value=0)
    minister = table.dropna(subset="mid")
    n = minister.groupby("gid")["mid"].transform("size")
    raw = n ** -np.exp(-draw["b_w_minister"][0] * minister["rank"])
    effect = minister["age"] * draw["b_l1_minister"][0]
    effect += [draw["u_l1_minister"][labels["member_minister"].index(i)] for i in minister["mid"]]
    by_group = (raw * effect).groupby(minister["gid"]).sum() / raw.groupby(minister["gid"]).sum()
    return eta.add(by_group, fill_value=0)


# ---- arrays ------------------------------------------------------------------------------------


def test_point_10_sizes_and_missing_ids(table: pd.DataFrame) -> None:
    """Precomputed weights use the size of the block's own kind; a missing id is no member."""
    both = f"y ~ 1 + {PARTY} + mm(id(mid, gid), RE=TRUE, name=minister)"
    model = prepare(both, table)
    for member, column in zip(model.design.members, ("pid", "mid"), strict=True):
        own = table.dropna(subset=column)
        size = own.groupby("gid")[column].transform("size")
        assert member.n_members == own[column].nunique()
        assert sorted(member.rows) == list(own.index)
        assert member.n == pytest.approx(size.loc[member.rows].to_numpy())
        assert member.weight == pytest.approx(1 / member.n)
    assert [str(v) for v in model.design.coords["member_minister"]][:2] == ["0", "1"]


def test_sums_of_groups_without_a_member_are_zero(table: pd.DataFrame) -> None:
    model = prepare(FORMULA, table)
    party = model.design.members[0]
    means = table.groupby("gid", sort=True)["x"].mean().fillna(0)
    assert (party.X + party.center)[:, 0] == pytest.approx(means.to_numpy())
    minister = model.design.members[1]
    assert minister.center == pytest.approx([0.0]), "centring would change the model"


def test_constraint_2_sums_to_the_groups_that_have_a_member(table: pd.DataFrame) -> None:
    total = "mm(id(mid, gid), vars(age), fn(w ~ exp(rank), c=2), name=minister)"
    weight = prepare(f"y ~ 1 + {PARTY} + {total}", table).design.members[1].weight
    own = table.dropna(subset="mid")
    assert weight is not None and weight.sum() == pytest.approx(own["gid"].nunique())
    # Groups without ministers change nothing for the others.
    some = table[table["gid"].isin(own["gid"])].reset_index(drop=True)
    alone = prepare(f"y ~ 1 + {PARTY} + {total}", some).design.members[1].weight
    assert alone == pytest.approx(weight)


def test_categories_have_a_base_only_where_every_group_has_a_member(table: pd.DataFrame) -> None:
    sexed = table.assign(sex=np.where(table["rank"] > 0, "f", "m"))
    formula = f"y ~ 1 + {PARTY} + mm(id(mid, gid), vars(sex), name=minister)"
    assert list(prepare(formula, sexed).design.coords["covariate_l1_minister"]) == [
        "sex=f",
        "sex=m",
    ]
    own = sexed.dropna(subset="mid")["gid"]
    everywhere = sexed[sexed["gid"].isin(own)].reset_index(drop=True)
    assert list(prepare(formula, everywhere).design.coords["covariate_l1_minister"]) == ["sex=m"]


def test_wide_rows_may_have_several_kinds(table: pd.DataFrame) -> None:
    """A row with both ids belongs to both blocks, and says the same as two stacked rows."""
    party, minister = table.dropna(subset="pid"), table.dropna(subset="mid")
    a, b = (t.assign(i=t.groupby("gid").cumcount()) for t in (party, minister))
    wide = a.drop(columns=["mid", "age", "rank"]).merge(
        b[["gid", "i", "mid", "age", "rank", "y", "z"]],
        on=["gid", "i"],
        how="outer",
        suffixes=("", "_m"),
    )
    wide = wide.assign(y=wide["y"].fillna(wide["y_m"]), z=wide["z"].fillna(wide["z_m"]))
    assert len(wide) < len(table)
    one, other = prepare(FORMULA, table).design, prepare(FORMULA, wide).design
    for left, right in zip(one.members, other.members, strict=True):
        assert np.array_equal(left.member, right.member) and np.array_equal(left.X, right.X)
        assert np.array_equal(left.start, right.start) and left.inputs.keys() == right.inputs.keys()


def test_swapped_ids_are_read_as_meant(table: pd.DataFrame) -> None:
    swapped = FORMULA.replace("id(mid, gid)", "id(gid, mid)").replace(
        "id(pid, gid)", "id(gid, pid)"
    )
    with pytest.warns(rmm.SpecificationWarning, match="member first and the group second"):
        other = prepare(swapped, table)
    one = prepare(FORMULA, table)
    assert np.array_equal(one.design.members[1].member, other.design.members[1].member)


# ---- messages -----------------------------------------------------------------------------------


def changed(table: pd.DataFrame, row: int, **values: Any) -> pd.DataFrame:
    out = table.copy()
    for name, value in values.items():
        out.loc[row, name] = value
    return out


def test_a_row_without_any_member_is_an_error(table: pd.DataFrame) -> None:
    broken = changed(table, 6, pid=None, mid=np.nan)
    with pytest.raises(rmm.DataError, match=r"1 row has no member.*`pid`, `mid`.*row 7"):
        prepare(FORMULA, broken)


def test_with_one_kind_a_missing_id_stays_an_error(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match=r"Column `pid`, the member id, has \d+ missing values"):
        prepare(f"y ~ 1 + {PARTY}", table)
    twice = f"y ~ 1 + {PARTY} + mm(id(pid, gid), RE=TRUE)"
    with pytest.raises(rmm.DataError, match=r"Column `pid`, the member id, has \d+ missing values"):
        prepare(twice, table)


def test_covariates_must_be_there_in_the_rows_of_their_block(table: pd.DataFrame) -> None:
    row = int(table.index[table["mid"].notna()][3])
    with pytest.raises(
        rmm.DataError,
        match=rf"Column `age` has 1 missing value, in row {row + 1} \(counted from 1\)",
    ):
        prepare(FORMULA, changed(table, row, age=np.nan))
    with pytest.raises(rmm.DataError, match=r"Column `z` has 1 missing value"):
        prepare(FORMULA, changed(table, row, z=np.nan))
    with pytest.raises(rmm.DataError, match=r"Column `gid` has 1 missing value"):
        prepare(FORMULA, changed(table, row, gid=None))


def test_the_outcome_must_agree_between_the_kinds(table: pd.DataFrame) -> None:
    ministers = table["mid"].notna() & (table["gid"] == "g04")
    broken = table.assign(y=table["y"].where(~ministers, 99.0))
    with pytest.raises(rmm.DataError, match="outcome `y` varies within group 'g04"):
        prepare(FORMULA, broken)


def test_a_product_of_the_kinds_is_told_to_stack(table: pd.DataFrame) -> None:
    """Party x minister rows: each party is there once per minister."""
    party, minister = table.dropna(subset="pid"), table.dropna(subset="mid")
    product = party[["gid", "pid", "x", "y", "z"]].merge(minister[["gid", "mid", "age", "rank"]])
    with pytest.raises(
        rmm.DataError, match=r"rows for member.*each row must be one membership of one block"
    ):
        prepare(FORMULA, product)


def test_a_column_n_counts_one_kind_only(table: pd.DataFrame) -> None:
    counted = table.assign(n=table.groupby("gid")["pid"].transform("count"))
    with pytest.raises(rmm.DataError, match=r"Column `n` is.*members in column `mid`"):
        prepare(FORMULA, counted)


def test_a_kind_without_any_member_is_an_error(table: pd.DataFrame) -> None:
    with pytest.raises(rmm.DataError, match="`mid` is missing in every row"):
        prepare(FORMULA, table[table["pid"].notna()].assign(mid=np.nan))


def test_the_simulator_says_that_it_knows_one_kind() -> None:
    with pytest.raises(RecipeError, match=r"mm\(\) contains id\(mid, group\)"):
        simulate(
            "y ~ 1 + mm(id(member, group), RE=TRUE) + mm(id(mid, group), RE=TRUE)",
            {},
            membership={"kind": "synthetic", "groups": 9, "members": 9, "size": 3},
        )


# ---- engines -----------------------------------------------------------------------------------


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_jags_computes_the_sums_of_pandas(table: pd.DataFrame) -> None:
    model = prepare(FORMULA, table)
    spec, forms = model.spec, model.priors.forms
    settings = Settings(
        chains=1,
        warmup=200,
        draws=20,
        seed=4,
        cores=1,
        monitor=(*jags.monitored(spec, forms), "eta"),
        options=jags.engine_options(spec, forms),
    )
    starts = [jags.initial(spec, forms, model.priors.data, v) for v in initial_values(model, 1, 3)]
    values = jags.data(spec, model.design, model.priors.data)
    run = jags_engine.run(jags.write(spec, forms), values, starts, settings, None)
    for i in range(20):
        draw = {k: v[0, i] for k, v in run.draws.items()}
        np.testing.assert_allclose(draw["eta"], predictor(table, draw, model), rtol=1e-8)


@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_weights_are_those_of_the_blocks_own_rows(table: pd.DataFrame, tmp_path: Path) -> None:
    fit = rmm.fit(
        FORMULA, table, chains=1, warmup=200, draws=5, seed=4, progress=False, backend="jags"
    )
    fit = rmm.load(fit.save(tmp_path / "fit.nc"))
    weights = fit.weights(2)
    own = table.dropna(subset="mid")
    assert list(weights.index) == list(own.index)
    assert [int(v) for v in weights["member"]] == [int(v) for v in own["mid"]]
    assert weights.groupby(weights["group"])["mean"].sum().to_numpy() == pytest.approx(1.0)
    assert list(fit.weights(1).index) == list(table.dropna(subset="pid").index)
    constant = fit.draws["constant_data"]
    assert constant["row_minister"].sizes == {"membership_minister": len(own)}


def density(table: pd.DataFrame, draw: dict[str, Any], model: Model) -> float:
    """Log posterior at a draw up to a constant, apart from priors that do not change below."""
    from scipy import stats

    y = table.groupby("gid", sort=True)["y"].first()
    eta = predictor(table, draw, model)
    return float(stats.norm.logpdf(y, eta, draw["sigma_l2"]).sum())


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_stan_has_the_density_of_pandas(table: pd.DataFrame) -> None:
    """`lp` less priors and effects' densities is the likelihood of pandas' sums."""
    from scipy import stats

    model = prepare(FORMULA, table)
    spec, forms = model.spec, model.priors.forms
    starts = [
        stan.initial(spec, forms, prior_values(model), v) for v in initial_values(model, 1, 3)
    ]
    settings = Settings(chains=1, warmup=100, draws=20, seed=3, cores=1)
    values = stan.data(spec, model.design, prior_values(model))
    run = stan_engine.run(stan.write(spec, forms), values, starts, settings)
    hyper = model.priors.data
    found, expected = run.sample_stats["lp"][0], []
    for i in range(20):
        draw = {k: v[0, i] for k, v in run.draws.items()}
        total = density(table, draw, model)
        for kind in ("party", "minister"):
            sigma = draw[f"sigma_l1_{kind}"]
            total += stats.norm.logpdf(draw[f"u_l1_{kind}"] / sigma).sum()
            total += half_normal_by_raw(model, draw, f"sigma_l1_{kind}")
            total += stats.norm.logpdf(
                draw[f"b_l1_{kind}"], 0, hyper[f"prior_b_l1_{kind}_scale"]
            ).sum()
        total += stats.norm.logpdf(draw["b_w_minister"], 0, hyper["prior_b_w_minister_scale"]).sum()
        total += half_normal_by_raw(model, draw, "sigma_l2")
        total += stats.norm.logpdf(draw["beta_l2"], 0, hyper["prior_beta_l2_scale"]).sum()
        total += stats.norm.logpdf(
            draw["alpha"], hyper["prior_alpha_location"], hyper["prior_alpha_scale"]
        )
        expected.append(total)
    assert np.ptp(expected) > 5, "the draws are all alike"
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], atol=1e-6)


@pytest.mark.parity
@pytest.mark.jags
@pytest.mark.stan
def test_engines_agree_with_each_other_and_the_truth() -> None:
    """Means within 4.5 combined MCSE (8 comparisons: false alarms < 1e-4); truth within 4 sd."""
    table = cabinets(groups=300, seed=5)
    fits = {}
    for backend in ("jags", "stan"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rmm.ConvergenceWarning)
            fits[backend] = rmm.fit(
                FORMULA,
                table,
                backend=backend,
                seed=8,
                chains=4,
                warmup=1000,
                draws=2000,
                thin=4 if backend == "jags" else 1,
                cores=1,
                progress=False,
                monitor="structural",
            ).summary()
    jags, other = fits["jags"], fits["stan"]
    assert (jags["rhat"] < 1.03).all() and (other["rhat"] < 1.03).all()
    combined = np.hypot(jags["mcse_mean"], other["mcse_mean"])
    assert ((jags["mean"] - other["mean"]).abs() / combined < 4.5).all()
    assert (jags["sd"] / other["sd"]).between(1 / 1.2, 1.2).all()
    z = (other["mean"] - pd.Series(TRUTH).loc[other.index]) / other["sd"]
    assert (z.abs() < 4).all(), z
