"""JAGS and Stan agree on every feature of the language, and with the truth.

Each specification is fitted by both engines. A parameter agrees if the posterior means differ by
at most 4.5 combined Monte Carlo standard errors: with about 120 comparisons the false-alarm rate
of the whole table is below 0.1%. Posterior sds are compared too, by 20%.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import rmm

MM = "mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"
ESTIMATED = "mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b0 + b1*s))), c={c}), RE=TRUE)"

# name -> (formula, further arguments). Programs depend on the structure alone, so several
# specifications share one Stan program.
SPECIFICATIONS: dict[str, tuple[str, dict[str, object]]] = {
    "regression": ("y ~ 1 + z", {"data": "groups"}),
    "no intercept, categories": ("y ~ 0 + region + z", {"data": "groups"}),
    "nesting only": ("y ~ 1 + z + q + hm(id=cid)", {"data": "groups"}),
    "mean weights": (f"y ~ 1 + z*region + I(z^2) + {MM}", {}),
    "mean weights, nesting": (f"y ~ 1 + z + {MM} + hm(id=cid)", {"priors": "rmm"}),
    "level 3 predictor": (f"y ~ 1 + z + q + {MM} + hm(id=cid)", {"transform": "std"}),
    "fixed effects": (f"y ~ 1 + z + {MM} + hm(id=cid, type=FE, showFE=TRUE)", {}),
    "cross-classified": (f"y ~ 1 + z + {MM} + hm(id=cid) + hm(id=dec)", {}),
    "classic spelling, offsets": (
        "y ~ 1 + z + fix(q, 0.4) + mm(id(gid, pid), mmc(x), mmw(w ~ 1/offset(n)))",
        {"priors": ["b_l2[z] ~ student_t(4, 0, 1)", "tau.l1 ~ dgamma(1, 0.5)"]},
    ),
    "covariates without effects": (
        "y ~ 1 + mm(id(pid, gid), vars(x, lead), fn(w ~ max(s) - s + 1, c=FALSE))",
        {"priors": ["sigma_l2 ~ exponential(1)"]},
    ),
    "estimated, constraint 1": (
        f"y ~ 1 + z + {ESTIMATED.format(c='TRUE')}",
        {"priors": {"b_w": "normal(0, 1)", "b_w[b0]": "uniform(-2, 2)"}},
    ),
    "estimated, constraint 2": (
        f"y ~ 1 + z + {ESTIMATED.format(c='2')} + hm(id=cid)",
        {"priors": {"b_w": "normal(0, 0.5)", "sigma_l1": "half_t(4, 1)"}},
    ),
    "estimated, classic spelling": (
        "y ~ 1 + z + mm(id(pid, gid), mmc(x), mmw(w ~ 1/offset(n)^exp(-(s)), constraint=1))",
        {"priors": ["b.w ~ dnorm(0, 1)"]},
    ),
    "two blocks": (
        "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-b1*s)), name=party)"
        " + mm(id(pid, gid), RE=TRUE, name=plain)",
        {"priors": {"b_w_party": "normal(0, 1)", "sigma_l1_plain": "half_cauchy(1)"}},
    ),
}


# Run by default: an ordinary regression, everything around an estimated weight, two blocks. The
# others are for `make parity`, as are the studies parity_*.yaml.
QUICK = ("nesting only", "estimated, constraint 2", "two blocks")


@pytest.fixture(scope="module")
def tables(coalitions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {
        "memberships": coalitions,
        "groups": coalitions.drop_duplicates("gid").reset_index(drop=True),
    }


def fitted(name: str, backend: str, tables: dict[str, pd.DataFrame]) -> rmm.Fit:
    formula, more = SPECIFICATIONS[name]
    options = dict(more)
    data = tables[str(options.pop("data", "memberships"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        return rmm.fit(
            formula,
            data,
            backend=backend,
            seed=11,
            chains=4,
            warmup=500,
            draws=1000,
            thin=2 if backend == "jags" else 1,
            progress=False,
            monitor="structural",
            **options,
        )


@pytest.mark.thorough
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.parity) for n in SPECIFICATIONS],
)
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_engines_agree(name: str, tables: dict[str, pd.DataFrame]) -> None:
    jags, stan = (fitted(name, b, tables).summary() for b in ("jags", "stan"))
    assert list(jags.index) == list(stan.index)
    assert (jags["rhat"] < 1.03).all(), jags
    assert (stan["rhat"] < 1.03).all(), stan
    combined = np.hypot(jags["mcse_mean"], stan["mcse_mean"])
    z = (jags["mean"] - stan["mean"]).abs() / combined
    assert (z < 4.5).all(), pd.DataFrame({"jags": jags["mean"], "stan": stan["mean"], "z": z})
    ratio = jags["sd"] / stan["sd"]
    assert ratio.between(1 / 1.2, 1.2).all(), ratio
