"""What a run has measured: one row per program, problem and round, kept as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
#: Runs that the documentation shows side by side -> their heading in table and figure.
KEPT = {
    "speed_before": "before the compiled engine",
    "speed_after": "with the compiled engine",
}
#: Family of the data -> problem whose lme4 fit is the unit.
UNIT = {"gaussian": "gaussian"}
OTHER_UNIT = "binomial"


class Records:
    """Rows of one run; the file is complete after each of them.

    Rows that the file already has are kept if they are of the same commit and of another part, so
    that parts can run one by one.
    """

    def __init__(self, file: Path, commit: str, versions: str, parts: Iterable[str]) -> None:
        self.file = file
        self.common = {"commit": commit, "versions": versions}
        self.rows: list[dict[str, Any]] = []
        if file.exists():
            # A commit may consist of digits only.
            earlier = pd.read_csv(file, keep_default_na=False, dtype={"commit": str})
            keep = (earlier["commit"] == commit) & ~earlier["part"].isin(set(parts))
            self.rows = earlier[keep].to_dict("records")

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


def heading(name: str) -> str:
    """Return how a run is called in table and figure."""
    return KEPT.get(name, "this run")


def read(name: str) -> pd.DataFrame:
    """Return the kept rows of a run."""
    return pd.read_csv(RESULTS / f"{name}.csv", dtype={"commit": str})


def kept_runs() -> dict[str, pd.DataFrame]:
    """Return the rows of the runs in `KEPT` that have been measured."""
    return {name: read(name) for name in KEPT if (RESULTS / f"{name}.csv").exists()}


def growth_of(names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return the kept rows of growing data, of the runs that have measured them."""
    files = {name: RESULTS / f"{name}_growth.csv" for name in names}
    return {
        name: pd.read_csv(file, dtype={"commit": str})
        for name, file in files.items()
        if file.exists()
    }


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per part, problem, program and weights, with its ratio to lme4.

    `seconds` is the mean over rounds. `ratio` is relative to lme4's mean on the same family
    (gaussian), or on the binomial data (other families), in the same run; `low` and `high` are the
    smallest and largest ratio of a round. Without lme4 they are missing.
    """
    keys = ["part", "problem", "program", "weights"]
    fits = table[table["part"].isin(["fit", "workflow"])]
    lme4 = fits[fits["program"] == "lme4"].groupby(["part", "problem", "round"])
    lme4 = lme4["cpu_seconds"].mean()
    rows = []
    for key, group in fits.groupby(keys, sort=False):
        base = _unit(lme4, key[0], UNIT.get(key[1], OTHER_UNIT))
        each = group.groupby("round")["cpu_seconds"].mean()
        ratio = each.mean() / base.mean()
        by_round = (each / base).dropna()
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "seconds": each.mean(),
                "ratio": ratio,
                "low": by_round.min() if len(by_round) else ratio,
                "high": by_round.max() if len(by_round) else ratio,
            }
        )
    return pd.DataFrame(rows)


def _unit(lme4: pd.Series, part: str, problem: str) -> pd.Series:
    """Return lme4's seconds by round, measured beside a part or else beside the fits."""
    for measured in (part, "fit"):
        index = lme4.index.get_level_values
        rows = lme4[(index("part") == measured) & (index("problem") == problem)]
        if len(rows):
            break
    return rows.droplevel(["part", "problem"])


def identity(table: pd.DataFrame) -> Mapping[str, str]:
    """Return commit and versions of a run."""
    return {name: str(table[name].iloc[-1]) for name in ("commit", "versions")}
