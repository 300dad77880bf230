"""Regressions of practice in studies: logistic regression beside least squares."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import optimize, stats
from scipy.special import expit

from rmm.cli import main
from rmm.errors import StudyError
from rmm.families import FAMILIES
from rmm.study import Study, load_study
from rmm.study.design.scale_notes import scale_notes
from rmm.study.manage.replay_fit import replay
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.regressions import REGRESSIONS, Problem, default_regression
from rmm.study.run.replicate import make_task

FORMULA = "{outcome} ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
Array = np.ndarray[Any, Any]


def study(folder: Path, *, outcome: str = "y", family: str = "binomial", **method: Any) -> Study:
    """A study of one scenario with one method `one`."""
    truth: dict[str, Any] = {"b_l2[Intercept]": 0.2, "b_l2[z]": 0.5, "b_l1[x]": 0.4, "sigma_l1": 1}
    extra = {"trials": 5} if outcome != "y" else {}
    config = {
        "title": "Logistic regression",
        "seed": 11,
        "replications": 4,
        "batch": 4,
        "membership": {
            "kind": "synthetic",
            "groups": 60,
            "members": 30,
            "size": {"distribution": "uniform", "low": 2, "high": 4},
        },
        "covariates": {"x": {"level": "member"}, "z": {"level": "group"}},
        "truth": {
            "formula": FORMULA.format(outcome=outcome),
            "family": family,
            **extra,
            "parameters": {**truth, **({"sigma_l2": 1} if family == "gaussian" else {})},
        },
        "methods": [{"name": "one", "backend": "glm", **method}],
        "estimands": [{"parameter": "b_l1[x]"}, {"parameter": "b_l2[z]"}],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(path)


def maximum(y: Array, trials: Array, X: Array) -> Array:
    """Maximum likelihood estimates of a logistic regression, by SciPy alone."""

    def minus(b: Array) -> float:
        eta = X @ b
        return float(np.sum(trials * np.logaddexp(0, eta) - y * eta))

    def slope(b: Array) -> Array:
        return np.asarray(X.T @ (trials * expit(X @ b) - y))

    return np.asarray(optimize.minimize(minus, np.zeros(X.shape[1]), jac=slope, tol=1e-12).x)


def sandwich(y: Array, X: Array, b: Array, codes: Array) -> Array:
    """Covariance with clusters (Liang and Zeger 1986), times G/(G-1) (N-1)/(N-K)."""
    p = expit(X @ b)
    bread = np.linalg.inv((X.T * (p * (1 - p))) @ X)
    scores = np.stack([np.bincount(codes, v) for v in (X * (y - p)[:, None]).T])
    groups, (rows, columns) = len(np.unique(codes)), X.shape
    small = groups / (groups - 1) * (rows - 1) / (rows - columns)
    return np.asarray(bread @ scores @ scores.T @ bread * small)


def fitted(study: Study) -> tuple[list[dict[str, Any]], Array, Array, Any]:
    """Estimates, outcome and design of the disaggregated first replication, and its units."""
    data, outcome = replay(study, study.scenarios[0].id, 1, "one")
    assert outcome.status == "ok", outcome.message
    rows = data.data
    X = np.column_stack([np.ones(len(rows)), rows["z"], rows["x"]])
    codes = {u: np.unique(rows[u], return_inverse=True)[1] for u in ("group", "member")}
    return [dict(e) for e in outcome.estimates], rows["y"].to_numpy(float), X, codes


def test_estimates_and_errors_are_those_of_maximum_likelihood(tmp_path: Path) -> None:
    estimates, y, X, _ = fitted(study(tmp_path, kind="disaggregation"))
    b = maximum(y, np.ones(len(y)), X)
    assert [e["parameter"] for e in estimates] == ["b_l2[Intercept]", "b_l2[z]", "b_l1[x]"]
    np.testing.assert_allclose([e["mean"] for e in estimates], b, atol=1e-5)
    p = expit(X @ b)
    sd = np.sqrt(np.diag(np.linalg.inv((X.T * (p * (1 - p))) @ X)))
    np.testing.assert_allclose([e["sd"] for e in estimates], sd, rtol=1e-4)
    for e, one, error in zip(estimates, b, sd, strict=True):  # normal tests and intervals
        assert e["p_value"] == pytest.approx(2 * stats.norm.sf(abs(one / error)), rel=1e-3)
        assert e["upper"] == pytest.approx(one + stats.norm.ppf(0.975) * error, abs=1e-4)


def test_robust_and_clustered_errors(tmp_path: Path) -> None:
    """HC0 and one-way clusters by hand; two-way is member + group - both (Cameron et al. 2011)."""
    estimates, y, X, codes = fitted(study(tmp_path, kind="disaggregation", errors="robust"))
    b = np.array([e["mean"] for e in estimates])
    each = np.arange(len(y))
    plain = sandwich(y, X, b, each) * (len(y) - X.shape[1]) / len(y)
    np.testing.assert_allclose([e["sd"] for e in estimates], np.sqrt(np.diag(plain)), rtol=1e-5)
    one = {"kind": "disaggregation", "errors": "cluster"}
    estimates, *_ = fitted(study(tmp_path, **one, cluster=["group"]))
    by_group = np.diag(sandwich(y, X, b, codes["group"]))
    np.testing.assert_allclose([e["sd"] for e in estimates], np.sqrt(by_group), rtol=1e-5)
    estimates, *_ = fitted(study(tmp_path, **one, cluster=["group", "member"]))
    both = by_group + np.diag(sandwich(y, X, b, codes["member"]))
    both = both - np.diag(sandwich(y, X, b, each))
    np.testing.assert_allclose([e["sd"] for e in estimates], np.sqrt(both), rtol=1e-5)


def test_successes_and_failures_averaged_over_members(tmp_path: Path) -> None:
    found = study(tmp_path, outcome="cbind(won, lost)", kind="aggregation")
    data, outcome = replay(found, found.scenarios[0].id, 2, "one")
    assert outcome.status == "ok", outcome.message
    groups = data.data.groupby("group")
    first, x = groups.first(), groups["x"].mean()
    X = np.column_stack([np.ones(len(first)), first["z"], x])
    won = first["won"].to_numpy(float)
    b = maximum(won, won + first["lost"].to_numpy(float), X)
    np.testing.assert_allclose([e["mean"] for e in outcome.estimates], b, atol=1e-5)


def test_separation_is_a_failed_fit(tmp_path: Path) -> None:
    found = study(tmp_path, kind="aggregation")
    task = make_task(found, found.scenarios[0], found.methods[0], 1)
    z = task.drawn.columns["z"].values
    task.drawn.outcomes["y"][:] = z > np.median(z)  # type: ignore[index]
    outcome = fit_task(task)
    assert outcome.status == "failed"
    assert "separate the outcome" in outcome.message


@pytest.mark.parametrize("errors", ["classical", "robust"])
def test_separation_in_a_part_is_a_failed_fit(errors: str, tmp_path: Path) -> None:
    """All outcomes are 1 where z is 1 and mixed elsewhere: its slope has no finite estimate."""
    found = study(tmp_path, kind="aggregation", errors=errors)
    task = make_task(found, found.scenarios[0], found.methods[0], 1)
    z, y = task.drawn.columns["z"].values, task.drawn.outcomes["y"]
    z[:] = np.arange(len(z)) % 2
    y[z == 1] = 1
    assert len(set(y[z == 0])) == 2
    outcome = fit_task(task)
    assert outcome.status == "failed"
    assert "the estimate of b_l2[z] goes to infinity" in outcome.message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"family": "gaussian"}, r"methods\[0\]\.backend .*\n.*Backend glm .* family gaussian"),
        (
            {"backend": "ols", "outcome": "cbind(won, lost)"},
            r" ols\.\n  Allowed: one column",
        ),
        (
            {"sampler": {"chains": 2}},
            r"sampler\n.*cannot be used with backend glm\.\n.*Backends .*`sampler`: jags, stan",
        ),
        ({"formula": "y ~ 1 + z + hm(id = nesting)"}, r"hm\(\) cannot be used with backend glm"),
    ],
)
def test_messages(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        study(tmp_path, kind="disaggregation", **settings)


# -- whose scale -----------------------------------------------------------------------------


NOTE = "Note. Method one: the estimates of backend ols are not on the scale"


@pytest.mark.parametrize(
    ("method", "family", "better"),
    [
        (
            {"kind": "aggregation", "backend": "ols"},
            "binomial",
            "on the scale of the truth: glm, gee.",
        ),
        (
            {"kind": "disaggregation", "backend": "ols"},
            "binomial",
            "on the scale of the truth: glm, gee.",
        ),
        ({"kind": "adjusted_means", "backend": "ols"}, "binomial", "none of this kind"),
        ({"kind": "aggregation", "backend": "glm"}, "binomial", None),
        ({"kind": "aggregation", "backend": "regression"}, "binomial", None),
        ({"kind": "aggregation", "backend": "ols"}, "gaussian", None),
    ],
)
def test_check_notes_least_squares_on_another_scale(
    method: dict[str, Any],
    family: str,
    better: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study(tmp_path, family=family, **method)
    path = tmp_path / "study.yaml"
    assert main(["study", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert (NOTE in said) == (better is not None)
    assert "Note." not in said or str(better) in said
    assert main(["study", "check", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["notes"]) == (better is not None)
    # A truth that the file says is on the scale that its author means.
    config = yaml.safe_load(path.read_text())
    config["estimands"] = [{"parameter": "b_l1[x]", "truth": 0.1}]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["study", "check", str(path)]) == 0
    assert "Note." not in capsys.readouterr().out


def test_only_the_family_that_least_squares_does_not_fit_is_noted(tmp_path: Path) -> None:
    study(tmp_path, kind="aggregation", backend="ols")
    config = yaml.safe_load((tmp_path / "study.yaml").read_text())
    normal = {"truth.family": "gaussian", "truth.parameters.sigma_l2": 1}
    config["vary"] = {
        "family": {"levels": {"binary": {"truth.family": "binomial"}, "normal": normal}}
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (note,) = scale_notes(load_study(tmp_path / "study.yaml"))
    assert NOTE.removeprefix("Note. ") in note


def test_every_family_has_the_regression_on_its_own_scale() -> None:
    assert {name: default_regression(name) for name in FAMILIES} == {
        "gaussian": "ols",
        "binomial": "glm",
        "condlogit": "clogit",
        "weibull": "weibull_ml",
        "cox": "phreg",
        "poisson": "glm",
        "negbinomial": "negbin_ml",
        "zero_inflated_poisson": None,  # as with hurdles, no regression here has two parts
        "zero_inflated_negbinomial": None,
        "hurdle_poisson": None,
        "hurdle_negbinomial": None,
        "lognormal": "log_ols",
        "gamma": "glm",
        "student": "ols",
        "beta": "beta_ml",
        "probit": "glm",
        "cloglog": "glm",
        "ordinal": None,  # thresholds are no coefficients of a regression here
    }


def test_regressions_of_counts_are_those_of_statsmodels() -> None:
    """With an offset; the shape on the log scale, by the delta method."""
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(400), rng.normal(size=400)])
    offset = rng.normal(size=400)
    mean = np.exp(X @ [0.5, 0.3] + offset)
    for name, y in (
        ("glm", rng.poisson(mean)),
        ("negbin_ml", rng.negative_binomial(2.0, 2 / (2 + mean))),
    ):
        family = "poisson" if name == "glm" else "negbinomial"
        problem = Problem(y.astype(float), X, ["a", "b"], offset, None, "classical", None)
        found = REGRESSIONS[name].fit(replace(problem, family=family))
        if name == "glm":
            known = sm.GLM(y, X, family=sm.families.Poisson(), offset=offset).fit()
            np.testing.assert_allclose(found.mean, known.params, rtol=1e-9)
            np.testing.assert_allclose(found.sd, known.bse, rtol=1e-9)
        else:
            known = sm.NegativeBinomial(y, X, offset=offset).fit(disp=0, maxiter=500)
            np.testing.assert_allclose(found.mean[:2], known.params[:2], rtol=1e-6)
            np.testing.assert_allclose(np.exp(-found.mean[2]), known.params[2], rtol=1e-6)
            np.testing.assert_allclose(found.sd[2], known.bse[2] / known.params[2], rtol=1e-6)
            assert abs(found.mean[2] - np.log(2)) < 4 * found.sd[2]


def test_counts_without_overdispersion_are_a_failed_fit() -> None:
    X = np.ones((200, 1))
    y = np.random.default_rng(1).binomial(20, 0.5, 200).astype(float)
    problem = Problem(y, X, ["a"], np.zeros(200), None, "classical", None, family="negbinomial")
    with pytest.raises(ValueError, match=r"no more than those of a Poisson|no maximum"):
        REGRESSIONS["negbin_ml"].fit(problem)


@pytest.mark.parametrize(
    ("method", "found"),
    [
        ({"backend": None}, "`backend` is missing"),
        ({"backend": "regression"}, "The backend is 'regression'"),
    ],
)
def test_a_family_without_a_regression_gets_a_message_and_no_least_squares(
    method: dict[str, Any], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(REGRESSIONS, "glm")
    given = {k: v for k, v in method.items() if v is not None}
    study_of = study if given else without_backend
    said = (
        rf"methods\[0\]\.backend.*\n  {found}, but no regression estimates family binomial on the "
        r"scale of its parameters\.\n  Allowed: jags, stan, laplace, and ols, .* another scale"
    )
    with pytest.raises(StudyError, match=said):
        study_of(tmp_path, kind="aggregation", **given)


def without_backend(folder: Path, **method: Any) -> Study:
    study(folder, backend="ols", **method)
    config = yaml.safe_load((folder / "study.yaml").read_text())
    del config["methods"][0]["backend"]
    (folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return load_study(folder / "study.yaml")
