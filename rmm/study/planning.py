"""How many replications a study needs, and how long they take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def replications_for_rate(mcse: float, rate: float = 0.5) -> int:
    """Replications for which a proportion near `rate` has the Monte Carlo error `mcse`.

    p (1 - p) / mcse^2 (Morris, White & Crowther 2019, table 6); the default is the worst case.
    """
    return math.ceil(round(rate * (1 - rate) / mcse**2, 6))


def replications_for_bias(mcse: float, empirical_se: float) -> int:
    """Replications for which the bias has the Monte Carlo error `mcse`: (SE / mcse)^2."""
    return math.ceil(round((empirical_se / mcse) ** 2, 6))


@dataclass(frozen=True)
class Pilot:
    """What finished fits tell of one method: seconds per fit, largest empirical SE by parameter."""

    method: str
    fits: int
    seconds: float
    empirical_se: dict[str, float]


def read_pilot(folder: Path) -> list[Pilot]:
    """Pilots from all batches that are finished in a results folder; empty if there are none."""
    import pandas as pd

    parts = sorted((folder / "estimates").glob("*/*/*.parquet"))
    if not parts:
        return []
    columns = ["scenario", "replication", "method", "parameter", "mean", "seconds"]
    table = pd.concat([pd.read_parquet(p, columns=columns, partitioning=None) for p in parts])
    return [_pilot(str(method), part) for method, part in table.groupby("method", sort=False)]


def _pilot(method: str, part: pd.DataFrame) -> Pilot:
    fits = part.drop_duplicates(["scenario", "replication"])
    spread = part.groupby(["parameter", "scenario"])["mean"].std().groupby("parameter").max()
    known = {str(p): float(s) for p, s in spread.items() if s > 0}
    return Pilot(method, len(fits), float(fits["seconds"].mean()), known)
