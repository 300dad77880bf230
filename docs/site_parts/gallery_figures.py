"""Figures of `docs/studies/gallery.md`: hollow marks are published, filled ones ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from rmm.posterior.plots.style import INK, RULE, SETTINGS, looks_of
from site_parts.gallery import (
    CROON,
    METHODS,
    ROOT,
    SCHOOLS,
    closed_forms,
    fits,
    measured,
    schools,
)

FOLDER = ROOT / "docs" / "figures"
TRUE = {".05": 19.0, ".15": 17 / 3, ".30": 7 / 3}  # residual variance of the null model


def _figure(width: float, height: float, rows: int, columns: int, **shared: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _pair(cell: Any, x: Any, published: Any, ours: Any, error: Any, look: Any) -> None:
    """Published values as larger hollow marks around ours, which have 95% Monte Carlo intervals."""
    cell.plot(x, published, ls="none", marker=look.marker, ms=9, mfc="none", mec=look.colour)
    bars = 1.96 * np.asarray(error)
    cell.errorbar(x, ours, bars, ls="none", marker=look.marker, ms=4, color=look.colour, capsize=2)


def _key(
    figure: Any, looks: dict[str, Any], labels: Sequence[str], other: str = "published"
) -> None:
    """Explain colours, and hollow and filled marks."""
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], ls="none", marker=look.marker, color=look.colour, label=label)
        for look, label in zip(looks.values(), labels, strict=True)
    ]
    grey: dict[str, Any] = {"ls": "none", "marker": "o", "color": INK}
    entries.append(Line2D([], [], **grey, ms=9, mfc="none", label=other))
    entries.append(Line2D([], [], **grey, ms=4, label="ours"))
    figure.legend(
        handles=entries, loc="outside upper left", ncols=len(entries), frameon=False, fontsize=8
    )


def croon() -> Any:
    """Bias of both coefficients in every cell, in per cent."""
    keys = ["correlation", "error_sd", "members"]
    forms = closed_forms().sort_values(keys)
    found = measured(CROON).sort_values(keys)
    found = found[(found["method"] == "adjusted") & (found["measure"] == "relative_bias")]
    looks = looks_of(["aggregation", "adjusted"])
    figure, axes = _figure(7.2, 3.4, 1, 2, sharey=True)
    titles = {"b_l2[z]": "slope of the group covariate Z", "b_l1[x]": "slope of the members' X"}
    for cell, (parameter, title) in zip(axes[0], titles.items(), strict=True):
        means = forms[forms["parameter"] == parameter]
        adjusted = found[found["parameter"] == parameter]
        places = np.arange(len(means))
        look = looks["aggregation"]
        _pair(cell, places, means["reference"], means["value"], means["mcse"], look)
        look, bars = looks["adjusted"], 196 * adjusted["mcse"]
        style: dict[str, Any] = {"marker": look.marker, "color": look.colour, "ls": "none"}
        cell.errorbar(places, 100 * adjusted["value"], bars, ms=4, capsize=2, **style)
        cell.axhline(0, color=RULE, lw=0.8, zorder=0)
        names = [f"{c:g}\n{s**2:g}\n{n:g}" for c, s, n in means[keys].to_numpy()]
        cell.set_xticks(places, names)
        cell.set_title(title)
        cell.set_xlabel("correlation of Z and ξ\nvariance of ν\nmembers of a group")
    axes[0, 0].set_ylabel("bias, per cent")
    _key(figure, looks, ["means of members", "adjusted means"], "closed form")
    return figure


def first_school() -> Any:
    """Both variances relative to the truth, and coverage of the residual variance: null model."""
    found = schools(SCHOOLS)
    looks = looks_of(list(METHODS))
    figure, axes = _figure(7.2, 6.4, 3, 3, sharex=True, sharey="row")
    rows = (
        ("sigma_l2^2", "mean", "residual variance\nestimate / truth"),
        ("sigma_l1^2", "mean", "school variance\nestimate / truth"),
        ("sigma_l2^2", "coverage", "residual variance\ncoverage of 95% intervals"),
    )
    for place, (line, (parameter, measure, label)) in enumerate(zip(axes, rows, strict=True)):
        for cell, (icc, residual) in zip(line, TRUE.items(), strict=True):
            truth = 1.0 if measure == "coverage" or parameter != "sigma_l2^2" else residual
            here = found[
                (found["parameter"] == parameter)
                & (found["measure"] == measure)
                & (found["icc"] == icc)
            ]
            for shift, method in zip((-2, 2), METHODS, strict=True):
                one = here[here["method"] == method].sort_values("mobility")
                values = (one[c] / truth for c in ("reference", "value", "mcse"))
                _pair(cell, 100 * one["mobility"] + shift, *values, looks[method])
            cell.axhline(0.95 if measure == "coverage" else 1, color=RULE, lw=0.8, zorder=0)
            if place == 0:
                cell.set_title(f"intraclass correlation {icc}")
            if place == len(rows) - 1:
                cell.set_xlabel("students who move, per cent")
                cell.set_xticks([0, 25, 50])
        line[0].set_ylabel(label)
    _key(figure, looks, list(METHODS.values()))
    return figure


#: Outcome -> models with parties averaged, averaged with countries, and as members.
OUTCOMES = {
    "log duration": ("AG_agg", "AG_agg_cid", "G1"),
    "early end (logit)": ("AB_agg", "AB_agg_cid", "B1"),
    "duration (Weibull)": ("AW_agg", None, "W1"),
}
WAYS = ("averaged", "averaged,\ncountry effects", "party and\ncountry effects")


def coalitions() -> Any:
    """Effect of party finance when parties are averaged, and with party effects."""
    found = fits().set_index(["model", "parameter"])
    looks = looks_of(WAYS)
    figure, axes = _figure(7.2, 3.2, 1, 3, sharey=True)
    for cell, (outcome, models) in zip(axes[0], OUTCOMES.items(), strict=True):
        for place, (way, model) in enumerate(zip(WAYS, models, strict=True)):
            if model is None:
                continue
            name = "b_l2[mean_finance]" if "agg" in model else "b_l1[finance]"
            row, look = found.loc[(model, name)], looks[way]
            for shift, value, sd, mark in (
                (0.13, row["published"], row["published_sd"], {"mfc": "none", "ms": 9}),
                (-0.13, row["mean"], row["sd"], {"ms": 5}),
            ):
                cell.errorbar(
                    value,
                    place + shift,
                    xerr=1.96 * sd,
                    color=look.colour,
                    marker=look.marker,
                    capsize=2,
                    **mark,
                )
        cell.axvline(0, color=RULE, lw=0.8, zorder=0)
        cell.set_title(outcome)
        cell.set_xlabel("coefficient of finance, 95%")
    axes[0, 0].set_yticks(range(3), WAYS)
    axes[0, 0].set_ylim(2.5, -0.5)
    _key(figure, {}, [], "bml, lm, lmer, glm, glmer, survreg")
    return figure


def workers() -> Any:
    """REML and posterior of the office workers, in standard errors from lme4."""
    found = fits("workers")
    unit = found[found["kind"] == "posterior"].set_index("parameter")["sd"]
    looks = looks_of(["estimate", "posterior"])
    figure, axes = _figure(7.2, 2.6, 1, 1)
    (cell,) = axes[0]
    names = list(found[found["kind"] == "estimate"]["parameter"])
    cell.axvline(0, color=RULE, lw=0.8, zorder=0)
    for kind, shift in (("estimate", 0.15), ("posterior", -0.15)):
        rows = found[found["kind"] == kind].set_index("parameter").loc[names]
        x = (rows["mean"] - rows["published"]) / unit[names]
        error = 1.96 * (rows["mcse"] / unit[names]).fillna(0)
        look = looks[kind]
        places = np.arange(len(names)) + shift
        cell.errorbar(
            x, places, xerr=error, ls="none", marker=look.marker, color=look.colour, capsize=2,
            label={"estimate": "REML, ours", "posterior": "posterior mean, ours"}[kind],
        )  # fmt: skip
    cell.set_yticks(range(len(names)), names)
    cell.invert_yaxis()
    cell.set_xlim(-0.3, 0.3)
    cell.set_xlabel("difference from lme4's REML, in posterior standard deviations")
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


FIGURES: dict[str, Callable[[], Any]] = {
    "gallery_croon": croon,
    "gallery_schools": first_school,
    "gallery_coalitions": coalitions,
    "gallery_workers": workers,
}


def write(folder: Path = FOLDER) -> None:
    """Write every figure as SVG."""
    mpl.use("Agg")
    for name, draw in FIGURES.items():
        with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
            draw().savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
