"""Effective draws per CPU second: a JAGS program in the style of R's bml, and our three engines.

Usage: python benchmarks/peers.py [--groups 628,...] [--families gaussian,...] [--weights fixed,...]
       [--programs laplace,...] [--out FOLDER]

Every fit is a process of its own, one after the other in one run. The measure is the smallest
bulk ESS over b_l1, sigma_l1 and b_w, divided by the CPU time of the engine's processes: warm-up
included, compilation of the model excluded; of laplace, by that of all of `rmm.fit`, and its ESS is
at most that of its weights. All programs have the same posterior (priors="rmm", with b_w ~
normal(0, 1), since the vague prior leaves b_w without one). Compare rows of one run, not machines.

Where a program has not converged (R-hat above 1.1) its ESS says that it is slow, not how slow.
Ratios to it stand beside what they are at least: had each of its draws been independent.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import bml_style
import coalition_table
import numpy as np
import pandas as pd

import rmm
from rmm.backends.base import Settings
from rmm.backends.jags import run as jags_backend
from rmm.families import FAMILIES as KNOWN

OUT = Path(__file__).parent / "results"
FAMILIES = ("gaussian", "binomial", "condlogit", "weibull", "cox")
PROGRAMS = ("bml style", "jags", "stan", "laplace")
MARKS = {"bml style": "x", "jags": "o", "stan": "s", "laplace": "D"}
CHAINS = 4
# (warm-up, draws) per chain: long enough for a stable ESS, short enough for one sitting.
# Not so for bml style and cox, whose table takes seconds an iteration.
LENGTHS = {
    ("bml style", "weibull"): (1000, 3000),
    ("bml style", "cox"): (20, 40),
    ("jags", "cox"): (250, 500),
    ("jags", "condlogit"): (500, 1000),
}
USUAL = (1000, 2000)
#: From so many groups on JAGS's chains are this many times shorter, and some fits are left out:
#: JAGS's table of a Cox model, laplace's dense factors of thousands of effects take hours.
MANY, SHORTER = 2000, 4
LEFT_OUT = {("bml style", "cox"), ("jags", "cox"), ("laplace", "cox"), ("laplace", "condlogit")}
#: Effective draws that laplace is asked for: the first cost most.
EFFECTIVE = {"gaussian": 2000, "binomial": 2000, "condlogit": 2000}
_CONVERGED = 1.1
COUNTED = {"b.l1": "b_l1", "sigma.l1": "sigma_l1", "b.w": "b_w"}


def measure(program: str, family: str, weights: str, groups: int) -> dict[str, Any]:
    """Fit once; a row of the table."""
    data, table = coalition_table.read(groups, family)
    warmup, draws = LENGTHS.get((program, family), USUAL)
    if groups >= MANY and program in ("bml style", "jags"):
        warmup, draws = warmup // SHORTER, draws // SHORTER
    settings = Settings(chains=CHAINS, warmup=warmup, draws=draws, seed=1, cores=2)
    run = {"bml style": _bml_style, "laplace": _laplace}.get(program, _ours)
    cpu, wall, found, more = run(program, family, weights, table, settings)
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = {
        k: min(
            float(np.squeeze(array_stats.ess(v, method="bulk", **axes))), more.get("ess", np.inf)
        )
        for k, v in found.items()
    }
    rhat = {k: float(np.squeeze(array_stats.rhat(v, **axes))) for k, v in found.items()}
    worst = min(ess, key=lambda k: ess[k])
    converged = max(rhat.values()) <= _CONVERGED and more.get("pareto_k", 0.0) <= 0.7
    return {
        "groups": groups,
        "family": family,
        "weights": weights,
        "program": program,
        "data": data,
        "warmup": warmup,
        "draws": draws,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "min_ess": ess[worst],
        "of": worst,
        "max_rhat": max(rhat.values()),
        "converged": converged,
        "divergences": more.get("divergences", 0),
        "pareto_k": more.get("pareto_k", np.nan),
        "ess_per_cpu_second": ess[worst] / cpu,
        "at_most": (ess[worst] if converged else CHAINS * draws) / cpu,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        **{f"mean_{k}": float(v.mean()) for k, v in found.items()},
    }


def _bml_style(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], dict[str, float]]:
    inits = [bml_style.initial(family, weights, table, k) for k in range(settings.chains)]
    monitor = bml_style.monitored(family, weights)
    settings = Settings(
        chains=settings.chains,
        warmup=settings.warmup,
        draws=settings.draws,
        seed=settings.seed,
        cores=settings.cores,
        monitor=monitor,
    )
    run = jags_backend.run(
        bml_style.program(family, weights), bml_style.data(family, weights, table), inits, settings
    )
    found = {COUNTED[k]: run.draws[k] for k in COUNTED if k in run.draws}
    return run.engine["seconds_cpu"], run.seconds, found, {}


def _ours(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], dict[str, float]]:
    text, priors = coalition_table.formula(family, weights), _priors(weights)
    if program == "stan":
        from rmm.backends.stan.compile import compile_program

        compile_program(rmm.program(text, family, "stan", data=table, priors=priors))
    before = _children()
    fit = rmm.fit(
        text,
        table,
        family,
        backend=program,
        priors=priors,
        chains=settings.chains,
        warmup=settings.warmup,
        draws=settings.draws,
        seed=settings.seed,
        cores=settings.cores,
        progress=False,
    )
    cpu = _children() - before if program == "stan" else fit.run.engine["seconds_cpu"]
    found = {
        k: fit.run.draws[k].reshape(CHAINS, settings.draws, -1)[:, :, 0]
        for k in COUNTED.values()
        if k in fit.run.draws
    }
    divergences = float(np.sum(fit.run.sample_stats.get("diverging", 0)))
    return cpu, fit.run.seconds, found, {"divergences": divergences}


def _laplace(
    program: str, family: str, weights: str, table: pd.DataFrame, settings: Settings
) -> tuple[float, float, dict[str, Any], dict[str, float]]:
    text, priors = coalition_table.formula(family, weights), _priors(weights)
    some = table[table["gid"].isin(table["gid"].unique()[:40])]
    given = {
        "priors": priors,
        "chains": CHAINS,
        "draws": settings.draws,
        "seed": settings.seed,
        "progress": False,
        "monitor": "structural",
    }
    rmm.fit(text, some, family, backend="laplace", **given)  # libraries are loaded then
    if family in EFFECTIVE:
        given["ess"] = EFFECTIVE[family]
    before, began = time.process_time(), time.perf_counter()
    fit = rmm.fit(text, table, family, backend="laplace", **given)
    cpu, wall = time.process_time() - before, time.perf_counter() - began
    found = {
        k: fit.run.draws[k].reshape(CHAINS, settings.draws, -1)[:, :, 0]
        for k in COUNTED.values()
        if k in fit.run.draws
    }
    return cpu, wall, found, {k: float(fit.run.engine[k]) for k in ("ess", "pareto_k")}


def _priors(weights: str) -> Any:
    return ["rmm", "b_w ~ normal(0, 1)"] if weights == "estimated" else "rmm"


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---- the run -----------------------------------------------------------------------------------


def collect(cases: list[tuple[str, ...]], out: Path) -> pd.DataFrame:
    """All rows, each measured by a process of its own and written as soon as it is known."""
    rows: list[dict[str, Any]] = []
    for groups, family, weights, program in cases:
        if int(groups) >= MANY and (program, family) in LEFT_OUT:
            print(f"{groups:>6} {family:10}{weights:10}{program:10} left out: hours", flush=True)
            continue
        command = [sys.executable, __file__, "--one", program, family, weights, groups]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        row = rows[-1]
        print(
            f"{groups:>6} {family:10}{weights:10}{program:10}{row['cpu_seconds']:9.1f} CPU s"
            f"{row['min_ess']:8.0f} ESS of {row['of']:9}"
            f"{row['ess_per_cpu_second']:9.2f} per s",
            flush=True,
        )
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
    """`ratio` to the program in bml's style, same data, family and weights, and `at_least`."""
    same = ["groups", "family", "weights"]
    base = table[table["program"] == "bml style"].set_index(same)
    keys = pd.MultiIndex.from_frame(table[same])
    speed = table["ess_per_cpu_second"]
    return table.assign(
        ratio=speed / base["ess_per_cpu_second"].reindex(keys).to_numpy(),
        at_least=speed / base["at_most"].reindex(keys).to_numpy(),
    )


def as_markdown(table: pd.DataFrame) -> str:
    """The table as it is quoted."""
    lines = [
        "| groups | family | weights | program | CPU s | min. ESS (of) | R-hat | Pareto k "
        "| ESS / CPU s | ratio |",
        "|--:|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table.to_dict("records"):
        ratio = "" if np.isnan(row["ratio"]) else f"{row['ratio']:.3g}"
        if ratio and row["at_least"] < row["ratio"] and row["program"] != "bml style":
            ratio += f" (at least {row['at_least']:.2g})"
        k = "" if np.isnan(row["pareto_k"]) else f"{row['pareto_k']:.2f}"
        lines.append(
            f"| {row['groups']:,} | {row['family']} | {row['weights']} | {row['program']} "
            f"| {row['cpu_seconds']:.1f} | {row['min_ess']:.0f} ({row['of']}) "
            f"| {row['max_rhat']:.3f} | {k} | {row['ess_per_cpu_second']:.3g} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Effective draws per CPU second, a line per model, a mark per program."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = ["groups", "family", "weights"]
    models = list(dict.fromkeys(table[columns].itertuples(index=False, name=None)))
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(models) + 1.3), layout="constrained")
    for program, mark in MARKS.items():
        rows = table[(table["program"] == program)]
        place = [models.index(m) for m in rows[columns].itertuples(index=False, name=None)]
        axes.plot(rows["ess_per_cpu_second"], place, mark, label=program)
    axes.set_yticks(range(len(models)), [f"{n:,} groups, {f}, {w} weights" for n, f, w in models])
    axes.set(xscale="log", xlabel="smallest ESS (b_l1, sigma_l1, b_w) per CPU second")
    axes.margins(y=0.3 / max(1, len(models) - 1))
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, and write peers.csv, peers.md and peers.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=4, metavar=("PROGRAM", "FAMILY", "WEIGHTS", "GROUPS"))
    parser.add_argument("--groups", default="628,100,5000")
    parser.add_argument("--families", default=",".join(f for f in FAMILIES if f in KNOWN))
    parser.add_argument("--weights", default="fixed,estimated")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.one:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            *words, groups = given.one
            print(json.dumps(measure(*words, int(groups))))
        return
    wanted = (given.groups, given.families, given.weights, given.programs)
    table = collect(list(itertools.product(*(text.split(",") for text in wanted))), given.out)
    draw(table, given.out / "peers.png")
    print(as_markdown(table))


if __name__ == "__main__":
    main()
