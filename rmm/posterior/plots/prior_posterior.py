"""Prior and posterior of each parameter: what the data have said, and what the prior has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

from rmm.design.priors.group_sizes import moved_by_sizes
from rmm.errors import PlotError
from rmm.families.variants.varying_sd import AT_CENTRES, B_SIGMA
from rmm.formula.prior_syntax import PRIOR_FAMILIES, Prior
from rmm.model.spec import INTERCEPT
from rmm.posterior.plots.figure import Drawn, Sheet, chosen, density, in_style, shortened
from rmm.posterior.plots.style import FILL, INK, LOOKS

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

Array = np.ndarray[Any, Any]
_MOST = 60


def _distributions() -> dict[str, Callable[..., Any]]:
    """Prior family -> SciPy's distribution of its hyperparameters, in their order."""
    return {
        "normal": lambda mean, sd: stats.norm(mean, sd),
        "student_t": lambda df, mean, scale: stats.t(df, mean, scale),
        "half_normal": lambda scale: stats.halfnorm(scale=scale),
        "half_t": lambda df, scale: _Half(stats.t(df, scale=scale)),
        "half_cauchy": lambda scale: stats.halfcauchy(scale=scale),
        "exponential": lambda rate: stats.expon(scale=1 / rate),
        "gamma": lambda shape, rate: stats.gamma(shape, scale=1 / rate),
        "uniform": lambda low, high: stats.uniform(low, high - low),
        "lkj": lambda eta: stats.beta(eta, eta, -1, 2),
        "beta": lambda alpha, beta: stats.beta(alpha, beta),
    }


class _Half:
    """A distribution symmetric about 0, folded."""

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def pdf(self, x: Array) -> Array:
        return np.where(x >= 0, 2 * self.whole.pdf(x), 0.0)

    def ppf(self, p: float) -> float:
        return float(self.whole.ppf(0.5 + p / 2))


@in_style
def draw(fit: FitTables, parameters: str | Sequence[str] | None = None) -> Sheet:
    """Posterior density (filled) and prior density (line) of each parameter.

    Parameters without a prior of their own in this package's language are left out: an intercept
    whose prior is stated at the predictors' centres, coefficients whose prior is stated for a group
    of typical size (`w ~ 1/n^b`, c = FALSE), and precisions.

    Parameters
    ----------
    parameters : str or sequence of str, optional
    """
    shown = [
        (one, prior)
        for one in chosen(fit, parameters, _MOST)
        if (prior := prior_of(fit, one.name)) is not None
    ]
    if not shown:
        raise PlotError("None of these parameters has its own prior, so no prior can be plotted.")
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    sheet = Sheet(figsize=(max(4.0, 2.5 * columns), 1.55 * rows + 0.5), layout="constrained")
    cells = sheet.subplots(rows, columns, squeeze=False).reshape(-1)
    for cell in cells[len(shown) :]:
        cell.set_visible(False)
    names = shortened([one.name for one, _ in shown], 30)
    for cell, name, (one, prior) in zip(cells, names, shown, strict=False):
        _panel(cell, name, one, prior)
    _explain(sheet)
    return sheet


def prior_of(fit: FitTables, name: str) -> Prior | None:
    """The prior of an element such as ``b_l2[z]``, if it has one of a family shown here."""
    model = fit.model
    vector, _, element = name.partition("[")
    if vector == "b_l2":
        if element[:-1] == INTERCEPT and model.spec.intercept:
            if model.design.centred:  # the prior is that of `alpha`, not of b_l2[Intercept]
                return None
            vector, labels = "alpha", None
        else:
            vector, labels = "beta_l2", model.design.coords["slope_l2"]
    elif vector == B_SIGMA:
        if element[:-1] == INTERCEPT and np.any(model.design.outcome["center_sigma"]):
            return None
        vector, labels = AT_CENTRES, model.design.coords["covariate_sigma"]
    else:
        dims = {p.name: p.dims for p in model.spec.parameters}.get(vector, ())
        labels = model.design.coords[dims[0]] if dims else None
    priors = model.priors.elements.get(vector)
    for found in model.spec.correlated:
        if vector == found.cor:
            return model.priors.elements[found.pcor][0]  # that of every correlation
    if priors is None or vector in moved_by_sizes(model.spec, model.design.members):
        return None
    index = 0 if labels is None else [str(v) for v in labels].index(element[:-1])
    return priors[index] if priors[index].family in _distributions() else None


def _panel(cell: Any, name: str, one: Drawn, prior: Prior) -> None:
    distribution = _distributions()[prior.family](*prior.values)
    positive = PRIOR_FAMILIES[prior.family].support == "positive"
    grid, height = density(one.flat, 0.0 if positive else None)
    cell.fill_between(grid, height, color=FILL, lw=0)
    cell.plot(grid, height, color=LOOKS[0].colour, lw=1.1)
    low, high = (float(distribution.ppf(p)) for p in (0.05, 0.95))
    width = float(np.ptp(grid)) or 1.0
    # As much of the prior as can be seen beside the posterior.
    low = 0.0 if positive else max(low, float(grid.min()) - 1.5 * width)
    high = min(high, float(grid.max()) + 1.5 * width)
    x = np.linspace(min(low, float(grid.min())), max(high, float(grid.max())), 400)
    cell.plot(x, distribution.pdf(x), color=LOOKS[1].colour, ls=LOOKS[1].line, lw=1.3)
    cell.set_yticks([])
    cell.set_ylim(bottom=0)
    cell.spines["left"].set_visible(False)
    cell.locator_params(axis="x", nbins=4)
    cell.set_title(name, loc="left", fontweight="bold", color=INK, pad=13)
    values = ", ".join(f"{v:.3g}" for v in prior.values)
    cell.text(0, 1.03, f"{prior.family}({values})", transform=cell.transAxes, fontsize=7, color=INK)


def _explain(sheet: Sheet) -> None:
    keys: list[Any] = [
        Patch(facecolor=FILL, edgecolor=LOOKS[0].colour, label="posterior"),
        Line2D([], [], color=LOOKS[1].colour, ls=LOOKS[1].line, label="prior"),
    ]
    sheet.legend(handles=keys, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
