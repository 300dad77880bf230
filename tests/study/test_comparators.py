"""Errors robust to shared members, the wild cluster bootstrap, and estimating equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import special, stats

from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.frequentist.wild_bootstrap import cluster_weights, wild_bootstrap
from rmm.study.methods.task import Task
from rmm.study.run.replicate import make_task

Array = np.ndarray[Any, Any]


def study(folder: Path, family: str = "gaussian", **method: Any) -> Study:
    truth = {"b_l2[Intercept]": 0.2, "b_l2[z]": 0.5, "b_l1[x]": 0.4, "sigma_l1": 1}
    config = {
        "seed": 23,
        "replications": 4,
        "membership": {
            "kind": "synthetic",
            "groups": 60,
            "members": 30,
            "size": {"distribution": "uniform", "low": 2, "high": 4},
            "units": 15,
            "within": False,
        },
        "covariates": {"x": {"level": "member"}, "z": {"level": "group"}},
        "truth": {
            "formula": "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
            "family": family,
            "parameters": {**truth, **({"sigma_l2": 1} if family == "gaussian" else {})},
        },
        "methods": [{"name": "one", **method}],
        "estimands": [{"parameter": "b_l1[x]"}, {"parameter": "b_l2[z]", "null": 0.3}],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def fitted(found: Study) -> tuple[pd.DataFrame, pd.DataFrame, Task]:
    """Rows of the first fit by parameter, and its data with a row per membership."""
    task = make_task(found, found.scenarios[0], found.methods[0], 1)
    outcome = fit_task(task)
    assert outcome.status == "ok", outcome.message
    rows = pd.DataFrame([dict(row) for row in outcome.estimates]).set_index("parameter")
    return rows, task.drawn.frame(), task


def design(frame: pd.DataFrame, by_group: bool) -> tuple[Array, Array, Array]:
    """Outcome, columns (1, z, x) and group codes of a layout."""
    if by_group:
        groups = frame.groupby("group")
        frame = groups[["y", "z"]].first().assign(x=groups["x"].mean()).reset_index()
    X = np.column_stack([np.ones(len(frame)), frame["z"], frame["x"]])
    return frame["y"].to_numpy(float), X, np.unique(frame["group"], return_inverse=True)[1]


def shared_sandwich(scores: Array, inverse: Array, group: Array, frame: pd.DataFrame) -> Array:
    """All pairs of rows whose groups have a member in common, one after the other."""
    members = frame.groupby("group")["member"].agg(set).tolist()
    meat = np.zeros_like(inverse)
    for i, g in enumerate(group):
        for j, h in enumerate(group):
            if members[g] & members[h]:
                meat += np.outer(scores[i], scores[j])
    count, (rows, k) = frame["member"].nunique(), scores.shape
    factor = count / (count - 1) * (rows - 1) / (rows - k)
    return np.asarray(factor * inverse @ meat @ inverse)


@pytest.mark.parametrize("kind", ["aggregation", "disaggregation"])
def test_errors_robust_to_shared_members_sum_over_all_pairs(kind: str, tmp_path: Path) -> None:
    rows, frame, _ = fitted(study(tmp_path, kind=kind, backend="ols", errors="shared_members"))
    y, X, group = design(frame, kind == "aggregation")
    inverse = np.linalg.inv(X.T @ X)
    b = inverse @ X.T @ y
    covariance = shared_sandwich(X * (y - X @ b)[:, None], inverse, group, frame)
    np.testing.assert_allclose(rows["mean"], b, rtol=1e-9)
    np.testing.assert_allclose(rows["sd"], np.sqrt(np.diag(covariance)), rtol=1e-9)
    assert set(rows["df"]) == {frame["member"].nunique() - 1}
    p = 2 * stats.t.sf(abs(b[2]) / rows.loc["b_l1[x]", "sd"], rows["df"].iloc[0])
    assert rows.loc["b_l1[x]", "p_value"] == pytest.approx(p, rel=1e-6)


def test_errors_of_logistic_regression_robust_to_shared_members(tmp_path: Path) -> None:
    found = study(tmp_path, "binomial", kind="aggregation", backend="glm", errors="shared_members")
    rows, frame, _ = fitted(found)
    y, X, group = design(frame, by_group=True)
    p = special.expit(X @ rows["mean"].to_numpy())
    np.testing.assert_allclose(X.T @ (y - p), 0, atol=1e-6)
    inverse = np.linalg.inv((X.T * (p * (1 - p))) @ X)
    covariance = shared_sandwich(X * (y - p)[:, None], inverse, group, frame)
    np.testing.assert_allclose(rows["sd"], np.sqrt(np.diag(covariance)), rtol=1e-5)
    assert (rows["df"] == np.inf).all()


def test_without_shared_members_they_are_errors_of_groups(tmp_path: Path) -> None:
    """Nesting: the dependent rows are those of one group, so errors are HC0 times a factor."""
    found = study(tmp_path, kind="aggregation", backend="ols", errors="shared_members")
    config = yaml.safe_load((tmp_path / "study.yaml").read_text())
    config["membership"] = {"kind": "synthetic", "groups": 60, "size": 3, "overlap": 0}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    rows, frame, _ = fitted(load_study(tmp_path / "study.yaml"))
    y, X, _ = design(frame, by_group=True)
    inverse = np.linalg.inv(X.T @ X)
    scores = X * (y - X @ inverse @ X.T @ y)[:, None]
    plain = inverse @ scores.T @ scores @ inverse * 180 / 179 * 59 / 57
    np.testing.assert_allclose(rows["sd"], np.sqrt(np.diag(plain)), rtol=1e-9)
    assert found.methods[0].config["errors"] == "shared_members"


# -- wild cluster bootstrap ------------------------------------------------------------------


def p_by_hand(y: Array, X: Array, codes: Array, k: int, null: float, weights: Array) -> float:
    """Each sample drawn, fitted and tested: Cameron, Gelbach & Miller (2008), section 3."""
    rest = np.delete(np.arange(X.shape[1]), k)
    target = y - null * X[:, k]
    imposed = np.linalg.lstsq(X[:, rest], target, rcond=None)[0]
    mean = X[:, rest] @ imposed + null * X[:, k]
    inverse = np.linalg.inv(X.T @ X)

    def statistic(outcome: Array) -> float:
        b = inverse @ X.T @ outcome
        scores = X * (outcome - X @ b)[:, None]
        summed = np.array([scores[codes == g].sum(axis=0) for g in range(codes.max() + 1)])
        variance = (inverse @ summed.T @ summed @ inverse)[k, k]
        return float(abs(b[k] - null) / np.sqrt(variance))

    own = statistic(y)
    drawn = [statistic(mean + w[codes] * (y - mean)) for w in weights]
    return float(np.mean(np.array(drawn) > own))


@pytest.mark.parametrize("clusters", [8, 20])
def test_bootstrap_p_values_are_those_of_drawn_samples(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    codes = rng.permutation(np.repeat(np.arange(clusters), 6))
    X = np.column_stack([np.ones(len(codes)), rng.normal(size=(len(codes), 2))])
    X[:, 2] += rng.normal(size=clusters)[codes]
    y = X @ [1, 0.3, 0.2] + rng.normal(size=clusters)[codes] + rng.normal(size=len(codes))
    nulls = np.array([0.5, 0.0, 0.0])
    found = wild_bootstrap(y, X, codes, nulls, [0.95, 0.9], 399, np.random.default_rng(4))
    weights = cluster_weights(clusters, 399, np.random.default_rng(4))
    for k, one in enumerate(found):
        assert one.p_value == p_by_hand(y, X, codes, k, nulls[k], weights)
        assert one.p_value > 0 or k < 2
        # An interval holds what its test does not reject: just inside and just outside.
        for (low, high), alpha in zip(one.bounds, (0.05, 0.1), strict=True):
            step = 1e-4 * (high - low)
            for end, side in ((low, -1), (high, 1)):
                inside = p_by_hand(y, X, codes, k, end - side * step, weights)
                outside = p_by_hand(y, X, codes, k, end + side * step, weights)
                assert inside >= alpha > outside


def test_bootstrap_weights_have_mean_0_and_variance_1() -> None:
    few = cluster_weights(6, 20000, np.random.default_rng(1))
    many = cluster_weights(12, 20000, np.random.default_rng(1))
    assert len(np.unique(np.round(few, 9))) == 6  # Webb's
    assert set(np.unique(many)) == {-1, 1}  # Rademacher's
    for weights in (few, many):
        assert abs(weights.mean()) < 4 / np.sqrt(weights.size)
        assert (weights**2).mean() == pytest.approx(1, abs=4 / np.sqrt(weights.size))


def test_bootstrap_of_a_study_is_that_of_its_seed(tmp_path: Path) -> None:
    settings = {"kind": "aggregation", "backend": "ols", "errors": "bootstrap"}
    rows, frame, task = fitted(study(tmp_path, **settings, cluster=["nesting"]))
    y, X, _ = design(frame, by_group=True)
    nations = frame.groupby("group")["nesting"].first()
    codes = np.unique(nations, return_inverse=True)[1]
    weights = cluster_weights(15, 999, np.random.default_rng(task.seed))
    assert rows.loc["b_l1[x]", "p_value"] == p_by_hand(y, X, codes, 2, 0, weights)
    assert rows.loc["b_l2[z]", "p_value"] == p_by_hand(y, X, codes, 1, 0.3, weights)
    assert fitted(study(tmp_path, **settings, cluster=["nesting"]))[0].equals(rows)
    low, high = rows.loc["b_l1[x]", ["lower", "upper"]]
    assert low < rows.loc["b_l1[x]", "lower90"] < rows.loc["b_l1[x]", "upper90"] < high


@pytest.mark.thorough
def test_bootstrap_keeps_the_level_with_ten_clusters() -> None:
    """2,000 data sets, 10 clusters, intra-cluster correlation .5 of x and errors; MCSE .005."""
    rng = np.random.default_rng(11)
    codes, rejected = np.repeat(np.arange(10), 5), []
    for _ in range(2000):
        x, e = (rng.normal(size=10)[codes] + rng.normal(size=50) for _ in range(2))
        X = np.column_stack([np.ones(50), x])
        (_, one) = wild_bootstrap(e, X, codes, np.zeros(2), [], 199, rng)
        rejected.append(one.p_value < 0.05)
    assert abs(np.mean(rejected) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 2000)


# -- estimating equations --------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_exchangeable_estimating_equations_hold_and_have_robust_errors(
    family: str, tmp_path: Path
) -> None:
    """sum D'V^-1(y - mu) = 0 at the estimates with V of the estimated correlation; its sandwich."""
    method = {"kind": "disaggregation", "backend": "gee", "errors": "cluster"}
    found = study(tmp_path, family, **method, cluster=["member"])
    task = make_task(found, found.scenarios[0], found.methods[0], 1)
    outcome = fit_task(task, keep=True)
    assert outcome.status == "ok", outcome.message
    rows = pd.DataFrame([dict(row) for row in outcome.estimates]).set_index("parameter")
    frame = task.drawn.frame()
    y, X, _ = design(frame, by_group=False)
    codes = np.unique(frame["member"], return_inverse=True)[1]
    eta = X @ rows["mean"].to_numpy()
    mu = eta if family == "gaussian" else special.expit(eta)
    spread = np.ones(len(y)) if family == "gaussian" else mu * (1 - mu)
    rho = float(outcome.fit.cov_struct.dep_params)
    assert 0.01 < abs(rho) < 0.9
    bread, meat, total = np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(3)
    for g in range(codes.max() + 1):
        at = codes == g
        sd = np.sqrt(spread[at])
        R = np.full((at.sum(), at.sum()), rho)
        np.fill_diagonal(R, 1)
        D = X[at] * spread[at][:, None]
        half = np.linalg.solve(sd[:, None] * R * sd, D).T
        score = half @ (y[at] - mu[at])
        total += score
        meat += np.outer(score, score)
        bread += half @ D
    assert np.abs(np.linalg.solve(bread, total)).max() < 1e-4
    inverse = np.linalg.inv(bread)
    np.testing.assert_allclose(rows["sd"], np.sqrt(np.diag(inverse @ meat @ inverse)), rtol=1e-2)


def test_working_independence_has_the_estimates_of_least_squares(tmp_path: Path) -> None:
    method = {"kind": "aggregation", "backend": "gee", "errors": "cluster", "cluster": ["nesting"]}
    rows, frame, _ = fitted(study(tmp_path, **method, correlation="independence"))
    y, X, _ = design(frame, by_group=True)
    codes = np.unique(frame.groupby("group")["nesting"].first(), return_inverse=True)[1]
    inverse = np.linalg.inv(X.T @ X)
    b = inverse @ X.T @ y
    scores = X * (y - X @ b)[:, None]
    summed = np.array([scores[codes == g].sum(axis=0) for g in range(15)])
    np.testing.assert_allclose(rows["mean"], b, rtol=1e-6)
    wanted = np.sqrt(np.diag(inverse @ summed.T @ summed @ inverse))
    np.testing.assert_allclose(rows["sd"], wanted, rtol=1e-6)
    changed, *_ = fitted(study(tmp_path, **method))
    assert not np.allclose(changed["mean"], b, rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"backend": "ols", "errors": "bootstrap"}, "`errors: bootstrap` and `cluster` must"),
        (
            {"backend": "ols", "errors": "bootstrap", "cluster": ["group", "member"]},
            "Two units are given, but `errors: bootstrap` has one kind of clusters",
        ),
        (
            {"backend": "gee", "errors": "cluster", "cluster": ["group", "member"]},
            "Two units are given, but backend gee has one kind of clusters",
        ),
        ({"backend": "gee"}, r"`errors: classical` cannot be used with backend gee.\n.*cluster"),
        ({"backend": "ols", "bootstrap_draws": 99}, "It needs `errors: bootstrap`"),
        ({"backend": "ols", "correlation": "independence"}, "Backends .*`correlation`: gee"),
        ({"backend": "ols", "errors": "dyadic"}, "Allowed: classical, robust, cluster, shared"),
    ],
)
def test_messages(method: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        study(tmp_path, kind="disaggregation", **method)


def test_choices_have_no_errors_of_shared_members(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="`errors: shared_members` cannot be used with backend cl"):
        study(tmp_path, kind="aggregation", backend="clogit", errors="shared_members")
