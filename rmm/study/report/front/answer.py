"""The answer of a study in one or two sentences, and why, in at most three more.

Sentences speak of methods in groups by verdict, and name scenarios in the words of the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rmm.errors import counted
from rmm.study.design.estimand import Estimand
from rmm.study.evaluate.power import PowerCurve, power_curves
from rmm.study.report.data.format_numbers import MINUS, compact, fixed
from rmm.study.report.data.labels import readable
from rmm.study.report.data.results import StudyResults
from rmm.study.report.figures.rank_ecdf import rank_table
from rmm.study.report.front.engine_pairs import pair_answer
from rmm.study.report.front.question import (
    CALIBRATION,
    NULL,
    PARITY,
    POWER,
    RECOVERY,
    Question,
    by_method,
)
from rmm.study.report.front.verdicts import JUDGED, SHOWN, Judged, Verdict, keeps_level
from rmm.study.report.text.facts import reference_rows


def percent(share: float, n: int = 0) -> str:
    """A share in per cent, with two decimals from 10,000 data sets on."""
    return f"{fixed(100 * share, 2 if n >= 10_000 else 1)}%"


def answer(question: Question) -> list[str]:
    """One or two sentences; the first is about known values, if there are some."""
    known = _known_values(question)
    said = _ANSWERS[question.kind](question)
    if known:
        return [*known, *said[:1]]
    return said or ["The study has no numbers that answer its question yet."]


# -- Type I error ----------------------------------------------------------------------------------


def _null_effect(question: Question) -> list[str]:
    estimand = question.estimand
    scenarios = question.null_scenarios(estimand)
    every = by_method(question.rejections(estimand, scenarios))
    judged = {m: [one for one in found if _judged(one)] for m, found in every.items()}
    judged = {m: found for m, found in judged.items() if found}
    if not judged:
        most = max((one.n for found in every.values() for one in found), default=0)
        return [_too_few(question, most)]
    bad = [m for m, found in judged.items() if any(o.verdict is Verdict.HIGH for o in found)]
    good = [m for m in judged if m not in bad]
    said = [_false_positives(question, bad, judged, scenarios)] if bad else []
    return said + _level_kept(question, good, judged, estimand.alpha[0])


def _judged(one: Judged) -> bool:
    return one.verdict not in (Verdict.FEW, Verdict.NONE)


def _too_few(question: Question, most: int) -> str:
    found = (
        f"There are too few data sets for an answer: {most:,} at most for a scenario and method, "
        f"where {JUDGED} are needed."
    )
    if not isinstance(question.results, StudyResults):
        return found
    study = question.results.study
    if study.is_smoke:
        return f"{found} Size smoke is only a trial: run the study at its full size."
    return f"{found} Increase `replications` in the study file: a new run keeps all finished fits."


def _worst(found: Sequence[Judged]) -> Judged:
    return max(found, key=lambda one: one.value)


def _false_positives(
    question: Question, bad: Sequence[str], judged: dict[str, list[Judged]], scenarios: Any
) -> str:
    worst = {m: _worst(judged[m]) for m in bad}
    places = {one.scenario for one in worst.values()}
    place = question.place(next(iter(places)), scenarios) if len(places) == 1 else ""
    where = f"With {place}, " if place else "In the worst scenario of each, " * (len(places) > 1)
    what = (
        f"an effect of {question.labels.parameter(question.estimand.parameter)} that is not there"
    )
    ordered = sorted(bad, key=lambda m: -worst[m].value)
    if len(bad) <= 2:
        parts = [f"{question.labels.method(m)} {{}}{_rate(worst[m])}" for m in ordered]
        parts[0] = parts[0].replace("{}", f"found {what} in ")
        said = " of data sets, and ".join(p.replace("{}", "in ") for p in parts)
        said += " of data sets" * (len(bad) == 1)
    else:
        low, high = worst[ordered[-1]], worst[ordered[0]]
        who = question.named(bad, inside=bool(where))
        said = f"{who} found {what} in {_span(low, high)} of data sets"
    return f"{where}{said}."


def _rate(one: Judged) -> str:
    """A rate; of 0 and 1 what it may be, as it has no error there."""
    if one.value == 0:
        return f"{percent(0)} (at most {percent(one.high)})"
    if one.value == 1:
        return f"{percent(1)} (at least {percent(one.low)})"
    return percent(one.value, one.n)


def _span(low: Judged, high: Judged) -> str:
    ends = [_rate(low), _rate(high)]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _level_kept(
    question: Question, good: Sequence[str], judged: dict[str, list[Judged]], level: float
) -> list[str]:
    """Methods that are below the level, and those that keep it, as far as is known.

    Borderline ones, 1 in 20 by chance, are in neither group. If more data sets could show that one
    of the others does not keep the level, none of them is said to: readers take two phrases for two
    results.
    """
    calm = [m for m in good if all(o.verdict is not Verdict.BORDERLINE for o in judged[m])]
    below = [m for m in calm if all(o.verdict is Verdict.CONSERVATIVE for o in judged[m])]
    near = [m for m in calm if m not in below]
    percent_level, parts = f"{100 * level:g}%", []
    if not calm:
        if not good:
            return ["No method clearly kept the level."] if len(judged) > 1 else []
        return [
            f"It is not clear whether {question.named(good, inside=True)} kept the "
            f"{percent_level} level ({_range(judged, good)}; {_possible(judged, good)})."
        ]
    where = " in every scenario" if len(judged[calm[0]]) > 1 else ""
    if below:
        parts.append(
            f"{question.named(below)} stayed below the {percent_level} level{where} "
            f"({_range(judged, below)})"
        )
    the_level = "it" if below else f"the {percent_level} level"
    if near and all(keeps_level(judged[m], level) for m in near):
        kept, where = question.named(near, inside=bool(below)), where * (not below)
        parts.append(f"{kept} kept {the_level}{where} ({_range(judged, near)})")
    elif near:
        numbers = f"({_range(judged, near)}; {_possible(judged, near)})"
        who = question.named(near, inside=True)
        timid = any(o.verdict is Verdict.CONSERVATIVE for m in near for o in judged[m])
        what = "more than" if timid else "deviation from"
        start = "no" if parts else "No"
        parts.append(f"{start} {what} {the_level} was found for {who} {numbers}")
    return [f"{'; '.join(parts)}."]


def _possible(judged: dict[str, list[Judged]], methods: Sequence[str]) -> str:
    """The rate that the data sets leave possible: nothing was found is not nothing is there."""
    worst = max((one for m in methods for one in judged[m]), key=lambda one: one.high)
    possible = percent(worst.high, worst.n)
    return f"with {counted(worst.n, 'data set')}, up to {possible} is possible"


def _range(judged: dict[str, list[Judged]], methods: Sequence[str]) -> str:
    rates = sorted((one for m in methods for one in judged[m]), key=lambda one: one.value)
    return _span(rates[0], rates[-1])


# -- power, recovery, calibration, known values ----------------------------------------------------


def _power(question: Question) -> list[str]:
    results = question.results
    assert isinstance(results, StudyResults)
    power = results.study.power
    curves = power_curves(results.study, results.performance) if power else []
    curves = [c for c in curves if c.method in question.methods]
    if power is None or not curves:
        return _recovery(question)
    found = [curve for curve in curves if _has_size(curve, power.target)]
    level = _null_effect(question)[:1] if question.null_scenarios(question.estimand) else []
    if found:
        return [
            f"{_size_words(question, found, power.target, power.size)}{_others(curves, found)}.",
            *level,
        ]
    points = [p for c in curves for p in c.points if p.n]
    if max((p.n for p in points), default=0) < JUDGED:
        return [_too_few(question, max((p.n for p in points), default=0))]
    top = max(points, key=lambda p: p.power)
    name = readable(power.size)
    return [
        f"No method reached {100 * power.target:g}% power with the {name} that were studied: "
        f"the largest power was {percent(top.power, top.n)}, with {top.size:,} {name}.",
        *level,
    ]


def _has_size(curve: PowerCurve, target: float) -> bool:
    """Whether the size for a power is known, and among those that were studied."""
    size = curve.size(target)
    first, last = size.studied
    return curve.curve is not None and curve.curve.trusted and first <= size.value <= last


def _size_words(question: Question, curves: Sequence[PowerCurve], target: float, name: str) -> str:
    """The size of each of two curves, with its interval; of more, the smallest and the largest."""
    what, power = readable(name), f"{100 * target:g}% power"

    def where(curve: PowerCurve) -> str:
        return ", ".join(question.labels.level(f, v) for f, v in curve.setting.items())

    if len(curves) <= _EACH:
        return "; ".join(
            f"{question.labels.method(c.method)} needed about {c.size(target).value:,.0f} {what} "
            f"for {power} ({_size_interval(c, target)})" + f" with {where(c)}" * bool(where(c))
            for c in curves
        )
    ordered = sorted(curves, key=lambda curve: curve.size(target).value)
    (least, one), (most, other) = (
        (
            f"{c.size(target).value:,.0f}",
            ", ".join(filter(None, (question.labels.method(c.method), where(c)))),
        )
        for c in (ordered[0], ordered[-1])
    )
    return f"{power} needed from about {least} {what} ({one}) to about {most} ({other})"


def _others(curves: Sequence[PowerCurve], found: Sequence[PowerCurve]) -> str:
    """How many curves have no size that was studied."""
    left = len(curves) - len(found)
    return f"; {left} of {len(curves)} curves did not reach it among the sizes studied" * bool(left)


def _size_interval(curve: PowerCurve, target: float) -> str:
    size = curve.size(target)
    first, last = size.studied
    return f"95% interval {max(first, size.low):,.0f} to {min(size.high, last):,.0f}"


def _recovery(question: Question) -> list[str]:
    estimand = question.estimand
    biases, covers = by_method(question.biases(estimand)), by_method(question.coverages(estimand))
    if not covers and not biases:
        return []
    names = [m for m in question.methods if m in covers or m in biases]
    judged = [m for m in names if any(_judged(o) for o in [*covers.get(m, []), *biases.get(m, [])])]
    if not judged:
        most = max(one.n for found in (*covers.values(), *biases.values()) for one in found)
        return [_too_few(question, most)]
    missing = [m for m in judged if any(o.verdict is Verdict.LOW for o in covers.get(m, []))]
    biased = [m for m in judged if any(o.verdict.fault for o in biases.get(m, []))]
    bad = [m for m in judged if m in missing or m in biased]
    good = [m for m in judged if m not in bad]
    # Two sentences: where all have faults, those whose intervals hold nonetheless are apart.
    groups = (good, bad) if good else ([m for m in bad if m not in missing], missing)
    what = question.labels.parameter(estimand.parameter)
    return [_recovered(question, methods, biases, covers, what) for methods in groups if methods]


def _recovered(
    question: Question,
    methods: Sequence[str],
    biases: dict[str, list[Judged]],
    covers: dict[str, list[Judged]],
    what: str,
) -> str:
    """What a group of methods does: the largest bias, and the range of coverage."""
    parts = []
    size = max((abs(o.value) for m in methods for o in biases.get(m, []) if _judged(o)), default=-1)
    if size >= 0:
        unit = "standard deviation" if fixed(size, 2) == "1.00" else "standard deviations"
        most = f"at most {fixed(size, 2)}" if size >= 0.005 else "less than 0.01"
        parts.append(f"was off by {most} {unit} on average")
    rates = sorted(
        (o for m in methods for o in covers.get(m, []) if _judged(o)), key=lambda o: o.value
    )
    if rates:
        low = [o.verdict is Verdict.LOW for o in rates]
        share = _span(rates[0], rates[-1])
        if any(low):
            share = f"only {share}" if all(low) else f"as few as {_rate(rates[0])}"
        level = 100 * (1 - question.estimand.alpha[0])
        parts.append(f"its {level:g}% intervals held the true value in {share} of data sets")
    return f"By {question.named(methods, inside=True)}, {what} {'; '.join(parts)}."


#: Curves whose sizes have a sentence each.
_EACH = 2


def _calibration(question: Question) -> list[str]:
    tests = rank_table(question.results)
    tests = [t for t in tests if t["method"] in question.methods and t["n"] >= SHOWN]
    if not tests:
        return []
    worst = min(tests, key=lambda t: t["p"])
    adjusted = min(1.0, worst["p"] * len(tests))
    what = f"{question.labels.method(worst['method'])}, {worst['parameter']}"
    heading = f"{counted(len(tests), 'test')} of the ranks of true values"
    if adjusted > 0.05:
        return [
            f"No deviation from calibration was found{_for_one(question)} in {heading} (smallest "
            f"adjusted p = {adjusted:.2g})."
        ]
    far = sum(t["p"] * len(tests) <= 0.05 for t in tests)
    return [
        f"In {far} of {heading}, posteriors deviated from calibration: most of all {what} "
        f"(adjusted p = {adjusted:.2g})."
    ]


def _for_one(question: Question) -> str:
    """The method, if there is one only."""
    methods = question.methods
    return f" for {question.labels.method(methods[0])}" if len(methods) == 1 else ""


def _parity(question: Question) -> list[str]:
    assert question.engine_pairs is not None
    return pair_answer(question.results, question.engine_pairs)


def _known_values(question: Question) -> list[str]:
    """Known values beside ours, where the study file asks for them."""
    rows = [r for r in reference_rows(question.results) if r["difference"] not in ("", "–")]
    if not rows:
        return []
    distances = [abs(float(r["difference"].replace(MINUS, "-"))) for r in rows]
    far = sum(bool(r["far"]) for r in rows)
    if not far:
        agree = "The value agrees with the known one"
        if len(rows) > 1:
            agree = f"All {len(rows)} values agree with the known ones"
        return [f"{agree}, within {max(distances):.1f} Monte Carlo errors."]
    if len(rows) == 1:
        return [
            "The simulated value differs from the known one by "
            f"{max(distances):.1f} Monte Carlo standard errors."
        ]
    return [
        f"{far} of {len(rows)} simulated values {'differs' if far == 1 else 'differ'} from the "
        "known ones by more than 3 Monte Carlo standard errors, the farthest by "
        f"{max(distances):.1f}."
    ]


_ANSWERS: dict[str, Callable[[Question], list[str]]] = {
    NULL: _null_effect,
    POWER: _power,
    RECOVERY: _recovery,
    CALIBRATION: _calibration,
    PARITY: _parity,
}


# -- why -------------------------------------------------------------------------------------------


def reasons(question: Question) -> list[tuple[str, str]]:
    """(heading, sentence): why methods fail, what else fails, what the weights say."""
    said = [*_standard_errors(question), *_other_intervals(question), *_weights(question)]
    return said[:3]


def _standard_errors(question: Question) -> list[tuple[str, str]]:
    """Methods that find too much, and report standard errors that are too small."""
    if question.kind != NULL:
        return []
    estimand = question.estimand
    scenarios = question.null_scenarios(estimand)
    rates = by_method(question.rejections(estimand, scenarios))
    errors = {(o.method, o.scenario): o for o in question.errors_of_se(estimand, scenarios)}
    found = []
    for method, every in rates.items():
        high = [o for o in every if o.verdict is Verdict.HIGH]
        if high and (error := errors.get((method, _worst(high).scenario))):
            found.append(error)
    small = [one for one in found if one.verdict is Verdict.LOW]
    if not small:
        return []
    what = question.labels.parameter(estimand.parameter)
    ends = sorted(round(-o.value) for o in small)
    much = f"{ends[0]}%" if ends[0] == ends[-1] else f"{ends[0]}% to {ends[-1]}%"
    who = question.named([o.method for o in small], inside=True)
    return [
        (
            "Why",
            f"the standard errors of {what} that {who} reported were {much} too small "
            "where most false positives were found.",
        )
    ]


def _other_intervals(question: Question) -> list[tuple[str, str]]:
    """Intervals of further estimands that hold the truth too rarely."""
    said = []
    for estimand in question.results.study.estimands[1:]:
        low = [o for o in question.coverages(estimand) if o.verdict is Verdict.LOW]
        if not low:
            continue
        methods = list(by_method(low))
        ends = sorted(low, key=lambda o: o.value)
        name = question.labels.parameter(estimand.parameter)
        said.append(
            (
                f"{name[:1].upper()}{name[1:]}" if name.startswith("the ") else name,
                f"{100 * (1 - estimand.alpha[0]):g}% intervals by "
                f"{question.named(methods, inside=True)} held the true value in only "
                f"{_span(ends[0], ends[-1])} of data sets.",
            )
        )
    return said


def _weights(question: Question) -> list[tuple[str, str]]:
    """What is estimated of weight coefficients, and whether it is more than their prior."""
    for estimand in question.results.study.estimands:
        if not estimand.parameter.startswith("b_w"):
            continue
        means = question.values("mean", estimand)
        method = next((row["method"] for row in means if row["n"] >= SHOWN), None)
        rows = [row for row in means if row["method"] == method]
        truths = {question.results.truth(str(r["scenario"]), estimand.parameter) for r in rows}
        if not rows or len(truths) != 1 or len(rows) > 4:
            continue
        (truth,) = truths
        places = [question.place(str(r["scenario"])) for r in rows]
        values = ", ".join(
            fixed(float(r["value"]), 2) + (f" ({place})" if place else "")
            for r, place in zip(rows, places, strict=True)
        )
        prior = [
            r
            for r in question.values("contraction", estimand)
            if r["method"] == method and float(r["value"]) < _MOSTLY_PRIOR
        ]
        where = "" if len(rows) == 1 else f" in {len(prior)} of {len(rows)} scenarios"
        note = f" Its posterior was little more than the prior{where}." if prior else ""
        note += _direction(question, estimand, str(method), len(rows))
        name = question.labels.parameter(estimand.parameter)
        return [
            (
                "Weights",
                f"{name} (true value {compact(truth)}) was estimated at {values} on average by "
                f"{question.labels.method(str(method))}.{note}",
            )
        ]
    return []


def _direction(question: Question, estimand: Estimand, method: str, scenarios: int) -> str:
    """In how many scenarios estimates of a method are too low or too high on average."""
    verdicts = [o.verdict for o in question.biases(estimand) if o.method == method]
    parts = [
        f"too {word}" + (f" in {count} of {scenarios} scenarios" if scenarios > 1 else "")
        for word, verdict in (("low", Verdict.LOW), ("high", Verdict.HIGH))
        if (count := verdicts.count(verdict))
    ]
    which = "This average is" if scenarios == 1 else "These averages are"
    return f" {which} {' and '.join(parts)}." if parts else ""


_MOSTLY_PRIOR = 0.36  # contraction at which a posterior sd is .8 of its prior's
