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
from rmm.errors import SpecificationWarning
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


def cache_published(name: str, file: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache with the file that `load` would download, from the data at hand."""
    table, source = pd.read_parquet(shared_file("data", f"{file}.parquet")), SOURCES[name]
    whole = table.select_dtypes("int64").columns  # floating-point numbers in R's file
    frame = table.astype(dict.fromkeys(whole, float))
    write(cache / "datasets" / source.file, **{source.frame: frame})
    monkeypatch.setenv("RMM_CACHE", str(cache))


@pytest.mark.docs
def test_posteriors_are_those_of_the_examples_of_bml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 means, 15 standard deviations and 19 intervals that bml prints.

    The effective draws that bml states for one parameter, 149, are an error of .08 posterior sds of
    a mean; four of them are .33, and .6 are 4 errors with 45 draws, which the correlated standard
    deviations of the last model may have. An sd of 149 draws has an error of 6%, a quantile at 2.5%
    one of .22 sds.
    """
    cache_published("coalgov", "coalgov_bml", tmp_path / "cache", monkeypatch)
    (tmp_path / "printed.csv").write_text(_printed_by_bml(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(SpecificationWarning, match="does not vary within any member"):
        names = run("bml")
    bml, ours = names["bml"], names["ours"]
    assert len(bml) == 20 and bml.notna().sum().to_dict() == {
        "mean": 20,
        "sd": 15,
        "q2.5": 19,
        "q97.5": 19,
    }
    apart = ((ours["mean"] - bml["mean"]) / ours["sd"]).abs()
    mixed_slowly = [("party", "sigma_l1"), ("party", "sigma_slope_l1[finance]")]
    assert apart.drop(mixed_slowly).max() < 0.33, apart
    assert apart.max() < 0.6, apart
    ratio = (ours["sd"] / bml["sd"]).dropna()
    assert ratio.between(0.76, 1.32).all(), ratio  # four errors of 6%, and rounding
    for column in ("q2.5", "q97.5"):
        far = ((ours[column] - bml[column]) / ours["sd"]).abs()
        assert far.max() < 0.88, far  # four errors


def _printed_by_bml() -> str:
    blocks = pages.blocks((EXAMPLES / "bml.md").read_text(encoding="utf-8"))
    return next(block.code for block in blocks if block.value == "printed.csv")


@pytest.mark.docs
@pytest.mark.parametrize(
    ("page", "name", "file"),
    [
        ("which-weights", "coalgov", "coalgov_bml"),
        ("workers", "wage1", "wage1_wide"),
        ("bml", "coalgov", "coalgov_bml"),
    ],
)
def test_pages_of_published_data_print_what_they_show(
    page: str, name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_published(name, file, tmp_path / "cache", monkeypatch)
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
