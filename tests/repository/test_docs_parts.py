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


#: What reticulate 1.28 needs of a module that Python 3.12 removed.
IMP = """\
import importlib.util


def find_module(name):
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(name)
    return None, (spec.submodule_search_locations or [spec.origin])[0], None
"""


def run_in_r(folder: Path, script: str) -> str:
    """What R prints of the page's script and another, with this environment as `.venv`."""
    if not r_has("reticulate"):
        pytest.skip("no R with reticulate")
    text = (ROOT / "docs" / "howto" / "from-r.md").read_text(encoding="utf-8")
    files = {b.value: b.code for b in pages.blocks(text) if b.value and b.value.endswith(".R")}
    (folder / "governments.R").write_text(files["session.R"].split("write.csv")[0])
    (folder / "script.R").write_text(files["reticulate.R"] + script)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "stub").mkdir()
    (folder / "stub" / "imp.py").write_text(IMP)
    done = subprocess.run(
        ["Rscript", "script.R"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder / "stub")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_session_with_reticulate_prints_what_the_page_says(tmp_path: Path) -> None:
    """The estimates of the command line, which the test above compares with the page."""
    table = pd.DataFrame({"measure": ["bias", "coverage"], "value": [0.5, None]})
    table.to_parquet(tmp_path / "performance.parquet")
    said = run_in_r(
        tmp_path,
        'found <- as_r(import("pandas", convert = FALSE)$read_parquet("performance.parquet"))\n'
        "cat(class(found), is.na(found$value), found$measure)",
    )
    text = (ROOT / "docs" / "howto" / "from-r.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \|([ \d.|-]+)\|$", text, re.MULTILINE)
    assert len(rows) == 4
    for name, cells in rows:
        line = next(line for line in said.splitlines() if f" {name} " in line)
        values = [float(cell) for cell in cells.split("|")]
        assert [float(v) for v in line.split()[2:]] == pytest.approx(values, abs=0.05), name
    shown = text.split("The other lines are:")[1].split("```")[1].removeprefix("text\n")
    assert shown.splitlines()[0].rsplit(":", 1)[0] in said
    assert said.endswith("data.frame FALSE TRUE bias coverage")


#: Change of the data frame -> what rmm answers where the frame is passed itself, and as a file.
STRANGE = {
    "g$party <- factor(g$party)": ("0.26", "0.26"),
    "g$finance[3] <- NA": ("`finance` has 1 missing value", "`finance` has 1 missing value"),
    "g$finance <- as.integer(round(9 * g$finance)); g$finance[3] <- NA": (
        "missing whole number|missing value",
        "`finance` has 1 missing value",
    ),
    "g$party[3] <- NA": ("the text 'NA'|missing value", "the member id, has 1 missing value"),
    "g$finance <- g$finance > 0": ("0.82", "0.82"),
    "g$finance <- as.Date('2020-01-01') + round(9 * g$finance)": ("dates", "dates"),
}


@pytest.mark.parametrize("change", STRANGE)
def test_strange_columns_of_r_get_the_right_or_a_clear_answer(tmp_path: Path, change: str) -> None:
    script = f"""
        answer <- function(table) cat("ANSWER", tryCatch(
          sprintf("%.2f", as_r(rmm$fit(formula, table, seed = 1L)$summary())$mean[1]),
          error = function(e) conditionMessage(e)), "\\n")
        nothing <- py_run_string("import warnings; warnings.simplefilter('error', UserWarning)")
        g <- governments
        {change}
        answer(g)
        write.csv(g, "strange.csv", row.names = FALSE, na = "")
        answer("strange.csv")
    """
    said = run_in_r(tmp_path, script).split("ANSWER")[1:]
    for found, wanted in zip(said, STRANGE[change], strict=True):
        assert re.search(wanted, found), found


@pytest.mark.parametrize("package", ["bit64", "haven"])
def test_columns_of_other_packages_of_r_are_read_from_files(tmp_path: Path, package: str) -> None:
    """integer64 as ids, labelled numbers as a covariate: the same numbers as plain columns."""
    if not r_has(package):
        pytest.skip(f"no R with {package}")
    change = {
        "bit64": "g$government <- bit64::as.integer64(g$government)",
        "haven": "g$finance <- haven::labelled(g$finance, c(none = 0))",
    }[package]
    script = f"""
        g <- governments
        {change}
        write.csv(g, "strange.csv", row.names = FALSE, na = "")
        fit <- rmm$fit(formula, "strange.csv", seed = 1L)
        cat("ANSWER", sprintf("%.2f", as_r(fit$summary())$mean))
    """
    assert run_in_r(tmp_path, script).split("ANSWER")[1].split()[0] == "0.26"
