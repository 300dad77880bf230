"""The findings in sentences: one per method and question, from the numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rmm.study.design.estimand import Estimand
from rmm.study.measures.proportions import acceptance_band
from rmm.study.report.data.format_numbers import (
    FEW,
    compact,
    decimals_for,
    fixed,
    rate,
    rate_known_to,
)
from rmm.study.report.data.labels import is_numeric, readable
from rmm.study.report.data.levels import is_null
from rmm.study.report.data.results import Results
from rmm.study.report.figures.rank_ecdf import rank_table
from rmm.study.report.text.lost_fits import lost_fit_findings

if TYPE_CHECKING:
    import pandas as pd


_TOO_FEW = f"fewer than {FEW} usable data sets, too few for a verdict"


def findings(results: Results) -> list[tuple[str, str]]:
    """(method, what it does): calibration, Type-I error, power, bias, coverage, lost fits."""
    said = _calibration(results)
    for estimand in results.study.estimands:
        rows = _rejections(results, estimand)
        null = [is_null(results, str(s), estimand) for s in rows["scenario"]]
        said += _each(results, rows.loc[null], lambda r, e=estimand: _size(results, e, r))
        power = rows.loc[[not n for n in null]]
        said += _each(results, power, lambda r, e=estimand: _power(results, e, r))
        said += _estimates(results, estimand)
        said += lost_fit_findings(results, estimand)
    return [(m, " It ".join(words)) for m in results.methods if (words := _of_method(said, m))]


def _of_method(said: Sequence[tuple[str, str]], method: str) -> list[str]:
    return [words for other, words in said if other == method]


def _each(results: Results, rows: pd.DataFrame, say: Any) -> list[tuple[str, str]]:
    """A sentence on the rows of each method that has any."""
    parts = ((m, rows[rows["method"] == m]) for m in results.methods)
    return [(method, say(mine)) for method, mine in parts if not mine.empty]


def _rejections(results: Results, estimand: Estimand) -> pd.DataFrame:
    rows = results.measure("rejection")
    same = (rows["alpha"] - estimand.alpha[0]).abs() < 1e-12
    return rows[same & (rows["parameter"] == estimand.parameter)].dropna(subset=["value"])


def _size(results: Results, estimand: Estimand, rows: pd.DataFrame) -> str:
    alpha = estimand.alpha[0]
    every = rows.to_dict("records")
    records = [row for row in every if row["n"] >= FEW]
    null = f"rejects the true null hypothesis {estimand.parameter} = "
    null += compact(estimand.null)
    if not records:
        return f"{null} at a rate of {_rates(results, every)}: {_TOO_FEW}."
    bands = [acceptance_band(alpha, int(row["n"])) for row in records]
    pairs = list(zip(records, bands, strict=True))
    above = sum(row["value"] > band[1] for row, band in pairs)
    below = sum(row["value"] < band[0] for row, band in pairs)
    return (
        f"{null} at a rate of {_rates(results, records)}: "
        f"{_verdict(above, below, len(records))} the band of a correct test at level "
        f"{rate(alpha, 2)} ({_band_words(records, bands)}){_not_judged(every, records)}."
    )


def _not_judged(every: Sequence[Any], judged: Sequence[Any]) -> str:
    """Scenarios that have too few data sets for a verdict."""
    left = len(every) - len(judged)
    return f"; {left} scenario{'s' * (left > 1)} with {_TOO_FEW}" if left else ""


def _rates(results: Results, records: Sequence[Mapping[Any, Any]]) -> str:
    """Each rate with its level of the one factor, or the range over many scenarios."""
    if len(records) == 1:
        return _rate(records[0])
    factor = results.factors[0]
    if (
        len(results.factors) == 1
        and len(records) <= 6
        and is_numeric(results.scenarios[factor].tolist())
    ):
        words = " / ".join(_rate(row) for row in records)
        levels = dict(zip(results.scenarios["scenario"], results.scenarios[factor], strict=True))
        where = " / ".join(compact(levels[row["scenario"]]) for row in records)
        return f"{words} at {readable(factor)} {where}"
    return f"{_rate_span(records)} over {len(records)} scenarios"


def _rate(row: Mapping[Any, Any]) -> str:
    return rate_known_to(*(float(row[name]) for name in ("value", "lower", "upper")))


def _rate_span(rows: Sequence[Mapping[Any, Any]]) -> str:
    """The lowest and the highest rate."""
    ends = [choose(rows, key=lambda row: float(row["value"])) for choose in (min, max)]
    return _span([_rate(row) for row in ends])


def _verdict(above: int, below: int, count: int) -> str:
    if not above and not below:
        return "within"
    if count == 1:
        return "above" if above else "below"
    parts = [f"{side} in {n}" for side, n in (("above", above), ("below", below)) if n]
    parts += [f"within in {count - above - below}"] if count > above + below else []
    return ", ".join(parts)


def _band_words(records: Sequence[Mapping[Any, Any]], bands: Sequence[tuple[float, float]]) -> str:
    """The band at the largest n; smaller n have wider ones."""
    at = max(range(len(records)), key=lambda i: records[i]["n"])
    fewest, most = min(int(r["n"]) for r in records), max(int(r["n"]) for r in records)
    size = f"n = {most:,}" if fewest == most else f"n = {most:,}, wider at n down to {fewest:,}"
    return f"{rate(bands[at][0])} to {rate(bands[at][1])} at {size}"


def _power(results: Results, estimand: Estimand, rows: pd.DataFrame) -> str:
    records = rows.to_dict("records")
    truths = {results.truth(str(row["scenario"]), estimand.parameter) for row in records}
    values = sorted(t for t in truths if t == t)
    shown = f", true value {' / '.join(map(compact, values))}," if 0 < len(values) <= 4 else ""
    return (
        f"rejects the false null hypothesis {estimand.parameter} = "
        f"{compact(estimand.null)}{shown} at a rate of {_rates(results, records)}."
    )


def _estimates(results: Results, estimand: Estimand) -> list[tuple[str, str]]:
    """Bias and coverage of one parameter, per method."""
    bias = _of(results, "bias", estimand)
    coverage = _of(results, "coverage", estimand)
    coverage = coverage[(coverage["alpha"] - estimand.alpha[0]).abs() < 1e-12]
    said = []
    for method in results.methods:
        parts = [
            _bias_words(bias[bias["method"] == method].to_dict("records")),
            _coverage_words(coverage[coverage["method"] == method].to_dict("records"), estimand),
        ]
        if any(parts):
            words = "; ".join(part for part in parts if part)
            said.append((method, f"estimates {estimand.parameter} with {words}."))
    return said


def _of(results: Results, measure: str, estimand: Estimand) -> pd.DataFrame:
    rows = results.measure(measure)
    return rows[(rows["parameter"] == estimand.parameter) & rows["value"].notna()]


def _bias_words(rows: Sequence[Mapping[Any, Any]]) -> str:
    if not rows:
        return ""
    values = [float(row["value"]) for row in rows]
    decimals = decimals_for([float(row["mcse"]) for row in rows], values)
    judged = [row for row in rows if row["n"] >= FEW]
    far = sum(abs(row["value"]) > 3 * row["mcse"] for row in judged)
    span = _span([fixed(v, decimals) for v in (min(values), max(values))])
    if not judged:
        return f"bias {span} ({_TOO_FEW})"
    words = ("more than 3 Monte Carlo errors from zero", "within 3 Monte Carlo errors of zero")
    return f"bias {span}, {_count(far, len(judged), *words)}{_not_judged(rows, judged)}"


def _coverage_words(rows: Sequence[Mapping[Any, Any]], estimand: Estimand) -> str:
    if not rows:
        return ""
    alpha = estimand.alpha[0]
    judged = [row for row in rows if row["n"] >= FEW]
    heading = f"coverage of {100 * (1 - alpha):g}% intervals {_rate_span(rows)}"
    if not judged:
        return f"{heading} ({_TOO_FEW})"
    values = [float(row["value"]) for row in judged]
    bands = [acceptance_band(alpha, int(row["n"])) for row in judged]
    out = sum(not 1 - high <= v <= 1 - low for v, (low, high) in zip(values, bands, strict=True))
    words = ("outside the band of correct intervals", "inside the band of correct intervals")
    return f"{heading}, {_count(out, len(judged), *words)}{_not_judged(rows, judged)}"


def _span(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _count(some: int, count: int, bad: str, good: str) -> str:
    if count == 1:
        return bad if some else good
    return f"{bad} in {some or 'none'} of {count} scenarios"


def _calibration(results: Results) -> list[tuple[str, str]]:
    """Whether ranks are uniform: smallest p value of each method against all of its tests."""
    rows = rank_table(results)
    said = []
    for method in results.methods:
        tests = [row for row in rows if row["method"] == method]
        if tests:
            worst = min(tests, key=lambda row: row["p"])
            adjusted = min(1.0, worst["p"] * len(tests))
            verdict = "shows no deviation from" if adjusted > 0.05 else "deviates from"
            said.append(
                (
                    method,
                    (
                        f"{verdict} calibration; tests of ranks: {len(tests)}, the smallest p "
                        f"{fixed(worst['p'], 4)} ({worst['parameter']}), {fixed(adjusted, 3)} "
                        "after Bonferroni’s correction."
                    ),
                )
            )
    return said
