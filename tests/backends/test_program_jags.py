"""JAGS programs: golden texts, and what they compute against NumPy and SciPy.

``RMM_UPDATE_GOLDEN=1 pytest tests/backends/test_program_jags.py`` rewrites the golden texts: read
the diff.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import tests
from rmm.backends.base import Run, Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.jags import program as jags
from rmm.backends.jags import run as engine
from rmm.backends.jags.priors import DENSITIES, EFFECT_PRECISIONS, PRECISIONS
from rmm.design.members.memberships import weight_columns
from rmm.design.prepare import Model, prepare, prepare_without_data
from rmm.errors import ConvergenceWarning, PriorError
from rmm.formula.prior_syntax import PRIOR_FAMILIES
from rmm.formula.weights.evaluate import normalise
from tests.coalitions import made_up_coalitions

GOLDEN = tests.GOLDEN / "jags"
needs_jags = pytest.mark.skipif(
    importlib.util.find_spec("pyjags") is None, reason="pyjags is not installed"
)

ESTIMATED = "mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b0 + b1*s))), c={}), RE={})"
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
    "two_blocks": (
        "y ~ 1 + mm(id(pid, gid), vars(x, fix(lead, 0.3)), fn(w ~ 1/n^exp(-b1*s)), name=party)"
        " + mm(id(pid, gid), RE=TRUE, name=plain) + hm(id=cid) + hm(id=dec)",
        "weakly_informative",
    ),
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


def run_of(model: Model, *extra: str, draws: int = 20, warmup: int = 200) -> Run:
    """A short run of a model; a coefficient outside the glm block is an error."""
    spec, forms = model.spec, model.priors.forms
    settings = Settings(
        chains=2,
        warmup=warmup,
        draws=draws,
        seed=5,
        cores=2,
        monitor=(*jags.monitored(spec, forms), *extra),
        options=jags.engine_options(spec, forms),
    )
    starts = [jags.initial(spec, forms, model.priors.data, v) for v in initial_values(model, 2, 5)]
    values = jags.data(spec, model.design, model.priors.data)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "JAGS samples", ConvergenceWarning)
        warnings.filterwarnings("ignore", ".*still adapting", ConvergenceWarning)
        return engine.run(jags.write(spec, forms), values, starts, settings, None)


# ---- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_text_is_the_golden_one(name: str, table: pd.DataFrame) -> None:
    model = model_of(name, table)
    text, path = jags.write(model.spec, model.priors.forms), GOLDEN / f"{name}.txt"
    if os.environ.get("RMM_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_text_belongs_to_a_model() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_text_does_not_depend_on_the_data(name: str, table: pd.DataFrame) -> None:
    one, other = model_of(name, table), model_of(name, made_up_like(table))
    assert jags.write(one.spec, one.priors.forms) == jags.write(other.spec, other.priors.forms)


def made_up_like(table: pd.DataFrame) -> pd.DataFrame:
    return with_ministers(made_up_coalitions(groups=60, members=12, seed=8))[list(table.columns)]


def test_user_text_cannot_leave_a_comment() -> None:
    spec, forms = prepare_without_data("y ~ 1 +\n  `z # */ model {}`\n")
    text = jags.write(spec, forms)
    head = text.split("\nmodel {")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "*/" not in text


def test_weight_variables_keep_out_of_the_way(table: pd.DataFrame) -> None:
    """Columns with the names of the program's own variables."""
    names = ["weight", "group", "first", "X_l1", "total", "center_l1"]
    data = table.assign(**{name: table["s"] ** (k + 1) for k, name in enumerate(names)})
    inner = " + ".join(f"b{k}*{name}" for k, name in enumerate(names, start=1))
    formula = f"y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ ilogit({inner})), RE=TRUE)"
    model = prepare(formula, data)
    values = jags.data(model.spec, model.design, model.priors.data)
    assert np.array_equal(values["x_weight"], model.design.members[0].inputs["x_weight"])
    assert values["group"].max() == model.design.J
    text = jags.write(model.spec, model.priors.forms)
    assert "b_w[1] * x_weight[r] + b_w[2] * x_group[r]" in text


# ---- data and initial values -----------------------------------------------------------------


def test_initial_values_are_those_of_what_is_sampled(table: pd.DataFrame) -> None:
    model = model_of("mixed_priors", table)
    values = {"alpha": 1.0, "beta_l2": np.zeros(2), "sigma_l1": 0.7, "sigma_l2": 0.5}
    assert set(jags.initial(model.spec, model.priors.forms, {}, values)) == {
        "alpha",
        "beta_l2",
        "sigma_l2",
    }
    model = model_of("fixed_weights", table)
    starts = jags.initial(model.spec, model.priors.forms, {}, {"sigma_l1": 0.5, "sigma_l2": 0.5})
    assert starts == {"tau_l1": 4.0, "sigma_l2": 0.5}


def test_parameters_held_fixed_are_data_and_not_monitored(table: pd.DataFrame) -> None:
    model = model_of("mixed_priors", table)
    values = jags.data(model.spec, model.design, model.priors.data)
    assert values["sigma_l1"] == 0.7
    assert "sigma_l1" not in jags.monitored(model.spec, model.priors.forms)


def test_a_standard_deviation_of_zero_is_refused(table: pd.DataFrame) -> None:
    model = prepare("y ~ 1 + mm(id(pid, gid), RE=TRUE)", table, priors=["sigma_l1 <- 0"])
    with pytest.raises(PriorError, match=r"JAGS cannot fix `sigma_l1` at 0.*RE=FALSE"):
        jags.data(model.spec, model.design, model.priors.data)


def test_only_normal_priors_must_be_in_the_block(table: pd.DataFrame) -> None:
    model = model_of("mixed_priors", table)
    nodes = jags.engine_options(model.spec, model.priors.forms)["require_block"]
    assert nodes == ("alpha", "beta_l2[2]", "u_l1")


PRODUCT = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ {}, c={}), RE=FALSE)"
BECAUSE = (
    r"JAGS samples b_l1 outside its glm block.* contains the product b_w\*b_l1\. The block can "
    r"contain only one factor .*, here b_w\. .* weights are estimated without a constraint"
)


@needs_jags
@pytest.mark.parametrize("weights", ["b1*s", "1/n + b1*s"])
def test_a_product_that_keeps_coefficients_out_of_the_block_is_named(
    weights: str, table: pd.DataFrame
) -> None:
    """All priors are normal: JAGS gives the block to `b_w`, in which the predictor is linear."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the data know of such weights
        model = prepare(PRODUCT.format(weights, "FALSE"), table)
    with pytest.raises(ConvergenceWarning, match=BECAUSE) as caught:
        run_of(model)
    assert "normal priors" not in str(caught.value)


@needs_jags
@pytest.mark.parametrize(
    ("constraint", "priors"),
    [("TRUE", {}), ("2", {}), ("FALSE", {"b_w": "student_t(4, 0, 1)"})],
)
def test_other_weights_leave_the_block_to_the_coefficients(
    constraint: str, priors: dict[str, str], table: pd.DataFrame
) -> None:
    model = prepare(PRODUCT.format("1/n + b1*s", constraint), table, priors=priors)
    samplers = run_of(model).engine["samplers"]
    assert samplers["glm::Generic"] == 2  # alpha, b_l1
    assert not any("Conjugate" in name for name in samplers)


# ---- what the programs compute ---------------------------------------------------------------


@needs_jags
@pytest.mark.parametrize("name", MODELS)
def test_programs_run_with_everything_linear_in_a_block(name: str, table: pd.DataFrame) -> None:
    model = model_of(name, table)
    run = run_of(model)
    coords = model.design.coords
    for parameter in model.spec.parameters:
        if parameter.name in run.draws:
            sizes = tuple(len(coords[d]) for d in parameter.dims)
            assert run.draws[parameter.name].shape == (2, 20, *sizes)
    # No data is sent that the program does not read.
    assert not [m for m in run.engine["messages"] if "not used" in m]


@needs_jags
@pytest.mark.parametrize("name", MODELS)
def test_linear_predictor_is_that_of_the_contract(name: str, table: pd.DataFrame) -> None:
    """eta from reported parameters and raw data, without centring, against the program's."""
    model = model_of(name, table)
    spec, design = model.spec, model.design
    weights = [f"w{p.suffix}" for p in spec.members if p.estimated]
    run = run_of(model, "eta", *weights)
    draws = {k: v.reshape(-1, *v.shape[2:]) for k, v in run.draws.items()}
    eta = np.zeros_like(draws["eta"])
    if spec.intercept:
        eta += draws["b_l2"][:, [0]]
    if spec.terms:
        eta += draws["b_l2"][:, int(spec.intercept) :] @ (design.X_l2 + design.center_l2).T
    if design.offset is not None:
        eta += design.offset
    for part, member in zip(spec.members, design.members, strict=True):
        w = (
            np.tile(member.weight, (len(eta), 1))
            if not part.estimated
            else draws_of_w(part, model, draws[part.b_w])
        )
        if part.estimated:
            assert np.allclose(draws[f"w{part.suffix}"][:, : w.shape[1]], w, rtol=1e-9)
        rows = np.zeros_like(w)
        if part.random:
            rows += draws[part.u][:, member.effect]
        if member.slopes is not None:
            for k, x in enumerate(member.slopes.values.T):
                rows += draws[part.u_slope][:, member.member, k] * x
        columns = len(member.center)
        if member.features:
            share = w / np.add.reduceat(w, member.start[:-1], axis=1)[:, member.group]
            for k, feature in enumerate(member.features, start=columns):
                number = None
                if feature.term in part.parametric_features:
                    number = draws[part.b_f][:, [part.parametric_features.index(feature.term)]]
                eta += draws[part.b][:, [k]] * feature.values(share, number)
        if part.columns and part.estimated:
            rows += draws[part.b][:, :columns] @ (member.X + member.center).T
        if member.offset is not None:
            rows += member.offset
        np.add.at(eta.T, member.group, (w * rows).T)
        if part.columns and not part.estimated:
            eta += draws[part.b][:, :columns] @ (member.X + member.center).T
    for nest, nesting in zip(spec.nestings, design.nestings, strict=True):
        if nest.random:
            eta += draws[nest.u][:, nesting.unit]
        if nest.covariates:
            eta += draws[nest.b] @ (nesting.X + nesting.center).T
    assert np.allclose(draws["eta"], eta, rtol=1e-8, atol=1e-8)


def draws_of_w(part: Any, model: Model, b_w: np.ndarray) -> np.ndarray:
    units = model.grouped.members[model.spec.members.index(part)]
    parameters = {name: b_w[:, [k]] for k, name in enumerate(part.weight.parameters)}
    columns = weight_columns(part, model.grouped, units)
    raw = part.weight.raw(columns, units.segments, parameters)
    return np.asarray(normalise(raw, part.weight.constraint, units.segments))


# ---- priors ----------------------------------------------------------------------------------

HYPER = {
    "normal": {"location": 1.5, "scale": 0.5},
    "student_t": {"df": 4.0, "location": -1.0, "scale": 2.0},
    "half_normal": {"scale": 1.5},
    "half_t": {"df": 5.0, "scale": 0.8},
    "half_cauchy": {"scale": 0.6},
    "exponential": {"rate": 2.0},
    "gamma": {"shape": 2.5, "rate": 1.5},
    "uniform": {"lower": -1.0, "upper": 3.0},
    "precision_gamma": {"shape": 3.0, "rate": 0.5},
    "lkj": {"eta": 2.5},
    "beta": {"alpha": 2.0, "beta": 3.5},
}
SCIPY: dict[str, Any] = {
    "normal": stats.norm(1.5, 0.5),
    "student_t": stats.t(4, -1, 2),
    "half_normal": stats.halfnorm(scale=1.5),
    "half_t": stats.t(5, 0, 0.8),
    "half_cauchy": stats.halfcauchy(scale=0.6),
    "exponential": stats.expon(scale=0.5),
    "gamma": stats.gamma(2.5, scale=1 / 1.5),
    "uniform": stats.uniform(-1, 4),
    "precision_gamma": stats.invgamma(3, scale=0.5),
    "beta": stats.beta(2.0, 3.5),
    "lkj": stats.beta(2.5, 2.5),  # of (1 + partial correlation) / 2
}


def probabilities(family: str, values: np.ndarray) -> np.ndarray:
    """Distribution function at the draws, uniform on (0, 1) if the density is right."""
    if family == "half_t":
        return 2 * SCIPY[family].cdf(values) - 1
    return SCIPY[family].cdf(values**2 if family == "precision_gamma" else values)


def test_every_prior_has_a_row() -> None:
    assert set(DENSITIES) | set(PRECISIONS) == set(PRIOR_FAMILIES) - {"fixed"}


@needs_jags
@pytest.mark.parametrize("family", DENSITIES)
def test_densities_are_what_they_are_called(family: str) -> None:
    text = DENSITIES[family].format(**HYPER[family])
    run = engine.run(
        f"model {{ x ~ {text} }}",
        {},
        [{}],
        Settings(chains=1, warmup=50, draws=4000, monitor=("x",), seed=2),
        None,
    )
    found = probabilities(family, run.draws["x"].ravel())
    assert stats.kstest(found, "uniform").pvalue > 1e-4


@needs_jags
@pytest.mark.parametrize("family", EFFECT_PRECISIONS)
def test_precisions_give_the_standard_deviations_their_prior(family: str) -> None:
    """Effects without any information: sigma's posterior is its prior."""
    text = EFFECT_PRECISIONS[family].format(**HYPER[family])
    program = f"""model {{
      for (j in 1:8) {{ y[j] ~ dnorm(a + u[g[j]], 1.0E-9) }}
      for (i in 1:4) {{ u[i] ~ dnorm(0, tau) }}
      a ~ dnorm(0, 1)
      tau ~ {text}
      sigma <- pow(tau, -0.5)
    }}"""
    settings = Settings(chains=2, warmup=1000, draws=1000, thin=40, monitor=("sigma",), seed=6)
    data = {"y": np.zeros(8), "g": np.arange(8) % 4 + 1}
    run = engine.run(program, data, [{}] * 2, settings, None)
    found = probabilities(family, run.draws["sigma"].ravel())
    assert stats.kstest(found, "uniform").pvalue > 1e-4
