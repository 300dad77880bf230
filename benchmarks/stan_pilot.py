"""Stan fits of a study with and without a pilot fit: CPU time, ESS and status.

Usage: python benchmarks/stan_pilot.py [--replications 20] [--kind mm]

The quick start's scenario in which members hold seats in several groups (120 groups of 3 from 30
members), 2 chains of 500 draws. Programs are compiled first. CPU seconds include the pilot fit.
Also prints what the process of a chain costs by itself.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from rmm.study import load_study, run_batch
from rmm.study.run.compile_programs import compile_method

QUICKSTART = Path(__file__).parents[1] / "config" / "studies" / "quickstart.yaml"
SAMPLERS = {
    "warm-up 500": {"warmup": 500},
    "warm-up 100": {"warmup": 100},
    "pilot 500, warm-up 100": {"warmup": 100, "pilot": 500},
    "pilot 500, warm-up 50": {"warmup": 50, "pilot": 500},
}


def cpu() -> float:
    """User and system seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def method(kind: str, name: str, sampler: dict[str, int]) -> dict[str, Any]:
    """A method of the study file."""
    gate = {"rhat": 1.05, "ess_per_chain": 50}
    both = {"chains": 2, "draws": 500, **sampler}
    slug = name.replace(" ", "_").replace(",", "")
    return {"name": slug, "kind": kind, "backend": "stan", "sampler": both, "gate": gate}


def main() -> None:
    """Run the batches and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--kind", choices=("mm", "mmmm"), default="mm")
    given = parser.parse_args()
    config = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    for key in ("vary", "report", "estimands", "smoke"):
        config.pop(key, None)
    config["methods"] = [method(given.kind, *row) for row in SAMPLERS.items()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "pilot.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        study = load_study(path)
        compile_method(study, study.methods[0].name, folder / "programs.json")
        scenario, last = study.scenarios[0].id, given.replications
        warm = folder / "first" / "1-1.parquet"
        run_batch(study, scenario, study.methods[0].name, 1, 1, warm)  # imports
        for one, label in zip(study.methods, SAMPLERS, strict=True):
            batch = folder / one.name / f"1-{last}.parquet"
            before = cpu()
            run_batch(study, scenario, one.name, 1, last, batch)
            seconds = (cpu() - before) / last
            table = pq.read_table(batch, partitioning=None).to_pandas()
            smallest = table.groupby("replication")["ess_bulk"].min().mean()
            ok = table.groupby("replication")["status"].first().eq("ok").sum()
            print(
                f"{given.kind}; {label}: CPU {seconds:.3f} s per fit; smallest ESS {smallest:.0f}; "
                f"ESS per CPU second {smallest / seconds:.0f}; {ok} of {last} converged",
                flush=True,
            )
        (program,) = yaml.safe_load((folder / "programs.json").read_text())["programs"][:1]
        before = cpu()
        for _ in range(50):
            subprocess.run([program, "info"], check=True, capture_output=True)
        print(f"process of a chain that samples nothing: CPU {(cpu() - before) / 50 * 1000:.1f} ms")


if __name__ == "__main__":
    main()
