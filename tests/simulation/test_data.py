"""Simulated data: structures, covariates and outcomes have the properties that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rmm.errors import DataError, FormulaError
from rmm.simulation import STRUCTURES, RecipeError, simulate
from rmm.simulation.covariates.distributions import DISTRIBUTIONS, shaped
from rmm.simulation.data_sets import prepare
from rmm.simulation.memberships.structures import prepare_membership

SYNTHETIC: dict[str, Any] = {"kind": "synthetic", "groups": 60, "members": 20, "size": 3}
MODEL = "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
VALUES = {"b_l2[Intercept]": 1.0, "b_l2[z]": 0.5, "b_l1[x]": 2.0, "sigma_l1": 1.0, "sigma_l2": 1.0}
COVARIATES: dict[str, Any] = {"x": {"level": "member"}, "z": {"level": "group"}}


def drawn(seed: int = 1, **changes: Any) -> Any:
    draw, _ = prepare_membership({**SYNTHETIC, **changes}, Path())
    return draw(np.random.default_rng(seed))


# -- memberships -----------------------------------------------------------------------------


def test_fixed_size_and_no_member_twice() -> None:
    m = drawn()
    assert (m.size == 3).all()
    assert len(np.unique(m.group * 1000 + m.member)) == len(m.member) == 180
    assert (np.diff(m.group) >= 0).all()


@pytest.mark.parametrize(
    ("size", "low", "high", "mean"),
    [
        ({"distribution": "uniform", "low": 2, "high": 6}, 2, 6, 4.0),
        ({"distribution": "poisson", "mean": 4, "minimum": 2}, 2, 20, 4.0),
        ({"distribution": "table", "values": [2, 5], "probabilities": [1, 3]}, 2, 5, 4.25),
    ],
)
def test_size_distributions(size: dict[str, Any], low: int, high: int, mean: float) -> None:
    m = drawn(groups=3000, size=size, members=60)
    assert m.size.min() == low
    assert m.size.max() <= high
    assert abs(m.size.mean() - mean) < 0.12


def test_overlap_zero_is_pure_nesting_and_grows() -> None:
    def sharing(overlap: float) -> float:
        """Share of memberships whose member sits in another group too."""
        m = drawn(overlap=overlap)
        counts = np.bincount(m.member)
        return float(np.mean(counts[m.member] > 1))

    shares = [sharing(o) for o in (0.0, 0.3, 0.7, 1.0)]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] > 0.99


def test_overlap_is_the_share_of_seats_from_the_pool() -> None:
    m = drawn(groups=2000, overlap=0.3, members=40)
    assert abs(np.mean(m.member < 40) - 0.3) < 0.02


def test_activity_makes_some_members_frequent() -> None:
    even = np.bincount(drawn(groups=2000, members=50).member, minlength=50)
    skewed = np.bincount(drawn(groups=2000, members=50, activity=1.5).member, minlength=50)
    assert even.std() / even.mean() < 0.2
    assert skewed.std() / skewed.mean() > 0.5


@pytest.mark.parametrize("within", [True, False])
def test_members_stay_within_their_nesting_unit_or_not(within: bool) -> None:
    m = drawn(groups=100, members=40, units=5, within=within)
    units_of_member = pd.DataFrame({"member": m.member, "unit": m.nesting[m.group]})
    most = units_of_member.groupby("member")["unit"].nunique().max()
    assert (most == 1) == within
    assert np.bincount(m.nesting).tolist() == [20] * 5


def test_empirical_memberships_are_those_of_the_table(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"g": [2, 2, 1, 1, 3], "p": ["b", "a", "a", "c", "b"], "c": [1, 1, 1, 1, 2], "v": range(5)}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    config = {"kind": "empirical", "file": "t.csv", "member": "p", "group": "g", "nesting": "c"}
    draw, fixed = prepare_membership(config, tmp_path)
    m = draw(np.random.default_rng(1))
    assert fixed
    rows = list(zip(m.group_labels[m.group], m.member_labels[m.member], strict=True))
    assert rows == [(1, "a"), (1, "c"), (2, "a"), (2, "b"), (3, "b")]
    assert m.columns["v"].tolist() == [2, 3, 1, 0, 4]
    assert m.nesting_labels[m.nesting].tolist() == [1, 1, 2]


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_ids_of_a_real_table_keep_their_type(end: str, tmp_path: Path) -> None:
    """Whole floats are whole numbers, as in a fit; ids of text files with a point are text."""
    table = pd.DataFrame(
        {
            "g": [20, 20, 3, 3],
            "p": ["b", "a", "a", "c"],
            "r": [1.0, 2.0, 1.0, 3.0],
            "f": [0.5, 1.5, 0.5, 2.0],
            "c": [1, 1, 1, 1],
        }
    )
    table["d"] = pd.to_datetime(["2001-05-01", "2001-05-02", "2001-05-01", "2001-05-03"])
    table["i"] = table["r"].astype("Int64")
    getattr(table, f"to_{end}")(tmp_path / f"t.{end}", index=False)
    kinds = {"p": "O", "r": "i", "f": "f", "i": "i", "d": "M"}
    if end == "csv":
        kinds |= dict.fromkeys(("r", "f", "d"), "O")
    for member, kind in kinds.items():
        config = {
            "kind": "empirical",
            "file": f"t.{end}",
            "member": member,
            "group": "g",
            "nesting": "c",
        }
        made = simulate(
            "y ~ 1", {"b_l2[Intercept]": 0, "sigma_l2": 1}, membership=config, seed=1, root=tmp_path
        ).data
        assert made["g"].dtype == made["c"].dtype == np.int64
        assert made["g"].tolist() == [3, 3, 20, 20]
        assert made[member].dtype.kind == kind or (kind == "O" and made[member].dtype == "str")
        wanted = table.sort_values(["g", member])[member]
        assert made[member].tolist() == (wanted.astype(str) if kind == "O" else wanted).tolist()


def test_every_structure_has_a_way_to_draw() -> None:
    assert set(STRUCTURES) == {"synthetic", "empirical", "neighbours"}
    assert all(callable(s.prepare) and s.name == name for name, s in STRUCTURES.items())


# -- covariates ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_distributions_are_standardised(name: str) -> None:
    z = np.random.default_rng(3).standard_normal(400_000)
    values = shaped(z, {"distribution": name, "df": 6, "shape": 0.4, "probability": 0.3})
    # 0/1 with probability 0.3; 0 to 3, each with probability 1/4: variance (4^2 - 1) / 12.
    unscaled = {"binary": (0.3, np.sqrt(0.21)), "categories": (1.5, np.sqrt(1.25))}
    mean, sd = unscaled.get(name, (0.0, 1.0))
    assert abs(values.mean() - mean) < 0.006
    assert abs(values.std() - sd) < 0.012


def test_skew_has_the_skewness_of_a_lognormal() -> None:
    z = np.random.default_rng(4).standard_normal(400_000)
    values = shaped(z, {"distribution": "skew", "shape": 0.5})
    expected = (np.exp(0.25) + 2) * np.sqrt(np.expm1(0.25))
    assert abs(np.mean(values**3) - expected) < 0.06


def test_intra_group_correlation_and_correlation() -> None:
    simulated = simulate(
        "y ~ 1 + mm(id(member, group), vars(a + b), fn(w ~ 1/n), RE = FALSE)",
        {"b_l2[Intercept]": 0, "b_l1[a]": 0, "b_l1[b]": 0, "sigma_l2": 1},
        membership={**SYNTHETIC, "groups": 20_000, "size": 2, "overlap": 0},
        covariates={
            "a": {"level": "membership", "icc": 0.4, "mean": 5, "sd": 2, "correlation": {"b": 0.5}},
            "b": {"level": "membership"},
        },
        seed=2,
    ).data
    pairs = simulated["a"].to_numpy().reshape(-1, 2)
    assert abs(np.corrcoef(pairs[:, 0], pairs[:, 1])[0, 1] - 0.4) < 0.02
    assert abs(simulated["a"].mean() - 5) < 0.05
    assert abs(simulated["a"].std() - 2) < 0.05
    # b has no common part, so the correlation of the own parts alone is left.
    expected = 0.5 * np.sqrt(0.6)
    assert abs(simulated["a"].corr(simulated["b"]) - expected) < 0.02


def test_around_is_an_error_prone_measure() -> None:
    data = simulate(
        "y ~ 1 + xi",
        {"b_l2[Intercept]": 0, "b_l2[xi]": 0, "sigma_l2": 1},
        membership={**SYNTHETIC, "groups": 5000, "overlap": 0},
        covariates={
            "xi": {"level": "group"},
            "x": {"level": "membership", "around": "xi", "sd": 2},
        },
        seed=5,
    ).data
    error = data["x"] - data["xi"]
    assert abs(error.std() - 2) < 0.05
    assert abs(error.corr(data["xi"])) < 0.03


def test_levels_of_covariates() -> None:
    membership = {**SYNTHETIC, "units": 4, "within": False}
    data = simulate(
        MODEL + " + k + hm(id = nesting)",
        {**VALUES, "b_l3[k]": 1.0, "sigma_l3": 0.5},
        membership=membership,
        covariates={**COVARIATES, "k": {"level": "nesting"}},
        seed=6,
    ).data
    assert data.groupby("member")["x"].nunique().max() == 1
    assert data.groupby("group")["z"].nunique().max() == 1
    assert data.groupby("nesting")["k"].nunique().max() == 1
    assert data.groupby("group")["y"].nunique().max() == 1


# -- outcomes --------------------------------------------------------------------------------


def test_outcome_without_noise_is_the_linear_predictor() -> None:
    """Against a computation by hand, with weights that depend on a parameter."""
    formula = "y ~ 1 + z + mm(id(member, group), vars(x + x:z), fn(w ~ 1/n^exp(-(b1*x)), c = TRUE))"
    truth = {
        "b_l2[Intercept]": 1,
        "b_l2[z]": -2,
        "b_l1[x]": 3,
        "b_l1[x:z]": 0.5,
        "b_w[b1]": 0.7,
        "sigma_l2": 0,
    }
    size = {"distribution": "uniform", "low": 1, "high": 4}
    data = simulate(
        formula, truth, membership={**SYNTHETIC, "size": size}, covariates=COVARIATES, seed=7
    ).data
    for _, rows in data.groupby("group"):
        n = len(rows)
        raw = 1 / n ** np.exp(-0.7 * rows["x"])
        w = raw / raw.sum()
        inside = 3 * rows["x"] + 0.5 * rows["x"] * rows["z"]
        expected = 1 - 2 * rows["z"].iloc[0] + (w * inside).sum()
        assert rows["y"].iloc[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("constraint", "total"), [("FALSE", 120.0), ("2", 60.0), ("TRUE", 60.0)])
def test_constraints_of_weights(constraint: str, total: float) -> None:
    """With x = 1 everywhere and slope 1, outcomes without noise are sums of weights."""
    formula = f"y ~ 0 + mm(id(member, group), vars(x), fn(w ~ 2/n, c = {constraint}))"
    data = simulate(
        formula,
        {"b_l1[x]": 1, "sigma_l2": 0},
        membership=SYNTHETIC,
        seed=8,
        covariates={"x": {"level": "member", "mean": 1, "sd": 0}},
    ).data
    assert data.groupby("group")["y"].first().sum() == pytest.approx(total)


@pytest.mark.thorough
def test_member_effects_are_shared_and_have_their_sd() -> None:
    truth = {**VALUES, "b_l1[x]": 0.0, "b_l2[z]": 0.0, "sigma_l1": 2.0, "sigma_l2": 0.0}
    one = simulate(
        MODEL,
        truth,
        membership={**SYNTHETIC, "size": 1, "members": 4000, "groups": 8000},
        covariates=COVARIATES,
        seed=9,
    ).data
    by_member = one.groupby("member")["y"]
    assert by_member.nunique().max() == 1
    assert abs(by_member.first().std() - 2) < 0.1


@pytest.mark.parametrize("distribution", ["t", "skew"])
def test_effect_distributions_keep_the_sd(distribution: str) -> None:
    truth = {**VALUES, "b_l1[x]": 0.0, "b_l2[z]": 0.0, "sigma_l2": 0.0}
    data = simulate(
        MODEL,
        truth,
        membership={**SYNTHETIC, "size": 1, "groups": 40_000, "overlap": 0},
        covariates=COVARIATES,
        seed=10,
        effects={"u_l1": {"distribution": distribution, "df": 6}},
    ).data
    u = data["y"] - 1
    assert abs(u.std() - 1) < 0.03
    kurtosis = float(np.mean((u / u.std()) ** 4))
    assert kurtosis > 3.5


def test_same_seed_same_data_and_truth_by_name() -> None:
    a, b, c = (
        simulate(MODEL, VALUES, membership=SYNTHETIC, covariates=COVARIATES, seed=s)
        for s in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(a.data, b.data)
    assert not a.data["y"].equals(c.data["y"])
    assert a.truth == VALUES


def test_parameters_do_not_change_covariates() -> None:
    a = simulate(MODEL, VALUES, membership=SYNTHETIC, covariates=COVARIATES, seed=1).data
    b = simulate(
        MODEL, {**VALUES, "b_l1[x]": 0}, membership=SYNTHETIC, covariates=COVARIATES, seed=1
    ).data
    pd.testing.assert_frame_equal(a.drop(columns="y"), b.drop(columns="y"))
    assert not a["y"].equals(b["y"])


# -- messages ---------------------------------------------------------------------------------


def attempt(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "formula": MODEL,
        "parameters": VALUES,
        "membership": SYNTHETIC,
        "covariates": COVARIATES,
        **changes,
    }
    formula, parameters = arguments.pop("formula"), arguments.pop("parameters")
    simulate(formula, parameters, seed=1, **arguments)


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"membership": {**SYNTHETIC, "kind": "sinthetic"}},
        r"membership\.kind: 'sinthetic' .*'synthetic'\?",
    ),
    ({"membership": {"kind": "synthetic", "groups": 5}}, r"membership\.size: `size` is missing"),
    (
        {"membership": {**SYNTHETIC, "members": 2}},
        r"A group can have 3 members, but there are only 2",
    ),
    (
        {"membership": {**SYNTHETIC, "units": 10}},
        r"only 2 to draw from in each of the 10 nesting units",
    ),
    (
        {"membership": {"kind": "empirical", "file": "no.csv"}},
        r"membership\.file: The file 'no\.csv' does not exist",
    ),
    ({"covariates": {"x": {"level": "member"}}}, r"truth\.formula: 'z' is not a covariate"),
    ({"covariates": {**COVARIATES, "x": {}}}, r"covariates\.x\.level: `level` is missing"),
    (
        {"covariates": {**COVARIATES, "k": {"level": "nesting"}}},
        r"covariates\.k\.level: .* have no nesting units",
    ),
    (
        {"covariates": {**COVARIATES, "y": {"level": "group"}}},
        r"covariates\.y: .*called 'y'\.\n.*used already",
    ),
    (
        {"covariates": {**COVARIATES, "x": {"level": "member", "icc": 0.5}}},
        r"Only covariates of level membership",
    ),
    (
        {"parameters": {**VALUES, "b_l1[xx]": 1}},
        r"truth\.parameters\.b_l1\[xx\]: .*Did you mean 'b_l1\[x\]'\?",
    ),
    (
        {"parameters": {k: v for k, v in VALUES.items() if k != "sigma_l1"}},
        r"truth\.parameters: The value of sigma_l1 is missing",
    ),
    (
        {"parameters": {**VALUES, "sigma_l1": -1}},
        r"truth\.parameters\.sigma_l1: The value -1 is negative",
    ),
    ({"formula": MODEL.replace("id(member", "id(party")}, r"mm\(\) contains id\(party, group\)"),
    (
        {"formula": MODEL.replace("+ z", "+ x")},
        r"'x' is a covariate of level member, but is used outside",
    ),
    ({"family": "nosuch"}, r"truth\.family: 'nosuch' is not a family that can be simulated"),
    (
        {"effects": {"u_l3": {"distribution": "t"}}},
        r"truth\.effects\.u_l3: 'u_l3' is not a random effect",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_recipes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        attempt(**changes)


def test_formula_that_does_not_parse() -> None:
    with pytest.raises(FormulaError, match="mm"):
        attempt(formula="y ~ 1 + mm(id(member, group)")


def test_impossible_correlations() -> None:
    three = {
        "a": {"level": "group", "correlation": {"b": 0.9, "c": 0.9}},
        "b": {"level": "group", "correlation": {"c": -0.9}},
        "c": {"level": "group"},
    }
    with pytest.raises(RecipeError, match="not positive definite"):
        attempt(covariates={**COVARIATES, **three})


def test_weights_that_are_not_finite() -> None:
    bad = MODEL.replace("w ~ 1/n", "w ~ 1/(n - 3)")
    with pytest.raises(DataError, match=r"linear predictor of group .* is not finite"):
        attempt(formula=bad)


def test_group_that_outgrows_the_pool() -> None:
    size = {"distribution": "poisson", "mean": 12}
    with pytest.raises(RecipeError, match="was drawn, but there are not so many members"):
        attempt(membership={**SYNTHETIC, "size": size, "members": 13})


def test_names_agree_with_the_package() -> None:
    """The simulator's list of parameters is that of the model's spine."""
    content = {
        "membership": {**SYNTHETIC, "units": 4, "within": False},
        "covariates": {**COVARIATES, "k": {"level": "nesting"}},
        "truth": {
            "formula": MODEL + " + k + hm(id = nesting)",
            "parameters": {**VALUES, "b_l3[k]": 1.0, "sigma_l3": 0.5},
        },
    }
    truth = prepare(content, Path()).truth
    structural = [p.name for p in truth.spec.parameters if p.structural]
    assert list(dict.fromkeys(n.split("[")[0] for n in truth.parameters)) == structural


def test_families_have_the_names_that_a_fit_takes() -> None:
    made = [
        simulate(
            "y ~ 1",
            {"b_l2[Intercept]": 1, "zi": 0.3},
            family=family,
            membership={"kind": "synthetic", "groups": 30, "size": 1, "overlap": 0},
            seed=2,
        ).data
        for family in ("zero_inflated_poisson", "zip", "ZIP")
    ]
    for other in made[1:]:
        pd.testing.assert_frame_equal(other, made[0])
