"""Predictors of several columns: `factor(x)`, `C(x, base = "b")`, `poly(x, 2)`, `ns(x, 4)`, `s(x)`.

A basis turns the values of one expression into columns. What it takes from a table, levels, the
numbers of polynomials or the knots of splines, is kept: new tables are coded as the table of the
fit was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmm.errors import DataError, counted

Array = np.ndarray[Any, Any]
MAX_DEGREE = 20  # of poly(): beyond it columns are noise of rounding
MAX_DF = 50  # of ns() and s(): beyond it a curve is no smooth summary of a covariate
SMOOTH_SIZE = 10  # basis functions of s() by default, as in mgcv and brms
_SHOWN = 12  # levels in a message


@dataclass(frozen=True)
class Categories:
    """Values as categories, whatever they look like.

    Attributes
    ----------
    base : str, float, bool or None
        The level that the others are compared with; None for the first.
    levels : tuple or None
        The base first; None before a table is known.
    """

    base: Any = None
    levels: tuple[Any, ...] | None = None

    def settled(self, label: str, found: Sequence[Any]) -> Categories:
        """With the levels of a column, sorted; those that were given stay.

        Raises
        ------
        DataError
            If the base is not among them.
        """
        levels = list(self.levels or found)
        if self.base is not None and self.base not in levels:
            raise DataError(
                f"`{label}`: {self.base!r} is not a level of the column. The levels are: "
                f"{_shown(levels)}."
            )
        if self.base is not None:
            levels.insert(0, levels.pop(levels.index(self.base)))
        return replace(self, levels=tuple(levels))

    def codes(self, label: str, values: Sequence[Any], rows: Array) -> Array:
        """(N,) number of each value's level; the base is number 0.

        Parameters
        ----------
        label : str
        values : (N,) sequence
        rows : (N,) int array
            Their row numbers, from 0, for the message.

        Raises
        ------
        DataError
            For a value that is not a level.
        """
        levels = list(self.levels or ())
        place = {level: number for number, level in enumerate(levels)}
        code = np.array([place.get(v, -1) for v in values], dtype=np.int64)
        if (code < 0).any():
            bad = np.flatnonzero(code < 0)
            first = int(bad[np.argmin(rows[bad])])
            raise DataError(
                f"{values[first]!r} in row {int(rows[first]) + 1} is not a level of `{label}`. "
                f"The levels are: {_shown(levels)}."
            )
        return code


def _shown(levels: Sequence[Any]) -> str:
    return ", ".join(map(str, levels[:_SHOWN])) + (", ..." if len(levels) > _SHOWN else "")


@dataclass(frozen=True)
class Polynomial:
    """Orthogonal polynomials of degree 1 to `degree`, as R's `poly()`.

    Over the rows from which they are made, columns sum to 0, have sums of squares of 1 and
    products of 0. They are computed by the three-term recurrence of Kennedy and Gentle (1980,
    Statistical Computing, section 8.5), which R uses too, on standardised values.

    Attributes
    ----------
    degree : int
    constants : tuple of float, or None
        Mean and sd; alpha of each degree; sums of squares of degrees -1 (1) to `degree`. None
        before a table is known.
    """

    degree: int
    constants: tuple[float, ...] | None = None

    def settled(self, label: str, values: Array) -> Polynomial:
        """With the constants of a column.

        Raises
        ------
        DataError
            If it has too few different values.
        """
        if self.constants is not None:
            return self
        _check_different(label, values, self.degree)
        mean = float(np.mean(values))
        most = float(np.max(np.abs(values - mean)))
        x, alpha, squares = (values - mean) / most, list[float](), [1.0, float(len(values))]
        before, now = np.zeros(len(x)), np.ones(len(x))
        for _ in range(self.degree):
            alpha.append(float(np.sum(x * now**2) / squares[-1]))
            before, now = now, (x - alpha[-1]) * now - squares[-1] / squares[-2] * before
            squares.append(float(np.sum(now**2)))
        return replace(self, constants=(mean, most, *alpha, *squares))

    def columns(self, label: str, values: Array) -> Array:
        """(N, degree) columns."""
        constants = self.settled(label, values).constants
        assert constants is not None
        mean, most, *rest = constants
        alpha, squares = rest[: self.degree], rest[self.degree :]
        x, out = (values - mean) / most, list[Array]()
        before, now = np.zeros(len(x)), np.ones(len(x))
        for degree in range(self.degree):
            ratio = squares[degree + 1] / squares[degree]
            before, now = now, (x - alpha[degree]) * now - ratio * before
            out.append(now / np.sqrt(squares[degree + 2]))
        return np.column_stack(out)


@dataclass(frozen=True)
class Powers:
    """x, x^2, ..., x^degree: R's `poly(x, degree, raw = TRUE)`. Nothing is taken from a table."""

    degree: int

    def settled(self, label: str, values: Array) -> Powers:
        """The same.

        Raises
        ------
        DataError
            If the column has too few different values.
        """
        _check_different(label, values, self.degree)
        return self

    def columns(self, label: str, values: Array) -> Array:
        """(N, degree) columns.

        Raises
        ------
        DataError
            If a power is beyond the numbers of the computer.
        """
        with np.errstate(over="ignore"):
            powers = values[:, None] ** np.arange(1, self.degree + 1)
        if not np.isfinite(powers).all():
            raise DataError(
                f"`{label}`: powers of values as large as {np.abs(values).max():g} cannot be "
                "computed. Divide the column by a constant, or leave out `raw = TRUE`."
            )
        return powers


@dataclass(frozen=True)
class NaturalSpline:
    """Cubic splines that are linear beyond the range of the data, as R's `splines::ns()`.

    B-splines of degree 3 (de Boor 1978, A Practical Guide to Splines), without the first of them,
    which a constant replaces, and orthogonal to what has a second derivative at the ends of the
    range: Hastie (1992), in Chambers and Hastie (eds.), Statistical Models in S, section 7.4.
    Their combinations come from the same QR factorisation as in R, so that columns and
    coefficients are R's. They are computed on (x - low) / (high - low), which changes neither.

    Attributes
    ----------
    df : int or None
        Number of columns. The knots are then the `df` - 1 quantiles that divide the values into
        parts of equal size.
    knots : tuple of float, or None
        Inside the range; None before a table is known.
    ends : (float, float) or None
        The range, beyond which the columns are linear; None before a table is known.
    """

    df: int | None = None
    knots: tuple[float, ...] | None = None
    ends: tuple[float, float] | None = None

    def settled(self, label: str, values: Array) -> NaturalSpline:
        """With the knots of a column.

        Raises
        ------
        DataError
            If it has too few different values, knots coincide, or are not inside its range.
        """
        if self.ends is not None:
            return self
        _check_different(label, values, self.df or len(self.knots or ()) + 1)
        ends = float(np.min(values)), float(np.max(values))
        if self.knots is None:
            shares = np.linspace(0, 1, (self.df or 1) + 1)[1:-1]
            knots = tuple(float(knot) for knot in np.quantile(values, shares))
        else:
            knots = self.knots
        if (np.diff([ends[0], *knots, ends[1]]) <= 0).any():
            shown = ", ".join(f"{knot:g}" for knot in knots)
            raise DataError(
                f"The knots of `{label}` are {shown}, and the column is from {ends[0]:g} to "
                f"{ends[1]:g}. Knots must increase, inside of this range. "
                + ("Write them yourself: knots = c(...)." if self.df else "Correct them.")
            )
        return replace(self, knots=knots, ends=ends)

    def columns(self, label: str, values: Array) -> Array:
        """(N, df) columns."""
        from scipy.interpolate import BSpline  # late: most models have no splines

        settled = self.settled(label, values)
        assert settled.ends is not None and settled.knots is not None
        low, high = settled.ends
        x = (values - low) / (high - low)
        knots = [(knot - low) / (high - low) for knot in settled.knots]
        splines = BSpline(np.array([*[0.0] * 4, *knots, *[1.0] * 4]), np.eye(len(knots) + 4), 3)
        inside = np.clip(x, 0.0, 1.0)
        line = (x - inside)[:, None] * splines.derivative()(inside)
        bends = splines.derivative(2)(np.array([0.0, 1.0]))[:, 1:]
        straight = np.linalg.qr(bends.T, mode="complete")[0][:, 2:]
        return np.asarray((splines(inside) + line)[:, 1:] @ straight)


@dataclass(frozen=True)
class Smooth:
    """Penalised cubic splines, linear beyond the range of the data: a smooth function of a column.

    f(x) = a + b x + sum of u_k Z_k(x), u_k ~ normal(0, sd), is the mixed model of a penalised
    spline (Ruppert, Wand and Carroll 2003, Semiparametric Regression, section 4.9; Wood 2017,
    Generalized Additive Models, sections 5.3 and 5.8). a is the model's intercept, b x the one
    column of `columns`, and the Z_k are those of `functions`.

    f is any natural cubic spline with `size` knots: its second derivative is a combination of the
    hat functions of the inner knots, with coefficients g and the penalty, the integral of its
    square, g'Wg, W their matrix of products. With W = LL', u = L'g has the penalty u'u. Adding a
    line to a function does not change its second derivative: from each function its least squares
    line over the groups is taken, so that b is the slope of the line that is closest to f. A
    rotation, which does not change u'u, makes the functions orthogonal over the groups. All are
    divided by one number, so that the sum of their squares has the mean 1 over the groups: sd is
    the standard deviation of f less its line, in a typical group.

    Attributes
    ----------
    size : int
        `k`: number of knots, which are quantiles of the different values of the column. With the
        constant and the line there are as many basis functions.
    knots : tuple of float, or None
        None before a table is known, as the others.
    combined : tuple of tuples of float, or None
        (size - 2, size - 2): the functions as combinations of twice integrated hat functions.
    lines : tuple of tuples of float, or None
        (2, size - 2): constant and slope of the lines that are taken off.
    """

    size: int = SMOOTH_SIZE
    knots: tuple[float, ...] | None = None
    combined: tuple[tuple[float, ...], ...] | None = None
    lines: tuple[tuple[float, ...], ...] | None = None

    def settled(self, label: str, values: Array) -> Smooth:
        """With the knots of a column, and functions that are scaled on it.

        Raises
        ------
        DataError
            If it has fewer different values than there are basis functions.
        """
        if self.knots is not None:
            return self
        different = np.unique(values)
        if len(different) < self.size:
            raise DataError(
                f"`{label}` has k = {self.size} basis functions and needs at least as many "
                f"different values, but there {'is' if len(different) == 1 else 'are'} only "
                f"{len(different)}. Lower k, such as s(x, k = 5), or write the column without s()."
            )
        knots = np.quantile(different, np.linspace(0, 1, self.size))
        gaps = np.diff((knots - knots[0]) / (knots[-1] - knots[0]))
        if (gaps <= 0).any():
            raise DataError(
                f"`{label}`: the values of the column are too close to each other for "
                f"{self.size} different knots. Lower k, such as s(x, k = 5)."
            )
        products = np.diag((gaps[:-1] + gaps[1:]) / 3)
        products += np.diag(gaps[1:-1] / 6, 1) + np.diag(gaps[1:-1] / 6, -1)
        independent = np.linalg.inv(np.linalg.cholesky(products)).T
        x = (values - knots[0]) / (knots[-1] - knots[0])
        functions = _integrated_hats(knots, x) @ independent
        line = np.column_stack([np.ones(len(x)), x])
        lines = np.linalg.lstsq(line, functions)[0]
        _, sizes, rotation = np.linalg.svd(functions - line @ lines, full_matrices=False)
        first = np.argmax(np.abs(rotation) > 1e-6, axis=1)  # signs do not depend on the computer
        signs = np.sign(rotation[np.arange(len(rotation)), first])
        scaled = (rotation.T * signs) / np.sqrt(np.sum(sizes**2) / len(x))
        return replace(
            self,
            knots=tuple(map(float, knots)),
            combined=tuple(tuple(map(float, row)) for row in independent @ scaled),
            lines=tuple(tuple(map(float, row)) for row in lines @ scaled),
        )

    def columns(self, label: str, values: Array) -> Array:
        """(N, 1) the column itself: the linear part."""
        return values[:, None]

    def functions(self, values: Array) -> Array:
        """(N, size - 2) functions that the random effects multiply; of a smooth that is settled."""
        assert self.knots is not None and self.combined is not None and self.lines is not None
        knots = np.array(self.knots)
        x = (values - knots[0]) / (knots[-1] - knots[0])
        line = np.column_stack([np.ones(len(x)), x])
        found = _integrated_hats(knots, x) @ np.array(self.combined)
        return np.asarray(found - line @ np.array(self.lines))


def _integrated_hats(knots: Array, x: Array) -> Array:
    """(N, inner knots) hat functions of the inner knots, integrated twice, linear beyond [0, 1].

    Parameters
    ----------
    knots : (K,) array
    x : (N,) array
        Values on a scale where the first knot is 0 and the last one 1.
    """
    from scipy.interpolate import BSpline  # late: most models have no splines

    at = (knots - knots[0]) / (knots[-1] - knots[0])
    hats = BSpline(np.array([0.0, *at, 1.0]), np.eye(len(at))[:, 1:-1], 1)
    twice, inside = hats.antiderivative(2), np.clip(x, 0.0, 1.0)
    return np.asarray(twice(inside) + (x - inside)[:, None] * twice.derivative()(inside))


def _check_different(label: str, values: Array, count: int) -> None:
    different = len(np.unique(values))
    if different <= count:
        raise DataError(
            f"`{label}` needs more than {counted(count, 'different value')}, but there "
            f"{'is' if different == 1 else 'are'} only {different}."
        )


type Curve = Polynomial | Powers | NaturalSpline | Smooth
type Basis = Categories | Curve


@dataclass(frozen=True)
class BasisFunction:
    """How a basis is written, and what it is, for messages and documentation."""

    example: str
    usage: str
    meaning: str


_CATEGORIES = (
    "the values as categories, also numbers; the base is the first level, or `base`; `levels` "
    "gives their order"
)

BASES: dict[str, BasisFunction] = {
    "factor": BasisFunction(
        "factor(x)",
        'factor(x), factor(x, base = "b") or factor(x, levels = c("b", "a"))',
        _CATEGORIES,
    ),
    "C": BasisFunction(
        'C(x, base = "b")', 'C(x), C(x, base = "b") or C(x, levels = c("b", "a"))', _CATEGORIES
    ),
    "poly": BasisFunction(
        "poly(x, 2)",
        "poly(x, 2) or poly(x, 2, raw = TRUE): a column and its degree",
        "orthogonal polynomials of degree 1 to 2, as in R: columns `poly(x, 2)1`, `poly(x, 2)2`; "
        "x and x^2 with `poly(x, 2, raw = TRUE)`",
    ),
    "ns": BasisFunction(
        "ns(x, 4)",
        "ns(x, 4): a column and the number of its coefficients; or ns(x, knots = c(10, 20))",
        "natural cubic splines with 4 columns `ns(x, 4)1`, ..., as in R: knots at the quartiles "
        "(in general at 1/4, 2/4, 3/4 of the values), linear beyond the range of the fit's table; "
        "`ns(x, knots = c(10, 20))` with given knots",
    ),
    "s": BasisFunction(
        "s(x)",
        "s(x), or s(x, k = 8): a column and the number of basis functions, 10 by default",
        "a smooth function, outside `mm()` and `hm()`: a penalised cubic spline, whose wiggliness "
        "`sigma_s_x` is estimated; linear beyond the range of the fit's table",
    ),
}
