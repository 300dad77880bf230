"""Which figures a report holds: one row of FIGURES each.

A new figure is a file with a function from `Results` to charts, and its row here. A chart names
its part of the report (`sections.SECTIONS`), and its panels draw themselves (`charts.Panel`).
"""

from __future__ import annotations

from collections.abc import Callable

from rmm.study.report.data.results import Results
from rmm.study.report.figures.by_factor import by_factor
from rmm.study.report.figures.chart import Chart
from rmm.study.report.figures.factor_shares import factor_shares
from rmm.study.report.figures.failures import endings, who_fails_where
from rmm.study.report.figures.heat_map import heat_maps
from rmm.study.report.figures.nested_loop import nested_loops
from rmm.study.report.figures.power_figures import power_curves
from rmm.study.report.figures.rank_ecdf import rank_plots
from rmm.study.report.figures.runtime import runtime
from rmm.study.report.figures.single_estimates.bland_altman import bland_altman
from rmm.study.report.figures.single_estimates.density import densities
from rmm.study.report.figures.single_estimates.running import running
from rmm.study.report.figures.single_estimates.scatter import scatters
from rmm.study.report.figures.surfaces import surfaces
from rmm.study.report.figures.zip_plot import zips

#: Name -> charts of a study, none where they would say nothing. The first chart is the headline.
FIGURES: dict[str, Callable[[Results], list[Chart]]] = {
    "by_factor": by_factor,
    "power_curves": power_curves,
    "nested_loops": nested_loops,
    "heat_maps": heat_maps,
    "surfaces": surfaces,
    "factor_shares": factor_shares,
    "zips": zips,
    "calibration": rank_plots,
    "runtime": runtime,
    "endings": endings,
    "who_fails_where": who_fails_where,
}

#: Figures of single estimates, which reports of tables have, too.
TABLE_FIGURES: dict[str, Callable[[Results], list[Chart]]] = {
    "density": densities,
    "scatter": scatters,
    "bland_altman": bland_altman,
    "running": running,
}


def charts(results: Results) -> list[Chart]:
    """All figures that this study has numbers for; one of power opens with its curves, one of
    calibration with its ranks.
    """
    made = [chart for figure in FIGURES.values() for chart in figure(results)]
    first = [chart for chart in made if chart.name == "power_curves"]
    if not first and not any(chart.name in ("type1_error", "power") for chart in made):
        first = [chart for chart in made if chart.section == "calibration"]
    return first + [chart for chart in made if chart not in first]


def table_charts(results: Results) -> list[Chart]:
    """All figures that a table of estimates has numbers for."""
    return [*charts(results), *(c for figure in TABLE_FIGURES.values() for c in figure(results))]
