"""Factors and their levels: how they are called, ordered and split into panels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rmm.study.design.estimand import Estimand
from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import readable

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.report.data.results import Results


def is_null(results: Results, scenario: str, estimand: Estimand) -> bool:
    """Whether the null hypothesis of an estimand is true in a scenario."""
    return abs(results.truth(scenario, estimand.parameter) - estimand.null) < 1e-12


def words(results: Results, row: Mapping[Any, Any], factors: Sequence[str] | None = None) -> str:
    """A scenario by its levels: `overlap = 0.5, group size = 3`; empty without factors."""
    chosen = results.factors if factors is None else factors
    return ", ".join(f"{readable(f)} = {compact(row[f])}" for f in chosen)


def split(
    here: pd.DataFrame, others: Sequence[str], results: Results
) -> list[tuple[list[tuple[str, Any]], pd.DataFrame]]:
    """Parts of a table by combinations of factor levels, in their order, without empty ones."""
    if not others:
        return [] if here.empty else [([], here)]
    levels = [results.filters.levels[f] for f in others]
    groups = here.groupby([here[f].astype(str) for f in others], sort=False)
    rows = {key if isinstance(key, tuple) else (key,): at for key, at in groups.indices.items()}
    return [
        (list(zip(others, values, strict=True)), here.iloc[rows[names]])
        for values in itertools.product(*levels)
        if (names := tuple(map(str, values))) in rows
    ]
