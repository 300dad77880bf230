"""Competing risks: cause-specific fits, cumulative incidence, saving, messages."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate

import rmm
from rmm.posterior.comparison.cause_specific import incidence_of

Array = np.ndarray[Any, Any]
MM = "mm(id(member, group), fn(w ~ 1/n), RE = TRUE)"
FAST: dict[str, Any] = {"backend": "laplace", "seed": 1, "progress": False}


def made_up(count: int = 400, seed: int = 1, *, late: bool = False) -> pd.DataFrame:
    """Two causes with hazards .5 exp(.8 z) and .3 exp(-.5 z), censored at 2; half enter late."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=count)
    start = np.where(rng.random(count) < 0.5, 0, rng.uniform(0, 1, count)) * late
    rates = np.stack([0.5 * np.exp(0.8 * z), 0.3 * np.exp(-0.5 * z)])
    ends = start + rng.standard_exponential((2, count)) / rates
    time, cause = ends.min(axis=0), 1 + ends.argmin(axis=0)
    seen = time < 2
    return pd.DataFrame(
        {
            "group": np.arange(count),
            "z": z,
            "start": start,
            "time": np.where(seen, time, 2.0),
            "cause": np.where(seen, cause, 0),
        }
    )


# ---- against other estimates -------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["from_0", "late"])
def test_coefficients_are_those_of_phreg_for_each_cause(late: bool) -> None:
    """Flat priors: means within .2 sd and 4.5 Monte Carlo errors of statsmodels', sds within 15%.

    2 coefficients of 500 effective draws each: 1 in 70,000 beyond 4.5 errors alone.
    """
    from statsmodels.duration.hazard_regression import PHReg

    data = made_up(late=late)
    outcome = "Surv(start, time, cause)" if late else "Surv(time, cause)"
    risks = rmm.competing_risks(f"{outcome} ~ z", data, "cox", priors="rmm", **FAST)
    assert risks.causes == (1, 2)
    found = risks.summary()
    assert list(found["cause"]) == [1, 2]
    for cause in risks.causes:
        own = found[found["cause"] == cause].loc["b_l2[z]"]
        entry = {"entry": data["start"]} if late else {}
        model = PHReg(data["time"], data[["z"]], status=data["cause"] == cause, **entry)
        result = model.fit()
        limit = 0.2 * own["sd"] + 4.5 * own["mcse_mean"]
        assert abs(own["mean"] - result.params[0]) < limit
        assert own["sd"] == pytest.approx(result.bse[0], rel=0.15)
        assert risks[cause].model.design.outcome["event"].sum() == (data["cause"] == cause).sum()


def test_weibull_hazards_are_recovered() -> None:
    """AFT coefficients -b / shape, shape 1: within 4.5 posterior sds of the truth."""
    risks = rmm.competing_risks("Surv(time, cause) ~ 1 + z", made_up(1_500), **FAST)
    truth = {
        1: {"b_l2[Intercept]": -np.log(0.5), "b_l2[z]": -0.8, "shape": 1.0},
        2: {"b_l2[Intercept]": -np.log(0.3), "b_l2[z]": 0.5, "shape": 1.0},
    }
    for cause, values in truth.items():
        own = risks[cause].summary()
        for name, value in values.items():
            assert abs(own.loc[name, "mean"] - value) < 4.5 * own.loc[name, "sd"]


def test_incidence_of_constant_hazards_is_the_closed_form() -> None:
    """F_k(t) = h_k / h (1 - exp(-h t)), exact whatever the grid; and all sum to 1 - S."""
    rates, grid = np.array([[0.5, 0.2], [0.3, 2.0], [0.01, 0.0]]), np.array([0.1, 1.0, 1.5, 9.0])
    found = incidence_of([rate[:, None] * grid for rate in rates])
    h = rates.sum(axis=0)[:, None]
    for k, rate in enumerate(rates):
        expected = rate[:, None] / h * -np.expm1(-h * grid)
        np.testing.assert_allclose(found[:, :, k], expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=2), -np.expm1(-h * grid), rtol=1e-12)


def test_incidence_of_weibull_fits_is_the_integral() -> None:
    """Each draw by SciPy's quadrature: within 2e-5, the error of the grid of 400 points."""
    data = made_up(200)
    data["time"] = data["time"] ** 0.6  # shapes of 1.7, and of causes that differ
    data.loc[data["cause"] == 2, "time"] **= 1.3
    risks = rmm.competing_risks("Surv(time, cause) ~ 1 + z", data, draws=100, chains=1, **FAST)
    times = [0.2, 0.7, 1.3]
    new = pd.DataFrame({"z": [-1.0, 1.5]})
    found = risks.cumulative_incidence(times, new, draws=True)
    for s in (0, 17, 99):
        shape = [float(risks[c].run.draws["shape"].reshape(-1)[s]) for c in (1, 2)]
        b = [risks[c].run.draws["b_l2"].reshape(-1, 2)[s] for c in (1, 2)]
        for j, z in enumerate(new["z"]):
            scale = [np.exp(b[k][0] + b[k][1] * z) for k in (0, 1)]

            def density(u: float, k: int, scale: Any = scale, shape: Any = shape) -> float:
                total = sum((u / scale[i]) ** shape[i] for i in (0, 1))
                hazard = shape[k] / scale[k] * (u / scale[k]) ** (shape[k] - 1)
                return float(hazard * np.exp(-total))

            for i, t in enumerate(times):
                for k in (0, 1):
                    expected = integrate.quad(density, 0, t, args=(k,))[0]
                    assert float(found[s, j, i, k]) == pytest.approx(expected, abs=2e-5)


def aalen_johansen(data: pd.DataFrame, time: float, cause: int) -> float:
    """Sum over event times of S(u-) d_k(u) / n(u), with those at risk after their entry."""
    total, alive = 0.0, 1.0
    for u in np.unique(data["time"][(data["cause"] > 0) & (data["time"] <= time)]):
        at_risk = ((data["start"] < u) & (data["time"] >= u)).sum()
        here = data["time"] == u
        total += alive * (here & (data["cause"] == cause)).sum() / at_risk
        alive *= 1 - (here & (data["cause"] > 0)).sum() / at_risk
    return float(total)


@pytest.mark.parametrize("options", [{}, {"intervals": 8}], ids=["steps", "intervals"])
@pytest.mark.parametrize("late", [False, True], ids=["from_0", "late"])
def test_incidence_without_covariates_is_aalen_and_johansens(
    late: bool, options: dict[str, Any]
) -> None:
    """The posterior mean, of groups with z = 0, is their estimate within .02 (400 groups)."""
    rng = np.random.default_rng(3)
    data = made_up(400, seed=2, late=late).assign(noise=rng.normal(size=400))
    outcome = "Surv(start, time, cause)" if late else "Surv(time, cause)"
    # A covariate without effect, held at 0: families need a coefficient or an effect.
    risks = rmm.competing_risks(
        f"{outcome} ~ noise",
        data,
        "cox",
        priors={"b_l2[noise]": "normal(0, 0.001)"},
        **FAST,
        **options,
    )
    times = [0.3, 0.8, 1.5]
    found = risks.cumulative_incidence(times, pd.DataFrame({"noise": [0.0]}))["mean"]
    group = found.index[0][0]
    for time in times:
        for cause in (1, 2):
            expected = aalen_johansen(data, time, cause)
            assert found[group, time, cause] == pytest.approx(expected, abs=0.02)


def test_incidence_of_cox_agrees_with_weibull_and_the_truth() -> None:
    """Of constant hazards: two baselines and the closed form, within 4.5 posterior sds."""
    data = made_up(600, seed=4)
    new, times = pd.DataFrame({"z": [-1.0, 1.0]}), [0.5, 1.5]
    for family, formula in (
        ("cox", "Surv(time, cause) ~ z"),
        ("weibull", "Surv(time, cause) ~ 1 + z"),
    ):
        risks = rmm.competing_risks(formula, data, family, **FAST)
        found = risks.cumulative_incidence(times, new)
        rows = found.reset_index()
        for j, group in enumerate(rows["group"].unique()):
            rates = {1: 0.5 * np.exp(0.8 * new["z"][j]), 2: 0.3 * np.exp(-0.5 * new["z"][j])}
            h = sum(rates.values())
            for time in times:
                for cause, rate in rates.items():
                    row = found.loc[(group, time, cause)]
                    expected = rate / h * -np.expm1(-h * time)
                    assert abs(row["mean"] - expected) < 4.5 * row["sd"], (family, group, time)


# ---- members, strata, saving -------------------------------------------------------------------


@pytest.fixture(scope="module")
def members() -> pd.DataFrame:
    """Groups of two members, with labels for causes and countries with their own baselines."""
    data = made_up(150, seed=5)
    rng = np.random.default_rng(6)
    rows = data.loc[data.index.repeat(2)].reset_index(drop=True)
    pairs = [rng.choice(30, 2, replace=False) for _ in range(150)]
    return rows.assign(
        member=np.concatenate(pairs),
        country=np.where(rows["group"] % 3 == 0, "A", "B"),
        cause=rows["cause"].map({0: "none", 1: "lost", 2: "left"}),
    )


@pytest.fixture(scope="module")
def risks(members: pd.DataFrame) -> rmm.CompetingRisks:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.competing_risks(
            f"Surv(time, cause) ~ z + {MM} + strata(country)",
            members,
            "cox",
            censored="none",
            draws=100,
            **FAST,
        )


def test_saved_fits_are_the_same(
    risks: rmm.CompetingRisks, members: pd.DataFrame, tmp_path: Path
) -> None:
    assert risks.causes == ("left", "lost")
    folder = risks.save(tmp_path / "risks")
    again = rmm.CompetingRisks.load(folder)
    assert (again.causes, again.event, again.censored) == (risks.causes, "cause", "none")
    new = members.query("group < 6").drop(columns=["time", "cause"])
    one, two = (r.cumulative_incidence([0.5, 1.0], new) for r in (risks, again))
    pd.testing.assert_frame_equal(one, two)
    with pytest.raises(rmm.DataError, match="exists already"):
        risks.save(folder)
    (folder / "causes.json").write_text('{"format": 1, "causes": [["lost"]]}')
    with pytest.raises(rmm.DataError, match="has changed since it was saved"):
        rmm.CompetingRisks.load(folder)
    with pytest.raises(rmm.DataError, match="not a folder that"):
        rmm.CompetingRisks.load(tmp_path)


def test_groups_of_the_fit_are_as_new_groups(
    risks: rmm.CompetingRisks, members: pd.DataFrame
) -> None:
    """The same effects and, per cause, the same baselines: all numbers are equal."""
    known = risks.cumulative_incidence(1.0, draws=True)
    new = risks.cumulative_incidence(1.0, members.drop(columns=["time", "cause"]), draws=True)
    assert known.sizes["group"] == 150
    np.testing.assert_allclose(known.to_numpy(), new.to_numpy(), atol=1e-12)
    without = risks.cumulative_incidence(1.0, effects="none", draws=True)
    assert np.abs(without - known).max() > 0.01
    assert float(known.sum("cause").max()) < 1


def test_draws_of_causes_are_independent(risks: rmm.CompetingRisks) -> None:
    """Same data, same priors, other random numbers: 400 draws, 5 standard errors."""
    b = [risks[c].run.draws["b_l2"].reshape(-1) for c in risks.causes]
    assert abs(np.corrcoef(b)[0, 1]) < 0.25
    assert risks["left"].settings.seed != risks["lost"].settings.seed


def test_times_beyond_the_data_are_refused(
    risks: rmm.CompetingRisks, members: pd.DataFrame
) -> None:
    with pytest.raises(rmm.BackendError, match=r"of stratum 'A' are from 0 to 2.*between them"):
        risks.cumulative_incidence([1.0, 2.5])
    for wrong in (0, [-1.0], [], ["a"], [np.inf], True):
        with pytest.raises(rmm.BackendError, match="must be positive numbers"):
            risks.cumulative_incidence(wrong)
    with pytest.raises(rmm.DataError, match="stratum 'C'"):
        risks.cumulative_incidence(1.0, members.assign(country="C"))


def test_printed_and_unknown_causes(risks: rmm.CompetingRisks) -> None:
    assert "one cox fit for each of the causes 'left', 'lost' of `cause`" in str(risks)
    with pytest.raises(rmm.DataError, match="'lefd' is not a cause"):
        risks["lefd"]


# ---- messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "censored", "message"),
    [
        (lambda d: d.assign(cause=d["cause"] + 1), 0, r"`censored` is 0, but .* values 1, 2, 3"),
        (lambda d: d.assign(cause=d["cause"] % 2), 0, r"has 1 cause besides .* Use rmm.fit"),
        (lambda d: d.assign(cause=d["time"]), 2.0, r"has \d+ values.*20 at most"),
        (lambda d: d.assign(cause=d["cause"].astype(object).where(d["z"] > 0, "x")), 0, "both"),
    ],
)
def test_columns_that_are_no_causes(change: Any, censored: Any, message: str) -> None:
    with pytest.raises(rmm.DataError, match=message):
        rmm.competing_risks("Surv(time, cause) ~ z", change(made_up(50)), censored=censored)


def test_formulas_without_causes() -> None:
    data = made_up(50)
    with pytest.raises(rmm.FormulaError, match="'weibull' and 'cox', not 'gaussian'"):
        rmm.competing_risks("Surv(time, cause) ~ z", data, "gaussian")
    with pytest.raises(rmm.FormulaError, match="has no causes"):
        rmm.competing_risks("time ~ z", data)
    with pytest.raises(rmm.FormulaError, match="must be a column"):
        rmm.competing_risks("Surv(time, cause + 1) ~ z", data)
    both = data.assign(other=data["cause"])
    with pytest.raises(rmm.DataError, match="not clear which column"):
        rmm.competing_risks("Surv(start, cause, other) ~ z", both)


@pytest.mark.parametrize("family", ["weibull", "cox"])
@pytest.mark.parametrize(
    ("outcome", "labels", "codes"),
    [
        ("Surv(time, cause)", None, "0, 1, 2"),
        ("Surv(start, time, cause)", None, "0, 1, 2"),
        ("Surv(time, cause)", ["none", "lost", "left"], "'left', 'lost', 'none'"),
        ("Surv(start, time, cause)", ["none", "lost", "left"], "left, lost, none"),
    ],
)
def test_fit_points_at_competing_risks(family: str, outcome: str, labels: Any, codes: str) -> None:
    data = made_up(50, late=True)
    if labels:
        data["cause"] = np.array(labels)[data["cause"]]
    with pytest.raises(rmm.DataError, match=rf"{codes}.*rmm\.competing_risks\(\)"):
        rmm.fit(f"{outcome} ~ z", data, family)


def test_warnings_name_their_cause() -> None:
    data = made_up(60)
    data.loc[data.index[:5], "cause"] = 3
    with pytest.warns(rmm.ConvergenceWarning) as found:
        rmm.competing_risks("Surv(time, cause) ~ z", data, "cox", draws=50, chains=1, **FAST)
    assert [str(one.message)[:8] for one in found] == ["Cause 1:", "Cause 2:", "Cause 3:"]
