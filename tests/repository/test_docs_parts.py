"""Pictures and sentences of pages that come from kept results."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests import ROOT

sys.path.insert(0, str(ROOT / "docs"))
from site_parts import example_pictures, pages, speed_at_a_glance


def test_speed_has_a_sentence_for_each_measured_family() -> None:
    kept = pd.read_csv(ROOT / "benchmarks" / "results" / "coalitions_peers.csv")
    lines = speed_at_a_glance.sentences().splitlines()
    assert len(lines) == kept["family"].nunique() == len(speed_at_a_glance.FAMILIES)
    first = kept[(kept["family"] == "weibull") & (kept["program"] == "laplace")].iloc[0]
    line = next(line for line in lines if "weibull" in line)
    assert f"rmm {first['cpu_seconds']:.2f} s ({first['min_ess']:.0f} effective draws)" in line
    large = pd.read_csv(ROOT / "benchmarks" / "results" / "large_growth.csv")
    large = large[(large["family"] == "weibull") & (large["structure"] == "nations")]
    assert f"With {large['groups'].max():,} groups" in line


def test_programs_that_did_not_converge_are_marked() -> None:
    lost = [line for line in speed_at_a_glance.sentences().splitlines() if "not converged" in line]
    assert [("cox" in line, "condlogit" in line) for line in lost] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0723, "0.072 s"), (6.53, "6.5 s"), (3.0, "3.0 s"), (138.6, "139 s")]
)
def test_seconds(value: float, text: str) -> None:
    assert speed_at_a_glance.seconds(value) == text


def test_the_figure_of_speed_has_every_time() -> None:
    drawn = [text.get_text() for text in speed_at_a_glance.draw().axes[0].texts]
    assert sorted(drawn) == sorted(
        speed_at_a_glance.seconds(value) for value in speed_at_a_glance.fits()["cpu_seconds"]
    )


def test_every_picture_of_memberships_is_on_the_page() -> None:
    page = (ROOT / "docs" / "start" / "is-it-for-me.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"figures/(members_\w+)\.svg", page))
    assert shown == set(example_pictures.PICTURES)
    assert page.count(":alt:") == len(shown)


def test_shared_members_are_filled() -> None:
    """All but one member of the governments are in two of them; nested members are in one."""
    governments = example_pictures.PICTURES["members_governments"]
    assert [m for m in governments.members if not governments.shared(m)] == ["C"]
    nested = example_pictures.PICTURES["members_nested"]
    assert not any(map(nested.shared, nested.members))


def r_has(package: str) -> bool:
    """Whether R and a package of it can be used."""
    if not shutil.which("Rscript"):
        return False
    call = ["Rscript", "-e", f"quit(status = !requireNamespace('{package}', quietly = TRUE))"]
    return subprocess.run(call, capture_output=True, check=False).returncode == 0


@pytest.mark.thorough
def test_the_session_in_r_prints_the_table_of_the_page(tmp_path: Path) -> None:
    """Estimates to 0.05: five Monte Carlo errors of the largest standard deviation."""
    if not r_has("jsonlite"):
        pytest.skip("no R with jsonlite")
    text = (ROOT / "docs" / "howto" / "from-r.md").read_text(encoding="utf-8")
    script = next(block for block in pages.blocks(text) if block.value == "session.R")
    (tmp_path / "session.R").write_text(script.code, encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["Rscript", "session.R"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| `(\S+)` \|([ \d.|-]+)\|$", text, re.MULTILINE)
    shown = {name: [float(cell) for cell in cells.split("|")] for name, cells in rows}
    assert len(shown) == 4
    assert done.stdout.startswith("[1] TRUE\n")
    for name, values in shown.items():
        line = next(line for line in done.stdout.splitlines() if line.startswith(name))
        assert [float(cell) for cell in line.split()[1:]] == pytest.approx(values, abs=0.05), name
