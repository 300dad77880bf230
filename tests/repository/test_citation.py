"""CITATION.cff and the page on how to cite name the present version and each other's title."""

from __future__ import annotations

import yaml

import rmm
from tests import ROOT

ENTRY = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PAGE = " ".join((ROOT / "docs" / "start" / "cite.md").read_text(encoding="utf-8").split())


def test_required_keys_of_the_format() -> None:
    """Those that version 1.2.0 of the Citation File Format requires, type and licence."""
    assert ENTRY["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(ENTRY)
    assert (ENTRY["type"], ENTRY["license"]) == ("software", "MIT")


def test_the_version_is_that_of_the_package() -> None:
    assert str(ENTRY["version"]) == rmm.__version__
    assert f"version = {{{rmm.__version__}}}" in PAGE
    assert f"Version {rmm.__version__}." in PAGE


def test_the_page_has_the_title_and_the_paper() -> None:
    assert ENTRY["title"].split(": ", 1)[1] in PAGE.replace("> ", "")
    assert ENTRY["references"][0]["title"].split(":")[0] in PAGE
