"""Random tables as users have them: ids, types, levels, units, shapes and missing values.

A `Recipe` is a model and a table of plain numbers, which `plain` makes. A `Dress` is how a user has
that table: the kinds of the ids, the types and units of the columns, the order of the rows, where
the table is kept. `wear` puts it on. Groups, members and nesting units are counted in the plain
table, so that a test knows which ids are distinct.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st
from scipy.special import expit

WEIGHTS = (
    "w ~ 1/n",
    "w ~ s/sum(s)",
    "w ~ exp(b1*s)",
    "w ~ 1/(1 + (n - 1)*exp(-(b1*s)))",
    "w ~ 1/n^exp(-(b0 + b1*s))",
    "w ~ exp(b1*s), c = 2",
    "w ~ 1/n^b1, c = FALSE",
)
OUTCOMES = {
    "gaussian": "y",
    "binomial": "cbind(hits, misses)",
    "weibull": "Surv(time, event)",
    "cox": "Surv(time, event)",
    "condlogit": "chosen",
}
IDS = ("g", "m", "c")
NUMBERS = ("y", "time", "z", "x", "s")


@dataclass(frozen=True)
class Recipe:
    """A model and the size of its table; `seed` gives the numbers."""

    family: str
    groups: int
    members: int
    size: int
    weight: str
    effects: bool
    nesting: str
    terms: tuple[str, ...]
    member_terms: tuple[str, ...]
    seed: int

    @property
    def formula(self) -> str:
        """As a user writes it."""
        effects = self.effects or not self.member_terms
        inside = ["id(m, g)", f"fn({self.weight})", f"RE = {str(effects).upper()}"]
        if self.member_terms:
            inside.insert(1, f"vars({' + '.join(self.member_terms)})")
        parts = ["1", *self.terms, f"mm({', '.join(inside)})"]
        if self.nesting:
            parts.append(f"hm(id = c, type = {self.nesting})")
        if self.family == "condlogit":
            parts.append("strata(c)")
        return f"{OUTCOMES[self.family]} ~ {' + '.join(parts)}"


@dataclass(frozen=True)
class Dress:
    """How a user has a plain table; all of it may be left as it is.

    Attributes
    ----------
    ids : mapping
        Column of ids -> kind of `ID_KINDS`.
    types, units : mappings
        Column of numbers -> type, and what it is multiplied with.
    region : str
        Type of the categories.
    order : int or None
        Seed of the order of the rows.
    kept : str
        Where: a key of `KEPT`.
    missing : tuple or None
        Column, how many, and what stands for them.
    """

    ids: Mapping[str, str]
    types: Mapping[str, str]
    units: Mapping[str, float]
    region: str = "text"
    order: int | None = None
    kept: str = "frame"
    missing: tuple[str, int, Any] | None = None


PLAIN = Dress(dict.fromkeys(IDS, "count"), {}, {})


def plain(recipe: Recipe) -> pd.DataFrame:
    """The table of a recipe; its outcomes depend on all that the formula may name."""
    rng = np.random.default_rng(recipe.seed)
    effect = rng.normal(0, 0.5, recipe.members)
    rows = []
    for group in range(recipe.groups):
        n = int(rng.integers(1, min(recipe.size, recipe.members) + 1))
        pid = rng.choice(recipe.members, n, replace=False)
        x, s = rng.normal(size=n), rng.uniform(0.1, 2, size=n)
        z, region = rng.normal(), int(rng.integers(3))
        eta = 0.4 * z + 0.5 * region + np.average(0.8 * x + effect[pid], weights=np.exp(s / 2))
        # Each stratum of a choice has three groups, one of which is chosen.
        common = {
            "g": group,
            "c": group // 3,
            "z": z,
            "region": "abc"[region],
            "y": 1 + eta + rng.normal(0, 0.5),
            "hits": int(rng.binomial(9, expit(eta))),
            "time": float(np.exp(eta) * rng.weibull(1.5) + 0.01),
            "event": int(rng.random() < 0.8),
            "chosen": int(group % 3 == 1),
        }
        common["misses"] = 9 - common["hits"]
        rows += [
            {**common, "m": int(m), "x": a, "s": b, "role": "pq"[int(m) % 2]}
            for m, a, b in zip(pid, x, s, strict=True)
        ]
    return pd.DataFrame(rows)


# ---- ids -------------------------------------------------------------------------------------

_WORDS = ("NA", "nan", "None", "NULL", "n/a", "-", "TRUE", "inf", "1e5", "0x1F")


def _text(values: list[Any]) -> Any:
    return np.array([*values, None], dtype=object)[:-1]


def _categories(n: int) -> Any:
    names = [f"k{i:03d}" for i in range(n + 2)]  # two of which are in no row
    return pd.Categorical(names[:n], categories=names[::-1])


#: Kind -> n distinct ids. None of them is missing, and none two are the same.
ID_KINDS: dict[str, Callable[[int], Any]] = {
    "count": np.arange,
    "negative": lambda n: np.arange(n) - n // 2,
    "above 2^63": lambda n: np.arange(n, dtype=np.uint64) + np.uint64(2**63),
    "beyond all": lambda n: _text([10**20 + i for i in range(n)]),
    "whole floats": lambda n: np.arange(n, dtype=float),
    "floats": lambda n: 1 + np.arange(n) / 8,
    "big-endian": lambda n: np.arange(n).astype(">i4"),
    "text": lambda n: _text([f"party {i}" for i in range(n)]),
    "trailing zeros": lambda n: _text(["1.1" + "0" * i for i in range(n)]),
    "leading zeros": lambda n: _text(["0" * i + "7" for i in range(n)]),
    "exponents": lambda n: _text([w for i in range(n) for w in (f"1E{i}", f"1{'0' * i}")][:n]),
    "words": lambda n: _text([*_WORDS, *(f"w{i}" for i in range(n))][:n]),
    "blanks": lambda n: _text([w for i in range(n) for w in (f"c{i}", f"c{i} ")][:n]),
    "letters": lambda n: _text([chr(0x410 + i) * 2 for i in range(n)]),
    "two forms": lambda n: _text([w for i in range(n) for w in (f"\xe9{i}", f"e\u0301{i}")][:n]),
    "quotes": lambda n: _text([f'O\'Neil "{i}", {i}' for i in range(n)]),
    "bytes": lambda n: _text([f"b{i}".encode() for i in range(n)]),
    "mixed": lambda n: _text([i if i % 2 else f"t{i}" for i in range(n)]),
    "number and its text": lambda n: _text([w for i in range(n) for w in (i, str(i))][:n]),
    "numbers of two types": lambda n: _text([i if i % 2 else i + 0.5 for i in range(n)]),
    "decimals": lambda n: _text([Decimal(i) / 10 for i in range(n)]),
    "identifiers": lambda n: _text([uuid.UUID(int=i) for i in range(n)]),
    "categories": _categories,
    "ordered": lambda n: pd.Categorical(np.arange(n), ordered=True),
    "dates": lambda n: pd.date_range("1999-12-30", periods=n),
    "dates of Python": lambda n: _text(
        [datetime.date(1999, 12, 30) + datetime.timedelta(days=i) for i in range(n)]
    ),
    "periods": lambda n: pd.period_range("2000", periods=n, freq="M"),
    "durations": lambda n: pd.timedelta_range("1h", periods=n),
    "intervals": lambda n: pd.interval_range(0, n),
    "Int64": lambda n: pd.array(range(n), dtype="Int64"),
    "string": lambda n: pd.array([f"s{i}" for i in range(n)], dtype="string"),
    "Arrow": lambda n: pd.array(range(n), dtype="int32[pyarrow]"),
    "NUL": lambda n: _text([f"a\x00{i}" for i in range(n)]),
    "yes or no": lambda n: np.array([False, True]) if n == 2 else np.arange(n),
}
#: Ids of several types or of an unusual one are refused; files of fits cannot hold NUL.
MAY_BE_REFUSED = ("mixed", "number and its text", "NUL", "identifiers")
# What a file cannot keep.
_IN_MEMORY = ("beyond all", "bytes", "mixed", "number and its text", "numbers of two types",
              "decimals", "identifiers", "intervals", "periods", "durations", "NUL")  # fmt: skip


# ---- types -----------------------------------------------------------------------------------


def _objects(make: Callable[[float], Any]) -> Callable[[pd.Series], Any]:
    return lambda column: pd.Series(
        [make(float(v)) for v in column], index=column.index, dtype=object
    )


#: Type -> a column of numbers in it.
NUMBER_TYPES: dict[str, Callable[[pd.Series], Any]] = {
    "float64": lambda column: column,
    "float32": lambda column: column.astype("float32"),
    "big-endian": lambda column: pd.Series(column.to_numpy().astype(">f8"), index=column.index),
    "Float64": lambda column: column.astype("Float64"),
    "Arrow": lambda column: column.astype("double[pyarrow]"),
    "objects": _objects(float),
    "decimals": _objects(lambda v: Decimal(repr(v))),
    "sparse": lambda column: column.astype(pd.SparseDtype(float, np.nan)),
    "text": lambda column: column.map(repr),
    "decimal commas": lambda column: column.map(lambda v: repr(v).replace(".", ",")),
}
#: Types that are numbers, and that the checks of values may rely on.
TRUE_NUMBERS = tuple(name for name in NUMBER_TYPES if name not in ("text", "decimal commas"))

#: Type -> a column of the texts a, b and c in it.
REGION_TYPES: dict[str, Callable[[pd.Series], Any]] = {
    "text": lambda column: column,
    "category": lambda column: column.astype(pd.CategoricalDtype(list("cabz"))),
    "ordered": lambda column: column.astype(pd.CategoricalDtype(list("bca"), ordered=True)),
    "string": lambda column: column.astype("string"),
    "Arrow": lambda column: column.astype("string[pyarrow]"),
    "yes or no": lambda column: column == "a",
    "odd names": lambda column: column.map(
        {"a": "[a]", "b": "=1 + `b`", "c": "\u0436 \u201ec\u201c"}
    ),
    "numbers": lambda column: column.map({"a": 3.0, "b": 1.0, "c": 2.0}).astype("category"),
    "bytes": lambda column: pd.Series([v.encode() for v in column], index=column.index),
    "dates": lambda column: pd.to_datetime(
        "2000-01-0" + column.map({"a": "1", "b": "2", "c": "3"})
    ),
}

# ---- where a table is kept ---------------------------------------------------------------------


def _csv(frame: pd.DataFrame, folder: Path) -> Any:
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def _parquet(frame: pd.DataFrame, folder: Path) -> Any:
    frame.to_parquet(folder / "table.parquet", index=False)
    return folder / "table.parquet"


KEPT: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "frame": lambda frame, folder: frame,
    "index": lambda frame, folder: frame.set_index(pd.Index(np.zeros(len(frame)), name="y")),
    "columns": lambda frame, folder: {str(name): frame[name] for name in frame.columns},
    "Arrow": lambda frame, folder: pa.Table.from_pandas(frame, preserve_index=False),
    "csv": _csv,
    "parquet": _parquet,
}
_FILES = ("Arrow", "csv", "parquet")


@dataclass(frozen=True)
class Worn:
    """A dressed table, as it is given to `rmm`, and the plain one in the same order of rows."""

    data: Any
    frame: pd.DataFrame
    plain: pd.DataFrame


def wear(dress: Dress, table: pd.DataFrame, folder: Path) -> Worn:
    """Put a dress on a plain table."""
    table = table.reset_index(drop=True)
    if dress.order is not None:
        order = np.random.default_rng(dress.order).permutation(len(table))
        table = table.iloc[order].reset_index(drop=True)
    frame = table.copy()
    for column in IDS:
        made = ID_KINDS[dress.ids[column]](int(table[column].max()) + 1)
        frame[column] = pd.Series(made.take(table[column].to_numpy()))
    for column in NUMBERS:
        values = frame[column].astype(float) * dress.units.get(column, 1.0)
        frame[column] = NUMBER_TYPES[dress.types.get(column, "float64")](values)
    frame["region"] = REGION_TYPES[dress.region](frame["region"])
    if dress.missing is not None:
        column, count, value = dress.missing
        cells = frame[column].astype(object).tolist()
        for row in range(0, len(cells), max(1, len(cells) // count)):
            cells[row] = value
        frame[column] = pd.Series(cells, dtype=object)
    with suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
        return Worn(KEPT[dress.kept](frame, folder), frame, table)
    return Worn(frame, frame, table)  # no such file can be written of these columns


# ---- strategies ----------------------------------------------------------------------------------

_seeds = st.integers(0, 2**32 - 1)
_TERMS = ("z", "region", "z:region", "I(z^2)", "exp(z/10)", "offset(z)")


def recipes(
    families: tuple[str, ...] = tuple(OUTCOMES),
    groups: tuple[int, int] = (1, 30),
    nestings: tuple[str, ...] = ("", "", "RE", "FE"),
    weights: tuple[str, ...] = WEIGHTS,
    terms: tuple[str, ...] = _TERMS,
) -> st.SearchStrategy[Recipe]:
    """Models and sizes; small numbers of groups and members are no exception."""
    return st.builds(
        Recipe,
        family=st.sampled_from(families),
        groups=st.integers(*groups),
        members=st.integers(1 if groups[0] == 1 else groups[0] // 3, 25),
        size=st.integers(1 if groups[0] == 1 else 3, 5),
        weight=st.sampled_from(weights),
        effects=st.booleans(),
        nesting=st.sampled_from(nestings),
        terms=st.lists(st.sampled_from(terms), max_size=3, unique=True).map(tuple),
        member_terms=st.lists(st.sampled_from(("x", "role")), max_size=2, unique=True).map(tuple),
        seed=_seeds,
    )


# Most tables are to be valid: one type that is not a number is enough for a message.
_types = st.sampled_from((*["float64"] * 12, *TRUE_NUMBERS, *TRUE_NUMBERS, *NUMBER_TYPES))
_units = st.sampled_from((1.0, 1.0, 1e-9, 1e-3, 1e3, 1e6, 1e9))


@st.composite
def dresses(draw: st.DrawFn) -> Dress:
    """Every way in which a user may have a table; files keep ids that a file can keep."""
    kept = draw(st.sampled_from(tuple(KEPT)))
    kinds = [kind for kind in ID_KINDS if kept not in _FILES or kind not in _IN_MEMORY]
    missing = st.tuples(
        st.sampled_from((*IDS, *NUMBERS, "region", "role")),
        st.integers(1, 5),
        st.sampled_from((None, float("nan"), pd.NA, "", ".")),
    )
    return Dress(
        ids={column: draw(st.sampled_from(kinds)) for column in IDS},
        types={c: draw(_types) for c in NUMBERS},
        units={c: draw(_units) for c in NUMBERS},
        region=draw(st.sampled_from(("text", *REGION_TYPES))),
        order=draw(st.none() | _seeds),
        kept=kept,
        missing=draw(st.none() | st.none() | missing),
    )


@st.composite
def changes(draw: st.DrawFn) -> Dress:
    """What must not matter: the names of ids, the order of rows, units."""
    kinds = ("negative", "above 2^63", "whole floats", "text", "leading zeros", "letters",
             "categories", "dates", "Int64", "trailing zeros", "blanks", "quotes")  # fmt: skip
    return Dress(
        ids={column: draw(st.sampled_from(kinds)) for column in IDS},
        types={},
        units={
            column: draw(st.sampled_from((1e-6, 1e-3, 1.0, 12.5, 1e3, 1e6))) for column in NUMBERS
        },
        order=draw(_seeds),
    )
