"""A twentieth of `make attack`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.attack import Attack
from tests.attack.__main__ import ARSENAL, broken_cases

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("attack", ARSENAL, ids=lambda a: a.name)
def test_nothing_breaks(attack: Attack, tmp_path: Path) -> None:
    assert broken_cases(attack, max(1, attack.number // 20), 1, tmp_path) == []


def test_what_breaks_is_counted(tmp_path: Path) -> None:
    broken = Attack("broken", 3, lambda draw, folder: islice(iter(["", "one", "", "two"]), 4))
    assert broken_cases(broken, 3, 1, tmp_path) == ["one"]


def test_the_table_of_security_is_of_this_arsenal() -> None:
    """Attacks without a line have not been run in full."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    table = text.partition("| attack | tried | broken |\n|---|---|---|\n")[2].partition("\n\n")[0]
    known = {f"| {attack.name} | {attack.number:,} | 0 |" for attack in ARSENAL}
    assert table.splitlines()
    assert set(table.splitlines()) <= known
