"""Joint outcomes of two methods in a user's table of estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from rmm.errors import StudyError, unknown_name
from rmm.study.estimate_tables.estimate_table import EstimateTable, method_name
from rmm.study.estimate_tables.score_table import (
    known_alphas,
    known_labels,
    labelled_pairs,
    read_table_of,
    without_outliers,
)
from rmm.study.estimate_tables.table_options import ScoreOptions, argument_names, split_arguments
from rmm.study.measures.joint_outcomes import checked_measures, joint_outcomes_of
from rmm.study.measures.score_cells import Rules


def joint_outcomes(
    table: Any,
    first: Any,
    second: Any,
    *,
    measures: Sequence[str] = ("coverage", "rejection"),
    **arguments: Any,
) -> pd.DataFrame:
    """Count in how many data sets both of two methods cover or reject, one alone, or neither.

    Parameters
    ----------
    table : pandas or polars frame, pyarrow.Table, mapping of columns, or path
        Estimates, with their replications; as of `performance`.
    first, second : label
        Two methods.
    measures : sequence of {"coverage", "be_coverage", "rejection"}
        What is counted.
    **arguments
        Columns of the table, `alpha`, `parameters`, `test`, `usable`, `untested`, `missing_se` and
        `dropbig`, as of `performance`.

    Returns
    -------
    pandas.DataFrame
        Four rows for each scenario, parameter, measure and level, with `outcome` both, only_first,
        only_second and neither: `count` data sets, `share` of the `n` data sets that both methods
        have a usable fit of, its Monte Carlo standard error `mcse` (sqrt(p (1 - p) / n); nan at 0
        and 1) and Wilson's 95% interval `lower` to `upper`; `n_dropped` data sets that only one of
        them has a usable fit of, or neither; `p_value` of McNemar's exact test that both methods
        have the same rate (McNemar 1947, Psychometrika 12, 153-157), nan if they never differ.

    Raises
    ------
    StudyError
        As of `performance`; if the table has no replications, or no such method.

    Examples
    --------
    >>> table = {"method": ["a", "a", "a", "b", "b", "b"], "data_set": [1, 2, 3, 1, 2, 3],
    ...          "b": [1.0, 1.3, 1.1, 1.1, 1.2, 1.6], "se": [0.1, 0.1, 0.1, 0.2, 0.2, 0.2]}
    >>> found = joint_outcomes(table, "a", "b", measures=["coverage"], replication="data_set",
    ...                        estimate="b", se="se", truth=1.0)
    >>> found[["outcome", "count", "share", "n"]].round(3)
           outcome  count  share  n
    0         both      1  0.333  3
    1   only_first      1  0.333  3
    2  only_second      1  0.333  3
    3      neither      0  0.000  3
    """
    for name in arguments:
        if name not in argument_names():
            raise StudyError(unknown_name(name, "an argument", argument_names()))
    columns, options = split_arguments(arguments)
    checked_measures(measures)
    read = read_table_of(table, columns, options)
    return joint_table(read, first, second, measures, options)


def joint_table(
    read: EstimateTable, first: Any, second: Any, measures: Sequence[str], options: ScoreOptions
) -> pd.DataFrame:
    """`joint_outcomes` of a table that was read, with the user's labels."""
    if read.replications is None:
        raise StudyError(
            "The table has no replications, so it is not known which estimates are of the same "
            "data set.\n  Name their column: `replication`."
        )
    pair = [known_labels([m], read.methods, "methods", "a method")[0] for m in (first, second)]
    if pair[0] == pair[1]:
        raise StudyError(f"The two methods are the same: {method_name(read.methods[pair[0]])}.")
    found = joint_outcomes_of(
        without_outliers(read, options),
        *pair,
        measures=measures,
        alpha=known_alphas(options, read),
        parameters=known_labels(options.parameters, read.parameters, "parameters", "a parameter")
        or None,
        usable=options.usable,
        untested=known_labels(options.untested, read.parameters, "untested", "a parameter"),
        rules=Rules(options.test, options.mcse, status_by_parameter=True),
    )
    return labelled_pairs(found, read)
