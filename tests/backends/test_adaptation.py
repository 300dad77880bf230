"""Step size and metric of a Stan fit as the start of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rmm.backends.stan.adaptation import mean_adaptation, metric_json, read_adaptation
from rmm.backends.stan.compile import compile_program, maker
from rmm.backends.stan.run import available
from rmm.errors import BackendError
from tests.backends.test_stan import PROGRAM, data, quick

needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")

DIAGONAL = """\
# Adaptation terminated
# Step size = 0.75
# Diagonal elements of inverse mass matrix:
# 0.5, 1.25e-05, 2
1,2,3
"""
DENSE = """\
lp__,a
# Adaptation terminated
# Step size = 0.25
# Elements of inverse mass matrix:
# 0.5, -0.1
# -0.1, 2
#
#  Elapsed Time: 0.1 seconds (Warm-up)
"""


def test_the_adaptation_is_read() -> None:
    step, diagonal = read_adaptation(DIAGONAL) or (0, 0)
    assert step == 0.75
    np.testing.assert_array_equal(diagonal, [0.5, 1.25e-5, 2])
    step, matrix = read_adaptation(DENSE) or (0, 0)
    assert step == 0.25
    np.testing.assert_array_equal(matrix, [[0.5, -0.1], [-0.1, 2]])
    assert read_adaptation("lp__,a\n1,2\n") is None


def test_the_mean_over_chains() -> None:
    chains = [(0.2, np.array([1.0, 2.0])), (0.4, np.array([3.0, 2.0]))]
    found = mean_adaptation("key", "diag_e", chains)
    assert found["step_size"] == pytest.approx(0.3)
    assert found["inverse_metric"] == [2.0, 2.0]
    assert metric_json(found) == '{"inv_metric": [2.0, 2.0]}'
    assert mean_adaptation("key", "diag_e", [*chains, None]) == {}


GIVEN = {"program": "k", "metric": "diag_e", "step_size": 0.5, "inverse_metric": [1.0]}


@pytest.mark.stan
@needs_stan
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "must be the `run.adaptation` of another fit by Stan, not of type int"),
        ({**GIVEN, "step": 1}, "'step' is not a key of `adaptation`"),
        ({"metric": "diag_e"}, "lacks `program`"),
    ],
)
def test_wrong_adaptations_are_refused(given: Any, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        quick(options={"adaptation": given})


@pytest.mark.stan
@needs_stan
@pytest.mark.parametrize("metric", ["diag", "dense"])
def test_a_short_warmup_from_another_fit(metric: str) -> None:
    first = quick(warmup=400, options={"metric": metric})
    assert np.shape(first.adaptation["inverse_metric"]) == ((4,) if metric == "diag" else (4, 4))
    if not maker(compile_program(PROGRAM)).built:
        with pytest.raises(BackendError, match="needs the Stan of the package httpstan"):
            quick(options={"adaptation": first.adaptation})
        return
    other = np.random.default_rng(3)
    values = data(y=data()["y"] + other.normal(size=200))
    short, long = (
        quick(values, draws=400, warmup=n, options={"metric": metric, **adaptation})
        for n, adaptation in ((40, {"adaptation": first.adaptation}), (400, {}))
    )
    # The metric is kept as it was given, to the digits that Stan prints.
    np.testing.assert_allclose(
        short.adaptation["inverse_metric"], first.adaptation["inverse_metric"], rtol=1e-5
    )
    assert short.engine["options"]["adaptation"] == "given"
    for name in ("a", "b", "sigma"):
        one, two = (run.draws[name].reshape(800, -1) for run in (short, long))
        z = (one.mean(0) - two.mean(0)) / np.sqrt((one.var(0) + two.var(0)) / 200)
        assert np.all(np.abs(z) < 4), name  # at least 200 effective draws
    again = quick(
        values, draws=400, warmup=40, options={"metric": metric, "adaptation": first.adaptation}
    )
    assert np.array_equal(again.draws["b"], short.draws["b"])


@pytest.mark.stan
@needs_stan
@pytest.mark.parametrize(
    "changes",
    [{"program": "another"}, {"metric": "dense_e"}, {"inverse_metric": [1.0, 2.0]}],
    ids=["another program", "another metric", "another number of parameters"],
)
def test_an_adaptation_that_does_not_fit_is_not_used(changes: dict[str, Any]) -> None:
    found = quick()
    if not maker(compile_program(PROGRAM)).built:
        pytest.skip("the user's own CmdStan is used here")
    given = {**found.adaptation, "warmup": 100, **changes}
    run = quick(warmup=10, options={"adaptation": given})
    assert np.array_equal(run.draws["b"], found.draws["b"])  # whose warm-up is 100
