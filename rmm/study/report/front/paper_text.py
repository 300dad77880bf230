"""A paragraph for the methods and results of a paper, from the numbers of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rmm._version import __version__
from rmm.errors import counted
from rmm.study.report.data.format_numbers import fixed
from rmm.study.report.front.question import Question

#: Scenarios that are named; of more, their number is given.
_MOST_NAMED = 4
#: Measure -> its name in the sentence on Monte Carlo errors, and the factor to percentage points.
_ERRORS = {
    "rejection": ("rejection rates", 100),
    "coverage": ("coverage", 100),
    "bias": ("bias", 1),
}


def paper_text(question: Question, answer: Sequence[str]) -> str:
    """What was simulated and fitted, the answer, Monte Carlo errors, lost fits and versions.

    Parameters
    ----------
    question : Question
    answer : sequence of str
        The sentences that open the report.

    Returns
    -------
    str
        Plain text.
    """
    parts = (_design(question), *answer, *_errors(question), *_lost(question), _versions(question))
    return " ".join(parts)


def _design(question: Question) -> str:
    scenarios = [str(s) for s in question.results.scenarios["scenario"]]
    places = [question.place(s) for s in scenarios]
    named = f" ({_listed(places)})" if 1 < len(places) <= _MOST_NAMED and all(places) else ""
    counts = question.results.fits.groupby(["method", "scenario"])["replication"].nunique()
    most = {str(name): int(number) for name, number in counts.groupby("method").max().items()}
    by_number: dict[int, list[str]] = {}
    for method in question.methods:
        by_number.setdefault(most[method], []).append(question.labels.method(method))
    how = _listed([f"{counted(n, 'data set')} with {_listed(who)}" for n, who in by_number.items()])
    return (
        f"We simulated {counted(len(scenarios), 'scenario')}{named}{_sizes(question)}. In each, we "
        f"analysed {how}."
    )


def _sizes(question: Question) -> str:
    """Groups and members, where the study file has one number of each."""
    given = getattr(question.results.study, "config", {}).get("membership") or {}
    names = ("groups", "size", "members")
    varied = {factor.rsplit(".", 1)[-1] for factor in question.results.factors}
    if varied & {*names} or not all(isinstance(given.get(name), int) for name in names):
        return ""
    groups, size, members = (given[name] for name in names)
    return f", each with {counted(groups, 'group')} of {size:,} from {counted(members, 'member')}"


def _errors(question: Question) -> Iterator[str]:
    """The largest Monte Carlo standard error of each measure of the main estimand."""
    rows = question.results.performance
    rows = rows[
        (rows["policy"] == "per_method")
        & (rows["parameter"] == question.estimand.parameter)
        & rows["method"].isin(question.methods)
    ]
    parts = []
    for measure, (name, factor) in _ERRORS.items():
        largest = rows.loc[rows["measure"] == measure, "mcse"].max()
        if largest > 0:
            unit = " percentage points" if factor == 100 else ""
            parts.append(f"{fixed(factor * largest, 1 if unit else 3)}{unit} for {name}")
    if parts:
        what = question.labels.short(question.estimand.parameter)
        yield f"Monte Carlo standard errors for {what} are at most {_listed(parts)}."


def _lost(question: Question) -> Iterator[str]:
    fits = question.results.fits
    fits = fits[fits["method"].isin(question.methods)]
    lost = int((~fits["status"].isin(question.results.usable)).sum())
    if lost:
        yield (
            f"{lost:,} of {counted(len(fits), 'fit')} failed or did not converge; they were left "
            "out, and their data sets were not replaced."
        )
    else:
        yield "The fit was used." if len(fits) == 1 else f"All {len(fits):,} fits were used."


def _versions(question: Question) -> str:
    results = question.results
    estimates = results.estimates
    engines: list[str] = []
    if {"backend", "engine"} <= {*estimates}:
        mine = estimates[estimates["method"].isin(question.methods)]
        mine = mine[["backend", "engine"]].dropna().drop_duplicates()
        # Our own engine has the version of the package.
        engines = sorted(
            {b if b == "laplace" else f"{b} {e}" for b, e in mine.itertuples(index=False) if e}
        )
    if "rmm_version" not in estimates:  # a table of estimates: others made its fits
        return f"Performance measures were computed with rmm {__version__}."
    versions = sorted(map(str, estimates["rmm_version"].dropna().unique()))
    text = f"Fits used rmm {_listed(versions) if versions else __version__}"
    if engines:
        text += f" with the engine{'s' * (len(engines) > 1)} {_listed(engines)}"
    ran_on = results.ran_on
    python = [f"Python {ran_on['python']}"] if ran_on.get("python") else []
    rest = [*python, *([ran_on["packages"]] if ran_on.get("packages") else [])]
    text += f" ({', '.join(rest)})" if rest else ""
    seed = getattr(results.study, "seed", None)
    return f"{text}{f'; the seed was {seed}' if seed is not None else ''}."


def _listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
