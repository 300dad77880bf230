"""What is kept of finished studies, and what the README says of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from rmm.study import load_study
from rmm.study.report.numbers import acceptance_band

ROOT = Path(__file__).parents[1]
KEPT = sorted(path for path in (ROOT / "results" / "reference").glob("*") if path.is_dir())


def measured(name: str, measure: str, parameter: str) -> pd.DataFrame:
    """Rows of one measure of a kept study, with the factors of their scenarios."""
    folder = ROOT / "results" / "reference" / name
    table = pd.read_parquet(folder / "performance.parquet")
    table = table[(table["measure"] == measure) & (table["parameter"] == parameter)]
    table = table[table["policy"] == "per_method"]
    return table.merge(pd.read_parquet(folder / "scenarios.parquet"), on="scenario")


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_kept_results_belong_to_their_study(folder: Path) -> None:
    """Scenarios, methods and seed are those of the file; the record says what made them."""
    study = load_study(ROOT / "config" / "studies" / f"{folder.name}.yaml")
    record = json.loads((folder / "provenance.json").read_text())
    assert record["seed"] == study.seed
    assert re.fullmatch(r"[0-9a-f]{40}", record["commit"])
    table = pd.read_parquet(folder / "performance.parquet")
    assert set(table["scenario"]) == {s.id for s in study.scenarios}
    assert set(table["method"]) == {m.name for m in study.methods}
    fits = sum(study.replications_of(s, m) for s in study.scenarios for m in study.methods)
    assert sum(record["fits"].values()) == fits


def test_the_three_way_contrast_holds() -> None:
    """Aggregation and disaggregation above the band of a right test, the mmmm within it."""
    table = measured("three_way_contrast", "rejection", "b_l1[x]")
    assert set(table["family"]) == {"gaussian", "binomial", "weibull"}
    for row in table.itertuples():
        low, high = acceptance_band(0.05, row.n)
        assert row.n >= 990
        if row.method == "mmmm":
            assert low <= row.value <= high, row
        else:
            assert row.value > high + 3 * row.mcse, row


def test_the_figure_of_the_readme_is_that_of_the_kept_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import headline

    drawn = headline.draw(headline.rejections())
    labels = {text.get_text() for text in drawn.axes[0].texts}
    table = measured("three_way_contrast", "rejection", "b_l1[x]")
    assert {f"{v:.3f}".lstrip("0") for v in table["value"]} <= labels
    assert "docs/figures/three_way_contrast.svg" in (ROOT / "README.md").read_text()
    assert (ROOT / "docs" / "figures" / "three_way_contrast.svg").is_file()
