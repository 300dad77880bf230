"""Bayes factors are calibrated: of data sets given probability p for a model, a share p is its own.

The model is drawn with probability 1/2, and all its parameters from its own proper priors, given as
numbers. Ten bins of p; each is within 3 Monte Carlo errors. If all is right, one bin or more is
beyond them in 27 of 1,000 runs; the seed is fixed. Averages by evidence are judged on the same data
sets: their 95% intervals of an effect and of the members' share of
variance cover the truth as often as they say.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest

import rmm

DATA_SETS = 1000
KNOWN, FREE = "1/n", "exp(b1*share)"
FORMULA = "y ~ 1 + mm(id(member, group), vars(x), fn(w ~ {}), RE = TRUE)"
PRIORS = {
    "b_l2": "normal(0, 2)",
    "b_l1": "normal(0, 1)",
    "sigma_l1": "half_normal(1)",
    "sigma_l2": "half_normal(1)",
}


def probability(number: int) -> tuple[bool, float, bool, bool]:
    """Whether the weights of a data set were estimated ones, the probability that they are, and
    whether the average covers the marginal effect of x and the members' share of variance.
    """
    rng = np.random.default_rng([number, 2026])
    free = bool(rng.random() < 0.5)
    true = {
        "b_l2[Intercept]": rng.normal(0, 2),
        "b_l1[x]": rng.normal(),
        "sigma_l1": abs(rng.normal()),
        "sigma_l2": abs(rng.normal()),
    }
    true |= {"b_w[b1]": rng.normal()} if free else {}
    data = rmm.simulate(
        FORMULA.format(FREE if free else KNOWN),
        true,
        membership={"kind": "synthetic", "groups": 50, "members": 20, "size": 3},
        covariates={"x": {"level": "member"}, "share": {"level": "membership"}},
        seed=number,
    ).data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = {
            name: rmm.fit(
                FORMULA.format(weights), data, priors=priors, backend="laplace", draws=100, seed=1
            )
            for name, weights, priors in (
                ("known", KNOWN, PRIORS),
                ("free", FREE, {**PRIORS, "b_w": "normal(0, 1)"}),
            )
        }
        average = rmm.average(fits, "evidence")
    effect = average.estimand("marginal_effect", variable="x").iloc[0]
    share = average.estimand("variance_share").loc["members"]
    return (
        free,
        float(average.weights["free"]),
        effect["q2.5"] <= true["b_l1[x]"] <= effect["q97.5"],
        share["q2.5"] <= true_share(data, true) <= share["q97.5"],
    )


def true_share(data: pd.DataFrame, true: dict[str, float]) -> float:
    """Of members: sigma_l1^2 times the mean of sum w^2, over itself and sigma_l2^2."""
    raw = np.exp(true.get("b_w[b1]", 0.0) * data["share"])
    weights = raw / raw.groupby(data["group"]).transform("sum")
    squares = (weights**2).groupby(data["group"]).sum().mean()
    members = true["sigma_l1"] ** 2 * squares
    return float(members / (members + true["sigma_l2"] ** 2))


@pytest.mark.calibration
def test_probabilities_of_models_are_shares_of_data_sets() -> None:
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(probability, range(1, DATA_SETS + 1), chunksize=25))
    free, p, effect, share = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    bins = np.minimum((10 * p).astype(int), 9)
    for one in range(10):
        inside = bins == one
        if inside.sum() == 0:
            continue
        expected = p[inside].mean()
        error = np.sqrt(np.mean(p[inside] * (1 - p[inside])) / inside.sum())
        print(
            f"{one / 10:.1f}: {inside.sum()} data sets, {free[inside].mean():.3f}, {expected:.3f}"
        )
        assert abs(free[inside].mean() - expected) <= 3 * error + 1e-9, f"bin {one}"
    # All together: squared errors are what the probabilities themselves expect.
    excess = (free - p) ** 2 - p * (1 - p)
    assert abs(excess.mean()) < 3 * excess.std() / np.sqrt(len(p))
    for covered in (effect, share):
        print(f"average by evidence: {covered.mean():.3f} of 95% intervals cover the truth")
        assert abs(covered.mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / len(covered))
