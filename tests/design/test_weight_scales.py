"""Scales of what weight coefficients multiply, against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.design.prepare import Model, prepare
from rmm.design.weights.scales import multiplier_scales, total_sd, within_sd
from rmm.formula.weights.weight_function import parse_weights

START = np.array([0, 3, 4, 6])  # the group of one has no spread of its own
X = np.array([1.0, 2.0, 6.0, 50.0, 10.0, 14.0])
WITHIN = np.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2 + 2 * 2**2) / (2 + 0 + 1))


def table(share_between: float, seed: int = 4) -> pd.DataFrame:
    """80 groups of 2 to 4; s has unit variance, of which a share lies between groups."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(80), rng.integers(2, 5, 80))
    s = np.sqrt(share_between) * rng.normal(size=80)[g]
    s += np.sqrt(1 - share_between) * rng.normal(size=len(g))
    x, m = rng.normal(size=len(g)), np.arange(len(g)) % 31
    return pd.DataFrame({"g": g, "m": m, "s": s, "x": x, "y": rng.normal(size=80)[g]})


def fitted(weight: str, data: pd.DataFrame, constraint: str = "1") -> Model:
    block = f"mm(id(m, g), vars(x), fn(w ~ {weight}, c = {constraint}))"
    return prepare(f"y ~ 1 + {block}", data)


def test_within_and_total_sd_are_their_formulas() -> None:
    assert within_sd(X, START) == pytest.approx(WITHIN, rel=1e-12)
    assert total_sd(X) == pytest.approx(X.std(ddof=1), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1e3, -1e9])
@pytest.mark.parametrize("unit", [1e-280, 1e-9, 1.0, 1e9, 1e280])
def test_scales_follow_the_unit_and_not_the_location(shift: float, unit: float) -> None:
    values = (X + shift) * unit
    assert within_sd(values, START) == pytest.approx(WITHIN * unit, rel=1e-6)
    assert total_sd(values) == pytest.approx(X.std(ddof=1) * unit, rel=1e-6)


def test_rounding_is_no_variation() -> None:
    group = np.repeat([0.1 + 0.2, 0.7, 1 / 3], [3, 1, 2])
    assert within_sd(group, START) == 0.0
    assert total_sd(np.full(6, 0.1 + 0.2)) == 0.0
    assert within_sd(np.array([5.0, 6.0]), np.array([0, 1, 2])) == 0.0  # groups of one alone


@pytest.mark.parametrize(
    ("constraint", "text", "scale"),
    [
        ("group", "exp(b1*x)", WITHIN),
        ("group", "exp(b1*x/10)", WITHIN / 10),
        ("total", "exp(b1*x)", X.std(ddof=1)),
        ("none", "exp(b1*x)", X.std(ddof=1)),
        ("group", "share^b1", within_sd(np.log(X), START)),
        ("total", "share^b1", np.log(X).std(ddof=1)),
        ("group", "1/n^exp(-(b1*x))", WITHIN),
        ("group", "1/(1 + (n-1)*exp(-(b1*x)))", WITHIN),
        ("none", "1/n^b1", np.log([3, 3, 3, 1, 2, 2]).std(ddof=1)),
    ],
)
def test_scale_of_what_a_coefficient_multiplies(constraint: str, text: str, scale: float) -> None:
    weight = parse_weights(f"w ~ {text}", constraint=constraint)
    found = multiplier_scales(weight, {"x": X, "share": X}, START)
    assert found == pytest.approx([scale], rel=1e-12)


def test_shares_of_zero_are_left_out_of_the_scale() -> None:
    weight = parse_weights("w ~ share^b1")
    share = np.array([0.0, 2.0, 6.0, 50.0, 10.0, 14.0])
    logs = np.log(share[1:])
    expected = within_sd(logs, np.array([0, 2, 3, 5]))
    assert multiplier_scales(weight, {"share": share}, START) == pytest.approx([expected])


def test_intercepts_have_scale_one() -> None:
    weight = parse_weights("w ~ 1/n^exp(-(b0 + b1*x))")
    assert multiplier_scales(weight, {"x": X}, START) == pytest.approx([1.0, WITHIN])


@pytest.mark.parametrize("share_between", [0.0, 0.95])
def test_default_priors_are_in_units_of_differences_within_groups(share_between: float) -> None:
    data = table(share_between)
    within = data.s - data.groupby("g").s.transform("mean")
    pooled = np.sqrt((within**2).sum() / (len(data) - 80))
    prior = fitted("exp(b1*s)", data).priors.elements["b_w"][0]
    assert prior.values == pytest.approx((0.0, 1 / pooled))
    for constraint in ("2", "FALSE"):
        prior = fitted("exp(b1*s)", data, constraint).priors.elements["b_w"][0]
        assert prior.values == pytest.approx((0.0, 1 / data.s.std()))


def test_without_variation_within_groups_the_total_sd_is_used_with_a_warning() -> None:
    data = table(0.5)
    data["size"] = data.groupby("g").s.transform("mean")
    with pytest.warns(rmm.SpecificationWarning, match="`size` is constant within every group.*tot"):
        model = fitted("1/n^exp(-(b1*s + b2*size))", data)
    assert model.priors.elements["b_w"][1].values == pytest.approx((0.0, 1 / data["size"].std()))
    message = r"b_w\[b2\] multiplies `max\(s\)`, which does not vary within groups \(sd 0 within"
    with pytest.warns(rmm.SpecificationWarning, match=message):
        model = fitted("1/n^exp(-(b1*s + b2*max(s)))", data)
    total = data.groupby("g").s.transform("max").std()
    assert model.priors.elements["b_w"][1].values == pytest.approx((0.0, 1 / total))
