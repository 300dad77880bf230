"""The unit of a weight variable does not matter: posteriors of b_w times the unit are the same.

The model is exactly equivariant: the likelihood knows b_w * s alone, and default priors are in
units of 1/sd(s). Laplace fits differ by rounding; MCMC fits by their Monte Carlo error.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends import find_backend
from rmm.backends.initial_values import initial_values
from rmm.design.prepare import prepare

FORMS = {
    "exp": "exp(b1*s)",
    "logistic": "1/(1+(n-1)*exp(-(b1*s)))",
    "power": "1/n^exp(-(b1*s))",
    "share": "s^b1",
}
OUTCOMES = {"gaussian": "y", "weibull": "Surv(t, event)"}
JAGS: dict[str, Any] = {"backend": "jags", "warmup": 300, "draws": 500, "chains": 2}
UNITS = (1e-9, 1e-4, 1e6, 1e9)
needs_jags = pytest.mark.skipif(
    importlib.util.find_spec("pyjags") is None, reason="pyjags is not installed"
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """50 groups of 2 to 4 of 20 members; weights follow exp(2*s)."""
    rng = np.random.default_rng(17)
    sizes = rng.integers(2, 5, 50)
    g = np.repeat(np.arange(50), sizes)
    m = np.concatenate([rng.choice(20, k, replace=False) for k in sizes])
    x, s = rng.normal(size=len(g)), rng.uniform(0.2, 1, len(g))
    raw = np.exp(2 * s)
    w = raw / np.bincount(g, raw)[g]
    eta = np.bincount(g, w * (x + 0.5 * rng.normal(size=20)[m]))
    y = eta + 0.5 * rng.normal(size=50)
    t = np.exp(eta + 0.5 * np.log(rng.exponential(size=50)))
    return pd.DataFrame({"g": g, "m": m, "x": x, "s": s, "y": y[g], "t": t[g], "event": 1})


def summary(table: pd.DataFrame, family: str, form: str, unit: float, **options: Any) -> Any:
    """Means and sds, of b_w in the unit of the table; with the Monte Carlo errors."""
    formula = f"{OUTCOMES[family]} ~ 1 + mm(id(m, g), vars(x), fn(w ~ {FORMS[form]}), RE=TRUE)"
    given = {"backend": "laplace", "seed": 3, "ess": 60} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        fit = rmm.fit(formula, table.assign(s=table.s * unit), family, progress=False, **given)
    found = fit.summary()[["mean", "sd", "mcse_mean"]].copy()
    if form != "share":  # its coefficient is a power: it has no unit
        found.loc["b_w[b1]"] *= unit
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", OUTCOMES)
def test_laplace_is_the_same_in_every_unit(table: pd.DataFrame, family: str, form: str) -> None:
    plain = summary(table, family, form, 1.0)
    for unit in UNITS:
        other = summary(table, family, form, unit)
        # Rounding alone: a thousandth of a posterior sd, far below Monte Carlo error.
        assert np.abs(other["mean"] - plain["mean"]).max() < 1e-3 * plain["sd"].min()
        assert other["sd"].to_numpy() == pytest.approx(plain["sd"].to_numpy(), rel=1e-3)


PRIORS = {
    "student_t": lambda u: f"student_t(4, {0.5 / u!r}, {1.5 / u!r})",
    "uniform": lambda u: f"uniform({-1 / u!r}, {6 / u!r})",
    "half_normal": lambda u: f"half_normal({2 / u!r})",
    "gamma": lambda u: f"gamma(2, {0.5 * u!r})",
}


@pytest.mark.parametrize("prior", PRIORS)
def test_stated_priors_hold_in_the_unit_of_the_user(table: pd.DataFrame, prior: str) -> None:
    plain = summary(table, "gaussian", "exp", 1.0, priors={"b_w": PRIORS[prior](1.0)})
    for unit in (1e-9, 1e9):
        other = summary(table, "gaussian", "exp", unit, priors={"b_w": PRIORS[prior](unit)})
        assert np.abs(other["mean"] - plain["mean"]).max() < 1e-3 * plain["sd"].min()
        assert other["sd"].to_numpy() == pytest.approx(plain["sd"].to_numpy(), rel=1e-3)


@needs_jags
@pytest.mark.parametrize("form", ["exp", "logistic"])
def test_jags_is_the_same_in_every_unit(table: pd.DataFrame, form: str) -> None:
    plain = summary_of_jags(table, form, 1.0)
    for unit in (1e-9, 1e9):
        other = summary_of_jags(table, form, unit)
        error = np.hypot(plain["mcse_mean"], other["mcse_mean"])
        assert (np.abs(other["mean"] - plain["mean"]) < 5 * error).all()


def summary_of_jags(table: pd.DataFrame, form: str, unit: float) -> Any:
    formula = f"y ~ 1 + mm(id(m, g), vars(x), fn(w ~ {FORMS[form]}), RE=TRUE)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        fit = rmm.fit(formula, table.assign(s=table.s * unit), seed=3, progress=False, **JAGS)
    found = fit.summary()[["mean", "sd", "mcse_mean"]].copy()
    found.loc["b_w[b1]"] *= unit
    return found


@pytest.mark.parametrize("language", ["jags", "stan"])
@pytest.mark.parametrize("prior", [None, *PRIORS])
def test_what_engines_sample_starts_the_same_in_every_unit(
    table: pd.DataFrame, language: str, prior: str | None
) -> None:
    """Initial values of b_w over the unit that the program multiplies, and its prior there."""
    starts = []
    for unit in (1.0, 1e-9, 1e9):
        model = prepare(
            "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ exp(b1*s)), RE=TRUE)",
            table.assign(s=table.s * unit),
            priors=None if prior is None else {"b_w": PRIORS[prior](unit)},
        )
        data = model.priors.data
        prepared = find_backend(language).prepare(model)
        values = prepared.initial(model.design, initial_values(model, 1, 3)[0])
        scale = data.get("prior_b_w_scale", data["scale_b_w"]) / data["scale_b_w"]
        b_w = values["std_b_w"] if "std_b_w" in values else values["b_w"] / data["scale_b_w"]
        starts.append(np.concatenate([b_w, scale]))
    assert np.abs(starts[0]).max() < 20
    assert starts[1] == pytest.approx(starts[0], rel=1e-6)
    assert starts[2] == pytest.approx(starts[0], rel=1e-6)


def test_programs_say_what_they_sample(table: pd.DataFrame) -> None:
    formula = "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ exp(b0 + b1*s)), RE=TRUE)"
    priors = ["b_w[b0] ~ uniform(-1, 2)", "b_w[b1] ~ student_t(4, 0, 1)"]
    text = rmm.program(formula, backend="jags", priors=priors)
    assert "std_b_w[1] ~ dunif(prior_b_w_lower[1] / scale_b_w[1]" in text
    assert "{ b_w[k] <- scale_b_w[k] * std_b_w[k] }" in text
    assert "vector<multiplier=scale_b_w>[K_w] b_w;  //" in rmm.program(formula, backend="stan")
    mixed = rmm.program(formula, backend="stan", priors=priors)
    assert "vector[K_w] b_w = scale_b_w .* std_b_w;" in mixed


@needs_jags
def test_programs_that_sample_b_w_itself_still_run(table: pd.DataFrame) -> None:
    """A user's program of an earlier version: its prior, its data and its initial values."""
    formula = "y ~ 1 + mm(id(m, g), vars(x), fn(w ~ exp(b1*s)), RE=TRUE)"
    text = rmm.program(formula, backend="jags")
    new = [line for line in text.splitlines() if "std_b_w" in line]
    prior = "for (k in 1:1) { b_w[k] ~ dnorm(prior_b_w_location[k], pow(prior_b_w_scale[k], -2)) }"
    own = text.replace(new[1], prior).replace(new[0] + "\n", "").replace(new[2] + "\n", "")
    assert "std_b_w" not in own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.ConvergenceWarning)
        fit = rmm.fit(formula, table, seed=3, progress=False, program=own, **JAGS)
    plain, found = summary_of_jags(table, "exp", 1.0), fit.summary()
    error = np.hypot(plain["mcse_mean"], found["mcse_mean"])
    assert (np.abs(found["mean"] - plain["mean"]) < 5 * error).all()
