"""Summaries for papers, the paragraph of a fit, and Bayesian R2."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.errors import BackendError
from rmm.posterior.prediction.linear_predictor import flat_draws
from rmm.posterior.reporting.summary_tables import decimals_of, latex_text, written

W = "fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s))))"
FORMULA = f"y ~ 1 + z + region + mm(id(pid, gid), vars(x), {W}, RE = TRUE) + hm(id = cid)"

SD = pd.Series(dtype=float)  # not known


@pytest.fixture(scope="module")
def fit(coalitions: pd.DataFrame) -> rmm.Fit:
    return rmm.fit(FORMULA, coalitions, backend="laplace", seed=1)


def test_other_intervals_and_columns(fit: rmm.Fit) -> None:
    table = fit.summary(0.5)
    assert list(table.columns)[2:5] == ["q25", "median", "q75"]
    draws = fit.draws["posterior"]["sigma_l1"].to_numpy().ravel()
    exact = np.quantile(draws, [0.25, 0.75])
    np.testing.assert_allclose(table.loc["sigma_l1", ["q25", "q75"]].astype(float), exact)
    rest = [c for c in table if c not in ("q25", "q75")]
    pd.testing.assert_frame_equal(table[rest], fit.summary()[rest])
    assert list(fit.summary(0.89, ["q94.5", "mean"]).columns) == ["q94.5", "mean"]
    assert list(fit.summary(columns="mean").columns) == ["mean"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prob": 95}, "`prob` must be a number between 0 and 1, not 95"),
        ({"columns": ["mode"]}, "'mode' is not a column of this summary"),
        ({"prob": 0.9, "columns": "q2.5"}, "'q2.5' is not a column of this summary"),
        ({"to": "html"}, "'html' is not a format of a summary"),
    ],
)
def test_wrong_options(fit: rmm.Fit, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BackendError, match=problem):
        fit.summary(**options)


def test_latex(fit: rmm.Fit) -> None:
    text = fit.summary(0.9, ["mean", "q5", "ess_bulk"], to="latex")
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrr}" and lines[-1] == r"\end{tabular}"
    assert lines[2] == r" & mean & 5\% & ess\_bulk \\"
    row = next(line for line in lines if line.startswith("b\\_l1[x]"))
    mean, low, ess = fit.summary(0.9).loc["b_l1[x]", ["mean", "q5", "ess_bulk"]]
    assert row == rf"b\_l1[x] & {mean:.3f} & {low:.3f} & {ess:.0f} \\"
    negative = written(pd.DataFrame({"mean": [-1.5]}, index=["b_l2[a & b]"]), "latex", SD)
    assert r"b\_l2[a \& b] & $-1.500$ \\" in negative


def test_latex_takes_every_character(tmp_path: Path) -> None:
    """All printable ASCII, through LaTeX where it is there."""
    text = "".join(map(chr, range(32, 127)))
    escaped = latex_text(text)
    bare = re.sub(r"\\(text[a-z]+\{\}|[&%$#_{}])", "", escaped)
    assert not set(bare) & set('\\~^<>|`"&%$#_{}')
    if shutil.which("pdflatex") is None:
        return
    (tmp_path / "a.tex").write_text(
        f"\\documentclass{{article}}\\begin{{document}}{escaped}\\end{{document}}"
    )
    subprocess.run(
        ["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, capture_output=True
    )


@pytest.mark.parametrize("to", ["latex", "markdown"])
def test_a_name_stays_in_its_row(to: str) -> None:
    odd = written(pd.DataFrame({"mean": [1.0]}, index=["b_l2[a\n\x1b[2J\u202e]"]), to, SD)
    assert "l2" in odd and len(odd.splitlines()) == (3 if to == "markdown" else 7)
    assert all(c.isprintable() or c == "\n" for c in odd)


def test_markdown(fit: rmm.Fit) -> None:
    lines = fit.summary(columns=["mean", "sd"], to="markdown").splitlines()
    assert re.fullmatch(r"\| parameter +\| +mean \| +sd \|", lines[0])
    assert re.fullmatch(r"\| -+ \| -+: \| -+: \|", lines[1])
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 2 + len(fit.summary())
    odd = written(pd.DataFrame({"mean": [1.0]}, index=["b_l2[a|`b`*_]"]), "markdown", SD)
    assert "`` b_l2[a\\|`b`*_] ``" in odd


def test_digits_that_the_error_allows() -> None:
    """Steps of at least half the Monte Carlo error."""
    assert [decimals_of(e) for e in (0.012, 0.008, 0.0015, 3.0, 250.0)] == [2, 2, 3, 0, 0]


def test_every_number_of_the_report_has_a_source(fit: rmm.Fit) -> None:
    """Each source, evaluated, is the value; the text shows it in this order."""
    report, at = fit.report(), 0
    for _, (shown, value, source) in report.numbers.iterrows():
        found = eval(source, {"fit": fit, "np": np})  # noqa: S307  (our own text)
        assert found == pytest.approx(value)
        if re.fullmatch(r"-?[\d,.]+", shown):
            step = 10.0 ** -len(shown.partition(".")[2]) if "." in shown else 1.0
            assert float(shown.replace(",", "")) == pytest.approx(value, abs=0.5001 * step)
        place = report.text.index(shown, at)
        at = place + len(shown)
    rest = report.text
    for shown in report.numbers["shown"]:
        rest = rest.replace(shown, "", 1)
    # No other numbers than those of names, of the interval and of the version.
    weight = fit.model.spec.members[0].weight.text
    for known in ("rmm 0.1.0", "95%", weight, "b_w[b1]", "b1", "to 1"):
        rest = rest.replace(known, "")
    assert re.findall(r"(?<!_l)\d+", rest) == []


def test_sentences(fit: rmm.Fit) -> None:
    text, table = fit.report().text, fit.summary()
    mean = f"{table.loc['b_l1[x]', 'mean']:.2f}"
    x = "If x is one unit higher in all members of a group, the outcome changes by"
    assert f"{x} {mean}" in text
    assert "If z is one unit higher, the outcome changes by" in text
    assert "The coefficient b_l2[region=north] is" in text
    assert "normalised to sum to 1 within groups, with b_w[b1] estimated." in text
    assert "30 different members (two to five members per group)" in text
    assert "nested in ten units (`cid`)" in text
    assert text.count("95% credible interval") == 1
    assert "NOT converged" not in text and "importance sampling (Pareto k =" in text


def test_terms_whose_unit_depends_on_others_get_no_such_sentence(coalitions: pd.DataFrame) -> None:
    table = coalitions.drop_duplicates("gid")
    for formula in ("y ~ 1 + z + q + z:q", "y ~ 1 + z + I(z^2)"):
        text = rmm.fit(formula, table, backend="laplace", seed=1).report().text
        assert "to 120 observations." in text
        assert "The coefficient b_l2[z] is" in text and "If z is one" not in text
    for formula in ("vars(x), fn(w ~ exp(b1*s), c = 2)", "vars(x + softmax(x))"):
        fit = rmm.fit(f"y ~ 1 + mm(id(pid, gid), {formula})", coalitions, backend="laplace", seed=1)
        assert "The coefficient b_l1[x] is" in fit.report().text


def test_a_fit_that_has_not_converged_is_honest(fit: rmm.Fit) -> None:
    engine = {**fit.run.engine, "pareto_k": 0.9}
    text = replace(fit, run=replace(fit.run, engine=engine)).report().text
    assert "The fit has NOT converged by these checks" in text
    assert "should not be reported" in text


def test_chains_and_priors(coalitions: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fake = rmm.fit(
            "y ~ 1 + z", coalitions.drop_duplicates("gid"), backend="fake", chains=3, draws=60,
            priors={"b_l2[z]": "normal(0, 0.5)"},
        )  # fmt: skip
    text = replace(fake, backend="stan").report().text
    assert "Hamiltonian Monte Carlo (Stan; three chains of 60 draws, largest R-hat" in text
    assert "weakly informative priors and b_l2[z] ~ normal(0, 0.5)" in text
    assert "a program of our own" in replace(fake, own_program=True).report().text


def test_r2_is_that_of_gelman_and_others_without_effects(coalitions: pd.DataFrame) -> None:
    """The variance of the fit over itself plus sigma^2, with plain arrays and with ArviZ."""
    from arviz_stats.base import array_stats

    table = coalitions.drop_duplicates("gid")
    fit = rmm.fit("y ~ 1 + z + q", table, backend="laplace", seed=1)
    draws = flat_draws(fit.run, fit.model)
    eta = draws["b_l2"] @ np.column_stack([np.ones(len(table)), table["z"], table["q"]]).T
    exact = eta.var(axis=1, ddof=1) / (eta.var(axis=1, ddof=1) + draws["sigma_l2"] ** 2)
    theirs = array_stats.bayesian_r2(eta, draws["sigma_l2"])
    found = fit.r2()
    assert list(found.index) == ["marginal", "conditional"]
    for row in found.index:
        assert found.loc[row, "mean"] == pytest.approx(exact.mean())
        assert found.loc[row, "q97.5"] == pytest.approx(np.quantile(theirs, 0.975))


def test_r2_by_level(fit: rmm.Fit) -> None:
    """Shares add up, and effects have the variances of `variance_components`."""
    found = fit.r2()
    assert list(found.index) == ["marginal", "members", "nesting units", "conditional"]
    parts = found["mean"]
    assert parts["conditional"] == pytest.approx(parts.drop("conditional").sum())
    eta = fit.predict(kind="linear", effects="none", draws=True).to_numpy()
    fixed = eta.reshape(-1, eta.shape[-1]).var(axis=1, ddof=1)
    draws = flat_draws(fit.run, fit.model)
    w = fit.weights()
    assert len(w) == len(fit.model.design.rows)
    nesting, residual = draws["sigma_l3"] ** 2, draws["sigma_l2"] ** 2
    share = fit.variance_components()["share"]["mean"]
    members = nesting * 0 + fit.variance_components()["variance"]["mean"]["members"]
    total = fixed + members + nesting + residual
    # The members' variance is their mean one here: near, not equal.
    assert parts["marginal"] == pytest.approx((fixed / total).mean(), abs=0.02)
    assert parts["members"] / (1 - parts["marginal"]) == pytest.approx(share["members"], abs=0.02)


def test_r2_of_choices_is_within_strata() -> None:
    """What is the same in a stratum cancels: a covariate of strata alone explains nothing."""
    rng = np.random.default_rng(4)
    sets = np.repeat(np.arange(60), 3)
    x = rng.normal(size=180)
    chosen = np.zeros(180, dtype=int)
    for s in range(60):
        rows = np.flatnonzero(sets == s)
        chosen[rows[np.argmax(x[rows] + rng.gumbel(size=3))]] = 1
    table = pd.DataFrame({"set": sets, "x": x + 10 * sets, "chosen": chosen})
    priors = {"b_l2[x]": "normal(0, 2)"}
    fit = rmm.fit(
        "chosen ~ x + strata(set)", table, "condlogit", priors=priors, backend="laplace", seed=1
    )
    b = flat_draws(fit.run, fit.model)["b_l2"][:, 0]
    within = np.sum((x - pd.Series(x).groupby(sets).transform("mean").to_numpy()) ** 2) / 120
    exact = b**2 * within / (b**2 * within + np.pi**2 / 6)
    assert 0.2 < exact.mean() < 0.6
    assert fit.r2().loc["marginal", "mean"] == pytest.approx(exact.mean(), rel=1e-6)
