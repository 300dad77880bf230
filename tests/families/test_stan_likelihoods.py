"""Stan's likelihood lines of several families, in one program: one compilation for all of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from rmm.backends.base import Settings
from rmm.backends.stan.run import run
from rmm.families import FAMILIES, Family
from tests.families.test_zero_counts import NAMES, log_mass

J = 12
OWN = {"shape": 1.7, "sigma_l2": 0.8, "nu": 3.5, "phi": 6.0, "zi": 0.3, "hu": 0.3}


def of_kind(name: str, kind: str) -> Family:
    family = FAMILIES[name]
    return family if family.for_outcome is None else family.for_outcome(kind)


def cases() -> dict[str, tuple[Family, dict[str, Any], Any]]:
    """Name -> family, outcome, and the log likelihood of a predictor by SciPy."""
    rng = np.random.default_rng(4)
    positive, number, share = rng.gamma(2, size=J), rng.normal(size=J), rng.beta(2, 3, J)
    won, wins, losses = rng.integers(0, 2, J), rng.integers(0, 4, J), rng.integers(1, 4, J)

    def cloglog(eta: Any) -> Any:
        return 1 - np.exp(-np.exp(eta))

    found: dict[str, tuple[Family, dict[str, Any], Any]] = {}

    def add(name: str, parts: tuple[Any, ...], law: Any, kind: str = "plain") -> None:
        family = of_kind(name, kind)
        found[f"{name}_{kind}"] = family, family.read_outcome("y", parts, None), law

    add("gamma", (positive,), lambda e: stats.gamma(1.7, scale=np.exp(e) / 1.7).logpdf(positive))
    add("lognormal", (positive,), lambda e: stats.lognorm(0.8, scale=np.exp(e)).logpdf(positive))
    add("student", (number,), lambda e: stats.t(3.5, e, 0.8).logpdf(number))
    add(
        "beta",
        (share,),
        lambda e: stats.beta(6 * special.expit(e), 6 * special.expit(-e)).logpdf(share),
    )
    number_of = rng.integers(0, 5, J)
    for name in NAMES:
        add(name, (number_of,), lambda e, name=name: log_mass(name, number_of, e, 1.7))
    for name, p in (("probit", stats.norm.cdf), ("cloglog", cloglog)):
        add(name, (won,), lambda e, p=p: stats.bernoulli(p(e)).logpmf(won))
        add(
            name,
            (wins, losses),
            lambda e, p=p: stats.binom(wins + losses, p(e)).logpmf(wins),
            "cbind",
        )
    return found


@pytest.mark.thorough
@pytest.mark.stan
def test_likelihoods_are_scipys() -> None:
    """`lp__` differs from the sum of SciPy's log densities by one constant at all draws of eta.

    Each family has a part of eta of its own, so that its mistake cannot cancel another's.
    """
    values: dict[str, Any] = {"J": J, **OWN}
    data, transformed, parameters, model = [], [], [], []
    for name, (family, outcome, _) in cases().items():
        own = {word: f"{word}_{name}" for word in ("eta", "sign", *outcome)}

        def renamed(text: str, own: dict[str, str] = own) -> str:
            return re.sub(r"[A-Za-z_]\w*", lambda m: own.get(m[0], m[0]), text)

        given = family.program_data(outcome, "stan")
        values |= {own[word]: value for word, value in given.items()}
        data.append(renamed(family.stan_data))
        transformed.append(renamed(family.stan_transformed_data))
        parameters.append(f"vector[J] eta_{name};")
        model += [renamed(family.stan_model), f"eta_{name} ~ std_normal();"]
    text = "\n".join(
        [
            "data {",
            "int<lower=1> J;",
            *[f"real<lower=0> {word};" for word in OWN],
            *data,
            "}",
            "transformed data {",
            *transformed,
            "}",
            "parameters {",
            *parameters,
            "}",
            "model {",
            *model,
            "}",
        ]
    )
    start = {f"eta_{name}": np.zeros(J) for name in cases()}
    fitted = run(text, values, [start], Settings(chains=1, warmup=100, draws=25, seed=3, cores=1))
    ours = np.zeros(25)
    for name, (_, _, law) in cases().items():
        eta = fitted.draws[f"eta_{name}"][0]
        assert np.ptp(eta) > 1, "the draws differ"
        ours += [law(e).sum() + stats.norm.logpdf(e).sum() for e in eta]
    theirs = fitted.sample_stats["lp"][0]
    np.testing.assert_allclose(theirs - theirs[0], ours - ours[0], atol=1e-6)
