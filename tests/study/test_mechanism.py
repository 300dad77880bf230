"""Facts about simulated data, against other ways to compute them and against wrong targets."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from rmm.cli import main
from rmm.errors import StudyError
from rmm.study import Study, load_study
from rmm.study.planning.mechanism import Fact, Mechanism, look
from rmm.study.run.replicate import draw_replication

CONFIG: dict[str, Any] = {
    "seed": 3,
    "replications": 10,
    "membership": {
        "kind": "synthetic",
        "groups": 80,
        "members": 40,
        "size": {"distribution": "uniform", "low": 2, "high": 5},
        "overlap": 0.6,
        "units": 4,
    },
    "covariates": {
        "x": {"level": "member", "mean": 2, "sd": 3},
        "d": {"level": "group", "distribution": "binary", "probability": 0.2},
        "power": {"level": "membership", "icc": 0.5},
    },
    "truth": {
        "formula": "Surv(time, event) ~ 1 + d + mm(id(member, group), vars(x), "
        "fn(w ~ 1/(1 + (n-1)*exp(-(b1*power)))), RE = TRUE) + hm(id = nesting)",
        "family": "weibull",
        "parameters": {
            "b_l2[Intercept]": 0,
            "b_l2[d]": 0.5,
            "b_l1[x]": 0.3,
            "b_w[b1]": 1,
            "sigma_l1": 0.8,
            "sigma_l3": 0.4,
            "shape": 1.5,
        },
        "censoring": {"share": 0.3},
    },
    "methods": [{"name": "agg", "kind": "aggregation"}],
}


def load(folder: Path, **changes: Any) -> Study:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(CONFIG), **changes}, sort_keys=False))
    return load_study(path)


def by_name(found: Mechanism) -> dict[str, Fact]:
    return {fact.what: fact for fact in found.facts}


def test_facts_are_those_of_the_tables(tmp_path: Path) -> None:
    """Computed from the tables that methods see, with pandas and without the simulator's arrays."""
    study = load(tmp_path)
    found = by_name(look(study, 2))
    rows = []
    for replication in (1, 2):
        table = draw_replication(study.seed, study.scenarios[0], replication).frame()
        groups = table.groupby("group")
        members = table.groupby("member")["group"].nunique()
        sets = [set(part["member"]) for _, part in groups]
        common = np.mean([bool(a & b) for a, b in itertools.combinations(sets, 2)])
        first = groups.first()
        rows.append(
            {
                "groups": len(sets),
                "members": len(members),
                "members of a group": len(table) / len(sets),
                "groups of a member": members.mean(),
                "members in more than one group": (members > 1).mean(),
                "pairs of groups with a common member": common,
                "seats filled from the pool": (table["member"] <= 40).mean(),
                "mean of power": table["power"].mean(),
                "variance of d": first["d"].var(),
                "median duration": first["time"].median(),
                "share censored": 1 - first["event"].mean(),
            }
        )
    expected = pd.DataFrame(rows)
    for name in expected:
        assert found[name].mean == pytest.approx(expected[name].mean()), name
        assert found[name].sd == pytest.approx(expected[name].std(), abs=1e-12), name


def test_targets_are_what_the_file_asks_for(tmp_path: Path) -> None:
    found = by_name(look(load(tmp_path), 2))
    asked = {
        "groups": 80,
        "members of a group": 3.5,
        "seats filled from the pool": 0.6,
        "mean of x": 2,
        "variance of x": 9,
        "mean of d": 0.2,
        "variance of d": 0.16,
        "intra-class correlation of power": 0.5,
        "variance from u_l3": 0.16,
        "share censored": 0.3,
        "members": None,
        "variance explained by covariates": None,
    }
    assert {name: found[name].target for name in asked} == pytest.approx(asked)
    assert 0 < (found["variance from u_l1"].target or 0) < 0.64


def test_means_come_to_their_targets(tmp_path: Path) -> None:
    """400 data sets: within 4 Monte Carlo errors (13 compared: a false alarm in 1 of 1,200)."""
    found = look(load(tmp_path), 400)
    compared = [fact for fact in found.facts if fact.target is not None]
    assert len(compared) == 13
    for fact in compared:
        assert fact.distance() < 4, fact
    assert found.off() == []


@pytest.mark.parametrize(
    ("part", "change", "what"),
    [
        ("membership", {"overlap": 0.7}, "seats filled from the pool"),
        ("covariates", {"x": {"mean": 3}}, "mean of x"),
        ("covariates", {"power": {"icc": 0.3}}, "intra-class correlation of power"),
        ("truth", {"censoring": {"share": 0.35}}, "share censored"),
        ("membership", {"groups": 81}, "groups"),
    ],
)
def test_what_is_not_as_asked_is_marked(
    tmp_path: Path, part: str, change: dict[str, Any], what: str
) -> None:
    """The file asks for one thing, the data are drawn by another."""
    study = load(tmp_path)
    scenario = study.scenarios[0]
    content = copy.deepcopy(dict(scenario.content))
    for key, value in change.items():
        if isinstance(value, dict):
            content[part][key] |= value
        else:
            content[part][key] = value
    wrong = replace(study, scenarios=(replace(scenario, content=content),))
    assert what in [fact.what for fact in look(wrong).off()]


def test_what_is_drawn_once_has_no_expectation(tmp_path: Path) -> None:
    membership = {**CONFIG["membership"], "redraw": False}
    found = by_name(look(load(tmp_path, membership=membership), 3))
    assert found["members of a group"].sd == 0
    assert found["members of a group"].mean != 3.5
    assert found["members of a group"].distance() == 0


def test_the_command_marks_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vary = {"overlap": {"path": "membership.overlap", "values": [0.0, 1.0]}}
    study = load(tmp_path, vary=vary)
    asked = ["study", "look", str(study.file), "--draws", "3"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "2 scenarios, 3 data sets each" in said
    assert "overlap 0.0" in said and "0 to 1" in said
    assert main([*asked, "--scenario", study.scenarios[1].id, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert {fact["scenario"] for fact in facts} == {study.scenarios[1].id}
    assert main([*asked, "--scenario", "s0"]) == 2
    assert "'s0' is not a scenario of this study" in capsys.readouterr().err
    with pytest.raises(StudyError, match="is not a scenario"):
        look(study, 3, "s0")
    assert main(["study", "look", str(study.file), "--draws", "1"]) == 2
    assert "--draws must be at least 2" in capsys.readouterr().err


def test_every_shipped_study_is_as_its_file_says() -> None:
    """Seeds are fixed; with others one study in a hundred would have a marked row."""
    from tests import ROOT

    names = ("quickstart", "closed_form_3_aggregation_bias", "three_way_contrast", "parity_cox")
    for name in names:
        study = load_study(ROOT / "config" / "studies" / f"{name}.yaml", root=ROOT)
        assert look(study).off() == [], name
