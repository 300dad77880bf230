"""The compiled kernels of the fast engine against its NumPy code, and one build against another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats
from scipy import stats

import rmm
from rmm.backends.laplace.hyperparameters import log_prior, prior_rows, to_values
from rmm.backends.laplace.kernels import library as kernel_library
from rmm.backends.laplace.kernels.integrals import CompiledIntegrals
from rmm.backends.laplace.kernels.library import NUMPY, VARIABLE, builds, chosen, load, running
from rmm.backends.laplace.kernels.weight_program import weight_program
from rmm.backends.laplace.latent_draws import WIDER, Approximation, Effort, latent_draws
from rmm.backends.laplace.latent_model import Hyperparameter
from rmm.backends.laplace.marginal_likelihood import EXACTLY, Integrand
from rmm.backends.laplace.pareto import smoothed_logs
from rmm.backends.laplace.run import available
from rmm.design.prepare import prepare
from rmm.errors import BackendError
from rmm.formula.prior_syntax import Prior
from rmm.formula.weights.weight_function import parse_weights
from tests.backends.test_laplace import FORMULAS, latent
from tests.coalitions import made_up_coalitions

OUTCOMES = {
    "gaussian": "y",
    "binomial": "leads",
    "weibull": "Surv(abs(y) + 0.1, leads)",
    "cox": "Surv(abs(y) + 0.1, leads)",
    "condlogit": "chosen",
    "poisson": "count",
    "negbinomial": "count",
    "zero_inflated_poisson": "count",
    "zero_inflated_negbinomial": "count",
    "hurdle_poisson": "count",
    "hurdle_negbinomial": "count",
    "lognormal": "exp(y)",
    "gamma": "exp(y)",
    "beta": "ilogit(y)",
    "probit": "leads",
    "cloglog": "leads",
    "ordinal": "grade",
}
#: Delayed entry, of which each half of the groups enters at 0 or late.
SPELLS = {
    "weibull": "Surv(abs(y) + 0.1, leads, entry = (abs(y) + 0.1)*late)",
    "cox": "Surv(abs(y) + 0.1, leads, entry = (abs(y) + 0.1)*late)",
}
INTERVALS = {"weibull": 'Surv(low, high, type = "interval2")'}
CASES = [
    *((name, family, OUTCOMES[family]) for name in FORMULAS for family in OUTCOMES),
    *(("estimated weights", family, outcome) for family, outcome in SPELLS.items()),
    *(("estimated weights", family, outcome) for family, outcome in INTERVALS.items()),
    *(("estimated weights", "cox by stratum", o) for o in (OUTCOMES["cox"], SPELLS["cox"])),
]

needs_kernels = pytest.mark.skipif(
    not builds(), reason="the kernels were not compiled: there was no C++ compiler"
)


def outcomes() -> pd.DataFrame:
    """60 groups with an outcome of each family."""
    table = made_up_coalitions(60, 25)
    table["leads"] = (table["gid"].str[-1] < "5").astype(int)
    table["stratum"] = table["gid"].str[1:].astype(int) // 4
    first = table.groupby("stratum")["gid"].transform("min")
    table["chosen"] = (table["gid"] == first).astype(int)
    table["count"] = (3 * table["y"].abs()).astype(int)
    number = table["gid"].str[1:].astype(int)
    table["late"] = np.where(number % 2 == 0, 0, 0.15 + 0.8 * (number % 7) / 7)
    table["grade"] = np.digitize(table["y"], [0.0, 0.8, 1.4])
    return with_intervals(table, number)


def with_intervals(table: pd.DataFrame, number: pd.Series) -> pd.DataFrame:
    """Times of events between `low` and `high`: known, censored left and right, narrow and wide."""
    time = table["y"].abs() + 0.1
    low = time * np.select([number % 5 == 1, number % 5 == 2], [0.0, 1.0], 0.7)
    high = time * np.select([number % 5 == 2, number % 5 == 3], [1.0, np.inf], 1.001 + number % 3)
    return table.assign(low=low, high=high)


def integrand(name: str, family: str, outcome: str | None = None) -> Integrand:
    """The integrals of one of the formulas of test_laplace.py for one family (`by` strata)."""
    family, _, strata = family.partition(" by ")
    formula = FORMULAS[name].replace("y ~", f"{outcome or OUTCOMES[family]} ~")
    if family in ("cox", "condlogit", "ordinal"):
        formula = formula.replace("~ 1 +", "~")
    if family == "condlogit" or strata:
        formula += " + strata(stratum)"
    return Integrand(latent(prepare(formula, outcomes(), family)))


def points(model: Integrand, count: int = 11) -> np.ndarray[Any, Any]:
    """Places of the hyperparameters on the real line."""
    rng = np.random.default_rng(1)
    return np.abs(rng.normal(0.3, 0.3, (count, len(model.model.hyper))))


def test_there_are_kernels_where_a_compiler_is() -> None:
    """CI has one: without kernels the tests below would all be skipped."""
    import os
    import shutil

    if not os.environ.get("CI") or not shutil.which("g++"):
        pytest.skip("only where a compiler is sure to be there")
    assert "base" in builds()


@needs_kernels
@pytest.mark.parametrize(("name", "family", "outcome"), CASES)
def test_integrals_are_those_of_numpy_whatever_the_build(
    name: str, family: str, outcome: str
) -> None:
    """Values within 1e-9, modes within 1e-8; all builds give the same bits."""
    model = integrand(name, family, outcome)
    theta = points(model)
    values = to_values(theta, model.model.hyper)
    with np.errstate(all="ignore"):
        known = model.inner(values, len(theta), None, EXACTLY)
    found = [
        CompiledIntegrals(model, load(build)).integrals(theta, None, EXACTLY) for build in builds()
    ]
    assert np.isfinite(known.value).all()
    np.testing.assert_allclose(found[0].value, known.value, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[0].mode, known.mode, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found[0].scale, known.scale, rtol=1e-14)
    np.testing.assert_allclose(found[0].prior, log_prior(theta, model.model.hyper), atol=1e-12)
    for other in found[1:]:
        np.testing.assert_array_equal(other.value, found[0].value)
        np.testing.assert_array_equal(other.mode, found[0].mode)


def many_effects(family: str, outcome: str | None = None) -> Integrand:
    """200 groups in 20 countries, each with 8 members of its own: factors are sparse."""
    rng = np.random.default_rng(7)
    rows = []
    for group in range(200):
        country = group % 20
        for member in rng.choice(8, int(rng.integers(2, 5)), replace=False):
            rows.append((group, country, 8 * country + member, group // 4))
    table = pd.DataFrame(rows, columns=["gid", "cid", "pid", "stratum"])
    table["x"], table["s"] = rng.normal(size=(2, len(table)))
    y, leads = rng.normal(size=200), rng.random(200) < 0.7
    table["y"], table["leads"] = y[table["gid"]], leads[table["gid"]].astype(int)
    table["count"] = (3 * table["y"].abs()).astype(int)
    table["grade"] = np.digitize(table["y"], [-1.0, 0.0, 1.4])
    table["chosen"] = (table["gid"] % 4 == 0).astype(int)
    table["late"] = np.where(table["gid"] % 2 == 0, 0, 0.15 + 0.8 * (table["gid"] % 7) / 7)
    rest = "strata(stratum)" if family == "condlogit" else "hm(id = cid)"
    weights = "fn(w ~ 1/(1 + (n-1)*exp(-(b1*s))))"
    table = with_intervals(table, table["gid"])
    n = table.groupby("gid")["pid"].transform("size")
    left = outcome or OUTCOMES[family]
    formula = f"{left} ~ mm(id(pid, gid), vars(x), {weights}, RE = TRUE) + {rest}"
    return Integrand(latent(prepare(formula, table.assign(n=n), family)))


@needs_kernels
@pytest.mark.parametrize(
    ("family", "outcome"),
    [
        *((f, OUTCOMES[f]) for f in OUTCOMES if f != "condlogit"),
        *SPELLS.items(),
        *INTERVALS.items(),
    ],
)
def test_sparse_factors_give_the_integrals_of_numpy(family: str, outcome: str) -> None:
    """Those of cox with the merged steps of the baseline beside the factor."""
    model = many_effects(family, outcome)
    theta = points(model)
    with np.errstate(all="ignore"):
        known = model.inner(to_values(theta, model.model.hyper), len(theta), None, EXACTLY)
    for build in builds():
        compiled = CompiledIntegrals(model, load(build))
        assert not compiled.model.pattern.dense
        found = compiled.integrals(theta, None, EXACTLY)
        np.testing.assert_allclose(found.value, known.value, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.mode, known.mode, rtol=0, atol=1e-8)
        if build == next(iter(builds())):
            first = found
        np.testing.assert_array_equal(found.value, first.value)


@needs_kernels
def test_draws_beside_a_sparse_factor_have_the_density_that_is_said() -> None:
    """Weights of cox are log p(y, z | theta) - log q(z | theta), q by NumPy's dense factor."""
    model = many_effects("cox")
    theta = points(model)
    values = to_values(theta, model.model.hyper)
    compiled = CompiledIntegrals(model, load(next(iter(builds()))))
    z, weight = compiled.draws(theta, None, EXACTLY, np.random.default_rng(5), Effort(4, 0))
    with np.errstate(all="ignore"):
        inner = model.inner(values, len(theta), None, EXACTLY)
        affine = model.affine(values, len(theta))
    wider = 1 + np.sqrt(WIDER / model.size)
    q = Approximation(model, values, affine, inner, inner.mode, wider)
    moved = (z - inner.mode[:, None]) / wider
    known = q.ratio(moved, q.joint(moved)) + log_prior(theta, model.model.hyper)[:, None]
    np.testing.assert_allclose(weight, known, rtol=0, atol=1e-6)


class Given:
    """Stands for a generator: the arrays that it will give, in turn."""

    def __init__(self, *arrays: np.ndarray[Any, Any]) -> None:
        self.arrays = list(arrays)

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        found = self.arrays.pop(0)
        assert found.shape == tuple(shape)
        return found


@needs_kernels
@pytest.mark.parametrize("name", ["estimated weights", "known weights", "nesting"])
def test_effects_of_one_group_are_drawn_as_by_numpy(name: str) -> None:
    """The same draws of the same normal numbers: one for each effect, one for each such group."""
    table = made_up_coalitions(60, 25)
    again = table["gid"].str[1:].astype(int) % 5 == 0  # whose first two members meet nobody else
    alone = again & (table.groupby("gid").cumcount() < 2)
    table.loc[alone, "pid"] = 100 + np.arange(int(alone.sum()))
    model = Integrand(latent(prepare(FORMULAS[name], table)))
    private = model.private
    theta, M = points(model, 11), 4
    rng = np.random.default_rng(6)
    rows = np.unique(private.row)
    assert len(rows) < len(private)
    z = rng.normal(size=(len(theta), M, model.size))
    noise = rng.normal(size=(len(theta), M, len(private) + len(rows)))
    values = to_values(theta, model.model.hyper)
    affine = model.affine(values, len(theta))
    known = []
    for m in range(M):
        error = np.zeros((len(theta), model.model.groups))
        error[:, rows] = noise[:, m, len(private) :]
        given = Given(noise[:, m, : len(private)], error)
        known.append(model.private_draws(values, affine, z[:, m], given))
    for build in builds():
        compiled = CompiledIntegrals(model, load(build))
        found = compiled.private_draws(theta, z, Given(noise))
        np.testing.assert_allclose(found, np.stack(known, axis=1), rtol=0, atol=1e-11)


@needs_kernels
def test_steps_beside_a_sparse_factor_estimate_the_same_integral() -> None:
    """log of the mean weight of cox, plain and in steps: |z| below 4.5 (false alarm rate 7e-6)."""
    model = many_effects("cox")
    theta = np.tile(points(model, 1), (400, 1))
    compiled = CompiledIntegrals(model, load(next(iter(builds()))))
    logs = [
        compiled.draws(theta, None, EXACTLY, np.random.default_rng(5), effort)[1]
        for effort in (Effort(4, 0), Effort(2, 1, 6))
    ]
    means = [np.exp(found - logs[0].max()).mean(axis=1) for found in logs]
    error = np.sqrt(sum(m.var(ddof=1) / len(m) for m in means))
    assert abs(means[0].mean() - means[1].mean()) < 4.5 * error


@needs_kernels
@pytest.mark.parametrize("family", list(OUTCOMES))
def test_a_value_does_not_depend_on_its_neighbours(family: str) -> None:
    model = integrand("estimated weights", family)
    theta = points(model)
    compiled = CompiledIntegrals(model, load(next(iter(builds()))))
    together = compiled.integrals(theta, None, EXACTLY)
    for s in (0, 3, 10):
        alone = compiled.integrals(theta[[s]], None, EXACTLY)
        np.testing.assert_array_equal(alone.value, together.value[[s]])
        np.testing.assert_array_equal(alone.mode, together.mode[[s]])


@needs_kernels
def test_draws_without_a_partner_are_refused() -> None:
    """Draws share noise in pairs: the kernels would read beyond the noise of an odd number."""
    model = integrand("estimated weights", "binomial")
    compiled = CompiledIntegrals(model, load(next(iter(builds()))))
    with pytest.raises(ValueError, match="come in pairs; 3 is an odd number"):
        compiled.draws(points(model, 1), None, EXACTLY, np.random.default_rng(2), Effort(3, 0))


@needs_kernels
@pytest.mark.parametrize("family", list(OUTCOMES))
@pytest.mark.parametrize("effort", [Effort(2, 0), Effort(4, 2), Effort(4, 2, 4)], ids=str)
def test_weights_of_draws_have_the_mean_of_numpys(family: str, effort: Effort) -> None:
    """log of the mean weight at one point: both estimate log p(y | theta).

    |z| below 4.5: false alarm rate 7e-6 each of 15 times.
    """
    model = integrand("estimated weights", family)
    theta = np.tile(points(model, 1), (300, 1))
    values = to_values(theta, model.model.hyper)
    compiled = CompiledIntegrals(model, load(next(iter(builds()))))
    z, weight = compiled.draws(theta, None, EXACTLY, np.random.default_rng(2), effort)
    with np.errstate(all="ignore"):
        inner = model.inner(values, len(theta), None, EXACTLY)
        affine = model.affine(values, len(theta))
        other = latent_draws(model, values, inner, affine, np.random.default_rng(3), effort)
    prior = log_prior(theta[:1], model.model.hyper)[0]
    logs = [(weight - prior).mean(axis=1), other[1].mean(axis=1)]
    if model.exact:
        np.testing.assert_allclose(logs[0], logs[1], atol=1e-9)
    else:
        means = [np.exp(w - other[1].max()).mean(axis=1) for w in (weight - prior, other[1])]
        error = np.sqrt(sum(m.var(ddof=1) / len(m) for m in means))
        assert abs(means[0].mean() - means[1].mean()) < 4.5 * error
    moments = []
    for drawn, logs_of in ((z, weight - prior), (other[0], other[1])):
        share = np.exp(logs_of - logs_of.max())
        share /= share.sum()
        moments.append((np.einsum("sm,smp->p", share, drawn), 1 / np.sum(share**2)))
    # Draws of z are about standard: each mean within 5 errors of the other's.
    gap = np.abs(moments[0][0] - moments[1][0])
    assert (gap < 5 * np.sqrt(1 / moments[0][1] + 1 / moments[1][1])).all()


@needs_kernels
@pytest.mark.parametrize(
    "text",
    [
        "w ~ 1/(1 + (n - 1)*exp(-(b1*x)))",
        "w ~ 1/n^exp(-(b0 + b1*x))",
        "w ~ exp(b1*x - b2*s)",
        "w ~ s^b1",
        "w ~ pow(s, b1)*ilogit(b2 + x)",
        "w ~ sqrt(s)*(x + b1)^2",
        "w ~ b1 + log(s)*(x - mean(x))",
        "w ~ -(b1*x - 2)/s",
    ],
)
@pytest.mark.parametrize("constraint", ["group", "total", "none"])
def test_weights_are_those_of_the_language(text: str, constraint: str) -> None:
    """The engine's integrals with weights from the kernels and with weights from NumPy."""
    table = made_up_coalitions(40, 20)
    table["s"] = np.abs(table["s"]) + 0.2
    code = {"group": 1, "total": 2, "none": "FALSE"}[constraint]
    formula = f"y ~ 1 + mm(id(pid, gid), vars(z), fn({text}, c = {code}), RE = TRUE)"
    model = Integrand(latent(prepare(formula, table)))
    compiled = CompiledIntegrals(model, load(next(iter(builds()))))
    assert compiled.model.weighs
    theta = np.random.default_rng(4).normal(0.3, 0.2, (9, len(model.model.hyper)))
    found = compiled.integrals(theta, None, EXACTLY)
    compiled.model.programs = None
    known = compiled.integrals(theta, None, EXACTLY)
    assert np.isfinite(known.value).any()
    np.testing.assert_allclose(found.value, known.value, rtol=1e-11, atol=1e-9)


@needs_kernels
def test_weights_that_underflow_are_computed_by_logarithms() -> None:
    """exp(-800 b) is 0 from b = .93 on, but the shares of members in a group are not."""
    formula = "y ~ 1 + mm(id(pid, gid), fn(w ~ exp(-(b1*s)), c = 1), RE = TRUE)"
    table = made_up_coalitions(40, 20)
    table["s"] = 800 + table["s"]
    model = Integrand(latent(prepare(formula, table)))
    compiled = CompiledIntegrals(model, load(next(iter(builds()))))
    theta = points(model, 6)
    theta[:, 0] = np.linspace(0.3, 3, 6)
    found = compiled.integrals(theta, None, EXACTLY)
    values = to_values(theta, model.model.hyper)
    known = model.inner(values, len(theta), None, EXACTLY)
    assert np.isfinite(known.value).all()
    np.testing.assert_allclose(found.value, known.value, atol=1e-8)
    z, weight = compiled.draws(theta, None, EXACTLY, np.random.default_rng(1), Effort(2, 0))
    assert np.isfinite(z).all()
    prior = log_prior(theta, model.model.hyper)
    np.testing.assert_allclose(weight[:, 0] - prior, known.value, atol=1e-8)


def test_functions_that_the_kernels_lack_are_left_to_numpy() -> None:
    function = parse_weights("w ~ exp(b1*atan(b2*x))")
    start, inputs = np.array([0, 2, 4]), {"x": np.arange(4.0)}
    assert weight_program(function, inputs, start, np.arange(2)) is None


PRIORS = [
    (Prior("normal", (0.3, 2.0)), "weight"),
    (Prior("student_t", (3.0, 0.5, 2.0)), "weight"),
    (Prior("half_normal", (1.5,)), "sd"),
    (Prior("half_t", (3.0, 2.0)), "sd"),
    (Prior("half_cauchy", (2.0,)), "sd"),
    (Prior("exponential", (0.7,)), "sd"),
    (Prior("exponential", (0.7,)), "shape"),
    (Prior("gamma", (2.0, 0.5)), "shape"),
    (Prior("gamma", (2.0, 0.5)), "sd"),
    (Prior("uniform", (0.5, 4.0)), "sd"),
    (Prior("precision_gamma", (0.5, 1.5)), "sd"),
    (Prior("lkj", (1.0,)), "correlation"),
    (Prior("lkj", (2.5,)), "correlation"),
    (Prior("beta", (1.0, 1.0)), "shape"),
    (Prior("beta", (2.5, 0.7)), "shape"),
]


@pytest.mark.parametrize(("prior", "role"), PRIORS, ids=[f"{p.family} {r}" for p, r in PRIORS])
def test_log_priors_are_scipys(prior: Prior, role: str) -> None:
    """The density of theta, with the Jacobian by differences of the values."""
    h = Hyperparameter("p", 0, role, prior, 0.8)
    theta = np.array([[0.2], [0.9], [1.7]])
    value = to_values(theta, [h])[h.key][:, 0]
    step = 1e-6
    moved = to_values(theta + step, [h])[h.key][:, 0]
    laws = {
        "normal": lambda m, s: stats.norm(m, s),
        "student_t": lambda df, m, s: stats.t(df, m, s),
        "half_normal": lambda s: stats.halfnorm(scale=s),
        "half_cauchy": lambda s: stats.halfcauchy(scale=s),
        "exponential": lambda r: stats.expon(scale=1 / r),
        "gamma": lambda a, r: stats.gamma(a, scale=1 / r),
        "uniform": lambda a, b: stats.uniform(a, b - a),
        "lkj": lambda eta: stats.beta(eta, eta, -1, 2),
        "beta": lambda a, b: stats.beta(a, b),
    }
    if prior.family == "half_t":
        df, scale = prior.values
        density = np.log(2) + stats.t.logpdf(value, df, scale=scale)
    elif prior.family == "precision_gamma":
        shape, rate = prior.values
        density = stats.gamma.logpdf(value**-2, shape, scale=1 / rate) + np.log(2 / value**3)
    else:
        density = laws[prior.family](*prior.values).logpdf(value)
    known = density + np.log((moved - value) / step)
    np.testing.assert_allclose(log_prior(theta, [h]), known, atol=1e-5)
    assert prior_rows([h]).shape == (1,)


def test_smoothed_weights_are_arvizs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        logs = rng.standard_t(rng.choice([2, 5, 50]), rng.integers(25, 2000)) * rng.choice([0.1, 1])
        known, k = array_stats.psislw(-logs)
        found, shape = smoothed_logs(logs.copy())
        assert shape == pytest.approx(float(k), abs=1e-10)
        np.testing.assert_allclose(found - np.log(np.exp(found).sum()), known, atol=1e-10)


FIT = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*s)))), RE = TRUE)"


@needs_kernels
def test_a_fit_is_the_same_by_every_build_and_close_by_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bits of all builds; NumPy has other draws: means within 5 Monte Carlo errors."""
    table = made_up_coalitions(60, 25)
    fits = {}
    for build in (*builds(), NUMPY):
        monkeypatch.setenv(VARIABLE, build)
        fits[build] = rmm.fit(FIT, table, backend="laplace", seed=3, progress=False, chains=2)
    first, *others = (fits[build].run.draws for build in builds())
    for other in others:
        for name, draws in first.items():
            np.testing.assert_array_equal(other[name], draws)
    ours, numpys = (f.summary() for f in (fits[next(iter(builds()))], fits[NUMPY]))
    error = np.hypot(ours["mcse_mean"], numpys["mcse_mean"])
    assert (np.abs(ours["mean"] - numpys["mean"]) < 5 * error).all()


def test_an_unknown_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mmx")
    with pytest.raises(BackendError, match=r"'mmx'.*numpy.*unset"):
        rmm.fit(FIT, made_up_coalitions(30, 10), backend="laplace", progress=False)


def test_without_a_build_numpy_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(kernel_library, "_FOLDER", tmp_path)
    builds.cache_clear()
    try:
        assert chosen() == NUMPY
        fit = rmm.fit(FIT, made_up_coalitions(30, 10), backend="laplace", seed=1, progress=False)
        assert fit.run.engine["kernels"] == NUMPY
    finally:
        builds.cache_clear()


def test_a_build_of_another_system_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "kernels_base.native").write_bytes(b"not a library")
    monkeypatch.setenv(VARIABLE, "base")
    monkeypatch.setattr(kernel_library, "_FOLDER", tmp_path)
    for kept in (builds, load):
        kept.cache_clear()
    try:
        assert running() == NUMPY
        assert "computes in NumPy" in available().what
    finally:
        for kept in (builds, load):
            kept.cache_clear()


@pytest.mark.thorough
@pytest.mark.parametrize("family", list(OUTCOMES))
def test_the_effective_sample_size_says_how_far_means_spread(family: str) -> None:
    """Posterior means of 50 seeds spread by at most sd / sqrt(ESS), ESS that of the weights.

    Points are spread evenly, so that means may vary less. The ratio of variances is below the
    1 - 1e-5 quantile of chi-square / df: false alarm rate 1e-5 for each parameter and family.
    """
    table = outcomes()
    weights = "fn(w ~ 1/(1 + (n-1)*exp(-(b1*s))))"
    strata = " + strata(stratum)" if family == "condlogit" else ""
    formula = f"{OUTCOMES[family]} ~ mm(id(pid, gid), vars(x), {weights}, RE = TRUE){strata}"
    seeds, means, expected = 50, [], []
    for seed in range(seeds):
        fit = rmm.fit(
            formula,
            table,
            family,
            backend="laplace",
            seed=seed,
            ess=250,
            draws=4000,
            monitor="structural",
            progress=False,
        )
        summary = fit.summary()
        means.append(summary["mean"])
        expected.append(summary["sd"] ** 2 / fit.run.engine["ess"])
    spread = np.var(means, axis=0, ddof=1) / np.mean(expected, axis=0)
    assert (spread < stats.chi2.ppf(1 - 1e-5, seeds - 1) / (seeds - 1)).all(), spread
