"""What pages of the flagship studies share: kept measures, and tables between their marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "results" / "reference"
FIGURES = ROOT / "docs" / "figures"
PAGES = ROOT / "docs" / "studies"


def measured(study: str, measure: str, parameter: str, folder: Path = KEPT) -> pd.DataFrame:
    """Rows of one measure, each method with its usable fits, with the factors of the scenarios."""
    table = pd.read_parquet(folder / study / "performance.parquet")
    table = table[
        (table["measure"] == measure)
        & (table["parameter"] == parameter)
        & (table["policy"] == "per_method")
        & (table["alpha"].isna() | ((table["alpha"] - 0.05).abs() < 1e-9))
    ]
    scenarios = pd.read_parquet(folder / study / "scenarios.parquet")
    return scenarios.merge(table, on="scenario")


def with_tables(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The text of a page with tables written between their marks.

    A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``.

    Raises
    ------
    ValueError
        If the page does not have exactly one place for a table.
    """
    for name, write in tables.items():
        mark = re.escape(f"<!-- table: {name} -->")
        pattern = re.compile(rf"({mark}\n).*?(<!-- end of table -->)", re.DOTALL)
        table = write()
        text, found = pattern.subn(lambda m, t=table: f"{m[1]}\n{t}\n\n{m[2]}", text)
        if found != 1:
            raise ValueError(f"The page has {found} tables of the name {name!r}, not one.")
    return text


def write_tables(page: Path, tables: Mapping[str, Callable[[], str]]) -> None:
    """Write the tables of a page."""
    page.write_text(with_tables(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    print(page)
