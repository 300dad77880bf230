"""Which fits count: words of a status column, and fits without a usable number."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import StudyError, counted, first_row, unknown_name
from rmm.study.files.parquet import FAILED, OK, STATUSES

Array = np.ndarray[Any, Any]


def read_status(column: pd.Series, words: Mapping[Any, str], estimate: Array) -> Array:
    """(rows,) statuses of studies.

    Parameters
    ----------
    column : pandas.Series
    words : mapping
        Word of the table -> status of studies. Our own words need none.
    estimate : (rows,) array
        A fit without status and without estimate has failed.

    Raises
    ------
    StudyError
        For a word that is neither ours nor in `words`, or a status that is missing.
    """
    known = {str(word): status for word, status in words.items()}
    for word, status in known.items():
        if status not in STATUSES:
            raise StudyError(
                f"`statuses`: {word!r} -> " + unknown_name(status, "a status", STATUSES)
            )
    values = np.empty(len(column), dtype=object)
    values[:] = [v if isinstance(v, Hashable) else repr(v) for v in column]
    missing = np.array(pd.isna(values), dtype=bool)
    lost = missing & ~np.isnan(estimate)
    if lost.any():
        place = first_row(int(lost.sum()), int(column.index[int(np.argmax(lost))]) + 1)
        raise StudyError(
            f"Column `{column.name}` (`status`) is missing in {counted(int(lost.sum()), 'row')} "
            f"that have an estimate{place}. Fill in the status."
        )
    different = list(dict.fromkeys(values[~missing].tolist()))
    unknown = [v for v in different if _meaning(v, known) is None]
    if unknown:
        raise StudyError(_unknown_words(column, unknown, known))
    meanings = {v: _meaning(v, known) for v in different}
    found = [FAILED if m else meanings[v] for v, m in zip(values, missing, strict=True)]
    return np.array(found, dtype=object)


def _meaning(value: Any, known: Mapping[str, str]) -> str | None:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return known.get(text, value if isinstance(value, str) and value in STATUSES else None)


def _unknown_words(column: pd.Series, unknown: list[Any], known: Mapping[str, str]) -> str:
    shown = ", ".join(f"{v!r} ({counted(int((column == v).sum()), 'row')})" for v in unknown[:5])
    usual = {"ok": OK, "true": OK, "converged": OK, "success": OK}
    guess = usual.get(str(unknown[0]).lower(), FAILED)
    return (
        f"Column `{column.name}` (`status`) contains {shown}{', ...' * (len(unknown) > 5)}. What "
        f"these mean is not known. Allowed: {', '.join(STATUSES)}. Say what each word means, for "
        f"example statuses={{{unknown[0]!r}: {guess!r}}} (--statuses {unknown[0]}={guess}), with "
        "all words of the column."
    )


def fail_without_numbers(
    status: Array, estimate: Array, se: Array, usable: tuple[str, ...], *, se_needed: bool
) -> tuple[Array, dict[str, Array]]:
    """Statuses with fits as failed that are called usable but have no usable number.

    Returns
    -------
    status : (rows,) array
    why : dict
        Reason -> (rows,) whether it is the reason.
    """
    called = np.isin(status, usable)
    why = {
        "the estimate is missing": called & np.isnan(estimate),
        "the estimate is infinite": called & np.isinf(estimate),
        "the standard error is infinite": called & np.isfinite(estimate) & np.isinf(se),
    }
    if se_needed:
        why["the standard error is missing"] = called & np.isfinite(estimate) & np.isnan(se)
    failed = np.logical_or.reduce(list(why.values()))
    return np.where(failed, FAILED, status), {k: v for k, v in why.items() if v.any()}
