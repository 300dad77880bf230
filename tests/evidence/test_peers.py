"""What R's rmm and bml lack or get wrong, one named test for each point of the list.

The numbers are those of the project's list of peers' faults. Points about studies (5) are tested
with the study engine; here stands that data can be simulated at all.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends.initial_values import initial_values
from rmm.design.prepare import Model, prepare
from tests.coalitions import shared_file

MM = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"
WEIGHTED = "mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*s)))), RE=TRUE)"


def prepared(formula: str, table: pd.DataFrame, *args: Any, **more: Any) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        return prepare(formula, table, *args, **more)


def quick(formula: str, table: pd.DataFrame, *args: Any, **more: Any) -> rmm.Fit:
    """A short fit on one engine, for what does not need convergence."""
    settings: dict[str, Any] = {"seed": 1, "chains": 2, "warmup": 200, "draws": 200}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        return rmm.fit(formula, table, *args, **{**settings, **more}, progress=False)


def survival_table(coalitions: pd.DataFrame) -> pd.DataFrame:
    """Durations made from the Gaussian outcome; a third of the groups is censored."""
    time = np.exp(coalitions["y"])
    cut = float(time.quantile(0.67))
    return coalitions.assign(
        time=np.minimum(time, cut), event=(time <= cut).astype(int), upper=cut
    ).drop(columns="y")


@pytest.mark.jags
def test_point_01_conditional_logit_exists() -> None:
    rng = np.random.default_rng(1)
    sets, options = 150, 3
    groups = np.arange(sets * options)
    member = np.stack([rng.choice(20, 2, replace=False) for _ in groups])
    x, z = rng.normal(size=20), rng.normal(size=len(groups))
    eta = (z + x[member].mean(axis=1)).reshape(sets, options)
    chosen = (eta + rng.gumbel(size=eta.shape)).argmax(axis=1)
    table = pd.DataFrame(
        {
            "gid": np.repeat(groups, 2),
            "pid": member.ravel(),
            "x": x[member.ravel()],
            "z": np.repeat(z, 2),
            "choice": np.repeat(groups // options, 2),
            "y": np.repeat((chosen[:, None] == np.arange(options)).ravel().astype(int), 2),
        }
    )
    formula = "y ~ z + mm(id(pid, gid), vars(x), fn(w ~ 1/n)) + strata(choice)"
    summary = quick(formula, table, "condlogit", warmup=500, draws=500).summary()
    z_scores = (summary["mean"] - 1) / summary["sd"]
    assert list(summary.index) == ["b_l1[x]", "b_l2[z]"]
    assert (z_scores.abs() < 4).all(), summary


@pytest.mark.jags
def test_point_02_new_groups_are_predicted(coalitions: pd.DataFrame) -> None:
    fit = quick(f"y ~ 1 + z + {MM}", coalitions)
    first = coalitions["gid"] == "g000"
    new = coalitions[first].assign(gid="a new one", pid=1000 + np.arange(first.sum()))
    table = fit.predict(pd.concat([coalitions[first], new]).drop(columns="y"))
    assert len(table) == 2
    # members never seen add the uncertainty of their effects
    assert table["sd"].iloc[0] != table["sd"].iloc[1]
    assert table["sd"].max() > fit.summary().loc["sigma_l1", "mean"] / 4


@pytest.mark.jags
@pytest.mark.parametrize("family", ["weibull", "cox"])
def test_point_03_survival_families_have_loo(family: str, coalitions: pd.DataFrame) -> None:
    formula = f"Surv(time, event) ~ 1 + z + {MM}"
    fit = quick(formula, survival_table(coalitions), family, warmup=300, draws=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loo = fit.loo()
    assert np.isfinite(loo.elpd) and loo.n_data_points == 120


def test_point_04_several_engines_run_one_formula() -> None:
    formula = f"y ~ 1 + z + {WEIGHTED}"
    jags, stan = (rmm.program(formula, backend=b) for b in ("jags", "stan"))
    assert "model {" in jags and "parameters {" in stan and jags != stan


def test_point_05_data_with_known_truth_are_simulated() -> None:
    made = rmm.simulate(
        "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE=TRUE)",
        {"b_l2[Intercept]": 0, "b_l1[x]": 1, "sigma_l1": 1, "sigma_l2": 1},
        membership={"kind": "synthetic", "groups": 50, "members": 20, "size": 3},
        covariates={"x": {"level": "member"}},
        seed=1,
    )
    assert made.truth["b_l1[x]"] == 1 and made.data["group"].nunique() == 50


def test_point_06_every_hm_has_its_own_id(coalitions: pd.DataFrame) -> None:
    design = prepared(f"y ~ 1 + {MM} + hm(id=cid) + hm(id=dec)", coalitions).design
    first = coalitions.drop_duplicates("gid").sort_values("gid")
    for nesting, column in zip(design.nestings, ("cid", "dec"), strict=True):
        assert np.array_equal(nesting.unit, pd.factorize(first[column], sort=True)[0])
    assert not np.array_equal(design.nestings[0].unit, design.nestings[1].unit)


def test_point_07_row_order_changes_nothing(coalitions: pd.DataFrame) -> None:
    formula = f"y ~ 1 + z + {WEIGHTED} + hm(id=cid)"
    shuffled = coalitions.sample(frac=1, random_state=3)
    one, other = (rmm.program_data(formula, t) for t in (coalitions, shuffled))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("b_l1[z] ~ normal(0, 1)", r"has no element `z`\. Its elements are: b_l1\[x\]"),
        ("b.w2 ~ dnorm(0, 1)", r"no parameter `b_w2`\. The model has: b_l1, b_l2"),
        ("tau.l3 ~ dgamma(1, 1)", r"no parameter `sigma_l3`"),
    ],
)
def test_point_08_priors_that_match_nothing_are_errors(
    prior: str, message: str, coalitions: pd.DataFrame
) -> None:
    with pytest.raises(rmm.PriorError, match=message):
        prepared(f"y ~ 1 + {MM}", coalitions, priors=[prior])


def test_point_08_documented_indexed_priors_work(coalitions: pd.DataFrame) -> None:
    model = prepared(f"y ~ 1 + {MM}", coalitions, priors=["b.l1[1] ~ dnorm(0, 4)"])
    assert model.priors.elements["b_l1"][0].values == (0.0, 0.5)


def test_point_09_group_constant_covariates_enter_once(coalitions: pd.DataFrame) -> None:
    model = prepared(f"y ~ 1 + q + z + {MM} + hm(id=cid)", coalitions)
    labels = [
        v
        for dim in ("covariate_l2", "covariate_l1", "covariate_l3")
        for v in model.design.coords[dim]
    ]
    assert sorted(labels) == ["Intercept", "q", "x", "z"]


def test_point_10_kinds_of_members_have_their_own_sizes() -> None:
    table = pd.DataFrame(
        {
            "gid": [1, 1, 1, 2, 2, 3, 3, 3],
            "pid": ["a", "b", None, "a", None, "b", "c", None],
            "mid": [None, None, "m1", None, "m1", None, None, "m2"],
            "y": [1.0, 1, 1, 2, 2, 4, 4, 4],
        }
    )
    formula = "y ~ 1 + mm(id(pid, gid), RE=TRUE) + mm(id(mid, gid), RE=TRUE)"
    parties, ministers = prepared(formula, table).design.members
    assert parties.weight is not None and ministers.weight is not None
    assert parties.weight.tolist() == [0.5, 0.5, 1.0, 0.5, 0.5]
    assert ministers.weight.tolist() == [1.0, 1.0, 1.0]
    assert (parties.n_members, ministers.n_members) == (3, 2)


def test_point_11_cox_has_no_intercept(coalitions: pd.DataFrame) -> None:
    model = prepared(f"Surv(time, event) ~ 1 + z + {MM}", survival_table(coalitions), "cox")
    assert not model.spec.intercept
    assert model.design.coords["covariate_l2"] == ("z",)


def test_point_12_every_chain_starts_elsewhere(coalitions: pd.DataFrame) -> None:
    starts = initial_values(prepared(f"y ~ 1 + z + {WEIGHTED}", coalitions), 4, 1)
    for name in starts[0]:
        values = [float(np.ravel(s[name])[0]) for s in starts]
        assert len(set(values)) == 4, name
        assert np.ptp(values) > 0.05, name


def test_point_13_default_priors_bound_weights_and_sds(coalitions: pd.DataFrame) -> None:
    elements = prepared(f"y ~ 1 + z + {WEIGHTED}", coalitions).priors.elements
    within = coalitions["s"] - coalitions.groupby("gid")["s"].transform("mean")
    freedom = len(coalitions) - coalitions["gid"].nunique()
    sd_of_s = float(np.sqrt((within**2).sum() / freedom))  # pooled within groups
    assert elements["b_w"][0].family == "normal"
    assert elements["b_w"][0].values == pytest.approx((0, 1 / sd_of_s))
    assert elements["sigma_l1"][0].family == "half_normal"


def test_point_14_residual_variances_are_those_of_the_family() -> None:
    from rmm.families import find_family

    values = {"shape": np.array([2.0]), "sigma_l2": np.array([3.0])}
    expected = {
        "gaussian": 9.0,  # a variance, sigma_l2 is a standard deviation
        "binomial": np.pi**2 / 3,
        "condlogit": np.pi**2 / 6,
        "weibull": np.pi**2 / (6 * 2.0**2),
        "cox": np.pi**2 / 6,
    }
    for name, variance in expected.items():
        found = np.asarray(find_family(name).residual_variance(values, {}), dtype=float)
        assert found == pytest.approx(variance), name


@pytest.mark.jags
def test_point_14_shares_add_to_one_with_the_residual(coalitions: pd.DataFrame) -> None:
    table = survival_table(coalitions)
    fit = quick(f"Surv(time, event) ~ 1 + z + {MM} + hm(id=cid)", table, "weibull")
    components = fit.variance_components()
    assert len(components) >= 3
    share = next(c for c in components.columns if ("share" in c and "mean" in c) or c == "share")
    assert components[share].sum() == pytest.approx(1, abs=1e-6)


def test_point_15_even_powers_and_every_function_without_parameters() -> None:
    from rmm.formula.weights.weight_function import parse_weights

    columns, start = {"x": np.array([-2.0, 1.0])}, np.array([0, 2])
    for text, raw in {
        "w ~ x^2": [4.0, 1.0],
        "w ~ pow(x, 2)": [4.0, 1.0],
        "w ~ ilogit(x)": 1 / (1 + np.exp([2.0, -1.0])),
    }.items():
        weights = parse_weights(text).weights(columns, start)
        assert weights == pytest.approx(np.asarray(raw) / np.sum(raw)), text


def test_point_16_small_groups_beside_huge_ones_keep_their_digits() -> None:
    from rmm.formula.weights.weight_function import parse_weights

    raw = np.array([1e15, 3e15, 1.0, 3.0])
    weights = parse_weights("w ~ x").weights({"x": raw}, np.array([0, 2, 4]))
    assert weights == pytest.approx([0.25, 0.75, 0.25, 0.75], rel=1e-15)


def test_point_17_impossible_outcomes_are_refused(coalitions: pd.DataFrame) -> None:
    table = survival_table(coalitions)
    group = table["gid"] == "g000"
    with pytest.raises(rmm.DataError, match="missing"):
        prepared(f"y ~ 1 + {MM}", coalitions.assign(y=coalitions["y"].where(~group)))
    with pytest.raises(rmm.DataError, match="0"):
        ranks = coalitions["y"].rank(method="dense") % 8 + 2
        prepared(f"y ~ 1 + {MM}", coalitions.assign(y=ranks), "binomial")
    for family, impossible in (("weibull", 0.0), ("cox", -1.0)):  # cox takes ranks: 0 is one
        with pytest.raises(rmm.DataError, match=r"time"):
            wrong = table.assign(time=table["time"].where(~group, impossible))
            prepared(f"Surv(time, event) ~ 1 + {MM}", wrong, family)


def test_point_17_missing_covariates_are_told_or_dropped_on_request(
    coalitions: pd.DataFrame,
) -> None:
    table = coalitions.assign(x=coalitions["x"].where(coalitions["gid"] != "g005"))
    with pytest.raises(rmm.DataError, match="`x` has"):
        prepared(f"y ~ 1 + {MM}", table)
    with pytest.warns(rmm.SpecificationWarning, match="1 of 120 groups dropped"):
        model = prepare(f"y ~ 1 + {MM}", table, missing="drop")
    assert model.design.J == 119


@pytest.mark.jags
def test_point_18_labels_of_fixed_effects_are_the_units_own(coalitions: pd.DataFrame) -> None:
    table = coalitions.sample(frac=1, random_state=4)
    shift = pd.Series(np.arange(10) * 5.0, index=range(10))
    table = table.assign(y=table["y"] + table["cid"].map(shift))
    fit = quick(f"y ~ 1 + z + {MM} + hm(id=cid, name=cname, type=FE, showFE=TRUE)", table)
    found = fit.summary()["mean"]
    effects = found[found.index.str.startswith("b_l3")]
    number = effects.index.str.extract(r"C(\d+)")[0].astype(int)
    assert len(effects) == 9
    assert np.corrcoef(effects, number)[0, 1] > 0.99


def test_point_19_a_logical_covariate_is_one_column(coalitions: pd.DataFrame) -> None:
    table = coalitions.assign(old=coalitions["dec"] < 3)
    design = prepared(f"y ~ 1 + old + {MM}", table).design
    assert design.X_l2.shape[1] == 1


@pytest.mark.parametrize("column", ["y", "z"])
def test_point_20_columns_that_vary_within_groups_are_named(
    column: str, coalitions: pd.DataFrame
) -> None:
    table = coalitions.copy()
    table.loc[table.index[0], column] += 1.0
    with pytest.raises(rmm.DataError, match=f"`{column}`.* varies within group 'g000'"):
        prepared(f"y ~ 1 + z + {MM}", table)


def test_point_21_names_inside_names(coalitions: pd.DataFrame) -> None:
    table = coalitions.rename(columns={"s": "pseat"}).assign(
        **{"pseat.sq": coalitions["s"] ** 2, "pseat2": -coalitions["s"]}
    )
    formula = (
        "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-(b1*pseat + b2*pseat.sq"
        " + b3*pseat2^2))), RE=TRUE)"
    )
    data = rmm.program_data(formula, table)
    order = table.sort_values(["gid", "pid"])
    names = {"x_pseat": "pseat", "x_pseat_sq": "pseat.sq", "x_pseat2": "pseat2"}
    for name, column in names.items():
        assert data[name] == pytest.approx(order[column].to_numpy()), name


def test_point_22_rows_without_mm_are_units_and_that_is_said(coalitions: pd.DataFrame) -> None:
    with pytest.warns(rmm.SpecificationWarning, match="every row is one observation"):
        prepare("y ~ 1 + z", coalitions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = prepare("y ~ 1 + z", coalitions.drop_duplicates("gid"))
    assert model.design.J == 120


def test_point_23_default_priors_follow_the_outcomes_scale(coalitions: pd.DataFrame) -> None:
    days = coalitions.assign(y=1000 + 300 * coalitions["y"])
    formula = f"y ~ 1 + z + {MM}"
    small, large = (prepared(formula, t).priors.elements for t in (coalitions, days))
    for name in ("beta_l2", "b_l1", "sigma_l1", "sigma_l2"):
        assert large[name][0].values[-1] == pytest.approx(300 * small[name][0].values[-1]), name
    mean = coalitions.drop_duplicates("gid")["y"].mean()
    assert large["alpha"][0].values[0] == pytest.approx(1000 + 300 * mean)


def test_point_24_text_and_category_ids_without_warnings(coalitions: pd.DataFrame) -> None:
    table = coalitions.assign(
        pid=coalitions["pid"].map("party {}".format).astype("category"),
        cid=coalitions["cid"].map("country {}".format),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = prepare(f"y ~ 1 + z + {MM} + hm(id=cid)", table)
    assert model.design.members[0].n_members == 30
    assert model.design.coords["member"][0] == "party 0"


RMM_EXAMPLE = (
    "Surv(govdur, earlyterm, govmaxdur) ~ 1 + mm(id(pid, gid), mmc(fdep), "
    "mmw(w ~ 1/offset(n), constraint=1)) + majority + hm(id=cid, name=cname, type=RE, showFE=F)"
)


@pytest.mark.jags
def test_point_25_rmms_own_example_runs_and_says_when_it_has_not_converged() -> None:
    table = pd.read_parquet(shared_file("data", "coalgov_rmm.parquet"))
    with pytest.warns(rmm.ConvergenceWarning, match="has not converged"):
        fit = rmm.fit(
            RMM_EXAMPLE,
            table,
            "weibull",
            seed=1,
            warmup=20,
            draws=30,
            priors="rmm",
            progress=False,
            backend="jags",
        )
    assert not fit.converged
    assert "NOT CONVERGED" in str(fit)
    assert {"b_l1[fdep]", "b_l2[majority]", "shape", "sigma_l1", "sigma_l3"} <= set(
        fit.summary().index
    )


def test_every_point_has_a_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert {int(n) for n in re.findall(r"def test_point_(\d\d)_", text)} == set(range(1, 26))
