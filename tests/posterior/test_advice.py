"""Advice: each rule on a made-up run that has its trouble, and on one that has not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends.base import Run
from rmm.families import FAMILIES
from rmm.formula.prior_syntax import Prior
from rmm.posterior.diagnostics.advice import RULES
from tests.coalitions import made_up_coalitions

FORMULA = (
    "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s)))), RE=TRUE)"
    " + hm(id=cid)"
)
CHAINS, DRAWS = 4, 500
Arrays = Mapping[str, Any]


def good(seed: int = 1) -> dict[str, Any]:
    """Independent draws of all structural parameters of FORMULA, well away from zero."""
    rng = np.random.default_rng(seed)
    sizes = {"b_l1": 1, "b_l2": 2, "b_w": 1}
    draws: dict[str, Any] = {
        name: 1 + 0.1 * rng.normal(size=(CHAINS, DRAWS, k)) for name, k in sizes.items()
    }
    for name in ("sigma_l1", "sigma_l2", "sigma_l3"):
        draws[name] = np.exp(0.1 * rng.normal(size=(CHAINS, DRAWS)))
    return draws


def slow(scale: float = 0.1, persistence: float = 0.96, seed: int = 2) -> Any:
    """Autoregressive chains: they agree, and their draws are worth few."""
    rng = np.random.default_rng(seed)
    x = np.zeros((CHAINS, DRAWS + 200))
    for t in range(1, x.shape[1]):
        x[:, t] = persistence * x[:, t - 1] + rng.normal(size=CHAINS)
    return scale * x[:, 200:] * np.sqrt(1 - persistence**2)


@pytest.fixture(scope="module")
def base() -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            FORMULA,
            made_up_coalitions(),
            backend="fake",
            chains=CHAINS,
            draws=DRAWS,
            seed=1,
            monitor="structural",
            progress=False,
        )


def told(
    base: rmm.Fit, draws: Arrays, backend: str = "jags", diverging: int = 0, **options: Any
) -> rmm.Fit:
    flags = np.zeros((CHAINS, DRAWS), dtype=bool)
    flags.flat[:diverging] = True
    run = Run({**good(), **draws}, {"diverging": flags}, 1.0, {})
    return replace(base, run=run, backend=backend, settings=replace(base.settings, options=options))


def rules(fit: rmm.Fit) -> set[str]:
    return set(fit._advice)


def test_nothing_is_said_of_a_good_fit(base: rmm.Fit) -> None:
    fit = told(base, {})
    assert fit.converged
    assert fit.diagnostics()["advice"] == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.warn()


def one(base: rmm.Fit, rule: str, draws: Arrays, **how: Any) -> str:
    """What a rule says of made-up draws; it says nothing of good ones."""
    fit = told(base, draws, **how)
    assert rule in rules(fit), rules(fit)
    assert fit._advice[rule] in fit.diagnostics()["advice"]
    assert RULES[rule](replace_evidence(told(base, {}, backend="stan"))) is None
    return fit._advice[rule]


def replace_evidence(fit: rmm.Fit) -> Any:
    from rmm.posterior.diagnostics.advice import Evidence

    return Evidence(fit.model, fit.backend, fit.settings, fit._everything, fit._diagnostics)


def test_flat_tail(base: rmm.Fit) -> None:
    rng = np.random.default_rng(3)
    message = one(base, "flat_weights", {"b_w": 60 * rng.normal(size=(CHAINS, DRAWS, 1))})
    assert "the likelihood is flat" in message and '"b_w ~ normal(0, 1)"' in message
    fit = told(base, {"b_w": 60 * rng.normal(size=(CHAINS, DRAWS, 1))})
    assert fit.converged  # it converges, and means nothing
    with pytest.warns(rmm.SpecificationWarning, match=r"b_w\[b1\] has a posterior sd of 59 per"):
        fit.warn()


def test_a_parameter_that_never_moved(base: rmm.Fit) -> None:
    message = one(base, "unmoved", {"sigma_l1": np.full((CHAINS, DRAWS), 0.3)})
    assert message.startswith("sigma_l1 has the same value") and "inits=" in message


@pytest.mark.parametrize("what", [{"jags_block": False}, {"outcome_kinds": ("surv",)}])
def test_survival_on_jags(base: rmm.Fit, what: dict[str, Any]) -> None:
    family = replace(FAMILIES["gaussian"], name="weibull", **what)
    model = replace(base.model, spec=replace(base.model.spec, family=family))
    survival = replace(base, model=model)
    message = one(survival, "survival_on_jags", {"sigma_l1": 1 + slow()})
    assert 'backend="stan"' in message and "weibull" in message
    assert "survival_on_jags" not in rules(told(survival, {"sigma_l1": 1 + slow()}, backend="stan"))
    assert "survival_on_jags" not in rules(told(base, {"sigma_l1": 1 + slow()}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"adapt_delta=0.95 (now 0.8)"),
        ({"adapt_delta": 0.95}, "adapt_delta=0.99 (now 0.95)"),
        ({"adapt_delta": 0.995}, "adapt_delta is already 0.995"),
    ],
)
def test_divergences(base: rmm.Fit, options: Mapping[str, float], said: str) -> None:
    message = one(base, "divergences", {}, backend="stan", diverging=7, **options)
    assert message.startswith("7 divergences") and said in message
    small = {"sigma_l3": np.abs(good(5)["b_w"][..., 0] - 1)}
    near = one(base, "divergences", small, backend="stan", diverging=7)
    assert "most likely where sigma_l3 is near zero" in near


def test_few_nesting_units(base: rmm.Fit) -> None:
    message = one(base, "few_units", {"sigma_l3": 1 + slow()})
    assert message.startswith("sigma_l3 is estimated from only 10 nesting units")
    assert '"sigma_l3 ~ half_normal(1.1)"' in message
    assert "few_units" not in rules(told(base, {"sigma_l1": 1 + slow()}))  # 30 members


def test_members_always_together() -> None:
    table = made_up_coalitions()
    twin = table[table["pid"] == 3].assign(pid=99)
    table = pd.concat([table, twin]).drop(columns="n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = rmm.fit(
            FORMULA,
            table,
            backend="fake",
            chains=CHAINS,
            draws=DRAWS,
            seed=1,
            monitor="structural",
            progress=False,
        )
    fit = told(base, {"sigma_l1": 1 + slow()})
    message = fit._advice["always_together"]
    assert "2 members (sets: 1)" in message and "(3 and 99, ...)" in message
    assert "always_together" not in rules(told(base, {"sigma_l3": 1 + slow()}))


@pytest.mark.parametrize(
    ("backend", "said"), [("jags", 'Try backend="stan"'), ("stan", "adapt_delta=0.99")]
)
def test_funnel(base: rmm.Fit, backend: str, said: str) -> None:
    near_zero = {"sigma_l1": np.exp(3 * slow(1.0))}
    message = one(base, "funnel", near_zero, backend=backend)
    assert message.startswith("The posterior of sigma_l1 reaches zero") and said in message
    assert "funnel" not in rules(told(base, {"sigma_l1": 1 + slow()}))


def test_weights_with_nothing_to_weigh(base: rmm.Fit) -> None:
    nothing = {
        "b_w": slow(1.0)[..., None],
        "b_l1": good()["b_l1"] - 1,
        "sigma_l1": np.abs(good(4)["b_w"][..., 0] - 1),
    }
    message = one(base, "weights_without_effect", nothing)
    assert "its posterior is its prior" in message
    assert message.endswith(
        "or report that these data do not show which members have larger weights."
    )
    wide = {"b_w": (Prior("normal", (0.0, 50.0)),)}
    priors = replace(base.model.priors, elements={**base.model.priors.elements, **wide})
    vague = replace(base, model=replace(base.model, priors=priors))
    message = one(vague, "weights_without_effect", nothing)
    assert message.endswith('or give "b_w ~ normal(0, 1)".')
    assert "weights_without_effect" not in rules(told(base, {"b_w": slow(1.0)[..., None]}))


def test_chains_apart(base: rmm.Fit) -> None:
    draws = good()["b_l1"] + np.arange(CHAINS)[:, None, None]
    message = one(base, "chains_apart", {"b_l1": draws})
    assert message.startswith("b_l1[x]: the chains are in different places")
    assert "Increase `warmup` to 2000" in message
    assert "few_draws" not in rules(told(base, {"b_l1": draws}))


def test_too_few_draws_are_counted(base: rmm.Fit) -> None:
    """With the draws multiplied as advised, the same chains have enough effective draws."""
    message = one(base, "few_draws", {"b_l1": 1 + slow(persistence=0.75)[..., None]})
    assert message.startswith("b_l1[x] has an ESS of")
    factor = int(message.split("multiply the draws by ")[1].split()[0])
    assert f"(draws={factor * DRAWS})" in message
    ess = float(message.split("ESS of ")[1].split()[0])
    assert factor * ess >= 400 > ess
    far = told(base, {"b_l1": 1 + slow(persistence=0.995, seed=17)[..., None]})
    assert rules(far) & {"few_draws", "chains_apart"}


def test_the_warning_holds_at_most_three_lines_of_advice(base: rmm.Fit) -> None:
    draws = {
        "sigma_l3": np.exp(3 * slow(1.0)),
        "b_l1": good()["b_l1"] + np.arange(CHAINS)[:, None, None],
        "sigma_l1": np.full((CHAINS, DRAWS), 0.3),
    }
    fit = told(base, draws, diverging=3)
    assert len(fit.diagnostics()["advice"]) > 3
    with pytest.warns(rmm.ConvergenceWarning, match="has not converged") as caught:
        fit.warn()
    message = str(caught[0].message)
    assert message.count("\n* ") == 3
    assert "sigma_l1 has the same value" in message


def test_every_message_is_short(base: rmm.Fit) -> None:
    draws = {"sigma_l3": np.exp(3 * slow(1.0)), "sigma_l1": 1 + slow(), "b_w": 50 * good()["b_w"]}
    advice = told(base, draws, diverging=3).diagnostics()["advice"]
    assert len(advice) >= 3
    assert all(len(line) < 330 and line.endswith(".") for line in advice)
