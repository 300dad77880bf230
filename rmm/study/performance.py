"""Score a table of estimates of any layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def performance(
    table: Any,
    *,
    by: str | Sequence[str] | None = None,
    method: str | Sequence[str] | None = None,
    parameter: str | None = None,
    replication: str | None = None,
    estimate: str | None = None,
    se: str | None = None,
    variance: str | None = None,
    lower: str | None = None,
    upper: str | None = None,
    df: str | float | Mapping[Any, float] | None = None,
    p_value: str | None = None,
    truth: str | float | Mapping[Any, float] | None = None,
    null: str | float | Mapping[Any, float] | None = None,
    status: str | None = None,
    statuses: Mapping[Any, str] | None = None,
    columns: Mapping[str, str] | None = None,
    na: Sequence[str] | None = None,
    alpha: float | Sequence[float] | Mapping[Any, Sequence[float]] = 0.05,
    measures: Sequence[str] | None = None,
    methods: Sequence[Any] | None = None,
    parameters: Sequence[Any] | None = None,
    baseline: Any = None,
    test: str = "auto",
    mcse: str = "normal",
    missing_se: str = "keep",
    dropbig: str | None = None,
    max_estimate: float = 10.0,
    max_se: float = 100.0,
    usable: Sequence[str] = ("ok",),
    untested: Collection[Any] = (),
    null_scenarios: Mapping[Any, Any] | None = None,
) -> pd.DataFrame:
    """Score a table of estimates, each measure with its Monte Carlo standard error and its n.

    One row of the table is one estimate: of a parameter, by a method, on one simulated data set
    (replication), in one scenario. `{method}` or `{parameter}` in the name of a column stands for
    the labels in a wide table: ``estimate="b_{method}", se="se_{method}"``.

    Parameters
    ----------
    table : pandas or polars frame, pyarrow.Table, mapping of columns, or path
        Files: CSV and other text, Parquet, Stata, R's .rda, and all others that `rmm.fit` reads.
    by : str or sequence of str, optional
        Columns of factors: each combination of their labels is a scenario. Default: `scenario`, if
        the table has it.
    method : str or sequence of str, optional
        Column of methods; with several, each combination of labels is a method. Default: `method`,
        if the table has it, else there is one method.
    parameter, replication : str, optional
        Columns of parameters (estimands) and of data sets. Default: `parameter` and `replication`,
        if the table has them. Without replications, methods are not compared on the same data.
    estimate : str, optional
        Column of estimates. Default: `mean`. Then `sd` (`se`), `lower`, `upper`, `df`, `p_value`,
        `truth` and `null` are used, too, if the table has them. Otherwise they must be named.
    se, variance : str, optional
        Column of standard errors, or of their squares.
    lower, upper : str, optional
        Columns of interval bounds, at the (first) `alpha`; those that are called so and not named
        are of 95% intervals. Default: estimate -+ quantile times standard error, of the t
        distribution if `df` is given, else of the normal distribution.
    df : str, float or mapping of parameter to float, optional
        Degrees of freedom: a column, or a number.
    p_value : str, optional
        Column of two-sided p values.
    truth : str, float or mapping of parameter to float, optional
        True value: a column, or a number.
    null : str, float or mapping of parameter to float, optional
        Value that is tested. Default: 0.
    status : str, optional
        Column that says how a fit ended: ok, not_converged, failed or timeout. Default: `status`,
        if the table has it, else all fits are ok.
    statuses : mapping, optional
        Other words of that column -> one of these four.
    columns : mapping, optional
        Names of columns that have no argument: `seconds`, `ess_bulk`, `contraction`, `lower90`,
        `upper90`, `lower99`, `upper99`; and of those that have one by their names in the layout of
        studies, such as ``{"mean": "b", "sd": "se"}``.
    na : sequence of str, optional
        Texts that mean a missing value in a text file.
    alpha : float, sequence, or mapping of parameter to sequence
        Levels of tests, and one minus levels of intervals.
    measures, methods, parameters : sequence, optional
        What is scored; all by default. Names of measures: reference page "Performance measures".
    baseline : label, optional
        Method that paired measures compare with. Default: the first in the order of labels.
    test : {"auto", "p", "interval", "z", "t"}
        How a test is made: by the p value (`auto`: if known), by whether the interval holds the
        null value (`auto`: else), or by estimate / standard error against a quantile of the normal
        or the t distribution with `df`.
    mcse : {"normal", "robust"}
        Monte Carlo errors of empirical standard errors, their relative errors and relative
        precisions: for normal estimates (Morris, White and Crowther 2019), or by the kurtosis of
        the estimates.
    missing_se : {"keep", "fail"}
        Estimates without standard error: kept for measures that need none (each measure has its
        own n), or failed fits.
    dropbig : {"robust", "sd"}, optional
        Leave out outliers: estimates farther than `max_estimate`, or standard errors farther than
        `max_se`, from the others of their scenario, method and parameter, measured in interquartile
        ranges from the median or in standard deviations from the mean. Default: outliers by the
        robust rule are only counted.
    max_estimate, max_se : float
        Limits of outliers.
    usable : sequence of str
        Statuses of fits that count.
    untested : collection
        Parameters without measures of tests, such as variances, which are never 0.
    null_scenarios : mapping, optional
        For size-adjusted power: (scenario, parameter) -> the scenario where only that parameter
        differs and is at its null value. A scenario is the label of `by`, or a tuple of labels.

    Returns
    -------
    pandas.DataFrame
        The columns of `by` (``factor.NAME`` if the name is taken; `scenario` without `by`), method
        (and its columns, if several), parameter, measure, alpha, policy, value, mcse, lower, upper,
        n, n_failed, n_not_converged, n_outliers; sorted by labels. Units: those of the estimates,
        shares for rates, per cent for `relative_error_se` and `relative_precision`. `lower` and
        `upper` are a 95% Monte Carlo interval: Wilson's for rates, which have no mcse at 0 and 1,
        and value -+ 1.96 mcse for others. `n` is the number of fits (for paired measures, of
        pairs) that the value rests on. A fit without finite estimate has failed, and counts in
        `n_failed`; a method without usable fits has value nan, never 0. Two policies:
        ``per_method`` takes all usable fits of each method, and for paired measures all complete
        pairs; ``complete_case`` leaves out the replications in which any method has a fit that is
        not usable, apart from methods without any estimate of the parameter. Rates have two more
        rows, ``lower_bound`` and ``upper_bound``: all fits count, and of those that are not usable
        none or all are hits (Pawel, Bartos, Siepe & Lohmann 2026, The American Statistician 80,
        31-48). ``attrs["notes"]`` and ``attrs["outliers"]`` are lists of sentences.

    Raises
    ------
    StudyError
        If a column, method, parameter, baseline, measure or option is not known; a label is
        missing; two rows have the same labels and replication; a status is not known; or a number
        is not possible.

    Examples
    --------
    >>> table = {"data_set": [1, 2, 3], "b": [0.9, 1.1, 1.3], "se": [0.1, 0.1, 0.2]}
    >>> found = performance(table, replication="data_set", estimate="b", se="se", truth=1.0,
    ...                     measures=["bias", "coverage"])
    >>> found.query("policy == 'per_method'")[["measure", "value", "mcse", "n"]].round(3)
        measure  value   mcse  n
    0      bias    0.1  0.115  3
    1  coverage    1.0    NaN  3
    """
    arguments = {name: value for name, value in locals().items() if name != "table"}
    # Late: `rmm.study` is imported where no tables are read.
    from rmm.study.estimate_tables.score_table import read_and_score
    from rmm.study.estimate_tables.table_options import split_arguments

    return read_and_score(table, *split_arguments(arguments))[0]
