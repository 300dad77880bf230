"""Aggregates of members in a truth: by hand, against the package's own, and in simulated data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import optimize

from rmm.formula.features import FEATURES, smooth_threshold, threshold_slope
from rmm.simulation import RecipeError, simulate
from rmm.simulation.outcomes.group_features import AGGREGATES, DOMAINS, by_group
from rmm.study import load_study

START = np.array([0, 2, 5, 6])
X = np.array([1.0, 3, 0, 2, 6, 4])
W = np.array([1.0, 3, 1, 1, 2, 5])  # shares 1/4 3/4, 1/4 1/4 1/2, 1
MEMBERSHIP: dict[str, Any] = {
    "kind": "synthetic",
    "groups": 80,
    "members": 40,
    "size": {"distribution": "uniform", "low": 1, "high": 5},
}
LN2 = np.log(2)

BY_HAND: list[tuple[str, bool, float | None, list[float]]] = [
    # m = 2.5: 2.25/4 + 3 * 0.25/4 = 0.75; m = 3.5: 12.25/4 + 2.25/4 + 6.25/2 = 6.75.
    ("variance", True, None, [0.75, 6.75, 0]),
    ("herfindahl", False, None, [10 / 16, 6 / 16, 1]),
    ("herfindahl", True, None, [10 / 16, 40 / 64, 1]),
    ("entropy", False, None, [2 * LN2 - 0.75 * np.log(3), 1.5 * LN2, 0]),
    ("entropy", True, None, [2 * LN2 - 0.75 * np.log(3), 2 * LN2 - 0.75 * np.log(3), 0]),
    ("threshold", True, 2.0, [0.75, 0.5, 1]),  # 2 is not above 2
    # exp(k x) = 2^x: shares 2 and 24 of 26; 1/4, 4/4 and 64/2 of 33.25.
    ("softmax", True, LN2, [(2 + 24 * 3) / 26, (2 + 32 * 6) / 33.25, 4]),
    ("softmax", True, 0.0, [2.5, 3.5, 4]),
    ("genmean", True, 2.0, [np.sqrt(7), np.sqrt(19), 4]),
    ("genmean", True, 1.0, [2.5, 3.5, 4]),
]


@pytest.mark.parametrize(("name", "variable", "number", "expected"), BY_HAND)
def test_by_hand(name: str, variable: bool, number: float | None, expected: list[float]) -> None:
    x = X if variable else np.zeros(0)
    with np.errstate(divide="ignore"):
        found = by_group(name, W, x, number, START, smooth=False)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_harmonic_and_geometric_means_by_hand() -> None:
    x, start = np.array([1.0, 4, 2]), np.array([0, 2, 3])
    equal = np.ones(3)
    for exponent, expected in ((-1.0, [1.6, 2]), (0.0, [2, 2])):
        found = by_group("genmean", equal, x, exponent, start, smooth=False)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_threshold_with_a_parameter_is_smooth_by_hand() -> None:
    """sd(0, 0, 3, 3) = sqrt(3): logistic slopes of 5 / sqrt(3)."""
    x, start = np.array([0.0, 3, 0, 3]), np.array([0, 2, 4])
    low, high = (1 / (1 + np.exp(-5 / np.sqrt(3) * (v - 1.0))) for v in (0, 3))
    found = by_group("threshold", np.array([1.0, 1, 1, 3]), x, 1.0, start, smooth=True)
    np.testing.assert_allclose(found, [(low + high) / 2, (low + 3 * high) / 4], rtol=1e-12)


def test_the_registries_have_the_same_names_and_domains() -> None:
    assert set(AGGREGATES) == set(FEATURES)
    assert set(DOMAINS) == {name for name, row in FEATURES.items() if row.domain != "real"}


@pytest.mark.parametrize("name", sorted(AGGREGATES))
@pytest.mark.parametrize("number", [-1.3, 0.0, 0.7, 4.0])
def test_they_agree_with_the_package(name: str, number: float) -> None:
    """Two computations that share no code, on 300 groups of 1 to 6."""
    rng = np.random.default_rng(1)
    start = np.concatenate([[0], np.cumsum(rng.integers(1, 7, size=300))])
    x, w = rng.lognormal(size=start[-1]), rng.gamma(0.5, size=start[-1])
    share = w / np.repeat(np.add.reduceat(w, start[:-1]), np.diff(start))
    for values in (x, np.zeros(0)):
        if len(values) == 0 and FEATURES[name].variable == "needed":
            continue
        found = by_group(name, w, values, number, start, smooth=False)
        expected = FEATURES[name].values(share, values, number, start)
        # The package takes an exponent of 0 for 1e-6, which is off by 1e-6 var(log x) / 2.
        rtol = 1e-5 if name == "genmean" and number == 0 else 1e-8
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-10)
    if name == "threshold":
        found = by_group(name, w, x, number, start, smooth=True)
        expected = smooth_threshold(share, x, number, start, threshold_slope(x))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_outcome_without_noise_is_the_linear_predictor() -> None:
    """Under a constraint that gives groups different sums, shares do not follow them."""
    data = simulate(
        "y ~ 1 + mm(id(member, group), vars(x + variance(x) + herfindahl() + threshold(x)"
        " + softmax(x)), fn(w ~ exp(b1*x), c = FALSE), RE = FALSE)",
        {
            "b_l2[Intercept]": 1,
            "b_l1[x]": 0.5,
            "b_l1[variance(x)]": 2,
            "b_l1[herfindahl()]": -1,
            "b_l1[threshold(x)]": 3,
            "b_l1[softmax(x)]": 0.7,
            "b_f[threshold(x)]": 0.2,
            "b_f[softmax(x)]": 1.5,
            "b_w[b1]": 0.4,
            "sigma_l2": 0,
        },
        membership=MEMBERSHIP,
        covariates={"x": {"level": "membership"}},
        seed=2,
    ).data
    sd = data["x"].std()
    for _, rows in data.groupby("group"):
        x = rows["x"].to_numpy()
        w = np.exp(0.4 * x)
        p = w / w.sum()
        tilt = p * np.exp(1.5 * x)
        expected = (
            1
            + 0.5 * (w * x).sum()
            + 2 * (p * (x - (p * x).sum()) ** 2).sum()
            - (p**2).sum()
            + 3 * (p / (1 + np.exp(-5 * (x - 0.2) / sd))).sum()
            + 0.7 * (tilt * x).sum() / tilt.sum()
        )
        assert rows["y"].iloc[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.thorough
def test_a_plain_computation_recovers_coefficient_and_exponent() -> None:
    """Least squares on y = a + b genmean(x, q): within 4.5 standard errors of (2, 1.5, -0.5)."""
    truth = {"b_l2[Intercept]": 2, "b_l1[genmean(x)]": 1.5, "b_f[genmean(x)]": -0.5, "sigma_l2": 1}
    data = simulate(
        "y ~ 1 + mm(id(member, group), vars(genmean(x)), fn(w ~ 1/n), RE = FALSE)",
        truth,
        membership={**MEMBERSHIP, "groups": 4000, "size": 4, "members": 2000},
        covariates={"x": {"level": "member", "distribution": "uniform", "mean": 3.5, "sd": 1.9}},
        seed=3,
    ).data
    x, y = data["x"].to_numpy().reshape(-1, 4), data["y"].to_numpy()[::4]

    def residual(at: Any) -> Any:
        a, b, q = at
        return y - a - b * np.mean(x**q, axis=1) ** (1 / q)

    fit = optimize.least_squares(residual, [0.0, 1.0, 0.3])
    error = np.sqrt(np.diag(np.linalg.inv(fit.jac.T @ fit.jac)) * 2 * fit.cost / (len(y) - 3))
    assert (np.abs(fit.x - [2, 1.5, -0.5]) < 4.5 * error).all()
    assert (error < 0.3).all()


@pytest.mark.parametrize(
    ("variables", "covariate", "weights", "message"),
    [
        (
            "genmean(x, 2)",
            {},
            "1/n",
            r"genmean\(x, 2\) needs x > 0\. .*smallest value is -.*\n.* transform",
        ),
        ("entropy(x)", {}, "1/n", r"entropy\(x\) needs x >= 0"),
        ("variance(q)", {}, "1/n", r"truth\.formula: 'q' is not a covariate.*Allowed: x\."),
        (
            "variance(x)",
            {},
            "x",
            r"variance\(x\) needs weights of 0 or more.* negative in \d+ memberships",
        ),
    ],
)
def test_messages(variables: str, covariate: Any, weights: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        simulate(
            f"y ~ 1 + mm(id(member, group), vars({variables}), fn(w ~ {weights}), RE = FALSE)",
            {"b_l2[Intercept]": 1, f"b_l1[{variables}]": 1, "sigma_l2": 1},
            membership=MEMBERSHIP,
            covariates={"x": {"level": "member", **covariate}},
            seed=1,
        )


def test_a_study_finds_a_wrong_domain_before_it_starts_and_fits_the_aggregates(
    tmp_path: Path,
) -> None:
    config: dict[str, Any] = {
        "seed": 1,
        "replications": 2,
        "membership": MEMBERSHIP,
        "covariates": {"x": {"level": "member", "distribution": "binary"}},
        "truth": {
            "formula": "y ~ 1 + mm(id(member, group),"
            " vars(x + variance(x) + genmean(I(exp(x)), 2)), fn(w ~ 1/n), RE = TRUE)",
            "parameters": {
                "b_l2[Intercept]": 0,
                "b_l1[x]": 1,
                "b_l1[variance(x)]": 1,
                "b_l1[genmean(I(exp(x)), 2)]": 0,
                "sigma_l1": 1,
                "sigma_l2": 1,
            },
        },
        "methods": [{"name": "mm", "kind": "mm", "backend": "jags"}],
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    study = load_study(path)
    formula = study.method("mm").formula(study.scenarios[0].recipe)
    assert "vars(x + variance(x) + genmean(I(exp(x)), 2))" in formula
    wrong = yaml.safe_dump(config).replace("I(exp(x))", "I(x - 1)")
    path.write_text(wrong)
    from rmm.errors import StudyError

    with pytest.raises(StudyError, match=r"truth\.formula\n  genmean\(I\(x - 1\), 2\) needs"):
        load_study(path)
