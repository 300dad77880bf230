"""Which combinations of factor levels are scenarios: all, a balanced fraction, or those listed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmm.study.design.levels_of_factors import Level, Range
from rmm.study.files.messages import StudyFileErrors

Factors = Mapping[str, Sequence[Level] | Range]
Cells = Iterable[tuple[Level, ...]]
_DIGITS = 3  # of a value from a range, relative to the width of the range


@dataclass(frozen=True)
class Combination:
    """One kind of design.

    Attributes
    ----------
    needs : tuple of str
        Keys of `design` that it takes; all are required.
    ranges : bool
        Whether factors may have a `range` instead of levels.
    words : str
        What the scenarios are.
    cells : callable
        ``(factors, design, seed, file_errors) -> cells``.
    """

    needs: tuple[str, ...]
    ranges: bool
    words: str
    cells: Callable[[Factors, Mapping[str, Any], int, StudyFileErrors], Cells]


def combinations(
    factors: Factors, design: Mapping[str, Any], seed: int, file_errors: StudyFileErrors
) -> Cells:
    """Cells of a design, each with a level of every factor.

    Parameters
    ----------
    factors : mapping
        Name -> its levels, or its range.
    design : mapping
        The key `design` of a study file.
    seed : int
        Of the study.
    file_errors : StudyFileErrors

    Returns
    -------
    iterable of tuple of Level

    Raises
    ------
    StudyError
        If `design` and factors do not fit each other.
    """
    kind = COMBINATIONS[design["kind"]]
    for key in ("scenarios", "reduction", "size"):
        if (key in design) != (key in kind.needs):
            found = "is missing" if key in kind.needs else "is not used"
            owner = next(n for n, one in COMBINATIONS.items() if key in one.needs)
            advice = f"`{key}` belongs to `kind: {owner}`."
            raise file_errors.about(
                f"design.{key}", f"The key {found} with `kind: {design['kind']}`.", advice
            )
    for name, one in factors.items():
        if isinstance(one, Range) and not kind.ranges:
            raise file_errors.about(
                f"vary.{name}.range",
                f"A design of kind {design['kind']} needs levels.",
                "Give `values` instead of `range`, or set the key `design` to "
                "{kind: latin_hypercube, size: N}.",
            )
    return kind.cells(factors, design, seed, file_errors)


def full_size(factors: Factors) -> int:
    """Number of all combinations; a range counts as one."""
    return math.prod(1 if isinstance(one, Range) else len(one) for one in factors.values())


def _full(
    factors: Factors, design: Mapping[str, Any], seed: int, file_errors: StudyFileErrors
) -> Cells:
    return itertools.product(*map(_levels, factors.values()))


def _listed(
    factors: Factors, design: Mapping[str, Any], seed: int, file_errors: StudyFileErrors
) -> Cells:
    """The combinations that the file names, each with a level of every factor."""
    cells = []
    for index, entry in enumerate(design["scenarios"]):
        key = f"design.scenarios[{index}]"
        for name in entry:
            if name not in factors:
                raise file_errors.name(f"{key}.{name}", "a factor of `vary`", name, list(factors))
        missing = [name for name in factors if name not in entry]
        if missing:
            raise file_errors.about(
                key,
                f"The factors {', '.join(missing)} have no level here.",
                "Give a level of every factor of `vary`.",
            )
        cell = []
        for name, one in factors.items():
            known = {level.name: level for level in _levels(one)}
            if entry[name] not in known:
                raise file_errors.name(
                    f"{key}.{name}", f"a level of {name}", entry[name], list(known)
                )
            cell.append(known[entry[name]])
        cells.append(tuple(cell))
    return cells


def _fraction(
    factors: Factors, design: Mapping[str, Any], seed: int, file_errors: StudyFileErrors
) -> Cells:
    """A generalized subset design: levels are as often as each other, as far as that is possible.

    Surowiec and others (2017), Analytical Chemistry 89(12), 6491-6497.
    """
    reduction, sizes = design["reduction"], [len(_levels(one)) for one in factors.values()]
    several = [size for size in sizes if size > 1]
    if len(several) < 2 or reduction > math.prod(several) // max(several):
        raise file_errors.about(
            "design.reduction",
            f"{math.prod(sizes)} combinations cannot be divided by {reduction} so that every level "
            "stays.",
            "Give a smaller number, or `kind: full`.",
        )
    # Late: pydoe takes a second to import, and few studies need it.
    from pydoe import gsd

    return [
        tuple(_levels(one)[place] for one, place in zip(factors.values(), row, strict=True))
        for row in gsd(sizes, reduction)
    ]


def _latin_hypercube(
    factors: Factors, design: Mapping[str, Any], seed: int, file_errors: StudyFileErrors
) -> Cells:
    """`size` points, one in each of `size` slices of every factor (McKay and others 1979).

    Of factors with levels, slices belong to levels in turn, so that levels are equally frequent.
    A combination that comes again is left out.
    """
    # Late: few studies need it.
    from scipy.stats import qmc

    sampler = qmc.LatinHypercube(len(factors), rng=np.random.default_rng([seed, 0x1A71]))
    points = sampler.random(design["size"])
    cells: dict[tuple[Any, ...], tuple[Level, ...]] = {}
    for row in points:
        cell = tuple(_at(one, float(u)) for one, u in zip(factors.values(), row, strict=True))
        cells.setdefault(tuple(str(level.name) for level in cell), cell)
    return cells.values()


def _at(factor: Sequence[Level] | Range, u: float) -> Level:
    """The level, or the value of the range, at a share of the way."""
    if isinstance(factor, Range):
        return factor.level(u, _DIGITS)
    return factor[int(u * len(factor))]


def _levels(factor: Sequence[Level] | Range) -> Sequence[Level]:
    assert not isinstance(factor, Range)
    return factor


#: Kind of design -> how its combinations are found.
COMBINATIONS: dict[str, Combination] = {
    "full": Combination((), False, "all combinations of levels", _full),
    "list": Combination(("scenarios",), False, "listed combinations of levels", _listed),
    "fraction": Combination(
        ("reduction",), False, "a balanced fraction of the combinations of levels", _fraction
    ),
    "latin_hypercube": Combination(("size",), True, "a Latin hypercube", _latin_hypercube),
}
