"""Parity: methods that differ in the backend alone have the same posterior on the same data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy import stats

from rmm.study.design.study import Study
from rmm.study.evaluate.criteria.verdict import Verdict, fit_notes
from rmm.study.files import seeds
from rmm.study.files.parquet import OK
from rmm.study.methods.method import WITHOUT_ENGINE, Method

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["scenario", "replication", "parameter"]
#: What two engines need not share: how they are run and when a fit counts as converged.
_OWN = ("name", "backend", "sampler", "gate", "replications")


def same_models(study: Study) -> list[list[Method]]:
    """Methods of the same model and priors, by model."""
    models: dict[str, list[Method]] = {}
    for method in study.methods:
        if method.backend not in WITHOUT_ENGINE:
            settled = dict.fromkeys(study.method_in(s, method.name) for s in study.scenarios)
            model = [{k: v for k, v in m.config.items() if k not in _OWN} for m in settled]
            models.setdefault(seeds.digest(model), []).append(method)
    return list(models.values())


def pairs(study: Study) -> list[tuple[Method, Method]]:
    """Methods of the same model and priors on two engines."""
    return [
        pair
        for same in same_models(study)
        for pair in itertools.combinations(same, 2)
        if pair[0].backend != pair[1].backend
    ]


def judge(study: Study, estimates: pd.DataFrame, settings: Mapping[str, Any]) -> Verdict:
    """Difference of posterior means in combined Monte Carlo errors, and ratio of sds.

    A fit that did not converge has no Monte Carlo error to rely on: its comparisons fail.

    Parameters
    ----------
    settings : mapping
        ``mcse``: largest difference in combined Monte Carlo errors; ``sd_ratio``: largest ratio
        of standard deviations.
    """
    tables = [_compared(study, estimates, settings, *pair) for pair in pairs(study)]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    chance = 2 * stats.norm.sf(settings["mcse"]) * len(table)
    largest = f"; largest: {table['z'].abs().max():.2f}" if len(table) else ""
    notes = (
        *fit_notes(estimates[~estimates["backend"].isin(WITHOUT_ENGINE)]),
        f"Wanted: posterior means within {settings['mcse']:g} combined Monte Carlo errors"
        f"{largest}; standard deviations within a factor of {settings['sd_ratio']:g}; both fits "
        "converged.",
        f"Engines that agree are expected to fail {chance:.2g} of the {len(table)} comparisons of "
        "means.",
    )
    return Verdict(study.name, "parity", table, notes)


def _compared(
    study: Study,
    estimates: pd.DataFrame,
    settings: Mapping[str, Any],
    left: Method,
    right: Method,
) -> pd.DataFrame:
    a, b = (estimates[estimates["method"] == m.name].set_index(_KEYS) for m in (left, right))
    both = a.add_suffix("_a").join(b.add_suffix("_b"), how="outer")
    error = (both["mcse_a"] ** 2 + both["mcse_b"] ** 2) ** 0.5
    z = (both["mean_a"] - both["mean_b"]) / error
    ratio = both["sd_a"] / both["sd_b"]
    limit = settings["sd_ratio"]
    within = (z.abs() <= settings["mcse"]) & ratio.between(1 / limit, limit)
    converged = (both["status_a"] == OK) & (both["status_b"] == OK)
    ess = both[["ess_bulk_a", "ess_bulk_b"]].min(axis=1)
    scenarios = both.index.get_level_values("scenario")
    return pd.DataFrame(
        {
            "scenario": [study.scenario(s).label for s in scenarios],
            "replication": both.index.get_level_values("replication"),
            "methods": f"{left.name}, {right.name}",
            "parameter": both.index.get_level_values("parameter"),
            f"mean_{left.backend}": both["mean_a"].to_numpy(),
            f"mean_{right.backend}": both["mean_b"].to_numpy(),
            "z": z.to_numpy(),
            "sd_ratio": ratio.to_numpy(),
            "min_ess": ess.to_numpy(),
            "passed": (within & converged).to_numpy(),
        }
    )
