"""tools/supply-chain: which licences it allows, and for which packages it has exceptions."""

from __future__ import annotations

import importlib.util
import re
from importlib.machinery import SourceFileLoader
from types import ModuleType

import pytest

from tests import ROOT


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    loader = SourceFileLoader("supply_chain", str(ROOT / "tools" / "supply-chain"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT License", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("0BSD", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("BSD License; GNU General Public License (GPL); Public Domain", True),
        ("GPL-2.0-only", False),
        ("MIT AND GPL-3.0-or-later", False),
        ("Copyright Unlimited LIMITED", False),  # has the letters of MIT
        ("UNKNOWN", False),
    ],
)
def test_licences_are_known_by_whole_words(licence: str, allowed: bool, tool: ModuleType) -> None:
    assert tool.allowed(licence) == allowed


def test_exceptions_are_of_locked_packages(tool: ModuleType) -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", tool.LOCK.read_text(), flags=re.MULTILINE))
    assert set(tool.EXCEPTIONS) <= locked
    assert {"pip-licenses", "pip-audit", "cyclonedx-bom"} <= set(
        re.findall(r"^([a-z0-9-]+)==", tool.TOOLS.read_text(), flags=re.MULTILINE)
    )
