"""Data frames in R's `.rda` files: the file is parsed, nothing in it is run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, how_to_install


def read_frames(path: Path) -> dict[str, pd.DataFrame]:
    """The data frames of an `.rda` file by name; R's dates and times become datetimes.

    Raises
    ------
    DataError
        If the package that reads them, `rdata`, is not installed.
    """
    try:
        # Late: the extra `rda` may be absent.
        from rdata import read_rda
        from rdata.conversion import DEFAULT_CLASS_MAP
    except ImportError:
        raise DataError(
            f"{path}: files of R need the package rdata, which is not installed. "
            + how_to_install("rdata", "rda")
        ) from None
    with warnings.catch_warnings():  # of classes: a tibble is read as the data frame that it is
        warnings.filterwarnings("ignore", category=UserWarning, module=r"rdata\.")
        found = read_rda(path, constructor_dict={**DEFAULT_CLASS_MAP, **_DATES})
    return {name: value for name, value in found.items() if isinstance(value, pd.DataFrame)}


def _dates(days: Any, attributes: Mapping[str, Any]) -> pd.DatetimeIndex:
    return _times(_floats(days) * 86_400, attributes)


def _times(seconds: Any, attributes: Mapping[str, Any]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(_floats(seconds), unit="s"))


def _floats(values: Any) -> np.ndarray[Any, Any]:
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


# R's class -> what makes it.
_DATES: dict[str | bytes, Any] = {"Date": _dates, "POSIXct": _times}
