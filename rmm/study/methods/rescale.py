"""Estimates that are about one member, made comparable with those about all members of a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rmm.study.methods.scales import RESCALED
from rmm.study.methods.task import Outcome, Task

#: Columns of estimates in units of the estimate.
_UNITS = ("mean", "median", "sd", "lower", "upper", "lower90", "upper90", "lower99", "upper99",
          "mcse", "null")  # fmt: skip


def rescaled(fit: Callable[[Task], Outcome], task: Task) -> Outcome:
    """Fit, and multiply coefficients of member covariates by M / G if the method says `rescale`.

    For G groups with M memberships; `rmm.study.methods.scales` has the reason. The test is of the
    same null value, on the scale of the truth.
    """
    if task.method.config.get("rescale") != RESCALED:
        return fit(task)
    memberships = task.drawn.memberships
    factor = memberships.counts["membership"] / memberships.counts["group"]
    nulls = {n: v / factor if _of_members(n) else v for n, v in task.nulls.items()}
    outcome = fit(replace(task, nulls=nulls))
    return replace(outcome, estimates=tuple(_times(row, factor) for row in outcome.estimates))


def _of_members(parameter: str) -> bool:
    """Whether it is a coefficient of a member covariate."""
    return parameter.partition("[")[0].startswith("b_l1")


def _times(row: Mapping[str, Any], factor: float) -> Mapping[str, Any]:
    if not _of_members(row["parameter"]):
        return row
    known = {k: row[k] * factor for k in _UNITS if row.get(k) is not None}
    return {**row, **known}
