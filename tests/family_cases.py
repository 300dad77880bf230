"""What tests of outcome families share: made-up tables, golden texts, densities of programs."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

import tests
from rmm.backends.base import Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.jags.program import write as write_jags
from rmm.backends.program_data import input_name, raw_name
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.backends.stan.run import run
from rmm.design.prepare import Model, prepare
from rmm.families import Family

GOLDEN = tests.GOLDEN / "families"
WEIGHTS = "fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s))), c=TRUE)"
MIXED = f"z + mm(id(pid, gid), vars(x), {WEIGHTS}, RE=TRUE)"
Array = np.ndarray[Any, Any]


def check_golden(name: str, model: Model) -> None:
    """Both program texts are the ones in tests/golden/families."""
    texts = {"jags": write_jags, "stan": stan.write}
    for language, write in texts.items():
        path = GOLDEN / f"{name}_{language}.txt"
        text = write(model.spec, model.priors.forms)
        if os.environ.get("RMM_UPDATE_GOLDEN"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        kept = path.read_text() if path.exists() else ""
        assert text == kept, "RMM_UPDATE_GOLDEN=1 rewrites it; read the difference"


def quiet(formula: str, table: pd.DataFrame, family: str | Family, **options: Any) -> Model:
    """`prepare` without the warnings on specification."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(formula, table, family, **options)


def mixed_eta(model: Model, draw: Mapping[str, Any]) -> Array:
    """(J,) linear predictor of `MIXED`, from the model's page, apart from the programs."""
    design, (m,) = model.design, model.design.members
    s = model.grouped.frame["s"].to_numpy()
    raw = 1 / (1 + (m.n - 1) * np.exp(-draw["b_w"][0] * s))
    w = raw / np.bincount(m.group, raw)[m.group]
    effect = m.X @ draw["b_l1"] + draw["u_l1"][m.member]
    eta = draw.get("alpha", 0.0) + design.X_l2 @ draw["beta_l2"]
    return np.asarray(eta + np.bincount(m.group, w * effect))


def mixed_log_prior(model: Model, draw: Mapping[str, Any]) -> float:
    """Log prior of `MIXED` on Stan's unconstrained scale, up to a constant."""
    hyper = model.priors.data
    # The effects' density and the Jacobian of their scaling cancel to standard normals.
    total = -0.5 * np.sum((draw["u_l1"] / draw["sigma_l1"]) ** 2)
    total += half_normal_by_raw(model, draw, "sigma_l1")
    for name in ("alpha", "beta_l2", "b_l1", "b_w"):
        if name in draw:
            location = hyper[f"prior_{name}_location"]
            total -= 0.5 * np.sum(((draw[name] - location) / hyper[f"prior_{name}_scale"]) ** 2)
    return float(total)


def half_normal_by_raw(model: Model, draw: Mapping[str, Any], name: str) -> float:
    """Log prior of an sd that Stan samples unconstrained, with the Jacobian of that."""
    prior = stats.halfnorm(scale=model.priors.data[f"prior_{name}_scale"])
    scale = min(model.spec.family.scale(model.design.outcome)[1], prior.kwds["scale"])
    return by_raw(draw, name, prior, scale, model.design.J)


def by_raw(draw: Mapping[str, Any], name: str, prior: Any, scale: float, groups: int) -> float:
    """Log density of an unconstrained parameter whose sd has a prior."""
    raw, sd, soft = draw[raw_name(name)], draw[name], min(0.5, 2 / np.sqrt(groups))
    bent = soft * np.log1p(np.exp(raw / soft))
    np.testing.assert_allclose(sd, scale * np.sinh(bent), rtol=1e-8)
    return float(prior.logpdf(sd) + np.log(scale * np.cosh(bent) * special.expit(raw / soft)))


_DECLARED = re.compile(
    r"(?:array\[.*?\] )?(?:real|int|vector|row_vector|matrix)(?:<.*?>)?(?:\[.*?\])?"
    r" (\w+)(?:;| =|\()"
)


def check_names(model: Model, text: str) -> None:
    """Weight variables have the names of a Stan program that begin with ``x_``, each one once."""
    users = sorted(
        input_name(name, part.suffix)
        for part in model.spec.members
        if part.estimated
        for name, _ in part.weight.inputs
    )
    declared = declared_names(text)
    assert len(declared) > 3
    assert sorted(name for name in declared if name.startswith("x_")) == users


def declared_names(text: str) -> list[str]:
    """Names that a Stan program declares outside of nested blocks, and of its functions."""
    lines = [line[2:] for line in text.splitlines() if re.match(r"  \w", line)]
    return [found[1] for found in map(_DECLARED.match, lines) if found]


def check_stan_density(
    model: Model,
    log_likelihood: Callable[..., float],
    own: Callable[[Mapping[str, Any]], float] | None = None,
) -> None:
    """Stan's `lp__` differs from the density written here by one constant at all draws.

    With `own`, the log prior of the family's own parameters, the log likelihood gets these, too.
    """
    names = [] if own is None else [p.name for p in model.spec.family.parameters]
    spec, forms = model.spec, model.priors.forms
    settings = Settings(chains=1, warmup=100, draws=25, seed=3, cores=1)
    starts = [
        stan.initial(spec, forms, prior_values(model), v) for v in initial_values(model, 1, 3)
    ]
    text, values = stan.write(spec, forms), stan.data(spec, model.design, prior_values(model))
    fitted = run(text, values, starts, settings)
    draws = [{k: v[0, i] for k, v in fitted.draws.items()} for i in range(25)]
    ours = np.array(
        [
            mixed_log_prior(model, d)
            + (0.0 if own is None else own(d))
            + log_likelihood(mixed_eta(model, d), *(float(d[n]) for n in names))
            for d in draws
        ]
    )
    theirs = fitted.sample_stats["lp"][0]
    assert np.ptp(ours) > 1, "the draws differ"
    np.testing.assert_allclose(theirs - theirs[0], ours - ours[0], atol=1e-6)


def check_against_estimates(
    formula: str,
    table: pd.DataFrame,
    family: str,
    backend: str,
    estimates: Mapping[str, float],
) -> None:
    """Posterior means under nearly flat priors are the given numbers, within 4.5 MCSE.

    With a handful of coefficients the false-alarm rate is below 1 in 10,000.
    """
    import rmm

    fit = rmm.fit(
        formula, table, family, backend=backend, priors="rmm", seed=5, draws=1000, progress=False
    )
    found = fit.summary()
    assert set(found.index) == set(estimates)
    for name, value in estimates.items():
        assert abs(found["mean"][name] - value) < 4.5 * found["mcse_mean"][name], (name, value)


def check_engines_agree(
    formula: str,
    table: pd.DataFrame,
    family: str,
    engines: tuple[str, ...] = ("jags", "stan"),
    **options: Any,
) -> None:
    """Engines and Stan: means within 4.5 combined MCSE, sds within 20%."""
    import rmm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            backend: rmm.fit(
                formula,
                table,
                family,
                backend=backend,
                seed=11,
                warmup=500,
                draws=1000,
                thin=3 if backend == "jags" else 1,
                progress=False,
                monitor="structural",
                **options,
            ).summary()
            for backend in engines
        }
    stan_ = found.pop("stan")
    assert (stan_["rhat"] < 1.03).all(), stan_
    for name, other in found.items():
        assert list(other.index) == list(stan_.index)
        assert not (other["rhat"] >= 1.03).any(), other  # laplace has no chains, and none
        z = (other["mean"] - stan_["mean"]).abs() / np.hypot(other["mcse_mean"], stan_["mcse_mean"])
        assert (z < 4.5).all(), pd.DataFrame({name: other["mean"], "stan": stan_["mean"], "z": z})
        assert (other["sd"] / stan_["sd"]).between(1 / 1.2, 1.2).all()
