"""Effects of covariates that enter through poly(), ns() and products: predictions, slopes, files.

Curves by hand: a natural spline is determined by its values at the knots, so that SciPy's
interpolation of these gives its values and its derivative everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special
from scipy.interpolate import CubicSpline

import rmm
from rmm.design.prepare import prepare
from rmm.formula.column_bases import NaturalSpline
from rmm.posterior.prediction.linear_predictor import flat_draws

# Identities hold in every draw, so that a few draws are enough.
pytestmark = pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
OPTIONS: dict[str, Any] = {"backend": "laplace", "draws": 50, "chains": 2, "seed": 3}
FORMULA = (
    "{y} ~ 1 + ns(age, 3)*z + mm(id(member, group), vars(poly(x, 2) + poly(x, 2):lead),"
    " fn(w ~ 1/n), RE = TRUE)"
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    rows = pd.DataFrame({"group": np.repeat(np.arange(120), rng.integers(1, 6, 120))})
    rows["member"] = rng.integers(0, 30, len(rows))
    rows = rows.drop_duplicates(["group", "member"]).reset_index(drop=True)
    rows["age"] = rng.gamma(4, 10, 120)[rows["group"]]
    rows["z"] = rng.normal(size=120)[rows["group"]]
    rows["x"], rows["lead"] = rng.normal(size=len(rows)), rng.normal(size=len(rows))
    mean = np.sin(rows["age"] / 20) + rows.groupby("group")["x"].transform("mean") ** 2
    rows["y"] = (
        (mean + rng.normal(size=120)[rows["group"]]).groupby(rows["group"]).transform("first")
    )
    return rows.assign(won=(rows["y"] > rows["y"].median()).astype(int))


def coefficients(fit: rmm.Fit, name: str) -> dict[str, np.ndarray]:
    labels = fit.model.design.coords[f"covariate_{name[2:]}"]
    return dict(zip(labels, flat_draws(fit.run, fit.model)[name].T, strict=True))


def curve(table: pd.DataFrame) -> CubicSpline:
    """The three columns of ns(age, 3), of which the knots are quantiles of groups."""
    age = table.drop_duplicates("group")["age"].to_numpy()
    places = np.quantile(age, [0, 1 / 3, 2 / 3, 1])
    at_knots = NaturalSpline(3).settled("", age).columns("", places)
    return CubicSpline(places, at_knots, bc_type="natural")


def polynomials(table: pd.DataFrame) -> np.ndarray:
    """(3, 2) powers of x -> the columns of poly(x, 2) over memberships, by Gram and Schmidt."""
    r = np.linalg.qr(np.vander(table["x"].to_numpy(), 3, increasing=True)).R
    to = np.linalg.inv(r) * np.sign(np.diag(r))
    return np.asarray(to[:, 1:])


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_marginal_effects_by_the_chain_rule(table: pd.DataFrame, family: str) -> None:
    """dE/dx = g'(eta) d eta/dx, in every draw."""
    outcome = "y" if family == "gaussian" else "won"
    fit = rmm.fit(FORMULA.format(y=outcome), table, family, progress=False, **OPTIONS)
    first = table.drop_duplicates("group")
    b, c = coefficients(fit, "b_l2"), coefficients(fit, "b_l1")
    eta = fit.predict(kind="linear", draws=True).to_numpy().reshape(-1, 120)
    p = special.expit(eta)
    steep = np.ones_like(eta) if family == "gaussian" else p * (1 - p)
    spline, z = curve(table), first["z"].to_numpy()
    slope = spline(first["age"].to_numpy(), 1)
    expected = sum(
        slope[:, k][None, :]
        * (b[f"ns(age, 3){k + 1}"][:, None] + b[f"ns(age, 3){k + 1}:z"][:, None] * z[None, :])
        for k in range(3)
    )
    found = fit.estimand("marginal_effect", variable="age", draws=True).to_numpy().reshape(-1)
    np.testing.assert_allclose(found, (steep * expected).mean(axis=1), rtol=1e-5, atol=1e-9)
    # A covariate of members, moved in all members of a group: sum of w_r d f(x_r)/dx.
    to = polynomials(table)
    x, lead = table["x"].to_numpy(), table["lead"].to_numpy()
    slopes = to[1][None, :] + 2 * x[:, None] * to[2][None, :]
    own = sum(
        slopes[:, k][None, :]
        * (c[f"poly(x, 2){k + 1}"][:, None] + c[f"poly(x, 2){k + 1}:lead"][:, None] * lead)
        for k in range(2)
    )
    member = np.equal.outer(first["group"].to_numpy(), table["group"].to_numpy())
    weights = member / member.sum(axis=1, keepdims=True)
    found = fit.estimand("marginal_effect", variable="x", draws=True).to_numpy().reshape(-1)
    np.testing.assert_allclose(
        found, (steep * (own @ weights.T)).mean(axis=1), rtol=1e-5, atol=1e-9
    )
    # The other covariate of a product.
    found = fit.estimand("marginal_effect", variable="z", draws=True).to_numpy().reshape(-1)
    columns = spline(first["age"].to_numpy())
    expected = b["z"][:, None] + sum(
        b[f"ns(age, 3){k + 1}:z"][:, None] * columns[:, k] for k in range(3)
    )
    np.testing.assert_allclose(found, (steep * expected).mean(axis=1), rtol=1e-5, atol=1e-9)


def test_conditional_effects_move_all_columns(table: pd.DataFrame, tmp_path: Path) -> None:
    """Inside and beyond the range, by a second covariate, and from a saved fit."""
    fit = rmm.fit(FORMULA.format(y="y"), table, progress=False, **OPTIONS)
    first = table.drop_duplicates("group")
    b, c = coefficients(fit, "b_l2"), coefficients(fit, "b_l1")
    spline, (low, high) = curve(table), (first["age"].min(), first["age"].max())
    ages = np.array([low - 30, low, 30.0, 60.0, high, high + 40])
    columns = spline(np.clip(ages, low, high))
    columns += (ages - np.clip(ages, low, high))[:, None] * spline(np.clip(ages, low, high), 1)
    to = polynomials(table)
    at_mean = np.array([1.0, table["x"].mean(), table["x"].mean() ** 2]) @ to
    for z in (-1.0, 2.0):
        expected = b["Intercept"][:, None] + z * b["z"][:, None]
        expected = expected + sum(
            (b[f"ns(age, 3){k + 1}"] + z * b[f"ns(age, 3){k + 1}:z"])[:, None] * columns[:, k]
            for k in range(3)
        )
        expected += sum(
            at_mean[k]
            * (c[f"poly(x, 2){k + 1}"] + table["lead"].mean() * c[f"poly(x, 2){k + 1}:lead"])
            for k in range(2)
        )[:, None]
        for one in (fit, rmm.load(fit.save(tmp_path / "fit.nc"))):
            found = one.conditional_effects("age", "z", values=ages, by_values=[z])
            np.testing.assert_allclose(found["mean"], expected.mean(axis=0), rtol=1e-8)
            np.testing.assert_allclose(found["sd"], expected.std(axis=0, ddof=1), rtol=1e-8)
    # x is moved in all members of a group of any size: weights sum to one.
    values = np.array([-4.0, 0.0, 1.0, 5.0])
    effects = fit.conditional_effects("x", values=values, at={"lead": 0.0})["mean"].to_numpy()
    powers = np.vander(values, 3, increasing=True) @ to
    expected = powers @ np.array([c["poly(x, 2)1"].mean(), c["poly(x, 2)2"].mean()])
    np.testing.assert_allclose(np.diff(effects), np.diff(expected), rtol=1e-8)


def test_names_of_coefficients_in_priors_and_hypotheses(table: pd.DataFrame) -> None:
    """Names with brackets and commas, as in the summary."""
    fit = rmm.fit(
        "y ~ 1 + ns(age, 2) + poly(z, 2, raw = TRUE)",
        table.drop_duplicates("group"),
        priors={"b_l2[ns(age, 2)1]": "normal(0, 0.001)", "b_l2[poly(z, 2, raw = TRUE)2]": 0.5},
        progress=False,
        **OPTIONS,
    )
    summary = fit.summary()
    assert abs(summary.loc["b_l2[ns(age, 2)1]", "mean"]) < 0.005
    assert "b_l2[poly(z, 2, raw = TRUE)2]" not in summary.index
    found = fit.hypothesis("b_l2[ns(age, 2)2] > 0").table
    share = (coefficients(fit, "b_l2")["ns(age, 2)2"] > 0).mean()
    assert found["probability"].iloc[0] == pytest.approx(share)
    # What is held counts in predictions too.
    effects = fit.conditional_effects("z", values=[0.0, 2.0])["mean"].to_numpy()
    b = coefficients(fit, "b_l2")["poly(z, 2, raw = TRUE)1"].mean()
    assert effects[1] - effects[0] == pytest.approx(2 * b + 0.5 * 4)


def test_default_priors_are_on_standardised_columns(table: pd.DataFrame) -> None:
    """normal(0, 2.5 sd(y) / sd(column)); columns of poly() have the sd 1/sqrt(N - 1)."""
    first = table.drop_duplicates("group").eval("k = z**3 - lead")
    model = prepare("y ~ 1 + poly(age, 3) + ns(k, 2) + poly(z, 2, raw = TRUE)", first)
    y, z = first["y"].std(), first["z"].to_numpy()
    spline = NaturalSpline(2).columns("", first["k"].to_numpy()).std(axis=0, ddof=1)
    sds = [*[1 / np.sqrt(119)] * 3, *spline, z.std(ddof=1), (z**2).std(ddof=1)]
    scales = model.priors.data["prior_beta_l2_scale"]
    np.testing.assert_allclose(scales, 2.5 * y / np.array(sds), rtol=1e-10)


@pytest.mark.parametrize("term", ["poly(x, 3)", "poly(x, 3, raw = TRUE)", "ns(x, 3)"])
def test_curves_of_regressions_are_those_of_least_squares(term: str) -> None:
    """With vague priors; the columns by NumPy and SciPy. 2,000 draws: 4 MCSEs are .09 sd."""
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 5, 400)
    table = pd.DataFrame({"x": x, "y": np.sin(x) + rng.normal(0, 0.4, 400)})
    fit = rmm.fit(
        f"y ~ 1 + {term}",
        table,
        priors={"b_l2": "normal(0, 1000)"},
        backend="laplace",
        seed=2,
        progress=False,
        draws=500,
        chains=4,
    )
    if term.startswith("ns"):
        places = np.quantile(x, [0, 1 / 3, 2 / 3, 1])
        columns = CubicSpline(places, np.eye(4), bc_type="natural")(x)
    else:
        columns = np.vander(x, 4)
    b = np.linalg.lstsq(columns, table["y"], rcond=None)[0]
    left = table["y"] - columns @ b
    variance = np.sum(left**2) / (400 - 4) * np.linalg.inv(columns.T @ columns)
    se = np.sqrt(np.sum(columns @ variance * columns, axis=1))
    found = fit.predict(table)
    assert (np.abs(found["mean"] - columns @ b) < 0.1 * se).all()
    np.testing.assert_allclose(found["sd"], se, rtol=0.12)
