"""Smooth surfaces of measures over two factors: known polynomials, errors, figures."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rmm.cli import main
from rmm.errors import StudyError
from rmm.study import performance, response_surface
from rmm.study.estimate_tables.score_table import read_table_of
from rmm.study.estimate_tables.table_options import split_arguments
from rmm.study.measures.response_surface import fit_surface
from rmm.study.report.data.table_results import table_results
from rmm.study.report.figures.chart import save_whole
from rmm.study.report.figures.surfaces import surfaces

X, Y = (a.ravel() for a in np.meshgrid(np.linspace(20, 400, 6), np.linspace(0, 1, 5)))


def quadratic(x: float, y: float) -> float:
    return 1 + 0.01 * x - 0.5 * y + 0.002 * x * y - 1e-5 * x**2


def test_a_quadratic_is_found_exactly_without_noise() -> None:
    surface = fit_surface(X, Y, quadratic(X, Y), np.full(30, 0.1))
    assert surface.degree == 2 and surface.inflation == 1
    value, error = surface.at(np.array([111.0, 300.0]), 0.3)
    np.testing.assert_allclose(value, [quadratic(111.0, 0.3), quadratic(300.0, 0.3)])
    assert ((error > 0) & (error < 0.1)).all()


def test_errors_are_those_of_the_fit() -> None:
    """z values of 500 surfaces: mean 0 and sd 1, both within 4 standard errors; fixed seed."""
    rng = np.random.default_rng(2)
    sd = rng.uniform(0.05, 0.2, len(X))
    z = []
    for _ in range(500):
        surface = fit_surface(X, Y, quadratic(X, Y) + sd * rng.standard_normal(len(X)), sd)
        value, error = surface.at(111.0, 0.3)
        z.append(float((value - quadratic(111.0, 0.3)) / error))
    assert abs(np.mean(z)) < 4 / np.sqrt(500)
    assert abs(np.std(z) - 1) < 4 / np.sqrt(1000)


def test_weights_are_inverse_variances() -> None:
    """A scenario with a huge error does not move the surface."""
    values = quadratic(X, Y)
    errors = np.full(len(X), 0.01)
    values[7] += 50
    errors[7] = 1e6
    found = fit_surface(X, Y, values, errors).at(200.0, 0.5)[0]
    assert float(found) == pytest.approx(quadratic(200.0, 0.5), abs=1e-6)


def test_a_cubic_needs_its_degree_and_a_step_is_said_not_to_fit() -> None:
    errors = np.full(len(X), 0.01)
    cubic = quadratic(X, Y) + 0.5 * ((X - 210) / 190) ** 3
    surface = fit_surface(X, Y, cubic, errors)
    assert surface.degree == 3 and surface.lack_of_fit > 0.05
    step = fit_surface(X, Y, (X > 200).astype(float), errors)
    assert step.lack_of_fit < 0.05 and step.inflation > 10


def test_rates_stay_between_0_and_1() -> None:
    hits = np.round(200 / (1 + np.exp(-(X / 25 - 3)))) / 200
    surface = fit_surface(X, Y, hits, np.zeros(len(X)), n=np.full(len(X), 200.0))
    x, y = np.meshgrid(np.linspace(20, 400, 40), np.linspace(0, 1, 40))
    value, error = surface.at(x, y)
    assert hits.max() == 1 and ((value > 0) & (value < 1)).all() and (error > 0).all()


def test_logarithms_are_used_where_asked() -> None:
    values = 2 + np.log(X) ** 2 * (1 + Y)
    plain = fit_surface(X, Y, values, np.full(30, 0.01))
    logs = fit_surface(X, Y, values, np.full(30, 0.01), log=(True, False))
    assert plain.inflation > 1
    wanted = 2 + np.log(50) ** 2 * 1.5
    off = [abs(float(s.at(50.0, 0.5)[0]) - wanted) for s in (plain, logs)]
    assert off[1] < off[0] / 5


def estimates(sets: int = 100) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        (g, o, m, i, quadratic(g, o) * (m == "ols") + e, 1.0)
        for g, o in itertools.product((50, 100, 200, 400), (0.0, 0.25, 0.5, 1.0))
        for i, e in enumerate(rng.standard_normal(sets))
        for m in ("mm", "ols")
    ]
    return pd.DataFrame(rows, columns=["groups", "overlap", "m", "i", "b", "se"])


COLUMNS = {
    "by": ["groups", "overlap"], "method": "m", "replication": "i", "estimate": "b", "se": "se"
}  # fmt: skip


def test_scores_have_surfaces() -> None:
    scores = performance(estimates(), truth=0, **COLUMNS)
    surface = response_surface(scores, "groups", "overlap", "bias", method="ols")
    value, error = surface.at(150, 0.4)
    assert abs(float(value) - quadratic(150, 0.4)) < 4 * float(error)


def test_errors_say_what_to_choose() -> None:
    scores = performance(estimates(5), truth=0, **COLUMNS)
    with pytest.raises(StudyError, match=r"(?s)Combinations of .*: 2\..*mm, b, alpha.*; ols, b"):
        response_surface(scores, "groups", "overlap", "bias")
    with pytest.raises(StudyError, match=r"'overlaps' is not a column.*overlap"):
        response_surface(scores, "groups", "overlaps", "bias", method="mm")
    few = scores.query("overlap < 0.5")
    with pytest.raises(StudyError, match=r"second factor has 2 levels"):
        response_surface(few, "groups", "overlap", "bias", method="mm")
    zero = scores.query("measure == 'bias'")
    with pytest.raises(StudyError, match=r"not above 0: no logarithms"):
        response_surface(zero, "groups", "overlap", "bias", method="mm", log=["overlap"])


def test_figure_and_command_have_the_values_of_the_surface(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, options = split_arguments({**COLUMNS, "truth": 0})
    results = table_results(read_table_of(estimates(), columns, options), options, "t")
    charts = {chart.name: chart for chart in surfaces(results)}
    assert "surface_bias" in charts
    chart = charts["surface_bias"]
    assert [panel.title for panel in chart.panels] == ["mm", "ols"]
    assert "Monte Carlo standard errors of the surface: median 0." in chart.caption
    scores = performance(estimates(), truth=0, **COLUMNS)
    surface = response_surface(scores, "overlap", "groups", "bias", method="ols")
    x, y, values, errors = chart.panels[1].grid()
    np.testing.assert_allclose(values, surface.at(x, y)[0])
    np.testing.assert_allclose(errors, surface.at(x, y)[1])
    from rmm.posterior.plots.style import looks_of

    save_whole(chart, looks_of(results.methods), tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 5000
    estimates().to_csv(tmp_path / "t.csv", index=False)
    arguments = ["--by", "groups", "overlap", "--method", "m", "--replication", "i"]
    arguments += ["--estimate", "b", "--se", "se", "--truth", "0", "--measures", "bias"]
    arguments += ["--surface", "groups", "overlap"]
    assert main(["study", "explain", str(tmp_path / "t.csv"), *arguments]) == 0
    corner = float(surface.at(1.0, 400.0)[0])
    assert f" {corner:.3f} (" in capsys.readouterr().out
