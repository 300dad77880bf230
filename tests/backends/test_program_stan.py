"""Stan programs: golden texts, Stan's own compiler, and the log density against SciPy.

``RMM_UPDATE_GOLDEN=1 pytest tests/backends/test_program_stan.py`` rewrites the golden texts: read
the diff.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import tests
from rmm.backends.base import Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.stan.compile import check_syntax, program_key
from rmm.backends.stan.install import installed_cmdstan, wheel
from rmm.backends.stan.program import priors as stan_priors
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.backends.stan.run import available, run
from rmm.design.prepare import Model, prepare, prepare_without_data
from rmm.formula.prior_syntax import PRIOR_FAMILIES
from tests.coalitions import made_up_coalitions
from tests.family_cases import by_raw, check_names, half_normal_by_raw

GOLDEN = tests.GOLDEN / "stan"
needs_stanc = pytest.mark.skipif(
    wheel() is None and installed_cmdstan() is None, reason="Stan is not installed"
)
needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")

ESTIMATED = "mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b0 + b1*s))), c={}), RE={})"
EVERYTHING = (
    "y ~ 1 + z + fix(x1, 0.4)"
    " + mm(id(pid, gid), vars(x, fix(lead, 0.3)), fn(w ~ 1/n^exp(-(b0 + b1*s)), c={}), RE=TRUE,"
    " name=party) + mm(id(pid, gid), vars(lead), RE=TRUE, name=plain) + hm(id=cid)"
)
EVERY_PRIOR = {
    "b_l2[z]": "student_t(4, 0, 1)",
    "b_w_party[b0]": "uniform(-1, 2)",
    "b_w_party[b1]": "normal(0.5, 1)",
    "b_l1_party": "student_t(5, 0, 2)",
    "sigma_l1_party": "half_t(4, 1)",
    "sigma_l1_plain": "exponential(2)",
    "sigma_l3": "gamma(2, 3)",
}
# File -> formula, priors.
MODELS: dict[str, tuple[str, Any]] = {
    "regression": ("y ~ 1 + z", "weakly_informative"),
    "intercept_only": ("y ~ 1", "rmm"),
    "no_intercept": ("y ~ 0 + z", "rmm"),
    "fixed_weights": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x, lead), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)",
        "weakly_informative",
    ),
    "covariates_alone": ("y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n, c=FALSE))", "rmm"),
    "estimated_group": (
        f"y ~ 1 + z + q + {ESTIMATED.format('TRUE', 'TRUE')} + hm(id=cid)",
        {"sigma_l1": "half_t(4, 1)"},
    ),
    "estimated_total": (f"y ~ 1 + {ESTIMATED.format('2', 'TRUE')}", "weakly_informative"),
    "estimated_none": (f"y ~ 1 + {ESTIMATED.format('FALSE', 'FALSE')}", "weakly_informative"),
    "fixed_effects": ("y ~ 1 + z + hm(id=cid, type=FE, showFE=TRUE)", "weakly_informative"),
    "walk": ("y ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE, ar=TRUE)", "weakly_informative"),
    "walk_estimated": (
        "y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n^exp(-b1*s)), RE=TRUE, ar=year, name=party)"
        " + mm(id(mid, gid), vars(x), RE=TRUE, ar=TRUE, name=minister) + hm(id=cid)",
        ["tau.l1_party ~ dgamma(1, 0.5)"],
    ),
    "series": ("y ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE, ar=ar1(year))", "weakly_informative"),
    "series_estimated": (
        "y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n^exp(-b1*s)), RE=TRUE, ar=ar1(year), name=party)"
        " + mm(id(mid, gid), vars(x), RE=TRUE, ar=ar1(), name=minister) + hm(id=cid)",
        ["tau.l1_party ~ dgamma(1, 0.5)", "rho_l1_party ~ beta(4, 2)", "rho_l1_minister <- 0.5"],
    ),
    "slopes": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x, lead), RE=re(1 + x + lead)) + hm(id=cid)",
        "weakly_informative",
    ),
    "slopes_estimated": (
        "y ~ 1 + mm(id(mid, gid), vars(x, s), fn(w ~ 1/n^exp(-b1*s)), RE=re(0 + x + s), name=m)"
        " + mm(id(pid, gid), RE=re(1 + x), name=p)",
        ["sigma_slope_l1_m[x] ~ exponential(1)", "sigma_slope_l1_p <- 0.7"],
    ),
    "slopes_precision": (
        "y ~ 1 + mm(id(pid, gid), vars(x), RE=re(1 + x))",
        ["tau.slope.l1 ~ dgamma(2, 1)"],
    ),
    "correlated": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x, lead), RE=re(1 + x + lead, cor=TRUE)) + hm(id=cid)",
        "weakly_informative",
    ),
    "correlated_estimated": (
        "y ~ 1 + mm(id(mid, gid), vars(x, s), fn(w ~ 1/n^exp(-b1*s)), RE=re(0 + x + s, cor=TRUE),"
        " name=m) + mm(id(pid, gid), RE=re(1 + x, cor=TRUE), name=p)",
        ["sigma_slope_l1_m ~ exponential(1)", "sigma_l1_p <- 0.7", "cor_l1_m ~ lkj(1)"],
    ),
    "roles": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x), RE=TRUE, cor=party, name=every)"
        " + mm(id(mid, gid), RE=TRUE, cor=party, name=minister) + hm(id=cid)",
        "weakly_informative",
    ),
    "roles_estimated": (
        "y ~ 1 + mm(id(pid, gid), fn(w ~ lead, c=FALSE), RE=TRUE, cor=r)"
        " + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-b1*s)), RE=TRUE, cor=r)"
        " + mm(id(mid, gid), fn(w ~ exp(b1*x), c=2), RE=TRUE, cor=r)"
        " + mm(id(mid, gid), vars(s), RE=re(1 + s, cor=TRUE), name=m)",
        ["sigma_l1_1 <- 0.7", "tau.l1_2 ~ dgamma(1, 0.5)", "cor_l1_r ~ lkj(1)"],
    ),
    "related": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x), RE=TRUE, cov=A) + hm(id=cid)",
        "weakly_informative",
    ),
    "related_estimated": (
        "y ~ 1 + mm(id(mid, gid), fn(w ~ 1/n^exp(-b1*s)), RE=TRUE, cov=A, name=m)"
        " + mm(id(pid, gid), vars(x), RE=TRUE, cov=B, name=p)",
        ["sigma_l1_m <- 0.7", "tau.l1_p ~ dgamma(1, 0.5)"],
    ),
    "mixed_priors": (
        "y ~ 1 + z + q + fix(x1, 0.4) + mm(id(pid, gid), RE=TRUE)",
        ["b_l2[z] ~ student_t(4, 0, 1)", "sigma_l1 <- 0.7", "sigma_l2 ~ exponential(1)"],
    ),
    "features": (
        "y ~ 1 + mm(id(pid, gid), vars(x, variance(x), herfindahl(), entropy(), herfindahl(q1),"
        " threshold(s), threshold(x, 0.5), softmax(s), softmax(q1, 2), genmean(q1)),"
        " fn(w ~ exp(b1*s), c=2), RE=TRUE)",
        "weakly_informative",
    ),
    "features_alone": (
        "y ~ 1 + mm(id(pid, gid), vars(threshold(x), genmean(q1)), fn(w ~ exp(s)))",
        "rmm",
    ),
    "kinds": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x, fix(lead, 0.3)), fn(w ~ 1/n^exp(-b1*s)), RE=TRUE,"
        " name=p) + mm(id(mid, gid), vars(x), fn(w ~ exp(b1*s), c=2), name=m)"
        " + mm(id(mid, gid), RE=TRUE, name=q)",
        "weakly_informative",
    ),
    "everything": (EVERYTHING.format("TRUE"), EVERY_PRIOR),
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return with_ministers(made_up_coalitions())


def with_ministers(table: pd.DataFrame) -> pd.DataFrame:
    """And a second kind of members, missing in some rows and in all rows of some groups."""
    mid = table["pid"].where(table["s"] > 0)
    more = {"x1": table["z"].round(), "q1": table["x"].abs() + 0.1, "mid": mid}
    return table.assign(**more, year=table["gid"].str[1:].astype(int)).drop(columns="n")


def model_of(name: str, table: pd.DataFrame) -> Model:
    formula, priors = MODELS[name]
    if "mm(" not in formula:
        table = table.drop_duplicates("gid")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(formula, table, priors=priors, cov=matrices(formula))


def matrices(formula: str) -> dict[str, pd.DataFrame]:
    """Of the formula's names: correlations of 0.3 between all members."""
    one = pd.DataFrame(0.3 + 0.7 * np.eye(30))
    return {name: one for name in "AB" if f"cov={name}" in formula}


def text_of(model: Model) -> str:
    return stan.write(model.spec, model.priors.forms)


# ---- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_text_is_the_golden_one(name: str, table: pd.DataFrame) -> None:
    text, path = text_of(model_of(name, table)), GOLDEN / f"{name}.txt"
    if os.environ.get("RMM_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_text_belongs_to_a_model() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(MODELS)


@needs_stanc
@pytest.mark.parametrize("name", MODELS)
def test_stans_compiler_accepts_the_golden_texts(name: str) -> None:
    text = (GOLDEN / f"{name}.txt").read_text()
    check_syntax(text)
    assert "{\n}" not in text, "an empty block"
    assert max(len(x) for x in text.splitlines() if not x.lstrip().startswith("//")) <= 120


@pytest.mark.parametrize("name", MODELS)
def test_text_does_not_depend_on_the_data(name: str, table: pd.DataFrame) -> None:
    other = with_ministers(made_up_coalitions(groups=60, members=12, seed=8))
    assert text_of(model_of(name, table)) == text_of(model_of(name, other))


def test_names_of_covariates_do_not_cost_a_compilation(table: pd.DataFrame) -> None:
    one = prepare("y ~ 1 + z + mm(id(pid, gid), vars(x))", table)
    other = prepare("y ~ 1 + q + mm(id(pid, gid), vars(s))", table)
    assert text_of(one) != text_of(other)
    assert program_key(text_of(one)) == program_key(text_of(other))


@needs_stanc
def test_user_text_cannot_leave_a_comment() -> None:
    spec, forms = prepare_without_data("y ~ 1 +\n  `z \u2028 */ größe model {}`\n")
    text = stan.write(spec, forms)
    head = text.split("\nfunctions {")[0]
    assert all(line.startswith("//") for line in head.splitlines())
    check_syntax(text)


@pytest.mark.parametrize("soft", [0.02, 0.5])
@pytest.mark.parametrize("sd", [1e-12, 1e-3, 0.4, 2.0, 11.0, 60.0])
def test_unconstrained_initial_values(sd: float, soft: float) -> None:
    raw = stan_priors.raw_from_sd(sd, 2.0, soft)
    np.testing.assert_allclose(2 * np.sinh(soft * np.logaddexp(0, raw / soft)), sd, rtol=1e-9)


def test_the_sd_of_a_block_is_not_the_unconstrained_one_of_another() -> None:
    blocks = "y ~ 1 + mm(id(p, g), RE=TRUE, name=a) + mm(id(q, g), RE=TRUE, name=a_raw)"
    text = stan.write(*prepare_without_data(blocks))
    assert "real sigma_l1_a__raw;" in text
    assert "real<lower=0> sigma_l1_a_raw = sd_from_raw(sigma_l1_a_raw__raw" in text


def test_every_prior_has_its_line() -> None:
    """Correlations have a line of their own: Stan's density is that of a Cholesky factor."""
    assert set(stan_priors.PRIORS) == set(PRIOR_FAMILIES) - {"fixed", "lkj"}
    for family, hyper in stan_priors.HYPER.items():
        assert hyper == PRIOR_FAMILIES[family].hyper


# ---- data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_data_are_what_the_program_declares(name: str, table: pd.DataFrame) -> None:
    model = model_of(name, table)
    block = text_of(model).split("\ndata {\n")[1].split("\n}")[0]
    declared = {line.split(";")[0].split()[-1] for line in block.splitlines() if ";" in line}
    given = stan.data(model.spec, model.design, prior_values(model))
    assert declared == set(given)


@pytest.mark.parametrize("name", MODELS)
def test_no_weight_variable_takes_a_name_of_the_program(name: str, table: pd.DataFrame) -> None:
    model = model_of(name, table)
    check_names(model, text_of(model))


def test_fixed_parameters_are_neither_started_nor_kept(table: pd.DataFrame) -> None:
    model = model_of("mixed_priors", table)
    spec, forms = model.spec, model.priors.forms
    start = stan.initial(spec, forms, prior_values(model), initial_values(model, 1, 5)[0])
    assert set(start) == {"alpha", "beta_l2", "sigma_l2"}
    assert stan.monitored(spec, forms) == ("b_l2", "sigma_l2", "u_l1")


# ---- what the program computes ---------------------------------------------------------------


def log_density(model: Model, draw: dict[str, Any]) -> float:
    """The posterior's log density at one draw, up to a constant, on Stan's unconstrained scale.

    Written from the model's page with SciPy, apart from the program's text.
    """
    design, frame = model.design, model.grouped.frame
    party, plain = design.members
    eta = draw["alpha"] + design.X_l2 @ draw["beta_l2"] + 0.4 * design_x1(model)
    u, v = draw["u_l1_party"], draw["u_l1_plain"]
    b0, b1 = draw["b_w_party"]
    raw = 1 / party.n ** np.exp(-(b0 + b1 * frame["s"].to_numpy()))
    w = raw / np.bincount(party.group, raw)[party.group]
    lead = frame["lead"].to_numpy(dtype=float)
    effect = party.X @ draw["b_l1_party"] + 0.3 * lead + u[party.member]
    eta = eta + np.bincount(party.group, w * effect)
    eta = eta + plain.X @ draw["b_l1_plain"]
    eta = eta + np.bincount(plain.group, v[plain.member] / plain.n)
    eta = eta + draw["u_l3"][design.nestings[0].unit]
    s_party, s_plain, s3, s2 = (
        draw[k] for k in ("sigma_l1_party", "sigma_l1_plain", "sigma_l3", "sigma_l2")
    )
    hyper, sd_y = model.priors.data, np.std(design.outcome["y"], ddof=1)
    terms = [
        stats.norm.logpdf(design.outcome["y"], eta, s2).sum(),
        # Effects, and the Jacobians of their scaling, cancel to standard normals.
        stats.norm.logpdf(u / s_party).sum() + stats.norm.logpdf(v / s_plain).sum(),
        stats.norm.logpdf(draw["u_l3"] / s3).sum(),
        stats.t.logpdf(draw["beta_l2"][0], 4, 0, 1),
        stats.t.logpdf(draw["b_l1_party"], 5, 0, 2).sum(),
        stats.norm.logpdf(b1, 0.5, 1),
        np.log((b0 + 1) * (2 - b0)),  # Jacobian of the bounds -1 and 2
        by_raw(draw, "sigma_l1_party", stats.t(4, 0, 1), min(1.0, sd_y), design.J),
        half_normal_by_raw(model, draw, "sigma_l2"),
        stats.expon.logpdf(s_plain, scale=1 / 2),
        stats.gamma.logpdf(s3, 2, scale=1 / 3),
        stats.norm.logpdf(draw["alpha"], hyper["prior_alpha_location"], hyper["prior_alpha_scale"]),
        stats.norm.logpdf(draw["b_l1_plain"], 0, hyper["prior_b_l1_plain_scale"]).sum(),
        np.log([s_plain, s3]).sum(),  # Jacobians of the logs
    ]
    return float(sum(terms))


def design_x1(model: Model) -> Any:
    return model.grouped.group_frame["x1"].to_numpy()


@pytest.mark.thorough
@needs_stan
@pytest.mark.stan
def test_log_density_and_intercept(table: pd.DataFrame) -> None:
    model = model_of("everything", table)
    spec, forms = model.spec, model.priors.forms
    settings = Settings(chains=1, warmup=100, draws=25, seed=3, cores=1)
    starts = [
        stan.initial(spec, forms, prior_values(model), v) for v in initial_values(model, 1, 3)
    ]
    values = stan.data(spec, model.design, prior_values(model))
    fitted = run(text_of(model), values, starts, settings)
    draws = [{k: v[0, i] for k, v in fitted.draws.items()} for i in range(25)]
    expected = np.array([log_density(model, draw) for draw in draws])
    found = fitted.sample_stats["lp"][0]
    assert np.ptp(expected) > 5, "the draws are all alike"
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-6)
    design = model.design
    for draw in draws:
        shift = design.center_l2 @ draw["beta_l2"] + design.members[0].center @ draw["b_l1_party"]
        shift += design.members[1].center @ draw["b_l1_plain"]
        np.testing.assert_allclose(draw["b_l2"], [draw["alpha"] - shift, *draw["beta_l2"]])
