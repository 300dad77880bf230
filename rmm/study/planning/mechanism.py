"""What the data of a study are like, beside what the study file asks for, before any fit.

Data sets are those that the study will fit, at the same addresses. Shares of the variance are mean
squares of the true parts of the linear predictor; the expected ones are those of
`rmm.simulation.estimands.true_shares`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse, special

from rmm.simulation import Drawn
from rmm.simulation.estimands.true_shares import expected_variances, own_noise
from rmm.simulation.memberships.synthetic import SYNTHETIC
from rmm.simulation.outcomes.true_predictor import linear_predictor
from rmm.study.design.scenarios import Scenario
from rmm.study.design.study import Study
from rmm.study.files.messages import StudyFileErrors
from rmm.study.run.replicate import draw_replication

Array = np.ndarray[Any, Any]

DRAWS = 50
_FALSE_ALARMS = 0.01  # share of studies with a marked row although the simulator is right
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Fact:
    """One property of the data sets of a scenario.

    Attributes
    ----------
    scenario : str
    what : str
    target : float or None
        What the study file asks for; None where it asks for nothing, or for a number that is
        not the expectation of this one.
    mean, sd : float
        Over the data sets.
    low, high : float
        The smallest and the largest.
    draws : int
        Data sets.
    once : bool
        Whether it was drawn once for all data sets, so that its target is no expectation.
    """

    scenario: str
    what: str
    target: float | None
    mean: float
    sd: float
    low: float
    high: float
    draws: int
    once: bool = False

    def distance(self) -> float:
        """From the target, in Monte Carlo standard errors; 0 where nothing can be compared."""
        if self.target is None or self.once or not np.isfinite(self.mean):
            return 0.0
        away = abs(self.mean - self.target)
        if away <= _ROUNDING * max(1.0, abs(self.target)):
            return 0.0
        error = self.sd / np.sqrt(self.draws)
        return float(away / error) if error > 0 else np.inf


@dataclass(frozen=True)
class Mechanism:
    """The facts of all scenarios, and how far from its target one may be.

    Attributes
    ----------
    facts : tuple of Fact
    limit : float
        In Monte Carlo standard errors: quantile of t with as many degrees of freedom as there are
        data sets less one, so that one study in a hundred has a marked row by chance.
    """

    facts: tuple[Fact, ...]
    limit: float

    def off(self) -> list[Fact]:
        """Facts that are farther from their targets than chance explains."""
        return [fact for fact in self.facts if fact.distance() > self.limit]

    def by_property(self) -> dict[str, list[Fact]]:
        """What is said -> the facts of the scenarios, in order."""
        found: dict[str, list[Fact]] = {}
        for fact in self.facts:
            found.setdefault(fact.what, []).append(fact)
        return found


def look(study: Study, draws: int = DRAWS, only: str | None = None) -> Mechanism:
    """Draw data sets of every scenario and describe them.

    Parameters
    ----------
    study : Study
    draws : int
        Data sets per scenario, at least 2: replications 1 to `draws`, whether or not the study
        asks for so many.
    only : str, optional
        The id of the one scenario to describe.

    Returns
    -------
    Mechanism

    Raises
    ------
    StudyError, DataError
        If there is no such scenario, or a data set cannot be drawn.
    """
    if "data" in study.config:
        raise StudyFileErrors(study.file).about(
            "data",
            "A function of the study's author draws the data, and rmm knows no targets for them.",
            "Look at data sets with `rmm simulate` or `keep: data`.",
        )
    scenarios = study.scenarios if only is None else [study.scenario(only)]
    facts = tuple(fact for scenario in scenarios for fact in _facts(study, scenario, draws))
    compared = sum(fact.target is not None and not fact.once for fact in facts)
    tail = _FALSE_ALARMS / max(compared, 1) / 2
    return Mechanism(facts, float(special.stdtrit(draws - 1, 1 - tail)))


def number(value: float) -> str:
    """Three digits, and not more than three decimals."""
    return f"{round(value, 3):.3g}"


def span(values: Iterable[float | None]) -> str:
    """The smallest and the largest of some numbers in words; - if none is known."""
    known = [value for value in values if value is not None]
    ends = (min(known), max(known)) if known else ()
    return " to ".join(dict.fromkeys(map(number, ends))) or "-"


def _facts(study: Study, scenario: Scenario, draws: int) -> Iterator[Fact]:
    values: dict[str, list[float]] = {}
    targets: dict[str, list[float | None]] = {}
    once: dict[str, bool] = {}
    for replication in range(1, draws + 1):
        drawn = draw_replication(study.seed, scenario, replication)
        for name, value, target, fixed in _of_one(scenario, drawn):
            values.setdefault(name, []).append(value)
            targets.setdefault(name, []).append(target)
            once[name] = fixed
    for name, found in values.items():
        x = np.asarray(found, dtype=float)
        yield Fact(
            scenario.id,
            name,
            _common(targets[name]),
            float(x.mean()),
            float(x.std(ddof=1)),
            float(x.min()),
            float(x.max()),
            draws,
            once[name],
        )


def _common(targets: list[float | None]) -> float | None:
    """The target of an average: each data set has its own where it follows from memberships."""
    known = [target for target in targets if target is not None]
    if len(known) < len(targets):
        return None
    return known[0] if len(set(known)) == 1 else float(np.mean(known))


#: What is said of one data set: its name, its value, its target, and whether it is drawn once.
Said = tuple[str, float, float | None, bool]


def _of_one(scenario: Scenario, drawn: Drawn) -> Iterator[Said]:
    yield from _memberships(scenario, drawn)
    yield from _covariates(scenario, drawn)
    yield from _shares(drawn)
    yield from _outcome(scenario, drawn)


# -- memberships -----------------------------------------------------------------------------


def _memberships(scenario: Scenario, drawn: Drawn) -> Iterator[Said]:
    said, m, fixed = scenario.content["membership"], drawn.memberships, scenario.recipe.fixed
    groups_of = np.bincount(m.member, minlength=m.counts["member"])
    groups_of = groups_of[groups_of > 0]
    yield "groups", m.counts["group"], said.get("groups"), fixed
    yield "members", len(groups_of), None, fixed
    yield "members of a group", float(m.size.mean()), _mean_size(said.get("size")), fixed
    yield "groups of a member", float(groups_of.mean()), None, fixed
    yield "members in more than one group", float(np.mean(groups_of > 1)), None, fixed
    yield "pairs of groups with a common member", _pairs(m.member, m.group), None, fixed
    if said["kind"] == "synthetic":
        overlap = said.get("overlap", SYNTHETIC.optional["overlap"])
        pool = said["members"] if overlap > 0 else 0
        yield "seats filled from the pool", float(np.mean(m.member < pool)), overlap, fixed


def _mean_size(said: Any) -> float | None:
    """Expected members of a group; None of an empirical distribution."""
    if isinstance(said, int):
        return float(said)
    if not isinstance(said, Mapping):
        return None
    kind = said["distribution"]
    if kind == "uniform":
        return float(said["low"] + said["high"]) / 2
    if kind == "poisson":
        return float(said["mean"])
    if kind == "table":
        chances = said.get("probabilities", [1.0] * len(said["values"]))
        return float(np.average(said["values"], weights=chances))
    return None


def _pairs(member: Array, group: Array) -> float:
    """Share of all pairs of groups that have a member in common."""
    count = int(group.max()) + 1
    if count < 2:
        return 0.0
    belongs = sparse.csr_array((np.ones(len(member)), (group, member)))
    common = (belongs @ belongs.T).tocoo()
    return float(np.sum(common.row < common.col) / (count * (count - 1) / 2))


# -- covariates ------------------------------------------------------------------------------


def _covariates(scenario: Scenario, drawn: Drawn) -> Iterator[Said]:
    for name, said in scenario.content["covariates"].items():
        if said.get("column") or said.get("around"):
            continue  # its values are those of a table, or of another covariate as well
        column, once = drawn.columns[name], not said["redraw"]
        values, kind = column.values.astype(float), said["distribution"]
        mean, sd = _moments(said)
        yield f"mean of {name}", float(values.mean()), mean, once
        if len(values) > 1:
            # The variance, of which the expectation is known at any number of values.
            yield f"variance of {name}", float(values.var(ddof=1)), sd**2, once
        if column.level == "membership":
            icc = said["icc"] if kind == "normal" else None
            yield f"intra-class correlation of {name}", _icc(values, drawn), icc, once


def _moments(said: Mapping[str, Any]) -> tuple[float, float]:
    if said["distribution"] == "binary":
        p = said["probability"]
        return p, float(np.sqrt(p * (1 - p)))
    if said["distribution"] == "categories":
        count = said["count"]
        return (count - 1) / 2, float(np.sqrt((count**2 - 1) / 12))
    return said["mean"], said["sd"]


def _icc(values: Array, drawn: Drawn) -> float:
    """Of one-way analysis of variance by groups (Donner 1986, International Statistical Review)."""
    m = drawn.memberships
    size, count = m.size, len(values)
    groups = len(size)
    if groups < 2 or count <= groups:
        return float("nan")
    means = np.add.reduceat(values, m.start[:-1]) / size
    within = float(np.sum((values - means[m.group]) ** 2)) / (count - groups)
    between = float(np.sum(size * (means - values.mean()) ** 2)) / (groups - 1)
    typical = (count - float(np.sum(size**2)) / count) / (groups - 1)
    return (between - within) / (between + (typical - 1) * within)


# -- the linear predictor --------------------------------------------------------------------


def _shares(drawn: Drawn) -> Iterator[Said]:
    """What covariates explain, and shares of the rest of the variance."""
    truth, m = drawn.truth, drawn.memberships
    none = {name: np.zeros_like(effect) for name, effect in drawn.effects.items()}
    covariates = linear_predictor(truth, m, drawn.columns, none)
    squares = {
        name: float(
            np.mean((linear_predictor(truth, m, drawn.columns, none | {name: u}) - covariates) ** 2)
        )
        for name, u in drawn.effects.items()
    }
    total = sum(squares.values())
    if truth.spec.correlated:  # with covariances
        every = linear_predictor(truth, m, drawn.columns, drawn.effects)
        total = float(np.mean((every - covariates) ** 2))
    rest = total + own_noise(drawn)
    signal = float(covariates.var())
    yield "variance explained by covariates", signal / (signal + rest), None, False
    expected = expected_variances(drawn)
    for name, square in squares.items():
        yield f"variance from {name}", square, expected[name], False
        yield f"share of the variance from {name}", square / rest, None, False


# -- the outcome -----------------------------------------------------------------------------


def _outcome(scenario: Scenario, drawn: Drawn) -> Iterator[Said]:
    said, names = scenario.content["truth"], drawn.truth.outcomes
    found = OUTCOMES.get(drawn.truth.spec.family.check, _of_numbers)
    yield from found(said, [drawn.outcomes[name] for name in names])


def _of_numbers(said: Mapping[str, Any], outcome: list[Array]) -> Iterator[Said]:
    yield "mean of the outcome", float(outcome[0].mean()), None, False
    yield "variance of the outcome", float(outcome[0].var(ddof=1)), None, False


def _of_choices(said: Mapping[str, Any], outcome: list[Array]) -> Iterator[Said]:
    trials = sum(outcome) if len(outcome) > 1 else np.ones(len(outcome[0]))
    yield "share of successes", float(outcome[0].sum() / np.sum(trials)), None, False


def _of_counts(said: Mapping[str, Any], outcome: list[Array]) -> Iterator[Said]:
    yield "mean count", float(outcome[0].mean()), None, False
    yield "share of zeros", float(np.mean(outcome[0] == 0)), None, False
    yield "variance of the counts", float(outcome[0].var(ddof=1)), None, False


def _of_durations(said: Mapping[str, Any], outcome: list[Array]) -> Iterator[Said]:
    censored = (said.get("censoring") or {}).get("share")
    yield "median duration", float(np.median(outcome[0])), None, False
    yield "share censored", float(1 - outcome[1].mean()), censored, False


def _of_levels(said: Mapping[str, Any], outcome: list[Array]) -> Iterator[Said]:
    for level in np.unique(outcome[0]).tolist():
        yield f"share of level {level:g}", float(np.mean(outcome[0] == level)), None, False


#: `Family.check` -> what is said of its outcome; of others, their mean and variance.
OUTCOMES: dict[str, Callable[[Mapping[str, Any], list[Array]], Iterator[Said]]] = {
    "shares": _of_choices,
    "durations": _of_durations,
    "counts": _of_counts,
    "levels": _of_levels,
}
