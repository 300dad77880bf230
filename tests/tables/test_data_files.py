"""Tables in files: what is read as what, and the messages where that cannot be known."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import rmm
from rmm.design.prepare import prepare
from rmm.tables.csv_files import read_text_table
from rmm.tables.data_files import read_file
from rmm.tables.read import read_table


def read(tmp_path: Path, text: str, name: str = "t.csv", **options: Any) -> pd.DataFrame:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, **options)


# ---- ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        ["3.20", "3.2"],
        ["007", "7"],
        ["2E3", "2000"],
        ["+4", "4"],
        ["5.0", "5"],
        ["0x10", "16"],
        ["1_000", "1000"],
        ["TRUE", "True"],
        ["inf", "Infinity"],
        ["-0", "0"],
        ["NA", "nan"],
        ["9007199254740993", "9007199254740992"],
        ["18446744073709551617", "18446744073709551616"],
    ],
)
def test_ids_that_look_different_stay_different(tmp_path: Path, ids: list[str]) -> None:
    rows = "".join(f"{g},{m}\n" for g, m in enumerate([*ids, "abc", *ids]))
    assert read(tmp_path, "g,m\n" + rows, ids=["m"])["m"].nunique() == 3
    numbers = "".join(f"{g},{m}\n" for g, m in enumerate(ids))
    assert read(tmp_path, "g,m\n" + numbers, ids=["m"])["m"].nunique() == 2


def test_whole_numbers_without_leading_zeros_are_numbers(tmp_path: Path) -> None:
    frame = read(tmp_path, "m,k,x\n1,1,0.5\n20,,0.50\n-3,3,1e2\n", ids=["m", "k"])
    assert frame["m"].tolist() == [1, 20, -3] and frame["m"].dtype == "int64"
    assert frame["k"].tolist() == [1, pd.NA, 3] and frame["k"].dtype == "Int64"
    assert frame["x"].tolist() == [0.5, 0.5, 100.0], "other columns are numbers"


def test_text_ids_of_the_fit_are_text_in_new_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    ids = np.array(["08", "8", "9", "10"])
    table = pd.DataFrame({"g": np.repeat(np.arange(30), 2)})
    table["m"] = ids[np.concatenate([rng.choice(4, 2, replace=False) for _ in range(30)])]
    table["y"] = rng.normal(size=30)[table["g"]]
    table.to_csv(tmp_path / "a.csv", index=False)
    fit = rmm.fit(
        "y ~ 1 + mm(id(m, g), RE=TRUE)",
        tmp_path / "a.csv",
        backend="laplace",
        seed=1,
        chains=1,
        draws=200,
    )
    assert sorted(fit.member_effects().index) == sorted(ids)
    (tmp_path / "b.csv").write_text("g,m\n1,8\n1,9\n2,10\n")
    (tmp_path / "c.csv").write_text("g,m\n1,08\n1,9\n2,10\n")
    plain, padded = (fit.predict(tmp_path / f, effects="known")["mean"] for f in ("b.csv", "c.csv"))
    effects = fit.member_effects()["mean"]
    assert plain[1] - padded[1] == pytest.approx((effects["8"] - effects["08"]) / 2)


def test_categories_of_numbers_are_ids_too(tmp_path: Path) -> None:
    text = "y,k\n" + "".join(f"{i % 7},{('1.1', '1.10', '2')[i % 3]}\n" for i in range(30))
    (tmp_path / "t.csv").write_text(text)
    assert prepare("y ~ factor(k)", tmp_path / "t.csv").design.X_l2.shape == (30, 2)
    assert prepare("y ~ k", tmp_path / "t.csv").design.X_l2.shape == (30, 1), "a number elsewhere"


# ---- missing values ----------------------------------------------------------------------------


def test_which_texts_are_missing(tmp_path: Path) -> None:
    text = "country,x,z,w\nNA,1.5,.,1\nUS,NA,2,\nNA,2.5,3,3\n"
    frame = read(tmp_path, text, ids=["country"])
    assert frame["country"].tolist() == ["NA", "US", "NA"], "an id"
    assert frame["x"].isna().tolist() == [False, True, False]
    assert frame["z"].isna().tolist() == [True, False, False]
    assert frame["w"].isna().tolist() == [False, True, False]
    named = read(tmp_path, "m,x\n-99,-99\n1,NA\n", ids=["m"], na=["-99"])
    assert named["m"].isna().tolist() == [True, False] and named["x"].tolist()[1] == "NA"
    none = read(tmp_path, "m\nNA\n1\n", ids=["m"], na=[])
    assert none["m"].tolist() == ["NA", "1"]


def test_na_belongs_to_text_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"y": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "a.parquet")
    for data in (frame, tmp_path / "a.parquet"):
        with pytest.raises(rmm.DataError, match=r"`na` can be used only .*text file"):
            prepare("y ~ 1", data, na=["NA"])
    with pytest.raises(rmm.DataError, match="`na` must be a list of texts"):
        read(tmp_path, "y\n1\n", na="NA")


def test_na_as_a_label_is_reported_once_and_can_be_settled(tmp_path: Path) -> None:
    rows = "".join(f"{g},{m},{g % 5}.5\n" for g in range(12) for m in ("NA", "US", "FR")[g % 2 :])
    (tmp_path / "t.csv").write_text("g,m,y\n" + rows)
    formula = "y ~ 1 + mm(id(m, g), RE=TRUE)"
    with pytest.warns(
        rmm.SpecificationWarning, match=r"`m` contains 'NA' \(6 rows\), which counts as"
    ):
        assert prepare(formula, tmp_path / "t.csv").design.members[0].n_members == 3
    assert prepare(formula, tmp_path / "t.csv", na=[]).design.members[0].n_members == 3
    with pytest.raises(rmm.DataError, match=r"`m`, the member id, has 6 missing.*empty cells"):
        prepare(formula, tmp_path / "t.csv", na=["NA"])


# ---- layout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(tmp_path: Path, separator: str) -> None:
    lines = ["a,b,c", "1,2.5,x", '2,3.5,"y z"']
    frame = read(tmp_path, "\n".join(line.replace(",", separator) for line in lines))
    assert frame["b"].tolist() == [2.5, 3.5] and frame["c"].tolist() == ["x", "y z"]


def test_decimal_commas(tmp_path: Path) -> None:
    frame = read(tmp_path, "a;b\n1,5;1,234\n-2,25;2,500\n")
    assert frame["a"].tolist() == [1.5, -2.25] and frame["b"].tolist() == [1.234, 2.5]
    both = read(tmp_path, "a;b;c\n1,5;1.5;x\n2;2.5;y\n")
    assert both["a"].tolist() == ["1,5", "2"], "a file has one decimal mark"
    unclear = read(tmp_path, "a;b\n1,234;x\n2,500;y\n")
    assert unclear["a"].tolist() == ["1,234", "2,500"], "thousands, or a decimal comma?"


def test_text_in_quotes_and_white_space(tmp_path: Path) -> None:
    frame = read(tmp_path, '\ufeffa,b\r\n" 1",x\r\n2 ,"y, ""z"""\r\n\r\n', ids=["b"])
    assert frame["a"].tolist() == [1.0, 2.0] and frame["b"].tolist() == ["x", 'y, "z"']
    blanks = read(tmp_path, '"a" "b"\n"1" 2 "x y"\n"2" 3 "z"\n', "r.txt")
    assert blanks["b"].tolist() == ["x y", "z"] and blanks["a"].tolist() == [2, 3], "R's row names"
    excel = read(tmp_path, "sep=;\r\na;b\r\n1;2\r\n")
    assert list(excel.columns) == ["a", "b"] and excel["b"].tolist() == [2]
    trailing = read(tmp_path, "a,b\n1,2,\n3,4,\n")
    assert trailing["a"].tolist() == [1, 3], "columns are not moved by an empty last cell"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n1,2,3\n",
            r"line 3 has more cells than the header, which has 2 \(separator ','\)",
        ),
        ("a,b\n1,2,3,4\n1,2\n", "the first row has more cells than the header, which has 2"),
        ("a;b\n1;2\n1;2;3;4\n", "line 3 has more cells than the header, which has 2"),
        ("a,b,a\n1,2,3\n", "two columns named `a`"),
        ("\n \n", "the file is empty"),
        ("a,b\n", "no rows"),
    ],
)
def test_broken_text(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(rmm.DataError, match=message):
        read(tmp_path, text)


def test_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a,b\nä,1\n".encode("utf-16"))
    assert read_table(tmp_path / "a.csv")["a"].tolist() == ["ä"]
    (tmp_path / "b.csv").write_bytes("a,b\nx,1\nä,1\n".encode("cp1252"))
    with pytest.raises(rmm.DataError, match="line 3 is not UTF-8"):
        read_table(tmp_path / "b.csv")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zip", "zst"])
def test_compressed_text(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.csv.{ending}"
    if ending == "zst":
        with pa.output_stream(path, compression="zstd") as file:
            file.write(b"m,x\n01,2.5\n")
    else:
        pd.DataFrame({"m": ["01"], "x": [2.5]}).to_csv(path, index=False)
    frame = read_table(path, ids=["m"])
    assert frame["m"].tolist() == ["01"] and frame["x"].tolist() == [2.5]


def test_archives_of_several_files_and_broken_ones(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "a\n1\n")
    with pytest.raises(rmm.DataError, match=r"a\.zip: The archive contains 2 files"):
        read_table(tmp_path / "a.zip")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"a\n1\n")[:-6])
    with pytest.raises(rmm.DataError, match=r"b\.csv\.gz: this file cannot be read\. .*incomplete"):
        read_table(tmp_path / "b.csv.gz")


def test_true_and_false(tmp_path: Path) -> None:
    frame = read(tmp_path, "a,b\nTRUE,false\nFALSE,\n")
    assert frame["a"].tolist() == [True, False] and frame["a"].dtype == bool
    assert frame["b"].dtype == "boolean" and frame["b"].isna().tolist() == [False, True]


# ---- other programs' files -----------------------------------------------------------------------

LABELS = {1: "low", 2: "middle", 3: "high"}


@pytest.fixture
def coded() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["01", "1", "2"],
            "level": [3.0, 1.0, np.nan],
            "trust": [0.0, 5.0, 10.0],
            "x": [1.5, np.nan, 2.0],
        }
    )


def test_stata(tmp_path: Path, coded: pd.DataFrame) -> None:
    path = tmp_path / "t.dta"
    labels = {"level": LABELS, "trust": {0: "none", 10: "full"}}
    coded.to_stata(path, write_index=False, value_labels=labels)
    check_labelled(read_table(path))
    coded.to_stata(path, write_index=False, value_labels={"trust": {0: "a", 10: "a"}})
    with pytest.raises(rmm.DataError, match="values of column `trust` have the same label, 'a'"):
        read_table(path)


def test_spss(tmp_path: Path, coded: pd.DataFrame) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    path = tmp_path / "t.sav"
    labels = {"level": LABELS, "trust": {0: "none", 10: "full"}}
    pyreadstat.write_sav(coded, str(path), variable_value_labels=labels)
    check_labelled(read_table(path))


def check_labelled(frame: pd.DataFrame) -> None:
    assert frame["id"].tolist() == ["01", "1", "2"]
    assert frame["level"].tolist()[:2] == ["high", "low"] and frame["level"].isna()[2]
    assert [c for c in frame["level"].cat.categories if c in ("low", "high")] == ["low", "high"]
    assert frame["x"].tolist()[0] == 1.5 and frame["x"].isna()[1]
    data = pd.concat([frame.assign(y=np.arange(3.0))] * 2)
    with pytest.raises(
        rmm.DataError, match="`trust` contains both numbers, such as 5, and texts, such"
    ):
        prepare("y ~ 1 + trust", data[["y", "trust"]])


def test_labels_of_two_codes_are_told_apart(tmp_path: Path) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    path = tmp_path / "t.sav"
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    pyreadstat.write_sav(table, str(path), variable_value_labels={"a": {1: "x", 2: "x", 3: "y"}})
    assert read_table(path)["a"].tolist() == ["x (1)", "x (2)", "y"]


def test_sas(tmp_path: Path, coded: pd.DataFrame) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    path = tmp_path / "t.xpt"
    pyreadstat.write_xport(coded, str(path))
    frame = read_table(path)
    assert frame["id"].tolist() == ["01", "1", "2"] and frame["x"].isna().tolist()[1]


def test_excel(tmp_path: Path, coded: pd.DataFrame) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    coded.assign(land=["NA", "US", "NA"]).to_excel(path, index=False)
    frame = read_table(path)
    assert frame["id"].tolist() == ["01", "1", "2"] and frame["land"].tolist() == ["NA", "US", "NA"]
    with pd.ExcelWriter(path) as book:
        coded.to_excel(book, sheet_name="one")
        coded.to_excel(book, sheet_name="two")
    with pytest.raises(rmm.DataError, match=r"2 sheets with data \(one, two\)"):
        read_table(path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.sav").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(rmm.DataError, match=r"SPSS files need the package pyreadstat.*\[files\]"):
        read_table(tmp_path / "t.sav")


def test_unknown_endings() -> None:
    with pytest.raises(rmm.DataError, match=r"must end in one of \.csv, .*\.xlsx.*compressed"):
        read_table("table.docx")
    with pytest.raises(rmm.DataError, match=r"Save an \.xls file as \.xlsx"):
        read_table("table.xls")


# ---- tables in memory ----------------------------------------------------------------------------


def test_large_ids_beside_missing_values_stay_whole(tmp_path: Path) -> None:
    big = [2**53, 2**53 + 1, None]
    table = pa.table(
        {"m": pa.array(big, pa.int64()), "t": pa.array(["a", "b", "c"], "large_string")}
    )
    for data in (table, pytest.importorskip("polars").from_arrow(table)):
        assert read_table(data)["m"].tolist()[:2] == big[:2]
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    assert read_file(tmp_path / "t.parquet")["m"].tolist()[:2] == big[:2]


def test_shapes_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(rmm.DataError, match=r"column names .* have 2 levels"):
        read_table(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])))
    with pytest.raises(rmm.DataError, match="two columns named `a`"):
        read_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(rmm.DataError, match="no rows"):
        read_table(pd.DataFrame({"a": []}))
    with pytest.raises(rmm.DataError, match=r"lazy: call collect\(\)"):
        read_table(pytest.importorskip("polars").LazyFrame({"a": [1]}))
    assert list(read_table(pd.DataFrame([[1, 2]], columns=[0, "b"])).columns) == ["0", "b"]


def test_a_file_is_read_whole_once(tmp_path: Path) -> None:
    """A thousand rows after those in which the separator was looked for."""
    buffer = io.StringIO()
    pd.DataFrame({"a": range(1200), "b": ["x"] * 1199 + ["y, z"]}).to_csv(buffer, index=False)
    (tmp_path / "t.csv").write_text(buffer.getvalue())
    frame = read_text_table(tmp_path / "t.csv", (), (), None)
    assert len(frame) == 1200 and frame["b"].iloc[-1] == "y, z"
