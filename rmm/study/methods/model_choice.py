"""Several candidates: which has the largest leave-one-out elpd, and what do all of them say?

Each candidate is fitted by `rmm.fit` to the same data; the chosen one has the largest expected log
predictive density by PSIS-LOO: Vehtari, Gelman & Gabry (2017), Statistics and Computing 27. An
average mixes the draws of the candidates by their weights: `rmm.posterior.comparison.averaging`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import BackendTimeout, counted
from rmm.study.files import seeds
from rmm.study.files.parquet import NOT_CONVERGED, OK
from rmm.study.methods.task import Outcome, Task

if TYPE_CHECKING:
    from rmm.posterior.comparison.averaging import AverageFit

#: Kind of method -> rows of estimates that each candidate has.
_PREFIXES = {"choice": ("choice", "elpd"), "average": ("weight",)}
_SELECTION = "selection"


def choice_parameters(kind: str, candidates: Mapping[str, str]) -> list[str]:
    """Names of the rows that a method has for candidates: ``choice[a]``, ..., ``elpd[a]``, ..."""
    return [f"{prefix}[{name}]" for prefix in _PREFIXES.get(kind, ()) for name in candidates]


def fit_choice(task: Task) -> Outcome:
    """All candidates, and the chosen one.

    Returns
    -------
    Outcome
        ``choice[NAME]`` has the mean 1 for the chosen candidate and 0 for others; ``elpd[NAME]``
        elpd, and its standard error as sd. Not converged if any candidate is not.
    """
    fits = _all_fitted(task)
    scores = {name: fit.loo() for name, fit in fits.items()}
    elpd, best = _best(scores)
    rows = [{"parameter": f"choice[{n}]", "mean": float(n == best)} for n in fits]
    rows += [{"parameter": f"elpd[{n}]", "mean": elpd[n], "sd": float(scores[n].se)} for n in fits]
    return _outcome(task, fits, rows, _unreliable(scores))


def fit_average(task: Task) -> Outcome:
    """All candidates, their draws mixed by stacking, evidence, or selection of one of them.

    Returns
    -------
    Outcome
        ``weight[NAME]`` has a candidate's weight as its mean. Parameters that all candidates have,
        and ready estimands, with the mean, sd, quantiles and test of the mixture. Selected
        estimates are those of the chosen candidate, as if no other had been looked at. Not
        converged if any candidate is not.
    """
    # Late: reading a study file needs no libraries of fits.
    from rmm.posterior.comparison.averaging import average

    fits, by = _all_fitted(task), task.method.config["by"]
    note = ""
    if by == _SELECTION:
        scores = {name: fit.loo() for name, fit in fits.items()}
        best, note = _best(scores)[1], _unreliable(scores)
        mixed = average(fits, weights={name: float(name == best) for name in fits})
    else:
        mixed = average(fits, by)
    rows = [{"parameter": f"weight[{n}]", "mean": float(w)} for n, w in mixed.weights.items()]
    return _outcome(task, fits, [*rows, *_mixture_rows(task, mixed)], note)


def _mixture_rows(task: Task, mixed: AverageFit) -> list[dict[str, Any]]:
    """Rows of the mixture: draws of each model in proportion to its weight."""
    # Late: reading a study file needs no libraries of fits.
    from rmm.posterior.estimands import estimate
    from rmm.posterior.estimands.quantity import Source
    from rmm.study.methods.bayesian import structural_table, table_of_draws

    common: dict[str, None] | None = None
    for fit in mixed.fits.values():
        names = structural_table(fit).names
        common = dict.fromkeys(n for n in names if common is None or n in common)
    parts = []
    for fit in mixed.parts():
        table = structural_table(fit)
        places = [table.names.index(name) for name in common or ()]
        source = Source(fit.model, fit.run, task.seed)
        ready = [estimate(source, *one).number() for one in task.ready.values()]
        parts.append(np.column_stack([table.draws[:, places], *ready]))
    return table_of_draws((*(common or ()), *task.ready), np.concatenate(parts)).rows(task)


def _all_fitted(task: Task) -> dict[str, Any]:
    """The fits of all candidates, which are of the same outcomes."""
    # Here, as every study file is read with the names that a choice has, and few make one.
    from rmm.posterior.prediction.cross_validation import check_comparable

    fits = {name: _fitted(task, name, text) for name, text in task.candidates.items()}
    check_comparable({name: fit.model for name, fit in fits.items()})
    return fits


def _best(scores: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Elpd of each candidate, and the candidate with the largest."""
    elpd = {name: float(score.elpd) for name, score in scores.items()}
    if not np.isfinite(list(elpd.values())).all():
        raise ValueError(f"elpd is not finite: {elpd}")
    return elpd, max(elpd, key=lambda name: elpd[name])


def _outcome(task: Task, fits: Mapping[str, Any], rows: list[dict[str, Any]], note: str) -> Outcome:
    """Rows of all candidates together; `note` is the message of a usable fit."""
    # Late: reading a study file needs no libraries of fits.
    from rmm.study.methods.bayesian import divergences, engine_version

    reason = _reason(task, fits)
    return Outcome(
        NOT_CONVERGED if reason else OK,
        tuple(rows),
        message=reason or note,
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
    large = [f"{counted(count, 'unit')} of {name}" for name, count in counts.items() if count]
    return f"Pareto k is large for {', '.join(large)}" if large else ""
