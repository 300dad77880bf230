"""Power as a function of the size of a study: a fitted curve, its band, the size that is needed.

A z test of an effect whose standard error falls with the square root of the size n has the power
Phi(delta sqrt(n) - z), z its critical value, but for rejections on the wrong side. So power is a
probit regression on sqrt(n): with a free intercept, since z is not exact for other tests. Hits
are binomial counts of independent replications, which makes a generalised linear model of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

Array = np.ndarray[Any, Any]
#: A curve whose deviance is less probable than this does not fit.
TRUSTED = 0.01


@dataclass(frozen=True)
class Size:
    """A size with its interval.

    Attributes
    ----------
    value, low, high : float
        Real numbers; nan where the curve gives none, -inf and inf where there is no bound.
    studied : (int, int)
        Smallest and largest size that was studied: beyond them nothing is claimed.
    """

    value: float
    low: float
    high: float
    studied: tuple[int, int]

    def words(self) -> str:
        """Such as ``252 (238 to 268)``, ``above 800``, ``780 (720 to above 800)``."""
        below, above = f"below {self.studied[0]:,}", f"above {self.studied[1]:,}"
        first, last = self.studied
        low = below if self.low < first else f"{math.floor(self.low):,}"
        high = above if self.high > last else f"{math.ceil(self.high):,}"
        if math.isnan(self.value):
            return self._bracket(low, high)
        if self.value > last or self.low > last:
            return above if self.low > last else f"{above} (from {low})"
        if self.value < first or self.high < first:
            return below if self.high < first else f"{below} (to {high})"
        return f"{math.ceil(self.value):,} ({low} to {high})"

    def _bracket(self, low: str, high: str) -> str:
        if self.low < self.studied[0] and self.high > self.studied[1]:
            return "not known"
        if self.low < self.studied[0]:
            return f"below {high.removeprefix('below ')}"
        return f"above {low}" if self.high > self.studied[1] else f"between {low} and {high}"


@dataclass(frozen=True, eq=False)
class Curve:
    """Power = Phi(intercept + slope sqrt(size)).

    Attributes
    ----------
    covariance : (2, 2) array
        Of intercept and slope.
    deviance, df, p_fit : float, int, float
        Of the points about the curve; p_fit is nan with two sizes.
    studied : (int, int)
        Smallest and largest size.
    """

    intercept: float
    slope: float
    covariance: Array
    deviance: float
    df: int
    p_fit: float
    studied: tuple[int, int]

    @property
    def trusted(self) -> bool:
        """Whether the points do not speak against the curve."""
        return not self.p_fit < TRUSTED

    def at(self, sizes: Sequence[float] | Array, level: float = 0.95) -> tuple[Array, Array, Array]:
        """Power at sizes, and the lower and upper ends of its pointwise Monte Carlo band."""
        root = np.sqrt(np.asarray(sizes, dtype=float))
        (aa, ab), (_, bb) = self.covariance
        centre = self.intercept + self.slope * root
        half = special.ndtri((1 + level) / 2) * np.sqrt(aa + 2 * root * ab + root**2 * bb)
        return special.ndtr(centre), special.ndtr(centre - half), special.ndtr(centre + half)

    def size(self, target: float, level: float = 0.95) -> Size:
        """The size with this power, and the sizes whose band holds it.

        These are the roots of (a + b s - q)^2 = z^2 Var(a + b s) in s = sqrt(n) (Fieller 1954):
        the interval is where the band of `at` crosses the target. Without a slope that differs
        from 0 it is not bounded.
        """
        q, z = float(special.ndtri(target)), float(special.ndtri((1 + level) / 2))
        (aa, ab), (_, bb) = self.covariance.tolist()
        distance = self.intercept - q
        square = self.slope**2 - z**2 * bb
        if self.slope <= 0 or square <= 0:
            return Size(math.nan, -math.inf, math.inf, self.studied)
        middle = self.slope * distance - z**2 * ab
        root = math.sqrt(middle**2 - square * (distance**2 - z**2 * aa))
        ends = [max(0.0, (-middle + sign * root) / square) ** 2 for sign in (-1, 1)]
        return Size(max(0.0, -distance / self.slope) ** 2, ends[0], ends[1], self.studied)


def fit_curve(sizes: Sequence[int], hits: Sequence[int], trials: Sequence[int]) -> Curve | None:
    """The curve through rejections per size; None where the points do not determine one.

    Parameters
    ----------
    sizes, hits, trials : sequences of the same length
        Size, rejections and usable replications of each point; points without any are left out.
    """
    points = [p for p in zip(sizes, hits, trials, strict=True) if p[2] > 0]
    if separated(points):
        return None
    n, k, m = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    # Here, as every report knows of curves and few draw one.
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.families.links import Probit
    from statsmodels.genmod.generalized_linear_model import GLM

    family = Binomial(link=Probit())
    matrix = np.column_stack([np.ones(len(n)), np.sqrt(n)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GLM(np.column_stack([k, m - k]), matrix, family=family).fit(maxiter=200)
    covariance = np.asarray(model.cov_params())
    if not model.converged or not np.isfinite(covariance).all():
        return None
    df = len(points) - 2
    return Curve(
        intercept=float(model.params[0]),
        slope=float(model.params[1]),
        covariance=covariance,
        deviance=float(model.deviance),
        df=df,
        p_fit=float(special.chdtrc(df, max(0.0, model.deviance))) if df else math.nan,
        studied=(int(n.min()), int(n.max())),
    )


def separated(points: Sequence[tuple[int, int, int]]) -> bool:
    """Whether a threshold of the size parts hits from misses, so that no finite curve is best."""
    hits = [size for size, k, _ in points if k > 0]
    misses = [size for size, k, m in points if k < m]
    if not hits or not misses:
        return True
    return max(misses) <= min(hits) or max(hits) <= min(misses)


def bracket(
    sizes: Sequence[int], hits: Sequence[int], trials: Sequence[int], target: float
) -> Size:
    """Between which studied sizes the target lies, where there is no curve."""
    points = sorted(p for p in zip(sizes, hits, trials, strict=True) if p[2] > 0)
    if not points:
        return Size(math.nan, -math.inf, math.inf, (min(sizes), max(sizes)))
    below = [n for n, k, m in points if k / m < target]
    above = [n for n, k, m in points if k / m >= target]
    low = max(below, default=-math.inf)
    high = min(above, default=math.inf)
    if low > high:  # not in order: nothing is known
        low, high = -math.inf, math.inf
    return Size(math.nan, low, high, (points[0][0], points[-1][0]))
