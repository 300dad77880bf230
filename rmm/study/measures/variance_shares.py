"""Which factors explain the differences of a measure between scenarios: an analysis of variance.

A simulation study is an experiment, and its measures are the outcomes (Skrondal 2000, Multivariate
Behavioral Research 35, 137-167). Their error variances are known, the squares of the Monte Carlo
standard errors. So no scenario must be repeated, and errors are subtracted instead of estimated.

Notation: y measures of N scenarios, mu their values without Monte Carlo error, S the covariance
matrix of the errors, A the matrix of the sum of squares y'Ay of a term. Then (Searle 1971, Linear
Models, section 2.5)

    E(y'Ay) = mu'A mu + tr(AS),    cov(y'Ay, y'By) = 4 mu'ASB mu + 2 tr(ASBS),

the second for normal errors. So y'Ay - tr(AS) is unbiased for the sum of squares of a term
without noise, and 4 y'ASBy - 2 tr(ASBS) for the covariance of two such sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, special

from rmm.errors import StudyError

Array = np.ndarray[Any, Any]
#: Numeric factors with more levels have a linear and a quadratic term instead of one per level.
MOST_LEVELS = 6
#: Sources besides factors and their interactions.
REST, CONFOUNDED, NOISE, TOTAL = "higher order", "not separable", "Monte Carlo noise", "total"
_SMALL = 1e-9  # directions with a smaller share of their length are rounding errors


@dataclass(frozen=True)
class Share:
    """One source of the differences between scenarios.

    Attributes
    ----------
    source : str
        A factor, ``A x B`` for an interaction, or `REST`, `CONFOUNDED`, `NOISE`, `TOTAL`.
    df : int
        Directions in which the source can differ.
    variance, variance_mcse : float
        Mean square over the scenarios that the source explains, noise subtracted, and its Monte
        Carlo standard error; of `TOTAL` with noise. It can be below 0 by chance.
    share, share_mcse : float
        The variance divided by that of `TOTAL`; shares add up to 1. Errors are NaN where no
        measure has an error above 0, as rates of 0 and 1 only: nothing is known about noise then.
    p_value : float
        Of the hypothesis that the source explains nothing.
    """

    source: str
    df: int
    variance: float
    variance_mcse: float
    share: float
    share_mcse: float
    p_value: float


@dataclass(frozen=True, eq=False)
class _Form:
    """A symmetric matrix a I + U diag(c) U'."""

    identity: float
    basis: Array
    weights: Array

    def times(self, y: Array) -> Array:
        found: Array = self.identity * y + self.basis @ (self.weights * (self.basis.T @ y))
        return found

    def minus(self, other: _Form) -> _Form:
        return _Form(
            self.identity - other.identity,
            np.hstack([self.basis, other.basis]),
            np.concatenate([self.weights, -other.weights]),
        )


def _projection(basis: Array) -> _Form:
    return _Form(0.0, basis, np.ones(basis.shape[1]))


def decompose(
    values: Array, levels: Mapping[str, Sequence[Any]], covariance: Any, wide: Any = None
) -> list[Share]:
    """Shares of factors, two-way interactions, higher order, and noise.

    Parameters
    ----------
    values : (N,) array
        A measure in each scenario.
    levels : mapping
        Factor -> its N levels.
    covariance : (N, N) sparse or dense matrix
        Of the Monte Carlo errors.
    wide : (N, N) matrix, optional
        The same for p values, where it must not be too small, as that of rates of 0 and 1;
        `covariance` by default.

    Returns
    -------
    list of Share
        In the order factors, interactions, `REST`, `CONFOUNDED` (designs that are not balanced),
        `NOISE`, `TOTAL`.

    Raises
    ------
    StudyError
        For fewer than 3 scenarios, or factors that do not differ.
    """
    names = [name for name, column in levels.items() if len(set(column)) > 1]
    if len(values) < 3 or not names:
        raise StudyError(
            f"Scenarios with a value: {len(values)}. Factors that differ between them: "
            f"{len(names)}.\n  At least 3 scenarios and one factor are needed."
        )
    y = np.asarray(values, dtype=float)
    S = sparse.csr_array(covariance)
    broad = S if wide is None else sparse.csr_array(wide)
    total = _Form(1.0, _constant(len(y)), np.array([-1.0]))
    bases, model = _bases(tuple((name, tuple(levels[name])) for name in names))
    forms = {name: _projection(basis) for name, basis in bases.items()}
    if model.shape[1] + 1 < len(y):
        forms[REST] = total.minus(_projection(model))
    parts = np.hstack(list(bases.values()))
    if not _divides(parts, model):
        forms[CONFOUNDED] = _projection(model).minus(_projection(parts))
    whole = float(y @ total.times(y))
    spread = _covariance(total, total, y, S)
    rows = [
        _share(name, form, y, S, broad, total, whole, spread, bases) for name, form in forms.items()
    ]
    noise = _trace(total, S)
    n = len(y)
    share = noise / whole if whole > 0 else math.nan
    error = share * math.sqrt(spread) / whole if whole > 0 else math.nan
    rows.append(Share(NOISE, n - 1, noise / n, math.nan, share, error, math.nan))
    certain = 1.0 if whole > 0 else math.nan
    rows.append(Share(TOTAL, n - 1, whole / n, math.sqrt(spread) / n, certain, math.nan, math.nan))
    return rows


def _share(
    name: str,
    form: _Form,
    y: Array,
    S: Any,
    broad: Any,
    total: _Form,
    whole: float,
    spread: float,
    bases: Mapping[str, Array],
) -> Share:
    """The row of one term."""
    n, raw = len(y), float(y @ form.times(y))
    explained = raw - _trace(form, S)
    own, joint = _covariance(form, form, y, S), _covariance(form, total, y, S)
    share = explained / whole if whole > 0 else math.nan
    variance = own + share**2 * spread - 2 * share * joint
    # A share of an almost constant measure: its error cannot be below that of the sum itself.
    error = math.sqrt(np.maximum(variance, 0.0)) / whole if whole > 0 else math.nan
    df = round(form.identity * n + float(form.weights.sum()))
    p = _p_value(raw, form, broad) if name in bases or name == REST else math.nan
    return Share(name, df, explained / n, math.sqrt(own) / n, share, error, p)


def _columns(levels: Sequence[Any]) -> Array:
    """Columns of a factor: one per level, or a quadratic polynomial of many numbers."""
    kinds = list(dict.fromkeys(levels))
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in kinds)
    if numeric and len(kinds) > MOST_LEVELS:
        x = np.asarray(levels, dtype=float)
        x = (x - x.mean()) / x.std()
        return np.column_stack([x, x**2])
    places = {level: i for i, level in enumerate(kinds)}
    return np.eye(len(kinds))[[places[level] for level in levels]]


def _constant(n: int) -> Array:
    """(N, 1) column of length 1."""
    return np.full((n, 1), 1 / math.sqrt(n))


@lru_cache(maxsize=8)  # methods and measures of a study have the same scenarios
def _bases(levels: tuple[tuple[str, tuple[Any, ...]], ...]) -> tuple[dict[str, Array], Array]:
    """Orthonormal directions of each term that the terms it does not contain leave, and of all.

    A factor is seen beside the other factors and their interactions, an interaction beside all
    factors and the other interactions (sums of squares of type II). In a balanced design this is
    the usual analysis of variance, and the terms are orthogonal.
    """
    columns = {name: _columns(column) for name, column in levels}
    one = _constant(len(levels[0][1]))
    terms: dict[tuple[str, ...], Array] = {(name,): X for name, X in columns.items()}
    for first, second in itertools.combinations(columns, 2):
        product = columns[first][:, :, None] * columns[second][:, None, :]
        terms[first, second] = product.reshape(len(one), -1)
    found = {}
    for term, X in terms.items():
        others = [one, *(Z for other, Z in terms.items() if not set(term) <= set(other))]
        found[" x ".join(term)] = _new_directions(X, np.hstack(others))
    model = _new_directions(np.hstack(list(terms.values())), one)
    return {name: basis for name, basis in found.items() if basis.shape[1]}, model


def _divides(parts: Array, model: Array) -> bool:
    """Whether directions of terms are orthogonal, and all that the model has."""
    same = parts.shape[1] == model.shape[1]
    return same and bool(np.allclose(parts.T @ parts, np.eye(parts.shape[1]), atol=1e-8))


def _new_directions(X: Array, others: Array) -> Array:
    """Orthonormal basis of what columns add to the span of others."""
    base, sizes, _ = np.linalg.svd(others, full_matrices=False)
    base = base[:, sizes > _SMALL * sizes[0]]
    left = X - base @ (base.T @ X)
    left -= base @ (base.T @ left)  # twice: rounding errors of the first time
    basis, sizes, _ = np.linalg.svd(left, full_matrices=False)
    kept: Array = basis[:, sizes > _SMALL * np.linalg.norm(X)]
    return kept


# -- quadratic forms ---------------------------------------------------------------------------


def _trace(form: _Form, S: Any) -> float:
    """tr(AS)."""
    inner = np.einsum("ik,ik->k", form.basis, S @ form.basis)
    return float(form.identity * S.diagonal().sum() + form.weights @ inner)


def _trace_of_two(one: _Form, other: _Form, S: Any) -> float:
    """tr(ASBS)."""
    left, right = S @ one.basis, S @ other.basis
    found = one.identity * other.identity * float((S.multiply(S)).sum())
    found += one.identity * float(other.weights @ (right**2).sum(axis=0))
    found += other.identity * float(one.weights @ (left**2).sum(axis=0))
    cross = one.basis.T @ right
    return found + float(one.weights @ cross**2 @ other.weights)


def _covariance(one: _Form, other: _Form, y: Array, S: Any) -> float:
    """Estimate of cov(y'Ay, y'By); a variance is at least that of noise alone. NaN if S is 0."""
    if not S.count_nonzero():
        return math.nan
    noise = 2 * _trace_of_two(one, other, S)
    found = 4 * float(one.times(y) @ (S @ other.times(y))) - noise
    return max(found, noise) if one is other else found


def _p_value(raw: float, form: _Form, S: Any) -> float:
    """P(y'Ay > raw) if the term explains nothing: y'Ay is a sum of scaled chi-squares.

    It has the distribution of g times a chi-square with h degrees of freedom with the same mean
    and variance (Satterthwaite 1946, Biometrics Bulletin 2, 110-114).
    """
    mean, half = _trace(form, S), _trace_of_two(form, form, S)
    if not (mean > 0 and half > 0):
        return math.nan
    scale, df = half / mean, mean**2 / half
    return float(special.chdtrc(df, max(raw, 0.0) / scale))


def share_rows(shares: Sequence[Share], **labels: Any) -> pd.DataFrame:
    """Shares as rows of a table, with labels before them."""
    rows = [{**labels, **vars(share)} for share in shares]
    return pd.DataFrame(rows)
