"""Tables of estimates as people have them: read alike from all layouts, refused where wrong."""

from __future__ import annotations

import contextlib
import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmm.errors import StudyError
from rmm.study import performance
from rmm.study.estimate_tables.label_columns import natural
from rmm.study.estimate_tables.outliers import find_outliers
from tests.invented import write_study

NAMES: dict[str, Any] = {
    "by": ["size", "law"],
    "method": "model",
    "parameter": "par",
    "replication": "i",
    "estimate": "b",
    "se": "s",
    "truth": {"x": 1.0, "z": -0.5},
}


def a_table(seed: int = 0, n: int = 12) -> pd.DataFrame:
    """Two factors, two methods, two parameters, n replications."""
    rng = np.random.default_rng(seed)
    rows = pd.MultiIndex.from_product(
        [[50, 250], ["exp", "weibull"], ["cox", "ph"], ["x", "z"], range(1, n + 1)],
        names=["size", "law", "model", "par", "i"],
    ).to_frame(index=False)
    return rows.assign(b=rng.normal(0.5, 1, len(rows)), s=rng.gamma(9, 0.1, len(rows)))


def score(table: Any, **changes: Any) -> pd.DataFrame:
    return performance(table, **{**NAMES, **changes})


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


# -- properties ------------------------------------------------------------------------------

LABELS = st.lists(
    st.text("abcXYZ ,-_.é$\\{", min_size=1, max_size=6).filter(lambda t: t.strip() == t != ""),
    min_size=2,
    max_size=3,
    unique_by=lambda t: " ".join(t.split()),
)
NUMBER = st.one_of(st.none(), st.floats(-10, 10, allow_nan=False))


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Tables with missing estimates and standard errors, and absent rows."""
    methods, scenarios = (
        draw(LABELS),
        draw(st.lists(st.integers(-5, 99), min_size=1, max_size=2, unique=True)),
    )
    rows = [
        (g, m, i, draw(NUMBER), draw(st.one_of(st.none(), st.floats(0, 5))))
        for g in scenarios
        for m in methods
        for i in range(draw(st.integers(2, 5)))
    ]
    frame = pd.DataFrame(rows, columns=["g", "m", "i", "b", "s"])
    return frame.astype({"b": float, "s": float})


def scored(table: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    named = {"by": "g", "method": "m", "replication": "i", "estimate": "b", "se": "s"}
    return performance(table, **{**named, "truth": 0.5, **changes})


#: Few examples: each scores several tables.
FEW = settings(max_examples=10, deadline=None, derandomize=True)


@FEW
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_changes_nothing(table: pd.DataFrame, random: Any) -> None:
    order = list(range(len(table)))
    random.shuffle(order)
    shuffled = table.iloc[order][["s", "b", "i", "m", "g"]]
    same(scored(shuffled), scored(table))


@FEW
@given(tables())
def test_other_labels_change_nothing(table: pd.DataFrame) -> None:
    """Methods as numbers, as categories, replications as text, scenarios as text."""
    methods = sorted(table["m"].unique(), key=natural)
    first = methods[0]
    wanted = scored(table, baseline=first)
    numbers = table["m"].map({m: 10 + k for k, m in enumerate(methods)})
    found = scored(table.assign(m=numbers), baseline=10)
    same(found.drop(columns="method"), wanted.drop(columns="method"))
    assert set(found["method"]) == set(numbers)
    changed = table.assign(
        m=pd.Categorical(table["m"], categories=[*methods, "never used"]),
        i="sim_" + table["i"].astype(str),
    )
    same(scored(changed, baseline=first), wanted)
    texts = table.assign(g="n=" + (table["g"] + 5).astype(str))
    same(scored(texts, baseline=first).drop(columns="g"), wanted.drop(columns="g"))


@FEW
@given(tables())
def test_parts_of_a_table_have_the_scores_of_the_table(table: pd.DataFrame) -> None:
    baseline = sorted(table["m"].unique(), key=natural)[0]
    parts = [scored(part, baseline=baseline) for _, part in table.groupby("g")]
    keys = ["g", "method", "measure", "policy", "alpha"]
    found = pd.concat(parts).sort_values(keys, ignore_index=True)
    same(found, scored(table, baseline=baseline).sort_values(keys, ignore_index=True))


@FEW
@given(tables(), st.data())
def test_a_row_less_is_one_fit_less(table: pd.DataFrame, data: st.DataObject) -> None:
    """A row taken away: n one less. Its estimate emptied: n one less and one more failed."""
    there = np.flatnonzero(table["b"].notna())
    if not len(there) or table.groupby(["g", "m"]).size().min() < 2:
        return
    row = table.iloc[data.draw(st.sampled_from(there.tolist()))]

    def counts(of: pd.DataFrame) -> pd.DataFrame:
        out = scored(of, measures=["bias"])
        out = out[out["policy"] == "per_method"].set_index(["g", "method"])
        return out[["n", "n_failed"]]

    before = counts(table)
    after, emptied = (
        counts(table.drop(index=row.name)),
        counts(table.assign(b=table["b"].mask(table.index == row.name))),
    )
    for found, lost in ((after, 0), (emptied, 1)):
        change = found - before
        assert change.loc[(row["g"], row["m"])].tolist() == [-1, lost]
        assert (change.drop(index=(row["g"], row["m"])) == 0).to_numpy().all()


@FEW
@given(tables())
def test_fits_are_used_or_failed_and_nothing_else(table: pd.DataFrame) -> None:
    out = scored(table, measures=["bias", "model_se"])
    rows = table.groupby(["g", "m"]).size()
    for key, part in out.groupby(["g", "method"]):
        part = part[part["policy"] == "per_method"].set_index("measure")
        bias = part.loc["bias"]
        assert bias["n"] + bias["n_failed"] == rows[key]
        here = table[(table["g"] == key[0]) & (table["m"] == key[1])]
        assert part.loc["model_se", "n"] == (here["b"].notna() & here["s"].notna()).sum()


@FEW
@given(tables(), st.data())
def test_a_row_that_is_there_twice_is_an_error(table: pd.DataFrame, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(table) - 1))
    with pytest.raises(StudyError, match=f"Rows {row + 1} and {len(table) + 1} .*the same key"):
        scored(pd.concat([table, table.iloc[[row]]]))


# -- layouts and files -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet", "dta", "txt.gz"])
def test_files_are_read_alike(tmp_path: Path, ending: str) -> None:
    """Levels of a factor as numbers, also where they are no whole ones."""
    table, path = a_table().assign(size=lambda t: t["size"] / 100), tmp_path / f"t.{ending}"
    table.loc[3, "b"] = np.nan
    write = {
        "csv": lambda: table.to_csv(path, index=False),
        "parquet": lambda: table.to_parquet(path),
        "dta": lambda: table.to_stata(path, write_index=False),
        "txt.gz": lambda: table.to_csv(path, index=False, sep="\t"),
    }
    write[ending]()
    found = score(path)
    same(found, score(table))
    assert found["size"].dtype == float and set(found["size"]) == {0.5, 2.5}


def test_labels_of_methods_in_a_text_file_stay_as_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = a_table().assign(model=lambda t: t["model"].map({"cox": "1.1", "ph": "1.10"}))
    table.to_csv(path, index=False)
    assert list(dict.fromkeys(score(path)["method"])) == ["1.1", "1.10"]


def test_a_factor_can_be_the_true_value() -> None:
    """As in simhelpers: the mean difference is varied, and estimated."""
    table = a_table().assign(size=lambda t: t["size"] / 100)
    found = score(table, truth="size", measures=["bias"])
    mean = score(table, measures=["mean"])
    wanted = mean["value"] - mean["size"]
    np.testing.assert_allclose(found["value"], wanted, atol=1e-12)


def test_frames_of_other_libraries_are_read_alike() -> None:
    polars = pytest.importorskip("polars")
    table = a_table()
    wanted = score(table)
    for other in (pa.Table.from_pandas(table), polars.from_pandas(table), table.to_dict("list")):
        same(score(other), wanted)


def test_a_wide_table_is_read_as_the_long_one() -> None:
    table = a_table()
    wide = table.pivot(index=["size", "law", "par", "i"], columns="model", values=["b", "s"])
    wide.columns = [f"{kind}.{model}" for kind, model in wide.columns]
    wide = wide.reset_index()
    found = score(wide, method=None, estimate="b.{method}", se="s.{method}")
    same(found, score(table))


def test_a_table_that_is_wide_in_methods_and_parameters() -> None:
    table = a_table()
    table["model"] = table["model"].map({"cox": 1, "ph": 2})
    wide = table.pivot(index=["size", "law", "i"], columns=["model", "par"], values=["b", "s"])
    wide.columns = [f"{kind}{model}_{par}" for kind, model, par in wide.columns]
    found = score(
        wide.reset_index(),
        method=None,
        parameter=None,
        estimate="b{method}_{parameter}",
        se="s{method}_{parameter}",
    )
    same(found, score(table))


def test_the_longer_pattern_takes_its_columns_first() -> None:
    """`bse_ols` is no method `se_ols` of `b{method}`."""
    table = {"i": [1, 2], "b_ols": [1.0, 2.0], "b_mm": [3.0, 4.0], "bse_ols": 1.0, "bse_mm": 1.0}
    found = performance(
        pd.DataFrame(table), replication="i", estimate="b{method}", se="bse{method}", truth=0
    )
    assert set(found["method"]) == {"_ols", "_mm"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimate": "q_{method}"}, "no columns with names of the form 'q_{method}'"),
        ({"se": "s_{methods}"}, "can only be {method} or {parameter}"),
        ({"method": "i"}, "`method` is `i`, but it is also the {method}"),
        ({"truth": "t_{method}"}, "a column for 'b' of one of them only"),
        ({"truth": "{parameter}_a"}, "but none by both"),
        ({"estimate": "b_{method}{parameter}", "se": None}, "`b_ccc` can be read in two ways"),
        ({"estimate": "x_{method}", "se": None}, "Column `x_{method}` .*contains text"),
        ({"by": "size"}, "no column 'size'.*Its columns are: i, b_a"),
    ],
)
def test_wide_tables_that_are_refused(changes: dict[str, Any], message: str) -> None:
    table = {"i": [1, 2], "b_a": 1.0, "b_b": 2.0, "s_a": 1.0, "s_b": 1.0, "t_a": 0.0}
    if changes.get("estimate") == "b_{method}{parameter}":
        table["b_ccc"] = 1.0
    table = pd.DataFrame({**table, "x_a": "text", "x_b": 1.0})
    named = {"replication": "i", "estimate": "b_{method}", "se": "s_{method}", "truth": 0.0}
    pattern = message.replace("{", r"\{").replace("}", r"\}")
    with pytest.raises(StudyError, match=f"(?s){pattern}"):
        performance(table, **{**named, **changes})


def test_several_columns_make_a_method() -> None:
    table = a_table().assign(link=lambda t: np.where(t["i"] % 2, "log", "logit"))
    found = score(table, method=["model", "link"], replication="i")
    assert list(dict.fromkeys(found["method"])) == [
        "cox, log",
        "cox, logit",
        "ph, log",
        "ph, logit",
    ]
    assert found.loc[found["method"] == "ph, log", "link"].unique().tolist() == ["log"]
    for baseline in ("ph, log", ("ph", "log"), ["ph", "log"]):
        other = score(table, method=["model", "link"], baseline=baseline)
        there = other[(other["measure"] == "difference_bias") & other["value"].notna()]
        assert set(there["method"]) == {"cox, log"}  # on the same, odd, replications


def test_a_column_has_one_use() -> None:
    """`method` as a factor is not the method, too."""
    table = a_table().rename(columns={"law": "method"})
    found = score(table, by=["size", "method"])
    assert set(found["factor.method"]) == {"exp", "weibull"}
    assert set(found["method"]) == {"cox", "ph"}


@pytest.mark.parametrize("ending", ["csv", "parquet", "dta"])
def test_a_part_of_a_method_may_be_empty(tmp_path: Path, ending: str) -> None:
    """MIsim2 of rsimsum: m1 and m2 are MI and T, MI and LOGT, or CC and an empty text."""
    names = {"a": ("CC", ""), "b": ("MI", "LOGT"), "c": ("MI", "T")}
    rng = np.random.default_rng(5)
    long = pd.DataFrame({"i": np.tile(np.arange(20), 3), "m": np.repeat(["a", "b", "c"], 20)})
    long = long.assign(b=rng.normal(size=60), s=1.0)
    parts = pd.DataFrame([names[m] for m in long["m"]], columns=["m1", "m2"])
    table, path = long.join(parts), tmp_path / f"t.{ending}"
    write = {
        "csv": lambda: table.to_csv(path, index=False),
        "parquet": lambda: table.to_parquet(path),
        "dta": lambda: table.to_stata(path, write_index=False),
    }
    write[ending]()
    columns = {"replication": "i", "estimate": "b", "se": "s", "truth": 0}
    found = performance(path, method=["m1", "m2"], baseline="CC", **columns)
    assert list(dict.fromkeys(found["method"])) == ["CC", "MI, LOGT", "MI, T"]
    wanted = performance(long, method="m", **columns)
    np.testing.assert_array_equal(found["value"], wanted["value"])
    table.loc[[3, 4], ["m1", "m2"]] = ""
    with pytest.raises(StudyError, match="has 2 missing labels; the first is in row 4 "):
        performance(table, method=["m1", "m2"], **columns)


def test_some_methods_and_parameters() -> None:
    table = a_table().assign(model=lambda t: t["model"].map({"cox": 1, "ph": 2}))
    every = score(table)
    for chosen in ([2], ["2"]):
        found = score(table, methods=chosen, parameters=["z"])
        assert set(found["method"]) == {2} and set(found["parameter"]) == {"z", ""}
        key = ["size", "law", "method", "parameter", "measure", "policy"]
        one = ["bias", "coverage", "mse"]
        left, right = (t[t["measure"].isin(one)].set_index(key)["value"] for t in (found, every))
        assert left.to_numpy() == pytest.approx(right.reindex(left.index).to_numpy())


def test_labels_keep_their_type_and_natural_order() -> None:
    table = a_table().assign(model=lambda t: t["model"].map({"cox": "m10", "ph": "m9"}))
    found = score(table)
    assert found["size"].dtype == "int64"
    assert list(dict.fromkeys(found["method"])) == ["m9", "m10"]
    table["model"] = table["model"].map({"m9": 2.0, "m10": 1.0})
    assert list(dict.fromkeys(score(table)["method"])) == [1, 2]
    ordered = pd.Categorical(table["law"], categories=["weibull", "never", "exp"], ordered=True)
    assert list(dict.fromkeys(score(table.assign(law=ordered))["law"])) == ["weibull", "exp"]


def test_a_factor_called_as_a_column_of_the_scores() -> None:
    """rsimsum's `relhaz` has a factor `n`, the size of the data."""
    table = a_table().rename(columns={"size": "n"})
    found = score(table, by=["n", "law"])
    assert found["factor.n"].unique().tolist() == [50, 250]
    assert (found["n"] <= 12).all()


# -- failures and missing numbers ------------------------------------------------------------


def one(found: pd.DataFrame, measure: str, policy: str = "per_method") -> pd.Series:
    rows = found[(found["measure"] == measure) & (found["policy"] == policy)]
    assert len(rows) == 1
    return rows.iloc[0]


def small(**columns: Any) -> dict[str, Any]:
    return {"replication": [1, 2, 3, 4], "mean": [1.0, 2.0, 3.0, 6.0], "sd": [1.0] * 4, **columns}


def test_missing_and_infinite_numbers_are_failures() -> None:
    found = performance(small(mean=[1.0, None, np.inf, 6.0], sd=[1.0, 1.0, 1.0, np.inf]), truth=2)
    bias = one(found, "bias")
    assert (bias["n"], bias["n_failed"], bias["value"]) == (1, 3, -1.0)
    assert one(found, "convergence")["value"] == 0.25
    assert sorted(found.attrs["notes"]) == [
        "1 row counts as failed because the estimate is infinite.",
        "1 row counts as failed because the estimate is missing.",
        "1 row counts as failed because the standard error is infinite.",
    ]


def test_a_fit_without_standard_error_counts_for_what_needs_none() -> None:
    table = small(sd=[1.0, None, 1.0, 1.0])
    found = performance(table, truth=2)
    assert one(found, "bias")[["n", "value"]].tolist() == [4, 1.0]
    assert one(found, "coverage")[["n", "value"]].tolist() == [3, pytest.approx(2 / 3)]
    failed = performance(table, truth=2, missing_se="fail")
    assert one(failed, "bias")[["n", "n_failed"]].tolist() == [3, 1]


def test_without_standard_errors() -> None:
    found = performance({"replication": [1, 2], "mean": [1.0, 3.0]}, truth=1)
    assert one(found, "bias")["value"] == 1.0
    assert np.isnan(one(found, "coverage")["value"])
    assert any("No standard errors" in note for note in found.attrs["notes"])


def test_variances_bounds_and_p_values() -> None:
    table = small(v=[4.0] * 4, low=[0.0] * 4, high=[2.5] * 4, p=[0.2, 0.01, 0.01, 0.01])
    found = performance(
        table, estimate="mean", variance="v", lower="low", upper="high", p_value="p", truth=2,
        alpha=0.1,
    )  # fmt: skip
    assert one(found, "model_se")["value"] == 2.0
    assert one(found, "interval_width")["value"] == 2.5
    assert one(found, "rejection")["value"] == 0.75
    assert one(found, "rejection")["alpha"] == 0.1


def test_parameters_of_one_fit_fail_by_themselves() -> None:
    table = pd.DataFrame(
        {"replication": [1, 1, 2, 2], "parameter": ["x", "z"] * 2, "mean": [1.0, 1.0, 1.0, np.nan]}
    )
    found = performance(table, truth=0, measures=["bias", "convergence"])
    per_method = found[found["policy"] == "per_method"].set_index(["parameter", "measure"])
    assert per_method.loc[("x", "bias"), ["n", "n_failed"]].tolist() == [2, 0]
    assert per_method.loc[("z", "bias"), ["n", "n_failed"]].tolist() == [1, 1]
    assert per_method.loc[("", "convergence"), ["value", "n_failed"]].tolist() == [0.5, 1]


def test_pairs_are_complete_pairs_with_their_count() -> None:
    table = pd.DataFrame(
        {
            "replication": [1, 2, 3, 4] * 2,
            "method": ["a"] * 4 + ["b"] * 4,
            "mean": [1.0, 2.0, np.nan, 4.0, 3.0, np.nan, 5.0, 4.5],
        }
    )
    found = performance(table, truth=0, measures=["difference_bias", "bias"])
    pairs = found[(found["measure"] == "difference_bias") & (found["method"] == "b")]
    assert pairs["n"].tolist() == [2, 2]
    assert pairs["value"].tolist() == [1.25, 1.25]
    complete = found[(found["policy"] == "complete_case") & (found["measure"] == "bias")]
    assert complete["n"].tolist() == [2, 2]


def test_a_method_without_a_parameter_takes_nothing_from_the_others() -> None:
    """Cox models have no shape: their rows of it are empty, and count as failed."""
    table = a_table()
    table.loc[(table["model"] == "cox") & (table["par"] == "z"), "b"] = np.nan
    found = score(table, measures=["bias"])
    z = found[(found["parameter"] == "z") & (found["size"] == 50) & (found["law"] == "exp")]
    z = z.set_index(["method", "policy"])
    assert z.loc[("cox", "per_method"), ["n", "n_failed"]].tolist() == [0, 12]
    assert z["n"].to_dict()["ph", "complete_case"] == 12


def test_without_replications_nothing_is_paired() -> None:
    table = a_table().drop(columns="i").assign(data_set=np.tile(np.arange(12), 16))
    found = score(table, replication=None)
    assert set(found["policy"]) == {"per_method"}
    assert not found["measure"].str.startswith(("difference", "relative_precision")).any()
    assert "replication='data_set'" in found.attrs["notes"][0]
    wanted = score(table, replication="data_set")
    keys = ["size", "law", "method", "parameter", "measure"]
    wanted = wanted[wanted["policy"] == "per_method"].set_index(keys)["value"]
    assert found.set_index(keys)["value"].to_numpy() == pytest.approx(
        wanted.reindex(pd.MultiIndex.from_frame(found[keys])).to_numpy(), nan_ok=True
    )


def test_columns_that_are_used_without_being_named_are_told() -> None:
    table = a_table().rename(columns={"model": "method"}).assign(status="ok")
    found = score(table, method=None)
    assert found.attrs["notes"] == [
        "Used by their names, as no other column is given: `method`, `status`."
    ]


def test_absent_rows_are_told() -> None:
    found = score(a_table().drop(index=[0, 1]))
    assert "2 rows are absent: method cox has no row for 2 replications" in found.attrs["notes"][0]
    assert "with size = 50, law = exp" in found.attrs["notes"][0]


# -- words of a status column ----------------------------------------------------------------


def test_words_of_a_status_column() -> None:
    table = small(end=["fine", "error", "fine", "slow"])
    words = {"fine": "ok", "error": "failed", "slow": "not_converged"}
    found = performance(table, status="end", statuses=words, truth=2)
    assert one(found, "bias")[["n", "n_failed", "n_not_converged"]].tolist() == [2, 1, 1]
    both = performance(table, status="end", statuses=words, truth=2, usable=["ok", "not_converged"])
    assert one(both, "bias")["n"] == 3


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([True, True, False, True], {True: "ok", False: "failed"}),
        ([0, 0, 1, 0], {0: "ok", 1: "failed"}),
        ([0.0, 0.0, 1.0, 0.0], {"0": "ok", "1": "failed"}),
        (["ok", "ok", None, "ok"], {}),
    ],
    ids=["true and false", "codes", "floats", "missing with a missing estimate"],
)
def test_other_kinds_of_statuses(column: list[Any], words: dict[Any, str]) -> None:
    table = small(status=column, mean=[1.0, 2.0, np.nan, 6.0])
    assert one(performance(table, statuses=words, truth=2), "bias")["n_failed"] == 1


@pytest.mark.parametrize(
    ("column", "words", "message"),
    [
        (["OK"] * 4, {}, r"contains 'OK' \(4 rows\).*statuses=\{'OK': 'ok'\}"),
        ([True] * 4, {}, r"contains True \(4 rows\)"),
        (["OK"] * 4, {"OK": "fine"}, "'fine' is not a status"),
        (["ok", "ok", None, "ok"], {}, "missing in 1 row that have an estimate"),
    ],
)
def test_statuses_that_are_refused(column: Any, words: dict[Any, str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        performance(small(status=column), statuses=words)


# -- outliers --------------------------------------------------------------------------------


def test_outliers_are_counted_named_and_left_out() -> None:
    table = a_table(n=40)
    place = table.index[(table["size"] == 50) & (table["par"] == "x")][7]
    table.loc[place, "b"] = 1e6
    found = score(table)
    hit = found[(found["size"] == 50) & (found["parameter"] == "x") & (found["measure"] == "bias")]
    assert hit["n_outliers"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert hit["value"].iloc[0] > 1e4
    assert found.attrs["outliers"] == [
        f"size = 50, law = exp, method cox, parameter x, replication 8 (row {place + 1}): "
        f"estimate 1e+06, standard error {table.loc[place, 's']:g}"
    ]
    left = score(table, dropbig="robust")
    left = left[left["measure"] == "bias"].iloc[0]
    assert (left["n"], left["n_failed"], left["n_outliers"]) == (39, 0, 1)
    rest = table.drop(index=place)
    wanted = score(rest)
    assert left["value"] == wanted[wanted["measure"] == "bias"]["value"].iloc[0]


@pytest.mark.parametrize("scale", ["robust", "sd"])
def test_outliers_by_hand(scale: str) -> None:
    """Hinges of 1..9 are 3 and 7; of 1..10: 3 and 8. The limit is three units."""
    values = np.array([*range(1, 10), 1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18])
    cell = np.array([0] * 9 + [1] * 11)
    found = find_outliers(values, np.ones(20), cell, scale, 2.0, 100.0)
    center, unit = (6, 5) if scale == "robust" else (values[9:].mean(), values[9:].std(ddof=1))
    wanted = np.append(np.zeros(9, bool), np.abs(values[9:] - center) > 2 * unit)
    assert found.tolist() == wanted.tolist()
    assert found[-1] and found.sum() == 1


def test_standard_errors_can_be_outliers() -> None:
    se = np.append(np.linspace(1, 2, 50), 1e4)
    cell = np.zeros(51, dtype=int)
    assert np.flatnonzero(find_outliers(np.linspace(0, 1, 51), se, cell, "robust", 10, 100)) == [50]
    assert not find_outliers(np.append(np.zeros(50), 1), np.ones(51), cell, "robust", 10, 100).any()


# -- anything in a column ---------------------------------------------------------------------

ODD: tuple[list[Any], ...] = (
    [1.0, np.nan], [None, "a"], [True, False], [np.inf, 1.0], [-1.0, 1e300], ["", "x"], [1, "a"],
    [{"a": 1}], [[1, 2]], [2**70, 1], [pd.NA, 1], ["1", "2"], [1 + 2j], ["\u00fc", "u\u0308"],
    [datetime.date(2020, 1, 1)], [pd.Timestamp("2020")], [Decimal("1.5")], [b"a"], [1e308, 1e-320],
    ["ok", "failed"], [pd.Interval(0, 1)],
)  # fmt: skip
ROLES = {
    "by": "g", "method": "m", "parameter": "p", "replication": "i", "estimate": "b", "se": "s",
    "lower": "lo", "upper": "hi", "df": "nu", "p_value": "pv", "truth": "t", "status": "st",
}  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.filterwarnings("error")
def test_odd_values_in_any_column_are_scored_or_refused(seed: int) -> None:
    """No other error than ours, and no warning of NumPy."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    table = pd.DataFrame(
        {
            "g": rng.integers(0, 2, n), "m": rng.choice(["a", "b"], n), "p": "x", "i": range(n),
            "b": rng.normal(size=n), "s": rng.gamma(1, size=n), "lo": -1.0, "hi": 1.0, "nu": 4.0,
            "pv": rng.random(n), "t": 0.0, "st": "ok",
        }
    )  # fmt: skip
    for column in rng.choice(table.columns, rng.integers(1, 3), replace=False):
        pool = ODD[rng.integers(len(ODD))]
        table[column] = pd.Series([pool[rng.integers(len(pool))] for _ in range(n)], dtype=object)
    for mcse in ("normal", "robust"):
        with contextlib.suppress(StudyError):
            found = performance(table, **ROLES, mcse=mcse, dropbig="robust")
            assert len(found)


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": None}, r"`method`\) has 192 missing labels; the first is in row 1"),
        ({"method": ""}, r"`method`\) has 192 missing labels"),
        ({"par": None}, r"`parameter`\) has 192 missing"),
        ({"law": None}, r"`by`\) has 192 missing labels"),
        ({"i": None}, r"`replication`\) has 192 missing labels"),
        ({"b": "text"}, r"Column `b` \(`estimate`\) contains text, such as 'text'"),
        ({"s": -1.0}, r"`se`\) contains -1; the first is in row 1 .*is 0 or more"),
        ({"model": ["cox", "cox "] * 96}, "'cox' and 'cox ', which differ in blanks"),
    ],
    ids=str,
)
def test_columns_that_are_refused(change: dict[str, Any], message: str) -> None:
    table = a_table().rename(columns={"model": "model"})
    names = {"method": "model"}
    for column, value in change.items():
        table["model" if column == "method" else column] = value
    with pytest.raises(StudyError, match=message):
        score(table, **names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": ["size", "laws"]}, "no column 'laws'.*Did you mean `law`"),
        ({"estimate": "bb"}, "no column 'bb'"),
        ({"by": ["size"]}, r"have the same key.*add it to `by`.*by=\['size', 'law'\]"),
        ({"method": "law"}, "`law` is used twice"),
        ({"baseline": "cux"}, "`baseline`: 'cux' is not a method. Did you mean 'cox'"),
        ({"methods": ["ph", "cux"]}, "`methods`: 'cux' is not a method. Did you mean 'cox'"),
        ({"methods": ["ph"], "baseline": "cox"}, "`baseline`: 'cox' is not a method. Allowed: ph"),
        ({"parameters": ["w"]}, "`parameters`: 'w' is not a parameter. Allowed: x, z"),
        ({"parameters": "x"}, "`parameters` must be a list"),
        ({"measures": ["biass"]}, "'biass' is not a measure. Did you mean 'bias'"),
        ({"truth": {"x": 1.0}}, "`truth` has no value for the parameter 'z'"),
        ({"truth": {"x": 1.0, "y": 2.0}}, "`truth`: 'y' is not a parameter"),
        ({"truth": float("inf")}, "`truth` is inf. A true value is finite"),
        ({"truth": [1, 2]}, "`truth` must be a number"),
        ({"df": 0}, "`df` is 0. Degrees of freedom are above 0"),
        ({"alpha": 5}, "`alpha` must be between 0 and 1"),
        ({"alpha": []}, "`alpha` is empty"),
        ({"alpha": {"w": [0.05]}}, "`alpha`: 'w' is not a parameter"),
        ({"untested": ["w"]}, "`untested`: 'w' is not a parameter"),
        ({"test": "exact"}, "`test`: 'exact' is not an option"),
        ({"mcse": "boot"}, "`mcse`: 'boot' is not an option"),
        ({"missing_se": "drop"}, "`missing_se`: 'drop' is not an option"),
        ({"dropbig": "yes"}, "`dropbig`: 'yes' is not an option"),
        ({"max_se": 0}, "`max_se` must be above 0"),
        ({"usable": ["fine"]}, "`usable`: 'fine' is not a status"),
        ({"lower": "s"}, "`lower` is given without `upper`"),
        ({"variance": "s"}, "Both `se` and `variance` are given"),
        ({"lower": "b", "upper": "s"}, "The lower bound must not be above"),
        ({"p_value": "b"}, "A p value is between 0 and 1"),
        ({"columns": {"mean": "b"}}, "`columns` has 'mean', and `estimate` is given, too"),
        ({"columns": {"time": "b"}}, "`columns`: 'time' is not a column"),
        ({"statuses": {"OK": "ok"}}, "`status` is not: name the column"),
        ({"null_scenarios": {"x": 50}}, r"must map \(scenario, parameter\)"),
        ({"null_scenarios": {(50, "x"): 50}}, "50 is not a scenario"),
        ({"by": [1.5]}, "`by` must be the name of a column"),
    ],
    ids=str,
)
def test_arguments_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=f"(?s){message}"):
        score(a_table(), **changes)


def test_a_missing_truth_is_an_error_in_a_cell_that_has_one() -> None:
    table = a_table().assign(t=1.0)
    table.loc[table["par"] == "z", "t"] = np.nan
    found = score(table, truth="t")
    bias = found[(found["measure"] == "bias") & (found["policy"] == "per_method")]
    assert bias.groupby("parameter")["value"].count().to_dict() == {"x": 8, "z": 0}
    table.loc[5, "t"] = np.nan
    with pytest.raises(StudyError, match=r"missing in 1 row .*size = 50, law = exp, method cox"):
        score(table, truth="t")


def test_only_parameters_that_are_scored_need_a_truth() -> None:
    found = score(a_table(), truth={"x": 1.0}, parameters=["x"])
    same(found, score(a_table(), parameters=["x"]))


def test_scores_can_be_written_as_parquet(tmp_path: Path) -> None:
    """With the notes, which pandas keeps in the file."""
    found = score(a_table().assign(par=lambda t: t["par"].map({"x": 1, "z": 2})), truth=0)
    found.to_parquet(tmp_path / "scores.parquet")
    again = pd.read_parquet(tmp_path / "scores.parquet")
    same(again, found)
    assert again.attrs == found.attrs


def test_the_text_na_is_a_label_only_if_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = a_table().assign(model=lambda t: t["model"].replace("ph", "NA"))
    table.to_csv(path, index=False)
    with pytest.raises(StudyError, match=r"has the label 'NA'.*usually means a missing value"):
        score(path)
    assert set(score(path, na=[])["method"]) == {"cox", "NA"}
    with pytest.raises(StudyError, match="96 missing labels"):
        score(path, na=["NA"])


def test_size_adjusted_power_by_labels_of_scenarios() -> None:
    table = a_table().assign(p=lambda t: np.where(t["size"] == 50, 0.5, 0.01))
    pairs = {((250, "exp"), "x"): (50, "exp")}
    found = score(table, p_value="p", null_scenarios=pairs, measures=["size_adjusted_power"])
    there = found[found["value"].notna()]
    assert set(there["value"]) == {1.0}
    assert set(there["size"]) == {250} and set(there["law"]) == {"exp"}
    assert set(there["parameter"]) == {"x"}


def test_estimates_of_a_study_are_scored_as_by_the_study(tmp_path: Path) -> None:
    """`rmm study score results/NAME/estimates.parquet`, with its failed and unconverged fits."""
    factors = {"overlap": [0.0, 1.0], "group_size": [3, 5]}
    invented = write_study(tmp_path / "study", factors, ("aggregation", "mm"), 40)
    study = pd.read_parquet(invented.folder / "performance.parquet")
    table = performance(invented.folder / "estimates.parquet", baseline="aggregation")
    keys = ["scenario", "method", "parameter", "measure", "alpha", "policy"]
    both = study.merge(table, on=keys, suffixes=("", "_table"))
    assert len(both) == len(study) == len(table)
    for column in ("value", "mcse", "lower", "upper", "n", "n_failed", "n_not_converged"):
        np.testing.assert_allclose(both[column], both[f"{column}_table"], rtol=1e-12)


def test_null_values_by_parameter() -> None:
    found = score(a_table(), null={"x": 1.0}, measures=["rejection"])
    zero = score(a_table(), measures=["rejection"])
    z = found["parameter"] == "z"
    same(found[z], zero[z])
    assert not found[~z].equals(zero[~z])
