"""Study files: what is shipped, mutated in every way that YAML knows, is read or refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from rmm.study import load_study
from tests import ROOT
from tests.fuzzing import (
    FEW,
    HOSTILE,
    MANY,
    hostile_texts,
    only_messages,
    prior_texts,
    weight_texts,
)

FILES = [
    p
    for p in sorted((ROOT / "config" / "studies").glob("*.yaml"))
    if "../shared" not in p.read_text(encoding="utf-8")
]
TEXTS = [p.read_text(encoding="utf-8") for p in FILES]
#: Three small ones: a mutated file is often in order, and is then checked to the end.
TREES = [yaml.safe_load(text) for text in sorted(TEXTS, key=len)[:3]]
EXAMPLES = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=pytest.mark.fuzz)], ids=["few", "many"]
)

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(HOSTILE),
    st.floats(),
    st.integers(),
    st.sampled_from((0, -1, 1, 2, 10**7, 10**15, 2**63, 2**64, 0.5, 1e308, 5e-324)),
    weight_texts,
    prior_texts,
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(HOSTILE) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_lines = st.sampled_from((
    "? [a, b]\n: 1\n", "!!python/object/apply:os.system ['id']\n", "a: &a [*a]\n", "<<: *none\n",
    "<<: 1\n", "x: !!int x\n", "x: !!float ''\n", "x: !!bool maybe\n", "x: !!binary '*'\n",
    "x: !!timestamp no\n", "x: 2020-02-31\n", "x: .nan\n", "x: -.inf\n", "x: 1:60:99\n", "---\n",
    "...\n", "%YAML 9.9\n", "\t", "x: 'a\n", "x: !!set {a, b}\n", "x: !!omap [a: 1]\n", "[" * 60,
    "x: " + "9" * 5000 + "\n", "x: 0x" + "f" * 5000 + "\n", "x: !<tag:yaml.org,2002:map> 1\n",
    "seed: 2\n", "- 1\n", "\x00", "\ufffe", "*x\n", "&x\n", "x: !\n", "{[: ]}\n", "? \n",
))  # fmt: skip


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))
    found = []
    for key, inner in pairs:
        found.append((tree, key))
        if isinstance(inner, dict | list):
            found += _places(inner)
    return found


@st.composite
def changed_trees(draw: st.DrawFn) -> str:
    """A shipped study in which some keys are dropped, renamed, exchanged or have other values."""
    tree = copy.deepcopy(draw(st.sampled_from(TREES)))
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(_places(tree) or [({}, "")]))
        match draw(st.sampled_from(("set", "drop", "rename", "add", "move", "text"))):
            case "set":
                container[key] = draw(_values)
            case "drop" if key in container or isinstance(container, list):
                del container[key]
            case "rename" if isinstance(container, dict) and key in container:
                container[draw(st.sampled_from(HOSTILE))] = container.pop(key)
            case "add" if isinstance(container, dict):
                container[draw(st.sampled_from(HOSTILE))] = draw(_values)
            case "move":
                other, place = draw(st.sampled_from(_places(tree) or [({}, "x")]))
                if key in container if isinstance(container, dict) else key < len(container):
                    other[place] = copy.deepcopy(container[key])
            case "text" if isinstance(container, dict) and isinstance(container.get(key), str):
                container[key] = draw(hostile_texts(st.just(container[key])))
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


@st.composite
def changed_texts(draw: st.DrawFn) -> str:
    """The text of a shipped study, cut and spliced, with lines of YAML's stranger parts."""
    text = draw(hostile_texts(st.sampled_from(TEXTS)))
    lines = text.splitlines(keepends=True)
    for _ in range(draw(st.integers(0, 2))):
        lines.insert(draw(st.integers(0, len(lines))), draw(_lines))
    return "".join(lines)


def read(path: Path, text: str) -> None:
    """Read and check a study as `rmm study check` does."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    load_study(path, root=ROOT)


@pytest.mark.thorough
@EXAMPLES
@pytest.mark.parametrize("made", [changed_trees(), changed_texts()], ids=["trees", "texts"])
def test_studies(made: st.SearchStrategy[str], examples: int, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    only_messages(made, lambda text: read(path, text), examples, seconds=10.0)
