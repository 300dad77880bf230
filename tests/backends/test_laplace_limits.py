"""What the fast engine cannot do is said before it starts, or in our words when it happens."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sparse

import rmm
from rmm.backends.convergence import pareto_k_limit
from rmm.backends.laplace import memory
from rmm.backends.laplace import run as laplace
from rmm.backends.laplace.factorisation import factors
from rmm.backends.laplace.factorisation.factors import Pattern
from rmm.backends.laplace.factorisation.fill import factor_counts
from rmm.backends.laplace.kernels.model_arrays import symbolic
from rmm.backends.laplace.latent_model import latent_model
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.design.prepare import prepare
from rmm.errors import BackendError
from rmm.posterior.diagnostics.summary import ESS_OF_WEIGHTS, Weighing, diagnose
from rmm.tables import memory_limits
from tests.coalitions import made_up_coalitions

FORMULA = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)"
SHORT: dict[str, Any] = {"backend": "laplace", "seed": 1, "progress": False}


def pattern_of(size: int, links: int, seed: int) -> Any:
    """A random symmetric pattern with a full row, as an intercept makes one."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, size, links), rng.integers(0, size, links)
    rows, columns = np.maximum(rows, columns), np.minimum(rows, columns)
    rows = np.concatenate([rows, np.full(size, size - 1), np.arange(size)])
    columns = np.concatenate([columns, np.arange(size), np.arange(size)])
    lower = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    lower.sum_duplicates()
    return lower


@pytest.mark.parametrize(("size", "links"), [(1, 0), (2, 1), (40, 60), (200, 150), (300, 900)])
def test_counts_are_those_of_elimination(size: int, links: int) -> None:
    """One row after the other, its neighbours linked: the definition."""
    from rmm.backends.laplace.factorisation.fill import _order

    lower = pattern_of(size, links, seed=size)
    found = factor_counts(size, lower.row, lower.col)
    place = np.argsort(_order((lower + lower.T).tocsr()))
    full = ((lower + lower.T).toarray() > 0)[np.ix_(place, place)]
    wanted = np.zeros(size, dtype=int)
    for k in range(size):
        below = np.flatnonzero(full[k + 1 :, k]) + k + 1
        wanted[k] = 1 + len(below)
        full[np.ix_(below, below)] = True
    assert np.array_equal(found, wanted)


def test_a_large_pattern_is_judged_without_a_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    lower = pattern_of(400, 300, seed=1)
    order = np.lexsort((lower.col, lower.row))
    pattern = Pattern(400, lower.row[order], lower.col[order])
    by_factor = pattern.is_sparse
    monkeypatch.setattr(factors, "SOON", 100)
    monkeypatch.setattr(factors.qdldl, "Solver", None)  # would fail if it were called
    again = Pattern(400, lower.row[order], lower.col[order])
    assert again.is_sparse == by_factor
    assert again.filled == factor_counts(400, lower.row, lower.col).sum()
    assert again.seconds(dense=True) == pytest.approx(400**3 / 3 / 1e10)
    assert again.seconds(dense=False) <= again.seconds(dense=True)


def integrand(formula: str = FORMULA) -> Integrand:
    model = prepare(formula, made_up_coalitions(40, 12))
    return Integrand(latent_model(model.spec, model.design, model.priors))


def test_the_memory_of_draws_is_counted() -> None:
    few, many = (memory.need(integrand(), 15, kept, 500) for kept in (400, 4_000_000))
    assert many.draws - few.draws == 4 * 8 * 15 * (4_000_000 - 400)
    assert (many.pairs, few.factors) == (few.pairs, 0)


@pytest.mark.parametrize(
    ("free", "kept", "message"),
    [
        (
            2_000_000,
            1_000_000,
            r"needs about .* MB of memory, but only 2\.0 MB are free\. .*for draws of 15",
        ),
        (2_000_000, 1_000_000, 'With monitor="structural", no effects are kept'),
        (50_000, 10, r"with common groups, .* Use backend=.stan. or backend=.jags."),
    ],
)
def test_too_little_memory_is_said_before_the_start(
    free: int, kept: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    monkeypatch.setattr(memory, "_LITTLE", 0)
    model = integrand()
    with pytest.raises(BackendError, match=message):
        memory.check_memory(memory.need(model, 15, kept, 10), model, 15)


def test_under_auto_such_a_model_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000)
    monkeypatch.setattr(memory, "_LITTLE", 0)
    monkeypatch.setattr("rmm.fitting.engine_choice.ORDER", ("laplace", "stan"))
    from rmm.backends.stan.backend import BACKEND
    from rmm.errors import BackendTimeout

    with pytest.raises(BackendError, match="laplace: Backend 'laplace' needs about"):
        _with_stan(BACKEND, BackendTimeout("no time"), monkeypatch)


def _with_stan(backend: Any, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from rmm.backends import find_backend
    from rmm.fitting import engine_choice

    def run(*args: Any) -> Any:
        raise error

    other = replace(find_backend("fake"), name="stan", run=run)
    monkeypatch.setattr(
        engine_choice, "find_backend", lambda n: other if n == "stan" else find_backend(n)
    )
    rmm.fit(FORMULA, made_up_coalitions(40, 12), seed=1, progress=False)


def test_memory_here_is_known_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory_limits.available_memory()
    assert found is None or found > 1_000_000
    monkeypatch.setattr(memory_limits, "_CGROUP", tmp_path)
    assert memory_limits._of_container() is None
    (tmp_path / "memory.max").write_text("max")
    (tmp_path / "memory.current").write_text("5")
    assert memory_limits._of_container() is None
    (tmp_path / "memory.max").write_text("1000005")
    assert memory_limits._of_container() == 1_000_000


def test_hours_are_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SOON", 0)
    found = integrand()
    memory.check_time(found, 500, None)  # small: nothing to say
    monkeypatch.setattr(Pattern, "seconds", lambda self, dense: 600.0)
    with pytest.raises(BackendError, match=r"would need about \d+ hours for this model\. "):
        memory.check_time(found, 500, None)
    with pytest.raises(BackendError, match="the time limit is 30 s"):
        memory.check_time(found, 500, 30.0)
    memory.check_time(found, 500, 1e6)  # who gives a limit may wait


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (np.linalg.LinAlgError("Singular matrix"), r"could not compute.*LinAlgError: Singular"),
        (FloatingPointError("overflow"), "could not compute.*overflow"),
        (MemoryError("Unable to allocate 18.6 GiB"), "ran out of memory .Unable to allocate 18.6"),
        (RuntimeError("Error in LDL factorization"), "could not compute.*LDL"),
    ],
)
def test_no_bare_error_comes_out(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(laplace.Sampler, "sample", fail)
    with pytest.raises(BackendError, match=message):
        rmm.fit(FORMULA, made_up_coalitions(40, 12), **SHORT)


# ---- when weighted draws count as converged ------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "limit"),
    [(256, 1 - 1 / np.log10(256)), (1000, 1 - 1 / 3), (2200, 0.7), (10**6, 0.7)],
)
def test_the_limit_of_k_depends_on_the_points(points: int, limit: float) -> None:
    assert pareto_k_limit(points) == pytest.approx(limit, abs=2e-3)


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (Weighing(0.58, 256, 500, 0.0), True),
        (Weighing(0.60, 256, 500, 0.0), False),
        (Weighing(0.60, 4096, 500, 0.0), True),
        (Weighing(0.71, 10**6, 500, 0.0), False),
        (Weighing(float("nan"), 4096, 500, 0.0), False),
        (Weighing(0.3, 4096, 399, 0.0), False),
        (Weighing(0.3, 4096, 500, 1.2), False),
    ],
)
def test_k_effective_draws_and_inner_weights_decide(found: Weighing, good: bool) -> None:
    for chains in (1, 4, 8):
        seen = diagnose(pd.DataFrame(), chains, 1000, 0, found)
        assert (seen.converged, seen.ess_wanted) == (good, ESS_OF_WEIGHTS)


@pytest.mark.parametrize("chains", [1, 2, 6])
def test_chains_are_shares(chains: int) -> None:
    table = made_up_coalitions(40, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = rmm.fit(FORMULA, table, chains=chains, draws=600, **SHORT)
    summary = fit.summary()
    ess = fit.run.engine["ess"]
    assert fit.converged and 1000 <= ess < 2000
    assert summary["rhat"].isna().all() and "rhat" not in str(fit) and "R-hat" not in str(fit)
    size = min(ess, chains * 600)
    assert (summary["ess_bulk"] == size).all() and (summary["ess_tail"] == size).all()
    assert np.allclose(summary["mcse_mean"], summary["sd"] / np.sqrt(size))
    assert (fit.member_effects()["ess_bulk"] == size).all()


def test_what_is_advised_is_accepted() -> None:
    table = made_up_coalitions(40, 12)
    with pytest.warns(
        rmm.ConvergenceWarning, match=r"effective draws.*\n\* Ask .*: ess=500"
    ) as seen:
        fit = rmm.fit(FORMULA, table, ess=20, **SHORT)
    said = str(seen[0].message)
    assert "adapt_delta" not in said and "warmup" not in said and "R-hat" not in said
    advised = int(said.rpartition("ess=")[2].rstrip("."))
    assert not fit.converged
    assert rmm.fit(FORMULA, table, ess=advised, **SHORT).converged


PEAK = """
import sys, warnings
warnings.simplefilter("ignore")
import rmm
from benchmarks.speed.growth import Case, formula, table_of
from rmm.backends.laplace import run

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

case = Case("gaussian", sys.argv[1], *map(int, sys.argv[2:]))
found, before, check, made = [], [], run.check_memory, run.Integrand

def starting(model):
    open("/proc/self/clear_refs", "w").write("5")  # peaks are counted from here on
    before.append(status("VmRSS"))
    return made(model)

def checking(need, *others):
    found.append(need.total)
    return check(need, *others)

run.Integrand, run.check_memory = starting, checking
for one in (Case("gaussian", "anywhere", 60, 20, 3, case.coefficients), case):  # first: libraries
    rmm.fit(formula(one.coefficients), table_of(one), monitor="structural", backend="laplace",
            seed=1, progress=False)
print(found[-1] / (status("VmHWM") - before[-1]))
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux knows peaks")
@pytest.mark.parametrize(
    "case", ["nations 20000 8000 3 1", "anywhere 50000 1500 3 0"], ids=["kernels", "LAPACK"]
)
def test_the_memory_that_is_counted_is_what_a_fit_takes(case: str) -> None:
    """Peak memory of the engine is at most the need that was found, and at least a third of it.

    Without huge pages, and with arrays given back as soon as they are free: what these add depends
    on what else the machine does.
    """
    command = [sys.executable, "-c", PEAK, *case.split()]
    steady = {"NUMPY_MADVISE_HUGEPAGE": "0", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **steady}
    )
    assert 1 <= float(done.stdout) <= 3


def test_factors_of_the_kernels_are_counted() -> None:
    """At least the lanes of the cells, and more for what is not normal: noise of its draws."""
    gaussian = integrand()
    binomial = integrand_of("binomial")
    found = {}
    for name, model in (("gaussian", gaussian), ("binomial", binomial)):
        known = symbolic(model)
        found[name] = memory.with_factors(memory.Need(0, 0, 0), model, known).factors
        cells = model.size * (model.size + 1) // 2
        assert found[name] > 8 * 8 * (cells + len(model.row) + model.model.groups)
    assert found["binomial"] > found["gaussian"]


def integrand_of(family: str) -> Integrand:
    table = made_up_coalitions(40, 12)
    table["y"] = (table["y"] > table["y"].mean()).astype(int)
    model = prepare(FORMULA, table, family)
    return Integrand(latent_model(model.spec, model.design, model.priors))
