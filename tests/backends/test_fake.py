"""The fake backend: shapes of a real one, draws that depend on content alone, mishaps on demand."""

from __future__ import annotations

import time

import numpy as np
import pytest

import rmm
from rmm.backends import fake
from rmm.backends.base import Run, Settings
from rmm.backends.jags import program as jags
from rmm.design.prepare import prepare
from rmm.errors import BackendError, BackendTimeout
from tests.coalitions import made_up_coalitions

PROGRAM = "model {\n  b[1] <- a\n  for (k in 1:K) { b[k + 1] <- c[k] }\n  sigma ~ dexp(1)\n}"


def fit(y: float = 1.0, seed: int = 1, **changes: object) -> Run:
    settings = Settings(
        chains=2, warmup=10, draws=30, seed=seed, monitor=("a", "b", "sigma"), **changes
    )  # type: ignore[arg-type]
    return fake.run(PROGRAM, {"y": np.array([y]), "K": 2}, [{}, {}], settings, None)


def test_shapes_and_signs() -> None:
    draws = fit().draws
    shapes = {name: values.shape for name, values in draws.items()}
    assert shapes == {"a": (2, 30), "b": (2, 30, 3), "sigma": (2, 30)}
    assert (draws["sigma"] > 0).all()


def test_draws_have_the_dims_of_a_real_model() -> None:
    formula = (
        "y ~ 1 + z + region + mm(id(pid, gid), vars(x), fn(w ~ 1/n^exp(-b1*s)), RE=TRUE)"
        " + hm(id=cid)"
    )
    priors = ["b_l2[z] ~ student_t(4, 0, 1)", "b_w ~ normal(0, 1)"]
    model = prepare(formula, made_up_coalitions(), priors=priors)
    spec, forms = model.spec, model.priors.forms
    settings = Settings(chains=2, draws=5, monitor=jags.monitored(spec, forms))
    values = jags.data(spec, model.design, model.priors.data)
    run = fake.run(jags.write(spec, forms), values, [{}, {}], settings, None)
    for parameter in spec.parameters:
        sizes = tuple(len(model.design.coords[d]) for d in parameter.dims)
        assert run.draws[parameter.name].shape == (2, 5, *sizes)


def test_draws_follow_from_data_and_seed() -> None:
    one, again, other_seed, other_data = fit(), fit(), fit(seed=2), fit(y=2.0)
    assert np.array_equal(one.draws["b"], again.draws["b"])
    assert not np.array_equal(one.draws["b"], other_seed.draws["b"])
    assert (
        abs(one.draws["b"].mean(axis=(0, 1)) - other_seed.draws["b"].mean(axis=(0, 1))).max() < 0.1
    )
    assert not np.array_equal(one.draws["b"], other_data.draws["b"])


@pytest.mark.parametrize(
    ("mishap", "message"),
    [
        ("crash", "crashed"),
        ("segfault", "killed by SIGSEGV"),
        ("memory", r"exit status 1\): MemoryError"),
    ],
)
def test_mishaps(monkeypatch: pytest.MonkeyPatch, mishap: str, message: str) -> None:
    monkeypatch.setenv(fake.SWITCH, mishap)
    with pytest.raises(BackendError, match=message):
        fit()


@pytest.mark.parametrize(
    ("mishap", "message"),
    [
        (
            "nan",
            r"Draws of b_l2 are not finite numbers \(1 in all\)\. The first is draw 5 of chain 2",
        ),
        ("shape", r"returned b_l2 with shape \(1, 2\) instead of \(1,\)"),
    ],
)
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, mishap: str, message: str) -> None:
    monkeypatch.setenv(fake.SWITCH, mishap)
    with pytest.raises(BackendError, match=message):
        rmm.fit(
            "y ~ 1 + mm(id(pid, gid), fn(w ~ 1/n), RE=TRUE)",
            made_up_coalitions(),
            backend="fake",
            chains=2,
            draws=5,
            seed=1,
            progress=False,
        )


def test_hanging_ends_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fake.SWITCH, "hang")
    began = time.monotonic()
    with pytest.raises(BackendTimeout, match=r"hung for 0\.2 s"):
        fit(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5


def test_a_share_of_fits_is_hit_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fake.SWITCH, "crash:0.3")

    def hit() -> list[int]:
        found = []
        for seed in range(200):
            try:
                fit(seed=seed)
            except BackendError:
                found.append(seed)
        return found

    first = hit()
    assert 35 <= len(first) <= 85
    assert hit() == first


def test_an_unknown_mishap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fake.SWITCH, "explode")
    with pytest.raises(
        BackendError,
        match=r"'explode' is not a value of .* Allowed: crash, segfault, memory, hang, nan, shape",
    ):
        fit()
