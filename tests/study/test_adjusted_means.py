"""Croon and van Veldhoven's adjusted means: the predictor, its consistency, the published cell."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.manage.replay_fit import replay
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.frequentist.adjusted_means import adjusted_means
from rmm.study.run.replicate import make_task
from tests import ROOT

CELL = yaml.safe_load(
    (ROOT / "config" / "studies" / "closed_form_3_aggregation_bias.yaml").read_text()
)
Array = np.ndarray[Any, Any]


def cell(folder: Path, edit: Any = None, **method: Any) -> Study:
    """Variance 9 of nu, 10 members, correlation .3, 100 groups, both methods."""
    config = copy.deepcopy(CELL)
    config |= {
        "reference": [],
        "vary": {},
        "methods": [
            CELL["methods"][0],
            {"name": "adjusted", "kind": "adjusted_means", "formula": "y ~ 1 + z + x", **method},
        ],
    }
    config["covariates"]["x"]["sd"] = 3
    if edit is not None:
        edit(config)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def per_cent(study: Study, method: str, replications: int) -> Array:
    """(replications, 2) errors of the slopes of z and x, in per cent of their truth .3."""
    found = []
    for r in range(1, replications + 1):
        outcome = fit_task(make_task(study, study.scenarios[0], study.method(method), r))
        assert outcome.status == "ok", outcome.message
        mean = {e["parameter"]: e["mean"] for e in outcome.estimates}
        found.append([100 * (mean[name] / 0.3 - 1) for name in ("b_l2[z]", "b_l1[x]")])
    return np.array(found)


def test_published_cell(tmp_path: Path) -> None:
    """Biases of (z, x) printed in the paper: 15.3, -50.4 by means, -1.3, 5.0 by adjusted means.

    They are simulated, too; the paper's number of replications is taken to be 1,000, which makes
    the Monte Carlo error of the printed numbers small rather than large. Four comparisons at three
    combined errors: false alarm 0.011.
    """
    study = cell(tmp_path)
    published = {"aggregation": (15.3, -50.4), "adjusted": (-1.3, 5.0)}
    for method, values in published.items():
        ours = per_cent(study, method, 600)
        error = ours.std(axis=0, ddof=1) * np.sqrt(1 / 600 + 1 / 1000)
        assert np.all(np.abs(ours.mean(axis=0) - values) < 3 * error), (method, ours.mean(axis=0))


@pytest.mark.parametrize("size", [10, {"distribution": "uniform", "low": 1, "high": 20}])
def test_consistent_for_any_sizes(size: Any, tmp_path: Path) -> None:
    """5,000 groups: no bias where means are off by 15 and 50 per cent; false alarm 0.006 each."""

    def large(config: dict[str, Any]) -> None:
        config["membership"] |= {"groups": 5000, "size": size}

    study = cell(tmp_path, large)
    adjusted, means = (per_cent(study, m, 25) for m in ("adjusted", "aggregation"))
    error = adjusted.std(axis=0, ddof=1) / np.sqrt(len(adjusted))
    assert np.all(error < 1.2)  # so that what is left could not be much
    assert np.all(np.abs(adjusted.mean(axis=0)) < 3 * error)
    assert means.mean(axis=0)[0] > 12
    assert means.mean(axis=0)[1] < -45


def test_it_is_the_conditional_mean(tmp_path: Path) -> None:
    """Large data: the predictor is E(xi | all members, z), computed here from every member.

    Two member variables with correlated values and errors, sizes 1 to 6, by the covariance matrix
    of everything that a group shows, which is of another form than the one under test.
    """
    rng = np.random.default_rng(3)
    groups, k = 40_000, 2
    between = np.array([[1.0, 0.4, 0.3], [0.4, 0.8, -0.2], [0.3, -0.2, 1.0]])
    within = np.array([[2.0, 0.7], [0.7, 1.5]])
    true = rng.multivariate_normal([1.0, -2.0, 0.5], between, groups)
    size = rng.integers(1, 7, groups)
    group = np.repeat(np.arange(groups), size)
    x = true[group, :k] + rng.multivariate_normal([0, 0], within, len(group))
    found = adjusted_means(x, group, true[:, 2:], ["a", "b"])
    for g in (np.flatnonzero(size == n)[0] for n in range(1, 7)):
        n = size[g]
        spread = np.kron(np.ones((n, n)), between[:k, :k]) + np.kron(np.eye(n), within)
        with_z = np.kron(np.ones((n, 1)), between[:k, 2:])
        shown = np.block([[spread, with_z], [with_z.T, between[2:, 2:]]])
        to_xi = np.hstack([np.kron(np.ones((1, n)), between[:k, :k]), between[:k, 2:]])
        seen = np.append(x[group == g].ravel(), true[g, 2])
        centre = np.append(np.tile([1.0, -2.0], n), 0.5)
        expected = np.array([1.0, -2.0]) + to_xi @ np.linalg.solve(shown, seen - centre)
        np.testing.assert_allclose(found[g], expected, atol=0.05)
    # Best linear: its error is uncorrelated with what it rests on.
    error = true[:, :k] - found
    means = np.column_stack([np.bincount(group, c) / size for c in x.T])
    assert np.abs(np.corrcoef(error.T, means.T)[:k, k:]).max() < 4 / np.sqrt(groups)


def test_errors_are_robust_unless_said(tmp_path: Path) -> None:
    study = cell(tmp_path)
    assert study.method("adjusted").config["errors"] == "robust"
    assert study.config["methods"][1]["errors"] == "robust"  # said in the resolved file
    said = cell(tmp_path, errors="robust").method("adjusted")
    assert said.id == study.method("adjusted").id
    classical = cell(tmp_path, errors="classical")
    assert classical.method("adjusted").id != said.id
    _, one = replay(study, study.scenarios[0].id, 1, "adjusted")
    _, other = replay(classical, classical.scenarios[0].id, 1, "adjusted")
    assert [e["mean"] for e in one.estimates] == [e["mean"] for e in other.estimates]
    assert [e["sd"] for e in one.estimates] != [e["sd"] for e in other.estimates]


def test_hc3_of_the_adjusted_means(tmp_path: Path) -> None:
    study = cell(tmp_path)
    data, outcome = replay(study, study.scenarios[0].id, 1, "adjusted")
    frame = data.data
    group = np.unique(frame["group"], return_inverse=True)[1]
    first = frame.groupby("group", sort=True).first()
    z = first["z"].to_numpy()
    fitted = adjusted_means(frame[["x"]].to_numpy(), group, z[:, None], ["x"])
    X = np.column_stack([np.ones(len(z)), z, fitted])
    bread = np.linalg.inv(X.T @ X)
    left = first["y"].to_numpy() - X @ bread @ X.T @ first["y"].to_numpy()
    leverage = np.einsum("ij,jk,ik->i", X, bread, X)
    meat = (X.T * (left / (1 - leverage)) ** 2) @ X
    expected = np.sqrt(np.diag(bread @ meat @ bread))
    np.testing.assert_allclose([e["sd"] for e in outcome.estimates], expected, rtol=1e-8)


def test_what_cannot_be_adjusted(tmp_path: Path) -> None:
    def alone(config: dict[str, Any]) -> None:
        config["membership"]["size"] = 1

    study = cell(tmp_path, alone)
    outcome = fit_task(make_task(study, study.scenarios[0], study.method("adjusted"), 1))
    assert outcome.status == "failed"
    assert "no group has two members" in outcome.message
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(30), 4)
    x = rng.standard_normal((120, 1))
    means = np.bincount(group, x[:, 0]) / 4
    same = x - means[group][:, None]  # no variance between groups
    with pytest.raises(ValueError, match=r"estimated variance of x between groups is -0\.\d+"):
        adjusted_means(same, group, np.empty((30, 0)), ["x"])
    x = x + 2 * rng.standard_normal(30)[group][:, None]
    with pytest.raises(ValueError, match="not positive definite"):
        adjusted_means(np.hstack([x, x]), group, np.empty((30, 0)), ["x", "again"])


def test_products_over_levels_have_no_group_mean(tmp_path: Path) -> None:
    study = cell(tmp_path, formula="y ~ 1 + z + x + z:x")
    outcome = fit_task(make_task(study, study.scenarios[0], study.method("adjusted"), 1))
    assert outcome.status == "failed"
    assert "contains columns of members and of groups" in outcome.message


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"backend": "glm"}, r"backend\n.*'glm' is not a backend of .*adjusted_means"),
        (
            {"summary": "sum"},
            r"summary\n.*in a method of kind adjusted_means\.\n.*have `summary`: aggregation",
        ),
        (
            {"errors": "cluster", "cluster": ["group"]},
            r"cluster\n.*'group' .* one row per group",
        ),
    ],
)
def test_messages(method: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        cell(tmp_path, **method)


def test_all_methods_see_the_same_arrays(tmp_path: Path) -> None:
    study = cell(tmp_path)
    study = replace(study, replications=1)
    one, other = (make_task(study, study.scenarios[0], m, 1).drawn for m in study.methods)
    assert one.outcome.tobytes() == other.outcome.tobytes()
    for name, column in one.columns.items():
        assert column.values.tobytes() == other.columns[name].values.tobytes()
    assert one.memberships.member.tobytes() == other.memberships.member.tobytes()
