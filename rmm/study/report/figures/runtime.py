"""What fits cost: seconds, and effective draws per second, per method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rmm.study.report.data.results import FIT, Results
from rmm.study.report.figures.chart import Chart
from rmm.study.report.figures.dots import Axis, Dot, DotPanel, Line, panel_size

if TYPE_CHECKING:
    import pandas as pd

_RANGE = "Dots: median over all fits; bars: from the 5th to the 95th per cent of fits."


def runtime(results: Results) -> list[Chart]:
    """Seconds per fit, and of methods that sample their effective draws per second."""
    fits = results.fits.dropna(subset=["seconds"])
    seconds = fits[fits["seconds"] > 0].groupby("method")["seconds"]
    made = [_chart("seconds", "Seconds per fit", "Seconds per fit", _RANGE, seconds, results)]
    speed = _ess_per_second(results)
    made.append(
        _chart(
            "ess_per_second",
            "Effective draws per second",
            "Bulk ESS per second",
            f"Bulk effective sample size of the slowest parameter, per second of the whole "
            f"fit. {_RANGE}",
            speed.groupby("method")["speed"],
            results,
        )
    )
    return [chart for chart in made if chart is not None]


def _ess_per_second(results: Results) -> pd.DataFrame:
    table = results.estimates[[*FIT, "ess_bulk", "seconds"]].dropna()
    table = table[(table["seconds"] > 0) & (table["ess_bulk"] > 0)]
    slowest = table.groupby(FIT, as_index=False, sort=False)[["ess_bulk", "seconds"]].min()
    return slowest.assign(speed=slowest["ess_bulk"] / slowest["seconds"])


def _chart(
    name: str,
    title: str,
    y: str,
    caption: str,
    values: Any,
    results: Results,
) -> Chart | None:
    spread = {str(m): part.quantile([0.5, 0.05, 0.95]).tolist() for m, part in values}
    methods = [m for m in results.methods if m in spread]
    if not methods:
        return None
    axis = Axis("", tuple(map(float, range(len(methods)))), tuple(methods), names_methods=True)
    lines = tuple(
        Line(m, (_dot(float(i), spread[m]),), (results.filters.method(m),))
        for i, m in enumerate(methods)
    )
    ends = [end for m in methods for end in spread[m]]
    panel = DotPanel("", lines, axis, limits=(min(ends) / 1.6, max(ends) * 1.6), log=True)
    size = panel_size(len(methods), names_methods=True)
    return Chart(name, title, caption, "computation", (panel,), "", y, (), size, 1)


def _dot(at: float, quantiles: list[float]) -> Dot:
    median, low, high = quantiles
    return Dot(at, median, low, high)
