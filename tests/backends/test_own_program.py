"""A user's own program: edited text runs with our data; what it lacks is said before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.backends.jags.backend import LANGUAGE as JAGS_LANGUAGE
from rmm.backends.stan.backend import LANGUAGE as STAN_LANGUAGE
from rmm.backends.user_program import drawn_only, read_program

FORMULA = "y ~ 1 + z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)"
SHORT: dict[str, Any] = {
    "chains": 2,
    "warmup": 300,
    "draws": 300,
    "seed": 4,
    "progress": False,
}
JAGS: dict[str, Any] = {**SHORT, "backend": "jags"}
pytestmark = pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.jags
def test_program_and_data_are_those_of_fit(coalitions: pd.DataFrame, tmp_path: Path) -> None:
    fit = rmm.fit(FORMULA, coalitions, **JAGS)
    text = rmm.program(FORMULA, data=coalitions)
    assert fit.program == text
    data = rmm.program_data(FORMULA, coalitions)
    assert data.keys() == fit.program_data.keys()
    assert all(np.array_equal(data[name], fit.program_data[name]) for name in data)
    path = tmp_path / "mine.jags"
    path.write_text(text)
    for own in (text, path, str(path)):
        again = rmm.fit(FORMULA, coalitions, program=own, **JAGS)
        assert again.program == text
        assert again.draws["posterior"].to_dataset().equals(fit.draws["posterior"].to_dataset())


@pytest.mark.jags
def test_an_edited_outcome_runs_on_jags(coalitions: pd.DataFrame, tmp_path: Path) -> None:
    """Heavy tails: an outlier that drags the normal model's coefficient leaves this one alone."""
    table = coalitions.copy()
    table.loc[table["gid"] == "g000", ["y", "z"]] = [60.0, 6.0]
    text = rmm.program(FORMULA, data=table)
    robust = edited(text, "y[j] ~ dnorm(eta[j], tau_l2)", "y[j] ~ dt(eta[j], tau_l2, 3)")
    one = rmm.fit(FORMULA, table, **JAGS).summary()["mean"]
    other = rmm.fit(FORMULA, table, program=robust, **JAGS)
    assert one["b_l2[z]"] > 1 and other.summary()["mean"]["b_l2[z]"] == pytest.approx(0.5, abs=0.2)
    again = rmm.load(other.save(tmp_path / "own.nc"))
    assert again.program == robust


@pytest.mark.jags
def test_what_is_no_longer_drawn_gets_no_initial_values(coalitions: pd.DataFrame) -> None:
    text = rmm.program(FORMULA, data=coalitions)
    line = next(row for row in text.splitlines() if row.strip().startswith("sigma_l2 ~"))
    fit = rmm.fit(FORMULA, coalitions, program=edited(text, line, "  sigma_l2 <- 0.6"), **JAGS)
    assert set(fit.draws["posterior"]["sigma_l2"].to_numpy().reshape(-1)) == {0.6}


@pytest.mark.jags
def test_more_variables_are_kept(coalitions: pd.DataFrame) -> None:
    fit = rmm.fit(FORMULA, coalitions, monitor=["eta", "alpha"], **JAGS)
    posterior = fit.draws["posterior"]
    assert posterior["eta"].shape == (2, 300, 120)
    assert posterior["alpha"].shape == (2, 300)
    assert "u_l1" in posterior and "alpha" not in fit.summary().index
    y = coalitions.groupby("gid")["y"].first()
    assert np.corrcoef(posterior["eta"].mean(("chain", "draw")), y)[0, 1] > 0.6


@pytest.mark.slow
@pytest.mark.stan
def test_an_edited_program_runs_on_stan(coalitions: pd.DataFrame, tmp_path: Path) -> None:
    text = rmm.program(FORMULA, backend="stan", data=coalitions, integrate=False)
    text = edited(text, "y ~ normal(eta, sigma_l2);", "y ~ student_t(4, eta, sigma_l2);")
    text = edited(
        text, "  vector[K_l2 + 1] b_l2;", "  vector[K_l2 + 1] b_l2;\n  real twice = 2 * alpha;"
    )
    path = tmp_path / "robust.stan"
    path.write_text(text)
    fit = rmm.fit(
        FORMULA, coalitions, backend="stan", program=path, monitor=["twice", "alpha"], **SHORT
    )
    assert fit.program == text
    posterior = fit.draws["posterior"]
    assert posterior["twice"].to_numpy() == pytest.approx(
        2 * posterior["alpha"].to_numpy(), rel=1e-4
    )
    assert fit.summary()["mean"]["b_l2[z]"] == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize("backend", ["jags", "stan"])
def test_letters_name_what_a_program_lacks(coalitions: pd.DataFrame, backend: str) -> None:
    """Before any engine starts: a comment that names a variable does not count."""
    comment = {"jags": "#", "stan": "//"}[backend]
    text = rmm.program(FORMULA, backend=backend, data=coalitions).replace("sigma_l1", "s1")
    text = text.replace("b_l2", "b2") + f"\n{comment} sigma_l1 and b_l2\n"
    with pytest.raises(
        rmm.ProgramError, match="must keep `b_l2`, `sigma_l1`, but the program has no such"
    ):
        rmm.fit(FORMULA, coalitions, program=text, backend=backend, **SHORT)
    with pytest.raises(rmm.ProgramError, match="must keep `theta`, but the program has no such"):
        rmm.fit(FORMULA, coalitions, backend=backend, monitor=["theta"], **SHORT)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (3, "not of type int"),
        ("  \n", "is empty"),
        ("nowhere.jags", "nowhere.jags: this file does not exist"),
        (Path("nowhere"), "this file does not exist"),
    ],
)
def test_messages_about_what_is_given(
    coalitions: pd.DataFrame, program: object, message: str
) -> None:
    with pytest.raises(rmm.ProgramError, match=message):
        rmm.fit(FORMULA, coalitions, program=program, **JAGS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("everything", "'everything' is not a value of `monitor`.*Allowed: structural, summary"),
        ([3], "3 is not text"),
    ],
)
def test_messages_about_monitor(coalitions: pd.DataFrame, monitor: Any, message: str) -> None:
    with pytest.raises(rmm.BackendError, match=message):
        rmm.fit(FORMULA, coalitions, monitor=monitor, **JAGS)


def test_files_and_texts_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.TXT"
    path.write_text("model { a ~ dnorm(0, 1) }")
    assert read_program(str(path)) == read_program(path) == path.read_text()
    assert read_program("model {\n} # as in a.txt") == "model {\n} # as in a.txt"
    (tmp_path / "b.stan").write_bytes(b"\xff\xfe")
    with pytest.raises(rmm.ProgramError, match="cannot be read"):
        read_program(tmp_path / "b.stan")


def test_initial_values_of_drawn_variables() -> None:
    text = (
        "model { a ~ dnorm(0, 1)\n for (i in 1:3) { u[i] ~ dnorm(0, 1) }\n s <- 2 # t ~ dexp(1)\n }"
    )
    values = dict.fromkeys(("a", "u", "s", "t", "x"), 1.0)
    assert set(drawn_only(text, JAGS_LANGUAGE, values)) == {"a", "u"}
    assert set(drawn_only("parameters { real a; } // s", STAN_LANGUAGE, values)) == {"a"}
