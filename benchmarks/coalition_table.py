"""The table that the benchmarks run on: the real coalitions, or look-alikes of any number.

Model G1: log duration or early end of governments on their majority, the finance of member
parties, party effects and country effects. Choices are among four possible governments of a
country, of which one is formed: look-alikes always, and without country effects, which cancel.
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
    "condlogit": "formed",
}
GOVERNMENTS, CHOICES = 628, 4


def read(governments: int = GOVERNMENTS, family: str = "") -> tuple[str, pd.DataFrame]:
    """("real" or "simulated", the table) with y and pseat_z, sorted by government."""
    real = REAL.exists() and governments == GOVERNMENTS and family != "condlogit"
    table = pd.read_parquet(REAL) if real else simulated(governments)
    table = table.sort_values("gid", kind="stable").reset_index(drop=True)
    log = np.log(table.groupby("gid")["dur_wkb"].first())
    seats = table["pseat"]
    table = table.assign(
        y=table["gid"].map((log - log.mean()) / log.std()),
        pseat_z=(seats - seats.mean()) / seats.std(),
    )
    return ("real" if real else "simulated"), table


def simulated(governments: int, seed: int = 1) -> pd.DataFrame:
    """Look-alikes: parties belong to countries, and a government's parties to its country.

    There are as many countries as make the real table's 22 governments in each.
    """
    rng = np.random.default_rng(seed)
    countries, parties = max(2, round(29 * governments / GOVERNMENTS)), 11
    party = rng.normal(0, 0.6, (countries, parties))
    nation = rng.normal(0, 0.4, countries)
    rows, best = [], -np.inf
    for gid in range(governments):
        if gid % CHOICES == 0:
            cid, best, formed = int(rng.integers(countries)), -np.inf, gid
        n = int(rng.integers(1, 7))
        pid = rng.choice(parties, n, replace=False)
        finance, seats = rng.normal(size=n), rng.dirichlet(np.ones(n)) * rng.uniform(0.4, 0.7)
        majority = int(rng.random() < 0.7)
        eta = 6.3 + 0.4 * majority + nation[cid] + np.mean(-0.3 * finance + party[cid, pid])
        utility = eta + rng.gumbel()
        if utility > best:
            best, formed = utility, gid
        days = np.ceil(np.exp(eta) * rng.weibull(1.2))
        limit = rng.uniform(60, 1800)
        rows.append(
            pd.DataFrame(
                {
                    "gid": gid,
                    "cid": cid,
                    "pid": cid * parties + pid,
                    "n": n,
                    "finance": finance,
                    "pseat": seats,
                    "majority": majority,
                    "dur_wkb": min(days, np.ceil(limit)),
                    "event_wkb": int(days <= limit),
                    "choice": gid // CHOICES,
                    "gid_formed": formed,
                }
            )
        )
    table = pd.concat(rows, ignore_index=True)
    chosen = table.groupby("choice")["gid_formed"].transform("last")
    return table.assign(formed=(table["gid"] == chosen).astype(int)).drop(columns="gid_formed")


def formula(family: str, weights: str) -> str:
    """Model G1 for a family, its weights fixed or estimated."""
    intercept = "" if family in ("cox", "condlogit") else "1 + "
    rest = "strata(choice)" if family == "condlogit" else "hm(id=cid)"
    return (
        f"{OUTCOMES[family]} ~ {intercept}majority"
        f" + mm(id(pid, gid), vars(finance), fn(w ~ {WEIGHTS[weights]}), RE=TRUE) + {rest}"
    )
