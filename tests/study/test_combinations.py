"""Designs of studies: fractions, Latin hypercubes and lists, against what defines them."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmm.errors import StudyError
from rmm.study import Study
from tests.kills import load

VARY: dict[str, Any] = {
    "groups": {"path": "membership.groups", "values": [20, 40, 60, 80, 100]},
    "effect": {"path": "truth.parameters.b_l1[x]", "values": [0, 0.2, 0.4, 0.8]},
    "overlap": {"path": "membership.overlap", "values": [0.5, 1.0]},
    "sd": {"levels": {s: {"truth.parameters.sigma_l1": v} for s, v in (("a", 1), ("b", 2))}},
}


def design(folder: Path, vary: dict[str, Any], **said: Any) -> Study:
    return load(folder, vary=vary, design=said)


def cells(study: Study) -> list[tuple[Any, ...]]:
    return [tuple(s.factors.values()) for s in study.scenarios]


def test_a_full_design_is_the_default(tmp_path: Path) -> None:
    study = load(tmp_path, vary=VARY)
    assert len(study.scenarios) == 5 * 4 * 2 * 2
    assert cells(design(tmp_path, VARY, kind="full")) == cells(study)


@pytest.mark.parametrize("reduction", [2, 4])
def test_a_fraction_is_balanced(tmp_path: Path, reduction: int) -> None:
    """Of every factor all levels are there, about equally often; so are most pairs of levels."""
    study = design(tmp_path, VARY, kind="fraction", reduction=reduction)
    found = cells(study)
    assert len(set(found)) == len(found) == 80 // reduction
    whole = {s.id for s in load(tmp_path, vary=VARY).scenarios}
    assert {s.id for s in study.scenarios} < whole
    for place, factor in enumerate(VARY.values()):
        counts = Counter(cell[place] for cell in found)
        assert len(counts) == len(factor.get("values") or factor["levels"])
        assert max(counts.values()) - min(counts.values()) <= reduction / 2
    for a, b in itertools.combinations(range(4), 2):
        pairs = Counter((cell[a], cell[b]) for cell in found)
        assert max(pairs.values()) <= len(found) / 4 + 1


def test_a_latin_hypercube_uses_every_slice_once(tmp_path: Path) -> None:
    vary = {
        "icc": {"path": "covariates.x.mean", "range": [0.0, 1.0]},
        "groups": {"path": "membership.groups", "range": [20, 200], "log": True},
        "overlap": VARY["overlap"],
    }
    study = design(tmp_path, vary, kind="latin_hypercube", size=16)
    found = cells(study)
    assert sorted(int(cell[0] * 16) for cell in found) == list(range(16))
    groups = np.array([cell[1] for cell in found])
    assert all(isinstance(cell[1], int) for cell in found)
    # Evenly by logarithms: half of 16 values are below the geometric mean of the ends.
    assert np.sum(groups < np.sqrt(20 * 200)) == 8
    assert Counter(cell[2] for cell in found) == {0.5: 8, 1.0: 8}
    assert [s.content["membership"]["groups"] for s in study.scenarios] == list(groups)
    assert cells(design(tmp_path, vary, kind="latin_hypercube", size=16)) == found


def test_combinations_that_come_again_are_one_scenario(tmp_path: Path) -> None:
    vary = {name: VARY[name] for name in ("overlap", "sd")}
    study = design(tmp_path, vary, kind="latin_hypercube", size=64)
    assert sorted(cells(study)) == [(0.5, "a"), (0.5, "b"), (1.0, "a"), (1.0, "b")]


def test_a_list_has_what_it_names(tmp_path: Path) -> None:
    vary = {name: VARY[name] for name in ("effect", "sd")}
    named = [{"effect": 0.4, "sd": "b"}, {"sd": "a", "effect": 0}]
    study = design(tmp_path, vary, kind="list", scenarios=named)
    assert cells(study) == [(0.4, "b"), (0, "a")]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kind": "list"}, r"design\.scenarios.*is missing with `kind: list`"),
        ({"kind": "full", "size": 4}, r"design\.size.*is not used.*latin_hypercube"),
        ({"kind": "fraction", "reduction": 30}, r"design\.reduction.*cannot be divided by 30"),
        ({"kind": "list", "scenarios": [{"sd": "a"}]}, r"design\.scenarios\[0\].*effect have no"),
        (
            {"kind": "list", "scenarios": [{"sd": "c", "effect": 0}]},
            r"design\.scenarios\[0\]\.sd.*'c' is not a level of sd",
        ),
        (
            {"kind": "list", "scenarios": [{"sd": "a", "efect": 0}]},
            r"design\.scenarios\[0\]\.efect.*is not a factor of `vary`.*effect",
        ),
        ({"kind": "random"}, r"design\.kind.*'random'"),
    ],
)
def test_designs_that_do_not_fit_are_refused(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    vary = {name: VARY[name] for name in ("effect", "sd")}
    with pytest.raises(StudyError, match=f"(?s){message}"):
        design(tmp_path, vary, **said)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        ({"path": "membership.groups", "range": [20, 200]}, "kind full needs levels"),
        ({"path": "membership.groups", "range": [200, 20]}, "the smaller first"),
        ({"path": "covariates.x.mean", "range": [0, 2], "log": True}, "numbers above 0"),
        ({"path": "covariates.x.mean", "values": [1], "range": [0, 2]}, "Give either"),
    ],
)
def test_ranges_that_cannot_be_used_are_refused(
    tmp_path: Path, factor: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=rf"(?s)vary\.one.*{message}"):
        load(tmp_path, vary={"one": factor})


def test_a_search_of_sizes_needs_the_full_grid(tmp_path: Path) -> None:
    power = {"parameter": "b_l1[x]", "size": "groups", "search": {"low": 20, "high": 200}}
    vary = {name: VARY[name] for name in ("groups", "overlap")}
    with pytest.raises(StudyError, match=r"(?s)design.*power\.search.*kind: full"):
        load(tmp_path, vary=vary, power=power, design={"kind": "fraction", "reduction": 2})
