"""Plots: figures with the axes, titles and artists they promise, and messages for wrong names.

Fits come from the fake backend: what is drawn does not depend on what it means.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rmm
from rmm.families.gaussian import GAUSSIAN
from rmm.posterior.plots import PLOTS
from rmm.posterior.plots.figure import density, number, shortened
from rmm.posterior.plots.predictive_check import calibration
from rmm.posterior.plots.prior_posterior import prior_of
from tests.coalitions import made_up_coalitions

WEIGHTS = "1/(1 + (n - 1)*exp(-(b1*s)))"
FORMULA = (
    f"y ~ 1 + z + q + mm(id(pid, gid), vars(x), fn(w ~ {WEIGHTS}), RE=TRUE)"
    " + hm(id=cid, name=cname)"
)


def faked(formula: str, table: pd.DataFrame, **options: Any) -> rmm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rmm.fit(
            formula, table, backend="fake", chains=3, draws=60, seed=1, progress=False, **options
        )


@pytest.fixture(scope="module")
def fit(coalitions: pd.DataFrame) -> rmm.Fit:
    return faked(FORMULA, coalitions)


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def with_many_predictors(count: int) -> rmm.Fit:
    table = made_up_coalitions(groups=80)
    rng = np.random.default_rng(2)
    names = [f"a_predictor_whose_name_is_long_indeed_{i}_of_a_group" for i in range(count)]
    groups = table["gid"].unique()
    for name in names:
        table[name] = table["gid"].map(dict(zip(groups, rng.normal(size=80), strict=True)))
    return faked(f"y ~ 1 + {' + '.join(names)}", table.drop_duplicates("gid"))


def panels(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_visible()]


def titles(figure: Any) -> list[str]:
    return [
        t
        for axes in panels(figure)
        for side in ("left", "center", "right")
        if (t := axes.get_title(loc=side))
    ]


def tick_labels(axes: Any) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def overlapping(figure: Any) -> int:
    """Pairs of neighbouring y tick labels of one panel that touch."""
    figure.draw_without_rendering()
    count = 0
    for axes in panels(figure):
        boxes = sorted(
            (label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()),
            key=lambda box: box.y0,
        )
        count += sum(low.y1 > high.y0 for low, high in itertools.pairwise(boxes))
    return count


def test_draws_have_a_density_and_a_trace_per_parameter(fit: rmm.Fit) -> None:
    figure = fit.plot()
    names = list(fit.summary().index)
    assert len(panels(figure)) == 2 * len(names)
    assert [a.get_title(loc="left") for a in panels(figure)[::2]] == names
    first, trace = panels(figure)[:2]
    assert len(first.lines) == 3 + 2  # a line per chain, the interval, the mean
    assert len(trace.lines) == 3
    row = fit.summary().iloc[0]
    assert first.lines[3].get_xdata() == pytest.approx([row["q2.5"], row["q97.5"]])
    assert trace.lines[1].get_ydata() == pytest.approx(fit.draws["posterior"]["b_l1"][1, :, 0])
    assert f"R-hat {row['rhat']:.3f}" in trace.get_title(loc="right")


def test_draws_of_chosen_parameters(fit: rmm.Fit) -> None:
    figure = fit.plot(parameters=["sigma_l1", "b_l2"])
    assert [a.get_title(loc="left") for a in panels(figure)[::2]] == [
        "sigma_l1",
        "b_l2[Intercept]",
        "b_l2[z]",
    ]
    assert len(panels(fit.plot(parameters="u_l1[7]"))) == 2


@pytest.mark.thorough
def test_forty_parameters_stand_in_two_columns_and_do_not_overlap() -> None:
    many = with_many_predictors(38)
    figure = many.plot()
    assert len(panels(figure)) == 80
    width, height = figure.get_size_inches()
    assert width < 14 and height < 23
    assert len(set(titles(figure))) == 80  # shortened names stay different
    forest = many.plot("forest")
    assert overlapping(forest) == 0
    assert len(set(tick_labels(forest.axes[0]))) == 38


def test_forest_groups_by_level(fit: rmm.Fit) -> None:
    figure = fit.plot("forest")
    assert titles(figure) == ["coefficients", "weight coefficients", "standard deviations"]
    coefficients, weights, scales = panels(figure)
    assert tick_labels(coefficients) == [
        "x",
        "z",
        "q",
        "members (level 1)",
        "groups (level 2)",
        "nesting units (level 3)",
    ]
    zero = [line for line in coefficients.lines if list(line.get_xdata()) == [0, 0]]
    assert len(zero) == 1
    assert tick_labels(weights) == ["b_w[b1]"]
    assert scales.get_xlim()[0] == 0
    assert "Intercept" in tick_labels(fit.plot("forest", intercept=True).axes[0])
    thin, thick = coefficients.lines[0], coefficients.lines[1]
    draws = fit.draws["posterior"]["b_l1"].to_numpy().reshape(-1)
    assert thin.get_xdata() == pytest.approx(np.quantile(draws, [0.025, 0.975]))
    assert thick.get_xdata() == pytest.approx(np.quantile(draws, [0.25, 0.75]))


def test_effects_are_sorted_and_the_middle_is_counted(fit: rmm.Fit) -> None:
    every = fit.plot("effects")
    means = fit.member_effects()["mean"].sort_values(ascending=False)
    assert tick_labels(every.axes[0]) == [str(u) for u in means.index]
    assert overlapping(every) == 0
    some = fit.plot("effects", top=6)
    assert tick_labels(some.axes[0]) == [str(u) for u in [*means.index[:3], *means.index[-3:]]]
    assert [t.get_text() for t in some.axes[0].texts] == ["24 between"]
    assert "the 3 largest and the 3 smallest of 30" in titles(some)[0]
    assert len(tick_labels(fit.plot("effects", effect="u_l3").axes[0])) == 10


def test_priors_are_drawn_at_their_place(fit: rmm.Fit) -> None:
    figure = fit.plot("prior")
    assert "b_l2[Intercept]" not in titles(figure)  # its prior is stated at the centres
    axes = next(a for a in panels(figure) if a.get_title(loc="left") == "sigma_l1")
    prior = prior_of(fit, "sigma_l1")
    assert prior is not None and prior.family == "half_normal"
    x, y = axes.lines[1].get_data()
    assert y == pytest.approx(stats.halfnorm(scale=prior.values[0]).pdf(x))
    assert x.min() >= 0


def test_priors_at_a_typical_size_are_left_out(coalitions: pd.DataFrame) -> None:
    """Reported coefficients move with the power of the size; a stated prior is of theirs."""
    formula = "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/n^b, c=FALSE), RE=TRUE)"
    assert titles(faked(formula, coalitions).plot("prior")) == [
        "b_l2[Intercept]",
        "b_w[b]",
        "sigma_l2",
    ]
    stated = faked(formula, coalitions, priors={"b_l1": "normal(0, 1)"}).plot("prior")
    assert {"b_l1[x]", "sigma_l1"} <= set(titles(stated))


def test_priors_of_the_classic_set(coalitions: pd.DataFrame) -> None:
    fit = faked(
        "y ~ 1 + z + mm(id(pid, gid), RE=TRUE)",
        coalitions,
        priors=["rmm", "sigma_l1 ~ half_t(4, 2)"],
    )
    figure = fit.plot("prior")
    assert titles(figure) == ["b_l2[Intercept]", "b_l2[z]", "sigma_l1", "sigma_l2"]
    x, y = panels(figure)[2].lines[1].get_data()
    assert y == pytest.approx(2 * stats.t(4, scale=2).pdf(x))


def test_sensitivity_shows_the_table(coalitions: pd.DataFrame) -> None:
    """Dots are where the table says; a mean that weights do not reach is named, not drawn."""
    table = coalitions.drop_duplicates("gid")
    priors = {"b_l2[z]": "normal(-0.5, 0.05)"}
    fit = rmm.fit("y ~ 1 + z", table, priors=priors, backend="laplace", seed=1)
    found = fit.prior_sensitivity().table
    figure = fit.plot("sensitivity")
    left, right = panels(figure)
    assert tick_labels(left) == list(found.index)
    likelihood, prior = (line.get_xdata() for line in left.lines[:2])
    np.testing.assert_allclose(likelihood, found["likelihood"])
    np.testing.assert_allclose(prior, found["prior"])
    far = found.index[found["weaker"].isna()]
    assert "b_l2[z]" in far
    assert len([t for t in right.texts if "refit" in t.get_text()]) == len(far)
    again = fit.plot("sensitivity", parameters="b_l2[z]", refit=True)
    row = fit.prior_sensitivity(refit=True).table.loc["b_l2[z]"]
    dots = [line for line in panels(again)[1].lines if line.get_marker() not in ("None", "")]
    sd = fit.summary().loc["b_l2[z]", "sd"]
    for line, column in zip(dots, ("weaker", "stronger"), strict=True):
        np.testing.assert_allclose(line.get_xdata(), (row[column] - row["mean"]) / sd)


def test_weights_over_their_variable(fit: rmm.Fit, coalitions: pd.DataFrame) -> None:
    figure = fit.plot_weights()
    sizes = coalitions.groupby("gid").size().value_counts().sort_index()
    assert titles(figure) == [f"{n} members ({count} groups)" for n, count in sizes.items()]
    for axes, n in zip(panels(figure), sizes.index, strict=True):
        assert axes.lines[0].get_ydata()[0] == pytest.approx(1 / n)
        mine = coalitions[coalitions["gid"].map(coalitions.groupby("gid").size()) == n]
        x, y = axes.lines[1].get_data()
        assert list(x) == mine["s"].tolist()
        assert y == pytest.approx(fit.weights().loc[mine.index, "mean"].to_numpy())


def test_weights_within_groups(fit: rmm.Fit, coalitions: pd.DataFrame) -> None:
    figure = fit.plot_weights("groups", groups=["g003", "g001"])
    assert titles(figure) == ["g003", "g001"]
    weights = fit.weights()
    mine = weights[weights["group"] == "g003"].sort_values("mean", ascending=False)
    assert tick_labels(panels(figure)[0]) == [str(m) for m in mine["member"]]
    assert panels(figure)[0].lines[0].get_xdata()[0] == pytest.approx(1 / len(mine))
    six = fit.plot_weights("groups")
    assert len(panels(six)) == 6
    farthest = weights[weights["group"].isin(titles(six))]["q97.5"].max()
    assert all(cell.get_xlim()[1] > farthest for cell in panels(six)), "no interval is cut"
    assert len(panels(fit.plot_weights("groups", groups="g001"))) == 1


@pytest.mark.thorough
def test_many_members_of_a_group_do_not_overlap() -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "gid": np.repeat(np.arange(8), 40),
            "pid": [i for _ in range(8) for i in range(40)],
            "s": rng.normal(size=320),
            "y": np.repeat(rng.normal(size=8), 40),
        }
    )
    table["pid"] = table["pid"].map(lambda i: f"a member with a rather long name, number {i}")
    fit = faked(f"y ~ 1 + mm(id(pid, gid), fn(w ~ {WEIGHTS}), RE=TRUE)", table)
    assert overlapping(fit.plot_weights("groups")) == 0
    assert overlapping(fit.plot("effects", top=80)) == 0
    assert len(panels(fit.plot_weights())) == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.plot("trace"), "'trace' is not a kind of plot.* Allowed: draws, forest"),
        (lambda f: f.plot("variable"), "is not a kind of plot"),
        (
            lambda f: f.plot(parameters="b_l9"),
            r"'b_l9' is not a parameter of the fit\..* Allowed: b_l1",
        ),
        (lambda f: f.plot(parameters="b_l2[zz]"), r"Did you mean 'b_l2\[z\]'"),
        (lambda f: f.plot(parameters=[]), "`parameters` is empty"),
        (lambda f: f.plot(top=3), "'top' is not an option of plot 'draws'. Allowed: parameters"),
        (
            lambda f: f.plot("effects", effect="u_l2"),
            "'u_l2' is not a vector of effects.*Allowed: u_l1, u_l3",
        ),
        (lambda f: f.plot("effects", top=1), "whole number of at least 2, but is 1"),
        (lambda f: f.plot_weights(variable="x"), "'x' is not a weight variable. Allowed: s"),
        (
            lambda f: f.plot_weights("groups", groups=["nowhere"]),
            "'nowhere' is not a group. Allowed: g000",
        ),
        (lambda f: f.plot_weights("groups", groups=[]), "`groups` must name 1 to 24 groups"),
        (lambda f: f.plot_weights("groups", block=2), "1 mm.. block, but `block` is 2"),
    ],
)
def test_messages(fit: rmm.Fit, ask: Any, message: str) -> None:
    with pytest.raises(rmm.RmmError, match=message):
        ask(fit)


def test_too_many_parameters_are_no_figure(coalitions: pd.DataFrame) -> None:
    table = made_up_coalitions(groups=100, members=80)
    fit = faked("y ~ 1 + mm(id(pid, gid), RE=TRUE)", table)
    with pytest.raises(rmm.PlotError, match=r"7\d parameters are too many .* at most 60"):
        fit.plot(parameters="u_l1")
    without = faked("y ~ 1 + mm(id(pid, gid), RE=TRUE)", table, monitor="structural")
    with pytest.raises(rmm.PlotError, match='monitor="structural"'):
        without.plot("effects")
    with pytest.raises(rmm.PlotError, match="uses no column of the data, so there is nothing"):
        fit.plot_weights()


def test_letter_without_matplotlib(fit: rmm.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(rmm.PlotError, match=r"need the package matplotlib.*\[plots\]"):
        fit.plot()


def test_figures_are_saved_and_shown_by_notebooks(fit: rmm.Fit, tmp_path: Path) -> None:
    figure = fit.plot(parameters="b_w")
    figure.savefig(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_every_file_of_a_plot_has_a_row() -> None:
    folder = Path(rmm.__file__).parent / "posterior" / "plots"
    files = {f"rmm.posterior.plots.{path.stem}" for path in folder.glob("[!_]*.py")} - {
        "rmm.posterior.plots.figure",
        "rmm.posterior.plots.style",
    }
    assert {row.module for row in PLOTS.values()} == files


def test_density_integrates_to_one_and_stays_above_zero() -> None:
    draws = np.abs(np.random.default_rng(1).normal(size=4000))
    grid, height = density(draws, 0.0)
    assert 0 <= grid.min() < 0.02
    assert np.trapezoid(height, grid) == pytest.approx(1, abs=0.02)
    at = np.interp([0.05, 1.0], grid, height)  # a boundary at 0 is no slope towards 0
    assert at == pytest.approx(stats.halfnorm.pdf([0.05, 1.0]), rel=0.12)
    flat, _ = density(np.ones(10))
    assert set(flat) == {1.0}


def test_labels() -> None:
    assert shortened(["abc", "x" * 30], 20) == ["abc", "xxxxxxxxxxxxx…xxxxxx"]
    assert len(set(shortened([f"{'a' * 20}{i}{'b' * 20}" for i in range(12)], 20))) == 12
    assert max(map(len, shortened([f"{'a' * 20}{i}{'b' * 20}" for i in range(12)], 20))) <= 20
    assert [number(v) for v in (0.12345, 12345.6, -3.0, float("nan"))] == [
        "0.123",
        "12346",
        "-3",
        "?",
    ]


def test_notebooks_show_a_table(fit: rmm.Fit) -> None:
    html = fit._repr_html_()
    assert html.count("<tr") == 1 + len(fit.summary())
    assert "exp(-(b1*s))" in html and "<code>y ~ 1" in html
    assert "NOT CONVERGED" in html or "converged" in html
    assert "<script" not in faked("y ~ 1", pd.DataFrame({"y": [0.0, 1, 3]}))._repr_html_()


# ---- posterior predictive checks -------------------------------------------------------------


def of_family(fit: rmm.Fit, name: str, outcome: dict[str, Any], **facts: Any) -> rmm.Fit:
    """The fit with another family's outcome: the checks see no more of a family."""
    family = replace(GAUSSIAN, name=name, **facts)
    model = replace(
        fit.model,
        spec=replace(fit.model.spec, family=family),
        design=replace(fit.model.design, outcome=outcome),
    )
    return replace(fit, model=model)


def test_check_of_numbers(fit: rmm.Fit) -> None:
    figure = fit.plot_check(replications=20)
    lines = panels(figure)[0].lines
    assert len(lines) == 21
    x, y = lines[-1].get_data()
    assert np.trapezoid(x * y, x) == pytest.approx(fit.model.design.outcome["y"].mean(), abs=0.1)
    assert titles(figure) == ["Posterior predictive check, gaussian"]
    legend = [t.get_text() for t in panels(figure)[0].get_legend().get_texts()]
    assert legend == ["20 replicated", "observed"]
    same = fit.plot_check(replications=20).axes[0].lines[0].get_ydata()
    assert np.array_equal(lines[0].get_ydata(), same)
    other = fit.plot_check(replications=20, seed=9).axes[0].lines[0].get_ydata()
    assert not np.array_equal(lines[0].get_ydata(), other)
    with pytest.raises(rmm.PlotError, match="`replications` must be a whole number"):
        fit.plot_check(replications=0)


def test_check_of_shares(fit: rmm.Fit) -> None:
    p = np.linspace(0.05, 0.95, fit.model.design.J)
    y = np.random.default_rng(1).binomial(1, p)
    facts = {
        "mean": lambda eta, own, outcome: np.broadcast_to(p, eta.shape),
        "draw": lambda eta, own, outcome, rng: rng.binomial(1, p, size=eta.shape),
        "check": "shares",
    }
    figure = of_family(fit, "binomial", {"y": y}, **facts).plot_check()
    diagonal, dots = panels(figure)[0].lines
    assert list(diagonal.get_xdata()) == [0, 1]
    x, share = dots.get_data()
    assert x == pytest.approx([b.mean() for b in np.array_split(p, 10)])
    assert share == pytest.approx([b.mean() for b in np.array_split(y, 10)])
    choice = of_family(fit, "condlogit", {"y": y}, unit="stratum", **facts).plot_check()
    assert panels(choice)[0].get_ylabel() == "share chosen"


def test_shares_lie_in_the_band_of_a_true_model_and_not_of_a_false_one() -> None:
    """20 bins of a true model, each with probability .95: fewer than 14 inside, below 1e-4."""
    rng = np.random.default_rng(3)
    p, trials = rng.uniform(0.1, 0.9, 400), rng.integers(1, 9, 400)
    inside = {}
    for name, shift in (("true", 0.0), ("false", 0.15)):
        hit = 0
        for _ in range(2):
            y = rng.binomial(trials, np.clip(p + shift, 0, 1))
            bins = calibration(p, y, trials, rng.binomial(trials, p, size=(800, 400)))
            hit += int(
                ((bins["low"] <= bins["observed"]) & (bins["observed"] <= bins["high"])).sum()
            )
            assert len(bins["observed"]) == 10
        inside[name] = hit
    assert inside["true"] >= 14 > inside["false"]
    assert len(calibration(p[:15], y[:15], trials[:15], np.ones((5, 15)))["low"]) == 1


def test_check_of_durations(fit: rmm.Fit) -> None:
    rng = np.random.default_rng(2)
    true, limit = rng.exponential(size=fit.model.design.J), 1.0
    outcome = {"time": np.minimum(true, limit), "event": (true < limit).astype(int)}
    facts = {
        "draw": lambda eta, own, outcome, rng: rng.exponential(size=eta.shape),
        "observed": ("time", "event"),
        "check": "durations",
    }
    figure = of_family(fit, "weibull", outcome, **facts).plot_check()
    axes = panels(figure)[0]
    median, observed = axes.lines
    t, share = median.get_data()
    assert share == pytest.approx(np.exp(-t), abs=0.02)
    assert observed.get_ydata()[-1] == pytest.approx((true >= limit).mean())
    assert axes.get_xlim() == pytest.approx((0, 1.0))
