"""Data frames in R's `.rda` files: the file is parsed, nothing in it is run."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmm.errors import DataError, how_to_install
from rmm.tables.memory_limits import bytes_text, memory_limit
from rmm.tables.unpacked import check_size, too_large, unpack


def read_frames(path: Path) -> dict[str, pd.DataFrame]:
    """The data frames of an `.rda` file by name; R's dates and times become datetimes.

    Raises
    ------
    DataError
        If the package that reads them, `rdata`, is not installed, or the content does not fit into
        memory.
    """
    try:
        # Late: the extra `rda` may be absent.
        from rdata import read_rda
        from rdata.conversion import DEFAULT_CLASS_MAP
        from rdata.parser import DEFAULT_ALTREP_MAP
    except ImportError:
        raise DataError(
            f"{path}: files of R need the package rdata, which is not installed. "
            + how_to_install("rdata", "rda")
        ) from None
    with warnings.catch_warnings():  # of classes: a tibble is read as the data frame that it is
        warnings.filterwarnings("ignore", category=UserWarning, module=r"rdata\.")
        found = read_rda(
            io.BytesIO(_content(path, memory_limit() // 2)),
            constructor_dict={**DEFAULT_CLASS_MAP, **_DATES},
            altrep_constructor_dict={**DEFAULT_ALTREP_MAP, **_sequences(path, DEFAULT_ALTREP_MAP)},
        )
    return {name: value for name, value in found.items() if isinstance(value, pd.DataFrame)}


def _content(path: Path, most: int) -> bytes:
    """The file unpacked, however often it was packed; the parser needs as much once more."""
    check_size(path, most)
    content = path.read_bytes()
    while opener := next((o for magic, o in _PACKED.items() if content.startswith(magic)), None):
        packed = io.BytesIO(content)
        content = unpack(path, lambda o=opener, p=packed: o(p), most)  # type: ignore[misc]
    return content


def _sequences(path: Path, makers: Mapping[bytes, Any]) -> dict[bytes, Any]:
    """Makers of sequences such as 1:1e12, of which the file has three numbers only."""
    most, total = memory_limit() // 2, 0

    def bounded(make: Any) -> Any:
        def made(state: Any) -> Any:
            nonlocal total
            total += 8 * int(max(0, state.value[0]))
            if total > most:
                raise DataError(too_large(path, f"its sequences need {bytes_text(total)}", most))
            return make(state)

        return made

    return {name: bounded(makers[name]) for name in (b"compact_intseq", b"compact_realseq")}


def _dates(days: Any, attributes: Mapping[str, Any]) -> pd.DatetimeIndex:
    return _times(_floats(days) * 86_400, attributes)


def _times(seconds: Any, attributes: Mapping[str, Any]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(_floats(seconds), unit="s"))


def _floats(values: Any) -> np.ndarray[Any, Any]:
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


#: How packed files of R begin -> a stream of their content.
_PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# R's class -> what makes it.
_DATES: dict[str | bytes, Any] = {"Date": _dates, "POSIXct": _times}
