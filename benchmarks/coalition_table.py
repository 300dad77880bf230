"""The table that the benchmarks run on: the real coalitions, or look-alikes where they are absent.

Model G1: log duration or early end of governments on their majority, the finance of member
parties, party effects and country effects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "coalgov_bml.parquet"
WEIGHTS = {"fixed": "1/n", "estimated": "1/(1 + (n - 1)*exp(-(b1*pseat_z)))"}
OUTCOMES = {
    "gaussian": "y",
    "binomial": "event_wkb",
    "weibull": "Surv(dur_wkb, event_wkb)",
    "cox": "Surv(dur_wkb, event_wkb)",
}


def read(path: Path = REAL) -> tuple[str, pd.DataFrame]:
    """("real" or "simulated", the table) with y and pseat_z, sorted by government."""
    real = path.exists()
    table = pd.read_parquet(path) if real else simulated()
    table = table.sort_values("gid", kind="stable").reset_index(drop=True)
    log = np.log(table.groupby("gid")["dur_wkb"].first())
    seats = table["pseat"]
    table = table.assign(
        y=table["gid"].map((log - log.mean()) / log.std()),
        pseat_z=(seats - seats.mean()) / seats.std(),
    )
    return ("real" if real else "simulated"), table


def simulated(governments: int = 628, seed: int = 1) -> pd.DataFrame:
    """Look-alikes: parties belong to countries, and a government's parties to its country."""
    rng = np.random.default_rng(seed)
    countries, parties = 29, 11
    party = rng.normal(0, 0.6, (countries, parties))
    nation = rng.normal(0, 0.4, countries)
    rows = []
    for gid in range(governments):
        cid = int(rng.integers(countries))
        n = int(rng.integers(1, 7))
        pid = rng.choice(parties, n, replace=False)
        finance, seats = rng.normal(size=n), rng.dirichlet(np.ones(n)) * rng.uniform(0.4, 0.7)
        majority = int(rng.random() < 0.7)
        eta = 6.3 + 0.4 * majority + nation[cid] + np.mean(-0.3 * finance + party[cid, pid])
        days = np.ceil(np.exp(eta) * rng.weibull(1.2))
        limit = rng.uniform(60, 1800)
        rows.append(
            pd.DataFrame(
                {"gid": gid, "cid": cid, "pid": cid * parties + pid, "n": n, "finance": finance,
                 "pseat": seats, "majority": majority, "dur_wkb": min(days, np.ceil(limit)),
                 "event_wkb": int(days <= limit)}
            )
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def formula(family: str, weights: str) -> str:
    """Model G1 for a family, its weights fixed or estimated."""
    intercept = "" if family == "cox" else "1 + "
    return (
        f"{OUTCOMES[family]} ~ {intercept}majority"
        f" + mm(id(pid, gid), vars(finance), fn(w ~ {WEIGHTS[weights]}), RE=TRUE) + hm(id=cid)"
    )
