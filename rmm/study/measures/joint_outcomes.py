"""Two methods on the same data sets: how often both, one alone, or neither covers or rejects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import StudyError, unknown_name
from rmm.study.files.parquet import OK
from rmm.study.measures.measure_values import Array, rate_of
from rmm.study.measures.measures import MEASURES
from rmm.study.measures.score_cells import DEFAULT_RULES, Rules, paired_samples

#: Measures whose outcome of each fit is yes or no.
JOINT = ("coverage", "be_coverage", "rejection")
#: Outcomes of a data set, by the first and the second method.
OUTCOMES = ("both", "only_first", "only_second", "neither")
COLUMNS = (
    "scenario", "parameter", "measure", "alpha", "first", "second", "outcome",
    "count", "share", "mcse", "lower", "upper", "n", "n_dropped", "p_value",
)  # fmt: skip


def joint_outcomes_of(
    estimates: pd.DataFrame,
    first: str,
    second: str,
    *,
    measures: Sequence[str] = ("coverage", "rejection"),
    alpha: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.05,
    parameters: Sequence[str] | None = None,
    usable: Sequence[str] = (OK,),
    untested: Collection[str] = (),
    other_scales: Mapping[tuple[str, str, str], str] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> pd.DataFrame:
    """Joint outcomes of two methods, from estimates in the layout of studies.

    `rmm.study.joint_outcomes` documents arguments and columns, and reads tables of any layout.

    Raises
    ------
    StudyError
        For a measure whose outcome is not yes or no.
    """
    rows = paired_samples(
        estimates,
        first,
        second,
        [MEASURES[name] for name in checked_measures(measures)],
        alpha=alpha,
        parameters=parameters,
        usable=usable,
        untested=untested,
        other_scales=other_scales,
        rules=rules,
    )
    found = [
        (scenario, parameter, row.name, level, first, second, *counted)
        for (scenario, parameter, row, level), one, other, tried in rows
        if row.hits is not None
        for counted in _counted(row.hits(one), row.hits(other), tried)
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def checked_measures(measures: Sequence[str]) -> list[str]:
    """Names of measures whose outcome of each fit is yes or no; `StudyError` for others."""
    for name in measures:
        if name not in JOINT:
            what = "a measure with an outcome of each fit"
            raise StudyError("`measures`: " + unknown_name(name, what, JOINT))
    return list(measures)


def _counted(one: Array, other: Array, tried: int) -> Iterator[tuple[Any, ...]]:
    """Rows of one cell: outcome, count, share, its errors, n, dropped, p value."""
    known = ~(np.isnan(one) | np.isnan(other))
    a, b = one[known] == 1, other[known] == 1
    n = len(a)
    counts = [int(c.sum()) for c in (a & b, a & ~b, ~a & b, ~a & ~b)]
    p = mcnemar_p(counts[1], counts[2])
    for outcome, count in zip(OUTCOMES, counts, strict=True):
        share = rate_of(count / n if n else float("nan"), n)
        yield (outcome, count, *share, n, tried - n, p)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided exact p value of McNemar's test that both methods have the same rate.

    Of the data sets in which one method alone has the outcome, as many should be the first's as
    the second's: Binomial(m, 1/2). McNemar (1947), Psychometrika 12, 153-157. It is nan if there
    is no such data set.
    """
    if not only_first + only_second:
        return float("nan")
    # Late: the extra `study` may be absent.
    from statsmodels.stats.contingency_tables import mcnemar

    table = [[0, only_first], [only_second, 0]]
    return min(1.0, float(mcnemar(table, exact=True).pvalue))
