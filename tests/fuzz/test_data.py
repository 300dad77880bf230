"""Tables of every kind of odd column: a model, or a message that says what is odd."""

from __future__ import annotations

import datetime
import functools
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import strategies as st

import rmm
from rmm.backends import find_backend
from rmm.design.prepare import prepare
from rmm.tables.read import read_table
from tests.coalitions import made_up_coalitions
from tests.fuzzing import FEW, HOSTILE, MANY, only_messages

EXAMPLES = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=pytest.mark.fuzz)], ids=["few", "many"]
)
_MM = "mm(id(pid, gid), vars(x), fn(w ~ {}), RE=TRUE)"
FORMULAS = (
    "y ~ 1 + z + region + " + _MM.format("1/n") + " + hm(id=cid)",
    "y ~ 1 + z*q + " + _MM.format("1/(1 + (n-1)*exp(-(b1*s)))"),
    "y ~ 1 + offset(z) + " + _MM.format("s/sum(s)") + " + hm(id=cid, type=FE, name=cname)",
    "y ~ 1 + mm(id(pid, gid), vars(variance(x)), ar=dec)",
    "y ~ 1 + mm(id(pid, gid), RE=TRUE) + mm(id(lead, gid), RE=TRUE)",
)
OTHERS = (
    ("Surv(y, lead) ~ 1 + z + " + _MM.format("1/n"), "weibull"),
    ("Surv(y, n) ~ z + " + _MM.format("1/n"), "cox"),
    ("cbind(lead, n) ~ 1 + " + _MM.format("1/n"), "binomial"),
    ("lead ~ z + strata(cid) + " + _MM.format("1/n"), "condlogit"),
)
_ODD: tuple[Any, ...] = (
    None, np.nan, np.inf, -np.inf, pd.NA, pd.NaT, 0, -1, 1, 2**53, 2**63, 2**64, 10**30, 10**400,
    1e308, 5e-324, -0.0, True, False, 1 + 2j, "", "1", "nan", "a", b"a", Decimal("1.5"),
    Decimal("NaN"), Fraction(1, 3), datetime.date(2020, 2, 29),
    pd.Timestamp("2020-01-01", tz="UTC"), pd.Timedelta(1), (1, 2), [1], {"a": 1}, {1}, frozenset(),
    np.float32(1.5), np.int8(3), np.datetime64("NaT", "ns"), object, Ellipsis, *HOSTILE,
)  # fmt: skip
_TYPES = ("object", "category", "string", "float32", "Int64", "boolean", "int8", "uint64",
          "datetime64[ns]", "timedelta64[ns]", "complex128", "bytes", "Float64", "bool", "period",
          "sparse", "interval", "string[pyarrow]", "double[pyarrow]", "float16")  # fmt: skip


@functools.cache
def base() -> pd.DataFrame:
    return made_up_coalitions(groups=8, members=6)


def _retyped(column: pd.Series, kind: str) -> Any:
    if kind == "period":
        return pd.period_range("2000", periods=len(column), freq="D")
    if kind == "interval":
        return pd.interval_range(0, len(column))
    if kind == "sparse":
        return pd.arrays.SparseArray(pd.to_numeric(column, errors="coerce"))
    return column.astype("S10") if kind == "bytes" else column.astype(kind)


#: What pandas says of a change that it cannot make.
_IMPOSSIBLE = (TypeError, ValueError, OverflowError, NotImplementedError, pa.ArrowException)
_CHANGES = ("cells", "type", "constant", "drop", "double", "rename", "rows", "index", "all", "big")


@st.composite
def odd_tables(draw: st.DrawFn) -> pd.DataFrame:
    """The coalitions with some cells, types, columns or rows that do not belong."""
    frame = base().copy()
    for _ in range(draw(st.integers(1, 3))):
        if len(frame.columns):
            at = draw(st.integers(0, len(frame.columns) - 1))
            with suppress(*_IMPOSSIBLE):
                frame = _changed(draw, frame, at, draw(st.sampled_from(_CHANGES)))
    return frame


def _changed(draw: st.DrawFn, frame: pd.DataFrame, at: int, what: str) -> pd.DataFrame:
    """A table with one change, of its column `at` or of its rows."""
    column = frame.iloc[:, at]
    if what == "cells":
        values = column.astype(object).tolist()
        for _ in range(draw(st.integers(1, 3))):
            if values:
                values[draw(st.integers(0, len(values) - 1))] = draw(st.sampled_from(_ODD))
        frame.isetitem(at, pd.Series(values, index=frame.index, dtype=object))
    elif what == "type":
        frame.isetitem(at, _retyped(column, draw(st.sampled_from(_TYPES))))
    elif what == "constant":
        frame.isetitem(
            at,
            pd.Series([draw(st.sampled_from(_ODD))] * len(frame), dtype=object, index=frame.index),
        )
    elif what == "drop":
        return frame.iloc[:, [i for i in range(len(frame.columns)) if i != at]]
    elif what == "double":
        frame.insert(at, frame.columns[at], column, allow_duplicates=True)
    elif what == "rename":
        new = draw(st.sampled_from((*HOSTILE, 0, None, ("a", "b"), np.nan, 1.5)))
        frame.columns = pd.Index([*frame.columns[:at], new, *frame.columns[at + 1 :]], dtype=object)
    elif what == "rows":
        rows = draw(st.lists(st.integers(0, max(0, len(frame) - 1)), max_size=12))
        return frame.iloc[rows if len(frame) else []]
    elif what == "index" and frame.columns.is_unique:
        return frame.set_index(frame.columns[at], drop=draw(st.booleans()))
    elif what == "big":
        scale = draw(st.sampled_from((1e300, 1e-300, 0.0, -1.0)))
        frame.isetitem(at, pd.to_numeric(column, errors="coerce") * scale)
    else:
        frame.isetitem(at, draw(st.permutations(column.tolist())))
    return frame


def lay_out(value: tuple[pd.DataFrame, str, str, str]) -> None:
    """Everything that is made of a table before an engine gets it."""
    frame, formula, family, missing = value
    model = prepare(formula, frame, family, missing=missing)
    for name in ("jags", "stan"):
        prepared = find_backend(name).prepare(model)
        assert all(c.isprintable() or c == "\n" for c in prepared.program)
        for key, array in prepared.data(model.design).items():
            assert np.isfinite(np.asarray(array, dtype=float)).all(), key


def _cases() -> st.SearchStrategy[Any]:
    formulas = st.sampled_from([(f, "gaussian") for f in FORMULAS] + list(OTHERS))
    return st.builds(
        lambda t, f, m: (t, *f, m),
        odd_tables(),
        formulas,
        st.sampled_from(("error", "error", "drop")),
    )


EXPLORE = {"data": (_cases(), lay_out)}


@EXAMPLES
def test_tables(examples: int) -> None:
    only_messages(_cases(), lay_out, examples, seconds=5.0)


_BYTES = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(HOSTILE), max_size=30).map(
        lambda parts: ",".join(parts).encode("utf-8", "surrogatepass")
    ),
)


@st.composite
def broken_files(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file of a format with bytes changed, cut off or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    end = draw(st.integers(0, len(data)))
    return bytes(data if draw(st.booleans()) else data[:end])


@EXAMPLES
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".rda"])
def test_files(ending: str, examples: int, tmp_path: Path) -> None:
    path = tmp_path / f"table{ending}"
    if ending == ".parquet":
        base().to_parquet(path)
    elif ending == ".csv":
        base().to_csv(path)
    else:
        pytest.importorskip("rdata").write_rda(path, {"table": base()[["y", "x", "pid"]]})
    strategy = broken_files(path.read_bytes()) | _BYTES

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_table(path)

    only_messages(strategy, read, max(50, examples // 4), seconds=5.0)
    assert issubclass(rmm.DataError, rmm.RmmError)
