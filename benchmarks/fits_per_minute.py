"""Fits of the fast engine per minute of a whole study: data, fits, files, measures and report.

Usage: python benchmarks/fits_per_minute.py [--replications 10000] [--cores 2]

A scenario of 100 groups of three from 40 members, all shared, weights estimated, run by Snakemake
from nothing in a folder of its own. Wall seconds of all, of which a run on two cores is to take
less than 600 for 10,000 replications.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from overhead import environment
from scale import place

STUDY = """\
aims: How many fits a minute.
seed: 1
replications: {replications}
membership: {{kind: synthetic, groups: 100, members: 40, size: 3, overlap: 1}}
covariates:
  x: {{level: member}}
  power: {{level: membership}}
truth:
  formula: >-
    y ~ 1 + mm(id(member, group), vars(x), fn(w ~ 1/(1 + (n-1)*exp(-(b1*power)))), RE = TRUE)
  parameters: {{"b_l2[Intercept]": 0, "b_l1[x]": 0, "b_w[b1]": 1, sigma_l1: 1, sigma_l2: 1}}
methods:
  - {{name: mmmm, kind: mmmm, backend: laplace, sampler: {{chains: 2, draws: 1000}}}}
estimands:
  - {{parameter: "b_l1[x]"}}
"""


def main() -> None:
    """Run the study, print how long it took and how its fits ended."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--replications", type=int, default=10_000)
    options.add_argument("--cores", type=int, default=2)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place(folder, 1)
        file = folder / "config" / "studies" / "many.yaml"
        file.write_text(STUDY.format(replications=given.replications))
        began = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "snakemake",
                "--cores",
                str(given.cores),
                "--config",
                "study=many",
            ],
            cwd=folder,
            env=environment(),
            check=True,
            capture_output=True,
        )
        wall = time.perf_counter() - began
        table = pq.read_table(folder / "results" / "many" / "estimates.parquet")
    once = table.filter(pc.equal(table["parameter"], "b_l1[x]"))
    seconds = once["seconds"].to_numpy()
    print(
        f"{given.replications:,} replications on {given.cores} cores: {wall:.0f} s, "
        f"{60 * given.replications / wall:.0f} fits a minute; a fit takes "
        f"{sorted(seconds)[len(seconds) // 2]:.3f} s in the median, "
        f"{sum(seconds) / wall / given.cores:.0%} of the cores' time is in fits"
    )
    print(
        "fits: "
        + ", ".join(
            f"{c['counts']:,} {c['values']}" for c in once["status"].value_counts().to_pylist()
        )
    )


if __name__ == "__main__":
    main()
