"""The memory and the time that a fit will take, computed before it starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rmm.backends.laplace.factorisation.factors import SOON
from rmm.backends.laplace.interpolation import point_count
from rmm.backends.laplace.kernels.library import WIDEST
from rmm.backends.laplace.kernels.model_arrays import Symbolic, source_count
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.errors import BackendError
from rmm.tables.memory_limits import available_memory, bytes_text

_NUMBER = 8  # bytes
_PAIR_ARRAYS = 10  # of the pairs of slots, while their cells are found
_DENSE_ARRAYS = 2  # of a factor that is computed in place, and what is taken away before
# Of the kernels, per lane: predictor, gradient and others; latent vectors; noise of all steps.
_GROUP_ARRAYS, _LATENT_ARRAYS, _NOISE_ARRAYS = 6, 15, 70
_MODES = 512  # latent vectors of the pilot: modes, what multiplies them, and a copy of both
_PLACE = 4  # bytes of the place of a product of two cells of a factor
_CELL_ARRAYS = 6  # rows, columns and places of the cells
_SPARSE_BYTES = 40  # of a number of a sparse factor: values and places, and a copy of both
_LATENT_COPIES = 2  # draws are kept in rounds, which are joined in the end
_KEPT_COPIES = 4  # of the draws that are resampled, while they get their scale and names
_ROUNDS = 2  # points are doubled until there are enough: about as many as draws that are wanted
_LITTLE = 100e6  # bytes that are always there
_ANOTHER = 'Use backend="stan" or backend="jags"'
_LONGEST = 6 * 3600.0  # seconds that nobody waits for without having said so
_STENCILS = 10  # points at which the search for a mode computes derivatives
_STEPS = 4  # of Newton's method for an outcome that is not normal


@dataclass(frozen=True)
class Need:
    """Bytes of the largest parts.

    Attributes
    ----------
    pairs : int
        Products of what groups have in common.
    factors : int
        Factors of the precision of coefficients and effects.
    draws : int
        What is kept of each draw.
    """

    pairs: int
    factors: int
    draws: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.pairs + self.factors + self.draws


def need(integrand: Integrand, columns: int, kept: int, wanted: float) -> Need:
    """What a fit takes before its factors are known.

    Parameters
    ----------
    integrand : Integrand
    columns : int
        Coefficients and effects that are looked at.
    kept : int
        Draws of all chains.
    wanted : float
        Effective draws.
    """
    slots = np.bincount(integrand.row, minlength=1).astype(float)
    pairs = int(np.sum(slots**2)) * _PAIR_ARRAYS * _NUMBER
    points = int(_ROUNDS * wanted)
    draws = (_LATENT_COPIES * 2 * points + _KEPT_COPIES * kept) * columns * _NUMBER
    return Need(pairs, 0, draws)


def with_factors(found: Need, integrand: Integrand, known: Symbolic | None) -> Need:
    """The same with the factors.

    Parameters
    ----------
    found : Need
        By `need`.
    integrand : Integrand
    known : Symbolic or None
        By `compiled_pattern`: None where NumPy computes.
    """
    factors = _numpy_bytes(integrand) if known is None else _kernel_bytes(integrand, known)
    return replace(found, factors=factors)


def check_memory(found: Need, integrand: Integrand, columns: int) -> None:
    """Raise `BackendError` where a fit would take more memory than there is.

    Parameters
    ----------
    found : Need
    integrand : Integrand
    columns : int
        As for `need`.

    Raises
    ------
    BackendError
        It says how much is needed for what, how much there is, and what to do.
    """
    if found.total < _LITTLE:
        return
    free = available_memory()
    if free is None or found.total <= free:
        return
    P = integrand.size
    parts = {
        f"{bytes_text(found.draws)} for draws of {columns:,} coefficients and effects": found.draws,
        f"{bytes_text(found.factors)} for factors of a matrix of {P:,} x {P:,}": found.factors,
        f"{bytes_text(found.pairs)} for pairs of members with common groups": found.pairs,
    }
    listed = sorted(parts, key=lambda text: -parts[text])
    way = _ANOTHER
    if found.total - found.draws <= free:
        way = (
            'With monitor="structural", no effects are kept, and only '
            f"{bytes_text(found.total - found.draws)} are needed. Fewer `draws` also need less "
            "memory"
        )
    needed = ", ".join(text for text in listed if parts[text])
    raise BackendError(
        f"Backend 'laplace' needs about {bytes_text(found.total)} of memory, but only "
        f"{bytes_text(free)} are free. The memory consists of {needed}. {way}."
    )


def check_time(integrand: Integrand, wanted: float, timeout: float | None) -> None:
    """Raise `BackendError` where a fit by NumPy would take hours, or longer than its time limit.

    Parameters
    ----------
    integrand : Integrand
    wanted : float
        Effective draws.
    timeout : float or None
        The user's time limit.

    Raises
    ------
    BackendError
        It says about how long, and what to do.
    """
    if integrand.size <= SOON:
        return
    count = len(integrand.model.hyper)
    integrals = _STENCILS * (count * (count + 1) + 1)
    if not integrand.exact or integrand.pairs[-1].is_sparse:
        integrals += int(_ROUNDS * wanted)
    else:
        integrals += point_count(count)
    each = integrand.pairs[-1].seconds(dense=integrand.dense)
    seconds = each * integrals * (1 if integrand.exact else _STEPS)
    if seconds <= (_LONGEST if timeout is None else timeout):
        return
    limit = "" if timeout is None else f", and the time limit is {timeout:g} s"
    raise BackendError(
        f"Backend 'laplace' would need about {_duration(seconds)} for this model{limit}. The "
        f"reason: {integrand.size:,} coefficients and effects depend on each other, and each "
        f"factorisation of their matrix needs {_duration(each)}. {_ANOTHER}, or set `timeout` (in "
        "seconds) to wait for it."
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} seconds"


def _numpy_bytes(integrand: Integrand) -> int:
    """Of the factors of one hyperparameter value, and of as many as are computed at once."""
    pattern = integrand.pairs[-1]
    dense = pattern.size**2 * _NUMBER
    cells = len(pattern.row) * _CELL_ARRAYS * _NUMBER
    if integrand.dense:
        return _DENSE_ARRAYS * dense + 2 * integrand.model.groups * pattern.size * _NUMBER + cells
    if not pattern.is_sparse:
        return dense + cells
    return min(pattern.filled * _SPARSE_BYTES, _DENSE_ARRAYS * dense) + cells


def _kernel_bytes(integrand: Integrand, known: Symbolic) -> int:
    """Of the factors and predictors of as many values as there are lanes, and of their noise."""
    size, groups = integrand.size, integrand.model.groups
    cells, products = size * (size + 1) // 2, 0
    if known.sparse is not None:
        cells, products = len(known.sparse.row), known.sparse.products
    numbers = cells + len(integrand.row) + source_count(integrand)
    numbers += _GROUP_ARRAYS * groups + _LATENT_ARRAYS * size
    if not integrand.exact:
        numbers += _NOISE_ARRAYS * size
        numbers += _MODES * size // WIDEST
    return WIDEST * numbers * _NUMBER + products * _PLACE + cells * _CELL_ARRAYS * _NUMBER
