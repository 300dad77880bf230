"""`backend="auto"`: which engine runs, why, and that no reason is lost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import rmm
from rmm.backends import fake, find_backend
from rmm.backends.base import Availability, Backend
from rmm.errors import BackendError, BackendTimeout, ProgramError, StudyError
from rmm.fitting import engine_choice
from tests import ROOT
from tests.coalitions import made_up_coalitions, shared_file

FORMULA = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE = TRUE)"
R_EXAMPLE = (
    "Surv(govdur, earlyterm) ~ 1 + mm(id(gid, pid), mmc(fdep), mmw(w ~ 1/offset(n), constraint=1))"
    " + majority + hm(id=cid, name=cname, type=RE, showFE=F)"
)
SHORT: dict[str, Any] = {"seed": 1, "chains": 2, "draws": 400, "progress": False}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_up_coalitions(40, 12)


def stand_in(name: str, *, available: bool = True, run: Any = fake.run) -> Backend:
    """An engine whose draws mean nothing, under the name and with the options of another."""
    found = Availability(available, "a stand-in" if available else "no C++ compiler was found")
    options = find_backend(name).options
    return replace(fake.BACKEND, name=name, run=run, available=lambda: found, options=options)


def failing(error: Exception) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        raise error

    return run


def weighed(**facts: float) -> Callable[..., Any]:
    """Laplace's run, with other facts about its weights."""

    def run(*args: Any) -> Any:
        found = find_backend("laplace").run(*args)
        return replace(found, engine={**found.engine, **facts})

    return run


def with_engines(monkeypatch: pytest.MonkeyPatch, engines: Mapping[str, Backend]) -> None:
    real = engine_choice.find_backend
    monkeypatch.setattr(engine_choice, "find_backend", lambda name: engines.get(name, real(name)))


def laplace(run: Any) -> Backend:
    return replace(find_backend("laplace"), run=run)


def quietly(table: pd.DataFrame, **given: Any) -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(FORMULA, table, **{**SHORT, **given})


def test_few_draws_are_no_reason_for_another_engine_and_no_check_that_holds(
    table: pd.DataFrame,
) -> None:
    fit = quietly(table, chains=1, draws=20)
    assert (fit.backend, fit.converged) == ("laplace", False)
    second = str(fit).splitlines()[2]
    assert second.endswith("too few draws, which another engine would not change")


def test_laplace_runs_where_its_checks_hold(table: pd.DataFrame) -> None:
    fit = rmm.fit(FORMULA, table, **SHORT)
    assert (fit.backend, fit.converged) == ("laplace", True)
    second = str(fit).splitlines()[2]
    assert second == (
        'backend="auto" chose laplace: it supports this model, and the fit passed its checks'
    )
    assert second.replace('"', "&quot;") in fit._repr_html_()
    assert "auto" not in str(rmm.fit(FORMULA, table, backend="laplace", **SHORT))


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"pareto_k": 0.9}, r"laplace: Pareto k of the importance weights is 0\.90"),
        ({"ess": 120.0}, "laplace: 120 effective draws, 400 needed"),
        (
            {"inner_variance": 3.0},
            r"laplace: the log importance weights of the effects have variance 3\.0",
        ),
        ({"inner_variance": 6.78e38}, r"effects have variance 7e\+38 given"),
    ],
)
def test_stan_takes_over_where_a_check_fails(
    facts: dict[str, float], why: str, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_engines(monkeypatch, {"laplace": laplace(weighed(**facts)), "stan": stand_in("stan")})
    fit = quietly(table)
    assert fit.backend == "stan"
    line = str(fit).splitlines()[2]
    assert line.startswith('backend="auto" chose stan: other engines had problems. laplace: ')
    assert pd.Series([line]).str.contains(why).all(), line


def test_jags_takes_over_where_there_is_no_compiler(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = BackendError("needs about 61 GB of memory, 12 GB are free.\nMore of it.")
    engines = {
        "laplace": laplace(failing(error)),
        "stan": stand_in("stan", available=False),
        "jags": stand_in("jags"),
    }
    with_engines(monkeypatch, engines)
    fit = quietly(table)
    assert fit.backend == "jags"
    assert fit.run.engine["chosen"] == (
        'backend="auto" chose jags: other engines had problems. laplace: needs about 61 GB of '
        "memory, 12 GB are free; stan: it is not available here (no C++ compiler was found)"
    )


def test_a_doubtful_fit_is_better_than_none(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {
        "laplace": laplace(weighed(pareto_k=0.9)),
        "stan": stand_in("stan", run=failing(ProgramError("a bad program"))),
        "jags": stand_in("jags", available=False),
    }
    with_engines(monkeypatch, engines)
    with pytest.warns(rmm.ConvergenceWarning, match="Pareto k"):
        fit = rmm.fit(FORMULA, table, **SHORT)
    assert not fit.converged
    assert "stan: a bad program; jags: it is not available here" in fit.run.engine["chosen"]


def test_what_every_engine_says_is_in_the_error(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("laplace", "stan", "jags")
    engines = {n: replace(stand_in(n), run=failing(BackendError(f"{n} is out"))) for n in names}
    with_engines(monkeypatch, engines)
    with pytest.raises(BackendError, match=r"No engine could .*laplace is out.*stan is.*jags is"):
        quietly(table)


def test_a_time_limit_is_for_all_engines(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def slow(*args: Any) -> Any:
        limits.append(args[3].timeout)
        raise BackendTimeout("The time limit is over.")

    engines = {"laplace": laplace(weighed(pareto_k=0.9)), "stan": stand_in("stan", run=slow)}
    with_engines(monkeypatch, engines)
    with pytest.raises(BackendTimeout, match=r"laplace: Pareto k .*; stan: The time limit"):
        quietly(table, timeout=100)
    assert 1 <= limits[0] < 100


def test_few_kept_draws_are_no_reason_for_another_engine(table: pd.DataFrame) -> None:
    with pytest.warns(rmm.ConvergenceWarning, match=r"40 effective draws.*\n.*with draws=200"):
        fit = rmm.fit(FORMULA, table, **{**SHORT, "draws": 20})
    assert fit.backend == "laplace"


@pytest.mark.parametrize(
    ("given", "names", "why"),
    [
        ({"adapt_delta": 0.95}, ("stan",), "`adapt_delta` is an option of stan"),
        ({"adapt": 100}, ("jags",), "`adapt` is an option of jags"),
        ({"ess": 900}, ("laplace",), "`ess` is an option of laplace"),
        ({"program": "model { y ~ dnorm(0, 1) }"}, ("jags",), "written in JAGS's language"),
        (
            {"program": "parameters { real a; }\nmodel { a ~ normal(0, 1); }"},
            ("stan",),
            "written in Stan's language",
        ),
        ({}, ("laplace", "stan", "jags"), ""),
    ],
)
def test_what_is_given_decides(given: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    options = {k: v for k, v in given.items() if k != "program"}
    found, said = engine_choice.engines_for(options, given.get("program"), ())
    assert found == names
    assert why in said


def test_the_ending_of_a_program_decides(tmp_path: Path) -> None:
    path = tmp_path / "mine.stan"
    path.write_text("model { }")
    assert engine_choice.engines_for({}, path, ())[0] == ("stan",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapt_detla": 0.9}, "no argument `adapt_detla`.*Did you mean `adapt_delta`"),
        ({"chans": 2}, "no argument `chans`.*Did you mean `chains`"),
        ({"burnin": 500}, "What R calls `burnin` is `warmup`"),
        ({"adapt_delta": 0.9, "ess": 500}, "`adapt_delta` is an option of stan.*no option `ess`"),
        (
            {"program": "model { y ~ dnorm(0, 1) }", "max_treedepth": 12},
            "written in JAGS's language.* no option `max_treedepth`",
        ),
        ({"backend": "laplace", "adapt_delta": 0.9}, "no option `adapt_delta`.*option of stan"),
        ({"backend": "autos"}, "'autos' is not a backend"),
    ],
)
def test_messages_about_options(given: dict[str, Any], message: str, table: pd.DataFrame) -> None:
    with pytest.raises(BackendError, match=message):
        rmm.fit(FORMULA, table, **{**SHORT, **given})


def test_variables_of_programs_are_not_laplaces(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        BackendError, match=r"`monitor` names `eta`, but backend .* can keep only the parameters: "
    ):
        rmm.fit(FORMULA, table, backend="laplace", monitor=["eta"], **SHORT)
    with_engines(monkeypatch, {"stan": stand_in("stan")})
    assert quietly(table, monitor=["eta"]).backend == "stan"


def test_a_program_needs_a_language() -> None:
    for call in (rmm.program, lambda *a, **k: rmm.program_data(a[0], {"y": [1.0, 2.0]}, **k)):
        with pytest.raises(BackendError, match=r"the engine is chosen during the fit"):
            call("y ~ 1", backend="auto")


def test_what_was_chosen_is_stored(table: pd.DataFrame, tmp_path: Path) -> None:
    fit = rmm.fit(FORMULA, table, **SHORT)
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    assert str(again) == str(fit)
    assert again.diagnostics()["pareto_k_limit"] == fit.diagnostics()["pareto_k_limit"]


def test_a_study_names_its_engines(tmp_path: Path) -> None:
    from rmm.study.design.study import load_study

    text = ROOT.joinpath("config/studies/quickstart.yaml").read_text()
    assert "backend: laplace" in text
    path = tmp_path / "auto.yaml"
    path.write_text(text.replace("backend: laplace", "backend: auto", 1))
    with pytest.raises(StudyError, match=r"results would depend on whether the computer has"):
        load_study(path)


def test_the_example_of_rs_rmm_runs_by_default() -> None:
    table = pd.read_parquet(shared_file("data", "coalgov_rmm.parquet"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rmm.SpecificationWarning)
        fit = rmm.fit(R_EXAMPLE, family="Weibull", monitor=True, data=table)
    assert fit.converged, fit.diagnostics()
    assert fit.backend == "laplace"
    assert fit.run.seconds < 30  # 3 s on an idle core
