"""What a user's method says -> rows of estimates; whatever is wrong with it is named."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scipy import special

from rmm.errors import BackendError, unknown_name
from rmm.study.files.parquet import OK, STATUSES

#: What users may write -> column of `rmm.study.files.parquet.ESTIMATES`.
FIELDS: dict[str, str] = {
    "estimate": "mean",
    "mean": "mean",
    "se": "sd",
    "sd": "sd",
    "low": "lower",
    "lower": "lower",
    "high": "upper",
    "upper": "upper",
    "low90": "lower90",
    "high90": "upper90",
    "low99": "lower99",
    "high99": "upper99",
    "p": "p_value",
    "p_value": "p_value",
    "df": "df",
    "median": "median",
}
#: Of a table, besides its estimates.
SAID = ("status", "message")
_LEVELS = (("", 0.95), ("90", 0.90), ("99", 0.99))


def rows_of_answer(
    rows: Sequence[Mapping[str, Any]],
    allowed: Collection[str],
    wanted: Collection[str],
    nulls: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Rows of estimates, checked, with tests and intervals where a standard error gives them.

    Parameters
    ----------
    rows : sequence of mapping
        ``parameter`` and `FIELDS` of each estimate.
    allowed : collection of str
        Names that an estimate may have.
    wanted : collection of str
        Those without which the fit is a failed one.
    nulls : mapping
        Estimand -> the value that is tested.

    Raises
    ------
    BackendError
    """
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = _name(row, allowed)
        if name in found:
            raise BackendError(f"two estimates are called {name!r}")
        found[name] = {"parameter": name, **_complete(name, _fields(name, row), nulls)}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise BackendError(
            f"no estimate of {', '.join(missing)} was returned (returned: "
            f"{', '.join(found) or 'none'}). If the method does not estimate it, list what it "
            "does under `estimands` of the method"
        )
    return list(found.values())


def unknown_estimands(rows: Sequence[Mapping[str, Any]], allowed: Collection[str]) -> str:
    """A sentence about the first name that no estimand has; "" where all are known."""
    names = (str(row.get("parameter")) for row in rows)
    other = next((name for name in names if name not in allowed), None)
    return "" if other is None else unknown_name(other, "an estimand of this study", allowed)


def status_of(said: Mapping[str, Any]) -> tuple[str, str]:
    """Status and message that an answer gives: ``ok`` and "" where it says nothing.

    Raises
    ------
    BackendError
    """
    other = [name for name in said if name not in SAID]
    if other:
        raise BackendError(unknown_name(other[0], "a key beside the estimates", SAID))
    status = str(said.get("status") or OK)
    if status not in STATUSES:
        raise BackendError(unknown_name(status, "a status", STATUSES))
    return status, str(said.get("message") or "")


def _name(row: Mapping[str, Any], allowed: Collection[str]) -> str:
    problem = unknown_estimands([row], allowed)
    if problem:
        raise BackendError(problem)
    return str(row["parameter"])


def _fields(name: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Columns of one estimate; values that are missing are left out."""
    out: dict[str, float] = {}
    for key, value in row.items():
        if key == "parameter":
            continue
        if key not in FIELDS:
            raise BackendError(f"{name}: {unknown_name(key, 'a field of an estimate', FIELDS)}")
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if not isinstance(value, int | float):
            raise BackendError(f"{name}: {key} is {value!r}, not a number")
        if FIELDS[key] in out:
            raise BackendError(f"{name}: {key} is given twice, under two names")
        out[FIELDS[key]] = float(value)
    return out


def _complete(name: str, row: dict[str, float], nulls: Mapping[str, float]) -> dict[str, Any]:
    null, df = nulls.get(name, 0.0), row.get("df", math.inf)
    _check(name, row)
    own_interval = "lower" in row or "upper" in row
    out: dict[str, Any] = {"null": null, "median": row["mean"], **row}
    if "sd" not in row or own_interval:
        return out
    distance = abs((row["mean"] - null) / row["sd"])
    out.setdefault("p_value", float(2 * special.stdtr(df, -distance)))
    out["df"] = df
    for label, level in _LEVELS:
        half = float(special.stdtrit(df, (1 + level) / 2)) * row["sd"]
        out.setdefault(f"lower{label}", row["mean"] - half)
        out.setdefault(f"upper{label}", row["mean"] + half)
    return out


def _check(name: str, row: Mapping[str, float]) -> None:
    """Values that no estimate can have."""
    if "mean" not in row:
        raise BackendError(f"{name}: the estimate is missing")
    unbounded = ("df", *(f"{end}{label}" for end in ("lower", "upper") for label, _ in _LEVELS))
    for key, value in row.items():
        if not math.isfinite(value) and key not in unbounded:
            raise BackendError(f"{name}: {_said(key)} is {value}, not a finite number")
    for key in ("sd", "df"):
        if key in row and not row[key] > 0:
            raise BackendError(f"{name}: {_said(key)} is {row[key]:g}; it must be above 0")
    if "p_value" in row and not 0 <= row["p_value"] <= 1:
        raise BackendError(f"{name}: p is {row['p_value']:g}; it must be between 0 and 1")
    for label, level in _LEVELS:
        ends = row.get(f"lower{label}"), row.get(f"upper{label}")
        if None in ends and ends != (None, None):
            raise BackendError(f"{name}: the {level:.0%} interval has one bound only")
        if ends[0] is not None and ends[1] is not None and not ends[0] <= ends[1]:
            raise BackendError(
                f"{name}: the {level:.0%} interval ends ({ends[1]:g}) below its start ({ends[0]:g})"
            )


def _said(column: str) -> str:
    """How users call a column."""
    return next(name for name, own in FIELDS.items() if own == column)
