"""A model as the compiled kernels read it: `Model` of kernels/latent_model.hpp, field by field.

The kernels see eta = offset + B z with the elements of z in the order in which they are eliminated;
all else follows `Integrand`, which computes the same in NumPy.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from rmm.backends.laplace.factorisation.fill import factor_columns
from rmm.backends.laplace.hyperparameters import prior_rows
from rmm.backends.laplace.kernels.library import ModelArrays
from rmm.backends.laplace.kernels.weight_program import WeightProgram, weight_program
from rmm.backends.laplace.marginal_likelihood import Integrand
from rmm.families import KernelOutcome
from rmm.families.variants.varying_sd import AT_CENTRES
from rmm.model.spec import CUT
from rmm.tables.read import Array

_SMALL = 60  # rows up to which dense factors are faster whatever the pattern
_MOST_PRODUCTS = 1e8  # of a sparse factor: each has a place in memory
_PRODUCTS_AT_ONCE = 1_000_000
_REMEMBERED = 1_000_000  # bytes of elements up to which a pattern is kept for the next fit
_SPARSE_COSTS = 6.0  # of the operations of a dense factor, for the places that are looked up


@dataclass(frozen=True, eq=False)
class Terms:
    """Sums of sources times numbers: those of place i are `start[i]` to `start[i + 1]` - 1."""

    start: Array
    source: Array
    factor: Array


def terms_of(place: Array, count: int, source: Array, factor: Array) -> Terms:
    """Terms sorted by the place to which each is added."""
    order = np.argsort(place, kind="stable")
    return Terms(starts(place, count), source[order], factor[order])


def starts(place: Array, count: int) -> Array:
    """(count + 1,) first of the sorted elements of each place."""
    return np.concatenate([[0], np.cumsum(np.bincount(place, minlength=count))])


def pairs(start: Array) -> tuple[Array, Array]:
    """Pairs (a, b), b <= a, of elements of one part, in the order of the parts, a and b.

    Parameters
    ----------
    start : (parts + 1,) int array
        First element of each part.
    """
    size = np.diff(start)
    first = np.repeat(start[:-1], size)
    count = np.arange(start[-1]) - first + 1
    left = np.repeat(np.arange(start[-1]), count)
    step = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return left, first[left] + step


@dataclass(frozen=True, eq=False)
class Pattern:
    """Cells of the lower triangle of a factor, column by column, the diagonal first.

    Attributes
    ----------
    place : (P,) int array
        Where each element of z comes in the elimination.
    start : (P + 1,) int array
    row : (cells,) int array
        In the order of the elimination.
    dense : bool
        Whether all cells below the diagonal are there.
    """

    place: Array
    start: Array
    row: Array
    dense: bool

    def cells(self, row: Array, column: Array) -> Array:
        """Places of some cells, given by rows and columns in the order of the elimination."""
        if self.dense:
            return self.start[column] + row - column
        return np.searchsorted(self._keys, column * len(self.place) + row)

    @cached_property
    def _column(self) -> Array:
        """(cells,) columns."""
        return np.repeat(np.arange(len(self.place)), np.diff(self.start))

    @cached_property
    def _keys(self) -> Array:
        """(cells,) places in the matrix, column by column."""
        return self._column * len(self.place) + self.row

    @property
    def products(self) -> int:
        """Products of two cells of a column below its diagonal, all columns together."""
        below = np.diff(self.start) - 1
        return int(np.sum(below * (below + 1)) // 2)

    @property
    def target(self) -> Array:
        """Cell from which each product is taken, column by column."""
        below = np.flatnonzero(self._column != self.row)
        end = starts(self._column[below], len(self.place))[1:][self._column[below]]
        count = end - np.arange(len(below))  # products of each cell with itself and those after it
        found = np.empty(self.products, dtype=np.int32)
        done = np.concatenate([[0], np.cumsum(count)])
        first = 0
        while first < len(below):
            last = max(int(np.searchsorted(done, done[first] + _PRODUCTS_AT_ONCE)), first + 1)
            last = min(last, len(below))
            left = np.repeat(np.arange(first, last), count[first:last])
            right = (
                left
                + np.arange(len(left))
                - np.repeat(done[first:last] - done[first], count[first:last])
            )
            cells = self.cells(self.row[below[right]], self.row[below[left]])
            found[done[first] : done[last]] = cells
            first = last
        return found


def dense_pattern(size: int) -> Pattern:
    """All cells of the lower triangle."""
    start = np.concatenate([[0], np.cumsum(np.arange(size, 0, -1))])
    row = np.arange(start[-1]) - np.repeat(start[:-1] - np.arange(size), np.diff(start))
    return Pattern(np.arange(size), start, row, dense=True)


@dataclass(frozen=True, eq=False)
class Symbolic:
    """What of a model's factor is known before any number.

    Attributes
    ----------
    outcome : KernelOutcome
    common : tuple or None
        Of each stratum of a choice: first of its elements of z, and these elements.
    sparse : Pattern or None
        Cells of the factor; None where a dense one takes fewer operations.
    """

    outcome: KernelOutcome
    common: tuple[Array, Array] | None
    sparse: Pattern | None


def symbolic(integrand: Integrand) -> Symbolic:
    """The symbolic factorisation of a model whose family has kernels."""
    model = integrand.model
    assert model.family.kernel is not None  # see `integrals_of`
    outcome = model.family.kernel(model.outcome)
    common = _common(integrand, outcome)
    return Symbolic(outcome, common, _sparse_pattern(integrand, outcome, common))


class KernelModel:
    """The arrays of one model, and what Python needs to know of them.

    Attributes
    ----------
    integrand : Integrand
    pattern : Pattern
        Of the factor of the precision of z.
    programs : list of WeightProgram or None
        None where Python computes the weights, for a function that the kernels do not have.
    arrays : ModelArrays
    """

    def __init__(self, integrand: Integrand, known: Symbolic | None = None) -> None:
        """`known` is what `symbolic` returns for this integrand."""
        found = known or symbolic(integrand)
        self.integrand = integrand
        self._common = found.common
        self.pattern = found.sparse or dense_pattern(integrand.size)
        self.programs = _programs(integrand)
        self.arrays = ModelArrays(self._arrays(found.outcome))

    @property
    def address(self) -> int:
        """Of the C structure."""
        return ctypes.addressof(self.arrays)

    @property
    def weighs(self) -> bool:
        """Whether the kernels compute all that multiplies entries of A."""
        return self.programs is not None

    @cached_property
    def elimination(self) -> Array:
        """(P,) elements of z in the order in which they are eliminated."""
        return np.argsort(self.pattern.place)

    def _arrays(self, outcome: KernelOutcome) -> dict[str, Any]:
        """The fields of `Model` in latent_model.hpp by name."""
        integrand, pattern = self.integrand, self.pattern
        model = integrand.model
        element = integrand.kept[self.elimination]
        column = pattern.place[integrand.column]
        order = np.lexsort((column, integrand.row))
        row, column = integrand.row[order], column[order]
        start = starts(row, model.groups)
        slot = np.full(integrand.slot_count, -1)
        slot[integrand.slots[order]] = np.arange(len(order))
        terms = _slot_terms(integrand, slot, len(order))
        own = np.full(integrand.slot_count, -1)
        own[integrand.private.slots] = np.arange(len(integrand.private))
        private = _slot_terms(integrand, own, len(integrand.private))
        shift, shift_scalar = _shift(integrand)
        left, right = pairs(start)
        arrays = {
            "groups": model.groups,
            "size": integrand.size,
            "sources": source_count(integrand),
            "scalars": len(model.hyper),
            "hyper": prior_rows(model.hyper),
            **self._own(),
            **self._weights(),
            "start": start,
            "column": column,
            "terms": terms.start,
            "source": terms.source,
            "factor": terms.factor,
            "offset": model.offset,
            "shift_start": shift.start,
            "shift_source": shift.source,
            "shift_factor": shift.factor,
            "shift_scalar": shift_scalar,
            "scale": model.scale[element],
            "scale_of": model.scale_of[element],
            "private_start": starts(integrand.private.row, model.groups),
            "private_terms": private.start,
            "private_source": private.source,
            "private_factor": private.factor,
            "private_scale": model.scale[integrand.private.column],
            "private_scale_of": model.scale_of[integrand.private.column],
            "dense": pattern.dense,
            "factor_start": pattern.start,
            "factor_row": pattern.row,
            "place": pattern.cells(column[left], column[right]),
            "target": None if pattern.dense else pattern.target,
        }
        return arrays | self._outcome_arrays(outcome)

    def _own(self) -> dict[str, Any]:
        """Where the family's own parameters are, or their values: one, and a probability of 0."""
        model = self.integrand.model
        names = [h.name for h in model.hyper]
        found: dict[str, Any] = {"own": -1, "own_value": 1.0, "zero": -1, "zero_value": 0.0}
        for parameter in model.family.parameters:
            if parameter.role == "log_sd":
                found["sds"] = model.outcome["K_sigma"]
                found["sd_scalar"] = names.index(AT_CENTRES)
                continue
            place = "zero" if parameter.support == "probability" else "own"
            if parameter.name in model.fixed:
                found[f"{place}_value"] = float(model.fixed[parameter.name][0])
            else:
                found[place] = names.index(CUT if parameter.dims else parameter.name)
        return found

    def _weights(self) -> dict[str, Any]:
        programs = self.programs or []
        addresses = np.array([ctypes.addressof(p) for p in programs], dtype=np.int64)
        return {"blocks": len(programs), "weights": addresses}

    def _outcome_arrays(self, outcome: KernelOutcome) -> dict[str, Any]:
        arrays: dict[str, Any] = {
            "family": outcome.likelihood,
            "y": outcome.y,
            "known": outcome.known,
            "constant": outcome.constant,
            "shape": outcome.shape,
            "rate": outcome.rate,
            "categories": outcome.categories,
            "sd_columns": outcome.sd_columns,
        }
        if outcome.strata is not None:
            count = int(outcome.strata.max()) + 1 if outcome.shape is None else len(outcome.shape)
            arrays["strata"] = count
            arrays["order"] = np.argsort(outcome.strata, kind="stable")
            arrays["stratum_start"] = starts(outcome.strata, count)
        arrays["entry"] = outcome.entry
        if outcome.entered is not None:
            arrays["entry_step"], arrays["last_step"] = outcome.entered, outcome.strata
            arrays["entry_order"] = np.argsort(outcome.entered, kind="stable")
            arrays["entry_start"] = starts(outcome.entered, arrays["strata"])
        if outcome.merged is not None:
            arrays["merged"], arrays["merged_start"] = len(outcome.merged) - 1, outcome.merged
        if self._common is not None:
            start, element = self._common
            place = self.pattern.place[element]
            order = np.lexsort((place, np.repeat(np.arange(len(start) - 1), np.diff(start))))
            left, right = pairs(start)
            arrays["common_start"], arrays["common"] = start, place[order]
            arrays["common_place"] = self.pattern.cells(place[order][left], place[order][right])
        return arrays


def _slot_terms(integrand: Integrand, place: Array, count: int) -> Terms:
    """The terms of some slots; `place` has their number, or -1, for each slot of A."""
    model = integrand.model
    slot = np.concatenate([integrand.entry_slot, *integrand.feature_slots])
    feature = source_count(integrand) - model.groups * len(model.features)
    source = np.concatenate([model.entry_source, np.arange(feature, source_count(integrand))])
    factor = np.concatenate([model.entry_value, np.ones(model.groups * len(model.features))])
    wanted = place[slot] >= 0
    return terms_of(place[slot[wanted]], count, source[wanted], factor[wanted])


def source_count(integrand: Integrand) -> int:
    """1, memberships of estimated weights, loadings of correlated effects and AR(1) processes,
    features' columns.
    """
    model = integrand.model
    members = [len(weights.group) for weights in model.weights]
    loadings = sum(
        block.count(0 if block.weights is None else members[block.weights])
        for found in model.loadings
        for block in found.blocks
    )
    loadings += sum(found.count for found in model.series)
    return 1 + sum(members) + loadings + model.groups * len(model.features)


def _shift(integrand: Integrand) -> tuple[Terms, Array]:
    """What is added to the predictor: where z is 0, and known parts of weighted effects."""
    model = integrand.model
    feature = source_count(integrand) - model.groups * len(model.features)
    column = np.concatenate(
        [model.entry_column, *(np.full(model.groups, f.column) for f in model.features)]
    )
    row = np.concatenate([model.entry_row, *[np.arange(model.groups)] * len(model.features)])
    source = np.concatenate([model.entry_source, np.arange(feature, source_count(integrand))])
    factor = np.concatenate([model.entry_value, np.ones(model.groups * len(model.features))])
    scalar = model.location_of[column]
    factor = factor * np.where(scalar >= 0, 1.0, model.location[column])
    used = factor != 0
    rows, sources, factors = [row[used]], [source[used]], [factor[used]]
    scalars, first = [scalar[used]], 1
    for weights in model.weights:
        count = len(weights.group)
        if weights.offset is not None:
            rows.append(weights.group)
            sources.append(first + np.arange(count))
            factors.append(weights.offset)
            scalars.append(np.full(count, -1))
        first += count
    row = np.concatenate(rows).astype(int)
    order = np.argsort(row, kind="stable")
    terms = terms_of(row, model.groups, np.concatenate(sources), np.concatenate(factors))
    return terms, np.concatenate(scalars)[order]


def _common(integrand: Integrand, outcome: KernelOutcome) -> tuple[Array, Array] | None:
    """Elements of z of each stratum of a choice: first of each, and elements."""
    if outcome.strata is None or outcome.shape is not None:
        return None
    count = int(outcome.strata.max()) + 1
    key = np.unique(outcome.strata[integrand.row] * integrand.size + integrand.column)
    stratum, element = np.divmod(key, integrand.size)
    return starts(stratum, count), element


def _sparse_pattern(
    integrand: Integrand, outcome: KernelOutcome, common: tuple[Array, Array] | None
) -> Pattern | None:
    """The cells of the factor where sparse takes fewer operations.

    Merged steps of a baseline are not in a sparse factor, but orthogonalised beside it.
    """
    size, merged = integrand.size, 0 if outcome.merged is None else len(outcome.merged) - 1
    most = min(size**3 / _SPARSE_COSTS - size * merged**2, 2 * _MOST_PRODUCTS)
    if size <= _SMALL or most <= 0:
        return None
    start, element = starts(integrand.row, integrand.model.groups), integrand.column
    if common is not None:
        start, element = common
    if element.nbytes > _REMEMBERED:
        return _pattern_of(size, most, start, element)
    return _remembered_pattern(size, most, *(x.astype(int).tobytes() for x in (start, element)))


@lru_cache(maxsize=8)
def _remembered_pattern(size: int, most: float, start: bytes, element: bytes) -> Pattern | None:
    """As `_pattern_of`: fits of several weight functions, and their evidence, have one pattern."""
    return _pattern_of(size, most, np.frombuffer(start, int), np.frombuffer(element, int))


def _pattern_of(size: int, most: float, start: Array, element: Array) -> Pattern | None:
    """The cells of the factor of a matrix that joins the elements of each group (or stratum)."""
    left, right = pairs(start)
    found = factor_columns(size, element[left], element[right], most)
    return None if found is None else Pattern(*found, dense=False)


def _programs(integrand: Integrand) -> list[WeightProgram] | None:
    model = integrand.model
    if model.features or model.loadings or model.series:
        return None
    place = {(h.name, h.index): k for k, h in enumerate(model.hyper)}
    found = []
    for weights in model.weights:
        names = range(len(weights.function.parameters))
        scalar = np.array([place[weights.name, k] for k in names])
        program = weight_program(weights.function, weights.inputs, weights.start, scalar)
        if program is None:
            return None
        found.append(program)
    return found
