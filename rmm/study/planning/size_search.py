"""The size for a target power, by simulation at sizes that are chosen as the search goes on.

Each round fits at two sizes near the present estimate, refits the curve of power and ends the
search once the interval of the size is narrow enough. What a round asks for follows from the
estimates of the rounds before it, and every fit from its address, so that a search that was
killed, or is asked for again, takes what is on disk and gives the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rmm.study.design.power_rule import Search
from rmm.study.measures.power_curve import Curve, Size, bracket, fit_curve
from rmm.study.measures.proportions import wilson

#: Distance of the two sizes of a round from the estimate, on the probit scale of power.
_STEP = 0.35
#: Sizes of the first round about the first guess.
_FIRST = (0.6, 1.0, 1.6)

#: size -> (rejections, usable replications) for size -> replications.
Run = Callable[[Mapping[int, int]], Mapping[int, tuple[int, int]]]


@dataclass(frozen=True)
class Round:
    """What is known after a round.

    Attributes
    ----------
    asked : mapping
        Size -> replications so far, failed fits among them.
    hits, usable : mapping
        Size -> rejections, and fits that count.
    size, low, high : float
        The estimate and its 95% interval; nan and infinite where they are not known.
    """

    number: int
    asked: Mapping[int, int]
    hits: Mapping[int, int]
    usable: Mapping[int, int]
    size: float
    low: float
    high: float

    @property
    def fits(self) -> int:
        """Fits so far."""
        return sum(self.asked.values())

    @property
    def width(self) -> float:
        """Half the width of the interval, relative to the size."""
        return (self.high - self.low) / (2 * self.size) if self.size > 0 else math.inf


@dataclass(frozen=True)
class Found:
    """Where a search ended.

    Attributes
    ----------
    reason : str
        ``precise``; ``below`` or ``above`` (outside low to high); ``maximum`` (of fits).
    p_fit : float
        Of the deviance of the last curve; nan where it cannot be checked.
    """

    reason: str
    rounds: tuple[Round, ...]
    words: str
    p_fit: float

    @property
    def last(self) -> Round:
        """The state at the end."""
        return self.rounds[-1]


def search_size(
    run: Run, search: Search, target: float, tell: Callable[[Round], None] = lambda found: None
) -> Found:
    """Find the size at which a test has the power `target`.

    Parameters
    ----------
    run : callable
        Size -> replications (all, not the new ones only) to size -> (rejections, usable).
    tell : callable
        Is told of each round.

    Notes
    -----
    Rounds look at what rounds before them found, which leaves the likelihood of the curve as it
    is; a search that stops when its interval is narrow has a coverage somewhat below 95% (the
    tests say how much).
    """
    asked: dict[int, int] = {}
    rounds: list[Round] = []
    counts: dict[int, tuple[int, int]] = {}
    curve: Curve | None = None
    while True:
        sizes = next_sizes(counts, curve, search, target)
        for index, size in enumerate(sizes):
            share = search.replications // len(sizes)
            share += index < search.replications % len(sizes)
            asked[size] = asked.get(size, 0) + share
        counts |= run({size: asked[size] for size in sizes})
        curve = _curve(counts)
        rounds.append(_round(len(rounds) + 1, asked, counts, curve, target))
        tell(rounds[-1])
        reason = _ended(rounds[-1], counts, search, target)
        if reason:
            p_fit = curve.p_fit if curve is not None else math.nan
            return Found(reason, tuple(rounds), _words(rounds[-1], search, reason), p_fit)


def _round(
    number: int,
    asked: Mapping[int, int],
    counts: Mapping[int, tuple[int, int]],
    curve: Curve | None,
    target: float,
) -> Round:
    sizes = sorted(counts)
    size = _size(counts, curve, target)
    return Round(
        number,
        {n: asked[n] for n in sizes},
        {n: counts[n][0] for n in sizes},
        {n: counts[n][1] for n in sizes},
        size.value,
        size.low,
        size.high,
    )


def _size(counts: Mapping[int, tuple[int, int]], curve: Curve | None, target: float) -> Size:
    if curve is not None:
        return curve.size(target)
    sizes = sorted(counts)
    return bracket(sizes, [counts[n][0] for n in sizes], [counts[n][1] for n in sizes], target)


def _curve(counts: Mapping[int, tuple[int, int]]) -> Curve | None:
    sizes = sorted(counts)
    return fit_curve(sizes, [counts[n][0] for n in sizes], [counts[n][1] for n in sizes])


def next_sizes(
    counts: Mapping[int, tuple[int, int]], curve: Curve | None, search: Search, target: float
) -> Sequence[int]:
    """Sizes of the next round, from the counts so far and the curve through them."""
    if not counts:
        return _inside([factor * search.start for factor in _FIRST], search)
    size = _size(counts, curve, target)
    if curve is not None and size.value > 0:
        root, step = math.sqrt(size.value), _STEP / curve.slope
        step = min(step, 0.4 * root)
        return _inside([(root - step) ** 2, (root + step) ** 2], search)
    low = size.low if math.isfinite(size.low) else search.low
    high = size.high if math.isfinite(size.high) else search.high
    a, b = math.sqrt(low), math.sqrt(high)
    # An open end is tried itself: the target may lie beyond it.
    parts = (
        (0.0, 0.5)
        if math.isinf(size.low)
        else (0.5, 1.0)
        if math.isinf(size.high)
        else (1 / 3, 2 / 3)
    )
    return _inside([(a + part * (b - a)) ** 2 for part in parts], search)


def _inside(sizes: Sequence[float], search: Search) -> Sequence[int]:
    """Whole sizes between low and high, at least two of them."""
    whole = sorted({min(max(round(n), search.low), search.high) for n in sizes})
    if len(whole) > 1:
        return whole
    one = whole[0]
    return [one, one + 1] if one < search.high else [one - 1, one]


def _ended(
    found: Round, counts: Mapping[int, tuple[int, int]], search: Search, target: float
) -> str:
    if search.low <= found.low and found.high <= search.high and found.width <= search.precision:
        return "precise"
    low, high = counts.get(search.low), counts.get(search.high)
    if low and low[1] and wilson(low[0] / low[1], low[1])[0] > target:
        return "below"
    if high and high[1] and wilson(high[0] / high[1], high[1])[1] < target:
        return "above"
    return "maximum" if found.fits + search.replications > search.maximum else ""


def _words(found: Round, search: Search, reason: str) -> str:
    if reason in ("below", "above"):
        return f"{reason} {search.low if reason == 'below' else search.high:,}"
    return Size(found.size, found.low, found.high, (search.low, search.high)).words()


def shown(found: Found) -> dict[str, Any]:
    """A search as JSON knows it; infinite bounds and nan are null."""
    facts = {
        "reason": found.reason,
        "words": found.words,
        **{k: getattr(found.last, k) for k in ("size", "low", "high", "fits")},
        "p_fit": found.p_fit,
        "rounds": [asdict(r) for r in found.rounds],
    }
    cleaned: dict[str, Any] = _finite(facts)
    return cleaned


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
