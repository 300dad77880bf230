"""Where integrating effects out pays: Stan's two programs side by side on made-up memberships.

Usage: python benchmarks/integration.py

A row is a design (groups, members, three members a group, in so many separate sets) and a model.
ESS per CPU second of the program that integrates effects out, over that of the program that samples
them, is measured for each; the last column says what `rmm.fit` chooses by default.
"""

from __future__ import annotations

import resource
import warnings
from typing import Any

import numpy as np
import pandas as pd

from rmm.backends.base import Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.stan.compile import compile_program
from rmm.backends.stan.marginalize.choose import (
    LIMITS,
    Marginalization,
    choose_marginalization,
)
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.backends.stan.run import run
from rmm.design.prepare import Model, prepare

MODELS = {
    "known": ("y ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE)", "gaussian"),
    "estimated": (
        "y ~ 1 + mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b1*x)))), RE=TRUE)",
        "gaussian",
    ),
    "binomial": ("hit ~ 1 + mm(id(pid, gid), vars(x), RE=TRUE)", "binomial"),
    "durations": (
        "Surv(t, hit) ~ 1"
        " + mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b1*x)))), RE=TRUE)",
        "weibull",
    ),
}
DESIGNS = ((60, 25, 1), (200, 60, 1), (200, 60, 6), (500, 100, 1), (500, 250, 1), (500, 250, 10))
KEPT = ("b_l1", "sigma_l1", "b_w")


def table(groups: int, members: int, sets: int) -> pd.DataFrame:
    """Three members a group, all of one set; effects of sd 1 in both levels."""
    rng = np.random.default_rng(1)
    per, rows = members // sets, []
    effect = rng.normal(size=members)
    for g in range(groups):
        chosen = (g % sets) * per + rng.choice(per, 3, replace=False)
        y = effect[chosen].mean() + rng.normal()
        rows += [
            {"gid": g, "pid": p, "x": rng.normal(), "y": y, "hit": int(y > 0), "t": np.exp(y)}
            for p in chosen
        ]
    return pd.DataFrame(rows)


def measure(model: Model, chosen: Marginalization | None) -> float:
    """Smallest bulk ESS of the counted parameters per CPU second of sampling."""
    from arviz_stats.base import array_stats

    spec, forms = model.spec, model.priors.forms
    text = stan.write(spec, forms, chosen)
    values = stan.data(spec, model.design, prior_values(model), chosen)
    starts = [
        stan.initial(spec, forms, prior_values(model), v) for v in initial_values(model, 2, 1)
    ]
    kept = tuple(p.name for p in spec.parameters if p.name in KEPT)
    options = stan.engine_options(chosen)
    settings = Settings(2, 500, 500, seed=1, cores=2, monitor=kept, options=options)
    compile_program(text)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    draws: Any = run(text, values, starts, settings).draws
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = [array_stats.ess(draws[k].reshape(2, 500), method="bulk", **axes) for k in kept]
    return float(min(ess)) / seconds


def main() -> None:
    """Print a row for each design and model."""
    warnings.simplefilter("ignore")
    unlimited = dict.fromkeys(LIMITS, np.inf)
    print("groups members sets  model      sampled/s  integrated/s  ratio  chosen", flush=True)
    for design in DESIGNS:
        rows = table(*design)
        for name, (formula, family) in MODELS.items():
            model = prepare(formula, rows, family)
            chosen = choose_marginalization(model.spec, model.design)
            possible = choose_marginalization(model.spec, model.design, unlimited)
            plain, other = (measure(model, which) for which in (None, possible))
            print(
                f"{design[0]:6}{design[1]:8}{design[2]:5}  {name:10}{plain:10.0f}{other:14.0f}"
                f"{other / plain:7.1f}  {'integrated' if chosen else 'sampled'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
