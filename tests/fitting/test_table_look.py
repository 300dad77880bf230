"""`rmm.look`: facts of tables whose answers are known, and tables that are strange."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

import rmm
from rmm.fitting.table_look import network_figure
from rmm.fitting.table_look.look import look
from tests import ROOT
from tests.coalitions import made_up_coalitions, shared_file

SMALL = pd.DataFrame(
    {
        "g": [1, 1, 2, 2, 3, 3],
        "m": ["a", "b", "a", "c", "d", "e"],
        "x": [1.0, 2.0, 1.0, 3.0, 2.0, 3.0],
        "y": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0],
        "s": [0.7, 0.3, 0.6, 0.4, 0.5, 0.5],
        "one": 1,
    }
)


def answer(seen: rmm.TableLook, what: str) -> tuple[str, str]:
    (found,) = [(a.answer, a.why) for a in seen.answers if a.what.startswith(what)]
    return found


def test_a_small_table_by_hand() -> None:
    seen = rmm.look(SMALL, "m", "g")
    m = seen.memberships
    assert (m.rows, len(m.member), m.groups.tolist()) == (6, 6, [1, 2, 3])
    assert m.members.tolist() == ["a", "b", "c", "d", "e"]
    assert (m.sizes.tolist(), m.spread.tolist()) == ([2, 2, 2], [2, 1, 1, 1, 1])
    assert (m.shared_memberships, m.sharing_groups) == (2, 2)
    assert m.set_sizes.tolist() == [2, 1]
    assert m.inseparable == 2, "d and e"
    levels = seen.facts["level"].to_dict()
    assert levels == {
        "y": "group", "x": "member", "s": "membership", "one": "constant",
    }  # fmt: skip
    assert seen.facts.loc["x", ["varies", "within"]].tolist() == [3, pytest.approx(0.75)]
    assert seen.facts.loc["s", ["varies", "within"]].tolist() == [2, pytest.approx(1.0)]


def test_facts_are_those_of_plain_pandas() -> None:
    table = made_up_coalitions(groups=60)
    table["age"] = np.sqrt(table["pid"])
    seen = rmm.look(table, "pid", "gid")
    m = seen.memberships
    by_group, by_member = table.groupby("gid"), table.groupby("pid")
    assert m.sizes.tolist() == by_group.size().tolist()
    assert m.spread.tolist() == by_member.size().tolist()
    sets = by_member["gid"].apply(lambda g: tuple(sorted(g)))
    assert m.inseparable == int(sets.duplicated(keep=False).sum())
    shared = table["pid"].map(by_member.size()) > 1
    assert m.shared_memberships == int(shared.sum())
    assert m.sharing_groups == table.loc[shared, "gid"].nunique()
    assert len(m.set_sizes) == number_of_sets(table)
    for name, row in seen.facts.iterrows():
        column = table[str(name)]
        one_per_group = (by_group[str(name)].nunique() == 1).all()
        one_per_member = (by_member[str(name)].nunique() == 1).all()
        level = {
            (True, True): "member and group",
            (True, False): "group",
            (False, True): "member",
            (False, False): "membership",
        }[one_per_group, one_per_member]
        assert row["level"] == level, name
        assert row["different"] == column.nunique()
        if level in ("member", "membership"):
            assert row["varies"] == int((by_group[str(name)].nunique() > 1).sum())
            within = ((column - by_group[str(name)].transform("mean")) ** 2).sum()
            share = within / ((column - column.mean()) ** 2).sum()
            assert row["within"] == pytest.approx(share, rel=1e-9)
    assert {"member", "group", "membership"} <= set(seen.facts["level"])


def number_of_sets(table: pd.DataFrame) -> int:
    """Sets of groups that share no member, by merging sets as long as two have one in common."""
    sets = [set(part) for _, part in table.groupby("gid")["pid"]]
    merged = True
    while merged:
        merged = False
        for one, other in itertools.combinations(range(len(sets)), 2):
            if sets[one] & sets[other]:
                sets[one] |= sets.pop(other)
                merged = True
                break
    return len(sets)


def nested(sizes: list[int]) -> pd.DataFrame:
    group = np.repeat(np.arange(len(sizes)), sizes)
    return pd.DataFrame({"g": group, "m": np.arange(len(group)), "y": group * 1.0})


def crossed(groups: int, size: int, pool: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    members = np.concatenate([rng.choice(pool, size, replace=False) for _ in range(groups)])
    group = np.repeat(np.arange(groups), size)
    return pd.DataFrame({"g": group, "m": members, "y": rng.standard_normal(groups)[group]})


EFFECTS = "member effects"


@pytest.mark.parametrize(
    ("table", "found", "why"),
    [
        (crossed(60, 3, 25), "yes", "25 members are in several groups"),
        (crossed(60, 3, 5), "partly", "Only 5 members"),
        (nested([3] * 20), "no", "No member is in several groups"),
        (nested([1, 2, 3, 4] * 5), "partly", "only because groups differ in size"),
        (crossed(20, 3, 3), "no", "which the intercept contains"),
    ],
    ids=["shared", "few members", "nested", "nested, sizes differ", "all the same"],
)
def test_member_effects_are_judged_as_a_fit_judges_them(
    table: pd.DataFrame, found: str, why: str
) -> None:
    seen = rmm.look(table, "m", "g")
    assert answer(seen, EFFECTS)[0] == found
    assert why in answer(seen, EFFECTS)[1]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        rmm.fit("y ~ 1 + mm(id(m, g), RE = TRUE)", table, backend="fake", seed=1, progress=False)
    warned = any("sigma_l1" in str(w.message) for w in heard)
    assert warned == (found == "no" or "differ in size" in why)


def test_weights_need_variation_within_groups() -> None:
    table = crossed(30, 3, 15)
    weights = "weights by a variable"
    assert answer(rmm.look(table, "m", "g"), weights)[0] == "no"
    flat = table.assign(size=table["g"] % 4)
    assert answer(rmm.look(flat, "m", "g"), weights)[0] == "no"
    varied = table.assign(seats=np.where(table["g"] < 15, table.index, 1))
    assert answer(rmm.look(varied, "m", "g"), weights) == (
        "yes",
        "These vary within groups (share of the groups): `seats` (50%).",
    )
    assert answer(rmm.look(nested([1] * 12), "m", "g"), weights)[0] == "no"


def test_a_mean_that_is_the_same_in_all_groups_has_no_effect() -> None:
    table = crossed(30, 3, 15)
    effect = "effect of members' covariates"
    shares = table.assign(share=[0.5, 0.3, 0.2] * 30)
    assert answer(rmm.look(shares, "m", "g"), effect)[0] == "no"
    both = shares.assign(x=table["m"] * 1.0)
    assert answer(rmm.look(both, "m", "g"), effect)[0] == "partly"
    assert "`share`" in answer(rmm.look(both, "m", "g"), effect)[1]
    assert answer(rmm.look(both.drop(columns="share"), "m", "g"), effect)[0] == "yes"


def test_mean_and_sum_differ_only_if_sizes_do() -> None:
    assert answer(rmm.look(crossed(20, 3, 9), "m", "g"), "mean or sum")[0] == "no"
    assert answer(rmm.look(nested([1, 2] * 9), "m", "g"), "mean or sum")[0] == "yes"


def test_sets_and_single_members() -> None:
    seen = rmm.look(SMALL, "m", "g")
    assert answer(seen, "members of different sets")[0] == "partly"
    assert "4 members are in one group only. 2 members" in answer(seen, "the effect of each")[1]
    whole = rmm.look(crossed(60, 3, 8), "m", "g")
    assert not [a for a in whole.answers if a.what.startswith("members of different sets")]


def test_ids_in_the_wrong_order_are_suspected() -> None:
    table = SMALL.drop(columns=["x", "s"])
    assert answer(rmm.look(table, "m", "g"), "outcome")[0] == "yes"
    found, why = answer(rmm.look(table, "g", "m"), "outcome")
    assert found == "no"
    assert "`y` has one value per `g`. Are the ids in the wrong order?" in why


def test_nesting_units_are_found() -> None:
    table = crossed(40, 3, 15)
    table["country"] = table["g"].map(lambda g: f"country {g % 8}")
    table["name"] = table["g"].map(lambda g: f"group {g}")
    assert answer(rmm.look(table, "m", "g"), "effects of nesting units") == (
        "yes",
        "Of these columns: `country` (8 units).",
    )


def test_rows_that_are_no_membership_are_counted_and_left_out() -> None:
    table = pd.concat([SMALL, SMALL.head(2)], ignore_index=True)
    table["m"] = table["m"].where(table.index != 5)
    table["g"] = table["g"].astype("Int64").where(table.index != 4)
    seen = rmm.look(table, "m", "g")
    m = seen.memberships
    assert (m.without_member, m.without_group, m.repeated) == (1, 1, 2)
    assert (len(m.member), m.groups.tolist(), m.members.tolist()) == (4, [1, 2], ["a", "b", "c"])
    assert [note[:12] for note in seen.notes] == ["1 row has no", "1 row has no", "2 rows repea"]


def test_missing_values_are_counted_by_group() -> None:
    table = SMALL.assign(x=SMALL["x"].where(~SMALL.index.isin([0, 1, 4])), none=None)
    facts = rmm.look(table, "m", "g").facts
    assert facts.loc["x", ["missing", "incomplete"]].tolist() == [3, 2]
    assert facts.loc["none", ["level", "missing"]].tolist() == ["unusable", 6]
    assert "3 in 2 groups" in str(rmm.look(table, "m", "g"))


def test_what_looks_wrong_is_noted() -> None:
    def notes(table: Any, member: str = "m", group: str = "g") -> str:
        return " ".join(rmm.look(table, member, group).notes)

    assert notes(SMALL) == ""
    decimals = SMALL.assign(m=[1.1, 1.2, 1.1, 1.3, 1.4, 1.5])
    assert "1.1 and 1.10 have become the same id" in notes(decimals)
    assert "differ only in blanks" in notes(SMALL.assign(m=["a", "b", "a ", "c", "d", "e"]))
    assert "the text 'nan'" in notes(SMALL.assign(m=["a", "nan", "a", "c", "d", "e"]))
    cells = pd.DataFrame({"g": range(4), "m": ["a;b", "b;c", "a;c", "b;a"]})
    assert "seem to be several members in one cell" in notes(cells)
    slots = pd.DataFrame({"g": [1, 1, 2, 2, 3, 3], "m": [0, 4, 0, 5, 0, 6]})
    assert "Member 0 is in 3 of 3 groups" in notes(slots)
    assert notes(slots.assign(m=[7, 4, 7, 5, 7, 6])) == ""


@pytest.mark.parametrize(
    ("first", "second"), [("company", "company2"), ("party1", "party2"), ("id_1_x", "id_2_x")]
)
def test_a_wide_table_is_recognised(first: str, second: str) -> None:
    wide = pd.DataFrame({"g": range(6), first: [1, 2, 3, 1, 2, 3], second: [2, 3, 1, 3, 1, 2]})
    (note,) = rmm.look(wide, first, "g").notes
    assert f'rmm.to_long(data, members=["{first}", "{second}"], group="g")' in note
    with pytest.warns(rmm.SpecificationWarning, match=f'members=\\["{first}", "{second}"\\]'):
        rmm.fit(
            f"y ~ 1 + mm(id({first}, g), RE = TRUE)",
            wide.assign(y=[1.0, 2, 3, 2, 1, 2]),
            backend="fake",
            progress=False,
        )


STRANGE: dict[str, dict[str, Any]] = {
    "ids are floats": {"g": [1.0, 1, 2, 2, 3, 3], "m": [10.0, 20, 10, 30, 20, 30]},
    "ids are categories": {"m": pd.Categorical(list("abacde"))},
    "ids are dates": {"g": pd.to_datetime(["2001-01-01", "2002-01-01", "2003-01-01"] * 2)},
    "groups of size one": {"g": range(6)},
    "one group, one member": {"g": 1, "m": "a"},
    "lists": {"x": [[1], [2], [3], [4], [5], [6]]},
    "complex": {"x": [1 + 2j] * 6},
    "too large": {"x": [10**400, 1, 2, 3, 4, 5]},
    "mixed": {"x": [1, "a", 2.5, None, "b", 3]},
    "infinite": {"x": [1, np.inf, 2, 3, 4, 5]},
    "large": {"x": [1e300, -1e300, 1e299, 0, 1, 2]},
    "numbers as text": {"x": ["1,5", "2,5", "3", "4", "5", "6"]},
    "dates and none": {"x": pd.to_datetime(["2001-01-01", None] * 3)},
    "periods": {"x": pd.period_range("2001", periods=6, freq="Y")},
    "nothing": {"x": [None] * 6},
}


@pytest.mark.parametrize("columns", STRANGE.values(), ids=list(STRANGE))
def test_strange_tables_are_described(columns: dict[str, Any]) -> None:
    seen = rmm.look(SMALL.assign(**columns), "m", "g")
    text = str(seen)
    assert "What can be estimated" in text
    assert seen._repr_html_().startswith("<pre>")
    for name in ("y", "s"):
        assert name in text
    figure = seen.plot()
    assert figure._repr_png_()  # type: ignore[attr-defined]


def test_values_that_no_model_takes_are_said_to_be_so() -> None:
    facts = {
        name: rmm.look(SMALL.assign(**columns), "m", "g").facts.loc["x", ["level", "holds"]]
        for name, columns in STRANGE.items()
        if "x" in columns
    }
    assert facts["lists"].tolist() == ["unusable", "values of type list"]
    assert facts["complex"]["holds"].startswith("complex numbers")
    assert facts["too large"]["holds"] == "whole numbers that are too large"
    assert facts["infinite"]["holds"] == "numbers, some infinite"
    assert facts["numbers as text"]["holds"].endswith("(a decimal comma)")
    assert facts["periods"]["holds"] == "dates, 2001 to 2006"
    assert facts["nothing"].tolist() == ["unusable", "no values"]


def test_names_in_any_script_stay_in_their_columns() -> None:
    renamed = SMALL.rename(columns={"m": "имя члена", "g": "政党 グループ", "x": "得票 率"})
    text = str(rmm.look(renamed.assign(**{"\x1b[31m": SMALL["y"]}), "имя члена", "政党 グループ"))
    assert "\x1b" not in text
    assert "`имя члена`" in text
    (line,) = [line for line in text.splitlines() if line.startswith("得票 率")]
    head = next(line for line in text.splitlines() if line.startswith("variable"))
    # Three characters of the name take two places each.
    assert line.index("member") + 3 == head.index("level")


def test_one_group_is_enough_for_facts_but_for_no_model() -> None:
    seen = rmm.look(SMALL.assign(g=1), "m", "g")
    assert [(a.what, a.answer) for a in seen.answers] == [("any model", "no")]
    assert seen.memberships.repeated == 1


@pytest.mark.parametrize(
    ("member", "group", "table", "match"),
    [
        ("M", "g", SMALL, "no column `M`. Did you mean `m`"),
        ("m", "m", SMALL, "are the same column, `m`"),
        ("m", "g", SMALL.iloc[:0], "has no rows"),
        ("m", "g", SMALL.assign(m=None), "`m` is missing in 6 and `g` in 0 of 6 rows"),
        ("m", "g", SMALL.assign(m=[1, "a"] * 3), "ids of types int and str"),
        ("m", "g", SMALL.assign(m=[1e17, 2e17] * 3), "so large"),
        ("m", "g", 5, "cannot be of type `int`"),
        (1, "g", SMALL, "`member` must be the name of a column, not 1"),
        ("m", "g", ROOT / "no such.csv", "does not exist"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    member: Any, group: str, table: Any, match: str
) -> None:
    with pytest.raises(rmm.DataError, match=match):
        look(table, member, group)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".dta", ".csv.gz"])
def test_files_are_read_as_for_a_fit(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "my data (ä)"
    folder.mkdir()
    path = folder / f"the table{ending}"
    table = SMALL.drop(columns="one")
    if ending == ".parquet":
        table.to_parquet(path)
    elif ending == ".dta":
        table.to_stata(path, write_index=False)
    else:
        table.to_csv(path, index=False)
    seen = rmm.look(str(path), "m", "g")
    assert str(seen).startswith(f"the table{ending}: 6 rows, 6 memberships")
    pd.testing.assert_frame_equal(seen.facts, rmm.look(table, "m", "g").facts)


def test_texts_for_missing_values_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    SMALL.assign(m=["a", "?", "a", "c", "d", "e"]).to_csv(path, index=False)
    assert rmm.look(path, "m", "g").memberships.without_member == 0
    assert rmm.look(path, "m", "g", na=["?"]).memberships.without_member == 1


# --- the picture ----------------------------------------------------------------------------------


def links(figure: Any) -> np.ndarray[Any, Any]:
    (found,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    return np.array(found.get_segments())


def test_the_picture_links_every_member_with_its_groups() -> None:
    seen = rmm.look(SMALL, "m", "g")
    figure = seen.plot()
    net, sizes, spread = figure.axes
    assert net.get_title(loc="left") == "3 groups, 5 members, 2 sets that share no member"
    members, groups = (c.get_offsets() for c in net.collections[1:])
    assert (len(members), len(groups)) == (5, 3)
    drawn = {
        (int(np.argmin(np.hypot(*(groups - a).T))), int(np.argmin(np.hypot(*(members - b).T))))
        for a, b in links(figure)
    }
    m = seen.memberships
    assert drawn == set(zip(m.group.tolist(), m.member.tolist(), strict=True))
    assert {text.get_text() for text in net.texts} == {"1", "2", "3", "a", "b", "c", "d", "e"}
    assert [bar.get_height() for bar in sizes.patches] == [3]
    assert [bar.get_height() for bar in spread.patches] == [4, 1]
    assert (spread.get_xlabel(), spread.get_ylabel()) == ("groups of a member", "members")


def test_places_differ_and_sets_do_not_overlap() -> None:
    seen = rmm.look(nested([4] * 9), "m", "g").memberships
    place = network_figure.places(seen, 9)
    apart = np.linalg.norm(place[:, None] - place[None], axis=2) + 9 * np.eye(len(place))
    assert apart.min() > 0.2
    boxes = [
        (place[seen.sets == k].min(axis=0), place[seen.sets == k].max(axis=0)) for k in range(9)
    ]
    for (low, high), (other_low, other_high) in itertools.combinations(boxes, 2):
        assert (high < other_low).any() or (other_high < low).any()


def test_a_large_table_shows_its_largest_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_figure, "_DRAWN", 40)
    table = nested([5] * 30)
    table["m"] = np.where(table["g"] < 4, table["m"] % 5, table["m"])
    figure = rmm.look(table, "m", "g").plot()
    title = figure.axes[0].get_title(loc="left")
    assert title.endswith("27 sets that share no member, the largest 6 drawn")
    assert len(links(figure)) == 20 + 5 * 5
    assert np.isfinite(links(figure)).all()


def test_one_large_set_is_a_matrix_with_memberships_near_the_diagonal() -> None:
    """Groups in a chain, each with two members of the next, in an order that hides it."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(600), 3)
    member = group + np.tile([0, 1, 2], 600)
    hidden = pd.DataFrame({"g": rng.permutation(600)[group], "m": rng.permutation(602)[member]})
    seen = rmm.look(hidden, "m", "g")
    figure = seen.plot()
    assert figure.axes[0].get_ylabel().startswith("groups, those with common members")
    at = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert len(at) == 1800
    assert np.abs(at[:, 0] - at[:, 1]).max() <= 4
    m = seen.memberships
    rank_g, rank_m = network_figure.side_by_side(m)
    assert sorted(rank_g) == list(range(600)) and sorted(rank_m) == list(range(602))


@pytest.mark.parametrize("file", ["coalgov_bml", "schoolnets_edges", "wage1_wide"])
def test_real_tables_are_described(file: str) -> None:
    path = shared_file("data", f"{file}.parquet")
    if file == "coalgov_bml":
        seen = rmm.look(path, "pid", "gid")
        m = seen.memberships
        assert (len(m.groups), len(m.members), len(m.member)) == (628, 312, 2077)
        levels = seen.facts["level"]
        assert levels[["dur_wkb", "finance", "pseat", "cname"]].tolist() == [
            "group", "member", "membership", "member and group",
        ]  # fmt: skip
        assert answer(seen, "effects of nesting units")[1].endswith("`cname` (29 units).")
    elif file == "schoolnets_edges":
        seen = rmm.look(path, "youthid_to", "youthid_from")
        assert (len(seen.memberships.groups), len(seen.memberships.member)) == (4814, 18314)
        assert answer(seen, "outcome")[0] == "no"
    else:
        seen = rmm.look(path, "company", "id")
        assert '"company", "company2", "company3", "company4"' in seen.notes[0]


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ([1, 2, 3, 4], True),
        ([0, 1, 2, 0], True),
        ([1.0, 2.0, 3.0, 3.0], True),
        ([0, 1, 0, 1], False),
        ([2, 3, 4, 5], False),
        ([1, 2, 4, 4], False),
        ([1.5, 2, 3, 4], False),
        (["1a", "b", "c", "d"], False),
    ],
)
def test_codes_of_categories_are_asked_for(values: list[Any], asked: bool) -> None:
    table = crossed(40, 2, 9).assign(code=lambda t: np.array(values, dtype=object)[t["g"] % 4])
    seen = rmm.look(table.infer_objects(), "m", "g")
    assert any("write factor(code)" in note for note in seen.notes) == asked
    assert str(seen).index("What can be estimated") > str(seen).find("Please check")


def test_the_advice_for_a_wide_table_makes_it_long(tmp_path: Path) -> None:
    wide = pd.DataFrame({"g": range(6), "p1": list("abcabc"), "p2": list("bcacab")})
    wide = wide.assign(s1=0.5, s2=0.25, y=1.5)
    wide.to_csv(tmp_path / "wide.csv", index=False)
    (note,) = rmm.look(tmp_path / "wide.csv", "p1", "g").notes
    given = 'members=["p1", "p2"], group="g", covariates={"s": ["s1", "s2"]}'
    assert note.endswith(f'make a long one: rmm.to_long("wide.csv", {given}).')
