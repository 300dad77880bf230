"""The latent vector of the fast engine while it is put together: blocks of it, and entries of A."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmm.design.design import Design
from rmm.model.spec import ModelSpec
from rmm.tables.read import Array


class Collected:
    """Collects the latent vector and the entries of A; thrown away once `LatentModel` is made."""

    def __init__(self) -> None:
        self.size = 0
        self.latent: dict[str, tuple[slice, tuple[int, ...]]] = {}
        self.rows: list[Array] = []
        self.columns: list[Array] = []
        self.values: list[Array] = []
        self.sources: list[Array] = []
        self.location: list[Array] = []
        self.scale: list[Array] = []
        self.scale_of: list[Array] = []
        self.location_of: list[Array] = []

    def add(
        self,
        name: str,
        dims: tuple[int, ...],
        location: Any,
        scale: Any,
        scale_of: Any = -1,
        location_of: Any = -1,
    ) -> int:
        """A block of the latent vector; its first place."""
        count, first = int(np.prod(dims, dtype=int)), self.size
        self.latent[name] = (slice(first, first + count), dims)
        for store, value in (
            (self.location, location),
            (self.scale, scale),
            (self.scale_of, scale_of),
            (self.location_of, location_of),
        ):
            store.append(value if np.ndim(value) else np.full(count, value))
        self.size += count
        return first

    def enter(self, rows: Array, columns: Array, values: Any, sources: Any = 0) -> None:
        """Entries of A: rows and columns, and values and sources of each or of all of them."""
        self.rows.append(rows)
        self.columns.append(columns)
        self.values.append(values if np.ndim(values) else np.full(len(rows), values))
        self.sources.append(sources if np.ndim(sources) else np.full(len(rows), sources))

    def enter_matrix(self, first: int, X: Array) -> None:
        """Columns of known values, one row per group."""
        rows, columns = np.nonzero(X)
        self.enter(rows, first + columns, X[rows, columns])


def coefficient_units(spec: ModelSpec, design: Design, sd: float) -> dict[str, Array]:
    """Coefficients -> about the standard error of each of their elements; `sd` of the outcome."""
    error = sd / np.sqrt(design.J)
    scales = {"alpha": np.ones(1), "beta_l2": design.scale_l2}
    scales |= {p.b: m.b_scale for p, m in zip(spec.members, design.members, strict=True)}
    scales |= {p.b: n.scale for p, n in zip(spec.nestings, design.nestings, strict=True)}
    return {name: error / np.where(sd > 0, sd, 1.0) for name, sd in scales.items()}
