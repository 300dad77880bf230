"""A study of parity on the first screen: the same models on two engines, compared."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rmm.errors import counted
from rmm.study.evaluate.criteria import parity
from rmm.study.report.data.format_numbers import fixed
from rmm.study.report.data.results import Results, StudyResults
from rmm.study.report.front.cells import EMPTY, MARKS, Cell, Column
from rmm.study.report.front.verdicts import Verdict

if TYPE_CHECKING:
    import pandas as pd

#: Criterion of a study file that makes it a study of parity.
CRITERION = "parity"


def pair_table(results: Results) -> pd.DataFrame | None:
    """Comparisons of the same model on two engines, as `rmm study judge` makes them.

    Returns
    -------
    DataFrame or None
        One row per pair of methods, data set and parameter; None where the study file does not ask
        for parity, or no pair has results.
    """
    if not isinstance(results, StudyResults) or CRITERION not in results.study.criteria:
        return None
    if "mcse" not in results.estimates:
        return None
    table = parity.judge(results.study, results.estimates, _settings(results)).table
    return None if table.empty else table


@dataclass(frozen=True)
class EngineModel:
    """A model on several engines, and what is compared.

    Attributes
    ----------
    methods : list of str
        One of each engine.
    engines : str
    rows : DataFrame
        Of `pair_table`.
    """

    methods: list[str]
    engines: str
    rows: pd.DataFrame


def engine_models(results: Results, table: pd.DataFrame) -> list[EngineModel]:
    """The models of which there are comparisons."""
    assert isinstance(results, StudyResults)
    found = []
    for same in parity.same_models(results.study):
        names = {f"{a.name}, {b.name}" for a, b in itertools.combinations(same, 2)}
        rows = table[table["methods"].isin(names)]
        if len(rows):
            engines = ", ".join(dict.fromkeys(method.backend for method in same))
            found.append(EngineModel([method.name for method in same], engines, rows))
    return found


def common_name(labels: Sequence[str]) -> str:
    """What names of one model on several engines have in common: `nesting_jags`, `nesting_stan`."""
    columns = zip(*labels, strict=False)  # of letters
    shared = itertools.takewhile(lambda letters: len(set(letters)) == 1, columns)
    start = "".join(letters[0] for letters in shared).rstrip("_-. (,")
    return start or " / ".join(labels)


def pair_answer(results: Results, table: pd.DataFrame) -> list[str]:
    """Whether the posteriors agree, and how far they are apart."""
    limits, failed = _settings(results), int((~table["passed"]).sum())
    models = counted(len(engine_models(results, table)), "model")
    size = fixed(float(table["z"].abs().max()), 1)
    ratio = round(100 * (float(np.exp(np.log(table["sd_ratio"]).abs().max())) - 1))
    apart = (
        f"means differ by at most {size} combined Monte Carlo standard errors (limit "
        f"{limits['mcse']:g}), standard deviations by at most {ratio}% (limit "
        f"{100 * (limits['sd_ratio'] - 1):.0f}%)"
    )
    if not failed:
        compared = "all " * (len(table) > 1) + counted(len(table), "comparison")
        return [
            f"The engines agree in {compared} of parameters in {models}.",
            f"{apart[0].upper()}{apart[1:]}.",
        ]
    return [
        f"The engines do not agree in {failed:,} of {counted(len(table), 'comparison')} of "
        f"parameters in {models}: {apart}; both fits must have converged."
    ]


def pair_columns(results: Results, models: Sequence[EngineModel]) -> list[Column]:
    """Of each model the largest differences between two of its engines."""
    limits = _settings(results)
    ratio = limits["sd_ratio"]
    return [
        Column(
            "Difference of means",
            "in Monte Carlo errors",
            f"limit {limits['mcse']:g}",
            tuple(_cell(m.rows["z"].abs().max(), limits["mcse"], 1) for m in models),
        ),
        Column(
            "Ratio of SDs",
            "larger by smaller",
            f"limit {ratio:g}",
            tuple(_cell(np.exp(np.log(m.rows["sd_ratio"]).abs().max()), ratio, 2) for m in models),
        ),
        Column(
            "Comparisons",
            "that agree",
            "of those made",
            tuple(_agreeing(m.rows["passed"]) for m in models),
        ),
        Column(
            "Effective draws",
            "fewest",
            "",
            tuple(_fewest(m.rows["min_ess"].min()) for m in models),
        ),
    ]


def _settings(results: Results) -> Mapping[str, Any]:
    assert isinstance(results, StudyResults)
    return results.study.criteria[CRITERION]


def _cell(value: float, limit: float, decimals: int) -> Cell:
    """The largest of some differences; empty where there is none."""
    if not np.isfinite(value):
        return EMPTY
    verdict = Verdict.HIGH if value > limit else Verdict.FINE
    return Cell(fixed(float(value), decimals), MARKS[verdict], verdict.value, verdict.fault)


def _fewest(draws: float) -> Cell:
    return Cell(f"{draws:,.0f}") if np.isfinite(draws) else EMPTY


def _agreeing(passed: pd.Series[bool]) -> Cell:
    if not len(passed):
        return EMPTY
    failed = not passed.all()
    return Cell(f"{int(passed.sum())} of {len(passed)}", fault=failed)
