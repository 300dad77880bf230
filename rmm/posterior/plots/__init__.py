"""Plots of a fit, one file each; a new plot is a file and a row here.

Each file has one function ``draw(fit, sheet..., **options) -> Sheet`` named like its row. Nothing
of matplotlib is imported before the first plot.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module, util
from typing import TYPE_CHECKING, Any

from rmm.errors import PlotError, how_to_install, unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rmm.posterior.fit_tables import FitTables


@dataclass(frozen=True)
class Plot:
    """One row: where a plot's `draw` is, and which method of `Fit` gives it."""

    module: str
    method: str
    shows: str


PLOTS: dict[str, Plot] = {
    "draws": Plot("rmm.posterior.plots.trace", "plot", "density and trace of each parameter"),
    "forest": Plot("rmm.posterior.plots.forest", "plot", "estimates with 50% and 95% intervals"),
    "effects": Plot(
        "rmm.posterior.plots.caterpillar", "plot", "effects of members or nesting units, sorted"
    ),
    "prior": Plot(
        "rmm.posterior.plots.prior_posterior", "plot", "prior and posterior of each parameter"
    ),
    "sensitivity": Plot(
        "rmm.posterior.plots.prior_sensitivity",
        "plot",
        "sensitivity to priors and likelihood; means with weaker and stronger priors",
    ),
    "variable": Plot(
        "rmm.posterior.plots.weight_function", "plot_weights", "weights over a weight variable"
    ),
    "groups": Plot(
        "rmm.posterior.plots.group_weights", "plot_weights", "weights of the members of some groups"
    ),
    "predictive": Plot(
        "rmm.posterior.plots.predictive_check", "plot_check", "replicated and observed outcomes"
    ),
    "prior_predictive": Plot(
        "rmm.posterior.plots.prior_predictive",
        "plot_check",
        "outcomes drawn from the priors, beside the observed outcomes",
    ),
}


def plot(fit: FitTables, method: str, kind: str, options: dict[str, Any]) -> Figure:
    """The figure of a kind.

    Raises
    ------
    PlotError
        For an unknown kind or option, or if matplotlib is absent.
    """
    known = [name for name, row in PLOTS.items() if row.method == method]
    check_name("a kind of plot", kind, known)
    need_matplotlib()
    draw: Callable[..., Figure] = import_module(PLOTS[kind].module).draw
    allowed = list(inspect.signature(draw).parameters)[1:]
    for name in options:
        check_name(f"an option of plot {kind!r}", name, allowed)
    return draw(fit, **options)


def need_matplotlib() -> None:
    """Raise `PlotError` if matplotlib is absent."""
    if util.find_spec("matplotlib") is None:
        raise PlotError(
            "Plots need the package matplotlib, which is not installed. "
            + how_to_install("matplotlib", "plots")
        )


def check_name(kind: str, name: Any, known: Iterable[Any]) -> None:
    """Raise `PlotError` unless a name is among the known ones; `kind` has its article."""
    names = [str(k) for k in known]
    if str(name) not in names:
        raise PlotError(unknown_name(name, kind, names))
