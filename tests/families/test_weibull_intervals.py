"""Interval censoring, `Surv(lower, upper, type = "interval2")`: likelihood, engines, messages."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import rmm
from rmm.backends.stan.run import available
from rmm.design.checks.design_warnings import Look, separation, tied_durations
from rmm.design.prepare import prepare
from rmm.families import FAMILIES
from rmm.formula.parse_formula import parse_formula
from rmm.simulation import RecipeError, simulate
from tests.family_cases import MIXED, check_golden, check_stan_density, quiet

Array = np.ndarray[Any, Any]
WEIBULL = FAMILIES["weibull"]
OUTCOME = 'Surv(lo, up, type = "interval2")'
needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")
assert WEIBULL.for_outcome is not None
INTERVALS = WEIBULL.for_outcome("interval")


def read(lower: Any, upper: Any) -> dict[str, Any]:
    return INTERVALS.read_outcome(OUTCOME, (np.array(lower, float), np.array(upper, float)), None)


def made_up(count: int = 60, seed: int = 1) -> tuple[Array, Array]:
    """A quarter each: known times, no event, an event before a time, an event between two."""
    rng = np.random.default_rng(seed)
    lower, kind = rng.uniform(0.2, 6, count), np.arange(count) % 4
    upper = lower * rng.uniform(1.01, 3, count)
    lower = np.where(kind == 2, 0.0, lower)
    return lower, np.select([kind == 0, kind == 1], [lower, np.inf], upper)


def scipys(lower: Array, upper: Array, eta: Array, shape: Array) -> Array:
    """Log likelihood from SciPy's distribution functions."""
    law = stats.weibull_min(shape, scale=np.exp(eta))
    known = lower == upper
    with np.errstate(divide="ignore"):
        inside = np.log(law.cdf(upper) - law.cdf(lower))
    return np.asarray(np.where(known, law.logpdf(np.where(known, lower, 1.0)), inside))


def inspected(groups: int = 150, seed: int = 8, members: int = 25) -> pd.DataFrame:
    """Rows of memberships; each group is inspected at its own times, and a fifth is watched.

    `lo` is missing if an event was there at the first inspection, and `up` if none was seen.
    """
    table = simulate(
        "Surv(time, event) ~ 1 + z + "
        "mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s))), c=TRUE), RE=TRUE)",
        {
            "b_l2[Intercept]": 2,
            "b_l2[z]": 0.5,
            "b_l1[x]": -0.4,
            "b_w[b1]": 0.5,
            "sigma_l1": 0.6,
            "shape": 1.5,
        },
        family="weibull",
        membership={
            "kind": "synthetic",
            "groups": groups,
            "members": members,
            "size": 3,
            "member": "pid",
            "group": "gid",
        },
        covariates={
            "x": {"level": "member"},
            "z": {"level": "group"},
            "s": {"level": "membership"},
        },
        censoring={"share": 0.2},
        seed=seed,
    ).data
    first, rng = table.groupby("gid")[["time", "event"]].first(), np.random.default_rng(seed)
    time, event = first["time"].to_numpy(), first["event"].to_numpy() == 1
    gap = rng.uniform(2, 8, len(first))
    lower = np.where(event, np.floor(time / gap) * gap, time)
    upper = np.where(event, lower + gap, np.nan)
    watched = event & (rng.random(len(first)) < 0.2)
    lower, upper = np.where(watched, time, lower), np.where(watched, time, upper)
    lower[lower == 0] = np.nan
    ends = pd.DataFrame({"lo": lower, "up": upper}, first.index)
    return table.join(ends, on="gid")


# ---- likelihood --------------------------------------------------------------------------------


def test_log_likelihood_is_scipys() -> None:
    lower, upper = made_up()
    rng = np.random.default_rng(2)
    eta, shape = rng.normal(1, 0.7, (6, 60)), rng.uniform(0.5, 3, 6)
    expected = scipys(lower, upper, eta, shape[:, None])
    # A difference of two probabilities of size 1 is exact to 1e-16.
    precise = expected > -12
    assert precise.mean() > 0.8
    found = INTERVALS.log_likelihood(eta, {"shape": shape}, read(lower, upper))
    np.testing.assert_allclose(found[precise], expected[precise], rtol=0, atol=1e-9)


def test_log_likelihood_far_in_the_tails() -> None:
    """Where S(t) is 0 or 1 as a number: limits by hand, to 1e-12 of the value."""
    lower, upper = [50.0, 50.0, 0.0, 1e-8, 50.0], [np.inf, 60.0, 1e-9, 2e-8, 50.0 * (1 + 1e-12)]
    found = INTERVALS.log_likelihood(
        np.zeros((1, 5)), {"shape": np.array([2.0])}, read(lower, upper)
    )
    width = np.log1p(np.diff([50.0, upper[4]])[0] / 50)
    expected = [
        -2500.0,
        -2500.0,  # exp(-1100) more
        np.log(1e-18),  # -z / 2 more, 5e-19
        np.log(3e-16),
        -2500 + np.log(2500 * 2 * width),
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)


def test_narrow_intervals_have_the_density_times_their_width() -> None:
    """Sums differ by sum(log(width)) and a remainder of width^2 / 24 f''/f.

    With times of about exp(eta) and relative width h, (t^2 f''/f) is below 40 here: each group's
    remainder is below 2 h^2, and the sum over 50 groups below 1e-8 for h = 1e-5.
    """
    rng, h = np.random.default_rng(3), 1e-5
    eta, shape = np.full((1, 50), 1.0), np.array([1.7])
    time = np.exp(1.0) * rng.uniform(0.3, 1.8, 50)
    lower, upper = time * (1 - h / 2), time * (1 + h / 2)
    narrow = INTERVALS.log_likelihood(eta, {"shape": shape}, read(lower, upper)).sum()
    density = stats.weibull_min(1.7, scale=np.exp(1.0)).logpdf(time).sum()
    assert narrow - density == pytest.approx(np.log(upper - lower).sum(), abs=1e-8)


def test_known_and_censored_times_are_those_of_two_columns() -> None:
    """The same likelihood and derivatives as `Surv(time, event)`."""
    rng = np.random.default_rng(4)
    time, event = rng.uniform(0.1, 9, 50), rng.random(50) < 0.6
    plain = WEIBULL.read_outcome("Surv(t, e)", (time, event.astype(float)), None)
    same = read(time, np.where(event, time, np.inf))
    eta, values = rng.normal(1, 1, (4, 50)), {"shape": rng.uniform(0.3, 4, 4)}
    np.testing.assert_allclose(
        INTERVALS.log_likelihood(eta, values, same),
        WEIBULL.log_likelihood(eta, values, plain),
        rtol=1e-13,
    )
    assert INTERVALS.curvature is not None and WEIBULL.curvature is not None
    one, other = INTERVALS.curvature(eta, values, same), WEIBULL.curvature(eta, values, plain)
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one.weight, other.weight, rtol=1e-12)
    assert INTERVALS.scale(same) == WEIBULL.scale(plain)


def test_curvature_is_that_of_the_likelihood() -> None:
    """By central differences; the error of second differences is of order step^2 and 1e-16/step."""
    lower, upper = made_up(80, seed=5)
    outcome, step = read(lower, upper), 1e-4
    eta, values = np.random.default_rng(6).normal(1, 1, (3, 80)), {"shape": np.array([0.6, 1, 2.5])}
    assert INTERVALS.curvature is not None
    here = INTERVALS.curvature(eta, values, outcome)
    above, below = (INTERVALS.log_likelihood(eta + s, values, outcome) for s in (step, -step))
    size = 1 + np.abs(here.gradient)
    assert (np.abs(here.gradient - (above - below) / (2 * step)) < 1e-6 * size).all()
    above, below = (INTERVALS.curvature(eta + s, values, outcome).gradient for s in (step, -step))
    size = 1 + np.abs(here.weight)
    assert (np.abs(here.weight + (above - below) / (2 * step)) < 1e-6 * size).all()
    np.testing.assert_allclose(
        here.value, INTERVALS.log_likelihood(eta, values, outcome).sum(axis=1), rtol=1e-14
    )


def test_likelihood_is_log_concave_in_the_predictor() -> None:
    """Weights are never negative, from intervals of 1e-12 of the time to the whole line."""
    lower = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    upper = np.array([1e-6, 1.0, 1.0, 1 + 1e-12, 1.001, 100.0, np.inf])
    eta = np.repeat(np.linspace(-4, 15, 400)[:, None], 7, axis=1)
    assert INTERVALS.curvature is not None
    with np.errstate(over="ignore"):
        for shape in (0.3, 1.0, 2.0):
            found = INTERVALS.curvature(eta, {"shape": np.full(400, shape)}, read(lower, upper))
            assert np.isfinite(found.weight).all()
            assert (found.weight >= 0).all()


def test_jags_has_scipys_likelihood() -> None:
    """The densities of the program, written here, on the program's data."""
    lower, upper = made_up(40, seed=7)
    data = INTERVALS.program_data(read(lower, upper), "jags")
    rng, difference = np.random.default_rng(8), []
    for _ in range(5):
        eta, shape = rng.normal(1, 0.5, 40), rng.uniform(0.5, 2)
        hazard = {
            name: np.exp(shape * (data[f"log_{name}"] - eta[data[name] - 1]))
            for name in ("exact", "after", "left", "between")
        }
        found = stats.poisson.logpmf(data["one_exact"], hazard["exact"]).sum()
        found += stats.expon.logpdf(data["tiny"], scale=1 / shape).sum()
        found += stats.poisson.logpmf(data["none_after"], hazard["after"]).sum()
        p = 1 - np.exp(-hazard["left"])
        found += stats.bernoulli.logpmf(data["one_left"], p).sum()
        p = 1 - np.exp(-hazard["between"] * (1 - np.exp(-shape * data["log_width"])))
        found += stats.bernoulli.logpmf(data["one_between"], p).sum()
        difference.append(found - scipys(lower, upper, eta, np.array(shape)).sum())
    assert np.ptp(difference) < 1e-6


def test_outcomes_of_some_groups() -> None:
    lower, upper = made_up(20)
    some = INTERVALS.outcome_of_some(read(lower, upper), np.array([0, 2, 3, 9]))
    same = read(lower[[0, 2, 3, 9]], upper[[0, 2, 3, 9]])
    assert some.keys() == same.keys()
    for name, value in same.items():
        np.testing.assert_array_equal(some[name], value)


# ---- the table ---------------------------------------------------------------------------------


def small(**columns: Any) -> pd.DataFrame:
    lower = [0.0, 1.0, 2.0, 3.0, 4.0, np.nan]  # in this order, also in the model
    upper = [3.0, 4.0, 2.0, np.nan, np.inf, 2.0]
    return pd.DataFrame({"lo": lower, "up": upper, "z": [0.3, 1, 2, 0.5, 3, 1.5], **columns})


def outcome_of(table: pd.DataFrame, **options: Any) -> Any:
    return quiet(f"{OUTCOME} ~ 1 + z", table, "weibull", **options).design.outcome


def test_missing_times_are_open_ends() -> None:
    found = outcome_of(small())
    assert found["lower"].tolist() == [0, 1, 2, 3, 4, 0]
    assert found["upper_end"].tolist() == [3, 4, 2, np.inf, np.inf, 2]
    assert found["event"].tolist() == [1, 1, 1, 0, 0, 1]
    for name, groups in (("left", [1, 6]), ("between", [2]), ("exact", [3]), ("after", [2, 4, 5])):
        assert found[name].tolist() == groups
    below = small(lo=[-np.inf, 1, 2, 3, 4, 0])
    assert outcome_of(below)["lower"].tolist() == [0, 0, 1, 2, 3, 4]
    whole = small(up=pd.array([3, 4, 2, None, None, 2], dtype="Int64"))
    assert outcome_of(whole)["upper_end"].tolist() == [3, 4, 2, np.inf, np.inf, 2]


def test_a_text_file_has_empty_cells_for_open_ends(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    small().to_csv(path, index=False)
    found = quiet(f"{OUTCOME} ~ 1 + z", path, "weibull").design.outcome  # type: ignore[arg-type]
    assert found["upper_end"].tolist() == [3, 4, 2, np.inf, np.inf, 2]


def test_drop_leaves_out_groups_of_which_nothing_is_known_only() -> None:
    table = inspected(40)
    gone = table["gid"].isin([3, 7])
    table = table.assign(lo=table["lo"].mask(gone), up=table["up"].mask(gone))
    message = r"Both times of `Surv\(lo, up.*` are missing in 6 rows.*nothing is known"
    with pytest.raises(rmm.DataError, match=message):
        prepare(f"{OUTCOME} ~ {MIXED}", table, "weibull")
    model = quiet(f"{OUTCOME} ~ {MIXED}", table, "weibull", missing="drop")
    assert model.dropped is not None
    assert model.dropped.units == (3, 7)
    assert model.dropped.columns == {"lo": 6, "up": 6}
    assert model.design.J == 38


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lo": [5, 1, 2, 3, 4, 0]}, "lower time of .* is above the upper time in 1 group: .* is 5 "
         "and the upper 3.*write Surv.lo, up."),
        ({"lo": [-1, 1, 2, 3, 4, 0]}, "lower times of .* must be 0 or more, but 1 group has "
         "another value, such as -1"),
        ({"lo": [np.inf, 1, 2, 3, 4, 0]}, "lower times .* must be finite.*leave `up` empty"),
        ({"up": [-2, 4, 2, np.nan, np.inf, 3]}, "upper times .* must be positive.*such as -2"),
        ({"up": [0, 4, 2, np.nan, np.inf, 3]}, "upper times .* must be positive.*such as 0"),
        ({"up": [np.inf, 4, 2, 5, 6, 3]}, "Nothing is known of the event in 1 group"),
        ({"lo": [1.0, 1, 2, 3, 4, 1], "up": [np.nan] * 6}, "No group has an event"),
        ({"lo": [np.nan] * 6, "up": [1.0] * 6}, "Every lower time .* is 0 or missing"),
        ({"lo": ["a", "b", "c", "d", "e", "f"]}, "Column `lo` contains text.*Convert it to"),
        ({"up": pd.date_range("2020-01-01", periods=6)}, "Column `up` contains dates"),
    ],
)  # fmt: skip
def test_wrong_times_get_a_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(rmm.DataError, match=message):
        outcome_of(small(**changes))


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ('Surv(lo, up, type = "interval")', '`type = "interval"` is not available.*interval2'),
        ("Surv(lo, up, type = interval2)", "`type = interval2` is not available"),
        ('Surv(lo, type = "interval2")', r"has 2 arguments.*\n*.*Write Surv\(lower, upper, type"),
        ('Surv(lo, up, z, type = "interval2")', "has 4 arguments"),
        ('Surv(lo, up, entry = z, type = "interval2")', "the name `entry =`"),
        ('Surv(lo, up/2, type = "interval2")', "`up/2` is not a column.*Compute a new column"),
        ('Surv(lo, 2, type = "interval2")', "must be a column"),
    ],
)
def test_wrong_formulas_get_a_message(outcome: str, message: str) -> None:
    with pytest.raises(rmm.FormulaError, match=f"(?s){message}"):
        parse_formula(f"{outcome} ~ 1")


def test_other_families_and_simulation_refuse_intervals() -> None:
    with pytest.raises(rmm.FormulaError, match="cannot be used with family 'cox'"):
        prepare(f"{OUTCOME} ~ z", small(), "cox")
    with pytest.raises(RecipeError, match="cannot be simulated with family 'weibull'"):
        simulate(
            f"{OUTCOME} ~ 1",
            {"b_l2[Intercept]": 0, "shape": 1},
            family="weibull",
            membership={"kind": "synthetic", "groups": 20, "size": 1, "overlap": 0},
            seed=1,
        )


def test_two_times_without_a_type_get_the_spelling() -> None:
    table = pd.DataFrame({"lo": np.arange(1.0, 13), "up": np.arange(1.5, 13), "z": 0.1})
    with pytest.raises(rmm.DataError, match=r"type = .interval2.\) \(family"):
        prepare("Surv(lo, up) ~ 1", table, "weibull")


def test_label_is_the_outcome_as_it_is_written() -> None:
    assert parse_formula(f"{OUTCOME} ~ 1").outcome.label == OUTCOME


def test_separation_knows_which_groups_can_end_at_0() -> None:
    """A category whose events are all before a time, and one without events, have no estimates."""
    lower = [np.nan] * 4 + [1.0, 2.0, 1.5, 3.0] + [2.0] * 4
    upper = [1.0, 2.0, 1.5, 3.0] + [2.0, 4.0, np.nan, 3.5] + [np.nan] * 4
    kind = pd.Categorical(["a"] * 4 + ["b"] * 4 + ["c"] * 4, ["b", "a", "c"])
    table = pd.DataFrame({"lo": lower, "up": upper, "kind": kind})
    for left_out, named in (("b", "ac"), ("c", "a"), ("a", "c")):
        some = table[table["kind"] != left_out] if left_out != "b" else table
        [text] = separation(Look(quiet(f"{OUTCOME} ~ 1 + kind", some, "weibull")))
        labels = [f"b_l2[kind={k}]" for k in named]
        assert text.startswith(f"{', '.join(labels)}: groups of `Surv(lo"), text
    assert not list(separation(Look(quiet(f"{OUTCOME} ~ 1 + z", small(), "weibull"))))


def test_events_in_one_interval_are_reported() -> None:
    table = small(lo=[1.0] * 3 + [0.5, 2.0, 3.0], up=[2.0] * 3 + [np.nan] * 3)
    [text] = tied_durations(Look(quiet(f"{OUTCOME} ~ 1 + z", table, "weibull")))
    assert "All 3 events of" in text and "between the same two times (1 and 2)" in text
    assert not list(tied_durations(Look(quiet(f"{OUTCOME} ~ 1 + z", small(), "weibull"))))


# ---- programs and engines ----------------------------------------------------------------------


def test_texts_are_the_golden_ones() -> None:
    """``RMM_UPDATE_GOLDEN=1 pytest tests/families/test_weibull_intervals.py`` rewrites them."""
    check_golden("weibull_intervals", quiet(f"{OUTCOME} ~ {MIXED}", inspected(60), "weibull"))


@needs_stan
@pytest.mark.thorough
@pytest.mark.stan
def test_stan_has_scipys_density() -> None:
    model = quiet(f"{OUTCOME} ~ {MIXED}", inspected(60), "weibull")
    lower, upper = (model.design.outcome[name] for name in ("lower", "upper_end"))

    def log_likelihood(eta: Array, shape: float) -> float:
        return float(scipys(lower, upper, eta, np.array(shape)).sum())

    check_stan_density(
        model,
        log_likelihood,
        own=lambda d: stats.gamma.logpdf(d["shape"], 2.4, scale=1 / 1.25) + np.log(d["shape"]),
    )


def maximum_likelihood(table: pd.DataFrame) -> tuple[Array, Array]:
    """(intercept, z, x, shape) and standard errors by SciPy's law and optimiser.

    Standard errors are those of the inverse of the Hessian by differences, of the shape by the
    delta method.
    """
    X = np.column_stack([np.ones(len(table)), table[["z", "x"]]])
    lower, upper = table["lo"].fillna(0).to_numpy(), table["up"].fillna(np.inf).to_numpy()

    def minus(theta: Array) -> float:
        found = -float(scipys(lower, upper, X @ theta[:3], np.exp(theta[3])).sum())
        return min(found, 1e10)  # the optimiser's first steps may go far

    best = optimize.minimize(minus, [2.0, 0, 0, 0], method="BFGS", options={"gtol": 1e-4}).x
    step = 1e-3 * np.eye(4)
    hessian = np.array(
        [
            [
                minus(best + a + b)
                - minus(best + a - b)
                - minus(best - a + b)
                + minus(best - a - b)
                for b in step
            ]
            for a in step
        ]
    ) / (4e-6)
    best[3] = np.exp(best[3])
    return best, np.sqrt(np.diag(np.linalg.inv(hessian))) * [1, 1, 1, best[3]]


def test_estimates_without_effects_are_those_of_maximum_likelihood() -> None:
    """Means under nearly flat priors, within a fifth of a standard error and 4.5 MCSE.

    With the middles of the intervals as known times, the shape differs by more: the test can fail.
    """
    table = inspected(400, seed=9).groupby("gid").first().reset_index()
    fit = rmm.fit(f"{OUTCOME} ~ 1 + z + x", table, "weibull", backend="laplace", priors="rmm",
                  seed=6, progress=False)  # fmt: skip
    best, error = maximum_likelihood(table)
    found = fit.summary().loc[["b_l2[Intercept]", "b_l2[z]", "b_l2[x]", "shape"]]
    limit = 0.2 * error + 4.5 * found["mcse_mean"].to_numpy()
    assert (np.abs(found["mean"] - best) < limit).all(), (found, best, error)
    np.testing.assert_allclose(found["sd"], error, rtol=0.15)
    middle = (table["lo"].fillna(0) + table["up"]) / 2
    naive = table.assign(lo=middle.fillna(table["lo"]), up=middle)
    assert (np.abs(maximum_likelihood(naive)[0] - best) > limit).any()


@needs_stan
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parity
def test_engines_agree_on_a_multiple_membership_model() -> None:
    """Means within 4.5 combined MCSE, sds within 20%: false alarms below 0.01% for six means."""
    table = inspected()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            backend: rmm.fit(
                f"{OUTCOME} ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)",
                table,
                "weibull",
                backend=backend,
                seed=3,
                progress=False,
                **({} if backend == "laplace" else {"cores": 1, "chains": 2, "draws": 2000}),
            ).summary()
            for backend in ("laplace", "stan", "jags")
        }
    one = found["laplace"]
    for backend in ("stan", "jags"):
        other = found[backend].loc[one.index]
        z = (one["mean"] - other["mean"]) / np.hypot(one["mcse_mean"], other["mcse_mean"])
        assert (z.abs() < 4.5).all(), (backend, z, found)
        assert (one["sd"] / other["sd"]).between(1 / 1.2, 1.2).all(), (backend, found)


# ---- after the fit -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit() -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(f"{OUTCOME} ~ {MIXED}", inspected(), "weibull", backend="laplace",
                       seed=2, progress=False)  # fmt: skip


def test_predictions_are_durations_without_an_end(fit: rmm.Fit) -> None:
    """Of new groups, whose table has no outcome, they are those of the fit's groups."""
    new = inspected().drop(columns=["lo", "up", "time", "event"])
    for kind in ("mean", "outcome"):
        one, other = fit.predict(kind=kind), fit.predict(new, kind=kind)
        np.testing.assert_allclose(one["mean"], other["mean"])
    assert (fit.predict(kind="outcome")["q2.5"] > 0).all()


def test_check_has_turnbulls_curve_inside_the_band(fit: rmm.Fit) -> None:
    """95% bands that hold the curve at 90% of the times: the model is the true one."""
    table = fit.check()
    assert table["observed"].iloc[0] == 1
    inside = table["observed"].between(table["q2.5"] - 1e-9, table["q97.5"] + 1e-9)
    assert inside.mean() > 0.9
    with pytest.raises(rmm.DataError, match="survival"):
        fit.check("statistics")


def test_plots_of_the_check_and_the_report(fit: rmm.Fit) -> None:
    figure = fit.plot_check()
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert "observed (Turnbull)" in labels
    outcome = fit.model.design.outcome
    known = f"{outcome['n_between']} groups with an event between two times"
    assert known in str(fit)
    assert "interval-censored" in str(fit.report())


def test_loo_has_each_groups_likelihood(fit: rmm.Fit) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit.loo()
    assert 0 < found.p < 40
    assert np.isfinite(found.elpd)


def test_a_saved_fit_is_the_same(fit: rmm.Fit, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    fit.save(path)
    again = rmm.load(path)
    pd.testing.assert_frame_equal(pd.DataFrame(again.summary()), pd.DataFrame(fit.summary()))
    for name in ("lower", "upper_end"):
        np.testing.assert_array_equal(
            again.model.design.outcome[name], fit.model.design.outcome[name]
        )


# ---- calibration -------------------------------------------------------------------------------

_PRIORS = [
    "b_l2 ~ normal(0, 1)",
    "b_l1 ~ normal(0, 1)",
    "sigma_l1 ~ half_normal(1)",
    "shape ~ gamma(5, 4)",
]


def from_the_prior(rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, float]]:
    """80 groups of three of 15 members, and true values; by NumPy alone.

    Inspections are at random times up to 6; a tenth of the groups is watched all the time.
    """
    groups, members, size = 80, 15, 3
    b, slope, shape = rng.normal(0, 1, 2), rng.normal(0, 1), rng.gamma(5, 1 / 4)
    sigma = abs(rng.normal(0, 1))
    x, u, z = rng.normal(size=members), rng.normal(0, sigma, members), rng.normal(size=groups)
    team = np.array([rng.choice(members, size, replace=False) for _ in range(groups)])
    eta = b[0] + b[1] * z + (slope * x + u)[team].mean(axis=1)
    time = np.exp(eta) * rng.weibull(shape, groups)
    lower, upper = np.empty(groups), np.empty(groups)
    for j in range(groups):
        visits = np.r_[0.0, np.sort(rng.uniform(0, 6, rng.integers(2, 7))), np.inf]
        place = int(np.searchsorted(visits, time[j]))
        lower[j], upper[j] = visits[place - 1], visits[place]
        if rng.random() < 0.1:
            lower[j], upper[j] = (time[j], time[j]) if time[j] < 6 else (6.0, np.inf)
    table = pd.DataFrame(
        {
            "gid": np.repeat(np.arange(groups), size),
            "pid": team.ravel(),
            "x": x[team].ravel(),
            **{n: np.repeat(v, size) for n, v in (("z", z), ("lo", lower), ("up", upper))},
        }
    )
    truth = {"b_l2[Intercept]": b[0], "b_l2[z]": b[1], "b_l1[x]": slope, "shape": shape}
    return table, truth | {"sigma_l1": sigma}


@pytest.mark.calibration
def test_ranks_of_true_values_are_uniform() -> None:
    """300 data sets with parameters from the prior (Talts et al. 2018, arXiv 1804.06788).

    A Kolmogorov-Smirnov test at .001 for each of five parameters: false alarms 0.5%.
    """
    rng, ranks = np.random.default_rng(20), []
    for number in range(300):
        table, truth = from_the_prior(rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = rmm.fit(
                f"{OUTCOME} ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)",
                table,
                "weibull",
                backend="laplace",
                priors=_PRIORS,
                seed=number,
                progress=False,
            )
        draws = {
            "b_l2[Intercept]": fit.run.draws["b_l2"][..., 0],
            "b_l2[z]": fit.run.draws["b_l2"][..., 1],
            "b_l1[x]": fit.run.draws["b_l1"][..., 0],
            "shape": fit.run.draws["shape"],
            "sigma_l1": fit.run.draws["sigma_l1"],
        }
        ranks.append({name: float(np.mean(draws[name] < truth[name])) for name in truth})
    found = pd.DataFrame(ranks)
    p = {name: stats.kstest(found[name], "uniform").pvalue for name in found}
    assert min(p.values()) > 0.001, p


@pytest.mark.parametrize("kind", ["float", "Int64"])
def test_an_open_upper_time_without_a_type_gets_the_spelling(kind: str) -> None:
    upper = pd.array([3, 4, 2, None, None, 2], dtype="Int64").astype(kind)
    table = small(lo=[0.5, 1, 1.5, 2, 3, 1], up=upper)
    message = (
        r"`up`, the event of `Surv\(lo, up\)`, is missing or infinite in 2 rows.*write "
        r"Surv\(lo, up, type = .interval2.\).*impute"
    )
    for family in ("weibull", "cox"):
        with pytest.raises(rmm.DataError, match=message):
            prepare("Surv(lo, up) ~ 1", table, family)
    status = table.assign(up=[1, 0, np.nan, 1, 0, 1])
    with pytest.raises(rmm.DataError, match=r"`up` has 1 missing value,.*Impute missing"):
        prepare("Surv(lo, up) ~ 1", status, "weibull")


def test_an_event_in_the_place_of_the_upper_time_is_seen_first() -> None:
    table = small(lo=[0.5, 1, 1.5, 2, 3, 1], up=[1, 0, 1, 1, 0, 1])
    with pytest.raises(
        rmm.DataError, match=r"time and an event .* write Surv\(lo, up\)\. If times"
    ):
        prepare(f"{OUTCOME} ~ 1", table, "weibull")
    with pytest.raises(rmm.DataError, match=r"such as 0\. If times are rounded"):
        prepare(f"{OUTCOME} ~ 1", table.assign(up=[1, 0, 2, 3, 4, 5]), "weibull")
