"""Small made-up coalitions for tests; written without the package's own simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import SHARED


def shared_file(*parts: str) -> Path:
    """A file of the shared data; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"shared file {'/'.join(parts)} is not here")
    return path


def made_up_coalitions(groups: int = 120, members: int = 30, seed: int = 3) -> pd.DataFrame:
    """Governments (gid) of parties (pid) in countries (cid) and decades (dec).

    True values: intercept 1, z 0.5, country covariate q 0.4, x 0.8 with weights proportional to
    1/(1 + (n-1) exp(-(1.0 * s))), sigma_l1 0.7, sigma_l2 0.6, sigma_l3 0.5.
    """
    rng = np.random.default_rng(seed)
    countries = 10
    u, v = rng.normal(0, 0.7, members), rng.normal(0, 0.5, countries)
    q = rng.normal(size=countries)
    tables = []
    for group in range(groups):
        country = group % countries
        n = int(rng.integers(2, 6))
        pid = rng.choice(members, n, replace=False)
        x, s = rng.normal(size=n), rng.normal(size=n)
        z, region = rng.normal(), ["east", "north", "west"][int(rng.integers(3))]
        raw = 1 / (1 + (n - 1) * np.exp(-s))
        w = raw / raw.sum()
        y = 1 + 0.5 * z + 0.4 * q[country] + w @ (0.8 * x + u[pid]) + v[country]
        y += rng.normal(0, 0.6)
        tables.append(
            pd.DataFrame(
                {
                    "gid": f"g{group:03d}",
                    "pid": pid,
                    "cid": country,
                    "dec": group // 20,
                    "cname": f"C{country}",
                    "y": y,
                    "z": z,
                    "q": q[country],
                    "region": region,
                    "x": x,
                    "s": s,
                    "lead": rng.random(n) < 0.4,
                    "n": n,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="session")
def coalitions() -> pd.DataFrame:
    """The table of `made_up_coalitions` at its defaults."""
    return made_up_coalitions()
