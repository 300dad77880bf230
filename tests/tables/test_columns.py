"""Columns of every type: ids that are saved and read again, and types that are refused."""

from __future__ import annotations

import datetime
import enum
import fractions
import uuid
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.posterior.draws import text_labels
from rmm.tables.plain_columns import simplify_columns

FORMULA = "y ~ 1 + mm(id(m, g), RE=TRUE)"
COUNT = 5


class Colour(enum.Enum):
    RED, BLUE, GREEN, BLACK, WHITE = range(5)


def objects(values: Any) -> Any:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


ACCEPTED = {
    "unsigned": np.array([2**63 + 3 * i for i in range(COUNT)], dtype=np.uint64),
    "beyond 64 bits": objects([7**40 + i for i in range(COUNT)]),
    "small and huge": objects([-1, 2, 3, 11**30, 5]),
    "bytes": objects([b"k%d" % i for i in range(COUNT)]),
    "intervals": pd.interval_range(10, periods=COUNT),
    "objects that are intervals": objects(list(pd.interval_range(0.5, periods=COUNT))),
    "big-endian": np.arange(COUNT).astype(">i8"),
    "categories of intervals": pd.Categorical(list(pd.interval_range(0, COUNT))),
    "decimals": objects([Decimal(i) / 4 for i in range(COUNT)]),
    "dates": objects([datetime.date(1990, 2, i + 1) for i in range(COUNT)]),
    "times of a zone": pd.date_range("1990", periods=COUNT, tz="Asia/Tokyo"),
    "periods": pd.period_range("1990", periods=COUNT, freq="Q"),
    "nullable": pd.array(range(COUNT), dtype="UInt16"),
    "arrow": pd.array([f"é{i}" for i in range(COUNT)], dtype=pd.ArrowDtype(pa.large_string())),
    "arrow dictionary": pd.Series(
        pa.array(list("vwxyz")).dictionary_encode(),
        dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())),
    ).array,
    "sparse": pd.arrays.SparseArray(range(COUNT)),
    "half precision": np.arange(COUNT).astype("float16"),
}
REFUSED = {
    "mixed": (objects([1, "1", 2, "b", 3]), "contains ids of types"),
    "true and one": (objects([True, 1, 2, 3, 4]), "contains ids of types"),
    "enumerations": (objects(list(Colour)), r"contains ids of type Colour.*\.astype\(str\)"),
    "tuples": (objects([(1, i) for i in range(COUNT)]), "contains ids of type tuple"),
    "uuids": (objects([uuid.UUID(int=i) for i in range(COUNT)]), "contains ids of type UUID"),
    "NUL": (objects([f"a{i}\0" for i in range(COUNT)]), "contains the character NUL in row"),
    "complex": (np.arange(COUNT) * 1j, "contains ids of type complex"),
    "large floats": (2.0**53 * np.arange(1, COUNT + 1), "so large .* Read the column as whole"),
}


def table(ids: Any, as_group: bool = False) -> pd.DataFrame:
    """Groups of two members; the ids are those of members, or of groups."""
    rng = np.random.default_rng(8)
    many = COUNT if as_group else 30
    group = np.repeat(np.arange(many), 2)
    member = np.concatenate([rng.choice(COUNT, 2, replace=False) for _ in range(many)])
    place = group if as_group else member
    native = np.asarray(ids).dtype.isnative if isinstance(ids, np.ndarray) else True
    taken = pd.Series(ids).iloc[place].reset_index(drop=True) if native else pd.Series(ids[place])
    others = {"g": group} if not as_group else {"m": member}
    return pd.DataFrame(
        {**others, "m" if not as_group else "g": taken, "y": rng.normal(size=many)[group]}
    )


@pytest.mark.thorough
@pytest.mark.parametrize("name", ACCEPTED)
def test_ids_are_the_same_after_save_and_load(name: str, tmp_path: Path) -> None:
    data = table(ACCEPTED[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit(FORMULA, data, backend="laplace", seed=1, chains=1, draws=100)
        again = rmm.load(fit.save(tmp_path / "a.nc"))
    assert len(fit.member_effects()) == COUNT
    pd.testing.assert_frame_equal(again.member_effects(), fit.member_effects())
    pd.testing.assert_frame_equal(again.weights(), fit.weights())
    assert [type(v) for v in again.weights()["member"]] == [
        type(v) for v in fit.weights()["member"]
    ]
    predicted = again.predict(data.assign(y=0.0))
    assert predicted["mean"].to_numpy() == pytest.approx(fit.predict()["mean"].to_numpy())


@pytest.mark.parametrize("name", [n for n in ACCEPTED if n not in ("dates", "periods")])
def test_ids_of_groups(name: str) -> None:
    model = prepare(FORMULA, table(ACCEPTED[name], as_group=True))
    labels = model.design.coords["group"]
    assert len(text_labels(labels)) == len(set(text_labels(labels))) == COUNT


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("as_group", [False, True], ids=["member", "group"])
def test_what_is_no_id_is_refused_before_an_engine_starts(name: str, as_group: bool) -> None:
    ids, message = REFUSED[name]
    with pytest.raises(rmm.DataError, match=message):
        rmm.fit(FORMULA, table(ids, as_group), backend="fake")


def test_numbers_of_several_types_are_one_type() -> None:
    frame = pd.DataFrame(
        {
            "a": objects([1, 2.5, Decimal("0.5"), None]),
            "b": objects([1, None, 3, 4]),
            "c": objects([True, False, None, True]),
            "d": objects([fractions.Fraction(1, 4)] * 4),
            "e": objects([2**63, 1, 2, 3]),
        }
    )
    out = simplify_columns(frame, "abcde", ())
    assert {name: str(out[name].dtype) for name in out} == {
        "a": "float64",
        "b": "Int64",
        "c": "boolean",
        "d": "float64",
        "e": "uint64",
    }
    assert out["a"].tolist()[:3] == [1.0, 2.5, 0.5] and out["e"][0] == 2**63


def test_columns_that_are_not_used_do_no_harm() -> None:
    data = table(np.arange(COUNT)).assign(v=np.arange(60).astype(">f8"), w=objects([{1}] * 60))
    assert prepare(FORMULA, data).design.J == 30


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    data = pd.DataFrame({"self": np.arange(20.0), "a b": pd.Categorical(["u", "v"] * 10)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit("self ~ `a b`", data, backend="laplace", seed=1, chains=1, draws=50)
        assert rmm.load(fit.save(tmp_path / "a.nc")).model.used.equals(fit.model.used)


def test_decimals_that_floats_do_not_tell_apart_stay_decimals() -> None:
    close = objects([Decimal("1.00000000000000000001"), Decimal("1")])
    out = simplify_columns(pd.DataFrame({"m": close}), ["m"], ["m"])
    assert out["m"].nunique() == 2


@pytest.mark.parametrize(
    ("labels", "kind"),
    [([1, 2], "int64"), ([2**63, 2**63 + 1], "uint64"), ([-1, 2**63], "U"), ([True, False], "U")],
)
def test_labels_of_draws(labels: list[Any], kind: str) -> None:
    found = text_labels(objects(labels))
    assert str(found.dtype) == kind or found.dtype.kind == kind
    assert [str(v) for v in found] == [str(v) for v in labels]


def test_a_column_that_the_formula_does_not_use_may_be_of_another_byte_order() -> None:
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "g": np.repeat(range(9), 2),
            "m": [0, 1, 1, 2, 2, 0] * 3,
            "y": np.repeat(rng.normal(size=9), 2),
        }
    )
    unused = table.assign(other=pd.Series(np.arange(18).astype(">f8")))
    formula = "y ~ 1 + mm(id(m, g), RE = TRUE)"
    ours, plain = (prepare(formula, t).design.outcome["y"] for t in (unused, table))
    assert list(ours) == list(plain)


# ---- predictors ----------------------------------------------------------------------------------


PREDICTORS = {
    "categories of numbers": pd.Categorical([3, 1, 2, 1, 3] * 12),
    "categories of true and false": pd.Categorical([True, False, True, True, False] * 12),
    "categories of decimals": pd.Categorical([Decimal(1), Decimal(2)] * 30),
    "categories of dates": pd.Categorical(pd.to_datetime(["2020-01-01", "2021-01-01"] * 30)),
    "intervals of numbers": pd.cut(np.arange(60) % 7, 3),
    "ordered, with a level that is not there": pd.Categorical(
        ["low", "high"] * 30, ["none", "low", "high"], ordered=True
    ),
    "true beside numbers": objects([True, 2, 0.5] * 20),
    "decimals": objects([Decimal(i) / 8 for i in range(60)]),
    "huge whole numbers": objects([10**25 + i * 10**24 for i in range(60)]),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_predictors_are_the_same_after_save_and_load(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    data = pd.DataFrame({"y": rng.normal(size=60), "x": PREDICTORS[name]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit("y ~ x", data, backend="laplace", seed=1, chains=1, draws=100)
        again = rmm.load(fit.save(tmp_path / "a.nc"))
    assert list(again.summary().index) == list(fit.summary().index)
    assert again.model.design.X_l2 == pytest.approx(fit.model.design.X_l2)
    new = again.predict(data.drop(columns="y"))
    assert new["mean"].to_numpy() == pytest.approx(fit.predict()["mean"].to_numpy())


@pytest.mark.parametrize("dtype", ["int32", "int64", "object"])
def test_the_missing_whole_number_of_r_is_no_number(dtype: str) -> None:
    """-2^31, which a table from R has where NumPy cannot hold what is missing."""
    table = pd.DataFrame(
        {"y": np.arange(6.0) ** 2, "x": pd.Series([1, 2, -(2**31), 4, 3, 6], dtype=dtype)}
    )
    with pytest.raises(rmm.DataError, match=r"`x` contains -2147483648 \(1 row\), .* R stores a"):
        rmm.fit("y ~ 1 + x", table, backend="fake")
    with pytest.raises(rmm.DataError, match="`g` contains -2147483648"):
        ids = table.assign(g=table["x"].astype("int64"), m=range(6))
        rmm.fit("y ~ 1 + mm(id(m, g), RE = TRUE)", ids, backend="fake")


def test_the_missing_text_of_r_is_an_id_with_a_warning() -> None:
    table = pd.DataFrame({"y": [1.0, 1, 2, 2, 5, 5], "g": [1, 1, 2, 2, 3, 3]})
    table["m"] = ["a", "NA", "b", "a", "b", "c"]
    with pytest.warns(rmm.SpecificationWarning, match="the text 'NA' .* R without NumPy converts"):
        rmm.fit("y ~ 1 + mm(id(m, g), RE = TRUE)", table, backend="fake", progress=False)
