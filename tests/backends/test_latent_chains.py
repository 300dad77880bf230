"""Draws of z by chains at one hyperparameter value: against NumPy, weights, and whole fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from benchmarks.speed.growth import formula, nations, table_of
from rmm.backends.base import Settings
from rmm.backends.laplace import sampler as laplace_sampler
from rmm.backends.laplace.hyperparameters import log_prior, to_values
from rmm.backends.laplace.kernels import latent_chains
from rmm.backends.laplace.kernels.integrals import CompiledIntegrals, Motion
from rmm.backends.laplace.kernels.latent_chains import LatentChains
from rmm.backends.laplace.kernels.library import builds, load
from rmm.backends.laplace.latent_draws import ANGLE, LEAPS, WIDER, Approximation, Effort
from rmm.backends.laplace.marginal_likelihood import EXACTLY, Start
from rmm.design.prepare import prepare
from rmm.errors import ConvergenceWarning
from rmm.posterior.evidence.integrated_posterior import IntegratedPosterior
from tests.backends.test_kernels import integrand, many_effects, points

Array = np.ndarray[Any, Any]
FAMILIES = ["binomial", "weibull", "cox", "condlogit"]

pytestmark = pytest.mark.skipif(
    not builds(), reason="the kernels were not compiled: there was no C++ compiler"
)


def compiled_of(family: str, build: str | None = None) -> CompiledIntegrals:
    return CompiledIntegrals(many_effects(family), load(build or next(iter(builds()))))


def start_of(compiled: CompiledIntegrals, theta: Array) -> Start:
    found = compiled.integrals(theta[None], None, EXACTLY)
    return found.mode[0], found.scale[0]


def chains_of(compiled: CompiledIntegrals, theta: Array, seed: int = 3) -> LatentChains:
    chains = LatentChains(compiled, theta, start_of(compiled, theta), np.random.default_rng(seed))
    assert chains.settle()
    return chains


class Given:
    """Stands for a generator: the numbers that it will give."""

    def __init__(self, normal: Array, angle: float, uniform: Array) -> None:
        self.normal, self.angle, self.uniforms = normal, angle, uniform

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        return self.normal.reshape(shape)

    def uniform(self, *ends: float) -> float:
        return self.angle

    def random(self, shape: tuple[int, ...]) -> Array:
        return self.uniforms.reshape(shape)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_that_of_numpy(family: str) -> None:
    """Two chains of opposite noise, five steps, two of them that may not move."""
    model = integrand("estimated weights", family)
    compiled, theta = CompiledIntegrals(model, load(next(iter(builds())))), points(model, 1)
    rng, P, steps = np.random.default_rng(4), model.size, 5
    state, speed = rng.normal(size=P), rng.normal(size=(steps, P))
    uniform, turn = rng.random((2, steps)), rng.uniform(0.9, 1.1, steps)
    uniform[:, [1, 3]] = np.exp(8.0)  # log p would have to rise by 8
    motion = Motion(
        np.stack([speed, -speed]), np.log(uniform), ANGLE * turn, LEAPS, np.zeros((0, P))
    )
    start = start_of(compiled, theta[0])
    states, ratios, moves = compiled.chains(
        theta[0], start, EXACTLY, np.stack([state, -state]), motion
    )
    values = to_values(theta, model.model.hyper)
    inner, affine = model.inner(values, 1, None, EXACTLY), model.affine(values, 1)
    q = Approximation(model, values, affine, inner, inner.mode, 1 + np.sqrt(WIDER / P))
    half = inner.factors.half_solve(0, state[None])
    here, moved = q.at(np.concatenate([half, -half])[None]), 0
    for k in range(steps):
        before = here.ratio
        here = q.step(here, 1.0, Given(speed[k], turn[k], uniform[:, k]))  # type: ignore[arg-type]
        moved += int((here.ratio != before).sum())
        known = inner.factors.half_solve(0, states[:, k])
        np.testing.assert_allclose(known, here.moved[0], rtol=0, atol=1e-7)
        np.testing.assert_allclose(ratios[:, k], here.ratio[0], rtol=0, atol=1e-7)
    assert moves * 2 * steps == pytest.approx(moved)
    assert 0 < moved <= 2 * (steps - 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_chains_and_maps_are_the_same_by_every_build(family: str) -> None:
    found = []
    for build in builds():
        compiled = compiled_of(family, build)
        theta = points(compiled.integrand, 5)
        chains = chains_of(compiled, theta[0])
        noise, ratio = chains.draw(10)
        shape = (5, 2)
        latent, weight = chains.weights(theta, noise.reshape(*shape, -1), ratio.reshape(shape))
        found.append((noise, ratio, latent, weight))
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_ratios_of_integrals(family: str) -> None:
    """At its own value a chain's weights are the prior of theta alone; at others the log of their
    mean differs as the integrals by plain weighted draws do: |z| below 4.5 (false alarm rate 7e-6).
    """
    compiled = compiled_of(family)
    model = compiled.integrand
    centre = points(model, 1)[0] + 0.5
    moved = np.full(len(centre), -0.1)
    moved[0] = 0.1
    others = np.tile(centre + moved, (250, 1))
    chains = chains_of(compiled, centre)
    noise, ratio = chains.draw(1000)
    noise, ratio = noise.reshape(250, 4, -1), ratio.reshape(250, 4)
    own = chains.weights(np.tile(centre, (250, 1)), noise, ratio, EXACTLY)[1]
    np.testing.assert_allclose(own, log_prior(centre[None], model.model.hyper)[0], atol=1e-5)
    logs = chains.weights(others, noise, ratio)[1]
    rise, error = _log_mean(logs)
    plain = []
    for theta in (np.tile(centre, (2000, 1)), np.tile(others[0], (2000, 1))):
        start = start_of(compiled, theta[0])
        found = compiled.draws(theta, start, EXACTLY, np.random.default_rng(8), Effort(4, 1))[1]
        plain.append(_log_mean(found))
    prior = log_prior(centre[None], model.model.hyper)[0]
    known = plain[1][0] - plain[0][0] + prior
    # A chain's draws depend on each other: as many as its effective sample size are counted.
    error *= np.sqrt(1000 / min(chains.ess(), 1000))
    assert abs(rise - known) < 4.5 * np.sqrt(error**2 + plain[0][1] ** 2 + plain[1][1] ** 2)


def _log_mean(logs: Array) -> tuple[float, float]:
    """The log of the mean of exp over rows and columns, and its standard error by rows."""
    top = logs.max()
    by_row = np.exp(logs - top).mean(axis=1)
    mean = float(by_row.mean())
    return top + float(np.log(mean)), float(by_row.std(ddof=1) / np.sqrt(len(by_row)) / mean)


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_are_those_of_the_posterior_of_z(family: str) -> None:
    """Means and sds of every element of z against plain weighted draws: below 4.5 errors."""
    compiled = compiled_of(family)
    theta = points(compiled.integrand, 1)[0] + 0.5
    chains = chains_of(compiled, theta)
    noise, ratio = chains.draw(4000)
    tiled = np.tile(theta, (1000, 1))
    z = chains.weights(tiled, noise.reshape(1000, 4, -1), ratio.reshape(1000, 4))[0]
    z = z.reshape(4000, -1)
    start = start_of(compiled, theta)
    wide = np.tile(theta, (8000, 1))
    other, logs = compiled.draws(wide, start, EXACTLY, np.random.default_rng(9), Effort(4, 1))
    other, share = other.reshape(-1, z.shape[1]), np.exp(logs - logs.max()).ravel()
    share /= share.sum()
    size = 1 / np.sum(share**2)
    mean = share @ other
    sd = np.sqrt(share @ (other - mean) ** 2)
    rate = np.sqrt(1 / chains.ess() + 1 / size)
    assert np.abs((z.mean(axis=0) - mean) / sd).max() < 4.5 * rate
    assert np.abs(np.log(z.std(axis=0) / sd)).max() < 4.5 * rate


GIVEN: dict[str, Any] = {"backend": "laplace", "seed": 2, "progress": False}


@pytest.mark.thorough
@pytest.mark.parametrize(("family", "groups"), [("binomial", 3000), ("weibull", 1500)])
def test_fits_are_those_of_weights_of_all_of_z(
    family: str, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means and sds of parameters within 3 Monte Carlo errors and .03 sds; of the hundreds of
    effects within 4.5 errors and .03 sds, nine of ten within 2 errors.
    """
    table = table_of(nations(groups, 1, family))
    monkeypatch.setattr(laplace_sampler, "_MANY", 10**9)
    known = rmm.fit(formula(1, family), table, family=family, ess=2000, **GIVEN)
    monkeypatch.setattr(laplace_sampler, "_MANY", 0)
    ours = rmm.fit(formula(1, family), table, family=family, ess=2000, **GIVEN)
    assert known.converged and ours.converged
    assert known.run.engine["inner_variance"] < 1 > ours.run.engine["inner_variance"]
    error = np.sqrt(1 / known.run.engine["ess"] + 1 / ours.run.engine["ess"])
    one, other = ours.summary(), known.summary()
    assert (np.abs(one["mean"] - other["mean"]) / other["sd"] < 3 * error + 0.03).all()
    assert np.abs(np.log(one["sd"] / other["sd"])).max() < 3 * error / np.sqrt(2) + 0.03
    one, other = ours.member_effects(), known.member_effects()
    away = np.abs(one["mean"] - other["mean"]) / other["sd"]
    spread = np.abs(np.log(one["sd"] / other["sd"]))
    assert away.max() < 4.5 * error + 0.03 and np.mean(away < 2 * error) > 0.9
    assert spread.max() < 4.5 * error / np.sqrt(2) + 0.03


@pytest.mark.thorough
def test_intervals_of_many_effects_cover() -> None:
    """95% intervals of eight data sets of 5,000 groups: at most 8 of 40 miss the truth (false alarm
    rate 2e-4), and their mean distance from it is that of posteriors.
    """
    truth = {"b_l2[Intercept]": 0.0, "b_l2[z]": 0.5, "b_l1[x]": 0.0}
    truth |= {"b_w[b1]": 1.0, "sigma_l1": 1.0}
    scores = []
    for seed in range(8):
        table = table_of(nations(5000, 1, "binomial"), seed + 10)
        fit = rmm.fit(formula(1, "binomial"), table, family="binomial", **GIVEN)
        assert fit.converged
        found = fit.summary()
        scores += [(found.loc[n, "mean"] - v) / found.loc[n, "sd"] for n, v in truth.items()]
    missed = np.abs(scores) > 1.96
    assert missed.sum() <= 8
    assert 0.6 < np.std(scores) < 1.5


def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often chains are started."""
    started = []

    class Counted(LatentChains):
        def __init__(self, *args: Any) -> None:
            started.append(1)
            super().__init__(*args)

    monkeypatch.setattr(laplace_sampler, "LatentChains", Counted)
    return started


def small_table() -> pd.DataFrame:
    return table_of(nations(200, 1, "binomial"))


def test_few_effects_and_evidence_have_weights_of_all_of_z(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = used(monkeypatch)
    text = formula(1, "binomial")
    rmm.fit(text, small_table(), family="binomial", **GIVEN)
    assert not started
    monkeypatch.setattr(laplace_sampler, "_MANY", 0)
    posterior = IntegratedPosterior(prepare(text, small_table(), "binomial"), 1)
    assert posterior.proposals(Settings()) is not None
    assert not started
    rmm.fit(text, small_table(), family="binomial", **GIVEN)
    assert started == [1]


@pytest.mark.parametrize("limit", ["moves", "variance"])
def test_where_chains_do_not_do_weights_are_those_of_all_of_z(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = used(monkeypatch)
    text = formula(1, "binomial")
    known = rmm.fit(text, small_table(), family="binomial", **GIVEN)
    monkeypatch.setattr(laplace_sampler, "_MANY", 0)
    if limit == "moves":
        monkeypatch.setattr(latent_chains, "_MOST_LEAPS", 1)
    else:
        monkeypatch.setattr(laplace_sampler, "_TAIL_VARIANCE", -1.0)
    fit = rmm.fit(text, small_table(), family="binomial", **GIVEN)
    assert started == [1]
    ours, other = fit.summary(), known.summary()
    error = np.hypot(ours["mcse_mean"], other["mcse_mean"])
    assert (np.abs(ours["mean"] - other["mean"]) < 5 * error).all()


def test_chains_that_remember_draw_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of an eighth of a right angle in place of one: the run is repeated with more draws of z
    for each point, and the effective size that is reported is that of the chains.
    """
    efforts = []

    class Counted(Effort):
        def __init__(self, draws: int, shifts: int, steps: int = 1) -> None:
            efforts.append(draws)
            super().__init__(draws, shifts, steps)

    monkeypatch.setattr(laplace_sampler, "_MANY", 0)
    monkeypatch.setattr(laplace_sampler, "Effort", Counted)
    text = formula(1, "binomial")
    fast = rmm.fit(text, small_table(), family="binomial", **GIVEN)
    assert efforts[1:] == [2] and fast.run.engine["ess"] >= 500
    efforts.clear()
    monkeypatch.setattr(latent_chains, "_TURN", np.pi / 16)
    with pytest.warns(ConvergenceWarning, match="effective draws, 400 needed"):
        slow = rmm.fit(text, small_table(), family="binomial", **GIVEN)
    assert efforts[1:] == [2, 4, 8]
    assert slow.run.engine["ess"] < 100
