"""The JAGS backend: same draws whatever the cores, and no process left behind, ever."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests import ROOT

if importlib.util.find_spec("pyjags") is None:  # importing it costs seconds: workers do
    pytest.skip("pyjags is not installed", allow_module_level=True)

from rmm.backends.base import Run, Settings
from rmm.backends.jags import run as jags
from rmm.backends.jags import worker as jags_worker
from rmm.backends.jags import worker_pool as jags_pool
from rmm.errors import BackendError, BackendTimeout, ConvergenceWarning, ProgramError

PROGRAM = """model {
  for (j in 1:J) {
    y[j] ~ dnorm(eta[j], tau)
    eta[j] <- alpha + inprod(X[j, 1:K], b[1:K]) + u[g[j]]
  }
  alpha ~ dnorm(0, 0.01)
  for (k in 1:K) { b[k] ~ dnorm(0, 0.01) }
  for (h in 1:H) { u[h] ~ dnorm(0, tau_u) }
  tau ~ dscaled.gamma(2, 1)
  tau_u ~ dscaled.gamma(2, 1)
  sigma <- 1 / sqrt(tau)
  # a comment with sigma[1] in it
}
"""
# Cheap per iteration, and endless: for everything that has to be interrupted.
ENDLESS = Settings(chains=2, warmup=10, draws=1_000_000_000, thin=1, monitor=("mu",), cores=2)
SMALL = "model { mu ~ dnorm(0, 1)\n y ~ dnorm(mu, 1) }"


def data(j: int = 60, k: int = 2) -> dict[str, Any]:
    random = np.random.default_rng(1)
    x = random.normal(size=(j, k))
    group = np.arange(j) % 5
    y = 1 + x @ np.arange(1.0, k + 1) + random.normal(size=5)[group] + random.normal(size=j)
    return {"J": j, "K": k, "H": 5, "X": x, "g": group + 1, "y": y}


def fit(given: dict[str, Any] | None = None, program: str = PROGRAM, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "chains": 3,
        "warmup": 200,
        "draws": 150,
        "seed": 3,
        "cores": 2,
        "monitor": ("alpha", "b", "sigma", "u"),
    } | changes
    settings = Settings(**values)
    return jags.run(program, given or data(), [{}] * settings.chains, settings, None)


def small(settings: Settings, y: float = 0.5, **inits: Any) -> Run:
    return jags.run(SMALL, {"y": y}, [inits] * settings.chains, settings, None)


def workers_of(pid: int) -> list[psutil.Process]:
    """Living JAGS workers below a process."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "jags/worker.py" in " ".join(child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def wait_until(condition: Any, limit: float = 20.0) -> bool:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def no_workers() -> Any:
    """Begin without idle workers, so that those seen belong to the test."""
    jags_pool.shutdown()
    assert workers_of(os.getpid()) == []


# ---- draws -----------------------------------------------------------------------------------


def test_draws_have_the_dims_of_the_program() -> None:
    run = fit(data(k=1))
    shapes = {name: draws.shape for name, draws in run.draws.items()}
    assert shapes == {"alpha": (3, 150), "b": (3, 150, 1), "sigma": (3, 150), "u": (3, 150, 5)}


def test_matrices_are_read_and_returned_in_their_own_order() -> None:
    program = """model {
      for (i in 1:2) { for (k in 1:3) { m[i, k] <- X[i, k] + 0 * z
      q[i, k] ~ dnorm(X[i, k], 1.0E12) } }
      z ~ dnorm(0, 1)
    }"""
    x = np.arange(6.0).reshape(2, 3)
    run = fit({"X": x}, program, monitor=("m", "q"), warmup=50, draws=4, chains=1)
    assert np.array_equal(run.draws["m"], np.broadcast_to(x, (1, 4, 2, 3)))
    assert np.allclose(run.draws["q"], x, atol=1e-4)


def test_posterior_agrees_with_the_conjugate_one() -> None:
    run = small(Settings(chains=4, warmup=100, draws=4000, monitor=("mu",), seed=9))
    draws = run.draws["mu"]
    assert draws.mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.5 / 16000))
    assert draws.std() == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_same_seed_gives_the_same_draws_whatever_the_cores() -> None:
    one, two, three = fit(cores=1), fit(cores=2), fit(cores=3)
    for name in one.draws:
        assert np.array_equal(one.draws[name], two.draws[name])
        assert np.array_equal(one.draws[name], three.draws[name])


def test_seeds_and_chains_differ() -> None:
    one, other = fit(seed=3), fit(seed=4)
    chains = one.draws["alpha"]
    assert not np.array_equal(one.draws["alpha"], other.draws["alpha"])
    assert not np.isin(chains[0], chains[1]).any()
    assert len({jags.chain_seed(s, c) for s in range(50) for c in range(8)}) == 400


def test_a_chain_does_not_depend_on_the_number_of_chains() -> None:
    assert np.array_equal(fit(chains=1).draws["b"][0], fit(chains=3).draws["b"][0])


def test_thinning_keeps_the_number_of_draws_asked_for() -> None:
    every, third = fit(draws=150, chains=1), fit(draws=50, thin=3, chains=1)
    assert third.draws["alpha"].shape == (1, 50)
    assert np.array_equal(third.draws["alpha"], every.draws["alpha"][:, ::3])


def test_initial_values_are_used_and_nan_is_left_to_jags() -> None:
    program = "model { for (i in 1:2) { a[i] ~ dt(0, 1, 4)\n y[i] ~ dlogis(a[i], 1) } }"
    settings = Settings(chains=1, warmup=0, draws=1, monitor=("a",), options={"adapt": 0})
    first = {}
    with pytest.warns(ConvergenceWarning, match="still adapting"):
        for start in (-3.0, 3.0):
            inits = [{"a": np.array([start, np.nan])}]
            found = jags.run(program, {"y": np.zeros(2)}, inits, settings, None)
            first[start] = found.draws["a"][0, 0]
    assert first[-3.0][0] != first[3.0][0]
    assert np.isfinite(first[3.0]).all()


def test_missing_values_are_jags_na_and_infinite_ones_are_refused() -> None:
    program = "model { for (i in 1:2) { y[i] ~ dnorm(5, 1.0E8) } }"
    run = fit({"y": np.array([5.0, np.nan])}, program, monitor=("y",), warmup=10, draws=20)
    assert np.all(run.draws["y"][..., 0] == 5.0)
    assert run.draws["y"][..., 1].std() > 0
    with pytest.raises(BackendError, match="data: 'y' has infinite values"):
        fit({"y": np.array([5.0, np.inf])}, program, monitor=("y",))


def test_variables_without_a_value_are_named() -> None:
    program = "model { z ~ dnorm(0, 1)\n q[2] <- z }"
    with pytest.raises(BackendError, match="Draws of 'q' are not finite numbers"):
        fit({"unused": 1.0}, program, monitor=("q",))


# ---- samplers --------------------------------------------------------------------------------


def test_coefficients_and_effects_are_in_a_glm_block() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        run = fit(options={"require_block": ("alpha", "b", "u")})
    assert run.engine["modules"] == ["basemod", "bugs", "lecuyer", "glm"]
    assert run.engine["samplers"]["glm::Generic"] == 8


def test_nodes_outside_the_block_are_told() -> None:
    program = PROGRAM.replace("alpha ~ dnorm(0, 0.01)", "alpha ~ dt(0, 0.01, 4)")
    with pytest.warns(ConvergenceWarning, match="samples alpha outside its glm block"):
        run = fit(program=program, options={"require_block": ("alpha", "b", "u")})
    assert run.engine["messages"][0].endswith(
        "a normal prior and enter the linear predictor linearly."
    )


def test_no_block_at_all_is_an_error() -> None:
    program = "model { for (k in 1:2) { a[k] ~ dt(0, 1, 4) }\n y ~ dlogis(sum(a), 1) }"
    with pytest.raises(BackendError, match=r"samples a\[1\], a\[2\] one by one"):
        fit({"y": 1.0}, program, monitor=("a",), options={"require_block": ("a",)})


def test_one_node_alone_needs_no_block() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        run = fit({"y": 1.0}, SMALL, monitor=("mu",), options={"require_block": ("mu",)})
    assert not run.engine["messages"]


def test_unfinished_adaptation_is_told() -> None:
    program = "model { a ~ dt(0, 1, 4)\n y ~ dlogis(a, 1) }"
    with pytest.warns(
        ConvergenceWarning,
        match=r"still adapting .*\(chains: 1, 2, 3\)\. Increase `warmup` \(now 4\)",
    ):
        run = fit({"y": 1.0}, program, monitor=("a",), warmup=4, options={"adapt": 2})
    assert run.engine["adapted"] == [False, False, False]


def test_progress_ends_with_everything_done() -> None:
    seen: list[tuple[int, int]] = []
    settings = Settings(chains=2, warmup=100, draws=100, thin=2, monitor=("mu",))
    jags.run(SMALL, {"y": 0.0}, [{}, {}], settings, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (600, 600)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_unused_data_are_kept_out_and_told() -> None:
    run = fit({**data(), "extra": np.ones(3), "nothing": np.ones((4, 0))}, draws=5)
    assert run.engine["messages"] == ["Data not used by the program: extra."]


# ---- refusals --------------------------------------------------------------------------------


def test_a_syntax_error_shows_the_line() -> None:
    program = PROGRAM.replace("tau_u ~ dscaled.gamma(2, 1)", "tau_u ~ ~ dscaled.gamma(2, 1)")
    with pytest.raises(ProgramError, match=r"of line 10(.|\n)*> +10 \|   tau_u ~ ~ dscaled"):
        fit(program=program)


def test_an_unknown_variable_shows_the_line() -> None:
    program = PROGRAM.replace("u[g[j]]", "u[g[j]] + nobody")
    with pytest.raises(ProgramError, match=r"Unknown variable nobody(.|\n)*> +4 \|     eta\[j\]"):
        fit(program=program)


def test_an_unknown_distribution_is_a_program_error() -> None:
    with pytest.raises(ProgramError, match="dnormal"):
        fit(program=PROGRAM.replace("alpha ~ dnorm", "alpha ~ dnormal"))


def test_impossible_initial_values_name_the_node() -> None:
    program = "model { s ~ dunif(0, 1)\n y ~ dunif(0, s) }"
    settings = Settings(chains=2, monitor=("s",))
    with pytest.raises(BackendError, match=r"cannot start chain \d at node (s|y)"):
        jags.run(program, {"y": 0.5}, [{"s": 0.2}] * 2, settings, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"monitor": ("alpha", "beta")}, "contains beta, but the program has no such variable"),
        ({"monitor": ()}, "`Settings.monitor` is empty"),
        ({"draws": 0}, "draws and thin must be at least 1"),
        ({"options": {"adapt": 300}}, r"between 0 and `warmup` \(200\), but is 300"),
        ({"options": {"blocks": 3}}, "'blocks' is not an option of JAGS.* Allowed: adapt"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        fit(**changes)


def test_wrong_inits_are_refused() -> None:
    settings = Settings(chains=2, monitor=("mu",))
    with pytest.raises(BackendError, match="`inits` contains nu, but the program has no such"):
        small(settings, nu=1.0)
    with pytest.raises(BackendError, match="for 1 chain, but there are 2 chains"):
        jags.run(SMALL, {"y": 0.0}, [{}], settings, None)
    with pytest.raises(BackendError, match="'mu' must contain only numbers"):
        small(settings, mu="zero")


def test_errors_never_show_the_inside_of_the_engine() -> None:
    with pytest.raises(ProgramError, match="because of line 1") as caught:
        fit(program="model { y ~ dnorm(0 }")
    assert "Traceback" not in str(caught.value)
    assert "tmp" not in str(caught.value)


# ---- processes -------------------------------------------------------------------------------


def test_workers_are_reused(no_workers: None) -> None:
    fit()
    before = {p.pid for p in workers_of(os.getpid())}
    fit()
    assert {p.pid for p in workers_of(os.getpid())} == before
    assert len(before) == 2


def test_a_time_limit_leaves_no_process(no_workers: None) -> None:
    began = time.monotonic()
    limited = Settings(**{**vars(ENDLESS), "timeout": 1.0})
    with pytest.raises(BackendTimeout, match="did not finish within 1 s"):
        small(limited)
    assert time.monotonic() - began < 20
    assert workers_of(os.getpid()) == []
    assert np.isfinite(fit().draws["alpha"]).all()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_an_error_and_the_next_fit_works(no_workers: None, number: int) -> None:
    def crash() -> None:
        wait_until(lambda: len(workers_of(os.getpid())) == 2)
        time.sleep(0.5)
        workers_of(os.getpid())[0].send_signal(number)

    killer = threading.Thread(target=crash)
    killer.start()
    with pytest.raises(BackendError, match=signal.Signals(number).name):
        small(ENDLESS)
    killer.join()
    assert workers_of(os.getpid()) == []
    assert np.isfinite(fit().draws["alpha"]).all()


@pytest.mark.parametrize("values", [1, 5_000_000])
def test_a_worker_without_memory_says_so(
    no_workers: None, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    """Too little for a sampler, and too little to even read the job."""
    resource = pytest.importorskip("resource", reason="limits of memory need a POSIX system")
    if not hasattr(resource, "prlimit"):
        pytest.skip("the limits of another process can be set on Linux only")
    acquire = jags_pool.acquire

    def starved(count: int) -> list[jags_pool.Worker]:
        workers = acquire(count)
        for worker in workers:
            resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (4096, 4096))
        return workers

    monkeypatch.setattr(jags_pool, "acquire", starved)
    program = f"data {{ m <- mean(z) }}\n{SMALL}"
    settings = Settings(chains=1, warmup=10, draws=1_000_000, monitor=("mu",), timeout=60)
    with pytest.raises(BackendError, match=r"JAGS ran out of memory[\s\S]*Monitor fewer variables"):
        jags.run(program, {"y": 0.5, "z": np.ones(values)}, [{}], settings)
    assert workers_of(os.getpid()) == []
    monkeypatch.undo()
    assert np.isfinite(fit().draws["alpha"]).all()


@pytest.mark.parametrize("where", ["unpack", "run_chain", "pack"])
def test_memory_may_end_anywhere_in_a_worker(where: str, tmp_path: Path) -> None:
    """Reading the job, running it, sending the answer: even that of the failure."""
    script = tmp_path / "starved.py"
    script.write_text(
        "from rmm.backends.jags import worker\n"
        "def starved(*given):\n    raise MemoryError\n"
        "hello = worker.pack({'kind': 'hello', 'version': '4'})\n"
        "worker.load_engine, worker.describe = (lambda: None), (lambda engine: {})\n"
        f"worker.{where} = starved\n"
        "pack = worker.pack\n"
        "worker.pack = lambda header, arrays=None: (\n"
        "    hello if header['kind'] == 'hello' else pack(header, arrays))\n"
        "worker._run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    worker = jags_pool.Worker(process, (tmp_path / "errors").open("w+b"))
    try:
        jags_pool._greet(worker)
        worker.send({"program": SMALL}, {})
        if where == "pack":
            with pytest.raises(BackendError, match="JAGS ran out of memory"):
                worker.receive()
        else:
            [(header, _)] = worker.receive()
            assert header["kind"] == "error"
            assert "MemoryError" in header["message"]
    finally:
        process.kill()
        process.wait()
        worker.close()


def test_a_worker_that_died_while_idle_is_replaced(no_workers: None) -> None:
    fit()
    for worker in jags_pool._idle:
        worker.process.kill()
        worker.process.wait()
    assert np.isfinite(fit().draws["alpha"]).all()


def test_an_exception_from_progress_ends_the_workers(no_workers: None) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        jags.run(SMALL, {"y": 0.0}, [{}, {}], ENDLESS, stop)
    assert workers_of(os.getpid()) == []


SCRIPT = f"""
import sys
from rmm.backends.jags import run as jags
from rmm.backends.base import Settings
settings = Settings(chains=2, warmup=10, draws=10**9, monitor=("mu",), cores=2)
try:
    jags.run({SMALL!r}, {{"y": 0.5}}, [{{}}, {{}}], settings, None)
except KeyboardInterrupt:
    import psutil
    print("left", len(psutil.Process().children(recursive=True)))
"""


def busy_parent() -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A Python process in the midst of an endless fit, and its two workers."""
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert wait_until(lambda: len(workers_of(parent.pid)) == 2)
    workers = workers_of(parent.pid)
    assert wait_until(lambda: all(w.cpu_times().user > 0.8 for w in workers))
    return parent, workers


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_parent_alone_leaves_no_process(number: int) -> None:
    parent, workers = busy_parent()
    parent.send_signal(number)
    said, _ = parent.communicate(timeout=20)
    assert wait_until(lambda: not any(w.is_running() for w in workers), 10)
    assert said == (b"left 0\n" if number == signal.SIGINT else b"")


def test_a_fork_of_the_parent_does_not_keep_workers_alive() -> None:
    script = (
        "import os, sys, time\n"
        "from rmm.backends.jags import worker_pool\n"
        "w = worker_pool.acquire(1)\n"
        "print(w[0].process.pid, flush=True)\n"
        "if os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)\n"
        "os._exit(0)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert wait_until(lambda: not psutil.pid_exists(worker), 10)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


def test_threads_can_fit_at_the_same_time() -> None:
    found: dict[int, Run] = {}
    threads = [
        threading.Thread(target=lambda s=seed: found.update({s: fit(seed=s, cores=1)}))
        for seed in (3, 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(found[3].draws["b"], fit(seed=3).draws["b"])
    assert np.array_equal(found[4].draws["b"], fit(seed=4).draws["b"])


# ---- the protocol ----------------------------------------------------------------------------


def test_frames_survive_and_refuse_objects() -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "s": np.array(2.5), "e": np.zeros((0, 2))}
    frame = jags_worker.pack({"kind": "x"}, arrays)
    assert jags_worker.frame_length(frame[:4]) is None
    assert jags_worker.frame_length(frame) == len(frame)
    header, found = jags_worker.unpack(frame)
    assert header == {"kind": "x"}
    assert all(np.array_equal(found[k], v) and found[k].shape == v.shape for k, v in arrays.items())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        jags_worker.pack({}, {"o": np.array([None])})
    with pytest.raises(ValueError, match="not a message"):
        jags_worker.frame_length(b"Traceback (most recent call last)")


def test_available_says_the_versions() -> None:
    found = jags.available()
    assert found.available
    assert found.what.startswith("JAGS 4.")


def test_a_missing_engine_is_told_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jags_pool.shutdown()
    (tmp_path / "pyjags.py").write_text("")  # hides the real package from the worker
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = jags.available()
    assert not found.available
    assert "No module named 'pyjags'" in found.what
    assert "pip install" in found.remedy
    with pytest.raises(BackendError, match="pip install pyjags"):
        small(Settings(monitor=("mu",)))


def test_a_missing_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    jags_pool.shutdown()
    monkeypatch.setattr(sys, "executable", str(ROOT / "no" / "python"))
    with pytest.raises(BackendError, match="cannot be started"):
        small(Settings(monitor=("mu",)))
