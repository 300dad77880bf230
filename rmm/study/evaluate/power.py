"""Power studies: a curve over sizes per method and combination of the other factors.

All of it follows from ``performance.parquet`` in milliseconds, so another target needs no fit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rmm.errors import StudyError
from rmm.study.design.power_rule import Power
from rmm.study.files import seeds
from rmm.study.files.parquet import PERFORMANCE, read_table, write_parquet
from rmm.study.measures.measure_values import rate_of
from rmm.study.measures.power_curve import Curve, Size, bracket, fit_curve
from rmm.study.measures.proportions import wilson

if TYPE_CHECKING:
    import pandas as pd

    from rmm.study.design.scenarios import Scenario
    from rmm.study.design.study import Study

_GRID = 61  # sizes at which a curve is kept


@dataclass(frozen=True)
class Point:
    """Power at one size: `hits` of `n` usable replications reject."""

    scenario: str
    size: int
    hits: int
    n: int
    n_failed: int
    n_not_converged: int

    @property
    def power(self) -> float:
        """Share that rejects; nan without usable replications."""
        return self.hits / self.n if self.n else math.nan

    @property
    def mcse(self) -> float:
        """sqrt(p (1 - p) / n); nan where none or all reject."""
        return rate_of(self.power, self.n).mcse

    @property
    def interval(self) -> tuple[float, float]:
        """95% Monte Carlo interval of the power (Wilson)."""
        return wilson(self.power, self.n)


@dataclass(frozen=True, eq=False)
class PowerCurve:
    """Points of one method at one combination of the other factors, and the curve through them.

    Attributes
    ----------
    setting : mapping
        Factor -> level, without the size.
    curve : Curve or None
        None where the points do not determine one.
    """

    method: str
    setting: Mapping[str, Any]
    points: tuple[Point, ...]
    curve: Curve | None

    @property
    def label(self) -> str:
        """The setting in words; empty where no other factor varies."""
        return ", ".join(f"{name} {level}" for name, level in self.setting.items())

    def size(self, target: float) -> Size:
        """Size for a target power, with its 95% interval."""
        if self.curve is not None:
            return self.curve.size(target)
        columns = zip(*((p.size, p.hits, p.n) for p in self.points), strict=True)
        sizes, hits, trials = columns
        return bracket(sizes, hits, trials, target)

    def note(self) -> str:
        """What to know before the curve is believed; empty if nothing."""
        if self.curve is None:
            return "no curve: the points do not determine one"
        if not self.curve.trusted:
            return f"the curve does not fit (p = {self.curve.p_fit:.2g}): do not trust the size"
        if self.curve.slope <= 0:
            return "power does not grow with the size"
        return "two sizes: the fit cannot be checked" if not self.curve.df else ""


# -- the key of the study file ---------------------------------------------------------------


# -- curves ----------------------------------------------------------------------------------


def power_of(study: Study) -> Power:
    """What a power study asks; `StudyError` for another study."""
    if study.power is None:
        raise StudyError(
            f"{study.file}: power\n  `power` is missing, so this is not a power study.\n"
            "  Add to the study file: power: {parameter: ..., size: FACTOR}"
        )
    return study.power


def at_null(study: Study, scenario: Scenario) -> bool:
    """Whether the null hypothesis is true in a scenario, so that it has no power."""
    power = power_of(study)
    estimand = next(e for e in study.estimands if e.parameter == power.parameter)
    return study.truth_of(scenario).get(power.parameter) == estimand.null


def power_curves(study: Study, scores: pd.DataFrame) -> list[PowerCurve]:
    """Curves of a study; scenarios where the null is true have none.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns of `rmm.study.performance`; rejections of all usable fits per method count.
    """
    power = power_of(study)
    factors = {s.id: s.factors for s in study.scenarios if not at_null(study, s)}
    rows = scores[
        (scores["measure"] == "rejection")
        & (scores["policy"] == "per_method")
        & (scores["parameter"] == power.parameter)
        & ((scores["alpha"] - power.alpha).abs() < 1e-12)
    ]
    points: dict[tuple[str, str], list[Point]] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    for row in rows.to_dict("records"):
        levels = factors.get(row["scenario"])
        if levels is None:
            continue
        setting = {name: level for name, level in levels.items() if name != power.size}
        key = seeds.canonical(setting)
        settings[key] = setting
        point = _point(row, int(levels[power.size]))
        points.setdefault((key, row["method"]), []).append(point)
    return [
        _power_curve(method, setting, points[key, method])
        for key, setting in settings.items()
        for method in power.methods
        if (key, method) in points
    ]


def _point(row: Mapping[Any, Any], size: int) -> Point:
    n = int(row["n"]) if not math.isnan(row["value"]) else 0
    hits = round(row["value"] * n) if n else 0
    return Point(row["scenario"], size, hits, n, int(row["n_failed"]), int(row["n_not_converged"]))


def _power_curve(method: str, setting: Mapping[str, Any], points: Sequence[Point]) -> PowerCurve:
    ordered = tuple(sorted(points, key=lambda p: p.size))
    sizes, hits, trials = zip(*((p.size, p.hits, p.n) for p in ordered), strict=True)
    return PowerCurve(method, setting, ordered, fit_curve(sizes, hits, trials))


# -- as a table ------------------------------------------------------------------------------

#: ``power.parquet``: rows of `kind` point (power at a size of a scenario), curve (fitted power
#: and its 95% band), and size (for the target, with its 95% interval).
TABLE = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("setting", pa.string(), nullable=False),  # JSON: factor -> level
        ("scenario", pa.string()),
        ("size", pa.float64()),
        ("power", pa.float64()),
        ("mcse", pa.float64()),
        ("low", pa.float64()),  # of the power; of the size where kind is size
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("n_failed", pa.int64()),
        ("n_not_converged", pa.int64()),
        ("intercept", pa.float64()),
        ("slope", pa.float64()),
        ("deviance", pa.float64()),
        ("df", pa.int64()),
        ("p_fit", pa.float64()),
        ("words", pa.string()),
        ("note", pa.string()),
    ]
)


def write_power(study: Study, performance: str | Path, out: str | Path) -> list[PowerCurve]:
    """Write ``power.parquet`` from ``performance.parquet``."""
    curves = power_curves(study, read_table(Path(performance), schema=PERFORMANCE).to_pandas())
    target = power_of(study).target
    rows = [row for curve in curves for row in table_rows(curve, target)]
    write_parquet(pa.Table.from_pylist(rows, schema=TABLE), Path(out))
    return curves


def table_rows(found: PowerCurve, target: float) -> Iterator[dict[str, Any]]:
    """Rows of `TABLE` of one curve."""
    common = {"method": found.method, "setting": json.dumps(dict(found.setting))}
    for p in found.points:
        counts = {"n": p.n, "n_failed": p.n_failed, "n_not_converged": p.n_not_converged}
        low, high = p.interval
        yield {
            "kind": "point",
            **common,
            "scenario": p.scenario,
            "size": float(p.size),
            "power": p.power,
            "mcse": p.mcse,
            "low": low,
            "high": high,
            **counts,
        }
    curve, size = found.curve, found.size(target)
    facts: dict[str, Any] = {}
    if curve is not None:
        first, last = np.sqrt(curve.studied)
        grid = np.linspace(first, last, _GRID) ** 2
        for n, power, low, high in zip(grid, *curve.at(grid), strict=True):
            yield {"kind": "curve", **common, "size": n, "power": power, "low": low, "high": high}
        facts = {
            "intercept": curve.intercept,
            "slope": curve.slope,
            "deviance": curve.deviance,
            "df": curve.df,
            "p_fit": curve.p_fit,
        }
    yield {
        "kind": "size",
        **common,
        "size": size.value,
        "power": target,
        "low": size.low,
        "high": size.high,
        "words": size.words(),
        "note": found.note(),
        **facts,
    }
