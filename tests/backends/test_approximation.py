"""The normal approximation that effects are sampled about: against likelihoods and modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from rmm.backends.stan.marginalize.choose import (
    LIMITS,
    Marginalization,
    choose_marginalization,
)
from rmm.backends.stan.marginalize.normal_approximation import approximate, coefficients
from rmm.design.prepare import Model
from rmm.families.cox import log_marginal
from rmm.families.weibull import poisson_working
from tests.family_cases import quiet

FORMULA = "z + mm(id(pid, gid), vars(x), RE=TRUE) + hm(id=cid)"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """60 groups of 3 parties in 4 countries, counts of 200 trials and durations."""
    rng = np.random.default_rng(11)
    effect, country = rng.normal(0, 0.7, 24), rng.normal(0, 0.5, 4)
    rows = []
    for g in range(60):
        c, z = g % 4, rng.normal()
        parties = c * 6 + rng.choice(6, 3, replace=False)
        x = rng.normal(size=3)
        eta = 0.3 + 0.5 * z + 0.4 * x.mean() + effect[parties].mean() + country[c]
        hits = rng.binomial(200, 1 / (1 + np.exp(-eta)))
        time, censored = np.exp(eta) * rng.weibull(1.5), rng.random() < 0.2
        rows += [
            {
                "gid": g,
                "pid": int(p),
                "cid": c,
                "x": v,
                "z": z,
                "hits": hits,
                "misses": 200 - hits,
                "time": time,
                "event": int(not censored),
            }
            for p, v in zip(parties, x, strict=True)
        ]
    return pd.DataFrame(rows)


def approximated(outcome: str, family: str, table: pd.DataFrame) -> tuple[Model, Marginalization]:
    model = quiet(f"{outcome} ~ {FORMULA}", table, family)
    found = choose_marginalization(model.spec, model.design, dict.fromkeys(LIMITS, np.inf))
    assert found is not None
    assert found.strategy == "approximation"
    return model, found


def test_poisson_working_has_the_likelihoods_slope_and_curvature() -> None:
    event, expected = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.01, 0.02, 1.5, 3.0])
    response, weight = poisson_working(event, expected)
    at = np.log(weight)  # where it was expanded: the mean is the weight of a Poisson count
    np.testing.assert_allclose(weight * (response - at), event - np.exp(at))
    assert (weight > 0).all()
    assert ((weight > expected) == (event - expected > 0)).all(), "it is drawn to what was seen"


@pytest.mark.parametrize(
    ("outcome", "family"),
    [
        ("cbind(hits, misses)", "binomial"),
        ("Surv(time, event)", "weibull"),
        ("Surv(time, event)", "cox"),
    ],
)
def test_mean_of_effects_is_near_their_mode(outcome: str, family: str, table: pd.DataFrame) -> None:
    """Effects with all scores 0 against the mode of likelihood x prior at the same parameters."""
    model, chosen = approximated(outcome, family, table)
    known, design = model.design.outcome, model.design
    found = approximate(chosen, model.spec, design)
    sd, sd_unit, shape = 0.7, 0.5, 1.5
    coefs = {"alpha": [0.3], "beta_l2": [0.5], "b_l1": [0.4]}
    sign = -1 if family == "cox" else 1  # hazards are higher where durations are shorter
    fixed = sign * np.concatenate([coefs[name] for name in coefficients(model.spec)])

    s, a = sd * found.singular, found.response - found.predictors @ fixed
    gain, unit = 1 + s**2, found.unit
    H = len(found.unit_information)
    gain_unit = 1 + sd_unit**2 * (
        found.unit_information - np.bincount(unit, found.loading**2 * (1 - 1 / gain), H)
    )
    rest = found.unit_response - found.unit_predictors @ fixed
    u3 = sd_unit**2 * (rest - np.bincount(unit, found.loading * (a - a / gain), H)) / gain_unit
    u1 = sd * (found.rotation @ (s * (a - found.loading * u3[unit]) / gain))

    m, nest = design.members[0], design.nestings[0]
    W = np.zeros((design.J, m.n_members))
    W[m.group, m.member] = m.weight
    X = np.column_stack([*([np.ones(design.J)] if model.spec.intercept else []), design.X_l2, m.X])

    def likelihood(eta: Any) -> Any:
        if family == "binomial":
            return known["y"] @ eta - known["trials"] @ np.logaddexp(0, eta)
        if family == "weibull":
            log_z = shape * (known["log_t"] - eta)
            return known["event"] @ log_z - np.exp(log_z).sum()
        return log_marginal(eta[None, :], known)[0]

    def loss(u: Any) -> Any:
        v1, v3 = u[: m.n_members], u[m.n_members :]
        eta = X @ fixed + W @ v1 + v3[nest.unit]
        return 0.5 * (v1 @ v1 / sd**2 + v3 @ v3 / sd_unit**2) - likelihood(eta)

    mode = optimize.minimize(loss, np.zeros(m.n_members + H), method="L-BFGS-B").x
    ours, limit = np.concatenate([u1, u3]), 0.02 if family == "binomial" else 0.35
    assert np.corrcoef(ours, mode)[0, 1] > (0.999 if family == "binomial" else 0.8)
    assert np.sqrt(np.mean((ours - mode) ** 2)) < limit, "of sds of .7 and .5"


def test_durations_whose_shape_has_no_maximum() -> None:
    """One event, and it is the longest duration; a duration that is next to nothing."""
    from rmm.families.weibull import WEIBULL

    parts = np.array([1e-300, 1.0, 2.0, 9.0]), np.array([0.0, 0.0, 0.0, 1.0])
    assert WEIBULL.working is not None
    response, weight = WEIBULL.working(WEIBULL.read_outcome("Surv(t, e)", parts, None))
    assert np.isfinite(response).all()
    assert (weight > 0).all()
