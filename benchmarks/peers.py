"""Effective draws per CPU second: a JAGS program in the style of R's bml, our JAGS, our Stan.

Usage: python benchmarks/peers.py [--families gaussian,...] [--weights fixed,...] [--out FOLDER]

Every fit is a process of its own, one after the other in one run. The measure is the smallest
bulk ESS over b_l1, sigma_l1 and b_w, divided by the CPU time of the engine's processes: warm-up
included, compilation of the model excluded. All programs have the same posterior (priors="rmm",
with b_w ~ normal(0, 1), since the vague prior leaves b_w without one). Compare rows of one run,
not machines.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import bml_style
import coalition_table
import numpy as np
import pandas as pd

import rmm
from rmm.backends import jags as jags_backend
from rmm.backends.base import Settings
from rmm.families import FAMILIES as KNOWN

OUT = Path(__file__).parent / "results"
FAMILIES = ("gaussian", "binomial", "weibull", "cox")
PROGRAMS = ("bml style", "jags", "stan")
CHAINS = 4
# (warm-up, draws) per chain: long enough for a stable ESS, short enough for one sitting.
# Not so for bml style and cox, whose table takes seconds an iteration: its ESS is an order only.
LENGTHS = {
    ("bml style", "gaussian"): (1000, 2000),
    ("bml style", "binomial"): (1000, 2000),
    ("bml style", "weibull"): (1000, 3000),
    ("bml style", "cox"): (100, 200),
    ("jags", "weibull"): (1000, 2000),
    ("jags", "cox"): (1000, 2000),
}
USUAL = (1000, 2000)
COUNTED = {"b.l1": "b_l1", "sigma.l1": "sigma_l1", "b.w": "b_w"}


def measure(program: str, family: str, weights: str) -> dict[str, Any]:
    """Fit once; a row of the table."""
    data, table = coalition_table.read()
    warmup, draws = LENGTHS.get((program, family), USUAL)
    settings = Settings(chains=CHAINS, warmup=warmup, draws=draws, seed=1, cores=2)
    run = _bml_style if program == "bml style" else _ours
    cpu, wall, found, divergences = run(program, family, weights, table, settings)
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = {
        k: float(np.squeeze(array_stats.ess(v, method="bulk", **axes))) for k, v in found.items()
    }
    rhat = {k: float(np.squeeze(array_stats.rhat(v, **axes))) for k, v in found.items()}
    worst = min(ess, key=lambda k: ess[k])
    return {
        "family": family, "weights": weights, "program": program, "data": data,
        "warmup": warmup, "draws": draws, "cpu_seconds": cpu, "wall_seconds": wall,
        "min_ess": ess[worst], "of": worst, "max_rhat": max(rhat.values()),
        "divergences": divergences, "ess_per_cpu_second": ess[worst] / cpu,
        **{f"mean_{k}": float(v.mean()) for k, v in found.items()},
    }  # fmt: skip


def _bml_style(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], int]:
    inits = [bml_style.initial(family, weights, table, k) for k in range(settings.chains)]
    monitor = bml_style.monitored(family, weights)
    settings = Settings(
        chains=settings.chains, warmup=settings.warmup, draws=settings.draws, seed=settings.seed,
        cores=settings.cores, monitor=monitor,
    )  # fmt: skip
    run = jags_backend.run(
        bml_style.program(family, weights), bml_style.data(family, weights, table), inits, settings
    )
    found = {COUNTED[k]: run.draws[k] for k in COUNTED if k in run.draws}
    return run.engine["seconds_cpu"], run.seconds, found, 0


def _ours(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], int]:
    text = coalition_table.formula(family, weights)
    priors = ["rmm", "b_w ~ normal(0, 1)"] if weights == "estimated" else "rmm"
    if program == "stan":
        from rmm.backends.stan import compile_program

        compile_program(rmm.program(text, family, "stan", data=table, priors=priors))
    before = _children()
    fit = rmm.fit(text, table, family, backend=program, priors=priors, chains=settings.chains,
                  warmup=settings.warmup, draws=settings.draws, seed=settings.seed,
                  cores=settings.cores, progress=False)  # fmt: skip
    cpu = _children() - before if program == "stan" else fit.run.engine["seconds_cpu"]
    found = {k: fit.run.draws[k].reshape(CHAINS, settings.draws, -1)[:, :, 0]
             for k in COUNTED.values() if k in fit.run.draws}  # fmt: skip
    divergences = int(np.sum(fit.run.sample_stats.get("diverging", 0)))
    return cpu, fit.run.seconds, found, divergences


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---- the run -----------------------------------------------------------------------------------


def collect(chosen: list[str], weights: list[str], out: Path) -> pd.DataFrame:
    """All rows, each measured by a process of its own and written as soon as it is known."""
    rows: list[dict[str, Any]] = []
    for family in chosen:
        for kind in weights:
            for program in PROGRAMS:
                command = [sys.executable, __file__, "--one", program, family, kind]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                row = rows[-1]
                print(f"{family:9}{kind:10}{program:10}{row['cpu_seconds']:9.1f} CPU s"
                      f"{row['min_ess']:8.0f} ESS of {row['of']:9}"
                      f"{row['ess_per_cpu_second']:9.2f} per s", flush=True)  # fmt: skip
                write(with_ratios(pd.DataFrame(rows)), out)
    return with_ratios(pd.DataFrame(rows))


def write(table: pd.DataFrame, out: Path) -> None:
    """peers.csv and peers.md, complete at every moment."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("peers.csv", table.to_csv(index=False, float_format="%.6g")),
        ("peers.md", as_markdown(table)),
    ):
        beside = out / f".{name}.new"
        beside.write_text(text)
        beside.replace(out / name)


def with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The column `ratio`: to the program in bml's style, same family and weights."""
    peer = table[table["program"] == "bml style"].set_index(["family", "weights"])
    base = peer["ess_per_cpu_second"]
    keys = pd.MultiIndex.from_frame(table[["family", "weights"]])
    return table.assign(ratio=table["ess_per_cpu_second"] / base.reindex(keys).to_numpy())


def as_markdown(table: pd.DataFrame) -> str:
    """The table as it is quoted."""
    lines = ["| family | weights | program | CPU s | min. ESS (of) | R-hat | ESS / CPU s | ratio |",
             "|---|---|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for row in table.to_dict("records"):
        lines.append(
            f"| {row['family']} | {row['weights']} | {row['program']} | {row['cpu_seconds']:.1f} "
            f"| {row['min_ess']:.0f} ({row['of']}) | {row['max_rhat']:.3f} "
            f"| {row['ess_per_cpu_second']:.3g} | {row['ratio']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Effective draws per CPU second, a line per model, a mark per program."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(zip(table["family"], table["weights"], strict=True)))
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(models) + 1.3), layout="constrained")
    for program, mark in zip(PROGRAMS, "xos", strict=True):
        rows = table[table["program"] == program]
        place = [models.index(m) for m in zip(rows["family"], rows["weights"], strict=True)]
        axes.plot(rows["ess_per_cpu_second"], place, mark, label=program)
    axes.set_yticks(range(len(models)), [f"{f}, {w} weights" for f, w in models])
    axes.set(xscale="log", xlabel="smallest ESS (b_l1, sigma_l1, b_w) per CPU second")
    axes.margins(y=0.3 / max(1, len(models) - 1))
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, and write peers.csv, peers.md and peers.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, metavar=("PROGRAM", "FAMILY", "WEIGHTS"))
    parser.add_argument("--families", default=",".join(f for f in FAMILIES if f in KNOWN))
    parser.add_argument("--weights", default="fixed,estimated")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.one:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(measure(*given.one)))
        return
    table = collect(given.families.split(","), given.weights.split(","), given.out)
    draw(table, given.out / "peers.png")
    print(as_markdown(table))


if __name__ == "__main__":
    main()
