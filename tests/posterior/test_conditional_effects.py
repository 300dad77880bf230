"""Conditional effects of two covariates and of weights, against the model's formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.errors import DataError
from rmm.posterior.prediction.linear_predictor import flat_draws

FORMULA = (
    "y ~ 1 + z + region + z:q + mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*s)))), "
    "RE = TRUE)"
)


@pytest.fixture(scope="module")
def fit(coalitions: pd.DataFrame) -> rmm.Fit:
    return rmm.fit(FORMULA, coalitions, backend="laplace", seed=1)


def test_two_covariates_of_an_interaction(fit: rmm.Fit, coalitions: pd.DataFrame) -> None:
    """b0 + b_z z + b_zq z q + b_x mean(x), at the base level of region."""
    table = fit.conditional_effects("z", "q", values=[-1.0, 2.0])
    assert table.index.names == ["q", "z"]
    q = coalitions.drop_duplicates("gid")["q"]
    assert list(table.index.levels[0]) == pytest.approx(
        [q.mean() - q.std(), q.mean(), q.mean() + q.std()]
    )
    draws = flat_draws(fit.run, fit.model)
    b = dict(zip(fit.model.design.coords["covariate_l2"], draws["b_l2"].T, strict=True))
    high = q.mean() + q.std()
    x = draws["b_l1"][:, 0] * coalitions["x"].mean()
    expected = b["Intercept"] + 2 * b["z"] + 2 * high * b["z:q"] + x
    row = table.iloc[5]
    assert row["mean"] == pytest.approx(expected.mean())
    assert row["q97.5"] == pytest.approx(np.quantile(expected, 0.975))


def test_by_a_category(fit: rmm.Fit) -> None:
    table = fit.conditional_effects("z", by="region", values=[0.0])
    assert list(table.index) == [("east", 0.0), ("north", 0.0), ("west", 0.0)]
    difference = table["mean"].loc["west"] - table["mean"].loc["east"]
    b = fit.summary()["mean"]["b_l2[region=west]"]
    assert difference.iloc[0] == pytest.approx(b)
    chosen = fit.conditional_effects("x", by="region", by_values=["west"], points=4)
    assert len(chosen) == 4


def test_the_weight_of_one_member(fit: rmm.Fit, coalitions: pd.DataFrame) -> None:
    """Its raw weight over the sum of the group, where the others have the mean of s."""
    table = fit.conditional_effects("s", kind="weight", values=[-1.0, 1.0])
    n = int(np.median(coalitions.groupby("gid").size()))
    b = flat_draws(fit.run, fit.model)["b_w"][:, 0]

    def raw(s: float) -> np.ndarray:
        return 1 / (1 + (n - 1) * np.exp(-b * s))

    expected = raw(1.0) / (raw(1.0) + (n - 1) * raw(coalitions["s"].mean()))
    assert table.loc[1.0, "mean"] == pytest.approx(expected.mean())
    assert table.loc[1.0, "q2.5"] == pytest.approx(np.quantile(expected, 0.025))
    assert table.loc[-1.0, "mean"] < 1 / n < table.loc[1.0, "mean"]


def test_known_weights_have_no_spread(coalitions: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ exp(s)))"
    fit = rmm.fit(formula, coalitions, backend="laplace", seed=1)
    table = fit.conditional_effects("s", kind="weight", values=[0.5])
    n = int(np.median(coalitions.groupby("gid").size()))
    rest = (n - 1) * np.exp(coalitions["s"].mean())
    assert table.loc[0.5, "mean"] == pytest.approx(np.exp(0.5) / (np.exp(0.5) + rest))
    assert table.loc[0.5, "sd"] == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"variable": "z", "by": "z"}, "`by` is 'z', which is the variable itself"),
        ({"variable": "z", "by": "q", "at": {"q": 1}}, "`by` is 'q', which is held by `at`"),
        ({"variable": "z", "by": "cid"}, "'cid' is not a predictor of this model"),
        ({"variable": "z", "by": "q", "by_values": 3}, "`by_values` must be a list of values"),
        ({"variable": "z", "by_values": [3]}, "name it in `by`"),
        ({"variable": "x", "kind": "weight"}, "'x' is not a weight variable of this model"),
    ],
)
def test_messages(fit: rmm.Fit, options: dict[str, object], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        fit.conditional_effects(**options)
