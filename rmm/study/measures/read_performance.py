"""``performance.parquet`` of this version or of an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rmm.study.files.parquet import PERFORMANCE, read_table
from rmm.study.measures.measure_values import known_to, rate_of
from rmm.study.measures.measures import RATES

if TYPE_CHECKING:
    import pandas as pd


def read_performance(path: Path) -> pd.DataFrame:
    """Measures with their Monte Carlo intervals, which files of earlier versions lack.

    There, a rate of 0 or 1 has a Monte Carlo error of 0, which is none. The number of fits behind
    `type_s`, those that are significant, is not in the file.

    Raises
    ------
    StudyError
        If the file is missing, or not as it was written.
    """
    table: pd.DataFrame = read_table(path, schema=PERFORMANCE).to_pandas()
    if "lower" in table:
        return table
    columns = (table[name] for name in ("measure", "value", "mcse", "n"))
    values = [
        rate_of(v, n) if measure in RATES and measure != "type_s" else known_to(v, e)
        for measure, v, e, n in zip(*columns, strict=True)
    ]
    ends = table["measure"].isin(RATES) & table["value"].isin([0.0, 1.0])
    return table.assign(
        mcse=table["mcse"].mask(ends),
        lower=[value.lower for value in values],
        upper=[value.upper for value in values],
    )
