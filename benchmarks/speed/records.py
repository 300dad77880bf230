"""What a run has measured: one row per program, problem and round, kept as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

RESULTS = Path(__file__).resolve().parents[1] / "results"
COLUMNS = (
    "part",
    "problem",
    "program",
    "weights",
    "round",
    "fits",
    "cpu_seconds",
    "memory_mb",
    "note",
    "commit",
    "versions",
)
#: Family of the data -> problem whose lme4 fit is the unit.
UNIT = {"gaussian": "gaussian"}
OTHER_UNIT = "binomial"


class Records:
    """Rows of one run; the file is complete after each of them."""

    def __init__(self, file: Path, commit: str, versions: str) -> None:
        self.file = file
        self.common = {"commit": commit, "versions": versions}
        self.rows: list[dict[str, Any]] = []

    def add(self, part: str, problem: str, program: str, weights: str, **found: Any) -> None:
        """Keep a row and print it."""
        row = {"part": part, "problem": problem, "program": program, "weights": weights, **found}
        self.rows.append({**row, **self.common})
        print(
            f"{part:10}{problem:16}{program:12}{weights:11}{found['cpu_seconds']:10.4f} s"
            f"   {found.get('note', '')}",
            flush=True,
        )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        table.to_csv(self.file, index=False, float_format="%.6g")


def read(name: str) -> pd.DataFrame:
    """Return the kept rows of a run."""
    return pd.read_csv(
        RESULTS / f"{name}.csv",
        keep_default_na=False,
        na_values={"round": "", "fits": "", "cpu_seconds": "", "memory_mb": ""},
    )


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per part, problem, program and weights, with its ratio to lme4.

    `seconds` is the mean over rounds. `ratio` is relative to lme4's mean on the same family
    (gaussian), or on the binomial data (other families), in the same run; `low` and `high` are the
    smallest and largest ratio of a round. Without lme4 they are missing.
    """
    keys = ["part", "problem", "program", "weights"]
    fits = table[table["part"].isin(["fit", "workflow"])]
    lme4 = fits[fits["program"] == "lme4"].set_index(["problem", "round"])["cpu_seconds"]
    rows = []
    for key, group in fits.groupby(keys, sort=False):
        unit = UNIT.get(key[1], OTHER_UNIT)
        there = unit in lme4.index.get_level_values("problem")
        base = lme4.loc[unit] if there else pd.Series(dtype=float)
        seconds = group["cpu_seconds"].mean()
        each = group.set_index("round")["cpu_seconds"] / base if there else base
        each = each.dropna()
        ratio = seconds / base.mean() if there else float("nan")
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "fits": int(group["fits"].sum()),
                "seconds": seconds,
                "ratio": ratio,
                "low": each.min() if len(each) else ratio,
                "high": each.max() if len(each) else ratio,
                "note": group["note"].iloc[0],
            }
        )
    return pd.DataFrame(rows)


def identity(table: pd.DataFrame) -> Mapping[str, str]:
    """Return commit and versions of a run."""
    return {name: str(table[name].iloc[-1]) for name in ("commit", "versions")}
