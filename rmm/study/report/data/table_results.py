"""A scored table of estimates as what figures and tables of reports are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmm.study.design.estimand import Estimand
from rmm.study.estimate_tables.estimate_table import EstimateTable
from rmm.study.estimate_tables.score_table import Scored, baseline_of, score_table
from rmm.study.estimate_tables.table_options import ScoreOptions
from rmm.study.measures.score_cells import bounds_of, interval_of
from rmm.study.report.data.results import Results


@dataclass(frozen=True)
class Named:
    """A method or a scenario of a table."""

    name: str
    fallback: None = None

    @property
    def id(self) -> str:
        """The name."""
        return self.name


@dataclass(frozen=True)
class TableDescription:
    """What a table of estimates says of what was studied; attributes as `Described`."""

    name: str
    config: Mapping[str, Any]
    scenarios: tuple[Named, ...]
    methods: tuple[Named, ...]
    estimands: tuple[Estimand, ...]
    baseline: str
    truths: Mapping[str, Mapping[str, float]]
    factors: Mapping[str, Sequence[Any]]

    def baseline_of(self, parameter: str) -> str:
        """The method that paired measures of a parameter compare with."""
        return self.baseline

    def truth_of(self, scenario: Any) -> Mapping[str, float]:
        """True values of a scenario by parameter; nan where they differ between data sets."""
        return self.truths[scenario.id]

    def scenario_columns(self) -> Mapping[str, Sequence[Any]]:
        """`scenario` and the factors, a value for each scenario."""
        return {"scenario": [s.id for s in self.scenarios], **self.factors}


@dataclass(frozen=True, kw_only=True)
class TableResults(Results):
    """Results of a table of estimates.

    Attributes
    ----------
    table : EstimateTable
    scored : Scored
    options : ScoreOptions
    """

    table: EstimateTable
    scored: Scored
    options: ScoreOptions


#: Columns of fits that a table may lack.
_EMPTY = ("seconds", "ess_bulk", "rank", "message", "backend")


def table_results(table: EstimateTable, options: ScoreOptions, name: str) -> TableResults:
    """Score a table, and describe it as figures and tables of reports need it."""
    scored = score_table(table, options)
    described = _described(table, scored, options, name)
    low, high = interval_of(scored.frame, options.levels()[0])
    bounds = bounds_of(options.levels()[0])
    estimates = scored.frame.assign(**dict(zip(bounds, (low, high), strict=True)))
    missing = {c: np.nan for c in (*_EMPTY, "truth") if c not in estimates}
    estimates = estimates.assign(**missing).astype({"message": object, "backend": object})
    shown = scored.performance.assign(reference=np.nan)
    return TableResults(
        described,
        estimates,
        shown,
        usable=options.usable,
        table=table,
        scored=scored,
        options=options,
    )


def _described(
    table: EstimateTable, scored: Scored, options: ScoreOptions, name: str
) -> TableDescription:
    factors = table.columns.by or ()
    columns = {
        _factor_name(factor): [label[place] for label in table.scenarios]
        for place, factor in enumerate(factors)
    }
    present = set(scored.performance["parameter"]) - {""}
    return TableDescription(
        name=name,
        config={},
        scenarios=tuple(Named(str(i)) for i in range(len(table.scenarios))),
        methods=tuple(Named(method) for method in table.methods),
        estimands=tuple(
            Estimand(p, _null(scored.frame, p), tuple(_levels(options, table, p)))
            for p in table.parameters
            if p in present
        ),
        baseline=baseline_of(table, options.baseline),
        truths=_truths(table, scored.frame),
        factors=columns,
    )


def _factor_name(column: str) -> str:
    """A name as factors of a study have them: a dot there parts a path.

    `scenario` is the column of ids; a factor of this name is marked, as `Results.scenarios` does.
    """
    return "factor.scenario" if column == "scenario" else column.replace(".", "_")


def _levels(options: ScoreOptions, table: EstimateTable, parameter: str) -> list[float]:
    if isinstance(options.alpha, Mapping):
        label = str(table.parameters[parameter])
        found = {str(name): levels for name, levels in options.alpha.items()}
        return [float(a) for a in np.atleast_1d(found.get(label, 0.05))]
    return options.levels()


def _null(frame: pd.DataFrame, parameter: str) -> float:
    if "null" not in frame:
        return 0.0
    values = frame.loc[frame["parameter"] == parameter, "null"].dropna().unique()
    return float(values[0]) if len(values) == 1 else math.nan


def _truths(table: EstimateTable, frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {str(i): {} for i in range(len(table.scenarios))}
    if "truth" not in frame:
        return found
    for (scenario, parameter), values in frame.groupby(["scenario", "parameter"])["truth"]:
        different = values.dropna().unique()
        if len(different) == 1:
            found[str(scenario)][str(parameter)] = float(different[0])
    return found
