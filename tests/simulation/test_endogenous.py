"""Covariates that are correlated with random effects, and the shapes of effects and residual.

Correlations of N pairs are compared within 4.5 standard errors of Fisher's z, 1 / sqrt(N - 3):
a correct simulator fails one of them with probability 7e-6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from rmm.simulation import RecipeError, draw, draw_fixed, prepare, simulate
from rmm.simulation.covariates.distributions import shaped
from rmm.study import load_study
from rmm.study.run.replicate import draw_replication

#: Every group has one member of its own; every nesting unit two groups.
ONE: dict[str, Any] = {
    "kind": "synthetic",
    "groups": 4000,
    "size": 1,
    "overlap": 0,
    "units": 2000,
}
#: 200 members have some 20 groups each.
SHARED: dict[str, Any] = {"kind": "synthetic", "groups": 4000, "members": 200, "size": 1}
MODEL = "y ~ 1 + mm(id(member, group), vars = NULL, fn(w ~ 1/n), RE = TRUE)"
NULL: dict[str, float] = {"b_l2[Intercept]": 0, "sigma_l1": 2, "sigma_l2": 0}


def same(found: float, expected: float, pairs: int) -> bool:
    return bool(abs(np.arctanh(found) - np.arctanh(expected)) < 4.5 / np.sqrt(pairs - 3))


def simulated(covariates: Any, formula: str = MODEL, **changes: Any) -> Any:
    given = {"membership": ONE, "seed": 1, **changes}
    parameters = given.pop("parameters", NULL)
    return simulate(formula, parameters, covariates=covariates, **given).data


def test_member_covariate_and_effect() -> None:
    data = simulated({"x": {"level": "member", "mean": 5, "sd": 3, "endogenous": {"u_l1": 0.5}}})
    members = data.drop_duplicates("member")
    assert same(members["x"].corr(members["y"]), 0.5, len(members))
    assert abs(members["y"].std() - 2) < 4.5 * 2 / np.sqrt(2 * len(members))


def test_nesting_covariate_and_effect() -> None:
    data = simulated(
        {"k": {"level": "nesting", "endogenous": {"u_l3": -0.3}}},
        MODEL + " + hm(id = nesting)",
        parameters={**NULL, "sigma_l1": 0, "sigma_l3": 1},
    )
    units = data.drop_duplicates("nesting")
    assert len(units) == 2000
    assert same(units["k"].corr(units["y"]), -0.3, 2000)


def test_group_covariate_and_residual() -> None:
    data = simulated(
        {"z": {"level": "group", "endogenous": {"residual": 0.4}}},
        parameters={**NULL, "sigma_l1": 0, "sigma_l2": 1.5},
    )
    assert same(data["z"].corr(data["y"]), 0.4, len(data))
    assert abs(data["y"].std() - 1.5) < 4.5 * 1.5 / np.sqrt(2 * len(data))


def test_slope_of_a_member() -> None:
    """With t = 1 everywhere the outcome is the slope's effect."""
    data = simulated(
        {
            "x": {"level": "member", "endogenous": {"u_slope_l1[t]": 0.6}},
            "t": {"level": "member", "mean": 1, "sd": 0},
        },
        MODEL.replace("RE = TRUE", "RE = re(0 + t)").replace("vars = NULL", "vars(t)"),
        parameters={"b_l2[Intercept]": 0, "b_l1[t]": 0, "sigma_slope_l1[t]": 2, "sigma_l2": 0},
    ).drop_duplicates("member")
    assert same(data["x"].corr(data["y"]), 0.6, len(data))


def test_steps_of_a_walk_belong_to_memberships() -> None:
    data = simulated(
        {"x": {"level": "membership", "endogenous": {"u_l1": 0.6}}},
        MODEL.replace("RE = TRUE", "RE = TRUE, ar = TRUE"),
        membership=SHARED,
    ).sort_values(["member", "group"])
    step = data.groupby("member")["y"].diff().fillna(data["y"])
    assert same(data["x"].corr(step), 0.6, len(data))
    earlier = step.groupby(data["member"]).shift()
    kept = earlier.notna()
    assert same(step[kept].corr(earlier[kept]), 0, int(kept.sum()))


def test_several_covariates_are_solved_together() -> None:
    """Each has its own correlation with the effect, and they have theirs with each other."""
    data = simulated(
        {
            "a": {"level": "member", "endogenous": {"u_l1": 0.6}, "correlation": {"b": 0.5}},
            "b": {"level": "member", "endogenous": {"u_l1": -0.2}},
            "c": {"level": "member"},
        }
    ).drop_duplicates("member")
    found = data[["a", "b", "c", "y"]].corr()
    for one, two, expected in (("a", "y", 0.6), ("b", "y", -0.2), ("c", "y", 0), ("a", "b", 0.5)):
        assert same(found.loc[one, two], expected, len(data)), (one, two)


def test_two_blocks_have_effects_by_name() -> None:
    two = (
        "y ~ 1 + mm(id(member, group), vars = NULL, fn(w ~ 1/n), RE = TRUE, name = a)"
        " + mm(id(member, group), vars = NULL, fn(w ~ 1/n), RE = TRUE, name = b)"
    )
    values = {"b_l2[Intercept]": 0, "sigma_l1_a": 1, "sigma_l1_b": 0, "sigma_l2": 0}
    x = {"level": "member", "endogenous": {"u_l1_a": 0.7}}
    data = simulated({"x": x}, two, parameters=values).drop_duplicates("member")
    assert same(data["x"].corr(data["y"]), 0.7, len(data))
    other = {**values, "sigma_l1_a": 0, "sigma_l1_b": 1}
    data = simulated({"x": x}, two, parameters=other).drop_duplicates("member")
    assert same(data["x"].corr(data["y"]), 0, len(data))
    with pytest.raises(RecipeError, match=r"endogenous\.u_l1: 'u_l1' is not a random.*u_l1_a"):
        simulated({"x": {"level": "member", "endogenous": {"u_l1": 0.7}}}, two, parameters=values)


@pytest.mark.parametrize("distribution", ["t", "skew"])
def test_the_latent_normals_of_other_shapes_correlate(distribution: str) -> None:
    """Normal scores give the latent normals back; ranks shrink none of the correlation here."""
    x = {"level": "member", "distribution": "uniform", "endogenous": {"u_l1": 0.5}}
    data = simulated(
        {"x": x}, effects={"u_l1": {"distribution": distribution, "df": 4, "shape": 0.8}}
    ).drop_duplicates("member")
    scores = [stats.norm.ppf(stats.rankdata(data[c]) / (len(data) + 1)) for c in ("x", "y")]
    assert same(float(np.corrcoef(*scores)[0, 1]), 0.5, len(data))


def test_around_keeps_the_own_part_endogenous() -> None:
    data = simulated(
        {
            "base": {"level": "member"},
            "x": {"level": "member", "around": "base", "endogenous": {"u_l1": 0.5}},
        }
    ).drop_duplicates("member")
    assert same((data["x"] - data["base"]).corr(data["y"]), 0.5, len(data))
    assert same(data["x"].corr(data["y"]), 0.5 / np.sqrt(2), len(data))


def test_a_covariate_that_is_drawn_once_meets_effects_that_are_drawn_anew() -> None:
    x = {"level": "member", "redraw": False, "endogenous": {"u_l1": 0.5}}
    content = {
        "membership": {**ONE, "redraw": False},
        "covariates": {"x": x},
        "truth": {"formula": MODEL, "parameters": NULL},
    }
    recipe = prepare(content, Path())
    fixed = draw_fixed(recipe, lambda part: np.random.default_rng(len(part)))
    one, two = (draw(recipe, fixed, np.random.default_rng(s)).frame() for s in (1, 2))
    assert one["x"].equals(two["x"])
    one, two = one.drop_duplicates("member"), two.drop_duplicates("member")
    for data in (one, two):
        assert same(data["x"].corr(data["y"]), 0.5, len(data))
    # Given the covariate effects are independent: 0.5 * 0.5 is all they have in common.
    assert same(one["y"].corr(two["y"]), 0.25, len(one))


def test_covariates_are_drawn_as_without() -> None:
    plain = {"x": {"level": "member"}, "z": {"level": "group"}}
    given = {"x": {"level": "member", "endogenous": {"u_l1": 0.5}}, "z": plain["z"]}
    one, two = simulated(plain), simulated(given)
    assert one.drop(columns="y").equals(two.drop(columns="y"))
    assert not np.allclose(one["y"], two["y"])
    zero = {"x": {"level": "member", "endogenous": {"u_l1": 0}}, "z": plain["z"]}
    np.testing.assert_allclose(simulated(zero)["y"], one["y"], rtol=1e-14)


def test_naive_slopes_are_biased_by_the_correlation() -> None:
    """With one member per group the slope of y on x is 0.5 * sd(u) / sd(x) instead of 0."""
    data = simulated({"x": {"level": "member", "sd": 2, "endogenous": {"u_l1": 0.5}}})
    members = data.drop_duplicates("member")
    fit = stats.linregress(members["x"], members["y"])
    assert abs(fit.slope - 0.5 * 2 / 2) < 4.5 * fit.stderr


WRONG: list[tuple[Any, str, str]] = [
    (
        {"level": "group", "endogenous": {"u_l1": 0.5}},
        "gaussian",
        r"u_l1 is an effect of level member, .*'x' has level group\.\n.*residual",
    ),
    (
        {"level": "membership", "endogenous": {"u_l1": 0.5}},
        "gaussian",
        r"u_l1 is an effect of level member, .*'x' has level membership\.\n.*none",
    ),
    (
        {"level": "member", "endogenous": {"u_l2": 0.5}},
        "gaussian",
        r"'u_l2' is not a random effect.*u_l1, residual",
    ),
    (
        {"level": "group", "endogenous": {"residual": 0.5}},
        "binomial",
        r"Family 'binomial' has no residual\.\n.*u_l1.*gaussian",
    ),
    ({"level": "member", "endogenous": {"u_l1": 1}}, "gaussian", r"not\s+positive definite"),
    (
        {"level": "member", "endogenous": {"u_l1": 1.5}},
        "gaussian",
        r"u_l1: The value is 1\.5\.\n.*at most 1",
    ),
    (
        {"level": "member", "endogenous": {"u_l1": "high"}},
        "gaussian",
        r"u_l1: The value is 'high'\.\n.*a number",
    ),
]


@pytest.mark.parametrize(("x", "family", "message"), WRONG, ids=[m for *_, m in WRONG])
def test_messages(x: Any, family: str, message: str) -> None:
    parameters = {k: v for k, v in NULL.items() if family == "gaussian" or k != "sigma_l2"}
    with pytest.raises(RecipeError, match=rf"covariates\.x\.endogenous.*{message}"):
        simulated({"x": x}, family=family, parameters=parameters)


def test_messages_about_columns_common_parts_and_impossible_pairs(tmp_path: Path) -> None:
    neighbours = {"kind": "neighbours", "members": 5, "groups_per_member": 4, "mobility": 0.5}
    with pytest.raises(RecipeError, match="from a column of a table cannot be endogenous"):
        simulated({"x": {"column": "first", "endogenous": {"u_l1": 0.5}}}, membership=neighbours)
    with pytest.raises(RecipeError, match=r"'x' has `icc`, but the steps of a random walk"):
        simulated(
            {"x": {"level": "membership", "icc": 0.2, "endogenous": {"u_l1": 0.5}}},
            MODEL.replace("RE = TRUE", "RE = TRUE, ar = TRUE"),
        )
    pair = {
        "a": {"level": "member", "endogenous": {"u_l1": 0.8}, "correlation": {"b": -0.5}},
        "b": {"level": "member", "endogenous": {"u_l1": 0.8}},
    }
    with pytest.raises(
        RecipeError, match=r"covariates\.a\.endogenous\.u_l1: .* of u_l1 and a, b is not"
    ):
        simulated(pair)


def test_a_study_varies_the_correlation(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "seed": 3,
        "replications": 2,
        "membership": ONE,
        "covariates": {"x": {"level": "member", "endogenous": {"u_l1": 0}}},
        "truth": {
            "formula": MODEL.replace("vars = NULL", "vars(x)"),
            "parameters": {**NULL, "b_l1[x]": 0},
        },
        "methods": [{"name": "ols", "kind": "aggregation"}],
        "vary": {"rho": {"path": "covariates.x.endogenous.u_l1", "values": [0, 0.6]}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    study = load_study(tmp_path / "study.yaml")
    for scenario in study.scenarios:
        data = draw_replication(study.seed, scenario, 1).frame().drop_duplicates("member")
        assert same(data["x"].corr(data["y"]), scenario.factors["rho"], len(data))


# -- shapes of effects and residual ----------------------------------------------------------


def kolmogorov(values: Any, config: dict[str, Any], sd: float) -> float:
    """P value of values with mean 0 and this sd against the stated shape."""
    if config["distribution"] == "t":
        df = config["df"]
        return float(stats.kstest(values / (sd * np.sqrt((df - 2) / df)), stats.t(df).cdf).pvalue)
    s = config["shape"]
    log_normal = stats.lognorm(s)
    scaled = values / sd * log_normal.std() + log_normal.mean()
    return float(stats.kstest(scaled, log_normal.cdf).pvalue)


SHAPES = [{"distribution": "t", "df": 5}, {"distribution": "skew", "shape": 0.6}]


@pytest.mark.parametrize("config", SHAPES, ids=["t", "skew"])
@pytest.mark.parametrize("effect", ["u_l1", "u_slope_l1", "u_slope_l1[t]", "u_l3", "residual"])
def test_every_effect_takes_every_shape(effect: str, config: dict[str, Any]) -> None:
    """Kolmogorov-Smirnov at 1e-4 against SciPy's distribution, scaled to the sd of 2."""
    values = {
        "b_l2[Intercept]": 0,
        "b_l1[t]": 0,
        "sigma_l1": 0,
        "sigma_slope_l1[t]": 0,
        "sigma_l2": 0,
        "sigma_l3": 0,
    }
    of = {
        "u_l1": ("sigma_l1", "member"),
        "u_slope_l1": ("sigma_slope_l1[t]", "member"),
        "u_l3": ("sigma_l3", "nesting"),
        "residual": ("sigma_l2", "group"),
    }
    sigma, unit = of[effect.split("[")[0]]
    data = simulated(
        {"t": {"level": "member", "mean": 1, "sd": 0}},
        "y ~ 1 + mm(id(member, group), vars(t), fn(w ~ 1/n), RE = re(1 + t)) + hm(id = nesting)",
        parameters={**values, sigma: 2},
        effects={effect: config},
    ).drop_duplicates(unit)
    assert kolmogorov(data["y"], config, 2) > 1e-4
    bounds = {"t": (0.5, np.inf), "skew": (1, np.inf)}[config["distribution"]]
    measure = stats.kurtosis if config["distribution"] == "t" else stats.skew
    assert bounds[0] < measure(data["y"]) < bounds[1]


def test_steps_of_walks_take_shapes() -> None:
    config = {"distribution": "skew", "shape": 0.6}
    data = simulated(
        {},
        MODEL.replace("RE = TRUE", "RE = TRUE, ar = TRUE"),
        membership=SHARED,
        effects={"u_l1": config},
    ).sort_values(["member", "group"])
    step = data.groupby("member")["y"].diff().fillna(data["y"])
    assert kolmogorov(step, config, 2) > 1e-4
    assert stats.kstest(step / 2, stats.norm.cdf).pvalue < 1e-4


def test_a_residual_is_for_families_that_have_one() -> None:
    with pytest.raises(RecipeError, match=r"truth\.effects\.residual: 'residual' is not a"):
        simulated(
            {},
            family="binomial",
            parameters={"b_l2[Intercept]": 0, "sigma_l1": 1},
            effects={"residual": {"distribution": "t"}},
        )


def test_shapes_are_those_of_the_inverse_distribution_function() -> None:
    z = np.array([-3.0, -1, 0, 0.5, 2])
    expected = stats.t(5).ppf(stats.norm.cdf(z)) * np.sqrt(3 / 5)
    np.testing.assert_allclose(shaped(z, {"distribution": "t", "df": 5}), expected, rtol=1e-9)
    log_normal = stats.lognorm(0.4)
    expected = (log_normal.ppf(stats.norm.cdf(z)) - log_normal.mean()) / log_normal.std()
    np.testing.assert_allclose(
        shaped(z, {"distribution": "skew", "shape": 0.4}), expected, rtol=1e-9
    )
