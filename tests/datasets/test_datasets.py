"""Data sets by name: simulated ones, and published ones through a cache and a made-up server."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.datasets import fetching
from rmm.datasets.coalitions import FORMULA, TRUTH
from rmm.datasets.content import checksum, plain
from rmm.datasets.sources import SOURCES, Source
from rmm.tables.rdata import read_frames
from tests.coalitions import shared_file

PARQUETS = {
    "coalgov": "coalgov_bml",
    "coalgov_rmm": "coalgov_rmm",
    "schoolnets_nodes": "schoolnets_nodes",
    "schoolnets_edges": "schoolnets_edges",
    "wage1": "wage1_wide",
}
TABLE = pd.DataFrame(
    {
        "party": [3.0, 1.0, 2.0],
        "seats": [0.25, 0.75, 1.0],
        "name": ["Grüne", "Left", "Right"],
        "rank": pd.Categorical(["1", "3", "2"]),
        "prime": [True, False, True],
        "of no use": [0.5, 0.5, 0.5],
    }
)
WANTED = ("name", "party", "seats", "rank", "prime")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RMM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


def write(path: Path, **frames: pd.DataFrame) -> Path:
    """An R file of tibbles; columns of dates are written as R's class Date."""
    rdata = pytest.importorskip("rdata")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {**rdata.conversion.to_r.DEFAULT_CLASS_MAP, pd.DataFrame: tibble}
    rdata.write_rda(path, frames, constructor_dict=known)
    return path


def tibble(data: pd.DataFrame, converter: Any) -> Any:
    from rdata.conversion.to_r import build_r_object
    from rdata.parser import RObjectType

    columns = []
    for column in (data[name] for name in data):
        if isinstance(column.dtype, pd.CategoricalDtype):
            columns.append(converter.convert_to_r_object(column.array))
        elif pd.api.types.is_datetime64_any_dtype(column.dtype):
            days = ((column - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(dtype=float)
            kind = converter.convert_to_r_attributes({"class": "Date"})
            columns.append(
                build_r_object(RObjectType.REAL, value=days, is_object=True, attributes=kind)
            )
        else:
            text = pd.api.types.is_string_dtype(column.dtype)
            columns.append(converter.convert_to_r_object(column.to_numpy(object if text else None)))
    attributes = {
        "names": np.array(list(data), dtype="U"),
        "class": np.array(["tbl_df", "tbl", "data.frame"]),
        "row.names": np.arange(1, len(data) + 1, dtype=np.int32),
    }
    return build_r_object(
        RObjectType.VEC,
        value=columns,
        is_object=True,
        attributes=converter.convert_to_r_attributes(attributes),
    )


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of `tmp_path`/published."""
    (tmp_path / "published").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "published"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture
def source(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A data set "small" that the server has."""
    write(tmp_path / "published" / "small.rda", small=TABLE, other=TABLE)
    small = Source(
        server + "small.rda", "my-small.rda", "small", WANTED, checksum(TABLE[list(WANTED)])
    )
    monkeypatch.setitem(SOURCES, "small", small)
    return small


# -- published data sets ---------------------------------------------------------------------


def test_a_data_set_is_fetched_once(
    source: Source, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = rmm.datasets.load("small")
    assert list(first) == list(WANTED)
    assert first["party"].tolist() == [3, 1, 2]
    assert first["rank"].tolist() == [1, 3, 2]
    assert first["name"].tolist() == ["Grüne", "Left", "Right"]
    assert [str(first[c].dtype) for c in WANTED] == ["str", "int64", "float64", "int64", "bool"]
    assert [path.name for path in cache.iterdir()] == ["my-small.rda"]
    (tmp_path / "published" / "small.rda").unlink()
    pd.testing.assert_frame_equal(rmm.datasets.load("small"), first)
    assert capfd.readouterr() == ("", "")


def test_a_file_put_by_hand_is_taken(source: Source, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "published" / "small.rda").unlink()
    write(cache / source.file, small=TABLE)
    assert len(rmm.datasets.load("small")) == 3


def test_other_values_are_told_and_not_kept(source: Source, cache: Path, tmp_path: Path) -> None:
    """A file that was fetched goes; one put by hand is the user's and stays."""
    other = TABLE.assign(seats=[0.25, 0.75, 1.0001])
    write(tmp_path / "published" / "small.rda", small=other)
    with pytest.raises(
        rmm.DataError, match=r"\(3 rows\) are not the published ones[\s\S]*small\.rda"
    ):
        rmm.datasets.load("small")
    assert list(cache.iterdir()) == []
    write(cache / source.file, small=other)
    with pytest.raises(rmm.DataError, match="Remove the file and load the data set again"):
        rmm.datasets.load("small")
    assert (cache / source.file).exists()


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ({"another": TABLE}, "must contain the data frame `small`, but contains: another"),
        ({"small": TABLE.drop(columns="seats")}, "has no column `seats`"),
        ({}, "is not a data file of R"),
    ],
)
def test_another_file_is_told(
    source: Source, tmp_path: Path, frames: dict[str, pd.DataFrame], said: str
) -> None:
    published = tmp_path / "published" / "small.rda"
    if frames:
        write(published, **frames)
    else:
        published.write_text("<html>Please log in to this network</html>")
    with pytest.raises(rmm.DataError, match=said):
        rmm.datasets.load("small")


def offline_letter(address: str, cache: Path) -> str:
    with pytest.raises(rmm.DataError, match="cannot be downloaded from") as caught:
        fetching.fetch(address, cache / "my-small.rda")
    assert not list(cache.iterdir())
    return str(caught.value)


def test_offline_the_message_says_where_the_file_goes(cache: Path) -> None:
    message = offline_letter("http://127.0.0.1:9/small.rda", cache)
    assert "\n  http://127.0.0.1:9/small.rda\n" in message
    assert f"\n  {cache / 'my-small.rda'}\n" in message
    assert 'rmm.datasets.load("coalitions")' in message
    assert "Traceback" not in message and len(message) < 600


def test_a_file_that_is_gone_from_the_server(server: str, cache: Path) -> None:
    assert "the server answers 404" in offline_letter(server + "gone.rda", cache)


def test_a_cache_that_cannot_be_made(source: Source, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(rmm.DataError, match="Set RMM_CACHE to a folder that you can write to"):
        rmm.datasets.load("small")


def test_without_rdata_the_message_names_it(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache / source.file, small=TABLE)
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(rmm.DataError, match="`pip install rdata`"):
        rmm.datasets.load("small")


def test_addresses_are_pinned_and_files_have_one_address() -> None:
    files: dict[str, set[str]] = {}
    for source in SOURCES.values():
        files.setdefault(source.file, set()).add(source.address)
        commit = source.address.split("/raw/")[1].split("/")[0]
        assert len(commit) == 40 and int(commit, 16)
    assert all(len(addresses) == 1 for addresses in files.values())


@pytest.mark.parametrize("name", PARQUETS)
def test_recorded_content_is_that_of_the_r_packages(name: str, cache: Path) -> None:
    """The tables of the R packages, as Parquet files and once more as an R file in the cache."""
    table = pd.read_parquet(shared_file("data", f"{PARQUETS[name]}.parquet"))
    source = SOURCES[name]
    assert sorted(table) == sorted(source.columns)
    assert checksum(table) == source.content
    whole = table.select_dtypes("int64").columns
    write(cache / source.file, **{source.frame: table.astype(dict.fromkeys(whole, float))})
    pd.testing.assert_frame_equal(rmm.datasets.load(name), plain(table[list(source.columns)]))


# -- content ---------------------------------------------------------------------------------


def test_content_is_the_same_however_a_table_is_held() -> None:
    """Types, order of rows and columns, and encodings differ between readers; values do not."""
    other = pd.DataFrame(
        {
            "seats": [1.0, 0.25 + 1e-15, 0.75],
            "rank": [2, 1, 3],
            "prime": [1, 1, 0],
            "name": ["Right", "GrÃ¼ne", "Left"],
            "party": ["2", "3", "1"],
        },
        index=[7, 8, 9],
    )
    assert checksum(other) == checksum(TABLE[list(WANTED)])


@pytest.mark.parametrize(
    "change",
    [
        {"seats": [0.25, 0.75, 1.000001]},
        {"party": [3, 1, None]},
        {"name": ["Grüne", "Left", "Rihgt"]},
        {"prime": [True, True, False]},
        {"new": 1},
    ],
)
def test_content_differs_where_a_value_does(change: dict[str, Any]) -> None:
    assert checksum(TABLE.assign(**change)) != checksum(TABLE)


def test_content_counts_dates_as_days() -> None:
    frame = pd.DataFrame({"day": pd.to_datetime(["1970-01-02", "1969-12-31", None])})
    for unit in ("us", "ns", "s"):
        assert checksum(frame.astype(f"datetime64[{unit}]")) == checksum(
            pd.DataFrame({"day": [1.0, -1.0, np.nan]})
        )


def test_plain_keeps_what_is_missing() -> None:
    frame = plain(pd.DataFrame({"a": [1, None], "b": ["x", None], "c": ["1.5", None]}))
    assert frame.isna().sum().tolist() == [1, 1, 1]
    assert frame["c"].iloc[0] == 1.5


# -- R's files -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_dates_and_tibbles_of_r(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.5, 2.5], "day": pd.to_datetime(["2011-01-26", None])})
    read = read_frames(write(tmp_path / "dates.rda", d=frame))["d"]
    assert read["x"].tolist() == [1.5, 2.5]
    assert read["day"].iloc[0] == pd.Timestamp("2011-01-26")
    assert read["day"].isna().tolist() == [False, True]


# -- simulated coalitions --------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return rmm.datasets.load("coalitions")


def test_coalitions_are_the_same_every_time(simulated: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(rmm.datasets.load("coalitions"), simulated)
    assert simulated.shape == (2130, 10)


def test_ids_of_coalitions_are_numbers(simulated: pd.DataFrame) -> None:
    ids = simulated[["country", "government", "party"]]
    assert {dtype.kind for dtype in ids.dtypes} == {"i"}


def test_coalitions_look_like_the_real_ones(simulated: pd.DataFrame) -> None:
    """Real: 628 governments, 29 countries, 3.3 parties each, 39% end early, 80% majorities."""
    by_government = simulated.groupby("government")
    government = by_government.first()
    assert len(government) == 628
    assert simulated["country"].nunique() == 29
    assert 280 <= simulated["party"].nunique() <= 312
    assert simulated.groupby("party")["country"].nunique().max() == 1
    assert not simulated.duplicated(["government", "party"]).any()
    assert government["n"].eq(by_government.size()).all()
    assert government["n"].between(2, 9).all()
    assert government["n"].mean() == pytest.approx(3.3, abs=0.2)
    assert government["ended"].mean() == pytest.approx(0.4, abs=0.06)
    assert government["majority"].mean() == pytest.approx(0.8, abs=0.05)
    assert by_government["seats"].sum().to_numpy() == pytest.approx(1, abs=1e-3)
    assert by_government["prime"].sum().eq(1).all()
    assert by_government[["days", "ended", "majority", "country"]].nunique().eq(1).all(axis=None)
    assert simulated.groupby("party")["finance"].nunique().eq(1).all()
    assert government["days"].median() == pytest.approx(380, abs=100)


def test_coalitions_have_their_truth(simulated: pd.DataFrame) -> None:
    """A fit finds it: no true value is more than three posterior sds from the mean."""
    fit = rmm.fit(
        FORMULA,
        simulated,
        "weibull",
        backend="laplace",
        chains=2,
        draws=500,
        seed=1,
        progress=False,
    )
    summary = fit.summary()
    away = (summary["mean"] - pd.Series(TRUTH)) / summary["sd"]
    assert away.abs().max() < 3, away


# -- names -----------------------------------------------------------------------------------


def test_names_and_the_message_for_others() -> None:
    assert rmm.datasets.names() == sorted(["coalitions", *PARQUETS])
    with pytest.raises(
        rmm.DataError, match=r"'coalgove' is not the name .* mean 'coalgov'\? Allowed: coal"
    ):
        rmm.datasets.load("coalgove")
    with pytest.raises(rmm.DataError, match=r"7 is not the name of a data set\. Allowed"):
        rmm.datasets.load(7)  # type: ignore[arg-type]
