"""`rmm study score`: published tables to their printed digits, output files, messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rmm.cli import main
from rmm.study import performance
from tests import SHARED

REFERENCE = SHARED / "reference"
SIMSUM = {
    "bias": "bias",
    "empse": "empirical_se",
    "relprec": "relative_precision",
    "mse": "mse",
    "modelse": "model_se",
    "relerror": "relative_error_se",
    "cover": "coverage",
    "power": "rejection",
}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["study", "score", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["study", "score", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Methods as numbers, two factors, two parameters, df, missing estimates and errors."""
    rng = np.random.default_rng(1)
    rows = pd.MultiIndex.from_product(
        [[50, 100], ["a", "b"], [1, 2], ["trt", "fv"], range(1, 21)],
        names=["n", "law", "model", "par", "i"],
    ).to_frame(index=False)
    truth = rows["par"].map({"trt": -0.5, "fv": 0.75})
    rows = rows.assign(b=truth + rng.normal(size=len(rows)), se=1.1, dof=rows["n"] // 10)
    rows.loc[[0, 45], "b"] = np.nan
    rows.loc[[1, 46], "se"] = np.nan
    path = tmp_path / "table.csv"
    rows.to_csv(path, index=False)
    return path


COLUMNS = [
    "--by", "n", "law", "--method", "model", "--parameter", "par", "--replication", "i",
    "--estimate", "b", "--se", "se", "--truth", "trt=-0.5", "fv=0.75",
]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "parquet", "dta"])
def test_the_published_table_of_simsum(
    tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """White (2010), Stata's simsum on MIsim: values to 1e-6, Monte Carlo errors to 1e-3."""
    if not REFERENCE.is_dir():
        pytest.skip("the published simsum results (../shared/reference) are not here")
    estimates = pd.read_csv(REFERENCE / "simsum_mi_estimates.csv")
    given, out = tmp_path / f"MIsim.{ending}", tmp_path / "out.csv"
    write = {
        "csv": lambda: estimates.to_csv(given, index=False),
        "parquet": lambda: estimates.to_parquet(given),
        "dta": lambda: estimates.to_stata(given, write_index=False),
    }
    write[ending]()
    printed = run(
        capsys, given, "--method", "method", "--replication", "dataset", "--estimate", "b",
        "--se", "se", "--truth", 0.5, "--baseline", "CC", "--out", out,
    )  # fmt: skip
    scores = pd.read_csv(out)
    scores = scores[scores["policy"] == "per_method"].set_index(["method", "measure"])
    compared = 0
    for row in pd.read_csv(REFERENCE / "simsum_mi_published.csv").itertuples():
        ours = scores.loc[(row.method, SIMSUM[row.stat])]
        if row.stat == "relprec" and row.method == "CC":
            continue
        assert ours["value"] == pytest.approx(row.est, abs=1e-6, rel=1e-6), (row.method, row.stat)
        assert ours["mcse"] == pytest.approx(row.mcse, rel=1e-3), (row.method, row.stat)
        compared += 1
    assert compared == 23
    line = next(line for line in printed.splitlines() if line.split()[:1] == ["bias"])
    assert " ".join(line.split()) == "bias 0.0168 (0.0048) 0.0009 (0.0042) -0.0012 (0.0043)"


def test_files_and_json_hold_what_performance_returns(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = performance(
        table, by=["n", "law"], method="model", parameter="par", replication="i", estimate="b",
        se="se", truth={"trt": -0.5, "fv": 0.75}, df="dof",
    )  # fmt: skip
    for ending, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = tmp_path / f"out{ending}"
        run(capsys, table, *COLUMNS, "--df", "dof", "--output", out)
        found = read(out)
        assert list(found.columns) == list(wanted.columns)
        np.testing.assert_allclose(found["value"], wanted["value"], rtol=1e-12)
        assert found["method"].tolist() == wanted["method"].tolist()
    printed = json.loads(run(capsys, table, *COLUMNS, "--df", "dof", "--json"))
    assert len(printed["rows"]) == len(wanted)
    assert printed["rows"][0]["factor.n"] == 50
    assert printed["notes"] == wanted.attrs["notes"]


def test_what_is_printed(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, table, *COLUMNS, "--measures", "bias", "coverage", "--alpha", 0.05, 0.1)
    first = text.split("\n\n")[1].splitlines()
    assert first[0] == "n = 50, law = a, parameter trt"
    assert first[1].split() == ["1", "2"]
    assert [line.strip().split("  ")[0] for line in first[2:]] == [
        "bias", "coverage, alpha 0.05", "coverage, alpha 0.1", "fits used", "failed"
    ]  # fmt: skip
    assert "n 18" in first[3] and "n 18" not in first[2]  # a standard error is missing, too
    assert "Note. 2 rows count as failed because the estimate is missing." in text
    assert "convergence" not in text
    assert "convergence" in run(capsys, table, *COLUMNS, "--measures", "all")


def test_the_policy_that_is_printed(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (table, *COLUMNS, "--measures", "bias", "--parameters", "trt")

    def used(text: str) -> list[str]:
        return next(line.split()[2:] for line in text.splitlines() if "fits used" in line)

    assert used(run(capsys, *arguments)) == ["19", "19"]
    text = run(capsys, *arguments, "--policy", "complete_case")
    assert text.startswith("Replications in which all methods have a usable fit.")
    assert used(text) == ["18", "18"]


def test_statuses_on_the_command_line(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(table).assign(end="fine")
    rows.loc[rows["i"] == 3, "end"] = "slow"
    rows.to_csv(table, index=False)
    words = ["--status", "end", "--statuses", "fine=ok", "slow=not_converged"]
    few = run(capsys, table, *COLUMNS, *words, "--measures", "bias")
    assert "not converged 1 1" in " ".join(few.split())
    every = run(
        capsys, table, *COLUMNS, *words, "--measures", "bias", "--usable", "ok", "not_converged"
    )
    assert few != every and "fits used 20 20" in " ".join(every.split())


def test_outliers_are_named(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(table)
    rows.loc[5, "b"] = 1e5
    rows.to_csv(table, index=False)
    kept = run(capsys, table, *COLUMNS)
    assert "Outliers, which are not left out:\n    n = 50, law = a, method 1, parameter trt" in kept
    left = run(capsys, table, *COLUMNS, "--dropbig", "sd", "--max-estimate", "3")
    assert "Left out as outliers:\n    n = 50, law = a, method 1, parameter trt" in left


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.xlsx"], "--out must be a file that ends in .csv or .parquet"),
        (["--policy", "all"], "--policy must be per_method or complete_case"),
        (["--measures", "biass"], "'biass' is not a measure"),
        (["--truth", "trt=x", "fv=1"], "--truth: the value of trt is not a number"),
        (["--truth", "trt=1", "fv"], "--truth: 'fv' must have the form NAME=VALUE"),
        (["--truth", "theta"], "no column 'theta' (--truth)"),
        (["--baseline", "3"], "--baseline: '3' is not a method. Allowed: 1, 2"),
        (["--statuses", "OK"], "--statuses: 'OK' must have the form NAME=VALUE"),
        (["--by", "n"], "have the same key"),
        (["--test", "exact"], "--test: 'exact' is not an option"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_errors_are_messages(
    table: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, table, *COLUMNS, *arguments)
    assert message in said
    assert "Traceback" not in said


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "this file does not exist" in refused(capsys, "no.csv", "--estimate", "b")


def test_labels_in_csv_files_are_no_formulas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "out.csv"
    rows = {"i": [1, 2], "m": "=1+1", "@g": ["-a", "-a"], "b": [0.5, -0.5]}
    pd.DataFrame(rows).to_csv(table, index=False)
    columns = ["--by", "@g", "--method", "m", "--replication", "i", "--estimate", "b"]
    run(capsys, table, *columns, "--truth", 0, "--out", out)
    found = pd.read_csv(out)
    assert found.columns[0] == "'@g"
    assert set(found["'@g"]) == {"'-a"} and set(found["method"]) == {"'=1+1"}
    assert found["value"].min() < 0.5
