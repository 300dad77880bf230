"""Do a study's results meet the criteria that its file names? One row per criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.errors import StudyError
from rmm.study.design.study import Study
from rmm.study.evaluate.criteria import calibration, parity, recovery
from rmm.study.evaluate.criteria.verdict import Verdict
from rmm.study.evaluate.score import current_truth
from rmm.study.files.parquet import read_estimates

if TYPE_CHECKING:
    import pandas as pd

#: Criterion -> (study, estimates, settings) -> verdict.
CRITERIA: dict[str, Callable[[Study, pd.DataFrame, Mapping[str, Any]], Verdict]] = {
    "recovery": recovery.judge,
    "calibration": calibration.judge,
    "parity": parity.judge,
}


def judge(study: Study, folder: str | Path, only: str | None = None) -> list[Verdict]:
    """Judge the collected estimates of a study.

    Parameters
    ----------
    study : Study
    folder : path
        The study's results, with ``estimates.parquet``.
    only : str, optional
        One criterion; all that the study names by default.

    Returns
    -------
    list of Verdict

    Raises
    ------
    StudyError
        If the study names no such criterion, or its estimates are not collected yet.
    """
    wanted = {k: v for k, v in study.criteria.items() if only in (None, k)}
    if not wanted:
        named = ", ".join(study.criteria) or "none"
        raise StudyError(
            f"{study.file}: criteria\n  The study has these criteria: {named}. Needed: "
            f"{only or 'one of ' + ', '.join(CRITERIA)}."
        )
    path = Path(folder) / "estimates.parquet"
    if not path.is_file():
        raise StudyError(f"{path} does not exist. Run the study first: {study.run_command}")
    table, _ = read_estimates(path)
    estimates = table.to_pandas()
    estimates = estimates.assign(truth=current_truth(study, estimates))
    return [CRITERIA[name](study, estimates, settings) for name, settings in wanted.items()]
