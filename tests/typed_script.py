"""What a user writes: type checkers must know every public name that it uses, from outside.

Never run: `tests/repository/test_typed.py` and `test_packaging.py` check it in a folder of its own,
against the installed package.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import rmm
from rmm import DataError, Fit
from rmm.study import load_study, performance, plan, status


def fitted(data: pd.DataFrame) -> Fit:
    try:
        return rmm.fit("y ~ 1 + x", data, "gaussian", backend="laplace", seed=1, missing="drop")
    except DataError as error:
        raise SystemExit(str(error)) from error


data: pd.DataFrame = rmm.datasets.load("coalitions")
fit = fitted(data)
summary: pd.DataFrame = fit.summary()
converged: bool = fit.converged
saved: Path = Path(fit.save("fit.nc"))
again: Fit = rmm.load(saved)
compared: pd.DataFrame = rmm.compare({"one": fit, "two": again})
average: rmm.AverageFit = rmm.average({"one": fit, "two": again})
pooled: rmm.PooledFit = rmm.pool([fit, again])
seen: rmm.TableLook = rmm.look(data, "party", "government")
text: str = rmm.program("y ~ 1 + x", "gaussian", "stan")
study = load_study("study.yaml")
scenarios: list[str] = [scenario.id for scenario in study.scenarios]
jobs: int = len(plan(study, "results/study"))
done: object = status(study, "results/study")["fits"]
scores: pd.DataFrame = performance(data, estimate="b", se="se", truth=0.5)
