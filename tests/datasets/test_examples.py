"""The documented examples run as printed, and find what is there to be found."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rmm.datasets.sources import SOURCES
from tests import ROOT
from tests.coalitions import shared_file
from tests.datasets.test_datasets import write

EXAMPLES = ROOT / "docs" / "tutorials"
sys.path.insert(0, str(ROOT / "docs"))
from site_parts import pages  # noqa: E402


def run(name: str) -> dict[str, Any]:
    """All code blocks of a page, one after the other, and what they defined."""
    text = (EXAMPLES / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, f"{name}.md", "exec"), names)  # noqa: S102  (our own documentation)
    return names


@pytest.mark.docs
@pytest.mark.jags
def test_space(capsys: pytest.CaptureFixture[str]) -> None:
    """Truth within 3.5 posterior sds on 6 parameters: a false alarm below 0.3%."""
    names = run("space")
    fit, truth = names["fit"], [0.8, 2.0, 0.5, 1.0, 0.7, 0.5]
    summary = fit.summary()
    assert list(summary.index) == [
        "b_l1[income]",
        "b_l2[Intercept]",
        "b_l2[own]",
        "b_w[b1]",
        "sigma_l1",
        "sigma_l2",
    ]
    z = (summary["mean"] - truth) / summary["sd"]
    assert (z.abs() < 3.5).all(), summary.assign(z=z)
    assert fit.converged
    fading = names["fading"]["mean"].to_numpy()
    assert (np.diff(fading) < 0).all()
    assert "b_w[b1]" in capsys.readouterr().out


@pytest.mark.docs
@pytest.mark.parametrize(
    ("page", "name", "file"),
    [("which-weights", "coalgov", "coalgov_bml"), ("workers", "wage1", "wage1_wide")],
)
def test_pages_of_published_data_print_what_they_show(
    page: str, name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, source = pd.read_parquet(shared_file("data", f"{file}.parquet")), SOURCES[name]
    whole = table.select_dtypes("int64").columns  # floating-point numbers in R's file
    frame = table.astype(dict.fromkeys(whole, float))
    write(tmp_path / "cache" / "datasets" / source.file, **{source.frame: frame})
    monkeypatch.setenv("RMM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    for block, printed, shown in pages.run(EXAMPLES / f"{page}.md", tmp_path / "run"):
        assert shown is None or not pages.differences(printed, shown.code), block.code


@pytest.mark.docs
@pytest.mark.jags
def test_schoolnets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published data without a known truth: what least squares on equal weights says, roughly."""
    tables = {  # whole numbers are floating-point numbers in R's file
        source.frame: table.astype(dict.fromkeys(table.select_dtypes("int64"), float))
        for source, table in (
            (SOURCES[name], pd.read_parquet(shared_file("data", f"{name}.parquet")))
            for name in ("schoolnets_nodes", "schoolnets_edges")
        )
    }
    monkeypatch.setenv("RMM_CACHE", str(tmp_path))
    write(tmp_path / "datasets" / SOURCES["schoolnets_nodes"].file, **tables)
    names = run("friends")
    fit, table = names["fit"], names["table"]
    assert fit.converged
    summary = fit.summary()
    pupils = table.groupby("pupil")
    columns = ["test_cogn", "parent_edu", "etn"]
    X = pupils[columns].first()
    X = (X - X.mean()) / X.std() ** (X.nunique() > 2)
    mean = pupils["friend_lang"].mean() / table["friend_lang"].std()
    design = np.column_stack([np.ones(len(X)), X, mean])
    b = np.linalg.lstsq(design, pupils["test_lang"].first(), rcond=None)[0]
    found = summary.loc[["b_l2[test_cogn]", "b_l2[parent_edu]", "b_l1[friend_lang]"]]
    assert (((found["mean"] - b[[1, 2, 4]]) / found["sd"]).abs() < 3).all(), (found, b)
    by_rank = names["five"].groupby("rank")["mean"].mean()
    assert list(by_rank.index) == [1, 2, 3, 4, 5]
    assert np.sign(by_rank[5] - by_rank[1]) == np.sign(summary.loc["b_w[b1]", "mean"])
