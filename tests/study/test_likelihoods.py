"""Weibull, Cox and conditional logit without member effects, against computations of our own.

Likelihoods are written anew here (densities of SciPy, loops over risk sets, enumeration of
choices), maximised by SciPy and differentiated numerically.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import optimize, stats
from scipy.special import logsumexp

from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.manage.replay_fit import replay
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.frequentist import maximum_likelihood
from rmm.study.run.replicate import make_task

Array = np.ndarray[Any, Any]
Contributions = Callable[[Array], Array]
MM = "mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
FAMILIES: dict[str, dict[str, Any]] = {
    "weibull": {
        "formula": f"Surv(t, e) ~ 1 + z + {MM}",
        "censoring": {"share": 0.3},
        "parameters": {"b_l2[Intercept]": 1, "shape": 1.5},
    },
    "cox": {"formula": f"Surv(t, e) ~ z + {MM}", "censoring": {"time": 1.5}, "parameters": {}},
    "condlogit": {"formula": f"y ~ z + {MM} + strata(nesting)", "parameters": {}},
}


def study(folder: Path, family: str, edit: Any = None, **method: Any) -> Study:
    """A study of one scenario with one method `one`."""
    config: dict[str, Any] = {
        "seed": 5,
        "replications": 2,
        "membership": {
            "kind": "synthetic",
            "groups": 60,
            "members": 25,
            "units": 15,
            "within": False,
            "size": {"distribution": "uniform", "low": 2, "high": 3},
        },
        "covariates": {"x": {"level": "member"}, "z": {"level": "group"}},
        "truth": {"family": family, **FAMILIES[family]},
        "methods": [{"name": "one", "kind": "disaggregation", **method}],
        "estimands": [{"parameter": "b_l1[x]"}, {"parameter": "b_l2[z]"}],
    }
    common = {"b_l2[z]": 0.5, "b_l1[x]": 0.6, "sigma_l1": 0.7}
    config["truth"]["parameters"] = {**common, **FAMILIES[family]["parameters"]}
    if edit is not None:
        edit(config)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def rows_of(found: Study) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Array]]:
    """Estimates by parameter; the data, one row per membership; codes of the units."""
    simulated, outcome = replay(found, found.scenarios[0].id, 1, "one")
    assert outcome.status == "ok", outcome.message
    data = simulated.data
    codes = {u: np.unique(data[u], return_inverse=True)[1] for u in ("group", "member", "nesting")}
    table = pd.DataFrame(list(outcome.estimates)).set_index("parameter")
    return table, data, codes


# -- likelihoods of our own ------------------------------------------------------------------


def weibull(data: pd.DataFrame) -> Contributions:
    X = np.column_stack([np.ones(len(data)), data["z"], data["x"]])

    def contributions(p: Array) -> Array:
        law = stats.weibull_min(np.exp(p[3]), scale=np.exp(X @ p[:3]))
        return np.where(data["e"] == 1, law.logpdf(data["t"]), law.logsf(data["t"]))

    return contributions


def cox(data: pd.DataFrame) -> Contributions:
    """One contribution per event: its share in the risk set, ties one after the other."""
    X, time = data[["z", "x"]].to_numpy(), data["t"].to_numpy()
    events = np.flatnonzero(data["e"] == 1)

    def contributions(p: Array) -> Array:
        eta = X @ p
        return np.array([eta[i] - logsumexp(eta[time >= time[i]]) for i in events])

    return contributions


def lin_wei(data: pd.DataFrame, p: Array) -> Array:
    """(N, 2) score residuals: own part less expected parts in the risk sets (Lin & Wei 1989)."""
    X, time, event = data[["z", "x"]].to_numpy(), data["t"].to_numpy(), data["e"].to_numpy()
    out, risk = np.zeros(X.shape), np.exp(X @ p)
    for j in np.flatnonzero(event):
        here = time >= time[j]
        mean = risk[here] @ X[here] / risk[here].sum()
        out[j] += X[j] - mean
        out[here] -= (risk[here] / risk[here].sum())[:, None] * (X[here] - mean)
    return out


def choices(data: pd.DataFrame) -> Contributions:
    """One contribution per stratum, over all ways to choose as many rows as were chosen."""
    X, y = data[["z", "x"]].to_numpy(), data["y"].to_numpy()
    strata = [np.flatnonzero(data["nesting"] == s) for s in data["nesting"].unique()]

    def contributions(p: Array) -> Array:
        eta, out = X @ p, []
        for rows in strata:
            ways = itertools.combinations(rows, int(y[rows].sum()))
            total = logsumexp([eta[list(way)].sum() for way in ways])
            out.append(eta[rows] @ y[rows] - total)
        return np.array(out)

    return contributions


def jacobian(f: Contributions, p: Array, step: float = 1e-5) -> Array:
    sides = [(f(p + step * e) - f(p - step * e)) / (2 * step) for e in np.eye(len(p))]
    return np.stack(sides, axis=-1)


def maximum(f: Contributions, start: Array) -> tuple[Array, Array]:
    """Estimates, and the inverse of the information by differences."""

    def gradient(p: Array) -> Array:
        return np.asarray(jacobian(f, p).sum(axis=0))

    found = optimize.root(gradient, start, tol=1e-9)
    assert found.success, found.message
    return found.x, np.linalg.inv(-jacobian(gradient, found.x, 1e-4))


def sandwich(scores: Array, bread: Array, *clusters: Array) -> Array:
    """Clusters one way, or two ways as A + B - AB, each with its own small-sample factor."""

    def one_way(codes: Array) -> Array:
        sums = np.stack([np.bincount(codes, column) for column in scores.T])
        groups, (rows, columns) = len(np.unique(codes)), scores.shape
        factor = groups / (groups - 1) * (rows - 1) / (rows - columns)
        return np.asarray(factor * bread @ sums @ sums.T @ bread)

    if len(clusters) == 1:
        return one_way(clusters[0])
    both = np.unique(np.column_stack(clusters), axis=0, return_inverse=True)[1].ravel()
    return one_way(clusters[0]) + one_way(clusters[1]) - one_way(both)


# -- estimates and errors --------------------------------------------------------------------


def test_weibull(tmp_path: Path) -> None:
    table, data, _ = rows_of(study(tmp_path, "weibull"))
    b, inverse = maximum(weibull(data), np.array([1.0, 0.5, 0.6, 0.4]))
    assert list(table.index) == ["b_l2[Intercept]", "b_l2[z]", "b_l1[x]", "shape"]
    np.testing.assert_allclose(table["mean"].iloc[:3], b[:3], atol=1e-6)
    sd = np.sqrt(np.diag(inverse))
    np.testing.assert_allclose(table["sd"].iloc[:3], sd[:3], rtol=1e-5)
    shape = table.loc["shape"]
    assert shape["mean"] == pytest.approx(np.exp(b[3]), rel=1e-6)
    assert shape["sd"] == pytest.approx(np.exp(b[3]) * sd[3], rel=1e-5)
    assert shape["lower"] == pytest.approx(np.exp(b[3] - stats.norm.ppf(0.975) * sd[3]), rel=1e-5)
    z = table.loc["b_l2[z]"]
    assert z["p_value"] == pytest.approx(2 * stats.norm.sf(abs(b[1] / sd[1])), rel=1e-4)


def test_weibull_robust_and_clustered(tmp_path: Path) -> None:
    table, data, codes = rows_of(study(tmp_path, "weibull", errors="robust"))
    b, bread = maximum(weibull(data), np.array([1.0, 0.5, 0.6, 0.4]))
    scores = jacobian(weibull(data), b)
    robust = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    np.testing.assert_allclose(table["sd"].iloc[:3], robust[:3], rtol=1e-5)
    for units in (["group"], ["member"], ["group", "member"]):
        table, *_ = rows_of(study(tmp_path, "weibull", errors="cluster", cluster=units))
        expected = np.sqrt(np.diag(sandwich(scores, bread, *(codes[u] for u in units))))
        np.testing.assert_allclose(table["sd"].iloc[:3], expected[:3], rtol=1e-5)


def test_weibull_averages_over_members(tmp_path: Path) -> None:
    table, data, _ = rows_of(study(tmp_path, "weibull", kind="aggregation"))
    groups = data.groupby("group").agg({"t": "first", "e": "first", "z": "first", "x": "mean"})
    b, _ = maximum(weibull(groups), np.array([1.0, 0.5, 0.6, 0.4]))
    np.testing.assert_allclose(table["mean"], [*b[:3], np.exp(b[3])], atol=1e-6)


@pytest.mark.thorough
def test_cox(tmp_path: Path) -> None:
    """Copied rows have tied times: Breslow's likelihood."""
    table, data, codes = rows_of(study(tmp_path, "cox"))
    b, bread = maximum(cox(data), np.array([0.5, 0.6]))
    assert list(table.index) == ["b_l2[z]", "b_l1[x]"]
    np.testing.assert_allclose(table["mean"], b, atol=1e-5)
    np.testing.assert_allclose(table["sd"], np.sqrt(np.diag(bread)), rtol=1e-4)
    scores = lin_wei(data, b)
    table, *_ = rows_of(study(tmp_path, "cox", errors="robust"))
    robust = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    np.testing.assert_allclose(table["sd"], robust, rtol=1e-4)
    for units in (["group"], ["group", "member"]):
        table, *_ = rows_of(study(tmp_path, "cox", errors="cluster", cluster=units))
        expected = np.sqrt(np.diag(sandwich(scores, bread, *(codes[u] for u in units))))
        np.testing.assert_allclose(table["sd"], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["aggregation", "disaggregation"])
def test_conditional_logit(kind: str, tmp_path: Path) -> None:
    """One row is chosen of each stratum; in copied rows as many as the chosen group has."""
    table, data, _ = rows_of(study(tmp_path, "condlogit", kind=kind))
    if kind == "aggregation":
        first = {"y": "first", "z": "first", "x": "mean", "nesting": "first"}
        data = data.groupby("group", sort=False).agg(first)
    b, bread = maximum(choices(data), np.array([0.5, 0.6]))
    assert list(table.index) == ["b_l2[z]", "b_l1[x]"]
    np.testing.assert_allclose(table["mean"], b, atol=1e-5)
    np.testing.assert_allclose(table["sd"], np.sqrt(np.diag(bread)), rtol=1e-4)
    scores = jacobian(choices(data), b)
    table, *_ = rows_of(study(tmp_path, "condlogit", kind=kind, errors="robust"))
    robust = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    np.testing.assert_allclose(table["sd"], robust, rtol=1e-4)
    clustered = {"errors": "cluster", "cluster": ["nesting"]}
    table, *_ = rows_of(study(tmp_path, "condlogit", kind=kind, **clustered))
    each = sandwich(scores, bread, np.arange(len(scores)))
    np.testing.assert_allclose(table["sd"], np.sqrt(np.diag(each)), rtol=1e-4)


def test_two_ways_of_least_squares(tmp_path: Path) -> None:
    def gaussian(config: dict[str, Any]) -> None:
        truth = {"formula": f"y ~ 1 + z + {MM}", "family": "gaussian"}
        parameters = {"b_l2[Intercept]": 0, "b_l2[z]": 0.5, "b_l1[x]": 0.6, "sigma_l1": 1}
        config["truth"] = {**truth, "parameters": {**parameters, "sigma_l2": 1}}

    units = ["group", "member"]
    found = study(tmp_path, "weibull", gaussian, errors="cluster", cluster=units)
    table, data, codes = rows_of(found)
    X = np.column_stack([np.ones(len(data)), data["z"], data["x"]])
    b = np.linalg.lstsq(X, data["y"].to_numpy())[0]
    scores = X * (data["y"].to_numpy() - X @ b)[:, None]
    covariance = sandwich(scores, np.linalg.inv(X.T @ X), *(codes[u] for u in units))
    np.testing.assert_allclose(table["sd"], np.sqrt(np.diag(covariance)), rtol=1e-8)
    assert set(table["df"]) == {min(len(np.unique(codes[u])) for u in units) - 1}


def test_fixed_coefficients_are_part_of_the_predictor(tmp_path: Path) -> None:
    """A slope that is fixed at its estimate leaves the others where they are."""
    for family, left in (
        ("weibull", "Surv(t, e) ~ 1"),
        ("cox", "Surv(t, e) ~ 0"),
        ("condlogit", "y ~ 0"),
    ):
        strata = " + strata(nesting)" if family == "condlogit" else ""
        free, *_ = rows_of(study(tmp_path, family))
        value = float(free.loc["b_l1[x]", "mean"])
        formula = f"{left} + z + fix(x, {value!r}){strata}"
        fixed, *_ = rows_of(study(tmp_path, family, formula=formula))
        kept = free.drop(index="b_l1[x]")
        np.testing.assert_allclose(fixed["mean"], kept["mean"], atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("family", FAMILIES)
def test_right_models_recover_the_truth(family: str, tmp_path: Path) -> None:
    """Without member effects the regression on means is the true model.

    60 data sets of 90 groups. Bias within 3.5 Monte Carlo errors plus 3 per cent (maximum
    likelihood has a bias of order 1/groups), coverage within 4: false alarm below 0.001 each.
    """

    def plain(config: dict[str, Any]) -> None:
        config["membership"] |= {"groups": 90, "members": 45, "units": 30}
        config["truth"]["parameters"]["sigma_l1"] = 0

    found = study(tmp_path, family, plain, kind="aggregation")
    scenario, method = found.scenarios[0], found.methods[0]
    rows = []
    for r in range(1, 61):
        outcome = fit_task(make_task(found, scenario, method, r))
        assert outcome.status == "ok", outcome.message
        rows += [dict(e) for e in outcome.estimates]
    table, truth = pd.DataFrame(rows), found.truth_of(scenario)
    table["truth"] = table["parameter"].map(truth)
    for name, one in table.groupby("parameter"):
        error = one["mean"] - one["truth"]
        limit = 3.5 * error.std() / np.sqrt(len(one)) + 0.03 * abs(truth[str(name)])
        assert abs(error.mean()) < limit, name
        inside = (one["lower"] < one["truth"]) & (one["truth"] < one["upper"])
        assert abs(inside.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 60), (name, inside.mean())


def test_scale_and_shift_of_a_covariate_do_not_matter(tmp_path: Path) -> None:
    """Years and thousands: slopes scale, the shape stays."""

    def years(config: dict[str, Any]) -> None:
        config["methods"][0]["formula"] = "Surv(t, e) ~ 1 + I(2000 + 0.01*z) + I(1000*x)"

    table, *_ = rows_of(study(tmp_path, "weibull"))
    other, *_ = rows_of(study(tmp_path, "weibull", years))
    assert other["mean"].iloc[1] == pytest.approx(100 * table["mean"].iloc[1], rel=1e-4)
    assert other["mean"].iloc[2] == pytest.approx(table["mean"].iloc[2] / 1000, rel=1e-5)
    assert other["sd"].iloc[1] == pytest.approx(100 * table["sd"].iloc[1], rel=1e-4)
    assert other.loc["shape", "mean"] == pytest.approx(table.loc["shape", "mean"], rel=1e-6)


# -- what cannot be estimated ----------------------------------------------------------------


def spoilt(found: Study, spoil: Any) -> Any:
    """The outcome of a fit whose data are changed."""
    task = make_task(found, found.scenarios[0], found.methods[0], 1)
    spoil(task.drawn)
    return fit_task(task)


def no_events(drawn: Any) -> None:
    drawn.outcomes["e"][:] = 0


def separated_times(drawn: Any) -> None:
    z = drawn.columns["z"].values
    z[:] = z > 0
    drawn.outcomes["e"][:] = z == 1


def separated_choices(drawn: Any) -> None:
    drawn.columns["z"].values[:] = drawn.outcomes["y"]


@pytest.mark.parametrize(
    ("family", "spoil", "said"),
    [
        ("weibull", no_events, r"there is no event: all 60 durations are censored"),
        ("cox", no_events, r"there is no event: all 60 durations are censored"),
        ("weibull", separated_times, r"no finite maximum|no maximum|not found"),
        ("cox", separated_times, r"no finite maximum|no maximum"),
        ("condlogit", separated_choices, r"no finite maximum|no maximum"),
    ],
)
def test_no_maximum_is_a_failed_fit(family: str, spoil: Any, said: str, tmp_path: Path) -> None:
    outcome = spoilt(study(tmp_path, family, kind="aggregation"), spoil)
    assert outcome.status == "failed"
    assert re.search(said, outcome.message), outcome.message


def test_constant_regressors_are_named(tmp_path: Path) -> None:
    def same_in_strata(drawn: Any) -> None:
        drawn.columns["z"].values[:] = drawn.memberships.nesting

    outcome = spoilt(study(tmp_path, "condlogit", kind="aggregation"), same_in_strata)
    assert outcome.status == "failed"
    assert "b_l2[z], b_l1[x] are collinear, or constant, within strata" in outcome.message


def test_default_backends_and_messages(tmp_path: Path) -> None:
    defaults = {"weibull": "weibull_ml", "cox": "phreg", "condlogit": "clogit"}
    for family, backend in defaults.items():
        assert study(tmp_path, family).methods[0].backend == backend
    with pytest.raises(
        StudyError, match=r"cluster\n.*'member' cannot be used with backend clogit\.\n.*\[nesting\]"
    ):
        study(tmp_path, "condlogit", errors="cluster", cluster=["member"])
    with pytest.raises(StudyError, match=r"backend .*\n.*phreg .* family weibull\.\n.*weibull_ml"):
        study(tmp_path, "weibull", backend="phreg")
    with pytest.raises(StudyError, match=r"formula .*\n.*no strata\(\)"):
        study(tmp_path, "condlogit", formula="y ~ z + x")
    with pytest.raises(StudyError, match=r"backend .*\n.*jags .* each member of the chosen group"):
        study(tmp_path, "condlogit", backend="jags")
    with pytest.raises(StudyError, match=r"cluster\n.*'group' is given twice"):
        study(tmp_path, "weibull", errors="cluster", cluster=["group", "group"])

    def families(config: dict[str, Any]) -> None:
        censoring = {
            "truth.family": "cox",
            "truth.formula": FAMILIES["cox"]["formula"],
            "truth.parameters": {"b_l2[z]": 0.5, "b_l1[x]": 1, "sigma_l1": 1},
        }
        config["vary"] = {"family": {"levels": {"weibull": {}, "cox": censoring}}}

    both = study(tmp_path, "weibull", families)
    assert both.methods[0].backend == "regression"
    alone = [study(tmp_path, family) for family in ("weibull", "cox")]
    for scenario, one in zip(both.scenarios, alone, strict=True):
        task = make_task(both, scenario, both.methods[0], 1)
        found = fit_task(task)
        assert found.status == "ok", found.message
        same = fit_task(replace(task, method=one.methods[0]))
        assert found.estimates == same.estimates
    with pytest.raises(StudyError, match=r"cluster .*\n.*'group' .* with the regression of"):
        study(tmp_path, "condlogit", backend="regression", errors="cluster", cluster=["group"])


# -- late entry ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def late() -> dict[str, Array]:
    """Rows of which some enter late; durations with ties."""
    rng = np.random.default_rng(3)
    x = np.column_stack([np.ones(300), rng.normal(size=(300, 2))])
    time = np.round(rng.weibull(1.3, 300) * np.exp(x @ [0.5, 0.4, -0.3]), 2) + 0.01
    entry = np.round(rng.uniform(0, 1, 300) * (rng.random(300) < 0.6), 2)
    seen = time > entry
    time, entry, x = time[seen], entry[seen], x[seen]
    end = entry + np.round(rng.exponential(3, len(time)), 2) + 0.01
    offset = 0.1 * rng.normal(size=len(time))
    event = (time <= end).astype(float)
    return {
        "time": np.minimum(time, end),
        "event": event,
        "entry": entry,
        "x": x,
        "offset": offset,
    }


def weibull_after_entry(p: Array, d: dict[str, Array]) -> Array:
    law = stats.weibull_min(np.exp(p[-1]), scale=np.exp(d["offset"] + d["x"] @ p[:-1]))
    ends = np.where(d["event"] == 1, law.logpdf(d["time"]), law.logsf(d["time"]))
    return np.asarray(ends - law.logsf(d["entry"]))


def partial_after_entry(b: Array, d: dict[str, Array]) -> Array:
    """(N, k) each row's part in the score, by a loop over risk sets."""
    x = d["x"][:, 1:]
    risk, out = np.exp(d["offset"] + x @ b), np.zeros_like(x)
    for k in np.flatnonzero(d["event"]):
        inside = (d["entry"] < d["time"][k]) & (d["time"] >= d["time"][k])
        share = risk[inside] / risk[inside].sum()
        mean = share @ x[inside]
        out[k] += x[k] - mean
        out[inside] -= share[:, None] * (x[inside] - mean)
    return out


def slopes_of(function: Callable[[Array], Array], at: Array, step: float) -> Array:
    """Central differences by each parameter, one column each."""
    moves = step * np.eye(len(at))
    return np.column_stack([(function(at + m) - function(at - m)) / (2 * step) for m in moves])


def test_weibull_after_entry_is_scipys(late: dict[str, Array]) -> None:
    found = maximum_likelihood.weibull(
        late["time"], late["event"], late["x"], late["offset"], late["entry"]
    )
    scores = slopes_of(lambda p: weibull_after_entry(p, late), found.params, 1e-5)
    np.testing.assert_allclose(found.scores(), scores, atol=1e-7)
    np.testing.assert_allclose(scores.sum(axis=0), 0, atol=1e-4)

    def gradient(p: Array) -> Array:
        return slopes_of(lambda q: weibull_after_entry(q, late), p, 1e-4).sum(axis=0)

    information = -slopes_of(gradient, found.params, 1e-4)
    np.testing.assert_allclose(np.linalg.inv(information), found.inverse, rtol=1e-4, atol=1e-7)


def test_cox_after_entry_is_the_loop_over_risk_sets(late: dict[str, Array]) -> None:
    """Score residuals too, which statsmodels computes with rows that have not entered."""
    found = maximum_likelihood.cox(
        late["time"], late["event"], late["x"][:, 1:], late["offset"], ["a", "b"], late["entry"]
    )
    wanted = partial_after_entry(found.params, late)
    np.testing.assert_allclose(found.scores(), wanted, atol=1e-12)
    np.testing.assert_allclose(wanted.sum(axis=0), 0, atol=1e-9)
    slopes = slopes_of(lambda b: partial_after_entry(b, late).sum(axis=0), found.params, 1e-5)
    np.testing.assert_allclose(np.linalg.inv(-slopes), found.inverse, rtol=1e-6)


@pytest.mark.parametrize("family", ["weibull", "cox"])
@pytest.mark.parametrize("errors", [{}, {"errors": "cluster", "cluster": ["nesting"]}])
def test_studies_with_late_entry(family: str, errors: dict[str, Any], tmp_path: Path) -> None:
    """The estimates of a study are the maximum, and the errors those of the scores."""

    def edit(config: dict[str, Any]) -> None:
        truth = config["truth"]
        truth["formula"] = truth["formula"].replace("Surv(t, e)", "Surv(t, e, entry = s)")
        truth["entry"] = {"share": 0.5, "time": 1}

    backend = {"weibull": "weibull_ml", "cox": "phreg"}[family]
    table, data, codes = rows_of(study(tmp_path, family, edit, backend=backend, **errors))
    assert (data["s"] > 0).mean() > 0.3
    x = np.column_stack([np.ones(len(data)), data["z"], data["x"]])
    d = {"time": data["t"], "event": data["e"], "entry": data["s"], "offset": np.zeros(len(data))}
    late = {k: np.asarray(v, dtype=float) for k, v in d.items()} | {"x": x}
    names = ["b_l2[z]", "b_l1[x]"]
    if family == "weibull":
        names = ["b_l2[Intercept]", *names, "shape"]
        at = table.loc[names, "mean"].to_numpy(copy=True)
        at[-1] = np.log(at[-1])
        scores = slopes_of(lambda p: weibull_after_entry(p, late), at, 1e-5)

        def gradient(p: Array) -> Array:
            return slopes_of(lambda q: weibull_after_entry(q, late), p, 1e-4).sum(axis=0)

    else:
        at = table.loc[names, "mean"].to_numpy()
        scores = partial_after_entry(at, late)

        def gradient(p: Array) -> Array:
            return partial_after_entry(p, late).sum(axis=0)

    np.testing.assert_allclose(scores.sum(axis=0), 0, atol=2e-3)
    inverse = np.linalg.inv(-slopes_of(gradient, at, 1e-4))
    covariance = inverse
    if errors:
        sums = np.zeros((codes["nesting"].max() + 1, len(at)))
        np.add.at(sums, codes["nesting"], scores)
        count = len(sums)
        few = count / (count - 1) * (len(data) - 1) / (len(data) - len(at))
        covariance = inverse @ (sums.T @ sums) @ inverse * few
    own = np.sqrt(np.diag(covariance))
    if family == "weibull":
        own[-1] *= np.exp(at[-1])
    np.testing.assert_allclose(table.loc[names, "sd"], own, rtol=2e-3)


def test_scores_of_strata_are_those_of_each(late: dict[str, Array]) -> None:
    """Three strata, one of them without an event."""
    strata = np.arange(len(late["time"])) % 3
    event = np.where(strata == 2, 0.0, late["event"])
    found = maximum_likelihood.cox(
        late["time"], event, late["x"][:, 1:], late["offset"], ["a", "b"], late["entry"], strata
    )
    wanted = np.zeros((len(strata), 2))
    for one in (0, 1):
        rows = strata == one
        part = {name: values[rows] for name, values in {**late, "event": event}.items()}
        wanted[rows] = partial_after_entry(found.params, part)
    np.testing.assert_allclose(found.scores(), wanted, atol=1e-12)
    np.testing.assert_allclose(wanted.sum(axis=0), 0, atol=1e-9)
