"""Restricted maximum likelihood with known weights: lme4's model, against lme4 and others."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse, stats

from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.manage.check_models import check_models
from rmm.study.methods.fit_task import fit_task
from rmm.study.methods.frequentist import restricted_likelihood
from rmm.study.methods.frequentist.restricted_likelihood import restricted_maximum
from rmm.study.run.replicate import make_task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Data:
    """Groups with two or three members each, in nations."""

    y: Array
    X: Array
    members: Array
    nations: Array
    memberships: pd.DataFrame


def crossed(seed: int = 1, groups: int = 80, members: int = 25, nations: int = 8) -> Data:
    rng = np.random.default_rng(seed)
    W, rows = np.zeros((groups, members)), []
    nation = rng.integers(0, nations, groups)
    for g in range(groups):
        own = rng.choice(members, 2 + g % 2, replace=False)
        W[g, own] = 1 / len(own)
        rows += [{"group": g, "member": int(m), "weight": 1 / len(own)} for m in own]
    H = np.eye(nations)[nation]
    x, z = W @ rng.normal(size=members), rng.normal(size=groups)
    y = 1 + 0.5 * x + W @ rng.normal(size=members) + 0.7 * H @ rng.normal(size=nations)
    y += rng.normal(size=groups)
    frame = pd.DataFrame(rows)
    for name, values in {"x": x, "z": z, "y": y, "nation": nation}.items():
        frame[name] = values[frame["group"]]
    return Data(y, np.column_stack([np.ones(groups), x, z]), W, H, frame)


def fitted(data: Data) -> restricted_likelihood.Restricted:
    return restricted_maximum(data.y, data.X, [data.members, data.nations])


def test_crossed_effects_with_weights_are_those_of_statsmodels() -> None:
    """`MixedLM` takes any matrices of random effects, as one group; its optimum is less exact."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    data = crossed()
    named = [[[f"{k}" for k in range(Z.shape[1])]] for Z in (data.members, data.nations)]
    spec = VCSpec(["members", "nations"], named, [[data.members], [data.nations]])
    other = MixedLM(data.y, data.X, groups=np.ones(len(data.y)), exog_vc=spec).fit(reml=True)
    found = fitted(data)
    assert found.criterion == pytest.approx(-2 * other.llf, abs=1e-6)
    np.testing.assert_allclose(found.b, other.fe_params, rtol=1e-4)
    np.testing.assert_allclose(found.sigmas, np.sqrt(other.vcomp), rtol=1e-3)
    assert found.residual == pytest.approx(np.sqrt(other.scale), rel=1e-3)


def test_nested_groups_are_the_random_intercepts_of_statsmodels() -> None:
    """Each group has one member: the usual model with a random intercept."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    rng = np.random.default_rng(3)
    unit = np.repeat(np.arange(15), 6)
    x = rng.normal(size=90)
    y = 2 - x + rng.normal(size=15)[unit] + rng.normal(size=90)
    X = np.column_stack([np.ones(90), x])
    found = restricted_maximum(y, X, [sparse.csc_array(np.eye(15)[unit])])
    other = MixedLM(y, X, groups=unit).fit(reml=True)
    np.testing.assert_allclose(found.b, other.fe_params, rtol=1e-4)
    assert found.sigmas[0] == pytest.approx(float(np.sqrt(other.cov_re[0, 0])), rel=1e-3)
    assert found.criterion == pytest.approx(-2 * other.llf, abs=1e-6)


def test_balanced_design_has_the_estimates_of_the_analysis_of_variance() -> None:
    """One-way, m of each unit: sigma^2 = MSW, sigma_u^2 = (MSB - MSW) / m, Var(b) = MSB / N."""
    rng = np.random.default_rng(8)
    units, m = 12, 5
    y = (2 * rng.normal(size=(units, 1)) + rng.normal(size=(units, m))).ravel()
    table = y.reshape(units, m)
    msb = m * np.var(table.mean(axis=1), ddof=1)
    msw = np.sum((table - table.mean(axis=1, keepdims=True)) ** 2) / (units * (m - 1))
    Z = sparse.csc_array(np.kron(np.eye(units), np.ones((m, 1))))
    found = restricted_maximum(y, np.ones((len(y), 1)), [Z])
    assert found.residual**2 == pytest.approx(msw, rel=1e-6)
    assert found.sigmas[0] ** 2 == pytest.approx((msb - msw) / m, rel=1e-6)
    assert found.covariance[0, 0] == pytest.approx(msb / len(y), rel=1e-6)
    shrunk = (table.mean(axis=1) - y.mean()) * (1 - msw / msb)
    np.testing.assert_allclose(found.effects[0], shrunk, rtol=1e-5)


def test_without_variance_between_members_it_is_least_squares() -> None:
    """The outcome has less variance between units than within: the estimate is at its bound."""
    rng = np.random.default_rng(2)
    unit = np.repeat(np.arange(10), 4)
    y = rng.normal(size=40)
    y -= np.array([y[unit == u].mean() for u in range(10)])[unit]
    X = np.column_stack([np.ones(40), rng.normal(size=40)])
    found = restricted_maximum(y, X, [sparse.csc_array(np.eye(10)[unit])])
    b = np.linalg.lstsq(X, y, rcond=None)[0]
    assert found.sigmas[0] < 1e-3
    np.testing.assert_allclose(found.b, b, atol=1e-6)
    rss = np.sum((y - X @ b) ** 2)
    np.testing.assert_allclose(found.covariance, rss / 38 * np.linalg.inv(X.T @ X), rtol=1e-4)


def test_sparse_and_dense_factors_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = crossed(seed=4)
    dense = fitted(data)
    monkeypatch.setattr(restricted_likelihood, "_DENSE", 0)
    thin = fitted(data)
    np.testing.assert_allclose(thin.b, dense.b, rtol=1e-7)
    np.testing.assert_allclose(thin.sigmas, dense.sigmas, rtol=1e-6)
    np.testing.assert_allclose(thin.effects[0], dense.effects[0], rtol=1e-6, atol=1e-9)


def test_an_outcome_without_residuals_is_an_error() -> None:
    data = crossed()
    with pytest.raises(ValueError, match="the residual variance is 0"):
        restricted_maximum(data.members @ np.arange(25.0), data.X, [data.members])
    with pytest.raises(ValueError, match="3 groups for 3 coefficients"):
        restricted_maximum(data.y[:3], data.X[:3], [data.members[:3]])


R = """
suppressPackageStartupMessages(library(lme4))
d <- read.csv("data.csv")
first <- !duplicated(d$group)
G <- sum(first); K <- max(d$member) + 1
table <- data.frame(y = d$y[first], x = d$x[first], z = d$z[first],
                    nation = factor(d$nation[first]),
                    member = factor(rep_len(seq_len(K), G), seq_len(K)))
m <- lFormula(y ~ 1 + x + z + (1 | member) + (1 | nation), table, REML = TRUE,
              control = lmerControl(optCtrl = list(xtol_abs = 1e-10, ftol_abs = 1e-12)))
at <- which(names(m$reTrms$cnms) == "member")
rows <- list(member = K, nation = nlevels(table$nation))[names(m$reTrms$cnms)]
W <- sparseMatrix(i = d$member + 1, j = match(d$group, d$group[first]), x = d$weight,
                  dims = c(K, G))
N <- as(table$nation, "sparseMatrix")
m$reTrms$Zt <- do.call(rbind, list(member = W, nation = N)[names(m$reTrms$cnms)])
f <- do.call(mkLmerDevfun, m)
o <- optimizeLmer(f)
r <- mkMerMod(environment(f), o, m$reTrms, m$fr)
v <- as.data.frame(VarCorr(r))
cat(paste(c(fixef(r), sqrt(diag(as.matrix(vcov(r)))),
            v$sdcor[match(c("member", "nation", "Residual"), v$grp)], REMLcrit(r)), collapse = " "))
"""


def test_estimates_are_those_of_lme4(tmp_path: Path) -> None:
    """Coefficients, standard errors, standard deviations and criterion, members and nations."""
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed (Debian: r-base-core)")
    check = ["Rscript", "-e", "suppressPackageStartupMessages(library(lme4))"]
    if subprocess.run(check, capture_output=True, check=False).returncode:
        pytest.skip("R has no package lme4 (Debian: r-cran-lme4)")
    data = crossed(seed=6)
    data.memberships.to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "fit.R").write_text(R)
    command = ["Rscript", "fit.R"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = np.array([float(v) for v in done.stdout.split()])
    found = fitted(data)
    errors = np.sqrt(np.diag(found.covariance))
    ours = np.array([*found.b, *errors, *found.sigmas, found.residual, found.criterion])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


# -- as a method of studies ------------------------------------------------------------------


def study(folder: Path, *methods: dict[str, Any], **config: Any) -> Study:
    whole = {
        "seed": 17,
        "replications": 3,
        "membership": {
            "kind": "synthetic",
            "groups": 60,
            "members": 20,
            "size": {"distribution": "uniform", "low": 2, "high": 4},
            "units": 6,
            "within": False,
        },
        "covariates": {
            "x": {"level": "member"},
            "z": {"level": "group"},
            "nation": {"level": "nesting"},
        },
        "truth": {
            "formula": "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)"
            ' + hm(id = nesting, type = "RE", vars = vars(nation))',
            "parameters": {
                "b_l2[Intercept]": 1,
                "b_l2[z]": 0.5,
                "b_l1[x]": 1,
                "b_l3[nation]": 0.2,
                "sigma_l1": 1,
                "sigma_l2": 1,
                "sigma_l3": 0.5,
            },
        },
        "methods": list(methods) or [{"name": "one", "kind": "mm", "backend": "reml"}],
        **config,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return load_study(path)


def rows_of(found: Study, method: str = "one") -> dict[str, dict[str, Any]]:
    outcome = fit_task(make_task(found, found.scenarios[0], found.method(method), 1))
    assert outcome.status == "ok", outcome.message
    return {row["parameter"]: dict(row) for row in outcome.estimates}


def test_rows_are_those_of_the_model_by_hand(tmp_path: Path) -> None:
    """Matrices made with pandas; degrees of freedom: units of each level less 5 coefficients."""
    found = study(tmp_path)
    rows = rows_of(found)
    frame = make_task(found, found.scenarios[0], found.methods[0], 1).drawn.frame()
    groups = frame.groupby("group")
    first = groups.first()
    weight = 1 / groups["member"].transform("size")
    W = frame.assign(w=weight).pivot_table(index="group", columns="member", values="w")
    H = pd.get_dummies(first["nesting"]).astype(float)
    X = np.column_stack([np.ones(60), first["z"], groups["x"].mean(), first["nation"]])
    wanted = restricted_maximum(
        first["y"].to_numpy(), X, [np.nan_to_num(W.to_numpy()), H.to_numpy()]
    )
    names = ["b_l2[Intercept]", "b_l2[z]", "b_l1[x]", "b_l3[nation]"]
    units = [60, 60, W.shape[1], 6]
    for k, name in enumerate(names):
        row, error = rows[name], float(np.sqrt(wanted.covariance[k, k]))
        assert (row["mean"], row["sd"]) == pytest.approx((wanted.b[k], error), rel=1e-6)
        df = units[k] - len(names)
        assert row["df"] == df
        t = wanted.b[k] / error
        assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-4)
        assert row["upper"] == pytest.approx(wanted.b[k] + stats.t.ppf(0.975, df) * error, rel=1e-5)
    sigmas = {"sigma_l1": wanted.sigmas[0], "sigma_l3": wanted.sigmas[1]}
    for name, value in {**sigmas, "sigma_l2": wanted.residual}.items():
        assert rows[name]["mean"] == pytest.approx(value, rel=1e-5)
        assert "sd" not in rows[name]


def test_normal_tests_and_points_of_estimands(tmp_path: Path) -> None:
    """Shares and effects at the estimates: the marginal effect of x is its coefficient here."""
    estimands = [
        {"parameter": "b_l1[x]"},
        {"parameter": "sigma_l1^2"},
        {"estimand": "marginal_effect", "variable": "x"},
        {"estimand": "variance_share", "component": "residual"},
        {"estimand": "rank", "member": 3},
    ]
    one = {"name": "one", "kind": "mm", "backend": "reml", "tests": "z"}
    rows = rows_of(study(tmp_path, one, estimands=estimands))
    x = rows["b_l1[x]"]
    assert x["df"] == np.inf
    assert x["p_value"] == pytest.approx(2 * stats.norm.sf(abs(x["mean"] / x["sd"])), rel=1e-6)
    assert rows["marginal_effect[variable=x]"]["mean"] == pytest.approx(x["mean"], rel=1e-6)
    assert rows["sigma_l1^2"]["mean"] == pytest.approx(rows["sigma_l1"]["mean"] ** 2)
    frame = make_task(load_study(tmp_path / "study.yaml"), *_first(tmp_path)).drawn.frame()
    squares = (1 / frame.groupby("group")["member"].size()).mean()  # mean over groups of sum w^2
    parts = [rows[f"sigma_l{k}"]["mean"] ** 2 for k in (1, 2, 3)]
    share = parts[1] / (parts[0] * squares + parts[1] + parts[2])
    assert rows["variance_share[component=residual]"]["mean"] == pytest.approx(share, rel=1e-6)
    assert 1 <= rows["rank[member=3]"]["mean"] <= 20


def _first(folder: Path) -> tuple[Any, Any, int]:
    found = load_study(folder / "study.yaml")
    return found.scenarios[0], found.methods[0], 1


@pytest.mark.parametrize(
    ("method", "config", "said"),
    [
        ({"weights": "w ~ 1/n, c = FALSE"}, {}, None),
        ({"formula": "y ~ 1 + mm(id(member, group), vars = vars(x), fn = fn(w ~ 1/n, c = TRUE), "
                     "RE = re(1 + x))"}, {}, None),
        ({"formula": "y ~ 1 + mm(id(member, group), vars = vars(x), fn = fn(w ~ 1/n), RE = TRUE, "
                     "cor = p) + mm(id(member, group), fn = fn(w ~ x, c = FALSE), cor = p)"}, {},
         r"Correlated effects of several mm\(\) terms \(cor =\) cannot be used"),
        ({"tests": "normal"}, {}, r"methods\[0\]\.tests\n.*Allowed: t, z"),
        ({"errors": "robust"}, {}, r"errors\n.*`errors` cannot be used with backend reml"),
        ({"sampler": {"chains": 2}}, {}, r"sampler\n.*cannot be used with backend reml"),
        ({"backend": "laplace", "tests": "z"}, {}, r"tests\n.*\n.*can have `tests`: reml"),
        ({"kind": "mmmm"}, {}, r"'reml' is not a backend of methods of kind mmmm"),
        ({"formula": "y ~ 1 + mm(id(member, group), vars = vars(x), fn = fn(w ~ 1/n^b1), "
                     "RE = TRUE)"}, {}, r"Weights with parameters cannot be used"),
        ({"formula": "y ~ 1 + mm(id(member, group), vars = vars(x), fn = fn(w ~ 1/n), "
                     "RE = TRUE, ar = TRUE)"}, {}, r"Random walks .* cannot be used"),
        ({"formula": "y ~ 1 + mm(id(member, group), vars = vars(x), fn = fn(w ~ 1/n), "
                     "RE = TRUE, ar = ar1())"}, {}, r"AR\(1\) processes .* cannot be used"),
    ],
)  # fmt: skip
def test_what_a_study_file_can_say(
    method: dict[str, Any], config: dict[str, Any], said: str | None, tmp_path: Path
) -> None:
    one = {"name": "one", "kind": "mm", "backend": "reml", **method}
    if said is None:
        found = study(tmp_path, one, **config)
        check_models(found)
        rows = rows_of(found)
        assert rows["b_l1[x]"]["sd"] > 0
        assert ("sigma_slope_l1[x]" in rows) == ("formula" in method)
        return
    with pytest.raises(StudyError, match=said):
        study(tmp_path, one, **config)


def test_other_families_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"Backend reml cannot be used with family binomial"):
        study(
            tmp_path,
            truth={
                "formula": "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = TRUE)",
                "family": "binomial",
                "parameters": {"b_l2[Intercept]": 0, "b_l1[x]": 0, "sigma_l1": 1},
            },
        )


def test_too_few_members_for_a_t_test_are_a_failed_fit(tmp_path: Path) -> None:
    membership = {"kind": "synthetic", "groups": 30, "members": 4, "size": 2, "units": 5,
                  "within": False}  # fmt: skip
    found = study(tmp_path, membership=membership)
    outcome = fit_task(make_task(found, found.scenarios[0], found.methods[0], 1))
    assert outcome.status == "failed"
    assert "b_l1[x] has no degrees of freedom: 0" in outcome.message
