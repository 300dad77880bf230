"""A table's columns: read once for all rows, taken from there for some."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.tables.read import codes, first_varying, numeric
from rmm.tables.table import SourceColumn, Table, check_category, check_complete

FRAME = pd.DataFrame(
    {
        "text": ["b", "a", None, "c", "a"],
        "whole": [3, 1, 1, 2, 3],
        "floats": [1.0, 2.0, np.nan, 2.5, 1.0],
        "flags": [True, False, True, True, False],
        "category": pd.Categorical(["u", "v", "u", "w", "w"], categories=["w", "v", "u"]),
        "date": pd.to_datetime(["2020-01-02", "2020-01-01", None, "2020-01-01", "2020-01-03"]),
        "masked": pd.array([1, None, 3, 1, 3], dtype="Int64"),
        "mixed": pd.Series([1, 2, "a", 1, 2.5], dtype=object),
    }
)
SOME = [np.array([4, 3, 1, 0]), np.array([1, 4]), np.zeros(0, dtype=np.int64)]


@pytest.mark.parametrize("rows", SOME)
@pytest.mark.parametrize("name", FRAME.columns)
def test_some_rows_are_read_as_if_they_were_all(name: str, rows: np.ndarray) -> None:
    column, alone = Table(FRAME)[name], FRAME.iloc[rows][name]
    own = Table(FRAME).some(rows)[name]
    assert column.series.equals(FRAME[name]) and own.series.equals(alone)
    numbers = numeric(alone)
    assert (own.numbers is None) == (numbers is None)
    if numbers is not None and own.numbers is not None:
        np.testing.assert_array_equal(own.numbers, numbers)
    given = alone.notna().to_numpy()
    np.testing.assert_array_equal(own.missing, ~given)
    code, labels = own.codes
    np.testing.assert_array_equal(code[given], codes(alone[given])[0])
    assert (code[~given] == -1).all()
    assert [(type(v), v) for v in labels] == [(type(v), v) for v in codes(alone[given])[1]]
    assert own.objects[given].tolist() == alone.astype(object)[given].tolist()
    different = own.different[~pd.isna(own.different)]
    assert list(different) == list(alone[given].astype(object).unique())


def test_values_of_types_without_order_are_refused_where_they_are() -> None:
    whole = Table(FRAME)
    with pytest.raises(rmm.DataError, match="`mixed` contains values of types float, int, str"):
        _ = whole["mixed"].codes
    with pytest.raises(rmm.DataError, match="`mixed` contains values of types int, str"):
        _ = whole.some(np.array([0, 2]))["mixed"].codes


def test_some_of_some_rows_keep_the_users_numbers() -> None:
    shifted = FRAME.set_axis(range(10, 15))
    own = Table(shifted).some(np.array([3, 0, 4])).some(np.array([False, True, True]))
    assert own.index.tolist() == [10, 14] and len(own) == 2
    assert own.frame.equals(shifted.iloc[[0, 4]])
    assert "text" in own and "nothing" not in own
    assert own.pointer.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["text", "whole", "floats", "flags", "category", "date"])
def test_what_varies_within_units(name: str) -> None:
    unit = np.array([0, 1, 1, 2, 0])
    values = FRAME[name].to_numpy()
    assert Table(FRAME)[name].varying(unit) == first_varying(values, unit)
    assert Table(FRAME)[name].varying(np.arange(5)) is None


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([1.0, np.nan], r"`x` has 1 missing value, in row 12"),
        ([np.inf, 1.0], r"`x` has 1 infinite value, in row 11"),
        (["a", None], r"`x` has 1 missing value, in row 12"),
        (["a", "b\0"], r"`x` contains the character NUL in row 12"),
        ([[1], 2], r"`x` contains values of type list"),
    ],
)
def test_incomplete_columns(values: list[object], match: str) -> None:
    table = Table(pd.DataFrame({"x": values, "y": [1, 2]}, index=[10, 11]))
    check_complete(table, ["y"])
    with pytest.raises(rmm.DataError, match=match):
        check_complete(table, ["y", "x"])


def test_letters_beyond_ascii_are_complete() -> None:
    check_complete(Table(pd.DataFrame({"x": ["ä", "名"]})), ["x"])


def test_texts_that_are_no_categories() -> None:
    table = Table(pd.DataFrame({"x": ["1", "2"], "y": ["a", "b"]}))
    check_category("y", table["y"])
    with pytest.raises(rmm.DataError, match=r"`x` contains numbers written as text, such as '1'"):
        check_category("x", table["x"])


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "bool"])
def test_codes_of_whole_numbers_are_numpys(dtype: str) -> None:
    """Close ones, far ones, and the ends of their type."""
    rng = np.random.default_rng(1)
    for values in ([3, 1, 3, 2], [-100, 100, 7], rng.integers(-5, 60, 40), [127, -128, 0]):
        given = np.asarray(values).astype(dtype)
        code, labels = SourceColumn(given, "x").codes
        wanted, place = np.unique(given, return_inverse=True)
        assert code.tolist() == place.tolist()
        assert labels.tolist() == wanted.tolist()
        assert [type(v) for v in labels] == [type(v) for v in wanted.astype(object)]
