"""Model comparison: which of some candidates has the largest leave-one-out elpd?

Each candidate is fitted by `rmm.fit` to the same data; the chosen one has the largest expected log
predictive density by PSIS-LOO: Vehtari, Gelman & Gabry (2017), Statistics and Computing 27.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmm.errors import BackendTimeout
from rmm.study.files import seeds
from rmm.study.files.parquet import NOT_CONVERGED, OK
from rmm.study.methods.task import Outcome, Task

_PREFIXES = ("choice", "elpd")


def choice_parameters(candidates: Mapping[str, str]) -> list[str]:
    """Names of the rows that a choice has in estimates: ``choice[a]``, ..., ``elpd[a]``, ..."""
    return [f"{prefix}[{name}]" for prefix in _PREFIXES for name in candidates]


def fit_choice(task: Task) -> Outcome:
    """All candidates, and the chosen one.

    Returns
    -------
    Outcome
        ``choice[NAME]`` has the mean 1 for the chosen candidate and 0 for others; ``elpd[NAME]``
        elpd, and its standard error as sd. Not converged if any candidate is not.
    """
    # Here, as every study file is read with the names that a choice has, and few make one.
    from rmm.posterior.prediction.cross_validation import check_comparable
    from rmm.study.methods.bayesian import divergences, engine_version

    fits = {name: _fitted(task, name, text) for name, text in task.candidates.items()}
    check_comparable({name: fit.model for name, fit in fits.items()})
    scores = {name: fit.loo() for name, fit in fits.items()}
    elpd = {name: float(score.elpd) for name, score in scores.items()}
    if not np.isfinite(list(elpd.values())).all():
        raise ValueError(f"elpd is not finite: {elpd}")
    best = max(elpd, key=lambda name: elpd[name])
    rows = [{"parameter": f"choice[{n}]", "mean": float(n == best)} for n in fits]
    rows += [{"parameter": f"elpd[{n}]", "mean": elpd[n], "sd": float(scores[n].se)} for n in fits]
    reason = _reason(task, fits)
    return Outcome(
        NOT_CONVERGED if reason else OK,
        tuple(rows),
        message=reason or _unreliable(scores),
        divergences=sum(divergences(fit) for fit in fits.values()),
        engine=engine_version(next(iter(fits.values())), task.method.backend),
        fit=fits,
    )


def _fitted(task: Task, name: str, formula: str) -> Any:
    """The fit of a candidate; its chains depend on the task's address and its formula."""
    # Late: reading a study file needs no libraries of fits.
    from rmm.study.methods.bayesian import sampled

    seed = seeds.chain_seed(task.seed, name, 0, seeds.digest(formula))
    try:
        return sampled(task, formula, seed, "summary")
    except BackendTimeout:
        raise
    except Exception as error:
        raise ValueError(f"candidate {name}: {error}") from error


def _reason(task: Task, fits: Mapping[str, Any]) -> str:
    # Late: reading a study file needs no libraries of fits.
    from rmm.study.methods.bayesian import structural_table, unconverged

    for name, fit in fits.items():
        reason = unconverged(task, fit, structural_table(fit))
        if reason:
            return f"candidate {name}: {reason}"
    return ""


def _unreliable(scores: Mapping[str, Any]) -> str:
    """Candidates whose elpd rests on importance weights with a Pareto k that is too large."""
    counts = {n: int(np.sum(~(s.pareto_k.to_numpy() <= s.good_k))) for n, s in scores.items()}
    large = [f"{count} units of {name}" for name, count in counts.items() if count]
    return f"Pareto k is large for {', '.join(large)}" if large else ""
