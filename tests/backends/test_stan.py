"""The Stan backend: what goes in, what comes out, and that nothing is left behind.

One program serves all tests; its executable comes from the user's cache when it is there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rmm.backends.base import Run, Settings
from rmm.backends.stan.backend import BACKEND
from rmm.backends.stan.chains import failure
from rmm.backends.stan.compile import maker
from rmm.backends.stan.install import installed_cmdstan
from rmm.backends.stan.run import as_json, available, compile_program, run
from rmm.cache import cache_dir
from rmm.errors import BackendError, BackendTimeout, ProgramError
from tests import ROOT

pytestmark = [
    pytest.mark.stan,
    pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}"),
]

# y ~ N(X b + a, sigma); `slow` makes each evaluation long, `trouble` makes the program fail.
PROGRAM = """\
data {
  int<lower=0> N;
  int<lower=0> K;
  matrix[N, K] X;
  vector[N] y;
  int<lower=0> slow;
  int<lower=0> trouble;
}
parameters {
  real a;
  vector[K] b;
  real<lower=0> sigma;
}
model {
  real wasted = 0;
  for (i in 1:slow) wasted += sin(1.0 * i);
  target += 0 * wasted;
  if (trouble == 1) reject("no value will do, a is ", a);
  a ~ normal(0, 5);
  b ~ normal(0, 5);
  sigma ~ normal(0, 5);
  y ~ normal(a + X * b, sigma);
}
generated quantities {
  real strange = trouble == 2 ? not_a_number() : 0;
  array[2] matrix[2, 3] q;
  for (i in 1:2) for (j in 1:2) for (k in 1:3) q[i, j, k] = 100 * i + 10 * j + k;
}
"""
TRUTH = {"a": 1.0, "b": np.array([0.5, -0.7]), "sigma": 0.8}
QUICK = Settings(chains=2, warmup=100, draws=60, seed=5, cores=2)


def data(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(20)
    X = rng.normal(size=(200, 2))
    y = TRUTH["a"] + X @ np.asarray(TRUTH["b"]) + TRUTH["sigma"] * rng.normal(size=200)
    return {"N": 200, "K": 2, "X": X, "y": y, "slow": 0, "trouble": 0, **changes}


def quick(values: Mapping[str, Any] | None = None, **changes: Any) -> Run:
    inits = changes.pop("inits", [])
    settings = Settings(**{**vars(QUICK), **changes})
    return run(PROGRAM, values or data(), inits, settings)


def samplers(seed: int) -> list[psutil.Process]:
    """Running processes of the program with this seed; each test that asks has its own.

    Found by their command lines: psutil keeps the `exe` that it saw first, which is Python's if it
    looked between fork and exec.
    """
    executable = str(compile_program(PROGRAM))
    lines = ((p, p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    return [p for p, line in lines if line[:1] == [executable] and f"seed={seed}" in line]


def wait_for(condition: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_draws_find_the_truth_and_have_the_programs_shapes() -> None:
    result = quick(chains=3, warmup=300, draws=400)
    shapes = {name: array.shape for name, array in result.draws.items()}
    assert shapes == {
        "a": (3, 400),
        "b": (3, 400, 2),
        "sigma": (3, 400),
        "strange": (3, 400),
        "q": (3, 400, 2, 2, 3),
    }
    for name, truth in TRUTH.items():
        draws = result.draws[name]
        z = (draws.mean(axis=(0, 1)) - truth) / draws.std(axis=(0, 1))
        assert np.all(np.abs(z) < 4), name
    i, j, k = np.indices((2, 2, 3)) + 1
    assert np.all(result.draws["q"] == 100 * i + 10 * j + k)


def test_sampler_statistics() -> None:
    statistics = quick().sample_stats
    assert set(statistics) == {
        "lp",
        "acceptance_rate",
        "step_size",
        "treedepth",
        "n_steps",
        "diverging",
        "energy",
    }
    assert all(array.shape == (2, 60) for array in statistics.values())
    assert statistics["diverging"].dtype == bool
    assert np.all((statistics["acceptance_rate"] > 0) & (statistics["acceptance_rate"] <= 1))
    assert np.all(statistics["treedepth"] >= 1)


def test_same_seed_same_draws_whatever_the_cores() -> None:
    one, two, other = quick(cores=1), quick(cores=2), quick(seed=6)
    assert all(np.array_equal(one.draws[name], two.draws[name]) for name in one.draws)
    assert not np.array_equal(one.draws["a"], other.draws["a"])
    assert not np.array_equal(one.draws["a"][0], one.draws["a"][1])


def test_thinning_keeps_every_second_draw() -> None:
    thinned, whole = quick(draws=30, thin=2), quick(draws=60)
    assert np.array_equal(thinned.draws["b"], whole.draws["b"][:, ::2])


def test_monitor_limits_the_draws() -> None:
    monitored = quick(monitor=("b", "sigma"))
    assert set(monitored.draws) == {"b", "sigma"}
    assert np.array_equal(monitored.draws["b"], quick().draws["b"])
    with pytest.raises(
        BackendError, match="`monitor` contains 'beta', but the Stan program has no such variable"
    ):
        quick(monitor=("beta",))


def test_a_variable_without_elements() -> None:
    result = quick(data(K=0, X=np.zeros((200, 0))), monitor=("a", "b"))
    assert result.draws["b"].shape == (2, 60, 0)
    assert result.draws["a"].shape == (2, 60)


def test_some_initial_values_are_enough() -> None:
    start = [{"a": 1.0, "b": TRUTH["b"]}, {}]
    with_inits, without = quick(inits=start), quick()
    assert not np.array_equal(with_inits.draws["a"][0], without.draws["a"][0])
    assert np.array_equal(with_inits.draws["a"][1], without.draws["a"][1])


def test_provenance() -> None:
    engine = quick(options={"adapt_delta": 0.9}).engine
    assert engine["name"] == "stan"
    assert engine["version"].startswith("2.")
    assert engine["options"]["adapt_delta"] == 0.9
    assert len(engine["sampling_seconds"]) == 2


def test_options_reach_the_sampler() -> None:
    assert quick(options={"max_treedepth": 1}).sample_stats["n_steps"].max() == 1
    dense = quick(options={"metric": "dense", "step_size": 0.5})
    assert not np.array_equal(dense.draws["a"], quick().draws["a"])
    steps = [
        quick(options={"adapt_delta": delta}).sample_stats["step_size"].mean()
        for delta in (0.6, 0.99)
    ]
    assert steps[0] > steps[1]
    names = ("adapt_delta", "max_treedepth", "metric", "step_size", "adaptation")
    assert BACKEND.options == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"adapt_detla": 0.9},
            "'adapt_detla' is not an option of Stan.*Allowed: adapt_delta, max_treedepth",
        ),
        ({"adapt_delta": 1.0}, "above 0 and below 1"),
        ({"max_treedepth": 10.5}, "whole number between 1 and 25"),
        ({"metric": "unit"}, "'diag' or 'dense'"),
        ({"step_size": "small"}, "must be a number above 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        quick(options=options)


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    run(PROGRAM, data(), [], QUICK, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (320, 320)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trouble": 1}, r"(?s)in chain \d.*no value will do.*could not start"),
        (
            {"trouble": 2},
            r"'strange' that are not finite. For example, strange is nan in chain 1, draw 1",
        ),
        ({"y": np.zeros(3)}, r"(?s)chain \d.*mismatch.*variable name=y"),
        ({"N": -1}, r"(?s)chain \d.*N is -1, but must be greater than or equal to 0"),
    ],
)
def test_failures_quote_stan(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        quick(data(**changes), seed=os.getpid())  # cases may run in parallel
    assert "Traceback" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert samplers(os.getpid()) == []


def test_too_little_memory_is_named() -> None:
    said = ["terminate called after throwing an instance of 'std::bad_alloc'"]
    message = failure(1, "signal SIGABRT", said)
    assert message.startswith("Stan failed in chain 2 (signal SIGABRT):\n    terminate")
    assert "Stan ran out of memory. Keep fewer draws" in message


def test_messages_name_lines_of_the_users_text() -> None:
    compile_program(PROGRAM)
    moved = "// one\n// two\n" + PROGRAM.replace("if (trouble", "\n  if (trouble")
    assert compile_program(moved) == compile_program(PROGRAM)
    line = 1 + moved[: moved.index("reject(")].count("\n")
    with pytest.raises(BackendError, match=rf"\(in 'program.stan', line {line}, column 20 to"):
        run(moved, data(trouble=1), [], QUICK)


def test_missing_data_are_named() -> None:
    values = data()
    del values["X"]
    with pytest.raises(BackendError, match="variable name=X"):
        quick(values)


def test_impossible_initial_values() -> None:
    with pytest.raises(BackendError, match=r"(?s)Lower bounded variable is -1.*could not start"):
        quick(inits=[{"sigma": -1.0}] * 2)
    with pytest.raises(BackendError, match="for 3 chains, but there are 2"):
        quick(inits=[{}] * 3)


def test_refused_programs() -> None:
    with pytest.raises(ProgramError, match=r"(?s)line 1:.*real a = ;"):
        run("parameters { real a = ; }", {}, [], QUICK)


def test_time_limit_ends_the_samplers() -> None:
    started = time.monotonic()
    with pytest.raises(BackendTimeout, match=r"time limit of 0.5 s"):
        quick(data(slow=10_000_000), timeout=0.5, seed=302)
    assert time.monotonic() - started < 5
    assert samplers(302) == []


def test_a_crash_is_named() -> None:
    def kill_one(done: int, total: int) -> None:
        for process in samplers(303)[:1]:
            process.send_signal(signal.SIGSEGV)

    settings = Settings(**{**vars(QUICK), "draws": 20_000_000, "seed": 303})
    with pytest.raises(BackendError, match="killed by SIGSEGV"):
        run(PROGRAM, data(slow=1000), [], settings, kill_one)
    assert samplers(303) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_sampler_outlives_its_parent(number: signal.Signals) -> None:
    code = (
        "from tests.backends.test_stan import quick, data\n"
        f"quick(data(slow=100_000), draws=20_000_000, seed={400 + number})"
    )
    compile_program(PROGRAM)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        both = wait_for(lambda: parent.poll() or len(samplers(400 + number)) == 2, seconds=60)
        assert both and parent.poll() is None, parent.communicate(timeout=10)[1].decode()
        os.kill(parent.pid, number)  # to the parent alone, not to its group
        _, said = parent.communicate(timeout=10)
        assert parent.returncode != 0
        assert (b"KeyboardInterrupt" in said) == (number == signal.SIGINT)
        assert wait_for(lambda: not samplers(400 + number))
    finally:
        parent.kill()
        for process in samplers(400 + number):
            process.kill()


def test_no_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    quick()
    with pytest.raises(BackendError, match="no value will do"):
        quick(data(trouble=1))
    assert list(tmp_path.iterdir()) == []


def test_data_as_json() -> None:
    values = {"n": np.int64(3), "x": np.array([[1.5, 2], [3, 0.1]]), "flag": np.array([True])}
    assert as_json(values) == '{"n": 3, "x": [[1.5, 2.0], [3.0, 0.1]], "flag": [1]}'


# --- the runner, and cmdstanpy over the home ----------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["method=optimize"],
        ["method=sample", "algorithm=fixed_param"],
        ["method=sample", "foo=1"],
        ["diagnose"],
        ["method=sample", "metric=unit_e"],
        ["method=sample", "num_chains=2"],
        ["method=sample", "num_samples=many"],
        ["id=1"],
    ],
)
def test_the_runner_refuses_the_rest_by_name(arguments: list[str], tmp_path: Path) -> None:
    executable = compile_program(PROGRAM)
    if not maker(executable).built:
        pytest.skip("this is the command line of the user's own CmdStan")
    (tmp_path / "data.json").write_text(as_json(data()))
    command = [str(executable), "data", "file=data.json", *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 64
    refused = arguments[-1] if arguments != ["id=1"] else "no method given"
    assert refused in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.thorough
def test_cmdstanpy_compiles_and_samples_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    cmdstanpy = pytest.importorskip("cmdstanpy")
    if installed_cmdstan() is not None:
        pytest.skip("the user's own CmdStan is used here, not the home")
    home = compile_program(PROGRAM).parents[2]
    monkeypatch.setenv("CMDSTAN", str(home))
    # Beside the executables: cmdstanpy compiles it once and then finds it newer than its source.
    source = cache_dir() / "tests" / home.name / "linear.stan"
    source.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_file() or source.read_text() != PROGRAM:
        source.write_text(PROGRAM)
    model = cmdstanpy.CmdStanModel(stan_file=str(source))
    assert model.exe_info()["stan_version_major"] == "2"
    inits = {"a": 0.0, "b": [0.0, 0.0], "sigma": 1.0}
    fit = model.sample(
        data={k: np.asarray(v).tolist() for k, v in data().items()},
        chains=2,
        iter_warmup=200,
        iter_sampling=150,
        thin=3,
        seed=4,
        save_warmup=True,
        inits=inits,
        adapt_delta=0.9,
        max_treedepth=8,
        metric="dense_e",
        step_size=0.2,
        sig_figs=10,
        show_progress=False,
    )
    assert fit.draws().shape[:2] == (50, 2)
    assert fit.draws(inc_warmup=True).shape[:2] == (50 + 67, 2)
    assert fit.metric_type == "dense_e"
    assert fit.inv_metric.shape == (2, 4, 4)
    assert np.all(fit.step_size > 0)
    assert list(fit.divergences) == [0, 0]
    assert fit.stan_variable("q").shape == (100, 2, 2, 3)
    assert set(fit.method_variables()) >= {"lp__", "energy__", "divergent__", "treedepth__"}
    config = fit.metadata.cmdstan_config
    assert (config["max_depth"], config["delta"], config["seed"]) == (8, 0.9, 4)
    assert abs(fit.stan_variable("a").mean() - TRUTH["a"]) < 0.3
