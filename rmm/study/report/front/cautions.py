"""What must be known before the answer is believed: at most three remarks, only where needed."""

from __future__ import annotations

from rmm.errors import counted
from rmm.study.evaluate.engine_agreement import study_confirmations
from rmm.study.report.data.results import StudyResults
from rmm.study.report.front.question import PARITY, Question
from rmm.study.report.front.verdicts import JUDGED
from rmm.study.report.tables.measure_tables import ALARM
from rmm.study.report.text.lost_fits import lost_fit_findings

MOST = 3
_WORDS = {"not_converged": "did not converge", "failed": "failed", "timeout": "took too long"}


def cautions(question: Question) -> list[str]:
    """Remarks, those that concern the largest share of the fits first."""
    if question.kind == PARITY:  # nothing is judged over data sets, or beside the truth
        return _lost(question)[:MOST]
    found = [
        *_lost(question),
        *_deciding(question),
        *_engines(question),
        *_few(question),
        *_scales(question),
    ]
    return found[:MOST]


def _lost(question: Question) -> list[str]:
    """Methods that lose many fits."""
    fits, said = question.results.fits, []
    for method in question.results.methods:
        mine = fits[fits["method"] == method]
        counts = mine["status"].value_counts()
        lost = len(mine) - int(mine["status"].isin(question.results.usable).sum())
        if not len(mine) or lost <= ALARM * len(mine):
            continue
        status = max(_WORDS, key=lambda s: int(counts.get(s, 0)))
        by_scenario = mine[~mine["status"].isin(question.results.usable)]["scenario"].value_counts()
        scenario = str(by_scenario.index[0])
        total = int((mine["scenario"] == scenario).sum())
        place = question.place(scenario)
        where = f", {int(by_scenario.iloc[0]):,} of {total:,} with {place}" if place else ""
        name = question.labels.method(method)
        said.append(
            (
                lost / len(mine),
                f"{lost:,} of {counted(len(mine), 'fit')} of {name} {_WORDS[status]}{where}.",
            )
        )
    return [text for _, text in sorted(said, reverse=True)]


def _deciding(question: Question) -> list[str]:
    """Whether lost fits decide a verdict."""
    names = list(
        dict.fromkeys(m for m, _ in lost_fit_findings(question.results, question.estimand))
    )
    if not names:
        return []
    fits = question.results.fits
    mine = fits[fits["method"].isin(names)]
    what = "the lost fits"
    if mine["status"].isin(question.results.usable).all():  # of a table: no fit is lost
        what = "standard errors that are missing"
    return [
        f"The verdict on {question.named(names, inside=True)} depends on what {what} would have "
        "shown: see the bounds under Robustness."
    ]


def _engines(question: Question) -> list[str]:
    """Methods whose confirmation by another engine disagrees."""
    if not isinstance(question.results, StudyResults):
        return []
    rows = study_confirmations(question.results.study, question.results.estimates)
    differ = [
        row for row in rows for name in ("shift", "sd_ratio") if row[f"{name}_verdict"] == "differ"
    ]
    if not differ:
        return []
    pairs = sorted({(str(row["method"]), str(row["confirming"])) for row in differ})
    names = "; ".join(
        f"{question.labels.method(a)} and {question.labels.method(b)}" for a, b in pairs
    )
    return [f"Two engines give different posteriors of the same model: {names}."]


def _few(question: Question) -> list[str]:
    """Methods without a verdict."""
    fits = question.results.fits
    usable = fits[fits["status"].isin(question.results.usable)]
    per = usable.groupby(["method", "scenario"], observed=True).size().reset_index(name="n")
    least = {
        m: int(mine["n"].min()) if len(mine := per[per["method"] == m]) else 0
        for m in question.methods
    }
    few = [m for m, n in least.items() if n < JUDGED]
    if not few:
        return []
    return [
        f"Numbers of fewer than {JUDGED} data sets have no verdict: "
        f"{question.named(few, inside=True)} "
        f"{'has' if len(few) == 1 else 'have'} as few as {min(least[m] for m in few)}."
    ]


def _scales(question: Question) -> list[str]:
    """Methods that estimate something else."""
    said = []
    for estimand in question.results.study.estimands:
        for method, scale in question.results.other_scales(estimand.parameter).items():
            name = question.labels.parameter(estimand.parameter)
            said.append(
                f"{question.labels.method(method)} estimates {name} on another scale ({scale}); "
                "its bias and coverage are not compared."
            )
    return said[:1]
