"""Resampled tables, sizes of a table, neighbours with movers, overlap in numbers."""

from __future__ import annotations

import copy
import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import rmm.simulation
from rmm.cli import main
from rmm.simulation import RecipeError, simulate
from rmm.simulation.memberships.overlap import overlap_facts, overlap_text
from rmm.simulation.memberships.structures import prepare_membership
from rmm.study import load_study
from rmm.study.run.replicate import draw_replication

NEIGHBOURS: dict[str, Any] = {
    "kind": "neighbours",
    "members": 20,
    "groups_per_member": 30,
    "mobility": 0.25,
}
TABLE = pd.DataFrame(
    {
        "group": [1, 1, 2, 2, 2, 3, 4, 4],
        "member": ["a", "b", "a", "c", "d", "b", "d", "e"],
        "nesting": [1, 1, 1, 1, 1, 2, 2, 2],
        "x": [1.0, 2, 1, 3, 4, 2, 4, 5],  # of members
        "z": [10.0, 10, 20, 20, 20, 30, 40, 40],  # of groups
    }
)
SIZES = {1: 2, 2: 3, 3: 1, 4: 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables")
    TABLE.to_csv(path / "table.csv", index=False)
    return path


def drawn(folder: Path, seed: int = 1, **config: Any) -> Any:
    whole = {"kind": "empirical", "file": "table.csv", "nesting": "nesting", **config}
    draw, fixed = prepare_membership(whole, folder)
    assert not fixed
    return draw(np.random.default_rng(seed))


# -- resampled -------------------------------------------------------------------------------


def test_groups_are_resampled_whole_with_rows_and_columns(folder: Path) -> None:
    m = drawn(folder, resample="groups", groups=200)
    assert m.group_labels.tolist() == list(range(1, 201))
    originals = {g: rows.drop(columns="group") for g, rows in TABLE.groupby("group")}
    for group in range(200):
        rows = slice(m.start[group], m.start[group + 1])
        original = originals[m.columns["z"][rows][0] / 10]
        assert m.member_labels[m.member[rows]].tolist() == original["member"].tolist()
        assert m.columns["x"][rows].tolist() == original["x"].tolist()
        assert m.nesting_labels[m.nesting[group]] == original["nesting"].iloc[0]


def test_resampled_groups_have_the_tables_distribution(folder: Path) -> None:
    """Each of 4 groups within 4.5 binomial errors of 1/4: false alarm below 1e-4."""
    m = drawn(folder, resample="groups", groups=20_000)
    share = np.bincount(m.columns["z"][m.start[:-1]].astype(int) // 10, minlength=5)[1:] / 20_000
    assert (np.abs(share - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / 20_000)).all()
    assert len(drawn(folder, resample="groups").start) - 1 == 4


def test_nesting_units_are_resampled_with_all_their_groups(folder: Path) -> None:
    m = drawn(folder, resample="nesting", units=50)
    assert m.counts["nesting"] == 50
    for unit in range(50):
        groups = np.flatnonzero(m.nesting == unit)
        z = m.columns["z"][m.start[:-1][groups]].tolist()
        assert z in ([10, 20], [30, 40])
    assert len(m.group_labels) == 100
    # Members keep their identity: d is in both units of the table.
    data = pd.DataFrame({"member": m.member_labels[m.member], "unit": m.nesting[m.group]})
    assert set(data["member"]) == set("abcde")
    assert data[data["member"] == "d"]["unit"].nunique() == 50
    assert len(drawn(folder, resample="nesting").nesting_labels) == 2


def test_resampling_is_anew_in_each_replication_or_once(folder: Path) -> None:
    config = {"kind": "empirical", "file": "table.csv", "resample": "groups"}
    assert prepare_membership(config, folder)[1] is False
    assert prepare_membership({**config, "redraw": False}, folder)[1] is True
    assert drawn(folder, 1, resample="groups", groups=30).member.tolist() != (
        drawn(folder, 2, resample="groups", groups=30).member.tolist()
    )


def test_levels_and_scales_are_those_of_the_whole_table(folder: Path) -> None:
    """Standardised by the table's mean and sd, whichever groups were drawn."""
    for seed in range(5):
        data = simulate(
            "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n), RE = FALSE)",
            {"b_l2[Intercept]": 0, "b_l2[z]": 0, "b_l1[x]": 0, "sigma_l2": 1},
            membership={
                "kind": "empirical",
                "file": "table.csv",
                "resample": "groups",
                "groups": 2,
            },
            covariates={
                "x": {"column": "x", "standardize": True, "level": "member"},
                "z": {"column": "z", "level": "group"},
            },
            seed=seed,
            root=folder,
        ).data
        x = TABLE.set_index("member")["x"]
        expected = (x - x.mean()) / x.std(ddof=0)
        expected = expected[~expected.index.duplicated()]
        np.testing.assert_allclose(data["x"], expected[data["member"]])
        assert set(data["z"]) <= {10, 20, 30, 40}


def test_sizes_of_a_real_table(folder: Path) -> None:
    """1, 2, 2, 3: the share of size 2 is 1/2, within 4.5 binomial errors."""
    size = {"distribution": "empirical", "file": "table.csv"}
    config = {"kind": "synthetic", "groups": 8000, "members": 40, "size": size}
    m = prepare_membership(config, folder)[0](np.random.default_rng(1))
    share = np.bincount(m.size, minlength=4)[1:] / 8000
    expected = np.array([1, 2, 1]) / 4
    assert (np.abs(share - expected) < 4.5 * np.sqrt(expected * (1 - expected) / 8000)).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"resample": "rows"}, r"'rows' is not something that can be resampled.*groups, nesting"),
        ({"resample": "groups", "units": 3}, r"`units` cannot be used with `resample: groups`"),
        (
            {"resample": "nesting", "groups": 3},
            r"`groups` cannot be used with `resample: nesting`\.\n.*`units`",
        ),
        (
            {"resample": "nesting", "nesting": None},
            r"membership\.resample: .* no nesting units",
        ),
        ({"groups": 3}, r"`groups` can be used only with `resample`"),
        ({"redraw": True}, r"`redraw` can be used only with `resample`"),
        ({"file": "none.csv"}, r"membership\.file: The file 'none\.csv' does not exist"),
        ({"member": "no"}, r"membership\.member: 'no' is not a column"),
    ],
)
def test_messages_about_tables(config: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        drawn(folder, **config)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"file": "none.csv"}, r"membership\.size\.file: .*'none\.csv' does not exist"),
        ({"file": "table.csv", "group": "no"}, r"membership\.size\.group: 'no' is not a column"),
        (
            {"file": "table.csv", "low": 1},
            r"membership\.size\.low: 'low' is not a key of this kind",
        ),
        ({}, r"membership\.size\.file: `file` is missing"),
    ],
)
def test_messages_about_sizes_of_a_table(size: dict[str, Any], message: str, folder: Path) -> None:
    config = {
        "kind": "synthetic",
        "groups": 9,
        "members": 9,
        "size": {"distribution": "empirical", **size},
    }
    with pytest.raises(RecipeError, match=message):
        prepare_membership(config, folder)


def test_an_unreadable_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(RecipeError, match=r"membership\.file: .*cannot be read"):
        prepare_membership({"kind": "empirical", "file": "broken.parquet"}, tmp_path)


# -- neighbours ------------------------------------------------------------------------------


@pytest.mark.parametrize("mobility", [0, 0.25, 0.5, 1])
def test_neighbours_have_homes_and_exactly_so_many_movers(mobility: float) -> None:
    draw, _ = prepare_membership({**NEIGHBOURS, "mobility": mobility}, Path())
    m = draw(np.random.default_rng(3))
    first = m.columns["first"]
    assert len(m.size) == 600
    assert (m.size == 2).sum() == round(mobility * 600)
    assert (first == 1).sum() == 600
    assert np.bincount(m.member[first == 1]).tolist() == [30] * 20
    home = np.empty(600, dtype=int)
    home[m.group[first == 1]] = m.member[first == 1]
    away = (m.member - home[m.group]) % 20
    assert set(away[first == 0]) <= {1, 19}
    inside = np.diff(m.member)[np.diff(m.group) == 0]
    assert (inside > 0).all()  # canonical order: by group, then member


def test_movers_go_either_way_alike() -> None:
    """Within 4.5 binomial errors of one half."""
    draw, _ = prepare_membership({**NEIGHBOURS, "groups_per_member": 500}, Path())
    m = draw(np.random.default_rng(4))
    home = np.repeat(np.arange(20), 500)
    step = (m.member - home[m.group])[m.columns["first"] == 0] % 20
    assert abs(np.mean(step == 1) - 0.5) < 4.5 * 0.5 / np.sqrt(2500)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"members": 2}, r"membership\.members: The value is 2\.\n.*At least 3"),
        ({"mobility": None}, r"membership\.mobility: `mobility` is missing"),
        ({"overlap": 1}, r"membership\.overlap: 'overlap' is not a key of this kind"),
    ],
)
def test_messages_about_neighbours(config: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prepare_membership({**NEIGHBOURS, **config}, Path())


STUDY: dict[str, Any] = {
    "seed": 5,
    "replications": 3,
    "batch": 3,
    "membership": NEIGHBOURS,
    "covariates": {"first": {"column": "first"}},
    "truth": {
        "formula": "y ~ 1 + mm(id(member, group), vars = NULL, fn(w ~ 1/n), RE = TRUE)",
        "parameters": {"b_l2[Intercept]": 1, "sigma_l1": 1, "sigma_l2": 1.5},
    },
    "methods": [
        {"name": "all", "kind": "mm", "backend": "jags"},
        {"name": "first", "kind": "mm", "backend": "jags", "weights": "w ~ first"},
    ],
    "vary": {"mobility": {"path": "membership.mobility", "values": [0, 0.5]}},
}


def test_an_analysis_may_know_the_first_membership_only(tmp_path: Path) -> None:
    """Weights of the truth are 1/n, those of the analysis 1 at home and 0 elsewhere."""
    from rmm.design.prepare import prepare

    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    study = load_study(path)
    scenario = study.scenarios[1]
    data = draw_replication(study.seed, scenario, 1).frame()
    for method, expected in (
        ("all", 1 / data.groupby("group")["y"].transform("size")),
        ("first", data["first"]),
    ):
        model = prepare(study.method(method).formula(scenario.recipe), data)
        np.testing.assert_allclose(model.design.members[0].weight, expected)


def test_home_and_neighbour_share_the_member_effect_by_half(tmp_path: Path) -> None:
    """Without noise a mover's outcome is the mean of its two members' effects."""
    data = simulate(
        STUDY["truth"]["formula"],
        {"b_l2[Intercept]": 0, "sigma_l1": 1, "sigma_l2": 0},
        membership=NEIGHBOURS,
        seed=6,
    ).data
    size = data.groupby("group")["y"].transform("size")
    effect = data[size == 1].groupby("member")["y"].first()
    movers = data[size == 2]
    expected = movers["member"].map(effect).groupby(movers["group"]).mean()
    np.testing.assert_allclose(movers.groupby("group")["y"].first(), expected)


# -- addresses of files, overlap, command line -----------------------------------------------


def test_a_table_of_sizes_is_addressed_by_its_bytes(tmp_path: Path, folder: Path) -> None:
    def digest(file: str) -> str:
        config = copy.deepcopy(STUDY)
        size = {"distribution": "empirical", "file": file}
        config["membership"] = {"kind": "synthetic", "groups": 20, "members": 9, "size": size}
        config["covariates"], config["vary"] = {}, {}
        config["methods"] = config["methods"][:1]
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
        return load_study(tmp_path / "study.yaml", root=tmp_path).scenarios[0].digest

    TABLE.to_csv(tmp_path / "a.csv", index=False)
    TABLE.to_csv(tmp_path / "b.csv", index=False)
    TABLE[1:].to_csv(tmp_path / "c.csv", index=False)
    assert digest("a.csv") == digest("b.csv") != digest("c.csv")


def test_overlap_by_hand(folder: Path) -> None:
    draw, _ = prepare_membership(
        {"kind": "empirical", "file": "table.csv", "nesting": "nesting"}, folder
    )
    facts = overlap_facts(draw(np.random.default_rng(1)))
    assert facts == {
        "groups": 4,
        "members": 5,
        "memberships": 8,
        "nesting_units": 2,
        "size_mean": 2.0,
        "size_min": 1,
        "size_max": 3,
        "groups_per_member_mean": 1.6,
        "groups_per_member_min": 1,
        "groups_per_member_max": 2,
        "shared": 0.6,
    }
    text = overlap_text(facts)
    assert "4 groups in 2 nesting units, 5 members, 8 memberships" in text
    assert "members in more than one group: 60.0%" in text


def test_the_command_line_says_how_far_groups_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(yaml.safe_dump(STUDY))
    assert main(["simulate", "study.yaml", "--out", "data.csv"]) == 0
    told = capsys.readouterr()
    assert '"sigma_l2": 1.5' in told.out
    assert "600 groups, 20 members, 600 memberships" in told.err
    assert "members of a group: 1.00 on average, 1 to 1" in told.err
    assert "groups of a member: 30.00 on average, 30 to 30" in told.err
    assert main(["simulate", "study.yaml", "--replication", "0", "--out", "data.csv"]) == 2
    assert "--replication must be at least 1, not 0" in capsys.readouterr().err


def test_examples_of_the_docstring_run() -> None:
    failed, tried = doctest.testmod(rmm.simulation)
    assert (failed, tried > 8) == (0, True)
