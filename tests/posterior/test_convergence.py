"""R-hat, effective sample sizes and Monte Carlo errors are those of `arviz_stats`."""

from __future__ import annotations

import numpy as np
import pytest
from arviz_stats.base import array_stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rmm.backends.convergence import convergence

Array = np.ndarray


def expected(draws: Array) -> dict[str, Array]:
    axes = {"chain_axis": 0, "draw_axis": 1}
    with np.errstate(all="ignore"):
        return {
            "rhat": array_stats.rhat(draws, **axes),
            "ess_bulk": array_stats.ess(draws, method="bulk", **axes),
            "ess_tail": array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **axes),
            "mcse_mean": array_stats.mcse(draws, method="mean", **axes),
        }


def assert_same(draws: Array) -> None:
    found, wanted = convergence(draws), expected(draws)
    assert list(found) == list(wanted)
    for name, column in wanted.items():
        np.testing.assert_allclose(found[name], column, rtol=1e-9, err_msg=name)


def chains(rng: np.random.Generator, shape: tuple[int, int, int], memory: float) -> Array:
    """Autoregressive draws of a variance of 1."""
    out = rng.standard_normal(shape)
    for t in range(1, shape[1]):
        out[:, t] = memory * out[:, t - 1] + np.sqrt(1 - memory**2) * out[:, t]
    return out


@pytest.mark.parametrize("memory", [-0.9, -0.3, 0.0, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("shape", [(4, 500, 6), (2, 101, 6), (1, 400, 3), (3, 37, 40)])
def test_autocorrelated_chains(memory: float, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng([shape[1], round(1000 * memory) % 97])
    draws = chains(rng, shape, memory)
    assert_same(draws)
    assert_same(draws + 3 * np.arange(shape[0])[:, None, None])  # chains that disagree
    assert_same(np.exp(5 * draws))  # long tails
    assert_same(np.round(draws))  # ties


# The same examples each time: where an autocorrelation is exactly 0, as with rounded draws it can
# be (seed 3001674171, shape (1, 18, 2), digits 0), rounding decides where both sequences end.
@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 5), st.integers(4, 60), st.integers(1, 3)),
    digits=st.integers(-1, 3),
    memory=st.floats(-0.99, 0.99),
)
def test_any_shape(seed: int, shape: tuple[int, int, int], digits: int, memory: float) -> None:
    assert_same(np.round(chains(np.random.default_rng(seed), shape, memory), digits))


def test_what_cannot_be_diagnosed_is_not_a_number() -> None:
    rng = np.random.default_rng(3)
    draws = rng.standard_normal((4, 100, 4))
    draws[1, 5, 0] = np.nan
    draws[:, :, 1] = 2.0
    draws[0, :, 2] = 1.0  # a chain that never moved
    assert_same(draws)
    assert np.isnan(convergence(draws)["rhat"][:2]).all()
    few = convergence(draws[:, :3])
    assert all(np.isnan(column).all() and column.shape == (4,) for column in few.values())
    assert convergence(draws[:, :, :0])["rhat"].shape == (0,)


def test_many_variables_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(4).standard_normal((2, 50, 7))
    whole = convergence(draws)
    monkeypatch.setattr("rmm.backends.convergence._AT_ONCE", 250)
    for name, column in convergence(draws).items():
        np.testing.assert_array_equal(column, whole[name])


def test_independent_draws_are_worth_their_number() -> None:
    """In the mean of 2,000 variables, but for some per cent: Geyer's sums stop above 0."""
    found = convergence(np.random.default_rng(5).standard_normal((4, 250, 2000)))
    for name in ("ess_bulk", "ess_tail"):
        assert 0.9 < found[name].mean() / 1000 < 1
    assert found["rhat"].mean() == pytest.approx(1, abs=0.005)
    assert found["mcse_mean"].mean() == pytest.approx(1 / 1000**0.5, rel=0.02)
