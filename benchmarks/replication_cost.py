"""CPU milliseconds of one replication of a study by laplace, stage by stage.

    python benchmarks/replication_cost.py [--rounds 3] [--only gaussian] [--before PATH]
    python benchmarks/replication_cost.py --profile estimated

120 groups of 3 from 30 members, in one batch: data are simulated, fitted and written as a study's
job does it. Memberships are drawn in each replication (the default of study files) or once.
CPU time of each stage is without that of stages inside it, and the least of the rounds counts: it
has nothing of other processes but what they take from the caches. `--before` measures another
checkout as well, in turns. `--profile` prints what cProfile finds in one model instead.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parents[1]
STUDY = """\
aims: What one replication costs.
seed: 1
replications: 1000
batch: 1000
membership: {{kind: synthetic, groups: 120, members: 30, size: 3, redraw: {redraw}}}
covariates:
  z: {{level: group}}
  x: {{level: member}}
  power: {{level: membership}}
truth:
  family: {family}
  formula: "y ~ 1 + z + mm(id(member, group), vars(x), fn({weights}), RE = TRUE)"
  parameters: {parameters}
methods:
  - {{name: fit, kind: {kind}, backend: laplace, sampler: {{chains: 2, draws: 500}}}}
estimands:
  - {{parameter: "b_l1[x]"}}
"""
FIXED, ESTIMATED = "w ~ 1/n", "w ~ 1/(1 + (n-1)*exp(-(b1*power)))"
#: Name -> family, weights, whether memberships are drawn in each replication.
MODELS = {
    "gaussian fixed": ("gaussian", FIXED, True),
    "gaussian estimated": ("gaussian", ESTIMATED, True),
    "gaussian estimated, memberships once": ("gaussian", ESTIMATED, False),
    "binomial fixed": ("binomial", FIXED, True),
    "binomial estimated": ("binomial", ESTIMATED, True),
}
#: Stage -> functions by the module that calls them, outermost first; a checkout has some of them.
STAGES = {
    "simulate": ("rmm.study.run.replicate:draw",),
    "table": (
        "rmm.study.methods.bayesian:engine_data",
        "rmm.study.methods.bayesian:table_of_arrays",
        "rmm.design.prepare:read_table",
        "rmm.design.prepare:simplify_columns",
    ),
    "rows into groups": ("rmm.design.prepare:group_table",),
    "design": ("rmm.fitting.pipeline:prepare", "rmm.study.methods.bayesian:lay_out"),
    "checks of the design": ("rmm.fitting.pipeline:warn_of_design",),
    "priors": ("rmm.design.prepare:resolve", "rmm.design.prepare:place_priors"),
    "initial values": ("rmm.fitting.pipeline:initial_values",),
    "draws": ("rmm.fitting.engine_choice:check_draws",),
    "rows of estimates": ("rmm.study.run.batch:fit_task",),
    "file": (
        "rmm.study.run.checkpoint:Checkpoint.add",
        "rmm.study.run.checkpoint:Checkpoint.finish",
    ),
}
ENGINE = ("engine: arrays", "engine: fit")


class Stages:
    """CPU seconds of each stage, without those of stages inside it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inside: list[float] = []

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is added to a stage."""

        def call(*values: Any, **named: Any) -> Any:
            self._inside.append(0.0)
            began = time.process_time()
            try:
                return function(*values, **named)
            finally:
                took = time.process_time() - began
                self.seconds[stage] += took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        return call

    def put_in_place(self) -> None:
        """Time all stages from here on."""
        for stage, places in STAGES.items():
            for place in places:
                module, _, path = place.partition(":")
                *owners, name = path.split(".")
                owner: Any = import_module(module)
                for part in owners:
                    owner = getattr(owner, part)
                if hasattr(owner, name):
                    setattr(owner, name, self.timed(stage, getattr(owner, name)))
        laplace = import_module("rmm.backends.laplace.backend")
        engine, arrays, fit = laplace.BACKEND, *ENGINE

        def prepare(model: Any) -> Any:
            found = engine.prepare(model)
            return replace(found, data=self.timed(arrays, found.data))

        laplace.BACKEND = replace(
            engine, prepare=self.timed(arrays, prepare), run=self.timed(fit, engine.run)
        )


def study_text(name: str) -> str:
    """The study file of a model."""
    family, weights, redraw = MODELS[name]
    parameters = {"b_l2[Intercept]": 0, "b_l2[z]": 0.3, "b_l1[x]": 0.5, "sigma_l1": 1}
    if family == "gaussian":
        parameters["sigma_l2"] = 1
    if weights == ESTIMATED:
        parameters["b_w[b1]"] = 0.5
    return STUDY.format(
        redraw=str(redraw).lower(),
        family=family,
        weights=weights,
        parameters=json.dumps(parameters),
        kind="mmmm" if weights == ESTIMATED else "mm",
    )


def measure(name: str, replications: int, profile: bool) -> dict[str, float]:
    """Milliseconds per replication of each stage, in this process."""
    study_of = import_module("rmm.study.design.study").load_study
    batch = import_module("rmm.study.run.batch")
    stages = Stages()
    if not profile:
        stages.put_in_place()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cost.yaml"
        file.write_text(study_text(name))
        study = study_of(file)
        scenario = study.scenarios[0].id
        made = Path(folder) / "estimates" / scenario / "fit"
        made.mkdir(parents=True)
        warnings.simplefilter("ignore")
        batch.run_batch(study, scenario, "fit", 901, 905, made / "00901-00905.parquet")
        stages.seconds.clear()
        measured = cProfile.Profile()
        began = time.process_time()
        if profile:
            measured.enable()
        batch.run_batch(study, scenario, "fit", 1, replications, made / "00001-00900.parquet")
        measured.disable()
        total = time.process_time() - began
    if profile:
        pstats.Stats(measured).sort_stats("cumulative").print_stats(120)
    found = dict(stages.seconds)
    found["other"] = total - sum(found.values())
    return {stage: 1000 * seconds / replications for stage, seconds in found.items()}


def measured_in(root: Path, name: str, replications: int) -> dict[str, float]:
    """The same in a process of its own, with the package of a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name]
    command += ["--replications", str(replications)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def least(root: Path, models: list[str], replications: int) -> dict[str, dict[str, float]]:
    """Milliseconds of some models in one checkout."""
    return {name: measured_in(root, name, replications) for name in models}


def smaller(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """The round with the smaller total."""
    return min(one, other, key=lambda found: sum(found.values()))


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    """Print a table, a model per column."""
    print(f"\n{title}: CPU ms per replication")
    for number, name in enumerate(found, start=1):
        print(f"  ({number}) {name}")
    print(f"{'':24}" + "".join(f"{f'({k + 1})':>8}" for k in range(len(found))))
    stages = [*STAGES, "other"]
    lines = {s: [f.get(s, 0.0) for f in found.values()] for s in (*stages, *ENGINE)}
    around = [sum(column) for column in zip(*(lines[s] for s in stages), strict=True)]
    engine = [sum(column) for column in zip(*(lines[s] for s in ENGINE), strict=True)]
    for stage in stages:
        _line(stage, lines[stage])
    _line("AROUND THE ENGINE", around)
    for stage in ENGINE:
        _line(stage, lines[stage])
    _line("TOTAL", [a + e for a, e in zip(around, engine, strict=True)])


def _line(name: str, values: list[float]) -> None:
    print(f"{name:24}" + "".join(f"{v:8.2f}" for v in values))


def main() -> None:
    """Print tables of stages by models."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another checkout, to be measured as well")
    parser.add_argument("--only", default="", help="words of the names of models")
    parser.add_argument("--profile", help="words of a model's name: what cProfile finds")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one or given.profile:
        name = given.one or next(n for n in MODELS if given.profile in n)
        print(json.dumps(measure(name, given.replications, bool(given.profile))))
        return
    models = [name for name in MODELS if given.only in name]
    roots = {"after" if given.before else "now": ROOT}
    if given.before:
        roots = {"before": given.before.resolve(), **roots}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for _ in range(given.rounds):
        for title, root in roots.items():
            new = least(root, models, given.replications)
            old = found.get(title, new)
            found[title] = {name: smaller(old[name], new[name]) for name in models}
    for title, models in found.items():
        show(title, models)


if __name__ == "__main__":
    main()
